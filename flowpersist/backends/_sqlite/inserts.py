"""Many new records in few statements.

Each statement gives up the interpreter's lock and must wait for it again while the event loop is busy. So the records
of a group go into one ``insert``, and their bodies into another, which cost less than half of what statements for each
record do.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from functools import cache
from itertools import chain
from typing import Any, Final

from attrs import frozen

from flowpersist.backends._clock import to_micros
from flowpersist.backends._sqlite import rows
from flowpersist.backends._sqlite.rows import SQL
from flowpersist.backends.base import RecordChange, RecordRef, Written

__all__ = ["Insert", "insert_all"]

_ROW: Final = {"insert_records": "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", "insert_bodies": "(?, ?)"}


@frozen(eq=False)
class Insert:
    """A put of a record that is not there yet; called, it does so alone."""

    ref: RecordRef
    change: RecordChange
    not_after: datetime | None
    now: Callable[[], datetime]

    def __call__(self, connection: sqlite3.Connection) -> Written:
        """Compare and set, with the error that says why it can't be."""
        return rows.put(connection, self.ref, self.change, 0, self.not_after, self.now())


def insert_all(connection: sqlite3.Connection, inserts: Sequence[Insert]) -> list[Written | None]:
    """Make the records; None for each that was not made, since one stands there or its time has passed."""
    now = inserts[0].now()
    floor, top = connection.execute(SQL["read_ends"]).fetchone()
    timely = {top + n: it for n, it in enumerate(inserts, 1) if it.not_after is None or now <= it.not_after}
    values = [rows.inserted(it.ref, it.change, floor + 1, to_micros(now), identity) for identity, it in timely.items()]
    made = set(timely)
    if _insert(connection, "insert_records", values) < len(values):
        made = {identity for (identity,) in connection.execute(SQL["read_inserted"], (top,))}
    bodies = [(identity, timely[identity].change.body) for identity in sorted(made)]
    _insert(connection, "insert_bodies", [one for one in bodies if isinstance(one[1], bytes)])
    written = Written(floor + 1, now)
    return [written if identity in made else None for identity in range(top + 1, top + 1 + len(inserts))]


def _insert(connection: sqlite3.Connection, name: str, values: Sequence[tuple[Any, ...]]) -> int:
    return sum(
        connection.execute(_statement(name, len(part)), list(chain.from_iterable(part))).rowcount
        for part in _parts(values)
    )


def _parts(values: Sequence[tuple[Any, ...]]) -> Iterator[Sequence[tuple[Any, ...]]]:
    """In powers of two, so that the few statements stay prepared."""
    while values:
        size = 1 << (len(values).bit_length() - 1)
        yield values[:size]
        values = values[size:]


@cache
def _statement(name: str, count: int) -> str:
    return SQL[name].replace("(?)", ", ".join([_ROW[name]] * count))
