"""Threads that own SQLite connections, and the inboxes that their work comes in by."""

from __future__ import annotations

import contextlib
import queue
import sqlite3
import threading
from typing import TypeAlias

from flowpersist.backends._sql import translated
from flowpersist.backends._sqlite.tables import NAME
from flowpersist.backends._threads import Job, Settled, deliver
from flowpersist.errors import BackendUnavailable

__all__ = ["Inbox", "Owner", "Reader", "Work"]

Work: TypeAlias = Job[sqlite3.Connection]


class Inbox:
    """Work for the threads that share it, until it is closed.

    It goes in at once and one by one; who is woken together writes together all the same: a thread that waits here
    goes on when it gets the interpreter's lock, which is when the event loop's turn is over.
    """

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Work | None] = queue.SimpleQueue()
        self._closed = False

    def send(self, job: Work) -> None:
        """From any thread. After the end it is refused."""
        self._queue.put(job)
        # Looked at afterwards: so that of this thread and the one that closes, at least one sees what the other did.
        if self._closed:
            self._refuse()

    def take(self) -> Work | None:
        """Wait for the next; None at the end."""
        return self._queue.get()

    def take_more(self, most: int) -> list[Work]:
        """What stands behind it, without waiting."""
        jobs: list[Work] = []
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
                    deliver([Settled(job, error=BackendUnavailable(f"the {NAME} store was closed", NAME))])


class Owner(threading.Thread):
    """A thread that owns a connection, works off an inbox until that ends, and closes the connection."""

    def __init__(self, name: str, connection: sqlite3.Connection, inbox: Inbox) -> None:
        # A daemon, so that a program which ends without closing does end; what was acknowledged is durable.
        super().__init__(name=f"flowpersist-{name}", daemon=True)
        self.backend = name
        self.connection = connection
        self.inbox = inbox

    def run(self) -> None:
        with contextlib.closing(self.connection):
            while (job := self.inbox.take()) is not None:
                self.work(job)

    def work(self, job: Work) -> None:
        raise NotImplementedError

    def settled(self, job: Work) -> Settled:
        """What comes of a job. Any error belongs to the job's caller: the thread must outlive it."""
        try:
            return Settled(job, job.run(self.connection))
        except (sqlite3.Error, MemoryError) as error:
            failure = translated(error, self.backend)
            failure.__cause__ = error
            return Settled(job, error=failure)
        except Exception as error:  # noqa: BLE001 - re-raised in the caller's task
            return Settled(job, error=error)


class Reader(Owner):
    """Runs each job by itself."""

    def work(self, job: Work) -> None:
        deliver([self.settled(job)])
