"""A client that writes down what it does with runs, for the checker of histories; ``hub_client.py`` runs it."""

from __future__ import annotations

import asyncio
import json
import os
import random
import time
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path

from attrs import evolve
from returns.result import Success

from flowpersist import open_hub
from flowpersist.backends.kit import DelegatingBackend
from flowpersist.backends.registry import backend_from_url
from flowpersist.errors import BackendUnavailable, PoolTimeout, RevisionConflict, UnknownOutcome
from recorded import LOST, UNKNOWN, WON, Operation

#: Of a claim, in seconds. Its holder may be delayed past it, and others take over.
LEASE = 0.25
#: What a clock may be slewed by meanwhile, in seconds.
SLEWED = 0.002


class Naive(DelegatingBackend):
    """Compares, waits, and writes whatever is there by then."""

    async def put(self, ref, change, *, if_revision, not_after=None):
        if await self.revision(ref) != if_revision:
            raise RevisionConflict("not now", self.name)
        while True:
            await asyncio.sleep(0.003)
            try:
                return await self.inner.put(ref, change, if_revision=await self.revision(ref), not_after=not_after)
            except RevisionConflict:
                continue

    async def revision(self, ref):
        record = (await self.inner.get(ref, body=False)).record
        return 0 if record is None else record.revision


class Recorder:
    """Appends each operation to a file twice: when it begins, and when it has ended."""

    def __init__(self, path):
        self.file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def write(self, operation):
        # One write of so few bytes is whole or not there, also where the process is killed.
        os.write(self.file, json.dumps(operation.row()).encode() + b"\n")

    async def did(self, operation, call, **known):
        """Await a call of the hub and give what it gave; ``known`` says what to note of a success."""
        begun = evolve(operation, invoked=time.monotonic())
        self.write(begun)
        told = await call
        ended = evolve(begun, completed=time.monotonic(), outcome=outcome(told))
        if isinstance(told, Success):
            ended = evolve(ended, **{name: of(told.unwrap()) for name, of in known.items()})
        self.write(ended)
        return told.unwrap() if isinstance(told, Success) else None


def outcome(told):
    """Whether it is known to have won or lost."""
    if isinstance(told, Success):
        return WON
    return UNKNOWN if isinstance(told.failure(), UnknownOutcome | BackendUnavailable | PoolTimeout) else LOST


def read(paths):
    """What clients wrote: of each operation the last line."""
    found = {}
    for path in paths:
        for line in Path(path).read_bytes().split(b"\n")[:-1]:
            operation = Operation(**json.loads(line))
            found[operation.client, operation.run, operation.verb, operation.invoked] = operation
    return list(found.values())


class Client:
    """One task of one process."""

    def __init__(self, hub, recorder, name, seed):
        self.hub, self.recorder, self.name, self.chance = hub, recorder, name, random.Random(seed)

    def operation(self, run, verb, **more):
        return Operation(run, verb, self.name, 0, **more)

    async def work(self, keys, rounds):
        """Answer all, then take what can be taken."""
        keys = self.chance.sample(keys, len(keys))
        for run, key in keys:
            answer = self.hub.answer(key, self.name, by=self.name, answer_id=self.name)
            await self.recorder.did(self.operation(run, "answer", value=self.name), answer)
        for _ in range(rounds):
            for run, key in keys:
                await self.take(run, key)

    async def take(self, run, key):
        claim = self.hub.claim(key, lease=timedelta(seconds=LEASE))
        held = await self.recorder.did(
            self.operation(run, "claim", lease=LEASE - SLEWED),
            claim,
            fence=lambda held: held.fence,
            value=lambda held: next(iter(held.answers.values())),
        )
        if held is None:
            return
        what = self.chance.random()
        if what < 0.4:
            # Away for longer than its lease: whatever it does then must be refused.
            await asyncio.sleep(LEASE * self.chance.uniform(0.8, 1.3))
        elif what < 0.7:
            release = self.operation(run, "release", fence=held.fence)
            await self.recorder.did(release, self.hub.release(held))
            return
        complete = self.operation(run, "complete", fence=held.fence, value=f"{self.name}/{held.fence}")
        await self.recorder.did(complete, self.hub.complete(held, complete.value))


async def recorded(hub, url, path, keys, tasks, rounds, me, naive=False):
    """Several clients at once on the same runs; what they did is in the file."""
    recorder = Recorder(path)
    async with AsyncExitStack() as stack:
        if naive:
            hub = await stack.enter_async_context(open_hub(Naive(backend_from_url(url))))
        clients = [Client(hub, recorder, f"{me}-{task}", f"{me}-{task}") for task in range(tasks)]
        await asyncio.gather(*(client.work(keys, rounds) for client in clients))
