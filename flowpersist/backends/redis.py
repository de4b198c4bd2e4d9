"""A store on a Redis server or cluster: as fast as the network, for any number of processes on any number of machines.

``redis://host:6379/0``, ``rediss://`` with TLS. Options of our own in the URL; redis-py takes all others::

    prefix=flowpersist   what all keys begin with, after a brace
    cluster=off          on: the server is a node of a cluster
    shards               parts of a namespace that a cluster may keep on different nodes: 1, on a cluster 16. Fixed
                         when the store is first opened; later the stored number holds
    pool_size=10         connections to each server
    pool_timeout=5       seconds to wait for one of them
    notify=on            publish the keys of changed records

A server that loses its memory loses records; docs/reference/backend-redis.md lists the settings that prevent it. A
failover to a replica may lose acknowledged writes, so the guarantees hold as long as the primary lives.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from flowpersist.backends._clock import timed
from flowpersist.backends._damage import left_standing
from flowpersist.backends._home import Home, Reach
from flowpersist.backends._joining import NoTransactions
from flowpersist.backends._matching import check_put, check_refs, selection
from flowpersist.backends._options import check_options
from flowpersist.backends._outcomes import check_revision
from flowpersist.backends._pages import One, completed
from flowpersist.backends._putting import PutResult, check_puts
from flowpersist.backends._redis import health
from flowpersist.backends._redis import schema as schemas
from flowpersist.backends._redis.changes import keys, subscribed
from flowpersist.backends._redis.errors import NAME, mapped
from flowpersist.backends._redis.layout import Layout, Tag, server_time
from flowpersist.backends._redis.pages import page
from flowpersist.backends._redis.putting import Putting, standing
from flowpersist.backends._redis.scripts import REMOVE
from flowpersist.backends._redis.several import Replies, commands_of, read_all
from flowpersist.backends._redis.source import Client, OpenStore, Source
from flowpersist.backends._redis.wire import Wire, raised, run
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
    Where,
    Written,
)
from flowpersist.errors import BackendUnavailable
from flowpersist.errors.arguments import check_whole

__all__ = ["RedisBackend", "from_url"]

CLUSTER_SHARDS: Final = 16
#: The largest value that the server accepts by default (proto-max-bulk-len).
LARGEST_BODY: Final = 512 * 1024 * 1024
#: The records that one script removes, while the server runs nothing else.
PURGE_BATCH: Final = 100
#: How often a record is read again that changes while it is read.
LOOKS: Final = 16
OPTIONS: Final = frozenset({"prefix", "cluster", "shards", "pool_size", "pool_timeout", "notify"})
#: Options of the driver that name files, which it reads for each connection: a missing file would look like a missing
#: server.
_FILES: Final = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
#: The driver would read any other path as database 0.
_DATABASE: Final = re.compile(r"/?|/[0-9]{1,9}")
_MISSING: Final = b""
_REMOVED: Final = b"x"


class RedisBackend(NoTransactions):
    """Records on a Redis server or cluster, named by a URL or by a client of redis-py (asyncio).

    A client gives the server's address and its connection settings, and stays the caller's. The backend opens
    connections of its own, at most ``pool_size`` to each server, which read bytes and send nothing twice even if the
    client decodes or retries.
    """

    name: str = NAME
    largest_body: int = LARGEST_BODY

    def __init__(
        self,
        source: str | Client,
        *,
        prefix: str = PREFIX,
        cluster: bool = False,
        shards: int | None = None,
        pool_size: int = 10,
        pool_timeout: timedelta = timedelta(seconds=5),
        notify: bool = True,
        clock_offset: timedelta = timedelta(0),
    ) -> None:
        check_options(
            prefix=prefix,
            cluster=cluster,
            pool_size=pool_size,
            pool_timeout=pool_timeout,
            notify=notify,
            clock_offset=clock_offset,
        )
        if shards is not None:
            check_whole(shards, "shards", most=schemas.MAX_SHARDS)
        self.clock_offset = clock_offset
        self._source = Source(source, cluster, pool_size, pool_timeout.total_seconds())
        self._source.wire()
        self._prefix = check_prefix(prefix)
        self._shards = shards or (CLUSTER_SHARDS if self._source.clustered else 1)
        self._notify = notify
        self.capabilities: frozenset[Capability] = _capabilities(notify=notify, durable=False)
        self._open_store: OpenStore | None = None
        self._home = Home(NAME)

    async def open(self, schema: Sequence[NamespaceSchema]) -> None:
        """See ``StorageBackend``. Raises ``UnsupportedVersion`` for the schema of a later release."""
        await uninterrupted(self._open(schema))

    async def _open(self, schema: Sequence[NamespaceSchema]) -> None:
        async with self._home.opening() as first:
            if not first and self._open_store is not None:
                await schemas.declare(self._open_store.wire, self._open_store.layout, schema)
                return
            wire = self._source.wire()
            try:
                store = await self._started(wire)
                await schemas.declare(wire, store.layout, schema)
            except BaseException:
                await wire.close()
                raise
            self._open_store = store

    async def _started(self, wire: Wire) -> OpenStore:
        with mapped():
            await wire.start()
        server = await health.ask(wire, Layout.schema_key(self._prefix), self.clock_offset)
        server.check_version()
        server.check_role()
        layout = await schemas.migrate(wire, self._prefix, self._shards)
        self.capabilities = _capabilities(notify=self._notify, durable=server.durable)
        return OpenStore(wire, layout)

    async def close(self) -> None:
        """See ``StorageBackend``. Waits for what is under way; a client that was given stays open."""
        await uninterrupted(self._close())

    async def _close(self) -> None:
        async with self._home.closing() as reach:
            store, self._open_store = self._open_store, None
            if store is not None and reach is Reach.ALL:
                await store.settled()
                for connection in store.listening:
                    await connection.disconnect(nowait=True)
                await store.wire.close()

    async def get(self, ref: RecordRef, *, body: bool = True) -> Read:
        """See ``StorageBackend``. One round trip, with the body too."""
        with self._using() as store, mapped():
            for _ in range(LOOKS):
                read = await self._look(store, ref, body=body)
                if read is not None:
                    return read
        raise BackendUnavailable(f"record {ref.key} changed during each of several reads; try again", NAME, True)

    async def _look(self, store: OpenStore, ref: RecordRef, *, body: bool) -> Read | None:
        """The record and its body, both of one revision; None if it changed in between.

        That is rare, because the server runs commands that arrive together without a pause. No transaction: a full
        server refuses even one that only reads.
        """
        commands = [*commands_of(store.layout, ref, body=body), ("TIME",)]
        *replies, now = await store.wire.exchange(store.layout.tag(ref).keys, commands, writing=False)
        found = Replies.of(ref, replies)
        return None if found.torn else Read(found.record(), server_time(raised(now), self.clock_offset))

    async def get_many(self, refs: Sequence[RecordRef], *, body: bool = True) -> Reads:
        """See ``StorageBackend``. One round trip; on a cluster one to each node's shards, at once."""
        check_refs(refs)
        with self._using() as store:
            return Reads(*await self._read_all(store, tuple(refs), body=body))

    async def _read_all(
        self, store: OpenStore, refs: Sequence[RecordRef], *, body: bool = True
    ) -> tuple[tuple[One, ...], datetime]:
        async def again(ref: RecordRef) -> Record | None:
            return (await self.get(ref, body=body)).record

        return await read_all(store.wire, store.layout, refs, self.clock_offset, again, body=body)

    async def put(
        self,
        ref: RecordRef,
        change: RecordChange,
        *,
        if_revision: int | None = None,
        not_after: datetime | None = None,
    ) -> Written:
        """See ``StorageBackend``. One round trip. If cancelled, the write may still happen."""
        check_put(if_revision, not_after)
        with self._using() as store:
            return await self._putting(store).one(Put(ref, change, if_revision, not_after))

    async def put_many(self, puts: Sequence[Put]) -> tuple[PutResult, ...]:
        """See ``StorageBackend``. One round trip; on a cluster one to each node's shards, at once. Several where the
        bodies take more than ``MAX_BODIES_BYTES``. The server may serve others between two of them.
        """
        check_puts(puts)
        with self._using() as store:
            return await self._putting(store).several(puts)

    def _putting(self, store: OpenStore) -> Putting:
        return Putting(store.wire, store.layout, self.clock_offset, self.largest_body, partial(self._channel, store))

    async def delete(self, ref: RecordRef, *, if_revision: int | None = None) -> bool:
        """See ``StorageBackend``."""
        check_put(if_revision)
        with self._using() as store:
            tag = store.layout.tag(ref)
            channel = self._channel(store, ref.namespace)
            expected = b"" if if_revision is None else if_revision
            call = REMOVE.call((tag.keys,), tag.text, channel, ref.key, expected)
            with mapped():
                (outcome,) = await run(store.wire, call, writing=True)
            if outcome not in {_MISSING, _REMOVED}:
                check_revision(NAME, ref, standing(ref, outcome), if_revision)
            return bool(outcome == _REMOVED)

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
        with self._using() as store:
            found = await page(store.wire, store.layout, asked, self.clock_offset)

            async def read(refs: Sequence[RecordRef]) -> Sequence[One]:
                return (await self._read_all(store, refs))[0]

            return await completed(asked, found, read)

    async def purge(self, namespace: str, where: Where, *, limit: int) -> int:
        """See ``StorageBackend``. Deletes in batches. After ``UnknownOutcome`` some records may have been deleted."""
        selection(namespace, where, "key", limit, None, False)
        purged, after = 0, None
        with self._using() as store:
            while purged < limit:
                asked = selection(namespace, where, "key", min(PURGE_BATCH, limit - purged), after, False)
                found = await page(store.wire, store.layout, asked, self.clock_offset)
                left_standing(found.unreadable)
                removed = await self._remove(store, namespace, found.items)
                purged += removed
                if 0 < removed < len(found.items):
                    # Records that changed in between may still match, and are examined again.
                    continue
                if found.next is None:
                    break
                after = found.next
        return purged

    async def _remove(self, store: OpenStore, namespace: str, records: Sequence[Record]) -> int:
        by_tag: dict[Tag, list[str | int]] = {}
        for record in records:
            by_tag.setdefault(store.layout.tag(record.ref), []).extend((record.ref.key, record.revision))
        removed = 0
        for tag, pairs in by_tag.items():
            call = REMOVE.call((tag.keys,), tag.text, self._channel(store, namespace), *pairs)
            with mapped():
                removed += (await run(store.wire, call, writing=True)).count(_REMOVED)
        return removed

    async def ping(self) -> BackendHealth:
        """See ``StorageBackend``."""
        with self._using() as store:
            asking = health.ask(store.wire, Layout.schema_key(self._prefix), self.clock_offset)
            server, latency = await timed(asking)
            return BackendHealth(NAME, server.now, latency, server.warnings(), store.wire.use())

    async def plan(self, schema: Sequence[NamespaceSchema]) -> tuple[str, ...]:
        """See ``Migrating``."""
        wire = self._source.wire()
        try:
            with mapped():
                await wire.start()
            return await schemas.plan(wire, self._prefix, self._shards, schema)
        finally:
            await wire.close()

    @asynccontextmanager
    async def changes(self, namespace: str) -> AsyncIterator[AsyncIterator[str]]:
        """See ``Notifying``. Reports only the writes of backends with ``notify``."""
        with self._using() as store:
            connection = await subscribed(store.wire, store.layout.channel(namespace))
            # It may last for days, so close ends it instead of waiting for it.
            store.listening.add(connection)
        try:
            yield keys(connection)
        finally:
            store.listening.discard(connection)
            await connection.disconnect(nowait=True)

    def _using(self) -> OpenStore:
        """The open store, for a ``with`` block: one operation."""
        store = self._open_store
        self._home.check()
        if store is None:
            raise BackendUnavailable(f"the {NAME} store is not open", NAME)
        return store

    def _channel(self, store: OpenStore, namespace: str) -> bytes:
        return store.layout.channel(namespace) if self._notify else b""


def _capabilities(*, notify: bool, durable: bool) -> frozenset[Capability]:
    always = {Capability.MULTI_PROCESS, Capability.MIGRATIONS, Capability.BODY_LIMIT}
    if notify:
        always.add(Capability.NOTIFICATIONS)
    if durable:
        always.add(Capability.DURABLE)
    return frozenset(always)


def from_url(url: BackendUrl) -> RedisBackend:
    """Make the backend that a URL names."""
    example = f"{url.scheme}://:password@host:6379/0"
    url.check_server(example)
    if not _DATABASE.fullmatch(url.path):
        raise url.expected(f"{example}, with a database number as its path")
    url.check_files(_FILES)
    shards = url.number("shards", 0, range(1, schemas.MAX_SHARDS + 1)) or None
    return RedisBackend(
        url.without(OPTIONS),
        prefix=url.prefix(),
        cluster=url.flag("cluster", default=False),
        shards=shards,
        pool_size=url.number("pool_size", 10, range(1, 10_000)),
        pool_timeout=url.seconds("pool_timeout", timedelta(seconds=5)),
        notify=url.flag("notify", default=True),
    )
