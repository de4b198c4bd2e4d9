"""A store in a directory: a file for each record, durable, for any number of processes on one machine.

For local POSIX file systems: the locks of network file systems are not reliable. Each write is flushed, file and
directory, before it is acknowledged. A new file is written beside the record's and flushed before the record's shard is
locked; only the comparison and the rename happen under the lock. The files are authoritative; ``index.sqlite`` and the
entries that ``index.log`` has not added to it yet serve queries, and are rebuilt if either is missing or outdated. A
backend belongs to the process that opened it: after a fork the child opens its own.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from attrs import evolve, field, frozen

from flowpersist.backends._clock import Clock, host_clock, timed
from flowpersist.backends._damage import left_standing, named
from flowpersist.backends._filesystem.files import NAME, file_errors, locked
from flowpersist.backends._filesystem.index import Entry, FileIndex
from flowpersist.backends._filesystem.layout import INDEX, LOCK, RECORDS, catch_up, planned, prepare
from flowpersist.backends._filesystem.pool import Pool
from flowpersist.backends._filesystem.shards import Shards
from flowpersist.backends._home import Home, Reach
from flowpersist.backends._joining import NoTransactions
from flowpersist.backends._matching import Selection, check_put, check_refs, indexed_attributes, position_of, selection
from flowpersist.backends._options import check_options
from flowpersist.backends._outcomes import unreadable
from flowpersist.backends._pages import One, fitting, one_of, split, still_there
from flowpersist.backends._putting import PutResult, check_puts, ended
from flowpersist.backends._sql import mapped
from flowpersist.backends._threads import uninterrupted
from flowpersist.backends._url import BackendUrl
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
    Unreadable,
    Where,
    Written,
)
from flowpersist.errors import BackendUnavailable, IntegrityError, PersistenceError

__all__ = ["FilesystemBackend", "from_url"]

T = TypeVar("T")
log = logging.getLogger("flowpersist.backends.filesystem")
PURGE_BATCH: Final = 1000


@frozen(eq=False)
class _Opened:
    """What an open store holds."""

    shards: Shards
    indexed: dict[str, dict[str, type]] = field(factory=dict)
    pool: Pool[_Opened] = field(init=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "pool", Pool(self))

    def stop(self) -> None:
        """Wait for running operations, and close the index."""
        self.pool.stop()
        self.shards.index.close()


class FilesystemBackend(NoTransactions):
    """Records in a directory, which is created with access for its owner alone.

    ``busy_timeout`` bounds the wait for another writer of the same shard; after it ``BackendUnavailable`` is retryable.
    """

    name: str = NAME
    capabilities: frozenset[Capability] = frozenset(
        {Capability.DURABLE, Capability.MULTI_PROCESS, Capability.MIGRATIONS}
    )

    def __init__(
        self,
        directory: str | Path,
        *,
        busy_timeout: timedelta = timedelta(seconds=10),
        clock: Clock = host_clock,
        clock_offset: timedelta = timedelta(0),
    ) -> None:
        check_options(directory=directory, busy_timeout=busy_timeout, clock=clock, clock_offset=clock_offset)
        self.clock_offset = clock_offset
        self._clock = clock
        self._directory = Path(directory)
        self._patience = busy_timeout
        self._opened: _Opened | None = None
        self._home = Home(NAME)

    async def open(self, schema: Sequence[NamespaceSchema]) -> None:
        """See ``StorageBackend``. Raises ``UnsupportedVersion`` for the format of a later release."""
        await uninterrupted(self._open(schema))

    async def _open(self, schema: Sequence[NamespaceSchema]) -> None:
        async with self._home.opening() as first:
            opened = await asyncio.to_thread(self._start) if first or self._opened is None else self._opened
            try:
                for namespace in schema:
                    await opened.pool.start(partial(_mapped, partial(_declare, namespace=namespace))).future
                    opened.indexed[namespace.name] = dict(namespace.indexed)
            except BaseException:
                if first:
                    await asyncio.to_thread(opened.stop)
                raise
            self._opened = opened

    def _start(self) -> _Opened:
        with _errors():
            root = self._directory.absolute()
            prepare(root, self._patience)
            with locked(root / LOCK, threading.Lock(), self._patience):
                index = FileIndex(root / INDEX, self._patience)
                shards = Shards(root / RECORDS, index, self._now, self._patience)
                try:
                    catch_up(shards, index)
                except BaseException:
                    index.close()
                    raise
        return _Opened(shards)

    async def close(self) -> None:
        """See ``StorageBackend``. Waits for what is under way."""
        await uninterrupted(self._close())

    async def _close(self) -> None:
        async with self._home.closing() as reach:
            opened, self._opened = self._opened, None
            if opened is not None and reach is not Reach.NOTHING:
                await asyncio.to_thread(opened.stop)

    async def get(self, ref: RecordRef, *, body: bool = True) -> Read:
        """See ``StorageBackend``."""
        return await self._run(lambda opened: Read(opened.shards.get(ref, body=body), self._now()))

    async def get_many(self, refs: Sequence[RecordRef], *, body: bool = True) -> Reads:
        """See ``StorageBackend``."""
        check_refs(refs)
        return await self._run(lambda opened: Reads(_read_all(opened, tuple(refs), body=body), self._now()))

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
        written = await self._run(partial(_put, put=Put(ref, change, if_revision, not_after)))
        self._enter_overdue()
        return written

    async def put_many(self, puts: Sequence[Put]) -> tuple[PutResult, ...]:
        """See ``StorageBackend``. Each is a file; several are flushed at the same time."""
        check_puts(puts)
        self._home.check()
        results = await ended([self._run(partial(_put, put=put)) for put in puts])
        self._enter_overdue()
        return results

    async def delete(self, ref: RecordRef, *, if_revision: int | None = None) -> bool:
        """See ``StorageBackend``."""
        check_put(if_revision)
        deleted = await self._run(lambda opened: opened.shards.delete(ref, if_revision))
        self._enter_overdue()
        return deleted

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
        return await self._run(lambda opened: _page(opened, asked, self._now()))

    async def purge(self, namespace: str, where: Where, *, limit: int) -> int:
        """See ``StorageBackend``. Deletes shard by shard, several at a time."""
        asked = selection(namespace, where, "key", limit, None, False)
        purged = 0
        more: Selection | None = asked
        while more is not None and purged < limit:
            batch = evolve(more, limit=min(PURGE_BATCH, limit - purged))
            hits = await self._run(partial(_hits, asked=batch))
            groups = _by_shard(hit.digest for hit in hits[: batch.limit])
            removals = [self._run(partial(_remove, digests=group, wanted=asked.holds)) for group in groups]
            done = await asyncio.gather(*removals)
            purged += sum(removed for removed, _ in done)
            damaged = {digest for _, digests in done for digest in digests}
            left_standing(_unreadable(namespace, hit) for hit in hits[: batch.limit] if hit.digest in damaged)
            more = _next(batch, hits)
        return purged

    async def ping(self) -> BackendHealth:
        """See ``StorageBackend``."""
        asking = self._run(lambda opened: (os.stat(opened.shards.directory), self._now())[1])  # noqa: PTH116
        return BackendHealth(NAME, *await timed(asking))

    async def plan(self, schema: Sequence[NamespaceSchema]) -> tuple[str, ...]:
        """See ``Migrating``: the statements of the index."""
        wanted = indexed_attributes(schema)
        return await asyncio.to_thread(_plan, self._directory, wanted)

    async def _run(self, action: Callable[[_Opened], T]) -> T:
        self._home.check()
        opened = self._opened
        if opened is None:
            raise BackendUnavailable("the filesystem store is not open", NAME)
        result: T = await opened.pool.start(partial(_mapped, action)).future
        return result

    def _enter_overdue(self) -> None:
        """Add the log's entries to the index if there are many; no caller waits for it."""
        opened = self._opened
        if opened is not None and opened.shards.index.overdue:
            opened.pool.start(_enter)

    def _now(self) -> datetime:
        return self._clock() + self.clock_offset


@contextmanager
def _errors() -> Iterator[None]:
    with file_errors(), mapped(NAME):
        yield


def _plan(directory: Path, wanted: dict[str, type]) -> tuple[str, ...]:
    with _errors():
        return planned(directory.absolute(), wanted)


def _mapped(action: Callable[[_Opened], T], opened: _Opened) -> T:
    try:
        return action(opened)
    except (OSError, sqlite3.Error, MemoryError):
        with _errors():
            raise


def _enter(opened: _Opened) -> None:
    try:
        with _errors():
            # Once for all callers that began meanwhile.
            if opened.shards.index.overdue:
                opened.shards.index.enter()
    except PersistenceError as error:
        # Each query retries and reports a failure.
        log.warning("the index could not be brought up to date: %s", error)


def _declare(opened: _Opened, namespace: NamespaceSchema) -> None:
    opened.shards.index.declare(namespace.indexed)


def _put(opened: _Opened, put: Put) -> Written:
    return opened.shards.put(put.ref, put.change, put.if_revision, put.not_after)


def _hits(opened: _Opened, asked: Selection) -> list[Entry]:
    """The entries of a page, and one more if more follow."""
    wanted, indexed = evolve(asked, limit=asked.limit + 1), opened.indexed.get(asked.namespace, {})
    hits = opened.shards.index.page(wanted, indexed)
    broken = {hit.digest for hit in hits if hit.place is None}
    if not broken:
        return hits
    log.warning("%d entries of the index are damaged; rebuilding them from their records", len(broken))
    for digest in broken:
        opened.shards.mend(digest)
    return [hit for hit in opened.shards.index.page(wanted, indexed) if hit.place is not None]


def _next(asked: Selection, hits: list[Entry]) -> Selection | None:
    return evolve(asked, after=hits[asked.limit - 1].place) if len(hits) > asked.limit else None


def _page(opened: _Opened, asked: Selection, now: datetime) -> Page[Record]:
    more: Selection | None = asked
    found: dict[str, Record | Unreadable] = {}
    while more is not None and not found:
        hits = _hits(opened, more)
        for hit in hits[: asked.limit]:
            one = _found(opened, asked, hit)
            if one is not None:
                found[hit.digest] = one
        more = _next(more, hits)
    cursor = None if more is None or more.after is None else asked.cursor(more.after)
    page = split(Page((), cursor, now), found.values())
    if not asked.bodies:
        return page
    page = fitting(asked, page)
    refs = [record.ref for record in page.items]
    whole = zip(page.items, _read_all(opened, refs, body=True), strict=True)
    return split(page, (still_there(asked, listed, one) for listed, one in whole))


def _read_all(opened: _Opened, refs: Sequence[RecordRef], *, body: bool) -> tuple[One, ...]:
    return tuple(one_of(ref, partial(opened.shards.get, ref, body=body)) for ref in refs)


def _found(opened: _Opened, asked: Selection, hit: Entry) -> Record | Unreadable | None:
    """The record that a hit names; None if it was removed or no longer matches."""
    try:
        stored = opened.shards.stored(hit.digest)
    except IntegrityError:
        return _unreadable(asked.namespace, hit)
    # An entry of another revision counts as long as the record has the entry's position.
    if stored is None or not asked.holds(stored.record) or position_of(stored.record, asked.order) != hit.place:
        return None
    return stored.record


def _unreadable(namespace: str, hit: Entry) -> Unreadable:
    ref = None if hit.place is None else RecordRef(namespace, hit.place[1])
    return Unreadable(ref, unreadable(NAME, "a record" if ref is None else named(ref)))


def _by_shard(digests: Iterable[str]) -> list[list[str]]:
    groups: dict[str, list[str]] = {}
    for digest in sorted(set(digests)):
        groups.setdefault(digest[:2], []).append(digest)
    return list(groups.values())


def _remove(opened: _Opened, digests: Sequence[str], wanted: Callable[[Record], bool]) -> tuple[int, list[str]]:
    return opened.shards.remove_if(digests, wanted)


def from_url(url: BackendUrl) -> FilesystemBackend:
    """Make the backend that a URL names."""
    url.check_options({"busy_timeout"})
    if url.authority or not url.path.strip("/"):
        raise url.expected("file:flows (relative)", "file:///var/lib/flows (absolute)")
    return FilesystemBackend(url.file_path(url.path), busy_timeout=url.seconds("busy_timeout", timedelta(seconds=10)))
