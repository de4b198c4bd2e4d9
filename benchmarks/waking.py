"""How soon those who wait are woken: a signal that is set, a watch, and a lock that another process's hub releases.

Run with ``python benchmarks/waking.py``, after ``eval "$(scripts/test-setup.sh env)"`` for the servers. Two hubs stand
for two processes. Of each the time is measured from before the call that wakes until the waiting call has returned; so
it holds the change itself. Figures are milliseconds: median, the 95th of a hundred, and the longest.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from datetime import timedelta
from uuid import uuid4

from flowpersist import KeyRing
from flowpersist.backends.base import Capability, StorageBackend
from flowpersist.backends.memory import MemoryBackend
from flowpersist.stores import Stores, open_stores

PLACES = ("memory", "sqlite", "file", "postgres", "redis", "mongodb", "neo4j")
HOUR = timedelta(hours=1)


def url_of(place: str, directory: str) -> str | StorageBackend | None:
    """Where the stores are; None where the server is not set."""
    if place == "memory":
        return MemoryBackend()
    if place in ("sqlite", "file"):
        return f"sqlite:///{directory}/bench.db" if place == "sqlite" else f"file://{directory}/bench"
    url = os.environ.get(f"FLOWPERSIST_TEST_{place.upper()}_URL")
    notify = "&notify=on" if place in ("postgres", "redis") else ""
    return None if url is None else f"{url}?prefix=w{uuid4().hex[:12]}{notify}"


async def signal(one: Stores, other: Stores, number: int) -> float:
    """A signal that is waited for."""
    waiting = asyncio.create_task(other.signals.wait_for(f"s{number}", timeout=HOUR))
    await asyncio.sleep(0.4)
    started = time.perf_counter()
    await one.signals.set(f"s{number}", number)
    await waiting
    return time.perf_counter() - started


async def watched(one: Stores, other: Stores, number: int) -> float:
    """A change that is watched."""
    states = other.signals.watch()
    async with aclosing(states):  # type: ignore[type-var]
        await anext(states)
        waiting = asyncio.ensure_future(anext(states))
        await asyncio.sleep(0.4)
        started = time.perf_counter()
        await one.signals.set("watched", number)
        await waiting
        return time.perf_counter() - started


async def lock(one: Stores, other: Stores, number: int) -> float:
    """A lock that is released."""
    lease = await one.locks.acquire(f"l{number}", "one")
    waiting = asyncio.create_task(other.locks.acquire(f"l{number}", "other", wait=HOUR))
    await asyncio.sleep(0.4)
    started = time.perf_counter()
    await one.locks.release(lease)
    await waiting
    return time.perf_counter() - started


KINDS: dict[str, Callable[[Stores, Stores, int], Awaitable[float]]] = {
    "wait_for": signal,
    "watch": watched,
    "acquire": lock,
}


async def measured(place: str, rounds: int) -> AsyncIterator[str]:
    """The lines of one place."""
    with tempfile.TemporaryDirectory() as directory:
        url, ring = url_of(place, directory), KeyRing.generate()
        if url is None:
            return
        async with open_stores(url, keyring=ring) as one:
            backend = one.hub.backend if place == "memory" else url
            async with open_stores(backend, keyring=ring) as other:
                tells = Capability.NOTIFICATIONS in one.hub.backend.capabilities
                for kind, measure in KINDS.items():
                    took = sorted([1000 * await measure(one, other, number) for number in range(rounds)])
                    late = took[min(len(took) - 1, len(took) * 95 // 100)]
                    how = "told" if tells else "polled"
                    yield f"| {place} | {how} | {kind} | {statistics.median(took):.1f} | {late:.1f} | {took[-1]:.1f} |"


async def main(places: list[str], rounds: int) -> None:
    """Print a table."""
    sys.stdout.write("| store | changes are | call | median | 95th | longest |\n|---|---|---|---|---|---|\n")
    for place in places:
        async for line in measured(place, rounds):
            sys.stdout.write(f"{line}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--places", default=",".join(PLACES))
    parser.add_argument("--rounds", type=int, default=40)
    given = parser.parse_args()
    asyncio.run(main(given.places.split(","), given.rounds))
