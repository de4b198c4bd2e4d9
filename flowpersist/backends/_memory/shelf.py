"""The records of one namespace, and those that are ever due in the order in which they are."""

from __future__ import annotations

import heapq
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator, Mapping
from itertools import islice

from attrs import define, field

from flowpersist.backends._clock import to_micros
from flowpersist.backends._damage import WRONG
from flowpersist.backends._matching import Position, Selection, position_of
from flowpersist.backends.base import Record

__all__ = ["Shelf"]


@define(eq=False)
class Shelf:
    """To be used by one thread at a time."""

    records: dict[str, Record] = field(factory=dict)
    #: Everybody asks for what is due now, of which there is little among much that is due some day.
    _due: list[Position] = field(factory=list)
    #: Where each stands among them: what is held may have been exchanged.
    _places: dict[str, Position] = field(factory=dict)

    def get(self, key: str) -> Record | None:
        """What is held under a key."""
        return self.records.get(key)

    def put(self, record: Record) -> None:
        """Put a record in the place of the one of its key."""
        key = record.ref.key
        self._drop(key)
        self.records[key] = record
        place = position_of(record, "due")
        if place is not None:
            self._places[key] = place
            insort(self._due, place)

    def remove(self, key: str) -> None:
        """Take a record away."""
        self._drop(key)
        del self.records[key]

    def _drop(self, key: str) -> None:
        place = self._places.pop(key, None)
        if place is not None:
            del self._due[bisect_left(self._due, place)]

    def first(self, asked: Selection, count: int) -> list[tuple[Position | None, str]]:
        """The keys of the first records of a selection, in its order, with their places; before them the keys of those
        that stand nowhere in it, since they can't be read.
        """
        if asked.order == "due":
            meant = (place for place in self._by_due(asked) if self._is_meant(place, asked))
            return [(place, place[1]) for place in islice(meant, count)]
        return _first(self.records, asked, count)

    def _is_meant(self, place: Position, asked: Selection) -> bool:
        held = self.records[place[1]]
        try:
            return asked.holds(held) and position_of(held, "due") == place
        except WRONG:
            return True

    def _by_due(self, asked: Selection) -> Iterator[Position]:
        low, high = self._bounds(asked)
        places = range(high - 1, low - 1, -1) if asked.descending else range(low, high)
        return (self._due[number] for number in places)

    def _bounds(self, asked: Selection) -> tuple[int, int]:
        low, high, span = 0, len(self._due), asked.where.range
        if span is not None and span.since is not None:
            low = bisect_left(self._due, _least(span.since))
        if span is not None and span.before is not None:
            high = bisect_left(self._due, _least(span.before))
        if asked.after is not None and asked.descending:
            high = min(high, bisect_left(self._due, asked.after))
        elif asked.after is not None:
            low = max(low, bisect_right(self._due, asked.after))
        return low, high


def _least(moment: object) -> Position:
    # A range by due has no other bounds than times.
    return to_micros(moment), ""  # type: ignore[arg-type]


def _place(key: str, held: Record, asked: Selection) -> tuple[bool, Position | None]:
    """Whether what is held belongs on this page or a later one, and where."""
    try:
        if held.ref.key != key:
            raise ValueError("a record of another key")
        place = position_of(held, asked.order)
        return place is not None and asked.holds(held) and asked.beyond(place), place
    except WRONG:
        # Of what can't be read, the key alone is known. In other orders the first page names it.
        if asked.order != "key":
            return asked.after is None, None
        return asked.reaches((0, key)), (0, key)


def _first(records: Mapping[str, Record], asked: Selection, count: int) -> list[tuple[Position | None, str]]:
    meant = [(place, key) for key, held in records.items() for wanted, place in [_place(key, held, asked)] if wanted]
    choose = heapq.nlargest if asked.descending else heapq.nsmallest
    placed = choose(count, ((place, key) for place, key in meant if place is not None))
    return [*((place, key) for place, key in meant if place is None), *placed]
