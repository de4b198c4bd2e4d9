"""A program with a tool that asks, for the tests of crashes: ``asking_program.py URL LOG start | resume KEY ANSWER``.

It prints a JSON line and dies. ``DIE_AT`` names the point of the tool at which it is killed instead.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

from flowpersist import AwaitInput, open_hub, or_raise
from flowpersist.dynamicflow import Completed, FlowRunner, Suspended, ToolContext, tool

URL, LOG, VERB, *REST = sys.argv[1:]
SIZE = AwaitInput(id="size", prompt="Which size?", schema=int)
COLOUR = AwaitInput(id="colour", prompt="Which colour?", schema=str)
DOCUMENT = {"metadata": {"name": "asking"}, "flow": [{"id": "t", "tool": "order"}]}


def note(*what: object) -> None:
    with Path(LOG).open("a", encoding="utf-8") as log:
        log.write(json.dumps(what) + "\n")


def reached(point: str) -> None:
    if os.environ.get("DIE_AT") == point:
        os.kill(os.getpid(), signal.SIGKILL)


@tool()
async def order(context: ToolContext) -> list[Any]:
    note("begun", context.key.split("/", 1)[1])
    draft = await context.memo("draft", lambda: note("drafted") or {"draft": 1})
    reached("drafted")
    link = await context.link(SIZE)
    note("link", link)
    reached("linked")
    size = await context.ask(SIZE)
    reached("sized")
    colour = await context.ask(COLOUR)
    reached("coloured")
    return [draft, size, colour]


async def main() -> None:
    async with open_hub(URL, keyring=None, public_url="https://x.test") as hub:
        runner = FlowRunner(hub, [order], lease=timedelta(seconds=1))
        if VERB == "work":
            await runner.work(poll=timedelta(milliseconds=50))
            return
        going = (
            runner.start(DOCUMENT, run_id="run")
            if VERB == "start"
            else runner.resume(REST[0], answer=json.loads(REST[1]))
        )
        outcome = or_raise(await going)
        said: dict[str, object] = {"accepted": True}
        if isinstance(outcome, Completed):
            said = {"completed": outcome.result}
        if isinstance(outcome, Suspended):
            said = {"suspended": {wait.step: str(wait.key) for wait in outcome.waits}}
        sys.stdout.write(json.dumps(said) + "\n")
        sys.stdout.flush()
        os.kill(os.getpid(), signal.SIGKILL)


asyncio.run(main())
