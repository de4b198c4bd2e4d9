"""Every verb, cancelled at each of its awaits in turn: done or not, and a repeat always finds its way."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from cancelling import CancelledAt, Hesitant
from flowpersist import AwaitInput, Maintenance, Status, or_raise
from flowpersist.backends.base import Where
from flowpersist.backends.registry import backend_from_url
from flowpersist.testing.hubs import open_test_hub, travel

CONFIRM = AwaitInput(id="confirm", prompt="Ship it?", schema=bool)
MOST_AWAITS = 60


@pytest.fixture(params=["memory", "sqlite"])
def backend(request, tmp_path):
    return Hesitant() if request.param == "memory" else backend_from_url(f"sqlite:///{tmp_path}/flows.db")


async def waiting(hub):
    return or_raise(await hub.suspend("s", awaiting=CONFIRM))


async def answered(hub):
    new = await waiting(hub)
    or_raise(await hub.answer(new.key, True))
    return new


async def running(hub):
    new = await answered(hub)
    return new, or_raise(await hub.claim(new.key))


async def parked(hub):
    new, run = await running(hub)
    or_raise(await hub.park(run, "s"))
    return new


#: What is there before, the call (the same again is its repeat), and where the suspension stands after it.
VERBS = {
    "suspend": (waiting, lambda hub, new: hub.suspend("t", awaiting=CONFIRM, idempotency_key=str(new.id)), "waiting"),
    "reserve": (waiting, lambda hub, new: hub.reserve(CONFIRM, idempotency_key=str(new.id)), "waiting"),
    "inspect": (waiting, lambda hub, new: hub.inspect(new.key), "waiting"),
    "answer": (waiting, lambda hub, new: hub.answer(new.key, True, answer_id="a"), "answered"),
    "resume": (waiting, lambda hub, new: hub.resume(new.key, True, answer_id="a"), "completed"),
    "claim": (waiting, lambda hub, new: hub.claim(new.key, True, claim_id="c"), "running"),
    "cancel": (waiting, lambda hub, new: hub.cancel(new.key), "cancelled"),
    "extend": (waiting, lambda hub, new: hub.extend(new.key, timeout=timedelta(1)), "waiting"),
    "query": (waiting, lambda hub, _: hub.query(), "waiting"),
    "tick": (waiting, lambda hub, _: Maintenance(hub).tick(), "waiting"),
    "renew": (running, lambda hub, held: hub.renew(held[1]), "running"),
    "complete": (running, lambda hub, held: hub.complete(held[1], {"out": 1}), "completed"),
    "fail": (running, lambda hub, held: hub.fail(held[1]), "failed"),
    "park": (running, lambda hub, held: hub.park(held[1], "t"), "parked"),
    "retry": (parked, lambda hub, new: hub.retry(new.id, "t", claim_id="c"), "running"),
    "release": (running, lambda hub, held: hub.release(held[1]), "answered"),
    "checkpoint": (running, lambda hub, held: hub.checkpoint(held[1], "t", awaiting={"n": CONFIRM}), "running"),
    "suspend_next": (running, lambda hub, held: hub.suspend_next(held[1], "t", awaiting=CONFIRM), "waiting"),
}


def new_of(made):
    return made[0] if isinstance(made, tuple) else made


@pytest.mark.parametrize("verb", VERBS)
async def test_a_verb_that_is_cancelled_anywhere_can_be_repeated(backend, verb):
    prepare, call, after = VERBS[verb]
    async with open_test_hub(backend) as hub:
        for at in range(1, MOST_AWAITS):
            made = await prepare(hub)
            before = or_raise(await hub.inspect(new_of(made).id))
            stepped = CancelledAt(call(hub, made), at)
            if not await ended_by_cancellation(stepped):
                assert not stepped.reached
                break
            between = or_raise(await hub.inspect(new_of(made).id))
            assert between.status in {before.status, after}
            or_raise(await call(hub, made))
            done = or_raise(await hub.inspect(new_of(made).id))
            assert done.status == after
            assert done.attempt <= 1
        else:
            pytest.fail(f"{verb} awaits more than {MOST_AWAITS} times")
        assert at > 1


async def ended_by_cancellation(stepped):
    try:
        await stepped
    except asyncio.CancelledError:
        return True
    return False


async def test_claim_due_that_is_cancelled_anywhere_loses_nothing(backend):
    """What it had taken comes back when its lease has ended."""
    async with open_test_hub(backend) as hub:
        for at in range(1, MOST_AWAITS):
            made = {(await answered(hub)).id for _ in range(2)}
            if not await ended_by_cancellation(CancelledAt(hub.claim_due(limit=2), at)):
                break
            travel(hub, timedelta(seconds=31))
            runs = or_raise(await hub.claim_due(limit=10))
            assert {run.suspension.id for run in runs} == made
            for run in runs:
                or_raise(await hub.complete(run))
        else:
            pytest.fail("claim_due awaits more often than that")


async def test_running_that_is_cancelled_anywhere_leaves_the_run_to_the_next(backend):
    async with open_test_hub(backend) as hub:
        for at in range(1, MOST_AWAITS):
            new = await answered(hub)

            async def body(key=new.key):
                async with hub.running(key) as outcome:
                    or_raise(outcome)
                    await asyncio.sleep(0)

            if not await ended_by_cancellation(CancelledAt(body(), at)):
                assert or_raise(await hub.inspect(new.key)).status is Status.COMPLETED
                break
            travel(hub, timedelta(seconds=31))
            seen = or_raise(await hub.inspect(new.key))
            assert seen.status in {Status.ANSWERED, Status.COMPLETED}
            if seen.status is Status.ANSWERED:
                assert or_raise(await hub.resume(new.key)).state == "s"
            assert hub.holds == {}
        else:
            pytest.fail("running awaits more often than that")


@pytest.mark.parametrize("delay", [0.0, 0.0005, 0.002, 0.005])
async def test_tasks_that_are_cancelled_at_random_moments_leave_a_working_store(backend, delay):
    async with open_test_hub(backend) as hub:
        made = [await waiting(hub) for _ in range(10)]
        tasks = [asyncio.create_task(hub.claim(new.key, True, claim_id="c")) for new in made]
        await asyncio.sleep(delay)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for new in made:
            run = or_raise(await hub.claim(new.key, True, claim_id="c"))
            assert (run.attempt, run.answer) == (1, True)
            or_raise(await hub.complete(run))
        assert (await hub.backend.query("default", Where({"live": True}), limit=99)).items == ()
