"""Scrubbing a store: every record read and held against what it was written as, and mended where that is asked for.

What stands in clear beside a seal (attributes, due times, index entries) decides which queries find a record, and the
sealed head says what it should be. Checksums need no key; everything else needs the keyring.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from attrs import define, evolve, field, frozen
from returns.result import Failure, Result, Success

from flowpersist.backends.base import Page, Record, RecordRef
from flowpersist.errors import PersistenceError
from flowpersist.hub.base import HubBase
from flowpersist.hub.heads import put_back
from flowpersist.hub.restoring import deleted_keys
from flowpersist.hub.scrub_checks import Checks
from flowpersist.hub.stored import Kind, Place, all_pages
from flowpersist.hub.troubles import Mend, Problem, Trouble
from flowpersist.sealed.raw import RawRecords

__all__ = ["Finding", "Verification", "verify"]

#: A record that changes while it is mended is looked at again so often.
ATTEMPTS: Final = 5


@frozen
class Finding:
    """One thing that is wrong with one record (``ref`` is None where its key can't be read), and whether it was mended.

    ``code`` is that of the error which a verb would give, None where no verb would notice.
    """

    problem: Problem
    kind: Kind
    ref: RecordRef | None
    code: str | None
    message: str
    repaired: bool = False


@frozen
class Verification:
    """How many records of each kind were read, and what is wrong.

    ``unopened`` counts, by kind, those of which this process lacks a key, so that only their checksums were compared.
    ``found`` and ``repaired`` count the findings by problem; ``findings`` has the first of them. ``swept`` counts the
    pieces that crashes have left and that a repair has removed.
    """

    records: Mapping[str, int]
    unopened: Mapping[str, int]
    found: Mapping[str, int]
    repaired: Mapping[str, int]
    findings: tuple[Finding, ...]
    swept: int = 0

    @property
    def clean(self) -> bool:
        """Whether nothing was found, or all of it was mended."""
        return dict(self.found) == dict(self.repaired)


@define
class _Report:
    most: int
    tell: Callable[[Finding], object] | None
    records: Counter[str] = field(factory=Counter)
    unopened: Counter[str] = field(factory=Counter)
    found: Counter[str] = field(factory=Counter)
    repaired: Counter[str] = field(factory=Counter)
    findings: list[Finding] = field(factory=list)

    def add(self, finding: Finding) -> None:
        self.found[finding.problem] += 1
        self.repaired.update([finding.problem] if finding.repaired else ())
        if len(self.findings) < self.most:
            self.findings.append(finding)
        if self.tell is not None:
            self.tell(finding)


async def verify(
    hub: HubBase, *, read_data: bool, repair: bool, most: int, tell: Callable[[Finding], object] | None
) -> Result[Verification, PersistenceError]:
    """Read everything, in pages. Only a store that can't be read is a failure."""
    report = _Report(most, tell)
    scrub = _Scrub(Checks(hub, read_data=read_data), report, repair=repair)
    async for found in all_pages(hub, bodies=read_data):
        failed = await scrub.page(*found.unwrap()) if isinstance(found, Success) else found.failure()
        if failed is not None:
            return Failure(failed)
    failed = await scrub.deleted(hub)
    if failed is not None:
        return Failure(failed)
    swept = await _swept(hub) if repair else Success(0)
    if not isinstance(swept, Success):
        return Failure(swept.failure())
    return Success(
        Verification(
            dict(report.records),
            dict(report.unopened),
            dict(report.found),
            dict(report.repaired),
            tuple(report.findings),
            swept.unwrap(),
        )
    )


async def _swept(hub: HubBase) -> Result[int, PersistenceError]:
    suspensions = hub.suspensions
    swept = await suspensions.records.sweep()
    if not isinstance(swept, Success):
        return swept
    count = swept.unwrap()
    for sweep in (
        partial(suspensions.side_records.answers.sweep, suspensions.records),
        suspensions.records.sweep_pages,
    ):
        swept = await sweep()
        if not isinstance(swept, Success):
            return swept
        count += swept.unwrap()
    return Success(count)


@define
class _Scrub:
    checks: Checks
    report: _Report
    repair: bool = field(kw_only=True)

    async def page(self, place: Place, page: Page[Record]) -> PersistenceError | None:
        """Look at the records of a page; gives the error of a store that fails."""
        for left_out in page.unreadable:
            error = left_out.error
            self.report.add(Finding("unreadable", place.kind, left_out.ref, error.code, error.message))
        context = await self.checks.context(place, page)
        if not isinstance(context, Success):
            return context.failure()
        for record in page.items:
            self.report.records[place.kind] += 1
            looked = await self.checks.troubles(place, record, page.now, context.unwrap())
            if not isinstance(looked, Success):
                return looked.failure()
            self.report.unopened[place.kind] += looked.unwrap().unopened
            for trouble in looked.unwrap().troubles:
                failed = await self._reported(place, record, trouble)
                if failed is not None:
                    return failed
            await asyncio.sleep(0)
        self.report.unopened += Counter()
        return None

    async def deleted(self, hub: HubBase) -> PersistenceError | None:
        """Report the suspensions that the replay ledger knows and the store has not; gives the error of a store that
        fails.
        """
        heads = hub.suspensions.records
        if heads.ledger is None:
            return None
        async for found in deleted_keys(heads, heads.ledger):
            if not isinstance(found, Success):
                return found.failure()
            error = put_back(found.unwrap(), True, heads.ledger)
            ref = heads.ref(found.unwrap())
            self.report.add(Finding("unreadable", "suspension", ref, error.code, error.message))
        return None

    async def _reported(self, place: Place, record: Record, trouble: Trouble) -> PersistenceError | None:
        finding = Finding(trouble.problem, place.kind, record.ref, trouble.code, trouble.message)
        if self.repair and trouble.mend is not None:
            mended = await self._mended(place, record, trouble.problem, trouble.mend)
            if not isinstance(mended, Success):
                return mended.failure()
            finding = evolve(finding, repaired=mended.unwrap())
        self.report.add(finding)
        return None

    async def _mended(
        self, place: Place, record: Record, problem: Problem, mend: Mend
    ) -> Result[bool, PersistenceError]:
        """Mend a record at the revision that was looked at; once more where it was changed meanwhile."""
        raw = RawRecords(place.records.backend, place.records.runtime)
        for _ in range(ATTEMPTS):
            done = await mend(raw, record)
            if not isinstance(done, Failure) or done.failure().code != "revision-conflict":
                return done.map(lambda _: True)
            again = await self.checks.again(place, raw, record.ref, problem)
            if not isinstance(again, Success):
                return Failure(again.failure())
            found = again.unwrap()
            if found is None:
                return Success(True)
            record, trouble = found
            if trouble.mend is None:
                return Success(False)
            mend = trouble.mend
        return Success(False)
