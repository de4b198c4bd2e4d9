"""msgspec's own values in a state: ``UNSET``, ``Raw``, ``Ext`` and errors: ``register(types)``."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from flowpersist.codec import TypeRegistry
from flowpersist.integrations._packages import made_of_pair, modules
from flowpersist.integrations._refusals import malformed

__all__ = ["register"]


def register(types: TypeRegistry) -> TypeRegistry:
    """Add ``UNSET``, ``NODEFAULT``, ``Raw``, ``msgpack.Ext`` and msgspec's errors to a registry, which is given back.

    Structs need no call: ``TypeRegistry.tree`` takes them. ``ConfigurationError`` where one of these classes is
    registered with other arguments.
    """
    msgspec, msgpack = modules("msgspec", "msgspec", "msgspec.msgpack")
    found = TypeRegistry.subclasses(msgspec.MsgspecError)
    for marker in (msgspec.UNSET, msgspec.NODEFAULT):
        found.register(type(marker), encode=_nothing, decode=_marker_of(marker))
    found.register(msgspec.Raw, encode=bytes, decode=msgspec.Raw)
    found.register(msgpack.Ext, encode=_parts, decode=made_of_pair(msgpack.Ext))
    types |= found
    return types


def _nothing(_: object) -> None:
    """A marker holds nothing."""


@cache
def _marker_of(marker: object) -> Callable[[object], object]:
    def load(nothing: object) -> object:
        if nothing is not None:
            raise malformed("a marker of msgspec has a value")
        return marker

    return load


def _parts(extension: Any) -> object:  # noqa: ANN401 - msgspec is imported when it is asked for
    return extension.code, extension.data
