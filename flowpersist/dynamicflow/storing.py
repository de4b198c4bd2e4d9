"""Storing a run while it goes on: its questions as soon as they are asked, and the answers that come meanwhile."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import aclosing, nullcontext, suppress
from datetime import datetime, timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from attrs import define, field, frozen
from returns.result import Failure

from flowpersist.dynamicflow.carrying import Carried
from flowpersist.dynamicflow.dormant import with_dormant
from flowpersist.dynamicflow.facts import moved, run_id_of
from flowpersist.dynamicflow.results import Suspended, delays_of, open_waits
from flowpersist.dynamicflow.state import State, kept_frame
from flowpersist.errors import FlowError, LeaseLost, PersistenceError, StateChanged, StorageError, SuspensionClosed
from flowpersist.lifecycle import Checkpoint, Resumption, Suspension, WaitStatus
from flowpersist.lifecycle.parts import has_news

if TYPE_CHECKING:
    from flowpersist.dynamicflow.engine import Engine
    from flowpersist.dynamicflow.event_recorder import Recorder
    from flowpersist.hub.outcome import Outcome
    from flowpersist.hub.verbs import PersistenceHub
    from flowpersist.hub.wakeup import Bell
    from flowpersist.inputs.await_input import AwaitInput
    from flowpersist.keys.suspension_key import SuspensionKey
    from flowpersist.lifecycle.model import Head
    from flowpersist.sealed.drafts import Found

__all__ = ["Keeper"]

_log = logging.getLogger("flowpersist.dynamicflow")
#: Seconds that a run has to pause by itself, before its questions are stored and answers to them are looked for.
EARLY: Final = 0.05
#: The time between two looks for answers where the store tells of no changes, and after a write that failed.
POLL: Final = timedelta(seconds=1)


@frozen
class _Snapshot:
    """A run at one moment, as it is to be stored."""

    state: State = field(repr=False)
    waits: Mapping[str, AwaitInput[object]]
    superseded: frozenset[str]
    unread: frozenset[str]
    renewed: frozenset[str]
    finished: int
    #: How many entries of the journal it has in it.
    entries: int


@define
class Keeper:
    """Stores a run while its engine runs, in a task of its own: ``async with keeper:`` round the walk.

    ``run`` is the run as it was claimed, or as the last checkpoint gave it; ``carried`` what was open when it was
    claimed. ``told`` is called with the open waits once new ones are durable.
    """

    hub: PersistenceHub
    bell: Bell
    run: Resumption[Any]
    state: State = field(repr=False)
    engine: Engine
    carried: Carried
    told: Callable[[Suspended], object]
    #: What records the run's events; None: they are not stored.
    recorder: Recorder | None = None
    #: When the open delays are over.
    _delays: dict[str, datetime] = field(init=False)
    #: The error of a write that may have been done.
    unknown: PersistenceError | None = field(default=None, init=False)
    _trying: _Snapshot | None = field(default=None, init=False, repr=False)
    _finished: int = field(default=0, init=False)
    #: The new questions that were recorded and are not stored yet.
    _asked: set[str] = field(factory=set, init=False)
    _come: bool = field(default=False, init=False)
    _ending: asyncio.Event = field(factory=asyncio.Event, init=False, repr=False)
    _writers: list[asyncio.Task[None]] = field(factory=list, init=False, repr=False)
    _listener: asyncio.Task[None] | None = field(default=None, init=False, repr=False)
    _refused: PersistenceError | None = field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self._delays = dict(self.carried.delays)

    async def __aenter__(self) -> Self:
        """Begin to watch the engine."""
        self._ending.clear()
        self._writers = [asyncio.create_task(self._watch(), name="store a running flow")]
        if self.engine.journal is not None:
            writing = self.engine.journal.write(self._ending)
            self._writers.append(asyncio.create_task(writing, name="store the steps of a running flow"))
        if self.recorder is not None:
            recording = self.recorder.write(self._ending)
            self._writers.append(asyncio.create_task(recording, name="store the events of a running flow"))
        if self.engine.carried or self.engine.dormant.waits:
            self._listen()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop. A write that has begun ends first, unless the run is cancelled."""
        self._ending.set()
        self.engine.stirred.set()
        if self.engine.journal is not None:
            self.engine.journal.end()
        if self.recorder is not None:
            self.recorder.end()
        listeners = [] if self._listener is None else [self._listener]
        self._listener = None
        tasks = [*self._writers, *listeners]
        for task in listeners if kind is None else tasks:
            task.cancel()
        try:
            await asyncio.wait(tasks)
        except asyncio.CancelledError:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            raise
        for task in tasks:
            if kind is None and not task.cancelled():
                task.result()

    @property
    def superseded(self) -> frozenset[str]:
        """The waits of the record that nobody needs any more. One that was asked again has the name of its
        successor.
        """
        engine = self.engine
        given_up = (name for name in engine.carried if name not in engine.open or name in engine.waits)
        return frozenset(given_up) | engine.renewed

    async def _watch(self) -> None:
        engine = self.engine
        while not self._ending.is_set():
            await engine.stirred.wait()
            engine.stirred.clear()
            if not self._come and self._unstored and not engine.wanted:
                # A run that pauses at once is stored by its pause alone.
                await self._pause(EARLY)
            while (self._come or self._unstored) and not self._ending.is_set() and not await self._locked():
                await self._pause(POLL.total_seconds())

    async def fold(self) -> PersistenceError | None:
        """Store the run before it goes on, so that its log begins anew. The error if it can't be stored."""
        before, self._finished = self.run, -1
        await self._stored()
        return None if self.run is not before else self.unknown or self._refused

    async def _locked(self) -> bool:
        """The same as ``_stored``, while no step is stored by itself: its record would belong to the state before."""
        journal = self.engine.journal
        async with nullcontext() if journal is None else journal.lock:
            done = await self._stored()
            while self._trying is not None:
                ending = self._ending.is_set()
                await self._pause(POLL.total_seconds())
                done = await self._stored()
                if ending:
                    return done
            return done

    async def _pause(self, seconds: float) -> None:
        """Wait so long, or until the run has ended."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._ending.wait()

    @property
    def _unstored(self) -> bool:
        return bool(self.engine.waits or self.superseded or self.engine.wanted)

    def _listen(self) -> None:
        if self._listener is None and self._writers:
            self._listener = asyncio.create_task(self._hear(), name="hear of answers to a running flow")

    async def _hear(self) -> None:
        """Until cancelled, wake the writer when the record has an answer that the run was not given."""
        records, key = self.hub.suspensions.records, str(self.run.suspension.id)
        await self._pause(EARLY)
        while not self._ending.is_set():
            try:
                looks = self.bell.looks(key, lambda: records.bare(key), lambda _: POLL, timedelta.max)
                async with aclosing(looks) as found:
                    async for one in found:
                        if self._is_news(one):
                            self._come = True
                            self.engine.stirred.set()
            except PersistenceError as error:
                _log.debug("run %s can't be read while it runs: %s", run_id_of(self.run.suspension), error)
                await self._pause(POLL.total_seconds())

    def _is_news(self, found: Found[Head]) -> bool:
        record = found.record
        if record is None or record.head.fence != self.run.fence:
            return False
        return has_news(record.head, found.now)

    def _snapshot(self) -> _Snapshot:
        engine = self.engine
        return _Snapshot(
            state=with_dormant({**self.state, "frame": kept_frame(self.state["frame"])}, engine),
            waits=dict(engine.waits),
            superseded=self.superseded,
            unread=frozenset(engine.unread & {*self.run.answers, *self.run.expired}),
            renewed=frozenset(engine.renewed),
            finished=engine.tally.finished,
            entries=0 if engine.journal is None else engine.journal.mark(),
        )

    async def _stored(self) -> bool:
        """Store the run as it is now, and give its engine the answers that have come; False: try again later.

        A write that may have been done is repeated as it was, until it is known to be done or not.
        """
        self._come = False
        if self._trying is None and (error := await self._recorded()) is not None:
            self._refused = error
            return False
        seen = self._trying = self._trying or self._snapshot()
        kept: Outcome[Checkpoint[State]] = await self.hub.checkpoint(
            self.run,
            seen.state,
            awaiting=seen.waits or None,
            superseded=seen.superseded,
            unread=seen.unread,
            progress=seen.finished > self._finished,
            metadata=moved(self.run.suspension.metadata, self.engine.flow),
        )
        if isinstance(kept, Failure):
            return self._failed(kept.failure())
        self._trying = self.unknown = None
        self._taken(seen, kept.unwrap())
        if self.engine.journal is not None:
            await self.engine.journal.folded(seen.entries)
        return True

    async def _recorded(self) -> PersistenceError | None:
        """Store the events before what they tell of; the error if they can't be."""
        if self.recorder is None:
            return None
        waits = self.engine.waits
        while True:
            if not waits.keys() <= self._asked:
                self._asked.update(waits)
                self._ask(running=True)
            error = await self.recorder.flush()
            # Meanwhile others may have been asked.
            if error is not None or waits.keys() <= self._asked:
                return error

    def _ask(self, *, running: bool) -> None:
        """Have it recorded what the run awaits."""
        engine, stay = self.engine, self.engine.carried - self.superseded
        if self.recorder is not None:
            count = len(stay | engine.waits.keys()) + engine.asleep
            self.recorder.asked(
                engine.waits, lambda name: name in stay or engine.dormant.has(name), count, running=running
            )

    async def ending(self, parked: FlowError | None = None) -> PersistenceError | None:
        """Store the events of a run that is about to end, or to be parked with an error; the error if they can't be."""
        if self.recorder is None:
            return None
        if parked is not None:
            self.recorder.parked(parked)
        return await self.recorder.flush()

    async def pausing(self) -> PersistenceError | None:
        """Store the events of a run that is about to pause; the error if they can't be."""
        if self.recorder is None:
            return None
        self._ask(running=False)
        return await self.recorder.flush()

    def _taken(self, seen: _Snapshot, held: Checkpoint[State]) -> None:
        self.run, self._finished = held, seen.finished
        self._asked.clear()
        self._delays |= delays_of(held.suspension)
        self.engine.carried -= seen.superseded
        self.engine.carried |= seen.waits.keys()
        self.engine.carried -= {*held.answers, *held.expired}
        self.engine.stored(seen.waits, seen.renewed)
        self.engine.give_keys(held.keys)
        self.engine.deliver(held)
        if self.engine.carried or self.engine.dormant.waits:
            self._listen()
        if seen.waits:
            self.told(self.suspended(held.suspension, held.keys))

    def suspended(self, run: Suspension, keys: Mapping[str, SuspensionKey], *, paused: bool = False) -> Suspended:
        """The run as it is stored now with its open waits, or where these were read in part with the new ones."""
        engine, delays = self.engine, delays_of(run)
        waits = open_waits(run, keys)
        further = 0
        if self.run.partial is not None:
            delays |= {name: at for name, at in self._delays.items() if name in engine.open}
            stored = engine.open.keys() - engine.timed - (set() if paused else engine.waits.keys())
            given = engine.answers.keys() | engine.expired
            ended = [wait.name for wait in run.waits if wait.status is not WaitStatus.OPEN and wait.name not in given]
            over = [name for name in ended if name in stored or engine.dormant.has(name)]
            further = len(stored) + engine.asleep - len(over) - len(waits)
        return Suspended(run_id_of(run), waits, run.id, min(delays.values(), default=None), further)

    def _failed(self, error: PersistenceError) -> bool:
        """Whether to leave it at that: what can't be stored now may be later, and the pause tries all again."""
        name = run_id_of(self.run.suspension)
        if isinstance(error, StorageError):
            self.unknown = error
            _log.debug("run %s could not be stored yet while it runs: %s", name, error)
            return False
        self._trying, self.unknown, self._refused = None, None, error
        if isinstance(error, StateChanged):
            return False
        if not isinstance(error, LeaseLost | SuspensionClosed):
            _log.warning("run %s could not be stored while it runs: %s", name, error)
        self.engine.give_keys(error)
        # Whoever renews the lease finds out that it is lost, and ends the run.
        return True
