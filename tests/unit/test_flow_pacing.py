"""Tasks of one leg that share the event loop with others."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from flowpersist.dynamicflow import pacing
from flowpersist.dynamicflow.pacing import Pace

#: What one task does between two turns, in seconds of the test's clock.
WORK = 0.011


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(pacing, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


async def test_many_tasks_keep_the_loop_no_longer_than_one(clock):
    pace, stalls, done = Pace(0.0), [], []

    async def work(name):
        for _ in range(3):
            clock[0] += WORK
            await pace.turn()
        done.append(name)

    async def beside():
        while len(done) < 50:
            before = clock[0]
            await asyncio.sleep(0)
            stalls.append(clock[0] - before)

    tasks = [asyncio.create_task(work(at)) for at in range(50)]
    await asyncio.sleep(0)  # All begin at once.
    await asyncio.gather(beside(), *tasks)
    assert max(stalls) <= 2 * WORK
    assert done == list(range(50))


async def test_a_task_that_is_cancelled_leaves_its_turn_to_the_next(clock):
    pace, done = Pace(0.0), []

    async def work(name):
        clock[0] += WORK
        await pace.turn()
        done.append(name)

    tasks = [asyncio.create_task(work(at)) for at in range(4)]
    await asyncio.sleep(0)
    for at in (0, 2):
        tasks[at].cancel()
    await asyncio.wait(tasks)
    assert done == [1, 3]
    clock[0] += WORK
    await pace.turn()
