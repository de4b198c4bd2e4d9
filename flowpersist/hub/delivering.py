"""Delivery of audit entries to a sink, at least once, over crashes and from any process.

Suspensions are read in the order of their last change, from a little before the last one that was looked at. That
position is stored after each page. One process at a time holds a sink, under a lease; it remembers what it has
delivered, so that only another one after it delivers something again.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from returns.result import Failure, Result, Success

from flowpersist.backends.base import Page, Range, Where, check_text
from flowpersist.errors import IntegrityError, PersistenceError, StorageError
from flowpersist.errors.arguments import check_instance
from flowpersist.hub.cancellation import is_cancelled, is_fault
from flowpersist.hub.outcome import Outcome, as_outcome
from flowpersist.hub.sinks import SINK, AuditSink
from flowpersist.hub.transactions import Suspensions
from flowpersist.lifecycle.halt_history import AnyEntry
from flowpersist.lifecycle.history import AuditEntry, entries_of
from flowpersist.lifecycle.model import Head, HeadPart, replace
from flowpersist.sealed.catalogue import FollowingRecords
from flowpersist.sealed.drafts import Decided, Draft, Found, Loaded
from flowpersist.sealed.records import SealedRecords
from flowpersist.sealed.walking import pages

__all__ = ["AuditDelivery", "Deliveries", "DeliveringVerbs", "SinkPosition", "positions_of"]

log = logging.getLogger("flowpersist.hub")

#: A change is found by the time of its put. One that became visible later than others with a later time is still found.
OVERLAP: Final = timedelta(minutes=1)
#: How long before its put a change may have been decided: what another process delivers again to miss nothing.
LATE: Final = timedelta(minutes=10)
PAGE: Final = 100
MOST_AT_ONCE: Final = 100
#: Suspensions whose delivered entries a process remembers.
REMEMBERED: Final = 10_000
#: How long a process holds a sink after its last page.
LEASE: Final = timedelta(seconds=90)
#: Seconds that a sink has for one delivery, less than the lease: one that hangs must not hold up maintenance for ever.
PATIENCE: Final = 60.0


class SinkPosition(HeadPart, frozen=True):
    """How far a sink has come, by the store's clock: the last change that was looked at, the moment up to which every
    change was delivered (None: not yet), and who delivers now. ``halts`` is how many entries of the halts it was given.
    """

    until: datetime | None
    settled: datetime | None
    holder: str
    held_until: datetime
    halts: int = 0


def positions_of(of: SealedRecords[Head]) -> FollowingRecords[SinkPosition]:
    """The records of the positions of all sinks, beside the suspensions in ``of``."""
    return FollowingRecords(of, f"{of.namespace}.sinks", SinkPosition, purpose="audit")


class AuditDelivery:
    """Brings a sink up to date, again and again."""

    def __init__(self, suspensions: Suspensions, sink: AuditSink) -> None:
        check_instance(sink, "sinks", AuditSink, SINK)
        check_text(sink.name, "the name of a sink")
        self._suspensions = suspensions
        self.sink = sink
        self._positions = positions_of(suspensions.records)
        self._holder = suspensions.records.runtime.entropy(16).hex()
        #: How many entries of a suspension this process has delivered.
        self._delivered: OrderedDict[str, int] = OrderedDict()

    async def deliver(self) -> Result[int, PersistenceError]:
        """Deliver all that is new; gives how many entries, 0 where another process delivers to this sink. Ends at the
        first failure, and goes on there next time.
        """
        held = await self._moved(None, None)
        if not isinstance(held, Success):
            return Failure(held.failure())
        position = held.unwrap()
        if position is None:
            return Success(0)
        until, settled, began = position.until, position.settled, position.held_until - LEASE
        # What this process does not remember was decided no earlier.
        floor = None if settled is None else settled - OVERLAP - LATE
        halts = await self._halts(position.halts)
        if not isinstance(halts, Success) or halts.unwrap() is None:
            return halts.map(lambda _: 0)
        where = Where() if until is None else Where(range=Range("updated", since=until - OVERLAP))
        delivered = halts.unwrap() or 0
        async for listed in pages(self._suspensions.records, where, order="updated", limit=PAGE):
            told = await self._page(listed, floor, began)
            if not isinstance(told, Success):
                return Failure(told.failure())
            count, holds = told.unwrap()
            delivered += count
            if not holds:
                break
        return Success(delivered)

    async def release(self) -> Result[None, PersistenceError]:
        """Hold the sink no longer, if this process does, so that another one need not wait until its hold ends."""

        async def decide(found: Found[SinkPosition]) -> Decided[SinkPosition, None]:
            stored = None if found.record is None else found.record.head
            if stored is None or stored.holder != self._holder or stored.held_until <= found.now:
                return Success(None)
            return Draft(replace(stored, held_until=found.now), {}, None, result=Success(None))

        return (await self._positions.now.update(self.sink.name, decide)).result

    async def _halts(self, known: int) -> Result[int | None, PersistenceError]:
        """Deliver what is new of the halts; gives how many entries, None where another process has taken over."""
        entries = await self._suspensions.halts.trail.entries(known)
        if not isinstance(entries, Success):
            error = entries.failure()
            if not isinstance(error, StorageError):
                # It must not keep the suspensions' from the sink.
                log.error("the audit entries of the halts are not delivered, they are not readable: %s", error)
                return Success(0)
            return Failure(error)
        new = entries.unwrap()
        for start in range(0, len(new), MOST_AT_ONCE):
            some = new[start : start + MOST_AT_ONCE]
            given = await self._given(some)
            moved = await self._moved(None, None, some[-1].number) if isinstance(given, Success) else given
            if not isinstance(moved, Success):
                return Failure(moved.failure())
            if moved.unwrap() is None:
                return Success(None)
        return Success(len(new))

    async def _page(
        self, listed: Result[Page[Loaded[Head]], PersistenceError], floor: datetime | None, began: datetime
    ) -> Result[tuple[int, bool], PersistenceError]:
        """Deliver what a page has, and store how far that is; gives how many entries, and whether this process still
        holds the sink.
        """
        if not isinstance(listed, Success):
            return Failure(listed.failure())
        page, delivered = listed.unwrap(), 0
        for record in page.items:
            told = await self._told(record, floor)
            if not isinstance(told, Success):
                return Failure(told.failure())
            delivered += told.unwrap()
        seen = page.items[-1].updated_at if page.items else None
        moved = await self._moved(seen, began if page.next is None else None)
        return moved.map(lambda held: (delivered, held is not None))

    async def _told(self, record: Loaded[Head], floor: datetime | None) -> Result[int, PersistenceError]:
        key, head = f"{record.ref.key}/{record.created_at.isoformat()}", record.head
        known = self._delivered.get(key)
        if known is not None and head.trail.count <= known:
            self._delivered.move_to_end(key)
            return Success(0)
        links = await self._suspensions.side_records.trail.verified(head)
        entries = links.bind(lambda found: entries_of(head, found))
        if not isinstance(entries, Success):
            return self._unreadable(record, entries.failure())
        new = [one for one in entries.unwrap() if _is_new(one, known, floor)]
        for start in range(0, len(new), MOST_AT_ONCE):
            given = await self._given(new[start : start + MOST_AT_ONCE])
            if isinstance(given, Failure):
                return Failure(given.failure())
        self._remember(key, head.trail.count)
        return Success(len(new))

    def _unreadable(self, record: Loaded[Head], error: PersistenceError) -> Result[int, PersistenceError]:
        if isinstance(error, StorageError):
            return Failure(error)
        if record.head.removing:
            return Success(0)
        # It must not keep all others from the sink; verify tells of it too.
        what = "removed meanwhile, or altered" if isinstance(error, IntegrityError) else "not readable"
        log.error("the audit entries of suspension %s are not delivered, they are %s: %s", record.ref.key, what, error)
        return Success(0)

    async def _given(self, entries: Sequence[AnyEntry]) -> Result[None, PersistenceError]:
        bound = asyncio.timeout(PATIENCE)
        try:
            async with bound:
                await self.sink.deliver(entries)
        except BaseException as error:
            if not is_fault(error, cancelled=is_cancelled()):
                raise
            within = f" within {PATIENCE:g} s" if bound.expired() else ""
            message = f"the sink {self.sink.name} did not take {len(entries)} audit entries{within}"
            message += "; it is given them again"
            failed = StorageError(message, self.sink.name, True)
            failed.__cause__ = error
            return Failure(failed)
        return Success(None)

    async def _moved(
        self, seen: datetime | None, settled: datetime | None, halts: int = 0
    ) -> Result[SinkPosition | None, PersistenceError]:
        """Store how far this process has come, and hold the sink; None where another process holds it."""

        async def decide(found: Found[SinkPosition]) -> Decided[SinkPosition, SinkPosition | None]:
            stored = None if found.record is None else found.record.head
            if stored is not None and stored.holder != self._holder and found.now < stored.held_until:
                return Success(None)
            after = SinkPosition(
                _latest(None if stored is None else stored.until, seen),
                _latest(None if stored is None else stored.settled, settled),
                self._holder,
                found.now + LEASE,
                max(halts, 0 if stored is None else stored.halts),
            )
            return Draft(after, {}, None, result=Success(after))

        return (await self._positions.now.update(self.sink.name, decide)).result

    def _remember(self, key: str, count: int) -> None:
        self._delivered[key] = count
        self._delivered.move_to_end(key)
        if len(self._delivered) > REMEMBERED:
            self._delivered.popitem(last=False)


def _is_new(entry: AuditEntry, known: int | None, floor: datetime | None) -> bool:
    if known is not None:
        return entry.number > known
    return floor is None or entry.at >= floor


def _latest(one: datetime | None, other: datetime | None) -> datetime | None:
    return max((moment for moment in (one, other) if moment is not None), default=None)


class Deliveries:
    """The deliveries to sinks that this process has begun, by name."""

    def __init__(self, suspensions: Suspensions) -> None:
        self._suspensions = suspensions
        self._begun: dict[str, AuditDelivery] = {}

    def to(self, sink: AuditSink) -> AuditDelivery:
        """The delivery to a sink."""
        known = self._begun.get(sink.name)
        if known is None or known.sink is not sink:
            known = self._begun[sink.name] = AuditDelivery(self._suspensions, sink)
        return known


class DeliveringVerbs:
    """``deliver`` of ``Maintenance``."""

    _deliveries: Deliveries

    async def deliver(self, sink: AuditSink) -> Outcome[int]:
        """Give a sink all audit entries that it has not been given, and say how many; 0 while another process does so.

        Each entry is given at least once, over crashes too: the store has the sink's position by its name. A failure of
        the sink is a ``StorageError`` with what it raised as its cause, and the next call goes on there. Entries of
        suspensions that can't be read are left out, and logged.

        - ``sink``: an ``AuditSink``, such as a ``FileSink``.
        """
        check_instance(sink, "sink", AuditSink, SINK)
        return as_outcome(await self._deliveries.to(sink).deliver())
