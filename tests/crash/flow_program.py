"""A program that runs flows in a process of its own, for the tests of crashes and races.

``flow_program.py URL LOG start DOCUMENT | resume KEY ANSWER | work``: prints one JSON line. Each call of a tool is a
line of LOG. With EVENTS in the environment the events of the run are stored.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from datetime import timedelta
from pathlib import Path

from flowpersist.dynamicflow import Completed, FlowRunner, Suspended, ToolContext, tool
from flowpersist.hub.opening import open_hub
from flowpersist.hub.outcome import or_raise

URL, LOG, VERB, *REST = sys.argv[1:]


@tool()
async def note(value: object, context: ToolContext) -> object:
    with Path(LOG).open("a", encoding="utf-8") as log:
        log.write(f"{json.dumps(value)} {context.path} {context.attempt}\n")
    if os.environ.get("KILL_AT") == json.dumps(value):
        os.kill(os.getpid(), signal.SIGKILL)
    return value


@tool()
async def hang(value: object) -> object:
    if "HANG" in os.environ:
        sys.stdout.write("hanging\n")
        sys.stdout.flush()
        await asyncio.sleep(60)
    return value


def shown(outcome: object) -> dict[str, object]:
    if isinstance(outcome, Completed):
        return {"completed": outcome.result}
    if isinstance(outcome, Suspended):
        return {"suspended": {wait.step: str(wait.key) for wait in outcome.waits}}
    return {"accepted": True}


async def main() -> None:
    async with open_hub(URL, keyring=None) as hub:
        runner = FlowRunner(hub, [note, hang], lease=timedelta(seconds=1), events="EVENTS" in os.environ)
        if VERB == "work":
            await runner.work(poll=timedelta(milliseconds=50))
            return
        going = (
            runner.start(REST[0], run_id="run")
            if VERB == "start"
            else runner.resume(REST[0], answer=json.loads(REST[1]))
        )
        sys.stdout.write(json.dumps(shown(or_raise(await going))) + "\n")
        sys.stdout.flush()
        if VERB == "start":
            os.kill(os.getpid(), signal.SIGKILL)


asyncio.run(main())
