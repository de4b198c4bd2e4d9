"""The order in which a decoder can make immutable objects again, and fill tables whose keys it must hash.

Mutable objects can be made empty and filled later, so cycles through them cost nothing. A tuple needs its elements
first, and a key that is hashed by its fields needs these first. So objects fall into three groups:

- flat: lists, dicts, instances and all that is mutable, and immutables without immutables in them; made in bulk;
- early: immutables that hold immutables, and hash nothing but leaves and immutables of such; made in order, before
  any filling;
- late: what hashes an object of a registered class, or is decoded by a user's function; made or filled in order, at
  the end.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain

from attrs import frozen

from flowpersist.codec import kinds
from flowpersist.codec.discovery import Batch
from flowpersist.codec.packing import Cell
from flowpersist.codec.refusals import Refused
from flowpersist.codec.vocabulary import Roles

__all__ = ["Order", "Row", "in_building_order"]

IMMUTABLE_KINDS = frozenset({kinds.TUPLE, kinds.NAMED, kinds.FROZENSET, kinds.SLICE, kinds.PAIR})

HASHED_BY_ELEMENTS = frozenset({kinds.TUPLE, kinds.NAMED, kinds.FROZENSET})


@frozen(eq=False)
class Row:
    """An object that is made or filled in order, with its batch and its cells (for a dict each key and its value in
    turn).
    """

    one: Cell
    batch: Batch
    cells: list[Cell]


@frozen(eq=False)
class Order:
    """``early`` and ``late`` rows, each after what it needs; all other objects are flat."""

    early: list[Row]
    late: list[Row]


class _Sorter:
    def __init__(self, batches: list[Batch], roles: Roles) -> None:
        self.batches = batches
        self.roles = roles
        self.immutables: set[type] = set()
        self.hashed_by_elements: set[type] = set()
        self.rows: dict[int, Row] = {}
        self.is_late: dict[int, bool] = {}
        self._pure: dict[int, bool] = {}

    def order(self) -> Order:
        present = [batch for batch in self.batches if batch.kind in IMMUTABLE_KINDS]
        self.immutables = {type(batch.objects[0]) for batch in present}
        self.hashed_by_elements = {type(batch.objects[0]) for batch in present if batch.kind in HASHED_BY_ELEMENTS}
        for batch in present:
            self._gather(batch)
        finished = list(self._finish(self.rows))
        early = [row for row in finished if not self.is_late[id(row.one)]]
        late = {id(row.one): row for row in finished if self.is_late[id(row.one)]}
        late.update((id(row.one), row) for row in chain(self._late_sets(), self._late_dicts()))
        return Order(early, self._late_order(late) if late else [])

    def _gather(self, batch: Batch) -> None:
        classes = batch.classes
        if batch.kind == kinds.PAIR:
            deep = self.immutables | classes
        elif batch.kind == kinds.FROZENSET:
            deep = {cls for cls in classes if self.roles[cls]}
        else:
            deep = self.immutables
        if deep.isdisjoint(classes):
            return
        for one, cells in batch.rows():
            if not deep.isdisjoint(map(type, cells)):
                self.rows[id(one)] = Row(one, batch, cells)

    def pure(self, root: Cell) -> bool:
        """Whether hashing this touches leaves and Python's own immutables only."""
        known = self._pure
        stack = [root]
        while stack:
            one = stack[-1]
            if id(one) in known or not self.roles[type(one)]:
                stack.pop()
            elif type(one) not in self.hashed_by_elements:
                known[id(one)] = False
            else:
                objects = [child for child in one if self.roles[type(child)]]
                missing = [child for child in objects if id(child) not in known]
                if missing:
                    stack += missing
                else:
                    known[id(one)] = all(known[id(child)] for child in objects)
        return known.get(id(root), True)

    def _finish(self, wanted: Iterable[int]) -> Iterator[Row]:
        """The rows so that each comes after the rows in its cells; decides which are late."""
        open_rows: set[int] = set()
        for start in list(wanted):
            stack = [start]
            while stack:
                top = stack[-1]
                if top in self.is_late:
                    stack.pop()
                    continue
                row = self.rows[top]
                waiting = [id(cell) for cell in row.cells if id(cell) in self.rows and id(cell) not in self.is_late]
                if waiting:
                    if top in open_rows:
                        raise Refused(
                            row.one, "reaches itself through nothing but immutable values or its own encode= function"
                        )
                    open_rows.add(top)
                    stack += waiting
                else:
                    self.is_late[top] = self._decide(row)
                    stack.pop()
                    yield row

    def _decide(self, row: Row) -> bool:
        if row.batch.kind == kinds.PAIR:
            return True
        if row.batch.kind == kinds.FROZENSET and not all(map(self.pure, row.cells)):
            return True
        return any(self.is_late.get(id(cell), False) for cell in row.cells)

    def _late_sets(self) -> Iterator[Row]:
        for batch in self.batches:
            if batch.kind == kinds.SET and self._holds_objects(batch.cells):
                for one, cells in batch.rows():
                    if not all(map(self.pure, cells)):
                        yield Row(one, batch, cells)

    def _late_dicts(self) -> Iterator[Row]:
        for batch in self.batches:
            if batch.kind == kinds.DICT and self._holds_objects(batch.keys):
                for (one, keys), (_, values) in zip(batch.key_rows(), batch.rows(), strict=True):
                    if not all(map(self.pure, keys)):
                        yield Row(one, batch, list(chain.from_iterable(zip(keys, values, strict=True))))

    def _holds_objects(self, cells: list[Cell]) -> bool:
        return True in {self.roles[cls] for cls in set(map(type, cells))}

    def _late_order(self, late: dict[int, Row]) -> list[Row]:
        # What a key's hash may depend on should be whole before it is hashed: by the order in which a walk over
        # everything leaves the objects. What a row's own cells are goes before it in any case.
        depth_first = self._leaving_order(late)
        placed: dict[int, Row] = {}
        for start in depth_first:
            stack = [start]
            while stack:
                top = stack[-1]
                missing = [id(cell) for cell in late[top].cells if self._must_precede(cell, late, placed)]
                if missing and top not in placed:
                    stack += missing
                else:
                    placed.setdefault(top, late[top])
                    stack.pop()
        return list(placed.values())

    def _must_precede(self, cell: Cell, late: dict[int, Row], placed: dict[int, Row]) -> bool:
        return id(cell) in self.rows and id(cell) in late and id(cell) not in placed

    def _leaving_order(self, late: dict[int, Row]) -> list[int]:
        cells_of = self._all_cells()
        left: list[int] = []
        entered: set[int] = set()
        for start in cells_of:
            stack: list[tuple[int, Iterator[Cell]]] = []
            if start not in entered:
                entered.add(start)
                stack.append((start, iter(cells_of[start])))
            while stack:
                top, cells = stack[-1]
                child = next((id(cell) for cell in cells if id(cell) in cells_of and id(cell) not in entered), None)
                if child is not None:
                    entered.add(child)
                    stack.append((child, iter(cells_of[child])))
                else:
                    stack.pop()
                    left.append(top)
        return [number for number in left if number in late]

    def _all_cells(self) -> dict[int, list[Cell]]:
        cells_of: dict[int, list[Cell]] = {}
        for batch in self.batches:
            if batch.kind == kinds.BYTEARRAY:
                continue
            for one, cells in batch.rows():
                cells_of[id(one)] = cells
            if batch.kind == kinds.DICT:
                for one, keys in batch.key_rows():
                    cells_of[id(one)] = keys + cells_of[id(one)]
        return cells_of


def in_building_order(batches: list[Batch], roles: Roles) -> Order:
    """Which objects are made or filled in order, and in which."""
    return _Sorter(batches, roles).order()
