"""Runs that have failed and are parked, on every backend: what is kept, who retries, what becomes of their waits."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from flowpersist import AwaitInput, Criteria, KeyRing, Maintenance, Status, or_raise
from flowpersist.errors import (
    AlreadyResumed,
    EncryptionError,
    LeaseLost,
    StillWaiting,
    SuspensionBusy,
    SuspensionCancelled,
    SuspensionNotFound,
    UnexpectedType,
    WaitSuperseded,
)
from flowpersist.testing.hubs import open_test_hub, travel

ASK = AwaitInput(id="ask", prompt="Ship it?", schema=bool)
LEASE = timedelta(seconds=30)
#: Of what a test holds, on a server that others keep busy.
LONG = timedelta(hours=1)


@pytest.fixture
async def hub(url):
    async with open_test_hub(url, retention=timedelta(days=7)) as opened:
        yield opened


async def parked(hub, state="parked", **awaiting):
    """A run that was parked in its second pause's work, with these waits."""
    new = or_raise(await hub.suspend("first", awaiting=awaiting or None, until="each"))
    keys = dict(new.keys)
    if awaiting:
        or_raise(await hub.answer(keys["a"], True))
    run = or_raise(await hub.claim(new.id, lease=LONG))
    return or_raise(await hub.park(run, state, error="Boom")), keys


async def test_a_parked_run_keeps_its_state_and_is_listed(hub):
    seen, _ = await parked(hub, {"step": 3})
    assert (seen.status, seen.error) == (Status.PARKED, "Boom")
    listed = or_raise(await hub.query(Criteria(status="parked")))
    assert [one.id for one in listed.items] == [seen.id]
    peek = or_raise(await hub.peek(seen.id, expect=dict))
    assert (peek.state, peek.suspension.status) == ({"step": 3}, Status.PARKED)
    assert isinstance((await hub.peek(seen.id, expect=list)).failure(), UnexpectedType)
    assert or_raise(await hub.claim_due()) == ()


async def test_one_of_many_retries_wins(hub):
    seen, _ = await parked(hub)
    told = await asyncio.gather(*(hub.retry(seen.id, number, lease=LONG) for number in range(8)))
    won = [one.value_or(None) for one in told if one.value_or(None) is not None]
    assert len(won) == 1
    lost = [one.failure() for one in told if one.value_or(None) is None]
    assert {type(one) for one in lost} == {SuspensionBusy}
    assert or_raise(await hub.peek(seen.id)).state == won[0].state
    assert (won[0].sequence, won[0].attempt, won[0].fence) == (2, 1, 2)
    or_raise(await hub.complete(won[0], "done"))
    assert isinstance((await hub.retry(seen.id, lease=LONG)).failure(), AlreadyResumed)


async def test_a_retry_of_what_was_retried_and_parked_again_is_refused(hub):
    seen, _ = await parked(hub)
    again = or_raise(await hub.retry(seen.id, sequence=seen.sequence, lease=LONG))
    or_raise(await hub.park(again))
    assert isinstance((await hub.retry(seen.id, sequence=seen.sequence, lease=LONG)).failure(), AlreadyResumed)
    assert or_raise(await hub.retry(seen.id, lease=LONG)).state == "parked"


async def test_a_retry_that_dies_is_taken_over_with_the_state_that_it_brought(hub):
    seen, _ = await parked(hub, "old")
    dead = or_raise(await hub.retry(seen.id, "mended", lease=LEASE))
    travel(hub, 2 * LEASE)
    (run,) = or_raise(await hub.claim_due())
    assert (run.state, run.sequence, run.attempt) == ("mended", 2, 2)
    assert isinstance((await hub.park(dead)).failure(), LeaseLost)
    or_raise(await hub.complete(run))


async def test_the_same_claim_again_gets_the_same_run(hub):
    seen, _ = await parked(hub)
    first = or_raise(await hub.retry(seen.id, "mended", claim_id="mine", lease=LONG))
    again = or_raise(await hub.retry(seen.id, "mended", claim_id="mine", lease=LONG))
    assert (again.fence, again.state) == (first.fence, "mended")


async def test_the_waits_of_a_parked_run_are_closed_and_its_keys_say_so(hub):
    seen, keys = await parked(hub, a=ASK, b=ASK)
    assert isinstance((await hub.answer(keys["b"], True)).failure(), AlreadyResumed)
    run = or_raise(await hub.retry(seen.id, lease=LONG))
    assert not run.answers
    late = (await hub.answer(keys["b"], True)).failure()
    assert isinstance(late, WaitSuperseded)
    paused = or_raise(await hub.suspend_next(run, "again", awaiting={"b": ASK}))
    assert paused.keys["b"] != keys["b"]


async def test_answers_that_nobody_has_read_are_given_to_the_retry(hub):
    new = or_raise(await hub.suspend("first", awaiting={"a": ASK, "b": ASK, "c": ASK}, until="each"))
    or_raise(await hub.answer(new.keys["a"], True, by="ann"))
    run = or_raise(await hub.claim(new.id, lease=LONG))
    or_raise(await hub.answer(new.keys["b"], False, by="bob"))
    or_raise(await hub.park(run, "parked", unread=["a"]))
    again = or_raise(await hub.retry(new.id, lease=LONG))
    assert (again.answers, again.answerers) == ({"a": True, "b": False}, {"a": "ann", "b": "bob"})
    or_raise(await hub.park(again, unread=["a", "b"]))
    third = or_raise(await hub.retry(new.id, superseded=["a"], lease=LONG))
    assert third.answers == {"b": False}
    with pytest.raises(ValueError, match="unread"):
        await hub.park(third, unread=["c"])


async def test_a_parked_run_may_be_cancelled_and_then_not_retried(hub):
    seen, _ = await parked(hub)
    assert or_raise(await hub.cancel(seen.id, "enough")).status is Status.CANCELLED
    assert isinstance((await hub.retry(seen.id, lease=LONG)).failure(), SuspensionCancelled)


async def test_a_parked_run_is_swept_after_the_retention_only(hub):
    seen, _ = await parked(hub)
    maintenance = Maintenance(hub)
    travel(hub, timedelta(days=7) - timedelta(seconds=5))
    assert or_raise(await maintenance.cleanup()).deleted == 0
    assert or_raise(await hub.retry(seen.id, lease=timedelta(days=30))).state == "parked"
    travel(hub, timedelta(days=8))
    assert or_raise(await maintenance.cleanup()).deleted == 0
    other, _ = await parked(hub)
    travel(hub, timedelta(days=7, seconds=5))
    assert or_raise(await maintenance.cleanup()).deleted == 1
    assert isinstance((await hub.peek(other.id)).failure(), SuspensionNotFound)


async def test_what_is_not_parked_is_not_retried(hub):
    new = or_raise(await hub.suspend("first", awaiting=ASK))
    assert isinstance((await hub.retry(new.id, lease=LONG)).failure(), StillWaiting)
    or_raise(await hub.answer(new.key, True))
    assert isinstance((await hub.retry(new.id, lease=LONG)).failure(), StillWaiting)
    run = or_raise(await hub.claim(new.id, lease=LONG))
    assert isinstance((await hub.retry(new.id, lease=LONG)).failure(), SuspensionBusy)
    or_raise(await hub.fail(run))
    assert isinstance((await hub.retry(new.id, lease=LONG)).failure(), AlreadyResumed)
    assert isinstance((await hub.peek(new.id)).failure(), AlreadyResumed)


async def test_a_process_without_the_state_subkey_neither_looks_nor_retries(url):
    ring = KeyRing.generate()
    async with open_test_hub(url, keyring=ring) as hub:
        seen, _ = await parked(hub)
        hub.use_keyring(ring.control_only())
        for call in (hub.peek(seen.id), hub.retry(seen.id), hub.retry(seen.id, "mended", lease=LONG)):
            assert isinstance((await call).failure(), EncryptionError)
        assert or_raise(await hub.inspect(seen.id)).status is Status.PARKED
