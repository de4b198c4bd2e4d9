"""What was read of objects that can change, kept so that it can be read again.

A value is encoded in a thread while the tasks of the event loop go on. What is read of it at one moment and what is
read at the next may never have been together. So once all is read, it is read once more: where each object still holds
the same cells, the value was as it is stored at the moment between the two readings.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from gc import get_referents
from itertools import chain
from operator import eq, is_
from typing import Final, TypeAlias

from attrs import define, field

from flowpersist.codec.packing import Cell
from flowpersist.codec.plans import BuiltinPlan, FieldsPlan, NamedPlan, PairPlan, StatePlan, is_built

__all__ = ["Watch"]

#: Values made by users' functions that are compared by their bytes; what is over is taken for unchanged.
MOST_COMPARED: Final = 64
#: Cells of a value that is written anew, or somewhat more: each takes longer than one that is compared.
SMALL: Final = 2**14
#: How cells are compared with those that were read first.
Comparing: TypeAlias = Callable[[list[Cell], list[Cell]], bool]
LEAVES: Final = frozenset({str, bytes, bytearray, int, bool, complex, type(None)})


@define(eq=False)
class Watch:
    """The objects that were read, and what was found in them.

    ``cells`` is how many were found, and so how long it takes to look again. ``calls``: whether users' functions take
    part, those that are registered as ``encode=`` and ``__getstate__``.
    """

    cells: int = 0
    calls: bool = False
    _checks: list[Callable[[Comparing], bool]] = field(factory=list)
    _pairs: list[Callable[[], tuple[Cell, Cell]]] = field(factory=list)

    @classmethod
    def of_document(cls, is_same: Callable[[], bool]) -> Watch:
        """Of a small value, which is written anew to tell whether the bytes are the same."""
        watch = cls()
        watch._add(SMALL, lambda _: is_same())
        return watch

    def unchanged(self, encode: Callable[[Cell], bytes | None], *, strictly: bool) -> bool:
        """Whether all that was read is there still, or what is equal to it. ``encode`` gives the bytes of a value.

        ``strictly``: the very same objects. It takes three times as long.
        """
        same = _Sameness(encode)
        compare = _are if strictly else eq
        try:
            return all(check(compare) for check in self._checks) and all(same.pair(*pair()) for pair in self._pairs)
        except Exception:  # noqa: BLE001 - what changes while it is looked at may fail in many ways
            return False

    def elements(self, objects: Sequence[Cell], cells: list[Cell], lengths: Sequence[int]) -> None:
        """Lists and deques."""
        self._add(len(cells), lambda _: list(map(len, objects)) == lengths)
        self._add(0, lambda compare: compare(cells, list(chain.from_iterable(objects))))

    def record(self, objects: Sequence[dict[Cell, Cell]], cells: list[Cell], shape: tuple[str, ...]) -> None:
        """Dicts that share their keys."""
        self._add(2 * len(cells), lambda _: list(chain.from_iterable(objects)) == list(shape) * len(objects))
        self._add(0, lambda compare: compare(cells, list(chain.from_iterable(map(dict.values, objects)))))

    def entries(self, objects: Sequence[Cell], keys: list[Cell], lengths: Sequence[int], cells: list[Cell]) -> None:
        """Other dicts; ``cells`` are their values."""
        self.elements(objects, keys, lengths)
        self._add(len(cells), lambda compare: compare(cells, [value for one in objects for value in one.values()]))

    def tree(self, objects: Sequence[Cell], cells: list[Cell]) -> None:
        """Lists and dicts with text keys; ``cells`` are elements and values, as ``get_referents`` gives them."""
        lengths = list(map(len, objects))
        contents = list(chain.from_iterable(objects))
        self._add(2 * len(cells), lambda _: list(map(len, objects)) == lengths)
        self._add(0, lambda compare: compare(contents, list(chain.from_iterable(objects))))
        self._add(0, lambda compare: compare(cells, get_referents(*objects)))

    def sets(self, one: set[Cell], cells: list[Cell]) -> None:
        """A set, by the identities of its elements, since their order is another one."""
        self._add(len(cells), lambda _: len(one) == len(cells) and set(map(id, one)) == set(map(id, cells)))

    def buffers(self, objects: Sequence[bytearray], contents: Sequence[bytes]) -> None:
        """Bytearrays."""
        self._add(sum(map(len, contents)) // 256, lambda _: all(map(eq, objects, contents)))

    def fields(self, plan: FieldsPlan, objects: list[Cell], cells: list[Cell]) -> None:
        """Instances whose fields are declared."""
        self._add(len(cells), lambda compare: compare(cells, plan.read(objects)))

    def content(self, plan: BuiltinPlan, one: Cell, attributes: list[Cell], content: list[Cell]) -> None:
        """An instance of a subclass of one of Python's own classes."""
        self.attributes(plan, one, attributes)
        if not is_built(plan):
            self._add(len(content), lambda compare: compare(content, plan.content(one)))

    def attributes(self, plan: BuiltinPlan | NamedPlan, one: Cell, attributes: list[Cell]) -> None:
        """What an object has besides what its class holds."""
        self._add(len(attributes), lambda compare: compare(attributes, plan.attributes(one)))

    def encoded(self, plan: PairPlan | StatePlan, one: Cell, cell: Cell) -> None:
        """What a user's function made of an object."""
        self.calls = True
        self._pairs.append(partial(_again, plan, one, cell))

    def _add(self, cells: int, check: Callable[[Comparing], bool]) -> None:
        self.cells += cells
        self._checks.append(check)


def _again(plan: PairPlan | StatePlan, one: Cell, cell: Cell) -> tuple[Cell, Cell]:
    return cell, plan.encode(one)


def _are(cells: list[Cell], again: list[Cell]) -> bool:
    """Whether these are the same objects: equal ones may differ in what equality does not tell."""
    if len(cells) != len(again):
        return False
    # Some fields are made anew at each look, as numbers in members of exceptions are.
    return all(map(is_, cells, again)) or all(map(_is_alike, cells, again))


def _is_alike(one: Cell, other: Cell) -> bool:
    return one is other or (type(one) is type(other) and type(one) in LEAVES and bool(one == other))


class _Sameness:
    """Compares what one function made of one object at two times: it may be new each time, down to its leaves."""

    def __init__(self, encode: Callable[[Cell], bytes | None]) -> None:
        self._encode = encode
        self._compared = 0

    def pair(self, one: Cell, other: Cell) -> bool:
        pending = deque([(one, other)])
        while pending:
            first, second = pending.popleft()
            if _is_alike(first, second):
                continue
            if type(first) is not type(second):
                return False
            if type(first) in {tuple, list} and len(first) == len(second):
                pending.extend(zip(first, second, strict=True))
            elif type(first) is dict and len(first) == len(second):
                pending.extend(zip(chain(first, first.values()), chain(second, second.values()), strict=True))
            elif not self._is_same(first, second):
                return False
        return True

    def _is_same(self, first: Cell, second: Cell) -> bool:
        if type(first) in LEAVES:
            return False
        self._compared += 1
        return self._compared > MOST_COMPARED or self._encode(first) == self._encode(second)
