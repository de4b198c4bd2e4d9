"""What time does to a run: delays, its deadline, its document's timeout, and how many of its tools run at once."""

from __future__ import annotations

import asyncio
import contextlib
import json
from datetime import UTC, datetime, timedelta

import pytest

from flow_steps import ask, said
from flowpersist.dynamicflow import Completed, FlowRunner, Suspended, ToolContext, tool
from flowpersist.dynamicflow import compile as compile_flow
from flowpersist.errors import (
    ConfigurationError,
    FlowDeadlinePassed,
    FlowError,
    PermissionDenied,
    StillWaiting,
    SuspensionClosed,
)
from flowpersist.hub.opening import open_hub
from flowpersist.hub.outcome import or_raise
from flowpersist.inputs.await_input import AwaitInput
from flowpersist.lifecycle import Criteria, Status
from flowpersist.testing import travel

HOUR = timedelta(hours=1)
calls: list[object] = []
running = {"now": 0, "most": 0}
gates: list[asyncio.Event] = []


@tool()
async def say(value: object = None) -> object:
    calls.append(value)
    return value


@tool()
async def slow(value: object = None) -> object:
    """Be seen by all that run at once."""
    running["now"] += 1
    running["most"] = max(running["most"], running["now"])
    for _ in range(5):
        await asyncio.sleep(0)
    running["now"] -= 1
    return value


@tool()
async def boom() -> None:
    raise RuntimeError("it broke")


@tool()
async def held(context: ToolContext) -> object:
    calls.append("begun")
    try:
        await gates[0].wait()
    except asyncio.CancelledError:
        calls.append("cancelled")
        raise
    return "ended"


TOOLS = [say, slow, boom, held]


@pytest.fixture(autouse=True)
def _fresh():
    calls.clear()
    running.update(now=0, most=0)
    gates[:] = [asyncio.Event()]


@pytest.fixture
async def hub():
    async with open_hub("memory://", keyring=None) as opened:
        yield opened


@pytest.fixture
def runner(hub):
    return FlowRunner(hub, TOOLS)


def delay(name="d", **given):
    return {"id": name, "delay": given}


async def worked(runner, hub, status):
    """Work until the only run has the status."""
    working = asyncio.create_task(runner.work(poll=timedelta(milliseconds=5)))
    try:
        async with asyncio.timeout(20):
            while or_raise(await hub.query(Criteria())).items[0].status is not status:
                await asyncio.sleep(0.005)
    finally:
        working.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await working


# -------------------------------------------------------------------------------------------------------------- delays


async def test_a_delay_frees_the_process_and_a_worker_goes_on_when_it_is_over(runner, hub):
    outcome = or_raise(await runner.start({"flow": [said("before"), delay(seconds=3600), said("$previousOutput")]}))
    assert isinstance(outcome, Suspended)
    assert (outcome.waits, outcome.keys) == ((), {})
    wait = or_raise(await hub.inspect(outcome.suspension_id)).open_waits[0]
    assert (wait.name, wait.deadline) == ("d", outcome.due)
    assert isinstance((await runner.resume(outcome.suspension_id)).failure(), StillWaiting)
    travel(hub, HOUR - timedelta(minutes=1))
    assert isinstance((await runner.resume(outcome.suspension_id)).failure(), StillWaiting)
    travel(hub, timedelta(minutes=1, seconds=1))
    await worked(runner, hub, Status.COMPLETED)
    assert calls == ["before", "before"]


async def test_nobody_answers_a_delay_and_an_extension_does_not_move_it(runner, hub):
    branches = [[delay(seconds=60)], [ask(timeout=30_000)]]
    outcome = or_raise(await runner.start({"flow": [{"id": "p", "parallel": branches}]}))
    assert list(outcome.keys) == ["p[1].q"] == list(or_raise(await hub.keys(outcome.suspension_id)))
    or_raise(await hub.extend(outcome.suspension_id, timeout=HOUR))
    waits = {wait.name: wait.deadline for wait in or_raise(await hub.inspect(outcome.key)).open_waits}
    assert waits["p[0].d"] == outcome.due < waits["p[1].q"]
    # By the id alone, the only question that somebody may answer is meant.
    outcome = or_raise(await runner.resume(outcome.suspension_id, answer="yes"))
    for by in (None, "ann"):
        assert isinstance((await hub.answer(outcome.suspension_id, 1, by=by)).failure(), PermissionDenied)
    travel(hub, HOUR)
    assert or_raise(await runner.resume(outcome.suspension_id)).outputs["q"] == "yes"


async def test_the_first_of_an_answer_and_a_delay_is_a_timeout_with_steps_of_its_own(runner, hub):
    document = {
        "flow": [
            {"id": "p", "parallel": [[ask(), said("answered")], [delay(seconds=60), said("late")]], "until": "any"}
        ]
    }
    late = or_raise(await runner.start(document))
    travel(hub, timedelta(minutes=2))
    assert or_raise(await runner.resume(late.suspension_id)).result == [None, "late"]
    quick = or_raise(await runner.start(document))
    assert or_raise(await runner.resume(quick.key, answer=1)).result == ["answered", None]
    assert [wait for wait in or_raise(await hub.inspect(quick.suspension_id)).waits if wait.status == "open"] == []


async def test_seconds_and_times_may_be_references(runner, hub):
    at = (datetime.now(UTC) + HOUR).isoformat()
    document = {"flow": [delay("a", seconds="$input.s"), delay("b", until="$input.at"), said("done")]}
    outcome = or_raise(await runner.start(document, input={"s": 60.5, "at": at}))
    travel(hub, timedelta(seconds=61))
    outcome = or_raise(await runner.resume(outcome.suspension_id))
    assert outcome.due == datetime.fromisoformat(at)
    travel(hub, HOUR)
    assert or_raise(await runner.resume(outcome.suspension_id)).result == "done"


@pytest.mark.parametrize("given", [{"seconds": 0}, {"until": "2020-01-01T00:00:00Z"}], ids=["0 seconds", "a past time"])
async def test_what_is_over_already_does_not_pause(runner, given):
    assert or_raise(await runner.start({"flow": [said("a"), delay(**given)]})).result == "a"


BAD = {
    "seconds": [-1, "x", True, None, 1e11, [], {}, "$$"],
    "until": ["tomorrow", "2027-01-01T00:00:00", 7, None, "", "0001-01-01T00:00:00+14:00"],
}
ROWS = [(name, value) for name, values in BAD.items() for value in values]


@pytest.mark.parametrize(("name", "value"), ROWS)
async def test_a_delay_that_makes_no_sense_is_found_before_it_runs_or_when_it_is_known(runner, name, value):
    error = compile_flow({"flow": [delay(**{name: value})]}).failure()
    assert (error.step, f"Invalid 'delay.{name}': expected" in error.message) == ("d", True)
    failed = await runner.start({"flow": [delay(**{name: "$input.x"})]}, input={"x": value})
    assert (failed.failure().step, f"'delay.{name}' is not usable" in str(failed.failure())) == ("d", True)


@pytest.mark.parametrize("given", [5, "1h", {}, {"minutes": 1}, {"seconds": 1, "until": "2027-01-01T00:00:00Z"}, []])
def test_a_delay_is_an_object_of_one_field(given):
    assert 'expected {"seconds": n} or {"until": time}' in compile_flow({"flow": [{"delay": given}]}).failure().message


async def test_delays_in_iterations_are_over_each_by_itself(runner, hub):
    body = [delay(seconds="$item"), said("$item")]
    document = {"flow": [{"id": "m", "map": [60, 7200], "parallel": True, "with": body}, said("$m")]}
    outcome = or_raise(await runner.start(document))
    travel(hub, timedelta(seconds=61))
    outcome = or_raise(await runner.resume(outcome.suspension_id))
    assert calls == [60]
    travel(hub, 2 * HOUR)
    assert or_raise(await runner.resume(outcome.suspension_id)).result == [60, 7200]
    assert calls == [60, 7200, [60, 7200]]


async def test_a_delay_of_a_container_that_is_tried_again_begins_anew(runner, hub):
    body = [delay(seconds=60), {"tool": "boom"}]
    outcome = or_raise(await runner.start({"flow": [{"id": "s", "sequence": body, "retry": 1}]}))
    travel(hub, timedelta(seconds=61))
    again = or_raise(await runner.resume(outcome.suspension_id))
    assert again.due > outcome.due
    travel(hub, timedelta(seconds=61))
    assert isinstance((await runner.resume(again.suspension_id)).failure(), FlowError)


async def test_events_say_when_a_run_goes_on(runner):
    events = [one async for one in runner.stream({"flow": [delay(seconds=60)]})]
    assert events[-1].data["waits"] == []
    assert datetime.fromisoformat(json.loads(json.dumps(events[-1].data["due"]))) > datetime.now(UTC)


# ----------------------------------------------------------------------------------------------- deadlines and timeouts


ASKS = {"metadata": {"name": "asks"}, "flow": [ask("a"), ask("b")]}
BOUNDED = {**ASKS, "timeout": 3_600_000}


@pytest.mark.parametrize("bound", ["deadline", "timeout"])
async def test_a_run_ends_at_its_deadline_with_its_waits(runner, hub, bound):
    document, terms = (ASKS, {"deadline": datetime.now(UTC) + HOUR}) if bound == "deadline" else (BOUNDED, {})
    outcome = or_raise(await runner.start(document, run_id="r", **terms))
    travel(hub, timedelta(minutes=59))
    outcome = or_raise(await runner.resume(outcome.key, answer=1))
    assert [wait.step for wait in outcome.waits] == ["b"]
    travel(hub, timedelta(minutes=2))
    await worked(runner, hub, Status.FAILED)
    late = await hub.answer(outcome.key, 1)
    assert isinstance(late.failure(), SuspensionClosed)
    # Whoever asks for the same run is told why.
    error = (await runner.start(document, run_id="r", **terms)).failure()
    assert isinstance(error, FlowDeadlinePassed)
    assert "the run has not ended by its deadline of" in error.message
    assert or_raise(await hub.inspect(outcome.suspension_id)).error == "FlowDeadlinePassed"


async def test_whoever_answers_too_late_ends_the_run(runner, hub):
    outcome = or_raise(await runner.start(BOUNDED))
    travel(hub, 2 * HOUR)
    assert isinstance((await runner.resume(outcome.key, answer=1)).failure(), FlowDeadlinePassed)
    assert or_raise(await hub.inspect(outcome.suspension_id)).status is Status.FAILED


async def test_a_run_that_ends_in_time_has_no_wait_left(runner, hub):
    outcome = or_raise(await runner.start(BOUNDED, deadline=datetime.now(UTC) + HOUR))
    assert outcome.due is None
    for key in ("a", "b"):
        outcome = or_raise(await runner.resume(outcome.keys[key], answer=1))
    assert isinstance(outcome, Completed)
    assert or_raise(await hub.query(Criteria(metadata={"kind": "flow"}))).items[0].open_waits == ()


async def test_a_deadline_that_has_passed_begins_nothing(runner):
    error = (await runner.start({"flow": [said(1)]}, deadline=datetime.now(UTC) - HOUR)).failure()
    assert isinstance(error, FlowDeadlinePassed)
    assert calls == []


async def test_a_tool_that_runs_at_the_deadline_is_cancelled(runner, hub):
    error = (await runner.start({"flow": [{"tool": "held"}], "timeout": 500})).failure()
    assert isinstance(error, FlowDeadlinePassed)
    assert calls == ["begun", "cancelled"]
    assert or_raise(await hub.query(Criteria())).items[0].status is Status.FAILED


async def test_neither_retries_nor_handlers_run_after_the_deadline(runner):
    step = {"tool": "held", "retry": 3, "onError": said("handled")}
    error = (await runner.start({"flow": [step], "timeout": 500})).failure()
    assert isinstance(error, FlowDeadlinePassed)
    assert calls == ["begun", "cancelled"]


async def test_the_earlier_of_deadline_and_timeout_counts(runner, hub):
    outcome = or_raise(await runner.start(BOUNDED, deadline=datetime.now(UTC) + 5 * HOUR))
    travel(hub, timedelta(minutes=61))
    assert isinstance((await runner.resume(outcome.suspension_id)).failure(), FlowDeadlinePassed)


async def test_a_deadline_knows_its_zone(runner):
    with pytest.raises(ConfigurationError, match="deadline"):
        await runner.start(ASKS, deadline=datetime(2030, 1, 1))  # noqa: DTZ001


@pytest.mark.parametrize("given", [0, -1, True, "1s", None, 1e14, [1]])
def test_a_timeout_of_a_document_is_a_number_of_milliseconds(given):
    assert "Invalid 'timeout' of the document" in compile_flow({**ASKS, "timeout": given}).failure().message


# ---------------------------------------------------------------------------------------------------------- concurrency


@pytest.mark.parametrize("most", [1, 3])
async def test_no_more_tools_run_at_once_than_the_document_says(runner, most):
    each = {"tool": "slow", "args": {"value": "$item"}}
    maps = [[{"map": list(range(8)), "parallel": True, "with": each}] for _ in range(3)]
    document = {"flow": [{"parallel": maps}], "concurrency": most}
    assert or_raise(await runner.start(document)).result == [list(range(8))] * 3
    assert running["most"] == most


async def test_questions_need_no_turn(hub, runner):
    document = {"flow": [{"id": "p", "parallel": [[{"tool": "held"}], [ask()]]}], "concurrency": 1}
    started = asyncio.create_task(runner.start(document))
    while not calls:
        await asyncio.sleep(0)
    for _ in range(20):
        await asyncio.sleep(0)
    gates[0].set()
    assert len(or_raise(await started).waits) == 1


async def test_the_timeout_of_a_step_does_not_count_the_wait_for_its_turn(runner):
    """The second one waits for longer than its timeout until the first one has ended."""
    first, second = {"tool": "held"}, {**said("second"), "timeout": 500}
    started = asyncio.create_task(runner.start({"flow": [{"parallel": [[first], [second]]}], "concurrency": 1}))
    while not calls:
        await asyncio.sleep(0)
    await asyncio.sleep(0.7)
    gates[0].set()
    assert or_raise(await started).result == ["ended", "second"]


@pytest.mark.parametrize("given", [0, True, 1.5, "2", None, 10_001])
def test_the_concurrency_of_a_document_is_a_number(given):
    assert "Invalid 'concurrency' of the document" in compile_flow({**ASKS, "concurrency": given}).failure().message


# ----------------------------------------------------------------------------------- waits of a hub that only time ends


async def test_a_wait_that_nobody_answers_has_no_key_and_ends_in_time(hub):
    pause = AwaitInput("pause", "Later.", timeout=HOUR, answerable_by=())
    new = or_raise(await hub.suspend(1, awaiting={"pause": pause, "ok": AwaitInput("ok", "?")}, until="each"))
    assert list(new.keys) == ["ok"]
    assert [wait.timed for wait in new.waits] == [True, False]
    assert or_raise(await hub.query(Criteria(tool="ok"))).items[0].id == new.id
    travel(hub, 2 * HOUR)
    run = or_raise(await hub.claim(new.id))
    assert run.expired == ("pause",)


@pytest.mark.parametrize("given", [{}, {"timeout": HOUR, "assignees": ["a"]}, {"timeout": HOUR, "quorum": 1}])
def test_a_wait_that_nobody_answers_needs_a_time_and_nobody_named(given):
    with pytest.raises(ConfigurationError, match="answerable_by"):
        AwaitInput("a", "?", answerable_by=(), **given)
