"""Async context managers and iterators in synchronous code."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from contextvars import copy_context
from functools import partial
from types import TracebackType
from typing import Any, Final, TypeVar, cast

from flowpersist.blocking.portal import CLOSED, Portal
from flowpersist.errors.secrecy import forgetting

__all__ = ["Block", "Items"]

T = TypeVar("T")
END: Final = object()


class Block(AbstractContextManager[T]):
    """A block in an async context manager: one task enters it, waits for the end of the block, and leaves it."""

    def __init__(self, portal: Portal[Any], make: Callable[[], AbstractAsyncContextManager[T]]) -> None:
        self._portal = portal
        self._make = make
        self._task: asyncio.Task[None] | None = None

    def __enter__(self) -> T:
        try:
            with forgetting():
                return self._portal.call(self._enter)
        except BaseException:
            self._give_up()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        try:
            with forgetting():
                return self._leave(error, traceback)
        except BaseException:
            self._give_up()
            raise

    def _leave(self, error: BaseException | None, traceback: TracebackType | None) -> bool:
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

    def _give_up(self) -> None:
        """Interrupted just after it was entered, or before it was left: nobody else would leave it."""
        if self._task is not None and not self._task.done():
            self._portal.finish(self._abandoned)

    async def _enter(self) -> T:
        loop = asyncio.get_running_loop()
        self._value: asyncio.Future[T] = loop.create_future()
        self._leaving: asyncio.Future[Exception | None] = loop.create_future()
        self._task = task = loop.create_task(self._hold())
        self._portal.keep(task)
        await _ended(task, self._value)
        if not self._value.done():
            await task
        return self._value.result()

    async def _hold(self) -> None:
        async with self._make() as value:
            self._value.set_result(value)
            error = await self._leaving
            if error is not None:
                raise error

    async def _exit(self, error: BaseException | None) -> BaseException | None:
        """What leaving raised. What ended the task before, such as a lost lease, gives way to the block's own error."""
        if self._task is None:
            msg = "a block must be entered before it is left"
            raise RuntimeError(msg)
        is_late = self._leaving.done()
        if not is_late and (error is None or isinstance(error, Exception)):
            self._leaving.set_result(error)
        elif not is_late:
            # Ctrl-C and the end of the interpreter would end the loop.
            self._task.cancel()
        await _ended(self._task)
        if error is not None and (is_late or self._task.cancelled()):
            return error
        return RuntimeError(CLOSED) if self._task.cancelled() else self._task.exception()

    async def _abandoned(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})


async def _ended(task: asyncio.Task[Any], *others: asyncio.Future[Any]) -> None:
    """Wait for the task, or another; where that is cancelled, cancel the task and wait for its end."""
    try:
        await asyncio.wait({task, *others}, return_when=asyncio.FIRST_COMPLETED)
    except asyncio.CancelledError:
        task.cancel()
        await asyncio.wait({task})
        raise


class Items(Iterator[T]):
    """The items of an async iterator, each step a call. All steps share a copy of the caller's context.

    ``close`` ends it, and waits for that. One that is dropped before its end is closed in the background.
    """

    def __init__(self, portal: Portal[Any], source: AsyncIterator[T]) -> None:
        self._portal = portal
        self._source: AsyncIterator[T] | None = source
        self._context = copy_context()

    def __next__(self) -> T:
        if self._source is None:
            raise StopIteration
        try:
            with forgetting():
                item: Any = self._portal.call(partial(_next, self._source), self._context)
        except BaseException:
            self.close()
            raise
        if item is END:
            self._source = None
            raise StopIteration
        return cast("T", item)

    def __del__(self) -> None:
        closing = self._closing()
        if closing is not None:
            self._portal.begin(closing)

    def close(self) -> None:
        """End it. Twice: a no-op."""
        closing = self._closing()
        if closing is not None:
            self._portal.finish(closing)

    def _closing(self) -> Callable[[], Awaitable[object]] | None:
        source, self._source = self._source, None
        return getattr(source, "aclose", None)


async def _next(source: AsyncIterator[T]) -> object:
    return await anext(source, END)
