"""Between threads and the event loop: results delivered, work that cancellation does not tear."""

from __future__ import annotations

import asyncio
import contextlib
import queue
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Generic, TypeVar

from attrs import define, field

from flowpersist.errors import BackendUnavailable

__all__ = ["Inbox", "Job", "Settled", "deliver", "uninterrupted"]

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
    """Wake the waiters, all by one wake-up: they are of the event loop that the backend belongs to."""
    # It may be closed while its work is under way; then nobody waits any more.
    with contextlib.suppress(RuntimeError):
        ended[0].job.loop.call_soon_threadsafe(_resolve, ended)


class Inbox(Generic[A]):
    """Jobs for the threads of a backend that share it, until it is closed.

    It goes in at once and one by one; who is woken together writes together all the same: a thread that waits here
    goes on when it gets the interpreter's lock, which is when the event loop's turn is over.
    """

    def __init__(self, backend: str) -> None:
        self._backend = backend
        self._queue: queue.SimpleQueue[Job[A] | None] = queue.SimpleQueue()
        self._closed = False

    def send(self, job: Job[A]) -> None:
        """From any thread. After the end it is refused."""
        self._queue.put(job)
        # Looked at afterwards: so that of this thread and the one that closes, at least one sees what the other did.
        if self._closed:
            self._refuse()

    def take(self) -> Job[A] | None:
        """Wait for the next; None at the end."""
        return self._queue.get()

    def take_more(self, most: int) -> list[Job[A]]:
        """What stands behind it, without waiting."""
        jobs: list[Job[A]] = []
        while len(jobs) < most and not self._queue.empty():
            job = self._queue.get()
            if job is None:
                # The end comes after what was sent before it.
                self.end()
                break
            jobs.append(job)
        return jobs

    def end(self) -> None:
        """One of the threads finds the end, once it has done what was sent before."""
        self._queue.put(None)

    def close(self) -> None:
        """Refuse what nobody has taken, and what comes from now on."""
        self._closed = True
        self._refuse()

    def _refuse(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                job = self._queue.get_nowait()
                if job is not None:
                    deliver(
                        [Settled(job, error=BackendUnavailable(f"the {self._backend} store was closed", self._backend))]
                    )


def _retrieve(task: asyncio.Task[Any]) -> None:
    if not task.cancelled():
        task.exception()


async def uninterrupted(work: Coroutine[Any, Any, T]) -> T:
    """Await work that goes on to its end where the caller is cancelled."""
    task = asyncio.ensure_future(work)
    # What failed after the caller has gone is nobody's to retrieve.
    task.add_done_callback(_retrieve)
    return await asyncio.shield(task)
