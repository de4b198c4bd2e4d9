"""Reading one record, with its body in one round trip if the server can."""

from __future__ import annotations

import inspect
from typing import Any, Final

from attrs import evolve
from bson.errors import BSONError
from pymongo.errors import OperationFailure

from flowpersist.backends._damage import named
from flowpersist.backends._mongodb.bodies import Stored, fetch, stored_body
from flowpersist.backends._mongodb.context import StoreContext
from flowpersist.backends._mongodb.documents import Document, identity, record_of
from flowpersist.backends._mongodb.errors import NAME, mapped
from flowpersist.backends._outcomes import body_missing, unreadable
from flowpersist.backends.base import Read, Record, RecordRef
from flowpersist.errors import StorageError

__all__ = ["read"]

#: A read gives up after its body was replaced this often.
_READS: Final = 32


async def read(context: StoreContext, ref: RecordRef, *, body: bool) -> Read:
    """Read one record. Record and body are of one revision, since a body never changes under its name."""
    missing: tuple[int, Stored | None] | None = None
    for _ in range(_READS):
        document, first = await _decoded(context, ref, body=body)
        if document is None:
            return Read(None, await context.now())
        record = record_of(document, ref)
        stored = stored_body(document)
        if body and stored is not None:
            record = evolve(record, body=await fetch(context.store, stored, first))
        if not body or _is_whole(record):
            return Read(record, await context.now())
        if missing == (record.revision, stored):
            raise body_missing(NAME, ref)
        # The record was replaced or deleted since it was read, unless it is still the same.
        missing = record.revision, stored
    raise StorageError(f"record {ref.key} changed {_READS} times while its body was being read", NAME, True)


async def _decoded(context: StoreContext, ref: RecordRef, *, body: bool) -> tuple[Document | None, object]:
    """Decode a document; ``IntegrityError`` if the driver cannot."""
    with mapped():
        try:
            return await _found(context, identity(ref), body=body)
        except (BSONError, RecursionError, OverflowError, ValueError, TypeError):
            raise unreadable(NAME, named(ref)) from None


async def _found(context: StoreContext, document_id: str, *, body: bool) -> tuple[Document | None, object]:
    """A record's document, and the part of its body's first chunk that came with it."""
    if body and context.abilities.looks_up:
        try:
            return await _joined(context, document_id)
        except OperationFailure:
            # If the server rejects this command, two simpler commands read the same.
            document = await context.store.records.find_one({"_id": document_id})
            if isinstance((document or {}).get("x", ""), str):
                # The command was the cause, not an invalid body name in this record.
                context.abilities.looks_up = False
            return document, None
    return await context.store.records.find_one({"_id": document_id}, None if body else {"i": 0}), None


async def _joined(context: StoreContext, document_id: str) -> tuple[Document | None, object]:
    pipeline: list[Document] = [
        {"$match": {"_id": document_id}},
        {"$addFields": {"first": {"$concat": ["$x", ".00000"]}}},
        {"$lookup": {"from": context.store.bodies.name, "localField": "first", "foreignField": "_id", "as": "chunks"}},
    ]
    asking: Any = context.store.records.aggregate(pipeline)
    # motor gives the cursor without awaiting.
    cursor = await asking if inspect.isawaitable(asking) else asking
    found: list[Document] = await cursor.to_list(None)
    if not found:
        return None, None
    chunks = found[0]["chunks"]
    return found[0], chunks[0].get("b") if chunks else None


def _is_whole(record: Record) -> bool:
    if record.body is None or record.body_size is None:
        return record.body is None and record.body_size is None
    return len(record.body) == record.body_size
