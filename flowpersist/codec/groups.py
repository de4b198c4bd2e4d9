"""Rows of one kind and class that follow each other: they are made and filled as the objects of a block are."""

from __future__ import annotations

from itertools import accumulate, pairwise

from attrs import define

from flowpersist.codec import kinds
from flowpersist.codec.columns import Column, TypeEntry
from flowpersist.codec.packing import Cell
from flowpersist.codec.parts import Block, Section
from flowpersist.codec.refusals import malformed

__all__ = ["Group", "entry_of", "grouped"]

#: Kinds of rows that are made and filled as those of a block are.
GROUPED_KINDS = frozenset({kinds.LIST, kinds.SET, kinds.DICT, kinds.INSTANCE})


@define(eq=False)
class Group:
    """Rows of one kind and class, and where their cells are in the column that they share with others."""

    rows: Section
    place: slice
    block: Block | None = None

    def as_block(self) -> Block | None:
        """A block of the same objects, where there is one of their kind."""
        kind, entry, count = self.rows.kinds[0], self.rows.entries[0], len(self.rows.kinds)
        if kind not in GROUPED_KINDS or (entry is None) == (kind == kinds.INSTANCE):
            return None
        self.block = Block(kind, count, self.rows.lengths, entry=entry)
        first = self.rows.numbers[0]
        is_run = list(self.rows.numbers) == list(range(first, first + count))
        self.block.runs = [(first, count)] if is_run else [(number, 1) for number in self.rows.numbers]
        return self.block

    def columns(self, cells: list[Cell]) -> tuple[Column, ...]:
        """The columns of that block, of these cells."""
        source = self.rows.column
        if self.rows.kinds[0] == kinds.DICT:
            self.rows.lengths = [_half(length) for length in self.rows.lengths]
            parts = [cells[::2], cells[1::2]]
        elif self.rows.kinds[0] == kinds.INSTANCE:
            width = len(entry_of(self.rows.entries[0]).names)
            if any(length != width for length in self.rows.lengths):
                raise malformed("an instance has another number of fields than its class")
            parts = [cells[place::width] for place in range(width)] or [[None] * len(self.rows.kinds)]
        else:
            parts = [cells]
        return tuple([Column(part, refers=source.refers, is_set=source.is_set) for part in parts])


def _half(length: int) -> int:
    if length % 2:
        raise malformed("a dict has a key without a value")
    return length // 2


def grouped(section: Section) -> list[Group]:
    """The rows of a section, those of one kind and class that follow each other together."""
    if not section.kinds:
        return []
    ends = [0, *accumulate(section.lengths)]
    identities = list(zip(section.kinds, map(id, section.entries), strict=True))
    changes = [place for place in range(1, len(identities)) if identities[place] != identities[place - 1]]
    return [_group(section, start, end, ends) for start, end in pairwise([0, *changes, len(identities)])]


def _group(section: Section, start: int, end: int, ends: list[int]) -> Group:
    part = slice(start, end)
    lengths = section.lengths[part]
    rows = Section(section.kinds[part], section.numbers[part], section.entries[part], lengths, section.column)
    return Group(rows, slice(ends[start], ends[end]))


def entry_of(entry: TypeEntry | None) -> TypeEntry:
    """The class of a row that must name one."""
    if entry is None:
        raise malformed("a row lacks its class")
    return entry
