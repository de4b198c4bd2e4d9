"""Pages of a sealed collection, in which nothing that can't be read is passed over in silence."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, TypeAlias

from attrs import evolve, frozen
from returns.result import Failure, Result, Success

from flowpersist.backends.base import (
    MAX_ATTRIBUTES,
    ORDERS,
    Order,
    Page,
    Range,
    Record,
    Scalar,
    Unreadable,
    Where,
    check_scalar,
    check_text,
)
from flowpersist.errors import ConfigurationError, PersistenceError
from flowpersist.errors.arguments import (
    check_choice,
    check_flag,
    check_mapping,
    check_optional,
    check_str,
    check_whole,
    out_of_range,
)
from flowpersist.sealed.cards import Card, at, is_live, key_in
from flowpersist.sealed.catalogue import purge_all
from flowpersist.sealed.collection import SealedCollection, Stored
from flowpersist.sealed.drafts import Loaded
from flowpersist.sealed.naming import Key, Naming, Parts, Prefix, prefix_of
from flowpersist.sealed.walking import Pages

__all__ = ["Asked", "Item", "Unreadables", "asked", "checked_attributes", "delete_all", "listing", "walked"]

Unreadables: TypeAlias = Literal["raise", "skip"]
#: What makes a value of what is stored.
Making: TypeAlias = Callable[[Stored], Result[Any, PersistenceError]]
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
    """A key, its record, and where values were asked for what is stored of it, and what was made of that."""

    parts: Parts
    record: Loaded[Card]
    stored: Stored | None
    value: Any = None


async def listing(
    collection: SealedCollection, naming: Naming, asked: Asked, made: Making = Success
) -> Result[Page[Item], PersistenceError]:
    """A page of what is live, has the prefix and the attributes. What ``made`` refuses can't be read either."""
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
            opened = await _opened(collection, record, page, asked, made)
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
    collection: SealedCollection, record: Record, page: Page[Record], asked: Asked, made: Making
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
    return await _whole(collection, found, asked, made)


async def _whole(
    collection: SealedCollection, found: Loaded[Card], asked: Asked, made: Making
) -> Result[Item | None, PersistenceError]:
    """The same with what is stored, whose body may have to be read yet."""
    if found.has_body and found.body is None:
        read = await collection.records.read(found.ref.key, body=True)
        if not isinstance(read, Success):
            return Failure(read.failure())
        again = read.unwrap()
        if again.record is None or not is_live(again.record.head, again.now):
            return Success(None)
        found = again.record
    opened = await collection.opened(found, decode=asked.values)
    if not isinstance(opened, Success):
        return Failure(opened.failure())
    stored: Stored = opened.unwrap()
    item = _item(asked, stored.parts, stored.record, stored)
    if item is None or not asked.values:
        return Success(item)
    return made(stored).map(lambda value: evolve(item, value=value))


def _item(asked: Asked, parts: Parts, record: Loaded[Card], stored: Stored | None) -> Item | None:
    return Item(parts, record, stored) if asked.prefix.holds(parts) else None


async def delete_all(collection: SealedCollection, naming: Naming, prefix: Prefix) -> Result[int, PersistenceError]:
    """Remove all records with a prefix; gives how many."""
    span, records = naming.span(prefix), collection.records
    if span.exact:
        return await purge_all(records, Where(range=span.range))
    wanted = Asked(prefix, {}, "key", PAGE, None, descending=False, values=False, skip=False)
    deleted = 0
    async for listed in Pages(lambda after: listing(collection, naming, evolve(wanted, after=after))):
        if not isinstance(listed, Success):
            return Failure(listed.failure())
        for item in listed.unwrap().items:
            removed = await records.delete(item.record.ref.key, revision=None)
            if not isinstance(removed, Success):
                return Failure(removed.failure())
            deleted += removed.unwrap()
    return Success(deleted)


def checked_attributes(attributes: Mapping[str, Scalar] | None, name: str = "attributes") -> dict[str, Scalar]:
    """Attributes that every store can hold; ``ConfigurationError`` names what it can't."""
    if attributes is None:
        return {}
    check_mapping(attributes, name)
    if len(attributes) > MAX_ATTRIBUTES:
        out_of_range(name, f"at most {MAX_ATTRIBUTES} attributes", len(attributes))
    try:
        return {check_text(one, "a name"): check_scalar(value, "a value") for one, value in attributes.items()}
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"Invalid {name}: {error}", name) from None


def asked(
    prefix: Key | tuple[()],
    where: Mapping[str, Scalar] | None,
    order: Order,
    descending: bool,  # noqa: FBT001
    limit: int,
    after: str | None,
    unreadable: Unreadables,
    *,
    values: bool,
) -> Asked:
    """What a caller asks of a page, checked."""
    check_choice(order, "order", ORDERS)
    check_flag(descending, "descending")
    check_whole(limit, "limit", most=10_000)
    check_optional(after, "after", check_str)
    check_choice(unreadable, "unreadable", ("raise", "skip"))
    skip = unreadable == "skip"
    return Asked(prefix_of(prefix), checked_attributes(where, "where"), order, limit, after, descending, values, skip)
