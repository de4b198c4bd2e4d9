"""What the PostgreSQL backend does on a connection. Every write is one statement, but for the two of a purge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from datetime import datetime
from functools import partial
from typing import Final

from asyncpg import InvalidTextRepresentationError
from asyncpg import Record as Row
from attrs import evolve, frozen

from flowpersist.backends._clock import from_micros, to_micros
from flowpersist.backends._damage import Found, found_in, page_of, place_in, read_as, wider
from flowpersist.backends._matching import Selection
from flowpersist.backends._outcomes import body_missing, check_deadline, check_revision, unreadable, written_already
from flowpersist.backends._pages import One, completed, one_of
from flowpersist.backends._postgres import selections
from flowpersist.backends._postgres.layout import NAME, Layout, Link
from flowpersist.backends._scalars import attributes_from_text, attributes_to_text
from flowpersist.backends.base import KEEP, Keep, Page, Read, Reads, Record, RecordChange, RecordRef, Written
from flowpersist.errors import DeadlinePassed, RevisionConflict

__all__ = ["Row", "Store", "delete", "one", "page", "purge", "put", "read", "read_many"]


#: What the server says of a write that had to wait until its deadline had passed (statements.sql).
LATE: Final = "flowpersist: late"
_DROPPING: Final = "upsert_record_and_drop_body"


@frozen
class Store:
    """What every operation needs to know: the statements, the clock's offset in microseconds, where changes of the
    namespace are notified, and what it declares.
    """

    layout: Layout
    offset: int
    channel: str | None
    indexed: Mapping[str, type]


async def one(connection: Link, statement: str, *arguments: object) -> Row:
    """The row of a statement that gives one, whatever it finds."""
    row = await connection.fetchrow(statement, *arguments)
    if row is None:
        raise unreadable(NAME, "an answer")
    return row


def _record(ref: RecordRef, row: Row, body: bytes | None) -> Record:
    """A row as a record. A damaged or forged row may hold any value of a column's type."""
    _, revision, write_id, created, updated, due, size, attributes, head, *_ = row.values()
    return read_as(
        NAME,
        ref,
        lambda: Record(
            ref=ref,
            revision=revision,
            write_id=write_id,
            attributes=attributes_from_text(attributes),
            head=head,
            body=body,
            body_size=size,
            created_at=from_micros(created),
            updated_at=from_micros(updated),
            due_at=None if due is None else from_micros(due),
        ),
    )


async def read(connection: Link, store: Store, ref: RecordRef, *, body: bool) -> Read:
    """One record, all of it of one snapshot."""
    statement = store.layout.sql["read_record_and_body" if body else "read_record"]
    row = await one(connection, statement, store.offset, ref.namespace, ref.key)
    now = from_micros(row["now"])
    if row["key"] is None:
        return Read(None, now)
    return Read(_of_page(ref, row, row["data"] if body else None, whole=body), now)


async def put(
    connection: Link,
    store: Store,
    ref: RecordRef,
    change: RecordChange,
    if_revision: int | None,
    not_after: datetime | None,
) -> Written:
    """Compare, and set what changes."""
    deadline = None if not_after is None else to_micros(not_after)
    common = (store.offset, ref.namespace, ref.key, store.channel, change.write_id, deadline)
    name, arguments = _statement(change, if_revision)
    # In a transaction of the user's, missing the deadline must not spoil what else they do in it.
    inside = deadline is not None and connection.is_in_transaction()
    try:
        async with connection.transaction() if inside else nullcontext():
            row = await one(connection, store.layout.sql[name], *common, *arguments)
            if name == _DROPPING and not row["done"]:
                row = await _upsert_in_two(connection, store, ref, (*common, *arguments))
    except InvalidTextRepresentationError as error:
        if LATE not in str(error):
            raise
        message = f"the deadline for writing record {ref.key} has passed; nothing was written"
        raise DeadlinePassed(message, NAME) from error
    if row["done"]:
        return Written(row["revision"], from_micros(row["now"]))
    if if_revision is None:
        check_deadline(NAME, ref, from_micros(row["now"]), not_after)
        raise written_already(NAME, ref)
    raise await _refusal(connection, store, ref, row, if_revision, not_after)


async def _upsert_in_two(connection: Link, store: Store, ref: RecordRef, arguments: tuple[object, ...]) -> Row:
    """What drops the body of a record that another has just written: a statement does not see that one's body."""
    async with connection.transaction():
        row = await one(connection, store.layout.sql["upsert_record_alone"], *arguments)
        if row["done"]:
            await connection.execute(store.layout.sql["drop_body_of"], ref.namespace, ref.key)
    return row


def _due(due_at: datetime | Keep | None) -> int | None:
    return None if due_at is None or isinstance(due_at, Keep) else to_micros(due_at)


def _statement(change: RecordChange, if_revision: int | None) -> tuple[str, tuple[object, ...]]:
    if if_revision is None:
        return _upsert(change)
    return _insertion(change) if if_revision == 0 else _alteration(change, if_revision)


def _upsert(change: RecordChange) -> tuple[str, tuple[object, ...]]:
    stays = tuple(part is KEEP for part in (change.due_at, change.attributes, change.head))
    _, (*parts, _) = _insertion(evolve(change, body=None))
    if isinstance(change.body, bytes):
        return "upsert_record_and_body", (*parts, *stays, len(change.body), change.body)
    return ("upsert_record" if change.body is KEEP else _DROPPING), (*parts, *stays)


def _insertion(change: RecordChange) -> tuple[str, tuple[object, ...]]:
    attributes = {} if change.attributes is None or isinstance(change.attributes, Keep) else change.attributes
    head = b"" if change.head is None or change.head is KEEP else change.head
    parts = (_due(change.due_at), attributes_to_text(attributes), head)
    if isinstance(change.body, bytes):
        return "insert_record_and_body", (*parts, len(change.body), change.body)
    return "insert_record", (*parts, None)


def _alteration(change: RecordChange, if_revision: int) -> tuple[str, tuple[object, ...]]:
    attributes = None if isinstance(change.attributes, Keep) else attributes_to_text(change.attributes or {})
    head = None if isinstance(change.head, Keep) else change.head or b""
    parts = (if_revision, change.due_at is KEEP, _due(change.due_at), attributes, head)
    if isinstance(change.body, bytes):
        return "change_record_and_body", (*parts, len(change.body), change.body)
    return ("change_record" if change.body is KEEP else "change_record_and_drop_body"), parts


async def _refusal(
    connection: Link, store: Store, ref: RecordRef, row: Row, expected: int, not_after: datetime | None
) -> Exception:
    """Why a write was refused. Where it waited for another one, the snapshot of its statement is older than the row
    that it was compared with, and still shows the revision that was expected: then another look tells.
    """
    if (row["revision"] or 0) == expected and not_after is not None:
        row = await one(connection, store.layout.sql["read_standing"], store.offset, ref.namespace, ref.key)
    check_revision(NAME, ref, row["revision"] or 0, expected)
    check_deadline(NAME, ref, from_micros(row["now"]), not_after)
    message = f"record {ref.key} was changed by another at this moment: read it and decide again"
    return RevisionConflict(message, NAME)


async def delete(connection: Link, store: Store, ref: RecordRef, if_revision: int | None) -> bool:
    """Remove a record and its body."""
    if if_revision is None:
        return await _delete_any(connection, store, ref)
    arguments = (store.offset, ref.namespace, ref.key, store.channel, if_revision)
    row = await one(connection, store.layout.sql["delete_record"], *arguments)
    if row["done"]:
        return True
    if row["revision"] == if_revision:
        # It waited for another's write or delete, and the snapshot of its statement is older than that.
        row = await one(connection, store.layout.sql["read_standing"], *arguments[:3])
    if row["revision"] is None:
        return False
    check_revision(NAME, ref, row["revision"], if_revision)
    raise RevisionConflict(f"record {ref.key} was locked by another at this moment: read it and decide again", NAME)


async def _delete_any(connection: Link, store: Store, ref: RecordRef) -> bool:
    sql = store.layout.sql
    row = await one(connection, sql["delete_any"], store.offset, ref.namespace, ref.key, store.channel)
    if row["done"] or row["revision"] is None:
        return bool(row["done"])
    # It waited for another's write or delete, and does not see what body that one has written.
    async with connection.transaction():
        gone = await connection.fetchrow(sql["delete_moved"], ref.namespace, ref.key, store.channel)
        if gone is not None:
            await connection.execute(sql["purge_bodies"], [gone["id"]])
    return gone is not None


async def page(connection: Link, store: Store, asked: Selection) -> Page[Record]:
    """A page, and a cursor where more follows: one record more than wanted tells."""
    for looked in wider(asked.limit):
        statement = selections.page(store.layout, evolve(asked, limit=looked + 1), store.indexed, store.offset)
        rows = await connection.fetch(statement.text, *statement.arguments)
        now = from_micros(rows[0]["now"])
        found = [_found(asked, row) for row in rows if row["key"] is not None]
        page = page_of(asked, found, looked, now)
        if page is not None:
            return await completed(asked, page, partial(_read_all, connection, store))
    raise AssertionError("there is no end of rows")


def _found(asked: Selection, row: Row) -> Found:
    key = row["key"]
    place = place_in(0 if asked.order == "key" else row[f"{asked.order}_at"], key)
    data = row["data"] if asked.bodies else None
    whole = asked.bodies and row["whole"]
    found = found_in(NAME, asked.namespace, key, lambda ref: _of_page(ref, row, data, whole=whole))
    return place, found


def _of_page(ref: RecordRef, row: Row, data: bytes | None, *, whole: bool) -> Record:
    record = _record(ref, row, data)
    return _complete(record) if whole else record


def _complete(record: Record) -> Record:
    if record.body_size != (None if record.body is None else len(record.body)):
        raise body_missing(NAME, record.ref)
    return record


async def read_many(connection: Link, store: Store, refs: Sequence[RecordRef], *, body: bool) -> Reads:
    """Several records, each of one snapshot."""
    statement = store.layout.sql["read_records_and_bodies" if body else "read_records"]
    names = [ref.namespace for ref in refs], [ref.key for ref in refs]
    rows = await connection.fetch(statement, store.offset, *names)
    if not rows:
        return Reads((), from_micros((await one(connection, store.layout.sql["read_clock"], store.offset))["now"]))
    found = (one_of(ref, partial(_of_several, ref, row, body=body)) for ref, row in zip(refs, rows, strict=True))
    return Reads(tuple(found), from_micros(rows[0]["now"]))


def _of_several(ref: RecordRef, row: Row, *, body: bool) -> Record | None:
    if row["key"] is None:
        return None
    return _of_page(ref, row, row["data"] if body else None, whole=body)


async def _read_all(connection: Link, store: Store, refs: Sequence[RecordRef]) -> Sequence[One]:
    return (await read_many(connection, store, refs, body=True)).records


async def purge(connection: Link, store: Store, asked: Selection) -> int:
    """Remove what the selection finds, records and bodies in one transaction."""
    statement = selections.purge(store.layout, asked, store.indexed, store.channel)
    async with connection.transaction():
        rows = await connection.fetch(statement.text, *statement.arguments)
        ids = [row["id"] for row in rows]
        if ids:
            await connection.execute(store.layout.sql["purge_bodies"], ids)
    return len(ids)
