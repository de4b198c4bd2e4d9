"""The records of one namespace, and those that are ever due in the order in which they are."""

from __future__ import annotations

import heapq
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator
from itertools import islice

from attrs import define, field

from flowpersist.backends._clock import to_micros
from flowpersist.backends._matching import Position, Selection, position_of
from flowpersist.backends.base import Record

__all__ = ["Shelf"]


@define(eq=False)
class Shelf:
    """To be used by one thread at a time."""

    records: dict[str, Record] = field(factory=dict)
    #: Everybody asks for what is due now, of which there is little among much that is due some day.
    _due: list[Position] = field(factory=list)

    def get(self, key: str) -> Record | None:
        """The record of a key."""
        return self.records.get(key)

    def put(self, record: Record) -> None:
        """Put a record in the place of the one of its key."""
        self._drop(self.records.get(record.ref.key))
        self.records[record.ref.key] = record
        place = position_of(record, "due")
        if place is not None:
            insort(self._due, place)

    def remove(self, record: Record) -> None:
        """Take a record away."""
        self._drop(self.records.pop(record.ref.key, None))

    def _drop(self, old: Record | None) -> None:
        place = None if old is None else position_of(old, "due")
        if place is not None:
            del self._due[bisect_left(self._due, place)]

    def first(self, asked: Selection, count: int) -> list[Record]:
        """The first records of a selection, in its order."""
        if asked.order == "due":
            return list(islice((record for record in self._by_due(asked) if asked.holds(record)), count))
        return _first(self.records.values(), asked, count)

    def _by_due(self, asked: Selection) -> Iterator[Record]:
        low, high = self._bounds(asked)
        places = range(high - 1, low - 1, -1) if asked.descending else range(low, high)
        return (self.records[self._due[number][1]] for number in places)

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


def _first(records: Iterable[Record], asked: Selection, count: int) -> list[Record]:
    placed = ((position_of(record, asked.order), record) for record in records if asked.holds(record))
    wanted = ((place, record) for place, record in placed if place is not None and asked.beyond(place))
    choose = heapq.nlargest if asked.descending else heapq.nsmallest
    return [record for _, record in choose(count, wanted, key=lambda item: item[0])]
