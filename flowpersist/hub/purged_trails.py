"""The audit trails of purged suspensions: what proves who decided what is kept for a retention of its own.

A removal puts one record with the whole trail before it deletes anything. So whatever ends in between, a trail stands
beside its suspension, in its record, or in both; a removal that is repeated finds the record, and adds what is new.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from copy import copy
from datetime import UTC, datetime, timedelta
from typing import ClassVar, Final, TypeVar

from returns.result import Failure, Result, Success

from flowpersist.backends.base import NamespaceSchema, Range, StorageBackend, Where
from flowpersist.errors import PersistenceError, TamperedEnvelope
from flowpersist.keys.suspension_key import SuspensionId, SuspensionKey
from flowpersist.lifecycle.model import Head, HeadPart, Status, Trail, replace, secret_digest
from flowpersist.lifecycle.moments import later
from flowpersist.sealed.catalogue import FollowingRecords
from flowpersist.sealed.drafts import Decided, Draft, Found, Loaded
from flowpersist.sealed.records import SealedRecords
from flowpersist.sealed.retrying import Runtime

__all__ = ["MOST_KEYS", "PurgedTrail", "PurgedTrails", "head_of", "made_at", "trails_schema"]

T = TypeVar("T")
#: What the body of a record is sealed for: whoever may read heads may read trails.
PURPOSE: Final = "audit"
#: The keys of a purged suspension that still open its history; beyond these, its id does.
MOST_KEYS: Final = 4096
#: Suspensions of one id, the newest first, among which a key is looked for.
_SAME_ID: Final = 100
_START: Final = datetime(1970, 1, 1, tzinfo=UTC)


class PurgedTrail(HeadPart, frozen=True):
    """The head of the record of a trail: whose it is, how that suspension stood, the end of its trail, and until when
    it is kept (None: for ever). The links are its body.

    ``keys`` are the digests of the secrets of the suspension's keys.
    """

    hidden: ClassVar[frozenset[str]] = frozenset({"keys"})
    id: SuspensionId
    created_at: datetime
    closed_at: datetime | None
    status: Status
    trail: Trail
    keys: tuple[bytes, ...]
    purged_at: datetime
    keep_until: datetime | None


def made_at(head: Head) -> int:
    """When a suspension was made, in microseconds."""
    return (head.created_at - _START) // timedelta(microseconds=1)


def _namespace(of: str) -> str:
    return f"{of}.trails"


def trails_schema(namespace: str) -> NamespaceSchema:
    """Where they are kept for the suspensions of a namespace."""
    return NamespaceSchema(_namespace(namespace), {"suspension": str, "tenant": str})


def head_of(record: Loaded[PurgedTrail]) -> Head:
    """The head of the purged suspension, reduced to what its trail needs."""
    kept = record.head
    return Head(
        id=kept.id,
        tenant=record.tenant,
        metadata={},
        created_at=kept.created_at,
        updated_at=kept.purged_at,
        retention=timedelta(0),
        status=kept.status,
        until="all",
        waits=(),
        closed_at=kept.closed_at,
        trail=kept.trail,
    )


class PurgedTrails:
    """The records of the trails of purged suspensions; ``of`` are those of the suspensions.

    ``retention``: how long each is kept after its suspension; None: for ever; nothing: not at all.
    """

    def __init__(self, of: SealedRecords[Head], retention: timedelta | None) -> None:
        self._following = FollowingRecords(of, _namespace(of.namespace), PurgedTrail, purpose=PURPOSE)
        self._joined: SealedRecords[PurgedTrail] | None = None
        self.retention = None if retention == timedelta.max else retention

    @property
    def kept(self) -> bool:
        """Whether the trails of suspensions that are deleted from now on are kept."""
        return self.retention != timedelta(0)

    @property
    def records(self) -> SealedRecords[PurgedTrail]:
        """The records, sealed by the hub's keyring of now."""
        return self._following.now if self._joined is None else self._joined

    def within(self, joined: StorageBackend, runtime: Runtime) -> PurgedTrails:
        """The same trails in a transaction, by the backend that has joined it."""
        bound = copy(self)
        bound._joined = self.records.within(joined, runtime)  # noqa: SLF001 - of a copy of this
        return bound

    async def keep(
        self, head: Head, links: Sequence[bytes], moved: Sequence[bytes], now: datetime
    ) -> Result[None, PersistenceError]:
        """Keep the whole trail of a suspension that is about to be deleted, in one put.

        Where it is kept already, as by a removal that has ended in between, only more of it replaces it.

        - ``links``: all links of the trail.
        - ``moved``: the digests of the secrets whose receipts have left the head.
        """
        records, key = self.records, _key(head)
        sealed = await records.seal_body(key, head.tenant, list(links), purpose=PURPOSE)
        if not isinstance(sealed, Success):
            return Failure(sealed.failure())
        keys = (*(secret_digest(wait.secret) for wait in head.waits), *(one.digest for one in head.receipts), *moved)
        until = None if self.retention is None else later(now, self.retention)

        async def decide(found: Found[PurgedTrail]) -> Decided[PurgedTrail, None]:
            stored = None if found.record is None else found.record.head
            if stored is not None and stored.trail.count >= head.trail.count:
                return Success(None)
            every = tuple(dict.fromkeys((*keys, *(() if stored is None else stored.keys))))
            kept = PurgedTrail(
                id=head.id,
                created_at=head.created_at,
                closed_at=head.closed_at,
                status=head.status,
                trail=replace(head.trail, links=()),
                keys=every[:MOST_KEYS],
                purged_at=now,
                keep_until=until,
            )
            return _draft(kept, head.tenant, sealed.unwrap())

        return (await records.update(key, decide)).result

    async def links(self, head: Head) -> Result[tuple[bytes, ...], PersistenceError]:
        """The links of a suspension's trail as they are kept, not verified; none where none are."""
        read = await self.records.read(_key(head), body=True)
        if not isinstance(read, Success):
            return Failure(read.failure())
        found = read.unwrap().record
        return Success(()) if found is None else await self.links_in(found)

    async def links_in(self, record: Loaded[PurgedTrail]) -> Result[tuple[bytes, ...], PersistenceError]:
        """The links of a record, whose body must have been read."""
        opened = await self.records.open_body(record, purpose=PURPOSE)
        if not isinstance(opened, Success):
            return Failure(opened.failure())
        links = opened.unwrap()
        if isinstance(links, list) and all(isinstance(link, bytes) for link in links):
            return Success(tuple(links))
        return Failure(
            TamperedEnvelope(f"Invalid audit trail of purged suspension {record.head.id}: expected a list of links")
        )

    async def find(
        self, named: SuspensionKey | SuspensionId
    ) -> Result[tuple[Loaded[PurgedTrail] | None, int], PersistenceError]:
        """The trail that a key opens, whose secret is verified; of an id, that of the newest suspension. Beside it is
        how many trails there are of that id.
        """
        id_ = named.id if isinstance(named, SuspensionKey) else named
        where = Where(range=Range("key", prefix=f"{id_}/"))
        listed = await self.records.page(where, limit=_SAME_ID, descending=True)
        if not isinstance(listed, Success):
            return Failure(listed.failure())
        page = listed.unwrap()
        if isinstance(named, SuspensionKey):
            opened = [one for one in page.items if _opens(named, one.head)]
            return Success((opened[0] if opened else None, len(page.items)))
        if page.unreadable and not page.items:
            return Failure(page.unreadable[0].error)
        return Success((page.items[0] if page.items else None, len(page.items)))

    async def draft(
        self, record: Loaded[PurgedTrail], trail: Trail, links: Sequence[bytes], result: T
    ) -> Decided[PurgedTrail, T]:
        """A record with another trail, and what is given once it is durable."""
        sealed = await self.records.seal_body(record.ref.key, record.tenant, list(links), purpose=PURPOSE)
        if not isinstance(sealed, Success):
            return Failure(sealed.failure())
        return _draft(replace(record.head, trail=replace(trail, links=())), record.tenant, sealed.unwrap()).giving(
            result
        )


def _draft(kept: PurgedTrail, tenant: str | None, body: bytes) -> Draft[PurgedTrail, None]:
    return Draft(kept, {"suspension": str(kept.id), "tenant": tenant}, kept.keep_until, body=body)


def _opens(key: SuspensionKey, kept: PurgedTrail) -> bool:
    """Whether the key is one of the suspension's. Each is compared, in constant time."""
    digest = secret_digest(key.secret)
    return sum(hmac.compare_digest(one, digest) for one in kept.keys) > 0


def _key(head: Head) -> str:
    # An id that is derived from an idempotency key can be used by a later suspension too.
    return f"{head.id}/{made_at(head):016x}"
