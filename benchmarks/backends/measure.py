"""Rounds in which everybody has a turn, and what they took."""

from __future__ import annotations

import math
import os
import statistics
import time
from collections import defaultdict
from collections.abc import Awaitable, Mapping, Sequence
from typing import TypeVar

from attrs import define, field
from cases import Case
from floors import floor
from places import Place
from records import Ours, Store, keys

__all__ = ["Times", "Timings", "backend_rounds", "timed"]

T = TypeVar("T")


@define
class Times:
    """Milliseconds, one for each round."""

    taken: list[float] = field(factory=list)

    @property
    def median(self) -> float:
        """Of all rounds."""
        return statistics.median(self.taken)

    @property
    def p99(self) -> float:
        """By nearest rank, and so the longest of fewer than a hundred."""
        return sorted(self.taken)[math.ceil(len(self.taken) * 0.99) - 1]


#: By who and what.
Timings = dict[str, dict[str, Times]]


async def timed(times: Times, operation: Awaitable[T]) -> T:
    """Await it, and note how long that took."""
    started = time.perf_counter()
    result = await operation
    times.taken.append((time.perf_counter() - started) * 1000)
    return result


def timings() -> Timings:
    """None yet."""
    return defaultdict(lambda: defaultdict(Times))


def in_turn(names: Sequence[str], number: int) -> Sequence[str]:
    """Another one first in each round."""
    first = number % len(names)
    return [*names[first:], *names[:first]]


async def backend_rounds(place: Place, case: Case, rounds: int) -> Timings:
    """Our backend and the raw driver: insert, claim and load bytes that don't compress, as sealed ones don't."""
    prefix = place.prefix()
    stores: Mapping[str, Store] = {
        "ours": await Ours.opened(place.backend(prefix)),
        "floor": await floor(place, prefix),
    }
    found = timings()
    try:
        body = os.urandom(case.size)
        for number, key in zip(range(-1, rounds * case.repeats), keys(), strict=False):
            # The first round warms connections, statements and files.
            noted = found if number >= 0 else timings()
            for name in in_turn(list(stores), number):
                store, times = stores[name], noted[name]
                revision = await timed(times["put"], store.insert(key, body))
                claimed = await timed(times["claim"], store.claim(key, revision))
                loaded = await timed(times["get"], store.load(key))
                if not claimed or loaded != body:
                    raise AssertionError(f"{name} on {place.name} has not kept what it was given")
    finally:
        for store in stores.values():
            await store.close()
    return found
