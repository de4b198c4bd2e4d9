"""The keys that verify audit entries once the key that has made them is retired.

An entry's MAC is made with a key that follows from the ring's key, and no other key follows from it. That one is kept,
sealed with the key that seals now, before a key is retired. So a retired key opens nothing, and every trail verifies.
specs/persistence/audit.md tells why nobody can alter an entry with it.
"""

from __future__ import annotations

from typing import Any

from attrs import field, frozen
from returns.result import Failure, Result, Success

from flowpersist.backends.base import NamespaceSchema
from flowpersist.errors import PersistenceError, StorageError
from flowpersist.keys.keyring import KeyRing
from flowpersist.sealed.cards import at
from flowpersist.sealed.catalogue import FollowingRecords
from flowpersist.sealed.chain import Chain
from flowpersist.sealed.drafts import Draft
from flowpersist.sealed.records import SealedRecords

__all__ = ["AuditKey", "AuditKeys", "audit_keys_schema"]


@frozen
class AuditKey:
    """What verifies the entries of one key."""

    kid: str
    key: bytes = field(repr=False)


def _namespace(of: str) -> str:
    return f"{of}.audit-keys"


def audit_keys_schema(namespace: str) -> NamespaceSchema:
    """Where they are kept for the suspensions of a namespace."""
    return NamespaceSchema(_namespace(namespace))


class AuditKeys:
    """The kept keys of a hub's namespace; ``of`` are the records of its suspensions."""

    def __init__(self, of: SealedRecords[Any]) -> None:
        self._records = FollowingRecords(of, _namespace(of.namespace), AuditKey, purpose="audit")

    @property
    def records(self) -> SealedRecords[AuditKey]:
        """The records, sealed by the hub's keyring of now."""
        return self._records.now

    async def keep(self, kid: str, keyring: KeyRing | None) -> Result[None, PersistenceError]:
        """Keep what verifies the entries of a key of this ring; None: of those that were made without a ring."""
        records = self.records
        key = Chain(keyring, records.runtime.entropy).key(kid)
        if not isinstance(key, Success):
            return Failure(key.failure())
        draft = Draft(head=AuditKey(kid, key.unwrap()), attributes={}, due_at=None, body=None)
        # It is the same whoever writes it, whenever.
        return (await records.put(_key(kid), draft, revision=None)).map(lambda _: None)

    async def learn(self, kids: frozenset[str], chain: Chain) -> Result[None, PersistenceError]:
        """Have a chain verify the entries of these keys, as far as they are kept."""
        for kid in sorted(kids):
            records = self.records
            read = await records.read(_key(kid))
            if not isinstance(read, Success):
                error = read.failure()
                return Failure(error if isinstance(error, StorageError) else at(error, records.ref(_key(kid))))
            found = read.unwrap().record
            if found is not None:
                chain.learn(kid, found.head.key)
        return Success(None)


def _key(kid: str) -> str:
    return f"key/{kid}"
