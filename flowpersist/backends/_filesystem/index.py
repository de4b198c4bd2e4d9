"""The index beside the files: entries of records in SQLite, a superset of what is there."""

from __future__ import annotations

import contextlib
import re
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Final

from attrs import frozen

from flowpersist.backends._clock import to_micros
from flowpersist.backends._filesystem.files import NAME
from flowpersist.backends._filesystem.record_file import Stored, digest_of
from flowpersist.backends._matching import Position, Selection, position
from flowpersist.backends._scalars import attributes_to_text
from flowpersist.backends._sql import index_statements, mapped, primary_code, select
from flowpersist.backends._statements import statements
from flowpersist.errors import PersistenceError

__all__ = ["Entry", "FileIndex", "pending"]

SQL: Final = statements("flowpersist.backends._filesystem")
TABLES: Final = tuple(name for name in SQL if name.startswith("create_"))
VERSION: Final = 1
#: How many removals may wait for the next write.
OUTDATED: Final = 64
#: Where Linux names the time since the machine was started.
BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
#: The errors of an index that is damaged, or of another release.
_USELESS: Final = frozenset({sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_ERROR})
#: What a statement of ours makes.
_MADE: Final = re.compile(r"create (?:table|(?:unique )?index) if not exists (\w+)")


@frozen
class Entry:
    """A hit: the record's file, and where the entry stands in the order that was asked for."""

    digest: str
    place: Position


class FileIndex:
    """Two connections, each behind a lock, so that the threads of a pool may share them.

    Commits are not flushed: after a crash of the process nothing is missing, and after one of the machine (another boot
    id) the index is rebuilt.
    """

    def __init__(self, path: Path, patience: timedelta) -> None:
        self._path = path
        self._patience = patience
        self._writing = threading.Lock()
        self._reading = threading.Lock()
        self._writer, self._reader = self._connected()
        self._outdated: list[tuple[str, int]] = []

    def _connected(self) -> tuple[sqlite3.Connection, sqlite3.Connection]:
        try:
            return self._connect(), self._connect()
        except sqlite3.DatabaseError as error:
            if primary_code(error) not in _USELESS:
                raise
        # Damaged, or of another release: it holds nothing that the files do not say.
        for suffix in ("", "-wal", "-shm"):
            self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)
        return self._connect(), self._connect()

    def _connect(self) -> sqlite3.Connection:
        self._path.touch(mode=0o600)
        seconds = self._patience.total_seconds()
        connection = sqlite3.connect(self._path, timeout=seconds, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("pragma journal_mode = wal")
            connection.execute("pragma synchronous = normal")
            for name in TABLES:
                connection.execute(SQL[name])
            connection.execute(*_probe())
        except BaseException:
            connection.close()
            raise
        return connection

    def close(self) -> None:
        """Close both connections."""
        with contextlib.suppress(PersistenceError):
            self.tidy()
        for connection in (self._writer, self._reader):
            with mapped(NAME):
                connection.close()

    def declare(self, indexed: Mapping[str, type]) -> None:
        """Make the declared attributes' indexes."""
        with self._transaction() as connection:
            for name in indexed:
                for statement in index_statements("entries", name).values():
                    connection.execute(statement)

    def is_current(self) -> bool:
        """Whether all that was written to it since it was built is in it."""
        boot = _boot_id()
        with self._read() as connection:
            row = connection.execute(SQL["read_meta"], ("boot",)).fetchone()
        return boot is not None and row == (f"{VERSION} {boot}",)

    def mark_current(self) -> None:
        """Note that it was built, in this boot of the machine."""
        with self._transaction() as connection:
            connection.execute(SQL["write_meta"], ("boot", f"{VERSION} {_boot_id()}"))

    def add(self, stored: Stored) -> None:
        """Add an entry, before its record is written."""
        with self._transaction() as connection:
            connection.execute(SQL["add"], _row(stored))

    def remove_below(self, digest: str, revision: int) -> None:
        """Remove a record's entries of earlier revisions, after its record was written: with what is written next, as a
        transaction costs more than what is in it. Until then a query passes them over.
        """
        self._outdated.append((digest, revision))
        if len(self._outdated) >= OUTDATED:
            self.tidy()

    def tidy(self) -> None:
        """Remove what is known to be outdated."""
        with self._transaction():
            pass

    def keep_only(self, digest: str, revision: int) -> None:
        """Remove all entries of a record but that of one revision (0: all), after its record was written."""
        with self._transaction() as connection:
            connection.execute(SQL["remove_others"], (digest, revision))

    def replace_shard(self, prefix: str, records: Iterable[Stored]) -> None:
        """Make the entries of a shard anew."""
        with self._transaction() as connection:
            connection.execute(SQL["remove_shard"], (prefix,))
            connection.executemany(SQL["add"], [_row(stored) for stored in records])

    def bodies(self) -> dict[str, list[str | None]]:
        """The body of each entry, by its record's file."""
        found: dict[str, list[str | None]] = {}
        with self._read() as connection:
            for digest, body in connection.execute(SQL["all"]):
                found.setdefault(digest, []).append(body)
        return found

    def page(self, asked: Selection, indexed: Mapping[str, type]) -> list[Entry]:
        """The entries of a selection, in its order; to be verified."""
        columns = "digest, key, created_at, updated_at, due_at"
        with self._read() as connection:
            rows = connection.execute(*select(columns, "entries", asked, indexed)).fetchall()
        placed = ((row[0], position(asked.order, *row[1:])) for row in rows)
        return [Entry(digest, place) for digest, place in placed if place is not None]

    @contextmanager
    def _read(self) -> Iterator[sqlite3.Connection]:
        with mapped(NAME), self._reading:
            yield self._reader

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with mapped(NAME), self._writing:
            self._writer.execute("begin immediate")
            outdated = self._outdated[:]
            try:
                self._writer.executemany(SQL["remove_below"], outdated)
                yield self._writer
                self._writer.execute("commit")
                del self._outdated[: len(outdated)]
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    self._writer.execute("rollback")
                raise


def pending(path: Path, indexed: Mapping[str, type]) -> tuple[str, ...]:
    """The statements that would make what an index lacks; one that can't be used is made anew, so lacks everything."""
    there = _names(path)
    made = [(_MADE.search(SQL[name]), SQL[name].strip()) for name in TABLES]
    tables = [text for found, text in made if found is not None and found[1] not in there]
    wanted = {
        name: text for attribute in sorted(indexed) for name, text in index_statements("entries", attribute).items()
    }
    return (*tables, *(f"{text};" for name, text in wanted.items() if name not in there))


def _names(path: Path) -> set[str]:
    if not path.exists():
        return set()
    # For reading alone it would leave its log's files behind.
    with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True)) as connection:
        try:
            connection.execute(*_probe())
            return {name for (name,) in connection.execute("select name from sqlite_master")}
        except sqlite3.DatabaseError as error:
            if primary_code(error) not in _USELESS:
                raise
            return set()


def _probe() -> tuple[str, tuple[str]]:
    """A statement that fails where the table has other columns."""
    return "select digest, revision, namespace, key, due_at, body, attributes from entries where digest = ?", ("",)


def _row(stored: Stored) -> tuple[object, ...]:
    record = stored.record
    return (
        digest_of(record.ref),
        record.revision,
        record.ref.namespace,
        record.ref.key,
        to_micros(record.created_at),
        to_micros(record.updated_at),
        None if record.due_at is None else to_micros(record.due_at),
        stored.nonce,
        attributes_to_text(record.attributes),
    )


def _boot_id() -> str | None:
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        # Where the system does not say, an index of an earlier opening is not trusted.
        return None
