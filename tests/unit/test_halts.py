"""The emergency pause: what a halt stops, what goes on, what it costs, and what its trail says."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
import pytest_asyncio
from returns.result import Failure

from flowpersist import AwaitInput, ConfigurationError, Criteria, Maintenance, Principal, Status, or_raise
from flowpersist.backends.base import RecordChange
from flowpersist.backends.memory import MemoryBackend
from flowpersist.dynamicflow import Accepted, FlowRunner
from flowpersist.errors import ClaimsHalted, InputValidationError, IntegrityError, TamperedEnvelope, ValueNotFound
from flowpersist.hub import halt_trail, halting
from flowpersist.inputs.action import Action
from flowpersist.testing.faults import FaultyBackend
from flowpersist.testing.hubs import open_test_hub, travel

ASK = AwaitInput("pay", "Pay it?", schema=bool)
ANN = Principal("ann", name="Ann Lee", roles=["ops"])
FLOW = {"flow": [{"id": "q", "tool": "await_input", "args": {"prompt": "q?"}}]}
ALL = Criteria()


@pytest.fixture(autouse=True)
def brief(monkeypatch):
    """The same with shorter bounds, so that the tests need not wait."""
    monkeypatch.setattr(halting, "FRESH", timedelta(milliseconds=20))
    monkeypatch.setattr(halting, "BOUND", timedelta(milliseconds=60))
    monkeypatch.setattr(halting, "MARGIN", timedelta(milliseconds=1))


@pytest_asyncio.fixture(loop_scope="module")
async def hub():
    async with open_test_hub() as opened:
        yield opened


def ring_of(hub):
    return hub.suspensions.records.sealer.keyring


async def answered(hub, awaiting=ASK, **options):
    new = or_raise(await hub.suspend(1, awaiting=awaiting, **options))
    or_raise(await hub.answer(new.key, True))
    return new


async def parked(hub):
    new = await answered(hub)
    or_raise(await hub.park(or_raise(await hub.claim(new.id))))
    return new


async def entered(hub, key):
    async with hub.running(key) as outcome:
        return outcome


def stopped(outcome):
    return isinstance(outcome, Failure) and isinstance(outcome.failure(), ClaimsHalted)


async def test_a_halt_stops_every_way_to_take_a_run(hub):
    failed, new = await parked(hub), await answered(hub)
    halt = or_raise(await Maintenance(hub).halt(ALL, "wrong prices", ANN))
    for outcome in (
        await hub.claim(new.key),
        await hub.claim(new.id),
        await hub.resume(new.key),
        await hub.claim_due(),
        await hub.claim_due(Criteria(tool="pay")),
        await entered(hub, new.key),
        await hub.retry(failed.id),
    ):
        assert stopped(outcome)
        error = outcome.failure()
        assert (error.halt, error.reason, error.since) == (halt.id, "wrong prices", halt.at)
        assert "wrong prices" in str(error)
        assert f"flowpersist lift {halt.id}" in str(error)
        assert "ann" not in str(error).lower()
    assert or_raise(await hub.inspect(new.id)).attempt == 0
    or_raise(await Maintenance(hub).lift(halt.id, "mended", by="bob"))
    assert or_raise(await hub.claim(new.id)).answer is True
    or_raise(await hub.retry(failed.id))


async def test_answers_are_taken_and_runs_that_are_held_go_on(hub):
    held = or_raise(await hub.claim((await answered(hub)).id))
    new = or_raise(await hub.suspend(1, awaiting=ASK))
    or_raise(await Maintenance(hub).halt(ALL, "stop"))
    assert or_raise(await hub.answer(new.key, True)).outcome == "accepted"
    or_raise(await hub.renew(held))
    following = or_raise(await hub.suspend_next(held, 2, awaiting=ASK))
    assert stopped(await hub.claim(following.key, True))
    assert or_raise(await hub.inspect(following.id)).status is Status.WAITING
    or_raise(await hub.cancel(following.id))


async def test_a_repeated_claim_gets_the_run_that_it_holds(hub):
    new = await answered(hub)
    held = or_raise(await hub.claim(new.id, claim_id="mine"))
    or_raise(await Maintenance(hub).halt(ALL, "stop"))
    assert or_raise(await hub.claim(new.id, claim_id="mine")).fence == held.fence


@pytest.mark.parametrize(
    ("criteria", "free"),
    [
        (Criteria(tool="pay"), {"other", "acme other"}),
        (Criteria(tool="wire"), {"pay", "acme pay", "other", "acme other"}),
        (Criteria(tenant="acme"), {"pay", "other", "wired"}),
        (Criteria(tool="pay", tenant="acme"), {"pay", "other", "acme other", "wired"}),
    ],
)
async def test_a_halt_of_a_tool_or_a_tenant_stops_theirs_alone(hub, criteria, free):
    action = AwaitInput("approve", "?", schema=bool, action=Action("wire", {}))
    asked = {"pay": ASK, "other": AwaitInput("other", "?", schema=bool), "wired": action}
    for name, awaiting in asked.items():
        await answered(hub, awaiting, metadata={"name": name})
    for name in ("pay", "other"):
        await answered(hub, asked[name], tenant="acme", metadata={"name": f"acme {name}"})
    or_raise(await Maintenance(hub).halt(criteria, "stop"))
    runs = or_raise(await hub.claim_due(limit=10))
    assert {run.suspension.metadata["name"] for run in runs} - {"wired"} == free - {"wired"}
    assert ("wired" in {run.suspension.metadata["name"] for run in runs}) is (criteria.tool != "wire")


async def test_a_worker_waits_and_goes_on_once_it_is_lifted(hub, caplog):
    done = asyncio.Event()

    async def handler(_run):
        done.set()

    halt = or_raise(await Maintenance(hub).halt(ALL, "stop"))
    worker = asyncio.create_task(hub.work(handler, poll=timedelta(milliseconds=1)))
    await answered(hub)
    await asyncio.sleep(0.05)
    assert not done.is_set()
    or_raise(await Maintenance(hub).lift(halt))
    await asyncio.wait_for(done.wait(), 5)
    worker.cancel()
    await asyncio.gather(worker, return_exceptions=True)
    assert "could be claimed" not in caplog.text


async def test_an_expiry_is_not_handled_during_a_halt(hub):
    seen = []

    async def handler(run):
        seen.append(run)

    or_raise(await hub.suspend(1, awaiting=ASK, timeout=timedelta(seconds=1)))
    travel(hub, timedelta(seconds=2))
    or_raise(await Maintenance(hub).halt(ALL, "stop"))
    worker = asyncio.create_task(hub.work(handler, poll=timedelta(milliseconds=1), expired=handler))
    await asyncio.sleep(0.05)
    worker.cancel()
    await asyncio.gather(worker, return_exceptions=True)
    assert seen == []


async def test_the_runner_takes_the_answer_and_a_worker_goes_on_later(hub):
    runner = FlowRunner(hub)
    wait = or_raise(await runner.start(FLOW)).waits[0]
    halt = or_raise(await Maintenance(hub).halt(ALL, "stop"))
    assert isinstance(or_raise(await runner.resume(wait.key, answer="yes")), Accepted)
    or_raise(await Maintenance(hub).lift(halt))
    working = asyncio.create_task(runner.work(poll=timedelta(milliseconds=1)))
    while or_raise(await hub.inspect(wait.key)).status is not Status.COMPLETED:
        await asyncio.sleep(0.001)
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)


# ------------------------------------------------------------------------------------------------------------ guarantee


async def test_no_claim_that_was_decided_before_becomes_durable_once_halt_has_returned():
    """The put of a claim is held back in the moment after it was decided, until halt has returned."""
    held, go = asyncio.Event(), asyncio.Event()

    class Slow(FaultyBackend):
        armed = False

        async def put(self, ref, change, **options):
            if self.armed and ref.namespace == "default" and not held.is_set():
                held.set()
                await go.wait()
            return await super().put(ref, change, **options)

    slow = Slow(MemoryBackend())
    async with open_test_hub(slow) as hub:
        new = await answered(hub)
        slow.armed = True
        claiming = asyncio.create_task(hub.claim(new.id))
        await held.wait()
        or_raise(await Maintenance(hub).halt(ALL, "stop"))
        go.set()
        assert stopped(await claiming)
        assert or_raise(await hub.inspect(new.id)).attempt == 0


async def test_the_store_s_clock_may_be_moved(hub):
    new, later = await answered(hub), await answered(hub)
    or_raise(await hub.claim(new.id))
    travel(hub, timedelta(hours=2))
    or_raise(await hub.claim(later.id))
    or_raise(await Maintenance(hub).halt(ALL, "stop"))
    travel(hub, timedelta(hours=2))
    assert stopped(await hub.claim(later.id))


async def test_another_process_hears_of_a_halt_and_of_its_end():
    """Two hubs on one store know as little of each other as two processes do."""
    async with open_test_hub("memory://halts") as one, open_test_hub("memory://halts", keyring=ring_of(one)) as two:
        new, other = await answered(one), await answered(one)
        or_raise(await two.release(or_raise(await two.claim(new.id))))
        halt = or_raise(await Maintenance(one).halt(ALL, "stop"))
        assert stopped(await two.claim(new.id))
        or_raise(await Maintenance(one).lift(halt))
        await asyncio.sleep(0.03)
        or_raise(await two.claim(other.id))


async def test_without_halts_a_claim_takes_one_read_more_at_most_once_a_second(monkeypatch):
    monkeypatch.setattr(halting, "FRESH", timedelta(seconds=1))
    monkeypatch.setattr(halting, "BOUND", timedelta(seconds=3))
    counted = FaultyBackend(MemoryBackend())
    async with open_test_hub(counted) as hub:
        runs = [await answered(hub) for _ in range(6)]
        counted.calls.clear()
        or_raise(await hub.claim(runs[0].id))
        assert dict(counted.calls) == {"get": 1, "get_many": 1, "put": 1}
        counted.calls.clear()
        for one in runs[1:]:
            or_raise(await hub.claim(one.id))
        assert dict(counted.calls) == {"get": 5, "put": 5}


async def test_where_the_halts_cannot_be_read_nothing_is_claimed():
    faulty = FaultyBackend(MemoryBackend())
    async with open_test_hub(faulty) as hub:
        new = await answered(hub)
        or_raise(await Maintenance(hub).lift(or_raise(await Maintenance(hub).halt(ALL, "stop"))))
        record = (await faulty.inner.get(halting.Halts(hub.suspensions.records)._records.now.ref("halts"))).record
        await faulty.inner.delete(record.ref, if_revision=record.revision)
        or_raise(await hub.release(or_raise(await hub.claim(new.id))))

        await faulty.inner.put(record.ref, RecordChange("w", head=record.head[:-1]), if_revision=0)
        await asyncio.sleep(0.03)
        assert isinstance((await hub.claim(new.id)).failure(), IntegrityError)


# ---------------------------------------------------------------------------------------------------------------- verbs


async def test_halts_are_listed_and_lifted_by_id(hub):
    maintenance = Maintenance(hub)
    first = or_raise(await maintenance.halt(Criteria(tool="pay"), "a", ANN))
    again = or_raise(await maintenance.halt(Criteria(tool="pay"), "a", ANN))
    second = or_raise(await maintenance.halt(ALL, "b"))
    assert again == first
    assert or_raise(await maintenance.halts()) == (first, second)
    assert (first.by, second.by, first.tool) == (ANN, None, "pay")
    assert or_raise(await maintenance.lift(first.id)) == first
    assert isinstance((await maintenance.lift(first)).failure(), ValueNotFound)
    assert or_raise(await maintenance.halts()) == (second,)


async def test_the_trail_of_halts_is_verified(hub, monkeypatch):
    monkeypatch.setattr(halt_trail, "MOST_LINKS", 3)
    maintenance = Maintenance(hub)
    assert or_raise(await maintenance.halt_history()) == ()
    for number in range(5):
        halt = or_raise(await maintenance.halt(ALL, f"reason {number}", ANN))
        or_raise(await maintenance.lift(halt, "over", by="bob"))
    entries = or_raise(await maintenance.halt_history())
    assert [(one.number, one.verb, one.by.subject, one.reason) for one in entries] == [
        told
        for at in range(5)
        for told in ((2 * at + 1, "halt", "ann", f"reason {at}"), (2 * at + 2, "lift", "bob", "over"))
    ]
    moved = hub.suspensions.halts.trail.moved
    found = or_raise(await moved.read("0000000001")).record
    or_raise(await moved.delete(found.ref.key, revision=found.revision))
    assert isinstance((await maintenance.halt_history()).failure(), (IntegrityError, TamperedEnvelope))


async def test_there_are_at_most_a_hundred(hub, monkeypatch):
    monkeypatch.setattr(halting, "BOUND", timedelta(0))
    monkeypatch.setattr(halting, "MARGIN", timedelta(0))
    for number in range(100):
        or_raise(await Maintenance(hub).halt(Criteria(tool=f"t{number}"), "stop"))
    assert isinstance((await Maintenance(hub).halt(ALL, "stop")).failure(), InputValidationError)


@pytest.mark.parametrize(
    ("criteria", "reason", "named"),
    [
        (Criteria(status=Status.WAITING), "stop", "criteria"),
        (Criteria(run="r"), "stop", "criteria"),
        (Criteria(metadata={"a": 1}), "stop", "criteria"),
        ("pay", "stop", "criteria"),
        (ALL, "", "reason"),
        (ALL, " ", "reason"),
        (ALL, "x" * 1001, "reason"),
        (ALL, None, "reason"),
    ],
)
async def test_invalid_arguments_are_named(hub, criteria, reason, named):
    with pytest.raises((ConfigurationError, TypeError, ValueError), match=named):
        await Maintenance(hub).halt(criteria, reason)


async def test_a_halt_outlives_the_key_that_it_was_made_with(hub):
    maintenance, old = Maintenance(hub), hub.suspensions.records.sealer.keyring
    new = await answered(hub)
    halt = or_raise(await maintenance.halt(ALL, "stop", ANN))
    hub.use_keyring(old.add("second", bytes(range(32))).promote("second"))
    or_raise(await maintenance.rekey())
    or_raise(await maintenance.retire(old.primary, wait=timedelta(0)))
    assert stopped(await hub.claim(new.id))
    or_raise(await maintenance.lift(halt))
    or_raise(await hub.claim(new.id))
    assert [one.verb for one in or_raise(await maintenance.halt_history())] == ["halt", "lift"]
