"""Values to bytes and back: graphs with cycles and sharing, a closed registry of classes, limits."""

from flowpersist.codec.codec import Codec
from flowpersist.codec.limits import Limits
from flowpersist.codec.registry import TypeRegistry

__all__ = ["Codec", "Limits", "TypeRegistry"]
