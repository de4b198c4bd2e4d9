"""Where a backend is open: in one event loop of one process. Used elsewhere it is refused before its driver is touched.

Drivers do not look themselves. What they keep for one loop (sockets, futures, timers) breaks in another, by errors that
name nothing of it, by waiting for ever, or by a crash of the process; and a connection that two processes use after a
fork mixes their bytes.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import Enum

from attrs import define, field

from flowpersist.errors import BackendUnavailable

__all__ = ["Home", "Reach"]


class Reach(Enum):
    """What whoever closes a backend may still end of it."""

    #: All of it: it was opened here.
    ALL = "all"
    #: Threads and files alone. Its event loop is closed, and what its driver had in it is lost.
    PROCESS = "process"
    #: Nothing: it is not open, or was opened in another process.
    NOTHING = "nothing"


@define(eq=False)
class _Owner:
    """An event loop of a process, and how many of its tasks are opening or closing."""

    loop: asyncio.AbstractEventLoop = field(factory=asyncio.get_running_loop)
    pid: int = field(factory=os.getpid)
    #: One at a time. Made with its owner, since a lock belongs to the loop in which somebody has waited for it.
    turn: asyncio.Lock = field(factory=asyncio.Lock)
    busy: int = 0

    def refusal(self, backend: str) -> BackendUnavailable | None:
        """Why it can't be used here; None where it can."""
        if self.pid != os.getpid():
            message = f"the {backend} store was opened before a fork; open one of its own in each process"
            return BackendUnavailable(message, backend)
        if self.loop is not _running():
            message = f"the {backend} store was opened in another event loop; open one of its own in each event loop"
            return BackendUnavailable(message, backend)
        return None


class Home:
    """Belongs to a backend, and remembers who has opened it.

    ::

        async with self._home.opening() as first: ...   # connect where it is the first, migrate
        self._home.check()                              # in each operation, before anything else
        async with self._home.closing() as reach: ...   # end what may be ended
    """

    def __init__(self, backend: str) -> None:
        self.backend = backend
        self._owner: _Owner | None = None
        self._open = False
        self._claiming = threading.Lock()

    @property
    def is_open(self) -> bool:
        """Whether it is, wherever."""
        return self._open

    def check(self) -> None:
        """Refuse a backend that is not open, or is open elsewhere."""
        owner = self._owner
        if owner is None or not self._open:
            raise BackendUnavailable(f"the {self.backend} store is not open", self.backend)
        refusal = owner.refusal(self.backend)
        if refusal is not None:
            raise refusal

    def check_free(self) -> None:
        """Refuse one that is open elsewhere, for what it does without being open too."""
        if self._open:
            self.check()

    def check_client(self, client: object) -> None:
        """Refuse a client of the caller's own that belongs to another event loop, where it remembers its loop."""
        loop = getattr(client, "_loop", None)
        if isinstance(loop, asyncio.AbstractEventLoop) and loop is not _running():
            message = f"the {self.backend} store was given a client of another event loop; make one in this event loop"
            raise BackendUnavailable(message, self.backend)

    @asynccontextmanager
    async def opening(self) -> AsyncIterator[bool]:
        """While it is opened, by one task at a time: whether it is not open yet. Open afterwards, unless that fails."""
        owner = self._claimed()
        async with self._turn(owner):
            yield not self._open
            self._open = True

    @asynccontextmanager
    async def closing(self) -> AsyncIterator[Reach]:
        """While it is closed: how far that may go. Refused in an event loop that is not its own, which may close it."""
        owner = self._owner
        refusal = None if owner is None else owner.refusal(self.backend)
        if owner is None:
            yield Reach.NOTHING
        elif refusal is None:
            owner.busy += 1
            async with self._turn(owner):
                reach = Reach.ALL if self._open else Reach.NOTHING
                self._open = False
                yield reach
        elif owner.pid == os.getpid() and not owner.loop.is_closed():
            raise refusal
        else:
            self._owner, self._open = None, False
            yield Reach.PROCESS if owner.pid == os.getpid() else Reach.NOTHING

    def _claimed(self) -> _Owner:
        with self._claiming:
            owner = self._owner = self._owner or _Owner()
            owner.busy += 1
        refusal = owner.refusal(self.backend)
        if refusal is not None:
            self._left(owner)
            raise refusal
        return owner

    @asynccontextmanager
    async def _turn(self, owner: _Owner) -> AsyncIterator[None]:
        try:
            async with owner.turn:
                yield
        finally:
            self._left(owner)

    def _left(self, owner: _Owner) -> None:
        with self._claiming:
            owner.busy -= 1
            if not owner.busy and not self._open:
                self._owner = None


def _running() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
