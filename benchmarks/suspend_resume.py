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
from pathlib import Path

from states import STATES, of_size
from watching import timed

from flowpersist import AwaitInput, KeyRing, RaisingHub

SIZES = {"10 KB": 10_000, "1 MB": 1_000_000, "10 MB": 10_000_000}


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
