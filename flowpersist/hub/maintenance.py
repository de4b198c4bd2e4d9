"""Maintenance of a store: writing changes by time, deleting what has expired, and reports of its health."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from datetime import timedelta
from functools import partial
from typing import Final

from attrs import evolve, field, frozen
from returns.result import Failure, Result, Success

from flowpersist.backends.base import RecordRef, Scalar, Where
from flowpersist.errors import PersistenceError
from flowpersist.errors.arguments import check_duration, check_flag, check_instance, check_whole
from flowpersist.hub.due import due_heads
from flowpersist.hub.listing import refresh_due
from flowpersist.hub.outcome import Outcome, as_outcome
from flowpersist.hub.samples import samples_of
from flowpersist.hub.verbs import PersistenceHub
from flowpersist.lifecycle.changes import present, purge_at
from flowpersist.lifecycle.indexing import EXPIRING, matches, where
from flowpersist.lifecycle.model import Head
from flowpersist.lifecycle.views import Criteria, check_criteria
from flowpersist.sealed.dictionaries import TrainedDictionary
from flowpersist.sealed.drafts import Loaded
from flowpersist.sealed.records import SealedRecords
from flowpersist.sealed.upkeep import count_all, keep_up
from flowpersist.stages.header import AUTHENTICATED, ENCRYPTED, PLAIN, parse_envelope
from flowpersist.stages.zstd import DICTIONARY_SIZES

__all__ = ["Cleanup", "Health", "Maintenance", "Tick", "TrainedDictionary"]

log = logging.getLogger("flowpersist.hub")
#: So many of the newest and of the oldest records are checked for how they are sealed.
LOOKED_AT: Final = 100
SEALS: Final = {PLAIN: "plain", AUTHENTICATED: "authenticated", ENCRYPTED: "encrypted"}
PLAIN_TEXT: Final = "are stored in plain text: set FLOWPERSIST_KEYS, and have the runs behind them end or pause again"

MORE_VALUES: Final = "the stores hold more values than were counted"


@frozen
class Tick:
    """What a tick did: how many suspensions had changed with time (expiries, defaults, ended leases) or had something
    to be delivered.
    """

    updated: int


@frozen
class Cleanup:
    """What a cleanup deleted, or with ``dry_run`` would delete."""

    deleted: int
    dry_run: bool


@frozen
class Health:
    """How the store is: its name, a round trip, what its records are sealed with, and warnings for whoever runs it.

    ``sealed`` counts the newest and oldest records by ``encrypted``, ``authenticated``, ``plain`` and ``damaged``;
    ``encrypted`` says whether all of these are, None where there are none. ``unreadable`` counts, by reason, the
    records that this hub has met lately and can't read. ``stores`` counts the values of all collections, by name; at
    most 100 pages of 1,000 are counted, and a warning says so where there are more.
    """

    backend: str
    latency: timedelta
    encrypted: bool | None
    sealed: Mapping[str, int]
    warnings: tuple[str, ...]
    unreadable: Mapping[str, int] = field(factory=dict)
    stores: Mapping[str, int] = field(factory=dict)


class Maintenance:
    """The work that no verb needs: run it from a timer, or ``run_forever`` beside a worker; any number of them may
    run.
    """

    def __init__(self, hub: PersistenceHub) -> None:
        check_instance(hub, "hub", PersistenceHub, "a PersistenceHub (of a RaisingHub, its .hub)")
        self._hub = hub

    async def tick(self) -> Outcome[Tick]:
        """Put what time has changed: expiries, defaults, ended leases. Verbs behave the same without it.

        Reminders and escalations that have come are delivered to ``on_event`` of this hub, each by one of all processes
        that tick.
        """
        return as_outcome((await refresh_due(self._hub.suspensions)).map(Tick))

    async def cleanup(
        self,
        criteria: Criteria = Criteria(),  # noqa: B008 - frozen
        *,
        dry_run: bool = False,
    ) -> Outcome[Cleanup]:
        """Delete closed suspensions whose retention is over, with their receipts. What changes meanwhile stays.

        Where large states stand apart, those that no suspension has any more are removed too, once an hour at most.
        """
        check_criteria(criteria)
        check_flag(dry_run, "dry_run")
        # A dry run writes nothing, so it also looks among suspensions that time has closed since their last write.
        ticked = Success(0) if dry_run else await refresh_due(self._hub.suspensions)
        if not isinstance(ticked, Success):
            return Failure(ticked.failure())
        deleted = 0
        among: tuple[dict[str, Scalar], ...] = ({"live": False}, {"status": EXPIRING})
        for stands in ({"live": False}, {"live": True}) if dry_run else among:
            removed = await self._cleaned(stands, criteria, dry_run=dry_run)
            if not isinstance(removed, Success):
                return Failure(removed.failure())
            deleted += removed.unwrap()
        if not dry_run:
            await self._sweep()
        return Success(Cleanup(deleted, dry_run))

    async def cleanup_stores(self) -> Outcome[int]:
        """Delete what no store needs any more, of every tenant and project: values that have expired, observations
        beyond those that are kept, and what writes that were cut have left. Gives how many records went.

        Any number of processes may do so at a time.
        """
        kept_up = await keep_up(self._hub.suspensions.records)
        return as_outcome(kept_up.map(lambda deleted: sum(deleted.values())))

    async def _cleaned(
        self, stands: Mapping[str, Scalar], criteria: Criteria, *, dry_run: bool
    ) -> Result[int, PersistenceError]:
        deleted = 0
        equals = {**where(_without_range(criteria)).equals, **stands}
        async for found in due_heads(self._hub.suspensions.records, equals):
            if not isinstance(found, Success):
                return Failure(found.failure())
            record = found.unwrap()
            over = purge_at(present(record.head, record.now))
            if "status" in stands and (over is None or over > record.now):
                # They stand in the order in which they expired.
                break
            removed = await self._removed(record, criteria, dry_run=dry_run)
            if not isinstance(removed, Success):
                return removed
            deleted += removed.unwrap()
        return Success(deleted)

    async def _sweep(self) -> None:
        suspensions = self._hub.suspensions
        for sweep in (suspensions.records.sweep, partial(suspensions.side_records.answers.sweep, suspensions.records)):
            swept = await sweep()
            if isinstance(swept, Failure):
                # The suspensions are deleted all the same; the next round tries again.
                log.warning("what crashes have left in the store could not be removed yet: %s", swept.failure())

    async def health(self) -> Outcome[Health]:
        """A round trip to the store, how its records are sealed, and what this hub could not read of it."""
        records = self._hub.suspensions.records
        unreadable = records.unreadable.counts()
        warnings = tuple(f"{count} records can't be read here: {reason}" for reason, count in unreadable.items())
        seen = await records.health()
        if not isinstance(seen, Success):
            return Failure(seen.failure())
        found = await stored_seals(records)
        if not isinstance(found, Success):
            return Failure(found.failure())
        counted = await count_all(records)
        if not isinstance(counted, Success):
            return Failure(counted.failure())
        ping, sealed, census = seen.unwrap(), found.unwrap(), counted.unwrap()
        open_text = sealed.get("plain", 0) + sealed.get("authenticated", 0)
        stated = () if not open_text else (f"{open_text} of {sum(sealed.values())} records looked at {PLAIN_TEXT}",)
        return Success(
            Health(
                backend=ping.backend,
                latency=ping.latency,
                encrypted=sealed.keys() <= {"encrypted"} if sealed else None,
                sealed=sealed,
                warnings=(*ping.warnings, *stated, *warnings, *(() if census.complete else (MORE_VALUES,))),
                unreadable=unreadable,
                stores=census.counts,
            )
        )

    async def train_dictionary(
        self,
        criteria: Criteria = Criteria(),  # noqa: B008 - frozen
        *,
        samples: int = 1000,
        size: int = 64 * 1024,
    ) -> Outcome[TrainedDictionary]:
        """Learn from the states of live suspensions what small ones have in common, and keep it as the newest version.

        Hubs that are opened with ``dictionaries=True`` compress with the newest from their opening on, this one at
        once. ``CompressionError`` where there are too few states to learn from. Older versions stay.
        """
        check_criteria(criteria)
        check_whole(samples, "samples")
        check_whole(size, "size", least=DICTIONARY_SIZES.start, most=DICTIONARY_SIZES.stop - 1)
        learned = await samples_of(self._hub.suspensions.records, criteria, most=samples, size=size)
        if not isinstance(learned, Success):
            return Failure(learned.failure())
        return as_outcome(await self._hub.dictionaries.train(learned.unwrap(), size=size))

    async def run_forever(self, interval: timedelta = timedelta(seconds=30)) -> None:
        """Tick and clean up suspensions and stores every ``interval``, until cancelled. A failure is logged, and the
        next round tries again.
        """
        check_duration(interval, "interval")
        while True:
            for done in (await self.tick(), await self.cleanup(), await self.cleanup_stores()):
                if isinstance(done, Failure):
                    error = done.failure()
                    message = "maintenance failed, trying again in %s: %s"
                    self._hub.suspensions.tracebacks.log(log, error, message, interval, error)
            await self._hub.runtime.sleep(interval.total_seconds())

    async def _removed(
        self, record: Loaded[Head], criteria: Criteria, *, dry_run: bool
    ) -> Result[int, PersistenceError]:
        head = present(record.head, record.now)
        purge = purge_at(head)
        # The sealed head decides: altered attributes must not get a live suspension deleted.
        if purge is None or purge > record.now or head.lease_until is not None or not matches(criteria, head):
            return Success(0)
        if dry_run:
            return Success(1)
        return (await self._hub.suspensions.remove(record)).map(int)


async def stored_seals(records: SealedRecords[Head]) -> Result[Mapping[str, int], PersistenceError]:
    """How the newest and the oldest records are sealed, by the headers of their envelopes, which need no key."""
    seals: dict[RecordRef, str] = {}
    for descending in (True, False):
        listed = await records.listed(Where(), limit=LOOKED_AT, descending=descending)
        if not isinstance(listed, Success):
            return Failure(listed.failure())
        for record in listed.unwrap().items:
            parsed = parse_envelope(record.head)
            damaged = isinstance(parsed, Failure)
            seals[record.ref] = "damaged" if damaged else SEALS[parsed.unwrap().suite]
    return Success(Counter(seals.values()))


def _without_range(criteria: Criteria) -> Criteria:
    return evolve(criteria, created_after=None, created_before=None, due_before=None)
