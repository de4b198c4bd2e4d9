"""Objects made again from blocks and rows: empty ones, then immutable ones, then contents, then what must wait.

1. Every mutable object is made empty.
2. Immutables of blocks and rows are built, then the early rows in order: these need leaves, mutable objects and each
   other. A ``Later`` stands in the table for each late object.
3. Mutable objects are filled. A row that needs a late object waits for it.
4. Late rows are built or filled in their order; each object that is built lets those that wait for it go on.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from operator import countOf

from attrs import define

from flowpersist.codec import kinds
from flowpersist.codec.bases import BASES_OF_ROW
from flowpersist.codec.blocks import (
    build_named,
    build_objects,
    fill_dict,
    fill_objects,
    fill_ready,
    fill_set,
    make_objects,
    whole_objects,
)
from flowpersist.codec.columns import Column, TypeEntry
from flowpersist.codec.factories import set_factory
from flowpersist.codec.fields import ASIDE
from flowpersist.codec.groups import Group, entry_of, grouped
from flowpersist.codec.limits import Limits
from flowpersist.codec.nesting import check_document, steps_of_block
from flowpersist.codec.packing import Cell
from flowpersist.codec.parts import Block, Later, ReadRow, Section
from flowpersist.codec.plans import (
    BuiltinPlan,
    FieldsPlan,
    NamedPlan,
    PairPlan,
    StatePlan,
    set_attributes,
)
from flowpersist.codec.refusals import malformed
from flowpersist.codec.registry import TypeRegistry
from flowpersist.codec.scalars import SCALARS
from flowpersist.codec.upgrading import upgrade_attributes
from flowpersist.codec.weights import HashGuard

__all__ = ["Building"]

MISSING = Later(-1)
#: Kinds of rows that make an object with all that it holds.
BUILT_KINDS = frozenset({kinds.TUPLE, kinds.NAMED, kinds.FROZENSET, kinds.SLICE, kinds.PAIR, kinds.SCALAR})
#: Kinds of late rows that fill an object that is there.
FILLED_KINDS = frozenset({kinds.SET, kinds.DICT, kinds.STATE})


@define(eq=False)
class _Waiting:
    """Cells of which some are not built, and what to do once they all are."""

    cells: list[Cell]
    missing: int
    act: Callable[[list[Cell]], None]


class Building:
    """Makes the graph of one value; nothing of it leaves before it is whole."""

    def __init__(self, count: int, types: list[TypeEntry], registry: TypeRegistry, limits: Limits) -> None:
        self.waits = False
        self._types = types
        self.table: list[Cell] = [MISSING] * count
        self._placed = 0
        self._unbuilt: list[Block] = []
        self._unfilled: list[Block] = []
        self._recursing: list[Block] = []
        self._groups: list[Group] = []
        self._waiting: dict[int, list[_Waiting]] = {}
        self._stateless: set[int] = set()
        self._guard = HashGuard(registry, limits)
        self._upgrading: list[tuple[list[Cell], Callable[[list[Cell]], None]]] = []
        self._checks: list[tuple[Callable[[Cell], None], list[Cell]]] = []

    def add(self, block: Block) -> None:
        """Take one block: what refers to nothing is whole at once, while its cells are in the processor's cache."""
        refers = any(column.refers for column in block.columns)
        if not refers and steps_of_block(block):
            self._recursing.append(block)
        if not refers:
            self._place_runs(block, build_objects(block, self) if block.is_built else whole_objects(block, self))
        elif block.is_built:
            self._unbuilt.append(block)
        else:
            self._place_runs(block, make_objects(block))
            fill_ready(block, self)
            self._unfilled.append(block)

    def build(self, rows: Section, early: Section, late: Section, root: Column) -> Cell:
        """The root, with all that it reaches, once all blocks are there."""
        blocks = [*self._recursing, *self._unbuilt, *self._unfilled]
        check_document(len(self.table), blocks, (rows, early, late))
        self._build_immutables(rows, early)
        self._expect(late)
        if self._placed != len(self.table):
            raise malformed("an object that is counted is not made")
        self.waits = not FILLED_KINDS.issuperset(late.kinds)
        for block in self._unfilled:
            fill_objects(block, self)
        self._fill_groups(rows)
        # What was found last is held by what was found first: upgrades read what their fields hold.
        for cells, act in reversed(self._upgrading):
            self.when_built(cells, act)
        self._run_late(late)
        if self._stateless:
            raise malformed("an object is made without its state")
        self._check()
        return self._resolved(self.cells(root))[0]

    def _build_immutables(self, rows: Section, early: Section) -> None:
        self._make_rows(rows)
        for block in self._unbuilt:
            self._place_runs(block, build_objects(block, self))
        if not BUILT_KINDS.isdisjoint(rows.kinds):
            for row in rows.rows(self.cells(rows.column)):
                if row.kind in BUILT_KINDS:
                    self._place(row.number, self._built(row, self._there(row.cells)))
        self._expect(early)
        for row in early.rows(self.cells(early.column)):
            self.table[row.number] = self._built(row, self._resolved(row.cells))

    def _check(self) -> None:
        for check, objects in self._checks:
            for one in objects:
                check(one)

    def cells(self, column: Column) -> list[Cell]:
        """The cells of a column, as far as they are there."""
        return column.cells(self.table)

    def built_cells(self, column: Column) -> list[Cell]:
        """The cells of a column, which must all be there."""
        cells = self.cells(column)
        return self._there(cells) if column.refers else cells

    def when_filled(self, cells: list[Cell], act: Callable[[list[Cell]], None]) -> None:
        """Act on the cells once all that waits for nothing is filled, and the last of them is there."""
        self._upgrading.append((cells, act))

    def when_built(self, cells: list[Cell], act: Callable[[list[Cell]], None]) -> None:
        """Act on the cells now, or once the last of them is there."""
        missing = {cell.number for cell in cells if type(cell) is Later} if self.waits else ()
        if not missing:
            act(cells)
            return
        waiting = _Waiting(cells, len(missing), act)
        for number in missing:
            self._waiting.setdefault(number, []).append(waiting)

    def check_later(self, entry: TypeEntry, objects: list[Cell]) -> None:
        """Look at these instances when all is filled."""
        plan = entry.registration.plan
        if isinstance(plan, FieldsPlan) and plan.is_checked:
            self._checks.append((plan.check, objects))

    def check_hashes(self, cells: Sequence[Cell], lengths: Sequence[int]) -> None:
        """Refuse what would take more than linear time to hash: rows of keys or elements, before they are hashed."""
        if self.waits and Later in set(map(type, cells)):
            raise malformed("a key or element is hashed before it is built")
        self._guard.check(cells, lengths)

    # Placing objects in the table.

    def _place_runs(self, block: Block, objects: list[Cell]) -> None:
        start = 0
        for first, length in block.runs:
            end = first + length
            if end > len(self.table) or countOf(map(type, self.table[first:end]), Later) != length:
                raise malformed("a number is made twice, or is beyond the table of objects")
            self.table[first:end] = objects[start : start + length]
            start += length
        self._placed += start

    def _place(self, number: int, one: Cell) -> None:
        if number >= len(self.table) or self.table[number] is not MISSING:
            raise malformed("a number is made twice, or is beyond the table of objects")
        self.table[number] = one
        self._placed += 1

    def _make_rows(self, rows: Section) -> None:
        self._groups = grouped(rows)
        for group in self._groups:
            block = group.as_block()
            if block is not None:
                self._place_runs(block, make_objects(block))
            elif group.rows.kinds[0] not in BUILT_KINDS and group.rows.kinds[0] != kinds.ATTRIBUTES:
                for number in group.rows.numbers:
                    self._place(number, self._shell(group.rows.kinds[0], group.rows.entries[0]))
            if group.rows.kinds[0] == kinds.SHELL and _awaits_state(group.rows.entries[0]):
                self._stateless.update(group.rows.numbers)

    def _fill_groups(self, rows: Section) -> None:
        cells = self.cells(rows.column)
        for group in self._groups:
            own = cells[group.place]
            if group.block is not None:
                group.block.columns = group.columns(own)
                group.block.lengths = group.rows.lengths
                fill_objects(group.block, self)
            elif group.rows.kinds[0] not in BUILT_KINDS:
                for row in group.rows.rows(own):
                    self._fill_row(row)

    def _expect(self, section: Section) -> None:
        """Stand in for what is built in order."""
        for kind, number in zip(section.kinds, section.numbers, strict=True):
            if kind not in FILLED_KINDS:
                self._place(number, Later(number))

    def _shell(self, kind: int, entry: TypeEntry | None) -> Cell:
        if kind == kinds.SHELL and _awaits_state(entry):
            return _state_plan(entry).shells(1)[0]
        return _builtin_plan(kind, entry_of(entry)).shell()

    # Building and filling rows.

    def _there(self, cells: list[Cell]) -> list[Cell]:
        if Later in set(map(type, cells)):
            raise malformed("an immutable object comes before one that it holds")
        return cells

    def _resolved(self, row: list[Cell]) -> list[Cell]:
        if Later in set(map(type, row)):
            row = [self._now(cell) if type(cell) is Later else cell for cell in row]
        return self._there(row)

    def _now(self, cell: Later) -> Cell:
        return self.table[cell.number] if cell is not MISSING else cell

    def _built(self, row: ReadRow, cells: list[Cell]) -> Cell:
        if row.kind == kinds.NAMED:
            return build_named(entry_of(row.entry), [tuple(cells)])[0]
        if row.kind == kinds.SLICE:
            return slice(*cells)
        if row.kind == kinds.PAIR:
            return self._decoded(entry_of(row.entry), cells)
        if row.kind == kinds.FROZENSET:
            self.check_hashes(cells, [len(cells)])
        content: Cell = cells[0] if row.kind == kinds.SCALAR and len(cells) == 1 else cells
        if row.entry is None:
            made: Cell = tuple(cells) if row.kind == kinds.TUPLE else frozenset(cells)
        else:
            made = _builtin_plan(row.kind, row.entry, content).built(content)
        if row.kind == kinds.FROZENSET and frozenset.__len__(made) != len(cells):
            raise malformed("a frozenset holds an element twice")
        return made

    def _decoded(self, entry: TypeEntry, row: list[Cell]) -> Cell:
        plan = entry.registration.plan
        if not isinstance(plan, PairPlan) or len(row) != 1:
            raise malformed("a class without a decode= function is decoded by one")
        return entry.registration.decoded(plan, _upgraded(entry, row[0]))

    def _fill_row(self, row: ReadRow) -> None:
        if row.number >= len(self.table):
            raise malformed("a row fills an object beyond the table")
        one = self.table[row.number]
        if row.kind == kinds.ATTRIBUTES:
            # The object itself may be built late.
            entry = entry_of(row.entry)
            wait = self.when_filled if entry.is_older or _has_aside(entry, row.cells) else self.when_built
            wait([one, *row.cells], _attribute_setter(entry))
        else:
            self.when_built(row.cells, lambda cells: self._fill(row.kind, one, cells))

    def _fill(self, kind: int, one: Cell, cells: list[Cell]) -> None:
        if kind == kinds.SET and isinstance(one, set):
            self._empty(set.__len__(one))
            self.check_hashes(cells, [len(cells)])
            fill_set(one, cells)
        elif kind == kinds.DICT and isinstance(one, dict) and not len(cells) % 2:
            keys = cells[::2]
            self._empty(dict.__len__(one))
            self.check_hashes(keys, [len(keys)])
            fill_dict(one, keys, cells[1::2])
        elif kind == kinds.DICT and isinstance(one, defaultdict) and type(one) is not defaultdict:
            set_factory(one, cells[-1])
            self._fill(kind, one, cells[:-1])
        elif kind == kinds.LIST:
            list.extend(one, cells)  # pyright: ignore[reportArgumentType]  # its shell is a list
        elif kind == kinds.DEQUE and cells and (cells[0] is None or type(cells[0]) is int):
            _fill_deque(one, cells[0], cells[1:])  # pyright: ignore[reportArgumentType]  # as above
        elif kind == kinds.BYTEARRAY and list(map(type, cells)) == [bytes]:
            bytearray.extend(one, cells[0])  # pyright: ignore[reportArgumentType]  # as above
        elif kind != kinds.SHELL or cells != [None]:
            raise malformed("an object is filled as one of another class")

    def _empty(self, length: int) -> None:
        if length:
            raise malformed("an object is filled twice")

    def _run_late(self, late: Section) -> None:
        for row in late.rows(self.cells(late.column)):
            cells = self._resolved(row.cells)
            if row.kind in FILLED_KINDS:
                self._fill_late(row, cells)
                continue
            built = self.table[row.number] = self._built(row, cells)
            if type(built) is Later:
                raise malformed("a number is made twice, or is beyond the table of objects")
            for waiting in self._waiting.pop(row.number, ()):
                waiting.missing -= 1
                if not waiting.missing:
                    waiting.act(self._resolved(waiting.cells))

    def _fill_late(self, row: ReadRow, cells: list[Cell]) -> None:
        one = self.table[row.number]
        if row.kind != kinds.STATE:
            self._fill(row.kind, one, cells)
            return
        entry = entry_of(row.entry)
        plan = _state_plan(entry)
        if type(one) is not plan.cls or len(cells) != 1:
            raise malformed("an object is filled as one of another class")
        if row.number not in self._stateless:
            raise malformed("a state is handed over twice, or to an object that has its own")
        self._stateless.remove(row.number)
        entry.registration.restored(plan, one, _upgraded(entry, cells[0]), upgraded=entry.is_older)


def _upgraded(entry: TypeEntry, value: Cell) -> Cell:
    return entry.registration.upgrade(value, entry.version) if entry.is_older else value


def _awaits_state(entry: TypeEntry | None) -> bool:
    return isinstance(entry_of(entry).registration.plan, StatePlan)


def _state_plan(entry: TypeEntry | None) -> StatePlan:
    plan = entry_of(entry).registration.plan
    if not isinstance(plan, StatePlan):
        raise malformed("a class without a state of its own is restored by one")
    return plan


def _builtin_plan(kind: int, entry: TypeEntry, content: Cell = None) -> BuiltinPlan:
    plan = entry.registration.plan
    if not isinstance(plan, BuiltinPlan) or plan.base not in BASES_OF_ROW[kind]:
        raise malformed("a class is used as a subclass of another one than its own")
    plain = SCALARS[plan.base].plain if plan.base in SCALARS else plan.base
    if kind == kinds.SCALAR and type(content) is not plain:
        raise malformed("a scalar is of a wrong class")
    return plan


def _has_aside(entry: TypeEntry, cells: Sequence[Cell]) -> bool:
    """Whether attributes are kept aside in a dict, which must be filled before they are looked at."""
    return entry.registration.is_tolerant and any(type(name) is str and name == ASIDE for name in cells[::2])


def _attribute_setter(entry: TypeEntry) -> Callable[[list[Cell]], None]:
    plan = entry.registration.plan

    def fill(cells: list[Cell]) -> None:
        if not isinstance(plan, BuiltinPlan | NamedPlan) or type(cells[0]) is not plan.cls:
            raise malformed("attributes are set on an object of another class")
        found = dict(zip(cells[1::2], cells[2::2], strict=True))
        if isinstance(plan, NamedPlan):
            set_attributes(cells[0], found)
        elif entry.is_older or entry.registration.is_tolerant:
            upgrade_attributes(cells[0], entry, plan, found)
        else:
            plan.set(cells[0], found)

    return fill


def _fill_deque(one: deque[Cell], maxlen: int | None, elements: list[Cell]) -> None:
    if maxlen is not None and maxlen < len(elements):
        raise malformed("a deque is longer than its maxlen")
    deque.__init__(one, elements, maxlen)
