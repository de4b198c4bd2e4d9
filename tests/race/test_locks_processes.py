"""Locks among processes that are killed and stopped, on every backend: never two holders, and no starvation."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import random
import signal
import sys
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from flowpersist import KeyRing
from flowpersist.stores import open_stores
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


async def all_have_taken(logs, processes, running):
    """Wait until each process says of a few leases that it had them. None ends by itself."""
    async with asyncio.timeout(900 if LONG else 120):
        for number in range(processes):
            log = logs / f"{number}.log"
            while not log.exists() or log.read_text().count("got") < 5:
                assert [one.returncode for one in running if one.returncode is not None] == []
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
        await all_have_taken(logs, PROCESSES, running)
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
            await all_have_taken(logs, started, running)
        assert [one.returncode for one in running if one.returncode is not None] == [], "a process ended by itself"
    found = leases(sorted(logs.glob("*.log")))
    taken = sum(map(len, found.values()))
    log.info("%d leases of %d paths", taken, len(found))
    assert len(found) == PATHS
    assert overlapping(found) == []


FLIPPING = """
import asyncio, sys
import pytest

from flowpersist import KeyRing
from flowpersist.stores import open_stores

async def main():
    url, ring = sys.argv[1:]
    async with open_stores(url, keyring=KeyRing.parse(ring)) as stores:
        number = 0
        while True:
            number += 1
            turn, other = ("even", "odd") if number % 2 == 0 else ("odd", "even")
            await stores.signals.apply({"a": number, "b": number, turn: number}, clear=(other,))

asyncio.run(main())
"""


async def test_apply_is_all_or_none_whenever_its_process_is_killed(url):
    """Whoever looks meanwhile, and after it was killed, sees the signals of one call and no others."""
    async with open_stores(url, keyring=RING) as stores:
        last = 0
        for turn in range(20 if LONG else 1):
            running = await asyncio.create_subprocess_exec(sys.executable, "-c", FLIPPING, url, RING.export())
            try:
                seen = set()
                async with asyncio.timeout(120):
                    while len(seen) < 3 + turn % 5:
                        seen.add(whole(await stores.signals.all()))
                        await asyncio.sleep(0)
            finally:
                running.kill()
                await running.wait()
            last = whole(await stores.signals.all())
        assert last > 0


def whole(signals):
    """The number of the one call that has set all of them."""
    numbers = {signal.value for signal in signals.values()}
    assert len(numbers) <= 1, numbers
    number = max(numbers, default=0)
    assert set(signals) == ({"a", "b", "even" if number % 2 == 0 else "odd"} if number else set())
    return number


class Resource:
    """What a lock protects: a file that refuses a write with a lower fence than it has seen."""

    def __init__(self, path):
        self.path = path

    def write(self, text, fence):
        with self.path.open("a+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            seen = [int(line.split()[0]) for line in file]
            if fence < max(seen, default=0):
                return False
            file.write(f"{fence} {text}\n")
            return True


STOPPING = """
import asyncio, sys
from datetime import timedelta
from pathlib import Path
sys.path.insert(0, sys.argv[3])
import pytest

from flowpersist import KeyRing
from flowpersist.stores import open_stores
from test_locks_processes import Resource

async def main():
    url, ring, _, resource = sys.argv[1:]
    async with open_stores(url, keyring=KeyRing.parse(ring)) as stores:
        lease = await stores.locks.acquire("resource", "stopped", ttl=timedelta(seconds=1))
        print(lease.fence, flush=True)
        sys.stdin.readline()
        print(Resource(Path(resource)).write("late", lease.fence), flush=True)

asyncio.run(main())
"""


@pytest.mark.parametrize("backend", ["sqlite", "postgres"])
async def test_a_resource_refuses_who_was_stopped_for_longer_than_its_lease(url, tmp_path):
    resource = Resource(tmp_path / "resource")
    arguments = [url, RING.export(), str(PROGRAM.parent), str(resource.path)]
    running = await asyncio.create_subprocess_exec(
        sys.executable, "-c", STOPPING, *arguments, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    try:
        fence = int(await running.stdout.readline())
        running.send_signal(signal.SIGSTOP)
        async with (
            open_stores(url, keyring=RING) as stores,
            stores.locks.held("resource", "next", wait=timedelta(minutes=1)) as lease,
        ):
            assert lease.fence > fence
            assert resource.write("in time", lease.fence)
        running.send_signal(signal.SIGCONT)
        running.stdin.write(b"go\n")
        assert await running.stdout.readline() == b"False\n"
        assert resource.path.read_text() == f"{lease.fence} in time\n"
    finally:
        if running.returncode is None:
            running.kill()
        await running.wait()
