"""Threads that do what waits for a disk. ``ThreadPoolExecutor`` would take more than twice the time to hand it over."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final, Generic, TypeVar

from flowpersist.backends._filesystem.files import NAME
from flowpersist.backends._threads import Inbox, Job, Settled, deliver

__all__ = ["Pool"]

A = TypeVar("A")
T = TypeVar("T")
THREADS: Final = 8


class Pool(Generic[A]):
    """Threads that take what comes in turn, and give each job the same ``A``."""

    def __init__(self, given: A) -> None:
        self._given = given
        self._inbox: Inbox[A] = Inbox(NAME)
        # Daemons, so that a program which ends without closing does end; what was acknowledged is durable.
        self._threads = [
            threading.Thread(target=self._work, name=f"flowpersist-{NAME}-{number}", daemon=True)
            for number in range(THREADS)
        ]
        for thread in self._threads:
            thread.start()

    def start(self, run: Callable[[A], T]) -> Job[A]:
        """Begin a job of the running event loop; its future is the result."""
        job = Job(run)
        self._inbox.send(job)
        return job

    def stop(self) -> None:
        """Wait for the end of what was begun."""
        for _ in self._threads:
            self._inbox.end()
        for thread in self._threads:
            thread.join()
        self._inbox.close()

    def _work(self) -> None:
        while (job := self._inbox.take()) is not None:
            # Whoever was cancelled before it has begun needs it no more.
            if not job.future.cancelled():
                deliver([self._settled(job)])

    def _settled(self, job: Job[A]) -> Settled:
        try:
            return Settled(job, job.run(self._given))
        except Exception as error:  # noqa: BLE001 - raised again in the caller's task
            return Settled(job, error=error)
