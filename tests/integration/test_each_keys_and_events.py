"""Keys again for code of the process, events that say what was opened and what has ended, expiry that reaches code."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from datetime import timedelta

import attrs
import pytest
from returns.result import Failure

from flowpersist import AwaitInput, Criteria, KeyRing, Maintenance, RaisingHub, Status, or_raise
from flowpersist.backends.registry import backend_from_url
from flowpersist.dynamicflow import FlowRunner
from flowpersist.errors import (
    LeaseLost,
    PermissionDenied,
    PersistenceError,
    SuspensionExpired,
    SuspensionNotFound,
    UnknownKey,
)
from flowpersist.hub.worker import Backoff
from flowpersist.keys.suspension_key import SuspensionId, generate_key
from flowpersist.testing.faults import FaultyBackend
from flowpersist.testing.hubs import open_test_hub, travel
from machine import WITH_MEMORY

HOUR = timedelta(hours=1)
WEEK = timedelta(weeks=1)
CONFIRM = AwaitInput(id="confirm", prompt="Ship it?", schema=bool)
DEFAULT = AwaitInput(id="confirm", prompt="Ship it?", schema=bool, default=False)
POLL = timedelta(seconds=0.002)


@pytest.fixture(params=WITH_MEMORY)
def backend(request):
    return request.param


@asynccontextmanager
async def working(hub, handler, **options):
    options = {"poll": POLL, "backoff": Backoff(first=timedelta(0)), **options}
    task = asyncio.create_task(hub.work(handler, **options))
    try:
        yield task
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def until(condition, seconds=30):
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.001)


async def nothing(_run):
    """No run is to be worked on."""
    pytest.fail("no run is there to be handled")


# ---------------------------------------------------------------------------------------------------------------- keys


async def test_keys_gives_those_of_the_open_waits(url):
    async with open_test_hub(url) as hub:
        new = or_raise(await hub.suspend(1, awaiting={"a": CONFIRM, "b": CONFIRM}, until="each"))
        assert or_raise(await hub.keys(new.id)) == new.keys
        assert await RaisingHub(hub).keys(new.id) == new.keys
        or_raise(await hub.answer(or_raise(await hub.keys(new.id))["a"], True))
        assert or_raise(await hub.keys(new.id)) == {"b": new.keys["b"]}
        run = or_raise(await hub.claim(new.id))
        following = or_raise(await hub.suspend_next(run, 2, awaiting={"c": CONFIRM}, until="each"))
        assert or_raise(await hub.keys(new.id)) == {"b": new.keys["b"], "c": following.keys["c"]}
        or_raise(await hub.cancel(new.id))
        assert or_raise(await hub.keys(new.id)) == {}


async def test_keys_need_the_control_subkey_and_a_permission():
    def authorizer(verb, _suspension, by):
        return verb != "keys" or by == "ann"

    ring = KeyRing.generate()
    async with open_test_hub(keyring=ring, authorizer=authorizer) as hub:
        new = or_raise(await hub.suspend(1, awaiting=CONFIRM))
        assert isinstance((await hub.keys(new.id, by="bob")).failure(), PermissionDenied)
        assert or_raise(await hub.keys(new.id, by="ann")) == new.keys
        hub.use_keyring(ring.control_only())
        assert or_raise(await hub.keys(new.id, by="ann")) == new.keys
        hub.use_keyring(KeyRing.generate("other"))
        assert isinstance((await hub.keys(new.id, by="ann")).failure(), UnknownKey)


async def test_keys_takes_an_id_alone():
    """Who has one key must not get the others."""
    async with open_test_hub() as hub:
        new = or_raise(await hub.suspend(1, awaiting=CONFIRM))
        for named in (new.key, str(new.key), str(new.id), None):
            with pytest.raises(TypeError, match="id"):
                await hub.keys(named)
        assert isinstance((await hub.keys(generate_key().id)).failure(), SuspensionNotFound)
        with pytest.raises(SuspensionNotFound):
            await RaisingHub(hub).keys(SuspensionId(bytes(16)))


# -------------------------------------------------------------------------------------------------------------- events


def seen(events):
    return [(it.verb, [wait.name for wait in it.opened], [wait.name for wait in it.expired]) for it in events]


async def test_events_say_what_was_opened_and_what_has_ended(url):
    events = []
    async with open_test_hub(url, on_event=events.append) as hub:
        waits = {"a": CONFIRM, "b": AwaitInput(id="b", prompt="?", timeout=HOUR)}
        new = or_raise(await hub.suspend(1, awaiting=waits, until="each"))
        or_raise(await hub.answer(new.keys["a"], True))
        run = or_raise(await hub.claim(new.id, lease=5 * HOUR))
        travel(hub, 2 * HOUR)
        or_raise(await hub.suspend_next(run, 2, awaiting={"c": CONFIRM}, until="each"))
        assert seen(events) == [
            ("suspend", ["a", "b"], []),
            ("answer", [], []),
            ("claim", [], []),
            ("suspend_next", ["c"], ["b"]),
        ]
        opened = events[-1].opened[0]
        assert (opened.name, opened.awaiting.prompt, opened.status) == ("c", "Ship it?", "open")
        events.clear()
        early = or_raise(await hub.reserve(CONFIRM))
        or_raise(await hub.suspend(3, key=early.key))
        assert seen(events) == [("reserve", ["confirm"], []), ("suspend", [], [])]


async def test_an_event_holds_no_secret():
    events = []
    async with open_test_hub(on_event=events.append) as hub:
        new = or_raise(await hub.suspend("a secret state", awaiting=CONFIRM))
        (event,) = events
        for text in (repr(event), str(attrs.asdict(event))):
            assert str(new.key) not in text
            assert new.key.secret.hex() not in text
            assert repr(new.key.secret)[2:-1] not in text
            assert "a secret state" not in text


async def test_an_expiry_is_an_event_once(url):
    events, ring = [], KeyRing.generate()
    async with (
        open_test_hub(url, keyring=ring, on_event=events.append) as hub,
        open_test_hub(url, keyring=ring, on_event=events.append) as other,
    ):
        gone = or_raise(await hub.suspend(1, awaiting={"a": CONFIRM, "b": CONFIRM}, timeout=HOUR))
        kept = or_raise(await hub.suspend(1, awaiting=DEFAULT, timeout=HOUR))
        events.clear()
        for one in (hub, other):
            travel(one, 2 * HOUR)
        await asyncio.gather(*(Maintenance(one).tick() for one in (hub, other) for _ in range(3)))
        told = {(it.verb, it.suspension.id, it.suspension.status, it.by, len(it.expired)) for it in events}
        assert told == {
            ("expire", gone.id, Status.EXPIRED, "system", 2),
            ("tick", kept.id, Status.ANSWERED, "system", 0),
        }
        assert len(events) == 2


async def test_on_event_may_be_asynchronous_and_is_waited_for(url):
    """Whoever is told of a pause that a worker made fetches its keys."""
    sent, lost = {}, []

    async def on_event(event):
        if event.opened:
            await asyncio.sleep(0)
            sent[event.suspension.id] = or_raise(await hubs[0].keys(event.suspension.id))

    async with open_test_hub(url, on_event=on_event) as hub:
        hubs = [hub]
        new = or_raise(await hub.suspend(1, awaiting=CONFIRM))
        assert sent == {new.id: new.keys}
        or_raise(await hub.answer(new.key, True))

        async def handler(run):
            if run.sequence == 1:
                or_raise(await hub.suspend_next(run, 2, awaiting={"again": CONFIRM}))
            return lost

        async with working(hub, handler):
            await until(lambda: "again" in sent[new.id])
        or_raise(await hub.answer(sent[new.id]["again"], True))


async def test_a_flow_that_a_worker_pauses_says_so():
    opened = []

    async def on_event(event):
        opened.extend(wait.name for wait in event.opened if event.verb == "suspend_next")

    ask, then = (AwaitInput(id=name, prompt="Go?", schema=bool) for name in ("ask", "then"))
    async with open_test_hub(on_event=on_event) as hub:
        runner = FlowRunner(hub, [ask, then])
        document = {"flow": [{"id": "first", "tool": "ask"}, {"id": "second", "tool": "then"}]}
        started = or_raise(await runner.start(document))
        assert opened == ["first"]
        or_raise(await hub.answer(started.waits[0].key, True))
        task = asyncio.create_task(runner.work(poll=POLL))
        await until(lambda: len(opened) == 2)
        task.cancel()
        assert opened == ["first", "second"]


async def test_a_slow_on_event_costs_no_lease(monkeypatch):
    """The run is free before anybody is told: a renewal meanwhile would find it so."""
    monkeypatch.setattr("flowpersist.hub.renewing.RENEWALS", 50)
    told = []

    async def on_event(event):
        if event.verb in {"suspend_next", "complete"}:
            await asyncio.sleep(0.1)
            told.append(event.verb)

    async with open_test_hub(on_event=on_event) as hub:
        new = or_raise(await hub.suspend(1))
        async with hub.running(new.key, lease=timedelta(seconds=1)) as outcome:
            or_raise(await hub.suspend_next(outcome.unwrap(), 2))
        async with hub.running(new.id, lease=timedelta(seconds=1)):
            pass
    assert told == ["suspend_next", "complete"]


@pytest.mark.parametrize("how", ["raises", "raises later", "cancels itself"])
async def test_an_on_event_that_fails_is_logged_and_changes_nothing(how, caplog):
    def raises(_event):
        raise KeyError("card 4111")

    async def later(_event):
        raise KeyError("card 4111")

    async def cancels(_event):
        raise asyncio.CancelledError

    on_event = {"raises": raises, "raises later": later, "cancels itself": cancels}[how]
    async with open_test_hub(on_event=on_event) as hub:
        new = or_raise(await hub.suspend(1, awaiting=CONFIRM))
        assert or_raise(await hub.inspect(new.key)).status is Status.WAITING
        assert (await RaisingHub(hub).answer(new.key, True)).outcome == "accepted"
    said = [it for it in caplog.records if "on_event raised" in it.getMessage()]
    assert len(said) == 2
    assert said[0].levelno == logging.ERROR
    assert "4111" not in caplog.text


async def test_a_caller_that_is_cancelled_meanwhile_is_cancelled():
    inside = asyncio.Event()

    async def on_event(_event):
        inside.set()
        await asyncio.Event().wait()

    async with open_test_hub(on_event=on_event) as hub:
        task = asyncio.create_task(hub.suspend(1, awaiting=CONFIRM))
        await inside.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len(or_raise(await hub.query()).items) == 1


# -------------------------------------------------------------------------------------------------------------- expiry


async def expired_ones(hub, count):
    made = [or_raise(await hub.suspend({"n": n}, awaiting=CONFIRM, timeout=HOUR)) for n in range(count)]
    travel(hub, 2 * HOUR)
    return made


async def test_each_expiry_is_handled_once_by_however_many_workers(url):
    """Settled by a tick or by the workers themselves; with the state, what had been answered, and what had not."""
    ring, handled = KeyRing.generate(), []

    async def expired(run):
        await asyncio.sleep(0)
        handled.append((run.suspension.id, run.state, dict(run.answers), run.expired, run.suspension.status))

    async with open_test_hub(url, keyring=ring) as hub, open_test_hub(url, keyring=ring) as other:
        pair = or_raise(await hub.suspend("pair", awaiting={"a": CONFIRM, "b": CONFIRM}, timeout=HOUR))
        or_raise(await hub.answer(pair.keys["a"], True))
        made = await expired_ones(hub, 6)
        travel(other, 2 * HOUR)
        reserved = or_raise(await hub.reserve(CONFIRM, timeout=HOUR))
        for one in (hub, other):
            travel(one, 2 * HOUR)
        or_raise(await Maintenance(hub).tick())
        async with working(hub, nothing, expired=expired), working(RaisingHub(other), nothing, expired=expired):
            await until(lambda: len(handled) >= 7)
            await asyncio.sleep(20 * POLL.total_seconds())
        assert sorted(it[0] for it in handled) == sorted([pair.id, *(new.id for new in made)])
        told = {it[0]: it[1:] for it in handled}
        assert told[pair.id] == ("pair", {"a": True}, ("b",), Status.EXPIRED)
        assert told[made[3].id] == ({"n": 3}, {}, ("confirm",), Status.EXPIRED)
        # Closed it is, and stays, whoever asks.
        for new in (pair, *made, reserved):
            assert or_raise(await hub.inspect(new.id)).status is Status.EXPIRED
        assert isinstance((await hub.answer(made[0].key, True)).failure(), SuspensionExpired)
        assert isinstance((await hub.answer(pair.keys["a"], False)).failure(), SuspensionExpired)
        assert {it.id for it in or_raise(await hub.query(Criteria(status="expired"))).items} == {
            new.id for new in (pair, *made, reserved)
        }


async def test_an_expiry_whose_worker_dies_is_handled_by_another(url):
    """At least once: the lease of one that says nothing ends, and a late word of it is refused."""
    async with open_test_hub(url) as hub:
        (new,) = await expired_ones(hub, 1)
        held = []

        async def dies(run):
            held.append(run)
            await asyncio.Event().wait()

        task = asyncio.create_task(hub.work(nothing, poll=POLL, expired=dies, lease=HOUR))
        await until(lambda: held)
        # Without a word, as a process that is killed.
        releasing, hub.release = hub.release, unsaid
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        hub.release = releasing
        again = []

        async def expired(run):
            again.append(run)

        async with working(hub, nothing, expired=expired):
            await asyncio.sleep(10 * POLL.total_seconds())
            assert again == []
            travel(hub, 2 * HOUR)
            await until(lambda: again)
        assert [(run.suspension.id, run.attempt, run.state) for run in again] == [(new.id, 2, {"n": 0})]
        for late in (hub.complete(held[0]), hub.renew(held[0]), hub.suspend_next(held[0], 1)):
            assert isinstance((await late).failure(), LeaseLost)


async def unsaid(*_args, **_options):
    return Failure(PersistenceError("killed"))


async def test_an_expiry_whose_handler_fails_is_tried_again_and_given_up(caplog):
    async with open_test_hub() as hub:
        (new,) = await expired_ones(hub, 1)
        attempts = []

        async def expired(run):
            attempts.append(run.attempt)
            raise OSError("card 4111")

        async with working(hub, nothing, expired=expired, max_attempts=3):
            await until(lambda: len(attempts) == 3)
            await asyncio.sleep(10 * POLL.total_seconds())
        ended = or_raise(await hub.inspect(new.id))
        assert (attempts, ended.status, ended.error) == ([1, 2, 3], Status.EXPIRED, "OSError")
        assert "4111" not in caplog.text


async def test_a_worker_that_is_stopped_gives_an_expiry_back():
    async with open_test_hub() as hub:
        await expired_ones(hub, 1)
        started = []

        async def hangs(run):
            started.append(run.attempt)
            await asyncio.Event().wait()

        for attempt in (1, 2):
            async with working(hub, nothing, expired=hangs):
                await until(lambda count=attempt: len(started) == count)
        assert started == [1, 2]


async def test_expiries_and_runs_go_on_beside_each_other():
    async with open_test_hub() as hub:
        await expired_ones(hub, 30)
        made = [or_raise(await hub.suspend(n)) for n in range(30)]
        for new in made:
            or_raise(await hub.release(or_raise(await hub.claim(new.key))))
        order = []

        async def handler(_run):
            order.append("run")

        async def expired(_run):
            order.append("expiry")

        async with working(hub, handler, expired=expired, concurrency=1):
            await until(lambda: len(order) == 60)
        assert {order[:6].count(kind) for kind in ("run", "expiry")} <= {2, 3, 4}


async def test_only_what_the_criteria_ask_for_is_handled():
    async with open_test_hub() as hub:
        for tenant in ("acme", "zeta"):
            or_raise(await hub.suspend(tenant, awaiting=CONFIRM, timeout=HOUR, tenant=tenant))
        travel(hub, 2 * HOUR)
        handled = []

        async def expired(run):
            handled.append(run.state)

        async with working(hub, nothing, criteria=Criteria(tenant="acme"), expired=expired):
            await until(lambda: handled)
            await asyncio.sleep(10 * POLL.total_seconds())
        assert handled == ["acme"]


async def test_what_is_no_async_function_is_refused():
    async with open_test_hub() as hub:
        with pytest.raises(TypeError, match="expired"):
            await hub.work(nothing, expired=print)


async def test_an_expiry_that_nobody_handles_goes_when_its_retention_is_over(url):
    """And costs neither ticks nor cleanups anything until then."""
    watched = FaultyBackend(backend_from_url(url))
    async with open_test_hub(watched) as hub:
        made = await expired_ones(hub, 3)
        or_raise(await Maintenance(hub).tick())
        before = watched.calls["put"]
        assert or_raise(await Maintenance(hub).tick()).updated == 0
        assert or_raise(await Maintenance(hub).cleanup()).deleted == 0
        assert or_raise(await hub.claim_due(limit=5)) == ()
        assert watched.calls["put"] == before
        assert or_raise(await hub.query(Criteria(due_before=made[0].created_at + 9 * HOUR))).items == ()
        travel(hub, WEEK + HOUR)
        assert or_raise(await Maintenance(hub).cleanup(dry_run=True)).deleted == 3
        assert or_raise(await Maintenance(hub).cleanup()).deleted == 3
