"""Locks among processes that are killed and stopped, on every backend: never two holders, and no starvation."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import signal
import sys
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from flowpersist import KeyRing
from locking import leases, overlapping

log = logging.getLogger(__name__)
LONG = os.environ.get("FLOWPERSIST_LONG") == "1"
PROCESSES, TASKS, PATHS, SECONDS = (8, 32, 12, 30) if LONG else (3, 6, 3, 1)
RING = KeyRing.generate()
PROGRAM = Path(__file__).with_name("locking.py")


@asynccontextmanager
async def process(url, me, log):
    arguments = [url, RING.export(), me, str(TASKS), str(PATHS), str(log)]
    running = await asyncio.create_subprocess_exec(sys.executable, str(PROGRAM), *arguments)
    try:
        yield running
    finally:
        if running.returncode is None:
            running.kill()
        await running.wait()


async def all_have_taken(logs, processes):
    """Wait until each process says of a few leases that it had them."""
    async with asyncio.timeout(120):
        for number in range(processes):
            log = logs / f"{number}.log"
            while not log.exists() or log.read_text().count("got") < 5:
                await asyncio.sleep(0.05)


async def test_two_agents_never_hold_one_exclusive_lock(url, tmp_path):
    """Processes are killed and others start in their place; some are stopped for longer than their leases."""
    logs = tmp_path / "logs"
    logs.mkdir()
    chance, loop = random.Random(7), asyncio.get_running_loop()
    async with AsyncExitStack() as stack:

        async def start(number):
            return await stack.enter_async_context(process(url, str(number), logs / f"{number}.log"))

        running = [await start(number) for number in range(PROCESSES)]
        await all_have_taken(logs, PROCESSES)
        ends, started = loop.time() + SECONDS, PROCESSES
        while loop.time() < ends:
            stopped, killed = chance.sample(range(len(running)), 2)
            running[stopped].send_signal(signal.SIGSTOP)
            await asyncio.sleep(chance.uniform(0.3, 1.8))
            running[killed].kill()
            await running[killed].wait()
            running[stopped].send_signal(signal.SIGCONT)
            del running[killed]
            if LONG:
                running.append(await start(started))
                started += 1
            await all_have_taken(logs, started)
        assert [one.returncode for one in running if one.returncode is not None] == [], "a process ended by itself"
    found = leases(sorted(logs.glob("*.log")))
    taken = sum(map(len, found.values()))
    log.info("%d leases of %d paths", taken, len(found))
    assert len(found) == PATHS
    assert overlapping(found) == []
