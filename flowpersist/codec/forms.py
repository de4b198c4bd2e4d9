"""Which form a value is written in: a tree, a typed tree or a table of objects; and the value of a document of each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flowpersist.codec.collector import collector_paused
from flowpersist.codec.decoder import decode_graph
from flowpersist.codec.encoder import encode_graph
from flowpersist.codec.packing import Cell
from flowpersist.codec.trees import decode_tree, encode_tree, is_tree
from flowpersist.codec.typed import is_typed
from flowpersist.codec.typed_reading import decode_typed
from flowpersist.codec.typed_writing import encode_typed

if TYPE_CHECKING:
    from flowpersist.codec.limits import Limits
    from flowpersist.codec.registry import TypeRegistry

__all__ = ["decode_any", "encode_short", "is_short"]


def encode_short(value: Cell, types: TypeRegistry, limits: Limits, *, brief: bool = False) -> bytes | None:
    """The document of a tree or typed tree; None for a value that takes a table of objects.

    ``brief``: None too where a look of some tenths of a millisecond does not tell.
    """
    return encode_tree(value, limits, brief=brief) or encode_typed(value, types, limits, brief=brief)


def is_short(data: bytes) -> bool:
    """Whether these bytes begin as the document of a tree or typed tree does."""
    return is_tree(data) or is_typed(data)


def decode_any(data: bytes, types: TypeRegistry, limits: Limits) -> Cell:
    """The value of any document. Whatever is wrong with the bytes raises."""
    if is_tree(data):
        return decode_tree(data, types, limits)
    with collector_paused():
        return _decode_objects(data, types, limits)


def _decode_objects(data: bytes, types: TypeRegistry, limits: Limits) -> Cell:
    if is_typed(data):
        return decode_typed(data, types, limits)
    value, size = decode_graph(data, types, limits)
    if size > limits.max_depth:
        # Nothing but another walk tells how deep the value is; it is a setting that few lower.
        encode_graph(value, types, limits)
    return value
