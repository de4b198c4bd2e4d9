"""What is known of calls, questions and expressions before a run: what does not fit is found, and only that."""

from __future__ import annotations

from typing import TypedDict

import pytest
from returns.result import Failure

from flowpersist import AwaitInput, or_raise
from flowpersist.dynamicflow import FlowRunner, Join, check, tool
from flowpersist.dynamicflow import compile as compile_flow
from flowpersist.errors import FlowError
from flowpersist.testing import open_test_hub

CLOSED = {
    "type": "object",
    "properties": {
        "id": {"type": "string"},
        "sum": {"type": "number"},
        "lines": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["id", "sum"],
    "additionalProperties": False,
}
CALLED: list[str] = []


class Order(TypedDict):
    id: str
    sum: float


@tool()
async def pay(to: str, amount: int, note: str = "") -> str:
    CALLED.append(to)
    return to


@tool(output_schema=CLOSED)
async def load(name: str = "") -> object:
    return name


@tool(input_schema=CLOSED)
async def book(**order: object) -> None:
    return None


@tool()
async def double(number: int) -> int:
    return number * 2


@tool()
async def nothing() -> None:
    return None


@tool()
async def order() -> Order:
    return {"id": "a", "sum": 1}


@tool()
async def store(order: Order, at: str = "") -> bool:
    return True


@tool()
async def tag(tags: list[str]) -> None:
    return None


@tool(
    input_schema={
        "type": "object",
        "if": {"properties": {"kind": {"const": "card"}}},
        "then": {"required": ["number"]},
        "oneOf": [{"required": ["a"]}, {"required": ["b"]}],
        "properties": {"a": {"enum": [1, 2]}},
    }
)
async def chosen(**given: object) -> None:
    return None


ASK = AwaitInput(
    "ask", "Pay $amount?", bool, parameters={"type": "object", "properties": {"amount": {"type": "integer"}}}
)
TOOLS = [pay, load, book, double, nothing, order, store, tag, chosen, ASK]


def problems(*steps, joins=()):
    return [(one.pointer, one.code) for one in check({"flow": list(steps)}, tools=TOOLS, joins=joins)]


A = {"id": "a", "tool": "load", "args": {}}
OPEN = {"id": "a", "tool": "order", "args": {}}
P = {"tool": "pay", "args": {"to": "a", "amount": 1}}
D = {"id": "a", "tool": "double", "args": {"number": 1}}
CALLS = {
    "sound": ([{"tool": "pay", "args": {"to": "bo", "amount": 3}}], []),
    "a reference": ([{"tool": "pay", "args": {"to": "$input.to", "amount": "$input"}}], []),
    "all by reference": ([{"tool": "pay", "args": "$input"}], []),
    "missing": ([{"tool": "pay", "with": {"to": "$input"}}], [("/flow/0/with", "invalid-arguments")]),
    "mistyped": (
        [{"tool": "pay", "args": {"to": 3, "amount": "$input", "note": 4}}],
        [("/flow/0/args/note", "invalid-arguments"), ("/flow/0/args/to", "invalid-arguments")],
    ),
    "further": ([{"tool": "double", "args": {"number": 1, "x": 1}}], [("/flow/0/args", "invalid-arguments")]),
    "within": (
        [
            {"tool": "store", "args": {"order": {"id": "$input", "sum": "much"}}},
            {"tool": "tag", "args": {"tags": ["$input", 3]}},
        ],
        [("/flow/0/args/order/sum", "invalid-arguments"), ("/flow/1/args/tags/1", "invalid-arguments")],
    ),
    "a literal dollar": ([{"tool": "pay", "args": {"to": "$$5", "amount": 1}}], []),
    "in a branch": (
        [{"parallel": [[{"condition": "$input", "else": {"tool": "double", "args": {"number": "x"}}}]]}],
        [("/flow/0/parallel/0/0/else/args/number", "invalid-arguments")],
    ),
    "an AwaitInput": ([{"tool": "ask", "args": {"amount": "x"}}], [("/flow/0/args/amount", "invalid-arguments")]),
    "a choice that is not known": ([{"tool": "chosen", "args": {"kind": "$input", "a": "$input"}}], []),
    "a choice that is known": (
        [{"tool": "chosen", "args": {"kind": "card"}}],
        [("/flow/0/args", "invalid-arguments")] * 2,
    ),
    "passed on": ([OPEN, {"tool": "store"}], [("/flow/1", "mismatch")]),
    "passed on to one field": ([D, {"tool": "double"}], []),
    "passed on as another type": (
        [{"tool": "pay", "args": {"to": "a", "amount": 1}}, {"tool": "double"}],
        [("/flow/1", "mismatch")],
    ),
    "passed on to several fields": ([D, {"tool": "pay"}], [("/flow/1", "mismatch")]),
    "passed on to no field": ([D, {"tool": "nothing"}], []),
    "nothing passed on": ([{"tool": "nothing"}, {"tool": "double"}], [("/flow/1", "mismatch")]),
    "objects that fit": ([A, {"tool": "book"}], []),
    "objects that do not": ([A, {"tool": "double"}], [("/flow/1", "mismatch")]),
    "an answer": (
        [{"tool": "await_input", "args": {"prompt": "?", "schema": {"type": "string"}}}, {"tool": "double"}],
        [("/flow/1", "mismatch")],
    ),
    "an answer of a registered question": (
        [{"tool": "ask", "args": {"amount": 1}}, {"tool": "double"}],
        [("/flow/1", "mismatch")],
    ),
    "what its handler gives instead": ([{**A, "onError": {"tool": "nothing"}}, {"tool": "double"}], []),
    "after a container": ([{"sequence": [D]}, {"tool": "pay"}], []),
    "a result": ([D, {"tool": "double", "args": {"number": "$a"}}], []),
    "a result of another type": (
        [D, {"tool": "pay", "args": {"to": "$a", "amount": 1}}],
        [("/flow/1/args/to", "mismatch")],
    ),
    "a field": ([A, {"tool": "pay", "args": {"to": "$a.id", "amount": 1, "note": "$a.output.lines.0"}}], []),
    "a field of another type": (
        [{**A, "output": "loaded"}, {"tool": "pay", "args": {"to": "$loaded.sum", "amount": 1, "note": "$a.lines"}}],
        [("/flow/1/args/note", "mismatch"), ("/flow/1/args/to", "mismatch")],
    ),
    "a field that does not exist": (
        [A, {"tool": "pay", "args": {"to": "$a.di", "amount": 1}}],
        [("/flow/1/args/to", "mismatch")],
    ),
    "a field of an open object": ([OPEN, {"tool": "pay", "args": {"to": "$a.di", "amount": 1}}], []),
    "a variable of several steps": (
        [{**A, "output": "v"}, {**D, "id": "d", "output": "v"}, {"tool": "pay", "args": {"to": "$v", "amount": 1}}],
        [],
    ),
}


@pytest.mark.parametrize(("steps", "expected"), CALLS.values(), ids=CALLS)
def test_calls_are_checked_against_schemas(steps, expected):
    assert sorted(problems(*steps)) == expected
    # Without tools nothing is known of them.
    assert check({"flow": steps}) == ()


def test_a_join_makes_results_fit():
    assert problems(A, {"tool": "double"}, joins=[Join("load", "double", lambda given: {"number": 1})]) == []


async def test_calls_are_checked_before_anything_is_stored():
    async with open_test_hub(keyring=None) as hub:
        runner = FlowRunner(hub, TOOLS)
        document = {
            "flow": [
                {"tool": "pay", "args": {"to": "first", "amount": 1}},
                {"tool": "pay", "args": {"to": "x"}},
                {"tool": "double", "args": {"number": "y"}},
            ]
        }
        failed = await runner.start(document)
        assert isinstance(failed, Failure)
        error = failed.failure()
        assert isinstance(error, FlowError)
        assert [one.pointer for one in error.problems] == ["/flow/1/args", "/flow/2/args/number"]
        assert CALLED == []
        assert or_raise(await hub.query()).items == ()


QUESTIONS = {
    "sound": ({"prompt": "$input?", "schema": {"type": "boolean"}, "default": False, "timeout": 5}, []),
    "prompt": ({}, [("", "missing-field")]),
    "no arguments": (None, [(None, "missing-field")]),
    "mistyped prompt": ({"prompt": 3}, [("/prompt", "invalid-question")]),
    "unknown": ({"prompt": "?", "shcema": {}}, [("/shcema", "unknown-field")]),
    "several": (
        {
            "prompt": "?",
            "schema": {"type": "x"},
            "timeout": "soon",
            "deadline": "2030-01-01",
            "priority": 101,
            "assignees": 3,
        },
        [
            ("/schema", "invalid-question"),
            ("/timeout", "invalid-question"),
            ("/deadline", "invalid-question"),
            ("/priority", "invalid-question"),
            ("/assignees", "invalid-question"),
        ],
    ),
    "default": ({"prompt": "?", "schema": {"type": "boolean"}, "default": 3}, [("/default", "invalid-question")]),
    "default of a schema that is not known": ({"prompt": "?", "schema": "$input", "default": 3}, []),
    "pattern": ({"prompt": "?", "schema": {"pattern": "("}}, [("/schema", "invalid-question")]),
    "on_expiry": ({"prompt": "?", "timeout": 5, "on_expiry": "default"}, [("/on_expiry", "invalid-question")]),
    "on_expiry of a default that is not known": (
        {"prompt": "?", "timeout": 5, "default": "$input", "on_expiry": "default"},
        [],
    ),
    "reminders": ({"prompt": "?", "reminders": [5]}, [("/reminders", "invalid-question")]),
    "reminders of a timeout that is not known": ({"prompt": "?", "timeout": "$input", "reminders": [5]}, []),
    "quorum": ({"prompt": "?", "assignees": ["ann"], "quorum": 2}, [("/quorum", "invalid-question")]),
    "quorum of people that are not known": ({"prompt": "?", "assignees": "$input", "quorum": 2}, []),
    "hints": (
        {"prompt": "?", "schema": {"type": "object", "properties": {"a": {}}}, "ui": {"/b": {"label": "B"}}},
        [("/ui", "invalid-question")],
    ),
    "all by reference": ("$input", []),
}


@pytest.mark.parametrize(("args", "expected"), QUESTIONS.values(), ids=QUESTIONS)
def test_questions_are_checked_field_by_field(args, expected):
    step = {"tool": "await_input"} if args is None else {"tool": "await_input", "input": args}
    wanted = [("/flow/0" if at is None else f"/flow/0/input{at}", code) for at, code in expected]
    assert [(one.pointer, one.code) for one in check({"flow": [step]})] == wanted


def test_reminders_may_count_from_the_timeout_of_the_step():
    assert check({"flow": [{"tool": "await_input", "timeout": 9, "args": {"prompt": "?", "reminders": [5]}}]}) == ()


T = {"tool": "x"}
EXPRESSIONS = {
    "pattern": ({"condition": "matches($input, '(') || true"}, [("/flow/0/condition", "invalid-expression", "error")]),
    "constant": ({"filter": "$input", "condition": "1 < 'a'"}, [("/flow/0/condition", "invalid-expression", "error")]),
    "division": ({"switch": "1 / 0", "cases": {"a": T}}, [("/flow/0/switch", "invalid-expression", "error")]),
    "true": ({"condition": True, "then": T, "else": T}, [("/flow/0/else", "unreachable", "warning")]),
    "false": ({"condition": "1 > 2", "then": T, "else": T}, [("/flow/0/then", "unreachable", "warning")]),
    "loop": ({"loop": "while", "condition": "false", "body": T}, [("/flow/0/body", "unreachable", "warning")]),
    "switch": (
        {"switch": "'a'", "cases": {"a": T, "b": T}, "default": T},
        [("/flow/0/cases/b", "unreachable", "warning"), ("/flow/0/default", "unreachable", "warning")],
    ),
    "no case": ({"switch": "'c'", "cases": {"a": T}, "default": T}, [("/flow/0/cases/a", "unreachable", "warning")]),
    "not decided": ({"condition": "$input", "then": T, "else": T}, []),
}


@pytest.mark.parametrize(("step", "expected"), EXPRESSIONS.values(), ids=EXPRESSIONS)
def test_expressions_are_tried_as_far_as_they_are_known(step, expected):
    found = check({"flow": [step]})
    assert [(one.pointer, one.code, one.severity) for one in found] == expected
    refused = any(one.severity == "error" for one in found)
    assert isinstance(compile_flow({"flow": [step]}), Failure) is refused


def test_a_switch_that_never_finds_a_branch_is_refused():
    codes = [(one.pointer, one.severity) for one in check({"flow": [{"switch": "'c'", "cases": {"a": T}}]})]
    assert ("/flow/0/switch", "error") in codes


GRAPH = {
    "nodes": [
        {"id": "a", "tool": "double", "args": {"number": 1}},
        {"id": "b", "tool": "pay"},
        {"id": "c", "sequence": [{"tool": "tag", "args": {"tags": 3}}]},
        {"id": "d", "tool": "store"},
    ],
    "edges": [
        {"from": "a", "to": "b", "condition": "matches($a, '[')"},
        {"from": "a", "to": "c", "condition": "length(3)"},
        {"from": ["a", "c"], "to": "d"},
    ],
}


def test_graphs_are_checked_too():
    found = [(one.pointer, one.code) for one in check({**GRAPH, "edges": GRAPH["edges"][:2]})]
    assert found == [("/edges/0/condition", "invalid-expression"), ("/edges/1/condition", "invalid-expression")]
    plain = [{"from": edge["from"], "to": edge["to"]} for edge in GRAPH["edges"]]
    found = [(one.pointer, one.code) for one in check({**GRAPH, "edges": plain}, tools=TOOLS)]
    # What 'd' gets is by the ids of two nodes, so that nothing is known of it.
    assert sorted(found) == [("/nodes/1", "mismatch"), ("/nodes/2/sequence/0/args/tags", "invalid-arguments")]
