"""Collections of values beside the suspensions of a namespace: a namespace of its own for each, and a catalogue.

The catalogue has one record for each collection, sealed for control. It says how the collection names its records, and
holds the secret of their digests: so the names stay the same when the keyring is rotated. Its key is also the end of
the collection's namespace, so that maintenance finds all collections without opening anything.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Generic, TypeVar

from attrs import evolve, field, frozen
from returns.result import Failure, Result, Success

from flowpersist.backends.base import Range, Where
from flowpersist.errors import PersistenceError, RevisionConflict, StorageError
from flowpersist.sealed.cards import at
from flowpersist.sealed.drafts import Decided, Draft, Found
from flowpersist.sealed.records import SealedRecords

__all__ = ["Collection", "CollectionCatalog", "FollowingRecords", "collection_key", "purge_all", "purge_old"]

H = TypeVar("H")
SECRET_BYTES: Final = 32
PURGED_AT_ONCE: Final = 500
PAGE: Final = 100
BEGINNING: Final = datetime.min.replace(tzinfo=UTC)


@frozen
class Collection:
    """One collection: ``listed`` says whether keys stand in clear; ``secret`` keys the digests, empty where there is
    no keyring. ``kid`` is the key that seals this, None where there is no keyring.
    """

    name: str
    tenant: str | None
    listed: bool
    secret: bytes = field(repr=False)
    kid: str | None


def collection_key(name: str, tenant: str | None) -> str:
    """The catalogue's key of a collection, which is also the end of its namespace."""
    if tenant is None:
        return name
    return f"{name}@{hashlib.sha256(tenant.encode()).hexdigest()[:32]}"


class FollowingRecords(Generic[H]):
    """Records beside those of a hub, sealed by whatever keyring the hub has now."""

    def __init__(self, of: SealedRecords[Any], namespace: str, head_type: type[H], *, purpose: str) -> None:
        self._of = of
        self._records = SealedRecords(of.backend, of.sealer, namespace, head_type, purpose=purpose, runtime=of.runtime)

    @property
    def now(self) -> SealedRecords[H]:
        """The records."""
        if self._records.sealer is not self._of.sealer:
            self._records.sealer = self._of.sealer
            self._records.unreadable.forget()
        return self._records


class CollectionCatalog:
    """The collections of a hub's namespace; ``of`` are the records of its suspensions."""

    def __init__(self, of: SealedRecords[Any]) -> None:
        self._of = of
        self._records = FollowingRecords(of, f"{of.namespace}.collections", Collection, purpose="collection")

    def namespace(self, key: str) -> str:
        """Where the records of the collection of that key stand."""
        return f"{self._of.namespace}.values.{key}"

    async def find(self, name: str, tenant: str | None) -> Result[Collection | None, PersistenceError]:
        """A collection, or None where nobody has made it."""
        records, key = self._records.now, collection_key(name, tenant)
        read = await records.read(key)
        if isinstance(read, Failure) and not isinstance(read.failure(), StorageError):
            return Failure(at(read.failure(), records.ref(key)))
        return read.map(lambda found: None if found.record is None else found.record.head)

    async def make(self, name: str, tenant: str | None, *, listed: bool) -> Result[Collection, PersistenceError]:
        """A new collection, or the one that another process has just made."""
        records = self._records.now
        secret = b"" if records.sealer.keyring is None else records.runtime.entropy(SECRET_BYTES)
        made = Collection(name, tenant, listed, secret, self.kid)
        draft = Draft(head=made, attributes={}, due_at=None, body=None)
        written = await records.put(collection_key(name, tenant), draft, revision=0)
        if isinstance(written, Success):
            return Success(made)
        if not isinstance(written.failure(), RevisionConflict):
            return Failure(written.failure())
        found = await self.find(name, tenant)
        return found.bind(lambda other: Failure(written.failure()) if other is None else Success(other))

    @property
    def kid(self) -> str | None:
        """The key that seals now."""
        keyring = self._of.sealer.keyring
        return None if keyring is None else keyring.primary

    async def reseal(self, name: str, tenant: str | None) -> Result[None, PersistenceError]:
        """Seal a collection's record with the key that seals now: it must outlive the key that it was made with."""

        async def decide(found: Found[Collection]) -> Decided[Collection, None]:
            record = found.record
            if record is None or record.head.kid == self.kid:
                return Success(None)
            return Draft(head=evolve(record.head, kid=self.kid), attributes={}, due_at=None, body=None)

        return (await self._records.now.update(collection_key(name, tenant), decide)).result

    async def purge_expired(self) -> Result[int, PersistenceError]:
        """Delete the values of all collections that have expired; gives how many. No record is opened for it."""
        purged = 0
        after: str | None = None
        while True:
            listed = await self._records.now.listed(Where(), limit=PAGE, after=after)
            if not isinstance(listed, Success):
                return Failure(listed.failure())
            page = listed.unwrap()
            for record in page.items:
                removed = await self._purged(record.ref.key, page.now)
                if not isinstance(removed, Success):
                    return removed
                purged += removed.unwrap()
            after = page.next
            if after is None:
                return Success(purged)

    async def _purged(self, key: str, now: datetime) -> Result[int, PersistenceError]:
        of = self._of
        records = SealedRecords(of.backend, of.sealer, self.namespace(key), Collection, runtime=of.runtime)
        return await purge_all(records, expired_before(now))


def expired_before(now: datetime) -> Where:
    """The records of a collection whose values have expired."""
    return Where(range=Range("due", before=now))


async def purge_old(records: SealedRecords[Any], age: timedelta | None) -> Result[int, PersistenceError]:
    """Delete what has expired, and what was not put for that long; gives how many."""
    seen = await records.health()
    if not isinstance(seen, Success):
        return Failure(seen.failure())
    now = seen.unwrap().now
    expired = await purge_all(records, expired_before(now))
    # What would be older than the calendar is not there.
    if age is None or age >= now - BEGINNING or not isinstance(expired, Success):
        return expired
    old = await purge_all(records, Where(range=Range("updated", before=now - age)))
    return old.map(lambda count: count + expired.unwrap())


async def purge_all(records: SealedRecords[Any], where: Where) -> Result[int, PersistenceError]:
    """Delete all records that are meant; gives how many."""
    purged = 0
    while True:
        # One that others delete or change meanwhile is not counted, so that a short count is no end.
        removed = await records.purge(where, limit=PURGED_AT_ONCE)
        if not isinstance(removed, Success):
            return removed
        if not removed.unwrap():
            return Success(purged)
        purged += removed.unwrap()
