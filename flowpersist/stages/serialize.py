"""The stage between values and bytes: the codec's own two verbs, data first."""

from __future__ import annotations

from returns.result import Result

from flowpersist.codec import Codec
from flowpersist.errors import PersistenceError
from flowpersist.errors.arguments import check_instance

__all__ = ["deserialize", "serialize"]


def serialize(value: object, *, codec: Codec) -> Result[bytes, PersistenceError]:
    """The value as bytes; identity, cycles and sharing are part of it."""
    check_instance(codec, "codec", Codec, "a Codec")
    return codec.encode(value)


def deserialize(data: bytes, *, codec: Codec) -> Result[object, PersistenceError]:
    """The value that ``serialize`` was given."""
    check_instance(codec, "codec", Codec, "a Codec")
    return codec.decode(data)
