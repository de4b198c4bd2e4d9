"""``run --follow``: the events of a run on standard error as they come, a line for each."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from flowpersist.cli.layout import one_line, printable
from flowpersist.cli.session import note
from flowpersist.errors import PersistenceError, SuspensionNotFound

if TYPE_CHECKING:
    from flowpersist.dynamicflow import FlowRunner, StoredEvent

__all__ = ["followed", "line_of"]

T = TypeVar("T")
#: Seconds between two looks.
POLL: Final = 0.2
#: The most characters of what an event tells.
SHORT: Final = 120


async def followed(runner: FlowRunner, run: str, work: Coroutine[Any, Any, T]) -> T:
    """Do the work, and print the events of the run meanwhile. If this is cancelled, the work is, and ends first."""
    going = asyncio.create_task(work)
    try:
        await _printed(runner, run, going)
        return await going
    finally:
        going.cancel()
        # Its error is the caller's only where this was not cancelled.
        await asyncio.gather(going, return_exceptions=True)


async def _printed(runner: FlowRunner, run: str, going: asyncio.Task[Any]) -> None:
    last = 0
    while True:
        over = going.done()
        try:
            async for event in runner.events(run, after=last):
                last = event.sequence
                click.echo(printable(line_of(event)), err=True)
        except SuspensionNotFound:
            # It is not stored yet, or was refused before.
            pass
        except PersistenceError as error:
            note(f"the events of the run can't be shown any more: {error}")
            return
        if over:
            return
        await asyncio.wait({going}, timeout=POLL)


def line_of(event: StoredEvent) -> str:
    """An event as one line: its time, its type, and where it happened or what it tells."""
    return one_line(f"{event.time:%H:%M:%S} {event.type} {_told(event)[:SHORT]}")


def _told(event: StoredEvent) -> str:
    data: Any = event.data
    match event.type:
        case "flow-start" | "flow-resumed":
            return " ".join([str(data.get("flow", "")), *data.get("answered", ())])
        case "flow-progress":
            return f"step {data.get('step')} of {data.get('total')}: {data.get('node')}"
        case "flow-suspended":
            return ", ".join(wait["step"] for wait in data.get("waits", ()))
        case "flow-error":
            return str((data.get("error") or {}).get("detail", ""))
        case "node-error" | "tool-error":
            return f"{data.get('path')}: {data.get('error', '')}"
    return str(data.get("path", ""))
