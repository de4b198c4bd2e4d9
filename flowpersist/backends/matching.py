"""``Where``, order and cursors over records in memory: what a backend needs that has no query language of its own."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

from flowpersist.backends.base import Order, Page, Range, Record, Where

__all__ = ["EPOCH", "cursor_of", "from_microseconds", "matches", "page_of", "position_of", "to_microseconds"]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
#: Where a record stands in an order: its value there (absent for keys), then its key.
Position: TypeAlias = tuple[int, bytes]


def to_microseconds(moment: datetime) -> int:
    """Whole microseconds since 1970, UTC."""
    return (moment - EPOCH) // MICROSECOND


def from_microseconds(value: int) -> datetime:
    """The moment of that many microseconds since 1970."""
    return EPOCH + timedelta(microseconds=value)


def matches(record: Record, where: Where) -> bool:
    """Whether a record is as ``where`` says, types included."""
    for name, wanted in where.equals.items():
        value = record.attributes.get(name)
        if type(value) is not type(wanted) or value != wanted:
            return False
    return where.range is None or _within(record, where.range)


def _within(record: Record, bounds: Range) -> bool:
    if bounds.by == "key":
        key = record.ref.key.encode()
        since = None if bounds.since is None else str(bounds.since).encode()
        before = None if bounds.before is None else str(bounds.before).encode()
        return (since is None or key >= since) and (before is None or key < before)
    moment = _moment(record, bounds.by)
    if moment is None:
        return False
    after_start = not isinstance(bounds.since, datetime) or moment >= bounds.since
    return after_start and (not isinstance(bounds.before, datetime) or moment < bounds.before)


def _moment(record: Record, order: Order) -> datetime | None:
    return {"created": record.created_at, "updated": record.updated_at, "due": record.due_at}[order]


def position(record: Record, order: Order) -> Position | None:
    """Where the record stands in an order; None where it is not in it."""
    if order == "key":
        return (0, record.ref.key.encode())
    moment = _moment(record, order)
    return None if moment is None else (to_microseconds(moment), record.ref.key.encode())


def cursor_of(order: Order, where: Position) -> str:
    """An opaque, URL-safe cursor: the position of the last item of a page."""
    text = json.dumps([order, where[0], where[1].decode()])
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def position_of(cursor: str | None, order: Order) -> Position | None:
    """The position that a cursor names; ``ValueError`` where it is none of that order."""
    if cursor is None:
        return None
    try:
        made, value, key = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        if made == order and type(value) is int and abs(value) < 2**63 and isinstance(key, str):
            return (value, key.encode())
    except (ValueError, TypeError, binascii.Error):
        pass
    msg = "this is no cursor of this query"
    raise ValueError(msg)


def ordered_by(where: Where, order: Order) -> Order:
    """The order of a query: its range's, which must not contradict the one that is asked for."""
    if where.range is None:
        return order
    if order not in {"key", where.range.by}:
        msg = f"a range by {where.range.by} can't be ordered by {order}"
        raise ValueError(msg)
    return where.range.by


def page_of(
    records: Iterable[Record], where: Where, order: Order, limit: int, after: str | None, *, descending: bool, now: datetime
) -> Page[Record]:
    """A page of records that are all at hand."""
    order = ordered_by(where, order)
    start = position_of(after, order)
    found = [
        (place, record)
        for record in records
        if matches(record, where) and (place := position(record, order)) is not None and _beyond(place, start, descending)
    ]
    found.sort(key=lambda item: item[0], reverse=descending)
    shown = found[:limit]
    more = cursor_of(order, shown[-1][0]) if len(found) > limit and shown else None
    return Page(tuple(record for _, record in shown), more, now)


def _beyond(place: Position, start: Position | None, descending: bool) -> bool:  # noqa: FBT001
    if start is None:
        return True
    return place < start if descending else place > start
