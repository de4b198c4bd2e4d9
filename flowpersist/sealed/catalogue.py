"""Collections of values beside the suspensions of a namespace: a namespace of its own for each, and a catalogue.

The catalogue has one record for each collection, sealed for control. It says how the collection names its records, and
holds the secret of their digests: so the names stay the same when the keyring is rotated. Its key is also the end of
the collection's namespace, so that maintenance finds all collections without opening anything.

Within a project a collection has a namespace of its own too, and a record in the catalogue that only says that it is
there. Its names are made with a secret that follows from the one of the collection outside of projects: so the project
can be removed with that record, and what a process writes afterwards that knew nothing of it is found all the same.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Generic, TypeVar

from attrs import evolve, field, frozen
from returns.result import Failure, Result, Success

from flowpersist.backends.base import Range, Where
from flowpersist.errors import PersistenceError, RevisionConflict, StorageError
from flowpersist.keys.tenant_keys import TenantRing
from flowpersist.sealed.cards import Card, at
from flowpersist.sealed.contents import PURPOSE
from flowpersist.sealed.drafts import Decided, Draft, Found
from flowpersist.sealed.records import SealedRecords
from flowpersist.sealed.walking import stored_pages
from flowpersist.stages.header import framed

__all__ = [
    "Collection",
    "CollectionCatalog",
    "FollowingRecords",
    "beside",
    "collection_key",
    "expired_before",
    "name_in",
    "project_scope",
    "purge_all",
    "purge_old",
    "scope_in",
    "scoped_secret",
]

H = TypeVar("H")
SECRET_BYTES: Final = 32
PURGED_AT_ONCE: Final = 500
PAGE: Final = 100
BEGINNING: Final = datetime.min.replace(tzinfo=UTC)
#: Before a scope and before a tenant: no name of a collection has it.
_SCOPED: Final = "@"


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


def collection_key(name: str, tenant: str | None, scope: str | None = None) -> str:
    """The catalogue's key of a collection, which is also the end of its namespace; ``scope`` is a project's."""
    if scope is not None:
        return f"{_SCOPED}{scope}.{name}"
    if tenant is None:
        return name
    return f"{name}{_SCOPED}{hashlib.sha256(tenant.encode()).hexdigest()[:32]}"


def project_scope(tenant: str | None, project: str) -> str:
    """A digest that stands for the project of a tenant."""
    owner = b"" if tenant is None else b"=" + tenant.encode()
    return hashlib.sha256(framed(owner) + project.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def scoped_secret(secret: bytes, scope: str | None) -> bytes:
    """The secret of a collection's digests within a project; empty where the collection has none."""
    return hmac.digest(secret, b"project" + scope.encode(), "sha256") if secret and scope is not None else secret


def name_in(key: str) -> str:
    """The name of the collection of a catalogue's key."""
    return key.partition(".")[2] if key.startswith(_SCOPED) else key.partition(_SCOPED)[0]


def scope_in(key: str) -> str | None:
    """The project's scope in a catalogue's key; None where it is of no project."""
    return key[len(_SCOPED) :].partition(".")[0] if key.startswith(_SCOPED) else None


def beside(key: str, name: str) -> str:
    """The catalogue's key of the collection of that name, of the same tenant and project as that of ``key``."""
    own = len(name_in(key))
    return key[:-own] + name if key.startswith(_SCOPED) else name + key[own:]


class FollowingRecords(Generic[H]):
    """Records beside those of a hub, sealed by whatever keyring the hub has now."""

    def __init__(
        self, of: SealedRecords[Any], namespace: str, head_type: type[H], *, purpose: str, tenant: str | None = None
    ) -> None:
        self._of = of
        self._records = SealedRecords(
            of.backend, of.sealer, namespace, head_type, purpose=purpose, runtime=of.runtime, tenant=tenant
        )

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
        self.of = of
        self._records = FollowingRecords(of, f"{of.namespace}.collections", Collection, purpose="collection")

    @property
    def records_of_all(self) -> SealedRecords[Collection]:
        """The catalogue's own records, one for each collection."""
        return self._records.now

    def namespace(self, key: str) -> str:
        """Where the records of the collection of that key stand."""
        return f"{self.of.namespace}.values.{key}"

    async def find(self, name: str, tenant: str | None) -> Result[Collection | None, PersistenceError]:
        """A collection, or None where nobody has made it."""
        return await self.read(collection_key(name, tenant))

    async def read(self, key: str) -> Result[Collection | None, PersistenceError]:
        """The collection of a key, or None. Of a project's collection the secret is not here."""
        records = self._records.now
        read = await records.read(key)
        if isinstance(read, Failure) and not isinstance(read.failure(), StorageError):
            return Failure(at(read.failure(), records.ref(key)))
        return read.map(lambda found: None if found.record is None else found.record.head)

    async def make(self, name: str, tenant: str | None, *, listed: bool) -> Result[Collection, PersistenceError]:
        """A new collection, or the one that another process has just made."""
        records = self._records.now
        secret = b"" if records.sealer.keyring is None else records.runtime.entropy(SECRET_BYTES)
        made = Collection(name, tenant, listed, secret, self.kid)
        draft = Draft(head=made, attributes={"tenant": tenant}, due_at=None, body=None)
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
        keyring = self.of.sealer.keyring
        return None if keyring is None else keyring.primary

    async def reseal(self, name: str, tenant: str | None) -> Result[None, PersistenceError]:
        """Seal a collection's record with the key that seals now: it must outlive the key that it was made with."""

        async def decide(found: Found[Collection]) -> Decided[Collection, None]:
            record = found.record
            if record is None or record.head.kid == self.kid:
                return Success(None)
            return Draft(head=evolve(record.head, kid=self.kid), attributes=record.attributes, due_at=None, body=None)

        return (await self._records.now.update(collection_key(name, tenant), decide)).result

    async def note(self, key: str, made: Collection) -> Result[None, PersistenceError]:
        """Have a record that says that a project has a collection. One that is there stays as it is."""
        draft = Draft(head=evolve(made, secret=b""), attributes={"tenant": made.tenant}, due_at=None, body=None)
        written = await self._records.now.put(key, draft, revision=0)
        if isinstance(written, Failure) and not isinstance(written.failure(), RevisionConflict):
            return Failure(written.failure())
        return Success(None)

    async def keys(self, prefix: str = "") -> AsyncIterator[Result[tuple[str, datetime], PersistenceError]]:
        """The keys of all collections that begin with a prefix, each with the store's present. No record is opened."""
        where = Where(range=Range("key", prefix=prefix)) if prefix else Where()
        async for listed in stored_pages(self._records.now, where, limit=PAGE):
            if not isinstance(listed, Success):
                yield Failure(listed.failure())
                return
            page = listed.unwrap()
            for record in page.items:
                yield Success((record.ref.key, page.now))

    def records(self, key: str) -> SealedRecords[Any]:
        """The records of the collection of that key, which are not opened by it."""
        of = self.of
        return SealedRecords(of.backend, of.sealer, self.namespace(key), Collection, runtime=of.runtime)

    async def values(self, key: str) -> SealedRecords[Card]:
        """The records of the collection of that key, to be opened and sealed as its stores do."""
        of, tenant = self.of, None
        if isinstance(of.sealer.keyring, TenantRing):
            # Of a shredded tenant neither this nor the values can be opened.
            found = (await self.read(key)).value_or(None)
            tenant = None if found is None else found.tenant
        namespace = self.namespace(key)
        return SealedRecords(of.backend, of.sealer, namespace, Card, purpose=PURPOSE, runtime=of.runtime, tenant=tenant)

    async def remove(self, scope: str) -> Result[int, PersistenceError]:
        """Delete all collections of a project; gives how many records of values went."""
        removed = 0
        async for found in self.keys(f"{_SCOPED}{scope}."):
            if not isinstance(found, Success):
                return Failure(found.failure())
            key, _ = found.unwrap()
            # Twice, for what was written before the collection was gone from the catalogue.
            for last in (False, True):
                purged = await purge_all(self.records(key), Where())
                if not isinstance(purged, Success):
                    return purged
                removed += purged.unwrap()
                gone = Success(True) if last else await self._records.now.delete(key, revision=None)
                if not isinstance(gone, Success):
                    return Failure(gone.failure())
        return Success(removed)


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
