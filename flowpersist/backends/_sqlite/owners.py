"""Threads that own SQLite connections."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from typing import TypeAlias

from flowpersist.backends._sql import translated
from flowpersist.backends._threads import Inbox, Job, Settled, deliver

__all__ = ["Owner", "Reader", "Work", "WorkInbox"]

Work: TypeAlias = Job[sqlite3.Connection]
WorkInbox: TypeAlias = Inbox[sqlite3.Connection]


class Owner(threading.Thread):
    """A thread that owns a connection, works off an inbox until that ends, and closes the connection."""

    def __init__(self, name: str, connection: sqlite3.Connection, inbox: WorkInbox) -> None:
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
