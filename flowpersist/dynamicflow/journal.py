"""The log of a running flow: what its steps left in their frames since the run was stored, as records of its own.

An entry says what became of one frame: a step that has a result, an attempt that failed, a branch that was chosen.
Only what can't be computed again is an entry, so a container has none: its steps give its result. Putting the entries
of a log into the stored frames, in order, gives frames from which the run goes on as it was.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

from attrs import define, field
from returns.result import Failure

from flowpersist.dynamicflow.dormant import frame_at
from flowpersist.dynamicflow.facts import run_id_of
from flowpersist.dynamicflow.ir import Conditional, Loop, Map, Parallel, Reduce, Sequence, Switch
from flowpersist.dynamicflow.state import Frame
from flowpersist.errors import PersistenceError, SerializationError, StateChanged, StorageError

if TYPE_CHECKING:
    from flowpersist.dynamicflow.durability import Durability
    from flowpersist.dynamicflow.ir import Node
    from flowpersist.hub.step_log import StepLog
    from flowpersist.lifecycle import Resumption

__all__ = ["Entry", "Journal", "is_logged", "replay"]

_log = logging.getLogger("flowpersist.dynamicflow")
#: The path of a frame, its fields, and whether these are all that it has.
Entry: TypeAlias = tuple[str, dict[str, object], bool]
_PURE: Final = (Conditional, Loop, Map, Reduce, Sequence, Switch)
#: Seconds before a write that failed is tried again.
_AGAIN: Final = 1.0


def is_logged(node: Node) -> bool:
    """Whether the result of a step is an entry: it can't be computed again from the results of the steps within it."""
    operation = node.operation
    return operation.needed is not None if isinstance(operation, Parallel) else not isinstance(operation, _PURE)


def replay(frame: Frame, logged: Iterable[object]) -> Iterator[str]:
    """Put what was logged into the frames of the state that the log belongs to; gives the paths of the steps that have
    used what they awaited.
    """
    for batch in logged:
        for path, fields, whole in cast("Iterable[Entry]", batch):
            inner = frame_at(frame, path)
            if whole:
                inner.clear()
                yield path
            inner.update(fields)


@define
class Journal:
    """Stores entries while a flow runs, as often as its durability says. ``run`` gives the run as it is held now.

    Whoever stores the whole run holds the ``lock`` meanwhile, and calls ``folded`` with what ``mark`` gave before.
    """

    log: StepLog
    durability: Durability
    run: Callable[[], Resumption[Any]]
    #: What is stored before them; the error if it can't be.
    before: Callable[[], Awaitable[PersistenceError | None]] | None = None
    #: Whether there may be records of it.
    used: bool = field(default=False, init=False)
    lock: asyncio.Lock = field(factory=asyncio.Lock, init=False, repr=False)
    #: Why entries can't be stored.
    broken: PersistenceError | None = field(default=None, init=False)
    _entries: list[Entry] = field(factory=list, init=False, repr=False)
    #: Of the entries, those that are being written: a write that may have been done is repeated as it was.
    _writing: int = field(default=0, init=False)
    _noted: int = field(default=0, init=False)
    _stored: int = field(default=0, init=False)
    _steps: int = field(default=0, init=False)
    _number: int = field(default=0, init=False)
    _due: asyncio.Event = field(factory=asyncio.Event, init=False, repr=False)
    _moved: asyncio.Condition = field(factory=asyncio.Condition, init=False, repr=False)

    def note(self, path: str, fields: Mapping[str, object], *, whole: bool) -> None:
        """Add an entry, which is stored with the next finished step."""
        self._entries.append((path, dict(fields), whole))
        self._noted += 1

    async def finished(self) -> PersistenceError | None:
        """A step has finished or an attempt has failed: wait until it is stored, if it is its turn. The error if it
        can't be.
        """
        self._steps += 1
        if self.durability.seconds is not None:
            self._due.set()
        elif self._steps >= (self.durability.many or 1):
            self._steps, last = 0, self._noted
            self._due.set()
            async with self._moved:
                await self._moved.wait_for(lambda: self._stored >= last or self.broken is not None)
        return self.broken

    async def write(self, ending: asyncio.Event) -> None:
        """Until it ends, write what is due. What is not written then stands in the state that the pause stores."""
        while not ending.is_set():
            await self._due.wait()
            self._due.clear()
            if self.durability.seconds is not None:
                await _within(ending, self.durability.seconds)
            while not ending.is_set() and self.broken is None and not await self._written():
                await _within(ending, _AGAIN)

    async def _written(self) -> bool:
        async with self.lock:
            if not self._entries:
                return True
            self.used = True
            self._writing = self._writing or len(self._entries)
            error = None if self.before is None else await self.before()
            if error is not None:
                return await self._failed(error)
            run, batch = self.run(), self._entries[: self._writing]
            done = await self.log.append(run, self._number + 1, batch)
            if isinstance(done, Failure):
                return await self._failed(done.failure())
            self._number += 1
            await self._settled(self._writing)
            return not self._entries

    async def _failed(self, error: PersistenceError) -> bool:
        if not isinstance(error, StorageError):
            # It was refused before anything was written.
            self._writing = 0
        if isinstance(error, SerializationError) and not isinstance(error, StateChanged):
            self.broken = error
            await self._tell()
        name = run_id_of(self.run().suspension)
        _log.warning("steps of run %s could not be stored yet: %s", name, error)
        return False

    async def _settled(self, count: int) -> None:
        del self._entries[:count]
        self._writing = 0
        self._stored += count
        await self._tell()

    async def _tell(self) -> None:
        async with self._moved:
            self._moved.notify_all()

    def end(self) -> None:
        """Let ``write`` see that it has ended."""
        self._due.set()

    def mark(self) -> int:
        """How many entries stand in the frames now that are not stored as such."""
        return len(self._entries)

    async def folded(self, count: int) -> None:
        """So many entries are part of a state that was stored, with which a new log begins."""
        self._number = 0
        await self._settled(count)


async def _within(ending: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await ending.wait()
    except TimeoutError:
        return
