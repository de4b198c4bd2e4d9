"""Locks and signals keep their promises on every backend: holders, fences, times, the line, waking, refusals."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from datetime import timedelta

import attrs
import pytest

from flowpersist import ConfigurationError, KeyRing, Maintenance, or_raise
from flowpersist.errors import (
    LeaseLost,
    LockBusy,
    UnsupportedType,
)
from flowpersist.stores import Locks, Stores
from flowpersist.testing import open_test_hub, travel

BACKENDS = ("memory", "sqlite", "filesystem", "postgres", "redis", "redis_cluster", "mongodb", "neo4j")
SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
SOON = timedelta(milliseconds=20)
RING = KeyRing.generate()


@attrs.frozen
class Verdict:
    text: str


@pytest.fixture(params=BACKENDS)
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
    signals = stores.signals
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
