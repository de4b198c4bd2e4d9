"""The upkeep of the trails of purged suspensions: which there are, and deleting those whose own retention is over."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Final

from returns.result import Failure, Result, Success

from flowpersist.backends.base import Where
from flowpersist.errors import PersistenceError, RevisionConflict
from flowpersist.hub.audit_log import AuditLog
from flowpersist.hub.due import due_heads
from flowpersist.hub.purged_trails import PurgedTrail, head_of, made_at
from flowpersist.hub.transactions import Suspensions
from flowpersist.lifecycle.criteria import Criteria
from flowpersist.lifecycle.indexing import matches
from flowpersist.lifecycle.model import Head
from flowpersist.sealed.drafts import Loaded
from flowpersist.sealed.walking import pages

__all__ = ["expired", "is_gone", "logged", "purged_heads", "purged_records"]

_PAGE: Final = 100


async def purged_records(
    suspensions: Suspensions, where: Where | None = None, *, standing: bool = False
) -> AsyncGenerator[Result[Loaded[PurgedTrail], PersistenceError], None]:
    """The trails whose suspensions are deleted, without their bodies; ends at the first failure.

    One that was kept for a removal that deleted nothing still has its suspension, and is left out but with
    ``standing``.
    """
    records = suspensions.side_records.trail.purged.records
    async for listed in pages(records, Where() if where is None else where, limit=_PAGE):
        if not isinstance(listed, Success):
            yield Failure(listed.failure())
            return
        items = list(listed.unwrap().items)
        gone = Success(items) if standing else await _gone(suspensions, items)
        if not isinstance(gone, Success):
            yield Failure(gone.failure())
            return
        for record in gone.unwrap():
            yield Success(record)


async def purged_heads(
    suspensions: Suspensions,
) -> AsyncGenerator[Result[Head, PersistenceError], None]:
    """The heads of the same, reduced to their trails."""
    async for found in purged_records(suspensions):
        yield found.map(head_of)


async def _gone(
    suspensions: Suspensions, trails: Sequence[Loaded[PurgedTrail]]
) -> Result[list[Loaded[PurgedTrail]], PersistenceError]:
    """Those of them whose suspensions do not stand any more, or are being deleted."""
    read = await suspensions.records.read_many([str(one.head.id) for one in trails])
    if not isinstance(read, Success):
        return Failure(read.failure())
    gone: list[Loaded[PurgedTrail]] = []
    for record, found in zip(trails, read.unwrap(), strict=True):
        stands = found.unwrap().record if isinstance(found, Success) else None
        # One that can't be opened is a later suspension of that id, or this one: that its trail is kept then does no
        # harm, and an export is not to name it twice.
        over = stands is None or stands.head.removing or made_at(stands.head) != made_at(head_of(record))
        if isinstance(found, Success) and over:
            gone.append(record)
    return Success(gone)


async def logged(log: AuditLog, head: Head) -> Result[Head, PersistenceError]:
    """The head of a deleted suspension, whose trail has its leaves in the log then.

    What the log never had gets one as it stood and then that of the removal: there is none of a removal alone.
    """
    for is_purged in (False, True):
        added = await log.add([head], purged=is_purged)
        if not isinstance(added, Success):
            return Failure(added.failure())
    return Success(head)


async def is_gone(suspensions: Suspensions, trail: Loaded[PurgedTrail]) -> Result[bool, PersistenceError]:
    """Whether the suspension of a trail is deleted."""
    return (await _gone(suspensions, [trail])).map(bool)


async def expired(suspensions: Suspensions, criteria: Criteria, *, dry_run: bool) -> Result[int, PersistenceError]:
    """Delete the trails whose own retention is over, and that fit the criteria; gives how many."""
    deleted = 0
    async for found in due_heads(suspensions.side_records.trail.purged.records, {}):
        if not isinstance(found, Success):
            return Failure(found.failure())
        record = found.unwrap()
        gone = await is_gone(suspensions, record) if _is_over(record, criteria) else Success(False)
        if not isinstance(gone, Success):
            return Failure(gone.failure())
        if not gone.unwrap():
            continue
        removed = Success(True) if dry_run else await _deleted(suspensions, record)
        if not isinstance(removed, Success):
            return Failure(removed.failure())
        deleted += removed.unwrap()
    return Success(deleted)


def _is_over(record: Loaded[PurgedTrail], criteria: Criteria) -> bool:
    # The sealed head decides, as it does of suspensions.
    until = record.head.keep_until
    return until is not None and until <= record.now and matches(criteria, head_of(record))


async def _deleted(suspensions: Suspensions, record: Loaded[PurgedTrail]) -> Result[bool, PersistenceError]:
    """Delete a trail; False if somebody else deleted or changed it."""
    side = suspensions.side_records
    # What the log has of it must end with the leaf of a removal, also where a proof has added another one since.
    told = await side.log.add([head_of(record)], purged=True)
    if not isinstance(told, Success):
        return Failure(told.failure())
    removed = await side.trail.purged.records.delete(record.ref.key, revision=record.revision)
    if isinstance(removed, Failure) and isinstance(removed.failure(), RevisionConflict):
        return Success(False)
    return removed
