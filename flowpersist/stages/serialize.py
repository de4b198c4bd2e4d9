"""The stage between values and bytes: the codec's own two verbs, data first."""

from __future__ import annotations

from returns.result import Result

from flowpersist.codec import Codec
from flowpersist.errors import PersistenceError
from flowpersist.errors.arguments import check_instance

__all__ = ["deserialize", "serialize"]


def serialize(value: object, *, codec: Codec) -> Result[bytes, PersistenceError]:
    """Encode a value as bytes, with its identities, cycles and sharing."""
    check_instance(codec, "codec", Codec, "a Codec")
    return codec.encode(value)


def deserialize(data: bytes, *, codec: Codec) -> Result[object, PersistenceError]:
    """Decode what ``serialize`` encoded."""
    check_instance(codec, "codec", Codec, "a Codec")
    return codec.decode(data)
