"""Removing a suspension on every backend: whoever comes in between takes all of it or nothing, and nothing is left."""

from __future__ import annotations

import random
from datetime import timedelta

import pytest
from returns.result import Failure, Success

from flowpersist import AwaitInput, Criteria, KeyRing, Maintenance, Principal, Status, or_raise
from flowpersist.backends.base import Where
from flowpersist.backends.registry import backend_from_url
from flowpersist.errors import SuspensionNotFound
from flowpersist.testing.hubs import open_test_hub, travel
from interrupted import Interrupted, Killed

ASK = AwaitInput(id="text", prompt="Say it", schema=str)
#: An answer that no compressor makes small enough for a head.
LARGE = random.Random(7).randbytes(20_000).hex()
RING = KeyRing.generate()
WEEK, LONG = timedelta(days=8), timedelta(hours=1)
BESIDE = ("receipts", "answers", "steps", "audit", "events")


@pytest.fixture
async def store(url):
    return Interrupted(backend_from_url(url))


async def parked(hub):
    """A parked run with an answer that nobody has read, and with more receipts and entries than a head keeps."""
    new = or_raise(await hub.suspend("state", awaiting=ASK, by="asker"))
    for number in range(6):
        or_raise(await hub.answer(new.key, LARGE, by=Principal("ann")))
        run = or_raise(await hub.claim(new.key, lease=LONG))
        if number < 5:
            new = or_raise(await hub.suspend_next(run, number, awaiting=ASK))
    or_raise(await hub.park(run, "parked", unread=["text"]))
    return new


async def stored(hub, *names):
    spaces = [".".join(("default", *name.split())) for name in names]
    return [one for space in spaces for one in (await hub.backend.query(space, Where(), limit=500)).items]


@pytest.mark.parametrize("kept", [timedelta(0), None])
async def test_a_retry_that_comes_in_between_gets_all_or_is_told_that_it_is_gone(store, kept):
    async with open_test_hub(store, keyring=RING, audit_retention=kept) as hub:
        told = []
        for number in range(1, 100):
            new = await parked(hub)
            before = or_raise(await hub.history(new.id))
            travel(hub, WEEK)
            retried = []

            async def retry(id=new.id, retried=retried):
                retried.append(await hub.retry(id, lease=LONG))

            store.left, store.between = number, retry
            or_raise(await Maintenance(hub).cleanup())
            store.left = 0
            match retried:
                case []:
                    break
                case [Success(run)]:
                    assert dict(run.answers) == {"text": LARGE}
                    assert or_raise(await hub.history(new.id))[: len(before)] == before
                    or_raise(await hub.complete(run))
                case [Failure(error)]:
                    assert isinstance(error, SuspensionNotFound)
                    assert isinstance(await hub.inspect(new.id), Failure)
            told.append(type(retried[0]))
            travel(hub, WEEK)
            or_raise(await Maintenance(hub).cleanup())
        assert {Success, Failure} == set(told)
        assert await stored(hub, "", *BESIDE) == []
        assert or_raise(await Maintenance(hub).verify()).clean


async def test_a_removal_that_ends_at_any_write_is_ended_by_the_next_cleanup(store):
    async with open_test_hub(store, keyring=RING, audit_retention=timedelta(0)) as hub:
        marked = 0
        for number in range(1, 100):
            new = await parked(hub)
            travel(hub, WEEK)
            store.left = number
            try:
                or_raise(await Maintenance(hub).cleanup())
            except Killed:
                pass
            else:
                break
            finally:
                store.left = 0
            seen = await hub.inspect(new.key)
            if isinstance(seen, Failure):
                assert isinstance(seen.failure(), SuspensionNotFound)
                marked += bool(await stored(hub, ""))
                for refused in (
                    await hub.answer(new.key, "x", by="ann"),
                    await hub.cancel(new.id),
                    await hub.peek(new.id),
                ):
                    assert isinstance(refused.failure(), SuspensionNotFound)
                for criteria in (Criteria(), Criteria(status="parked")):
                    assert or_raise(await hub.query(criteria)).items == ()
            else:
                assert seen.unwrap().status is Status.PARKED
                assert or_raise(await hub.query(Criteria(status="parked"))).items
            assert or_raise(await Maintenance(hub).verify()).clean
            assert or_raise(await Maintenance(hub).cleanup()).deleted == 1
            assert await stored(hub, "", *BESIDE) == []
        assert marked > len(BESIDE) - 1


async def test_a_name_is_free_again_only_when_nothing_is_left(store):
    async with open_test_hub(store, keyring=RING) as hub:
        new = or_raise(await hub.suspend("state", awaiting=ASK, idempotency_key="one"))
        or_raise(await hub.cancel(new.id))
        travel(hub, WEEK)
        again = []

        async def suspend():
            again.append(or_raise(await hub.suspend("state", awaiting=ASK, idempotency_key="one")))

        store.left, store.between = 4, suspend
        assert or_raise(await Maintenance(hub).cleanup()).deleted == 1
        assert [one.created_at for one in again] == [new.created_at]
        later = or_raise(await hub.suspend("state", awaiting=ASK, idempotency_key="one"))
        assert (later.id, later.status) == (new.id, Status.WAITING)
        assert later.created_at > new.created_at
