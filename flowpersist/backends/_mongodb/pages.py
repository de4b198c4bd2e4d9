"""Pages of records, and their removal in batches."""

from __future__ import annotations

from typing import Final

from attrs import evolve
from pymongo import DeleteOne

from flowpersist.backends._matching import Position, Selection, position_of
from flowpersist.backends._mongodb.bodies import stored_body
from flowpersist.backends._mongodb.desk import Desk
from flowpersist.backends._mongodb.documents import Document, record_of
from flowpersist.backends._mongodb.errors import mapped
from flowpersist.backends._mongodb.selecting import search
from flowpersist.backends.base import Page, Record

__all__ = ["page", "purge"]

#: As many as a purge deletes in one command.
PURGE_BATCH: Final = 100


async def _found(desk: Desk, asked: Selection) -> list[Document]:
    found = search(asked)
    with mapped():
        cursor = desk.store.records.find(
            found.filter,
            found.projection,
            sort=found.sort,
            hint=found.hint,
            limit=asked.limit,
            # All in one reply, as far as they fit.
            batch_size=asked.limit,
        )
        return await cursor.to_list(None)


async def page(desk: Desk, asked: Selection) -> Page[Record]:
    """A page, and a cursor where more follows: one record more than wanted tells."""
    documents = await _found(desk, evolve(asked, limit=asked.limit + 1))
    found = [record_of(document, asked.namespace) for document in documents]
    last = position_of(found[asked.limit - 1], asked.order) if len(found) > asked.limit else None
    items = tuple(record for record in found[: asked.limit] if asked.holds(record))
    return Page(items, None if last is None else asked.cursor(last), await desk.now())


async def purge(desk: Desk, asked: Selection) -> int:
    """Remove what the selection finds, batch by batch; each record at the revision at which it was found."""
    purged = 0
    after: Position | None = None
    while purged < asked.limit:
        batch = evolve(asked, limit=min(PURGE_BATCH, asked.limit - purged), after=after)
        documents = await _found(desk, batch)
        purged += await _remove(desk, documents) if documents else 0
        if len(documents) < batch.limit:
            break
        # Past those that somebody has changed meanwhile.
        after = position_of(record_of(documents[-1], asked.namespace), asked.order)
    return purged


async def _remove(desk: Desk, documents: list[Document]) -> int:
    deletes = [DeleteOne({"_id": document["_id"], "v": document["v"]}) for document in documents]
    with mapped(writing=True):
        removed = (await desk.store.records.bulk_write(deletes, ordered=False)).deleted_count
    bodies = {document["_id"]: stored for document in documents if (stored := stored_body(document)) is not None}
    if removed < len(documents) and bodies:
        # Who was spared keeps its body: it may be the same one.
        with mapped():
            spared = await desk.store.records.find({"_id": {"$in": list(bodies)}}, {"x": 1}).to_list(None)
        for document in spared:
            if document.get("x") == bodies[document["_id"]].name:
                del bodies[document["_id"]]
    desk.let_go(*bodies.values())
    return removed
