"""Recording the events of a run while it runs: they are stored in batches, and before whatever they tell of.

The end of a run is not recorded. Its record says how it ended, so readers make the last event of that.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from attrs import define, field
from returns.result import Failure, Success

from flowpersist.dynamicflow.event_data import event_text, questions
from flowpersist.dynamicflow.facts import EVENTS, run_id_of
from flowpersist.errors import PersistenceError, StorageError

if TYPE_CHECKING:
    from flowpersist.dynamicflow.events import Emit, EventType
    from flowpersist.hub.event_log import EventLog
    from flowpersist.hub.outcome import Outcome
    from flowpersist.hub.transactions import Suspensions
    from flowpersist.inputs.await_input import AwaitInput
    from flowpersist.lifecycle import Resumption

__all__ = ["Recorder", "recorder_of"]

_log = logging.getLogger("flowpersist.dynamicflow")
#: Seconds that an event waits for others to be stored with it.
EARLY: Final = 0.1
#: Seconds before a write that failed is tried again.
_AGAIN: Final = 1.0
#: The most events of a batch, and about the most characters.
_COUNT: Final = 256
_TEXT: Final = 256 * 1024
#: So many events that are not stored yet hold the next step back.
_PENDING: Final = 2048


@define
class Recorder:
    """Stores the events of one leg of a run. ``emit`` also tells the leg's own follower; ``number`` is that of the last
    event in the log.
    """

    log: EventLog
    run: Callable[[], Resumption[Any]]
    follower: Emit
    clock: Callable[[], datetime]
    most: int
    number: int
    _texts: list[str] = field(factory=list, init=False, repr=False)
    #: Of the texts, those that are being written: a write that may have been done is repeated as it was.
    _writing: int = field(default=0, init=False)
    _lock: asyncio.Lock = field(factory=asyncio.Lock, init=False, repr=False)
    _due: asyncio.Event = field(factory=asyncio.Event, init=False, repr=False)
    _less: asyncio.Event = field(factory=asyncio.Event, init=False, repr=False)
    #: Why no event can be stored any more.
    _broken: PersistenceError | None = field(default=None, init=False)

    def emit(self, kind: EventType, data: Mapping[str, object]) -> None:
        """Tell the follower, and record."""
        self.follower(kind, data)
        self.note(kind, data)

    def note(self, kind: EventType, data: Mapping[str, object]) -> None:
        """Record an event."""
        at = self.clock()
        text = event_text(kind, at, data)
        # A codec with small limits takes only small events.
        self._texts.append(text if len(text) <= self.most else event_text(kind, at, {"omitted": list(data)}))
        self._due.set()

    def begin(self, flow: str) -> None:
        """Record that the run begins, or goes on."""
        run = self.run()
        told: dict[str, object] = {"run": run_id_of(run.suspension), "flow": flow}
        if not self.number:
            self.note("flow-start", told)
            return
        self.note(
            "flow-resumed", {**told, "answered": sorted(name for name in run.answers if not name.startswith("$"))}
        )

    def asked(
        self, waits: Mapping[str, AwaitInput[Any]], stays: Callable[[str], bool], count: int, *, running: bool
    ) -> None:
        """Record what the run awaits: new questions, and those that were open before and still are, as far as they were
        read. ``count`` is how many there are in all.
        """
        held = self.run().suspension
        before = [(one.name, one.awaiting) for one in held.open_waits if one.name not in waits and stays(one.name)]
        told = questions([*before, *waits.items()])
        self.note("flow-suspended", {"run": run_id_of(held), **told, "open": count, "running": running})

    def parked(self, error: PersistenceError) -> None:
        """Record that the run is about to be parked."""
        told = {"run": run_id_of(self.run().suspension), "error": error.to_problem(), "parked": True}
        self.note("flow-error", told)

    async def room(self) -> None:
        """Wait while so many events are not stored yet that more would take too much memory."""
        while len(self._texts) > _PENDING and self._broken is None:
            self._less.clear()
            self._due.set()
            await self._less.wait()

    async def write(self, ending: asyncio.Event) -> None:
        """Until it ends, store what comes, a moment later. What is left is stored by ``flush``."""
        while not ending.is_set() and self._broken is None:
            await self._due.wait()
            self._due.clear()
            if len(self._texts) <= _PENDING:
                await _within(ending, EARLY)
            if ending.is_set():
                return
            error = await self.flush()
            if error is not None:
                _log.warning("events of run %s could not be stored yet: %s", run_id_of(self.run().suspension), error)
                self._due.set()
                await _within(ending, _AGAIN)

    def end(self) -> None:
        """Let ``write`` see that it has ended."""
        self._due.set()

    async def flush(self) -> PersistenceError | None:
        """Store all events there are now; the error if they can't be."""
        async with self._lock:
            left = len(self._texts)
            while left > 0 and self._broken is None:
                self._writing = self._writing or self._fitting()
                stored = await self._stored(self._texts[: self._writing])
                if isinstance(stored, Failure):
                    return self._failed(stored.failure())
                if stored.unwrap():
                    left -= self._writing
                    del self._texts[: self._writing]
                    self._writing = 0
                    self._less.set()
            return self._broken

    async def _stored(self, texts: list[str]) -> Outcome[bool]:
        """Whether they were stored; if not, others stand there and the next number is tried."""
        done = await self.log.append(self.run(), self.number + 1, len(texts), f"[{','.join(texts)}]")
        if not isinstance(done, Success):
            return Failure(done.failure())
        taken = done.unwrap()
        self.number = self.number + len(texts) if taken is None else taken - 1
        return Success(taken is None)

    def _fitting(self) -> int:
        count, size = 0, 0
        for text in self._texts[:_COUNT]:
            size += len(text) + 1
            if count and size > min(_TEXT, self.most):
                break
            count += 1
        return count

    def _failed(self, error: PersistenceError) -> PersistenceError:
        if not isinstance(error, StorageError):
            self._broken = error
            self._less.set()
        return error


async def recorder_of(
    suspensions: Suspensions, run: Resumption[Any], follower: Emit, now: Callable[[], Resumption[Any]]
) -> Outcome[Recorder | None]:
    """What records the events of a leg; None for a run without events. ``now`` gives the run as it is held now."""
    if not run.suspension.metadata.get(EVENTS):
        return Success(None)
    log, records = suspensions.side_records.events, suspensions.records
    found = await log.end(run.suspension)
    if not isinstance(found, Success):
        return Failure(found.failure())
    limits = records.sealer.codec.limits
    most = min(limits.max_bytes, limits.max_str) // 2
    return Success(Recorder(log, now, follower, records.reckoned, most, found.unwrap()))


async def _within(ending: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(ending.wait(), seconds)
