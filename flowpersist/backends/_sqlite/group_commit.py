"""The thread that writes, and commits in groups.

A flush to the disk costs the same for one operation as for many. So the writer takes what is queued, up to
``GROUP`` operations, into one transaction, and acknowledges all of them once the commit has returned. Most operations
that fail do so before they have written anything. Where one fails later, the transaction is rolled back and its
operations are done again, each in a savepoint of its own, which for all of them would cost a third of the time.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable
from itertools import groupby
from typing import Final

from flowpersist.backends._sql import primary_code, translated
from flowpersist.backends._sqlite.checkpoints import Checkpointer
from flowpersist.backends._sqlite.inserts import Insert, insert_all
from flowpersist.backends._sqlite.owners import Owner, Work, WorkInbox
from flowpersist.backends._threads import Settled, deliver
from flowpersist.errors import PersistenceError, StorageFull, UnknownOutcome

__all__ = ["Writer"]

GROUP: Final = 64


class Writer(Owner):
    """Runs what is queued in one transaction that holds the write lock from its beginning."""

    def __init__(self, name: str, connection: sqlite3.Connection, inbox: WorkInbox, checkpoints: Checkpointer) -> None:
        super().__init__(name, connection, inbox)
        self._checkpoints = checkpoints

    def work(self, job: Work) -> None:
        group = self._group([job, *self.inbox.take_more(GROUP - 1)])
        full = [settled.job for settled in group if isinstance(settled.error, StorageFull)]
        if full and self._checkpoints.make_room(self.connection):
            # Nothing of them was written, and the log may have been what took the room.
            group = [settled for settled in group if settled.job not in full] + self._group(full)
        deliver(group)
        self._checkpoints.after(group, self.connection)

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
        if len(jobs) == 1:
            return self._in_turn(jobs)
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
            one = self.settled(job)
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
        settled = self.settled(job)
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
