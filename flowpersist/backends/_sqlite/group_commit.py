"""Threads that own SQLite connections: one writer that commits in groups, and readers.

A flush to the disk costs the same for one operation as for many. So the writer takes what is queued, up to
``GROUP`` operations, into one transaction, and acknowledges all of them once the commit has returned. Most operations
that fail do so before they have written anything. Where one fails later, the transaction is rolled back and its
operations are done again, each in a savepoint of its own, which for all of them would cost a third of the time.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import sqlite3
import threading
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Final, TypeAlias

from flowpersist.backends._sql import mapped, primary_code, translated
from flowpersist.backends._sqlite.inserts import Insert, insert_all
from flowpersist.backends._sqlite.tables import NAME
from flowpersist.backends._threads import Job, Settled, deliver
from flowpersist.errors import BackendUnavailable, PersistenceError, UnknownOutcome

__all__ = ["Gathering", "Reader", "Work", "Writer"]

Work: TypeAlias = Job[sqlite3.Connection]
#: What comes together, and None at the end.
Inbox: TypeAlias = "queue.SimpleQueue[Sequence[Work] | None]"
GROUP: Final = 64


class Gathering:
    """Sends the jobs of one turn of an event loop to an inbox together: so who was woken together writes together, and
    neither disturbs the other, the loop and the thread, which can't run Python at the same time.
    """

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox
        self._gathered: dict[asyncio.AbstractEventLoop, list[Work]] = {}
        self._over = False

    def add(self, job: Work) -> None:
        """Send a job with the others of this turn."""
        jobs = self._gathered.setdefault(job.loop, [])
        jobs.append(job)
        if len(jobs) == 1:
            job.loop.call_soon(self._send, job.loop)

    def _send(self, loop: asyncio.AbstractEventLoop) -> None:
        jobs = self._gathered.pop(loop, None)
        if jobs is not None:
            self._inbox.put(jobs)
        if self._over:
            settle_abandoned(self._inbox)

    def end(self, loop: asyncio.AbstractEventLoop) -> None:
        """Send what this loop has still to send; what another sends from now on is refused."""
        self._send(loop)
        self._over = True


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
            while (jobs := self.inbox.get()) is not None:
                self.work(jobs)

    def work(self, jobs: Sequence[Work]) -> None:
        raise NotImplementedError

    def guarded(self, job: Work) -> Settled:
        """What comes of a job. Any error belongs to the job's caller: the thread must outlive it."""
        try:
            with mapped(self.backend):
                return Settled(job, job.run(self.connection))
        except Exception as error:  # noqa: BLE001 - re-raised in the caller's task
            return Settled(job, error=error)


class Reader(_Owner):
    """Runs each job by itself."""

    def work(self, jobs: Sequence[Work]) -> None:
        for job in jobs:
            deliver([self.guarded(job)])


class Writer(_Owner):
    """Runs what is queued in one transaction that holds the write lock from its beginning."""

    def work(self, jobs: Sequence[Work]) -> None:
        waiting = [*jobs, *self._queued(GROUP - len(jobs))]
        for start in range(0, len(waiting), GROUP):
            deliver(self._group(waiting[start : start + GROUP]))

    def _queued(self, room: int) -> list[Work]:
        jobs: list[Work] = []
        while len(jobs) < room:
            try:
                more = self.inbox.get_nowait()
            except queue.Empty:
                break
            if more is None:
                # The end comes after what was queued before it.
                self.inbox.put(None)
                break
            jobs += more
        return jobs

    def _group(self, jobs: list[Work]) -> list[Settled]:
        try:
            self.connection.execute("begin immediate")
            settled = self._all(jobs)
            if settled is None:
                self._roll_back()
                self.connection.execute("begin immediate")
                settled = [self._one(job) for job in jobs]
        except (sqlite3.Error, MemoryError) as error:
            return self._apart(jobs, error)
        return self._committed(settled)

    def _all(self, jobs: list[Work]) -> list[Settled] | None:
        """What comes of all of them; None where one failed that may have written something."""
        settled: list[Settled] = []
        for inserts, run in groupby(jobs, lambda job: isinstance(job.run, Insert)):
            some = list(run)
            done = self._inserted(some) if inserts else self._in_turn(some)
            if done is None:
                return None
            settled += done
        return settled

    def _inserted(self, jobs: list[Work]) -> list[Settled] | None:
        try:
            written = insert_all(self.connection, [job.run for job in jobs if isinstance(job.run, Insert)])
        except Exception:  # noqa: BLE001 - each is done again alone, and then tells its caller
            return None
        # Why the others were not made is asked one by one.
        alone = self._in_turn(job for job, one in zip(jobs, written, strict=True) if one is None)
        made = [Settled(job, one) for job, one in zip(jobs, written, strict=True) if one is not None]
        return None if alone is None else made + alone

    def _in_turn(self, jobs: Iterable[Work]) -> list[Settled] | None:
        settled: list[Settled] = []
        for job in jobs:
            changes = self.connection.total_changes
            one = self.guarded(job)
            if one.error is not None and (self.connection.total_changes != changes or _of_driver(one.error)):
                return None
            settled.append(one)
        return settled

    def _apart(self, jobs: list[Work], error: sqlite3.Error | MemoryError) -> list[Settled]:
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
        settled = self.guarded(job)
        cause = None if settled.error is None else settled.error.__cause__
        if isinstance(cause, sqlite3.Error | MemoryError) and (
            not connection.in_transaction or primary_code(cause) in _WHOLE
        ):
            raise cause
        if settled.error is not None:
            connection.execute("rollback to operation")
        connection.execute("release operation")
        return settled

    def _committed(self, settled: list[Settled]) -> list[Settled]:
        try:
            self.connection.execute("commit")
        except (sqlite3.Error, MemoryError) as error:
            self._roll_back()
            failure = self._commit_failure(error)
            return [Settled(it.job, error=failure if it.error is None else it.error) for it in settled]
        return settled

    def _commit_failure(self, error: sqlite3.Error | MemoryError) -> PersistenceError:
        if primary_code(error) != sqlite3.SQLITE_IOERR:
            return translated(error, self.backend)
        # A flush that failed may have reached the disk all the same: only the write id tells, once it is read back.
        unknown = UnknownOutcome(f"the disk failed while the {self.backend} database committed", self.backend)
        unknown.__cause__ = error
        return unknown

    def _roll_back(self) -> None:
        # Where SQLite has rolled back by itself there is nothing left to do, and where it can't, closing does it.
        with contextlib.suppress(sqlite3.Error, MemoryError):
            if self.connection.in_transaction:
                self.connection.execute("rollback")


#: Errors after which the whole transaction is given up: the disk is full or fails.
_WHOLE: Final = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_NOMEM})


def _of_driver(error: BaseException) -> bool:
    return isinstance(error.__cause__, sqlite3.Error | MemoryError)


def settle_abandoned(inbox: Inbox) -> None:
    """Fail what was queued after the end."""
    with contextlib.suppress(queue.Empty):
        while True:
            for job in inbox.get_nowait() or ():
                deliver([Settled(job, error=BackendUnavailable(f"the {NAME} store was closed", NAME))])
