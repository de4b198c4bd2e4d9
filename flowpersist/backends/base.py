"""The record store with compare-and-set: the one primitive that every backend gives and everything else stands on.

A backend holds records. Each has a reference, a revision, flat attributes that can be queried, a small sealed ``head``
that is read with every get and query, and a large sealed ``body`` that is read only on request. What the bytes mean is
no business of a backend.

Laws, which ``flowpersist.testing.BackendConformance`` checks on every implementation:

- Of any number of concurrent puts at one revision exactly one wins, in all tasks, threads and processes.
- A revision is never used twice for a reference, also not after the record was deleted and made again.
- Nothing is acknowledged before it is as durable as the backend promises.
- All decisions about time use the store's own clock.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Protocol, runtime_checkable

from attrs import frozen

from flowpersist.backends._records import (
    KEEP,
    MAX_ATTRIBUTES,
    MAX_BODIES_BYTES,
    MAX_HEAD_BYTES,
    MAX_REFS,
    MAX_TEXT_BYTES,
    MAX_WRITE_ID_BYTES,
    ORDERS,
    Change,
    Keep,
    NamespaceSchema,
    Order,
    Page,
    Put,
    Range,
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
    check_scalar,
    check_text,
)
from flowpersist.errors import PersistenceError

__all__ = [
    "KEEP",
    "MAX_ATTRIBUTES",
    "MAX_BODIES_BYTES",
    "MAX_HEAD_BYTES",
    "MAX_REFS",
    "MAX_TEXT_BYTES",
    "MAX_WRITE_ID_BYTES",
    "ORDERS",
    "BackendHealth",
    "BodyLimited",
    "Capability",
    "Change",
    "Joining",
    "Keep",
    "Migrating",
    "NamespaceSchema",
    "Notifying",
    "Order",
    "Page",
    "PoolUse",
    "Put",
    "Range",
    "Read",
    "Reads",
    "Record",
    "RecordChange",
    "RecordRef",
    "Scalar",
    "StorageBackend",
    "Sweeping",
    "Unreadable",
    "Where",
    "Written",
    "applied",
    "check_scalar",
    "check_text",
]


class Capability(StrEnum):
    """What a backend has beyond the primitive.

    ``notifications`` is the method of ``Notifying``, ``transactions`` that of ``Joining``, ``migrations`` that of
    ``Migrating``, ``body-limit`` the attribute of ``BodyLimited``.
    """

    DURABLE = "durable"
    MULTI_PROCESS = "multi-process"
    NOTIFICATIONS = "notifications"
    TRANSACTIONS = "transactions"
    MIGRATIONS = "migrations"
    BODY_LIMIT = "body-limit"


@frozen
class PoolUse:
    """The connections of this process to a store: how many are in use, how many there may be to each server, and how
    many callers wait for one (None: the driver does not tell).
    """

    in_use: int
    size: int
    waiting: int | None


@frozen
class BackendHealth:
    """What ``ping`` saw: the store's clock, the round trip, warnings for whoever runs it, and the use of the pool of
    connections (None: without a pool, or where the driver does not tell).
    """

    backend: str
    now: datetime
    latency: timedelta
    warnings: tuple[str, ...] = ()
    pool: PoolUse | None = None


@runtime_checkable
class StorageBackend(Protocol):
    """The operations on records, and the life of the connection.

    Every operation raises ``StorageError`` subclasses only (``IntegrityError`` where a body is missing or a row can't
    be read), and ``CancelledError``. ``clock_offset`` is added to the store's clock, so that tests travel in time.
    """

    name: str
    capabilities: frozenset[Capability]
    clock_offset: timedelta

    async def open(self, schema: Sequence[NamespaceSchema]) -> None:
        """Connect and migrate. Twice: a no-op, and new namespaces are added. Safe when many processes start at once."""
        ...

    async def close(self) -> None:
        """Free all that was opened. Twice: a no-op. Operations after it raise ``BackendUnavailable``."""
        ...

    async def get(self, ref: RecordRef, *, body: bool = True) -> Read:
        """Read one record, all its parts as of one revision. Missing: ``Read(None, now)``."""
        ...

    async def get_many(self, refs: Sequence[RecordRef], *, body: bool = True) -> Reads:
        """Read several records, at most ``MAX_REFS``, each for itself: all parts of one are of one revision, and no two
        records of one moment. One that can't be read is ``Unreadable`` in its place and costs the others nothing.
        """
        ...

    async def put(
        self,
        ref: RecordRef,
        change: RecordChange,
        *,
        if_revision: int | None = None,
        not_after: datetime | None = None,
    ) -> Written:
        """Change one record if it stands at ``if_revision`` (0: none is live) and the store's clock is not past
        ``not_after``. With ``if_revision`` None it replaces the record at any revision, or creates it, in one atomic
        step.

        Raises ``RevisionConflict`` or ``DeadlinePassed`` with nothing written; both wrong: ``RevisionConflict``.
        ``UnknownOutcome``: the acknowledgement was lost. A repeat with the same write id that finds itself
        done gives ``RevisionConflict``, also without a revision: the caller reads, and knows its own write id. A repeat
        without a revision that finds another writer's change writes again.
        """
        ...

    async def put_many(self, puts: Sequence[Put]) -> tuple[Written | PersistenceError, ...]:
        """Do several puts of different records, at most ``MAX_REFS``, each as ``put`` does it and for itself. Gives, in
        their order, what each has made, or the error that ``put`` would raise: one that fails costs the others nothing.

        No transaction: others may see some of them before the rest, and after a crash or ``UnknownOutcome`` any of them
        may be done. Raises ``ValueError`` for two puts of one record, and ``StorageError`` where it concerns all of
        them.
        """
        ...

    async def delete(self, ref: RecordRef, *, if_revision: int | None = None) -> bool:
        """Remove one record with its body and index entries, whatever its revision where ``if_revision`` is None.
        Missing: False. At another revision: ``RevisionConflict``.
        """
        ...

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
        """A page of records, ``after`` being the cursor of the page before. With ``bodies`` each record has its body,
        as of its revision, and the page ends before the bodies take more than ``MAX_BODIES_BYTES``.

        A range is also the order: with one, ``order`` is left out or names the same, else ``ValueError``.
        ``order="due"`` lists only records that are due at some time. Ties are ordered by key. What is there throughout
        a walk over all pages is seen exactly once; what comes or moves meanwhile may be missed.
        An invalid cursor raises ``ValueError``.
        """
        ...

    async def purge(self, namespace: str, where: Where, *, limit: int) -> int:
        """Delete at most ``limit`` records with their bodies, in the order of the range (without one: by key); gives
        how many. Each one is still as ``where`` says when it goes.
        """
        ...

    async def ping(self) -> BackendHealth:
        """One round trip to the store."""
        ...


@runtime_checkable
class Notifying(Protocol):
    """A backend that says what has changed, without being asked again and again."""

    def changes(self, namespace: str) -> AbstractAsyncContextManager[AsyncIterator[str]]:
        """The keys of records of a namespace that were put or deleted from the moment of entering on, as they come.

        A hint, no log: a key may come twice, and of several changes of one record only one may be told. Raises
        ``StorageError`` once changes may have been missed: the connection was lost, or the listener was too slow. Then
        enter again and read everything. A network may also fail in silence, so still look from time to time.
        """
        ...


@runtime_checkable
class Joining(Protocol):
    """A backend whose operations can be part of a transaction of the user's own."""

    def within(self, transaction: Any) -> StorageBackend:  # noqa: ANN401 - the driver's connection or transaction
        """The same store within a transaction that the caller has begun and will commit: what is put is there for
        others once that has happened. ``open`` and ``close`` of it do nothing, and nothing is tried again.

        Raises ``ConfigurationError`` where no transaction is open. An operation raises ``TransactionAborted`` where the
        whole transaction must be done again; a conflict or a deadline leaves the transaction as it was.
        """
        ...


@runtime_checkable
class Migrating(Protocol):
    """A backend that has a schema."""

    async def plan(self, schema: Sequence[NamespaceSchema]) -> tuple[str, ...]:
        """The statements that ``open`` would run on the store as it stands, in their order; none where nothing is to be
        done. Nothing is changed, and the backend need not be open.
        """
        ...


@runtime_checkable
class Sweeping(Protocol):
    """A backend in which crashes leave something behind that only a look at everything finds."""

    async def sweep(self) -> int:
        """Remove what no record names any more, if it is time to look; gives how many pieces. Any number of processes
        may ask as often as they like.
        """
        ...


@runtime_checkable
class BodyLimited(Protocol):
    """A backend that takes bodies of a certain size at most; a put of more raises ``StorageError``, with nothing
    written.
    """

    #: Bytes.
    largest_body: int
