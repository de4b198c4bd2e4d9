"""Edges of the graph form whose conditions tools decide: asked once, kept over pauses, crashes and retries."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from returns.result import Failure

from flowpersist import AwaitInput, or_raise
from flowpersist.dynamicflow import Completed, FlowRunner, Suspended, ToolContext, check, compile, dry_run, tool  # noqa: A004
from flowpersist.dynamicflow.drawing import draw
from flowpersist.testing import open_test_hub

asked: Counter[str] = Counter()
said: list[str] = []
#: By path, the task that is cancelled when a tool is called there.
crash: dict[str, asyncio.Task[object]] = {}


@pytest.fixture(autouse=True)
def fresh():
    for one in (asked, said, crash):
        one.clear()


@tool()
async def say(value: object, context: ToolContext) -> object:
    said.append(context.path)
    if context.path in crash:
        crash.pop(context.path).cancel()
        await asyncio.sleep(60)
    if value == "fail":
        raise RuntimeError("refused")
    return value


@tool()
async def choose(prompt: str, context: ToolContext) -> str:
    asked[context.path] += 1
    return "true" if "yes" in prompt else "false"


@tool()
async def positive(value: int, context: ToolContext) -> bool:
    asked[context.path] += 1
    return value > 0


def node(name, value=1, **more):
    return {"id": name, "tool": "say", "args": {"value": value}, **more}


def by_prompt(text):
    return {"type": "llm", "prompt": text}


ASK = {"id": "q", "tool": "await_input", "args": {"prompt": "?"}}
GRAPH = {
    "nodes": [node("a", 5), ASK, node("b"), node("c"), node("d"), node("e", "$previousOutput")],
    "edges": [
        {"from": "START", "to": ["a", "q"]},
        {"from": "a", "to": ["b", "c"], "condition": by_prompt("Is $a yes?")},
        {"from": "a", "to": "d", "condition": {"type": "tool", "tool": "positive"}},
        {"from": ["b", "c", "d", "q"], "to": "e"},
    ],
}


def runner(hub, **options):
    return FlowRunner(hub, [say, positive, choose], **options)


async def test_a_decision_is_made_once_for_all_targets_and_kept_over_a_pause():
    async with open_test_hub(keyring=None) as hub:
        paused = or_raise(await runner(hub).start(GRAPH))
        assert isinstance(paused, Suspended)
        assert asked == {"a>b": 1, "a>d": 1}
        ended = or_raise(await runner(hub).resume(paused.key, answer="go"))
        assert isinstance(ended, Completed)
        assert ended.result == {"b": 1, "c": 1, "d": 1, "q": "go"}
        assert asked == {"a>b": 1, "a>d": 1}


@pytest.mark.parametrize(("text", "taken"), [("yes", {"a", "b", "c", "d", "q", "e"}), ("no", {"a", "d", "q", "e"})])
async def test_an_edge_is_taken_as_the_tool_decides(text, taken):
    graph = {**GRAPH, "edges": [dict(edge) for edge in GRAPH["edges"]]}
    graph["edges"][1]["condition"] = by_prompt(f"{text}: $previousOutput")
    async with open_test_hub(keyring=None) as hub:
        paused = or_raise(await runner(hub).start(graph))
        ended = or_raise(await runner(hub).resume(paused.key, answer="go"))
        assert set(ended.outputs) == taken
        assert ended.result == {one: ended.outputs[one] for one in "bcdq" if one in taken}


async def test_a_person_decides_under_the_name_of_the_edge():
    person = AwaitInput(id="who", prompt="Take it?", schema={"type": "boolean"})
    edges = [
        {"from": "a", "to": "b", "condition": by_prompt("?")},
        {"from": "a", "to": "b", "condition": by_prompt("!")},
        {"from": "a", "to": "c"},
    ]
    graph = {"nodes": [node("a", timeout=50, retry=1), node("b"), node("c")], "edges": edges}
    nested = {"flow": [{"id": "s", "flow": graph}]}
    async with open_test_hub(keyring=None) as hub:
        for document, prefix in ((graph, ""), (nested, "s.")):
            said.clear()
            people = FlowRunner(hub, [say], chooser=person)
            paused = or_raise(await people.start(document))
            assert set(paused.keys) == {f"{prefix}a>b", f"{prefix}a>b>2"}
            # The timeout of the source does not bound the question.
            assert all(wait.awaiting.timeout is None for wait in paused.waits)
            assert said == [f"{prefix}a", f"{prefix}c"]
            seen = or_raise(await people.inspect(paused.suspension_id))
            assert set(seen.waits) == set(paused.keys)
            paused = or_raise(await people.resume(paused.keys[f"{prefix}a>b"], answer=False))
            assert set(paused.keys) == {f"{prefix}a>b>2"}
            ended = or_raise(await people.resume(paused.key, answer=True))
            assert ended.result == {"b": 1, "c": 1}
            assert said == [f"{prefix}a", f"{prefix}c", f"{prefix}b"]


async def test_a_decision_is_stored_as_a_step_is():
    graph = {**GRAPH, "durability": "step", "nodes": [node("a", 5), *GRAPH["nodes"][2:]]}
    graph["edges"] = [*GRAPH["edges"][1:3], {"from": ["b", "c", "d"], "to": "e"}]
    async with open_test_hub(keyring=None) as hub:
        crash["e"] = asyncio.create_task(runner(hub).start(graph, run_id="one"))
        with pytest.raises(asyncio.CancelledError):
            await crash["e"]
        run = or_raise(await hub.query()).items[0].id
        ended = or_raise(await runner(hub).resume(run))
        assert ended.result == {"b": 1, "c": 1, "d": 1}
        assert asked == {"a>b": 1, "a>d": 1}
        assert Counter(said) == {"a": 1, "b": 1, "c": 1, "d": 1, "e": 2}


async def test_a_retry_keeps_decisions_and_one_from_the_source_makes_them_anew():
    graph = {
        "nodes": [node("a", 5), node("b", "$input.value")],
        "edges": [{"from": "a", "to": "b", "condition": by_prompt("yes")}],
    }
    async with open_test_hub(keyring=None) as hub:
        parks = runner(hub, failed="park")
        assert isinstance(await parks.start(graph, input={"value": "fail"}, run_id="r"), Failure)
        assert isinstance(await parks.retry("r"), Failure)
        assert asked == {"a>b": 1}
        assert isinstance(await parks.retry("r", from_step="a"), Failure)
        assert asked == {"a>b": 2}
        refused = await parks.retry("r", from_step="a>b")
        assert "is not a step that has begun" in str(refused.failure())
        assert or_raise(await parks.retry("r", edit={"input": {"value": 3}})).result == 3
        assert asked == {"a>b": 2}


async def test_a_decision_that_fails_ends_the_run_with_the_edge_in_the_message():
    graph = {
        "nodes": [node("a", "text", onError=[node("never")]), node("b")],
        "edges": [{"from": "a", "to": "b", "condition": {"type": "tool", "tool": "positive"}}],
    }
    async with open_test_hub(keyring=None) as hub:
        error = (await runner(hub).start(graph)).failure()
        assert (error.step, error.tool) == ("a", "positive")
        assert "the edge from 'a' to 'b'" in str(error)
        assert "never" not in said


async def test_the_first_edges_can_be_decided_too():
    graph = {
        "nodes": [node("a"), node("b")],
        "edges": [
            {"from": "START", "to": "a", "condition": by_prompt("yes")},
            {"from": "START", "to": "b", "condition": by_prompt("no")},
        ],
    }
    async with open_test_hub(keyring=None) as hub:
        assert or_raise(await runner(hub).start(graph)).result == {"a": 1}
        assert asked == {"START>a": 1, "START>b": 1}
    seen = or_raise(await dry_run(graph, recording={"steps": {"START>a": "false", "START>b": "true"}}))
    assert [(call.path, call.origin) for call in seen.calls] == [
        ("START>a", "path"),
        ("START>b", "path"),
        ("b", "schema"),
    ]


def graph_with(condition):
    return {"nodes": [node("a"), node("b")], "edges": [{"from": "a", "to": "b", "condition": condition}]}


@pytest.mark.parametrize(
    ("condition", "pointer", "code"),
    [
        ({"type": "llm"}, "/condition", "missing-field"),
        ({"type": "llm", "prompt": 3}, "/condition/prompt", "invalid-value"),
        ({"type": "llm", "prompt": "$b?"}, "/condition/prompt", "not-visible"),
        ({"type": "llm", "prompt": "$x?"}, "/condition/prompt", "unknown-name"),
        ({"type": "llm", "prompt": "?", "model": "m"}, "/condition/model", "unknown-field"),
        ({"type": "tool", "tool": ""}, "/condition", "invalid-value"),
        ({"type": "tool", "tool": "positive", "args": 3}, "/condition/args", "wrong-type"),
        ({"type": "tool", "tool": "positive", "args": {"value": "$x"}}, "/condition/args/value", "unknown-name"),
        ({"type": "tool", "tool": "nobody"}, "/condition", "unknown-tool"),
        ({"type": "model"}, "/condition/type", "invalid-value"),
    ],
)
def test_what_is_wrong_with_a_decision_is_found_at_its_place(condition, pointer, code):
    problems = check(graph_with(condition), tools=[say, positive])
    assert (f"/edges/0{pointer}", code) in [(one.pointer, one.code) for one in problems]


def test_a_document_needs_the_tools_of_its_edges():
    flow = compile(graph_with(by_prompt("Well?"))).unwrap()
    assert flow.tools == {"say", "choose"}
    assert [(edge.source, edge.target, edge.label) for edge in flow.edges] == [("a", "b", "Well?")]
    assert "Well?" in draw(flow)
    assert [one.code for one in check(graph_with(by_prompt("?")), tools=[say])] == ["unknown-tool"]
