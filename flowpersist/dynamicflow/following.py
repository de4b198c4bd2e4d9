"""Reading the events of a stored run, and following them over its pauses until it ends."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager, nullcontext
from datetime import timedelta
from typing import TYPE_CHECKING

from attrs import define, field
from returns.result import Failure

from flowpersist.dynamicflow.ended import ended
from flowpersist.dynamicflow.event_data import as_json, stored_events
from flowpersist.dynamicflow.events import StoredEvent
from flowpersist.dynamicflow.facts import EVENTS, no_flow, run_id_of
from flowpersist.dynamicflow.retrying import found_run
from flowpersist.errors import FlowError, StorageError, SuspensionClosed
from flowpersist.errors.secrecy import forgetting
from flowpersist.hub.outcome import or_raise
from flowpersist.hub.wakeup import SELDOM, Bell, rung_within
from flowpersist.lifecycle import Status

if TYPE_CHECKING:
    from flowpersist.dynamicflow.events import EventType
    from flowpersist.dynamicflow.retrying import RunLike
    from flowpersist.hub.verbs import PersistenceHub
    from flowpersist.keys.suspension_key import SuspensionId
    from flowpersist.lifecycle import Suspension

__all__ = ["Bells", "events_of"]

_log = logging.getLogger("flowpersist.dynamicflow")


class Bells:
    """Wakes the followers of runs of a hub when events are stored, and when a run changes."""

    def __init__(self, hub: PersistenceHub) -> None:
        self._runs = Bell(lambda: hub.suspensions.records)
        self._events = Bell(lambda: hub.suspensions.side_records.events.records, of=lambda key: key.partition("/")[0])

    @asynccontextmanager
    async def listening(self, run: SuspensionId, rung: asyncio.Event) -> AsyncIterator[None]:
        """Set the event at each change of a run, for the length of an ``async with`` block."""
        async with self._runs.listening(str(run), rung), self._events.listening(str(run), rung):
            yield

    @property
    def hear(self) -> bool:
        """Whether the store tells of changes now."""
        return self._runs.hears and self._events.hears


async def events_of(
    hub: PersistenceHub, bells: Bells, run: RunLike, *, after: int, follow: bool, poll: timedelta
) -> AsyncGenerator[StoredEvent, None]:
    """The events of a run with higher numbers than ``after``; with ``follow`` until it has ended. Raises the hub's
    errors.
    """
    with forgetting():
        found = or_raise(await found_run(hub, run))
        reader = _Reader(hub, found, after)
        rung = asyncio.Event()
        async with bells.listening(found, rung) if follow else nullcontext():
            while True:
                rung.clear()
                async with aclosing(reader.all()) as events:
                    async for event in _lasting(events, follow=follow):
                        yield event
                if reader.over or not follow:
                    return
                await rung_within(rung, poll.total_seconds() * (SELDOM if bells.hear else 1), hub.runtime)


async def _lasting(events: AsyncGenerator[StoredEvent, None], *, follow: bool) -> AsyncIterator[StoredEvent]:
    """The same, up to a failure of the store that may pass, after which a follower looks again."""
    try:
        async for event in events:
            yield event
    except StorageError as error:
        if not follow or not error.retryable:
            raise
        _log.warning("the events of a run can't be read now, trying again: %s", error)


async def _recorded(hub: PersistenceHub, id: SuspensionId) -> Suspension:
    """The run as it is now; its events are read after that. Raises the errors of a run without events."""
    run = or_raise(await hub.inspect(id))
    stranger = no_flow(run)
    if stranger is not None:
        raise stranger
    if not run.metadata.get(EVENTS):
        message = f"the events of run {run_id_of(run)} are not stored: start runs with FlowRunner(events=True)"
        raise FlowError(message, str(run.metadata.get("flow", "")))
    return run


@define
class _Reader:
    """One follower's place in the events of a run."""

    hub: PersistenceHub
    run: SuspensionId
    #: The number of the last event that was told.
    after: int
    #: Whether the run has ended, and all was told.
    over: bool = field(default=False, init=False)
    #: The number with which the next batch begins; 0: not known yet.
    _next: int = field(default=0, init=False)

    async def all(self) -> AsyncGenerator[StoredEvent, None]:
        """All events that are there now, the end of the run among them."""
        log = self.hub.suspensions.side_records.events
        # All events of a run are stored before it ends, so they are read after its status.
        run = await _recorded(self.hub, self.run)
        self._next = self._next or or_raise(await log.begin(run, self.after + 1))
        while batches := or_raise(await log.read(run, self._next)):
            for batch in batches:
                for event in stored_events(batch):
                    if event.sequence > self.after:
                        self.after = event.sequence
                        yield event
                self._next = batch.first + batch.count
        if run.status.closed and run.status is not Status.PARKED:
            last = await _ending(self.hub, run, self._next)
            self.over = True
            if last.sequence > self.after:
                self.after = last.sequence
                yield last


async def _ending(hub: PersistenceHub, run: Suspension, number: int) -> StoredEvent:
    """How a run has ended, which its own record says."""
    how = await ended(hub, run)
    told: dict[str, object] = {"run": run_id_of(run)}
    if isinstance(how, Failure):
        error = how.failure()
        if run.status is Status.COMPLETED or not isinstance(error, FlowError | SuspensionClosed):
            raise error
        told |= {"error": error.to_problem(), "parked": False}
    else:
        told |= {"result": how.unwrap().result, "outputs": how.unwrap().outputs}
    kind: EventType = "flow-error" if isinstance(how, Failure) else "flow-complete"
    return StoredEvent(number, run.closed_at or run.updated_at, kind, json.loads(as_json(told)))
