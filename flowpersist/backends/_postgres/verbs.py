"""The six operations, for whatever lends a connection."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Final, TypeVar

from attrs import evolve, field, mutable

from flowpersist.backends._clock import from_micros, timed
from flowpersist.backends._matching import check_put, check_refs, selection
from flowpersist.backends._outcomes import check_body
from flowpersist.backends._postgres import putting, rows
from flowpersist.backends._postgres.layout import NAME, Layout, Link
from flowpersist.backends._putting import PutResult, apart, check_puts
from flowpersist.backends.base import (
    BackendHealth,
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

__all__ = ["LARGEST_BODY", "Verbs"]

T = TypeVar("T")
#: As many as a purge deletes in a transaction, so that other writes get in between.
PURGE_BATCH: Final = 500
#: A bytea holds 1 GiB, but pg_dump writes two characters for each of its bytes, and fails where that makes a row longer
#: than 1 GiB. A store that can't be backed up is none.
LARGEST_BODY: Final = 500 * 1024 * 1024
_MICROSECOND: Final = timedelta(microseconds=1)


@mutable(eq=False)
class Known:
    """What the store is known to be, once it is open: the schema of its tables, what each namespace declares."""

    schema: str = ""
    indexed: dict[str, Mapping[str, type]] = field(factory=dict)


class Verbs:
    """What does not depend on where the connection comes from."""

    name: str = NAME
    largest_body: int = LARGEST_BODY
    clock_offset: timedelta

    def __init__(self, layout: Layout, known: Known, *, notify: bool, clock_offset: timedelta) -> None:
        self.clock_offset = clock_offset
        self._layout = layout
        self._known = known
        self._notify = notify

    async def _run(self, action: Callable[[Link], Awaitable[T]], *, writes: bool = False) -> T:
        raise NotImplementedError

    async def get(self, ref: RecordRef, *, body: bool = True) -> Read:
        """See ``StorageBackend``."""
        store = self._store(ref.namespace)
        return await self._run(lambda connection: rows.read(connection, store, ref, body=body))

    async def get_many(self, refs: Sequence[RecordRef], *, body: bool = True) -> Reads:
        """See ``StorageBackend``."""
        check_refs(refs)
        store = self._store("")
        return await self._run(lambda connection: rows.read_many(connection, store, tuple(refs), body=body))

    async def put(
        self,
        ref: RecordRef,
        change: RecordChange,
        *,
        if_revision: int | None = None,
        not_after: datetime | None = None,
    ) -> Written:
        """See ``StorageBackend``. Cancelled: the write may have been done."""
        check_put(if_revision, not_after)
        check_body(NAME, ref, change.body, self.largest_body)
        store = self._store(ref.namespace)
        it = Put(ref, change, if_revision, not_after)
        return await self._run(lambda connection: putting.put(connection, store, it), writes=True)

    async def put_many(self, puts: Sequence[Put]) -> tuple[PutResult, ...]:
        """See ``StorageBackend``. One round trip for those of each kind, such as new ones with a body; several where
        the bodies take more than ``MAX_BODIES_BYTES``.
        """
        check_puts(puts)
        results: dict[int, PutResult] = {}
        taken = apart(results, puts, lambda it: check_body(NAME, it.ref, it.change.body, self.largest_body))
        stores = {it.ref.namespace: self._store(it.ref.namespace) for it in puts}
        several = [puts[place] for place in taken]
        done = await self._run(lambda connection: putting.put_many(connection, stores, several), writes=True)
        results.update(zip(taken, done, strict=True))
        return tuple(results[place] for place in range(len(puts)))

    async def delete(self, ref: RecordRef, *, if_revision: int | None = None) -> bool:
        """See ``StorageBackend``."""
        check_put(if_revision)
        store = self._store(ref.namespace)
        return await self._run(lambda connection: rows.delete(connection, store, ref, if_revision), writes=True)

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
        store = self._store(namespace)
        return await self._run(lambda connection: rows.page(connection, store, asked))

    async def purge(self, namespace: str, where: Where, *, limit: int) -> int:
        """See ``StorageBackend``. Deletes in batches, each a transaction; what another is writing, it passes over."""
        asked = selection(namespace, where, "key", limit, None, False)
        store = self._store(namespace)
        purged = 0
        while purged < limit:
            batch = evolve(asked, limit=min(PURGE_BATCH, limit - purged))
            removed = await self._run(partial(rows.purge, store=store, asked=batch), writes=True)
            purged += removed
            if removed < batch.limit:
                break
        return purged

    async def ping(self) -> BackendHealth:
        """See ``StorageBackend``."""
        statement, offset = self._layout.sql["ping"], self._store("").offset
        row, latency = await timed(self._run(lambda connection: rows.one(connection, statement, offset)))
        return BackendHealth(NAME, from_micros(row["now"]), latency, _warnings(row))

    def _store(self, namespace: str) -> rows.Store:
        channel = self._layout.channel(self._known.schema, namespace) if self._notify else None
        offset = self.clock_offset // _MICROSECOND
        return rows.Store(self._layout, offset, channel, self._known.indexed.get(namespace, {}))


def _warnings(row: rows.Row) -> tuple[str, ...]:
    said = {
        "synchronous_commit=off: a crash of the server loses acknowledged writes": row["synchronous_commit"] == "off",
        "fsync=off: a power failure may lose the database": row["fsync"] == "off",
        "full_page_writes=off: a power failure may damage the database": row["full_page_writes"] == "off",
        "the server is read-only: nothing can be written": row["read_only"] == "on",
    }
    return tuple(warning for warning, holds in said.items() if holds)
