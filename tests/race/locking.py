"""A process whose tasks take locks and say so in a file, until it is killed; and what that file may say.

Each line is one lease: what happened, path, fence, agent, lock type, the time, and the end of the lease. All servers
of a test and its processes are on one machine, so their clocks are one.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
import time
from collections import defaultdict
from contextlib import AsyncExitStack
from datetime import timedelta

from flowpersist import KeyRing
from flowpersist.errors import BackendUnavailable, LeaseLost, LockBusy, StorageError
from flowpersist.stores import open_stores

#: Servers whose clock is sampled now and then may be off by so much, in seconds.
DOUBT = 0.05


async def take(locks, path, agent, chance, say):
    """One turn: take the lock, hold it for a moment, sometimes for longer than its lease, and release it."""
    ttl = timedelta(seconds=chance.uniform(0.5, 1.5))
    wait = chance.choice([None, timedelta(seconds=0.3), timedelta(seconds=5)])
    lock_type = "shared" if chance.random() < 0.3 else "exclusive"
    lease = await locks.acquire(path, agent, lock_type=lock_type, ttl=ttl, wait=wait)
    say("got", lease)
    await asyncio.sleep(chance.choice([0, 0.005, 0.02]))
    if chance.random() < 0.1:
        lease = await locks.renew(lease, ttl)
        say("got", lease)
    if chance.random() < 0.02:
        await asyncio.sleep(ttl.total_seconds() * 1.2)
    say("releasing", lease)
    await locks.release(lease)


async def agent(locks, paths, name, say):
    chance = random.Random(name)
    while True:
        try:
            await take(locks, chance.choice(paths), name, chance, say)
        except LockBusy:
            await asyncio.sleep(chance.uniform(0, 0.05))
        except (LeaseLost, StorageError):
            pass


async def opening(stack, url, ring):
    """The stores; asked for again where on a busy machine others make or open them for longer than a store waits."""
    while True:
        try:
            return await stack.enter_async_context(open_stores(url, keyring=KeyRing.parse(ring)))
        except BackendUnavailable:
            await asyncio.sleep(0.1)


async def main(url, ring, me, tasks, paths, log):
    async with AsyncExitStack() as stack:
        stores = await opening(stack, url, ring)
        group = await stack.enter_async_context(asyncio.TaskGroup())
        output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

        def say(what, lease):
            fields = (what, lease.path, lease.fence, lease.agent_id, lease.lock_type, time.time())
            os.write(output, f"{' '.join(map(str, fields))} {lease.expires_at.timestamp()}\n".encode())

        for number in range(int(tasks)):
            names = [f"path-{one}" for one in range(int(paths))]
            group.create_task(agent(stores.locks, names, f"{me}.{number}", say))


def leases(logs):
    """By path and fence: agent, lock type, when it was had, and until when it was held at most."""
    found = defaultdict(dict)
    for log in logs:
        # What was being written when the process was killed is no line.
        for line in log.read_text().splitlines(keepends=True):
            if not line.endswith("\n"):
                continue
            what, path, fence, name, lock_type, at, ends = line.split()
            lease = found[path].setdefault(int(fence), [name, lock_type, float(at), 0.0])
            assert lease[0] == name, f"two agents have fence {fence} of {path}"
            lease[3] = float(ends) if what == "got" else min(lease[3], float(at))
    return found


def overlapping(found):
    """The pairs of leases that do not go together and were held at once, or out of the order of their fences."""
    pairs = []
    for path, by_fence in found.items():
        exclusive, shared = 0.0, 0.0
        for fence, (name, lock_type, since, until) in sorted(by_fence.items()):
            before = exclusive if lock_type == "shared" else max(exclusive, shared)
            if since < before - DOUBT:
                pairs.append((path, fence, name, lock_type, before - since))
            if lock_type == "shared":
                shared = max(shared, until)
            else:
                exclusive = max(exclusive, until)
    return pairs


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
