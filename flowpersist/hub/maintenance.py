"""Maintenance of a store: writing changes by time, deleting what has expired, and reports of its health."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Final

from attrs import evolve, frozen
from returns.result import Failure, Result, Success

from flowpersist.backends.base import Scalar, check_text
from flowpersist.errors import PersistenceError
from flowpersist.errors.arguments import (
    check_callable,
    check_duration,
    check_flag,
    check_instance,
    check_items,
    check_optional,
    check_pause,
    check_str,
    check_whole,
)
from flowpersist.hub.delivering import AuditDelivery, Deliveries, DeliveringVerbs
from flowpersist.hub.due import due_heads
from flowpersist.hub.halting import HaltingVerbs
from flowpersist.hub.health import Health, health
from flowpersist.hub.listing import refresh_due
from flowpersist.hub.log_appending import append_to_log
from flowpersist.hub.outcome import Outcome, as_outcome
from flowpersist.hub.purging import expired
from flowpersist.hub.rekeying import KeyUse, Rekeyed, RekeyProgress, key_use, rekey, retire
from flowpersist.hub.samples import samples_of
from flowpersist.hub.shredding import Shredded, no_dictionary, shred
from flowpersist.hub.sinks import AuditSink
from flowpersist.hub.stripping import StrippingVerbs
from flowpersist.hub.telemetry import measure_queue
from flowpersist.hub.upkeep_verbs import UpkeepVerbs
from flowpersist.hub.verbs import PersistenceHub
from flowpersist.keys.keyring import KeyRing
from flowpersist.lifecycle.changes import present, purge_at
from flowpersist.lifecycle.criteria import Criteria, check_criteria
from flowpersist.lifecycle.indexing import EXPIRING, matches, where
from flowpersist.lifecycle.model import Head
from flowpersist.sealed.dictionaries import TrainedDictionary
from flowpersist.sealed.drafts import Loaded
from flowpersist.sealed.upkeep import keep_up
from flowpersist.stages.zstd import DICTIONARY_SIZES

__all__ = [
    "Cleanup",
    "Health",
    "KeyUse",
    "Maintenance",
    "RekeyProgress",
    "Rekeyed",
    "Shredded",
    "Tick",
    "TrainedDictionary",
]

log = logging.getLogger("flowpersist.hub")
#: Suspensions that are deleted one after another, once the audit log says so of all of them.
REMOVED_TOGETHER: Final = 100


@frozen
class Tick:
    """What a tick did: how many suspensions had changed with time (expiries, defaults, ended leases) or had something
    to be delivered.
    """

    updated: int


@frozen
class Cleanup:
    """What a cleanup deleted, or with ``dry_run`` would delete: suspensions, and audit ``trails`` of earlier ones whose
    own retention is over.
    """

    deleted: int
    dry_run: bool
    trails: int = 0


class Maintenance(HaltingVerbs, DeliveringVerbs, StrippingVerbs, UpkeepVerbs):
    """The work that no verb needs: run it from a timer, or ``run_forever`` beside a worker; any number of them may
    run.
    """

    def __init__(self, hub: PersistenceHub) -> None:
        check_instance(hub, "hub", PersistenceHub, "a PersistenceHub (of a RaisingHub, its .hub)")
        self._hub = hub
        self._halting = hub.suspensions.halts
        self._deliveries = Deliveries(hub.suspensions)
        self._suspensions = hub.suspensions

    async def tick(self) -> Outcome[Tick]:
        """Put what time has changed: expiries, defaults, ended leases. Verbs behave the same without it.

        Reminders and escalations that have come are delivered to ``on_event`` of this hub, each by one of all processes
        that tick.
        """
        ticked = await refresh_due(self._hub.suspensions)
        await measure_queue(self._hub.suspensions.records)
        return as_outcome(ticked.map(Tick))

    async def append_log(self) -> Outcome[int]:
        """Add a leaf to the audit log for each suspension whose trail has grown; gives how many. Any number of
        processes may do so at a time. A hub with ``audit=False`` adds none.
        """
        suspensions = self._hub.suspensions
        return as_outcome(await append_to_log(suspensions))

    async def cleanup(
        self,
        criteria: Criteria = Criteria(),  # noqa: B008 - frozen
        *,
        dry_run: bool = False,
    ) -> Outcome[Cleanup]:
        """Delete closed suspensions whose retention is over, with their receipts. What changes meanwhile stays.

        The audit trail of each is kept for the hub's ``audit_retention``, durably before anything is deleted; trails
        whose time is over are deleted then. A suspension whose trail can't be read stays, and is logged.

        One that the audit log knows gets a leaf there before it is deleted, which says that its time was over.

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
        trails = await expired(self._hub.suspensions, criteria, dry_run=dry_run)
        if not isinstance(trails, Success):
            return Failure(trails.failure())
        if not dry_run:
            await self._sweep()
        return Success(Cleanup(deleted, dry_run, trails.unwrap()))

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
        over_now: list[Loaded[Head]] = []
        equals = {**where(_without_range(criteria)).equals, **stands}
        async for found in due_heads(self._hub.suspensions.records, equals):
            if not isinstance(found, Success):
                return Failure(found.failure())
            record = found.unwrap()
            over = purge_at(present(record.head, record.now))
            if "status" in stands and (over is None or over > record.now):
                # They stand in the order in which they expired.
                break
            if _is_over(record, criteria):
                over_now.append(record)
            if len(over_now) == REMOVED_TOGETHER:
                removed = await self._removed(over_now, dry_run=dry_run)
                if not isinstance(removed, Success):
                    return removed
                deleted += removed.unwrap()
                over_now.clear()
        removed = await self._removed(over_now, dry_run=dry_run)
        return removed.map(lambda last: deleted + last)

    async def _sweep(self) -> None:
        suspensions = self._hub.suspensions
        records = suspensions.records
        for sweep in (records.sweep, partial(suspensions.side_records.answers.sweep, records), records.sweep_pages):
            swept = await sweep()
            if isinstance(swept, Failure):
                # The suspensions are deleted all the same; the next round tries again.
                log.warning("what crashes have left in the store could not be removed yet: %s", swept.failure())

    async def health(self) -> Outcome[Health]:
        """How the store and what stands in it are, as data without secrets: reachability, clock, schema, counts by
        status and store, ages of what waits, sizes, seals, and warnings. Nothing is written.
        """
        return as_outcome(await health(self._hub))

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
        refused = no_dictionary(self._hub)
        if refused is not None:
            return Failure(refused)
        learned = await samples_of(self._hub.suspensions.records, criteria, most=samples, size=size)
        if not isinstance(learned, Success):
            return Failure(learned.failure())
        return as_outcome(await self._hub.dictionaries.train(learned.unwrap(), size=size))

    async def rekey(
        self, *, accept_plain: bool = False, on_progress: Callable[[RekeyProgress], object] | None = None
    ) -> Outcome[Rekeyed]:
        """Seal every record again that was not sealed with the primary key, while others read and change them.

        It can be ended at any moment and called again: what is sealed with the primary key is skipped. Records that
        can't be opened are counted, and stay as they are. Promote the key in every process before, since another one
        that still seals with the old key makes new records under it.

        - ``accept_plain``: also seal what is stored in plain text, though anybody may have written it.
        - ``on_progress``: called with a ``RekeyProgress`` after each page of at most 64 records.
        """
        check_flag(accept_plain, "accept_plain")
        check_optional(on_progress, "on_progress", check_callable)
        return as_outcome(await rekey(self._hub, accept_plain=accept_plain, told=on_progress))

    async def key_use(self) -> Outcome[KeyUse]:
        """Count the records that need each key, in every namespace of the hub. Reads all heads, and changes nothing."""
        return as_outcome(await key_use(self._hub))

    async def retire(self, kid: str, *, wait: timedelta = timedelta(seconds=10)) -> Outcome[KeyRing]:
        """Take a key out of this hub's keyring, and give the keyring without it; what only it opens is ``UnknownKey``.

        ``KeyInUse`` while records need it, ``ConfigurationError`` where it is the primary one or unknown. What verifies
        the audit entries of the key is kept in the store.

        - ``wait``: how long after the first count the records are counted again: a write that was under way when
          another key was promoted has ended by then.
        """
        check_str(kid, "kid")
        check_pause(wait, "wait")
        return as_outcome(await retire(self._hub, kid, wait))

    async def shred(self, tenant: str) -> Outcome[Shredded]:
        """Destroy the data keys of a tenant, so that nothing of it can be read any more, backups included. The audit
        trails of its suspensions are kept before, without what is personal in them.

        ``ConfigurationError`` where tenants have no keys of their own. Until it has succeeded, nothing is destroyed.

        - ``tenant``: whose.
        """
        check_text(tenant, "tenant")
        return as_outcome(await shred(self._hub, tenant))

    async def run_forever(
        self, interval: timedelta = timedelta(seconds=30), *, sinks: Iterable[AuditSink] = ()
    ) -> None:
        """Tick, deliver audit entries, append to the audit log and clean up suspensions and stores every ``interval``,
        until cancelled. A failure is logged, and the next round tries again.

        - ``interval``: the time between two rounds.
        - ``sinks``: each is given the audit entries as by ``deliver``. While one fails, no suspension is deleted.
        """
        check_duration(interval, "interval")
        check_items(sinks, "sinks", "AuditSinks")
        targets = [AuditDelivery(self._hub.suspensions, sink) for sink in sinks]
        while True:
            told = [self._well(await target.deliver(), interval) for target in targets]
            for verb in (self.tick, self.append_log, self.cleanup, self.cleanup_stores):
                if verb != self.cleanup or all(told):
                    done: Outcome[object] = await verb()
                    self._well(done, interval)
            await self._hub.runtime.sleep(interval.total_seconds())

    def _well(self, done: Result[object, PersistenceError], interval: timedelta) -> bool:
        if not isinstance(done, Failure):
            return True
        error, message = done.failure(), "maintenance failed, trying again in %s: %s"
        self._hub.suspensions.tracebacks.log(log, error, message, interval, error)
        return False

    async def _removed(self, records: Sequence[Loaded[Head]], *, dry_run: bool) -> Result[int, PersistenceError]:
        """Delete these suspensions, or count them."""
        if dry_run or not records:
            return Success(len(records))
        suspensions = self._hub.suspensions
        # Before anything is deleted: what is missing without a leaf was not deleted by its owner.
        told = await suspensions.side_records.log.add([one.head for one in records], purged=True)
        if not isinstance(told, Success):
            return told
        deleted = 0
        for record in records:
            removed = await suspensions.remove(record)
            if not isinstance(removed, Success):
                return Failure(removed.failure())
            deleted += removed.unwrap()
        return Success(deleted)


def _is_over(record: Loaded[Head], criteria: Criteria) -> bool:
    """Whether the retention of a suspension that fits the criteria is over."""
    head = present(record.head, record.now)
    purge = purge_at(head)
    # The sealed head decides: altered attributes must not get a live suspension deleted.
    over = purge is not None and purge <= record.now
    return over and head.lease_until is None and matches(criteria, head)


def _without_range(criteria: Criteria) -> Criteria:
    return evolve(criteria, created_after=None, created_before=None, due_before=None)
