"""Locks and signals keep their promises on every backend: holders, fences, times, the line, waking, refusals."""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
from collections import Counter
from contextlib import aclosing, suppress
from datetime import UTC, datetime, timedelta

import attrs
import pytest

from canaries import forms
from cancelling import CancelledAt, Hesitant
from flowpersist import ConfigurationError, KeyRing, Maintenance, or_raise
from flowpersist.backends.base import Capability, RecordChange, Where
from flowpersist.backends.registry import backend_from_url
from flowpersist.errors import (
    BackendUnavailable,
    IntegrityError,
    LeaseLost,
    LockBusy,
    StateTooLarge,
    UnknownKey,
    UnknownType,
    UnsupportedType,
)
from flowpersist.hub import Runtime, attempt
from flowpersist.stores import Lease, Locks, Signals, Stores
from flowpersist.testing import open_test_hub, travel
from flowpersist.testing.faults import FaultyBackend
from machine import WITH_MEMORY

log = logging.getLogger(__name__)
LONG = os.environ.get("FLOWPERSIST_LONG") == "1"
SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
SOON = timedelta(milliseconds=20)
RING = KeyRing.generate()


@attrs.frozen
class Verdict:
    text: str


@pytest.fixture(params=WITH_MEMORY)
def backend(request):
    return request.param


@pytest.fixture
async def stores(url):
    async with open_test_hub(url, keyring=RING, types=[Verdict]) as hub:
        yield Stores(hub)


async def until(condition):
    """Come back once it holds: an async function that gives whether."""
    async with asyncio.timeout(30):
        while not await condition():
            await asyncio.sleep(0.01)


async def places(locks, path):
    """How many hold or wait."""
    return len(or_raise(await locks._steps.look((path,))).stakes)


async def test_an_exclusive_lock_has_one_holder_and_its_fences_rise(stores):
    locks = stores.locks
    assert await locks.holders("a") == ()
    first = await locks.acquire("a", "ann")
    assert (first.path, first.agent_id, first.lock_type) == ("a", "ann", "exclusive")
    for lock_type in ("exclusive", "shared"):
        with pytest.raises(LockBusy) as busy:
            await locks.acquire("a", "ben", lock_type=lock_type)
        assert (busy.value.holder, busy.value.retry_at) == ("ann", first.expires_at)
    assert await locks.holders("a") == (first,)
    assert (await locks.acquire("b", "ben")).path == "b"
    assert await locks.release(first) is True
    assert await locks.release(first) is False
    second = await locks.acquire("a", "ben")
    assert second.fence > first.fence
    with pytest.raises(LeaseLost):
        await locks.renew(first)
    assert await locks.release(first) is False
    assert await locks.holders("a") == (second,)


async def test_shared_leases_go_together_and_each_has_a_fence(stores):
    locks = stores.locks
    shared = [await locks.acquire("a", name, lock_type="shared") for name in ("ann", "ben", "cid")]
    assert await locks.holders("a") == tuple(shared)
    assert len({lease.fence for lease in shared}) == 3
    with pytest.raises(LockBusy):
        await locks.acquire("a", "dan")
    for lease in shared:
        assert await locks.release(lease)
    assert (await locks.acquire("a", "dan")).fence > shared[2].fence


async def test_an_agent_that_asks_again_has_one_lease(stores):
    locks = stores.locks
    first = await locks.acquire("a", "ann", ttl=MINUTE)
    again = await locks.acquire("a", "ann", ttl=HOUR, wait=MINUTE)
    assert again.fence == first.fence
    assert again.expires_at > first.expires_at + 50 * MINUTE
    assert (await locks.acquire("a", "ann", ttl=SECOND)).expires_at == again.expires_at
    assert len(await locks.holders("a")) == 1
    with pytest.raises(LockBusy, match="the agent itself"):
        await locks.acquire("a", "ann", lock_type="shared", wait=HOUR)
    assert await locks.release(first) is True
    assert await locks.holders("a") == ()


async def test_a_lease_ends_by_the_stores_clock_and_not_sooner(stores):
    locks = stores.locks
    lease = await locks.acquire("a", "ann", ttl=HOUR)
    travel(stores.hub, 50 * MINUTE)
    longer = await locks.renew(lease, HOUR)
    assert longer.fence == lease.fence
    travel(stores.hub, 50 * MINUTE)
    with pytest.raises(LockBusy):
        await locks.acquire("a", "ben")
    travel(stores.hub, 11 * MINUTE)
    assert await locks.holders("a") == ()
    for late in (locks.renew(longer, HOUR), locks.renew(lease, HOUR)):
        with pytest.raises(LeaseLost):
            await late
    assert await locks.release(longer) is False
    assert (await locks.acquire("a", "ben")).fence > lease.fence


async def test_no_cleanup_makes_a_lock_forget_its_fence(stores):
    locks = stores.locks
    lease = await locks.acquire("a", "ann", ttl=MINUTE)
    travel(stores.hub, 400 * DAY)
    or_raise(await Maintenance(stores.hub).cleanup_stores())
    await stores.cleanup()
    second = await locks.acquire("a", "ben")
    await locks.release(second)
    travel(stores.hub, 400 * DAY)
    or_raise(await Maintenance(stores.hub).cleanup_stores())
    assert (await locks.acquire("a", "ann")).fence > second.fence > lease.fence


async def test_who_waits_gets_it_in_the_order_of_coming(stores):
    locks = stores.locks
    first = await locks.acquire("a", "first")
    order = []

    async def wants(name, lock_type):
        async with locks.held("a", name, lock_type=lock_type, wait=MINUTE):
            order.append(name)

    waiting = []
    for number, (name, lock_type) in enumerate(
        [("x1", "exclusive"), ("s1", "shared"), ("x2", "exclusive"), ("s2", "shared"), ("x3", "exclusive")], 2
    ):
        waiting.append(asyncio.create_task(wants(name, lock_type)))
        await until(lambda number=number: _has(locks, number))
    # Nobody who comes without waiting overtakes them.
    await locks.release(first)
    with pytest.raises(LockBusy):
        await locks.acquire("a", "late", lock_type="shared")
    await asyncio.gather(*waiting)
    assert order == ["x1", "s1", "x2", "s2", "x3"]
    assert await places(locks, "a") == 0


async def _has(locks, number):
    return await places(locks, "a") == number


async def test_who_does_not_get_it_in_time_leaves_the_line(stores):
    locks = stores.locks
    await locks.acquire("a", "ann")
    for wait in (timedelta(0), SOON):
        with pytest.raises(LockBusy) as busy:
            await locks.acquire("a", "ben", wait=wait)
        assert busy.value.holder == "ann"
    assert await places(locks, "a") == 1


async def test_one_who_died_while_waiting_is_passed_over(stores):
    locks = stores.locks
    first = await locks.acquire("a", "ann", ttl=10 * HOUR)
    dead = asyncio.create_task(locks.acquire("a", "dead", wait=HOUR))
    await until(lambda: _has(locks, 2))
    # As a process that is killed: nothing is tidied up.
    stores.locks._bell._waiting.clear()
    real, locks._steps.step = locks._steps.step, _never
    dead.cancel()
    await asyncio.wait({dead})
    locks._steps.step = real
    assert await places(locks, "a") == 2
    await locks.release(first)
    with pytest.raises(LockBusy) as busy:
        await locks.acquire("a", "ben")
    assert busy.value.holder == "dead"
    travel(stores.hub, 7 * SECOND)
    assert (await locks.acquire("a", "ben")).agent_id == "ben"


async def _never(*_):
    raise asyncio.CancelledError


async def test_a_signal_is_set_told_replaced_and_cleared(stores):
    signals = stores.signals
    assert await signals.get("DONE") is None
    assert await signals.all() == {}
    assert await signals.clear("DONE") is False
    first = await signals.set("DONE", Verdict("good"))
    assert (first.key, first.value, first.critical) == ("DONE", Verdict("good"), False)
    assert first.expires_at - first.set_at == DAY
    assert await signals.get("DONE") == first
    second = await signals.set("DONE", None, critical=True)
    assert await signals.all() == {"DONE": second}
    assert (second.value, second.critical, second.expires_at) == (None, True, None)
    assert await signals.clear("DONE") is True
    assert await signals.get("DONE") is None


async def test_signals_expire_by_the_stores_clock_and_critical_ones_stay(stores):
    signals = stores.signals
    await signals.set("short", 1, ttl=MINUTE)
    await signals.set("long", 2, ttl=10 * HOUR)
    travel(stores.hub, HOUR)
    assert list(await signals.all()) == ["long"]
    travel(stores.hub, 10 * HOUR)
    assert await signals.get("long") is None
    assert or_raise(await Maintenance(stores.hub).cleanup_stores()) == 1
    await signals.set("STOP", 3, critical=True, ttl=SECOND)
    await signals.set("short", 1, ttl=MINUTE)
    travel(stores.hub, 400 * DAY)
    assert or_raise(await Maintenance(stores.hub).cleanup_stores()) == 0
    assert list(await signals.all()) == ["STOP"]
    assert await signals.clear("STOP") is True
    assert or_raise(await Maintenance(stores.hub).cleanup_stores()) == 1


async def test_apply_changes_several_in_one_step(stores):
    signals = stores.signals
    await signals.apply({"COMPLETED": True, "QA_PASSED": True})
    kept = await signals.set("kept", 1, critical=True)
    made = await signals.apply({"REJECTED": "no tests"}, clear=("COMPLETED", "QA_PASSED", "never set"))
    assert {key: one.value for key, one in made.items()} == {"REJECTED": "no tests"}
    assert await signals.all() == {"kept": kept, **made}
    with pytest.raises(ConfigurationError):
        await signals.apply({"a": 1, "b": 2}, clear=("b",))
    with pytest.raises(UnsupportedType):
        await signals.apply({"a": 1, "b": Locks}, clear=("kept",))
    assert await signals.apply({}) == {}
    assert await signals.all() == {"kept": kept, **made}


async def test_of_many_that_change_signals_at_once_none_is_lost(stores):
    async def flip(number):
        await stores.signals.apply({f"b{number}": number}, clear=(f"a{number}",))

    await stores.signals.apply({f"a{number}": number for number in range(8)})
    await asyncio.gather(*map(flip, range(8)))
    assert set(await stores.signals.all()) == {f"b{number}" for number in range(8)}


async def test_who_waits_for_a_signal_gets_it(stores):
    signals = stores.signals
    assert await signals.wait_for("DONE", timeout=SOON) is None
    waiting = [asyncio.create_task(signals.wait_for("DONE", timeout=MINUTE)) for _ in range(3)]
    await asyncio.sleep(0.05)
    await signals.set("OTHER", 1)
    made = await signals.set("DONE", Verdict("good"))
    assert await asyncio.gather(*waiting) == [made] * 3
    assert await signals.wait_for("DONE", timeout=timedelta(0)) == made


async def test_a_watch_tells_what_is_set_and_every_last_state(stores):
    signals = Signals(stores.values("signals", list), poll=SOON)
    async with aclosing(signals.watch()) as states:
        assert await anext(states) == {}
        first = await signals.set("a", 1)
        assert await anext(states) == {"a": first}
        second = await signals.set("a", 2)
        other = await signals.set("b", 3, ttl=MINUTE)
        async for state in states:
            if len(state) == 2:
                assert state == {"a": second, "b": other}
                break
        travel(stores.hub, HOUR)
        assert await anext(states) == {"a": second}


async def test_a_lost_reply_takes_nothing_twice(url):
    faulty = FaultyBackend(backend_from_url(url))
    async with open_test_hub(faulty, keyring=RING) as hub:
        locks, signals = Stores(hub).locks, Stores(hub).signals
        await locks.holders("a")
        await locks.release(await locks.acquire("other", "ann"))
        for number in range(3):
            faulty.lose("put")
            lease = await locks.acquire("a", f"agent-{number}")
            assert (lease.fence, await locks.holders("a")) == (number + 1, (lease,))
            faulty.lose("put")
            lease = await locks.renew(lease, HOUR)
            faulty.lose("put")
            assert await locks.release(lease) is True
            assert await locks.holders("a") == ()
        faulty.lose("put")
        await signals.set("DONE", 1)
        faulty.lose("put")
        await signals.apply({"REJECTED": 1}, clear=("DONE",))
        assert list(await signals.all()) == ["REJECTED"]


async def test_clocks_of_processes_decide_nothing(url, stores):
    behind = Runtime(now=lambda: datetime.now(UTC) - 5 * HOUR)
    ahead = Runtime(now=lambda: datetime.now(UTC) + 5 * HOUR)
    async with (
        open_test_hub(url, keyring=RING, runtime=behind) as one,
        open_test_hub(url, keyring=RING, runtime=ahead) as other,
    ):
        late, early = Stores(one).locks, Stores(other).locks
        first = await late.acquire("a", "late", ttl=HOUR)
        with pytest.raises(LockBusy) as busy:
            await early.acquire("a", "early")
        assert busy.value.retry_at == first.expires_at
        assert await late.release(first)
        second = await early.acquire("a", "early", ttl=HOUR)
        assert abs(second.expires_at - first.expires_at) < HOUR / 2
        with pytest.raises(LockBusy):
            await late.acquire("a", "late", ttl=HOUR)
        await Stores(other).signals.set("DONE", 1, ttl=HOUR)
        assert await Stores(one).signals.get("DONE") is not None


async def test_a_block_is_cancelled_when_its_lease_is_lost(stores, monkeypatch):
    monkeypatch.setattr("flowpersist.hub.renewing.RENEWALS", 1000)
    locks = stores.locks

    async def holding(reached):
        async with locks.held("a", "ann", ttl=MINUTE):
            reached.set()
            await asyncio.Event().wait()

    for how in ("released", "expired"):
        reached = asyncio.Event()
        task = asyncio.create_task(holding(reached))
        await reached.wait()
        if how == "released":
            (lease,) = await locks.holders("a")
            assert await locks.release(lease)
        else:
            travel(stores.hub, HOUR)
        with pytest.raises(LeaseLost):
            await task
        assert not task.cancelled()
    assert await locks.holders("a") == ()


async def test_a_block_renews_and_releases_whatever_ends_it(stores, monkeypatch):
    monkeypatch.setattr("flowpersist.hub.renewing.RENEWALS", 1000)
    locks = stores.locks
    async with locks.held("a", "ann", ttl=MINUTE) as lease:
        await until(lambda: _renewed(locks, lease))
    assert await locks.holders("a") == ()
    with pytest.raises(ZeroDivisionError):
        async with locks.held("a", "ann"):
            raise ZeroDivisionError
    assert await locks.holders("a") == ()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2), locks.held("a", "ann"):
            await asyncio.Event().wait()
    assert await locks.holders("a") == ()
    assert (await locks.acquire("a", "ben")).fence > lease.fence


async def _renewed(locks, lease):
    (now,) = await locks.holders("a")
    assert now.fence == lease.fence
    return now.expires_at > lease.expires_at


AGENTS = {"x1": "exclusive", "x2": "exclusive", "s1": "shared", "s2": "shared", "s3": "shared"}


async def test_nobody_starves(stores):
    """Of agents that ask again as soon as they have released, none is passed over and over, whatever it asks for."""
    locks = Locks(stores.values("locks", list), poll=timedelta(milliseconds=5))
    rounds = 1000 if LONG else 4
    granted, passed = [], Counter()

    async def agent(name, lock_type):
        for _ in range(rounds):
            asked = len(granted)
            async with locks.held("a", name, lock_type=lock_type, wait=HOUR) as lease:
                passed[name] = max(passed[name], len(granted) - asked)
                granted.append(lease.fence)
                await asyncio.sleep(0)

    await asyncio.gather(*(agent(name, lock_type) for name, lock_type in AGENTS.items()))
    assert len({*granted}) == len(granted) == rounds * len(AGENTS)
    log.info("passed at most %s times in %d rounds", dict(passed), rounds)
    # Each of the others once or twice before it stands in line, and once after.
    assert max(passed.values()) <= 4 * len(AGENTS)


async def test_who_waits_is_woken_and_needs_no_poll(backend, url):
    url = f"{url}&notify=on" if backend in ("postgres", "redis", "redis_cluster") else url
    async with open_test_hub(url, keyring=RING) as hub:
        if Capability.NOTIFICATIONS not in hub.backend.capabilities:
            pytest.skip("it tells nothing of changes")
        stores = Stores(hub)
        locks = Locks(stores.values("locks", list), poll=HOUR)
        signals = Signals(stores.values("signals", list), poll=HOUR)
        async with asyncio.timeout(30):
            lease = await locks.acquire("a", "ann")
            waiting = asyncio.create_task(locks.acquire("a", "ben", wait=HOUR))
            done = asyncio.create_task(signals.wait_for("DONE", timeout=HOUR))
            await until(lambda: _has(locks, 2))
            await asyncio.sleep(0.1)
            await signals.set("OTHER", 1)
            await locks.release(lease)
            await signals.set("DONE", 2)
            assert (await waiting).agent_id == "ben"
            assert (await done).value == 2
            async with aclosing(signals.watch()) as states:
                assert set(await anext(states)) == {"OTHER", "DONE"}
                asyncio.get_running_loop().call_later(0.1, asyncio.ensure_future, signals.clear("OTHER"))
                assert set(await anext(states)) == {"DONE"}


async def test_who_is_about_to_wait_minds_no_failure_that_passes(url):
    faulty = FaultyBackend(backend_from_url(url))
    async with open_test_hub(faulty, keyring=RING, runtime=Runtime(attempts=1)) as hub:
        locks = Stores(hub).locks
        await locks.release(await locks.acquire("a", "ann"))
        for operation in ("get", "put"):
            faulty.fail(operation)
            with pytest.raises(BackendUnavailable):
                await locks.acquire("a", "ann")
            faulty.fail(operation, times=3)
            assert await locks.release(await locks.acquire("a", "ann", wait=HOUR))


async def test_who_waits_outlasts_a_store_that_fails_for_a_while(url):
    faulty = FaultyBackend(backend_from_url(url))
    async with open_test_hub(faulty, keyring=RING, runtime=Runtime(attempts=1)) as hub:
        locks, signals = Stores(hub).locks, Stores(hub).signals
        lease = await locks.acquire("a", "ann")
        waiting = [
            asyncio.create_task(locks.acquire("a", "ben", wait=HOUR)),
            asyncio.create_task(signals.wait_for("DONE", timeout=HOUR)),
        ]
        await until(lambda: _has(locks, 2))
        faulty.fail("get", times=6)
        for _ in range(20):
            await attempt(locks.holders("a"))
        await locks.release(lease)
        await signals.set("DONE", 2)
        got, done = await asyncio.gather(*waiting)
        assert (got.agent_id, done.value) == ("ben", 2)


PERSON = "canary-agent-7Qw3Zx9Lm2Vb"


async def test_no_path_agent_or_key_stands_in_clear(backend, url, stored, caplog):
    caplog.set_level("DEBUG")
    async with open_test_hub(url, keyring=RING) as hub:
        locks, signals = Stores(hub).locks, Stores(hub).signals
        lease = await locks.acquire(PERSON, PERSON)
        waiting = asyncio.create_task(locks.acquire(PERSON, f"{PERSON}2", wait=HOUR))
        await until(lambda: _holds_and_waits(locks))
        signal = await signals.set(PERSON, PERSON)
        with pytest.raises(LockBusy) as busy:
            await locks.acquire(PERSON, "somebody")
        assert busy.value.holder == PERSON
        texts = [str(busy.value), repr(busy.value), str(busy.value.to_problem()), repr(lease), repr(signal)]
        found = b"" if backend == "memory" else await stored()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await locks.release(lease)
        with pytest.raises(LeaseLost) as lost:
            await locks.renew(lease)
        hub.use_keyring(KeyRing.generate())
        for refused in (locks.holders(PERSON), locks.acquire(PERSON, PERSON), signals.all(), signals.set(PERSON, 1)):
            with pytest.raises(UnknownKey, match=r"record \S+ of") as unknown:
                await refused
            texts += [str(unknown.value), repr(unknown.value)]
        hub.use_keyring(RING)
    texts += [str(lost.value), caplog.text]
    assert [text for text in texts if PERSON in text] == []
    assert [name for name, form in forms(PERSON).items() if form in found] == []


async def _holds_and_waits(locks):
    return await places(locks, PERSON) == 2


@pytest.mark.parametrize("namespace", ["default.values.locks", "default.values.signals"])
async def test_a_damaged_record_is_raised(stores, namespace):
    await stores.locks.acquire("a", "ann")
    await stores.signals.set("a", 1)
    backend = stores.hub.backend
    (record,) = (await backend.query(namespace, Where(), limit=5)).items
    damaged = RecordChange("w", head=record.head[:-5] + b"12345")
    await backend.put(record.ref, damaged, if_revision=record.revision)
    locks = namespace.endswith("locks")
    verbs = (
        [stores.locks.holders("a"), stores.locks.acquire("a", "ben", wait=HOUR)]
        if locks
        else [stores.signals.all(), stores.signals.clear("a"), stores.signals.wait_for("b", timeout=HOUR)]
    )
    for refused in verbs:
        with pytest.raises(IntegrityError, match=rf"record \S+ of {namespace}"):
            await refused


async def test_a_signal_of_a_class_that_is_not_known_keeps_no_other_from_being_set(url, stores):
    await stores.signals.set("verdict", Verdict("good"))
    async with open_test_hub(url, keyring=RING) as hub:
        signals = Stores(hub).signals
        for refused in (signals.get("verdict"), signals.all(), signals.wait_for("verdict", timeout=HOUR)):
            with pytest.raises(UnknownType):
                await refused
        assert (await signals.set("other", 1)).value == 1
        assert (await signals.get("other")).value == 1
    assert (await stores.signals.all())["verdict"].value == Verdict("good")
    assert await stores.signals.clear("verdict") is True


async def test_projects_have_locks_and_signals_of_their_own(stores):
    one, other = stores.project("one"), stores.project("other")
    await one.locks.acquire("a", "ann")
    await other.locks.acquire("a", "ben")
    await stores.locks.acquire("a", "cid")
    await one.signals.set("DONE", 1)
    assert await other.signals.all() == {}
    assert await stores.signals.all() == {}
    assert await stores.delete_project("one") == 2
    assert await one.locks.holders("a") == ()
    assert len(await other.locks.holders("a")) == 1


LEASE = Lease("a", "ann", 1, datetime(2026, 1, 1, tzinfo=UTC))
BAD_TEXTS = {"none": "", "NUL": "a\0", "a surrogate": "a\ud800", "a megabyte": "a" * 2**20, "too long": "ä" * 2049}
BAD_TTLS = {"nothing": timedelta(0), "negative": -SECOND, "a year": 365 * DAY, "for ever": timedelta.max}
REFUSED = {
    **{f"a path of {n}": (lambda s, t=t: s.locks.acquire(t, "ann"), ConfigurationError) for n, t in BAD_TEXTS.items()},
    **{f"an agent of {n}": (lambda s, t=t: s.locks.acquire("a", t), ConfigurationError) for n, t in BAD_TEXTS.items()},
    **{f"holders of {n}": (lambda s, t=t: s.locks.holders(t), ConfigurationError) for n, t in BAD_TEXTS.items()},
    **{f"a key of {n}": (lambda s, t=t: s.signals.set(t, 1), ConfigurationError) for n, t in BAD_TEXTS.items()},
    **{
        f"applied {n}": (lambda s, t=t: s.signals.apply({"a": 1, t: 1}), ConfigurationError)
        for n, t in BAD_TEXTS.items()
    },
    **{f"clear {n}": (lambda s, t=t: s.signals.clear(t), ConfigurationError) for n, t in BAD_TEXTS.items()},
    **{
        f"a ttl {n}": (lambda s, t=t: s.locks.acquire("a", "ann", ttl=t), ConfigurationError)
        for n, t in BAD_TTLS.items()
    },
    **{f"renewed {n}": (lambda s, t=t: s.locks.renew(LEASE, t), ConfigurationError) for n, t in BAD_TTLS.items()},
    "a signal for nothing": (lambda s: s.signals.set("a", 1, ttl=timedelta(0)), ConfigurationError),
    "a signal for ever": (lambda s: s.signals.set("a", 1, ttl=timedelta.max), ConfigurationError),
    "a path that is no text": (lambda s: s.locks.acquire(5, "ann"), TypeError),
    "an agent that is none": (lambda s: s.locks.acquire("a", None), TypeError),
    "a ttl in seconds": (lambda s: s.locks.acquire("a", "ann", ttl=5), TypeError),
    "another lock type": (lambda s: s.locks.acquire("a", "ann", lock_type="read"), ConfigurationError),
    "a lock type that is none": (lambda s: s.locks.acquire("a", "ann", lock_type=None), TypeError),
    "a wait in seconds": (lambda s: s.locks.acquire("a", "ann", wait=5), TypeError),
    "a negative wait": (lambda s: s.locks.acquire("a", "ann", wait=-SECOND), ConfigurationError),
    "a path for a lease": (lambda s: s.locks.release("a"), TypeError),
    "signals that are no mapping": (lambda s: s.signals.apply(["a"]), TypeError),
    "a text to clear": (lambda s: s.signals.apply({}, clear="DONE"), TypeError),
    "a key that is set and cleared": (lambda s: s.signals.apply({"a": 1}, clear=("b", "a")), ConfigurationError),
    "critical that is no bool": (lambda s: s.signals.set("a", 1, critical="yes"), TypeError),
    "a value of a strange class": (lambda s: s.signals.set("a", Locks), UnsupportedType),
    "a value that is too large": (lambda s: s.signals.set("a", b"x" * 2**16), StateTooLarge),
    "too many signals": (lambda s: s.signals.apply({str(n): n for n in range(1001)}), StateTooLarge),
    "a negative timeout": (lambda s: s.signals.wait_for("a", timeout=-SECOND), ConfigurationError),
    "a timeout in seconds": (lambda s: s.signals.wait_for("a", timeout=5), TypeError),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_what_makes_no_sense_is_refused_before_anything_is_done(case):
    call, error = REFUSED[case]
    async with open_test_hub() as hub:
        stores = Stores(hub)
        with pytest.raises(error) as refused:
            await call(stores)
        assert len(str(refused.value)) < 300
        assert await stores.signals.all() == {}
        assert await stores.locks.holders("a") == ()


def test_a_busy_lock_pickles_with_its_holder():
    busy = LockBusy("another agent holds the lock", LEASE.expires_at, "ann")
    again = pickle.loads(pickle.dumps(busy))
    assert (str(again), again.holder, again.retry_at) == (str(busy), "ann", LEASE.expires_at)
    assert "ann" not in repr(again) + str(again.to_problem())


VERBS = {
    "acquire a free one": (lambda s: s.locks.acquire("a", "ann", ttl=MINUTE), ()),
    "acquire one that is held": (lambda s: s.locks.acquire("a", "ann", ttl=MINUTE, wait=3 * SOON), ("ben",)),
    "hold a free one": (lambda s: _held(s, 0), ()),
    "hold one that is held": (lambda s: _held(s, 3), ("ben",)),
    "wait for a signal": (lambda s: s.signals.wait_for("DONE", timeout=3 * SOON), ()),
}


async def _held(stores, waits):
    async with stores.locks.held("a", "ann", ttl=MINUTE, wait=waits * SOON):
        await asyncio.sleep(0)


@pytest.mark.parametrize("case", VERBS)
@pytest.mark.parametrize("place", ["memory", "sqlite"])
async def test_what_is_cancelled_at_any_await_holds_nothing_and_waits_for_nothing(case, place, tmp_path):
    call, holders = VERBS[case]
    store = Hesitant() if place == "memory" else backend_from_url(f"sqlite:///{tmp_path}/flows.db")
    reached = 0
    async with open_test_hub(store, keyring=RING) as hub:
        stores = Stores(hub)
        held = [await stores.locks.acquire("a", name, ttl=10 * HOUR) for name in holders]
        for at in range(1, 200):
            cancelled = CancelledAt(call(stores), at)
            with suppress(asyncio.CancelledError, LockBusy):
                await cancelled
            reached += cancelled.reached
            assert stores.locks._bell._waiting == {}
            assert stores.locks._bell._listener is None
            if not cancelled.reached:
                break
            if place == "memory" and case.startswith("acquire"):
                # It gives back what it took. Elsewhere a put may be under way whose caller does not wait for it.
                assert await places(stores.locks, "a") == len(held)
            travel(hub, MINUTE)
            assert await stores.locks.holders("a") == tuple(held)
            assert await places(stores.locks, "a") == len(held)
    # What SQLite's threads have done meanwhile is not waited for.
    assert reached >= (3 if place == "memory" else 1)
