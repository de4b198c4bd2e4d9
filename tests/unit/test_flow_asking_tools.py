"""Tools that ask in the middle of their calls: what they are given, what runs again, and what becomes of the waits."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from datetime import timedelta
from typing import Any

import attrs
import pytest
import pytest_asyncio
from returns.result import Failure

from flowpersist import AwaitInput, ConfigurationError, TypeRegistry, open_hub
from flowpersist.dynamicflow import Completed, FlowRunner, Migration, Suspended, ToolContext, compile, legs, tool  # noqa: A004
from flowpersist.errors import UnsupportedType, WaitSuperseded
from flowpersist.hub.outcome import or_raise
from flowpersist.testing import open_test_hub, travel
from flowpersist.tools import approve

SIZE = AwaitInput(id="size", prompt="Which size?", schema=int)
COLOUR = AwaitInput(id="colour", prompt="Which colour?", schema=str)
Q = {"id": "q", "tool": "await_input", "args": {"prompt": "?"}}
Q2, Q3 = ({**Q, "id": "q2"}, {**Q, "id": "q3"})
calls: list[object] = []


@pytest.fixture(autouse=True)
def _fresh():
    calls.clear()


@pytest_asyncio.fixture(loop_scope="module")
async def hub():
    async with open_hub("memory://", keyring=None, public_url="https://x.test/a/") as hub:
        yield hub


def runner(hub, *tools, **options):
    return FlowRunner(hub, tools, backoff=lambda _: 0, **options)


def document(*steps):
    return {"metadata": {"name": "asking"}, "flow": list(steps)}


async def start(hub, *tools, steps=None, **given):
    steps = steps or [{"id": "t", "tool": tools[0].id}]
    return or_raise(await runner(hub, *tools).start(document(*steps), **given))


async def answer(hub, waiting, value, *tools, step=None):
    key = waiting.key if step is None else waiting.keys[step]
    return or_raise(await runner(hub, *tools).resume(key, answer=value))


@tool()
async def order(context: ToolContext) -> list[Any]:
    calls.append(("begun", context.attempt, context.key.split("/", 1)[1]))
    size = await context.ask(SIZE)
    calls.append(size)
    colour = await context.ask(COLOUR)
    return [size, colour]


async def test_a_tool_asks_twice_and_is_called_again_with_each_answer(hub):
    first = await start(hub, order)
    assert [wait.step for wait in first.waits] == ["t.size"]
    assert first.waits[0].awaiting.prompt == "Which size?"
    second = await answer(hub, first, 5, order)
    assert [wait.step for wait in second.waits] == ["t.colour"]
    done = await answer(hub, second, "red", order)
    assert done.result == [5, "red"]
    assert calls == [("begun", 1, "t/1"), ("begun", 1, "t/1"), 5, ("begun", 1, "t/1"), 5]


async def test_an_inspected_run_shows_the_question_of_its_tool(hub):
    waiting = await start(hub, order)
    seen = or_raise(await runner(hub, order).inspect(waiting.key.id))
    assert (seen.waits, seen.steps["t"].status) == (("t.size",), "waiting")


@tool()
async def counts(context: ToolContext) -> list[Any]:
    return [await context.ask(SIZE) for _ in range(3)]


async def test_questions_of_one_id_are_told_apart_by_their_order(hub):
    outcome, steps = await start(hub, counts), []
    for number in range(3):
        steps += [wait.step for wait in outcome.waits]
        outcome = await answer(hub, outcome, number, counts)
    assert steps == ["t.size", "t.size[1]", "t.size[2]"]
    assert outcome.result == [0, 1, 2]


@attrs.frozen
class Parcel:
    weight: int


@tool()
async def parcels(context: ToolContext) -> str:
    answered = await context.ask(AwaitInput(id="parcel", prompt="Which?", schema=Parcel))
    return f"{type(answered).__name__} of {answered.weight}"


async def test_an_answer_is_of_the_schema_s_class(hub):
    assert (await answer(hub, await start(hub, parcels), {"weight": 3}, parcels)).result == "Parcel of 3"


# ------------------------------------------------------------------------------------------------------------- memo


@tool()
async def drafts(context: ToolContext) -> list[Any]:
    def plainly():
        calls.append("plain")
        return [1]

    async def slowly():
        calls.append("async")
        await asyncio.sleep(0)
        return Parcel(4)

    first = await context.memo("plain", plainly)
    first.append("the tool's own")
    second = await context.memo("async", slowly)
    again = await context.memo("plain", plainly)
    await context.ask(SIZE)
    return [first, second.weight, again, await context.memo("late", lambda: "late")]


async def test_what_a_tool_keeps_is_made_once_and_kept_as_it_was():
    async with open_hub("memory://", keyring=None, types=TypeRegistry(Parcel)) as hub:
        done = await answer(hub, await start(hub, drafts), 1, drafts)
    assert calls == ["plain", "async"]
    assert done.result == [[1, "the tool's own"], 4, [1], "late"]


async def test_what_can_t_be_stored_is_refused_where_it_is_made(hub):
    @tool()
    async def keeps(context: ToolContext) -> str:
        with pytest.raises(UnsupportedType):
            await context.memo("x", object)
        with pytest.raises(TypeError, match="Invalid name"):
            await context.memo(7, object)
        with pytest.raises(TypeError, match="Invalid function"):
            await context.memo("x", 7)
        with pytest.raises(TypeError, match="Invalid question"):
            await context.ask("size")

        async def nested():
            return await context.memo("x", nested)

        with pytest.raises(RuntimeError, match="another name"):
            await context.memo("x", nested)
        return await context.memo("x", lambda: "kept")

    assert (await start(hub, keeps)).result == "kept"


# ------------------------------------------------------------------------------------------- what a tool makes of it


async def swallow(context):
    with contextlib.suppress(BaseException):
        await context.ask(SIZE)
    return "went on without an answer"


async def overwrite(context):
    try:
        await context.ask(SIZE)
    finally:
        if "again" not in calls:
            calls.append("again")
            raise RuntimeError("while it cleaned up")
    return "done"


async def catch(context):
    try:
        return str(await context.ask(SIZE))
    except Exception:  # noqa: BLE001 - the point of it
        return "caught"


async def group(context):
    async with asyncio.TaskGroup() as tasks:
        asked = tasks.create_task(context.ask(SIZE))
    return str(asked.result())


async def gathered(context):
    size, colour = await asyncio.gather(context.ask(SIZE), context.ask(COLOUR))
    return f"{size} {colour}"


async def in_time(context):
    async with asyncio.timeout(20):
        return str(await context.ask(SIZE))


WAYS = {
    "swallow": (swallow, [1], "went on without an answer"),
    "overwrite": (overwrite, [1], "done"),
    "catch": (catch, [1], "1"),
    "group": (group, [1], "1"),
    "gathered": (gathered, [1, "red"], "1 red"),
    "in_time": (in_time, [1], "1"),
}


@pytest.mark.parametrize("way", WAYS)
async def test_a_question_ends_the_attempt_whatever_the_tool_makes_of_it(hub, way):
    function, answers, expected = WAYS[way]

    async def made(context: ToolContext) -> str:
        return await function(context)

    asking = tool(id="t")(made)
    outcome = await start(hub, asking)
    for value in answers:
        assert isinstance(outcome, Suspended)
        outcome = await answer(hub, outcome, value, asking)
    assert outcome.result == expected


async def test_what_a_tool_leaves_behind_can_ask_and_keep_nothing_more(hub):
    left: list[ToolContext] = []

    @tool()
    async def leaves(context: ToolContext) -> str:
        left.append(context)
        return "over"

    await start(hub, leaves)
    for late in (left[0].ask(SIZE), left[0].memo("x", int), left[0].link(SIZE)):
        with pytest.raises(RuntimeError, match="has ended"):
            await late


@pytest.mark.parametrize(
    "use", [lambda c: c.ask(SIZE), lambda c: c.memo("x", int), lambda c: c.link(SIZE)], ids=["ask", "memo", "link"]
)
async def test_plain_functions_and_calls_outside_a_flow_can_t_ask(hub, use):
    @tool(id="plain")
    def plainly(context: ToolContext) -> None:
        use(context)

    failed = await runner(hub, plainly).start(document({"tool": "plain"}))
    assert "make it an async function" in failed.failure().message
    with pytest.raises(ConfigurationError, match="called by a flow"):
        use(ToolContext("run", "step", "step", 1))


# ---------------------------------------------------------------------------------------------------- how waits end


@tool()
async def impatient(context: ToolContext) -> str:
    calls.append(context.attempt)
    try:
        return str(await context.ask(AwaitInput(id="q", prompt="q?", timeout=timedelta(minutes=5))))
    except TimeoutError:
        return "in vain, in attempt " + str(context.attempt)


@tool()
async def strict(context: ToolContext) -> str:
    calls.append(context.attempt)
    return str(await context.ask(AwaitInput(id="q", prompt="q?", timeout=timedelta(minutes=5))))


@tool()
async def defaulting(context: ToolContext) -> str:
    return str(await context.ask(AwaitInput(id="q", prompt="q?", default="nobody", timeout=timedelta(minutes=5))))


@pytest.mark.parametrize(
    ("which", "expected"), [(impatient, "in vain, in attempt 1"), (defaulting, "nobody")], ids=["caught", "default"]
)
async def test_a_question_that_nobody_answers_gives_its_default_or_a_timeout(which, expected):
    async with open_test_hub() as hub:
        waiting = await start(hub, which)
        travel(hub, timedelta(minutes=6))
        done = or_raise(await runner(hub, which).resume((await hub.inspect(waiting.key)).unwrap().id))
    assert done.result == expected


async def test_a_timeout_fails_the_attempt_and_the_next_one_asks_under_another_key():
    step = {"id": "t", "tool": "strict", "retry": {"attempts": 1, "on": ["TimeoutError"]}}
    async with open_test_hub() as hub:
        waiting = await start(hub, strict, steps=[step])
        id_ = (await hub.inspect(waiting.key)).unwrap().id
        travel(hub, timedelta(minutes=6))
        again = or_raise(await runner(hub, strict).resume(id_))
        assert [wait.step for wait in again.waits] == ["t.q"]
        assert str(again.key) != str(waiting.key)
        assert isinstance(await runner(hub, strict).resume(waiting.key, answer="late"), Failure)
        assert (await answer(hub, again, "in time", strict)).result == "in time"
    assert calls == [1, 1, 2, 2]


async def test_a_failed_attempt_closes_its_questions_and_keeps_nothing(hub):
    @tool()
    async def fails_once(context: ToolContext) -> list[Any]:
        made = await context.memo("made", lambda: context.attempt)
        size = await context.ask(SIZE)
        if context.attempt == 1:
            raise RuntimeError("it broke")
        return [made, size]

    step = {"id": "t", "tool": "fails_once", "retry": 1}
    first = await start(hub, fails_once, steps=[step])
    second = await answer(hub, first, 1, fails_once)
    assert isinstance(second, Suspended)
    assert (await answer(hub, second, 2, fails_once)).result == [2, 2]


async def test_a_branch_that_is_given_up_closes_the_question_of_its_tool(hub):
    steps = [
        {
            "id": "p",
            "parallel": [[{"id": "t", "tool": "order"}], [Q]],
            "until": "any",
        }
    ]
    waiting = await start(hub, order, steps=steps)
    assert sorted(waiting.keys) == ["p[0].t.size", "p[1].q"]
    done = await answer(hub, waiting, "x", order, step="p[1].q")
    assert done.result == [None, "x"]
    late = await runner(hub, order).resume(waiting.keys["p[0].t.size"], answer=1)
    assert isinstance(late, Failure)


async def test_an_answer_to_another_branch_does_not_call_the_tool_again(hub):
    steps = [
        {
            "id": "p",
            "parallel": [[{"id": "t", "tool": "order"}], [Q]],
        }
    ]
    waiting = await start(hub, order, steps=steps)
    between = await answer(hub, waiting, "x", order, step="p[1].q")
    assert str(between.keys["p[0].t.size"]) == str(waiting.keys["p[0].t.size"])
    assert len(calls) == 1


async def test_questions_that_have_no_room_open_later_without_another_call(hub, monkeypatch):
    monkeypatch.setattr(legs, "ROOM_BYTES", 96 * 1024)

    @tool(id="t")
    async def many(number: int, context: ToolContext) -> int:
        calls.append(number)
        return await context.ask(AwaitInput(id="q", prompt=f"{number} {'x' * 60_000}", schema=int))

    each = {"id": "each", "map": [0, 1, 2], "parallel": True, "with": {"tool": "t", "args": {"number": "$item"}}}
    outcome = await start(hub, many, steps=[each])
    for number in range(3):
        assert list(outcome.keys) == [f"each[{number}].each_1.q"]
        outcome = await answer(hub, outcome, number, many)
    assert outcome.result == [0, 1, 2]
    # Each was called to ask, and with its answer.
    assert sorted(calls) == [0, 0, 1, 1, 2, 2]


async def test_a_question_that_can_t_be_asked_fails_the_attempt(hub):
    @tool(id="t")
    async def large(context: ToolContext) -> object:
        return await context.ask(AwaitInput(id="q", prompt="?", shown={"x": "x" * 100_000}))

    failed = await runner(hub, large).start(document({"tool": "t"}))
    assert "show less data" in failed.failure().message


@tool(id="t")
async def says(text: str, context: ToolContext) -> object:
    calls.append(text)
    return await context.ask(AwaitInput(id="q", prompt=text))


@pytest.mark.parametrize("text", ["one", "another"])
async def test_another_document_asks_again_if_it_makes_the_tool_ask_something_else(hub, text):
    def both(said):
        return document({"id": "p", "parallel": [[{"id": "a", "tool": "t", "args": {"text": said}}], [Q]]}, Q2)

    old, new = both("one"), {**both(text), "flow": [*both(text)["flow"], {"id": "end", "sequence": [Q3]}]}
    move = Migration(compile(old).unwrap().hash, compile(new).unwrap().hash, lambda state: state)
    first = or_raise(await runner(hub, says).start(old))
    key = first.keys["p[1].q"]
    second = or_raise(await FlowRunner(hub, [says], migrations=[move]).resume(key, answer=1, document=new))
    asked = second.waits[0]
    assert (asked.step, asked.awaiting.prompt) == ("p[0].a.q", text)
    assert (str(asked.key) == str(first.keys["p[0].a.q"])) is (text == "one")
    # The tool was called to see what it asks now, and its question is one that only the next answer ends.
    assert calls == ["one", text]
    third = await answer(hub, second, "yes", says)
    assert list(third.keys) == ["q2"]
    assert calls == ["one", text, text]


# ---------------------------------------------------------------------------------------------------------- guarded


async def test_a_guarded_tool_asks_once_it_is_approved_and_is_not_approved_twice(hub):
    guarded = approve(order, hub=hub).tool
    asked = await start(hub, guarded)
    assert calls == []
    first = await answer(hub, asked, {"decision": "approve"}, guarded)
    assert [wait.step for wait in first.waits] == ["t.size"]
    second = await answer(hub, first, 5, guarded)
    assert (await answer(hub, second, "red", guarded)).result == [5, "red"]


async def test_a_guard_that_lets_a_call_pass_is_asked_once(hub):
    def rule(_call):
        calls.append("rule")
        return False

    guarded = approve(order, hub=hub, when=rule).tool
    first = await start(hub, guarded)
    second = await answer(hub, first, 5, guarded)
    assert (await answer(hub, second, "red", guarded)).result == [5, "red"]
    assert calls.count("rule") == 1


# ------------------------------------------------------------------------------------------------------------- link


@tool()
async def invites(context: ToolContext) -> list[Any]:
    link = await context.link(SIZE)
    await context.memo("sent", lambda: calls.append(link))
    calls.append("asks")
    return [link, await context.ask(SIZE)]


async def test_a_link_works_before_the_tool_asks_and_is_the_same_after_the_pause(hub):
    waiting = await start(hub, invites)
    assert calls == [f"https://x.test/a/{waiting.key}", "asks"]
    done = await answer(hub, waiting, 4, invites)
    assert done.result == [calls[0], 4]
    assert calls[2:] == ["asks"]


async def test_an_answer_that_comes_while_the_tool_runs_is_given_to_it_without_a_pause(hub):
    @tool(id="t")
    async def quick(context: ToolContext) -> object:
        calls.append("begun")
        key = (await context.link(SIZE)).rpartition("/")[2]
        or_raise(await hub.answer(key, 8))
        return await context.ask(SIZE)

    outcome = await start(hub, quick)
    # The answer may have come before or after the pause; the caller who started it gets the end of it in both cases.
    assert isinstance(outcome, Completed)
    assert outcome.result == 8


async def test_a_question_with_a_link_that_is_never_asked_closes_with_the_step(hub):
    @tool(id="t")
    async def never(context: ToolContext) -> str:
        return (await context.link(SIZE)).rpartition("/")[2]

    steps = [{"id": "t", "tool": "t"}, {"id": "q", "tool": "await_input", "args": {"prompt": "$t"}}]
    waiting = await start(hub, never, steps=steps)
    assert list(waiting.keys) == ["q"]
    refused = await hub.answer(waiting.waits[0].awaiting.prompt, 1)
    assert isinstance(refused.failure(), WaitSuperseded)


async def test_a_question_with_a_link_that_is_not_asked_after_another_pause_closes_with_the_step(hub):
    @tool(id="t")
    async def one_of_two(context: ToolContext) -> list[Any]:
        await context.link(SIZE)
        return [await context.ask(COLOUR)]

    waiting = await start(hub, one_of_two, steps=[{"id": "t", "tool": "t"}, Q])
    asked = await answer(hub, waiting, "red", one_of_two, step="t.colour")
    assert list(asked.keys) == ["q"]
    refused = await hub.answer(waiting.keys["t.size"], 1)
    assert isinstance(refused.failure(), WaitSuperseded)


async def test_two_questions_with_links_are_open_at_once_and_answered_in_any_order(hub):
    @tool(id="t")
    async def both(context: ToolContext) -> list[Any]:
        calls.append([await context.link(SIZE), await context.link(COLOUR)])
        return [await context.ask(SIZE), await context.ask(COLOUR)]

    waiting = await start(hub, both)
    assert sorted(waiting.keys) == ["t.colour", "t.size"]
    between = await answer(hub, waiting, "red", both, step="t.colour")
    assert list(between.keys) == ["t.size"]
    assert (await answer(hub, between, 3, both, step="t.size")).result == [3, "red"]
    assert calls[0] == calls[-1]


async def test_a_link_needs_a_public_url():
    async with open_hub("memory://", keyring=None) as hub:
        failed = await runner(hub, invites).start(document({"tool": "invites"}))
    assert "public_url" in failed.failure().message
    assert isinstance(failed.failure().__cause__, ConfigurationError)


# ------------------------------------------------------------------------------------------------- async generators


@tool()
async def dialogue(start: int, context: ToolContext) -> AsyncGenerator[AwaitInput[Any] | int, Any]:
    calls.append("begun")
    size = yield SIZE
    more = yield SIZE
    yield start + size + more


@tool()
async def gives_up() -> AsyncIterator[AwaitInput[Any] | str]:
    try:
        yield AwaitInput(id="q", prompt="q?", timeout=timedelta(minutes=5))
    except TimeoutError:
        yield "in vain"


@tool()
async def says_nothing() -> AsyncIterator[AwaitInput[Any]]:
    yield SIZE


async def test_an_async_generator_yields_its_questions_and_its_result(hub):
    assert dialogue.output_schema == {"type": "integer"}
    assert says_nothing.output_schema == {}
    step = {"id": "t", "tool": "dialogue", "args": {"start": 1}}
    outcome = await start(hub, dialogue, steps=[step])
    for value in (10, 100):
        outcome = await answer(hub, outcome, value, dialogue)
    assert outcome.result == 111
    assert calls == ["begun"] * 3
    assert (await answer(hub, await start(hub, says_nothing), 1, says_nothing)).result is None


async def test_an_async_generator_is_told_that_no_answer_came():
    async with open_test_hub() as hub:
        waiting = await start(hub, gives_up)
        travel(hub, timedelta(minutes=6))
        done = or_raise(await runner(hub, gives_up).resume((await hub.inspect(waiting.key)).unwrap().id))
    assert done.result == "in vain"
