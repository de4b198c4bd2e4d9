"""Threads for work that waits for a disk. ``ThreadPoolExecutor`` takes more than twice as long to hand a job over."""

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
    """Threads that run jobs in turn, and give each job the same ``A``."""

    def __init__(self, given: A) -> None:
        self._given = given
        self._inbox: Inbox[A] = Inbox(NAME)
        # Daemon threads, so that a program which ends without closing does end; acknowledged writes are durable.
        self._threads = [
            threading.Thread(target=self._work, name=f"flowpersist-{NAME}-{number}", daemon=True)
            for number in range(THREADS)
        ]
        for thread in self._threads:
            thread.start()

    def start(self, run: Callable[[A], T]) -> Job[A]:
        """Start a job for the running event loop and give its future."""
        job = Job(run)
        self._inbox.send(job)
        return job

    def stop(self) -> None:
        """Wait for the jobs that have started."""
        for _ in self._threads:
            self._inbox.end()
        for thread in self._threads:
            thread.join()
        self._inbox.close()

    def _work(self) -> None:
        while (job := self._inbox.take()) is not None:
            # A caller that was cancelled before the job began no longer needs it.
            if not job.future.cancelled():
                deliver([self._settled(job)])

    def _settled(self, job: Job[A]) -> Settled:
        try:
            return Settled(job, job.run(self._given))
        except Exception as error:  # noqa: BLE001 - raised again in the caller's task
            return Settled(job, error=error)
