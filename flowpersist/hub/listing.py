"""Pages of suspensions as of now, and writing what time has changed.

The store's index knows the status of the last put. What time has changed since is due, so a page by status is merged
from what the index lists under that status and from what is due among those that turn into it, in the order of the
page. Nothing is written for it.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import heapq
import json
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Final, TypeAlias

from attrs import evolve, field, frozen
from returns.result import Failure, Result, Success

from flowpersist.backends.base import Order, Page, Range, Record, Scalar, Unreadable, Where
from flowpersist.errors import EncryptionError, InputValidationError, PersistenceError, Problem
from flowpersist.hub.due import due_heads, due_pages
from flowpersist.hub.refreshing import refresh
from flowpersist.hub.transactions import Suspensions
from flowpersist.inputs.people import By
from flowpersist.lifecycle.changes import due_at, present, purge_at
from flowpersist.lifecycle.criteria import Criteria
from flowpersist.lifecycle.indexing import EXPIRING, matches, order_of, where
from flowpersist.lifecycle.model import Head, Status
from flowpersist.lifecycle.moments import TICK, later
from flowpersist.lifecycle.views import Suspension, suspension_of
from flowpersist.sealed.drafts import Loaded
from flowpersist.sealed.walking import stored_pages

__all__ = ["query", "refresh_due"]

log = logging.getLogger("flowpersist.hub")
#: The statuses that time can change.
CHANGING: Final = (Status.RESERVED, Status.WAITING, Status.RUNNING)
#: The statuses from which time leads to each status.
SOURCES: Final[Mapping[Status, tuple[Status, ...]]] = {
    Status.EXPIRED: (Status.RESERVED, Status.WAITING),
    Status.ANSWERED: (Status.WAITING, Status.RUNNING),
    Status.CANCELLED: (Status.RUNNING,),
}
#: So many records that fit conditions are read at once and put in order here.
FEW: Final = 100
#: Where a record stands in a page's order: its time (in the order of keys, always the same), and its key.
Place: TypeAlias = tuple[datetime, str]
#: After showing more waits than this of a suspension, a page lets others have the event loop.
BRIEF: Final = 128
NO_TIME: Final = datetime(1970, 1, 1, tzinfo=UTC)


async def query(
    suspensions: Suspensions, criteria: Criteria, *, limit: int, after: str | None, by: By | None = None
) -> Result[Page[Suspension], PersistenceError]:
    """A page of suspensions as of now, the oldest first (in order of their due, where the criteria have such a bound).
    What the authorizer refuses is left out; where there is one, what can't be read is not named either.
    """
    conditions = _conditions(criteria)
    if conditions.equals:
        return await _Merge(suspensions, criteria, conditions, order_of(conditions), limit, by).page(after)
    order, first = order_of(conditions), after is None
    page = await suspensions.records.page(conditions, order=order, limit=limit, after=after, require_key=first)
    if not isinstance(page, Success):
        return Failure(page.failure())
    found = page.unwrap()
    shown: list[Suspension] = []
    for record in found.items:
        shown += await _shown(suspensions, record, criteria, by)
        if len(record.head.waits) > BRIEF:
            await asyncio.sleep(0)
    return Success(Page(tuple(shown), found.next, found.now, _named(suspensions, found.unreadable)))


def _conditions(criteria: Criteria) -> Where:
    """What the store is asked for. A change is due a microsecond after the last moment before it, which is what its
    record is due at once it is put.
    """
    bound = criteria.due_before
    return where(criteria if bound is None else evolve(criteria, due_before=later(bound, TICK)))


def _named(suspensions: Suspensions, unreadable: Sequence[Unreadable]) -> tuple[Unreadable, ...]:
    # Whether somebody may know of a record is said of its suspension, which can't be read.
    return tuple(unreadable) if suspensions.open_to_all else ()


async def _shown(
    suspensions: Suspensions, record: Loaded[Head], criteria: Criteria, by: By | None
) -> tuple[Suspension, ...]:
    """The suspension of a record, if it is what the criteria ask for at its present, and ``by`` may know of it."""
    head = present(record.head, record.now)
    if head.removing or not matches(criteria, head) or not _in_time(criteria, head):
        return ()
    allowed = await suspensions.allowed("query", head, by)
    return (suspension_of(head, masked=True),) if isinstance(allowed, Success) else ()


def _in_time(criteria: Criteria, head: Head) -> bool:
    # Whether an expiry was handled matters to workers only.
    due = purge_at(head) if head.status.closed else due_at(head)
    return criteria.due_before is None or (due is not None and due < criteria.due_before)


@frozen
class _Listed:
    """A record and where it stands, as of the store's clock ``now``."""

    place: Place
    record: Record = field(eq=False)
    now: datetime = field(eq=False)

    def __lt__(self, other: _Listed) -> bool:
        return self.place < other.place


@frozen
class _Part:
    """What one part of a merged page lists, in order; ``horizon`` is how far it has looked, None where to the end."""

    items: Sequence[_Listed]
    horizon: Place | None
    unreadable: tuple[Unreadable, ...] = ()


@frozen
class _Merge:
    """A page by status. It opens what it shows or passes over, and reads at most two pages of each part."""

    suspensions: Suspensions
    criteria: Criteria
    conditions: Where
    order: Order
    limit: int
    by: By | None

    async def page(self, after: str | None) -> Result[Page[Suspension], PersistenceError]:
        """The page after a cursor, which names the place of the last record that was looked at."""
        place = None if after is None else _parsed(after, self.order)
        if isinstance(place, Failure):
            return place
        parts = []
        async for part in self._parts(place):
            if not isinstance(part, Success):
                return Failure(part.failure())
            parts.append(part.unwrap())
        return await self._merged(parts, self.suspensions.records.reckoned(), require_key=after is None)

    async def _parts(self, place: Place | None) -> AsyncIterator[Result[_Part, PersistenceError]]:
        status = self.criteria.status
        # In this order, so that a suspension whose status changes meanwhile is seen twice rather than never.
        for source in () if status is None else SOURCES.get(status, ()):
            yield await self._changed(source, place)
        if status is Status.EXPIRED:
            yield await self._walked(EXPIRING, place)
        yield await self._walked(status, place)

    async def _changed(self, source: Status, place: Place | None) -> Result[_Part, PersistenceError]:
        """What is due of a status. Where that is no more than a page it is read whole; else the status is walked
        through in the page's order, and most of it may be as it was.
        """
        equals = {**self.conditions.equals, "status": str(source)}
        listed: list[_Listed] = []
        unreadable: tuple[Unreadable, ...] = ()
        async with aclosing(due_pages(self.suspensions.records, equals, size=self.limit + 1)) as pages:
            async for found in pages:
                if not isinstance(found, Success):
                    return Failure(found.failure())
                due = found.unwrap()
                if due.next is not None:
                    return await self._walked(source, place)
                listed += self._listed(due, place)
                unreadable += due.unreadable
        return Success(_Part(sorted(listed), None, unreadable))

    async def _walked(self, status: str | None, place: Place | None) -> Result[_Part, PersistenceError]:
        """The index's records of a status after a place, at least one if there is one."""
        equals = dict(self.conditions.equals) | ({} if status is None else {"status": str(status)})
        few = await self._few(equals, place) if self.order == "created" else None
        if few is not None:
            return few
        walk = stored_pages(
            self.suspensions.records, Where(equals, self._range(place)), order=self.order, limit=self.limit + 1
        )
        listed: list[_Listed] = []
        unreadable: tuple[Unreadable, ...] = ()
        async for found in walk:
            if not isinstance(found, Success):
                return Failure(found.failure())
            page = found.unwrap()
            listed, unreadable = self._listed(page, place), unreadable + page.unreadable
            if listed:
                break
        return Success(_Part(listed, None if walk.next is None else listed[-1].place, unreadable))

    async def _few(self, equals: Mapping[str, Scalar], place: Place | None) -> Result[_Part, PersistenceError] | None:
        """All that fits conditions, where that is little; else None.

        Stores have indexes of conditions by key and by due. To find one in the order of creation they walk through
        everything, which takes the longer the less there is to find.
        """
        found = await self.suspensions.records.listed(Where(equals), order="key", limit=FEW)
        if not isinstance(found, Success):
            return Failure(found.failure())
        page, span = found.unwrap(), self.conditions.range
        if page.next is not None:
            return None
        since, before = (None, None) if span is None else (span.since, span.before)
        within = [
            one
            for one in self._listed(page, place)
            if (not isinstance(since, datetime) or since <= one.place[0])
            and (not isinstance(before, datetime) or one.place[0] < before)
        ]
        return Success(_Part(sorted(within), None, page.unreadable))

    def _range(self, place: Place | None) -> Range | None:
        """The criteria's, from a place on. That of one record is in it again."""
        span = self.conditions.range
        if place is None:
            return span
        since = place[1] if self.order == "key" else place[0]
        return Range(self.order, since=since, before=None if span is None else span.before)

    def _listed(self, page: Page[Record], place: Place | None) -> list[_Listed]:
        placed = [_Listed(_place(record, self.order), record, page.now) for record in page.items]
        return [one for one in placed if place is None or one.place > place]

    async def _merged(
        self, parts: Sequence[_Part], now: datetime, *, require_key: bool
    ) -> Result[Page[Suspension], PersistenceError]:
        horizon = min((part.horizon for part in parts if part.horizon is not None), default=None)
        # By key, since a suspension whose status changed between two parts is in both.
        within = {
            one.record.ref.key: one
            for one in heapq.merge(*(part.items for part in parts))
            if horizon is None or one.place <= horizon
        }
        shown: list[Suspension] = []
        refused: list[Unreadable] = []
        last: Place | None = None
        looked = 0
        for one in sorted(within.values()):
            if len(shown) == self.limit:
                break
            last, looked = one.place, looked + 1
            opened = await self.suspensions.records.opened(one.record, one.now)
            if isinstance(opened, Success):
                shown += await _shown(self.suspensions, opened.unwrap(), self.criteria, self.by)
                if len(opened.unwrap().head.waits) > BRIEF:
                    await asyncio.sleep(0)
            else:
                refused.append(Unreadable(one.record.ref, opened.failure()))
        if require_key and refused and len(refused) == looked and isinstance(refused[0].error, EncryptionError):
            return Failure(refused[0].error)
        more = horizon is not None or looked < len(within)
        cursor = _cursor(self.order, last) if more and last is not None else None
        unreadable = [*refused, *(one for part in parts for one in part.unreadable)]
        return Success(Page(tuple(shown), cursor, now, _named(self.suspensions, unreadable)))


def _place(record: Record, order: Order) -> Place:
    times = {"key": NO_TIME, "created": record.created_at, "updated": record.updated_at, "due": record.due_at}
    return times[order] or NO_TIME, record.ref.key


def _cursor(order: Order, place: Place) -> str:
    data = json.dumps([order, place[0].isoformat(), place[1]], ensure_ascii=False).encode()
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _parsed(text: str, order: Order) -> Place | Failure[PersistenceError]:
    try:
        data = json.loads(base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True))
        match data:
            case [str(by), str(moment), str(key)] if by == order:
                place = datetime.fromisoformat(moment).astimezone(UTC), key
                # A key that a store would refuse is refused here.
                Range("key", since=key)
                return place
    except (binascii.Error, ValueError, RecursionError, OverflowError):
        pass
    message = "Invalid cursor: expected one that a page of this query returned; start again without one"
    problem = Problem("/after", "must be a cursor that a page of this query returned")
    return Failure(InputValidationError(message, [problem]))


async def refresh_due(suspensions: Suspensions, statuses: Sequence[Status] = CHANGING) -> Result[int, PersistenceError]:
    """Write what time has changed, and give the number of changes. A failure is logged, and the rest is tried."""
    changed = 0
    for status in statuses:
        async for found in due_heads(suspensions.records, {"status": str(status)}):
            if not isinstance(found, Success):
                return Failure(found.failure())
            key = found.unwrap().ref.key
            result = await refresh(suspensions, key)
            if isinstance(result, Failure):
                log.error("suspension %s could not be brought up to date: %s", key, result.failure())
            elif result.unwrap():
                changed += 1
    return Success(changed)
