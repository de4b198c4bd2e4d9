"""Columns: many cells of one origin, written as what they are: plain values, floats, references, leaves, or a mixture.

A column that is read may refer to objects that do not exist yet, so it is kept as it came until the table of objects
is there.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Iterable, Sequence
from itertools import compress
from operator import countOf
from typing import Protocol

from attrs import define, field, frozen

from flowpersist.codec import kinds
from flowpersist.codec.leaves import LEAVES, LEAVES_BY_CODE, Absent, Leaf
from flowpersist.codec.limits import Limits
from flowpersist.codec.members import MemberPlan
from flowpersist.codec.packing import FLOAT, PLAIN_TYPES, Cell, little_endian, numbers_of, pack_floats, unpack_cells
from flowpersist.codec.reading import Reader
from flowpersist.codec.refusals import Halted, malformed, too_many_nodes
from flowpersist.codec.registry import Registration, TypeRegistry
from flowpersist.codec.vocabulary import Roles
from flowpersist.codec.writing import Writer
from flowpersist.errors import StateTooLarge, UnknownType

__all__ = ["Column", "ColumnReader", "ColumnWriter", "TypeEntry"]

#: Fewer floats than this are written as other plain values are: eight bytes each would hardly be less.
FEWEST_FLOATS = 4


def _unpack_floats(data: memoryview, count: int) -> list[Cell]:
    if len(data) != FLOAT * count:
        raise malformed("a column of floats does not hold what its count says")
    return little_endian(array("d", bytes(data))).tolist()


class Numbers(Protocol):
    """Numbers objects, as ``Numbering`` does."""

    def number(self, objects: list[Cell]) -> tuple[array[int], list[Cell]]:
        """The number of each object, and those that were not known before."""
        ...

    def number_owned(self, objects: list[Cell], lists: int) -> tuple[array[int], list[Cell]]:
        """The same for objects of which each was read from a place of its own, and which so many lists hold besides."""
        ...


class _Budget:
    """How many characters of regular expressions are left."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._left = limits.max_pattern

    def take(self, texts: Iterable[str | bytes]) -> None:
        self._left -= sum(map(len, texts))
        if self._left < 0:
            message = f"the regular expressions have over {self._limits.max_pattern} characters"
            raise Halted(StateTooLarge(f"{message}; keep fewer, or raise the limit max_pattern"))


_NATIVE_SORTS: dict[type, tuple[int, int]] = {
    **{cls: (kinds.LEAF, leaf.code) for cls, leaf in LEAVES.items()},
    **dict.fromkeys(PLAIN_TYPES, (kinds.PLAIN, 0)),
}


class ColumnWriter:
    """Writes columns, numbering the objects in them; ``found`` takes those that were not known before."""

    def __init__(
        self, writer: Writer, roles: Roles, limits: Limits, numbering: Numbers, type_number: Callable[[type], int]
    ) -> None:
        self.found: list[list[Cell]] = []
        self._writer = writer
        self._roles = roles
        self._limits = limits
        self._numbering = numbering
        self._type_number = type_number
        self._patterns = _Budget(limits)
        self._charged = 0

    def charge(self, count: int) -> None:
        """Count objects and cells as a reader will, so that nothing is written that is over its limit."""
        self._charged += count
        if self._charged > self._limits.max_nodes:
            raise Halted(too_many_nodes(self._limits))

    def note(self, cells: list[Cell]) -> None:
        """Find the objects in cells that are written later."""
        roles = self._roles
        if any(map(roles.__getitem__, set(map(type, cells)))):
            self._found(*self._numbering.number([cell for cell in cells if roles[type(cell)]]))

    def _found(self, numbers: array[int], fresh: list[Cell]) -> array[int]:
        if fresh:
            self.found.append(fresh)
        return numbers

    def write(self, cells: list[Cell], *, lists: int = 1) -> None:
        """One column of any cells, which so many lists of ours hold."""
        self.charge(len(cells))
        # Not by what a library makes of cells: it takes a member of an enumeration for its value, and walks a graph.
        first = type(cells[0]) if cells else str
        classes = {first} if countOf(map(type, cells), first) == len(cells) else set(map(type, cells))
        if first is float and len(classes) == 1 and len(cells) >= FEWEST_FLOATS:
            self._writer.header(2, kinds.FLOATS)
            self._writer.binary(pack_floats(cells))
            return
        if classes <= PLAIN_TYPES:
            self._plain(cells)
            return
        sorts = {cls: self.sort_of(cls) for cls in classes}
        distinct = sorted(set(sorts.values()))
        if len(distinct) == 1:
            self._single(distinct[0], cells, lists)
        else:
            self._mixed(distinct, sorts, cells, lists)

    def write_parts(self, mask: bytes, parts: list[tuple[tuple[int, int], list[Cell]]]) -> None:
        """One column whose cells lie apart already: for each place in the mask the sort of its cells, and these."""
        self.charge(len(mask))
        if len(parts) > 1:
            self._writer.header(2 + len(parts), kinds.MIXED)
            self._writer.binary(mask)
        for sort, cells in parts:
            self._single(sort, cells, 1)

    def sort_of(self, cls: type) -> tuple[int, int]:
        """Which kind of column a class goes into, and for leaves their code."""
        found = _NATIVE_SORTS.get(cls)
        if found is None:
            found = (kinds.REFERENCES, 0) if self._roles[cls] else (kinds.MEMBERS, 0)
        return found

    def _single(self, sort: tuple[int, int], cells: list[Cell], lists: int) -> None:
        kind, code = sort
        if kind == kinds.PLAIN:
            self._plain(cells)
        elif kind == kinds.REFERENCES:
            self._writer.header(2, kind)
            self._writer.numbers(self._found(*self._numbering.number_owned(cells, lists)))
        elif kind == kinds.LEAF:
            self._leaf(LEAVES_BY_CODE[code], cells)
        else:
            self._members(cells)

    def _plain(self, cells: list[Cell]) -> None:
        self._writer.header(2, kinds.PLAIN)
        self._writer.cells(cells)

    def _leaf(self, leaf: Leaf, cells: list[Cell]) -> None:
        if leaf.cls is re.Pattern:
            self._patterns.take([pattern.pattern for pattern in cells])
        self._writer.header(3, kinds.LEAF, leaf.code)
        self._plain(leaf.dumped(cells, self._roles.types))

    def _members(self, cells: list[Cell]) -> None:
        plans: dict[type, MemberPlan] = {cls: self._roles.registration(cls).plan for cls in set(map(type, cells))}  # type: ignore[misc]
        numbers = {cls: self._type_number(cls) for cls in dict.fromkeys(map(type, cells))}
        members = dict(zip(map(id, cells), cells, strict=True))
        dumped = {key: plans[type(member)].dump(member) for key, member in members.items()}
        self._writer.header(3, kinds.MEMBERS)
        self._writer.numbers(numbers_of(map(numbers.__getitem__, map(type, cells))))
        self._plain(list(map(dumped.__getitem__, map(id, cells))))

    def _mixed(
        self, distinct: list[tuple[int, int]], sorts: dict[type, tuple[int, int]], cells: list[Cell], lists: int
    ) -> None:
        places = {cls: distinct.index(sort) for cls, sort in sorts.items()}
        mask = bytes(map(places.__getitem__, map(type, cells)))
        self._writer.header(2 + len(distinct), kinds.MIXED)
        self._writer.binary(mask)
        for place, sort in enumerate(distinct):
            chosen = bytes(place) + b"\1" + bytes(255 - place)
            self._single(sort, list(compress(cells, mask.translate(chosen))), lists + 1)


@frozen(eq=False)
class TypeEntry:
    """A class as the bytes name it: what is registered for it here, and the version and fields there."""

    registration: Registration
    version: int
    names: tuple[str, ...]

    @property
    def is_older(self) -> bool:
        """Whether upgrades are due, or fields come and go."""
        return self.version < self.registration.version or self.registration.tolerates(self.names)

    def member(self, cell: Cell) -> Cell:
        """A member of an enumeration; upgrades see its name or value as the field ``name``."""
        plan = self.registration.plan
        if not isinstance(plan, MemberPlan):
            raise malformed("a class that is not an enumeration has a member")
        try:
            if self.is_older:
                cell = self.registration.upgrade_fields({"name": cell}, self.version)["name"]
            return plan.load(cell)
        except (KeyError, ValueError) as error:
            if self.is_older:
                raise self.registration.misfit("no name of a member") from error
            message = (
                f"{self.registration.name} does not define a stored member; register a new version of it with upgrades="
            )
            raise Halted(UnknownType(message, None, self.registration.name)) from error


@define(eq=False)
class Column:
    """Cells as they were read: ``ready`` ones, ``references`` into the table, or a ``mask`` over several columns.

    ``refers``: whether any cell is a reference. ``is_set``: no cell stands for a field that is not set.
    """

    ready: list[Cell] = field(factory=list)
    references: Sequence[int] | None = None
    mask: bytes | None = None
    parts: tuple[Column, ...] = ()
    refers: bool = False
    is_set: bool = True

    def ready_cells(self) -> list[Cell]:
        """The cells of a column that refers to nothing."""
        return self.cells([])

    def cells(self, table: list[Cell]) -> list[Cell]:
        """The cells, with the objects of the table where references are."""
        if self.references is not None:
            return list(map(table.__getitem__, self.references))
        if self.mask is None:
            return self.ready
        columns = [iter(part.cells(table)) for part in self.parts]
        return list(map(next, map(columns.__getitem__, self.mask)))


class ColumnReader:
    """Reads columns; ``types`` are the classes that the bytes name, once these are read."""

    def __init__(self, reader: Reader, registry: TypeRegistry) -> None:
        self.types: list[TypeEntry] = []
        self._reader = reader
        self._registry = registry
        self._patterns = _Budget(reader.limits)
        self._kinds: dict[int, Callable[[int, int], Column]] = {
            kinds.PLAIN: self._plain,
            kinds.FLOATS: self._floats,
            kinds.REFERENCES: self._references,
            kinds.LEAF: self._leaf,
            kinds.MEMBERS: self._members,
        }

    def read(self, count: int) -> Column:
        """One column of so many cells."""
        self._reader.charge(count)
        length = self._reader.array()
        kind = self._reader.integer()
        return self._mixed(length, count) if kind == kinds.MIXED else self._single(kind, length, count)

    def _single(self, kind: int, length: int, count: int) -> Column:
        read = self._kinds.get(kind)
        if read is None:
            raise malformed("a column is of an unknown kind")
        return read(length, count)

    def _nested(self, count: int) -> Column:
        return self._single_of(count, frozenset({kinds.PLAIN, kinds.FLOATS}))

    def _single_of(self, count: int, allowed: frozenset[int]) -> Column:
        length = self._reader.array()
        kind = self._reader.integer()
        if kind not in allowed:
            raise malformed("a column is of a kind that is not allowed there")
        return self._single(kind, length, count)

    def _expect(self, length: int, expected: int) -> None:
        if length != expected:
            raise malformed("a column has a wrong number of parts")

    def _plain(self, length: int, count: int) -> Column:
        self._expect(length, 2)
        return Column(unpack_cells(self._reader.binary(), count, self._reader.limits))

    def _floats(self, length: int, count: int) -> Column:
        self._expect(length, 2)
        return Column(_unpack_floats(self._reader.binary(), count))

    def _references(self, length: int, count: int) -> Column:
        self._expect(length, 2)
        references = self._reader.numbers()
        if len(references) != count:
            raise malformed("a column of references does not hold what its count says")
        return Column(references=references, refers=True)

    def _leaf(self, length: int, count: int) -> Column:
        self._expect(length, 3)
        leaf = LEAVES_BY_CODE.get(self._reader.integer())
        if leaf is None:
            raise malformed("a leaf is of an unknown code")
        parts = self._nested(count * leaf.width).ready
        if leaf.cls is re.Pattern:
            self._patterns.take(parts[::2])
        return Column(leaf.loaded(parts, self._registry), is_set=leaf.cls is not Absent)

    def _members(self, length: int, count: int) -> Column:
        self._expect(length, 3)
        classes = self._reader.numbers()
        members = self._nested(count).ready
        if len(classes) != count:
            raise malformed("a column of members does not hold what its count says")
        pairs = list(zip(classes, members, strict=True))
        if not {str}.issuperset(map(type, members)):
            return Column([self.types[number].member(cell) for number, cell in pairs])
        found = {pair: self.types[pair[0]].member(pair[1]) for pair in set(pairs)}
        return Column(list(map(found.__getitem__, pairs)))

    def _mixed(self, length: int, count: int) -> Column:
        mask = bytes(self._reader.binary())
        places = length - 2
        if len(mask) != count or (mask and max(mask) >= places):
            raise malformed("a mask does not fit its columns")
        allowed = frozenset(self._kinds)
        parts = tuple([self._single_of(mask.count(place), allowed) for place in range(places)])
        refers = any(part.refers for part in parts)
        return Column(mask=mask, parts=parts, refers=refers, is_set=all(part.is_set for part in parts))
