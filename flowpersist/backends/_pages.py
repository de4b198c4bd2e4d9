"""Pages with bodies: how many fit, and what becomes of records whose bodies are read after the page was."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TypeAlias

from attrs import evolve

from flowpersist.backends._matching import Selection, position_of
from flowpersist.backends.base import MAX_BODIES_BYTES, Page, Read, Record, RecordRef, Unreadable
from flowpersist.errors import IntegrityError

__all__ = ["One", "awaited_one", "completed", "fitting", "how_many_fit", "lacking", "one_of", "split", "still_there"]

#: A record, one that can't be read, or none.
One: TypeAlias = Record | Unreadable | None


def how_many_fit(sizes: Iterable[int | None]) -> int:
    """How many bodies of these sizes fit a page; at least one."""
    taken = count = 0
    for size in sizes:
        taken += size or 0
        if taken > MAX_BODIES_BYTES and count:
            return count
        count += 1
    return max(1, count)


def fitting(asked: Selection, page: Page[Record]) -> Page[Record]:
    """As much of a page as its bodies allow."""
    count = how_many_fit(record.body_size for record in page.items) if asked.bodies else len(page.items)
    if count >= len(page.items):
        return page
    place = position_of(page.items[count - 1], asked.order)
    return evolve(page, items=page.items[:count], next=None if place is None else asked.cursor(place))


def split(page: Page[Record], found: Iterable[One]) -> Page[Record]:
    """The page with what became of its records once their bodies were read; None for one that has left its place."""
    some = tuple(found)
    items = tuple(it for it in some if isinstance(it, Record))
    return evolve(
        page, items=items, unreadable=page.unreadable + tuple(it for it in some if isinstance(it, Unreadable))
    )


def lacking(record: Record) -> bool:
    """True if the record has a body that was not read with it."""
    return record.body is None and record.body_size is not None


def one_of(ref: RecordRef, read: Callable[[], Record | None]) -> One:
    """What reading one of several records gives; the error of a damaged one is kept with it."""
    try:
        return read()
    except IntegrityError as error:
        # Its frames hold the row.
        return Unreadable(ref, error.with_traceback(None))


async def awaited_one(ref: RecordRef, reading: Awaitable[Read]) -> One:
    """The same of a record that is read asynchronously."""
    try:
        return (await reading).record
    except IntegrityError as error:
        return Unreadable(ref, error.with_traceback(None))


def still_there(asked: Selection, listed: Record, found: One) -> One:
    """A record that was read again for its body; None if it has left its place since it was listed."""
    if not isinstance(found, Record):
        return found
    stays = asked.holds(found) and position_of(found, asked.order) == position_of(listed, asked.order)
    return found if stays else None


async def completed(
    asked: Selection, page: Page[Record], read: Callable[[Sequence[RecordRef]], Awaitable[Sequence[One]]]
) -> Page[Record]:
    """As much of a page as its bodies allow, with those that were not read with it."""
    page = fitting(asked, page)
    refs = [record.ref for record in page.items if lacking(record)]
    if not asked.bodies or not refs:
        return page
    found = dict(zip(refs, await read(refs), strict=True))
    return split(
        page,
        (still_there(asked, one, found[one.ref]) if lacking(one) else one for one in page.items),
    )
