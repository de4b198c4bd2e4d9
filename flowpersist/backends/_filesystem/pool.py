"""Threads that do what waits for a disk. ``ThreadPoolExecutor`` would take more than twice the time to hand it over."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable
from typing import Final, Generic, TypeAlias, TypeVar

from flowpersist.backends._filesystem.files import NAME
from flowpersist.backends._threads import Job, Settled, deliver
from flowpersist.errors import BackendUnavailable

__all__ = ["Pool"]

A = TypeVar("A")
T = TypeVar("T")
Inbox: TypeAlias = "queue.SimpleQueue[Job[A] | None]"
THREADS: Final = 8


class Pool(Generic[A]):
    """Threads that take what comes in turn, and give each job the same ``A``."""

    def __init__(self, given: A) -> None:
        self._given = given
        self._inbox: Inbox[A] = queue.SimpleQueue()
        self._over = False
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
        self._inbox.put(job)
        if self._over:
            self._abandon()
        return job

    def stop(self) -> None:
        """Wait for the end of what was begun."""
        for _ in self._threads:
            self._inbox.put(None)
        for thread in self._threads:
            thread.join()
        self._over = True
        self._abandon()

    def _work(self) -> None:
        while (job := self._inbox.get()) is not None:
            # Whoever was cancelled before it has begun needs it no more.
            if not job.future.cancelled():
                deliver([self._settled(job)])

    def _settled(self, job: Job[A]) -> Settled:
        try:
            return Settled(job, job.run(self._given))
        except Exception as error:  # noqa: BLE001 - raised again in the caller's task
            return Settled(job, error=error)

    def _abandon(self) -> None:
        """Fail what was begun after the end, as another event loop may have done in that moment."""
        with contextlib.suppress(queue.Empty):
            while True:
                job = self._inbox.get_nowait()
                if job is not None:
                    deliver([Settled(job, error=BackendUnavailable(f"the {NAME} store was closed", NAME))])
