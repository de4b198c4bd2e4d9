"""What the holder of a run can do, when it no longer can, and how the keys of earlier pauses are told the truth."""

from __future__ import annotations

from datetime import timedelta

import pytest
import pytest_asyncio
from attrs import evolve
from returns.result import Failure

from flowpersist import AwaitInput, Status, or_raise
from flowpersist.errors import (
    AlreadyResumed,
    LeaseLost,
    StillWaiting,
    SuspensionBusy,
    SuspensionCancelled,
    SuspensionExpired,
    UnreadAnswers,
    UnsupportedType,
    WaitSuperseded,
)
from flowpersist.testing.hubs import open_test_hub, travel

CONFIRM = AwaitInput(id="confirm", prompt="Ship it?", schema=bool)
LEASE = timedelta(seconds=30)
LATER = timedelta(seconds=31)
HOUR = timedelta(hours=1)

HOLDERS_VERBS = {
    "renew": lambda hub, run: hub.renew(run),
    "complete": lambda hub, run: hub.complete(run, {"done": True}),
    "fail": lambda hub, run: hub.fail(run, "Boom"),
    "park": lambda hub, run: hub.park(run, "parked"),
    "release": lambda hub, run: hub.release(run),
    "suspend_next": lambda hub, run: hub.suspend_next(run, "next", awaiting=CONFIRM),
}
every_holders_verb = pytest.mark.parametrize("verb", HOLDERS_VERBS)


@pytest_asyncio.fixture(loop_scope="module")
async def hub():
    async with open_test_hub() as opened:
        yield opened


@pytest_asyncio.fixture(loop_scope="module")
async def run(hub):
    new = or_raise(await hub.suspend({"step": 1}, awaiting=CONFIRM))
    return or_raise(await hub.claim(new.key, True, by="ann"))


async def test_complete_keeps_the_outcome_and_drops_the_state(hub, run):
    done = or_raise(await hub.complete(run, {"total": 3}))
    assert done.status is Status.COMPLETED
    assert or_raise(await hub.outcome(run.suspension.id)) == {"total": 3}
    assert isinstance((await hub.claim(run.suspension.id)).failure(), AlreadyResumed)


async def test_complete_without_an_outcome(hub, run):
    or_raise(await hub.complete(run))
    assert or_raise(await hub.outcome(run.suspension.id)) is None


async def test_an_outcome_that_cannot_be_kept_leaves_the_run_held(hub, run):
    assert isinstance((await hub.complete(run, object())).failure(), UnsupportedType)
    or_raise(await hub.complete(run, "fine"))


async def test_there_is_no_outcome_before_completion_nor_after_another_end(hub, run):
    early = (await hub.outcome(run.suspension.id)).failure()
    assert isinstance(early, StillWaiting)
    assert early.suspension.status is Status.RUNNING
    or_raise(await hub.fail(run))
    assert isinstance((await hub.outcome(run.suspension.id)).failure(), AlreadyResumed)


async def test_fail_keeps_the_class_of_an_exception_and_not_its_text(hub, run):
    failed = or_raise(await hub.fail(run, KeyError("card 4111")))
    assert (failed.status, failed.error) == (Status.FAILED, "KeyError")
    assert isinstance((await hub.claim(run.suspension.id)).failure(), AlreadyResumed)


async def test_release_makes_it_claimable_again_with_the_same_answers(hub, run):
    released = or_raise(await hub.release(run, "try later"))
    assert (released.status, released.error) == (Status.ANSWERED, "try later")
    again = or_raise(await hub.claim(run.suspension.id))
    assert (again.attempt, again.sequence, dict(again.answers), again.state) == (2, 1, {"confirm": True}, {"step": 1})
    assert again.answered_by == "ann"


async def test_release_with_a_delay_is_busy_until_then(hub, run):
    or_raise(await hub.release(run, delay=HOUR))
    busy = (await hub.claim(run.suspension.id)).failure()
    assert isinstance(busy, SuspensionBusy)
    assert busy.retry_at - run.suspension.updated_at >= HOUR
    assert or_raise(await hub.claim_due()) == ()
    travel(hub, 2 * HOUR)
    assert len(or_raise(await hub.claim_due())) == 1


async def test_renew_moves_the_end_of_the_lease(hub, run):
    travel(hub, timedelta(seconds=20))
    end = or_raise(await hub.renew(run, lease=HOUR))
    assert end - run.suspension.updated_at > HOUR
    travel(hub, timedelta(minutes=50))
    or_raise(await hub.complete(run))


@every_holders_verb
async def test_after_the_lease_has_ended_the_holder_has_lost_it_though_nobody_took_over(hub, run, verb):
    travel(hub, LATER)
    assert isinstance((await HOLDERS_VERBS[verb](hub, run)).failure(), LeaseLost)
    assert or_raise(await hub.inspect(run.suspension.id)).status is Status.ANSWERED
    assert or_raise(await hub.claim(run.suspension.id)).attempt == 2


@every_holders_verb
async def test_the_old_holder_can_do_nothing_once_another_has_it(hub, run, verb):
    travel(hub, LATER)
    second = or_raise(await hub.claim(run.suspension.id))
    assert isinstance((await HOLDERS_VERBS[verb](hub, run)).failure(), LeaseLost)
    or_raise(await HOLDERS_VERBS[verb](hub, second))


@every_holders_verb
async def test_a_fence_alone_holds_nothing(hub, run, verb):
    """Two processes can't both believe in fence 1: the claim id is the holder's own."""
    thief = evolve(run, claim_id="guessed")
    assert isinstance((await HOLDERS_VERBS[verb](hub, thief)).failure(), LeaseLost)
    or_raise(await HOLDERS_VERBS[verb](hub, run))


@pytest.mark.parametrize("verb", ["complete", "fail", "park", "release", "suspend_next"])
async def test_a_holder_whose_reply_was_lost_repeats_and_succeeds(hub, run, verb):
    first = or_raise(await HOLDERS_VERBS[verb](hub, run))
    again = or_raise(await HOLDERS_VERBS[verb](hub, run))
    assert (again.id, again.status, again.updated_at) == (first.id, first.status, first.updated_at)
    if verb == "suspend_next":
        assert again.key == first.key


async def test_another_verb_of_the_same_fence_is_no_repeat(hub, run):
    or_raise(await hub.release(run))
    assert isinstance((await hub.complete(run)).failure(), LeaseLost)


async def test_a_repeat_holds_across_the_next_claim(hub, run):
    or_raise(await hub.release(run))
    second = or_raise(await hub.claim(run.suspension.id))
    or_raise(await hub.release(run))  # the old one's repeat changes nothing
    assert or_raise(await hub.inspect(run.suspension.id)).status is Status.RUNNING
    or_raise(await hub.complete(second))


# --------------------------------------------------------------------------------------------------------- cancelling


async def test_a_running_one_is_cancelled_at_its_next_renewal(hub, run):
    noted = or_raise(await hub.cancel(run.suspension.id, "stop"))
    assert noted.status is Status.RUNNING
    error = (await hub.renew(run)).failure()
    assert isinstance(error, SuspensionCancelled)
    assert or_raise(await hub.inspect(run.suspension.id)).reason == "stop"
    assert isinstance((await hub.complete(run)).failure(), SuspensionCancelled)


@pytest.mark.parametrize("verb", ["fail", "park", "release", "suspend_next", "renew"])
async def test_every_verb_but_complete_carries_the_cancellation_out(hub, run, verb):
    or_raise(await hub.cancel(run.suspension.id))
    assert isinstance((await HOLDERS_VERBS[verb](hub, run)).failure(), SuspensionCancelled)
    assert or_raise(await hub.inspect(run.suspension.id)).status is Status.CANCELLED


async def test_complete_wins_if_it_comes_first(hub, run):
    or_raise(await hub.cancel(run.suspension.id))
    assert or_raise(await hub.complete(run)).status is Status.COMPLETED


async def test_the_lapse_of_the_lease_cancels_too(hub, run):
    or_raise(await hub.cancel(run.suspension.id, "stop"))
    travel(hub, LATER)
    seen = or_raise(await hub.inspect(run.suspension.id))
    assert (seen.status, seen.reason) == (Status.CANCELLED, "stop")
    assert isinstance((await hub.claim(run.suspension.id)).failure(), SuspensionCancelled)


# ------------------------------------------------------------------------------------------------------ unread answers


async def test_answers_that_came_while_it_ran_are_not_completed_away(hub):
    pair = or_raise(await hub.suspend(0, awaiting=dict.fromkeys("ab", CONFIRM), until="each"))
    run = or_raise(await hub.claim(pair.keys["a"], True))
    or_raise(await hub.answer(pair.keys["b"], True))
    unread = (await hub.complete(run)).failure()
    assert isinstance(unread, UnreadAnswers)
    assert "b" in str(unread)
    assert or_raise(await hub.complete(run, discard=True)).status is Status.COMPLETED


async def test_what_a_claim_delivers_is_frozen_for_its_sequence(hub):
    pair = or_raise(await hub.suspend(0, awaiting=dict.fromkeys("ab", CONFIRM), until="each"))
    or_raise(await hub.claim(pair.keys["a"], True))
    or_raise(await hub.answer(pair.keys["b"], True))
    travel(hub, LATER)
    second = or_raise(await hub.claim(pair.id))
    assert (second.attempt, dict(second.answers)) == (2, {"a": True})
    paused = or_raise(await hub.suspend_next(second, 1, until="each"))
    assert paused.status is Status.ANSWERED
    assert dict(or_raise(await hub.claim(pair.id)).answers) == {"b": True}


# ------------------------------------------------------------------------------------------------------- earlier pauses


async def test_pausing_again_keeps_the_id_and_changes_the_key(hub):
    first = or_raise(await hub.suspend({"step": 1}, awaiting=CONFIRM))
    run = or_raise(await hub.claim(first.key, True))
    second = or_raise(await hub.suspend_next(run, {"step": 2}, awaiting=CONFIRM, timeout=HOUR))
    assert (second.id, second.sequence, second.attempt, second.status) == (first.id, 2, 0, Status.WAITING)
    assert second.key != first.key
    assert second.deadline is not None
    assert or_raise(await hub.resume(second.key, False)).state == {"step": 2}


@pytest.mark.parametrize("stage", ["waiting", "answered", "running", "completed", "expired", "cancelled"])
async def test_a_key_of_an_earlier_pause_never_takes_a_later_one(hub, stage):
    first = or_raise(await hub.suspend(1, awaiting=CONFIRM))
    run = or_raise(await hub.claim(first.key, True, by="ann", answer_id="a", claim_id="same"))
    second = or_raise(await hub.suspend_next(run, 2, awaiting=CONFIRM, timeout=HOUR))
    if stage == "answered":
        or_raise(await hub.answer(second.key, True))
    elif stage == "running":
        or_raise(await hub.claim(second.key, True, claim_id="same"))
    elif stage == "completed":
        or_raise(await hub.resume(second.key, True, answer_id="a"))
    elif stage == "expired":
        travel(hub, 2 * HOUR)
    elif stage == "cancelled":
        or_raise(await hub.cancel(second.key))
    before = or_raise(await hub.inspect(first.key))
    refused = (
        await hub.resume(first.key),
        await hub.resume(first.key, True, answer_id="a"),
        await hub.resume(first.key, False),
        await hub.claim(first.key),
        await hub.claim(first.key, True, claim_id="same"),
        await hub.answer(first.key, False),
    )
    assert {type(one.failure()) for one in refused} == {AlreadyResumed}
    assert isinstance(await hub.extend(first.key, timeout=HOUR), Failure)
    assert (await hub.answer(first.key, False)).failure().receipt.by == "ann"
    assert or_raise(await hub.answer(first.key, True)).outcome == "replayed"
    assert or_raise(await hub.inspect(first.key)) == before


async def test_a_key_of_an_earlier_pause_cancels_nothing(hub):
    first = or_raise(await hub.suspend(1, awaiting=CONFIRM))
    run = or_raise(await hub.claim(first.key, True))
    or_raise(await hub.suspend_next(run, 2, awaiting=CONFIRM))
    assert isinstance((await hub.cancel(first.key)).failure(), AlreadyResumed)
    assert or_raise(await hub.inspect(first.id)).status is Status.WAITING


async def test_each_old_key_is_told_how_its_own_wait_ended(hub):
    """Used, superseded, expired: also when the run as a whole ended otherwise."""
    first = or_raise(await hub.suspend(1, awaiting=dict.fromkeys(["won", "lost"], CONFIRM), until="any"))
    run = or_raise(await hub.claim(first.keys["won"], True))
    each = {"used": CONFIRM, "late": AwaitInput(id="late", prompt="?", timeout=timedelta(seconds=5))}
    second = or_raise(await hub.suspend_next(run, 2, awaiting=each, until="each"))
    travel(hub, timedelta(seconds=6))
    run = or_raise(await hub.claim(second.keys["used"], True))
    assert set(run.expired) == {"late"}
    third = or_raise(await hub.suspend_next(run, 3, awaiting=CONFIRM))
    told = {
        "won": first.keys["won"],
        "lost": first.keys["lost"],
        "used": second.keys["used"],
        "late": second.keys["late"],
    }
    expected = {"won": AlreadyResumed, "lost": WaitSuperseded, "used": AlreadyResumed, "late": SuspensionExpired}
    for _ in range(2):
        for name, key in told.items():
            assert type((await hub.answer(key, False)).failure()) is expected[name], name
            assert type((await hub.resume(key)).failure()) is expected[name], name
        await hub.cancel(third.key)  # and the same once the run has ended otherwise


async def test_an_answer_that_was_never_read_is_not_called_used(hub):
    """One of two is answered, the other expires: the first was not used, the suspension expired."""
    late = AwaitInput(id="late", prompt="?", timeout=HOUR)
    pair = or_raise(await hub.suspend(1, awaiting={"a": CONFIRM, "late": late}))
    or_raise(await hub.answer(pair.keys["a"], True))
    travel(hub, 2 * HOUR)
    assert type((await hub.answer(pair.keys["a"], False)).failure()) is SuspensionExpired
    assert or_raise(await hub.answer(pair.keys["a"], True)).outcome == "replayed"


async def test_waits_that_are_carried_over_keep_their_keys_and_names_stay_unique(hub):
    pair = or_raise(await hub.suspend(0, awaiting=dict.fromkeys("ab", CONFIRM), until="each"))
    run = or_raise(await hub.claim(pair.keys["a"], True))
    with pytest.raises(ValueError, match="b"):
        await hub.suspend_next(run, 1, awaiting={"b": CONFIRM}, until="each")
    paused = or_raise(await hub.suspend_next(run, 1, awaiting={"a": CONFIRM, "c": CONFIRM}, until="each"))
    assert set(paused.keys) == {"a", "b", "c"}
    assert paused.keys["b"] == pair.keys["b"]
    assert paused.keys["a"] != pair.keys["a"]
