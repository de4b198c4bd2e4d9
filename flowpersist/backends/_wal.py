"""SQLite's log and the files beside a database: checkpoints that keep clear of the WAL-reset bug, for all processes and
all programs at once.

SQLite 3.7.0 to 3.51.2 has it (https://www.sqlite.org/wal.html#walresetbug). A checkpoint reads how long the log is, and
then how much of it is in the database. Where the whole log is in it already and a commit begins the log anew between
the two, the checkpoint takes the old length for the new log's: pages of the new log pass for copied, and are lost.

So no checkpoint is made here while a commit may begin the log anew. Two things prevent that, and each is a lock of
SQLite's own, which holds for every connection in every process:

- the write lock, since only a commit begins the log anew (``checkpoint_alone``);
- a snapshot that is being read, since a log that is read is not begun anew. Where the snapshot is read from the
  database itself, because the whole log is in it, SQLite's checkpoint copies nothing and notes nothing
  (``checkpoint_beside``).

SQLite's automatic checkpoints have neither, so ``configure_log`` turns them off. The checkpoint of the connection that
closes last stays: it has the database file for itself.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from stat import S_ISREG

from attrs import frozen

__all__ = [
    "Done",
    "checkpoint_alone",
    "checkpoint_beside",
    "configure_log",
    "files_of",
    "has_reset_bug",
    "irregular",
    "log_bytes",
]


@frozen
class Done:
    """How many pages the log had, how many of them are in the database now; or that somebody else is at it."""

    busy: int
    log: int
    copied: int

    @property
    def complete(self) -> bool:
        """Whether the next commit may begin the log anew."""
        return not self.busy and self.copied == self.log


def has_reset_bug(version: tuple[int, int, int]) -> bool:
    """Whether a release of SQLite has the bug: it was mended in 3.51.3, and in 3.50.7 and 3.44.6 for those who stay."""
    mended = version >= (3, 51, 3) or (3, 50, 7) <= version < (3, 51, 0) or (3, 44, 6) <= version < (3, 45, 0)
    return version >= (3, 7, 0) and not mended


def configure_log(connection: sqlite3.Connection, kept_bytes: int) -> None:
    """Turn the automatic checkpoints off; a log that begins anew keeps so much of the disk."""
    connection.execute("pragma wal_autocheckpoint = 0")
    connection.execute(f"pragma journal_size_limit = {kept_bytes}")


def files_of(path: Path) -> tuple[Path, ...]:
    """A database and what SQLite makes beside it."""
    return path, *(path.with_name(f"{path.name}{suffix}") for suffix in ("-wal", "-shm", "-journal"))


def irregular(path: Path) -> Path | None:
    """Which of these is no regular file; None where all are, or are missing. SQLite waits for the other end of a pipe,
    and makes what a link names.
    """
    for file in files_of(path):
        with contextlib.suppress(FileNotFoundError):
            if not S_ISREG(file.lstat().st_mode):
                return file
    return None


def log_bytes(path: Path) -> int:
    """How large the log's file is; it may hold less."""
    try:
        return path.with_name(f"{path.name}-wal").stat().st_size
    except OSError:
        return 0


def checkpoint_alone(writer: sqlite3.Connection, connection: sqlite3.Connection) -> Done | None:
    """Copy what is in the log while nobody writes. ``writer`` waits for the write lock as for any transaction, and
    ``connection`` copies: a connection can't while it has a transaction itself.
    """
    return _checkpoint(connection, _held(writer, "begin immediate"))


def checkpoint_beside(snapshot: sqlite3.Connection, connection: sqlite3.Connection) -> Done | None:
    """Copy what is in the log, while others may write on. What they write stays in it."""
    # A transaction reads nothing, and so holds nothing, before its first statement.
    return _checkpoint(connection, _held(snapshot, "begin", "select 1 from sqlite_master limit 1"))


@contextmanager
def _held(connection: sqlite3.Connection, *statements: str) -> Iterator[None]:
    try:
        for statement in statements:
            connection.execute(statement).fetchone()
        yield
    finally:
        if connection.in_transaction:
            connection.execute("rollback")


def _checkpoint(connection: sqlite3.Connection, held: contextlib.AbstractContextManager[None]) -> Done | None:
    """Do what can be done at once. Where that fails nothing is lost: the log keeps all of it, and whoever writes next
    is told of a disk that is full or fails.
    """
    with contextlib.suppress(sqlite3.Error, MemoryError), held:
        return Done(*connection.execute("pragma wal_checkpoint(passive)").fetchone())
    return None
