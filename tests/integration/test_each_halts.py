"""Halts on every backend: once ``halt`` has returned, no claim becomes durable, whoever decided it and wherever."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime, timedelta

import pytest
from returns.result import Failure

from clients import client
from flowpersist import AwaitInput, Criteria, KeyRing, Maintenance, open_hub, or_raise
from flowpersist.backends.kit import DelegatingBackend
from flowpersist.backends.registry import backend_from_url
from flowpersist.errors import ClaimsHalted
from flowpersist.hub import halting
from flowpersist.testing.hubs import open_test_hub

ASK = AwaitInput("pay", "Pay it?", schema=bool)
#: In the place of three seconds.
BOUND = 1.5
WITH_PROCESSES = ["filesystem", "sqlite", "postgres", "redis", "redis_cluster", "mongodb", "neo4j"]


class Held(DelegatingBackend):
    """Holds back the put of one head, behind all that its writer has decided."""

    forwarded = frozenset()
    armed = False

    def __init__(self, inner):
        super().__init__(inner)
        self.reached, self.go = asyncio.Event(), asyncio.Event()

    async def put(self, ref, change, *, if_revision, not_after=None):
        if self.armed and ref.namespace == "default":
            self.armed = False
            self.reached.set()
            await self.go.wait()
        return await super().put(ref, change, if_revision=if_revision, not_after=not_after)


@pytest.fixture(autouse=True)
def brief(monkeypatch):
    monkeypatch.setattr(halting, "BOUND", timedelta(seconds=BOUND))
    monkeypatch.setattr(halting, "FRESH", timedelta(seconds=BOUND / 4))


async def answered(hub):
    new = or_raise(await hub.suspend(1, awaiting=ASK))
    or_raise(await hub.answer(new.key, True))
    return new


async def test_a_claim_that_was_decided_before_the_halt_does_not_come_after_it(url):
    held = Held(backend_from_url(url))
    async with open_test_hub(held) as hub:
        new, other = await answered(hub), await answered(hub)
        held.armed = True
        claiming = asyncio.create_task(hub.claim(new.id))
        await held.reached.wait()
        halt = or_raise(await Maintenance(hub).halt(Criteria(), "stop", "ann"))
        held.go.set()
        assert isinstance((await claiming).failure(), ClaimsHalted)
        assert isinstance((await hub.resume(other.key)).failure(), ClaimsHalted)
        assert or_raise(await hub.answer(or_raise(await hub.suspend(1, awaiting=ASK)).key, True)).outcome == "accepted"
        or_raise(await Maintenance(hub).lift(halt.id))
        assert len(or_raise(await hub.claim_due(limit=9))) == 3
        assert [one.verb for one in or_raise(await Maintenance(hub).halt_history())] == ["halt", "lift"]


@pytest.mark.parametrize("backend", WITH_PROCESSES)
async def test_two_processes_that_claim_all_the_time_stop(url):
    ring = KeyRing.generate()
    async with open_hub(url, keyring=ring) as hub, asyncio.timeout(60):
        for _ in range(4):
            await answered(hub)
        async with client(url, ring, "churn", bound=BOUND) as one, client(url, ring, "churn", bound=BOUND) as two:
            for process in (one, two):
                process.stdin.write(b"go\n")
            for process in (one, two):
                assert json.loads(await process.stdout.readline()) == "claimed"
            or_raise(await Maintenance(hub).halt(Criteria(tool="pay"), "stop"))
            returned = or_raise(await hub.suspensions.records.read("nothing")).now
            told = [json.loads(await process.stdout.readline()) for process in (one, two)]
        assert max(datetime.fromisoformat(last) for _, last in told) <= returned
        assert isinstance(await hub.claim_due(Criteria(tool="pay")), Failure)
