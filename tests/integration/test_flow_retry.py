"""Flows that have failed and are parked: what is kept of them, and where a retry goes on."""

from __future__ import annotations

import asyncio
import pickle
from datetime import timedelta

import pytest
from returns.result import Failure

from flowpersist import AwaitInput, Criteria, RaisingHub, Status, SuspensionId, or_raise
from flowpersist.dynamicflow import Completed, FlowRunner, Migration, Suspended, ToolContext, tool
from flowpersist.dynamicflow import compile as compile_flow
from flowpersist.errors import (
    AlreadyResumed,
    FlowError,
    FlowParked,
    LeaseLost,
    StillWaiting,
    SuspensionBusy,
    SuspensionCancelled,
    SuspensionClosed,
    SuspensionNotFound,
)
from flowpersist.hub.worker import Backoff
from flowpersist.testing.hubs import open_test_hub, travel
from flowpersist.tools import approve

calls: list[object] = []
broken: set[object] = set()
gates: dict[object, asyncio.Event] = {}


@pytest.fixture(autouse=True)
def _fresh():
    calls.clear()
    broken.clear()
    gates.clear()


@tool()
async def do(value: object) -> object:
    calls.append(value)
    if str(value) in gates:
        await gates[str(value)].wait()
    if str(value) in broken:
        raise RuntimeError(f"{value} is broken")
    return value


@tool()
async def unstorable() -> object:
    return object()


@tool()
async def dangerous(value: object) -> object:
    calls.append(("dangerous", value))
    if "dangerous" in broken:
        raise RuntimeError("not today")
    return value


@tool()
async def keyed(context: ToolContext) -> None:
    calls.append(context.key.partition("/")[2])
    if "keyed" in broken:
        raise RuntimeError("not today")


TOOLS = [keyed, do, unstorable]


@pytest.fixture
async def hub(url):
    async with open_test_hub(url) as opened:
        yield opened


@pytest.fixture
async def memory():
    async with open_test_hub() as opened:
        yield opened


def runner_of(hub, **options):
    return FlowRunner(hub, TOOLS, failed="park", backoff=lambda _: 0, **options)


def step(value, **more):
    return {"id": str(value).strip("$"), "tool": "do", "args": {"value": value}, **more}


def ask(name):
    return {"id": name, "tool": "await_input", "args": {"prompt": name}}


async def failing(runner, *steps, input=None, **members):
    """Start a document that fails; gives the error, which names the parked run."""
    told = await runner.start({"metadata": {"name": "doc"}, "flow": list(steps), **members}, input=input)
    error = told.failure()
    assert isinstance(error, FlowParked), error
    return error


# ------------------------------------------------------------------------------------------------- on every backend


async def test_a_failed_run_is_kept_and_goes_on_from_the_failed_step(hub):
    runner = runner_of(hub)
    broken.add("b")
    error = await failing(runner, step("a"), step("b"), step("c"))
    assert (error.step, error.tool, calls) == ("b", "do", ["a", "b"])
    assert "b is broken" in str(error)
    (seen,) = or_raise(await hub.query(Criteria(status=Status.PARKED))).items
    assert (str(seen.id), seen.error) == (error.run, "FlowError step 'b' tool 'do'")
    again = (await runner.retry(error.run)).failure()
    assert isinstance(again, FlowParked)
    assert calls == ["a", "b", "b"]
    broken.clear()
    done = or_raise(await runner.retry(error.run))
    assert (done.result, dict(done.outputs)) == ("c", {"a": "a", "b": "b", "c": "c"})
    assert calls == ["a", "b", "b", "b", "c"]
    assert isinstance((await runner.retry(error.run)).failure(), AlreadyResumed)


async def test_one_of_many_retries_wins_and_the_others_are_told(hub):
    runner = runner_of(hub, lease=timedelta(hours=1))
    broken.add("b")
    error = await failing(runner, step("a"), step("b"))
    gates["b"] = asyncio.Event()
    calls_before = len(calls)
    retries = [asyncio.create_task(runner.retry(error.run, edit={"a": n})) for n in range(6)]
    done, pending = set(), set(retries)
    while len(pending) > 1:
        newly, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        done |= newly
    assert {type((await one).failure()) for one in done} <= {SuspensionBusy}
    while len(calls) == calls_before:
        await asyncio.sleep(0.001)
    assert calls == ["a", "b", "b"]
    broken.clear()
    gates["b"].set()
    (winner,) = pending
    assert or_raise(await winner).outputs["a"] == retries.index(winner)


async def test_a_retry_that_dies_goes_on_with_its_edits_elsewhere(hub):
    runner = runner_of(hub)
    broken.add("b")
    error = await failing(runner, step("a"), step("b"), step("$a", id="c"))
    gates["b"] = asyncio.Event()
    dying = asyncio.create_task(runner.retry(error.run, edit={"a": "edited"}))
    while len(calls) < 3:
        await asyncio.sleep(0.001)
    # The lease ends without a word, as after kill -9.
    travel(hub, timedelta(minutes=5))
    broken.clear()
    gates["b"].set()
    dead = await dying
    assert isinstance(dead.failure(), LeaseLost)
    outcome = or_raise(await runner.resume(found_id(await the_run(hub))))
    assert outcome.result == "edited"


async def the_run(hub):
    (found,) = or_raise(await hub.query()).items
    return found


def found_id(suspension) -> SuspensionId:
    return suspension.id


# ----------------------------------------------------------------------------------------------------- where it goes on


async def test_a_map_keeps_what_has_finished(memory):
    runner = runner_of(memory)
    broken.add("2")
    each = {"id": "each", "map": [0, 1, 2, 3], "with": [step("$item", id="one")], "concurrency": 1}
    error = await failing(runner, each)
    assert calls == [0, 1, 2]
    broken.clear()
    done = or_raise(await runner.retry(error.run))
    assert done.result == [0, 1, 2, 3]
    assert calls == [0, 1, 2, 2, 3]


NESTS = {
    "sequence": lambda inner: {"id": "nest", "sequence": inner},
    "conditional": lambda inner: {"id": "nest", "condition": "true", "if_true": inner},
    "loop": lambda inner: {"id": "nest", "loop": "for", "over": [1], "body": inner},
    "reduce": lambda inner: {"id": "nest", "reduce": [1], "initial": 0, "with": inner},
    "parallel": lambda inner: {"id": "nest", "parallel": [inner]},
    "map": lambda inner: {"id": "nest", "map": [1], "with": inner},
    "switch": lambda inner: {"id": "nest", "switch": "'x'", "cases": {"x": inner}},
    "onError": lambda inner: {**step("gone", id="nest"), "onError": inner},
}


@pytest.mark.parametrize("nest", NESTS)
@pytest.mark.parametrize("outer", NESTS)
async def test_within_any_steps_only_what_failed_is_done_again(memory, nest, outer):
    runner = runner_of(memory)
    broken.update({"b", "gone"})
    inner = NESTS[nest]([step("a"), step("b"), step("c")])
    around = {**NESTS[outer]([step("before"), inner]), "id": "outer"}
    error = await failing(runner, around, step("z"))
    first = list(calls)
    broken.discard("b")
    assert or_raise(await runner.retry(error.run)).result == "z"
    assert calls[len(first) :] == ["b", "c", "z"]


@pytest.mark.parametrize("nest", NESTS)
async def test_from_an_earlier_step_within_any_step(memory, nest):
    runner = runner_of(memory)
    broken.update({"c", "gone"})
    error = await failing(runner, NESTS[nest]([step("a"), step("b"), step("c")]), step("z"))
    frame = or_raise(await memory.peek((await the_run(memory)).id)).state["frame"]
    path = "nest[0].b" if "[0]" in frame["sub"]["nest"]["sub"] else "nest.b"
    first = list(calls)
    broken.discard("c")
    assert or_raise(await runner.retry(error.run, from_step=path)).result == "z"
    assert calls[len(first) :] == ["b", "c", "z"]


async def test_from_the_first_step_all_is_done_again(memory):
    runner = runner_of(memory)
    broken.add("c")
    error = await failing(runner, step("a"), step("b"), step("c"))
    broken.clear()
    or_raise(await runner.retry(error.run, from_step="a"))
    assert calls == ["a", "b", "c", "a", "b", "c"]


@pytest.mark.parametrize("path", ["c", "nothing", "", "a.b", "each[0].one", "each[7]", "b[0]"])
async def test_a_path_that_the_run_does_not_have_is_refused_and_leaves_it_parked(memory, path):
    runner = runner_of(memory)
    broken.add("b")
    each = {"id": "each", "map": [1], "with": [step("$item", id="one")]}
    error = await failing(runner, each, step("a"), step("b"), step("c"))
    told = (await runner.retry(error.run, from_step=path)).failure()
    assert isinstance(told, FlowError)
    assert "from_step" in str(told)
    assert (await the_run(memory)).status is Status.PARKED


async def test_what_is_done_again_is_done_under_new_keys(memory):
    """An effect outside that knows a key would not be done again under it."""
    runner = runner_of(memory)
    broken.add("keyed")
    nest = {"id": "nest", "map": [0, 1], "with": [{"id": "k", "tool": "keyed", "retry": 1}]}
    error = await failing(runner, {"id": "first", "tool": "do", "args": {"value": 1}}, nest)
    for way in (
        {},
        {"from_step": "nest[0]"},
        {"from_step": "nest[0].k"},
        {"from_step": "nest"},
        {"from_step": "first"},
    ):
        again = (await runner.retry(error.run, **way)).failure()
        assert isinstance(again, FlowParked), way
    broken.clear()
    or_raise(await runner.retry(error.run))
    keys = [call for call in calls if call != 1]
    assert len(keys) == len(set(keys)) == 14
    assert keys[:3] == ["nest[0].k/1", "nest[0].k#2/2", "nest[0].k#3/3"]


# --------------------------------------------------------------------------------------------------------------- edits


async def test_edits_replace_input_outputs_and_variables_and_may_finish_the_failed_step(memory):
    runner = runner_of(memory)
    broken.add("b")
    last = step(["$input.n", "$a", "$v", "$b"], id="last")
    steps = [step("a"), step("x", output="v"), step("b"), last]
    error = await failing(runner, *steps, input={"n": 1})
    edit = {"input": {"n": 2}, "a": [1], "v": {"k": 2}, "b": "given"}
    done = or_raise(await runner.retry(error.run, edit=edit))
    assert done.result == [2, [1], {"k": 2}, "given"]
    assert calls == ["a", "x", "b", done.result]


async def test_an_edit_of_a_name_that_has_no_value_is_refused(memory):
    runner = runner_of(memory)
    broken.add("b")
    error = await failing(runner, step("a"), step("b"), step("c", output="later"))
    for name in ("nothing", "c", "later", ""):
        told = (await runner.retry(error.run, edit={name: 1})).failure()
        assert isinstance(told, FlowError)
        assert "edit" in str(told)
    refused = (await runner.retry(error.run, edit={"a": object()})).failure()
    assert not isinstance(refused, FlowParked)
    assert (await the_run(memory)).status is Status.PARKED


async def test_an_edit_asks_for_an_approval_again(memory):
    guarded = approve(dangerous, hub=RaisingHub(memory)).tool
    runner = FlowRunner(memory, [*TOOLS, guarded], failed="park", backoff=lambda _: 0)
    call = {"id": "it", "tool": "dangerous", "args": {"value": "$a"}}
    paused = or_raise(await runner.start({"flow": [step("a"), call]}))
    broken.add("dangerous")
    error = (await runner.resume(paused.key, answer={"decision": "approve"})).failure()
    assert isinstance(error, FlowParked)
    again = (await runner.retry(error.run)).failure()
    assert isinstance(again, FlowParked)
    assert calls[1:] == [("dangerous", "a")] * 2
    broken.clear()
    asked = or_raise(await runner.retry(error.run, edit={"a": "other"}))
    assert isinstance(asked, Suspended)
    assert asked.key != paused.key
    assert or_raise(await runner.resume(asked.key, answer={"decision": "approve"})).result == "other"


# --------------------------------------------------------------------------------------------------------------- waits


async def test_questions_of_a_parked_run_are_closed_and_asked_anew(hub):
    runner = runner_of(hub)
    both = {"id": "both", "parallel": [[ask("q")], [ask("first"), step("b")]]}
    paused = or_raise(await runner.start({"flow": [both]}))
    broken.add("b")
    error = (await runner.resume(paused.keys["both[1].first"], answer="go")).failure()
    assert isinstance(error, FlowParked)
    assert isinstance((await runner.resume(paused.keys["both[0].q"], answer=1)).failure(), SuspensionClosed)
    broken.clear()
    asked = or_raise(await runner.retry(error.run))
    assert isinstance(asked, Suspended)
    assert list(asked.keys) == ["both[0].q"]
    assert asked.key != paused.keys["both[0].q"]
    assert isinstance((await hub.answer(paused.keys["both[0].q"], 1)).failure(), SuspensionClosed)
    assert or_raise(await runner.resume(asked.key, answer="yes")).result == ["yes", "b"]


async def test_an_answer_that_came_before_the_failure_counts(memory):
    """Accepted means kept: nobody has to answer again because another branch has failed."""
    runner = runner_of(memory)
    both = {"id": "both", "parallel": [[ask("q"), step("after")], [ask("first"), step("b")]]}
    paused = or_raise(await runner.start({"flow": [both]}))
    broken.add("b")
    gates["b"] = asyncio.Event()
    running = asyncio.create_task(runner.resume(paused.keys["both[1].first"], answer="go"))
    while "b" not in calls:
        await asyncio.sleep(0)
    or_raise(await memory.answer(paused.keys["both[0].q"], "early"))
    gates["b"].set()
    error = (await running).failure()
    assert isinstance(error, FlowParked)
    broken.clear()
    assert or_raise(await runner.retry(error.run)).result == ["after", "b"]
    assert or_raise(await memory.outcome((await the_run(memory)).id))["outputs"]["q"] == "early"


async def test_a_question_within_the_steps_that_are_done_again_is_asked_anew(memory):
    runner = runner_of(memory)
    paused = or_raise(await runner.start({"flow": [ask("q"), step("b")]}))
    broken.add("b")
    error = (await runner.resume(paused.key, answer="old")).failure()
    broken.clear()
    asked = or_raise(await runner.retry(error.run, from_step="q"))
    assert asked.key != paused.key
    assert or_raise(await runner.resume(asked.key, answer="new")).outputs["q"] == "new"


# ---------------------------------------------------------------------------------------------------------- who parks


@pytest.mark.parametrize(
    ("asked", "option", "status"),
    [
        (None, "end", "failed"),
        (None, "park", "parked"),
        ("park", "end", "parked"),
        ("end", "park", "failed"),
    ],
)
async def test_the_document_says_or_else_the_runner(memory, asked, option, status):
    runner = FlowRunner(memory, TOOLS, failed=option)
    broken.add("b")
    member = {} if asked is None else {"failed": asked}
    told = (await runner.start({"flow": [step("b")], **member})).failure()
    assert isinstance(told, FlowParked) is (status == "parked")
    assert (await the_run(memory)).status == status


@pytest.mark.parametrize("value", ["PARK", "", 1, True, ["park"], {"park": 1}])
def test_another_value_of_failed_is_refused(value):
    told = compile_flow({"flow": [step("a")], "failed": value})
    assert isinstance(told, Failure)
    assert [problem.pointer for problem in told.failure().problems] == ["/failed"]


async def test_the_same_start_again_gives_the_error_of_the_parked_run(memory):
    runner = runner_of(memory)
    broken.add("b")
    document = {"flow": [step("b")]}
    first = (await runner.start(document, run_id="mine")).failure()
    again = (await runner.start(document, run_id="mine")).failure()
    assert (type(again), again.run, str(again), again.step) == (FlowParked, "mine", str(first), "b")
    assert pickle.loads(pickle.dumps(again)).run == "mine"
    assert again.to_problem()["run"] == "mine"
    broken.clear()
    assert or_raise(await runner.retry("mine")).result == "b"


async def test_what_a_worker_gives_up_is_parked_with_the_state_that_is_stored(memory, monkeypatch):
    monkeypatch.setattr("flowpersist.dynamicflow.runner.Backoff", lambda: Backoff(timedelta(0), timedelta(0)))
    runner = runner_of(memory)
    paused = or_raise(await runner.start({"flow": [step("a"), ask("q"), step("b")]}))
    or_raise(await memory.answer(paused.key, "go"))
    for _ in range(3):
        or_raise(await memory.claim(paused.key, lease=timedelta(seconds=1)))
        travel(memory, timedelta(minutes=1))
    worker = asyncio.create_task(runner.work(max_attempts=2, poll=timedelta(milliseconds=5)))
    while (await the_run(memory)).status is not Status.PARKED:
        await asyncio.sleep(0.001)
    worker.cancel()
    await asyncio.wait({worker})
    asked = or_raise(await runner.retry(paused.run_id))
    assert isinstance(asked, Suspended)
    assert or_raise(await runner.resume(asked.key, answer="go")).result == "b"
    assert calls == ["a", "b"]


async def test_a_result_that_cant_be_stored_parks_the_run_as_it_was_stored(memory):
    runner = runner_of(memory)
    document = {"flow": [step("a"), {"id": "bad", "tool": "unstorable"}, ask("q")]}
    told = (await runner.start(document)).failure()
    assert isinstance(told, FlowParked)
    assert (await the_run(memory)).status is Status.PARKED


async def test_a_retry_under_another_document_needs_a_migration(memory):
    broken.add("b")
    error = await failing(runner_of(memory), step("a"), step("b"))
    mended = {"metadata": {"name": "doc"}, "flow": [step("a"), step("mended", id="b")]}
    refused = (await runner_of(memory).retry(error.run, document=mended)).failure()
    assert isinstance(refused, FlowError)
    old = (await the_run(memory)).metadata["hash"]
    migration = Migration(str(old), or_raise(compile_flow(mended)).hash, lambda state: state)
    runner = FlowRunner(memory, TOOLS, migrations=[migration])
    assert or_raise(await runner.retry(error.run, document=mended)).result == "mended"
    assert calls == ["a", "b", "mended"]


async def test_what_is_no_parked_run_is_refused(memory):
    runner = runner_of(memory)
    paused = or_raise(await runner.start({"flow": [ask("q")]}))
    assert isinstance((await runner.retry(paused.run_id)).failure(), StillWaiting)
    assert isinstance((await runner.retry("nobody")).failure(), SuspensionNotFound)
    other = or_raise(await memory.suspend(1, awaiting=AwaitInput(id="q", prompt="?")))
    assert isinstance((await runner.retry(str(other.id))).failure(), SuspensionNotFound)
    broken.add("b")
    error = await failing(runner, step("b"))
    lacking = FlowRunner(memory, [])
    assert "lacks the tool" in str((await lacking.retry(error.run)).failure())
    (seen,) = or_raise(await memory.query(Criteria(status="parked"))).items
    or_raise(await memory.cancel(seen.id))
    assert isinstance((await runner.retry(error.run)).failure(), SuspensionCancelled)


async def test_a_completed_run_is_not_retried(memory):
    runner = runner_of(memory)
    assert isinstance(or_raise(await runner.start({"flow": [step("a")]}, run_id="done")), Completed)
    assert isinstance((await runner.retry("done")).failure(), AlreadyResumed)
