"""Many new records in few statements.

Each statement gives up the interpreter's lock and must wait for it again while the event loop is busy. So the records
of a group go into one ``insert``, and their bodies into another, which cost less than half of what statements for each
record do.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import cache
from itertools import chain
from typing import Any, Final

from attrs import frozen

from flowpersist.backends._clock import to_micros
from flowpersist.backends._sqlite import rows
from flowpersist.backends._sqlite.tables import Tables
from flowpersist.backends.base import RecordChange, RecordRef, Written

__all__ = ["Insert", "insert_all"]

_ROW: Final = {"insert_records": "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", "insert_bodies": "(?, ?)"}


@frozen(eq=False)
class Insert:
    """A put of a record that is not there yet; called, it does so alone."""

    tables: Tables
    ref: RecordRef
    change: RecordChange
    not_after: datetime | None
    now: Callable[[], datetime]

    def __call__(self, connection: sqlite3.Connection) -> Written:
        """Compare and set, with the error that says why it can't be."""
        return rows.put(connection, self.tables, self.ref, self.change, 0, self.not_after, self.now())


def insert_all(connection: sqlite3.Connection, inserts: Sequence[Insert]) -> list[Written | None]:
    """Make the records; None for each that was not made, since one stands there or its time has passed."""
    now, sql = inserts[0].now(), inserts[0].tables.sql
    floor, top = connection.execute(sql["read_ends"]).fetchone()
    timely = {top + n: it for n, it in enumerate(inserts, 1) if it.not_after is None or now <= it.not_after}
    at, revision = to_micros(now), floor + 1
    values = [(identity, revision, *rows.inserted(it.ref, it.change, at)) for identity, it in timely.items()]
    made = set(timely)
    if _insert(connection, sql, "insert_records", values) < len(values):
        made = {identity for (identity,) in connection.execute(sql["read_inserted"], (top,))}
    bodies = [(identity, timely[identity].change.body) for identity in sorted(made)]
    _insert(connection, sql, "insert_bodies", [one for one in bodies if isinstance(one[1], bytes)])
    written = Written(floor + 1, now)
    return [written if identity in made else None for identity in range(top + 1, top + 1 + len(inserts))]


def _insert(
    connection: sqlite3.Connection, sql: Mapping[str, str], name: str, values: Sequence[tuple[Any, ...]]
) -> int:
    return sum(
        connection.execute(_statement(sql[name], _ROW[name], len(part)), list(chain.from_iterable(part))).rowcount
        for part in _parts(values)
    )


def _parts(values: Sequence[tuple[Any, ...]]) -> Iterator[Sequence[tuple[Any, ...]]]:
    """In powers of two, so that the few statements stay prepared."""
    while values:
        size = 1 << (len(values).bit_length() - 1)
        yield values[:size]
        values = values[size:]


@cache
def _statement(text: str, row: str, count: int) -> str:
    return text.replace("(?)", ", ".join([row] * count))
