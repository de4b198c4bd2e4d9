"""running, hold and work: renewing, completing, releasing, and stopping when the lease is lost."""

# ruff: noqa: PT012 - what a block under a lease does and how it is left belong together

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
from returns.result import Failure, Success

from flowpersist import AwaitInput, RaisingHub, Status, hold, or_raise
from flowpersist.errors import BackendUnavailable, LeaseLost, StillWaiting, SuspensionCancelled, UnreadAnswers
from flowpersist.hub.worker import Backoff
from flowpersist.testing.hubs import open_test_hub, travel

CONFIRM = AwaitInput(id="confirm", prompt="Ship it?", schema=bool)
#: Renewed every 20 ms here, so that a slow machine loses none that is to be kept.
LEASE = timedelta(seconds=1)
MOST_OF_IT = 0.7 * LEASE
A_RENEWAL = 0.05
POLL = timedelta(seconds=0.002)
AT_ONCE = Backoff(first=timedelta(0))


@pytest.fixture(autouse=True)
def _often(monkeypatch):
    monkeypatch.setattr("flowpersist.hub.renewing.RENEWALS", 50)


@pytest.fixture
async def hub():
    async with open_test_hub() as opened:
        yield opened


async def answered(hub, state="s"):
    new = or_raise(await hub.suspend(state, awaiting=CONFIRM))
    or_raise(await hub.answer(new.key, True))
    return new


async def status(hub, new):
    return or_raise(await hub.inspect(new.id)).status


async def until(condition):
    async with asyncio.timeout(2):
        while not await condition():
            await asyncio.sleep(0.001)


async def closed(hub, *made):
    async def all_closed():
        return all([(await status(hub, new)).closed for new in made])

    await until(all_closed)


@asynccontextmanager
async def working(hub, handler, **options):
    options = {"poll": POLL, "backoff": AT_ONCE, **options}
    task = asyncio.create_task(hub.work(handler, **options))
    try:
        yield task
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


# ------------------------------------------------------------------------------------------------------------- running


async def test_running_completes_at_the_end(hub):
    new = await answered(hub)
    async with hub.running(new.key) as outcome:
        assert isinstance(outcome, Success)
        assert outcome.unwrap().state == "s"
        assert await status(hub, new) is Status.RUNNING
    assert await status(hub, new) is Status.COMPLETED


async def test_running_answers_and_claims_in_one(hub):
    new = or_raise(await hub.suspend("s", awaiting=CONFIRM))
    async with RaisingHub(hub).running(new.key, True, by="ann") as run:
        assert (run.answer, run.answered_by) == (True, "ann")
    assert await status(hub, new) is Status.COMPLETED


async def test_running_of_what_cannot_be_claimed(hub):
    new = or_raise(await hub.suspend("s", awaiting=CONFIRM))
    async with hub.running(new.key) as outcome:
        assert isinstance(outcome, Failure)
        assert isinstance(outcome.failure(), StillWaiting)
    with pytest.raises(StillWaiting):
        async with RaisingHub(hub).running(new.key):
            pytest.fail("the block must not run")
    assert await status(hub, new) is Status.WAITING


async def test_an_exception_in_the_block_releases_and_passes(hub):
    new = await answered(hub)
    with pytest.raises(KeyError, match="mine"):
        async with hub.running(new.key):
            raise KeyError("mine")
    seen = or_raise(await hub.inspect(new.key))
    assert (seen.status, seen.error) == (Status.ANSWERED, "KeyError")


async def test_a_cancellation_in_the_block_releases_and_passes(hub):
    new = await answered(hub)
    started = asyncio.Event()

    async def body():
        async with hub.running(new.key):
            started.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(body())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await status(hub, new) is Status.ANSWERED
    assert or_raise(await hub.claim(new.key)).attempt == 2


@pytest.mark.parametrize("verb", ["complete", "fail", "release", "suspend_next"])
async def test_a_block_that_has_finished_the_run_itself_is_left_alone(hub, verb):
    new = await answered(hub)
    ends = {"complete": Status.COMPLETED, "fail": Status.FAILED, "release": Status.ANSWERED, "suspend_next": "waiting"}
    async with hub.running(new.key) as outcome:
        run = outcome.unwrap()
        if verb == "suspend_next":
            or_raise(await hub.suspend_next(run, "next", awaiting=CONFIRM))
        else:
            or_raise(await getattr(hub, verb)(run))
    assert await status(hub, new) == ends[verb]
    assert hub.holds == {}


async def test_a_block_that_paused_and_then_raised_leaves_the_pause(hub):
    new = await answered(hub)
    with pytest.raises(RuntimeError):
        async with hub.running(new.key) as outcome:
            or_raise(await hub.suspend_next(outcome.unwrap(), "next", awaiting=CONFIRM))
            raise RuntimeError
    assert await status(hub, new) is Status.WAITING


async def test_running_renews_while_the_block_runs(hub):
    new = await answered(hub)
    async with hub.running(new.key, lease=LEASE):
        for _ in range(2):
            await asyncio.sleep(A_RENEWAL)
            travel(hub, MOST_OF_IT)
        assert await status(hub, new) is Status.RUNNING
    assert or_raise(await hub.inspect(new.key)).attempt == 1


async def test_the_end_of_the_block_with_unread_answers_is_an_error(hub):
    pair = or_raise(await hub.suspend(0, awaiting=dict.fromkeys("ab", CONFIRM), until="each"))
    or_raise(await hub.answer(pair.keys["a"], True))
    with pytest.raises(UnreadAnswers):
        async with hub.running(pair.id):
            or_raise(await hub.answer(pair.keys["b"], True))


# -------------------------------------------------------------------------------------------------------- a lost lease


async def test_a_lost_lease_cancels_the_block_and_says_so(hub):
    new = await answered(hub)
    reached_the_end = False
    with pytest.raises(LeaseLost):
        async with hub.running(new.key, lease=LEASE):
            travel(hub, timedelta(hours=1))
            await asyncio.sleep(2)
            reached_the_end = True
    assert not reached_the_end
    assert asyncio.current_task().cancelling() == 0
    assert await status(hub, new) is Status.ANSWERED


async def test_a_cancelled_run_cancels_the_block(hub):
    new = await answered(hub)
    with pytest.raises(SuspensionCancelled):
        async with hub.running(new.key, lease=LEASE):
            or_raise(await hub.cancel(new.id))
            await asyncio.sleep(2)
    assert await status(hub, new) is Status.CANCELLED


async def test_the_new_holder_is_not_disturbed_by_the_old_ones_end(hub):
    new = await answered(hub)
    with pytest.raises(LeaseLost):
        async with hub.running(new.key, lease=LEASE):
            travel(hub, timedelta(hours=1))
            second = or_raise(await hub.claim(new.key))
            await asyncio.sleep(2)
    or_raise(await hub.complete(second))


async def test_the_blocks_own_error_goes_before_the_lost_lease(hub):
    new = await answered(hub)
    with pytest.raises(ZeroDivisionError):
        async with hub.running(new.key, lease=LEASE):
            travel(hub, timedelta(hours=1))
            try:
                await asyncio.sleep(2)
            except asyncio.CancelledError:
                raise ZeroDivisionError from None
    assert asyncio.current_task().cancelling() == 0


async def test_a_cancellation_from_outside_at_the_same_time_as_a_lost_lease_wins(hub):
    new = await answered(hub)
    inside = asyncio.Event()

    async def body():
        async with hub.running(new.key, lease=LEASE):
            inside.set()
            try:
                await asyncio.sleep(2)
            finally:
                task.cancel()

    task = asyncio.create_task(body())
    await inside.wait()
    travel(hub, timedelta(hours=1))
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()


async def test_a_timeout_round_the_block_stays_a_timeout(hub):
    new = await answered(hub)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01), hub.running(new.key):
            await asyncio.sleep(2)
    assert await status(hub, new) is Status.ANSWERED


async def test_hold_stops_renewing_when_the_block_ends(hub):
    new = await answered(hub)
    run = or_raise(await hub.claim(new.key, lease=LEASE))
    async with hold(hub, run, lease=LEASE) as holding:
        assert (holding.finished, holding.lost) == (False, None)
    for _ in range(2):
        await asyncio.sleep(A_RENEWAL)
        travel(hub, MOST_OF_IT)
    assert isinstance((await hub.complete(run)).failure(), LeaseLost)
    assert hub.holds == {}


async def test_a_store_that_fails_for_less_than_the_lease_is_forgiven(hub, monkeypatch):
    new = await answered(hub)
    run = or_raise(await hub.claim(new.key, lease=LEASE))
    true_renew, failures = hub.renew, iter([BackendUnavailable("gone", "memory", retryable=True)])

    async def flaky(*args, **options):
        for error in failures:
            return Failure(error)
        return await true_renew(*args, **options)

    monkeypatch.setattr(hub, "renew", flaky)
    async with hold(hub, run, lease=LEASE):
        for _ in range(2):
            await asyncio.sleep(A_RENEWAL)
            travel(hub, MOST_OF_IT)
    assert list(failures) == []
    or_raise(await hub.complete(run))


@pytest.mark.parametrize("how", ["fails", "hangs"])
async def test_a_store_that_is_away_for_the_whole_lease_loses_it(hub, monkeypatch, how):
    new = await answered(hub)
    run = or_raise(await hub.claim(new.key))

    async def away(*_args, **_options):
        if how == "hangs":
            await asyncio.Event().wait()
        return Failure(BackendUnavailable("gone", "memory", retryable=True))

    monkeypatch.setattr(hub, "renew", away)
    with pytest.raises(LeaseLost) as lost:
        async with asyncio.timeout(1), hold(hub, run, lease=0.05 * LEASE):
            await asyncio.sleep(2)
    assert isinstance(lost.value.__cause__, BackendUnavailable)


# ---------------------------------------------------------------------------------------------------------------- work


async def test_work_handles_everything_once_and_keeps_the_results(hub):
    made = [await answered(hub, n) for n in range(12)]
    seen = []

    async def handler(run):
        seen.append(run.state)
        await asyncio.sleep(0)
        return run.state * 2

    async with working(hub, handler, concurrency=3):
        await closed(hub, *made)
    assert sorted(seen) == list(range(12))
    assert [or_raise(await hub.outcome(new.id)) for new in made] == [2 * n for n in range(12)]


async def test_work_never_exceeds_its_concurrency(hub):
    made = [await answered(hub, n) for n in range(10)]
    now = most = 0

    async def handler(_run):
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.002)
        now -= 1

    async with working(hub, handler, concurrency=3):
        await closed(hub, *made)
    assert most == 3


async def test_work_finds_what_comes_later(hub):
    async def handler(_run):
        return "done"

    async with working(hub, handler):
        await asyncio.sleep(0.01)
        new = await answered(hub)
        await closed(hub, new)
    assert or_raise(await hub.outcome(new.id)) == "done"


async def test_a_failing_handler_is_tried_again_and_given_up(hub):
    new = await answered(hub)
    attempts = []

    async def handler(run):
        attempts.append(run.attempt)
        raise OSError("card 4111")

    async with working(hub, handler, max_attempts=3):
        await closed(hub, new)
    seen = or_raise(await hub.inspect(new.id))
    assert (attempts, seen.status, seen.error) == ([1, 2, 3], Status.FAILED, "OSError")


async def test_a_handler_that_recovers_completes(hub):
    new = await answered(hub)

    async def handler(run):
        if run.attempt == 1:
            raise OSError
        return run.attempt

    async with working(hub, handler):
        await closed(hub, new)
    assert or_raise(await hub.outcome(new.id)) == 2


async def test_back_off_delays_the_next_attempt(hub):
    new = await answered(hub)
    tried = asyncio.Event()

    async def handler(_run):
        tried.set()
        raise OSError

    async with working(hub, handler, backoff=Backoff(first=timedelta(hours=1))):
        await tried.wait()

        async def released():
            return await status(hub, new) is Status.ANSWERED

        await until(released)
        assert or_raise(await hub.claim_due()) == ()
    travel(hub, timedelta(hours=2))
    assert or_raise(await hub.claim(new.id)).attempt == 2


def test_back_off_doubles_up_to_its_bound():
    backoff = Backoff(first=timedelta(seconds=1), most=timedelta(seconds=10))
    assert [backoff.delay(n).total_seconds() for n in (1, 2, 3, 4, 5, 1000)] == [1, 2, 4, 8, 10, 10]


async def test_a_run_whose_workers_died_without_a_word_is_given_up(hub):
    new = await answered(hub)
    for _ in range(2):
        or_raise(await hub.claim(new.id, lease=timedelta(seconds=1)))
        travel(hub, timedelta(seconds=2))

    async def handler(_run):
        pytest.fail("a poison run must not be handled again")

    async with working(hub, handler, max_attempts=2):
        await closed(hub, new)
    seen = or_raise(await hub.inspect(new.id))
    assert (seen.status, seen.error) == (Status.FAILED, "given up after 2 attempts")


async def test_a_result_that_cannot_be_kept_fails_the_run_in_the_end(hub):
    new = await answered(hub)

    async def handler(_run):
        return object()

    async with working(hub, handler, max_attempts=2):
        await closed(hub, new)
    assert or_raise(await hub.inspect(new.id)).error == "UnsupportedType"


async def test_stopping_the_worker_cancels_handlers_and_releases_their_runs(hub):
    new = await answered(hub)
    started, cancelled = asyncio.Event(), asyncio.Event()

    async def handler(_run):
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async with working(hub, handler):
        await started.wait()
    assert cancelled.is_set()
    seen = or_raise(await hub.inspect(new.id))
    assert (seen.status, seen.error) == (Status.ANSWERED, "the worker was stopped")
    assert or_raise(await hub.claim(new.id)).attempt == 2


async def test_a_worker_that_loses_a_lease_goes_on_with_other_runs(hub):
    first = await answered(hub, "slow")
    handled = []

    async def handler(run):
        if run.state == "slow" and run.attempt == 1:
            travel(hub, timedelta(hours=1))
            await asyncio.sleep(2)
        handled.append((run.state, run.attempt))

    async with working(hub, handler, lease=LEASE):
        await closed(hub, first)
        other = await answered(hub, "other")
        await closed(hub, other)
    assert handled == [("slow", 2), ("other", 1)]


async def test_a_handler_may_pause_the_run_again(hub):
    new = await answered(hub)

    async def handler(run):
        or_raise(await hub.suspend_next(run, "next", awaiting=CONFIRM))

    async with working(hub, handler):

        async def paused():
            return await status(hub, new) is Status.WAITING

        await until(paused)
    assert or_raise(await hub.inspect(new.id)).sequence == 2


async def test_two_workers_share_the_work(hub):
    made = [await answered(hub, n) for n in range(20)]
    handled = []

    async def handler(run):
        handled.append(run.state)
        await asyncio.sleep(0)

    async with working(hub, handler), working(hub, handler):
        await closed(hub, *made)
    assert sorted(handled) == list(range(20))


async def test_work_outlives_a_store_that_is_away_for_a_while(hub, monkeypatch):
    new = await answered(hub)
    true_claim_due = hub.claim_due
    failures = iter([BackendUnavailable("gone", "memory", retryable=True)] * 2)

    async def flaky(*args, **options):
        for error in failures:
            return Failure(error)
        return await true_claim_due(*args, **options)

    monkeypatch.setattr(hub, "claim_due", flaky)

    async def handler(_run):
        return 1

    async with working(hub, handler):
        await closed(hub, new)
    assert or_raise(await hub.outcome(new.id)) == 1
