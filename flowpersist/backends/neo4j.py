"""A store in a Neo4j database: records as nodes, and runs, tools and tenants as nodes that they are related to.

::

    neo4j://user:password@host:7687/database?prefix=flowpersist
    bolt://host    without routing; +s for TLS, +ssc for TLS with a certificate that is not checked

Options of ours: ``prefix`` (what labels, relationships, constraints and indexes begin with), ``graph`` (on, off),
``pool_size`` (connections), ``pool_timeout``, ``connect_timeout`` and ``timeout`` (seconds: for a connection to become
free, to be made, and for a statement), ``largest_body`` (bytes; 32 MiB suit a server of 512 MB of heap). The rest of a
``neo4j`` URL's options is the driver's routing context; ``bolt`` has none. Needs Neo4j 5.26 or later, of any edition.

In a cluster, reads go to the leader as writes do: a replica's data may be out of date.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Final

from attrs import evolve
from neo4j import AsyncDriver, AsyncManagedTransaction, AsyncTransaction

from flowpersist.backends._clock import timed
from flowpersist.backends._home import Home, Reach
from flowpersist.backends._matching import check_put, check_refs, indexed_attributes, selection
from flowpersist.backends._neo4j.graph import Graph, Relation, default_graph
from flowpersist.backends._neo4j.link import Link, Sessions, Within
from flowpersist.backends._neo4j.naming import Names
from flowpersist.backends._neo4j.rows import NAME
from flowpersist.backends._neo4j.schema import POPULATION, migrate, missing
from flowpersist.backends._neo4j.several import put_many
from flowpersist.backends._neo4j.store import Store
from flowpersist.backends._neo4j.target import ConnectionLimits, Target, check_at, connected, target_of
from flowpersist.backends._options import check_options
from flowpersist.backends._outcomes import check_body
from flowpersist.backends._putting import PutResult, apart, check_puts
from flowpersist.backends._threads import uninterrupted
from flowpersist.backends._url import PREFIX, BackendUrl, check_prefix
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
from flowpersist.errors.arguments import check_instance

__all__ = ["Neo4jBackend", "Relation", "from_url"]

_MICROSECOND: Final = timedelta(microseconds=1)
_OPTIONS: Final = ("prefix", "graph", "pool_size", "pool_timeout", "connect_timeout", "timeout", "largest_body")
#: Suits a server with 512 MB of heap, the smallest sensible one: the server holds about ten copies of a body while it
#: writes it.
LARGEST_BODY: Final = 32 * 1024 * 1024
#: Each transaction takes 2 MiB of the server's memory when it begins, and more transactions at a time are not faster.
POOL_SIZE: Final = 20
_LARGEST_SETTING: Final = range(1, 10**9)


class Neo4jBackend:
    """Records in Neo4j. ``source`` is a URL, or an ``AsyncDriver`` of yours, which is not closed.

    ``database`` is that of a driver given (a URL has it as its path); None is the user's home database. ``graph`` maps
    attributes to what they are in the graph: None is runs, tools and tenants, an empty mapping none at all. All
    processes on one store should have the same. At most ``pool_size`` statements run at a time, each no longer than
    ``timeout``; further ones wait for ``pool_timeout``. ``connect_timeout`` is for the driver of a URL. A server's
    memory bounds ``largest_body``.
    """

    name: str = NAME
    capabilities: frozenset[Capability] = frozenset(
        {
            Capability.BODY_LIMIT,
            Capability.DURABLE,
            Capability.MIGRATIONS,
            Capability.MULTI_PROCESS,
            Capability.TRANSACTIONS,
        }
    )

    def __init__(
        self,
        source: str | AsyncDriver,
        *,
        database: str | None = None,
        prefix: str = PREFIX,
        graph: Mapping[str, Relation] | None = None,
        pool_size: int = POOL_SIZE,
        pool_timeout: timedelta = timedelta(seconds=10),
        connect_timeout: timedelta = timedelta(seconds=5),
        timeout: timedelta = timedelta(seconds=30),
        largest_body: int = LARGEST_BODY,
        clock_offset: timedelta = timedelta(0),
    ) -> None:
        check_instance(source, "source", (str, AsyncDriver), "a URL, or a driver of neo4j")
        check_options(
            database=database,
            prefix=prefix,
            graph=graph,
            pool_size=pool_size,
            pool_timeout=pool_timeout,
            connect_timeout=connect_timeout,
            timeout=timeout,
            clock_offset=clock_offset,
        )
        self._names = Names(check_prefix(prefix))
        self._graph = Graph(default_graph(self._names) if graph is None else graph, self._names)
        self._store = Store(self._names, self._graph)
        self._limits = ConnectionLimits(pool_size, pool_timeout, connect_timeout, timeout)
        self._target: Target | AsyncDriver = target_of(source) if isinstance(source, str) else source
        self._database = database or (self._target.database if isinstance(self._target, Target) else None)
        if type(largest_body) is not int or largest_body < 1:
            raise ConfigurationError("Invalid largest_body: expected a number of bytes", "largest_body")
        self.largest_body = largest_body
        self.clock_offset = clock_offset
        self._indexed: dict[str, dict[str, type]] = {}
        self._driver: AsyncDriver | None = None
        self._link: Link | None = None
        self._home = Home(NAME)
        self._under_way = 0
        self._idle = asyncio.Event()

    # ---------------------------------------------------------------------------------------------- the connection

    async def open(self, schema: Sequence[NamespaceSchema]) -> None:
        """See ``StorageBackend``. Raises ``UnsupportedVersion`` for the schema of a later release."""
        await uninterrupted(self._open(schema))

    async def _open(self, schema: Sequence[NamespaceSchema]) -> None:
        async with self._home.opening() as first:
            declared = {namespace.name: dict(namespace.indexed) for namespace in schema}
            if not first and declared.items() <= self._indexed.items():
                return
            driver = self._driver or self._new_driver()
            try:
                link = self._link or self._sessions(driver)
                patient = self._sessions(driver, max(self._limits.operation, POPULATION))
                await migrate(link, patient, self._names, indexed_attributes(schema), self._graph.relations)
            except BaseException:
                if self._driver is None:
                    await self._let_go(driver)
                raise
            if first:
                self._idle = asyncio.Event()
            self._driver, self._link = driver, link
            self._indexed.update(declared)

    async def close(self) -> None:
        """See ``StorageBackend``. Waits for what is under way."""
        await uninterrupted(self._close())

    async def _close(self) -> None:
        async with self._home.closing() as reach:
            driver, self._driver = self._driver, None
            link, self._link = self._link, None
            if driver is None or reach is not Reach.ALL:
                return
            while self._under_way:
                self._idle.clear()
                await self._idle.wait()
            if isinstance(link, Sessions):
                await link.ended()
            await self._let_go(driver)

    def _new_driver(self) -> AsyncDriver:
        return connected(self._target, self._limits) if isinstance(self._target, Target) else self._target

    def _sessions(self, driver: AsyncDriver, operation: timedelta | None = None) -> Sessions:
        return Sessions(driver, self._database, evolve(self._limits, operation=operation or self._limits.operation))

    async def _let_go(self, driver: AsyncDriver) -> None:
        if driver is not self._target:
            await driver.close()

    @contextmanager
    def _using(self) -> Iterator[Link]:
        """Give what runs statements, for one operation; ``close`` waits until the operation has ended."""
        self._home.check()
        assert self._link is not None  # noqa: S101 - set where it is open
        self._under_way += 1
        try:
            yield self._link
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._idle.set()

    # ---------------------------------------------------------------------------------------------- the operations

    async def get(self, ref: RecordRef, *, body: bool = True) -> Read:
        """See ``StorageBackend``."""
        with self._using() as link:
            return await self._store.get(link, ref, self._offset, body=body)

    async def get_many(self, refs: Sequence[RecordRef], *, body: bool = True) -> Reads:
        """See ``StorageBackend``."""
        check_refs(refs)
        with self._using() as link:
            return await self._store.get_many(link, tuple(refs), self._offset, body=body)

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
        check_body(NAME, ref, change.body, self.largest_body)
        with self._using() as link:
            return await self._store.put(link, ref, change, if_revision, not_after, self._offset)

    async def put_many(self, puts: Sequence[Put]) -> tuple[PutResult, ...]:
        """See ``StorageBackend``. One round trip for those of each form that have no revision and whose attributes are
        no nodes of the graph; the others some at the same time.
        """
        check_puts(puts)
        results: dict[int, PutResult] = {}
        taken = apart(results, puts, lambda it: check_body(NAME, it.ref, it.change.body, self.largest_body))
        with self._using() as link:
            done = await put_many(self._store, link, [puts[place] for place in taken], self._offset)
        results.update(zip(taken, done, strict=True))
        return tuple(results[place] for place in range(len(puts)))

    async def delete(self, ref: RecordRef, *, if_revision: int | None = None) -> bool:
        """See ``StorageBackend``."""
        check_put(if_revision)
        with self._using() as link:
            return await self._store.delete(link, ref, if_revision)

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
        with self._using() as link:
            return await self._store.page(link, asked, self._indexed.get(namespace, {}), self._offset)

    async def purge(self, namespace: str, where: Where, *, limit: int) -> int:
        """See ``StorageBackend``. Deletes in batches, each a transaction."""
        asked = selection(namespace, where, "key", limit, None, False)
        with self._using() as link:
            return await self._store.purge(link, asked, self._indexed.get(namespace, {}))

    async def ping(self) -> BackendHealth:
        """See ``StorageBackend``."""
        with self._using() as link:
            now, latency = await timed(self._store.now(link, self._offset))
            return BackendHealth(NAME, now, latency, pool=link.use() if isinstance(link, Sessions) else None)

    @property
    def _offset(self) -> int:
        return self.clock_offset // _MICROSECOND

    # ------------------------------------------------------------------------------------------ the optional powers

    async def plan(self, schema: Sequence[NamespaceSchema]) -> tuple[str, ...]:
        """See ``Migrating``. Cypher; ``open`` waits for the indexes and notes the version after it."""
        return await uninterrupted(self._plan(schema))

    async def _plan(self, schema: Sequence[NamespaceSchema]) -> tuple[str, ...]:
        declared = indexed_attributes(schema)
        self._home.check_free()
        driver = self._driver or self._new_driver()
        try:
            link = self._link or self._sessions(driver)
            statements = await missing(link, self._names, declared, self._graph.relations)
            return tuple(f"{statement.rstrip()};" for statement in statements)
        finally:
            if driver is not self._driver:
                await self._let_go(driver)

    def within(self, transaction: AsyncTransaction | AsyncManagedTransaction) -> StorageBackend:
        """See ``Joining``. ``transaction`` may be of any session on the same database.

        A record that is put stays locked until the transaction ends, so other writers wait. Deadlines are checked, and
        times taken, at the moment of the put. Any error other than ``RevisionConflict`` and ``DeadlinePassed`` has
        ended the transaction.
        """
        self._home.check()
        kinds = (AsyncTransaction, AsyncManagedTransaction)
        check_instance(transaction, "transaction", kinds, "a transaction of neo4j")
        return _Joined(self, transaction)


class _Joined(Neo4jBackend):
    """The same store within a transaction of the caller's."""

    def __init__(self, backend: Neo4jBackend, transaction: AsyncTransaction | AsyncManagedTransaction) -> None:
        vars(self).update(vars(backend))
        self._link = Within(transaction)
        self._idle = asyncio.Event()
        self._under_way = 0

    async def open(self, schema: Sequence[NamespaceSchema]) -> None:
        """Do nothing: the store is open as long as the transaction is."""

    async def close(self) -> None:
        """Do nothing: the transaction is the caller's."""


def from_url(url: BackendUrl) -> Neo4jBackend:
    """Make the backend that a URL names."""
    check_at(url.text)
    url.check_server(f"{url.scheme}://user:password@host:7687/database")
    if url.scheme.startswith("bolt"):
        url.check_options(_OPTIONS)
    return Neo4jBackend(
        url.without(_OPTIONS),
        prefix=url.prefix(),
        graph=None if url.flag("graph", default=True) else {},
        pool_size=url.number("pool_size", POOL_SIZE, range(1, 10_001)),
        pool_timeout=url.seconds("pool_timeout", timedelta(seconds=10)),
        connect_timeout=url.seconds("connect_timeout", timedelta(seconds=5)),
        timeout=url.seconds("timeout", timedelta(seconds=30)),
        largest_body=url.number("largest_body", LARGEST_BODY, _LARGEST_SETTING),
    )
