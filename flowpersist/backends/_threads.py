"""Between threads and the event loop: results delivered, work that cancellation does not tear, no use after a fork."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Generic, TypeVar

from attrs import define, field

from flowpersist.errors import BackendUnavailable

__all__ = ["Job", "Settled", "deliver", "guard", "uninterrupted"]

A = TypeVar("A")
T = TypeVar("T")


# Not frozen: that would double what it takes to make one, and each operation makes both.
@define(eq=False)
class Job(Generic[A]):
    """A piece of work for a thread that owns an ``A``, and who waits for its result.

    ``size`` is about how many bytes it writes.
    """

    run: Callable[[A], Any]
    size: int = 0
    loop: asyncio.AbstractEventLoop = field(init=False)
    future: asyncio.Future[Any] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.future = self.loop.create_future()


@define(eq=False)
class Settled:
    """A job that has ended, with its result or its error."""

    job: Job[Any]
    result: object = None
    error: BaseException | None = None


def _resolve(ended: Sequence[Settled]) -> None:
    for settled in ended:
        # Its waiter was cancelled: the outcome is unknown to them, and nobody else asks.
        if settled.job.future.done():
            continue
        if settled.error is None:
            settled.job.future.set_result(settled.result)
        else:
            settled.job.future.set_exception(settled.error)


def deliver(ended: Sequence[Settled]) -> None:
    """Wake the waiters, one wake-up for each event loop."""
    for loop in {settled.job.loop for settled in ended}:
        try:
            loop.call_soon_threadsafe(_resolve, [settled for settled in ended if settled.job.loop is loop])
        except RuntimeError:
            # The loop was closed while its work was under way, so that nobody waits any more.
            continue


def _retrieve(task: asyncio.Task[Any]) -> None:
    if not task.cancelled():
        task.exception()


async def uninterrupted(work: Coroutine[Any, Any, T]) -> T:
    """Await work that goes on to its end where the caller is cancelled."""
    task = asyncio.ensure_future(work)
    # What failed after the caller has gone is nobody's to retrieve.
    task.add_done_callback(_retrieve)
    return await asyncio.shield(task)


def guard(backend: str, opened_in: int | None) -> None:
    """Refuse a backend that is not open, or that was opened before a fork."""
    if opened_in is None:
        raise BackendUnavailable(f"the {backend} store is not open", backend)
    if opened_in != os.getpid():
        message = f"the {backend} store was opened before a fork; open one of its own in each process"
        raise BackendUnavailable(message, backend)
