"""Following a run: its events as an async iterator, up to its end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import TYPE_CHECKING

from returns.result import Failure

from flowpersist.dynamicflow.events import Emit, EventType, FlowEvent, nothing
from flowpersist.dynamicflow.results import Completed, FlowOutcome, Suspended
from flowpersist.errors.secrecy import forgetting
from flowpersist.errors.tracebacks import Tracebacks

if TYPE_CHECKING:
    from flowpersist.hub.outcome import Outcome

__all__ = ["follow", "tell"]

_log = logging.getLogger("flowpersist.dynamicflow")


def tell(
    emit: Emit, run_id: str | None, outcome: Outcome[FlowOutcome], *, running: bool = False
) -> Outcome[FlowOutcome]:
    """Report to the followers how the run ended, or with ``running`` what it awaits while it runs; gives the
    outcome.
    """
    if emit is nothing:
        return outcome
    if isinstance(outcome, Failure):
        emit("flow-error", {"run": run_id, "error": outcome.failure().to_problem()})
        return outcome
    value = outcome.unwrap()
    if isinstance(value, Completed):
        emit("flow-complete", {"run": run_id, "result": value.result, "outputs": value.outputs})
    else:
        emit("flow-suspended", {**_suspended(run_id, value), "running": running})
    return outcome


def _suspended(run_id: str | None, value: FlowOutcome) -> Mapping[str, object]:
    if not isinstance(value, Suspended):
        return {"run": run_id, "waits": [], "further": 0, "due": None, "accepted": True}
    waits = [{"step": wait.step, "key": str(wait.key), "awaiting": wait.awaiting} for wait in value.waits]
    due = None if value.due is None else value.due.isoformat()
    return {"run": run_id, "waits": waits, "further": value.further, "due": due, "accepted": False}


async def follow(
    run: Callable[[Emit], Awaitable[object]],
    tracebacks: Tracebacks = Tracebacks(),  # noqa: B008 - frozen
) -> AsyncGenerator[FlowEvent, None]:
    """Run in a task and yield its events. If closed early, cancel the task and wait until it has released the run."""
    events: asyncio.Queue[FlowEvent | None] = asyncio.Queue()

    def emit(kind: EventType, data: Mapping[str, object]) -> None:
        events.put_nowait(FlowEvent(kind, data))

    async def ran() -> None:
        try:
            await run(emit)
        finally:
            events.put_nowait(None)

    task = asyncio.create_task(ran(), name="flow")
    ended = False
    with forgetting():
        try:
            while (event := await events.get()) is not None:
                yield event
            ended = True
            await task
        finally:
            task.cancel()
            await asyncio.wait({task})
            error = None if ended or task.cancelled() else task.exception()
            if error is not None:
                # Retrieved because no caller does, and the event loop would log it with its text.
                tracebacks.log(_log, error, "a flow failed after its stream was closed")
