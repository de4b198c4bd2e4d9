"""A store in this process's memory: for tests and trials. Nothing outlives the process.

``memory://name`` is one store for everybody in the process who names it, ``memory://`` one of its own for each backend.
Every operation is one critical section without a wait in it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from datetime import datetime, timedelta
from functools import partial
from threading import Lock
from typing import Final
from urllib.parse import unquote

from attrs import define, evolve, field, frozen

from flowpersist.backends._clock import Clock, host_clock
from flowpersist.backends._damage import (
    Found,
    check_following,
    found_in,
    left_standing,
    page_of,
    read_as,
    wider,
)
from flowpersist.backends._home import Home, Reach
from flowpersist.backends._joining import NoTransactions
from flowpersist.backends._matching import Selection, check_put, check_refs, selection
from flowpersist.backends._memory.listening import Listener
from flowpersist.backends._memory.shelf import Shelf
from flowpersist.backends._options import check_options
from flowpersist.backends._outcomes import check_deadline, check_revision, check_unwritten, revised
from flowpersist.backends._pages import one_of
from flowpersist.backends._putting import PutResult, check_puts, settled
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
    Scalar,
    Unreadable,
    Where,
    Written,
    applied,
    check_text,
)

__all__ = ["MemoryBackend", "from_url"]

NAME: Final = "memory"


@define(eq=False)
class _Store:
    """What backends of one name share. ``floor`` is the highest revision of any record that was deleted."""

    lock: Lock = field(factory=Lock)
    namespaces: dict[str, Shelf] = field(factory=dict)
    floor: int = 0
    listeners: dict[str, set[Listener]] = field(factory=dict)

    def records(self, namespace: str) -> Shelf:
        found = self.namespaces.get(namespace)
        return self.namespaces.setdefault(namespace, Shelf()) if found is None else found

    def remove(self, record: Record) -> None:
        self.records(record.ref.namespace).remove(record.ref.key)
        self.floor = max(self.floor, record.revision)
        self.tell(record.ref)

    def tell(self, ref: RecordRef) -> None:
        for listener in self.listeners.get(ref.namespace, ()):
            listener.tell(ref.key)


@frozen
class _Stores:
    lock: Lock = field(factory=Lock)
    by_name: dict[str, _Store] = field(factory=dict)

    def get(self, name: str) -> _Store:
        with self.lock:
            return self.by_name.setdefault(name, _Store()) if name else _Store()


_stores: Final = _Stores()


class MemoryBackend(NoTransactions):
    """Records in a dict. ``store`` names the one that is shared; empty: one of its own."""

    name: str = NAME
    capabilities: frozenset[Capability] = frozenset({Capability.NOTIFICATIONS})

    def __init__(self, store: str = "", *, clock: Clock = host_clock, clock_offset: timedelta = timedelta(0)) -> None:
        check_options(store=store, clock=clock, clock_offset=clock_offset)
        self.clock_offset = clock_offset
        self._clock = clock
        self._store = _stores.get(store)
        self._listeners: set[Listener] = set()
        self._home = Home(NAME)

    async def open(self, schema: Sequence[NamespaceSchema]) -> None:
        """See ``StorageBackend``."""
        async with self._home.opening():
            with self._store.lock:
                for namespace in schema:
                    self._store.records(namespace.name)

    async def close(self) -> None:
        """See ``StorageBackend``. What a store holds stays, as long as somebody has the backend or its name."""
        async with self._home.closing() as reach:
            if reach is not Reach.NOTHING:
                for listener in self._listeners:
                    listener.end()

    async def get(self, ref: RecordRef, *, body: bool = True) -> Read:
        """See ``StorageBackend``."""
        store = self._ready()
        with store.lock:
            return Read(_read(store.records(ref.namespace), ref, body=body), self._now())

    async def get_many(self, refs: Sequence[RecordRef], *, body: bool = True) -> Reads:
        """See ``StorageBackend``."""
        check_refs(refs)
        store = self._ready()
        with store.lock:
            found = tuple(one_of(ref, partial(_read, store.records(ref.namespace), ref, body=body)) for ref in refs)
            return Reads(found, self._now())

    async def put(
        self,
        ref: RecordRef,
        change: RecordChange,
        *,
        if_revision: int | None = None,
        not_after: datetime | None = None,
    ) -> Written:
        """See ``StorageBackend``."""
        check_put(if_revision, not_after)
        store = self._ready()
        with store.lock:
            return self._put(store, Put(ref, change, if_revision, not_after))

    async def put_many(self, puts: Sequence[Put]) -> tuple[PutResult, ...]:
        """See ``StorageBackend``. One critical section."""
        check_puts(puts)
        store = self._ready()
        with store.lock:
            return tuple(settled(partial(self._put, store), put) for put in puts)

    def _put(self, store: _Store, put: Put) -> Written:
        ref, change, if_revision = put.ref, put.change, put.if_revision
        records = store.records(ref.namespace)
        old = records.get(ref.key)
        if old is not None and not records.is_as_put(ref.key, old):
            _sound(ref, old)
        check_revision(NAME, ref, 0 if old is None else old.revision, if_revision)
        if if_revision is None and old is not None:
            check_unwritten(NAME, ref, old.write_id, change.write_id)
        now = self._now()
        check_deadline(NAME, ref, now, put.not_after)
        revision = check_following(NAME, ref, store.floor if old is None else old.revision)
        body = applied(change.body, None if old is None else old.body, None)
        made = revised(ref, old, change, revision, now, None if body is None else len(body))
        records.put(made if body is None else evolve(made, body=body))
        store.tell(ref)
        return Written(revision, now)

    async def delete(self, ref: RecordRef, *, if_revision: int | None = None) -> bool:
        """See ``StorageBackend``."""
        check_put(if_revision)
        store = self._ready()
        with store.lock:
            record = store.records(ref.namespace).get(ref.key)
            if record is None:
                return False
            _sound(ref, record)
            check_revision(NAME, ref, record.revision, if_revision)
            store.remove(record)
            return True

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
        store = self._ready()
        with store.lock:
            rows = _found(store.records(namespace), asked, limit + 1)
            looked = limit + sum(place is None for place, _ in rows)
            # A row that has a place follows those that have none, so that there always is a page.
            return page_of(asked, rows, looked, self._now()) or Page((), None, self._now())

    async def purge(self, namespace: str, where: Where, *, limit: int) -> int:
        """See ``StorageBackend``."""
        asked = selection(namespace, where, "key", limit, None, False)
        store = self._ready()
        with store.lock:
            found: list[Record | Unreadable | None] = []
            removed: list[Record] = []
            for looked in wider(limit):
                found = [it for _, it in _found(store.records(namespace), asked, looked)]
                removed = [it for it in found if isinstance(it, Record)][:limit]
                if len(removed) == limit or len(found) < looked:
                    break
            for record in removed:
                store.remove(record)
        left_standing(found)
        return len(removed)

    async def ping(self) -> BackendHealth:
        """See ``StorageBackend``."""
        self._ready()
        return BackendHealth(NAME, self._now(), timedelta(0), ("nothing outlives this process",))

    @asynccontextmanager
    async def changes(self, namespace: str) -> AsyncIterator[AsyncIterator[str]]:
        """See ``Notifying``. Whatever thread of the process has changed it."""
        check_text(namespace, "a namespace")
        store, listener = self._ready(), Listener()
        with store.lock:
            store.listeners.setdefault(namespace, set()).add(listener)
        self._listeners.add(listener)
        try:
            async with aclosing(listener.keys()) as keys:
                yield keys
        finally:
            self._listeners.discard(listener)
            with store.lock:
                store.listeners[namespace].discard(listener)

    def _ready(self) -> _Store:
        self._home.check()
        return self._store

    def _now(self) -> datetime:
        return self._clock() + self.clock_offset


def _sound(ref: RecordRef, held: Record, *, body: bool = False) -> Record:
    """What is held under a key, if it is a record of that key: a dict takes anything."""

    def made() -> Record:
        if held.ref != ref:
            raise ValueError("a record of another key")
        attributes = Where(held.attributes).equals
        size = None if held.body is None else len(held.body)
        if size != held.body_size or not isinstance(held.body, bytes | None):
            raise ValueError("a body of another size")
        return _copied(held, attributes, body=body)

    return read_as(NAME, ref, made)


def _read(shelf: Shelf, ref: RecordRef, *, body: bool) -> Record | None:
    held = shelf.get(ref.key)
    if held is None:
        return None
    # What a put has made need not be looked at again.
    as_put = shelf.is_as_put(ref.key, held)
    return _copied(held, dict(held.attributes), body=body) if as_put else _sound(ref, held, body=body)


def _copied(held: Record, attributes: Mapping[str, Scalar], *, body: bool) -> Record:
    """A record of the caller's own."""
    return Record(
        held.ref,
        held.revision,
        held.write_id,
        attributes,
        held.head,
        held.body if body else None,
        held.body_size,
        held.created_at,
        held.updated_at,
        held.due_at,
    )


def _found(shelf: Shelf, asked: Selection, count: int) -> list[Found]:
    return [
        (
            place,
            found_in(NAME, asked.namespace, key, lambda ref: _sound(ref, shelf.records[ref.key], body=asked.bodies)),
        )
        for place, key in shelf.first(asked, count)
    ]


def from_url(url: BackendUrl) -> MemoryBackend:
    """Make the backend that a URL names."""
    url.check_options(())
    if url.authority is None or url.path not in {"", "/"}:
        raise url.expected("memory://", "memory://tests (shared by its name)")
    return MemoryBackend(unquote(url.authority))
