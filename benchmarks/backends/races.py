"""Processes whose tasks all resume the same keys: each key is won once, whoever else tries."""

from __future__ import annotations

import asyncio
import multiprocessing
import random
import time
from collections import Counter
from itertools import islice
from multiprocessing.synchronize import Barrier
from typing import Any, TypeAlias

from attrs import frozen
from floors import floor
from places import Place
from records import Ours, Store, keys

__all__ = ["Race", "raced"]

#: What is raced for, and the revisions at which they stand.
Keys: TypeAlias = list[tuple[str, int]]
PROCESSES = 4
TASKS = 100
#: Seconds until all processes must have come to the start.
PATIENCE = 60
BODY = bytes(10_000)


@frozen
class Race:
    """A race that had one winner for each key."""

    keys: int
    won: int
    attempts: int
    seconds: float


async def _opened(name: str, place: Place, prefix: str, *, join: bool) -> Store:
    if name == "ours":
        return await Ours.opened(place.backend(prefix))
    return await floor(place, prefix, join=join)


async def _racer(name: str, place: Place, prefix: str, number: int, wanted: Keys, start: Barrier) -> Any:  # noqa: ANN401 - sent by a pipe
    store = await _opened(name, place, prefix, join=True)
    await store.load(wanted[0][0])
    won: list[str] = []
    # Each process in an order of its own, so that none walks behind another.
    waiting = iter(random.Random(number).sample(wanted, len(wanted)))

    async def task() -> None:
        for key, revision in waiting:
            claimed = await store.claim(key, revision)
            won.extend([key] if claimed else [])

    await asyncio.to_thread(start.wait)
    started = time.monotonic()
    await asyncio.gather(*(task() for _ in range(TASKS)))
    ended = time.monotonic()
    # What is stored is the parent's to remove.
    close = store.backend.close if isinstance(store, Ours) else getattr(store, "leave", None)
    if close is not None:
        await close()
    return won, started, ended


def _process(pipe: Any, *arguments: Any) -> None:  # noqa: ANN401 - what _racer takes
    pipe.send(asyncio.run(_racer(*arguments)))


async def raced(name: str, place: Place, count: int) -> Race:
    """Ours or the floor, on one store."""
    prefix, fresh = place.prefix(), keys()
    store = await _opened(name, place, prefix, join=False)
    try:
        wanted: Keys = []
        for _ in range(0, count, TASKS):
            names = list(islice(fresh, min(TASKS, count - len(wanted))))
            wanted += zip(names, await asyncio.gather(*(store.insert(key, BODY) for key in names)), strict=True)
        results = await asyncio.to_thread(_raced, name, place, prefix, wanted)
    finally:
        await store.close()
    wins = Counter(key for won, _, _ in results for key in won)
    if set(wins) != {key for key, _ in wanted} or set(wins.values()) != {1}:
        raise AssertionError(f"{name} on {place.name}: {len(wins)} of {count} keys won, by up to {max(wins.values())}")
    seconds = max(ended for _, _, ended in results) - min(started for _, started, _ in results)
    return Race(count, len(wins), PROCESSES * count, seconds)


def _raced(name: str, place: Place, prefix: str, wanted: Keys) -> list[Any]:
    # A new interpreter each: none shares a connection or a lock with another.
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(PROCESSES, timeout=PATIENCE)
    pipes = [context.Pipe(duplex=False) for _ in range(PROCESSES)]
    processes = [
        context.Process(target=_process, args=(sender, name, place, prefix, number, wanted, start))
        for number, (_, sender) in enumerate(pipes)
    ]
    for process, (_, sender) in zip(processes, pipes, strict=True):
        process.start()
        # So that the end of a process that has failed is the end of its pipe.
        sender.close()
    results = [receiver.recv() for receiver, _ in pipes]
    for process in processes:
        process.join()
    return results
