"""The log of a claimed run: what has come of it since its state was stored, in records beside the run's own.

A record is made once, under a key of the run's id, the sequence, the holder's fence and a number, so that appending is
one put whose cost does not depend on how many there are. A log belongs to the state of its sequence: once a pause, a
checkpoint or the end has stored another state, nobody reads it any more. A holder that takes a run over reads the log
and stores what it says in a checkpoint before it appends anything. So where holders of several fences have logs in one
sequence, the last of them found none, and that of a holder that lost its lease later can't mix with it.
"""

from __future__ import annotations

from typing import Any

from attrs import frozen
from returns.result import Failure, Result, Success

from flowpersist.backends.base import Range, Where
from flowpersist.errors import PersistenceError, RevisionConflict
from flowpersist.keys.suspension_key import SuspensionId
from flowpersist.lifecycle.model import LoggedSteps
from flowpersist.lifecycle.views import Resumption, Suspension
from flowpersist.sealed.catalogue import purge_all
from flowpersist.sealed.drafts import Draft, Loaded
from flowpersist.sealed.records import SealedRecords
from flowpersist.sealed.walking import pages

__all__ = ["StepLog"]

_PAGE = 200


@frozen
class StepLog:
    """The logs of the runs of a namespace. What is appended is sealed as a state is."""

    records: SealedRecords[LoggedSteps]

    async def append(self, run: Resumption[Any], number: int, value: object) -> Result[None, PersistenceError]:
        """Make the record of that number, the first one 1. A repeat with the same value is a success."""
        key = f"{_prefix(run.suspension.id, run.sequence)}{run.fence:010}/{number:010}"
        tenant = run.suspension.tenant
        sealed = await self.records.seal_body(key, tenant, value, purpose="state")
        if not isinstance(sealed, Success):
            return Failure(sealed.failure())
        draft = Draft(
            head=LoggedSteps(run.fence, number, run.suspension.created_at),
            attributes={"suspension": str(run.suspension.id), "tenant": tenant},
            due_at=None,
            body=sealed.unwrap(),
        )
        written = await self.records.put(key, draft, revision=0)
        # Nobody else has this fence, so what is there is an earlier attempt of the same call.
        if isinstance(written, Failure) and not isinstance(written.failure(), RevisionConflict):
            return Failure(written.failure())
        return Success(None)

    async def read(
        self, suspension: Suspension, *, before: int | None = None
    ) -> Result[list[object], PersistenceError]:
        """What has been appended to the log of the suspension's state, in order. ``before``: by earlier holders than
        that of this fence.
        """
        found: list[Loaded[LoggedSteps]] = []
        where = Where(range=Range("key", prefix=_prefix(suspension.id, suspension.sequence)))
        async for listed in pages(self.records, where, limit=_PAGE, bodies=True, whole=True):
            if not isinstance(listed, Success):
                return Failure(listed.failure())
            found += [one for one in listed.unwrap().items if one.head.suspension_created_at == suspension.created_at]
        return await self._opened([one for one in found if before is None or one.head.fence < before])

    async def _opened(self, found: list[Loaded[LoggedSteps]]) -> Result[list[object], PersistenceError]:
        last = max((one.head.fence for one in found), default=0)
        values: list[object] = []
        for one in sorted((one for one in found if one.head.fence == last), key=lambda one: one.head.number):
            if one.head.number != len(values) + 1:
                break
            opened = await self.records.open_body(one, purpose="state")
            if not isinstance(opened, Success):
                return Failure(opened.failure())
            values.append(opened.unwrap())
        return Success(values)

    async def forget(self, suspension: SuspensionId, sequence: int) -> Result[int, PersistenceError]:
        """Remove the logs of a run up to that sequence; gives how many records."""
        where = Where(range=Range("key", since=f"{suspension}/", before=_prefix(suspension, sequence + 1)))
        return await purge_all(self.records, where)


def _prefix(suspension: SuspensionId, sequence: int) -> str:
    return f"{suspension}/{sequence:010}/"
