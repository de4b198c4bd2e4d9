"""Records as a store has them, sealed as they are: for whoever moves, mends or removes them without a key.

Transient failures are retried and lost acknowledgements cleared up, as for ``SealedRecords``.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TypeVar

from returns.result import Failure, Result, Success

from flowpersist.backends.base import (
    Order,
    Page,
    Read,
    Record,
    RecordChange,
    RecordRef,
    StorageBackend,
    Where,
    Written,
)
from flowpersist.errors import PersistenceError
from flowpersist.sealed.retrying import RetryingBackend, Runtime

__all__ = ["RawRecords"]

T = TypeVar("T")


class RawRecords:
    """The records of a backend. A backend's exceptions are failures."""

    def __init__(self, backend: StorageBackend, runtime: Runtime) -> None:
        self.backend = backend
        self.runtime = runtime
        self._store = RetryingBackend(backend, runtime)

    async def get(self, ref: RecordRef, *, body: bool) -> Result[Read, PersistenceError]:
        """One record, or none."""
        return await _tried(self._store.get(ref, body=body))

    async def put(self, ref: RecordRef, change: RecordChange, *, if_revision: int) -> Result[Written, PersistenceError]:
        """Put a change at a revision."""
        return await _tried(self._store.put(ref, change, if_revision=if_revision))

    async def reindex(self, record: Record) -> Result[Written, PersistenceError]:
        """Take a record out of its indexes and put it back, in two puts: a store writes no entry of what has not
        changed. Cut in between, it lacks its attributes and due time, which the sealed head gives back.
        """
        # The seal is bound to the tenant.
        bound = {name: value for name, value in record.attributes.items() if name == "tenant"}
        bare = RecordChange(self.write_id(), attributes=bound, due_at=None)
        taken = await self.put(record.ref, bare, if_revision=record.revision)
        if not isinstance(taken, Success):
            return taken
        whole = RecordChange(self.write_id(), attributes=dict(record.attributes), due_at=record.due_at)
        return await self.put(record.ref, whole, if_revision=taken.unwrap().revision)

    async def delete(self, ref: RecordRef, *, if_revision: int) -> Result[bool, PersistenceError]:
        """Remove one record at a revision."""
        return await _tried(self._store.delete(ref, if_revision=if_revision))

    async def query(
        self,
        namespace: str,
        where: Where,
        *,
        order: Order = "key",
        limit: int,
        after: str | None = None,
        bodies: bool = False,
    ) -> Result[Page[Record], PersistenceError]:
        """A page of records."""
        found = self._store.query(namespace, where, order=order, limit=limit, after=after, bodies=bodies)
        return await _tried(found)

    def write_id(self) -> str:
        """A random id of a write."""
        return self.runtime.entropy(16).hex()

    def whole(self, record: Record) -> RecordChange:
        """The change that makes another record of the same parts; the body must have been read."""
        return RecordChange(
            write_id=self.write_id(),
            attributes=dict(record.attributes),
            head=record.head,
            body=record.body if record.body_size is not None else None,
            due_at=record.due_at,
        )


async def _tried(operation: Awaitable[T]) -> Result[T, PersistenceError]:
    try:
        return Success(await operation)
    except PersistenceError as error:
        return Failure(error)
