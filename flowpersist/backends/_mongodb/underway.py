"""Running operations: counted, so that closing can wait for them, and protected from cancellation.

Reads are protected too: PyMongo's client sometimes loses a cancellation while it takes or returns a connection, and the
cancelled task would go on. A task for each operation costs some microseconds, and its caller is released at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine
from typing import Any, TypeVar

__all__ = ["Underway"]

T = TypeVar("T")


class Underway:
    """The operations that have begun and not ended."""

    def __init__(self) -> None:
        self._running = 0
        self._idle = asyncio.Event()
        #: Kept here because the event loop holds tasks weakly.
        self._tasks: set[asyncio.Future[Any]] = set()

    async def uninterrupted(self, work: Coroutine[Any, Any, T]) -> T:
        """Await work that finishes even if the caller is cancelled."""
        return await asyncio.shield(self.background(work))

    def background(self, work: Awaitable[T]) -> asyncio.Future[T]:
        """Start work that no caller waits for."""
        task = asyncio.ensure_future(work)
        self._running += 1
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    async def drained(self) -> None:
        """Wait until nothing is running."""
        while self._running:
            self._idle.clear()
            await self._idle.wait()

    def _done(self, task: asyncio.Future[Any]) -> None:
        self._tasks.discard(task)
        self._end()
        if not task.cancelled():
            # Retrieve the exception of work whose caller has gone.
            task.exception()

    def _end(self) -> None:
        self._running -= 1
        if not self._running:
            self._idle.set()
