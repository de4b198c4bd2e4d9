"""Opening a SQLite database and bringing its schema up to this release: safe when many processes start at once."""

from __future__ import annotations

import contextlib
import os
import random
import sqlite3
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Final, TypeVar

from attrs import frozen

from flowpersist.backends._outcomes import later_release
from flowpersist.backends._sql import index_statements, primary_code, text, transaction
from flowpersist.backends._sqlite.tables import NAME, Tables
from flowpersist.backends._wal import configure_log, irregular
from flowpersist.errors import BackendUnavailable

__all__ = ["PAGE_BYTES", "Database", "connect", "migrate", "pending", "planned"]

T = TypeVar("T")
#: Large bodies go a third faster than by the default of 4 KB. With pages of 16 KB they would gain a tenth more, but a
#: commit of small records would write twice as much, since it changes pages at the ends of some dozen indexes.
PAGE_BYTES: Final = 8 * 1024
#: What the log may keep of the disk once its content is in the database.
LOG_BYTES: Final = 64 * 1024 * 1024
#: Each migration is the statements that lead from the version before, run in one transaction. None is ever changed.
MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = (
    (
        "create_meta",
        "create_records",
        "create_bodies",
        "create_by_key",
        "create_by_created",
        "create_by_updated",
        "create_by_due",
    ),
)


@frozen
class Database:
    """Where the database is, and how it is used."""

    path: Path
    synchronous: str = "full"
    busy_timeout: timedelta = timedelta(seconds=10)


def connect(database: Database) -> sqlite3.Connection:
    """A connection, to be used by one thread at a time and closed by any. Raises the driver's errors."""
    _refuse_irregular(database.path)
    _make_private(database.path)
    connection = sqlite3.connect(
        f"{database.path.absolute().as_uri()}?mode=rw",
        uri=True,
        timeout=database.busy_timeout.total_seconds(),
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        _configure(connection, database)
    except BaseException:
        connection.close()
        raise
    return connection


def _refuse_irregular(path: Path) -> None:
    """The database may be a link, which whoever runs the store has made; what lies beside it may not."""
    try:
        # Not ``resolve``, which raises what is no OSError for a link to itself.
        found = irregular(Path(os.path.realpath(path)))
    except OSError as error:
        # A file in place of its directory, a directory that is closed to this user, a name that is too long.
        message = "the sqlite database can't be opened; check that its directory exists and is writable"
        raise BackendUnavailable(message, NAME) from error
    if found is not None:
        message = f"beside or in place of the sqlite database {found.name!r} is not a regular file; remove it"
        raise BackendUnavailable(message, NAME)


def _make_private(path: Path) -> None:
    """Make a missing file readable by its owner alone; SQLite gives the log the same permissions."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
    except OSError:
        # There already, or not to be made: what opens it next says which.
        return


def _configure(connection: sqlite3.Connection, database: Database) -> None:
    connection.text_factory = text
    connection.execute(f"pragma page_size = {PAGE_BYTES}")
    _patiently(database, lambda: connection.execute("pragma journal_mode = wal").fetchone())
    connection.execute(f"pragma synchronous = {database.synchronous}")
    # Sealed bytes need no overwriting, and with it deleting a large body takes ten times as long.
    connection.execute("pragma secure_delete = off")
    configure_log(connection, LOG_BYTES)


def _patiently(database: Database, action: Callable[[], T]) -> T:
    """Try again while locked: SQLite does not wait by itself where that could be a deadlock, as in changing to WAL."""
    deadline = time.monotonic() + database.busy_timeout.total_seconds()
    while True:
        try:
            return action()
        except sqlite3.OperationalError as error:
            if primary_code(error) != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
        time.sleep(random.uniform(0.001, 0.02))  # noqa: S311 - to keep starters apart


def _version(connection: sqlite3.Connection, tables: Tables) -> int:
    if connection.execute(tables.sql["has_meta"]).fetchone() == (0,):
        return 0
    row = connection.execute(tables.sql["read_meta"], ("version",)).fetchone()
    version = 0 if row is None else int(row[0])
    if version > len(MIGRATIONS):
        raise later_release("sqlite database has schema", version, len(MIGRATIONS))
    return version


def pending(connection: sqlite3.Connection, tables: Tables, indexed: Mapping[str, type]) -> tuple[str, ...]:
    """The statements that would bring the schema up to this release, with the indexes of the declared attributes."""
    version = _version(connection, tables)
    steps = [tables.sql[name] for names in MIGRATIONS[version:] for name in names]
    if version < len(MIGRATIONS):
        into = f"insert into {tables.meta} (name, value) values"
        steps.append(f"{into} ('version', {len(MIGRATIONS)}) on conflict (name) do update set value = excluded.value;")
        steps.append(f"{into} ('floor', 0) on conflict (name) do nothing;")
    there = {name for (name,) in connection.execute(tables.sql["index_names"])}
    wanted = {
        name: text
        for attribute in sorted(indexed)
        for name, text in index_statements(tables.records, attribute).items()
    }
    return (*steps, *(f"{text};" for name, text in wanted.items() if name not in there))


def migrate(connection: sqlite3.Connection, tables: Tables, indexed: Mapping[str, type]) -> None:
    """Run what is pending. Whoever comes second finds it done."""
    if not pending(connection, tables, indexed):
        return
    with transaction(connection, "immediate"):
        for statement in pending(connection, tables, indexed):
            connection.execute(statement)


def planned(database: Database, tables: Tables, indexed: Mapping[str, type]) -> tuple[str, ...]:
    """What is pending in a database as it stands; nothing is changed, and a file that is missing is not made."""
    _refuse_irregular(database.path)
    # A new database lacks everything. One that is opened for reading alone would leave its log's files behind.
    where = f"{database.path.absolute().as_uri()}?mode=rw" if database.path.exists() else "file::memory:"
    connection = sqlite3.connect(where, uri=True, timeout=database.busy_timeout.total_seconds(), isolation_level=None)
    with contextlib.closing(connection):
        return pending(connection, tables, indexed)
