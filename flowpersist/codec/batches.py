"""Objects of one kind with their cells, gathered until they are worth a block, and rows for the rest."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from itertools import chain

from attrs import define, field

from flowpersist.codec import kinds
from flowpersist.codec.packing import Cell
from flowpersist.codec.registry import Registration

__all__ = ["Batch", "Cells", "Row", "Rows"]


@define(eq=False)
class Row:
    """An object, or a part of one, that is written for itself: its cells as the format's table of rows gives them.

    ``one`` and ``batch`` are there where it is not yet decided how it is written: the object itself, and for dicts
    the batch of their flavour.
    """

    kind: int
    number: int
    cells: list[Cell]
    registration: Registration | None = None
    one: Cell = None
    batch: Batch | None = None

    def alone(self) -> Rows:
        """The same, to be written."""
        return Rows(self.kind, [self.number], [len(self.cells)], self.cells, self.registration)


@define(eq=False)
class Rows:
    """Rows of one kind and class: the number of each, the number of its cells, and all cells.

    ``shape``: the order of an instance's fields, where it is not that of its class.
    """

    kind: int
    numbers: Sequence[int]
    lengths: Sequence[int]
    cells: list[Cell]
    registration: Registration | None = None
    shape: tuple[str, ...] = ()


@define(eq=False)
class Cells:
    """The cells of some objects, one object after the other.

    ``lengths``: cells of each, where they differ. ``keys``: of dicts that are written entry by entry, one for each
    cell; of deques their greatest lengths.
    """

    numbers: Sequence[int]
    cells: list[Cell]
    lengths: Sequence[int] = ()
    keys: list[Cell] = field(factory=list)


@define(eq=False)
class Batch:
    """Cells of one kind that are to be written together.

    ``width``: cells of each object, where they do not differ. ``shape``: the keys that all dicts of a record batch
    share; of instances the order of their fields, where it is not that of their class. ``registration``: of registered
    classes. ``flavour`` and ``factory``: of dicts.
    """

    identity: Hashable
    kind: int
    width: int | None = None
    registration: Registration | None = None
    shape: tuple[str, ...] = ()
    flavour: int = 0
    factory: Cell = None
    numbers: list[int] = field(factory=list)
    lengths: list[int] = field(factory=list)
    keys: list[Cell] = field(factory=list)
    cells: list[Cell] = field(factory=list)

    def add(self, some: Cells) -> None:
        """Keep some cells for later."""
        self.numbers += some.numbers
        self.lengths += some.lengths
        self.keys += some.keys
        self.cells += some.cells

    def take(self) -> Cells:
        """All that was kept."""
        kept = Cells(self.numbers, self.cells, self.lengths, self.keys)
        self.numbers, self.lengths, self.keys, self.cells = [], [], [], []
        return kept

    def rows(self) -> Rows:
        """All that was kept, as rows; of a dict each key and its value in turn."""
        count = len(self.numbers)
        lengths = self.lengths if self.width is None else [self.width] * count
        if self.kind not in {kinds.RECORD, kinds.DICT}:
            return Rows(self.kind, self.numbers, lengths, self.cells, self.registration, self.shape)
        keys = self.shape * count if self.shape else self.keys
        entries = list(chain.from_iterable(zip(keys, self.cells, strict=True)))
        return Rows(kinds.DICT, self.numbers, [2 * length for length in lengths], entries)
