"""Iterations that run at once, at the moments between two of their tasks."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from flowpersist.dynamicflow.dormant import Dormant
from flowpersist.dynamicflow.fan_out import FanOut
from flowpersist.dynamicflow.outcomes import PENDING, Done


def leg(come):
    return SimpleNamespace(
        paused={},
        fans=set(),
        dormant=Dormant(),
        asked={},
        unread_within=lambda _: set(),
        come_within=lambda _: set(come),
        has_come=lambda _: False,
    )


@pytest.mark.parametrize("concurrency", [1, 3])
async def test_an_answer_that_comes_once_none_runs_is_left_to_another_walk(concurrency):
    """The fan has its last iteration's end still to hear of: what it lets go on now, nobody would run."""
    context, begun = leg(come=[1]), []

    async def iterate(index):
        begun.append(index)
        if index != 1:
            return Done(index)
        (revive,) = context.fans
        # After this task, and before the one that waits for it.
        asyncio.get_running_loop().call_soon(revive)
        return PENDING

    fan = FanOut(context, SimpleNamespace(path="each", frame={}), 2 if concurrency > 1 else 3, iterate, concurrency)
    assert await fan.all() is PENDING
    assert begun == [0, 1]
