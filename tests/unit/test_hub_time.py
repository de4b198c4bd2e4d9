"""Deadlines, defaults and expiry: lazy, so that nothing depends on whether or when anybody ticked."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
import pytest_asyncio
from returns.result import Success

from flowpersist import AwaitInput, Criteria, Maintenance, Status, or_raise
from flowpersist.errors import AnswerConflict, SuspensionBusy, SuspensionExpired
from flowpersist.testing.hubs import open_test_hub, travel

HOUR = timedelta(hours=1)
MICROSECOND = timedelta(microseconds=1)
CONFIRM = AwaitInput(id="confirm", prompt="Ship it?", schema=bool)
WITH_DEFAULT = AwaitInput(id="confirm", prompt="Ship it?", schema=bool, default=False)


@pytest_asyncio.fixture(loop_scope="module")
async def hub():
    async with open_test_hub() as opened:
        yield opened


@pytest.fixture(params=["nobody ticks", "somebody ticks"])
def looked(request, hub):
    """The same must hold whether or not a tick has come by."""

    async def look():
        if request.param == "somebody ticks":
            or_raise(await Maintenance(hub).tick())

    return look


async def test_nothing_expires_unless_asked(hub, looked):
    new = or_raise(await hub.suspend(1, awaiting=CONFIRM))
    travel(hub, timedelta(days=3650))
    await looked()
    assert or_raise(await hub.resume(new.key, True)).answer is True


@pytest.mark.parametrize("how", ["timeout", "deadline", "awaiting's timeout", "awaiting's deadline", "hub's default"])
async def test_a_deadline_comes_from_the_call_the_input_or_the_hub(how):
    at = datetime.now(UTC) + HOUR
    default = HOUR if how == "hub's default" else None
    async with open_test_hub(default_timeout=default) as hub:
        awaiting = {
            "awaiting's timeout": AwaitInput(id="c", prompt="?", timeout=HOUR),
            "awaiting's deadline": AwaitInput(id="c", prompt="?", deadline=at),
        }.get(how, CONFIRM)
        options = {"timeout": {"timeout": HOUR}, "deadline": {"deadline": at}}.get(how, {})
        new = or_raise(await hub.suspend(1, awaiting=awaiting, **options))
        assert abs(new.deadline - at) < timedelta(minutes=1)
        travel(hub, 2 * HOUR)
        assert isinstance((await hub.resume(new.key)).failure(), SuspensionExpired)


async def test_the_calls_own_timeout_overrides_the_inputs(hub):
    awaiting = AwaitInput(id="c", prompt="?", timeout=HOUR)
    new = or_raise(await hub.suspend(1, awaiting=awaiting, timeout=5 * HOUR))
    assert new.deadline - new.created_at == 5 * HOUR


async def test_of_a_timeout_and_a_deadline_the_earlier_counts(hub):
    new = or_raise(await hub.suspend(1, awaiting=CONFIRM, timeout=HOUR, deadline=datetime.now(UTC) + 9 * HOUR))
    assert new.deadline - new.created_at == HOUR


async def test_an_expired_one_refuses_everything_and_says_since_when(hub, looked):
    new = or_raise(await hub.suspend(1, awaiting=CONFIRM, timeout=HOUR))
    travel(hub, 2 * HOUR)
    await looked()
    for refused in (
        await hub.answer(new.key, True),
        await hub.resume(new.key),
        await hub.resume(new.key, True),
        await hub.claim(new.key, True),
        await hub.cancel(new.key),
    ):
        error = refused.failure()
        assert isinstance(error, SuspensionExpired)
        assert (error.status, error.closed_at) == (Status.EXPIRED, new.deadline)
    seen = or_raise(await hub.inspect(new.key))
    assert (seen.status, seen.closed_at, seen.waits[0].status) == (Status.EXPIRED, new.deadline, "expired")


async def test_the_default_answers_in_the_systems_name_at_the_deadline(hub, looked):
    new = or_raise(await hub.suspend("s", awaiting=WITH_DEFAULT, timeout=HOUR))
    travel(hub, 2 * HOUR)
    await looked()
    seen = or_raise(await hub.inspect(new.key))
    assert (seen.status, seen.waits[0].answered_by, seen.waits[0].answered_at) == ("answered", "system", new.deadline)
    assert isinstance((await hub.answer(new.key, True)).failure(), AnswerConflict)
    run = or_raise(await hub.resume(new.key))
    assert (run.answer, run.answered_by, run.state) == (False, "system", "s")


async def test_a_default_that_is_none_is_a_default(hub, looked):
    new = or_raise(await hub.suspend(1, awaiting=AwaitInput(id="c", prompt="?", default=None), timeout=HOUR))
    travel(hub, 2 * HOUR)
    await looked()
    assert dict(or_raise(await hub.resume(new.key)).answers) == {"c": None}


async def test_all_expires_with_the_first_wait_that_has_no_default(hub, looked):
    waits = {"a": AwaitInput(id="a", prompt="?", timeout=HOUR), "b": AwaitInput(id="b", prompt="?", timeout=9 * HOUR)}
    pair = or_raise(await hub.suspend(1, awaiting=waits))
    or_raise(await hub.answer(pair.keys["b"], 1))
    travel(hub, 2 * HOUR)
    await looked()
    assert or_raise(await hub.inspect(pair.id)).status is Status.EXPIRED
    assert isinstance((await hub.answer(pair.keys["a"], 1)).failure(), SuspensionExpired)


async def test_all_goes_on_where_every_late_wait_has_a_default(hub, looked):
    waits = {"a": AwaitInput(id="a", prompt="?", default=1), "b": AwaitInput(id="b", prompt="?", default=2)}
    pair = or_raise(await hub.suspend(1, awaiting=waits, timeout=HOUR))
    or_raise(await hub.answer(pair.keys["b"], 3))
    travel(hub, 2 * HOUR)
    await looked()
    assert dict(or_raise(await hub.resume(pair.id)).answers) == {"a": 1, "b": 3}


async def test_any_expires_once_no_other_wait_is_open(hub, looked):
    waits = {"a": AwaitInput(id="a", prompt="?", timeout=HOUR), "b": AwaitInput(id="b", prompt="?", timeout=3 * HOUR)}
    pair = or_raise(await hub.suspend(1, awaiting=waits, until="any"))
    travel(hub, 2 * HOUR)
    await looked()
    assert or_raise(await hub.inspect(pair.id)).status is Status.WAITING
    assert isinstance((await hub.answer(pair.keys["a"], 1)).failure(), SuspensionExpired)
    travel(hub, 2 * HOUR)
    await looked()
    assert or_raise(await hub.inspect(pair.id)).status is Status.EXPIRED


async def test_without_awaiting_the_timeout_is_the_suspensions_own(hub, looked):
    new = or_raise(await hub.suspend(1, timeout=HOUR))
    assert new.deadline is not None
    travel(hub, 2 * HOUR)
    await looked()
    assert isinstance((await hub.claim(new.key)).failure(), SuspensionExpired)


async def test_a_run_in_hand_does_not_expire(hub, looked):
    """Its wait was answered in time; the deadline was the answer's, not the work's."""
    new = or_raise(await hub.suspend(1, awaiting=CONFIRM, timeout=HOUR))
    run = or_raise(await hub.claim(new.key, True, lease=9 * HOUR))
    travel(hub, 2 * HOUR)
    await looked()
    assert or_raise(await hub.complete(run)).status is Status.COMPLETED


async def test_time_between_a_lapse_and_a_deadline_is_seen_in_order(hub, looked):
    """The lease lapses, then the other wait expires, then somebody looks: each happened at its own moment."""
    waits = {"a": CONFIRM, "b": AwaitInput(id="b", prompt="?", timeout=HOUR)}
    pair = or_raise(await hub.suspend(1, awaiting=waits, until="each"))
    or_raise(await hub.claim(pair.keys["a"], True))
    travel(hub, 2 * HOUR)
    await looked()
    seen = or_raise(await hub.inspect(pair.id))
    assert (seen.status, seen.updated_at) == (Status.ANSWERED, pair.created_at + HOUR)
    run = or_raise(await hub.claim(pair.id))
    assert (dict(run.answers), run.expired) == ({"a": True}, ())
    after = or_raise(await hub.suspend_next(run, 2, until="each"))
    assert after.status is Status.ANSWERED
    assert or_raise(await hub.claim(pair.id)).expired == ("b",)


async def test_a_query_by_status_sees_the_present(hub, looked):
    new = or_raise(await hub.suspend(1, awaiting=CONFIRM, timeout=HOUR))
    travel(hub, 2 * HOUR)
    await looked()
    assert or_raise(await hub.query(Criteria(status="waiting"))).items == ()
    assert [item.id for item in or_raise(await hub.query(Criteria(status="expired"))).items] == [new.id]


async def test_a_query_by_due_sees_the_present(hub, looked):
    new = or_raise(await hub.suspend(1, awaiting=CONFIRM, timeout=HOUR))
    other = or_raise(await hub.suspend(1, awaiting=CONFIRM, timeout=5 * HOUR))
    travel(hub, 2 * HOUR)
    await looked()
    due = or_raise(await hub.query(Criteria(due_before=new.created_at + 9 * HOUR))).items
    assert [item.id for item in due] == [other.id]


async def test_an_answer_at_the_deadlines_own_instant_is_in_time_and_later_it_is_not():
    """The store's clock stands still here: only travel moves it."""
    async with open_test_hub() as hub:
        new = or_raise(await hub.suspend(1, awaiting=CONFIRM, timeout=HOUR))
        now = new.created_at
        hub.backend.clock_offset += new.deadline - datetime.now(UTC) - timedelta(seconds=5)
        assert or_raise(await hub.inspect(new.key)).status is Status.WAITING
        travel(hub, timedelta(seconds=5) + MICROSECOND)
        assert or_raise(await hub.inspect(new.key)).status is Status.EXPIRED
        assert new.deadline - now == HOUR


async def test_travel_goes_forward_only(hub):
    with pytest.raises(ValueError, match="forward"):
        travel(hub, -HOUR)


@pytest.mark.parametrize("zone", [UTC, timezone(timedelta(hours=-12)), timezone(timedelta(hours=14))])
async def test_a_deadline_at_the_end_of_the_calendar_means_never(zone):
    async with open_test_hub() as hub:
        new = or_raise(await hub.suspend(1, awaiting=CONFIRM, deadline=datetime.max.replace(tzinfo=zone)))
        or_raise(await hub.extend(new.key, deadline=datetime.max.replace(tzinfo=zone)))
        assert or_raise(await hub.inspect(new.key)).status is Status.WAITING
        assert isinstance(await hub.resume(new.key, True), Success)


async def test_times_without_end_are_kept_within_the_calendar():
    async with open_test_hub(retention=timedelta.max) as hub:
        new = or_raise(await hub.suspend(1, awaiting=CONFIRM, timeout=timedelta.max))
        or_raise(await hub.extend(new.key, timeout=timedelta.max))
        run = or_raise(await hub.claim(new.key, True, lease=timedelta.max))
        or_raise(await hub.renew(run, lease=timedelta.max))
        or_raise(await hub.release(run, delay=timedelta.max))
        assert isinstance((await hub.claim(new.key)).failure(), SuspensionBusy)
        or_raise(await hub.cancel(new.key))
        travel(hub, timedelta(days=365))
        assert or_raise(await hub.inspect(new.key)).status is Status.CANCELLED
