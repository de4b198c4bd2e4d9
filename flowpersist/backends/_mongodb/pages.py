"""Pages of records, and their removal in batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias

from attrs import evolve
from pymongo import DeleteOne

from flowpersist.backends._damage import Found, check_patience, left_standing, page_of, wider
from flowpersist.backends._matching import Position, Selection
from flowpersist.backends._mongodb.bodies import stored_body
from flowpersist.backends._mongodb.context import StoreContext
from flowpersist.backends._mongodb.documents import Document, place_of
from flowpersist.backends._mongodb.errors import mapped
from flowpersist.backends._mongodb.raw import decoded
from flowpersist.backends._mongodb.raw import found as found_there
from flowpersist.backends._mongodb.selecting import search as searched
from flowpersist.backends._mongodb.several import with_bodies
from flowpersist.backends._pages import One, completed
from flowpersist.backends.base import Page, Record, RecordRef

__all__ = ["page", "purge"]

#: The number of records that a purge deletes in one command.
PURGE_BATCH: Final = 100


#: A document of a page: its id, its revision and its body, if it is a record.
Held: TypeAlias = dict[RecordRef, Document]


async def _found(context: StoreContext, asked: Selection) -> tuple[list[Found], Held]:
    """Yield the documents that are found one by one, so that a large or undecodable one is released at once."""
    search = searched(asked)
    found: list[Found] = []
    held: Held = {}
    with mapped():
        cursor = context.store.raw_records.find(
            search.filter,
            search.projection,
            sort=search.sort,
            hint=search.hint,
            limit=asked.limit,
            # All in one reply, as far as they fit.
            batch_size=asked.limit,
        )
        async for raw in cursor:
            document = decoded(raw)
            one = found_there(document, asked.namespace, body=asked.bodies)
            if isinstance(one, Record):
                held[one.ref] = {name: document.get(name) for name in ("_id", "v", "x", "m")}
            found.append((place_of(document, asked.order), one))
    return found, held


async def page(context: StoreContext, asked: Selection) -> Page[Record]:
    """Read a page, and a cursor if more follows, which one extra record shows."""
    for looked in wider(asked.limit):
        found, held = await _found(context, evolve(asked, limit=looked + 1))
        page = page_of(asked, found, looked, await context.now())
        if page is not None:
            return await _completed(context, asked, page, held)
    raise AssertionError("unreachable: the iterator has no end")


async def _completed(context: StoreContext, asked: Selection, page: Page[Record], held: Held) -> Page[Record]:
    records = {record.ref: record for record in page.items}

    async def read(refs: Sequence[RecordRef]) -> Sequence[One]:
        stored = {ref: stored_body(held[ref]) for ref in refs}
        return await with_bodies(context, [records[ref] for ref in refs], stored)

    return await completed(asked, page, read)


async def purge(context: StoreContext, asked: Selection) -> int:
    """Remove what the selection finds in batches; each record only at the revision at which it was found."""
    purged, wider_by = 0, 1
    after: Position | None = None
    while purged < asked.limit:
        left = asked.limit - purged
        batch = evolve(asked, limit=min(PURGE_BATCH, left) * wider_by, after=after)
        found, held = await _found(context, batch)
        left_standing(one for _, one in found)
        purged += await _remove(context, list(held.values())[:left]) if held else 0
        if len(found) < batch.limit:
            break
        places = [place for place, _ in found if place is not None]
        if not places:
            check_patience(batch.limit)
            wider_by *= 4
            continue
        # Continue after the records that were changed meanwhile.
        after, wider_by = places[-1], 1
    return purged


async def _remove(context: StoreContext, documents: list[Document]) -> int:
    deletes = [DeleteOne({"_id": document["_id"], "v": document["v"]}) for document in documents]
    with mapped(writing=True):
        removed = (await context.store.records.bulk_write(deletes, ordered=False)).deleted_count
    bodies = {document["_id"]: stored for document in documents if (stored := stored_body(document)) is not None}
    if removed < len(documents) and bodies:
        # A record that was not removed keeps its body, which may be the same one.
        with mapped():
            spared = await context.store.records.find({"_id": {"$in": list(bodies)}}, {"x": 1}).to_list(None)
        for document in spared:
            if document.get("x") == bodies[document["_id"]].name:
                del bodies[document["_id"]]
    context.let_go(*bodies.values())
    return removed
