"""Processes race for runs, and one is killed: what they wrote down is checked for whether the promise held.

With FLOWPERSIST_LONG=1: eight processes of 32 tasks, 500 runs, on each backend that takes several processes.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import AsyncExitStack

import pytest

from clients import client
from flowpersist import AwaitInput, KeyRing, or_raise
from flowpersist.errors import StillWaiting, SuspensionClosed
from flowpersist.testing.hubs import open_test_hub
from machine import BACKENDS
from recorded import UNKNOWN, WON, Left, Operation, problems
from recorded_client import read

LONG = os.environ.get("FLOWPERSIST_LONG") == "1"
#: Processes, tasks in each, runs.
NAIVE = (2, 3, 5)
SIZE, TURNS = ((8, 32, 10), 50) if LONG else ((3, 3, 5), 1)
#: How often a client tries to take each run.
ROUNDS = 3
#: How many further races there may be where the scheduler let none of the tasks meet.
CHANCES = 10
#: One process is killed once it has written so many bytes.
BEGUN = 8_000
WORD = AwaitInput(id="word", prompt="Which?", schema=str)


async def raced(hub, url, ring, tmp_path, size, *, naive=False):
    """Make runs, let processes race for them, kill one of those; the history, and what is left."""
    processes, tasks, runs = size
    made = [or_raise(await hub.suspend(number, awaiting=WORD)) for number in range(runs)]
    paths = [tmp_path / f"history-{number}" for number in range(processes)]
    arguments = {"url": url, "tasks": tasks, "rounds": ROUNDS, "naive": naive}
    arguments["keys"] = [[str(new.id), str(new.key)] for new in made]
    async with AsyncExitStack() as stack, asyncio.timeout(600):
        given = [{**arguments, "path": str(path), "me": str(number)} for number, path in enumerate(paths)]
        opened = [stack.enter_async_context(client(url, ring, "record", **one)) for one in given]
        racing = await asyncio.gather(*opened)
        for process in racing:
            process.stdin.write(b"go\n")
        # It dies once it has begun, wherever it is then.
        while not paths[0].exists() or paths[0].stat().st_size < BEGUN:
            await asyncio.sleep(0.005)
            assert racing[0].returncode is None, "it ended before it was killed"
        racing[0].kill()
        ended = await asyncio.gather(*(process.wait() for process in racing))
    assert ended == [-9] + [0] * (processes - 1)
    suspended = [Operation(str(new.id), "suspend", "maker", 0, 0, WON) for new in made]
    history = [*suspended, *read(paths)]
    for path in paths:
        path.unlink()
    return history, {str(new.id): await left(hub, new) for new in made}


async def left(hub, new):
    """What is stored of a run."""
    seen = or_raise(await hub.inspect(new.key))
    told = await hub.outcome(new.key)
    assert told.map(bool).value_or(True) or isinstance(told.failure(), StillWaiting | SuspensionClosed)
    return Left(str(seen.status.value), seen.attempt, seen.waits[0].answered_by, told.value_or(None))


@pytest.mark.parametrize("backend", BACKENDS if LONG else ["sqlite"])
async def test_what_racing_processes_were_told_keeps_the_promise(url, tmp_path, record_property):
    ring = KeyRing.generate()
    died = taken_over = False
    turns = 0
    async with open_test_hub(url, keyring=ring) as hub:
        while turns < TURNS or not (died and taken_over):
            turns += 1
            assert turns <= TURNS + CHANCES, (
                f"no race: somebody died in the middle: {died}, claims were taken over: {taken_over}"
            )
            history, stored = await raced(hub, url, ring, tmp_path, SIZE)
            assert problems(history, stored) == []
            died = died or any(one.outcome == UNKNOWN for one in history)
            taken_over = taken_over or any(one.fence > 1 for one in history)
            assert all(one.status in {"completed", "answered", "running"} for one in stored.values())
    record_property("attempts", SIZE[2] * turns)


@pytest.mark.parametrize("backend", ["sqlite"])
async def test_a_store_that_compares_and_then_writes_breaks_it(url, tmp_path):
    ring = KeyRing.generate()
    awaited = {"answers were accepted", "claims were given the fence"}
    async with open_test_hub(url, keyring=ring) as hub:
        for _ in range(1 + CHANCES):
            found = problems(*await raced(hub, url, ring, tmp_path, NAIVE, naive=True))
            awaited -= {kind for kind in awaited if any(kind in one for one in found)}
            if not awaited:
                return
    pytest.fail(f"no race broke the promise in this way: {', '.join(awaited)}")
