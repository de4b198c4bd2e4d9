"""Values to bytes and back: graphs with cycles and sharing, a closed registry of classes, limits."""

from flowpersist.codec.codec import Codec
from flowpersist.codec.limits import Limits
from flowpersist.codec.registry import TypeRegistry
from flowpersist.codec.type_checking import check_types

__all__ = ["Codec", "Limits", "TypeRegistry", "check_types"]
