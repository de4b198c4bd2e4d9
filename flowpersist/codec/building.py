"""Objects made again from blocks and rows: empty ones, then immutable ones, then contents, then what must wait.

1. Every mutable object is made empty; for immutable ones a ``Later`` stands in the table.
2. Blocks of immutables are built, then the early rows in order: these need leaves, mutable objects and each other.
3. Mutable objects are filled. A row that needs a late object waits for it.
4. Late rows are built or filled in their order; each object that is built lets those that wait for it go on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice

from attrs import define

from flowpersist.codec import kinds
from flowpersist.codec.blocks import Block, Later, build_named, fill_dict, fill_set
from flowpersist.codec.columns import Column, TypeEntry
from flowpersist.codec.limits import Limits
from flowpersist.codec.packing import Cell
from flowpersist.codec.plans import FieldsPlan, PairPlan
from flowpersist.codec.refusals import malformed
from flowpersist.codec.registry import TypeRegistry
from flowpersist.codec.weights import HashGuard

__all__ = ["Building", "Section"]


@define(eq=False)
class Section:
    """Rows in building order: kind, subject (an object's or a class's number) and number of cells of each."""

    kinds: bytes
    subjects: Sequence[int]
    lengths: Sequence[int]
    column: Column

    @property
    def built(self) -> int:
        """How many of the rows make an object, and do not fill one."""
        return sum(kind not in FILLED_KINDS for kind in self.kinds)


@define(eq=False)
class _Waiting:
    """Cells of which some are not built, and what to do once they all are."""

    cells: list[Cell]
    missing: int
    act: Callable[[list[Cell]], None]


class Building:
    """Makes the graph of one value; nothing of it leaves before it is whole."""

    def __init__(self, types: list[TypeEntry], registry: TypeRegistry, limits: Limits) -> None:
        self.waits = False
        self._types = types
        self._table: list[Cell] = []
        self._next = 0
        self._waiting: dict[int, list[_Waiting]] = {}
        self._guard = HashGuard(registry, limits)
        self._checks: list[tuple[Callable[[Cell], None], list[Cell]]] = []

    def build(self, blocks: list[Block], early: Section, late: Section, root: Column) -> Cell:
        """The root, with all that it reaches."""
        table = self._table
        for block in blocks:
            table.extend(block.make(len(table)))
        self._next = len(table)
        pending = early.built + late.built
        table.extend([Later(self._next + place) for place in range(pending)])
        self._build_flat(blocks)
        self._run(early)
        self.waits = late.built > 0
        for block in blocks:
            if not block.is_built:
                block.fill(self)
        self._run(late)
        self._check()
        return self._root(root)

    def cells(self, column: Column) -> list[Cell]:
        """The cells of a column, as far as they are there."""
        return column.cells(self._table)

    def when_built(self, cells: list[Cell], act: Callable[[list[Cell]], None]) -> None:
        """Act on the cells now, or once the last of them is there."""
        missing = {cell.number for cell in cells if type(cell) is Later}
        if not missing:
            act(cells)
            return
        waiting = _Waiting(cells, len(missing), act)
        for number in missing:
            self._waiting.setdefault(number, []).append(waiting)

    def check_later(self, entry: TypeEntry, objects: list[Cell]) -> None:
        """Look at these instances when all is filled."""
        plan = entry.registration.plan
        if isinstance(plan, FieldsPlan) and plan.check is not None:
            self._checks.append((plan.check, objects))

    def check_hashes(self, cells: Sequence[Cell], lengths: Sequence[int]) -> None:
        """Refuse what would take more than linear time to hash: rows of keys or elements, before they are hashed."""
        if Later in set(map(type, cells)):
            raise malformed("a key or element is hashed before it is built")
        self._guard.check(cells, lengths)

    def _build_flat(self, blocks: list[Block]) -> None:
        first = 0
        for block in blocks:
            if block.is_built:
                self._table[first : first + block.count] = block.build(self)
            first += block.count

    def _run(self, section: Section) -> None:
        cells = iter(self.cells(section.column))
        for kind, subject, length in zip(section.kinds, section.subjects, section.lengths, strict=True):
            row = self._resolved(list(islice(cells, length)))
            if kind in FILLED_KINDS:
                self._fill_row(kind, self._table[subject], row)
            else:
                self._place(self._build_row(kind, subject, row))

    def _resolved(self, row: list[Cell]) -> list[Cell]:
        if Later in set(map(type, row)):
            row = [self._table[cell.number] if type(cell) is Later else cell for cell in row]
            if Later in set(map(type, row)):
                raise malformed("an immutable object comes before one that it holds")
        return row

    def _place(self, built: Cell) -> None:
        number = self._next
        self._next += 1
        self._table[number] = built
        for waiting in self._waiting.pop(number, ()):
            waiting.missing -= 1
            if not waiting.missing:
                waiting.act(self._resolved(waiting.cells))

    def _build_row(self, kind: int, subject: int, row: list[Cell]) -> Cell:
        if kind == kinds.TUPLE:
            return tuple(row)
        if kind == kinds.FROZENSET:
            return self._frozenset(row)
        if kind == kinds.SLICE:
            return slice(*row)
        if kind == kinds.NAMED:
            return build_named(self._types[subject], [tuple(row)])[0]
        return self._decoded(self._types[subject], row)

    def _frozenset(self, row: list[Cell]) -> frozenset[Cell]:
        self.check_hashes(row, [len(row)])
        made = frozenset(row)
        if len(made) != len(row):
            raise malformed("a frozenset holds an element twice")
        return made

    def _decoded(self, entry: TypeEntry, row: list[Cell]) -> Cell:
        plan = entry.registration.plan
        if not isinstance(plan, PairPlan) or len(row) != 1:
            raise malformed("a class without a decode= function is decoded by one")
        value = entry.registration.upgrade(row[0], entry.version) if entry.is_older else row[0]
        return plan.decode(value)

    def _fill_row(self, kind: int, one: Cell, row: list[Cell]) -> None:
        if one:
            raise malformed("an object is filled twice")
        if kind == kinds.SET and type(one) is set:
            self.check_hashes(row, [len(row)])
            fill_set(one, row)
        elif kind == kinds.DICT and type(one) in kinds.FLAVOURS:
            keys = row[::2]
            self.check_hashes(keys, [len(keys)])
            fill_dict(one, keys, row[1::2])
        else:
            raise malformed("an object that is no set or dict is filled as one")

    def _check(self) -> None:
        for check, objects in self._checks:
            for one in objects:
                check(one)

    def _root(self, root: Column) -> Cell:
        return self._resolved(self.cells(root))[0]


FILLED_KINDS = frozenset({kinds.SET, kinds.DICT})
