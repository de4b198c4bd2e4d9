"""What the SQLite backend does on a connection: it reads by itself, and writes in a transaction of its caller's."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from functools import partial
from typing import Any, Final

from attrs import evolve

from flowpersist.backends._clock import from_micros, to_micros
from flowpersist.backends._damage import (
    LAST_REVISION,
    Found,
    check_following,
    found_in,
    named,
    page_of,
    place_in,
    read_as,
    wider,
)
from flowpersist.backends._matching import Position, Selection
from flowpersist.backends._outcomes import body_missing, check_deadline, check_revision, check_unwritten, unreadable
from flowpersist.backends._pages import one_of, split
from flowpersist.backends._scalars import attributes_from_text, attributes_to_text
from flowpersist.backends._sql import select, transaction
from flowpersist.backends._sqlite.tables import NAME, Tables
from flowpersist.backends.base import (
    KEEP,
    Keep,
    Order,
    Page,
    Read,
    Reads,
    Record,
    RecordChange,
    RecordRef,
    Unreadable,
    Written,
)
from flowpersist.errors import IntegrityError

__all__ = ["checked_floor", "delete", "inserted", "page", "purge", "put", "read", "read_many"]

#: What the columns of a row are (``columns`` in statements.sql).
_NAMES: Final = ("key", "revision", "write_id", "created", "updated", "due", "body_size", "attributes", "head", "id")
#: From this size on a body is read by SQLite's incremental interface, which copies it once and not twice.
BLOB_BYTES: Final = 64 * 1024
#: Where these stand in a row; the body, where it is small and asked for, follows the columns.
_KEY, _REVISION, _BODY_SIZE, _ID = (_NAMES.index(name) for name in ("key", "revision", "body_size", "id"))
_DATA: Final = _ID + 1


def _record(ref: RecordRef, row: Sequence[Any], body: bytes | None) -> Record:
    """A row as a record. SQLite keeps any type in any column, so a damaged or forged row may hold anything."""
    _, revision, write_id, created, updated, due, size, attributes, head, *_ = row

    def made() -> Record:
        created_at = from_micros(created)
        return Record(
            ref=ref,
            revision=revision,
            write_id=write_id,
            attributes=attributes_from_text(attributes),
            head=head,
            body=body,
            body_size=size,
            created_at=created_at,
            updated_at=created_at if updated == created else from_micros(updated),
            due_at=None if due is None else from_micros(due),
        )

    return read_as(NAME, ref, made)


def read(connection: sqlite3.Connection, tables: Tables, ref: RecordRef, now: datetime, *, body: bool) -> Read:
    """One record; record and body are of one moment: read by one statement, or nothing was written between two."""
    row = _row(connection, tables, ref, body=body)
    if row is None:
        return Read(None, now)
    if not body or not _is_large(row):
        return Read(_complete(_record(ref, row, row[_DATA]), asked=body), now)
    data = _large(connection, tables, row[_ID])
    # No revision is used twice, and so none that stands before and after was another one between.
    if connection.execute(tables.sql["read_revision"], (row[_ID],)).fetchone() != (row[_REVISION],):
        with _snapshot(connection):
            return _read_again(connection, tables, ref, now)
    return Read(_complete(_record(ref, row, data)), now)


def read_many(
    connection: sqlite3.Connection, tables: Tables, refs: Sequence[RecordRef], now: datetime, *, body: bool
) -> Reads:
    """Several records, each as ``read`` reads it."""
    found = (one_of(ref, lambda ref=ref: read(connection, tables, ref, now, body=body).record) for ref in refs)  # type: ignore[misc]
    return Reads(tuple(found), now)


def _read_again(connection: sqlite3.Connection, tables: Tables, ref: RecordRef, now: datetime) -> Read:
    row = _row(connection, tables, ref, body=True)
    if row is None:
        return Read(None, now)
    data = _large(connection, tables, row[_ID]) if _is_large(row) else row[_DATA]
    return Read(_complete(_record(ref, row, data)), now)


def _snapshot(connection: sqlite3.Connection) -> AbstractContextManager[None]:
    """All reads are of one moment, as they are anyway within a transaction of the caller's."""
    return nullcontext() if connection.in_transaction else transaction(connection, "deferred")


def _row(connection: sqlite3.Connection, tables: Tables, ref: RecordRef, *, body: bool) -> tuple[Any, ...] | None:
    asked = (BLOB_BYTES if body else 0, ref.namespace, ref.key)
    row: tuple[Any, ...] | None = connection.execute(tables.sql["read_record"], asked).fetchone()
    return row


def _is_large(row: tuple[Any, ...]) -> bool:
    size = row[_BODY_SIZE]
    return type(size) is int and size >= BLOB_BYTES


def _complete(record: Record, *, asked: bool = True) -> Record:
    size = record.body_size
    if asked and size is not None and (not isinstance(record.body, bytes) or len(record.body) != size):
        raise body_missing(NAME, record.ref)
    return record


def _large(connection: sqlite3.Connection, tables: Tables, identity: int) -> bytes | None:
    try:
        with connection.blobopen(tables.bodies, "data", identity, readonly=True) as blob:
            return blob.read()
    except sqlite3.OperationalError as error:
        # "no such rowid", or a value that is no blob; what else fails is an error of the database.
        if error.sqlite_errorcode == sqlite3.SQLITE_ERROR:
            return None
        raise


def put(
    connection: sqlite3.Connection,
    tables: Tables,
    ref: RecordRef,
    change: RecordChange,
    if_revision: int | None,
    not_after: datetime | None,
    now: datetime,
) -> Written:
    """Compare, and set what changes. ``now`` was read after the write lock was taken."""
    identity, revision, write_id, attributes, floor = _standing(connection, tables, ref)
    check_revision(NAME, ref, 0 if identity is None else _revision(ref, revision), if_revision)
    if if_revision is None:
        check_unwritten(NAME, ref, write_id, change.write_id)
    check_deadline(NAME, ref, now, not_after)
    following = check_following(NAME, ref, checked_floor(floor) if identity is None else revision)
    if identity is None:
        return _insert(connection, tables, ref, change, following, now)
    assigned = {"revision": following, "write_id": change.write_id, "updated_at": to_micros(now)}
    assigned.update(_assignments(change, attributes))
    _update(connection, tables, identity, assigned)
    _write_body(connection, tables, identity, change.body)
    return Written(following, now)


def _revision(ref: RecordRef, value: object) -> int:
    """The revision at which a record stands."""
    if type(value) is not int or not 1 <= value <= LAST_REVISION:
        raise unreadable(NAME, named(ref))
    return value


def checked_floor(value: object) -> int:
    """The revision that new records are above."""
    if type(value) is not int or value < 0:
        raise _no_counter()
    return value


def _no_counter() -> IntegrityError:
    return unreadable(NAME, "the counter of revisions")


def _insert(
    connection: sqlite3.Connection, tables: Tables, ref: RecordRef, change: RecordChange, revision: int, now: datetime
) -> Written:
    # SQLite chooses an id where there is none.
    values = (None, revision, *inserted(ref, change, to_micros(now)))
    identity = connection.execute(tables.sql["insert_record"], values).lastrowid
    if isinstance(change.body, bytes):
        connection.execute(tables.sql["write_body"], (identity, change.body))
    return Written(revision, now)


def _standing(connection: sqlite3.Connection, tables: Tables, ref: RecordRef) -> tuple[Any, ...]:
    row: tuple[Any, ...] | None = connection.execute(tables.sql["read_standing"], (ref.namespace, ref.key)).fetchone()
    if row is None:
        # The statement begins with the counter's row.
        raise _no_counter()
    return row


def inserted(ref: RecordRef, change: RecordChange, at: int) -> tuple[object, ...]:
    """The row of a new record, without its id and revision."""
    due, body, attributes, head = change.due_at, change.body, change.attributes, change.head
    return (
        ref.namespace,
        ref.key,
        change.write_id,
        at,
        at,
        to_micros(due) if isinstance(due, datetime) else None,
        len(body) if isinstance(body, bytes) else None,
        "{}" if attributes is None or attributes is KEEP else attributes_to_text(attributes),
        head if isinstance(head, bytes) else b"",
    )


def _assignments(change: RecordChange, old_attributes: str) -> dict[str, object]:
    """The columns that a change sets. Attributes that stay as they are, are left out: they stand in most indexes."""
    assigned: dict[str, object] = {}
    if not isinstance(change.due_at, Keep):
        assigned["due_at"] = None if change.due_at is None else to_micros(change.due_at)
    if not isinstance(change.body, Keep):
        assigned["body_size"] = None if change.body is None else len(change.body)
    if not isinstance(change.head, Keep):
        assigned["head"] = change.head or b""
    if not isinstance(change.attributes, Keep):
        text = attributes_to_text(change.attributes or {})
        if text != old_attributes:
            assigned["attributes"] = text
    return assigned


def _update(connection: sqlite3.Connection, tables: Tables, identity: int, assigned: Mapping[str, object]) -> None:
    columns = ", ".join(f"{column} = ?" for column in assigned)
    statement = f"update {tables.records} set {columns} where id = ?"  # noqa: S608 - our own column names
    connection.execute(statement, (*assigned.values(), identity))


def _write_body(connection: sqlite3.Connection, tables: Tables, identity: int, body: bytes | Keep | None) -> None:
    if body is None:
        connection.execute(tables.sql["delete_body"], (identity,))
    elif body is not KEEP:
        connection.execute(tables.sql["write_body"], (identity, body))


def _remove(connection: sqlite3.Connection, tables: Tables, identity: int, revision: int) -> None:
    connection.execute(tables.sql["delete_body"], (identity,))
    connection.execute(tables.sql["delete_record"], (identity,))
    connection.execute(tables.sql["raise_floor"], (revision,))


def delete(connection: sqlite3.Connection, tables: Tables, ref: RecordRef, if_revision: int | None) -> bool:
    """Remove a record and its body."""
    identity, revision, *_ = _standing(connection, tables, ref)
    if identity is None:
        return False
    check_revision(NAME, ref, _revision(ref, revision), if_revision)
    _remove(connection, tables, identity, revision)
    return True


def _places(order: Order) -> Callable[[Sequence[Any]], Position | None]:
    if order == "key":
        return lambda row: place_in(0, row[_KEY])
    column = _NAMES.index(order)
    return lambda row: place_in(row[column], row[_KEY])


def _look(
    connection: sqlite3.Connection, tables: Tables, asked: Selection, indexed: Mapping[str, type], now: datetime
) -> tuple[Page[Record], dict[str, int]]:
    """A page, and the ids of its rows by their keys."""
    place = _places(asked.order)
    for looked in wider(asked.limit):
        # One more than wanted tells whether more follow.
        rows = connection.execute(
            *select(tables.sql["columns"], tables.records, evolve(asked, limit=looked + 1), indexed)
        ).fetchall()
        found: list[Found] = [
            (place(row), found_in(NAME, asked.namespace, row[_KEY], partial(_record, row=row, body=None)))
            for row in rows
        ]
        page = page_of(asked, found, looked, now)
        if page is not None:
            return page, {row[_KEY]: row[_ID] for row in rows}
    raise AssertionError("there is no end of rows")


def page(
    connection: sqlite3.Connection, tables: Tables, asked: Selection, indexed: Mapping[str, type], now: datetime
) -> Page[Record]:
    """A page, and a cursor where more follows."""
    if not asked.bodies:
        return _look(connection, tables, asked, indexed, now)[0]
    with _snapshot(connection):
        found, ids = _look(connection, tables, asked, indexed, now)
        whole = [_with_body(connection, tables, record, ids[record.ref.key]) for record in found.items]
    return split(found, whole)


def _with_body(connection: sqlite3.Connection, tables: Tables, record: Record, identity: int) -> Record | Unreadable:
    """A record of a page with its body, as of the same snapshot."""
    if record.body_size is None:
        return record
    if record.body_size >= BLOB_BYTES:
        body = _large(connection, tables, identity)
    else:
        body = (connection.execute(tables.sql["read_body"], (BLOB_BYTES, identity)).fetchone() or (None,))[0]
    try:
        return _complete(evolve(record, body=body))
    except IntegrityError as error:
        return Unreadable(record.ref, error.with_traceback(None))


def purge(
    connection: sqlite3.Connection, tables: Tables, asked: Selection, indexed: Mapping[str, type], now: datetime
) -> Page[Record]:
    """Remove what the selection finds: gives the page that is gone."""
    found, ids = _look(connection, tables, asked, indexed, now)
    for record in found.items:
        _remove(connection, tables, ids[record.ref.key], record.revision)
    return found
