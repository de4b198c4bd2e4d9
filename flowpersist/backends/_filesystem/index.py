"""The index beside the files: entries of records in SQLite, always a superset of the records."""

from __future__ import annotations

import contextlib
import json
import logging
import re
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Final

from attrs import frozen

from flowpersist.backends._damage import place_in
from flowpersist.backends._filesystem.files import NAME, create, file_errors
from flowpersist.backends._filesystem.index_log import ENTRY, REMOVAL, IndexLog, Line, LogPosition, add, begin_anew
from flowpersist.backends._filesystem.record_file import Stored, digest_of, header_of
from flowpersist.backends._matching import Position, Selection
from flowpersist.backends._sql import index_statements, mapped, primary_code, select, text
from flowpersist.backends._statements import statements
from flowpersist.backends._wal import checkpoint_alone, configure_log, files_of, irregular, log_bytes
from flowpersist.errors import BackendUnavailable, PersistenceError, StorageFull

__all__ = ["Entry", "FileIndex", "pending"]

log = logging.getLogger("flowpersist.backends.filesystem")
SQL: Final = statements("flowpersist.backends._filesystem")
TABLES: Final = tuple(name for name in SQL if name.startswith("create_"))
VERSION: Final = 1
LOG: Final = "index.log"
#: A process adds the log's entries to the index after this many writes and deletions, even without a query.
OVERDUE: Final = 500
#: The size of SQLite's own log on the disk, and the size from which its content is moved to the index.
WAL_BYTES: Final = 4 * 1024 * 1024
#: The size from which a log is emptied, and the wait for a moment without writers.
LONG: Final = 4 * 1024 * 1024
QUIET: Final = timedelta(milliseconds=50)
#: The keys of a position in the log.
_OFFSET_DIGITS: Final = 19
#: Where Linux keeps the id of the current boot.
BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
#: The errors of an index that is damaged or of another release.
_USELESS: Final = frozenset({sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_ERROR})
#: The table or index that a statement creates.
_MADE: Final = re.compile(r"create (?:table|(?:unique )?index) if not exists (\w+)")


@frozen
class Entry:
    """A hit: the record's file, and the entry's position in the requested order; None if the entry is damaged."""

    digest: str
    place: Position | None


class FileIndex:
    """Two connections, each behind a lock, so that a pool's threads can share them.

    Entries of records are written to a log, and added to the index before it is read. Neither is flushed: nothing is
    missing after a crash of the process, and after a crash of the machine (another boot id) the index is rebuilt.
    """

    def __init__(self, path: Path, patience: timedelta) -> None:
        self._path = path
        self._log = IndexLog(path.with_name(LOG), patience)
        self._patience = patience
        self._writing = threading.Lock()
        self._reading = threading.Lock()
        self._writer, self._reader = self._connected()
        # The pool's threads write records of different shards at once.
        self._counting = threading.Lock()
        self._noted = 0
        self._outdated: list[tuple[bytes, int]] = []

    def _connected(self) -> tuple[sqlite3.Connection, sqlite3.Connection]:
        try:
            return self._connect(), self._connect()
        except sqlite3.DatabaseError as error:
            if primary_code(error) not in _USELESS:
                raise
        # Damaged, or of another release: it holds nothing that the files do not hold.
        self._remove()
        return self._connect(), self._connect()

    def _remove(self) -> None:
        with file_errors():
            for path in files_of(self._path):
                path.unlink(missing_ok=True)

    def _connect(self) -> sqlite3.Connection:
        if irregular(self._path) is not None:
            self._remove()
        # Only if it is missing: closing another handle would release the locks of this process's connections.
        with contextlib.suppress(FileExistsError):
            create(self._path, [])
        seconds = self._patience.total_seconds()
        connection = sqlite3.connect(self._path, timeout=seconds, isolation_level=None, check_same_thread=False)
        connection.text_factory = text
        try:
            connection.execute("pragma journal_mode = wal")
            connection.execute("pragma synchronous = normal")
            configure_log(connection, WAL_BYTES)
            for name in TABLES:
                connection.execute(SQL[name])
            connection.execute(*_probe())
        except BaseException:
            connection.close()
            raise
        return connection

    def close(self) -> None:
        """Close both connections, and the log."""
        with contextlib.suppress(PersistenceError, OSError):
            self.enter()
        self._log.close()
        for connection in (self._writer, self._reader):
            with mapped(NAME):
                connection.close()

    def declare(self, indexed: Mapping[str, type]) -> None:
        """Create the declared attributes' indexes."""
        with self._transaction() as connection:
            for name in indexed:
                for statement in index_statements("entries", name).values():
                    connection.execute(statement)

    def is_current(self) -> bool:
        """Whether the index and its log have every write since the index was built."""
        if not self._log.exists() or not self._is_marked():
            return False
        # Skipping a line of the log removes the mark.
        self.enter()
        return self._is_marked()

    def _is_marked(self) -> bool:
        boot = _boot_id()
        with self._read() as connection:
            row = connection.execute(SQL["read_meta"], ("boot",)).fetchone()
        return boot is not None and row == (f"{VERSION} {boot}",)

    def begin(self) -> None:
        """Prepare a rebuild; the files hold everything that the log holds by then."""
        with self._log.still(self._patience) as handle, self._transaction():
            begin_anew(handle)

    def mark_current(self) -> None:
        """Record that the index was built, in this boot of the machine."""
        with self._transaction() as connection:
            connection.execute(SQL["write_meta"], ("boot", f"{VERSION} {_boot_id()}"))

    @contextmanager
    def noting(self) -> Iterator[Callable[[str, int, bytes], None]]:
        """Log an entry (digest, revision and header) before its record is written."""
        with self._log.noting() as handle:

            def note(digest: str, revision: int, header: bytes) -> None:
                with self._over() as over:
                    add(
                        handle,
                        [*(b'["%b",%d]' % one for one in over), b'["%b",%d,%b]' % (digest.encode(), revision, header)],
                    )
                with self._counting:
                    self._noted += 1

            yield note

    def remove_below(self, digest: str, revision: int) -> None:
        """Remove a record's entries of earlier revisions after its record was written. This happens with the next
        batch, since queries ignore these entries.
        """
        with self._counting:
            self._outdated.append((digest.encode(), revision))

    @contextmanager
    def _over(self) -> Iterator[list[tuple[bytes, int]]]:
        """The removals that take effect if the transaction succeeds."""
        with self._counting:
            taken, self._outdated = self._outdated, []
        try:
            yield taken
        except BaseException:
            with self._counting:
                self._outdated.extend(taken)
            raise

    @property
    def overdue(self) -> bool:
        """Whether so many entries were logged or outdated that they should be added before a query needs them."""
        return self._noted + len(self._outdated) >= OVERDUE

    def enter(self) -> None:
        """Add the logged entries of all processes."""
        with self._counting:
            self._noted = 0
        with self._read() as connection:
            if not self._outdated and self._log.is_read(_log_position(connection)):
                return
        with self._transaction() as connection, self._over() as over:
            long = self._entered(connection, over) > LONG
        if long:
            # Retried another time if other processes keep adding.
            with contextlib.suppress(BackendUnavailable), self._log.still(QUIET) as handle:
                # All entries must be added durably first; the next reader reads them in a transaction.
                with self._transaction() as connection:
                    self._entered(connection, ())
                with self._transaction():
                    begin_anew(handle)

    def _entered(self, connection: sqlite3.Connection, over: Iterable[tuple[bytes, int]]) -> int:
        place, damaged, more = _log_position(connection), False, True
        removals: Iterable[Line] = [(name.decode(), revision) for name, revision in over]
        while more:
            read = self._log.read(place)
            lost = _lost(connection, read.lines, removals)
            place, damaged, more, removals = read.place, damaged or read.damaged or lost, read.more, ()
        if damaged:
            # A crash or a full disk leaves such a line too, for a write that was not made.
            log.warning(
                "the index's log has an unreadable line; the index will be rebuilt when the store is next opened"
            )
            connection.execute(SQL["write_meta"], ("boot", ""))
        connection.execute(SQL["write_meta"], ("log", f"{place.log} {place.offset}"))
        return place.offset

    def replace(self, digest: object, stored: Stored | None) -> None:
        """Rebuild the entries of one record."""
        self.enter()
        with self._transaction() as connection:
            connection.execute(SQL["remove"], (digest,))
            if stored is not None:
                connection.execute(SQL["add"], _row_of(stored))

    def replace_shard(self, prefix: str, records: Iterable[Stored]) -> None:
        """Rebuild the entries of a shard."""
        with self._transaction() as connection:
            connection.execute(SQL["remove_shard"], {"shard": prefix})
            connection.executemany(SQL["add"], [_row_of(stored) for stored in records])

    def bodies(self) -> dict[str, list[str | None]]:
        """The body of each entry, by its record's file."""
        found: dict[str, list[str | None]] = {}
        self.enter()
        with self._read() as connection:
            for digest, body in connection.execute(SQL["all"]):
                found.setdefault(digest, []).append(body)
        return found

    def page(self, asked: Selection, indexed: Mapping[str, type]) -> list[Entry]:
        """The entries of a selection in its order, to be verified."""
        try:
            self.enter()
        except StorageFull:
            # The log must be read first for that.
            with self._transaction(keep=False) as connection:
                self._entered(connection, ())
                return _hits(connection, asked, indexed)
        with self._read() as connection:
            return _hits(connection, asked, indexed)

    @contextmanager
    def _read(self) -> Iterator[sqlite3.Connection]:
        with mapped(NAME), self._reading:
            yield self._reader

    @contextmanager
    def _transaction(self, *, keep: bool = True) -> Iterator[sqlite3.Connection]:
        with mapped(NAME), self._writing:
            self._writer.execute("begin immediate")
            try:
                yield self._writer
                self._writer.execute("commit" if keep else "rollback")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    self._writer.execute("rollback")
                raise
            if log_bytes(self._path) > WAL_BYTES:
                with self._reading:
                    checkpoint_alone(self._writer, self._reader)


def _lost(connection: sqlite3.Connection, lines: Sequence[Line], removals: Iterable[Line]) -> bool:
    """Add log lines and remove outdated entries; True if a line was unreadable."""
    floors: dict[str, int] = {}
    for digest, revision in (*(line for line in lines if len(line) == REMOVAL), *removals):
        floors[digest] = max(revision, floors.get(digest, 0))
    entries = [line for line in lines if len(line) == ENTRY and line[1] >= floors.get(line[0], 0)]
    lost = False
    if not _entered_all(connection, entries):
        lost = [line for line in entries if not _entered_all(connection, [line])] != []
    connection.executemany(SQL["remove_below"], floors.items())
    return lost


def _entered_all(connection: sqlite3.Connection, entries: Sequence[Line]) -> bool:
    try:
        connection.executemany(SQL["add"], [_row(*line) for line in entries])
    except (KeyError, TypeError, ValueError, OverflowError, sqlite3.InterfaceError, sqlite3.ProgrammingError):
        # An intact line with values that no valid record has.
        return False
    return True


def _hits(connection: sqlite3.Connection, asked: Selection, indexed: Mapping[str, type]) -> list[Entry]:
    columns = "digest, key, created_at, updated_at, due_at"
    rows = connection.execute(*select(columns, "entries", asked, indexed)).fetchall()
    number = ("key", "created", "updated", "due").index(asked.order)
    return [Entry(digest, place_in(times[number - 1] if number else 0, key)) for digest, key, *times in rows]


def _log_position(connection: sqlite3.Connection) -> LogPosition:
    row = connection.execute(SQL["read_meta"], ("log",)).fetchone()
    log, _, offset = ("", "", "0") if row is None else str(row[0]).partition(" ")
    # A damaged position makes the log be read from its beginning.
    return LogPosition(log, int(offset)) if offset.isdecimal() and len(offset) < _OFFSET_DIGITS else LogPosition("", 0)


def pending(path: Path, indexed: Mapping[str, type]) -> tuple[str, ...]:
    """The statements that would create what the index lacks; for an unusable index, all of them."""
    there = _names(path)
    made = [(_MADE.search(SQL[name]), SQL[name].strip()) for name in TABLES]
    tables = [text for found, text in made if found is not None and found[1] not in there]
    wanted = {
        name: text for attribute in sorted(indexed) for name, text in index_statements("entries", attribute).items()
    }
    return (*tables, *(f"{text};" for name, text in wanted.items() if name not in there))


def _names(path: Path) -> set[str]:
    if not path.exists() or irregular(path) is not None:
        return set()
    # Opened read-only it would leave its log files behind.
    with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True)) as connection:
        try:
            connection.execute(*_probe())
            return {name for (name,) in connection.execute("select name from sqlite_master")}
        except sqlite3.DatabaseError as error:
            if primary_code(error) not in _USELESS:
                raise
            return set()


def _probe() -> tuple[str, tuple[str]]:
    """A statement that fails if the table has other columns."""
    return "select digest, revision, namespace, key, due_at, body, attributes from entries where digest = ?", ("",)


def _row(digest: str, revision: int, header: Mapping[str, object]) -> tuple[object, ...]:
    names = ("namespace", "key", "created", "updated", "due", "nonce", "attributes")
    return (digest, revision, *(header[name] for name in names))


def _row_of(stored: Stored) -> tuple[object, ...]:
    record = stored.record
    return _row(digest_of(record.ref), record.revision, json.loads(header_of(stored)))


def _boot_id() -> str | None:
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        # If the system has no boot id, an index of an earlier opening is not trusted.
        return None
