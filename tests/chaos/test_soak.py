"""Many cycles beside many suspended flows: memory, descriptors, threads and tasks stay as they are.

With FLOWPERSIST_LONG=1: 10,000 suspended flows and 100,000 cycles, on each backend.
"""

from __future__ import annotations

import asyncio
import gc
import mmap
import os
import threading
from datetime import timedelta
from pathlib import Path

import pytest
from attrs import frozen

from flowpersist import AwaitInput, Criteria, KeyRing, Maintenance, or_raise
from flowpersist.testing.hubs import open_test_hub, travel
from machine import WITH_MEMORY

LONG = os.environ.get("FLOWPERSIST_LONG") == "1"
SUSPENDED, PARTS, CYCLES = (10_000, 10, 10_000) if LONG else (50, 3, 25)
TASKS = 4
RETENTION = timedelta(minutes=1)
CONFIRM = AwaitInput(id="confirm", prompt="Ship it?", schema=bool)
MEBIBYTE = 1024 * 1024
#: What caches of drivers and of the allocator take, however long it goes on.
ROOM = (32 if LONG else 12) * MEBIBYTE


@frozen
class Held:
    """What this process has. Memory is that which no file backs, in bytes."""

    memory: int
    descriptors: int
    threads: int
    tasks: int


def held():
    gc.collect()
    pages = {name: int(value) for name, value in zip(("all", "resident", "shared"), statm(), strict=True)}
    return Held(
        (pages["resident"] - pages["shared"]) * os.sysconf("SC_PAGE_SIZE"),
        len(list(Path("/proc/self/fd").iterdir())),
        threading.active_count(),
        len(asyncio.all_tasks()),
    )


def statm():
    return Path("/proc/self/statm").read_text(encoding="ascii").split()[:3]


async def cycle(hub, number):
    """A flow that is suspended, answered, claimed, paused again, and completed."""
    new = or_raise(await hub.suspend({"number": number, "text": "x" * 2_000}, awaiting=CONFIRM))
    run = or_raise(await hub.claim(new.key, True))
    again = or_raise(await hub.suspend_next(run, {"number": number}, awaiting=CONFIRM))
    or_raise(await hub.answer(again.key, False))
    or_raise(await hub.complete(or_raise(await hub.claim(again.key)), number))


async def cycles(hub, count):
    async def work(task):
        for number in range(task, count, TASKS):
            await cycle(hub, number)

    await asyncio.gather(*(work(task) for task in range(TASKS)))
    travel(hub, RETENTION * 2)
    or_raise(await Maintenance(hub).cleanup())


@pytest.mark.parametrize("backend", WITH_MEMORY if LONG else ["memory", "sqlite", "filesystem"])
async def test_what_a_process_holds_does_not_grow(url, record_property):
    async with open_test_hub(url, keyring=KeyRing.generate(), retention=RETENTION) as hub:
        for number in range(SUSPENDED):
            or_raise(await hub.suspend(number, awaiting=CONFIRM))
        # Caches fill, and pools open what connections they want.
        await cycles(hub, CYCLES)
        first = held()
        for _ in range(PARTS - 1):
            await cycles(hub, CYCLES)
        last = held()
        assert last.memory < first.memory + ROOM, (first, last)
        assert last.descriptors <= first.descriptors + TASKS, (first, last)
        assert last.threads <= first.threads + TASKS, (first, last)
        assert last.tasks == first.tasks, (first, last)
        page = or_raise(await hub.query(Criteria(), limit=1000))
        assert len(page.items) == min(SUSPENDED, 1000)
    record_property("attempts", CYCLES * PARTS)


async def test_what_is_held_is_seen(tmp_path):
    before = held()
    ended = threading.Event()
    thread = threading.Thread(target=ended.wait)
    thread.start()
    task = asyncio.create_task(asyncio.sleep(60))
    with (tmp_path / "open").open("wb"):
        # Pages of its own: the allocator would give what others have freed.
        kept = mmap.mmap(-1, 2 * ROOM, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        kept.write(b"x" * len(kept))
        after = held()
    ended.set()
    thread.join()
    task.cancel()
    kept.close()
    assert after.memory > before.memory + ROOM
    assert (after.descriptors, after.threads, after.tasks) == (
        before.descriptors + 1,
        before.threads + 1,
        before.tasks + 1,
    )
