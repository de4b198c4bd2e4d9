"""Each object's number: its place in the order in which objects were found."""

from __future__ import annotations

import sysconfig
from array import array
from collections import defaultdict
from collections.abc import Sequence
from itertools import chain, count, pairwise
from operator import countOf, eq
from sys import getrefcount
from types import MemberDescriptorType

from flowpersist.codec.leaves import ABSENT, Absent
from flowpersist.codec.packing import Cell, numbers_of

__all__ = ["COUNTS_OWNERS", "Numbering", "ReachedIndirectly", "are_owners", "runs_of"]


class ReachedIndirectly(Exception):
    """An object is reached by a function, so that references don't tell how often."""


class Numbering:
    """Numbers objects by their identity, a column at a time, and keeps them alive so that no identity is used anew.

    An object to which there is but one reference is reached once: it needs no entry by which to find it again, and that
    entry would cost more than all else. ``by_owners`` says that references may be counted so; it ends by
    ``ReachedIndirectly`` where a function stands between an object and what holds it.
    """

    def __init__(self, *, by_owners: bool) -> None:
        self._number_of: defaultdict[int, int] = defaultdict(count().__next__)
        self._kept: list[list[Cell]] = []
        self._count = 0
        self._by_owners = by_owners

    def __len__(self) -> int:
        return self._count

    def objects(self) -> list[Cell]:
        """All that have a number, in the order of the numbers."""
        return list(chain.from_iterable(self._kept))

    def needs_identity(self) -> None:
        """From here on an object may be reached without a reference of its own."""
        if self._by_owners:
            raise ReachedIndirectly

    def knows(self, one: Cell) -> bool:
        """Whether an object has a number; asked only where each has an entry."""
        return id(one) in self._number_of

    def number(self, objects: list[Cell]) -> tuple[array[int], list[Cell]]:
        """The number of each object, and those that were not known before, which have the latest numbers."""
        before = len(self._number_of)
        first = self._count
        numbers = numbers_of(())
        for start in range(0, len(objects), MOST_AT_ONCE):
            # In portions, between which other threads may run.
            numbers.extend(map(self._number_of.__getitem__, map(id, objects[start : start + MOST_AT_ONCE])))
        new = len(self._number_of) - before
        if not new:
            return numbers, []
        self._count += new
        fresh = objects
        if new < len(objects):
            fresh = list(
                {number: one for number, one in zip(numbers, objects, strict=True) if number >= first}.values()
            )
        self._kept.append(fresh)
        return numbers, fresh

    def number_owned(self, objects: list[Cell], lists: int) -> tuple[array[int], list[Cell]]:
        """The same for objects of which each was read from a place of its own, and which so many lists hold besides."""
        owned = ALONE + lists
        if not self._by_owners or len(objects) < FEWEST or countOf(map(getrefcount, objects), owned) != len(objects):
            return self.number(objects)
        first = self._count
        self._count += len(objects)
        self._number_of.default_factory = count(self._count).__next__
        self._kept.append(objects)
        return numbers_of(range(first, self._count)), objects


MOST_AT_ONCE = 2**13
#: Fewer objects than this are not worth a look at their references.
FEWEST = 8
#: What an object's count of references is, less one for each list that holds it, where one other place holds it.
ALONE = next(map(getrefcount, [object()]))
#: Without a global lock references are counted in another way.
COUNTS_OWNERS = not sysconfig.get_config_var("Py_GIL_DISABLED")


def are_owners(objects: list[Cell], names: Sequence[str]) -> bool:
    """Whether what is read from the fields of these objects of one class is held by each of them alone.

    It is not where their ``__dict__`` is held elsewhere too, from which the same is reached without a reference more,
    or where one that lacks a field reads it from its class.
    """
    cls = type(objects[0])
    if not cls.__dictoffset__:
        return True
    dicts = list(map(vars, objects))
    if countOf(map(getrefcount, dicts), ALONE + 1) != len(dicts):
        return False
    defaults = {name for name in names if not isinstance(getattr(cls, name, ABSENT), MemberDescriptorType | Absent)}
    return not defaults or all(map(defaults.issubset, dicts))


def runs_of(numbers: Sequence[int]) -> array[int]:
    """Numbers as runs, each its first number and its length: mostly they rise, but for objects that are filled late."""
    if numbers[-1] - numbers[0] == len(numbers) - 1 and all(map(eq, numbers, count(numbers[0]))):
        return numbers_of((numbers[0], len(numbers)))
    starts = [numbers[0], *(later for earlier, later in pairwise(numbers) if later != earlier + 1)]
    ends = [*(earlier for earlier, later in pairwise(numbers) if later != earlier + 1), numbers[-1]]
    return numbers_of(part for start, end in zip(starts, ends, strict=True) for part in (start, end - start + 1))
