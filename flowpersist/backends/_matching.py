"""What a query asks for, as every backend understands it: conditions, orders, positions and cursors."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import TypeAlias

from attrs import evolve, frozen

from flowpersist.backends._clock import to_micros
from flowpersist.backends.base import (
    MAX_REFS,
    MAX_TEXT_BYTES,
    ORDERS,
    NamespaceSchema,
    Order,
    Range,
    Record,
    RecordRef,
    Scalar,
    Where,
    check_text,
)

__all__ = [
    "Position",
    "Selection",
    "check_limit",
    "check_put",
    "check_refs",
    "indexed_attributes",
    "position",
    "position_of",
    "satisfies",
    "selection",
]

#: A place in an order: the time in microseconds (0 in the order by key), then the key. Comparing code points is
#: comparing the bytes of UTF-8.
Position: TypeAlias = tuple[int, str]
_INT64 = range(-(2**63), 2**63)
_CURSOR_PARTS = 4
_LAST = "\U0010ffff"


@frozen
class Selection:
    """A query whose arguments have been checked."""

    namespace: str
    where: Where
    order: Order
    descending: bool
    after: Position | None
    limit: int
    bodies: bool = False

    def cursor(self, last: Position) -> str:
        """The cursor of the page that follows this place."""
        data = json.dumps([self.order, self.descending, *last], ensure_ascii=False).encode()
        return base64.urlsafe_b64encode(data).decode().rstrip("=")

    def holds(self, record: Record) -> bool:
        """Whether the record is in the selection, wherever the page begins."""
        place = position_of(record, self.order)
        return place is not None and _in_range(place, self.where) and satisfies(record.attributes, self.where.equals)

    def beyond(self, place: Position) -> bool:
        """Whether a place is on this page or a later one."""
        if self.after is None:
            return True
        return place < self.after if self.descending else place > self.after


def selection(
    namespace: str,
    where: Where,
    order: Order,
    limit: int,
    after: str | None,
    descending: bool,  # noqa: FBT001
    *,
    bodies: bool = False,
) -> Selection:
    """Check a query's arguments; ``ValueError`` or ``TypeError`` for an invalid one."""
    check_text(namespace, "a namespace")
    check_limit(limit)
    if order not in ORDERS:
        raise ValueError(f"an order is one of {', '.join(ORDERS)}")
    if where.range is not None:
        if order not in {"key", where.range.by}:
            raise ValueError(f"a range by {where.range.by} can't be ordered by {order}")
        order = where.range.by
        where = evolve(where, range=_bounded(where.range))
    place = None if after is None else _parse_cursor(after, order, descending=descending)
    return Selection(namespace, where, order, descending, place, limit, bodies)


def _bounded(span: Range) -> Range:
    """A range without a prefix: its bounds say the same, so that one scan of an index answers it anywhere."""
    if span.prefix is None:
        return span
    return Range("key", span.prefix or None, _beyond(span.prefix))


def _beyond(prefix: str) -> str | None:
    """The first text behind all keys that begin so; None where there is none. Where it would be longer than a key can
    be, so would be every key that a shorter one lets in.
    """
    while prefix:
        prefix, last = prefix[:-1], prefix[-1]
        if last != _LAST:
            following = prefix + ("\ue000" if last == "\ud7ff" else chr(ord(last) + 1))
            if len(following.encode()) <= MAX_TEXT_BYTES:
                return following
    return None


def indexed_attributes(schema: Iterable[NamespaceSchema]) -> dict[str, type]:
    """The attributes that any namespace declares, where one index serves all of them."""
    return {name: kind for namespace in schema for name, kind in namespace.indexed.items()}


def check_limit(limit: int) -> None:
    """Refuse a page of no records."""
    if type(limit) is not int or limit < 1:
        raise ValueError("a limit is an int from 1 on")


def check_refs(refs: Sequence[RecordRef]) -> None:
    """Refuse more references than are read at a time."""
    if len(refs) > MAX_REFS:
        msg = f"at most {MAX_REFS} records are read at a time, not {len(refs)}: read them in several steps"
        raise ValueError(msg)


def check_put(if_revision: int | None, not_after: datetime | None = None) -> None:
    """Refuse a revision that can't be, and a deadline without a time zone."""
    if if_revision is not None and (type(if_revision) is not int or if_revision < 0 or if_revision not in _INT64):
        raise ValueError("if_revision is a 64-bit int from 0 on, or None")
    if not_after is not None and not_after.tzinfo is None:
        raise ValueError("not_after must be an aware datetime")


def _parse_cursor(text: str, order: Order, *, descending: bool) -> Position:
    try:
        data = json.loads(base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True))
    except (binascii.Error, ValueError, RecursionError):
        data = None
    match data:
        case [str(by), bool(backwards), int(value), str(key)] if len(data) == _CURSOR_PARTS:
            if by == order and backwards is descending and type(value) is int and value in _INT64:
                return value, check_text(key, "a cursor's key")
    raise ValueError("Invalid cursor: expected one that a page of this query returned")


def position(order: Order, key: str, created: int, updated: int, due: int | None) -> Position | None:
    """Where something of these times (in microseconds) stands; None where the order does not list it."""
    value = {"key": 0, "created": created, "updated": updated, "due": due}[order]
    return None if value is None else (value, key)


def position_of(record: Record, order: Order) -> Position | None:
    """Where a record stands in an order; None where the order does not list it."""
    if order == "key":
        return 0, record.ref.key
    moment = {"created": record.created_at, "updated": record.updated_at, "due": record.due_at}[order]
    return None if moment is None else (to_micros(moment), record.ref.key)


def satisfies(attributes: Mapping[str, Scalar], equals: Mapping[str, Scalar]) -> bool:
    """Equality of type and value on every attribute that is asked for."""
    return all(
        name in attributes and type(attributes[name]) is type(value) and attributes[name] == value
        for name, value in equals.items()
    )


def bound(value: str | datetime) -> str | int:
    """A range's bound as it is compared."""
    return value if isinstance(value, str) else to_micros(value)


def _in_range(place: Position, where: Where) -> bool:
    if where.range is None:
        return True
    time, key = place
    asked: str | int = key if where.range.by == "key" else time
    since, before = where.range.since, where.range.before
    above = since is None or bound(since) <= asked  # type: ignore[operator]
    return above and (before is None or asked < bound(before))  # type: ignore[operator]
