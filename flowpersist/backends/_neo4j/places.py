"""A node's position in an order, and whether a page or a purge takes it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from attrs import evolve, frozen

from flowpersist.backends._damage import found_in, place_in, read_as
from flowpersist.backends._matching import Position, Selection, position_of
from flowpersist.backends._neo4j.naming import BIAS, TOP, moment_text, ordered, unordered
from flowpersist.backends._neo4j.rows import NAME, body_of, record_of, snapshot_of
from flowpersist.backends.base import Order, Range, Record, RecordRef, Unreadable

__all__ = ["Found", "bounds", "key_of", "position_in", "purgeable", "stands", "whole"]

_DIGITS: Final = len(str(BIAS))


@frozen
class Found:
    """A row of a page: the position in the index, and the node's properties."""

    place: object
    key: object
    snapshot: object
    head: object
    #: The parts of the body, if they were read.
    parts: Sequence[tuple[object, object, object]] | None = None


def key_of(row: Found) -> str | None:
    """The key of a row; None if the row has no valid one."""
    return unordered(row.key) if isinstance(row.key, str) and ordered(unordered(row.key)) == row.key else None


def whole(ref: RecordRef, row: Found) -> Record:
    """The record of a row, with its body if its parts were read; ``Torn`` if they are of different revisions."""
    record, body_tag = record_of(ref, row.snapshot, row.head)
    return record if row.parts is None else evolve(record, body=body_of(record, body_tag, row.parts))


def purgeable(asked: Selection, row: Found) -> Record | Unreadable | None:
    """What a purge removes, or must leave because it is damaged; None for a node that is being changed or does not
    match.
    """
    if row.snapshot is None:
        return None
    found = found_in(
        NAME,
        asked.namespace,
        key_of(row),
        lambda ref: read_as(NAME, ref, lambda: snapshot_of(ref, str(row.snapshot)).record),
    )
    return found if isinstance(found, Unreadable) or stands(found, row, asked) else None


def text_of(order: Order, position: Position) -> str:
    """A position in the form that the index holds."""
    value, key = position
    return ordered(key) if order == "key" else f"{value + BIAS}{ordered(key)}"


def position_in(row: Found, asked: Selection) -> Position | None:
    """The position of a row in the form that a cursor holds; None if it has no valid one."""
    place = row.place
    if not isinstance(place, str):
        return None
    digits, key = ("", place) if asked.order == "key" else (place[:_DIGITS], place[_DIGITS:])
    if digits and not (digits.isascii() and digits.isdigit()):
        return None
    found = place_in(int(digits) - BIAS if digits else 0, unordered(key))
    return found if found is not None and text_of(asked.order, found) == place else None


def stands(record: Record, found: Found, asked: Selection) -> bool:
    """Whether a record is still at the position where it was found and still matches. A record that moves meanwhile may
    be missed, but never appears at a wrong position.
    """
    place = position_of(record, asked.order)
    return place is not None and text_of(asked.order, place) == found.place and asked.holds(record)


def bound(value: str | datetime) -> str:
    return ordered(value) if isinstance(value, str) else moment_text(value)


def bounds(asked: Selection) -> tuple[str, str]:
    """The first position of a range, and the first one after it."""
    span = asked.where.range or Range(asked.order)
    since = "" if span.since is None else bound(span.since)
    before = TOP if span.before is None else bound(span.before)
    if asked.after is not None:
        after = text_of(asked.order, asked.after)
        if asked.descending:
            before = min(before, after)
        else:
            # The next text after this one, since no key holds NUL.
            since = max(since, after + "\x01")
    return since, before
