"""Reminders and escalations on every backend: delivered once among processes, and again where one was killed."""

from __future__ import annotations

import json
from collections import Counter
from datetime import timedelta

from clients import all_at_once, client
from flowpersist import AwaitInput, KeyRing, Maintenance, RaisingHub, or_raise
from flowpersist.inputs import Escalation
from flowpersist.testing.hubs import open_test_hub, travel

PROCESSES = 4
HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
QUESTION = AwaitInput(
    id="ship",
    prompt="Ship it?",
    schema=bool,
    timeout=2 * HOUR,
    reminders=(HOUR,),
    escalation=(Escalation(after=30 * MINUTE, to=("lead",)),),
)
WAITS = 4
KILLED_AT = 3


async def killed_at(url, ring, last, minutes):
    async with client(url, ring, "tick", minutes=minutes, last=last) as process:
        process.stdin.write(b"go\n")
        told = json.loads(await process.stdout.readline())
        assert await process.wait() < 0
    return told


async def test_each_is_delivered_once_among_processes_and_again_where_one_was_killed(url):
    ring = KeyRing.generate()
    async with RaisingHub.open(url, keyring=ring) as hub:
        waits = [await hub.suspend(number, awaiting=QUESTION) for number in range(WAITS)]
        await hub.answer((await hub.suspend("answered", awaiting=QUESTION)).key, True)
        first = await killed_at(url, ring, KILLED_AT, 61)
        others = await all_at_once(url, ring, "tick", [{"minutes": 61}] * PROCESSES)
        (later,) = await all_at_once(url, ring, "tick", [{"minutes": 90}])
        told = [*first, *(one for heard in others for one in heard)]
        # What was told just before the kill is told again; all else was told once, also the reminder of the same wait,
        # which was taken together with it.
        before = {one[0] for one in told}
        assert [one[0] for one in later if one[0] in before] == [first[-1][0]]
        assert {suspension for _, _, suspension, attempt in later if attempt > 1} == {first[-1][2]}
        every = [*told, *(one for one in later if one[0] not in before)]
        assert max(Counter(one[0] for one in every).values()) == 1
        assert Counter((verb, suspension) for _, verb, suspension, _ in every) == {
            (verb, str(wait.id)): 1 for verb in ("remind", "escalate") for wait in waits
        }
        assert await all_at_once(url, ring, "tick", [{"minutes": 110}]) == [[]]
        for wait in waits:
            (seen,) = (await hub.inspect(wait.key)).waits
            # By this hub's clock no time has passed; what has come is recorded all the same.
            assert (seen.level, seen.escalated_to, seen.next_reminder) == (1, ("lead",), None)


async def test_all_of_a_wait_survives_in_the_store(url):
    ring = KeyRing.generate()
    steps = tuple(Escalation(to=(f"level {n}",), timeout=HOUR) for n in range(3))
    question = AwaitInput(
        id="ship", prompt="?", reminders=(10 * MINUTE,), escalation=steps, on_expiry="escalate", default=False
    )
    told = []
    async with open_test_hub(url, keyring=ring, on_event=told.append) as hub:
        new = or_raise(await hub.suspend(1, awaiting=question, timeout=HOUR))
        for _ in range(9):
            travel(hub, 30 * MINUTE)
            or_raise(await Maintenance(hub).tick())
        (wait,) = or_raise(await hub.inspect(new.id)).waits
        assert (wait.level, wait.answered_by, wait.deadline - new.created_at) == (3, "system", 4 * HOUR)
        assert or_raise(await hub.resume(new.id)).answer is False
    verbs = [event.verb for event in told]
    # A reminder whose deadline has passed is not sent: it came and was overtaken between two ticks.
    assert verbs == ["suspend", "escalate", "escalate", "escalate", "tick", "resume"]
    assert [event.delivery.to for event in told if event.delivery] == [("level 0",), ("level 1",), ("level 2",)]
