"""Iterations that have finished or only wait: what is dormant in a run's state, and what an answer wakes."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio
from attrs import define

from flowpersist import AwaitInput, or_raise
from flowpersist.dynamicflow import (
    Completed,
    FlowRunner,
    Migration,
    Suspended,
    ToolContext,
    context,
    fan_out,
    grouping,
    tool,
)
from flowpersist.dynamicflow import compile as compile_flow
from flowpersist.dynamicflow.apart import whole
from flowpersist.dynamicflow.dormant import Dormant
from flowpersist.errors import FlowError
from flowpersist.hub import PersistenceHub
from flowpersist.lifecycle import paging
from flowpersist.testing import open_test_hub, travel
from flowpersist.tools import approve

ASK = {"id": "ask", "tool": "await_input", "args": {"id": "ok", "prompt": "$item?", "schema": {"type": "boolean"}}}
NUMBER = {**ASK, "args": {"id": "ok", "prompt": "$item?", "schema": {"type": "integer"}}}
SHARED = {"of": "all"}
gate = asyncio.Event()


def each(*body, **more):
    return {"flow": [{"id": "each", "map": "$input", "concurrency": 20, "with": list(body), **more}]}


@tool(id="told", description="Returns what it was given.")
async def told(value: Any) -> dict[str, Any]:
    return {"told": value}


@tool(id="shared", description="Returns one dict to all.")
async def shared(value: Any) -> dict[str, str]:
    return SHARED


@tool(id="large", description="Returns a long text for the item 2.")
async def large(value: int) -> str:
    return "x" * 400_000 if value == 2 else "short"


@tool(id="gated", description="Waits for the test.")
async def gated() -> str:
    await gate.wait()
    return "passed"


@tool(id="asking", description="Asks by itself.")
async def asking(value: int, ctx: ToolContext) -> str:
    name = await ctx.memo("name", lambda: f"item {value}")
    return f"{name}: {await ctx.ask(AwaitInput(id='more', prompt='More?', schema=str))}"


TOOLS = [told, shared, large, gated, asking]


@pytest_asyncio.fixture(loop_scope="module")
async def hub():
    async with open_test_hub() as hub:
        yield hub


@pytest.fixture(autouse=True)
def few(monkeypatch):
    """Groups of two iterations, of any step."""
    monkeypatch.setattr(grouping, "MANY", 2)
    monkeypatch.setattr(grouping, "PER_GROUP", 2)


@pytest.fixture
def woken(monkeypatch):
    """The groups that were brought back: the path of the step, and their numbers."""
    found = []
    wake = context.wake

    def noted(leg, path, group, *more):
        found.append((path, group))
        return wake(leg, path, group, *more)

    for module in (context, fan_out, grouping):
        monkeypatch.setattr(module, "wake", noted)
    return found


async def dormant(hub: PersistenceHub, run: Suspended) -> dict[str, list[int]]:
    """The groups in the stored state, by the paths of the steps."""
    fans = Dormant.of(or_raise(await hub.peek(run.suspension_id)).state).fans
    return {path: sorted(fan.groups) for path, fan in fans.items()}


async def test_an_answer_wakes_the_group_of_its_iteration_alone(hub, woken):
    runner = FlowRunner(hub)
    run = or_raise(await runner.start(each(ASK), input=[10, 11, 12, 13, 14]))
    assert await dormant(hub, run) == {"each": [0, 1, 2]}
    outcome = or_raise(await runner.resume(run.keys["each[3].ask"], answer=True))
    assert woken == [("each", 1)]
    assert sorted(outcome.keys) == ["each[0].ask", "each[1].ask", "each[2].ask", "each[4].ask"]
    assert await dormant(hub, outcome) == {"each": [0, 1, 2]}


async def test_a_woken_iteration_has_its_item_and_finished_ones_their_results(hub):
    runner = FlowRunner(hub, TOOLS)
    after = {"id": "after", "tool": "told", "args": {"value": ["$item", "$index", "$ask.value", "$ask.by"]}}
    run = or_raise(await runner.start(each(ASK, after), input=["a", {"b": 1}, None]))
    for at, name in ((2, "cy"), (0, "ann"), (1, "bob")):
        outcome = or_raise(await runner.resume(run.keys[f"each[{at}].ask"], answer=True, by=name))
    assert isinstance(outcome, Completed)
    assert [one["told"] for one in outcome.result] == [
        ["a", 0, True, "ann"],
        [{"b": 1}, 1, True, "bob"],
        [None, 2, True, "cy"],
    ]
    assert outcome.outputs["ask"] == [True, True, True]


async def test_an_iteration_asks_again_under_another_name(hub):
    runner = FlowRunner(hub)
    second = {**ASK, "id": "second"}
    run = or_raise(await runner.start(each(ASK, second), input=[1, 2, 3]))
    outcome = or_raise(await runner.resume(run.keys["each[1].ask"], answer=True))
    assert sorted(outcome.keys) == ["each[0].ask", "each[1].second", "each[2].ask"]
    assert await dormant(hub, outcome) == {"each": [0, 1]}
    assert or_raise(await hub.keys(outcome.suspension_id)).keys() == outcome.keys.keys()


async def test_steps_within_steps_are_dormant_with_the_outermost(hub, woken):
    runner = FlowRunner(hub, TOOLS)
    inner = {"id": "inner", "map": "$item", "concurrency": 9, "with": [{**ASK, "args": {"id": "ok", "prompt": "?"}}]}
    run = or_raise(await runner.start(each(inner), input=[[1, 2, 3], [4, 5], [6, 7, 8, 9]]))
    assert await dormant(hub, run) == {"each": [0, 1]}
    names = sorted(run.keys)
    for at, name in enumerate(names):
        outcome = or_raise(await runner.resume(run.keys[name], answer=at))
        if at < len(names) - 1:
            assert sorted(outcome.keys) == names[at + 1 :]
    assert outcome.result == [[0, 1, 2], [3, 4], [5, 6, 7, 8]]
    assert {path for path, _ in woken} == {"each"}


async def test_branches_and_what_runs_beside_them_are_dormant_too(hub):
    runner = FlowRunner(hub, TOOLS)
    branches = [[{**ASK, "id": f"ask{at}", "args": {"id": "ok", "prompt": "?"}}] for at in range(5)]
    run = or_raise(await runner.start({"flow": [{"id": "all", "parallel": branches}]}))
    assert await dormant(hub, run) == {"all": [0, 1, 2]}
    for at in (4, 1, 0, 3, 2):
        outcome = or_raise(await runner.resume(run.keys[f"all[{at}].ask{at}"], answer=at))
    assert outcome.result == [0, 1, 2, 3, 4]


async def test_an_answer_that_comes_while_others_run_wakes_its_group(hub):
    gate.clear()
    document = {"flow": [{"id": "both", "parallel": [[each(ASK)["flow"][0]], [ASK, {"id": "slow", "tool": "gated"}]]}]}
    document["flow"][0]["parallel"][1][0] = {**ASK, "id": "first", "args": {"id": "ok", "prompt": "Go?"}}
    runner = FlowRunner(hub, TOOLS)
    run = or_raise(await runner.start(document, input=[1, 2, 3, 4]))
    running = asyncio.create_task(runner.resume(run.keys["both[1].first"], answer=True))
    while or_raise(await hub.inspect(run.suspension_id)).status != "running":
        await asyncio.sleep(0.01)
    for at in (3, 0):
        or_raise(await hub.answer(run.keys[f"both[0].each[{at}].ask"], True))
    await asyncio.sleep(0.3)
    gate.set()
    outcome = or_raise(await running)
    assert sorted(outcome.keys) == ["both[0].each[1].ask", "both[0].each[2].ask"]
    for at in (1, 2):
        outcome = or_raise(await runner.resume(run.keys[f"both[0].each[{at}].ask"], answer=False))
    assert outcome.result == [[True, False, False, True], "passed"]


async def test_a_result_that_is_shared_stays_one_object(hub):
    runner = FlowRunner(hub, TOOLS)
    document = each({"id": "share", "tool": "shared"}, ASK, {"id": "back", "expression": "$share"})
    run = or_raise(await runner.start(document, input=[1, 2, 3, 4]))
    assert await dormant(hub, run) == {}
    for at in range(4):
        outcome = or_raise(await runner.resume(run.keys[f"each[{at}].ask"], answer=True))
    assert all(one is outcome.result[0] for one in outcome.result)


async def test_a_group_that_is_too_large_stays_beside_the_rest(hub):
    runner = FlowRunner(hub, TOOLS)
    run = or_raise(await runner.start(each({"id": "much", "tool": "large"}, ASK), input=[0, 1, 2, 3, 4, 5]))
    assert await dormant(hub, run) == {"each": [0, 2]}
    for at in range(6):
        outcome = or_raise(await runner.resume(run.keys[f"each[{at}].ask"], answer=True))
    assert outcome.result == [True] * 6


@define
class Own:
    value: int


async def test_objects_of_classes_stay_beside_the_rest():
    async with open_test_hub(types=[Own]) as hub:
        runner = FlowRunner(hub, TOOLS)
        run = or_raise(
            await runner.start(each(ASK, {"id": "as", "expression": "$item"}), input=[Own(1), Own(2), Own(3)])
        )
        assert await dormant(hub, run) == {}
        for at in range(3):
            outcome = or_raise(await runner.resume(run.keys[f"each[{at}].ask"], answer=True))
        assert outcome.result == [Own(1), Own(2), Own(3)]


async def test_a_step_that_is_tried_again_gives_up_dormant_waits_and_asks_anew(hub):
    runner = FlowRunner(hub, TOOLS, backoff=lambda _: 0.0)
    body = [NUMBER, {"id": "by", "expression": "1 / $ask"}]
    run = or_raise(await runner.start(each(*body, retry=1), input=[1, 2, 3, 4]))
    before = dict(run.keys)
    outcome = or_raise(await runner.resume(before["each[2].ask"], answer=0))
    assert sorted(outcome.keys) == sorted(before)
    assert not set(map(str, before.values())) & set(map(str, outcome.keys.values()))
    assert await dormant(hub, outcome) == {"each": [0, 1]}
    for at in range(4):
        last = or_raise(await runner.resume(outcome.keys[f"each[{at}].ask"], answer=2))
    assert last.result == [0.5] * 4


async def test_nothing_is_dormant_while_a_delay_is_open(hub):
    both = {"id": "both", "parallel": [[each(ASK)["flow"][0]], [{"id": "later", "delay": {"seconds": 3600}}]]}
    document = {"flow": [{"id": "one", "expression": "1"}, both]}
    runner = FlowRunner(hub)
    run = or_raise(await runner.start(document, input=[1, 2, 3]))
    assert run.due is not None
    assert await dormant(hub, run) == {}
    travel(hub, timedelta(hours=2))
    outcome = or_raise(await runner.resume(run.suspension_id))
    assert (outcome.due, len(outcome.waits)) == (None, 3)
    assert await dormant(hub, outcome) == {"both": [0]}


async def test_a_wait_that_expires_wakes_its_group(hub):
    document = each({**ASK, "timeout": 3_600_000}, continueOnError=True)
    runner = FlowRunner(hub)
    run = or_raise(await runner.start(document, input=[1, 2, 3, 4]))
    or_raise(await runner.resume(run.keys["each[1].ask"], answer=True))
    travel(hub, timedelta(hours=2))
    outcome = or_raise(await runner.resume(run.suspension_id))
    assert isinstance(outcome, Completed)
    assert [one is True for one in outcome.result] == [False, True, False, False]


async def test_waits_that_did_not_fit_open_one_after_another(hub, monkeypatch):
    monkeypatch.setattr(context, "MAX_OPEN", 3)
    runner = FlowRunner(hub)
    run = or_raise(await runner.start(each(ASK), input=list(range(8))))
    keys = dict(run.keys)
    answered = 0
    while keys:
        name, key = keys.popitem()
        outcome = or_raise(await runner.resume(key, answer=True))
        answered += 1
        if isinstance(outcome, Suspended):
            assert len(outcome.waits) <= 3
            keys |= outcome.keys
            keys = {one: outcome.keys[one] for one in keys if one in outcome.keys and one != name}
    assert (answered, outcome.result) == (8, [True] * 8)


async def test_a_tool_that_asks_by_itself_and_keeps_something(hub):
    runner = FlowRunner(hub, TOOLS)
    run = or_raise(await runner.start(each({"id": "own", "tool": "asking"}), input=[1, 2, 3, 4]))
    assert await dormant(hub, run) == {"each": [0, 1]}
    for at in (3, 1, 0, 2):
        outcome = or_raise(await runner.resume(run.keys[f"each[{at}].own.more"], answer=f"a{at}"))
    assert outcome.result == ["item 1: a0", "item 2: a1", "item 3: a2", "item 4: a3"]


async def test_approvals_of_calls_with_the_items_are_dormant(hub):
    """A call that waits for its approval is a copy of what is approved, not a part of the input."""
    runner = FlowRunner(hub, [approve(told, hub=hub).tool])
    run = or_raise(
        await runner.start(each({"id": "call", "tool": "told", "args": {"value": "$item"}}), input=[[1], [2]])
    )
    assert await dormant(hub, run) == {"each": [0]}
    for at in range(2):
        outcome = or_raise(await runner.resume(run.keys[f"each[{at}].call"], answer={"decision": "approve"}))
    assert outcome.result == [{"told": [1]}, {"told": [2]}]


async def test_inspect_and_a_migration_see_all_of_it(hub):
    runner = FlowRunner(hub)
    run = or_raise(await runner.start(each(ASK), input=[1, 2, 3, 4, 5]))
    or_raise(await runner.resume(run.keys["each[4].ask"], answer=True))
    seen = or_raise(await runner.inspect(run.run_id))
    assert [step.path for step in seen.steps.values() if step.status == "waiting"][-4:] == [
        f"each[{at}].ask" for at in range(4)
    ]
    state = or_raise(await hub.peek(run.suspension_id)).state
    plain = or_raise(await whole(state))
    assert list(plain["frame"]["sub"]["each"]["sub"]) == [f"[{at}]" for at in range(5)]
    assert not {"dormant", "open"} & plain.keys()
    assert "dormant" in state
    old, new = state["flow"]["hash"], {**each({**ASK, "args": {**ASK["args"], "prompt": "Really $item?"}})}
    migration = Migration(old, or_raise(compile_flow(new)).hash, lambda one: one)
    target = FlowRunner(hub, migrations=[migration])
    outcome = or_raise(await target.resume(run.keys["each[0].ask"], answer=True, document=new))
    assert [wait.awaiting.prompt for wait in outcome.waits] == ["Really 2?", "Really 3?", "Really 4?"]


async def test_a_damaged_group_is_a_typed_error(hub):
    runner = FlowRunner(hub)
    run = or_raise(await runner.start(each(ASK), input=[1, 2, 3, 4]))
    state = or_raise(await hub.peek(run.suspension_id)).state
    fan = state["dormant"]["each"]
    for damage in ({"data": fan["data"][:-1]}, {"groups": fan["groups"][:-1]}, {"groups": []}, {"data": b""}):
        found = await whole({**state, "dormant": {"each": {**fan, **damage}}})
        assert isinstance(found.failure(), FlowError)
        assert "a migration has damaged it" in str(found.failure())


async def test_a_parked_run_is_retried_with_what_was_dormant(hub):
    runner = FlowRunner(hub, TOOLS, failed="park")
    body = [NUMBER, {"id": "by", "expression": "1 / $ask"}]
    run = or_raise(await runner.start(each(*body), input=[1, 2, 3, 4]))
    or_raise(await runner.resume(run.keys["each[3].ask"], answer=4))
    failed = await runner.resume(run.keys["each[0].ask"], answer=0)
    assert isinstance(failed.failure(), FlowError)
    outcome = or_raise(await runner.retry(run.run_id, from_step="each[0].ask"))
    assert sorted(outcome.keys) == ["each[0].ask", "each[1].ask", "each[2].ask"]
    keys = outcome.keys
    for at in range(3):
        outcome = or_raise(await runner.resume(keys[f"each[{at}].ask"], answer=1))
    assert outcome.result == [1, 1, 1, 0.25]


async def test_an_answered_wait_of_a_dormant_iteration_counts_no_more(hub, monkeypatch):
    """Also while other iterations run, and its own has not had its turn."""
    for module, name, most in ((grouping, "MANY", 4), (paging, "PAGED_FROM", 2), (paging, "PER_PAGE", 2)):
        monkeypatch.setattr(module, name, most)
    gate.clear()
    first, second = [{**ASK, "args": {"id": "ok", "prompt": "?"}, "id": name} for name in ("ask", "second")]
    beside = {"id": "beside", "parallel": [[second], [{"id": "slow", "tool": "gated"}]]}
    inner = {"id": "inner", "map": "$item", "concurrency": 9, "with": [first, beside]}
    runner = FlowRunner(hub, TOOLS, events=True)
    run = or_raise(await runner.start(each(inner, concurrency=2), input=[[1, 2, 3, 4, 5]] * 3))
    assert await dormant(hub, run) == {f"each[{at}].inner": [0, 1, 2] for at in range(3)}
    keys = or_raise(await hub.keys(run.suspension_id))
    for at in (1, 2):
        or_raise(await hub.answer(keys[f"each[{at}].inner[0].ask"], True))
    seen = []
    async for event in runner.stream_resume(keys["each[0].inner[0].ask"], answer=True):
        if event.type == "flow-suspended":
            counted = len(event.data["waits"]) + event.data["further"]
            seen.append((event.data["running"], counted, len(or_raise(await hub.keys(run.suspension_id)))))
            gate.set()
    assert seen == [(True, 14, 14), (False, 15, 15)]
    stored = [event.data["open"] async for event in runner.events(run.run_id) if event.type == "flow-suspended"]
    assert stored == [15, 14, 15]


@tool(id="linking", description="Makes its own link, then asks.")
async def linking(value: int, ctx: ToolContext) -> str:
    question = AwaitInput(id="more", prompt="More?", schema=str)
    link = await ctx.link(question)
    return f"{value}: {await ctx.ask(question)} {link.startswith('https://example.org/')}"


async def test_a_tool_that_has_made_a_link_to_its_question():
    async with open_test_hub(public_url="https://example.org/answer") as hub:
        runner = FlowRunner(hub, [linking])
        step = {"id": "own", "tool": "linking", "args": {"value": "$item"}}
        run = or_raise(await runner.start(each(step), input=[1, 2, 3, 4]))
        assert await dormant(hub, run) == {"each": [0, 1]}
        for at in (3, 1, 0, 2):
            outcome = or_raise(await runner.resume(run.keys[f"each[{at}].own.more"], answer="a"))
        assert outcome.result == [f"{at}: a True" for at in (1, 2, 3, 4)]


async def test_several_people_decide_of_a_dormant_iteration(hub):
    people = {"assignees": ["ann", "bob", "cy"], "quorum": 2}
    asked = {**ASK, "args": {**ASK["args"], **people}}
    runner = FlowRunner(hub)
    run = or_raise(await runner.start(each(asked), input=[1, 2, 3, 4]))
    assert await dormant(hub, run) == {"each": [0, 1]}
    for at in (2, 0, 3, 1):
        key = run.keys[f"each[{at}].ask"]
        assert or_raise(await hub.answer(key, True, by="ann")).outcome == "pending"
        outcome = or_raise(await runner.resume(key, answer=True, by="cy"))
    assert outcome.result == [True] * 4
