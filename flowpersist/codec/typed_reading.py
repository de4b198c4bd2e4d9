"""Typed trees to values: a library reads them, and hands over each list, map and extension as soon as it is whole."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from itertools import chain, repeat
from typing import TYPE_CHECKING, Final, TypeAlias
from uuid import UUID, SafeUUID

from flowpersist.codec.blocks import fields_of
from flowpersist.codec.columns import TypeEntry
from flowpersist.codec.counting import counted
from flowpersist.codec.encoder import encode_graph
from flowpersist.codec.entries import read_entries
from flowpersist.codec.fields import FieldsPlan
from flowpersist.codec.leaves import ID_BYTES, LEAVES, LEAVES_BY_CODE
from flowpersist.codec.packing import Cell, unpack_cells, unpack_typed
from flowpersist.codec.plans import EnumPlan
from flowpersist.codec.reading import unpack_all
from flowpersist.codec.refusals import Halted, malformed, too_many_bytes, too_many_nodes
from flowpersist.codec.typed import (
    BINARY_LEAVES,
    FIRST_CLASS,
    FIRST_LEAF,
    HEAD,
    MARKS,
    MEMBER,
    MOST_BYTES,
    MOST_CELLS,
    MOST_CLASSES,
    OTHER_LEAVES,
    PLAIN_LEAVES,
    REFERENCE,
    TEXTS,
    TUPLE,
)
from flowpersist.codec.upgrading import upgrade_instance

if TYPE_CHECKING:
    from flowpersist.codec.limits import Limits
    from flowpersist.codec.registry import TypeRegistry

__all__ = ["decode_typed"]

#: Makes an object of its cells.
Making: TypeAlias = Callable[[list[Cell]], Cell]

#: The type of a timestamp, and the bytes before it: two forms of an extension, or the length in a third.
TIMESTAMP: Final = b"\xff"
TIMESTAMP_LENGTHS: Final = frozenset({0xD6, 0xD7, 0x0C})
MOST_LOOKS: Final = 64
#: Members that are remembered with a list of classes.
MOST_MEMBERS: Final = 256
_STR: Final = frozenset({str})
#: For the first byte of a ``bin`` how many bytes tell its length.
_BIN_WIDTHS: Final = {0xC4: 1, 0xC5: 2, 0xC6: 4}
_UNKNOWN: Final = SafeUUID.unknown
_DATETIME_CODE: Final = FIRST_LEAF + LEAVES[datetime].code


def decode_typed(data: bytes, types: TypeRegistry, limits: Limits) -> Cell:
    """The value of the document of a typed tree. Whatever is wrong with the bytes raises."""
    size = len(data)
    if size > limits.max_bytes:
        raise Halted(too_many_bytes(limits))
    if size > MOST_BYTES:
        raise malformed("a typed tree is longer than one may be")
    named, tree = _parts(data)
    is_to_count = size > limits.max_nodes or _may_hold_timestamps(data)
    if is_to_count and counted(tree, limits.max_nodes) > limits.max_nodes:
        raise Halted(too_many_nodes(limits))
    classes = types.remembered(named) or types.remember(named, _Classes(named, types, limits))
    value = _value(tree, classes, types, limits)
    if size > min(limits.max_depth, limits.max_str):
        # Nothing but another walk tells how deep the value is and how long its texts are; few lower these limits.
        encode_graph(value, types, limits)
    return value


def _parts(data: bytes) -> tuple[bytes, memoryview]:
    """The table of classes and the tree."""
    start = len(HEAD)
    width = _BIN_WIDTHS.get(data[start]) if len(data) > start else None
    if width is None:
        raise malformed("a typed tree lacks its classes")
    first = start + 1 + width
    end = first + int.from_bytes(data[start + 1 : first], "big")
    return data[first:end], memoryview(data)[end:]


def _may_hold_timestamps(data: bytes) -> bool:
    """Whether an extension's header may lie somewhere that says that it is a timestamp: its last byte is in no text."""
    at = data.find(TIMESTAMP)
    for _ in range(MOST_LOOKS):
        if at < 0:
            return False
        if data[at - 1] in TIMESTAMP_LENGTHS:
            return True
        at = data.find(TIMESTAMP, at + 1)
    return True


class _Classes:
    """The classes of a document, and what makes an object for each mark."""

    def __init__(self, named: bytes, types: TypeRegistry, limits: Limits) -> None:
        self.entries = read_entries(unpack_all(memoryview(named), limits), types)
        if len(self.entries) > MOST_CLASSES:
            raise malformed("a typed tree has too many classes")
        self.makings: dict[bytes, Making] = {TUPLE: tuple, TEXTS: _texts}
        for number, entry in enumerate(self.entries):
            if isinstance(entry.registration.plan, FieldsPlan):
                self.makings[MARKS[FIRST_CLASS + number]] = _making(entry, entry.registration.plan)
        #: Members of enumerations, which are the same in all documents.
        self.members: dict[bytes, Cell] = {}
        self._limits = limits

    def member(self, data: bytes) -> Cell:
        """The member of these bytes: a class's number, and a name or value."""
        number, cell = unpack_cells(memoryview(data), 2, self._limits)
        if type(number) is not int or not 0 <= number < len(self.entries):
            raise malformed("a class has a number beyond the table of classes")
        entry = self.entries[number]
        found = entry.member(cell)
        if isinstance(entry.registration.plan, EnumPlan) and not entry.is_older and len(self.members) < MOST_MEMBERS:
            self.members[data] = found
        return found


def _texts(cells: list[Cell]) -> set[Cell]:
    made = set(cells) if _STR.issuperset(map(type, cells)) else set()
    if len(made) != len(cells):
        raise malformed("expected distinct texts in a set")
    return made


def _making(entry: TypeEntry, plan: FieldsPlan) -> Making:
    fields_of(entry)
    if entry.is_older:
        return _older(entry, plan)
    if entry.names == plan.names and plan.assign_one is not None and not (plan.is_checked or plan.resets_hash):
        return _assigned(plan, plan.assign_one)
    names, width = entry.names, len(entry.names)

    def make(cells: list[Cell]) -> Cell:
        if len(cells) != width:
            raise malformed("an object has another number of fields than its class")
        one = plan.shells(1)[0]
        # Not by a comprehension: the calls are what is wanted.
        for _ in map(plan.put, repeat(one), names, cells):
            pass
        if plan.is_checked:
            plan.check(one)
        return one

    return make


def _older(entry: TypeEntry, plan: FieldsPlan) -> Making:
    def make(cells: list[Cell]) -> Cell:
        if len(cells) != len(entry.names):
            raise malformed("an object has another number of fields than its class")
        one = plan.shells(1)[0]
        upgrade_instance(one, entry, plan, cells)
        return one

    return make


def _assigned(plan: FieldsPlan, assign: Callable[[Cell, list[Cell]], None]) -> Making:
    new, cls = plan.maker, plan.cls

    def make(cells: list[Cell]) -> Cell:
        one = new(cls)
        assign(one, cells)
        return one

    return make


def _value(tree: memoryview, classes: _Classes, types: TypeRegistry, limits: Limits) -> Cell:
    """The value of a tree. The objects stand in a table in the order in which they end."""
    table: list[Cell] = []
    listed, mapped = _containers(classes, table)
    value = unpack_typed(tree, MOST_CELLS, listed, mapped, _extensions(classes, table, types, limits))
    dicts = [one for one in table if type(one) is dict]
    if not _STR.issuperset(map(type, chain.from_iterable(dicts))):
        raise malformed("expected texts as the keys of a dict in a typed tree")
    return value


def _containers(classes: _Classes, table: list[Cell]) -> tuple[Making, Callable[[dict[Cell, Cell]], Cell]]:
    """What is made of an array, and of a map."""
    makings, end = classes.makings, table.append

    def listed(one: list[Cell]) -> Cell:
        end(one)
        return one

    def mapped(one: dict[Cell, Cell]) -> Cell:
        if len(one) == 1:
            [mark] = one
            if type(mark) is bytes:
                cells = one[mark]
                if mark not in makings or type(cells) is not list:
                    raise malformed("a map of a typed tree is neither a dict nor an object")
                # It takes the place of its cells, which ended just before.
                made = table[-1] = makings[mark](cells)
                return made
        end(one)
        return one

    return listed, mapped


def _extensions(
    classes: _Classes, table: list[Cell], types: TypeRegistry, limits: Limits
) -> Callable[[int, bytes], Cell]:
    """What is made of an extension: a leaf, a member, or a reference to an object that has ended."""
    known, member = classes.members, classes.member

    def extension(code: int, data: bytes) -> Cell:
        if code == REFERENCE:
            return table[int.from_bytes(data, "big")]
        if code == MEMBER:
            return known[data] if data in known else member(data)
        if code == _DATETIME_CODE and b";" not in data:
            return datetime.fromisoformat(data.decode())
        if code in _LOADERS:
            return _LOADERS[code](data)
        return _leaf(code - FIRST_LEAF, data, types, limits)

    return extension


def _uuid(data: bytes) -> UUID:
    if len(data) != ID_BYTES:
        raise malformed("a UUID has a wrong length")
    # Not by the constructor, which takes longer to look at arguments that are known to be right.
    made = object.__new__(UUID)
    object.__setattr__(made, "int", int.from_bytes(data, "big"))
    object.__setattr__(made, "is_safe", _UNKNOWN)
    return made


#: The shortest ways to common leaves.
_LOADERS: Final[dict[int, Callable[[bytes], Cell]]] = {
    FIRST_LEAF + LEAVES[UUID].code: _uuid,
    FIRST_LEAF + LEAVES[Decimal].code: lambda data: Decimal(data.decode()),
}


def _leaf(code: int, data: bytes, types: TypeRegistry, limits: Limits) -> Cell:
    leaf = LEAVES_BY_CODE.get(code)
    if leaf is None or code in OTHER_LEAVES:
        raise malformed(f"extension type {code + FIRST_LEAF} is unknown")
    if code in PLAIN_LEAVES:
        plain = unpack_cells(memoryview(data), leaf.width, limits)
    else:
        plain = [data if code in BINARY_LEAVES else data.decode()]
    return leaf.loaded(plain, types)[0]
