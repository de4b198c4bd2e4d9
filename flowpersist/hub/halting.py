"""The emergency pause: halts that stop claims, seen by every process.

Each put that takes a run carries the last instant until which the process knows that no halt stops it. The store checks
that instant by its own clock in the same atomic step. ``halt`` returns when the last instant of every claim that was
decided without it has passed. So once it has returned, no such claim is made durable any more, wherever it was decided.

A process reads the halts at most once a second, and only for claims.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from attrs import frozen
from returns.result import Failure, Result, Success

from flowpersist.backends.base import check_text
from flowpersist.errors import PersistenceError
from flowpersist.errors.arguments import check_optional, check_str, out_of_range
from flowpersist.hub.halt_trail import HaltTrail
from flowpersist.hub.outcome import Outcome, as_outcome
from flowpersist.inputs.people import By, subject_of
from flowpersist.lifecycle.criteria import Criteria, check_criteria
from flowpersist.lifecycle.evidence import HALTS
from flowpersist.lifecycle.halt_history import HaltEntry
from flowpersist.lifecycle.halts import (
    MAX_REASON,
    Halt,
    HaltFacts,
    HaltPrivate,
    HaltRecord,
    StoredHalt,
    by_data,
    check_halted,
    halted,
    lifted,
    refusal,
    stopping,
    tools_of,
    view_of,
)
from flowpersist.lifecycle.model import Head, MovedEntries, PartOfHead
from flowpersist.sealed.catalogue import FollowingRecords
from flowpersist.sealed.drafts import Decided, Draft, Found
from flowpersist.sealed.records import SealedRecords

__all__ = ["HaltingVerbs", "Halts"]

#: How long a process relies on what it has read of the halts, and the latest instant of a claim that was decided on it.
FRESH: Final = timedelta(seconds=1)
BOUND: Final = timedelta(seconds=3)
#: What a put may be late on a server whose clock is sampled.
MARGIN: Final = timedelta(milliseconds=250)


@frozen
class _Known:
    """What was read of the halts: ``at`` is no later than the reading by the store's clock, ``read_at`` by this
    process's.
    """

    record: HaltRecord | None
    at: datetime
    read_at: float

    def fits(self, now: datetime, monotonic: float) -> bool:
        """Whether it may be relied on, by both clocks: the store's may have been moved."""
        young = self.read_at <= monotonic < self.read_at + FRESH.total_seconds()
        return young and self.at - BOUND <= now <= self.at + (BOUND - FRESH)

    @property
    def some(self) -> bool:
        """Whether anything is halted."""
        return self.record is not None and bool(self.record.halts)

    def until(self, tools: Collection[str], tenant: str | None) -> Result[datetime, PersistenceError]:
        """The last instant of a claim of all these tools and that tenant; ``ClaimsHalted`` where a halt stops it."""
        stop = stopping(self.record, tools, tenant)
        return Success(self.at + BOUND) if stop is None else Failure(refusal(stop))


class Halts:
    """The halts of a namespace, beside its suspensions in ``of``."""

    def __init__(self, of: SealedRecords[Any]) -> None:
        namespace = f"{of.namespace}.halts"
        self._records = FollowingRecords(of, namespace, HaltRecord, purpose="head")
        #: What was halted, lifted and stripped.
        self.trail = HaltTrail(of, self._records)
        self._runtime = of.runtime
        self._known: _Known | None = None

    @property
    def records(self) -> tuple[SealedRecords[HaltRecord], SealedRecords[MovedEntries]]:
        """The records of all kinds."""
        return self._records.now, self.trail.moved

    async def claimable_until(self, head: Head, now: datetime) -> Result[datetime, PersistenceError]:
        """The last instant at which a claim of this head may become durable; ``ClaimsHalted`` where it may not."""
        known = await self._fresh(now)
        return known.bind(lambda found: found.until(tools_of(head) if found.some else (), head.tenant))

    async def until(
        self, tools: Collection[str], tenant: str | None, now: datetime
    ) -> Result[datetime, PersistenceError]:
        """The same of anything of all these tools and that tenant."""
        known = await self._fresh(now)
        return known.bind(lambda found: found.until(tools, tenant))

    def stops(self, head: Head) -> bool:
        """Whether a claim of this head would be refused, as far as this process knows without asking. A part does not
        say what the other waits ask: then the claim decides.
        """
        known = self._known
        tools = () if known is None or isinstance(head, PartOfHead) else tools_of(head)
        return known is not None and known.some and isinstance(known.until(tools, head.tenant), Failure)

    async def _fresh(self, now: datetime) -> Result[_Known, PersistenceError]:
        sent = self._runtime.monotonic()
        if self._known is not None and self._known.fits(now, sent):
            return Success(self._known)
        # Not as a verb reads its suspension, so that counts of those stay one a verb.
        many = await self._records.now.read_many([HALTS])
        read = many.bind(lambda reads: reads[0])
        if not isinstance(read, Success):
            return Failure(read.failure())
        found = read.unwrap()
        # The store may have told its time after it had read the record, but no longer after it than the reply took.
        taken = timedelta(seconds=self._runtime.monotonic() - sent)
        self._known = _Known(None if found.record is None else found.record.head, found.now - taken, sent)
        return Success(self._known)

    async def halt(self, criteria: Criteria, reason: str, by: By | None) -> Result[Halt, PersistenceError]:
        """Stop claims; returns when none that was decided without this halt can become durable any more."""
        fresh = self._runtime.entropy(8).hex()

        async def decide(found: Found[HaltRecord]) -> Decided[HaltRecord, StoredHalt]:
            record = HaltRecord(found.now) if found.record is None else found.record.head
            new = StoredHalt(fresh, found.now, reason, criteria.tool, criteria.tenant, by_data(by))
            made = halted(record, new)
            if not isinstance(made, Success):
                return Failure(made.failure())
            after, halt = made.unwrap()
            return Success(halt) if after is record else await self._draft("halt", after, halt, new.by, reason, found)

        updated = (await self._records.now.update(HALTS, decide)).result
        self._known = None
        if not isinstance(updated, Success):
            return Failure(updated.failure())
        settled = await self._settled()
        return settled.map(lambda _: view_of(updated.unwrap()))

    async def lift(self, id: str, reason: str | None, by: By | None) -> Result[Halt, PersistenceError]:
        """Let claims go on."""

        async def decide(found: Found[HaltRecord]) -> Decided[HaltRecord, StoredHalt]:
            made = lifted(None if found.record is None else found.record.head, id)
            if not isinstance(made, Success):
                return Failure(made.failure())
            after, halt = made.unwrap()
            return await self._draft("lift", after, halt, by_data(by), reason, found)

        updated = (await self._records.now.update(HALTS, decide)).result
        self._known = None
        return updated.map(view_of)

    async def all(self) -> Result[tuple[Halt, ...], PersistenceError]:
        """The halts that stand, the oldest first."""
        read = await self._records.now.read(HALTS)
        return read.map(lambda found: () if found.record is None else tuple(map(view_of, found.record.head.halts)))

    async def history(self) -> Result[tuple[HaltEntry, ...], PersistenceError]:
        """What was halted and lifted, verified as the trail of a suspension is."""
        return await self.trail.entries()

    async def _settled(self) -> Result[None, PersistenceError]:
        """Wait until the last instant has passed of every claim that was decided on an earlier reading."""
        until: datetime | None = None
        started = self._runtime.monotonic()
        while True:
            read = await self._records.now.read(HALTS)
            if not isinstance(read, Success):
                return Failure(read.failure())
            now = read.unwrap().now
            until = now + BOUND + MARGIN if until is None else until
            # A store's clock that is moved back in this moment must not keep the caller for hours.
            if now > until or self._runtime.monotonic() > started + 4 * BOUND.total_seconds():
                return Success(None)
            await self._runtime.sleep(min(BOUND, until - now).total_seconds() + 0.001)

    async def _draft(
        self,
        verb: str,
        after: HaltRecord,
        halt: StoredHalt,
        by: Mapping[str, object] | None,
        reason: str | None,
        found: Found[HaltRecord],
    ) -> Decided[HaltRecord, StoredHalt]:
        facts = HaltFacts(found.now, verb, halt.id, halt.tool, halt.tenant)
        made = await self.trail.extended(after, facts, HaltPrivate(by, reason))
        if not isinstance(made, Success):
            return Failure(made.failure())
        return Draft(made.unwrap(), {}, None, result=Success(halt))


class HaltingVerbs:
    """``halt``, ``lift``, ``halts`` and ``halt_history`` of ``Maintenance``."""

    _halting: Halts

    async def halt(self, criteria: Criteria, reason: str, by: By | None = None) -> Outcome[Halt]:
        """Stop claims in every process, until lifted. It takes some three seconds: once it has returned, no claim that
        the halt stops becomes durable any more.

        Answers are taken as before, and runs that are held go on. The same halt again gives the one that stands.

        - ``criteria``: a ``tool``, a ``tenant``, both or neither: which suspensions are not to be claimed.
        - ``reason``: why; the error of each claim that is stopped says it. At most 1,000 characters.
        - ``by``: who halts, for the trail of the halts.
        """
        check_criteria(criteria)
        check_halted(criteria)
        _check_reason(reason)
        check_optional(subject_of(by), "by", check_text)
        return as_outcome(await self._halting.halt(criteria, reason, by))

    async def lift(self, halt: Halt | str, reason: str | None = None, by: By | None = None) -> Outcome[Halt]:
        """Lift a halt, and give it. ``ValueNotFound`` for another id. Claims go on within a second.

        - ``halt``: the halt, or its id.
        - ``reason``: why, for the trail of the halts.
        - ``by``: who lifts it, for the same.
        """
        named = halt.id if isinstance(halt, Halt) else halt
        check_str(named, "halt")
        check_optional(reason, "reason", lambda value, _: _check_reason(value))
        check_optional(subject_of(by), "by", check_text)
        return as_outcome(await self._halting.lift(named, reason, by))

    async def halts(self) -> Outcome[tuple[Halt, ...]]:
        """The halts that stand, the oldest first."""
        return as_outcome(await self._halting.all())

    async def halt_history(self) -> Outcome[tuple[HaltEntry, ...]]:
        """What was halted and lifted, by whom and why: an audit trail of its own, verified."""
        return as_outcome(await self._halting.history())


def _check_reason(reason: object) -> None:
    check_str(reason, "reason")
    if not str(reason).strip() or len(str(reason)) > MAX_REASON:
        out_of_range("reason", f"a text of 1 to {MAX_REASON} characters", "another")
