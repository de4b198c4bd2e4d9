"""Writing what time has changed, and delivering the reminders and escalations that have come.

A delivery takes two puts. The first records who delivers until when, and wins for one process alone. The second drops
what was delivered. Where a process ends in between, or ``on_event`` raises, somebody takes it again once that time is
over, under the same delivery id.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime
from typing import TypeAlias

from attrs import frozen
from returns.result import Failure, Result, Success

from flowpersist.errors import PersistenceError
from flowpersist.hub.events import notice_event
from flowpersist.hub.transactions import Suspensions
from flowpersist.lifecycle.changes import SYSTEM, present
from flowpersist.lifecycle.model import Head, Notice, PartOfHead, WaitState
from flowpersist.lifecycle.scheduling import acknowledged, delivery_id, take_notices
from flowpersist.sealed.drafts import Decided, Draft, Found, Loaded

__all__ = ["refresh", "refreshed"]

log = logging.getLogger("flowpersist.hub")
Taken: TypeAlias = tuple[WaitState, Notice]


@frozen
class Refreshed:
    """The record to put (None: nothing has changed), the notices to deliver, and those that were given up."""

    draft: Draft[Head, bool] | None
    taken: Sequence[Taken]
    given_up: Sequence[Taken]


async def refresh(suspensions: Suspensions, key: str) -> Result[bool, PersistenceError]:
    """Write what time has changed, repair attributes that differ from the head, and deliver what has come; False if
    there was nothing.
    """
    decided: list[Refreshed] = []

    async def decide(found: Found[Head]) -> Decided[Head, bool]:
        if found.record is None:
            return Success(False)
        made = _refreshed(suspensions, found.record, found.now)
        decided.append(made)
        if made.draft is None:
            return Success(False)
        stored, head = found.record.head, made.draft.head
        audited = await suspensions.side_records.trail.extended("tick", None, stored, head, head, head, found.now)
        if not isinstance(audited, Success):
            return Failure(audited.failure())
        return suspensions.draft(audited.unwrap(), Success(True), before=head)

    updated = await suspensions.records.update(key, decide)
    suspensions.measure("tick", updated)
    if updated.draft is None or updated.found is None or updated.before is None:
        return updated.result
    head, now, made = updated.draft.head, updated.found.now, decided[-1]
    for wait, notice in made.given_up:
        _log_given_up(head, wait, notice)
    if not (made.taken or made.given_up) or _stands(head) != _stands(updated.before.head):
        await suspensions.report("tick", SYSTEM, head, updated.found)
    await _deliver(suspensions, key, head, made.taken, now)
    return updated.result


def refreshed(suspensions: Suspensions, record: Loaded[Head], now: datetime) -> bool:
    """Whether ``refresh`` would write something, or may where the record was read in part."""
    return isinstance(record.head, PartOfHead) or _refreshed(suspensions, record, now).draft is not None


def _refreshed(suspensions: Suspensions, record: Loaded[Head], now: datetime) -> Refreshed:
    head, taken, given_up = take_notices(present(record.head, now), now)
    draft: Draft[Head, bool] = suspensions.draft(head, Success(True), before=head)
    changed = head is not record.head or _differs(record, draft)
    return Refreshed(draft if changed else None, taken, given_up)


def _differs(record: Loaded[Head], draft: Draft[Head, bool]) -> bool:
    copies = {name: value for name, value in draft.attributes.items() if value is not None}
    return record.due_at != draft.due_at or dict(record.attributes) != copies


def _stands(head: Head) -> Sequence[object]:
    return head.status, [wait.status for wait in head.waits]


async def _deliver(suspensions: Suspensions, key: str, head: Head, taken: Sequence[Taken], now: datetime) -> None:
    """Tell ``on_event``, each in its turn, and record at once what it has taken in."""
    for wait, notice in taken:
        if not await suspensions.observer.told(notice_event(head, wait, notice, now)):
            continue
        delivered = (delivery_id(wait, notice),)

        async def decide(found: Found[Head], delivered: Sequence[str] = delivered) -> Decided[Head, None]:
            if found.record is None:
                return Success(None)
            seen = present(found.record.head, found.now)
            left = acknowledged(seen, delivered)
            return Success(None) if left is seen else suspensions.draft(left, Success(None), before=seen)

        dropped = (await suspensions.records.update(key, decide)).result
        if isinstance(dropped, Failure):
            log.warning("a delivery of suspension %s will be repeated: %s", key, dropped.failure())


def _log_given_up(head: Head, wait: WaitState, notice: Notice) -> None:
    log.error(
        "suspension %s: the %s of wait %r at %s could not be delivered in %s attempts and is dropped: open the hubs "
        "that tick with on_event",
        head.id,
        notice.verb,
        wait.name,
        notice.at,
        notice.tries,
    )
