"""Mutable classes of the standard library that need no registration, besides the containers with wire forms of their
own: each has a plan, as a registered class has.
"""

from __future__ import annotations

from array import array
from collections import ChainMap, UserDict, UserList, UserString
from collections.abc import Mapping
from functools import cache, partial
from gc import get_referents
from sys import byteorder
from types import MappingProxyType, SimpleNamespace
from warnings import catch_warnings, simplefilter
from weakref import ReferenceType

from attrs import frozen

from flowpersist.codec.packing import Cell
from flowpersist.codec.plans import BuiltinPlan, PairPlan, Plan, StatePlan
from flowpersist.codec.references import FUNCTIONS
from flowpersist.codec.refusals import Halted, Refused, malformed
from flowpersist.errors import UnknownType

__all__ = ["STANDARD_NAMES", "STANDARD_PLANS"]

#: The parts of a partial's state: the function, its arguments, its keywords and other attributes.
PARTS_OF_PARTIAL = 4


# Views of mappings.


def _viewed(view: MappingProxyType[Cell, Cell]) -> Cell:
    # The one reference that a view holds; its own methods give copies only.
    (mapping,) = get_referents(view)
    if not isinstance(mapping, Mapping) or type(mapping) is MappingProxyType:
        raise Refused(view, "is a view of an object that is not a mapping; use a view of a dict")
    return mapping


def _view(mapping: Cell) -> MappingProxyType[Cell, Cell]:
    if not isinstance(mapping, Mapping) or type(mapping) is MappingProxyType:
        raise malformed("a mappingproxy is made of what is not a mapping")
    return MappingProxyType(mapping)


# Arrays: the code, the bytes of an item, and all bytes in little-endian order; of characters a str.


def _dump_array(one: Cell) -> Cell:
    if one.typecode in "uw":
        return (one.typecode, one.itemsize, one.tounicode())
    items = one
    if byteorder == "big":  # pragma: no cover - no such machine runs the tests
        items = array(one.typecode, one)
        items.byteswap()
    return (one.typecode, one.itemsize, items.tobytes())


def _load_array(cell: Cell) -> Cell:
    code, size, data = cell if type(cell) is tuple and len(cell) == 3 else (None, None, None)  # noqa: PLR2004
    if type(code) is str and code in ("u", "w") and type(data) is str:
        return _of_characters(code, data)
    if type(code) is not str or len(code) != 1 or code not in "bBhHiIlLqQfd" or type(data) is not bytes:
        raise malformed("an array has no code or no bytes")
    made: Cell = array(code)
    if made.itemsize != size:
        # A long has eight bytes on some machines and four on others.
        if code not in "lL" or size not in {4, 8}:
            raise malformed("an array has items of a wrong size")
        stored: Cell = array({("l", 4): "i", ("l", 8): "q", ("L", 4): "I", ("L", 8): "Q"}[code, size])
        stored.frombytes(data)
        return array(code, stored)
    made.frombytes(data)
    if byteorder == "big":  # pragma: no cover - no such machine runs the tests
        made.byteswap()
    return made


def _of_characters(code: str, data: str) -> Cell:
    try:
        # A copy: from CPython 3.13 on array warns of each new one of the code u.
        made: Cell = _empty(code)[:]
    except ValueError as error:
        message = f"the bytes hold an array of the type code {code!r}, which this release of Python does not have"
        raise Halted(UnknownType(f"{message}; read them with the one that wrote them")) from error
    made.fromunicode(data)
    return made


@cache
def _empty(code: str) -> Cell:
    with catch_warnings():
        simplefilter("ignore", DeprecationWarning)
        return array(code)


# Functions with some of their arguments.


@frozen
class PartialPlan(StatePlan):
    """A partial, whose function is one that the registry names."""

    def shells(self, count: int) -> list[Cell]:
        """Partials of nothing yet."""
        return [partial.__new__(partial, _no_function) for _ in range(count)]

    def encode(self, one: Cell) -> Cell:
        """The function, the arguments, the keywords and the attributes."""
        if type(one.func) not in FUNCTIONS and not isinstance(one.func, type):
            reason = f"is a partial of an object of {type(one.func).__qualname__}"
            raise Refused(one, f"{reason}; use a function or class that TypeRegistry.reference has named")
        return (one.func, one.args, one.keywords, one.__dict__ or None)

    def restore(self, one: Cell, state: Cell) -> None:
        """Hand over what ``encode`` gave; anything else is malformed."""
        if type(state) is not tuple or len(state) != PARTS_OF_PARTIAL:
            raise malformed("a partial lacks a part")
        function, arguments, keywords, attributes = state
        is_whole = type(function) in FUNCTIONS or isinstance(function, type)
        if not is_whole or type(arguments) is not tuple or type(keywords) is not dict:
            raise malformed("a partial has a part of a wrong class")
        if type(attributes) not in {dict, type(None)}:
            raise malformed("a partial has attributes that are not in a dict")
        one.__setstate__(state)


def _no_function() -> None:
    """Stands in a partial until its own function is there."""


# Weak references: an object is kept by what refers to it otherwise, which the encoder looks at.


def _dump_weak(one: Cell) -> Cell:
    if one.__callback__ is not None:
        raise Refused(one, "is a weak reference with a callback; use one without")
    return one()


class _Gone:
    """What a dead weak reference referred to."""


def _load_weak(cell: Cell) -> Cell:
    return ReferenceType(_Gone() if cell is None else cell)


#: How an object of each of these classes is read and made again.
STANDARD_PLANS: dict[type, Plan] = {
    SimpleNamespace: BuiltinPlan(SimpleNamespace, SimpleNamespace, ()),
    **{cls: BuiltinPlan(cls, object, ()) for cls in (ChainMap, UserDict, UserList, UserString)},
    MappingProxyType: PairPlan(MappingProxyType, _viewed, _view),
    array: PairPlan(array, _dump_array, _load_array),
    partial: PartialPlan(partial),
    ReferenceType: PairPlan(ReferenceType, _dump_weak, _load_weak),
}
#: What they are called in the bytes, whatever a release of Python calls them.
STANDARD_NAMES: dict[type, str] = {
    SimpleNamespace: "types.SimpleNamespace",
    MappingProxyType: "types.MappingProxyType",
    array: "array.array",
    partial: "functools.partial",
    ReferenceType: "weakref.ref",
    **{cls: f"collections.{cls.__name__}" for cls in (ChainMap, UserDict, UserList, UserString)},
}
