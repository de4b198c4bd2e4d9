"""Many new records in few statements.

Each statement gives up the interpreter's lock and must wait for it again while the event loop is busy. So the records
of a group go into one ``insert``, and their bodies into another, which cost less than half of what statements for each
record do.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import cache
from itertools import chain
from typing import Any, Final

from attrs import define

from flowpersist.backends._clock import to_micros
from flowpersist.backends._damage import check_following
from flowpersist.backends._sqlite import rows
from flowpersist.backends._sqlite.tables import NAME, Tables
from flowpersist.backends.base import Keep, RecordChange, RecordRef, Written

__all__ = ["Insert", "insert_all"]

#: A record whose head takes more goes alone: a statement keeps what was bound last for as long as it stays prepared,
#: and there is one for each number of records.
BRIEF_BYTES: Final = 4 * 1024
_ROW: Final = {"insert_records": "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", "insert_bodies": "(?, ?)"}


# Not frozen: that would double what it takes to make one.
@define(eq=False)
class Insert:
    """A put of a record that is not there yet; called, it does so alone."""

    tables: Tables
    ref: RecordRef
    change: RecordChange
    not_after: datetime | None
    now: Callable[[], datetime]

    @property
    def brief(self) -> bool:
        """Whether it may go with others."""
        head = self.change.head
        return not isinstance(head, bytes) or len(head) <= BRIEF_BYTES

    def __call__(self, connection: sqlite3.Connection) -> Written:
        """Compare and set, with the error that says why it can't be."""
        return rows.put(connection, self.tables, self.ref, self.change, 0, self.not_after, self.now())


def insert_all(connection: sqlite3.Connection, inserts: Sequence[Insert]) -> list[Written | None]:
    """Make the records; None for each that was not made: it is large, or one stands there, or its time has passed."""
    now, sql = inserts[0].now(), inserts[0].tables.sql
    floor, top = connection.execute(sql["read_ends"]).fetchone() or (None, 0)
    numbered = enumerate(inserts, top + 1)
    fitting = {n: it for n, it in numbered if it.brief and (it.not_after is None or now <= it.not_after)}
    at, revision = to_micros(now), check_following(NAME, inserts[0].ref, rows.checked_floor(floor))
    values = [(identity, revision, *rows.inserted(it.ref, it.change, at)) for identity, it in fitting.items()]
    made = set(fitting)
    if values and _insert(connection, sql, "insert_records", values) < len(values):
        made = {identity for (identity,) in connection.execute(sql["read_inserted"], (top,))}
    _insert_bodies(connection, sql, [(identity, fitting[identity].change.body) for identity in sorted(made)])
    written = Written(revision, now)
    return [written if identity in made else None for identity in range(top + 1, top + 1 + len(inserts))]


def _insert_bodies(
    connection: sqlite3.Connection, sql: Mapping[str, str], bodies: Sequence[tuple[int, bytes | Keep | None]]
) -> None:
    small: list[tuple[int, bytes]] = []
    for identity, body in bodies:
        if not isinstance(body, bytes):
            continue
        if len(body) < rows.BLOB_BYTES:
            small.append((identity, body))
        else:
            connection.execute(sql["write_body"], (identity, body))
    # Few statements, for powers of two, and none for many large bodies: see BRIEF_BYTES.
    while small:
        size = 1 << (len(small).bit_length() - 1)
        _insert(connection, sql, "insert_bodies", small[:size])
        small = small[size:]


def _insert(
    connection: sqlite3.Connection, sql: Mapping[str, str], name: str, values: Sequence[tuple[Any, ...]]
) -> int:
    statement = _statement(sql[name], _ROW[name], len(values))
    return connection.execute(statement, list(chain.from_iterable(values))).rowcount


@cache
def _statement(text: str, row: str, count: int) -> str:
    return text.replace("(?)", ", ".join([row] * count))
