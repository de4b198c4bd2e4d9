"""What the PostgreSQL backend does on a connection. Every write is one statement, but for the two of a purge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from asyncpg import Record as Row
from attrs import evolve, frozen

from flowpersist.backends._clock import from_micros
from flowpersist.backends._damage import Found, found_in, page_of, place_in, read_as, wider
from flowpersist.backends._matching import Selection
from flowpersist.backends._outcomes import body_missing, check_revision, unreadable
from flowpersist.backends._pages import One, completed, one_of
from flowpersist.backends._postgres import selections
from flowpersist.backends._postgres.layout import NAME, Layout, Link
from flowpersist.backends._scalars import attributes_from_text
from flowpersist.backends.base import Page, Read, Reads, Record, RecordRef
from flowpersist.errors import RevisionConflict

__all__ = ["Row", "Store", "delete", "one", "page", "purge", "read", "read_many"]


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
