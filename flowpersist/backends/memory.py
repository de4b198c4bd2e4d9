"""Records in this process's memory: for tests, and for flows that need not outlive it.

``memory://`` is a store of its own; ``memory://name`` is the same one for every backend of that name in the process. Each
operation is one step without an await, so that no other task can come in between; nothing is durable.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Final
from weakref import WeakValueDictionary

from attrs import define, evolve, field, frozen

from flowpersist.backends.base import (
    BackendHealth,
    Capability,
    NamespaceSchema,
    Order,
    Page,
    Read,
    Record,
    RecordChange,
    RecordRef,
    StorageBackend,
    Where,
    Written,
    applied,
)
from flowpersist.backends.matching import EPOCH, matches, page_of
from flowpersist.errors import BackendUnavailable, DeadlinePassed, RevisionConflict

__all__ = ["MemoryBackend"]

NAME: Final = "memory"
_shared: WeakValueDictionary[str, _Store] = WeakValueDictionary()
_shared_lock = threading.Lock()


@frozen
class _Kept:
    record: Record
    body: bytes | None = field(repr=False)


@define(slots=False, eq=False)
class _Store:
    """What backends of one name share. The lock is for those in different threads."""

    kept: dict[RecordRef, _Kept] = field(factory=dict)
    revisions: Iterator[int] = field(factory=lambda: itertools.count(1))
    lock: threading.Lock = field(factory=threading.Lock)


class MemoryBackend(StorageBackend):
    """A dict under the laws of ``backends.base``."""

    name = NAME
    capabilities: frozenset[Capability] = frozenset()

    def __init__(self, shared: str = "", *, clock_offset: timedelta = timedelta(0)) -> None:
        self.clock_offset = clock_offset
        self._open = False
        with _shared_lock:
            self._store = _shared.setdefault(shared, _Store()) if shared else _Store()

    @classmethod
    def from_url(cls, url: str) -> MemoryBackend:
        """``memory://`` or ``memory://name``."""
        return cls(url.partition(":")[2].strip("/"))

    async def open(self, schema: Sequence[NamespaceSchema]) -> None:
        """Nothing to connect to; every query is a scan, whatever is indexed."""
        del schema
        self._open = True

    async def close(self) -> None:
        """An anonymous store goes with its backend."""
        self._open = False

    async def get(self, ref: RecordRef, *, body: bool = True) -> Read:
        """Read one record."""
        now = self._now()
        with self._store.lock:
            kept = self._store.kept.get(ref)
        if kept is None:
            return Read(None, now)
        return Read(evolve(kept.record, body=kept.body) if body else kept.record, now)

    async def put(
        self, ref: RecordRef, change: RecordChange, *, if_revision: int, not_after: datetime | None = None
    ) -> Written:
        """Change one record."""
        now = self._now()
        with self._store.lock:
            old = self._store.kept.get(ref)
            self._check(ref, old, if_revision)
            if not_after is not None and now > not_after:
                message = f"record {ref.key} was to be written by {not_after}, and it is {now}; decide again"
                raise DeadlinePassed(message, NAME)
            self._store.kept[ref] = made = _changed(ref, change, old, next(self._store.revisions), now)
        return Written(made.record.revision, now)

    async def delete(self, ref: RecordRef, *, if_revision: int) -> bool:
        """Remove one record."""
        self._now()
        with self._store.lock:
            old = self._store.kept.get(ref)
            if old is None:
                return False
            self._check(ref, old, if_revision)
            del self._store.kept[ref]
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
    ) -> Page[Record]:
        """A page, by a scan."""
        now = self._now()
        with self._store.lock:
            records = [kept.record for ref, kept in self._store.kept.items() if ref.namespace == namespace]
        return page_of(records, where, order, limit, after, descending=descending, now=now)

    async def purge(self, namespace: str, where: Where, *, limit: int) -> int:
        """Delete what matches."""
        self._now()
        with self._store.lock:
            gone = [
                ref
                for ref, kept in self._store.kept.items()
                if ref.namespace == namespace and matches(kept.record, where)
            ][:limit]
            for ref in gone:
                del self._store.kept[ref]
        return len(gone)

    async def ping(self) -> BackendHealth:
        """The clock, and the warning that nothing here is durable."""
        return BackendHealth(NAME, self._now(), timedelta(0), ("nothing is durable: the store ends with its process",))

    def _now(self) -> datetime:
        if not self._open:
            message = "the memory backend is not open; use it within its async with block"
            raise BackendUnavailable(message, NAME)
        return EPOCH + timedelta(microseconds=time.time_ns() // 1000) + self.clock_offset

    def _check(self, ref: RecordRef, old: _Kept | None, if_revision: int) -> None:
        revision = 0 if old is None else old.record.revision
        if revision != if_revision:
            message = f"record {ref.key} stands at revision {revision}, not {if_revision}; read it and decide again"
            raise RevisionConflict(message, NAME)


def _changed(ref: RecordRef, change: RecordChange, old: _Kept | None, revision: int, now: datetime) -> _Kept:
    body = applied(change.body, None if old is None else old.body, None)
    record = Record(
        ref=ref,
        revision=revision,
        write_id=change.write_id,
        attributes=applied(change.attributes, {} if old is None else old.record.attributes, {}),
        head=applied(change.head, b"" if old is None else old.record.head, b""),
        body=None,
        body_size=None if body is None else len(body),
        created_at=now if old is None else old.record.created_at,
        updated_at=now,
        due_at=applied(change.due_at, None if old is None else old.record.due_at, None),
    )
    return _Kept(record, body)
