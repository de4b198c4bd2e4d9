"""Due records, read in bounded pages up to the store's present time.

A ``Front`` has the records of one status, ordered by the time at which they are due. Its start moves past pages of
records that this process can't read, so that no claim reads them again. A patrol reads the skipped records again, one
page at a time. It tries each record when its delay is over, and finds records that were put among them meanwhile.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import aclosing
from datetime import datetime, timedelta
from functools import partial
from typing import Final, TypeAlias, TypeVar

from attrs import define, evolve, frozen
from returns.result import Failure, Result, Success

from flowpersist.backends.base import Page, Range, Record, Scalar, Where
from flowpersist.errors import InputValidationError, PersistenceError
from flowpersist.lifecycle.criteria import Criteria
from flowpersist.lifecycle.indexing import where
from flowpersist.lifecycle.model import Head, Status
from flowpersist.sealed.drafts import Loaded
from flowpersist.sealed.records import SealedRecords

__all__ = ["CLAIMABLE", "Due", "Front", "Queue", "Queues", "due_heads", "due_pages"]

#: The most records of a page. The first page has as many as the caller wants, and each further one twice as many.
BATCH: Final = 100
#: The records of a page of the patrol, and the seconds between two such pages.
PATROL: Final = 50
ROUND: Final = 1.0
#: A page's bound is by so much later than the store's present time as this process estimates it. Records that are later
#: than the reply's own clock are left out, and if that clock is past the bound, the next page follows.
MARGIN: Final = timedelta(seconds=1)
#: The statuses of what can become claimable: answered, with an ended lease, or with a default that is due.
CLAIMABLE: Final = (str(Status.ANSWERED), str(Status.RUNNING), str(Status.WAITING))
MOST_QUEUES: Final = 32
Place: TypeAlias = tuple[datetime, str]
H = TypeVar("H")


@frozen
class Candidate:
    """A due record as it is stored, and the store's clock when it was read; ``kept`` are those that a front stays
    before.
    """

    record: Record
    now: datetime
    kept: set[str]


async def due_pages(
    records: SealedRecords[H],
    equals: Mapping[str, Scalar],
    *,
    size: int = BATCH,
    first: int | None = None,
    after: str | None = None,
) -> AsyncGenerator[Result[Page[Record], PersistenceError], None]:
    """Pages of what is due by the store's clock, longest due first; ends at the first failure. The ``first`` is of a
    size of its own, the next of ``size``, and each further one twice as large.
    """
    asked = min(BATCH, size if first is None else first)
    size = min(BATCH, size * 2 if first is None else size)
    bound = records.reckoned() + MARGIN
    seen: frozenset[str] = frozenset()
    while True:
        where = Where(equals, Range("due", before=bound))
        listed = await records.listed(where, order="due", limit=asked, after=after)
        if not isinstance(listed, Success):
            yield listed
            return
        page = listed.unwrap()
        due = tuple(one for one in page.items if one.due_at is not None and one.due_at <= page.now)
        yield Success(evolve(page, items=tuple(one for one in due if one.ref.key not in seen)))
        if len(due) < len(page.items):
            return
        if page.next is not None:
            after, asked, size, seen = page.next, size, min(BATCH, size * 2), frozenset()
        elif page.now < bound:
            return
        else:
            # The store's clock was moved forward: what is due beyond the bound follows what was read.
            bound, seen = page.now + MARGIN, frozenset(one.ref.key for one in due)


async def due_heads(
    records: SealedRecords[H], equals: Mapping[str, Scalar]
) -> AsyncGenerator[Result[Loaded[H], PersistenceError], None]:
    """The same with their heads, one by one. Records that are known to be unreadable are skipped."""
    async for found in due_pages(records, equals):
        if not isinstance(found, Success):
            yield Failure(found.failure())
            return
        page = found.unwrap()
        for record in page.items:
            if records.unreadable.passes(record.ref.key, record.revision):
                continue
            opened = await records.opened(record, page.now)
            if isinstance(opened, Success):
                yield opened


@define(eq=False)
class Front:
    """The start of the due records of one status for callers of one ``scope``, and the position of its patrol."""

    records: SealedRecords[Head]
    equals: Mapping[str, Scalar]
    scope: object
    #: The cursor up to which all records are skipped, and the place of the last readable record before it.
    after: str | None = None
    place: Place | None = None
    #: The number of skipped records that follow directly.
    tail: int = 0
    _patrol: str | None = None
    _patrolled: float = float("-inf")

    async def candidates(self, wanted: int) -> AsyncGenerator[Result[Candidate, PersistenceError], None]:
        """Records that may be claimed, longest due first, until the caller has enough; ends at the first failure."""
        async for record, now in self._patrolling():
            yield Success(Candidate(record, now, set()))
        kept: set[str] = set()
        # Without the last of the skipped records, so that a page of them has a cursor to start after.
        first, tail = (self.tail - 1 if self.tail > 1 else None), 0
        async with aclosing(due_pages(self.records, self.equals, size=wanted, first=first, after=self.after)) as pages:
            async for found in pages:
                if not isinstance(found, Success):
                    self._reset(found.failure())
                    yield Failure(found.failure())
                    return
                page = found.unwrap()
                passed = len(page.unreadable)
                for record in page.items:
                    if not self._passes(record):
                        self.tail = tail + passed
                        yield Success(Candidate(record, page.now, kept))
                    passed += self._passes(record)
                if passed and not kept and page.next is not None:
                    self._advance(page)
                    tail = 0
                else:
                    tail += passed
                self.tail = tail

    async def _patrolling(self) -> AsyncGenerator[tuple[Record, datetime], None]:
        """From time to time one page of the skipped records: those to be tried again, and new ones."""
        moment = self.records.runtime.monotonic()
        if self.after is None or moment < self._patrolled + ROUND:
            return
        self._patrolled = moment
        async with aclosing(due_pages(self.records, self.equals, size=PATROL, after=self._patrol)) as pages:
            found = await anext(pages, None)
        if not isinstance(found, Success):
            self._patrol = None
            return
        page, place = found.unwrap(), self.place
        within = [record for record in page.items if place is None or _place(record) <= place]
        over = page.next is None or len(within) < len(page.items)
        if over and self._patrol is None and not within and not page.unreadable:
            # All skipped records are gone.
            self.after = self.place = None
        self._patrol = None if over else page.next
        for record in within:
            if not self._passes(record):
                yield record, page.now

    def _passes(self, record: Record) -> bool:
        return self.records.unreadable.passes(record.ref.key, record.revision, scope=self.scope)

    def _advance(self, page: Page[Record]) -> None:
        self.after = page.next
        if page.items:
            self.place = _place(page.items[-1])

    def _reset(self, error: PersistenceError) -> None:
        if isinstance(error, InputValidationError):
            # The store no longer accepts the cursor.
            self.after = self.place = self._patrol = None


def _place(record: Record) -> Place:
    # Pages by due list records without one nowhere.
    return record.due_at or record.updated_at, record.ref.key


@frozen
class Due:
    """A due record with its head, or a part of it without waits. ``keep`` says that it was not claimed and must not be
    skipped.
    """

    record: Loaded[Head]
    keep: Callable[[], None]


class Queue:
    """The due records that fit criteria, longest due first, over several statuses."""

    def __init__(
        self, records: SealedRecords[Head], equals: Mapping[str, Scalar], statuses: Iterable[str], scope: object
    ) -> None:
        self.records = records
        self.scope = scope
        self._fronts = [Front(records, {**equals, "status": status}, scope) for status in statuses]

    async def due(self, wanted: int) -> AsyncGenerator[Result[Due, PersistenceError], None]:
        """Records that may be claimed, each opened when its turn comes. A failure does not end them."""
        streams = [front.candidates(wanted) for front in self._fronts]
        waiting: list[tuple[float, int, Result[Candidate, PersistenceError]]] = []

        async def push(number: int) -> None:
            found = await anext(streams[number], None)
            if found is not None:
                heapq.heappush(waiting, (_urgency(found), number, found))

        try:
            for number in range(len(streams)):
                await push(number)
            while waiting:
                _, number, found = heapq.heappop(waiting)
                opened = await self._opened(found)
                # A record that can't be opened is skipped from now on.
                if isinstance(opened, Success) or not isinstance(found, Success):
                    yield opened
                await push(number)
        finally:
            for stream in streams:
                await stream.aclose()

    async def _opened(self, found: Result[Candidate, PersistenceError]) -> Result[Due, PersistenceError]:
        if not isinstance(found, Success):
            return Failure(found.failure())
        candidate = found.unwrap()
        keep = partial(candidate.kept.add, candidate.record.ref.key)
        # A claim reads the record again, with the waits that it needs.
        opened = await self.records.glanced(candidate.record, candidate.now)
        return opened.map(lambda loaded: Due(loaded, keep))


def _urgency(found: Result[Candidate, PersistenceError]) -> float:
    return _place(found.unwrap().record)[0].timestamp() if isinstance(found, Success) else float("-inf")


class Queues:
    """The queues of a hub's latest callers: each remembers which records it skips."""

    def __init__(self, records: SealedRecords[Head]) -> None:
        self._records = records
        self._queues: OrderedDict[tuple[str, tuple[str, ...], object], Queue] = OrderedDict()

    def of(self, criteria: Criteria, scope: object, statuses: tuple[str, ...] = CLAIMABLE) -> Queue:
        """The queue of these criteria; ``scope`` is what else decides whether a run can be claimed."""
        asked = repr(criteria), statuses, scope
        found = self._queues.pop(asked, None) or queue_of(self._records, criteria, scope, statuses)
        self._queues[asked] = found
        if len(self._queues) > MOST_QUEUES:
            self._queues.popitem(last=False)
        return found

    def forget(self) -> None:
        """Try all skipped records again."""
        self._queues.clear()


def queue_of(records: SealedRecords[Head], criteria: Criteria, scope: object, statuses: tuple[str, ...]) -> Queue:
    """What could be claimed, over all statuses that it may be found in."""
    equals = where(evolve(criteria, status=None, created_after=None, created_before=None, due_before=None)).equals
    return Queue(records, equals, statuses, scope)
