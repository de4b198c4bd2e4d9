"""Removal of what is private from audit entries: who, why, and what was answered. The chain proves the rest as before.

First the head is written without it, then the records that have left it, until a look finds nothing more: a writer
that has found the earlier head can still copy its entries. That writer's own head is refused then, and whoever moves
the entries next strips the copy.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Final, TypeAlias

from attrs import evolve, frozen
from returns.result import Failure, Result, Success

from flowpersist.backends.base import Range, Where, check_text
from flowpersist.errors import ConfigurationError, PersistenceError
from flowpersist.errors.arguments import check_flag, check_instance, check_optional, check_str
from flowpersist.hub.audit_trail import prefix_of
from flowpersist.hub.bare_links import bare_links, strip_moved
from flowpersist.hub.outcome import Outcome, as_outcome
from flowpersist.hub.purged_trails import PurgedTrail, head_of
from flowpersist.hub.purging import is_gone, purged_records
from flowpersist.hub.transactions import Suspensions
from flowpersist.inputs.people import By, subject_of
from flowpersist.keys.suspension_key import SuspensionId
from flowpersist.lifecycle.changes import due_at, present
from flowpersist.lifecycle.criteria import Criteria, check_criteria
from flowpersist.lifecycle.entries import noted_by, read_private
from flowpersist.lifecycle.halts import HaltFacts, HaltPrivate, by_data
from flowpersist.lifecycle.indexing import attributes_of, matches, where
from flowpersist.lifecycle.model import Head, replace
from flowpersist.sealed.chain import open_link
from flowpersist.sealed.drafts import Decided, Draft, Found, Loaded
from flowpersist.sealed.walking import pages

__all__ = ["Stripped", "StrippingVerbs"]

_PAGE: Final = 100
_Records: TypeAlias = tuple[Loaded[Head], ...]


@frozen
class Stripped:
    """What was stripped, or with ``dry_run`` would be: how many entries, of how many suspensions; ``halts`` are the
    entries among them that are of the halts.
    """

    suspensions: int
    entries: int
    dry_run: bool
    halts: int = 0


@frozen
class _Stripping:
    suspensions: Suspensions
    subject: str | None
    by: By | None
    reason: str | None
    dry_run: bool

    async def one(self, record: Loaded[Head]) -> Result[int, PersistenceError]:
        """Strip one suspension; gives how many of its entries."""
        key, head = record.ref.key, record.head
        if self.dry_run:
            trail = self.suspensions.side_records.trail
            # What is kept of a suspension that is being deleted is stripped with the purged ones.
            kept = Success(head.trail.links) if head.removing else await trail.links(head)
            return kept.map(lambda links: bare_links(links, self._meant)[1])
        first = (await self.suspensions.records.update(key, self._head)).result
        count = 0
        if not isinstance(first, Success):
            return first
        count += first.unwrap()
        beside = Where(range=Range("key", prefix=prefix_of(head)))
        moved = await strip_moved(self.suspensions.side_records.trail.records, beside, self._meant)
        if not isinstance(moved, Success):
            return moved
        count += moved.unwrap()
        if count and not head.removing:
            told = (await self.suspensions.records.update(key, self._entry)).result
            if isinstance(told, Failure):
                return Failure(told.failure())
        return Success(count)

    async def halts(self, criteria: Criteria) -> Result[int, PersistenceError]:
        """Strip the trail of the halts of that tool and tenant; gives how many of its entries."""

        def meant(facts: HaltFacts, told: HaltPrivate) -> bool:
            fits = criteria.tool in (None, facts.tool) and criteria.tenant in (None, facts.tenant)
            return fits and (self.subject is None or _acted(told.by, self.subject))

        trail = self.suspensions.halts.trail
        return await trail.strip(meant, by_data(self.by), self.reason, dry_run=self.dry_run)

    async def _head(self, found: Found[Head]) -> Decided[Head, int]:
        if found.record is None:
            return Success(0)
        head = found.record.head
        links, count = bare_links(head.trail.links, self._meant)
        after = replace(head, trail=replace(head.trail, links=links))
        # What time has changed since is for the next verb to write: it tells the observer of it.
        draft: Draft[Head, int] = Draft(after, attributes_of(head), due_at(head), result=Success(count))
        return draft if count else Success(0)

    async def _entry(self, found: Found[Head]) -> Decided[Head, None]:
        """That it was stripped is an entry too, with who asked for it and why."""
        if found.record is None:
            return Success(None)
        head = found.record.head
        entry = noted_by("strip", self.by, head, self.reason, found.now)
        made = await self.suspensions.side_records.trail.with_entry(head, entry)
        if not isinstance(made, Success):
            return Failure(made.failure())
        return Draft(made.unwrap(), attributes_of(head), due_at(head), result=Success(None))

    async def purged(self, record: Loaded[PurgedTrail]) -> Result[int, PersistenceError]:
        """Strip the trail of a suspension that was deleted; gives how many of its entries."""
        records = self.suspensions.side_records.trail.purged.records
        return (await records.update(record.ref.key, self._purged, body=True)).result

    async def _purged(self, found: Found[PurgedTrail]) -> Decided[PurgedTrail, int]:
        record, purged = found.record, self.suspensions.side_records.trail.purged
        if record is None:
            return Success(0)
        links, gone = await purged.links_in(record), await is_gone(self.suspensions, record)
        if not isinstance(links, Success) or not isinstance(gone, Success):
            return Failure(next(one.failure() for one in (links, gone) if isinstance(one, Failure)))
        bare, count = bare_links(links.unwrap(), self._meant)
        # Where a removal has not come to its end, the suspension stands, was counted, and has the entry.
        meant = count if gone.unwrap() else 0
        if self.dry_run or not count:
            return Success(meant)
        head = made = head_of(record)
        if gone.unwrap():
            told = noted_by("strip", self.by, head, self.reason, found.now)
            extended = await self.suspensions.side_records.trail.with_entry(head, told)
            if not isinstance(extended, Success):
                return Failure(extended.failure())
            made = extended.unwrap()
        return await purged.draft(record, made.trail, (*bare, *made.trail.links), meant)

    def _meant(self, data: bytes) -> bool:
        link = open_link(data, b"")
        # One that has another form is for verify to tell of.
        if link is None or link.private is None:
            return False
        if self.subject is None:
            return True
        told = read_private(link.private)
        by = told.unwrap().by if isinstance(told, Success) else None
        return _acted(by, self.subject)


def _acted(by: Mapping[str, object] | None, subject: str) -> bool:
    """Whether a subject has acted, or somebody on their behalf."""
    return by is not None and subject in (by.get("subject"), by.get("on_behalf_of"))


class StrippingVerbs:
    """``strip_audit`` of ``Maintenance``."""

    _suspensions: Suspensions

    async def strip_audit(
        self,
        criteria: Criteria = Criteria(),  # noqa: B008 - frozen
        *,
        suspension: SuspensionId | None = None,
        subject: str | None = None,
        reason: str | None = None,
        by: By | None = None,
        dry_run: bool = False,
    ) -> Outcome[Stripped]:
        """Remove what is private from audit entries: who, why, and what was answered. The trails verify as before.

        It can be ended at any moment and called again. Each suspension that is stripped gets an entry ``strip``, and so
        does the trail of the halts, whose entries are stripped where ``criteria`` are of a tool or tenant alone, or
        none. What stands outside the trail, such as the answers of a pause in its head, stays until the suspension is
        deleted, and the reason of a halt until it is lifted.
        Trails that are kept of deleted suspensions are stripped too, unless criteria ask for a tool, run or metadata.

        - ``criteria``: whose entries, such as those of a ``tenant``.
        - ``suspension``: those of one suspension alone.
        - ``subject``: only entries of what this subject did, or somebody on their behalf.
        - ``reason``: why, for the entry ``strip``.
        - ``by``: who asks for it, for the same.
        - ``dry_run``: count, and change nothing.
        """
        check_criteria(criteria)
        check_instance(suspension, "suspension", (SuspensionId, type(None)), "a SuspensionId or None")
        check_optional(subject, "subject", check_text)
        check_optional(reason, "reason", check_str)
        check_optional(subject_of(by), "by", check_text)
        check_flag(dry_run, "dry_run")
        if criteria == Criteria() and suspension is None and subject is None:
            message = "Invalid criteria: expected a condition, a suspension or a subject: nothing can be restored"
            raise ConfigurationError(message, "criteria")
        stripping = _Stripping(self._suspensions, subject, by, None if reason is None else reason[:1000], dry_run)
        done = Stripped(0, 0, dry_run)
        async for found in self._meant(criteria, suspension):
            count = await stripping.one(found.unwrap()) if isinstance(found, Success) else Failure(found.failure())
            if not isinstance(count, Success):
                return as_outcome(Failure(count.failure()))
            more = count.unwrap()
            done = evolve(done, suspensions=done.suspensions + bool(more), entries=done.entries + more)
        # After the suspensions: one that is deleted meanwhile has its trail among these.
        async for trail in self._purged(criteria, suspension):
            count = await stripping.purged(trail.unwrap()) if isinstance(trail, Success) else Failure(trail.failure())
            if not isinstance(count, Success):
                return as_outcome(Failure(count.failure()))
            more = count.unwrap()
            done = evolve(done, suspensions=done.suspensions + bool(more), entries=done.entries + more)
        if suspension is not None or criteria != Criteria(tool=criteria.tool, tenant=criteria.tenant):
            return Success(done)
        told = await stripping.halts(criteria)
        return as_outcome(told.map(lambda count: evolve(done, entries=done.entries + count, halts=count)))

    async def _purged(
        self, criteria: Criteria, suspension: SuspensionId | None
    ) -> AsyncIterator[Result[Loaded[PurgedTrail], PersistenceError]]:
        one = None if suspension is None else Where(range=Range("key", prefix=f"{suspension}/"))
        tenant = Where(where(Criteria(tenant=criteria.tenant)).equals) if one is None else one
        async for found in purged_records(self._suspensions, tenant, standing=True):
            if not isinstance(found, Success) or matches(criteria, head_of(found.unwrap())):
                yield found

    async def _meant(
        self, criteria: Criteria, suspension: SuspensionId | None
    ) -> AsyncIterator[Result[Loaded[Head], PersistenceError]]:
        async for page in self._pages(criteria) if suspension is None else self._single(suspension):
            if not isinstance(page, Success):
                yield Failure(page.failure())
                return
            for record in page.unwrap():
                if matches(criteria, present(record.head, record.now)):
                    yield Success(record)

    async def _single(self, suspension: SuspensionId) -> AsyncIterator[Result[_Records, PersistenceError]]:
        read = await self._suspensions.records.read(str(suspension))
        yield read.map(lambda found: () if found.record is None else (found.record,))

    async def _pages(self, criteria: Criteria) -> AsyncIterator[Result[_Records, PersistenceError]]:
        # By its tenant alone: other attributes may be behind the head.
        asked = Where(where(Criteria(tenant=criteria.tenant)).equals)
        async for listed in pages(self._suspensions.records, asked, limit=_PAGE):
            yield listed.map(lambda page: page.items)
