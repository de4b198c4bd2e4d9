"""A client of a hub in a process of its own: ``hub_client.py URL COMMAND``, keys in the environment, JSON on the pipes.

It reads one line of JSON (its arguments), says ``ready``, waits for a line that says ``go``, and prints what it got.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from datetime import timedelta
from pathlib import Path

from returns.result import Failure, Success

from flowpersist import Criteria, Maintenance, open_hub
from flowpersist.dynamicflow import FlowRunner, tool
from flowpersist.errors import ClaimsHalted
from flowpersist.hub import attempt, halting
from flowpersist.tools import Approvals, Call, ToolContext, approve
from recorded_client import recorded


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


async def voted(hub, key, voters, value, stop=None):
    """Each voter votes, at once; what became of it. After ``stop`` of them, say so and stop for ever."""

    async def one(by):
        told = await hub.answer(key, value, by=by)
        return [by, told.unwrap().outcome if isinstance(told, Success) else type(told.failure()).__name__]

    if stop is not None:
        for by in voters[:stop]:
            await one(by)
        print(json.dumps("stopped"), flush=True)  # noqa: T201
        await asyncio.sleep(3600)
    return await asyncio.gather(*(one(by) for by in voters))


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


async def churned(hub, bound):
    """Claim and release until that is halted, and say so at the first; then how many claims there were, and the store's
    time of the last.
    """
    halting.BOUND, halting.FRESH = timedelta(seconds=bound), timedelta(seconds=bound / 4)
    times = []
    while True:
        claimed = await hub.claim_due(Criteria(tool="pay"))
        if isinstance(claimed, Failure):
            assert isinstance(claimed.failure(), ClaimsHalted), claimed
            return [len(times), times[-1].isoformat()]
        for run in claimed.unwrap():
            if not times:
                print(json.dumps("claimed"), flush=True)  # noqa: T201
            times.append(run.suspension.updated_at)
            (await hub.release(run)).unwrap()


async def held(hub, key):
    """Claims and never comes back: whoever started this process kills it."""
    run = (await hub.claim(key, True, lease=timedelta(minutes=10))).unwrap()
    print(json.dumps([run.fence, run.claim_id]), flush=True)  # noqa: T201
    await asyncio.sleep(3600)


async def stopped(hub, plan, lease):
    """Claims each key, says the fences, waits for a line, and then does what the plan says with each run, late."""
    runs = [(await hub.claim(key, True, lease=timedelta(seconds=lease))).unwrap() for key, _ in plan]
    print(json.dumps([run.fence for run in runs]), flush=True)  # noqa: T201
    await asyncio.to_thread(sys.stdin.readline)
    late = {
        "complete": lambda run: hub.complete(run, "late"),
        "renew": hub.renew,
        "release": hub.release,
        "suspend_next": lambda run: hub.suspend_next(run, "late"),
    }
    told = [await late[verb](run) for run, (_, verb) in zip(runs, plan, strict=True)]
    return ["won" if isinstance(one, Success) else type(one.failure()).__name__ for one in told]


async def used(hub, tool, calls):
    """Takes uses of standing approvals, several at a time; the numbers of those that it got."""
    approvals = Approvals(hub)
    taken = await asyncio.gather(*(approvals.use(Call(tool, {"amount": n})) for n in range(calls)))
    return [use.number for use in taken if use is not None]


def payments(ledger, stop=None):
    """A tool that writes what it does, and its precondition. The process stops for ever before that, or after it."""

    async def stopped(place):
        if stop == place:
            print(json.dumps("stopped"), flush=True)  # noqa: T201
            await asyncio.sleep(3600)

    async def pay(to: str, amount: int, context: ToolContext) -> str:
        with Path(ledger).open("a") as lines:
            lines.write(json.dumps([to, amount, context.key]) + "\n")
        await stopped("after")
        return f"paid {amount}"

    async def valid(call):
        await stopped("before")
        return True

    return pay, valid


def paying(hub, ledger, lease, stop=None):
    """The tool, guarded."""
    pay, valid = payments(ledger, stop)
    return approve(pay, hub=hub, lease=timedelta(seconds=lease), still_valid=valid)


PAYING = {"name": "paying", "flow": [{"id": "send", "tool": "pay", "args": {"to": "bo", "amount": "$input.amount"}}]}


async def flowed(hub, ledger, key, lease=30, stop=None):
    """Begins a flow whose step is the guarded tool (the key of what waits), or goes on with it (its result)."""
    pay, valid = payments(ledger, stop)
    guarded = approve(tool()(pay), hub=hub, still_valid=valid)
    runner = FlowRunner(hub, tools=[guarded.tool], lease=timedelta(seconds=lease))
    if key is None:
        return str((await runner.start(PAYING, input={"amount": 500})).unwrap().waits[0].key)
    told = await runner.resume(key)
    return told.unwrap().result if isinstance(told, Success) else type(told.failure()).__name__


async def asked(hub, ledger, arguments, tasks):
    """Asks for the same call several times at once; the keys of what waits."""
    guarded = paying(hub, ledger, 30)
    waiting = await asyncio.gather(*(guarded.call(arguments, requested_by="agent") for _ in range(tasks)))
    return [str(one.key) for one in waiting]


async def resumed(hub, ledger, key, tasks, lease=30, stop=None):
    """Resumes a decided call several times at once; the results, or the errors' names."""
    guarded = paying(hub, ledger, lease, stop)
    told = await asyncio.gather(*(attempt(guarded.resume(key)) for _ in range(tasks)))
    return [one.unwrap() if isinstance(one, Success) else type(one.failure()).__name__ for one in told]


class Listener:
    """What ``on_event`` was told of deliveries; it kills its process at one of them, before that is recorded."""

    def __init__(self):
        self.told = []
        self.last = None

    def __call__(self, event):
        if event.delivery is not None:
            self.told.append([event.delivery.id, event.verb, str(event.suspension.id), event.delivery.attempt])
            if len(self.told) == self.last:
                print(json.dumps(self.told), flush=True)  # noqa: T201
                os.kill(os.getpid(), signal.SIGKILL)


LISTENER = Listener()


async def ticked(hub, minutes, last=None):
    """Ticks so many minutes ahead, twice; what it delivered."""
    hub.backend.clock_offset += timedelta(minutes=minutes)
    LISTENER.last = last
    for _ in range(2):
        (await Maintenance(hub).tick()).unwrap()
    return LISTENER.told


COMMANDS = {
    "race": raced,
    "vote": voted,
    "drain": drained,
    "hold": held,
    "use": used,
    "ask": asked,
    "go on": resumed,
    "flow": flowed,
    "tick": ticked,
    "churn": churned,
    "record": recorded,
    "stop": stopped,
}


async def main():
    arguments = json.loads(sys.stdin.readline())
    async with open_hub(sys.argv[1], on_event=LISTENER) as hub:
        print("ready", flush=True)  # noqa: T201
        sys.stdin.readline()
        told = await COMMANDS[sys.argv[2]](hub, **arguments)
        print(json.dumps(told), flush=True)  # noqa: T201


asyncio.run(main())
