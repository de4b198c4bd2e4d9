"""The further records of a suspension: old receipts, old audit entries and large answers, which do not fit in its head,
its log and its events.

Receipts, entries and answers are written before the head that refers to them, sealed with the control subkey as the
head is, and removed with the suspension. So a crash can leave a record that no head refers to, but never a head that
refers to a missing record.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from attrs import frozen
from returns.result import Failure, Result, Success

from flowpersist.backends.base import NamespaceSchema, Where
from flowpersist.errors import PersistenceError, RevisionConflict, TamperedEnvelope
from flowpersist.hub.audit_trail import AuditTrail
from flowpersist.hub.event_log import EventLog
from flowpersist.hub.large_answers import LargeAnswers
from flowpersist.hub.step_log import StepLog
from flowpersist.keys.suspension_key import SuspensionId
from flowpersist.lifecycle.model import (
    Head,
    LargeAnswer,
    LoggedEvents,
    LoggedSteps,
    MovedEntries,
    MovedReceipt,
    WaitReceipt,
)
from flowpersist.sealed.catalogue import purge_all
from flowpersist.sealed.drafts import Draft
from flowpersist.sealed.records import SealedRecords

__all__ = ["SideRecords", "answers_of", "entries_of", "events_of", "receipts_of", "side_schemas", "steps_of"]

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
    return [NamespaceSchema(name, _PER_SUSPENSION) for name in _names(namespace)]


def _names(namespace: str) -> tuple[str, ...]:
    return tuple(of(namespace) for of in (receipts_of, answers_of, steps_of, entries_of, events_of))


@frozen
class SideRecords:
    """The receipts, large answers, logs, audit trails and events of all suspensions of a namespace."""

    receipts: SealedRecords[MovedReceipt]
    answers: LargeAnswers
    steps: StepLog
    trail: AuditTrail
    events: EventLog

    @property
    def records(
        self,
    ) -> tuple[
        SealedRecords[MovedReceipt],
        SealedRecords[LargeAnswer],
        SealedRecords[LoggedSteps],
        SealedRecords[MovedEntries],
        SealedRecords[LoggedEvents],
    ]:
        """The records of all kinds."""
        return self.receipts, self.answers.records, self.steps.records, self.trail.records, self.events.records

    async def keep(self, head: Head, receipts: Sequence[WaitReceipt]) -> Result[None, PersistenceError]:
        """Store receipts that are about to leave their head."""
        for receipt in receipts:
            draft = Draft(
                head=MovedReceipt(receipt, head.created_at),
                attributes={"suspension": str(head.id), "tenant": head.tenant},
                due_at=None,
            )
            written = await self.receipts.put(receipt_key(head.id, receipt.digest), draft, revision=0)
            # A conflict is the same receipt, written by an earlier attempt.
            if isinstance(written, Failure) and not isinstance(written.failure(), RevisionConflict):
                return Failure(written.failure())
        return Success(None)

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

    async def remove(self, suspension: SuspensionId) -> Result[None, PersistenceError]:
        """Delete all that belongs to a suspension."""
        for records in self.records:
            purged = await purge_all(records, Where({"suspension": str(suspension)}))
            if isinstance(purged, Failure):
                return Failure(purged.failure())
        return Success(None)


def receipt_key(suspension: SuspensionId, digest: bytes) -> str:
    """The key of a receipt's record: it can be computed from the secret, and does not reveal it."""
    return f"{suspension}/{digest.hex()}"
