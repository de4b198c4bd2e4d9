"""A collection by its name: where its records stand, and how the catalogue says that they are named."""

from __future__ import annotations

from typing import Any, Final

from returns.result import Failure, Result, Success

from flowpersist.errors import ConfigurationError, EncryptionError, PersistenceError
from flowpersist.sealed.cards import Card
from flowpersist.sealed.catalogue import (
    Collection,
    CollectionCatalog,
    FollowingRecords,
    collection_key,
    scoped_secret,
)
from flowpersist.sealed.contents import PURPOSE
from flowpersist.sealed.envelope import Sealer
from flowpersist.sealed.naming import Naming
from flowpersist.sealed.records import SealedRecords

__all__ = ["NamedCollection"]

#: Seconds until it is seen to again that the catalogue knows a project's collection: somebody may have removed it.
NOTED_FOR: Final = 300.0


class NamedCollection:
    """One collection of a hub's namespace, within a project where a ``scope`` stands for one."""

    def __init__(
        self, of: SealedRecords[Any], name: str, *, listed: bool, tenant: str | None, scope: str | None = None
    ) -> None:
        self.name = name
        self.listed = listed
        self.tenant = tenant
        self._scope = scope
        self._noted: float | None = None
        self._catalog = CollectionCatalog(of)
        self._naming: Naming | None = None
        self._kid: str | None = None
        #: With what the collection's record was seen to be sealed by the key that seals now.
        self._noted_by: Sealer | None = None
        namespace = self._catalog.namespace(collection_key(name, tenant, scope))
        self._records = FollowingRecords(of, namespace, Card, purpose=PURPOSE, tenant=tenant)

    @property
    def records(self) -> SealedRecords[Card]:
        """The records, sealed by the hub's keyring of now."""
        return self._records.now

    async def naming(self) -> Result[Naming | None, PersistenceError]:
        """How records are named; None where nothing was ever saved. Read once."""
        if self._naming is not None:
            return Success(self._naming)
        found = await self._catalog.find(self.name, self.tenant)
        return found.map(lambda made: None if made is None else self._agreed(made))

    def noted_naming(self) -> Naming | None:
        """The same where nothing need be read or written for it; else None."""
        return self._naming if self._noted_by is self.records.sealer and self._scope is None else None

    async def made_naming(self) -> Result[Naming, PersistenceError]:
        """The same for a collection that is about to be saved to: it is made where it is not there."""
        found = await self.naming()
        if not isinstance(found, Success):
            return Failure(found.failure())
        naming = found.unwrap()
        if naming is None:
            made = await self._catalog.make(self.name, self.tenant, listed=self.listed)
            if not isinstance(made, Success):
                return Failure(made.failure())
            naming = self._agreed(made.unwrap())
        if self._kid != self._catalog.kid:
            # Another key seals by now. What is sealed with one that this process lacks outlives the others anyway.
            resealed = await self._catalog.reseal(self.name, self.tenant)
            if isinstance(resealed, Failure) and not isinstance(resealed.failure(), EncryptionError):
                return Failure(resealed.failure())
            self._kid = self._catalog.kid
        else:
            self._noted_by = self.records.sealer
        return (await self._note()).map(lambda _: naming)

    async def _note(self) -> Result[None, PersistenceError]:
        now = self.records.runtime.monotonic()
        if self._scope is None or (self._noted is not None and now < self._noted + NOTED_FOR):
            return Success(None)
        key = collection_key(self.name, self.tenant, self._scope)
        made = Collection(self.name, self.tenant, self.listed, b"", self._catalog.kid)
        noted = await self._catalog.note(key, made)
        self._noted = now if isinstance(noted, Success) else None
        return noted

    def _agreed(self, made: Collection) -> Naming:
        if made.listed != self.listed:
            raise ConfigurationError(
                f"Invalid listed: expected {made.listed}, with which the collection {self.name!r} was made", "listed"
            )
        self._naming, self._kid = Naming(made.listed, scoped_secret(made.secret, self._scope)), made.kid
        return self._naming
