"""Walking through all pages of a listing, which everything that looks at many records does.

::

    async for found in pages(records, where, limit=100):
        if not isinstance(found, Success):
            return Failure(found.failure())
        for record in found.unwrap().items:
            ...

"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

from returns.result import Failure, Result, Success

from flowpersist.backends.base import Order, Page, Record, Where
from flowpersist.errors import PersistenceError
from flowpersist.sealed.drafts import Loaded
from flowpersist.sealed.records import SealedRecords

__all__ = ["Pages", "pages", "stored_pages"]

H = TypeVar("H")
T = TypeVar("T")


class Pages(Generic[T]):
    """The pages of a listing, one after another; a failure is the last one.

    An iterator and no async generator: between two pages it has a cursor and nothing else, so a loop may be left
    anywhere, by ``return``, by an error or by a cancellation, and nothing is left to close. One page is held at a time.

    - ``ask``: gives the page after a cursor; None: the first one.
    - ``most``: how many pages at most. ``next`` is the cursor of the rest.
    - ``whole``: a page is a failure where a record of it can't be read. Otherwise it names that as ``unreadable``.
    """

    def __init__(
        self,
        ask: Callable[[str | None], Awaitable[Result[Page[T], PersistenceError]]],
        *,
        most: int | None = None,
        whole: bool = False,
    ) -> None:
        self._ask, self._most, self._whole = ask, most, whole
        #: How many pages were read, and the cursor of the next one; None: there is none, or none was read yet.
        self.read = 0
        self.next: str | None = None

    def __aiter__(self) -> Pages[T]:
        return self

    async def __anext__(self) -> Result[Page[T], PersistenceError]:
        if (self.read and self.next is None) or self.read == self._most:
            raise StopAsyncIteration
        found = await self._ask(self.next)
        if self._whole and isinstance(found, Success) and found.unwrap().unreadable:
            found = Failure(found.unwrap().unreadable[0].error)
        self.read += 1
        self.next = found.unwrap().next if isinstance(found, Success) else None
        return found


def pages(
    records: SealedRecords[H],
    where: Where,
    *,
    order: Order = "key",
    limit: int,
    bodies: bool = False,
    whole: bool = False,
) -> Pages[Loaded[H]]:
    """The pages of ``SealedRecords.page``."""
    return Pages(lambda after: records.page(where, order=order, limit=limit, after=after, bodies=bodies), whole=whole)


def stored_pages(
    records: SealedRecords[Any],
    where: Where,
    *,
    order: Order = "key",
    limit: int,
    descending: bool = False,
    bodies: bool = False,
    most: int | None = None,
) -> Pages[Record]:
    """The pages of ``SealedRecords.listed``, whose heads are not opened."""
    return Pages(
        lambda after: records.listed(
            where, order=order, limit=limit, after=after, descending=descending, bodies=bodies
        ),
        most=most,
    )
