"""The SQLite store within a transaction on a connection of the caller's: one of ``sqlite3``, or one of aiosqlite.

On a connection of ``sqlite3`` everything is done in the event loop's own thread, which may be the only one that may use
it. A write that finds the write lock taken waits for it without blocking the event loop.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final, TypeVar

from attrs import frozen

from flowpersist.backends._clock import timed
from flowpersist.backends._joining import aborted, not_begun
from flowpersist.backends._matching import check_put, check_refs, selection
from flowpersist.backends._putting import PutResult, check_puts
from flowpersist.backends._sql import mapped, primary_code, text
from flowpersist.backends._sqlite import rows
from flowpersist.backends._sqlite.tables import NAME, Tables
from flowpersist.backends._wal import has_reset_bug
from flowpersist.backends.base import (
    BackendHealth,
    Capability,
    NamespaceSchema,
    Order,
    Page,
    Put,
    Read,
    Reads,
    Record,
    RecordChange,
    RecordRef,
    Where,
    Written,
)
from flowpersist.errors import ConfigurationError, PersistenceError, StorageError, TransactionAborted
from flowpersist.errors.arguments import mistyped

__all__ = ["JoinedSqlite", "Site", "checked"]

T = TypeVar("T")
#: Seconds between two attempts to get the write lock.
_PAUSE: Final = 0.005
_SAVEPOINT: Final = "flowpersist_operation"


@frozen
class Site:
    """What it needs to know of the store: its file and tables, whether it is open here, its clock, what each namespace
    declares.
    """

    path: Path
    tables: Tables
    check: Callable[[], None]
    now: Callable[[], datetime]
    declared: Mapping[str, Mapping[str, type]]
    clock_offset: timedelta

    def indexed(self, namespace: str) -> Mapping[str, type]:
        """The declared attributes of a namespace."""
        return self.declared.get(namespace, {})


def checked(connection: Any) -> Any:  # noqa: ANN401 - of a driver that need not be installed
    """A connection of ``sqlite3``, or of aiosqlite, on which a transaction is open."""
    if not isinstance(connection, sqlite3.Connection) and not callable(getattr(connection, "_execute", None)):
        mistyped("transaction", "a connection of sqlite3 or of aiosqlite", connection)
    try:
        begun = connection.in_transaction
    except (sqlite3.ProgrammingError, ValueError):
        # It is closed.
        begun = False
    if not begun:
        raise not_begun(NAME, "execute begin immediate")
    return connection


class JoinedSqlite:
    """The operations, on the caller's connection."""

    name: str = NAME
    capabilities: frozenset[Capability] = frozenset({Capability.DURABLE, Capability.MULTI_PROCESS})

    def __init__(self, store: Site, connection: Any) -> None:  # noqa: ANN401 - as above
        self.clock_offset = store.clock_offset
        self._store = store
        self._connection = connection
        self._known = False

    async def open(self, schema: Sequence[NamespaceSchema]) -> None:
        """Nothing: it is open."""

    async def close(self) -> None:
        """Nothing: the connection is the caller's."""

    async def get(self, ref: RecordRef, *, body: bool = True) -> Read:
        """See ``StorageBackend``."""
        now, tables = self._store.now, self._store.tables
        return await self._run(lambda connection: rows.read(connection, tables, ref, now(), body=body))

    async def get_many(self, refs: Sequence[RecordRef], *, body: bool = True) -> Reads:
        """See ``StorageBackend``."""
        check_refs(refs)
        now, tables = self._store.now, self._store.tables
        return await self._run(lambda connection: rows.read_many(connection, tables, tuple(refs), now(), body=body))

    async def put(
        self,
        ref: RecordRef,
        change: RecordChange,
        *,
        if_revision: int | None = None,
        not_after: datetime | None = None,
    ) -> Written:
        """See ``StorageBackend``. The deadline is checked now, and not when the caller commits."""
        check_put(if_revision, not_after)
        now, tables = self._store.now, self._store.tables
        return await self._run(
            lambda connection: rows.put(connection, tables, ref, change, if_revision, not_after, now()), writes=True
        )

    async def put_many(self, puts: Sequence[Put]) -> tuple[PutResult, ...]:
        """See ``StorageBackend``."""
        check_puts(puts)
        results: list[PutResult] = []
        for it in puts:
            try:
                results.append(await self.put(it.ref, it.change, if_revision=it.if_revision, not_after=it.not_after))
            except TransactionAborted:
                raise
            except PersistenceError as error:
                results.append(error.with_traceback(None))
        return tuple(results)

    async def delete(self, ref: RecordRef, *, if_revision: int | None = None) -> bool:
        """See ``StorageBackend``."""
        check_put(if_revision)
        tables = self._store.tables
        return await self._run(lambda connection: rows.delete(connection, tables, ref, if_revision), writes=True)

    async def query(
        self,
        namespace: str,
        where: Where,
        *,
        order: Order = "key",
        limit: int,
        after: str | None = None,
        descending: bool = False,
        bodies: bool = False,
    ) -> Page[Record]:
        """See ``StorageBackend``."""
        asked = selection(namespace, where, order, limit, after, descending, bodies=bodies)
        now, tables, indexed = self._store.now, self._store.tables, self._store.indexed(namespace)
        return await self._run(lambda connection: rows.page(connection, tables, asked, indexed, now()))

    async def purge(self, namespace: str, where: Where, *, limit: int) -> int:
        """See ``StorageBackend``."""
        asked = selection(namespace, where, "key", limit, None, False)
        now, tables, indexed = self._store.now, self._store.tables, self._store.indexed(namespace)
        purged = await self._run(lambda connection: rows.purge(connection, tables, asked, indexed, now()), writes=True)
        return len(purged.items)

    async def ping(self) -> BackendHealth:
        """See ``StorageBackend``."""
        now, latency = await timed(self._run(lambda _: self._store.now()))
        return BackendHealth(NAME, now, latency)

    async def _run(self, action: Callable[[sqlite3.Connection], T], *, writes: bool = False) -> T:
        self._store.check()
        try:
            if isinstance(self._connection, sqlite3.Connection):
                with mapped(NAME):
                    return await self._here(action, writes=writes)
            # Its thread takes this in turn, before a rollback that the caller asks for after a cancellation.
            running: Awaitable[T] = self._connection._execute(self._done, self._connection._conn, action, writes)  # noqa: SLF001 - the only way to that thread
            return await running
        except ValueError as error:
            if isinstance(error, PersistenceError):
                raise
            # What aiosqlite says of a connection that is closed.
            raise not_begun(NAME, "open another, begin a transaction, and call within again,") from error
        except StorageError as error:
            if isinstance(error.__cause__, sqlite3.ProgrammingError):
                message = (
                    "the sqlite connection is closed, or belongs to another thread: use one of the event loop's own"
                )
                raise ConfigurationError(message, "within") from error
            found = aborted(error)
            if found is error:
                raise
            raise found from error

    async def _here(self, action: Callable[[sqlite3.Connection], T], *, writes: bool) -> T:
        connection = self._connection
        patience = connection.execute("pragma busy_timeout").fetchone()[0] / 1000 if writes else 0.0
        ends = time.monotonic() + patience
        while True:
            try:
                with _impatient(connection, patience):
                    return self._done(connection, action, writes)
            except StorageError as error:
                busy = isinstance(error.__cause__, sqlite3.Error) and _is_busy(error.__cause__)
                if not busy or not connection.in_transaction or time.monotonic() > ends:
                    raise
            await asyncio.sleep(_PAUSE)

    def _done(self, connection: sqlite3.Connection, action: Callable[[sqlite3.Connection], T], writes: bool) -> T:  # noqa: FBT001 - aiosqlite passes it on by place
        if not connection.in_transaction:
            raise not_begun(NAME, "it has ended; begin another, and call within again,")
        with mapped(NAME), _plain(connection):
            self._check_file(connection)
            if not writes:
                return action(connection)
            with _savepoint(connection):
                return action(connection)

    def _check_file(self, connection: sqlite3.Connection) -> None:
        if self._known:
            return
        file = next((file for _, name, file in connection.execute("pragma database_list") if name == "main"), "")
        if not file or not self._store.path.samefile(file):
            raise ConfigurationError(
                "within takes a connection to the store's own sqlite file, not to another", "within"
            )
        if has_reset_bug(sqlite3.sqlite_version_info):
            # A checkpoint of the caller's commit could lose what the store commits at that moment: see _wal.
            connection.execute("pragma wal_autocheckpoint = 0")
        self._known = True


def _is_busy(error: sqlite3.Error) -> bool:
    # Not SQLITE_BUSY_SNAPSHOT: what the transaction has read is out of date, and waiting can't mend it.
    return primary_code(error) == sqlite3.SQLITE_BUSY and error.sqlite_errorcode == sqlite3.SQLITE_BUSY


@contextmanager
def _impatient(connection: sqlite3.Connection, patience: float) -> Iterator[None]:
    """Make SQLite report a taken lock at once, where the caller of this waits for it."""
    if not patience:
        yield
        return
    connection.execute("pragma busy_timeout = 0")
    try:
        yield
    finally:
        connection.execute(f"pragma busy_timeout = {round(patience * 1000)}")


@contextmanager
def _plain(connection: sqlite3.Connection) -> Iterator[None]:
    """Rows as tuples and texts as the store reads them, whatever the caller has chosen."""
    chosen = connection.row_factory, connection.text_factory
    connection.row_factory, connection.text_factory = None, text
    try:
        yield
    finally:
        connection.row_factory, connection.text_factory = chosen


@contextmanager
def _savepoint(connection: sqlite3.Connection) -> Iterator[None]:
    """Undo what an operation that fails has written; the rest of the transaction stays."""
    connection.execute(f"savepoint {_SAVEPOINT}")
    try:
        yield
    except BaseException as error:
        if not connection.in_transaction:
            # SQLite has rolled back all of it: the disk is full, or failed.
            message = f"sqlite has rolled the transaction back ({type(error).__name__}): do it again in a new one"
            raise TransactionAborted(message, NAME) from error
        connection.execute(f"rollback to {_SAVEPOINT}")
        connection.execute(f"release {_SAVEPOINT}")
        raise
    connection.execute(f"release {_SAVEPOINT}")
