"""What a document is read into before anything is built: blocks, rows, and stand-ins for what is built later."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice

from attrs import define, field

from flowpersist.codec import kinds
from flowpersist.codec.columns import Column, TypeEntry
from flowpersist.codec.packing import Cell

__all__ = ["BUILT_KINDS", "Block", "Later", "ReadRow", "Section"]

#: Kinds of blocks whose objects are made with all that they hold.
BUILT_KINDS = frozenset({kinds.TUPLE, kinds.NAMED, kinds.FROZENSET, kinds.SLICE})


class Later:
    """Stands in the table for an object that is not built yet."""

    __slots__ = ("number",)
    #: An object whose fields are not all there must not be hashed by these.
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, number: int) -> None:
        self.number = number


@define(eq=False)
class Block:
    """One block: ``objects`` are those made empty, ``runs`` their numbers; the rest is as in the encoder's batches."""

    kind: int
    count: int
    runs: list[tuple[int, int]] = field(factory=list, init=False)
    lengths: Sequence[int] = ()
    columns: tuple[Column, ...] = ()
    flavour: int = 0
    factory: Cell = None
    limits: list[Cell] = field(factory=list)
    shape: tuple[str, ...] = ()
    entry: TypeEntry | None = None
    objects: list[Cell] = field(factory=list)

    @property
    def is_built(self) -> bool:
        """Whether its objects are immutable, so that they are made with their cells."""
        return self.kind in BUILT_KINDS

    def numbers(self) -> Iterable[int]:
        """Those of its objects."""
        return chain.from_iterable(range(first, first + length) for first, length in self.runs)


@define(eq=False)
class ReadRow:
    """One row with its cells, of which some may not be there yet."""

    kind: int
    number: int
    entry: TypeEntry | None
    cells: list[Cell]


@define(eq=False)
class Section:
    """Rows: kind, number of the object, class and number of cells of each."""

    kinds: Sequence[int]
    numbers: Sequence[int]
    entries: Sequence[TypeEntry | None]
    lengths: Sequence[int]
    column: Column

    def rows(self, cells: list[Cell]) -> Iterator[ReadRow]:
        """Each row, with its part of these cells of the section's column."""
        iterator = iter(cells)
        for kind, number, entry, length in zip(self.kinds, self.numbers, self.entries, self.lengths, strict=True):
            yield ReadRow(kind, number, entry, list(islice(iterator, length)))
