"""What stands beside a suspension's record, since its head has no room for it: receipts of waits of long ago, and large
answers.

It is written before the head that counts on it, sealed for control as the head is, and removed with the suspension. So
a crash in between leaves something that no head names, and never a head that names what is not there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from attrs import frozen
from returns.result import Failure, Result, Success

from flowpersist.backends.base import NamespaceSchema, Where
from flowpersist.errors import PersistenceError, RevisionConflict, TamperedEnvelope
from flowpersist.hub.large_answers import LargeAnswers
from flowpersist.keys.suspension_key import SuspensionId
from flowpersist.lifecycle.model import Head, Kept, MovedReceipt, WaitReceipt
from flowpersist.sealed.drafts import Draft
from flowpersist.sealed.records import SealedRecords

__all__ = ["Beside", "answers_of", "beside_schema", "receipts_of"]

PURGED_AT_ONCE = 500
_PER_SUSPENSION: Mapping[str, type[str]] = {"suspension": str}


def receipts_of(namespace: str) -> str:
    """Where the receipts of a namespace are."""
    return f"{namespace}.receipts"


def answers_of(namespace: str) -> str:
    """Where the large answers of a namespace are."""
    return f"{namespace}.answers"


def beside_schema(namespace: str) -> list[NamespaceSchema]:
    """The namespaces of what stands beside the suspensions of one."""
    return [NamespaceSchema(name, _PER_SUSPENSION) for name in (receipts_of(namespace), answers_of(namespace))]


@frozen
class Beside:
    """The records beside those of suspensions."""

    receipts: SealedRecords[MovedReceipt]
    answers: LargeAnswers

    @property
    def records(self) -> tuple[SealedRecords[MovedReceipt], SealedRecords[Kept]]:
        """Those of every kind."""
        return self.receipts, self.answers.records

    async def keep(self, head: Head, receipts: Sequence[WaitReceipt]) -> Result[None, PersistenceError]:
        """Make receipts durable that are about to leave their head."""
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
            purged: Result[int, PersistenceError] = Success(1)
            while purged.value_or(0):
                purged = await records.purge(Where({"suspension": str(suspension)}), limit=PURGED_AT_ONCE)
            if isinstance(purged, Failure):
                return Failure(purged.failure())
        return Success(None)


def receipt_key(suspension: SuspensionId, digest: bytes) -> str:
    """Where a receipt stands: found by the key's secret, and telling nothing of it."""
    return f"{suspension}/{digest.hex()}"
