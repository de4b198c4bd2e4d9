"""Pages: a selection as the bounds of an index, and what the shards found as one page.

Each shard looks at so many entries of an index at a time. What it found is complete up to the last entry that it looked
at, so the page is complete up to the nearest of these places over all shards: its horizon.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from attrs import frozen

from flowpersist.backends._matching import Position, Selection, bound
from flowpersist.backends._redis.errors import mapped
from flowpersist.backends._redis.layout import (
    TIME_DIGITS,
    Layout,
    Tag,
    micros_from_text,
    micros_to_text,
    offset_arguments,
    time_from_text,
)
from flowpersist.backends._redis.records import record_of
from flowpersist.backends._redis.scripts import PAGE, Call
from flowpersist.backends._redis.wire import Wire, run_all
from flowpersist.backends._scalars import entry_text, scalar_to_text
from flowpersist.backends.base import Page, Record, RecordRef

__all__ = ["page"]

#: Records, and index entries, that one script looks for at a time: the server does nothing else meanwhile.
RECORDS: Final = 250
ENTRIES: Final = 1000
#: After so many rounds that found nothing the page comes short, with a cursor.
IDLE_ROUNDS: Final = 8


@frozen
class _Round:
    """What the shards found in one round: entries and their records in order, and the horizon, None at the end."""

    now: datetime
    found: list[tuple[bytes, Record]]
    horizon: bytes | None


async def page(wire: Wire, layout: Layout, asked: Selection, offset: timedelta) -> Page[Record]:
    """A page, and a cursor where more may follow."""
    found: list[tuple[bytes, Record]] = []
    after = None if asked.after is None else _entry(asked, asked.after)
    idle = 0
    while True:
        wanted = min(asked.limit + 1 - len(found), RECORDS)
        with mapped():
            calls = [_call(tag, asked, after, wanted, offset) for tag in layout.tags(asked.namespace)]
            replies = await run_all(wire, calls)
        one = _merged(asked, replies)
        found += one.found
        idle = 0 if one.found else idle + 1
        if len(found) > asked.limit:
            return _cut(asked, found, one.now)
        if one.horizon is None:
            return Page(tuple(record for _, record in found), None, one.now)
        if idle == IDLE_ROUNDS:
            cursor = asked.cursor(_position(asked, one.horizon))
            return Page(tuple(record for _, record in found), cursor, one.now)
        after = one.horizon


def _cut(asked: Selection, found: list[tuple[bytes, Record]], now: datetime) -> Page[Record]:
    kept = found[: asked.limit]
    return Page(tuple(record for _, record in kept), asked.cursor(_position(asked, kept[-1][0])), now)


def _call(tag: Tag, asked: Selection, after: bytes | None, wanted: int, offset: timedelta) -> Call:
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
        len(asked.where.equals),
        *conditions,
    )


def _bounds(asked: Selection, after: bytes | None) -> tuple[bytes, bytes]:
    """Where the page may begin and end in the index. A cursor may lie outside the range, if it is of another query."""
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


def _position(asked: Selection, entry: bytes) -> Position:
    if asked.order == "key":
        return 0, entry.decode()
    return micros_from_text(entry[:TIME_DIGITS]), entry[TIME_DIGITS:].decode()


def _merged(asked: Selection, replies: Sequence[Any]) -> _Round:
    now = max(reply[0] for reply in replies)
    ends = [reply[1] for reply in replies if reply[1]]
    # What every shard has looked at, it has looked at as far as the nearest end.
    horizon = (max(ends) if asked.descending else min(ends)) if ends else None
    entries = [
        (entry, record)
        for reply in replies
        for key, fields in reply[2]
        for entry, record in [_hit(asked, key, fields)]
        if entry is not None and _within(entry, horizon, descending=asked.descending)
    ]
    entries.sort(key=lambda item: item[0], reverse=asked.descending)
    return _Round(time_from_text(now), entries, horizon)


def _hit(asked: Selection, key: bytes, fields: Sequence[bytes | None]) -> tuple[bytes | None, Record]:
    record = record_of(RecordRef(asked.namespace, key.decode()), fields)
    if not asked.holds(record):
        return None, record
    moment = {"key": b"", "created": fields[5], "updated": fields[6], "due": fields[7]}[asked.order]
    return (moment or b"") + key, record


def _within(entry: bytes, horizon: bytes | None, *, descending: bool) -> bool:
    if horizon is None:
        return True
    return entry >= horizon if descending else entry <= horizon
