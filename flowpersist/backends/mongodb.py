"""A store in MongoDB: durable on a majority of a replica set, for any number of processes on any number of machines.

::

    mongodb://user:password@host1,host2/flows?replicaSet=rs0        the database "flows"; without one, "flowpersist"
    mongodb+srv://user:password@cluster.example.net/flows

Of the URL's options ours are ``prefix`` (what the collections' names begin with) and ``allow_unsafe_ferretdb`` (``on``
for trials with FerretDB, whose updates are not atomic); all others go to the driver. Whatever the other options say,
writes are acknowledged once a majority of the set has them in its journal, and reads go to the primary.

The server's clock can only be sampled (see ``_mongodb/clock.py``): a write within a round trip of its deadline may be
accepted or refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta
from typing import Any, Final
from urllib.parse import unquote

from attrs import frozen
from pymongo import AsyncMongoClient
from pymongo.errors import PyMongoError
from pymongo.uri_parser import parse_uri

from flowpersist.backends._clock import timed
from flowpersist.backends._home import Home, Reach
from flowpersist.backends._joining import NoTransactions
from flowpersist.backends._matching import Selection, check_put, check_refs, selection
from flowpersist.backends._mongodb import changes, client, pages, reading, records, several
from flowpersist.backends._mongodb.bodies import LARGEST_BODY, sweep
from flowpersist.backends._mongodb.clock import ServerClock
from flowpersist.backends._mongodb.context import Abilities, StoreContext
from flowpersist.backends._mongodb.errors import NAME, mapped
from flowpersist.backends._mongodb.pools import PoolWatch
from flowpersist.backends._mongodb.schema import Server, ask_server, migrate, pending, tell_time
from flowpersist.backends._mongodb.underway import Underway
from flowpersist.backends._options import check_options
from flowpersist.backends._outcomes import check_body
from flowpersist.backends._putting import PutResult, check_puts, put_each
from flowpersist.backends._threads import uninterrupted
from flowpersist.backends._url import PREFIX, SETTING, BackendUrl, check_prefix
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
from flowpersist.errors import BackendUnavailable, ConfigurationError
from flowpersist.errors.arguments import mistyped

__all__ = ["MongodbBackend", "from_url"]

OPTIONS: Final = frozenset({"prefix", "allow_unsafe_ferretdb"})
_DATABASE: Final = re.compile(r'[^/\\. "$*<>:|?\0]{1,63}')
_ALWAYS: Final = frozenset({Capability.DURABLE, Capability.MULTI_PROCESS, Capability.MIGRATIONS, Capability.BODY_LIMIT})


@frozen(eq=False)
class _Opened:
    """What an open backend holds."""

    client: client.Client
    context: StoreContext
    server: Server


class MongodbBackend(NoTransactions):
    """Records in three collections of a MongoDB database.

    ``source`` is a URL or a client (PyMongo's ``AsyncMongoClient`` or motor's ``AsyncIOMotorClient``), which is used as
    it is and never closed. ``client_class`` makes the client of a URL. ``database`` takes precedence over the one in
    the URL. ``capabilities`` names notifications once the backend is open, where the server has them.
    """

    name: str = NAME

    def __init__(
        self,
        source: str | Any,  # noqa: ANN401 - a client of either driver
        *,
        database: str | None = None,
        prefix: str = PREFIX,
        allow_unsafe_ferretdb: bool = False,
        client_class: client.ClientFactory = AsyncMongoClient,
        clock_offset: timedelta = timedelta(0),
    ) -> None:
        check_options(
            database=database,
            prefix=prefix,
            allow_unsafe_ferretdb=allow_unsafe_ferretdb,
            client_class=client_class,
            clock_offset=clock_offset,
        )
        if not isinstance(source, str) and not callable(getattr(source, "get_database", None)):
            mistyped("source", "a URL, or a client of pymongo or motor", source)
        if database is not None and not _DATABASE.fullmatch(database):
            message = "Invalid database: expected a name of 1 to 63 characters that MongoDB allows"
            raise ConfigurationError(message, SETTING)
        self.capabilities: frozenset[Capability] = _ALWAYS
        self.clock_offset = clock_offset
        self.largest_body = LARGEST_BODY
        self._source = source
        self._database = database
        self._prefix = check_prefix(prefix)
        self._allow_ferretdb = allow_unsafe_ferretdb
        self._client_class = client_class
        self._underway = Underway()
        self._home = Home(NAME)
        self._opened: _Opened | None = None
        #: What the client that was made here tells of its connections.
        self._watch: PoolWatch | None = None

    async def open(self, schema: Sequence[NamespaceSchema]) -> None:
        """See ``StorageBackend``. One index serves all attributes, so the declared ones need no index of their own.

        Raises ``UnsupportedVersion`` for the schema of a later release, ``BackendUnavailable`` for a server without the
        guarantees that the store needs.
        """
        del schema
        await uninterrupted(self._open())

    async def _open(self) -> None:
        async with self._home.opening() as first:
            if not first:
                return
            self._underway = Underway()
            self._home.check_client(self._source)
            connected = self._connect()
            try:
                opened = await self._prepare(connected)
            except BaseException:
                await self._disconnect(connected)
                raise
            self.capabilities = _ALWAYS | ({Capability.NOTIFICATIONS} if opened.server.replica_set else set())
            self._opened = opened

    def _connect(self) -> client.Client:
        with mapped():
            if isinstance(self._source, str):
                self._watch = PoolWatch()
                return _connected(self._source, self._client_class, self._watch)
            given: client.Client = self._source
            return given

    async def _disconnect(self, connected: client.Client) -> None:
        if isinstance(self._source, str):
            await client.close(connected)

    async def _prepare(self, connected: client.Client) -> _Opened:
        server = await ask_server(connected, allow_ferretdb=self._allow_ferretdb)
        with mapped():
            store = client.collections(connected, self._database, self._prefix)
        await migrate(store)
        clock = ServerClock(lambda: tell_time(connected), self._underway.background)

        async def now() -> datetime:
            return await clock.now() + self.clock_offset

        await sweep(store, await now())
        able = not server.ferretdb
        abilities = Abilities(projects=able, looks_up=able, finds_lists=able)
        return _Opened(connected, StoreContext(store, now, self._underway, abilities), server)

    async def close(self) -> None:
        """See ``StorageBackend``. Waits for what is under way; a client that was given stays open."""
        await uninterrupted(self._close())

    async def _close(self) -> None:
        async with self._home.closing() as reach:
            opened, self._opened = self._opened, None
            if opened is not None and reach is Reach.ALL:
                opened.context.watch.close()
                await self._underway.drained()
                await self._disconnect(opened.client)

    async def plan(self, schema: Sequence[NamespaceSchema]) -> tuple[str, ...]:
        """See ``Migrating``. The statements are commands as ``db.runCommand`` takes them, in JSON."""
        del schema
        self._home.check_free()
        connected = self._connect() if self._opened is None else self._opened.client
        try:
            with mapped():
                store = client.collections(connected, self._database, self._prefix)
            return tuple(json.dumps(command) for command in await pending(store))
        finally:
            if self._opened is None:
                await self._disconnect(connected)

    async def get(self, ref: RecordRef, *, body: bool = True) -> Read:
        """See ``StorageBackend``."""
        opened = self._ready()
        return await self._underway.uninterrupted(reading.read(opened.context, ref, body=body))

    async def get_many(self, refs: Sequence[RecordRef], *, body: bool = True) -> Reads:
        """See ``StorageBackend``."""
        check_refs(refs)
        opened = self._ready()
        found = await self._underway.uninterrupted(several.read_all(opened.context, tuple(refs), body=body))
        return Reads(found, await opened.context.now())

    async def put(
        self,
        ref: RecordRef,
        change: RecordChange,
        *,
        if_revision: int | None = None,
        not_after: datetime | None = None,
    ) -> Written:
        """See ``StorageBackend``. If cancelled, the write still finishes."""
        check_put(if_revision, not_after)
        opened = self._ready()
        check_body(NAME, ref, change.body, self.largest_body)
        return await self._underway.uninterrupted(records.put(opened.context, ref, change, if_revision, not_after))

    async def put_many(self, puts: Sequence[Put]) -> tuple[PutResult, ...]:
        """See ``StorageBackend``. Some at the same time: no command of the server's tells of several updates which of
        them it has made.
        """
        check_puts(puts)
        self._ready()
        return await put_each(self.put, puts)

    async def delete(self, ref: RecordRef, *, if_revision: int | None = None) -> bool:
        """See ``StorageBackend``. If cancelled, the deletion still finishes."""
        check_put(if_revision)
        opened = self._ready()
        return await self._underway.uninterrupted(records.delete(opened.context, ref, if_revision))

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
        opened = self._ready()
        return await self._underway.uninterrupted(pages.page(opened.context, asked))

    async def purge(self, namespace: str, where: Where, *, limit: int) -> int:
        """See ``StorageBackend``. Deletes in batches, then sweeps orphans if a sweep is due (see
        ``_mongodb/bodies.py``).
        """
        asked = selection(namespace, where, "key", limit, None, False)
        opened = self._ready()
        return await self._underway.uninterrupted(_purge(opened.context, asked))

    def changes(self, namespace: str) -> AbstractAsyncContextManager[AsyncIterator[str]]:
        """See ``Notifying``. Only if ``capabilities`` names it, which a single server's does not."""
        opened = self._ready()
        if Capability.NOTIFICATIONS not in self.capabilities:
            raise BackendUnavailable("a standalone mongodb server has no change streams; use a replica set", NAME)
        return changes.changes(opened.context.store, namespace)

    async def ping(self) -> BackendHealth:
        """See ``StorageBackend``."""
        opened = self._ready()
        _, latency = await timed(self._underway.uninterrupted(tell_time(opened.client)))
        now = await opened.context.now()
        use = None if self._watch is None else self._watch.use()
        return BackendHealth(NAME, now, latency, opened.server.warnings, use)

    def _ready(self) -> _Opened:
        opened = self._opened
        self._home.check()
        assert opened is not None  # noqa: S101 - set where it is open
        return opened


def _connected(url: str, factory: client.ClientFactory, watch: PoolWatch) -> client.Client:
    try:
        return client.connect(url, factory, watch)
    except (ValueError, OSError):
        # Not chained as the cause: the driver's message may hold a part of the URL.
        message = (
            "the mongodb URL is malformed: check its port and files, and percent-encode special characters (@ is %40)"
        )
        raise ConfigurationError(message, SETTING) from None


async def _purge(context: StoreContext, asked: Selection) -> int:
    purged = await pages.purge(context, asked)
    await sweep(context.store, await context.now())
    return purged


def from_url(url: BackendUrl) -> MongodbBackend:
    """Make the backend that a URL names."""
    url.check_server(f"{url.scheme}://user:password@host/database")
    theirs = url.without(OPTIONS)
    if url.scheme == "mongodb":
        # The driver's parser would query DNS for a mongodb+srv URL.
        _check(url, theirs)
    database = unquote(url.path[1:]) or client.DATABASE
    return MongodbBackend(
        theirs,
        database=database,
        prefix=url.prefix(),
        allow_unsafe_ferretdb=url.flag("allow_unsafe_ferretdb", default=False),
    )


def _check(url: BackendUrl, text: str) -> None:
    try:
        parse_uri(text, validate=True, warn=False)
    except (PyMongoError, ValueError, OSError) as error:
        # OSError: a certificate file is missing. Not chained as the cause: the driver's message may hold a part of the
        # URL.
        name = type(error).__name__
        why = (
            f"was rejected by the driver ({name}): check its options, and percent-encode special characters (@ is %40)"
        )
        raise url.refuse(why) from None
