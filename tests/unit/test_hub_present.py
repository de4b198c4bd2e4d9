"""A new suspension takes one round trip, and its times are the store's all the same."""

from __future__ import annotations

from datetime import timedelta

import pytest
import pytest_asyncio

from flowpersist import AwaitInput, Criteria, Status, or_raise
from flowpersist.backends.memory import MemoryBackend
from flowpersist.errors import BackendUnavailable, SuspensionExpired, UnknownOutcome
from flowpersist.sealed.retrying import Runtime
from flowpersist.testing.faults import FaultyBackend
from flowpersist.testing.hubs import open_test_hub

HOUR = timedelta(hours=1)
CONFIRM = AwaitInput(id="confirm", prompt="Ship it?", schema=bool)
SLIGHT = timedelta(milliseconds=30)


@pytest_asyncio.fixture(loop_scope="module")
async def store():
    return FaultyBackend(MemoryBackend())


@pytest_asyncio.fixture(loop_scope="module")
async def hub(store):
    async with open_test_hub(store) as opened:
        # The first tells what the store's clock says.
        or_raise(await opened.suspend(0))
        store.calls.clear()
        yield opened


@pytest.mark.parametrize("verb", ["suspend", "reserve"])
async def test_a_new_one_is_not_looked_for(hub, store, verb):
    call = hub.suspend(1, awaiting=CONFIRM) if verb == "suspend" else hub.reserve(CONFIRM)
    or_raise(await call)
    assert store.calls == {"put": 1}


async def test_one_with_an_idempotency_key_is(hub, store):
    first = or_raise(await hub.suspend(1, awaiting=CONFIRM, idempotency_key="k"))
    again = or_raise(await hub.suspend(1, awaiting=CONFIRM, idempotency_key="k"))
    assert (first.id, str(first.key)) == (again.id, str(again.key))
    assert store.calls == {"get": 2, "put": 1}


@pytest.mark.parametrize("by", [HOUR, -HOUR], ids=["forward", "back"])
async def test_after_the_stores_clock_was_moved_deadlines_count_from_it(hub, store, by):
    store.clock_offset += by
    new = or_raise(await hub.suspend(1, awaiting=CONFIRM, timeout=HOUR))
    now = (await store.ping()).now
    assert abs(new.created_at - now) < timedelta(seconds=5)
    assert new.deadline - new.created_at == HOUR
    assert store.calls["put"] == 2
    found = or_raise(await hub.inspect(new.key))
    assert (found.created_at, found.deadline) == (new.created_at, new.deadline)
    store.clock_offset += HOUR
    assert isinstance((await hub.resume(new.key, True)).failure(), SuspensionExpired)


async def test_after_one_that_was_put_right_the_next_is_again_one_round_trip(hub, store):
    store.clock_offset += HOUR
    or_raise(await hub.suspend(1, awaiting=CONFIRM))
    store.calls.clear()
    or_raise(await hub.suspend(2, awaiting=CONFIRM))
    assert store.calls == {"put": 1}


async def test_a_slight_difference_is_let_be(hub, store):
    store.clock_offset += SLIGHT
    or_raise(await hub.suspend(1, awaiting=CONFIRM, timeout=HOUR))
    assert store.calls == {"put": 1}


async def test_a_put_that_takes_long_is_no_sign_of_another_clock(store):
    gone_by = 0.0
    async with open_test_hub(store, runtime=Runtime(monotonic=lambda: gone_by)) as hub:
        or_raise(await hub.suspend(0))
        store.calls.clear()
        original = store.put

        async def put(ref, change, **conditions):
            nonlocal gone_by
            gone_by += 60
            store.clock_offset += timedelta(seconds=60)
            return await original(ref, change, **conditions)

        store.put = put
        or_raise(await hub.suspend(1, awaiting=CONFIRM, timeout=HOUR))
    assert store.calls["put"] == 1


async def test_a_reply_that_took_long_is_not_reckoned_by(store):
    gone_by = 0.0
    async with open_test_hub(store, runtime=Runtime(monotonic=lambda: gone_by)) as hub:
        original = store.put

        async def put(ref, change, **conditions):
            nonlocal gone_by
            written = await original(ref, change, **conditions)
            gone_by += 60
            store.clock_offset += timedelta(seconds=60)
            return written

        store.put = put
        or_raise(await hub.suspend(0))
        store.put = original
        new = or_raise(await hub.suspend(1, awaiting=CONFIRM, timeout=timedelta(seconds=30)))
        assert new.deadline - (await store.ping()).now > timedelta(seconds=29)
        assert or_raise(await hub.resume(new.key, True)).answer is True


def before_the_second_put(store, action):
    """Let something be done first when a put is made for the second time."""
    original, puts = store.put, 0

    async def put(ref, change, **conditions):
        nonlocal puts
        puts += 1
        if puts == 2:
            await action()
        return await original(ref, change, **conditions)

    store.put = put


async def test_whoever_found_it_in_a_listing_meanwhile_is_not_overruled(hub, store):
    store.clock_offset += HOUR

    async def cancel():
        found = or_raise(await hub.query(Criteria(tenant="t"))).items
        or_raise(await hub.cancel(found[0].id))

    before_the_second_put(store, cancel)
    new = or_raise(await hub.suspend(1, tenant="t"))
    assert or_raise(await hub.inspect(new.id)).status is Status.CANCELLED


async def test_where_it_can_not_be_put_right_the_caller_is_told(hub, store):
    store.clock_offset += HOUR

    async def fail():
        raise BackendUnavailable("gone", store.name)

    before_the_second_put(store, fail)
    assert isinstance((await hub.suspend(1, awaiting=CONFIRM, timeout=HOUR)).failure(), BackendUnavailable)


async def test_one_that_was_done_not_acknowledged_and_then_changed_by_another_is_the_callers_all_the_same(hub, store):
    original, puts = store.put, 0

    async def put(ref, change, **conditions):
        nonlocal puts
        puts += 1
        if puts > 1:
            return await original(ref, change, **conditions)
        await original(ref, change, **conditions)
        found = or_raise(await hub.query(Criteria(tenant="t"))).items
        or_raise(await hub.answer(found[0].id, True))
        raise UnknownOutcome("the acknowledgement was lost", store.name)

    store.put = put
    new = or_raise(await hub.suspend(1, awaiting=CONFIRM, tenant="t"))
    assert or_raise(await hub.resume(new.key)).answer is True
