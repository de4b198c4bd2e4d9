"""``dry_run``: what a document would call and ask, with nothing called for real."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from attrs import frozen
from returns.result import Failure

from flowpersist import AwaitInput, RaisingHub, or_raise
from flowpersist.dynamicflow import Join, ToolContext, dry_run, tool
from flowpersist.errors import FlowDeadlinePassed, FlowError, InputValidationError
from flowpersist.testing import open_test_hub
from flowpersist.tools import approve


def done_for_real(*_, **__):
    raise AssertionError("a dry run has done something")


@frozen
class Order:
    id: str
    items: list[str]


@tool()
async def load(id: str) -> Order:
    done_for_real()


@tool()
def pay(order: Order, cents: int) -> bool:
    done_for_real()


@tool()
async def choose(prompt: str, options: list[dict[str, str]]) -> str:
    done_for_real()


def rehearsed(document, **options):
    return or_raise(asyncio.run(dry_run(document, **options)))


def called(seen):
    return [(one.path, one.tool, one.output, one.origin) for one in seen.calls]


def step(name, **fields):
    return {"id": name, "tool": "say", "args": {"value": 1}, **fields}


def test_outputs_are_found_by_path_then_step_then_tool_then_schema():
    document = {"flow": [{"id": "m", "map": [1, 2], "with": [step("a")]}, step("b"), step("c", tool="other")]}
    recording = {"steps": {"m[1].a": "path", "a": "step"}, "tools": {"say": "tool"}}
    seen = rehearsed(document, recording=recording)
    assert called(seen) == [
        ("m[0].a", "say", "step", "step"),
        ("m[1].a", "say", "path", "path"),
        ("b", "say", "tool", "tool"),
        ("c", "other", None, "schema"),
    ]
    assert seen.result is None
    assert seen.outputs["m"] == ["step", "path"]


def test_classes_of_fields_and_joins_are_used_and_functions_are_not():
    document = {"flow": [{"id": "o", "tool": "load", "args": {"id": "7"}}, {"id": "p", "tool": "pay"}]}
    join = Join("load", "pay", lambda order: {"order": order, "cents": 5})
    seen = rehearsed(document, tools=[load, pay], joins=[join])
    assert [call.arguments for call in seen.calls] == [{"id": "7"}, {"order": {"id": "", "items": []}, "cents": 5}]
    assert seen.result is False


def test_delays_retries_and_sub_flows_take_no_time():
    inner = {"flow": [{"id": "wait", "delay": {"seconds": 86_400}}, step("said", args={"value": "$input.x"})]}
    fails = {"id": "f", "tool": "say", "args": {"value": "$input.none"}, "retry": {"attempts": 3, "delay": 3_600_000}}
    document = {
        "flow": [{"id": "s", "flow": "inner", "input": {"x": 3}}, {**fails, "onError": [step("h")]}],
    }
    seen = rehearsed(document, flows={"inner": inner}, recording={"steps": {"said": "in"}})
    assert [call.path for call in seen.calls] == ["s.said", "f.h"]
    assert seen.calls[0].arguments == {"value": 3}
    assert seen.delayed == timedelta(days=1)


@pytest.mark.parametrize(
    ("question", "origin", "answer"),
    [
        ({"schema": {"enum": ["b", "a"]}}, "schema", "b"),
        ({"schema": {"type": "integer", "minimum": 4}}, "schema", 4),
        ({"schema": {"type": "string"}, "default": "later", "timeout": 60_000}, "default", "later"),
        ({"assignees": ["ann", "bob", "eve"], "quorum": 2, "schema": {"type": "boolean"}}, "schema", False),
        ({"groups": ["board"], "quorum": {"votes": 3, "of": ["board"]}}, "schema", None),
        ({"checks": ["unknown here"]}, "schema", None),
        ({"answerable_by": ["agent"]}, "schema", None),
    ],
)
def test_questions_are_answered_by_whoever_may(question, origin, answer):
    document = {"flow": [{"id": "q", "tool": "await_input", "args": {"prompt": "?", **question}}]}
    seen = rehearsed(document, by="ann")
    assert [(one.path, one.answer, one.origin) for one in seen.questions] == [("q", answer, origin)]
    assert seen.result == answer


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        ({"id": "s", "switch": "Which?", "branches": {"x": [step("a")], "y": [step("b")]}}, ["s", "s.a"]),
        ({"id": "s", "condition": {"type": "llm", "prompt": "ok?"}, "then": [step("a")]}, ["s", "s.a"]),
        ({"id": "s", "loop": "while", "condition": {"type": "llm", "prompt": "more?"}, "body": [step("a")]}, ["s[0]"]),
    ],
)
def test_a_chooser_takes_an_option(step, expected):
    say = tool(id="say")(lambda value: done_for_real())
    for options in ({}, {"tools": [say], "chooser": choose}, {"tools": [say, choose]}):
        seen = rehearsed({"flow": [step]}, **options)
        assert [call.path for call in seen.calls] == expected
        assert seen.error is None
    asks = AwaitInput(
        id="who",
        prompt="$prompt",
        parameters={"type": "object", "properties": {"prompt": {}}},
        schema={"type": "string"},
    )
    seen = rehearsed({"flow": [step]}, tools=[say], chooser=asks)
    assert [one.origin for one in seen.questions] == ["options"]
    assert [call.path for call in seen.calls] == expected[1:]


def test_a_guarded_tool_asks_and_its_rules_are_not_looked_at():
    async def guarded():
        async with open_test_hub(keyring=None) as hub:
            tools = [approve(pay, hub=RaisingHub(hub), when=done_for_real).tool]
            document = {"flow": [{"id": "p", "tool": "pay", "args": {"order": {"id": "1", "items": []}, "cents": 5}}]}
            return [
                or_raise(await dry_run(document, tools=tools, recording=recording))
                for recording in (
                    {"steps": {"p": True}, "answers": {"p": {"decision": "approve"}}},
                    {"answers": {"p": {"decision": "reject"}}},
                )
            ]

    approved, rejected = asyncio.run(guarded())
    assert (called(approved), approved.result) == ([("p", "pay", True, "path")], True)
    assert (called(rejected), rejected.error.step) == ([], "p")


def test_the_end_of_a_failed_flow_is_data():
    document = {"failed": "park", "flow": [step("a"), step("b", args={"value": "$a.none"})]}
    seen = rehearsed(document)
    assert [call.path for call in seen.calls] == ["a"]
    assert (type(seen.error), seen.error.step) == (FlowError, "b")


ANSWER = {"type": "object", "properties": {"n": {"type": "integer"}}}


@pytest.mark.parametrize(
    ("recording", "pointer"),
    [
        ({"steps": {"zz": 1}}, "/steps/zz"),
        ({"steps": {"m[0].zz": 1}}, "/steps/m[0].zz"),
        ({"steps": {"m": 1}}, "/steps/m"),
        ({"steps": {"q": 1}}, "/steps/q"),
        ({"steps": {"p": 1}}, "/steps/p"),
        ({"tools": {"load": {"id": "1", "items": []}}}, "/tools/load"),
        ({"tools": {"pay": "yes"}}, "/tools/pay"),
        ({"answers": {"p": 1}}, "/answers/p"),
        ({"answers": {"q": {"n": "many"}}}, "/answers/q/n"),
        ({"answers": {"q": [1]}}, "/answers/q"),
        ({"answers": 1}, "/answers"),
        ({"outputs": {}}, "/outputs"),
    ],
)
def test_a_recording_that_does_not_fit_is_refused_by_its_place(recording, pointer):
    document = {
        "flow": [
            {"id": "q", "tool": "await_input", "args": {"prompt": "?", "schema": ANSWER}},
            {"id": "m", "map": [1], "with": [{"id": "p", "tool": "pay", "args": "$input"}]},
        ]
    }
    refused = asyncio.run(dry_run(document, tools=[load, pay], recording=recording))
    assert isinstance(refused, Failure)
    assert isinstance(refused.failure(), InputValidationError)
    assert [one.pointer for one in refused.failure().problems] == [pointer]


def test_what_can_not_be_rehearsed_is_an_error_that_says_what_to_do():
    coded = tool(id="say", output_schema={"type": "string", "pattern": "^ORD-[0-9]+-[A-F]$"})(
        lambda value: done_for_real()
    )
    document = {"flow": [step("a", onError=[step("b")])]}
    refused = asyncio.run(dry_run(document, tools=[coded])).failure()
    assert isinstance(refused, FlowError)
    assert "step 'a'" in str(refused)
    assert "in the recording's 'steps' or 'tools'" in str(refused)
    assert rehearsed(document, tools=[coded], recording={"tools": {"say": "ORD-1-A"}}).result == "ORD-1-A"
    assert isinstance(asyncio.run(dry_run(document, tools=[])).failure(), FlowError)
    assert isinstance(asyncio.run(dry_run({"flow": []})).failure(), FlowError)


def test_delays_to_the_end_of_time_end_typed():
    for delay in (
        {"delay": {"until": "9999-12-31T23:59:59Z"}},
        {"loop": "for", "over": [*range(99)], "body": {"delay": {"seconds": 10**10}}},
    ):
        refused = asyncio.run(dry_run({"flow": [delay, step("a")]})).failure()
        assert "use shorter delays" in str(refused)
    late = rehearsed({"timeout": 1000, "flow": [{"delay": {"seconds": 10}}, step("a")]})
    assert isinstance(late.error, FlowDeadlinePassed)


def test_endless_documents_end_typed():
    loop = {"id": "l", "loop": "while", "condition": "true", "maxIterations": 1_000_000, "body": [step("a")]}
    recording = {"steps": {"a": ["x" * 1000] * 1000}}
    refused = asyncio.run(dry_run({"flow": [loop]}, recording=recording)).failure()
    assert isinstance(refused, FlowError)
    assert "can't record more" in str(refused)
    late = asyncio.run(dry_run({"flow": [loop]}, longest=timedelta(milliseconds=50))).failure()
    assert "took longer than" in str(late)


# ---- what tools ask by themselves

LIMIT = AwaitInput(id="limit", prompt="Up to how much?", schema=int)
SURE = AwaitInput(id="sure.now", prompt="Sure?", schema=bool)


@tool(asks=[LIMIT, SURE, LIMIT])
async def spend(item: str, context: ToolContext) -> str:
    done_for_real()


SPENT = {"flow": [{"id": "m", "map": ["a", "b"], "with": [{"id": "s", "tool": "spend", "args": {"item": "$item"}}]}]}


def asked(seen):
    return [(one.path, one.answer, one.origin, one.tool) for one in seen.questions]


def test_what_a_tool_may_ask_is_shown_and_it_is_called_once():
    recording = {"answers": {"m[0].s.limit": 5, "s.limit": 6, "s.sure.now": True}, "steps": {"s": "done"}}
    seen = rehearsed(SPENT, tools=[spend], recording=recording)
    assert sorted(asked(seen)) == [
        ("m[0].s.limit", 5, "path", "spend"),
        ("m[0].s.limit[1]", 6, "step", "spend"),
        ("m[0].s.sure.now", True, "step", "spend"),
        ("m[1].s.limit", 6, "step", "spend"),
        ("m[1].s.limit[1]", 6, "step", "spend"),
        ("m[1].s.sure.now", True, "step", "spend"),
    ]
    assert called(seen) == [("m[0].s", "spend", "done", "step"), ("m[1].s", "spend", "done", "step")]
    assert (seen.result, seen.error, seen.unused) == (["done", "done"], None, ())


def test_answers_to_a_tool_are_made_from_the_schemas_where_none_is_recorded():
    seen = rehearsed({"flow": [{**step("s"), "tool": "spend", "args": {"item": "x"}}]}, tools=[spend])
    assert asked(seen)[:2] == [("s.limit", 0, "schema", "spend"), ("s.sure.now", False, "schema", "spend")]


def test_a_question_of_the_flow_is_of_no_tool_and_has_its_own_answer():
    document = {
        "flow": [
            {"id": "limit", "tool": "await_input", "args": {"prompt": "?", "schema": {"type": "integer"}}},
            {"id": "s", "tool": "spend", "args": {"item": "x"}},
        ]
    }
    seen = rehearsed(document, tools=[spend], recording={"answers": {"limit": 1, "s.limit": 2}})
    assert asked(seen)[:2] == [("limit", 1, "path", None), ("s.limit", 2, "path", "spend")]


def test_a_guarded_tool_that_asks_is_approved_first():
    async def guarded():
        async with open_test_hub(keyring=None) as hub:
            document = {"flow": [{"id": "s", "tool": "spend", "args": {"item": "x"}}]}
            tools, recording = [approve(spend, hub=RaisingHub(hub)).tool], {"answers": {"s": {"decision": "approve"}}}
            return or_raise(await dry_run(document, tools=tools, recording=recording))

    assert [(one.path, one.tool) for one in asyncio.run(guarded()).questions] == [
        ("s", None),
        ("s.limit", "spend"),
        ("s.sure.now", "spend"),
        ("s.limit[1]", "spend"),
    ]


@pytest.mark.parametrize(
    ("answers", "pointer", "told"),
    [
        ({"s.other": 1}, "/answers/s.other", "not a step"),
        ({"m.limit": 1}, "/answers/m.limit", "not a step"),
        ({"s": 1}, "/answers/s", "answer its question s.limit"),
        ({"s.limit": "much"}, "/answers/s.limit", "integer"),
    ],
)
def test_a_recorded_answer_that_fits_no_question_of_the_tool_is_refused(answers, pointer, told):
    error = asyncio.run(dry_run(SPENT, tools=[spend], recording={"answers": answers})).failure()
    assert isinstance(error, InputValidationError)
    assert [one.pointer for one in error.problems] == [pointer]
    assert told in error.problems[0].message


def test_only_async_tools_ask():
    with pytest.raises(TypeError, match="only async functions can ask"):
        tool(asks=[LIMIT])(lambda: None)
