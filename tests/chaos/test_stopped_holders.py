"""Holders that stand still for longer than their leases (SIGSTOP): whatever they do afterwards is refused.

With FLOWPERSIST_LONG=1: 200 holders on each backend, in twenty processes one after another.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from datetime import timedelta

import pytest

from clients import client
from flowpersist import AwaitInput, KeyRing, or_raise
from flowpersist.testing.hubs import open_test_hub
from machine import BACKENDS

LONG = os.environ.get("FLOWPERSIST_LONG") == "1"
STOPS, HOLDERS = (20, 10) if LONG else (1, 10)
LEASE = timedelta(seconds=2)
CONFIRM = AwaitInput(id="confirm", prompt="Ship it?", schema=bool)
#: What a holder tries when it goes on.
VERBS = ("complete", "renew", "release", "suspend_next")


async def stopped(hub, url, ring):
    """Holders that are stopped in the middle; what others have done meanwhile, and what the holders were told."""
    made = [or_raise(await hub.suspend(number, awaiting=CONFIRM)) for number in range(HOLDERS)]
    plan = [[str(new.key), VERBS[number % len(VERBS)]] for number, new in enumerate(made)]
    async with client(url, ring, "stop", plan=plan, lease=LEASE.total_seconds()) as process:
        process.stdin.write(b"go\n")
        fences = json.loads(await process.stdout.readline())
        process.send_signal(signal.SIGSTOP)
        taken = {}
        async with asyncio.timeout(60):
            while len(taken) < HOLDERS:
                await asyncio.sleep(0.05)
                taken |= {run.suspension.id: run for run in or_raise(await hub.claim_due(limit=HOLDERS))}
        for new, fence in zip(made, fences, strict=True):
            assert taken[new.id].fence > fence
            or_raise(await hub.complete(taken[new.id], "in time"))
        process.send_signal(signal.SIGCONT)
        process.stdin.write(b"go on\n")
        told = json.loads(await process.stdout.readline())
    return [or_raise(await hub.outcome(new.id)) for new in made], told


@pytest.mark.parametrize("backend", BACKENDS if LONG else ["sqlite"])
async def test_a_holder_that_was_stopped_past_its_lease_changes_nothing(url, record_property):
    ring = KeyRing.generate()
    async with open_test_hub(url, keyring=ring) as hub:
        for _ in range(STOPS):
            results, told = await stopped(hub, url, ring)
            assert told == ["LeaseLost"] * HOLDERS
            assert results == ["in time"] * HOLDERS
    record_property("attempts", STOPS * HOLDERS)
