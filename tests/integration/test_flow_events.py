"""The stored events of runs: what is stored when, joining again, followers, crashes, and what can go wrong."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from datetime import timedelta

import pytest
from returns.result import Failure

from flowpersist import ConfigurationError, KeyRing, Maintenance, RaisingHub, or_raise
from flowpersist.backends.base import RecordChange, Where
from flowpersist.dynamicflow import Completed, FlowRunner, StoredEvent, Suspended, tool
from flowpersist.errors import BackendUnavailable, EncryptionError, FlowError, IntegrityError, SuspensionNotFound
from flowpersist.hub.opening import open_hub
from flowpersist.hub.worker import Backoff
from flowpersist.lifecycle.model import Status
from flowpersist.sealed.drafts import Draft
from flowpersist.testing.hubs import open_test_hub, travel

SOON = timedelta(milliseconds=20)


def document(*steps, **options):
    return {"metadata": {"name": "doc"}, "flow": list(steps), **options}


def noted(value, **more):
    return {"tool": "note", "args": {"value": value}, **more}


def ask(name, prompt="Ship it?"):
    return {"id": name, "tool": "await_input", "args": {"prompt": prompt}}


@tool()
async def note(value: object) -> object:
    return value


@tool()
async def fail(value: object) -> object:
    raise RuntimeError(str(value))


@pytest.fixture(params=["memory", "sqlite"])
def backend(request):
    return request.param


@pytest.fixture
async def hub(url):
    async with open_test_hub(url) as opened:
        yield opened


@pytest.fixture
def runner(hub):
    return FlowRunner(hub, [note, fail], events=True)


async def read(runner, run, **options):
    return [event async for event in runner.events(run, **options)]


def kinds(events):
    return [event.type for event in events]


def gapless(events, first=1):
    assert [event.sequence for event in events] == list(range(first, first + len(events)))
    assert sorted(event.time for event in events) == [event.time for event in events]
    json.dumps([dict(event.data) for event in events])


async def records_of(hub):
    records = hub.suspensions.side_records.events.records
    return or_raise(await records.page(Where(), limit=1000, bodies=True)).items


# ------------------------------------------------------------------------------------------------------- what is stored


async def test_the_events_of_a_run_over_its_pauses(runner):
    waiting = or_raise(await runner.start(document(noted(1, id="a"), ask("ok"), noted(2, id="b")), run_id="r"))
    first = await read(runner, "r")
    gapless(first)
    assert kinds(first) == [
        "flow-start",
        "node-start",
        "tool-start",
        "tool-output",
        "node-complete",
        "flow-progress",
        "node-start",
        "flow-suspended",
    ]
    told = first[-1].data
    asked = {"id": "ok", "title": None, "prompt": "Ship it?"}
    assert told["waits"] == [{"step": "ok", "awaiting": asked}]
    assert (told["run"], told["open"], told["running"]) == ("r", 1, False)
    assert str(waiting.key) not in json.dumps([dict(event.data) for event in first])

    or_raise(await runner.resume(waiting.key, answer=True))
    again = await read(runner, "r", after=first[-1].sequence)
    gapless(again, len(first) + 1)
    assert (again[0].type, again[0].data["answered"]) == ("flow-resumed", ["ok"])
    assert (again[-1].type, again[-1].data["result"]) == ("flow-complete", 2)
    assert await read(runner, "r") == first + again
    # From within a batch too, and from its end.
    for after in range(len(first + again) + 2):
        assert await read(runner, "r", after=after) == (first + again)[after:]


async def test_another_runner_goes_on_with_the_events_of_a_run(hub, runner):
    waiting = or_raise(await runner.start(document(ask("ok"), noted(2)), run_id="r"))
    or_raise(await FlowRunner(hub, [note]).resume(waiting.key, answer=True))
    events = await read(FlowRunner(hub), "r")
    gapless(events)
    assert kinds(events)[-1] == "flow-complete"


async def test_how_a_run_fails_is_its_last_event(runner):
    outcome = await runner.start(document({"id": "f", "tool": "fail", "args": {"value": "no"}}), run_id="r")
    assert isinstance(outcome, Failure)
    last = (await read(runner, "r"))[-1]
    assert last.type == "flow-error"
    assert last.data["parked"] is False
    assert last.data["error"]["detail"] == outcome.failure().message


async def test_a_run_that_is_cancelled_has_its_end_too(hub, runner):
    waiting = or_raise(await runner.start(document(ask("ok")), run_id="r"))
    or_raise(await hub.cancel(waiting.suspension_id, reason="no more"))
    events = await read(runner, "r", follow=True)
    gapless(events)
    assert kinds(events)[-2:] == ["flow-suspended", "flow-error"]
    assert events[-1].data["error"]["title"] == "SuspensionCancelled"


async def test_a_parked_run_is_told_and_goes_on_when_it_is_retried(hub):
    runner = FlowRunner(hub, [note, fail], events=True, failed="park")
    broken = {"id": "f", "tool": "fail", "args": {"value": "no"}}
    assert isinstance(await runner.start(document(broken, noted(2)), run_id="r"), Failure)
    first = await read(runner, "r")
    assert (first[-1].type, first[-1].data["parked"]) == ("flow-error", True)
    assert isinstance(or_raise(await runner.retry("r", edit={"f": 1})), Completed)
    events = await read(runner, "r", follow=True)
    gapless(events)
    assert events[: len(first)] == first
    assert kinds(events)[len(first)] == "flow-resumed"
    assert kinds(events)[-1] == "flow-complete"


async def test_a_run_that_a_worker_gives_up_has_an_event_of_it(hub, monkeypatch):
    monkeypatch.setattr("flowpersist.dynamicflow.runner.Backoff", lambda: Backoff(timedelta(0), timedelta(0)))
    runner = FlowRunner(hub, [note], events=True, failed="park")
    waiting = or_raise(await runner.start(document(ask("ok"), noted(2)), run_id="r"))
    first = await read(runner, "r")
    or_raise(await hub.answer(waiting.key, True))
    for _ in range(3):
        or_raise(await hub.claim(waiting.key, lease=timedelta(seconds=1)))
        travel(hub, timedelta(minutes=1))
    worker = asyncio.create_task(runner.work(max_attempts=2, poll=SOON))
    while (await RaisingHub(hub).inspect(waiting.suspension_id)).status is not Status.PARKED:
        await asyncio.sleep(0.001)
    worker.cancel()
    await asyncio.wait({worker})
    events = await read(runner, "r")
    gapless(events)
    assert events[: len(first)] == first
    (last,) = events[len(first) :]
    assert (last.type, last.data["parked"], last.data["run"]) == ("flow-error", True, "r")
    assert "given up after 2 attempts" in last.data["error"]["detail"]
    asked = or_raise(await runner.retry("r"))
    assert isinstance(or_raise(await runner.resume(asked.key, answer=True)), Completed)
    assert kinds(await read(runner, "r"))[-1] == "flow-complete"


async def test_a_question_is_told_while_other_branches_run(hub, runner):
    going = asyncio.Event()

    @tool()
    async def stay(value: object) -> object:
        await going.wait()
        return value

    runner = FlowRunner(hub, [stay], events=True)
    flow = document({"parallel": [ask("ok"), {"id": "s", "tool": "stay", "args": {"value": 1}}]})
    task = asyncio.create_task(runner.start(flow, run_id="r"))
    async with aclosing(runner.events("r", follow=True, poll=SOON)) as events:
        await _stored(hub, "r")
        async for event in events:
            if event.type == "flow-suspended":
                assert event.data["running"] is True
                break
    going.set()
    assert isinstance(or_raise(await task), Suspended)
    assert [e.data["running"] for e in await read(runner, "r") if e.type == "flow-suspended"] == [True, False]


async def _stored(hub, run):
    while not or_raise(await hub.query()).items:
        await asyncio.sleep(0.005)


async def test_what_is_too_large_is_left_out_and_named(runner):
    values = {"short": 1, "text": "x" * 20_000, "many": list(range(5000)), "nan": float("nan"), "deep": _deep(1000)}
    for name, value in values.items():
        flow = document({"id": "a", "tool": "note", "args": {"value": "$input.v"}})
        outcome = await runner.start(flow, run_id=name, input={"v": value})
        events = await read(runner, name)
        gapless(events)
        if isinstance(outcome, Failure):
            continue
        output = next(event.data for event in events if event.type == "tool-output")
        assert output.get("omitted") == (None if name == "short" else ["output"])
        assert len(json.dumps(dict(events[-1].data))) < 3 * 16 * 1024


def _deep(levels):
    value: object = 1
    for _ in range(levels):
        value = [value]
    return value


async def test_a_map_of_thousands_of_items_holds_few_events_in_memory(hub, runner):
    flow = document({"id": "m", "map": "$input.items", "with": [noted("$item", id="n")], "concurrency": 50})
    or_raise(await runner.start(flow, run_id="r", input={"items": list(range(1500))}))
    events = await read(runner, "r")
    gapless(events)
    assert sum(event.type == "node-complete" and event.data["node"] == "n" for event in events) == 1500
    assert all(one.head.count <= 256 for one in await records_of(hub))


# ------------------------------------------------------------------------------------------------------------ followers


async def test_two_followers_see_the_same_through_pauses_that_others_answer(hub, runner):
    waiting = or_raise(await runner.start(document(ask("one"), noted(1), ask("two")), run_id="r"))

    async def followed(after):
        return await read(FlowRunner(hub), "r", after=after, follow=True, poll=SOON)

    followers = [asyncio.create_task(followed(after)) for after in (0, 2)]
    again = or_raise(await FlowRunner(hub, [note]).resume(waiting.key, answer=1))
    or_raise(await FlowRunner(hub, [note]).resume(again.key, answer=2))
    first, second = await asyncio.gather(*followers)
    gapless(first)
    assert kinds(first)[-1] == "flow-complete"
    assert first[2:] == second
    assert kinds(first).count("flow-suspended") == 2


async def test_a_follower_that_breaks_off_joins_again(hub, runner):
    waiting = or_raise(await runner.start(document(noted(1), ask("one"), noted(2)), run_id="r"))
    seen: list[StoredEvent] = []
    async with aclosing(runner.events("r", follow=True, poll=SOON)) as events:
        async for event in events:
            seen.append(event)
            if len(seen) == 3:
                break
    or_raise(await runner.resume(waiting.key, answer=1))
    seen += await read(runner, "r", after=seen[-1].sequence, follow=True)
    gapless(seen)
    assert seen == await read(runner, "r")


async def test_a_follower_bears_a_store_that_fails_for_a_while(hub, runner):
    waiting = or_raise(await runner.start(document(ask("one"), noted(2)), run_id="r"))
    inspect, failed = hub.inspect, []

    async def failing(*args, **options):
        if len(failed) < 2:
            failed.append(1)
            return Failure(BackendUnavailable("gone", "memory", retryable=True))
        return await inspect(*args, **options)

    hub.inspect = failing
    follower = asyncio.create_task(read(runner, "r", follow=True, poll=SOON))
    while len(failed) < 2:
        await asyncio.sleep(0.005)
    or_raise(await runner.resume(waiting.key, answer=1))
    gapless(await follower)


# ------------------------------------------------------------------------------------------------------------- crashes


async def test_after_a_crash_the_events_go_on_and_a_repeated_step_is_told_twice(hub):
    stuck = asyncio.Event()

    @tool()
    async def stay(value: object) -> object:
        await stuck.wait()
        return value

    runner = FlowRunner(hub, [note, stay], events=True, lease=timedelta(seconds=30))
    flow = document(noted(1, id="a"), {"id": "s", "tool": "stay", "args": {"value": 2}})
    task = asyncio.create_task(runner.start(flow, run_id="r"))
    seen: list[StoredEvent] = []
    await _stored(hub, "r")
    async with aclosing(runner.events("r", follow=True, poll=SOON)) as events:
        async for event in events:
            seen.append(event)
            if event.type == "tool-start" and event.data["tool"] == "stay":
                break
    # The process is lost: it writes nothing more of the run, and its lease ends.
    transact, hub.suspensions.transact = hub.suspensions.transact, _gone
    task.cancel()
    await asyncio.wait({task})
    hub.suspensions.transact = transact
    travel(hub, timedelta(minutes=1))
    stuck.set()
    run = or_raise(await hub.query()).items[0].id
    assert isinstance(or_raise(await runner.resume(run)), Completed)
    events = await read(runner, "r")
    gapless(events)
    assert events[: len(seen)] == seen
    assert kinds(events)[len(seen)] == "flow-resumed"
    assert [event.type == "node-start" and event.data["node"] == "s" for event in events].count(True) == 2


async def _gone(*_, **__):
    return Failure(BackendUnavailable("gone", "memory", retryable=False))


async def test_a_holder_that_has_lost_its_lease_takes_no_number_of_its_successor(hub, runner):
    log = hub.suspensions.side_records.events
    waiting = or_raise(await runner.start(document(ask("one"), noted(2)), run_id="r"))
    before = await read(runner, "r")
    old = or_raise(await hub.claim(waiting.key, 1, lease=timedelta(seconds=30)))
    travel(hub, timedelta(minutes=1))
    # What it stores before anybody has taken the run over stays, and its successor's events follow.
    text = json.dumps([{"type": "node-start", "time": before[-1].time.isoformat(), "data": {}}])
    assert or_raise(await log.append(old, len(before) + 1, 1, text)) is None
    new = or_raise(await hub.claim(waiting.suspension_id, lease=timedelta(seconds=30)))
    assert or_raise(await log.append(new, len(before) + 1, 1, text)) == len(before) + 2
    assert or_raise(await log.append(new, len(before) + 2, 1, text)) is None
    assert or_raise(await log.append(new, len(before) + 2, 1, text)) is None
    lost = await log.append(old, len(before) + 2, 1, text)
    assert type(lost.failure()).__name__ == "LeaseLost"
    gapless(await read(runner, "r"))


async def test_events_that_can_t_be_stored_hold_the_pause_back(hub, runner):
    log = hub.suspensions.side_records.events.records
    put, log.put = log.put, _gone
    outcome = await runner.start(document(noted(1), ask("one")), run_id="r")
    assert isinstance(outcome.failure(), BackendUnavailable)
    log.put = put
    travel(hub, timedelta(minutes=1))
    assert isinstance(or_raise(await runner.resume(or_raise(await hub.query()).items[0].id)), Suspended)
    gapless(await read(runner, "r"))


# ---------------------------------------------------------------------------------------------------------- what fails


async def test_each_error_is_typed(hub, runner):
    with pytest.raises(SuspensionNotFound):
        await read(runner, "nobody")
    or_raise(await FlowRunner(hub, [note]).start(document(noted(1)), run_id="silent"))
    with pytest.raises(FlowError, match="events=True"):
        await read(runner, "silent")
    other = or_raise(await hub.suspend({"a": 1}))
    with pytest.raises(FlowError, match="does not belong to a flow"):
        await read(runner, other.id)
    with pytest.raises(ConfigurationError, match="after"):
        runner.events("r", after=-1)
    with pytest.raises(TypeError, match="follow"):
        runner.events("r", follow="yes")


async def test_another_keyring_opens_no_event(hub, runner, url, backend):
    if backend == "memory":
        pytest.skip("another hub has another store")
    or_raise(await runner.start(document(ask("one")), run_id="r"))
    run = or_raise(await hub.query()).items[0].id
    async with open_hub(url, keyring=KeyRing.generate()) as stranger:
        with pytest.raises(EncryptionError):
            await read(FlowRunner(stranger), run)


@pytest.mark.parametrize("damage", ["removed", "exchanged", "other", "text"])
async def test_a_damaged_record_ends_the_reading_after_those_before_it(hub, runner, damage):
    waiting = or_raise(await runner.start(document(ask("one"), noted(1), ask("two")), run_id="r"))
    or_raise(await runner.resume(waiting.key, answer=1))
    records = hub.suspensions.side_records.events.records
    last = (await records_of(hub))[-1]
    first = [event for event in await read(runner, "r") if event.sequence < last.head.first]
    if damage == "removed":
        or_raise(await records.delete((await records_of(hub))[0].ref.key, revision=None))
        first = []
    elif damage == "other":
        await hub.backend.put(last.ref, await _change(hub, last, head=b"?"), if_revision=last.revision)
    elif damage == "exchanged":
        await hub.backend.put(last.ref, await _change(hub, last, body=b"?"), if_revision=last.revision)
    else:
        await _replaced(records, last, '[{"type": 1}]')
    events = runner.events("r")
    assert [await anext(events) for _ in first] == first
    with pytest.raises(IntegrityError):
        await anext(events)


async def _change(hub, record, **changed):
    read = await hub.backend.get(record.ref, body=True)
    fields = {"head": read.record.head, "body": read.record.body, "attributes": read.record.attributes}
    return RecordChange(write_id="damage", due_at=None, **{**fields, **changed})


async def _replaced(records, record, text):
    sealed = or_raise(await records.seal_body(record.ref.key, None, text, purpose="state"))
    draft = Draft(head=record.head, attributes=record.attributes, due_at=None, body=sealed)
    or_raise(await records.put(record.ref.key, draft, revision=record.revision))


async def test_the_events_go_with_the_run(hub, runner):
    or_raise(await runner.start(document(noted(1)), run_id="r"))
    assert await records_of(hub)
    travel(hub, timedelta(days=400))
    assert or_raise(await Maintenance(hub).cleanup()).deleted == 1
    assert not await records_of(hub)
    with pytest.raises(SuspensionNotFound):
        await read(runner, "r")


async def test_the_flag_is_the_runner_s_own_metadata(runner):
    with pytest.raises(ConfigurationError, match="events"):
        await runner.start(document(noted(1)), metadata={"events": True})


async def test_prompts_are_cut_and_only_some_questions_are_told(runner):
    flow = document({"parallel": [ask(f"q{n}", "x" * 1000) for n in range(30)]})
    or_raise(await runner.start(flow, run_id="r"))
    told = (await read(runner, "r"))[-1].data
    assert (len(told["waits"]), told["open"]) == (20, 30)
    assert len(told["waits"][0]["awaiting"]["prompt"]) == 300
