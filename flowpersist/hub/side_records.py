"""The further records of a suspension: old receipts, old audit entries, large answers and pages of waits, which do not
fit in its head, its log and its events. Beside them stands the audit log, which belongs to no single one.

Receipts, entries, answers and pages are written before the head that refers to them, sealed with the control subkey as
the head is, and removed with the suspension. So a crash can leave a record that no head refers to, but never a head
that refers to a missing record.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from attrs import frozen
from returns.result import Failure, Result, Success

from flowpersist.backends.base import NamespaceSchema, Put, Range, StorageBackend, Where
from flowpersist.errors import PersistenceError, RevisionConflict, StorageError, TamperedEnvelope
from flowpersist.hub.audit_log import AuditLog, log_schemas
from flowpersist.hub.audit_trail import AuditTrail
from flowpersist.hub.event_log import EventLog
from flowpersist.hub.large_answers import LargeAnswers
from flowpersist.hub.paged_heads import waits_of
from flowpersist.hub.purged_trails import MOST_KEYS, trails_schema
from flowpersist.hub.step_log import StepLog
from flowpersist.keys.suspension_key import SuspensionId
from flowpersist.lifecycle.log_records import LogHead, LogPlace, LogTile
from flowpersist.lifecycle.model import (
    MAX_RECEIPTS,
    Head,
    LargeAnswer,
    LoggedEvents,
    LoggedSteps,
    MovedEntries,
    MovedReceipt,
    PartOfHead,
    WaitPage,
    WaitReceipt,
    replace,
)
from flowpersist.sealed.catalogue import purge_all
from flowpersist.sealed.drafts import Draft, Loaded
from flowpersist.sealed.records import SealedRecords
from flowpersist.sealed.retrying import Runtime
from flowpersist.sealed.walking import stored_pages

__all__ = ["SideRecords", "answers_of", "entries_of", "events_of", "receipts_of", "side_schemas", "steps_of"]

log = logging.getLogger("flowpersist.hub")
PAGE: Final = 200
#: So many receipts leave a head in one put.
MOVED_AT_ONCE: Final = 200
_PER_SUSPENSION: Mapping[str, type[str]] = {"suspension": str}


def receipts_of(namespace: str) -> str:
    """Where the receipts of a namespace are."""
    return f"{namespace}.receipts"


def answers_of(namespace: str) -> str:
    """Where the large answers of a namespace are."""
    return f"{namespace}.answers"


def steps_of(namespace: str) -> str:
    """Where the logs of a namespace are."""
    return f"{namespace}.steps"


def entries_of(namespace: str) -> str:
    """Where the audit entries of a namespace are that have left their heads."""
    return f"{namespace}.audit"


def events_of(namespace: str) -> str:
    """Where the events of the runs of a namespace are."""
    return f"{namespace}.events"


def side_schemas(namespace: str) -> list[NamespaceSchema]:
    """The namespaces of these records, for the suspensions of one namespace."""
    beside = [NamespaceSchema(name, _PER_SUSPENSION) for name in _names(namespace)]
    return [*beside, *log_schemas(namespace), trails_schema(namespace)]


def _names(namespace: str) -> tuple[str, ...]:
    return tuple(of(namespace) for of in (receipts_of, answers_of, steps_of, entries_of, events_of, waits_of))


@frozen
class SideRecords:
    """What stands beside the suspensions of a namespace: of all kinds, and the audit log."""

    receipts: SealedRecords[MovedReceipt]
    answers: LargeAnswers
    steps: StepLog
    trail: AuditTrail
    events: EventLog
    pages: SealedRecords[WaitPage]
    log: AuditLog

    def within(self, joined: StorageBackend, runtime: Runtime) -> SideRecords:
        """The same records in a transaction, by the backend that has joined it."""
        return SideRecords(
            self.receipts.within(joined, runtime),
            LargeAnswers(self.answers.records.within(joined, runtime)),
            StepLog(self.steps.records.within(joined, runtime)),
            self.trail.within(joined, runtime),
            EventLog(self.events.records.within(joined, runtime)),
            self.pages.within(joined, runtime),
            # No verb appends to it.
            self.log,
        )

    @property
    def records(
        self,
    ) -> tuple[
        SealedRecords[MovedReceipt],
        SealedRecords[LargeAnswer],
        SealedRecords[LoggedSteps],
        SealedRecords[MovedEntries],
        SealedRecords[LoggedEvents],
        SealedRecords[WaitPage],
        SealedRecords[LogHead],
        SealedRecords[LogTile],
        SealedRecords[LogPlace],
    ]:
        """The records of all kinds."""
        return (*self._of_one, *self.log.records)

    @property
    def _of_one(
        self,
    ) -> tuple[
        SealedRecords[MovedReceipt],
        SealedRecords[LargeAnswer],
        SealedRecords[LoggedSteps],
        SealedRecords[MovedEntries],
        SealedRecords[LoggedEvents],
        SealedRecords[WaitPage],
    ]:
        """The records that each belong to one suspension."""
        every = self.receipts, self.answers.records, self.steps.records, self.trail.records, self.events.records
        return *every, self.pages

    async def keep(self, head: Head, receipts: Sequence[WaitReceipt]) -> Result[None, PersistenceError]:
        """Store receipts that are about to leave their head."""
        attributes = {"suspension": str(head.id), "tenant": head.tenant}
        failed = await self.receipts.ready(attributes)
        if failed is not None:
            return Failure(failed)
        for start in range(0, len(receipts), PAGE):
            puts: list[Put] = []
            for receipt in receipts[start : start + PAGE]:
                draft: Draft[MovedReceipt] = Draft(MovedReceipt(receipt, head.created_at), attributes, None)
                put = self.receipts.sealed_put(receipt_key(head.id, receipt.digest), draft, 0)
                if not isinstance(put, Success):
                    return Failure(put.failure())
                puts.append(put.unwrap())
            for written in await self.receipts.put_all(puts):
                # A conflict is the same receipt, written by an earlier attempt.
                if isinstance(written, PersistenceError) and not isinstance(written, RevisionConflict):
                    return Failure(written)
        return Success(None)

    async def moved(self, head: Head, durable: int) -> Result[Head, PersistenceError]:
        """Move the oldest receipts to records of their own, before the head without them is written.

        Only receipts that are in the ``durable`` head are moved, since this put may fail, and of very many only as
        many as it adds, so that nobody's verb takes long for what earlier ones did. Those on the pages of a part stay.
        """
        beside = head.beside if isinstance(head, PartOfHead) else 0
        own, stood = head.receipts[beside:], durable - beside
        over = own[: min(stood, max(MOVED_AT_ONCE, len(own) - stood), max(0, len(own) - MAX_RECEIPTS))]
        if not over:
            return Success(head)
        kept = await self.keep(head, over)
        if not isinstance(kept, Success):
            return Failure(kept.failure())
        moved = head.moved_receipts + len(over)
        left = (*head.receipts[:beside], *own[len(over) :])
        return Success(replace(head, receipts=left, moved_receipts=moved))

    async def receipt(
        self, suspension: SuspensionId, suspension_created_at: datetime, digest: bytes
    ) -> Result[WaitReceipt | None, PersistenceError]:
        """The receipt of a suspension, made at that time, for the key whose secret has that digest."""
        read = await self.receipts.read(receipt_key(suspension, digest))
        if not isinstance(read, Success):
            return Failure(read.failure())
        found = read.unwrap().record
        if found is None:
            return Success(None)
        if found.head.suspension_created_at != suspension_created_at:
            message = f"a receipt of suspension {suspension} belongs to an earlier suspension with that id: delete it"
            return Failure(TamperedEnvelope(message))
        return Success(found.head.receipt)

    async def keep_trail(self, loaded: Loaded[Head]) -> Result[bool, PersistenceError]:
        """Keep the audit trail of a suspension that is about to be deleted, if trails are kept; False where it can't be
        read, so that the suspension has to stay.
        """
        head, purged = loaded.head, self.trail.purged
        if not head.trail.count or not purged.kept:
            return Success(True)
        links = await self.trail.links(head)
        moved = await self._moved(head) if isinstance(links, Success) else Success(())
        kept: Result[None, PersistenceError]
        if isinstance(links, Success) and isinstance(moved, Success):
            kept = await purged.keep(head, links.unwrap(), moved.unwrap(), loaded.now)
        else:
            kept = Failure(next(one.failure() for one in (links, moved) if isinstance(one, Failure)))
        if isinstance(kept, Success) or isinstance(kept.failure(), StorageError):
            return kept.map(lambda _: True)
        if head.removing:
            # An earlier removal has kept it, or was not to, and may have deleted the links since.
            return Success(True)
        what = "its audit trail can't be kept: restore it from a backup, or clean up with audit_retention=timedelta(0)"
        log.error("suspension %s is not deleted, since %s: %s", head.id, what, kept.failure())
        return Success(False)

    async def _moved(self, head: Head) -> Result[tuple[bytes, ...], PersistenceError]:
        """The digests of the secrets whose receipts have left the head. They stand in the keys of the records."""
        digests: list[bytes] = []
        if not head.moved_receipts:
            return Success(())
        async for listed in stored_pages(self.receipts, Where(range=Range("key", prefix=f"{head.id}/")), limit=PAGE):
            if not isinstance(listed, Success):
                return Failure(listed.failure())
            digests += [bytes.fromhex(record.ref.key.partition("/")[2]) for record in listed.unwrap().items]
            if len(digests) >= MOST_KEYS:
                break
        return Success(tuple(digests))

    async def remove(self, suspension: SuspensionId) -> Result[None, PersistenceError]:
        """Delete all that belongs to a suspension alone."""
        for records in self._of_one:
            purged = await purge_all(records, Where({"suspension": str(suspension)}))
            if isinstance(purged, Failure):
                return Failure(purged.failure())
        return Success(None)


def receipt_key(suspension: SuspensionId, digest: bytes) -> str:
    """The key of a receipt's record: it can be computed from the secret, and does not reveal it."""
    return f"{suspension}/{digest.hex()}"
