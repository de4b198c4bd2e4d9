"""Claims: what stands in a record in place of a body that is a blob.

A claim is 64 bytes: the marker, the blob's nonce (16 bytes), its size (8, big-endian) and its SHA-256. No other body of
that length is ever put into a record, small as it is: it becomes a blob itself. So the length alone, which every read
and every page tells, says whether a body may be a claim, and what somebody wrote can never be taken for one.
"""

from __future__ import annotations

import hashlib
from typing import Final

from attrs import frozen

__all__ = ["CLAIM_BYTES", "Claim"]

MARKER: Final = b"\x00FPBLOB1"
CLAIM_BYTES: Final = 64
_NONCE: Final = slice(8, 24)
_SIZE: Final = slice(24, 32)
_DIGEST: Final = slice(32, 64)


@frozen
class Claim:
    """Which blob, how large, and what it must be."""

    nonce: str
    size: int
    digest: bytes

    @classmethod
    def of(cls, nonce: str, body: bytes) -> Claim:
        """The claim on a body under a new nonce. Takes a while for a large one."""
        return cls(nonce, len(body), hashlib.sha256(body).digest())

    @classmethod
    def read(cls, body: bytes | None) -> Claim | None:
        """The claim that a record's body is; None for any other body."""
        if body is None or len(body) != CLAIM_BYTES or not body.startswith(MARKER):
            return None
        return cls(body[_NONCE].hex(), int.from_bytes(body[_SIZE], "big"), body[_DIGEST])

    def written(self) -> bytes:
        """The claim as the record's body."""
        return MARKER + bytes.fromhex(self.nonce) + self.size.to_bytes(8, "big") + self.digest

    def fits(self, data: bytes) -> bool:
        """Whether this is the blob that was claimed. Takes a while for a large one."""
        return len(data) == self.size and hashlib.sha256(data).digest() == self.digest
