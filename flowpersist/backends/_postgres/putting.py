"""Puts: each is one statement, and several of a kind are one request of the driver's."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext, suppress
from datetime import datetime
from typing import Final, TypeAlias

import asyncpg
from attrs import evolve, frozen

from flowpersist.backends._clock import from_micros, to_micros
from flowpersist.backends._outcomes import check_deadline, check_revision, written_already
from flowpersist.backends._postgres.errors import DRIVER, lost, mapped
from flowpersist.backends._postgres.layout import NAME, Link
from flowpersist.backends._postgres.rows import Row, Store, one
from flowpersist.backends._putting import PutResult, portions
from flowpersist.backends._scalars import attributes_to_text
from flowpersist.backends.base import KEEP, Keep, Put, RecordChange, RecordRef, Written
from flowpersist.errors import DeadlinePassed, PersistenceError, RevisionConflict

__all__ = ["Stores", "put", "put_many"]

#: What the server says of a write that had to wait until its deadline had passed (statements.sql).
LATE: Final = "flowpersist: late"
_DROPPING: Final = "upsert_record_and_drop_body"
#: By namespace.
Stores: TypeAlias = Mapping[str, Store]


@frozen
class _Prepared:
    """A put, and the name and arguments of its statement."""

    put: Put
    store: Store
    name: str
    arguments: tuple[object, ...]

    @classmethod
    def of(cls, store: Store, put: Put) -> _Prepared:
        deadline = None if put.not_after is None else to_micros(put.not_after)
        ref, write_id = put.ref, put.change.write_id
        name, arguments = _statement(put.change, put.if_revision)
        return cls(
            put, store, name, (store.offset, ref.namespace, ref.key, store.channel, write_id, deadline, *arguments)
        )


@asynccontextmanager
async def _savepoint(connection: Link) -> AsyncIterator[None]:
    """A part of the user's transaction that can fail alone. The driver's own needs one that was not begun by SQL."""
    await connection.execute("savepoint flowpersist")
    try:
        yield
    except BaseException:
        # Where this fails too, the whole transaction has failed, as its next statement tells.
        with suppress(*DRIVER):
            await connection.execute("rollback to savepoint flowpersist; release savepoint flowpersist")
        raise
    await connection.execute("release savepoint flowpersist")


async def put(connection: Link, store: Store, it: Put) -> Written:
    """Compare, and set what changes."""
    prepared = _Prepared.of(store, it)
    # In a transaction of the user's, missing the deadline must not spoil what else they do in it.
    inside = it.not_after is not None and connection.is_in_transaction()
    try:
        async with _savepoint(connection) if inside else nullcontext():
            row = await one(connection, store.layout.sql[prepared.name], *prepared.arguments)
            return await _told(connection, prepared, row)
    except asyncpg.InvalidTextRepresentationError as error:
        if LATE not in str(error):
            raise
        message = f"the deadline for writing record {it.ref.key} has passed; nothing was written"
        raise DeadlinePassed(message, NAME) from error


async def put_many(connection: Link, stores: Stores, puts: Sequence[Put]) -> tuple[PutResult, ...]:
    """Several of them, all of one kind in one request, which is one transaction."""
    prepared = [_Prepared.of(stores[it.ref.namespace], it) for it in puts]
    results: dict[int, PutResult] = {}
    # In one order, so that of two who put the same records neither waits for the other in a circle.
    places = sorted(range(len(puts)), key=lambda place: puts[place].ref)
    for name in dict.fromkeys(it.name for it in prepared):
        for some in portions(puts, [place for place in places if prepared[place].name == name]):
            together = await _together(connection, [prepared[place] for place in some])
            results.update(zip(some, together, strict=True))
    return tuple(results[place] for place in range(len(puts)))


async def _together(connection: Link, several: Sequence[_Prepared]) -> list[PutResult]:
    sql, inside = several[0].store.layout.sql, connection.is_in_transaction()
    rows: list[Row | None]
    try:
        async with _savepoint(connection) if inside else nullcontext():
            rows = [*await connection.fetchmany(sql[several[0].name], [one.arguments for one in several])]
    except asyncpg.PostgresError as error:
        if lost(error):
            raise
        # The server has undone all of them, perhaps on account of one.
        rows = [None] * len(several)
    return [await _settled(connection, one, row, inside=inside) for one, row in zip(several, rows, strict=True)]


async def _settled(connection: Link, prepared: _Prepared, row: Row | None, *, inside: bool) -> PutResult:
    try:
        # In a transaction of the user's an error that is no refusal ends all of it.
        with nullcontext() if inside else mapped(connection, writes=True):
            if row is not None:
                return await _told(connection, prepared, row)
            return await put(connection, prepared.store, prepared.put)
    except PersistenceError as error:
        return error.with_traceback(None)


async def _told(connection: Link, prepared: _Prepared, row: Row) -> Written:
    """What the row of a put's statement says."""
    it, store = prepared.put, prepared.store
    if prepared.name == _DROPPING and not row["done"]:
        row = await _upsert_in_two(connection, store, it.ref, prepared.arguments)
    if row["done"]:
        return Written(row["revision"], from_micros(row["now"]))
    if it.if_revision is None:
        check_deadline(NAME, it.ref, from_micros(row["now"]), it.not_after)
        raise written_already(NAME, it.ref)
    raise await _refusal(connection, store, it.ref, row, it.if_revision, it.not_after)


async def _upsert_in_two(connection: Link, store: Store, ref: RecordRef, arguments: tuple[object, ...]) -> Row:
    """What drops the body of a record that another has just written: a statement does not see that one's body."""
    async with _savepoint(connection) if connection.is_in_transaction() else connection.transaction():
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
