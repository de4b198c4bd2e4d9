"""Several processes on one SQLite file: one winner each, disjoint work, and the end of a holder that was killed."""

from __future__ import annotations

import json
from collections import Counter
from datetime import timedelta

import pytest
from attrs import evolve

from clients import all_at_once, client
from flowpersist import AwaitInput, KeyRing, Status, or_raise
from flowpersist.errors import LeaseLost
from flowpersist.testing.hubs import open_test_hub, travel

PROCESSES = 3
TASKS = 6
KEYS = 12
CONFIRM = AwaitInput(id="confirm", prompt="Ship it?", schema=bool)
WORD = AwaitInput(id="word", prompt="Which?", schema=str)


@pytest.fixture
def ring():
    return KeyRing.generate()


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path}/flows.db"


async def test_of_many_clients_in_many_processes_one_wins_each_key(url, ring):
    async with open_test_hub(url, keyring=ring) as hub:
        made = []
        for number in range(KEYS):
            verb = ("resume", "claim", "answer")[number % 3]
            new = or_raise(await hub.suspend(number, awaiting=WORD if verb == "answer" else CONFIRM))
            made.append((verb, new))
        keys = [(verb, str(new.key)) for verb, new in made]
        told = await all_at_once(
            url, ring, "race", [{"keys": keys, "tasks": TASKS, "me": str(n)} for n in range(PROCESSES)]
        )
        counts = [Counter() for _ in made]
        for number, _, name in (row for rows in told for row in rows):
            counts[number][name] += 1
        losers = {"resume": "AlreadyResumed", "claim": "SuspensionBusy", "answer": "AnswerConflict"}
        for (verb, new), count in zip(made, counts, strict=True):
            assert count == {"won": 1, losers[verb]: PROCESSES * TASKS - 1}, verb
            attempt = or_raise(await hub.inspect(new.key)).attempt
            assert attempt == (0 if verb == "answer" else 1)


async def test_processes_that_drain_a_queue_get_disjoint_runs(url, ring):
    async with open_test_hub(url, keyring=ring) as hub:
        made = []
        for number in range(40):
            new = or_raise(await hub.suspend(number, awaiting=CONFIRM))
            or_raise(await hub.answer(new.key, True))
            made.append(new.id)
        told = await all_at_once(url, ring, "drain", [{"limit": limit} for limit in (1, 3, 5)])
        taken = [one for rows in told for one in rows]
        assert sorted(taken) == sorted(str(one) for one in made)
        for number, one in enumerate(made):
            assert or_raise(await hub.outcome(one)) == number


async def test_when_a_holder_is_killed_another_finishes_and_the_old_one_has_lost_it(url, ring):
    async with open_test_hub(url, keyring=ring) as hub:
        new = or_raise(await hub.suspend({"step": 1}, awaiting=CONFIRM))
        async with client(url, ring, "hold", key=str(new.key)) as process:
            process.stdin.write(b"go\n")
            fence, claim_id = json.loads(await process.stdout.readline())
            assert or_raise(await hub.inspect(new.key)).status is Status.RUNNING
            process.kill()
            await process.wait()
        assert or_raise(await hub.claim_due()) == ()
        travel(hub, timedelta(minutes=10, seconds=1))
        (second,) = or_raise(await hub.claim_due())
        assert (second.suspension.id, second.attempt, second.answer, second.state) == (new.id, 2, True, {"step": 1})
        old = evolve(second, fence=fence, claim_id=claim_id)
        for late in (hub.complete(old), hub.renew(old), hub.release(old), hub.suspend_next(old, 2, awaiting=CONFIRM)):
            assert isinstance((await late).failure(), LeaseLost)
        assert or_raise(await hub.complete(second, "done")).status is Status.COMPLETED
        assert isinstance((await hub.complete(old)).failure(), LeaseLost)
        assert or_raise(await hub.outcome(new.id)) == "done"
