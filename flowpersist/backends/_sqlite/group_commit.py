"""Threads that own SQLite connections: one writer that commits in groups, and readers.

A flush to the disk costs the same for one operation as for many. So the writer takes what is queued, up to
``GROUP`` operations, into one transaction, each in a savepoint of its own, and acknowledges all of them once the commit
has returned.
"""

from __future__ import annotations

import contextlib
import queue
import sqlite3
import threading
from collections.abc import Callable
from typing import Any, Final, TypeAlias

from flowpersist.backends._sql import mapped, primary_code, translated
from flowpersist.backends._sqlite.schema import transaction
from flowpersist.backends._threads import Job, Settled, deliver
from flowpersist.errors import PersistenceError, UnknownOutcome

__all__ = ["Reader", "Work", "Writer"]

Work: TypeAlias = Job[sqlite3.Connection]
Inbox: TypeAlias = "queue.SimpleQueue[Work | None]"
GROUP: Final = 64


class _Owner(threading.Thread):
    """A thread that owns a connection, works off an inbox until it finds None there, and closes the connection."""

    def __init__(self, name: str, connection: sqlite3.Connection, inbox: Inbox) -> None:
        # A daemon, so that a program which ends without closing does end; what was acknowledged is durable.
        super().__init__(name=f"flowpersist-{name}", daemon=True)
        self.backend = name
        self.connection = connection
        self.inbox = inbox

    def run(self) -> None:
        with contextlib.closing(self.connection):
            while (first := self.inbox.get()) is not None:
                self.work(first)

    def work(self, first: Work) -> None:
        raise NotImplementedError

    def guarded(self, job: Work, action: Callable[[], object]) -> Settled:
        """What comes of an action. Any error belongs to the job's caller: the thread must outlive it."""
        try:
            with mapped(self.backend):
                return Settled(job, action())
        except Exception as error:  # noqa: BLE001 - re-raised in the caller's task
            return Settled(job, error=error)


class Reader(_Owner):
    """Runs each job in a transaction that sees one snapshot."""

    def work(self, first: Work) -> None:
        deliver([self.guarded(first, lambda: self._read(first))])

    def _read(self, job: Work) -> object:
        with transaction(self.connection, "deferred"):
            return job.run(self.connection)


class Writer(_Owner):
    """Runs what is queued in one transaction that holds the write lock from its beginning."""

    def work(self, first: Work) -> None:
        deliver(self._group([first, *self._queued()]))

    def _queued(self) -> list[Work]:
        jobs: list[Work] = []
        while len(jobs) < GROUP - 1:
            try:
                job = self.inbox.get_nowait()
            except queue.Empty:
                break
            if job is None:
                # The end comes after what was queued before it.
                self.inbox.put(None)
                break
            jobs.append(job)
        return jobs

    def _group(self, jobs: list[Work]) -> list[Settled]:
        try:
            self.connection.execute("begin immediate")
            settled = [self._one(job) for job in jobs]
        except sqlite3.Error as error:
            return self._apart(jobs, error)
        return self._committed(settled)

    def _apart(self, jobs: list[Work], error: sqlite3.Error) -> list[Settled]:
        """After an error that ended the whole transaction, such as a full disk: each for itself, so that one that is
        too large fails alone.
        """
        self._roll_back()
        busy = primary_code(error) == sqlite3.SQLITE_BUSY
        if len(jobs) == 1 or busy:
            return [Settled(job, error=translated(error, self.backend)) for job in jobs]
        return [settled for job in jobs for settled in self._group([job])]

    def _one(self, job: Work) -> Settled:
        connection = self.connection
        connection.execute("savepoint operation")
        settled = self.guarded(job, lambda: job.run(connection))
        cause = None if settled.error is None else settled.error.__cause__
        if isinstance(cause, sqlite3.Error) and (not connection.in_transaction or primary_code(cause) in _WHOLE):
            raise cause
        if settled.error is not None:
            connection.execute("rollback to operation")
        connection.execute("release operation")
        return settled

    def _committed(self, settled: list[Settled]) -> list[Settled]:
        try:
            self.connection.execute("commit")
        except sqlite3.Error as error:
            self._roll_back()
            failure = self._commit_failure(error)
            return [Settled(it.job, error=failure if it.error is None else it.error) for it in settled]
        return settled

    def _commit_failure(self, error: sqlite3.Error) -> PersistenceError:
        if primary_code(error) != sqlite3.SQLITE_IOERR:
            return translated(error, self.backend)
        # A flush that failed may have reached the disk all the same: only the write id tells, once it is read back.
        unknown = UnknownOutcome(f"the disk failed while the {self.backend} database committed", self.backend)
        unknown.__cause__ = error
        return unknown

    def _roll_back(self) -> None:
        # Where SQLite has rolled back by itself there is nothing left to do, and where it can't, closing does it.
        with contextlib.suppress(sqlite3.Error):
            if self.connection.in_transaction:
                self.connection.execute("rollback")


#: Errors after which the whole transaction is given up: the disk is full or fails.
_WHOLE: Final = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_NOMEM})


def settle_abandoned(inbox: Inbox, error: Callable[[], Any]) -> None:
    """Fail what was queued after the end."""
    with contextlib.suppress(queue.Empty):
        while True:
            job = inbox.get_nowait()
            if job is not None:
                deliver([Settled(job, error=error())])
