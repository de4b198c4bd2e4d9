"""Lost acknowledgements and failing stores: a verb that was done is a success, one that was not is a typed failure."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
import pytest_asyncio
from returns.result import Failure, Success

from flowpersist import AwaitInput, Status, or_raise
from flowpersist.backends.base import RecordChange
from flowpersist.backends.memory import MemoryBackend
from flowpersist.errors import (
    AlreadyResumed,
    AnswerConflict,
    BackendUnavailable,
    RevisionConflict,
    StorageError,
    SuspensionBusy,
    UnknownOutcome,
)
from flowpersist.sealed.drafts import Draft
from flowpersist.testing.faults import FaultyBackend
from flowpersist.testing.hubs import open_test_hub

CONFIRM = AwaitInput(id="confirm", prompt="Ship it?", schema=bool)
ATTEMPTS = 5


@pytest_asyncio.fixture(loop_scope="module")
async def store():
    return FaultyBackend(MemoryBackend())


@pytest_asyncio.fixture(loop_scope="module")
async def hub(store):
    async with open_test_hub(store) as opened:
        yield opened


async def waiting(hub):
    return or_raise(await hub.suspend("s", awaiting=CONFIRM))


async def running(hub):
    return or_raise(await hub.claim((await waiting(hub)).key, True))


VERBS = {
    "suspend": (waiting, lambda hub, _: hub.suspend("t", awaiting=CONFIRM), Status.WAITING),
    "reserve": (waiting, lambda hub, _: hub.reserve(CONFIRM), Status.RESERVED),
    "answer": (waiting, lambda hub, new: hub.answer(new.key, True), Status.ANSWERED),
    "resume": (waiting, lambda hub, new: hub.resume(new.key, True), Status.COMPLETED),
    "claim": (waiting, lambda hub, new: hub.claim(new.key, True), Status.RUNNING),
    "cancel": (waiting, lambda hub, new: hub.cancel(new.key), Status.CANCELLED),
    "extend": (waiting, lambda hub, new: hub.extend(new.key, timeout=timedelta(1)), Status.WAITING),
    "renew": (running, lambda hub, run: hub.renew(run), Status.RUNNING),
    "complete": (running, lambda hub, run: hub.complete(run, 1), Status.COMPLETED),
    "fail": (running, lambda hub, run: hub.fail(run), Status.FAILED),
    "park": (running, lambda hub, run: hub.park(run, "t"), Status.PARKED),
    "release": (running, lambda hub, run: hub.release(run), Status.ANSWERED),
    "checkpoint": (running, lambda hub, run: hub.checkpoint(run, "u", awaiting={"n": CONFIRM}), Status.RUNNING),
    "suspend_next": (running, lambda hub, run: hub.suspend_next(run, "u", awaiting=CONFIRM), Status.WAITING),
}


def named(subject):
    return subject.suspension.id if hasattr(subject, "fence") else subject.id


@pytest.mark.parametrize("verb", VERBS)
async def test_a_lost_acknowledgement_is_cleared_up_and_done_once(store, hub, verb):
    prepare, call, after = VERBS[verb]
    subject = await prepare(hub)
    store.lose("put")
    told = or_raise(await call(hub, subject))
    seen = or_raise(await hub.inspect(told.id if verb in {"suspend", "reserve"} else named(subject)))
    assert seen.status is after
    assert len(or_raise(await hub.query()).items) == (2 if verb in {"suspend", "reserve"} else 1)


@pytest.mark.parametrize("verb", VERBS)
async def test_an_answer_that_got_lost_twice_is_cleared_up_too(store, hub, verb):
    """The put is done, and neither its reply nor the reply to its repeat arrives."""
    prepare, call, _ = VERBS[verb]
    subject = await prepare(hub)
    before = len(or_raise(await hub.query()).items)
    store.lose("put")
    store.fail("get")
    or_raise(await call(hub, subject))
    made = 1 if verb in {"suspend", "reserve"} else 0
    assert len(or_raise(await hub.query()).items) == before + made


@pytest.mark.parametrize("verb", VERBS)
async def test_a_store_that_stays_away_is_a_typed_failure_and_nothing_is_written(store, hub, verb):
    prepare, call, _ = VERBS[verb]
    subject = await prepare(hub)
    before = or_raise(await hub.inspect(named(subject)))
    store.fail("put", times=ATTEMPTS)
    error = (await call(hub, subject)).failure()
    assert isinstance(error, StorageError)
    assert isinstance(error, BackendUnavailable)
    assert error.retryable
    assert or_raise(await hub.inspect(named(subject))) == before
    or_raise(await call(hub, subject))


@pytest.mark.parametrize("verb", [name for name in VERBS if name not in {"suspend", "reserve"}])
async def test_reads_are_tried_again(store, hub, verb):
    prepare, call, _ = VERBS[verb]
    subject = await prepare(hub)
    store.fail("get", times=ATTEMPTS - 1)
    or_raise(await call(hub, subject))


async def test_an_outcome_that_stays_unknown_says_so_and_a_repeat_finds_it_done(store, hub):
    new = await waiting(hub)
    store.lose("put")
    store.fail("put", times=ATTEMPTS)
    error = (await hub.answer(new.key, True, answer_id="a")).failure()
    assert isinstance(error, UnknownOutcome)
    assert or_raise(await hub.answer(new.key, True, answer_id="a")).outcome == "replayed"


async def test_an_error_that_is_not_transient_is_not_tried_again(store, hub):
    new = await waiting(hub)
    store.fail("put", BackendUnavailable("read-only", "memory", retryable=False))
    calls = store.calls["put"]
    assert isinstance((await hub.answer(new.key, True)).failure(), BackendUnavailable)
    assert store.calls["put"] == calls + 1


async def test_each_verb_takes_one_read_and_one_write(store, hub):
    new = await waiting(hub)
    store.calls.clear()
    or_raise(await hub.answer(new.key, True))
    assert (store.calls["get"], store.calls["put"], store.calls["query"]) == (1, 1, 0)
    run = or_raise(await hub.claim(new.key))
    or_raise(await hub.renew(run))
    or_raise(await hub.complete(run))
    assert (store.calls["get"], store.calls["put"], store.calls["query"]) == (4, 4, 0)
    or_raise(await hub.inspect(new.key))
    assert (store.calls["get"], store.calls["put"]) == (5, 4)


async def test_a_put_whose_reply_was_lost_is_known_by_its_write_id(store, hub):
    new = await waiting(hub)
    records = hub.suspensions.records
    stands = or_raise(await records.read(str(new.id))).record
    store.lose("put")
    again = Draft(stands.head, stands.attributes, stands.due_at)
    assert or_raise(await records.put(str(new.id), again, revision=stands.revision, mark=stands.mark))
    # A conflict with somebody else is none that it has made.
    store.fail("put")
    late = await records.put(str(new.id), again, revision=stands.revision, mark=stands.mark)
    assert isinstance(late.failure(), RevisionConflict)


class Meeting(FaultyBackend):
    """Lets the next two puts begin at once, when both were decided on what was read."""

    left = 0

    async def put(self, ref, change, **options):
        if self.left == 2:
            self.met = asyncio.Barrier(2)
        if self.left:
            self.left -= 1
            await self.met.wait()
        return await super().put(ref, change, **options)


RACES = {
    "resume": (waiting, lambda hub, new, by: hub.resume(new.key, True, by=by), AlreadyResumed),
    "claim": (waiting, lambda hub, new, by: hub.claim(new.key, True, by=by), SuspensionBusy),
    "answer": (waiting, lambda hub, new, by: hub.answer(new.key, by == "ann", by=by), AnswerConflict),
}


@pytest.mark.parametrize("verb", RACES)
async def test_of_two_who_have_read_the_same_revision_one_wins(verb):
    prepare, call, lost = RACES[verb]
    async with open_test_hub(Meeting(MemoryBackend())) as hub:
        subject = await prepare(hub)
        hub.backend.left = 2
        done = await asyncio.gather(*(call(hub, subject, by) for by in ("ann", "bob")))
    assert sorted(isinstance(one, Success) for one in done) == [False, True]
    assert [type(one.failure()) for one in done if isinstance(one, Failure)] == [lost]


class Overtaken(MemoryBackend):
    """Loses the first acknowledgement, and somebody else has changed the record before it is asked for again."""

    lost = False

    async def put(self, ref, change, *, if_revision, not_after=None):
        written = await super().put(ref, change, if_revision=if_revision, not_after=not_after)
        if self.lost:
            return written
        self.lost = True
        await super().put(ref, RecordChange("somebody else's"), if_revision=written.revision)
        raise UnknownOutcome("lost", self.name)


@pytest.mark.parametrize("named", [None, "order-1"])
async def test_a_suspension_that_changed_before_its_lost_acknowledgement_was_cleared_up_is_its_own(named):
    async with open_test_hub(Overtaken()) as hub:
        new = or_raise(await hub.suspend("state", idempotency_key=named))
        assert hub.backend.lost
        assert or_raise(await hub.resume(new.key)).state == "state"


async def test_a_digest_of_the_state_is_kept_only_where_somebody_can_come_with_another(hub):
    async def fingerprint(new):
        return or_raise(await hub.suspensions.look("inspect", new.id)).head.fingerprint

    assert await fingerprint(or_raise(await hub.suspend("state"))) is None
    assert await fingerprint(or_raise(await hub.suspend("state", idempotency_key="order-1"))) is not None
    reserved = or_raise(await hub.reserve())
    assert await fingerprint(or_raise(await hub.suspend("state", key=reserved.key))) is not None
