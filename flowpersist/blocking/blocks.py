"""Async context managers and iterators in synchronous code."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from contextvars import copy_context
from functools import partial
from types import TracebackType
from typing import Any, Final, TypeVar

from flowpersist.blocking.portal import CLOSED, Portal
from flowpersist.errors.secrecy import forgetting

__all__ = ["Block", "steps"]

T = TypeVar("T")
END: Final = object()


class Block(AbstractContextManager[T]):
    """A block in an async context manager: one task enters it, waits for the end of the block, and leaves it."""

    def __init__(self, portal: Portal[Any], make: Callable[[], AbstractAsyncContextManager[T]]) -> None:
        self._portal = portal
        self._make = make

    def __enter__(self) -> T:
        with forgetting():
            return self._portal.call(self._enter)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        with forgetting():
            try:
                failure = self._portal.call(partial(self._exit, error))
            except RuntimeError:
                if error is None:
                    raise
                return False
            if error is not None:
                # Without the frames through which it has gone on the loop.
                error.__traceback__ = traceback
            if failure is None or failure is error:
                return failure is None and isinstance(error, Exception)
            raise failure

    async def _enter(self) -> T:
        loop = asyncio.get_running_loop()
        self._value: asyncio.Future[T] = loop.create_future()
        self._leaving: asyncio.Future[Exception | None] = loop.create_future()
        self._task = loop.create_task(self._hold())
        self._portal.keep(self._task)
        await self._ended(self._value)
        if not self._value.done():
            await self._task
        return self._value.result()

    async def _hold(self) -> None:
        async with self._make() as value:
            self._value.set_result(value)
            error = await self._leaving
            if error is not None:
                raise error

    async def _exit(self, error: BaseException | None) -> BaseException | None:
        """What leaving raised. What ended the task before, such as a lost lease, gives way to the block's own error."""
        is_late = self._leaving.done()
        if not is_late and (error is None or isinstance(error, Exception)):
            self._leaving.set_result(error)
        elif not is_late:
            # Ctrl-C and the end of the interpreter would end the loop.
            self._task.cancel()
        await self._ended()
        if error is not None and (is_late or self._task.cancelled()):
            return error
        return RuntimeError(CLOSED) if self._task.cancelled() else self._task.exception()

    async def _ended(self, *others: asyncio.Future[Any]) -> None:
        """Wait for the task, or another; where that is cancelled, cancel the task and wait for its end."""
        try:
            await asyncio.wait({self._task, *others}, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            self._task.cancel()
            await asyncio.wait({self._task})
            raise


def steps(portal: Portal[Any], source: AsyncIterator[T]) -> Generator[T, None, None]:
    """The items of an async iterator, each step a call. Its steps share a copy of the caller's context."""
    context = copy_context()
    ended = False
    try:
        while True:
            with forgetting():
                item: Any = portal.call(partial(_next, source), context)
            if item is END:
                ended = True
                return
            yield item
    finally:
        closing = getattr(source, "aclose", None)
        if not ended and closing is not None:
            portal.finish(closing)


async def _next(source: AsyncIterator[T]) -> object:
    return await anext(source, END)
