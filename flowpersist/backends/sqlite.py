"""A store in one SQLite file: durable, for any number of processes on one machine, with nothing to install.

Put the file on a local disk: the locks of network file systems are not reliable. ``synchronous=full`` (the default)
flushes each commit to the disk; ``normal`` loses the last commits when the power fails, ``off`` may lose the file. A
backend belongs to the event loop and the process that opened it: after a fork the child opens its own.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any, Final, TypeVar

from attrs import evolve, field, frozen

from flowpersist.backends._clock import Clock, host_clock, timed
from flowpersist.backends._damage import left_standing
from flowpersist.backends._home import Home, Reach
from flowpersist.backends._matching import check_put, check_refs, indexed_attributes, selection
from flowpersist.backends._options import check_options
from flowpersist.backends._putting import PutResult, check_puts, ended
from flowpersist.backends._sql import mapped
from flowpersist.backends._sqlite import rows
from flowpersist.backends._sqlite.checkpoints import Checkpointer
from flowpersist.backends._sqlite.group_commit import Writer
from flowpersist.backends._sqlite.inserts import Insert
from flowpersist.backends._sqlite.joined import JoinedSqlite, Site, checked
from flowpersist.backends._sqlite.owners import Owner, Reader, Work, WorkInbox
from flowpersist.backends._sqlite.schema import PAGE_BYTES, Database, connect, migrate, planned
from flowpersist.backends._sqlite.tables import NAME, Tables
from flowpersist.backends._threads import Inbox, uninterrupted
from flowpersist.backends._url import PREFIX, BackendUrl
from flowpersist.backends._wal import has_reset_bug, log_bytes
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
    StorageBackend,
    Where,
    Written,
)
from flowpersist.errors import ConfigurationError

__all__ = ["SqliteBackend", "from_url"]

T = TypeVar("T")
READERS: Final = 2
#: As many as a purge deletes at a time, so that other writes get in between.
PURGE_BATCH: Final = 100
RESET_BUG: Final = (
    f"SQLite {sqlite3.sqlite_version} has the WAL-reset bug: this store keeps clear of it, but another program that "
    "writes to its file may lose commits and damage it; upgrade the SQLite that Python uses to 3.51.3 (or 3.50.7, "
    "3.44.6), and let no other program write until then"
)
SYNCHRONOUS: Final = ("full", "extra", "normal", "off")


@frozen
class _Threads:
    """The threads of an open backend and their inboxes."""

    writes: WorkInbox = field(factory=lambda: Inbox(NAME))
    reads: WorkInbox = field(factory=lambda: Inbox(NAME))
    threads: tuple[Owner, ...] = ()
    checkpoints: Checkpointer | None = None

    def start(self) -> None:
        """All of them."""
        for thread in self._all():
            thread.start()

    def stop(self) -> None:
        """Let what is queued end, and wait for it. The log is brought into the database and removed by the connection
        that closes last: of two that close at once neither might be it.
        """
        for owner in self.threads:
            owner.inbox.end()
        for owner in self.threads:
            owner.join()
        if self.checkpoints is not None:
            self.checkpoints.end()
            self.checkpoints.join()
        for inbox in (self.writes, self.reads):
            inbox.close()

    def _all(self) -> tuple[Thread, ...]:
        return self.threads if self.checkpoints is None else (*self.threads, self.checkpoints)


class SqliteBackend:
    """Records in a SQLite file that is made where it is missing, readable by its owner alone.

    ``busy_timeout`` bounds the wait for another process's write; after it ``BackendUnavailable`` is retryable.
    ``prefix`` is what the names of tables and indexes begin with.
    """

    name: str = NAME
    capabilities: frozenset[Capability] = frozenset(
        {Capability.DURABLE, Capability.MULTI_PROCESS, Capability.MIGRATIONS, Capability.TRANSACTIONS}
    )

    def __init__(
        self,
        path: str | Path,
        *,
        synchronous: str = "full",
        busy_timeout: timedelta = timedelta(seconds=10),
        prefix: str = PREFIX,
        clock: Clock = host_clock,
        clock_offset: timedelta = timedelta(0),
    ) -> None:
        check_options(
            path=path,
            synchronous=synchronous,
            busy_timeout=busy_timeout,
            prefix=prefix,
            clock=clock,
            clock_offset=clock_offset,
        )
        if synchronous not in SYNCHRONOUS:
            message = f"synchronous is one of {', '.join(SYNCHRONOUS)}"
            raise ConfigurationError(message, "synchronous")
        self.clock_offset = clock_offset
        self._clock = clock
        self._database = Database(Path(path), synchronous, busy_timeout)
        self._tables = Tables(prefix)
        self._indexed: dict[str, dict[str, type]] = {}
        self._threads = _Threads()
        self._home = Home(NAME)

    async def open(self, schema: Sequence[NamespaceSchema]) -> None:
        """See ``StorageBackend``. Raises ``UnsupportedVersion`` for the schema of a later release."""
        await uninterrupted(self._open(schema))

    async def _open(self, schema: Sequence[NamespaceSchema]) -> None:
        async with self._home.opening() as first:
            threads = await asyncio.to_thread(_start, self._database, self._tables) if first else self._threads
            try:
                # By a connection of its own: the writer's jobs stand inside a transaction.
                await asyncio.to_thread(_declare, self._database, self._tables, indexed_attributes(schema))
            except BaseException:
                if first:
                    await asyncio.to_thread(threads.stop)
                raise
            self._threads = threads
            self._indexed.update({namespace.name: dict(namespace.indexed) for namespace in schema})

    async def close(self) -> None:
        """See ``StorageBackend``. Waits for what is under way."""
        await uninterrupted(self._close())

    async def _close(self) -> None:
        async with self._home.closing() as reach:
            threads, self._threads = self._threads, _Threads()
            if reach is not Reach.NOTHING:
                await asyncio.to_thread(threads.stop)

    async def get(self, ref: RecordRef, *, body: bool = True) -> Read:
        """See ``StorageBackend``."""
        return await self._reading(lambda connection: rows.read(connection, self._tables, ref, self._now(), body=body))

    async def get_many(self, refs: Sequence[RecordRef], *, body: bool = True) -> Reads:
        """See ``StorageBackend``."""
        check_refs(refs)
        return await self._reading(
            lambda connection: rows.read_many(connection, self._tables, tuple(refs), self._now(), body=body)
        )

    async def put(
        self,
        ref: RecordRef,
        change: RecordChange,
        *,
        if_revision: int | None = None,
        not_after: datetime | None = None,
    ) -> Written:
        """See ``StorageBackend``. If cancelled, the write may still happen."""
        check_put(if_revision, not_after)
        return await self._putting(Put(ref, change, if_revision, not_after))

    async def put_many(self, puts: Sequence[Put]) -> tuple[PutResult, ...]:
        """See ``StorageBackend``. In transactions of up to 64."""
        check_puts(puts)
        return await ended([self._putting(put) for put in puts])

    def _putting(self, put: Put) -> asyncio.Future[Written]:
        ref, change, if_revision, not_after = put.ref, put.change, put.if_revision, put.not_after
        size = len(change.body) if isinstance(change.body, bytes) else 0
        if if_revision == 0:
            return self._writing(Insert(self._tables, ref, change, not_after, self._now), size)
        return self._writing(
            lambda connection: rows.put(connection, self._tables, ref, change, if_revision, not_after, self._now()),
            size,
        )

    async def delete(self, ref: RecordRef, *, if_revision: int | None = None) -> bool:
        """See ``StorageBackend``."""
        check_put(if_revision)
        return await self._writing(lambda connection: rows.delete(connection, self._tables, ref, if_revision))

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
        indexed = self._indexed.get(namespace, {})
        return await self._reading(lambda connection: rows.page(connection, self._tables, asked, indexed, self._now()))

    async def purge(self, namespace: str, where: Where, *, limit: int) -> int:
        """See ``StorageBackend``. Deletes in batches, each a transaction."""
        selection(namespace, where, "key", limit, None, False)
        indexed = self._indexed.get(namespace, {})
        purged, after = 0, None
        while purged < limit:
            batch = selection(namespace, where, "key", min(PURGE_BATCH, limit - purged), after, False)
            purge = partial(rows.purge, tables=self._tables, asked=batch, indexed=indexed, now=self._now())
            page = await self._writing(purge, batch.limit * PAGE_BYTES)
            left_standing(page.unreadable)
            purged, after = purged + len(page.items), page.next
            if after is None:
                break
        return purged

    async def ping(self) -> BackendHealth:
        """See ``StorageBackend``."""
        asking = self._reading(lambda connection: (connection.execute("select 1").fetchone(), self._now())[1])
        now, latency = await timed(asking)
        return BackendHealth(NAME, now, latency, tuple(self._warnings()))

    async def plan(self, schema: Sequence[NamespaceSchema]) -> tuple[str, ...]:
        """See ``Migrating``."""
        return await asyncio.to_thread(_plan, self._database, self._tables, indexed_attributes(schema))

    def within(self, transaction: Any) -> StorageBackend:  # noqa: ANN401 - of sqlite3, or of aiosqlite, which need not be there
        """See ``Joining``. Takes the connection, of ``sqlite3`` or of aiosqlite, on which the transaction was begun.

        Begin it with ``begin immediate``. Until it ends nobody else writes to the file.
        """
        self._home.check()
        site = Site(self._database.path, self._tables, self._home.check, self._now, self._indexed, self.clock_offset)
        return JoinedSqlite(site, checked(transaction))

    def _warnings(self) -> list[str]:
        level = self._database.synchronous
        weak = [f"synchronous={level}: a power failure loses acknowledged writes"] if level in SYNCHRONOUS[2:] else []
        return weak + ([RESET_BUG] if has_reset_bug(sqlite3.sqlite_version_info) else [])

    def _reading(self, action: Callable[[sqlite3.Connection], T]) -> asyncio.Future[T]:
        self._home.check()
        job = Work(action)
        self._threads.reads.send(job)
        return job.future

    def _writing(self, action: Callable[[sqlite3.Connection], T], size: int = 0) -> asyncio.Future[T]:
        self._home.check()
        job = Work(action, size)
        self._threads.writes.send(job)
        return job.future

    def _now(self) -> datetime:
        return self._clock() + self.clock_offset


def _start(database: Database, tables: Tables) -> _Threads:
    """Connect and migrate; nothing stays open where that fails."""
    connections: list[sqlite3.Connection] = []
    with mapped(NAME):
        try:
            connections.extend(connect(database) for _ in range(3 + READERS))
            migrate(connections[0], tables, {})
        except BaseException:
            for connection in connections:
                connection.close()
            raise
    writer, copier, snapshot, *readers = connections
    checkpoints = Checkpointer(NAME, copier, snapshot, partial(log_bytes, database.path))
    threads = _Threads(checkpoints=checkpoints)
    owners = (
        Writer(NAME, writer, threads.writes, checkpoints),
        *(Reader(NAME, reader, threads.reads) for reader in readers),
    )
    started = evolve(threads, threads=owners)
    started.start()
    return started


def _declare(database: Database, tables: Tables, wanted: dict[str, type]) -> None:
    with mapped(NAME):
        connection = connect(database)
        try:
            migrate(connection, tables, wanted)
        finally:
            connection.close()


def _plan(database: Database, tables: Tables, wanted: dict[str, type]) -> tuple[str, ...]:
    with mapped(NAME):
        return planned(database, tables, wanted)


def from_url(url: BackendUrl) -> SqliteBackend:
    """Make the backend that a URL names."""
    url.check_options({"synchronous", "busy_timeout", "prefix"})
    if url.authority != "" or len(url.path) < len("/x"):
        raise url.expected("sqlite:///flows.db (relative)", "sqlite:////var/lib/flows.db (absolute)")
    path = url.file_path(url.path[1:])
    if path == ":memory:":
        raise url.refuse("names no file; for a store in memory use memory://")
    return SqliteBackend(
        path,
        synchronous=url.options.get("synchronous", "full").lower(),
        busy_timeout=url.seconds("busy_timeout", timedelta(seconds=10)),
        prefix=url.prefix(),
    )
