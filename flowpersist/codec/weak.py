"""Weak references: each is written once it is known that its object is held otherwise, or else it is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from flowpersist.codec import kinds
from flowpersist.codec.batches import Row
from flowpersist.codec.packing import Cell
from flowpersist.codec.plans import PairPlan, encoded
from flowpersist.codec.refusals import Refused
from flowpersist.codec.registration import Registration
from flowpersist.codec.watching import Watch

__all__ = ["hashed_dead", "held_rows", "weak_rows"]

#: Kinds of rows that hash what they hold.
HASHING_KINDS = frozenset({kinds.SET, kinds.DICT, kinds.FROZENSET})


def weak_rows(
    registration: Registration, plan: PairPlan, objects: Iterable[tuple[Cell, int]], watch: Watch | None
) -> list[Row]:
    """A row for each reference and its number, with what it refers to."""
    rows = []
    for one, number in objects:
        cells = [encoded(plan, one)]
        if watch is not None:
            watch.encoded(plan, one, cells[0])
        rows.append(Row(kinds.PAIR, number, cells, registration, one))
    return rows


def held_rows(rows: Iterable[Row], is_found: Callable[[Cell], bool]) -> Iterable[Row]:
    """The rows, of which each must refer to what is found without it, or to nothing any more."""
    for row in rows:
        if row.cells[0] is not None and not is_found(row.cells[0]):
            reason = "refers weakly to an object that nothing else in the value holds, so that it would be gone"
            raise Refused(row.one, f"{reason}; hold it otherwise too, or leave the reference out")
        yield row


def hashed_dead(rows: Iterable[Row], candidates: Iterable[Row]) -> list[Cell]:
    """A reference that is dead, where something is hashed: it keeps the hash that it had, and a copy has none."""
    if not any(candidate.kind in HASHING_KINDS for candidate in candidates):
        return []
    return [row.one for row in rows if row.cells[0] is None][:1]
