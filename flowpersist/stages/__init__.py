"""The pure stages: values to bytes, and bytes to sealed bytes. Each function takes its data first and returns a
``Result``.

A pipeline is a tuple of stages; ``apply_all`` folds it one way and ``revert_all`` the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from returns.result import Result, Success

from flowpersist.errors import PersistenceError
from flowpersist.errors.arguments import check_bytes, check_instance
from flowpersist.keys.suspension_key import generate_key
from flowpersist.stages.checksum import Checksum, checksum, verify
from flowpersist.stages.compress import Compress, compress, decompress
from flowpersist.stages.encrypt import Encrypt, decrypt, encrypt
from flowpersist.stages.serialize import deserialize, serialize
from flowpersist.stages.zstd import Dictionaries, Dictionary

__all__ = [
    "Checksum",
    "Compress",
    "Dictionaries",
    "Dictionary",
    "Encrypt",
    "Stage",
    "apply_all",
    "checksum",
    "compress",
    "decompress",
    "decrypt",
    "deserialize",
    "encrypt",
    "generate_key",
    "revert_all",
    "serialize",
    "verify",
]


class Stage(Protocol):
    """A step from bytes to bytes and back: ``revert`` restores what ``apply`` was given."""

    def apply(self, data: bytes) -> Result[bytes, PersistenceError]:
        """Transform the bytes."""
        ...

    def revert(self, data: bytes) -> Result[bytes, PersistenceError]:
        """Restore the bytes."""
        ...


def apply_all(data: bytes, stages: Sequence[Stage]) -> Result[bytes, PersistenceError]:
    """Apply all stages in order; stop at the first failure."""
    _check(data, stages)
    result: Result[bytes, PersistenceError] = Success(data)
    for stage in stages:
        result = result.bind(stage.apply)
    return result


def revert_all(data: bytes, stages: Sequence[Stage]) -> Result[bytes, PersistenceError]:
    """Revert all stages in reverse order; stop at the first failure."""
    _check(data, stages)
    result: Result[bytes, PersistenceError] = Success(data)
    for stage in reversed(stages):
        result = result.bind(stage.revert)
    return result


def _check(data: object, stages: object) -> None:
    check_bytes(data, "data")
    check_instance(stages, "stages", Sequence, "a sequence of stages")
