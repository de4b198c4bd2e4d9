"""Refusing unknown keys takes as much work as refusing a wrong secret.

Ids that are derived from idempotency keys can be guessed. Whoever tries one with a secret of their own must not learn
from the time whether a suspension of that id exists: so for an id that is not there a head is opened all the same, and
its receipts are asked for.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from returns.result import Failure, Success

from flowpersist.backends.base import Record
from flowpersist.errors import PersistenceError, StorageError
from flowpersist.hub.side_records import SideRecords
from flowpersist.inputs.await_input import AwaitInput
from flowpersist.keys.suspension_key import SECRET_BYTES, SuspensionId, SuspensionKey
from flowpersist.lifecycle.indexing import attributes_of
from flowpersist.lifecycle.model import Head, Status, WaitState, find, secret_digest
from flowpersist.lifecycle.refusals import not_found
from flowpersist.sealed.drafts import Draft
from flowpersist.sealed.envelope import Sealer
from flowpersist.sealed.records import SealedRecords

__all__ = ["UnknownKeys"]


class UnknownKeys:
    """Refuses keys of suspensions that do not exist."""

    def __init__(self, records: SealedRecords[Head], side_records: SideRecords) -> None:
        self._records = records
        self._side_records = side_records
        self._made: tuple[Sealer, Record] | None = None

    async def refuse(self, key: SuspensionKey | SuspensionId, now: datetime) -> PersistenceError:
        """The error for the holder of this key, after the work that a wrong secret takes; of an id, which code of this
        process has, at once.
        """
        if isinstance(key, SuspensionId):
            return not_found(key)
        self.work(key, now)
        receipt = await self._side_records.receipt(key.id, now, secret_digest(key.secret))
        failed = isinstance(receipt, Failure) and isinstance(receipt.failure(), StorageError)
        return receipt.failure() if failed else not_found(key)

    def work(self, key: SuspensionKey, now: datetime) -> None:
        """What opening a head and comparing its secrets takes."""
        record = self._stand_in(key, now)
        opened = None if record is None else self._records.loaded(record, now)
        if isinstance(opened, Success):
            find(opened.unwrap().head, key)

    def _stand_in(self, key: SuspensionKey, now: datetime) -> Record | None:
        """The record of a typical head, sealed once for each sealer, and never stored."""
        sealer = self._records.sealer
        if self._made is None or self._made[0] is not sealer:
            head = _usual(key, self._records.runtime.entropy(SECRET_BYTES), now)
            sealed = self._records.sealed(Draft(head, attributes_of(head), None), now)
            if not isinstance(sealed, Success):
                return None
            self._made = (sealer, sealed.unwrap())
        return self._made[1]


def _usual(key: SuspensionKey, secret: bytes, now: datetime) -> Head:
    awaiting = AwaitInput[bool](id="answer", prompt="Is that right?", schema=bool)
    return Head(
        id=key.id,
        tenant=None,
        metadata={},
        created_at=now,
        updated_at=now,
        retention=timedelta(days=7),
        status=Status.WAITING,
        until="all",
        waits=(WaitState("answer", secret, 1, awaiting.to_data(), None),),
    )
