"""Objects of one kind with their cells, gathered until they are worth a block, and rows for the rest."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from itertools import islice

from attrs import define, field, frozen

from flowpersist.codec.packing import Cell
from flowpersist.codec.registry import Registration

__all__ = ["Batch", "Cells", "Row"]


@frozen(eq=False)
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


@frozen(eq=False)
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
    share. ``registration``: of registered classes. ``flavour`` and ``factory``: of dicts.
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

    def rows(self) -> Iterator[tuple[int, list[Cell]]]:
        """Each object's number and cells; of a dict each key and its value in turn."""
        lengths: Iterable[int] = self.lengths if self.width is None else [self.width] * len(self.numbers)
        cells = iter(self.cells)
        keys = iter(self.shape * len(self.numbers) if self.shape else self.keys)
        keyed = bool(self.shape or self.keys)
        for number, length in zip(self.numbers, lengths, strict=True):
            own = list(islice(cells, length))
            if keyed:
                own = [part for entry in zip(islice(keys, length), own, strict=True) for part in entry]
            yield number, own
