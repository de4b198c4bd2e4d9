"""Pages: a selection as the bounds of an index, and the results of all shards as one page.

Each shard examines a number of index entries at a time. Its result is complete up to the last entry that it examined,
so the page is complete up to the smallest of these positions over all shards: its horizon.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, Final, TypeAlias

from attrs import evolve, frozen

from flowpersist.backends._damage import check_patience, found_in
from flowpersist.backends._matching import Position, Selection, bound, position_of
from flowpersist.backends._redis.errors import NAME, mapped
from flowpersist.backends._redis.layout import (
    TIME_DIGITS,
    Layout,
    Tag,
    micros_from_text,
    micros_to_text,
    offset_arguments,
    time_from_text,
)
from flowpersist.backends._redis.records import Fields, record_of
from flowpersist.backends._redis.scripts import PAGE, Call
from flowpersist.backends._redis.wire import Wire, run_all
from flowpersist.backends._scalars import entry_text, scalar_to_text
from flowpersist.backends.base import Page, Record, Unreadable, check_text

__all__ = ["page"]

#: The most records, and index entries, that one script examines, while the server runs nothing else.
RECORDS: Final = 250
ENTRIES: Final = 1000
#: The largest body that comes with a page, and all of them in one round: a script takes three times as long for a body.
LARGEST_BODY: Final = 64 * 1024
BODIES_BYTES: Final = 4 * 1024 * 1024
#: After this many rounds without a match the page ends early, with a cursor.
IDLE_ROUNDS: Final = 8


#: An index entry and the record that it names.
Hit: TypeAlias = tuple[bytes, Record | Unreadable]


@frozen
class _Round:
    """The result of one round over all shards: entries and their records in order, and the horizon, None at the end."""

    now: datetime
    found: list[Hit]
    horizon: bytes | None


async def page(wire: Wire, layout: Layout, asked: Selection, offset: timedelta) -> Page[Record]:
    """Read a page, and a cursor if more may follow."""
    found: list[Hit] = []
    records = idle = 0
    after = None if asked.after is None else _entry(asked, asked.after)
    while True:
        wanted = min(asked.limit + 1 - records, RECORDS)
        with mapped():
            tags = layout.tags(asked.namespace)
            calls = [_call(tag, asked, after, wanted, offset, BODIES_BYTES // len(tags)) for tag in tags]
            replies = await run_all(wire, calls)
        one = _merged(asked, replies)
        found += one.found
        idle = 0 if any(isinstance(it, Record) for _, it in one.found) else idle + 1
        records = sum(isinstance(it, Record) for _, it in found)
        if records > asked.limit:
            return _cut(asked, found, one.now)
        if one.horizon is None:
            return _page(asked, found, None, one.now)
        place = _position(asked, one.horizon)
        if idle >= IDLE_ROUNDS and place is not None:
            return _page(asked, found, place, one.now)
        check_patience(len(found))
        after = one.horizon


def _page(asked: Selection, found: Sequence[Hit], last: Position | None, now: datetime) -> Page[Record]:
    items = tuple(it for _, it in found if isinstance(it, Record))
    unreadable = tuple(it for _, it in found if isinstance(it, Unreadable))
    return Page(items, None if last is None else asked.cursor(last), now, unreadable)


def _cut(asked: Selection, found: list[Hit], now: datetime) -> Page[Record]:
    """Keep the records that fit into the page."""
    end = [number for number, (_, it) in enumerate(found) if isinstance(it, Record)][asked.limit - 1] + 1
    return _page(asked, found[:end], _position(asked, found[end - 1][0]), now)


def _call(tag: Tag, asked: Selection, after: bytes | None, wanted: int, offset: timedelta, room: int) -> Call:
    low, high = _bounds(asked, after)
    conditions = [
        text
        for name, value in asked.where.equals.items()
        for text in (name, scalar_to_text(value), entry_text(name, value))
    ]
    return PAGE.call(
        (tag.keys,),
        tag.text,
        asked.order,
        *(("desc", high, low) if asked.descending else ("asc", low, high)),
        wanted,
        max(ENTRIES, wanted),
        *offset_arguments(offset),
        asked.limit if asked.bodies else 0,
        LARGEST_BODY,
        room,
        len(asked.where.equals),
        *conditions,
    )


def _bounds(asked: Selection, after: bytes | None) -> tuple[bytes, bytes]:
    """The bounds of the page in the index. A cursor of another query may lie outside the range."""
    span = asked.where.range
    since = None if span is None or span.since is None else _text(bound(span.since))
    before = None if span is None or span.before is None else _text(bound(span.before))
    low = b"-" if since is None else b"[" + since
    high = b"+" if before is None else b"(" + before
    if after is not None and asked.descending and (before is None or after < before):
        high = b"(" + after
    if after is not None and not asked.descending and (since is None or after >= since):
        low = b"(" + after
    return low, high


def _text(value: str | int) -> bytes:
    return value.encode() if isinstance(value, str) else micros_to_text(value)


def _entry(asked: Selection, place: Position) -> bytes:
    micros, key = place
    return key.encode() if asked.order == "key" else micros_to_text(micros) + key.encode()


def _position(asked: Selection, entry: bytes) -> Position | None:
    """The position of an entry in the form that a cursor holds; None if it has no valid one."""
    with suppress(ValueError):
        if asked.order == "key":
            return 0, check_text(entry.decode(), "a key")
        return micros_from_text(entry[:TIME_DIGITS]), check_text(entry[TIME_DIGITS:].decode(), "a key")
    return None


def _merged(asked: Selection, replies: Sequence[Any]) -> _Round:
    now = max(reply[0] for reply in replies)
    ends = [reply[1] for reply in replies if reply[1]]
    # Complete up to the smallest position that the shards have reached.
    horizon = (max(ends) if asked.descending else min(ends)) if ends else None
    entries = [
        (entry, found)
        for reply in replies
        for entry, fields, body in reply[2]
        for found in [_hit(asked, entry, fields, body)]
        if found is not None and _within(entry, horizon, descending=asked.descending)
    ]
    entries.sort(key=lambda item: item[0], reverse=asked.descending)
    return _Round(time_from_text(now), entries, horizon)


def _hit(asked: Selection, entry: bytes, fields: Fields | None, body: object) -> Record | Unreadable | None:
    """The record that an entry names; None if the record has moved or does not match."""
    key = entry if asked.order == "key" else entry[TIME_DIGITS:]
    # Bytes that are not UTF-8 can't be the key of a record.
    name = key.decode(errors="surrogateescape")
    found = found_in(NAME, asked.namespace, name, lambda ref: _with_body(record_of(ref, fields), body))
    if isinstance(found, Unreadable):
        return found
    place = position_of(found, asked.order)
    return found if place is not None and _entry(asked, place) == entry and asked.holds(found) else None


def _with_body(record: Record, body: object) -> Record:
    """With the body that came with it; another one is read again."""
    return evolve(record, body=body) if isinstance(body, bytes) and len(body) == record.body_size else record


def _within(entry: bytes, horizon: bytes | None, *, descending: bool) -> bool:
    if horizon is None:
        return True
    return entry >= horizon if descending else entry <= horizon
