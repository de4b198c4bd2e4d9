"""Rows that no put of ours has made: told from sound ones by one rule, and passed over in pages.

Whoever can write to a store, and any fault of its disk, can leave anything in a row. By its key such a record is an
``IntegrityError``; a page leaves it out and names it, so that it costs nobody else anything.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any, Final, TypeAlias

from flowpersist.backends._matching import Position, Selection
from flowpersist.backends._outcomes import unreadable
from flowpersist.backends._pages import how_many_fit
from flowpersist.backends.base import (
    MAX_ATTRIBUTES,
    MAX_HEAD_BYTES,
    MAX_WRITE_ID_BYTES,
    Page,
    Record,
    RecordRef,
    Unreadable,
    check_text,
)
from flowpersist.errors import IntegrityError, StorageError

__all__ = [
    "LAST_REVISION",
    "MOST_AT_ONCE",
    "WRONG",
    "Found",
    "check_following",
    "check_patience",
    "found_in",
    "left_standing",
    "named",
    "page_of",
    "place_in",
    "read_as",
    "sound",
    "wider",
]

#: The exceptions that reading a damaged value can raise.
WRONG: Final = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
#: Far above all that is ever counted to, and far enough below 2**63 that one more can be told from damage.
LAST_REVISION: Final = 2**62
#: Bytes of a body, far above what any store takes.
_LARGEST: Final = 2**50
#: As many rows as a page looks at in search of one whose place it can name.
MOST_AT_ONCE: Final = 2**14
#: A row of a page: where it stands, None where that can't be told, and what it is, None where it has gone from there.
Found: TypeAlias = tuple[Position | None, Record | Unreadable | None]
_INT64: Final = range(-(2**63), 2**63)
log = logging.getLogger("flowpersist.backends")


def sound(record: Any, *, last: int = LAST_REVISION) -> Record:  # noqa: ANN401 - of any fields
    """The record, if a put can have made it; else ``ValueError`` or ``TypeError``. ``last``: the highest revision."""
    if type(record.revision) is not int or not 1 <= record.revision <= last:
        raise ValueError("Invalid revision: expected a number that a put has given")
    if not 1 <= len(check_text(record.write_id, "the write id").encode()) <= MAX_WRITE_ID_BYTES:
        raise ValueError("Invalid write id: expected 1 to 64 bytes")
    if type(record.head) is not bytes or len(record.head) > MAX_HEAD_BYTES:
        raise ValueError("Invalid head: expected bytes of at most MAX_HEAD_BYTES")
    if record.body_size is not None and (type(record.body_size) is not int or not 0 <= record.body_size <= _LARGEST):
        raise ValueError("Invalid body size: expected a number of bytes")
    _check_attributes(record.attributes)
    for moment in (record.created_at, record.updated_at, record.due_at):
        if moment is not None and (type(moment) is not datetime or moment.tzinfo is None):
            raise TypeError("Invalid time: expected a datetime")
    if record.created_at is None or record.updated_at is None:
        raise ValueError("a time is missing")
    checked: Record = record
    return checked


def _check_attributes(attributes: object) -> None:
    if not isinstance(attributes, Mapping) or len(attributes) > MAX_ATTRIBUTES:
        raise ValueError("Invalid attributes: expected a mapping of at most MAX_ATTRIBUTES")


def read_as(backend: str, ref: RecordRef, make: Callable[[], Record], *, last: int = LAST_REVISION) -> Record:
    """The record that a row says; ``IntegrityError`` where it is damaged."""
    try:
        return sound(make(), last=last)
    except WRONG:
        # Not as its cause: it would hold the row, and be kept as long as the error is.
        raise unreadable(backend, named(ref)) from None


def named(ref: RecordRef) -> str:
    """A record in a message. What a damaged store holds for a key may be anything."""
    return f"record {ascii(ref.key)[1:-1]}"


def found_in(backend: str, namespace: str, key: object, read: Callable[[RecordRef], Record]) -> Record | Unreadable:
    """What a page makes of a row: ``read`` gives its record, or raises ``IntegrityError``."""
    try:
        ref = RecordRef(namespace, key)  # type: ignore[arg-type] # whatever a store may hold
    except (TypeError, ValueError):
        return Unreadable(None, unreadable(backend, "a record with an invalid key"))
    try:
        return read(ref)
    except IntegrityError as error:
        # Its frames hold the row.
        return Unreadable(ref, error.with_traceback(None))


def place_in(value: object, key: object) -> Position | None:
    """The place of a row as a cursor can name it, in the terms of ``Position``; None where it can't."""
    with suppress(TypeError, ValueError):
        if type(value) is int and value in _INT64:
            return value, check_text(key, "a key")
    return None


def wider(limit: int) -> Iterable[int]:
    """How many rows to look at, one time after another, until ``page_of`` can make a page of them."""
    while True:
        yield limit
        limit *= 4


def page_of(asked: Selection, rows: Sequence[Found], looked: int, now: datetime) -> Page[Record] | None:
    """The page of the rows that were found when ``looked`` and one more were asked for, in their order.

    None where none of them can be named by a cursor, and more follow: then look at more of them (``wider``).
    """
    ended = len(rows) <= looked
    end = _end(rows[:looked], asked)
    if end is None:
        # All that fits: up to the last one that a cursor can name, or to the end.
        places = [number for number, (place, _) in enumerate(rows[:looked]) if place is not None]
        end = len(rows) if ended else places[-1] + 1 if places else 0
    elif end == len(rows):
        ended = True
    else:
        ended = False
    if end == 0 and not ended:
        check_patience(looked)
        return None
    kept = rows[:end]
    last = None if ended else kept[-1][0]
    items = tuple(it for _, it in kept if isinstance(it, Record) and asked.holds(it))
    unreadable_ones = tuple(it for _, it in kept if isinstance(it, Unreadable))
    return Page(items, None if last is None else asked.cursor(last), now, unreadable_ones)


def _end(rows: Sequence[Found], asked: Selection) -> int | None:
    """The place behind the last record that fits; None if all fit."""
    records = [(number, it) for number, (_, it) in enumerate(rows) if isinstance(it, Record)]
    fit = how_many_fit(record.body_size for _, record in records) if asked.bodies else len(records)
    if len(records) < asked.limit and fit >= len(records):
        return None
    return records[min(fit, asked.limit) - 1][0] + 1


def check_patience(looked: int) -> None:
    """Refuse to go on through more damaged records than ever should stand together."""
    if looked >= MOST_AT_ONCE:
        message = f"more than {MOST_AT_ONCE} damaged records follow each other, and a page can't read past them"
        raise IntegrityError(f"{message}: remove them by the store's own tools, or restore a backup")


def left_standing(rows: Iterable[object]) -> None:
    """Say which records a purge has passed over since they can't be read."""
    for it in rows:
        if isinstance(it, Unreadable):
            log.warning("a purge skipped a record: %s", it.error)


def check_following(backend: str, ref: RecordRef, revision: int, *, last: int = LAST_REVISION) -> int:
    """The revision after this one; ``StorageError`` if it would exceed the largest."""
    if revision >= last:
        message = f"record {ref.key} can have no revision above {last}: copy it to a new key, or restore a backup"
        raise StorageError(message, backend)
    return revision + 1
