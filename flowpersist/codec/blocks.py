"""What each kind of block makes empty, builds, and fills.

A mutable object is made empty at once and filled when all that can be built before is there. What can't be built yet
stands in the table as a ``Later``; a row that holds one is filled as soon as the last that it waits for is there.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import accumulate, islice, repeat
from typing import Protocol

from flowpersist.codec import kinds
from flowpersist.codec.columns import Column, TypeEntry
from flowpersist.codec.leaves import ABSENT, Absent
from flowpersist.codec.packing import Cell
from flowpersist.codec.parts import Block, Later
from flowpersist.codec.plans import FieldsPlan, NamedPlan, Plan
from flowpersist.codec.refusals import Halted, malformed
from flowpersist.codec.upgrading import upgrade_instance, upgraded_row
from flowpersist.errors import UnknownType

__all__ = [
    "build_named",
    "build_objects",
    "fill_dict",
    "fill_objects",
    "fill_ready",
    "fill_set",
    "make_objects",
    "whole_objects",
]


class GraphBuilder(Protocol):
    """What a block needs of the graph that is being built.

    ``waits``: whether a cell may be a ``Later``, so that what holds it is filled when that is built.
    """

    waits: bool

    def cells(self, column: Column) -> list[Cell]:
        """The cells of a column, as far as they are there."""
        ...

    def built_cells(self, column: Column) -> list[Cell]:
        """The cells of a column, which must all be there."""
        ...

    def when_filled(self, cells: list[Cell], act: Callable[[list[Cell]], None]) -> None:
        """Act on the cells once all that waits for nothing is filled, and the last of them is there."""
        ...

    def when_built(self, cells: list[Cell], act: Callable[[list[Cell]], None]) -> None:
        """Act on the cells now, or once the last of them is there."""
        ...

    def check_later(self, entry: TypeEntry, objects: list[Cell]) -> None:
        """Look at these instances when all is filled."""
        ...

    def check_hashes(self, cells: Sequence[Cell], lengths: Sequence[int]) -> None:
        """Refuse keys or elements that would take more than linear time to hash."""
        ...


def make_objects(block: Block) -> list[Cell]:
    """The block's mutable objects, empty."""
    block.objects = _MAKERS[block.kind](block)
    return block.objects


def fill_ready(block: Block, building: GraphBuilder) -> None:
    """Fill what refers to nothing, as far as that can be done before the rest."""
    if block.kind != kinds.RECORD:
        return
    pairs = list(zip(block.shape, block.columns, strict=True))
    ready = [(key, column) for key, column in pairs if not column.refers]
    block.shape, block.columns = tuple(key for key, _ in ready), tuple(column for _, column in ready)
    fill_objects(block, building)
    rest = [(key, column) for key, column in pairs if column.refers]
    block.shape, block.columns = tuple(key for key, _ in rest), tuple(column for _, column in rest)


def whole_objects(block: Block, building: GraphBuilder) -> list[Cell]:
    """The block's mutable objects, full, where they refer to nothing."""
    if block.kind == kinds.LIST:
        cells = block.columns[0].ready_cells()
        ends = list(accumulate(block.lengths))
        return [cells[end - length : end] for end, length in zip(ends, block.lengths, strict=True)]
    made = make_objects(block)
    fill_objects(block, building)
    return made


def build_objects(block: Block, building: GraphBuilder) -> list[Cell]:
    """The immutable objects, whose cells are leaves and mutable objects."""
    cells = building.built_cells(block.columns[0])
    if block.kind == kinds.NAMED:
        rows = rows_of_width(cells, _width(block)) if _width(block) else [()] * block.count
        return build_named(_entry(block), rows)
    if block.kind == kinds.SLICE:
        return [slice(*row) for row in rows_of_width(cells, 3)]
    cls = tuple if block.kind == kinds.TUPLE else frozenset
    if block.kind == kinds.FROZENSET:
        if block.columns[0].refers:
            raise malformed("a frozenset of objects lies among those of leaves")
        building.check_hashes(cells, block.lengths)
    return _sliced(cls, cells, block.lengths)


def fill_objects(block: Block, building: GraphBuilder) -> None:
    """Fill the mutable objects."""
    _FILLERS[block.kind](block, building)


def _entry(block: Block) -> TypeEntry:
    if block.entry is None:  # pragma: no cover - the reader gives one to each block of a kind that has one
        raise malformed("a block lacks its class")
    return block.entry


def _width(block: Block) -> int:
    return len(_entry(block).names)


def rows_of_width(cells: list[Cell], width: int) -> Iterable[tuple[Cell, ...]]:
    """Tuples of ``width`` cells each."""
    iterator = iter(cells)
    return zip(*[iterator] * width, strict=True)


def _sliced(make: Callable[[Iterable[Cell]], Cell], cells: list[Cell], lengths: Sequence[int]) -> list[Cell]:
    if make is tuple and lengths and lengths[0] and len(set(lengths)) == 1:
        return list(rows_of_width(cells, lengths[0]))
    iterator = iter(cells)
    made = [make(islice(iterator, length)) for length in lengths]
    if make is frozenset and any(map(int.__ne__, map(len, made), lengths)):
        raise malformed("a frozenset holds an element twice")
    return made


def build_named(entry: TypeEntry, rows: Iterable[tuple[Cell, ...]]) -> list[Cell]:
    """Namedtuples of these rows; those of an older version by its upgrades."""
    registration = entry.registration
    plan = registration.plan
    if not isinstance(plan, NamedPlan):
        raise malformed("a class that is not a namedtuple is used as one")
    if entry.is_older:
        rows = [upgraded_row(entry, plan, row) for row in rows]
    else:
        check_names(entry, plan, entry.names)
        if entry.names != plan.names:
            raise Halted(_changed(entry))
    return list(map(tuple.__new__, repeat(plan.cls), rows))


def check_names(entry: TypeEntry, plan: Plan, *found: Iterable[str]) -> None:
    """``UnknownType`` unless each of these sets of fields is the one that the class declares."""
    declared = set(plan.names)
    for names in found:
        given = set(names)
        if given != declared and not (given < declared and issubclass(plan.cls, BaseException)):
            raise Halted(_changed(entry))


def _changed(entry: TypeEntry) -> UnknownType:
    name, version = entry.registration.name, entry.registration.version
    return UnknownType(
        f"the stored version {entry.version} of {name} has other fields than the registered version {version}; "
        "raise version= when fields change, and register upgrades="
    )


# Making empty objects.


def _make_dicts(block: Block) -> list[Cell]:
    cls = kinds.FLAVOURS[block.flavour]
    if block.flavour == kinds.FLAVOURS.index(defaultdict):
        return [defaultdict(block.factory) for _ in range(block.count)]
    return [cls() for _ in range(block.count)]


def _make_deques(block: Block) -> list[Cell]:
    for most, length in zip(block.limits, block.lengths, strict=True):
        if most is not None and (type(most) is not int or most < length):
            raise malformed("a deque is longer than its maxlen")
    return [deque(maxlen=most) for most in block.limits]


def _make_bytearrays(block: Block) -> list[Cell]:
    cells = block.columns[0].ready
    if not {bytes}.issuperset(map(type, cells)) or len(cells) != block.count:
        raise malformed("a bytearray has no bytes")
    return list(map(bytearray, cells))


def _make_instances(block: Block) -> list[Cell]:
    return fields_of(_entry(block)).shells(block.count)


def fields_of(entry: TypeEntry) -> FieldsPlan:
    """The plan of a class with fields, once it is sure that they are those in the bytes."""
    plan = entry.registration.plan
    if not isinstance(plan, FieldsPlan):
        raise malformed("a class without fields has an instance with some")
    if not entry.is_older:
        check_names(entry, plan, entry.names)
    return plan


_MAKERS: dict[int, Callable[[Block], list[Cell]]] = {
    kinds.LIST: lambda block: [[] for _ in range(block.count)],
    kinds.SET: lambda block: [set() for _ in range(block.count)],
    kinds.RECORD: lambda block: list(map(dict.copy, repeat(dict.fromkeys(block.shape), block.count))),
    kinds.DICT: _make_dicts,
    kinds.DEQUE: _make_deques,
    kinds.BYTEARRAY: _make_bytearrays,
    kinds.INSTANCE: _make_instances,
}


# Filling them.


def _consume(calls: Iterable[object]) -> None:
    deque(calls, maxlen=0)


def _fill_sequences(block: Block, building: GraphBuilder) -> None:
    column = block.columns[0]
    iterator = iter(building.cells(column))
    waits = column.refers and building.waits
    for one, length in zip(block.objects, block.lengths, strict=True):
        if waits:
            building.when_built(list(islice(iterator, length)), one.extend)
        else:
            one.extend(islice(iterator, length))


def _fill_sets(block: Block, building: GraphBuilder) -> None:
    cells = building.cells(block.columns[0])
    building.check_hashes(cells, block.lengths)
    iterator = iter(cells)
    for one, length in zip(block.objects, block.lengths, strict=True):
        fill_set(one, list(islice(iterator, length)))


def fill_set(one: set[Cell], elements: list[Cell]) -> None:
    """Fill a set with elements that are all there and all different."""
    set.update(one, elements)
    if set.__len__(one) != len(elements):
        raise malformed("a set holds an element twice")


def fill_dict(one: dict[Cell, Cell], keys: Sequence[Cell], values: Iterable[Cell]) -> None:
    """Fill a dict with keys that are all there and all different."""
    # Not by update: that of a Counter adds to what is there. And not by methods of a subclass.
    put: Cell = OrderedDict.__setitem__ if isinstance(one, OrderedDict) else dict.__setitem__
    _consume(map(put, repeat(one), keys, values))
    if dict.__len__(one) != len(keys):
        raise malformed("a dict holds a key twice")


def _fill_dicts(block: Block, building: GraphBuilder) -> None:
    keys, values = building.cells(block.columns[0]), iter(building.cells(block.columns[1]))
    building.check_hashes(keys, block.lengths)
    waits = block.columns[1].refers and building.waits
    iterator = iter(keys)
    for one, length in zip(block.objects, block.lengths, strict=True):
        own_keys = list(islice(iterator, length))
        if waits:
            building.when_built(list(islice(values, length)), _dict_filler(one, own_keys))
        else:
            fill_dict(one, own_keys, islice(values, length))


def _record_filler(one: dict[Cell, Cell], keys: Sequence[Cell]) -> Callable[[list[Cell]], None]:
    return lambda values: one.update(zip(keys, values, strict=True))


def _dict_filler(one: dict[Cell, Cell], keys: Sequence[Cell]) -> Callable[[list[Cell]], None]:
    return lambda values: fill_dict(one, keys, values)


def _fill_records(block: Block, building: GraphBuilder) -> None:
    columns = [building.cells(column) for column in block.columns]
    if building.waits and any(column.refers for column in block.columns):
        for one, row in zip(block.objects, zip(*columns, strict=True), strict=True):
            building.when_built(list(row), _record_filler(one, block.shape))
        return
    pairs = list(zip(block.shape, columns, strict=True))
    whole = len(pairs) - len(pairs) % 4
    # Four at a time: the dict is found in the cache once for all of them.
    for place in range(0, whole, 4):
        (a, first), (b, second), (c, third), (d, fourth) = pairs[place : place + 4]
        for one, one[a], one[b], one[c], one[d] in zip(block.objects, first, second, third, fourth, strict=True):  # noqa: B007
            pass
    for key, column in pairs[whole:]:
        for one, one[key] in zip(block.objects, column, strict=True):  # noqa: B007 - the next target uses it
            pass


def _fill_instances(block: Block, building: GraphBuilder) -> None:
    entry = _entry(block)
    if entry.is_older:
        columns = [building.cells(column) for column in block.columns]
        for one, row in zip(block.objects, zip(*columns, strict=True), strict=True):
            building.when_filled(list(row), partial(upgrade_instance, one, entry, fields_of(entry)))
    else:
        _fill_fields(block, entry, building)
    building.check_later(entry, block.objects)


def _fill_fields(block: Block, entry: TypeEntry, building: GraphBuilder) -> None:
    plan = fields_of(entry)
    is_plain = plan.assign is not None and entry.names == plan.names and not building.waits
    if plan.assign is not None and is_plain and all(column.is_set for column in block.columns):
        plan.assign(block.objects, list(map(building.cells, block.columns)))
        return
    for name, column in zip(entry.names, block.columns, strict=False):
        _fill_field(block, name, column, building, plan)


def _fill_field(block: Block, name: str, column: Column, building: GraphBuilder, plan: FieldsPlan) -> None:
    cells = building.cells(column)
    if (column.is_set and not (building.waits and column.refers)) or {Later, Absent}.isdisjoint(map(type, cells)):
        _consume(map(plan.put, block.objects, repeat(name), cells))
        return
    for one, cell in zip(block.objects, cells, strict=True):
        if type(cell) is Later and name in plan.dict_names:
            # Its place in the __dict__, which nothing hashes or keeps.
            plan.put(one, name, cell)
        building.when_built([cell], one_setter(one, name, plan))


def one_setter(one: Cell, name: str, plan: FieldsPlan) -> Callable[[list[Cell]], None]:
    """What sets one field, unless it is one that is not set."""

    def fill(cells: list[Cell]) -> None:
        if cells[0] is not ABSENT:
            plan.put(one, name, cells[0])

    return fill


_FILLERS: dict[int, Callable[[Block, GraphBuilder], None]] = {
    kinds.LIST: _fill_sequences,
    kinds.DEQUE: _fill_sequences,
    kinds.SET: _fill_sets,
    kinds.DICT: _fill_dicts,
    kinds.RECORD: _fill_records,
    kinds.BYTEARRAY: lambda _block, _building: None,
    kinds.INSTANCE: _fill_instances,
}
