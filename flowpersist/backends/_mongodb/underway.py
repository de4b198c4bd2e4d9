"""What is under way: counted, so that closing can wait for it, and never torn by cancellation.

Reads neither: now and then PyMongo's client loses a cancellation that comes while it takes or gives back a connection,
and the task that was cancelled would go on. A task of its own costs some microseconds, and the caller is free at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine
from typing import Any, TypeVar

__all__ = ["Underway"]

T = TypeVar("T")


class Underway:
    """Operations that have begun and not ended."""

    def __init__(self) -> None:
        self._running = 0
        self._idle = asyncio.Event()
        #: The event loop holds tasks weakly.
        self._tasks: set[asyncio.Future[Any]] = set()

    async def uninterrupted(self, work: Coroutine[Any, Any, T]) -> T:
        """Await work that goes on to its end where the caller is cancelled."""
        return await asyncio.shield(self.background(work))

    def background(self, work: Awaitable[T]) -> asyncio.Future[T]:
        """Begin work that nobody need wait for."""
        task = asyncio.ensure_future(work)
        self._running += 1
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    async def drained(self) -> None:
        """Wait until nothing is under way."""
        while self._running:
            self._idle.clear()
            await self._idle.wait()

    def _done(self, task: asyncio.Future[Any]) -> None:
        self._tasks.discard(task)
        self._end()
        if not task.cancelled():
            # What failed after the caller has gone is nobody's to retrieve.
            task.exception()

    def _end(self) -> None:
        self._running -= 1
        if not self._running:
            self._idle.set()
