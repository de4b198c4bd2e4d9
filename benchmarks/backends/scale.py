"""Many records: how fast they come, how long a page takes among them, how fast they go."""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from attrs import frozen
from cases import CRITERIA
from measure import Times, timed
from places import LOCAL, Place
from records import DUE, NAMESPACE, SCHEMA, change, keys, purged

from flowpersist.backends.base import Range, RecordRef, StorageBackend, Where

__all__ = ["Scale", "scaled"]

TASKS = 50
PAGE = 50
PAGES = 40
REMOVED = 5_000
BODY = 10_000


@frozen
class Scale:
    """At a number of records: inserts a second up to it, pages there, and seconds to remove some."""

    records: int
    inserts: float
    pages: dict[str, Times]
    removed: int
    cleanup: float


async def scaled(place: Place, sizes: Sequence[int]) -> list[Scale]:
    """One store that grows from size to size."""
    backend = place.backend(place.prefix())
    await backend.open(SCHEMA)
    found = []
    try:
        numbers, names = itertools.count(), keys()
        body = os.urandom(BODY)
        there = 0
        for size in sizes:
            rate = await _filled(backend, itertools.islice(zip(numbers, names, strict=False), size - there), body)
            pages = await _pages(backend)
            removed = min(REMOVED, size // 2)
            seconds = await _removed(backend, removed)
            there = size - removed
            found.append(Scale(size, rate, pages, removed, seconds))
    finally:
        if place.name not in LOCAL:
            # Files go with this run's directory.
            await purged(backend, NAMESPACE)
        await backend.close()
    return found


async def _filled(backend: StorageBackend, wanted: Iterator[tuple[int, str]], body: bytes) -> float:
    # Made before, since what is measured is the store.
    changes = [(RecordRef(NAMESPACE, key), change(number, body)) for number, key in wanted]
    waiting = iter(changes)

    async def task() -> None:
        for ref, one in waiting:
            await backend.put(ref, one, if_revision=0)

    started = time.perf_counter()
    await asyncio.gather(*(task() for _ in range(TASKS)))
    return len(changes) / (time.perf_counter() - started)


def _queries(number: int) -> dict[str, dict[str, Any]]:
    """For a page by each criterion; another one each time, so that no page is the one before."""
    tool, tenant = f"tool-{number % 10}", f"tenant-{number % 20:03}"
    return {
        "key": {"where": Where()},
        "status": {"where": Where({"status": "waiting"})},
        "tool": {"where": Where({"tool": tool})},
        "run": {"where": Where({"run": f"run-{number % 20:08}"})},
        "tenant": {"where": Where({"tenant": tenant})},
        "due": {"where": Where({}, Range("due", since=DUE))},
        "status, due": {"where": Where({"status": "waiting"}, Range("due", since=DUE))},
        "created": {"where": Where({}, Range("created", since=datetime(2000, 1, 1, tzinfo=UTC)))},
    }


async def _pages(backend: StorageBackend) -> dict[str, Times]:
    pages = {by: Times() for by in CRITERIA}
    for number in range(-3, PAGES):
        for by, asked in _queries(max(number, 0)).items():
            times = pages[by] if number >= 0 else Times()
            page = await timed(times, backend.query(NAMESPACE, limit=PAGE, **asked))
            if not page.items:
                raise AssertionError(f"no page by {by}")
    return pages


async def _removed(backend: StorageBackend, wanted: int) -> float:
    """The newest, so that what the pages ask for stays."""
    newest = await backend.query(NAMESPACE, Where(), limit=1, descending=True)
    first = int(newest.items[0].ref.key.split("-")[1], 16) + 1 - wanted
    started = time.perf_counter()
    removed = await backend.purge(
        NAMESPACE, Where({}, Range("key", since=next(itertools.islice(keys(), first, None)))), limit=wanted
    )
    if removed != wanted:
        raise AssertionError(f"{removed} of {wanted} records removed")
    return time.perf_counter() - started
