"""The records of one namespace, and their keys and due times in order."""

from __future__ import annotations

import heapq
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Final

from attrs import define, field

from flowpersist.backends._damage import WRONG
from flowpersist.backends._matching import Position, Selection, bound, position_of
from flowpersist.backends.base import Order, Record

__all__ = ["Shelf"]

#: The orders that are kept: everybody asks for what is due now, and for the keys of a prefix, of which there is little
#: among much.
_KEPT: Final[tuple[Order, ...]] = ("key", "due")


@define(eq=False)
class Shelf:
    """To be used by one thread at a time."""

    records: dict[str, Record] = field(factory=dict)
    _ordered: dict[Order, list[Position]] = field(factory=lambda: {order: [] for order in _KEPT})
    #: Where each stands among them: what is held may have been exchanged.
    _places: dict[str, dict[Order, Position]] = field(factory=dict)
    #: What was put under each key, as long as it stands there.
    _made: dict[str, Record] = field(factory=dict)

    def get(self, key: str) -> Record | None:
        """What is held under a key."""
        return self.records.get(key)

    def is_as_put(self, key: str, held: object) -> bool:
        """Whether it is the very record that was put under that key."""
        return self._made.get(key) is held

    def put(self, record: Record) -> None:
        """Put a record in the place of the one of its key."""
        key = record.ref.key
        places: dict[Order, Position] = {
            order: place for order in _KEPT if (place := position_of(record, order)) is not None
        }
        before = self._places.get(key, {})
        if places != before:
            for order in _KEPT:
                self._move(order, before.get(order), places.get(order))
        self.records[key], self._places[key], self._made[key] = record, places, record

    def remove(self, key: str) -> None:
        """Take a record away."""
        for order, place in self._places.pop(key).items():
            self._move(order, place, None)
        del self.records[key], self._made[key]

    def _move(self, order: Order, old: Position | None, new: Position | None) -> None:
        if old == new:
            return
        places = self._ordered[order]
        if old is not None:
            del places[bisect_left(places, old)]
        if new is not None:
            insort(places, new)

    def first(self, asked: Selection, count: int) -> list[tuple[Position | None, str]]:
        """The keys of the first records of a selection, in its order, with their places; before them the keys of those
        that stand nowhere in it, since they can't be read.
        """
        if asked.order in _KEPT:
            meant = (place for place in self._walked(asked) if self._is_meant(place, asked))
            return [(place, place[1]) for place in islice(meant, count)]
        return _first(self.records, asked, count)

    def _is_meant(self, place: Position, asked: Selection) -> bool:
        held = self.records[place[1]]
        try:
            _check_key(held, place[1])
            return asked.holds(held) and position_of(held, asked.order) == place
        except WRONG:
            return True

    def _walked(self, asked: Selection) -> Iterator[Position]:
        ordered = self._ordered[asked.order]
        low, high = _bounds(ordered, asked)
        places = range(high - 1, low - 1, -1) if asked.descending else range(low, high)
        return (ordered[number] for number in places)


def _bounds(ordered: list[Position], asked: Selection) -> tuple[int, int]:
    low, high, span = 0, len(ordered), asked.where.range
    if span is not None and span.since is not None:
        low = bisect_left(ordered, _least(bound(span.since)))
    if span is not None and span.before is not None:
        high = bisect_left(ordered, _least(bound(span.before)))
    if asked.after is not None and asked.descending:
        high = min(high, bisect_left(ordered, asked.after))
    elif asked.after is not None:
        low = max(low, bisect_right(ordered, asked.after))
    return low, high


def _least(value: str | int) -> Position:
    return (0, value) if isinstance(value, str) else (value, "")


def _check_key(held: Record, key: str) -> None:
    if held.ref.key != key:
        raise ValueError("a record of another key")


def _place(key: str, held: Record, asked: Selection) -> tuple[bool, Position | None]:
    """Whether what is held belongs on this page or a later one, and where."""
    try:
        _check_key(held, key)
        place = position_of(held, asked.order)
        return place is not None and asked.holds(held) and asked.beyond(place), place
    except WRONG:
        # Of what can't be read, the key alone is known: the first page names it.
        return asked.after is None, None


def _first(records: Mapping[str, Record], asked: Selection, count: int) -> list[tuple[Position | None, str]]:
    meant = [(place, key) for key, held in records.items() for wanted, place in [_place(key, held, asked)] if wanted]
    choose = heapq.nlargest if asked.descending else heapq.nsmallest
    placed = choose(count, ((place, key) for place, key in meant if place is not None))
    return [*((place, key) for place, key in meant if place is None), *placed]
