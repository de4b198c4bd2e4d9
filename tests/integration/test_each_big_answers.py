"""Answers that fit no head stand beside it: as large as a state, as many as there are waits, as safe as the rest, on
every backend and by both hubs.
"""

from __future__ import annotations

import asyncio
import os
import random
from datetime import timedelta

import pytest
from returns.result import Success

from flowpersist import AwaitInput, KeyRing, Limits, Maintenance, RaisingHub, Status, or_raise
from flowpersist.backends.base import RecordChange, Where
from flowpersist.backends.memory import MemoryBackend
from flowpersist.errors import (
    AlreadyResumed,
    AnswerConflict,
    BackendUnavailable,
    InputValidationError,
    IntegrityError,
    PersistenceError,
    StateTooLarge,
    TamperedEnvelope,
)
from flowpersist.testing.faults import FaultyBackend
from flowpersist.testing.hubs import open_test_hub, travel

ASK = AwaitInput(id="text", prompt="Say it", schema=str)
ANSWERS = "default.answers"
LEASE = timedelta(seconds=30)
LATER = timedelta(hours=3)


def text(size, seed=0):
    """A text that no compressor makes smaller by much."""
    return random.Random(seed).randbytes(size // 2).hex()


@pytest.fixture(params=["sealed"])
async def hub(request, url):
    ring = KeyRing.generate() if request.param == "sealed" else None
    async with open_test_hub(url, keyring=ring) as opened:
        yield opened


async def beside(hub):
    """The records of large answers."""
    return (await hub.backend.query(ANSWERS, Where(), limit=100)).items


def named(number):
    return {f"w{n}": ASK for n in range(number)}


# ---------------------------------------------------------------------------------------------------------------- size


async def test_eight_of_sixty_kilobytes_leave_the_last_one_room(hub):
    given = {name: text(60_000, seed) for seed, name in enumerate(named(8))}
    new = or_raise(await hub.suspend({"n": 1}, awaiting=named(8), until="all"))
    outcomes = [or_raise(await hub.answer(new.keys[name], value)).outcome for name, value in given.items()]
    assert outcomes == ["pending"] * 7 + ["accepted"]
    run = or_raise(await hub.claim(new.id))
    assert (dict(run.answers), run.state) == (given, {"n": 1})
    assert or_raise(await hub.complete(run, "done")).status is Status.COMPLETED


async def test_one_may_be_as_large_as_a_state(url):
    limit = 3 * 2**20
    async with open_test_hub(url, limits=Limits(max_bytes=limit)) as hub:
        raising = RaisingHub(hub)
        new = await raising.suspend("s", awaiting=ASK)
        for over in ("x" * limit, "x" * (limit + 1)):
            with pytest.raises((StateTooLarge, InputValidationError)):
                await raising.answer(new.key, over)
            assert (await raising.inspect(new.key)).status is Status.WAITING
        assert await beside(hub) == ()
        largest = text(limit - 64)
        assert (await raising.answer(new.key, largest)).outcome == "accepted"
        assert (await raising.resume(new.key)).answer == largest
        # What a state may have, an answer may.
        assert (await raising.suspend(largest)).status is Status.WAITING


async def test_await_input_takes_what_a_hub_takes(url):
    async with open_test_hub(url) as hub:
        asked = AwaitInput(id="w", prompt="?", schema=str)
        new = or_raise(await hub.suspend("s", awaiting=asked))
        given = text(300_000)
        assert or_raise(asked.check(given)) == given
        or_raise(await hub.answer(new.key, given))
        assert or_raise(await hub.resume(new.key, awaiting=asked)).answer == given


async def test_many_that_fit_each_alone_fit_together(url):
    """A hundred and fifty of 2 KB: 300 KB, of which a head takes a part."""
    async with open_test_hub(url, keyring=None, compression="none") as hub:
        given = {name: text(2_000, seed) for seed, name in enumerate(named(150))}
        new = or_raise(await hub.suspend("s", awaiting=named(150)))
        for name, value in given.items():
            or_raise(await hub.answer(new.keys[name], value, by="ana"))
        assert dict(or_raise(await hub.resume(new.id)).answers) == given


OTHERWISE = {"numbers": [2**4095] * 100, "emoji": "😀" * 5_000, "key": {"k" * 5_000: None}, "lists": [[""]] * 4_000}


@pytest.mark.parametrize("value", OTHERWISE.values(), ids=OTHERWISE)
async def test_what_is_large_in_another_way_is_large_too(value):
    async with open_test_hub(keyring=None, compression="none") as hub:
        waits = {f"w{n}": AwaitInput(id="any", prompt="") for n in range(8)}
        new = or_raise(await hub.suspend("s", awaiting=waits))
        for key in new.keys.values():
            or_raise(await hub.answer(key, value))
        assert dict(or_raise(await hub.resume(new.id)).answers) == dict.fromkeys(waits, value)
        assert len(await beside(hub)) == 8


async def test_what_is_small_costs_what_it_did():
    """One read and one put; a large one takes a put more, and its taker a read."""
    store = FaultyBackend(MemoryBackend())
    async with open_test_hub(store) as hub:
        for value, puts, reads in ((text(3_000), 1, 1), (text(5_000), 2, 2)):
            new = or_raise(await hub.suspend("s", awaiting=ASK))
            store.calls.clear()
            or_raise(await hub.answer(new.key, value))
            assert (store.calls["get"], store.calls["put"], store.calls["query"]) == (1, puts, 0)
            or_raise(await hub.claim(new.key))
            assert (store.calls["get"], store.calls["put"]) == (1 + reads, puts + 1)


async def test_a_default_has_its_room_when_it_is_asked_for():
    """It is an answer that comes by itself, when nobody could put it elsewhere."""
    async with open_test_hub(keyring=None, compression="none") as hub:

        def asking(number, size=50_000):
            return {
                f"w{n}": AwaitInput(id="t", prompt="", schema=str, default=text(size, n), timeout=LEASE)
                for n in range(number)
            }

        assert isinstance((await hub.suspend("s", awaiting=asking(1, 130_000))).failure(), StateTooLarge)
        # Two fit in the head, and three on pages.
        for number in (2, 3):
            new = or_raise(await hub.suspend("s", awaiting=asking(number)))
            travel(hub, LATER)
            assert or_raise(await Maintenance(hub).tick()).updated
            run = or_raise(await hub.claim(new.id))
            assert dict(run.answers) == {f"w{n}": text(50_000, n) for n in range(number)}


# ------------------------------------------------------------------------------------------------------------ delivery


async def test_whoever_takes_it_gets_it_and_again(hub):
    big = text(50_000)
    new = or_raise(await hub.suspend("s", awaiting=ASK))
    first = or_raise(await hub.claim(new.key, big, claim_id="mine", answer_id="a1", lease=LEASE))
    again = or_raise(await hub.claim(new.key, big, claim_id="mine", answer_id="a1", lease=LEASE))
    assert (first.answer, again.answer, again.fence) == (big, big, first.fence)
    travel(hub, LEASE * 2)
    (taken_over,) = or_raise(await hub.claim_due(lease=LEASE))
    assert (taken_over.answer, taken_over.attempt) == (big, 2)
    or_raise(await hub.release(taken_over))
    for _ in range(2):
        assert or_raise(await hub.resume(new.key, answer_id="last")).answer == big
    assert isinstance((await hub.resume(new.key)).failure(), AlreadyResumed)


async def test_the_same_is_replayed_and_another_refused(hub):
    big, other = text(50_000), text(50_000, 1)
    new = or_raise(await hub.suspend("s", awaiting=ASK))
    or_raise(await hub.answer(new.key, big, by="ana", answer_id="a1"))

    async def told():
        same = or_raise(await hub.answer(new.key, big))
        assert (same.outcome, same.by) == ("replayed", "ana")
        assert or_raise(await hub.answer(new.key, other, answer_id="a1")).outcome == "replayed"
        return type((await hub.answer(new.key, other)).failure())

    assert await told() is AnswerConflict
    run = or_raise(await hub.claim(new.key))
    assert await told() is AlreadyResumed
    or_raise(await hub.suspend_next(run, "t", awaiting=ASK))
    assert await told() is AlreadyResumed
    assert len(await beside(hub)) == 1


@pytest.mark.parametrize("until", ["any", "each"])
async def test_the_others_of_a_pause_are_as_they_were(hub, until):
    big = text(20_000)
    new = or_raise(await hub.suspend(1, awaiting=named(3), until=until))
    or_raise(await hub.answer(new.keys["w1"], big))
    run = or_raise(await hub.claim(new.id))
    assert dict(run.answers) == {"w1": big}
    if until == "each":
        or_raise(await hub.answer(new.keys["w2"], text(20_000, 2)))
        assert or_raise(await hub.suspend_next(run, 2, until="each")).status is Status.ANSWERED
        assert dict(or_raise(await hub.claim(new.id)).answers) == {"w2": text(20_000, 2)}


async def test_a_tier_with_control_alone_can_give_it(url, stored):
    ring, canary = KeyRing.generate(), "canary-of-a-large-answer " * 1000
    async with open_test_hub(url, keyring=ring, compression="none") as worker:
        new = or_raise(await worker.suspend("s", awaiting=ASK))
    async with open_test_hub(url, keyring=ring.control_only(), compression="none") as form:
        assert or_raise(await form.answer(new.key, canary)).outcome == "accepted"
    assert b"canary-of-a-large" not in await stored()
    async with open_test_hub(url, keyring=ring) as worker:
        assert or_raise(await worker.resume(new.key)).answer == canary


# ------------------------------------------------------------------------------------------------------ races, crashes


async def test_of_several_at_once_one_wins_and_its_own_is_delivered(hub):
    for race in range(3):
        new = or_raise(await hub.suspend("s", awaiting=ASK))
        values = [text(20_000, seed) for seed in range(6)]
        told = await asyncio.gather(*(hub.answer(new.key, value) for value in values))
        (won,) = [value for value, one in zip(values, told, strict=True) if isinstance(one, Success)]
        assert {type(one.failure()) for one in told if not isinstance(one, Success)} == {AnswerConflict}
        assert or_raise(await hub.resume(new.key)).answer == won
        # The losers have taken their own away again, and nobody else's.
        assert len(await beside(hub)) == race + 1


async def orphan(hub, new):
    """What a crash leaves between the two puts."""
    read = or_raise(await hub.suspensions.look("inspect", new.id))
    return or_raise(await hub.suspensions.side_records.answers.store(read.head, text(9_000), 9_000, read.now))


async def test_what_a_crash_leaves_is_removed_and_nothing_else(hub):
    new = or_raise(await hub.suspend("s", awaiting=ASK))
    or_raise(await hub.answer(new.key, text(50_000)))
    await orphan(hub, new)
    assert len(await beside(hub)) == 2
    or_raise(await Maintenance(hub).cleanup())
    assert len(await beside(hub)) == 2
    for _ in range(2):
        travel(hub, LATER)
        or_raise(await Maintenance(hub).cleanup())
        (left,) = await beside(hub)
        assert left.due_at is None
    assert or_raise(await hub.resume(new.key)).answer == text(50_000)


async def test_it_goes_with_the_pause_and_with_the_suspension(hub):
    new = or_raise(await hub.suspend("s", awaiting=ASK))
    run = or_raise(await hub.claim(new.key, text(50_000)))
    following = or_raise(await hub.suspend_next(run, "t", awaiting=ASK))
    travel(hub, LATER)
    or_raise(await Maintenance(hub).cleanup())
    assert await beside(hub) == ()
    or_raise(await hub.resume(following.key, text(50_000, 1)))
    travel(hub, LATER)
    or_raise(await Maintenance(hub).cleanup())
    assert len(await beside(hub)) == 1
    travel(hub, timedelta(days=8))
    assert or_raise(await Maintenance(hub).cleanup()).deleted == 1
    assert await beside(hub) == ()


@pytest.mark.parametrize("failing", [1, 2], ids=["its own put", "the head's"])
async def test_a_store_that_stays_away_leaves_the_wait_open(failing):
    store = FaultyBackend(MemoryBackend())
    async with open_test_hub(store) as hub:
        new = or_raise(await hub.suspend("s", awaiting=ASK))
        away = BackendUnavailable("read-only", "memory", retryable=False)

        inner, original, puts = store.inner, store.inner.put, []

        async def put(ref, change, **conditions):
            puts.append(ref)
            if len(puts) >= failing:
                raise away
            return await original(ref, change, **conditions)

        inner.put = put
        assert isinstance((await hub.answer(new.key, text(50_000))).failure(), BackendUnavailable)
        inner.put = original
        assert or_raise(await hub.inspect(new.key)).status is Status.WAITING
        assert or_raise(await hub.answer(new.key, text(50_000))).outcome == "accepted"
        travel(hub, LATER)
        or_raise(await Maintenance(hub).cleanup())
        assert len(await beside(hub)) == 1


@pytest.mark.parametrize("lost", [1, 2], ids=["its own put", "the head's"])
async def test_a_lost_reply_is_cleared_up(lost):
    store = FaultyBackend(MemoryBackend())
    async with open_test_hub(store) as hub:
        new = or_raise(await hub.suspend("s", awaiting=ASK))
        for _ in range(lost):
            store.lose("put")
        assert or_raise(await hub.answer(new.key, text(50_000))).outcome == "accepted"
        assert or_raise(await hub.resume(new.key)).answer == text(50_000)
        assert len(await beside(hub)) == 1


async def test_a_put_that_comes_too_late_finds_nothing_removed():
    """A writer that slept between its two puts for longer than the grace puts no head that names what was swept."""
    backend = MemoryBackend()
    async with open_test_hub(backend) as hub:
        new = or_raise(await hub.suspend("s", awaiting=ASK))
        original, slept = backend.put, []

        async def put(ref, change, **conditions):
            if ref.namespace == "default" and not slept:
                slept.append(ref)
                travel(hub, LATER)
                or_raise(await Maintenance(hub).cleanup())
                assert await beside(hub) == ()
            return await original(ref, change, **conditions)

        backend.put = put
        assert or_raise(await hub.answer(new.key, text(50_000))).outcome == "accepted"
        assert slept
        assert or_raise(await hub.resume(new.key)).answer == text(50_000)


# ------------------------------------------------------------------------------------------------------------ tampering


async def replaced(hub, record, **parts):
    found = (await hub.backend.get(record.ref)).record
    await hub.backend.put(record.ref, RecordChange(os.urandom(8).hex(), **parts), if_revision=found.revision)


async def refused(hub, new):
    """What either hub says; nothing is taken."""
    told = {type((await hub.claim(new.id)).failure()), type((await hub.resume(new.id)).failure())}
    try:
        await RaisingHub(hub).claim(new.id)
    except PersistenceError as error:
        told.add(type(error))
    assert or_raise(await hub.inspect(new.id)).status is Status.ANSWERED
    return told


# Where no seal binds a record to its key, the fingerprint does.
@pytest.mark.parametrize("hub", ["sealed", "plain"], indirect=True)
async def test_another_answer_in_its_place_is_refused(hub):
    new = or_raise(await hub.suspend("s", awaiting=named(2)))
    for seed, key in enumerate(new.keys.values()):
        or_raise(await hub.answer(key, text(20_000, seed)))
    one, other = [(await hub.backend.get(found.ref)).record for found in await beside(hub)]
    # Its body alone, then the whole record.
    await replaced(hub, one, body=other.body)
    assert await refused(hub, new) == {TamperedEnvelope}
    await replaced(hub, one, body=other.body, head=other.head)
    assert await refused(hub, new) == {TamperedEnvelope}
    await replaced(hub, one, body=None, head=one.head)
    assert await refused(hub, new) == {IntegrityError}
    await replaced(hub, one, body=one.body)
    assert or_raise(await hub.resume(new.id)).answers["w1"] == text(20_000, 1)


async def test_one_that_is_gone_is_told_and_stops_nobody_else(hub):
    new = or_raise(await hub.suspend("s", awaiting=ASK))
    or_raise(await hub.answer(new.key, text(20_000)))
    healthy = or_raise(await hub.suspend("s", awaiting=ASK))
    or_raise(await hub.answer(healthy.key, "yes"))
    (record,) = await beside(hub)
    await hub.backend.delete(record.ref, if_revision=record.revision)
    assert await refused(hub, new) == {IntegrityError}
    assert [run.suspension.id for run in or_raise(await hub.claim_due(limit=5))] == [healthy.id]
