"""What a store knows of itself: its own random name, by which its blobs are called."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from flowpersist.backends.base import NamespaceSchema, RecordChange, RecordRef, StorageBackend
from flowpersist.errors import BackendUnavailable, RevisionConflict, UnknownOutcome

__all__ = ["OWN", "drawn_identity", "identity"]

#: Where a store keeps its own name, and when each of its namespaces was swept.
OWN: Final = NamespaceSchema("flowpersist.blobs")
_STORE: Final = RecordRef(OWN.name, "store")
_IDENTITY_BYTES: Final = 16
_ATTEMPTS: Final = 5


async def identity(inner: StorageBackend) -> str | None:
    """The store's own name; None where it has none yet, and so no blobs."""
    record = (await inner.get(_STORE, body=False)).record
    return record.head.hex() if record is not None and len(record.head) == _IDENTITY_BYTES else None


async def drawn_identity(inner: StorageBackend, entropy: Callable[[int], bytes]) -> str:
    """The store's own name. The first process that keeps a blob makes it."""
    for _ in range(_ATTEMPTS):
        record = (await inner.get(_STORE, body=False)).record
        if record is not None and len(record.head) == _IDENTITY_BYTES:
            return record.head.hex()
        change = RecordChange(entropy(16).hex(), head=entropy(_IDENTITY_BYTES))
        try:
            await inner.put(_STORE, change, if_revision=0 if record is None else record.revision)
        except (RevisionConflict, UnknownOutcome):
            # Somebody else was quicker, or it was done: the next look tells.
            continue
    message = f"the {inner.name} store has no identity yet, which the names of its blobs need; try again"
    raise BackendUnavailable(message, inner.name, True)
