"""Bodies in a blob store: kept under a nonce, fetched and verified, removed when no record names them any more."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable

from attrs import frozen

from flowpersist.backends._claim_check.claims import Claim
from flowpersist.backends.blobs import BlobStore
from flowpersist.errors import StorageError

__all__ = ["Bodies"]

log = logging.getLogger("flowpersist.backends.claim_check")


@frozen
class Bodies:
    """The blobs of one record store. ``identity`` is its own random name, so that stores which share a bucket never
    take each other's blobs for garbage.
    """

    blobs: BlobStore
    identity: str
    entropy: Callable[[int], bytes]

    def place(self, namespace: str) -> str:
        """Where the blobs of a namespace are; its name itself is nobody's to read there."""
        return f"{self.identity}/{hashlib.sha256(namespace.encode()).hexdigest()[:32]}"

    def name(self, namespace: str, claim: Claim) -> str:
        """A blob's name."""
        return f"{self.place(namespace)}/{claim.nonce}"

    async def keep(self, namespace: str, body: bytes) -> Claim:
        """Make a body durable under a new name."""
        claim = await asyncio.to_thread(Claim.of, self.entropy(16).hex(), body)
        await self.blobs.put(self.name(namespace, claim), body)
        return claim

    async def fetch(self, namespace: str, claim: Claim) -> tuple[bytes | None, bool]:
        """A body, None where it is missing, and whether it is what was kept."""
        data = await self.blobs.get(self.name(namespace, claim), claim.size)
        return data, data is not None and await asyncio.to_thread(claim.fits, data)

    async def drop(self, namespace: str, claim: Claim) -> None:
        """Remove a body that no record names. Where that fails it stays as an orphan, for the sweeper."""
        try:
            await self.blobs.delete(self.name(namespace, claim))
        except StorageError as error:
            log.warning("a body that no record names could not be removed yet: %s", error)
