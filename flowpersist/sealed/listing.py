"""Pages of a sealed collection, in which nothing that can't be read is passed over in silence."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final

from attrs import evolve, frozen
from returns.result import Failure, Result, Success

from flowpersist.backends.base import Order, Page, Range, Record, Scalar, Unreadable, Where
from flowpersist.errors import PersistenceError
from flowpersist.sealed.cards import Card, at, is_live, key_in
from flowpersist.sealed.catalogue import purge_all
from flowpersist.sealed.collection import SealedCollection, Stored
from flowpersist.sealed.drafts import Loaded
from flowpersist.sealed.naming import Naming, Parts, Prefix

__all__ = ["Asked", "Item", "delete_all", "listing", "walked"]

PAGE: Final = 100

#: So often a page is filled up where what was found is not meant, before it comes short with a cursor.
ROUNDS: Final = 8
#: After opening a head of more than this, a page lets others have the event loop.
BRIEF_BYTES: Final = 4 * 1024


@frozen
class Asked:
    """What a page is asked for. ``values``: with them. ``skip``: what can't be read is counted, else it fails the
    page. ``within``: a range of another order than that of the keys.
    """

    prefix: Prefix
    where: Mapping[str, Scalar]
    order: Order
    limit: int
    after: str | None
    descending: bool
    values: bool
    skip: bool
    within: Range | None = None


@frozen
class Item:
    """A key, its record, and what is stored of it where values were asked for."""

    parts: Parts
    record: Loaded[Card]
    stored: Stored | None


async def listing(collection: SealedCollection, naming: Naming, asked: Asked) -> Result[Page[Item], PersistenceError]:
    """A page of what is live, has the prefix and the attributes."""
    items: list[Item] = []
    unreadable: list[Unreadable] = []
    where = _where(naming, asked)
    for rounds in range(1, ROUNDS + 1):
        listed = await collection.records.listed(
            where,
            order=asked.order,
            limit=asked.limit - len(items),
            after=asked.after,
            descending=asked.descending,
            bodies=asked.values,
        )
        if not isinstance(listed, Success):
            return Failure(listed.failure())
        page = listed.unwrap()
        unreadable += page.unreadable
        for record in page.items:
            opened = await _opened(collection, record, page, asked)
            if isinstance(opened, Failure):
                unreadable.append(Unreadable(record.ref, opened.failure()))
            elif (item := opened.unwrap()) is not None:
                items.append(item)
        if unreadable and not asked.skip:
            first = unreadable[0]
            return Failure(first.error if first.ref is None else at(first.error, first.ref))
        if page.next is None or len(items) >= asked.limit or rounds == ROUNDS:
            return Success(Page(tuple(items), page.next, page.now, tuple(unreadable)))
        asked = evolve(asked, after=page.next)
    raise AssertionError


async def walked(
    collection: SealedCollection, asked: Asked, most: int | None = None
) -> Result[tuple[Stored, ...], PersistenceError]:
    """What the pages hold from the one that is asked for on, at most so many."""
    made = await collection.naming()
    if not isinstance(made, Success):
        return Failure(made.failure())
    naming: Naming | None = made.unwrap()
    found: list[Stored] = []
    while naming is not None:
        listed = await listing(collection, naming, asked)
        if not isinstance(listed, Success):
            return Failure(listed.failure())
        page = listed.unwrap()
        found += [item.stored for item in page.items if item.stored is not None]
        if page.next is None or (most is not None and len(found) >= most):
            break
        asked = evolve(asked, after=page.next, limit=asked.limit if most is None else most - len(found))
    return Success(tuple(found))


def _where(naming: Naming, asked: Asked) -> Where:
    span = naming.span(asked.prefix)
    # In another order the range is that order's, and prefixes are told from the sealed keys.
    return Where(asked.where, span.range if asked.order == "key" else asked.within)


async def _opened(
    collection: SealedCollection, record: Record, page: Page[Record], asked: Asked
) -> Result[Item | None, PersistenceError]:
    """The item of a record; None where it has expired, or is of another prefix or other attributes."""
    loaded = collection.records.loaded(record, page.now)
    if len(record.head) > BRIEF_BYTES:
        await asyncio.sleep(0)
    if not isinstance(loaded, Success):
        return Failure(loaded.failure())
    found = loaded.unwrap()
    card = found.head
    # The sealed copies decide.
    if not is_live(card, page.now) or not asked.where.items() <= card.attributes.items():
        return Success(None)
    if card.key is not None and not asked.values:
        return key_in(card.key).map(lambda parts: _item(asked, parts, found, None))
    if found.has_body and found.body is None:
        read = await collection.records.read(record.ref.key, body=True)
        if not isinstance(read, Success):
            return Failure(read.failure())
        again = read.unwrap()
        if again.record is None or not is_live(again.record.head, again.now):
            return Success(None)
        found = again.record
    return (await collection.opened(found, decode=asked.values)).map(
        lambda stored: _item(asked, stored.parts, stored.record, stored)
    )


def _item(asked: Asked, parts: Parts, record: Loaded[Card], stored: Stored | None) -> Item | None:
    return Item(parts, record, stored) if asked.prefix.holds(parts) else None


async def delete_all(collection: SealedCollection, naming: Naming, prefix: Prefix) -> Result[int, PersistenceError]:
    """Remove all records with a prefix; gives how many."""
    span, records = naming.span(prefix), collection.records
    if span.exact:
        return await purge_all(records, Where(range=span.range))
    wanted = Asked(prefix, {}, "key", PAGE, None, descending=False, values=False, skip=False)
    deleted = 0
    while True:
        listed = await listing(collection, naming, wanted)
        if not isinstance(listed, Success):
            return Failure(listed.failure())
        page = listed.unwrap()
        for item in page.items:
            removed = await records.delete(item.record.ref.key, revision=None)
            if not isinstance(removed, Success):
                return Failure(removed.failure())
            deleted += removed.unwrap()
        if page.next is None:
            return Success(deleted)
        wanted = evolve(wanted, after=page.next)
