"""What a scrub finds of the records that belong together: a suspension and what it names, and what stands beside it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from returns.result import Failure, Result, Success

from flowpersist.backends.base import Range, Record, RecordChange, Where
from flowpersist.errors import IntegrityError, PersistenceError, StorageError
from flowpersist.hub.base import HubBase
from flowpersist.hub.large_answers import answer_key, names_in
from flowpersist.hub.paged_heads import pages_named
from flowpersist.hub.purged_trails import PurgedTrail, head_of
from flowpersist.hub.sweeping import GRACE, name_in
from flowpersist.hub.troubles import Trouble
from flowpersist.lifecycle.model import Head, LargeAnswer, WaitPage
from flowpersist.sealed.drafts import Loaded
from flowpersist.sealed.raw import RawRecords
from flowpersist.sealed.walking import stored_pages

__all__ = ["related"]

PAGE: Final = 100


async def related(
    hub: HubBase, record: Loaded[Any], owners: Mapping[str, Head | PersistenceError | None] | None
) -> Result[list[Trouble], PersistenceError]:
    """What is wrong with what a suspension names, or with what stands beside one."""
    if isinstance(record.head, Head):
        return await _named(hub, record, record.head)
    if isinstance(record.head, PurgedTrail):
        return await _trail(hub, head_of(record))
    if owners is None:
        return Success([])
    owner = owners.get(record.ref.key.partition("/")[0])
    if isinstance(owner, PersistenceError):
        return Success([])
    return Success(_orphan(record, owner))


async def _named(hub: HubBase, record: Loaded[Head], head: Head) -> Result[list[Trouble], PersistenceError]:
    if head.removing:
        return Success([])
    missing: list[Trouble] = []
    for look in (_answers, _moved_receipts, _trail):
        found = await look(hub, head)
        if not isinstance(found, Success):
            return Failure(found.failure())
        missing += found.unwrap()
    # What a cleanup removes meanwhile goes before its head, which says so.
    return Success([] if missing and await _gone(hub, record) else missing)


async def _answers(hub: HubBase, head: Head) -> Result[list[Trouble], PersistenceError]:
    keys = [answer_key(head.id, name) for name in sorted(names_in(head))]
    read = await hub.suspensions.side_records.answers.records.read_many(keys)
    if not isinstance(read, Success):
        return Failure(read.failure())
    gone = sum(isinstance(one, Success) and one.unwrap().record is None for one in read.unwrap())
    return Success([Trouble("missing", IntegrityError.code, f"the records of {gone} answers are gone")] if gone else [])


async def _moved_receipts(hub: HubBase, head: Head) -> Result[list[Trouble], PersistenceError]:
    if not head.moved_receipts:
        return Success([])
    counted = await _receipts(hub, head)
    gone = counted.map(lambda count: head.moved_receipts - count)
    return gone.map(lambda count: [Trouble("missing", None, f"{count} moved receipts are gone")] if count > 0 else [])


async def _trail(hub: HubBase, head: Head) -> Result[list[Trouble], PersistenceError]:
    if not head.trail.count:
        return Success([])
    trail = await hub.suspensions.side_records.trail.verified(head)
    error = trail.failure() if isinstance(trail, Failure) else None
    if isinstance(error, StorageError):
        return Failure(error)
    return Success([] if error is None else [Trouble("trail", error.code, error.message)])


async def _receipts(hub: HubBase, head: Head) -> Result[int, PersistenceError]:
    records = hub.suspensions.side_records.receipts
    count = 0
    async for listed in stored_pages(records, Where(range=Range("key", prefix=f"{head.id}/")), limit=PAGE):
        if not isinstance(listed, Success):
            return Failure(listed.failure())
        count += len(listed.unwrap().items) + len(listed.unwrap().unreadable)
    return Success(count)


async def _gone(hub: HubBase, record: Loaded[Head]) -> bool:
    read = await hub.suspensions.records.read(record.ref.key)
    now = read.unwrap().record if isinstance(read, Success) else None
    return now is None or now.head.removing or now.head.created_at != record.head.created_at


def _orphan(record: Loaded[Any], owner: Head | None) -> list[Trouble]:
    head = record.head

    async def delete(raw: RawRecords, seen: Record) -> Result[object, PersistenceError]:
        return await raw.delete(seen.ref, if_revision=seen.revision)

    async def arm(raw: RawRecords, seen: Record) -> Result[object, PersistenceError]:
        # Somebody may be reading it: the sweep removes it after the grace, unless a head names it by then.
        armed = RecordChange(raw.write_id(), due_at=record.now + GRACE)
        return await raw.put(seen.ref, armed, if_revision=seen.revision)

    if isinstance(head, WaitPage) and record.due_at is not None:
        # It may be about to be named, also by the first head of its suspension. The sweep comes to it.
        return []
    if owner is None:
        return [Trouble("orphan", None, "no suspension has it any more", delete)]
    made = getattr(head, "suspension_created_at", owner.created_at)
    if made != owner.created_at:
        return [Trouble("orphan", None, "it is of an earlier suspension with the same id", delete)]
    if isinstance(head, LargeAnswer) and _is_forgotten(record, names_in(owner)):
        return [Trouble("orphan", None, "no answer is in it, and no sweep will come to it", arm)]
    if isinstance(head, WaitPage) and _is_forgotten(record, pages_named(owner)):
        return [Trouble("orphan", None, "its head has no such page, and no sweep will come to it", arm)]
    return []


def _is_forgotten(record: Loaded[Any], names: frozenset[bytes]) -> bool:
    return name_in(record.ref.key) not in names and record.due_at is None and record.now > record.updated_at + GRACE
