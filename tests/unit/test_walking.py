"""Walking through pages: order, failures, bounds, and that a walk may be left anywhere."""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime

import pytest
from returns.result import Failure, Success

from flowpersist.backends.base import Page, RecordRef, Unreadable
from flowpersist.errors import BackendUnavailable, IntegrityError
from flowpersist.sealed.walking import Pages

NOW = datetime(2026, 1, 2, tzinfo=UTC)
DAMAGED = Unreadable(RecordRef("n", "k"), IntegrityError("record k is damaged"))
DOWN = BackendUnavailable("the store is down", "memory", True)


class Listing:
    """Some pages by their cursors, and what was asked for."""

    def __init__(self, *found, damaged=()):
        self.asked = []
        self._found, self._damaged = found, damaged

    async def __call__(self, after):
        self.asked.append(after)
        number = int(after or 0)
        found = self._found[number]
        if not isinstance(found, tuple):
            return Failure(found)
        more = str(number + 1) if number + 1 < len(self._found) else None
        return Success(Page(found, more, NOW, (DAMAGED,) if number in self._damaged else ()))


async def walked(pages):
    return [one.unwrap().items if isinstance(one, Success) else one.failure() async for one in pages]


async def test_each_page_is_asked_for_once_in_order():
    listing = Listing((1, 2), (), (3,))
    pages = Pages(listing)
    assert await walked(pages) == [(1, 2), (), (3,)]
    assert listing.asked == [None, "1", "2"]
    assert (pages.read, pages.next) == (3, None)
    assert await walked(pages) == []


async def test_one_empty_page_is_a_page():
    listing = Listing(())
    assert await walked(Pages(listing)) == [()]
    assert listing.asked == [None]


async def test_a_failure_is_the_last():
    listing = Listing((1,), DOWN, (2,))
    assert await walked(Pages(listing)) == [(1,), DOWN]
    assert listing.asked == [None, "1"]


async def test_what_cant_be_read_is_named_or_is_a_failure():
    (first, second) = [one async for one in Pages(Listing((1,), (2,), damaged={1}))]
    assert (first.unwrap().unreadable, second.unwrap().unreadable) == ((), (DAMAGED,))
    listing = Listing((1,), (2,), (3,), damaged={1})
    assert await walked(Pages(listing, whole=True)) == [(1,), DAMAGED.error]
    assert listing.asked == [None, "1"]


@pytest.mark.parametrize(("most", "read", "rest"), [(1, 1, "1"), (2, 2, None), (3, 2, None)])
async def test_a_walk_that_is_bounded_knows_the_rest(most, read, rest):
    listing = Listing((1,), (2,))
    pages = Pages(listing, most=most)
    assert len(await walked(pages)) == read == len(listing.asked)
    assert (pages.read, pages.next) == (read, rest)


async def test_a_walk_that_is_left_leaves_nothing_to_close():
    made = []
    before = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(firstiter=made.append)
    try:
        pages = Pages(Listing((1,), (2,), (3,)))
        async for found in pages:
            assert found.unwrap().items == (1,)
            break
        # It goes on where it was left.
        assert await walked(pages) == [(2,), (3,)]
    finally:
        sys.set_asyncgen_hooks(*before)
    assert made == []


async def test_a_page_whose_reading_was_cancelled_is_asked_for_again():
    begun, listing = asyncio.Event(), Listing((1,), (2,))

    async def ask(after):
        if not begun.is_set():
            begun.set()
            await asyncio.Event().wait()
        return await listing(after)

    pages = Pages(ask)
    task = asyncio.create_task(walked(pages))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await walked(pages) == [(1,), (2,)]
