"""How long the event loop does not come round while something runs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")


class LoopBlock:
    """The longest time for which the event loop did not come round, beyond the ticks' own millisecond."""

    def __init__(self) -> None:
        self.longest = 0.0

    async def watch(self) -> None:
        """Until cancelled."""
        last = time.perf_counter()
        while True:
            await asyncio.sleep(0.001)
            now = time.perf_counter()
            self.longest = max(self.longest, now - last - 0.001)
            last = now


async def timed(operation: Awaitable[T]) -> tuple[T, float, float]:
    """The result, how long it took, and the longest block of the loop, both in milliseconds."""
    block = LoopBlock()
    watching = asyncio.create_task(block.watch())
    await asyncio.sleep(0)
    started = time.perf_counter()
    result = await operation
    took = time.perf_counter() - started
    await asyncio.sleep(0.002)
    watching.cancel()
    return result, took * 1000, block.longest * 1000
