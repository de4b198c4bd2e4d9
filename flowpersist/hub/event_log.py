"""The events of a run: batches of them, each in a record of its own beside the run.

The key of a batch is the run's id and the number of its first event, and a batch is made at revision 0 and never
changed. So of two writers of the same number one wins, what somebody has read stays as it was, and no number is left
out: whoever finds a batch where its own was to stand goes on after that one, unless the other has claimed the run
later.
"""

from __future__ import annotations

from typing import Any, Final

from attrs import field, frozen
from returns.result import Failure, Result, Success

from flowpersist.backends.base import Range, Where
from flowpersist.errors import IntegrityError, LeaseLost, PersistenceError, RevisionConflict
from flowpersist.keys.suspension_key import SuspensionId
from flowpersist.lifecycle.model import LoggedEvents
from flowpersist.lifecycle.views import Resumption, Suspension
from flowpersist.sealed.drafts import Draft, Loaded
from flowpersist.sealed.records import SealedRecords

__all__ = ["Batch", "EventLog"]

_PAGE: Final = 20


@frozen
class Batch:
    """Events that were stored together: the number of the first one, and what was stored of them."""

    first: int
    count: int
    value: object = field(repr=False)


@frozen
class EventLog:
    """The events of the runs of a namespace. What is stored is sealed as a state is."""

    records: SealedRecords[LoggedEvents]

    async def append(
        self, run: Resumption[Any], first: int, count: int, value: object
    ) -> Result[int | None, PersistenceError]:
        """Store a batch. Gives None once it is stored; else the number after the batch that an earlier holder stored
        there. ``LeaseLost`` where a later holder did. A repeat is a success.
        """
        key, tenant = _key(run.suspension.id, first), run.suspension.tenant
        sealed = await self.records.seal_body(key, tenant, value, purpose="state")
        if not isinstance(sealed, Success):
            return Failure(sealed.failure())
        draft = Draft(
            head=LoggedEvents(run.fence, first, count, run.suspension.created_at),
            attributes={"suspension": str(run.suspension.id), "tenant": tenant},
            due_at=None,
            body=sealed.unwrap(),
        )
        written = await self.records.put(key, draft, revision=0)
        if not isinstance(written, Failure):
            return Success(None)
        if not isinstance(written.failure(), RevisionConflict):
            return Failure(written.failure())
        return await self._there(run, key)

    async def _there(self, run: Resumption[Any], key: str) -> Result[int | None, PersistenceError]:
        read = await self.records.read(key)
        if not isinstance(read, Success):
            return Failure(read.failure())
        found = read.unwrap().record
        if found is None or found.head.suspension_created_at != run.suspension.created_at:
            return Failure(_damaged(run.suspension.id))
        if found.head.fence > run.fence:
            return Failure(
                LeaseLost(f"run {run.suspension.id} was claimed by another process: stop, and claim it again")
            )
        # Nobody else has this fence, so what is there is an earlier attempt of the same call.
        return Success(None if found.head.fence == run.fence else found.head.first + found.head.count)

    async def end(self, suspension: Suspension) -> Result[int, PersistenceError]:
        """The number of the last event; 0 if there is none."""
        last = await self._last(suspension, None)
        return last.map(lambda one: 0 if one is None else one.head.first + one.head.count - 1)

    async def begin(self, suspension: Suspension, number: int) -> Result[int, PersistenceError]:
        """The number of the first event in the batch that has this one, or in the one before where it isn't stored."""
        last = await self._last(suspension, number + 1)
        return last.map(lambda one: 1 if one is None else one.head.first)

    async def _last(
        self, suspension: Suspension, before: int | None
    ) -> Result[Loaded[LoggedEvents] | None, PersistenceError]:
        end = f"{suspension.id}/:" if before is None else _key(suspension.id, before)
        where = Where(range=Range("key", since=f"{suspension.id}/", before=end))
        listed = await self.records.page(where, limit=1, descending=True)
        if not isinstance(listed, Success):
            return Failure(listed.failure())
        page = listed.unwrap()
        if page.unreadable:
            return Failure(page.unreadable[0].error)
        own = [one for one in page.items if one.head.suspension_created_at == suspension.created_at]
        return Success(own[0] if own else None)

    async def read(self, suspension: Suspension, first: int) -> Result[list[Batch], PersistenceError]:
        """Some of the batches from the one whose first event has this number, in order; none if it isn't stored yet.

        ``IntegrityError`` where one is missing or damaged, once those before it were given.
        """
        where = Where(range=Range("key", since=_key(suspension.id, first), before=f"{suspension.id}/:"))
        listed = await self.records.page(where, limit=_PAGE, bodies=True)
        if not isinstance(listed, Success):
            return Failure(listed.failure())
        page = listed.unwrap()
        batches: list[Batch] = []
        for one in page.items:
            if one.head.first != first or one.head.suspension_created_at != suspension.created_at:
                # What can't be read is left out of the page.
                error = page.unreadable[0].error if page.unreadable else _damaged(suspension.id)
                return Success(batches) if batches else Failure(error)
            opened = await self.records.open_body(one, purpose="state")
            if not isinstance(opened, Success):
                return Success(batches) if batches else Failure(opened.failure())
            batches.append(Batch(first, one.head.count, opened.unwrap()))
            first += one.head.count
        return Failure(page.unreadable[0].error) if page.unreadable and not batches else Success(batches)


def _damaged(suspension: SuspensionId) -> IntegrityError:
    return IntegrityError(
        f"events of run {suspension} are missing, or belong to another run: restore their records from a backup"
    )


def _key(suspension: SuspensionId, first: int) -> str:
    return f"{suspension}/{first:012}"
