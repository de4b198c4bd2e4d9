"""A client of a hub in a process of its own: ``hub_client.py URL COMMAND``, keys in the environment, JSON on the pipes.

It reads one line of JSON (its arguments), says ``ready``, waits for a line that says ``go``, and prints what it got.
"""

from __future__ import annotations

import asyncio
import json
import sys
from datetime import timedelta

from returns.result import Success

from flowpersist import open_hub
from flowpersist.tools import Approvals, Call


async def raced(hub, keys, tasks, me):
    """Every task resumes, claims or answers every key; what it won, by verb."""

    async def one(task):
        own = f"{me}-{task}"
        won = []
        for number, (verb, key) in enumerate(keys):
            call = {
                "resume": lambda key=key: hub.resume(key, True, by=own),
                "claim": lambda key=key: hub.claim(key, True, by=own),
                "answer": lambda key=key: hub.answer(key, own, by=own, answer_id=own),
            }[verb]
            told = await call()
            name = "won" if isinstance(told, Success) else type(told.failure()).__name__
            won.append([number, verb, name])
        return won

    return [row for rows in await asyncio.gather(*(one(task) for task in range(tasks))) for row in rows]


async def drained(hub, limit):
    """Claims what is due until nothing is left."""
    taken = []
    while True:
        runs = (await hub.claim_due(limit=limit, lease=timedelta(minutes=5))).unwrap()
        if not runs:
            return taken
        for run in runs:
            taken.append(str(run.suspension.id))
            (await hub.complete(run, run.state)).unwrap()


async def held(hub, key):
    """Claims and never comes back: whoever started this process kills it."""
    run = (await hub.claim(key, True, lease=timedelta(seconds=30))).unwrap()
    print(json.dumps([run.fence, run.claim_id]), flush=True)  # noqa: T201
    await asyncio.sleep(3600)


async def used(hub, tool, calls):
    """Takes uses of standing approvals, several at a time; the numbers of those that it got."""
    approvals = Approvals(hub)
    taken = await asyncio.gather(*(approvals.use(Call(tool, {"amount": n})) for n in range(calls)))
    return [use.number for use in taken if use is not None]


async def main():
    arguments = json.loads(sys.stdin.readline())
    async with open_hub(sys.argv[1]) as hub:
        print("ready", flush=True)  # noqa: T201
        sys.stdin.readline()
        told = await {"race": raced, "drain": drained, "hold": held, "use": used}[sys.argv[2]](hub, **arguments)
        print(json.dumps(told), flush=True)  # noqa: T201


asyncio.run(main())
