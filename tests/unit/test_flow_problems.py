"""All the problems of a document are reported at once, each with its place as it was written, a code and what to do."""

from __future__ import annotations

import json
import pickle
import re
from pathlib import Path
from typing import get_args

import pytest
from returns.result import Success

from flowpersist.dynamicflow import FlowRunner, check, tool
from flowpersist.dynamicflow import compile as compile_flow
from flowpersist.errors import FlowCode, FlowError, FlowProblem
from flowpersist.testing import open_test_hub

DOCS = Path(__file__).parents[2] / "docs" / "reference" / "dynamicflow.md"
TOOL = {"tool": "x"}


PLACES = {
    "not JSON": ("{", [("", "not-json")]),
    "twice": ('{"flow": [], "flow": []}', [("", "not-json")]),
    "no object": ("[]", [("", "wrong-type")]),
    "no flow": ({}, [("", "missing-field")]),
    "no list": ({"flow": 3}, [("/flow", "wrong-type")]),
    "no steps": ({"flow": []}, [("/flow", "invalid-value")]),
    "version": ({"flow": [TOOL], "version": "2.0"}, [("/version", "unsupported")]),
    "too many steps": ({"flow": [TOOL] * 2001}, [("/flow", "limit")]),
    "no step": (
        {"flow": [TOOL, 3, {"sequence": [TOOL, "x"]}]},
        [("/flow/1", "wrong-type"), ("/flow/2/sequence/1", "wrong-type")],
    ),
    "type": (
        {"flow": [{"type": "tol"}, {"tol": "x"}]},
        [("/flow/0/type", "unknown-type"), ("/flow/1", "unknown-type")],
    ),
    "unknown fields": (
        {"flow": [{**TOOL, "argz": {}, "a/b~": 1}]},
        [("/flow/0/a~1b~0", "unknown-field"), ("/flow/0/argz", "unknown-field")],
    ),
    "alias": ({"flow": [{**TOOL, "args": {}, "with": {}}]}, [("/flow/0/with", "duplicate-field")]),
    "as written": (
        {"flow": [{"toolId": "", "input": 3}, {"type": "if-then", "condition": "1 <", "then": [{"condition": 3}]}]},
        [
            ("/flow/0/toolId", "invalid-value"),
            ("/flow/0/input", "wrong-type"),
            ("/flow/1/condition", "invalid-expression"),
            ("/flow/1/then/0/condition", "wrong-type"),
        ],
    ),
    "every field of a step": (
        {
            "flow": [
                {
                    "id": "a b",
                    "map": "$nobody",
                    "with": [],
                    "as": "1",
                    "concurrency": 0,
                    "continueOnError": 1,
                    "output": "input",
                    "timeout": -1,
                    "retry": {"attempts": -1, "delay": -1, "backoff": "x", "maxDelay": "y", "on": 3, "more": 1},
                    "onError": 3,
                }
            ]
        },
        [
            ("/flow/0/onError", "wrong-type"),
            ("/flow/0/id", "invalid-name"),
            ("/flow/0/with", "invalid-value"),
            ("/flow/0/as", "invalid-name"),
            ("/flow/0/concurrency", "invalid-value"),
            ("/flow/0/continueOnError", "wrong-type"),
            ("/flow/0/output", "invalid-name"),
            ("/flow/0/timeout", "invalid-value"),
            ("/flow/0/retry/more", "unknown-field"),
            ("/flow/0/retry/backoff", "invalid-value"),
            ("/flow/0/retry/delay", "invalid-value"),
            ("/flow/0/retry/attempts", "invalid-value"),
            ("/flow/0/retry/maxDelay", "invalid-value"),
            ("/flow/0/retry/on", "invalid-value"),
            ("/flow/0/map", "unknown-name"),
        ],
    ),
    "what a step lacks": (
        {"flow": [{"type": "reduce"}, {"type": "parallel"}, {"switch": "$input"}, {"type": "map", "over": []}]},
        [
            ("/flow/1", "missing-field"),
            ("/flow/2", "missing-field"),
            ("/flow/0", "missing-field"),
            ("/flow/0", "missing-field"),
            ("/flow/0", "missing-field"),
            ("/flow/3", "missing-field"),
        ],
    ),
    "names": (
        {"flow": [{**TOOL, "id": "a"}, {**TOOL, "id": "a"}, {**TOOL, "output": "a"}]},
        [("/flow/1/id", "duplicate-name"), ("/flow/2/output", "duplicate-name")],
    ),
    "options": (
        {"flow": [{"switch": "$input", "cases": {"b/c": TOOL}, "options": ["a"]}]},
        [("/flow/0/cases/b~1c", "unreachable")],
    ),
    "references": (
        {
            "flow": [
                {"tool": "x", "args": {"a": ["$nobody", {"b/c": "$5"}, "$$free"], "d": "$later"}},
                {"id": "later", "filter": "$later", "condition": "$item > $none"},
                {"tool": "await_input", "with": {"prompt": "Ship $order.id?", "shown": {"it": "$index"}}},
                {"parallel": [[{**TOOL, "id": "inside"}], {"tool": "x", "args": "$inside"}]},
            ]
        },
        [
            ("/flow/0/args/a/0", "unknown-name"),
            ("/flow/0/args/a/1/b~1c", "invalid-reference"),
            ("/flow/0/args/d", "not-visible"),
            ("/flow/1/filter", "cycle"),
            ("/flow/1/condition", "unknown-name"),
            ("/flow/2/with/prompt", "unknown-name"),
            ("/flow/2/with/shown/it", "not-visible"),
            ("/flow/3/parallel/1/args", "not-visible"),
        ],
    ),
    "names of a step that can't be read": (
        {"flow": [{"wth": {"id": "inside", "output": "seen"}}, {"tool": "x", "args": {"a": "$inside", "b": "$seen"}}]},
        [("/flow/0", "unknown-type")],
    ),
}


@pytest.mark.parametrize(("document", "expected"), PLACES.values(), ids=PLACES)
def test_every_problem_is_reported_where_it_was_written(document, expected):
    problems = check(document)
    assert [(one.pointer, one.code) for one in problems] == expected
    assert check(json.dumps(document) if not isinstance(document, str) else document) == problems
    for one in problems:
        assert one.code in get_args(FlowCode)
        assert one.message


@pytest.mark.parametrize("document", [entry[0] for entry in PLACES.values()], ids=PLACES)
def test_pointers_lead_to_what_is_wrong(document):
    if isinstance(document, str):
        return
    for one in check(document):
        value = document
        for token in one.pointer.split("/")[1:]:
            key = token.replace("~1", "/").replace("~0", "~")
            value = value[int(key)] if isinstance(value, list) else value[key]


def test_what_only_the_schema_reads_is_refused():
    for step, at in (({"description": 3}, "/flow/0/description"), ({"metadata": "x"}, "/flow/0/metadata")):
        document = {"flow": [{**TOOL, **step}]}
        assert [(one.pointer, one.code) for one in check(document)] == [(at, "invalid-value")]
        assert isinstance(compile_flow(document).failure(), FlowError)


def test_fields_beside_the_steps_that_nothing_reads_are_warned_of():
    document = {"$schema": "x", "flow": [TOOL], "timeuot": 5}
    found = check(document)
    assert [(one.pointer, one.code, one.severity) for one in found] == [("/timeuot", "unknown-field", "warning")]
    assert "did you mean 'timeout'?" in found[0].message
    assert isinstance(compile_flow(document), Success)


HINTS = {
    "field": ({"flow": [{**TOOL, "timeuot": 3}]}, "did you mean 'timeout'?"),
    "alias": ({"flow": [{"condition": "true", "thn": TOOL}]}, "did you mean 'then'?"),
    "type": ({"flow": [{"type": "seqence"}]}, "did you mean 'sequence'?"),
    "no type": ({"flow": [{"paralel": [TOOL]}]}, "did you mean 'parallel'?"),
    "option": ({"flow": [{"switch": "$input", "cases": {"aprove": TOOL}, "options": ["approve"]}]}, "'approve'?"),
    "retry": ({"flow": [{**TOOL, "retry": {"atempts": 1}}]}, "did you mean 'attempts'?"),
    "name": ({"flow": [{**TOOL, "id": "order"}, {"tool": "x", "args": {"a": "$ordr"}}]}, "did you mean 'order'?"),
}


@pytest.mark.parametrize(("document", "says"), HINTS.values(), ids=HINTS)
def test_a_misspelt_name_is_told_the_nearest_one(document, says):
    assert says in check(document)[0].message


def test_the_error_of_a_document_has_all_problems():
    error = compile_flow(
        {"metadata": {"name": "doc"}, "flow": [{**TOOL, "x": 1}, {"tool": "x", "args": "$y"}]}
    ).failure()
    assert isinstance(error, FlowError)
    assert [one.code for one in error.problems] == ["unknown-field", "unknown-name"]
    assert (error.document, error.step) == ("doc", "flow[0]")
    assert all(one.message in error.message for one in error.problems)
    assert pickle.loads(pickle.dumps(error)).problems == error.problems
    told = json.loads(json.dumps(error.to_problem()))["problems"]
    assert told[1] == {
        "pointer": "/flow/1/args",
        "code": "unknown-name",
        "message": error.problems[1].message,
        "expected": "a reference to a name that is visible here",
        "step": "step_2",
        "reference": "$y",
        "severity": "error",
    }


def test_at_most_a_hundred_problems_are_reported():
    problems = check({"flow": [{**TOOL, f"x{n}": 1} for n in range(500)]})
    assert len(problems) == 100
    error = compile_flow({"flow": [{**TOOL, f"x{n}": 1} for n in range(500)]}).failure()
    assert "and 95 more problems" in error.message


def test_a_sound_document_has_no_problems():
    assert check({"flow": [{"id": "a", **TOOL}, {"tool": "x", "args": {"v": "$a"}}]}) == ()


@tool(id="ship")
async def ship(order: str) -> str:
    return order


async def test_tools_that_are_not_registered_are_reported_each_where_it_is_called():
    document = {"flow": [{"toolId": "shp"}, {"sequence": [{"tool": "pay"}, {"tool": "ship", "args": {"order": "a"}}]}]}
    problems = check(document, tools=[ship])
    assert [(one.pointer, one.code, one.tool) for one in problems] == [
        ("/flow/0/toolId", "unknown-tool", "shp"),
        ("/flow/1/sequence/0/tool", "unknown-tool", "pay"),
    ]
    assert "did you mean 'ship'?" in problems[0].message
    async with open_test_hub(keyring=None) as hub:
        error = (await FlowRunner(hub, [ship]).start(document)).failure()
    assert isinstance(error, FlowError)
    assert error.problems == problems


def test_the_docs_have_every_code():
    table = re.findall(r"^\| `([a-z-]+)` \| (?:error|warning)", DOCS.read_text(), re.MULTILINE)
    assert sorted(table) == sorted(get_args(FlowCode))


def test_a_problem_is_plain_data():
    assert FlowProblem("/a", "limit", "too long").to_data() == {
        "pointer": "/a",
        "code": "limit",
        "message": "too long",
        "severity": "error",
    }
