"""Small values, by a plain walk: what sets up iterators for thousands of objects costs more than a few dozen take.

The bytes are of the same format, all objects as rows in the order in which they were found. Where a value or its bytes
hold what is not common in small ones, ``None`` says so, and the general way is taken.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from itertools import chain, compress, repeat
from sys import getsizeof
from typing import TypeAlias
from uuid import UUID

from attrs import define

from flowpersist.codec import kinds
from flowpersist.codec.columns import ColumnWriter
from flowpersist.codec.encoder import whole_document
from flowpersist.codec.leaves import LEAVES, LEAVES_BY_CODE, Absent
from flowpersist.codec.limits import Limits
from flowpersist.codec.members import MemberPlan
from flowpersist.codec.packing import PLAIN_TYPES, Cell, numbers_of, unpack_cells, unpack_document, unpack_numbers
from flowpersist.codec.plans import FieldsPlan
from flowpersist.codec.reading import unpack_all
from flowpersist.codec.registry import BUILTIN_CONTAINERS, Registration, TypeRegistry
from flowpersist.codec.vocabulary import IMMUTABLE, Roles
from flowpersist.codec.writing import Writer

__all__ = ["decode_small", "encode_small"]

#: Cells of a small value; the walk of one that turns out larger has cost a tenth of a millisecond.
MOST_CELLS = 512
#: Bytes of a small document.
MOST_BYTES = 2**16
PARTS_OF_ROW = 4
EMPTY_SECTION = (b"", [kinds.PLAIN, b"\x90"])
FIRST_OBJECT = [kinds.REFERENCES, b"\0\0\0\0"]
REFERENCE = (kinds.REFERENCES, 0)
PATTERN = 14
#: Classes of leaves that may be long: those that tell their length, and the others.
TEXTS = frozenset({str, bytes})
SIZED = (PLAIN_TYPES | LEAVES.keys()) - TEXTS - {type(None), bool, float, datetime, UUID}
#: Containers that small values seldom hold.
SELDOM = BUILTIN_CONTAINERS - {list, dict, tuple}


#: A kind of row, the class in it, and what reads an object's cells, or gives None where it is not small after all.
Reading: TypeAlias = tuple[int, int, Callable[[Cell], list[Cell] | None]]


def encode_small(root: Cell, types: TypeRegistry, limits: Limits, *, brief: bool = False) -> bytes | None:
    """The bytes of a small value; None for a larger one, or one that holds more than the common kinds of objects.

    ``brief``: None too where its few cells are large.
    """
    return None if limits.max_depth < MOST_CELLS else _SmallEncoder(Roles(types), limits, brief).encode(root)


class _SmallEncoder:
    def __init__(self, roles: Roles, limits: Limits, brief: bool) -> None:  # noqa: FBT001
        self._roles = roles
        self._limits = limits
        self._brief = brief
        self._writer = Writer(limits)
        self._number_of: dict[int, int] = {}
        self._types: list[tuple[Registration, Sequence[str]]] = []
        self._type_numbers: dict[type, int] = {}
        self._readers: dict[type, Reading] = {
            list: (kinds.LIST, 0, _elements),
            dict: (kinds.DICT, 0, _entries),
            tuple: (kinds.TUPLE, 0, self._tuple),
        }
        self._columns = ColumnWriter(self._writer, roles, limits, self, self._type_number)

    def number(self, objects: list[Cell]) -> tuple[array[int], list[Cell]]:
        """The numbers of objects, all of which are known when columns are written."""
        return numbers_of(map(self._number_of.__getitem__, map(id, objects))), []

    def number_owned(self, objects: list[Cell], lists: int) -> tuple[array[int], list[Cell]]:  # noqa: ARG002
        """The same: each object of a small value has an entry."""
        return self.number(objects)

    def _type_number(self, cls: type) -> int:
        number = self._type_numbers.get(cls)
        if number is None:
            number = self._type_numbers[cls] = len(self._types)
            registration = self._roles.registration(cls)
            self._types.append((registration, registration.plan.names))
        return number

    def encode(self, root: Cell) -> bytes | None:
        if not self._roles[type(root)]:
            return None
        objects = [root]
        rows: list[int] = []
        cells: list[Cell] = []
        role, number_of = self._roles.__getitem__, self._number_of
        number_of[id(root)] = 0
        for number, one in enumerate(objects):
            kind, cls, read = self._readers.get(type(one)) or self._reader(type(one))
            own = read(one)
            if own is None or len(cells) + len(own) > MOST_CELLS:
                return None
            rows += (kind, number, cls, len(own))
            cells += own
            for cell in compress(own, map(role, map(type, own))):
                if id(cell) not in number_of:
                    number_of[id(cell)] = len(objects)
                    objects.append(cell)
        if self._brief and _sizes(cells) > MOST_BYTES:
            return None
        self._columns.charge(len(objects))
        self._writer.header(2)
        self._writer.numbers(numbers_of(rows))
        self._write(cells)
        self._writer.raw(kinds.EMPTY_SECTION)
        self._writer.raw(kinds.EMPTY_SECTION)
        self._columns.write_parts(b"\0", [(REFERENCE, [root])])
        return whole_document(self._writer, self._limits, self._types, len(objects), 0)

    def _reader(self, cls: type) -> Reading:
        """How objects of a class other than a container are read."""
        plan = None if cls in SELDOM else self._roles.registration(cls).plan
        if not isinstance(plan, FieldsPlan) or not plan.names:
            return kinds.INSTANCE, 0, _unread
        found = self._readers[cls] = kinds.INSTANCE, 1 + self._type_number(cls), plan.read_plain
        return found

    def _tuple(self, one: tuple[Cell, ...]) -> list[Cell] | None:
        found = _elements(one)
        return None if found is None or IMMUTABLE in map(self._roles.__getitem__, map(type, found)) else found

    def _write(self, cells: list[Cell]) -> None:
        classes = list(map(type, cells))
        if len(set(classes)) <= 1:
            self._columns.write(cells)
            return
        sorts = {cls: self._columns.sort_of(cls) for cls in set(classes)}
        distinct = sorted(set(sorts.values()))
        parts: list[tuple[tuple[int, int], list[Cell]]] = [(sort, []) for sort in distinct]
        places = {cls: distinct.index(sort) for cls, sort in sorts.items()}
        appends = {cls: parts[place][1].append for cls, place in places.items()}
        for append, cell in zip(map(appends.__getitem__, classes), cells, strict=True):
            append(cell)
        self._columns.write_parts(bytes(map(places.__getitem__, classes)), parts)


def _sizes(cells: list[Cell]) -> int:
    """About how many bytes the leaves take whose classes don't say that they are short."""
    texts = [cell for cell in cells if type(cell) in TEXTS]
    return sum(map(len, texts)) + sum([getsizeof(cell) for cell in cells if type(cell) in SIZED])


# Lengths first: to copy millions of cells takes milliseconds.


def _elements(one: Sequence[Cell]) -> list[Cell] | None:
    return None if len(one) > MOST_CELLS else list(one)


def _entries(one: dict[Cell, Cell]) -> list[Cell] | None:
    if len(one) > MOST_CELLS or not {str}.issuperset(map(type, one)):
        return None
    return list(chain.from_iterable(one.items()))


def _unread(_: Cell) -> None:
    """An object of a class that small values seldom hold is not read."""


def decode_small(data: bytes, types: TypeRegistry, limits: Limits) -> tuple[Cell, int] | None:
    """The value of a small document, and how many objects and cells it has; None where the general way must decide.

    What it accepts means the same there; what is wrong with bytes is left to be found there.
    """
    if len(data) > min(MOST_BYTES, limits.max_bytes, limits.max_str):
        return None
    try:
        return _SmallDecoder(types, limits).decode(unpack_document(data))
    except Exception:  # noqa: BLE001 - what the error is a sign of is for the general way to say
        return None


class _NotSmall(Exception):
    """The document holds what is not common in small ones."""


#: Stands in the table for a tuple that is not built yet.
_UNBUILT = _NotSmall()


@define(eq=False)
class _SmallDecoder:
    _types: TypeRegistry
    _limits: Limits
    _registrations: Sequence[Registration] = ()

    def decode(self, document: Cell) -> tuple[Cell, int]:
        version, types, count, blocks, (rows, column), early, late, root = document
        numbers = unpack_numbers(rows)
        codes, order, classes, lengths = (numbers[part::PARTS_OF_ROW] for part in range(PARTS_OF_ROW))
        total = sum(lengths)
        size = count + total + 1
        if len(lengths) != count or size > min(self._limits.max_nodes, 2 * MOST_BYTES):
            raise _NotSmall
        common = (version, blocks, early, late, root) == (2, [], EMPTY_SECTION, EMPTY_SECTION, FIRST_OBJECT)
        if not common or list(order) != list(range(count)):
            raise _NotSmall
        known = self._types.remembered(types)
        self._registrations = self._described(types) if known is None else known
        table = [self._shell(kind, cls) for kind, cls in zip(codes, classes, strict=True)]
        parts = self._parts(column, total)
        if kinds.TUPLE in codes:
            self._build(table, codes, lengths, self._cells(parts, table))
        cells = self._cells(parts, table)
        start = 0
        for kind, cls, length, one in zip(codes, classes, lengths, table, strict=True):
            end = start + length
            self._fill(kind, cls, one, cells[start:end])
            start = end
        return table[0], size

    def _described(self, types: bytes) -> Sequence[Registration]:
        """The classes that a document names, as they are registered here: once for each such list of names."""
        return self._types.remember(types, self._found(iter(unpack_all(memoryview(types), self._limits))))

    def _found(self, cells: Iterator[Cell]) -> Iterator[Registration]:
        for name in cells:
            version, width = next(cells), next(cells)
            if type(version) is not int or type(width) is not int:
                # True and 1.0 are equal to a 1.
                raise _NotSmall
            registration = self._types.by_name(name)
            plan = None if registration is None else registration.plan
            if registration is None or plan is None or registration.version != version or registration.name != name:
                raise _NotSmall
            names = tuple([next(cells) for _ in range(width)])
            if names != plan.names or (isinstance(plan, FieldsPlan) and plan.is_checked):
                raise _NotSmall
            yield registration

    def _shell(self, kind: int, cls: int) -> Cell:
        if kind == kinds.INSTANCE:
            plan = self._registrations[cls - 1].plan
            if cls and isinstance(plan, FieldsPlan):
                return plan.shells(1)[0]
        elif not cls and kind in SHELLS:
            return SHELLS[kind]()
        raise _NotSmall

    def _parts(self, column: Cell, count: int) -> tuple[bytes, list[tuple[bool, list[Cell]]]]:
        if column[0] != kinds.MIXED:
            return b"\0" * count, [self._part(column, count)]
        mask: bytes = column[1]
        columns = column[2:]
        if len(mask) != count:
            raise _NotSmall
        return mask, [self._part(one, mask.count(place)) for place, one in enumerate(columns)]

    def _part(self, column: Cell, count: int) -> tuple[bool, list[Cell]]:
        """Whether the cells are numbers of objects, and the cells."""
        kind = column[0]
        if kind == kinds.LEAF:
            _, code, (inner, data) = column
            leaf = LEAVES_BY_CODE[code]
            if inner != kinds.PLAIN or code == PATTERN or leaf.cls is Absent:
                raise _NotSmall
            return False, leaf.loaded(unpack_cells(memoryview(data), count * leaf.width, self._limits), self._types)
        if kind == kinds.MEMBERS:
            _, classes, (inner, data) = column
            return False, self._members(unpack_numbers(classes), inner, data, count)
        _, data = column
        if kind == kinds.PLAIN:
            return False, unpack_cells(memoryview(data), count, self._limits)
        references = unpack_numbers(data)
        if kind != kinds.REFERENCES or len(references) != count:
            raise _NotSmall
        return True, list(references)

    def _members(self, classes: Sequence[int], inner: int, data: bytes, count: int) -> list[Cell]:
        found = []
        for number, cell in zip(classes, unpack_cells(memoryview(data), count, self._limits), strict=True):
            plan = self._registrations[number].plan
            if inner != kinds.PLAIN or not isinstance(plan, MemberPlan):
                raise _NotSmall
            found.append(plan.load(cell))
        return found

    @staticmethod
    def _cells(parts: tuple[bytes, list[tuple[bool, list[Cell]]]], table: list[Cell]) -> list[Cell]:
        mask, columns = parts
        iterators = [map(table.__getitem__, cells) if refers else iter(cells) for refers, cells in columns]
        return list(map(next, map(iterators.__getitem__, mask)))

    @staticmethod
    def _build(table: list[Cell], codes: Sequence[int], lengths: Sequence[int], cells: list[Cell]) -> None:
        start = 0
        for number, (kind, length) in enumerate(zip(codes, lengths, strict=True)):
            end = start + length
            if kind == kinds.TUPLE:
                own = tuple(cells[start:end])
                if _NotSmall in map(type, own):
                    raise _NotSmall
                table[number] = own
            start = end

    def _fill(self, kind: int, cls: int, one: Cell, own: list[Cell]) -> None:
        if kind == kinds.LIST:
            one += own
        elif kind == kinds.DICT:
            keys = own[::2]
            if not {str}.issuperset(map(type, keys)):
                raise _NotSmall
            one.update(zip(keys, own[1::2], strict=True))
            if len(one) != len(keys):
                raise _NotSmall
        elif kind == kinds.INSTANCE:
            names = self._registrations[cls - 1].plan.names
            if len(own) != len(names):
                raise _NotSmall
            # Not by a comprehension: the calls are what is wanted.
            for _ in map(object.__setattr__, repeat(one, len(own)), names, own):
                pass


SHELLS: dict[int, Callable[[], Cell]] = {kinds.LIST: list, kinds.DICT: dict, kinds.TUPLE: lambda: _UNBUILT}
