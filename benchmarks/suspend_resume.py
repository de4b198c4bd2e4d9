"""From suspend to durable, and back by resume: time, and the longest block of the event loop meanwhile.

Run with ``python benchmarks/suspend_resume.py``. Figures are medians of several rounds, in milliseconds.
"""

from __future__ import annotations

import argparse
import asyncio
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable
from pathlib import Path

from states import STATES, of_size

from flowpersist import AwaitInput, KeyRing, RaisingHub

SIZES = {"10 KB": 10_000, "1 MB": 1_000_000, "10 MB": 10_000_000}


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


async def timed(operation: Awaitable[object]) -> tuple[object, float, float]:
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


async def measure(url: str, name: str, size: int, rounds: int) -> list[float]:
    """Medians: suspend, its longest block, resume, its longest block; then the size on disk is the caller's to see."""
    state = of_size(name, size)
    figures: list[list[float]] = []
    async with RaisingHub.open(url, keyring=KeyRing.generate(), types=STATES[name][1]) as hub:
        for _ in range(rounds + 1):
            made, suspend, suspend_block = await timed(
                hub.suspend(state, awaiting=AwaitInput(id="ok", prompt="Go on?", schema=bool))
            )
            _, resume, resume_block = await timed(hub.resume(made.key, value=True))
            figures.append([suspend, suspend_block, resume, resume_block])
    # The first round warms caches and files.
    return [statistics.median(column) for column in zip(*figures[1:], strict=True)]


async def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    print(f"CPython {platform.python_version()}, {sys.platform}, medians of {arguments.rounds} rounds, milliseconds\n")
    print("| backend | state | size | suspend | longest block | resume | longest block |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as directory:
        urls = {
            "memory": "memory://",
            "sqlite": f"sqlite:///{Path(directory) / 'flows.db'}",
            "files": f"file://{Path(directory) / 'flows'}",
        }
        for backend, url in urls.items():
            for name in STATES:
                for label, size in SIZES.items():
                    figures = await measure(url, name, size, arguments.rounds)
                    cells = " | ".join(f"{figure:.1f}" for figure in figures)
                    print(f"| {backend} | {name} | {label} | {cells} |", flush=True)


if __name__ == "__main__":
    asyncio.run(main())
