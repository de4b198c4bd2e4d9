"""The second stage on bytes: SHA-256 (FIPS 180-4) over the frame, appended to it, which reveals any fault of the later
steps.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from typing import Final

from attrs import frozen
from returns.result import Failure, Result, Success

from flowpersist.errors import CorruptedEnvelope, PersistenceError
from flowpersist.errors.arguments import check_bytes

__all__ = ["DIGEST_BYTES", "Checksum", "checksum", "digest", "verified", "verify"]

DIGEST_BYTES: Final = 32


def checksum(data: bytes) -> Result[bytes, PersistenceError]:
    """Append the data's digest to it."""
    check_bytes(data, "data")
    return Success(b"".join((data, digest((data,)))))


def digest(parts: Iterable[bytes]) -> bytes:
    """The digest of data in parts, which need not be joined for it."""
    sha = hashlib.sha256()
    for part in parts:
        sha.update(part)
    return sha.digest()


def verify(data: bytes) -> Result[bytes, PersistenceError]:
    """Remove the digest; ``CorruptedEnvelope`` if it does not match."""
    check_bytes(data, "data")
    found = verified(data)
    return Success(bytes(found)) if isinstance(found, memoryview) else Failure(found)


def verified(data: bytes) -> memoryview | PersistenceError:
    """The same without a copy: a view of the given data, or the error."""
    if len(data) < DIGEST_BYTES:
        return CorruptedEnvelope(f"the frame has {len(data)} bytes, fewer than the {DIGEST_BYTES} of its digest")
    view = memoryview(data)
    body = view[:-DIGEST_BYTES]
    if not hmac.compare_digest(hashlib.sha256(body).digest(), view[-DIGEST_BYTES:]):
        return CorruptedEnvelope("the frame's digest does not match; restore the record from a backup")
    return body


@frozen
class Checksum:
    """The stage of ``checksum`` and ``verify``."""

    def apply(self, data: bytes) -> Result[bytes, PersistenceError]:
        """Append the digest."""
        return checksum(data)

    def revert(self, data: bytes) -> Result[bytes, PersistenceError]:
        """Verify the digest and remove it."""
        return verify(data)
