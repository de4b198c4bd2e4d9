"""A store in a PostgreSQL database: durable, for any number of processes on any number of machines.

::

    postgresql://user:password@host/database?prefix=flowpersist&pool_size=10

The URL's own options, all others go to the driver, and from there to the server (``sslmode``, ``target_session_attrs``,
``search_path``, ``synchronous_commit``, …):

``prefix``
    What the names of tables and indexes begin with: ``flowpersist``.
``pool_size``
    At most so many connections: 10. They are made when they are needed.
``acquire_timeout``, ``connect_timeout``, ``command_timeout``
    Seconds to wait for a free connection (30), for a new one (10), and for the answer to a statement (60).
``statement_cache``
    ``off`` behind a pooler that gives each transaction another connection, such as pgbouncer.
``notify``
    ``on`` tells listeners of each change; then the server commits one write after the other.

Transactions, ``within``: what is put is there for others once the user's own transaction has committed. Until then its
record is locked, and others who write it wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from datetime import timedelta
from typing import Final, TypeVar

import asyncpg
from asyncpg.pool import PoolConnectionProxy
from attrs import evolve

from flowpersist.backends._home import Home, Reach
from flowpersist.backends._joining import aborted, not_begun
from flowpersist.backends._matching import indexed_attributes
from flowpersist.backends._options import check_options
from flowpersist.backends._postgres.connections import Connections, Options
from flowpersist.backends._postgres.errors import mapped
from flowpersist.backends._postgres.layout import NAME, Layout, Link
from flowpersist.backends._postgres.listening import Listener
from flowpersist.backends._postgres.schema import check_server, migrate, pending
from flowpersist.backends._postgres.verbs import Known, Verbs
from flowpersist.backends._threads import uninterrupted
from flowpersist.backends._url import PREFIX, BackendUrl
from flowpersist.backends.base import BackendHealth, Capability, NamespaceSchema, StorageBackend
from flowpersist.errors import ConfigurationError, StorageError
from flowpersist.errors.arguments import check_instance

__all__ = ["PostgresBackend", "from_url"]

T = TypeVar("T")
_OURS: Final = (
    "prefix",
    "pool_size",
    "acquire_timeout",
    "connect_timeout",
    "command_timeout",
    "statement_cache",
    "notify",
)
#: Options of the driver that name files, read with each connection: a missing one would look like a missing server.
_FILES: Final = ("sslrootcert", "sslcert", "sslkey", "sslcrl")
_ALWAYS: Final = frozenset(
    {
        Capability.DURABLE,
        Capability.MULTI_PROCESS,
        Capability.TRANSACTIONS,
        Capability.MIGRATIONS,
        Capability.BODY_LIMIT,
    }
)


class PostgresBackend(Verbs):
    """Records in the tables of a PostgreSQL database, in the schema that ``search_path`` names first.

    ``source`` is a URL for the driver or a pool of the user's, which stays open: the options of connections are then
    its own. Make it with a ``reset`` that does nothing where nothing else needs it: the driver's own costs a round trip
    for each operation.
    """

    capabilities: frozenset[Capability]

    def __init__(
        self,
        source: str | asyncpg.Pool,
        *,
        prefix: str = PREFIX,
        pool_size: int = 10,
        acquire_timeout: timedelta = timedelta(seconds=30),
        connect_timeout: timedelta = timedelta(seconds=10),
        command_timeout: timedelta = timedelta(seconds=60),
        statement_cache: bool = True,
        notify: bool = False,
        clock_offset: timedelta = timedelta(0),
    ) -> None:
        check_instance(source, "source", (str, asyncpg.Pool), "a URL, or a pool of asyncpg")
        check_options(
            prefix=prefix,
            pool_size=pool_size,
            acquire_timeout=acquire_timeout,
            connect_timeout=connect_timeout,
            command_timeout=command_timeout,
            statement_cache=statement_cache,
            notify=notify,
            clock_offset=clock_offset,
        )
        super().__init__(Layout(prefix), Known(), notify=notify, clock_offset=clock_offset)
        dsn, given = (source, None) if isinstance(source, str) else ("", source)
        options = Options(dsn, pool_size, acquire_timeout, connect_timeout, command_timeout, statement_cache)
        self.capabilities = _ALWAYS | ({Capability.NOTIFICATIONS} if notify else set())
        self._connections = Connections(options, given)
        self._home = Home(NAME)

    async def open(self, schema: Sequence[NamespaceSchema]) -> None:
        """See ``StorageBackend``. Raises ``UnsupportedVersion`` for the schema of a later release."""
        await uninterrupted(self._open(schema))

    async def _open(self, schema: Sequence[NamespaceSchema]) -> None:
        async with self._home.opening() as first:
            if first:
                self._home.check_client(self._connections.given)
                self._connections = Connections(self._connections.options, self._connections.given)
                self._connections.start()
            try:
                await self._migrated(schema)
            except BaseException:
                if first:
                    await self._connections.stop()
                raise
            self._known.indexed.update({one.name: dict(one.indexed) for one in schema})

    async def _migrated(self, schema: Sequence[NamespaceSchema]) -> None:
        async with self._connections.lent() as connection:
            with mapped(connection):
                self._known.schema = await check_server(connection, self._layout)
                await migrate(connection, self._layout, indexed_attributes(schema), self._known.schema)

    async def ping(self) -> BackendHealth:
        """See ``StorageBackend``."""
        seen = await super().ping()
        return evolve(seen, pool=self._connections.use())

    async def close(self) -> None:
        """See ``StorageBackend``. Waits for what is under way."""
        await uninterrupted(self._close())

    async def _close(self) -> None:
        async with self._home.closing() as reach:
            if reach is Reach.ALL:
                await self._connections.stop()

    async def plan(self, schema: Sequence[NamespaceSchema]) -> tuple[str, ...]:
        """See ``Migrating``."""
        connections = Connections(evolve(self._connections.options, pool_size=1), self._connections.given)
        connections.start()
        try:
            async with connections.lent() as connection:
                with mapped(connection):
                    await check_server(connection, self._layout)
                    statements = await pending(connection, self._layout, indexed_attributes(schema))
                    return tuple(f"{statement.rstrip()};" for statement in statements)
        finally:
            await connections.stop()

    def changes(self, namespace: str) -> AbstractAsyncContextManager[AsyncIterator[str]]:
        """See ``Notifying``. Listening takes a connection of its own, which must not be to a pooler of
        transactions.
        """
        return self._changes(namespace)

    @asynccontextmanager
    async def _changes(self, namespace: str) -> AsyncIterator[AsyncIterator[str]]:
        self._home.check()
        if not self._notify:
            raise ConfigurationError(
                "changes are not notified; put notify=on into the URL, for all who write", "notify"
            )
        async with self._connections.apart() as connection:
            listener = Listener(connection, self._layout.channel(self._known.schema, namespace))
            await listener.start()
            try:
                async with aclosing(listener.keys()) as keys:
                    yield keys
            finally:
                await listener.stop()

    def within(self, transaction: Link) -> StorageBackend:
        """See ``Joining``. Takes the connection of asyncpg on which the transaction was begun."""
        self._home.check()
        check_instance(transaction, "transaction", (asyncpg.Connection, PoolConnectionProxy), "a connection of asyncpg")
        _check_begun(transaction)
        joined = _Joined(self._layout, self._known, notify=self._notify, clock_offset=self.clock_offset)
        joined.connection, joined.home, joined.turn = transaction, self._home, asyncio.Lock()
        return joined

    async def _run(self, action: Callable[[Link], Awaitable[T]], *, writes: bool = False) -> T:
        self._home.check()
        return await self._connections.run(action, writes=writes)


class _Joined(Verbs):
    """The same store on the user's own connection, inside their transaction."""

    capabilities: frozenset[Capability] = _ALWAYS
    connection: Link
    home: Home
    #: A connection does one thing at a time.
    turn: asyncio.Lock

    async def open(self, schema: Sequence[NamespaceSchema]) -> None:
        """Nothing: it is open."""

    async def close(self) -> None:
        """Nothing: the connection is the user's."""

    async def _run(self, action: Callable[[Link], Awaitable[T]], *, writes: bool = False) -> T:
        del writes
        self.home.check()
        _check_begun(self.connection)
        try:
            # Before the user's commit nothing is written, so that no outcome is in doubt.
            async with self.turn:
                with mapped(self.connection):
                    return await action(self.connection)
        except StorageError as error:
            # An earlier statement of the user's has failed, too.
            spoilt = isinstance(error.__cause__, asyncpg.InFailedSQLTransactionError)
            found = aborted(error, spoilt=spoilt)
            if found is error:
                raise
            raise found from error


def _check_begun(connection: Link) -> None:
    # Of a connection that is closed the server has rolled back what was begun, which the driver's errors tell.
    if not connection.is_closed() and not connection.is_in_transaction():
        raise not_begun(NAME, "enter connection.transaction()")


def from_url(url: BackendUrl) -> PostgresBackend:
    """Make the backend that a URL names."""
    url.check_server("postgresql://user:password@host:5432/database", hostless=True)
    url.check_ports("port")
    url.check_files(_FILES)
    return PostgresBackend(
        url.without(_OURS),
        prefix=url.prefix(),
        pool_size=url.number("pool_size", 10, range(1, 1001)),
        acquire_timeout=url.seconds("acquire_timeout", timedelta(seconds=30)),
        connect_timeout=url.seconds("connect_timeout", timedelta(seconds=10)),
        command_timeout=url.seconds("command_timeout", timedelta(seconds=60)),
        statement_cache=url.flag("statement_cache", default=True),
        notify=url.flag("notify", default=False),
    )
