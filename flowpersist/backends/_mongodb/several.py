"""Several records in one round trip, and one more for bodies that are in chunks."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence

from attrs import evolve

from flowpersist.backends._mongodb.bodies import CHUNK_BYTES, Stored, fetch, stored_body
from flowpersist.backends._mongodb.context import StoreContext
from flowpersist.backends._mongodb.documents import Document, identity
from flowpersist.backends._mongodb.errors import mapped
from flowpersist.backends._mongodb.raw import decoded, found
from flowpersist.backends._mongodb.reading import read
from flowpersist.backends._pages import One, awaited_one, lacking
from flowpersist.backends.base import MAX_BODIES_BYTES, Record, RecordRef

__all__ = ["read_all", "with_bodies"]


async def read_all(context: StoreContext, refs: Sequence[RecordRef], *, body: bool) -> tuple[One, ...]:
    """The records at ``refs``."""
    documents = await _documents(context, refs, body=body)
    records = {
        ref: found(documents[identity(ref)], ref.namespace, body=body)
        for ref in dict.fromkeys(refs)
        if identity(ref) in documents
    }
    if body:
        whole = [one for one in records.values() if isinstance(one, Record) and lacking(one)]
        held = {one.ref: stored_body(documents[identity(one.ref)]) for one in whole}
        records.update(zip(held, await with_bodies(context, whole, held), strict=True))  # type: ignore[arg-type]
    return tuple(records.get(ref) for ref in refs)


async def _documents(context: StoreContext, refs: Sequence[RecordRef], *, body: bool) -> Mapping[str, Document]:
    ids = list(dict.fromkeys(identity(ref) for ref in refs))
    # FerretDB looks at every document to find several ids.
    groups = [ids] if context.abilities.finds_lists else [[one] for one in ids]
    projection = None if body else {"i": 0}

    async def documents(some: Sequence[str]) -> list[Document]:
        wanted = {"_id": some[0]} if len(some) == 1 else {"_id": {"$in": list(some)}}
        cursor = context.store.raw_records.find(wanted, projection, limit=len(some), batch_size=len(some))
        return [decoded(raw) async for raw in cursor]

    with mapped():
        several = await asyncio.gather(*(documents(some) for some in groups if some))
    return {str(document.get("_id")): document for some in several for document in some}


async def with_bodies(
    context: StoreContext, records: Sequence[Record], held: Mapping[RecordRef, Stored | None]
) -> list[One]:
    """Records with their bodies, which are in the chunks that ``held`` names; one that has changed is read again."""
    bodies = await _bodies(context, [stored for stored in held.values() if stored is not None])

    async def whole(record: Record) -> One:
        stored = held.get(record.ref)
        body = None if stored is None else bodies.get(stored.name)
        if body is not None and len(body) == record.body_size:
            return evolve(record, body=body)
        return await awaited_one(record.ref, read(context, record.ref, body=True))

    return list(await asyncio.gather(*(whole(record) for record in records)))


async def _bodies(context: StoreContext, several: Iterable[Stored]) -> dict[str, bytes | None]:
    """The bodies by their names: small ones together, a large one chunk by chunk."""
    small: list[Stored] = []
    bodies: dict[str, bytes | None] = {}
    for stored in several:
        if context.abilities.finds_lists and stored.count <= MAX_BODIES_BYTES // CHUNK_BYTES:
            small.append(stored)
        else:
            bodies[stored.name] = await fetch(context.store, stored)
    ids = [name for stored in small for name in stored.ids()]
    if not ids:
        return bodies
    with mapped():
        found_chunks = context.store.bodies.find({"_id": {"$in": ids}}, limit=len(ids), batch_size=len(ids))
        chunks = await found_chunks.to_list(None)
    pieces = {chunk["_id"]: chunk.get("b") for chunk in chunks}
    for stored in small:
        parts = [pieces.get(name) for name in stored.ids()]
        bodies[stored.name] = b"".join(part for part in parts if isinstance(part, bytes))
    return bodies
