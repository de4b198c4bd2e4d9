"""The second stage on bytes: SHA-256 (FIPS 180-4) over the frame, appended to it, so that no step after it can go wrong
unseen.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Final

from attrs import frozen
from returns.result import Failure, Result, Success

from flowpersist.errors import CorruptedEnvelope, PersistenceError

__all__ = ["DIGEST_BYTES", "Checksum", "checksum", "verify"]

DIGEST_BYTES: Final = 32


def checksum(data: bytes) -> Result[bytes, PersistenceError]:
    """The data with its digest behind it."""
    return Success(b"".join((data, hashlib.sha256(data).digest())))


def verify(data: bytes) -> Result[bytes, PersistenceError]:
    """The data without its digest; ``CorruptedEnvelope`` where that does not match."""
    if len(data) < DIGEST_BYTES:
        return Failure(
            CorruptedEnvelope(f"a frame ends with {DIGEST_BYTES} bytes of digest, and this has {len(data)} in all")
        )
    view = memoryview(data)
    body, digest = view[:-DIGEST_BYTES], view[-DIGEST_BYTES:]
    if not hmac.compare_digest(hashlib.sha256(body).digest(), digest):
        return Failure(CorruptedEnvelope("the frame's digest does not match; restore the record from a backup"))
    return Success(bytes(body))


@frozen
class Checksum:
    """The stage of ``checksum`` and ``verify``."""

    def apply(self, data: bytes) -> Result[bytes, PersistenceError]:
        """Append the digest."""
        return checksum(data)

    def revert(self, data: bytes) -> Result[bytes, PersistenceError]:
        """Verify the digest and take it off."""
        return verify(data)
