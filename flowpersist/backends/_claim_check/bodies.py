"""Bodies in a blob store: kept under a nonce, fetched and verified, removed when no record names them any more."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable

from attrs import define

from flowpersist.backends._claim_check.claims import Claim
from flowpersist.backends._claim_check.own import drawn_identity, identity
from flowpersist.backends.base import StorageBackend
from flowpersist.backends.blobs import BlobStore
from flowpersist.errors import StorageError

__all__ = ["Bodies"]

log = logging.getLogger("flowpersist.backends.claim_check")


@define(eq=False)
class Bodies:
    """The blobs of one record store, under its own random name, so that stores which share a bucket never take each
    other's blobs for garbage. It is made when the first blob is kept, so that reading writes nothing.
    """

    blobs: BlobStore
    inner: StorageBackend
    entropy: Callable[[int], bytes]
    _identity: str | None = None

    async def place(self, namespace: str) -> str | None:
        """Where the blobs of a namespace are, which says nothing of its name; None where the store has no blobs."""
        if self._identity is None:
            self._identity = await identity(self.inner)
        return None if self._identity is None else _place(self._identity, namespace)

    async def keep(self, namespace: str, body: bytes) -> Claim:
        """Make a body durable under a new name."""
        if self._identity is None:
            self._identity = await drawn_identity(self.inner, self.entropy)
        claim = await asyncio.to_thread(Claim.of, self.entropy(16).hex(), body)
        await self.blobs.put(f"{_place(self._identity, namespace)}/{claim.nonce}", body)
        return claim

    async def fetch(self, namespace: str, claim: Claim) -> tuple[bytes | None, bool]:
        """A body, None where it is missing, and whether it is what was kept."""
        place = await self.place(namespace)
        data = None if place is None else await self.blobs.get(f"{place}/{claim.nonce}", claim.size)
        return data, data is not None and await asyncio.to_thread(claim.fits, data)

    async def drop(self, namespace: str, claim: Claim) -> None:
        """Remove a body that no record names. Where that fails it stays as an orphan, for the sweeper."""
        try:
            place = await self.place(namespace)
            if place is not None:
                await self.blobs.delete(f"{place}/{claim.nonce}")
        except StorageError as error:
            log.warning("a body that no record names could not be removed yet: %s", error)


def _place(identity: str, namespace: str) -> str:
    return f"{identity}/{hashlib.sha256(namespace.encode()).hexdigest()[:32]}"
