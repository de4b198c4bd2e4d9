"""Retrying a parked run: one that has failed and keeps its state until then, or until its retention ends.

::

    running -> parked (``holding.park``) -> running | cancelled
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta

from returns.result import Success

from flowpersist.errors import AlreadyResumed, StillWaiting
from flowpersist.lifecycle.decisions import Decision, refused
from flowpersist.lifecycle.model import Head, Status, WaitState, WaitStatus, replace, whole
from flowpersist.lifecycle.moments import later
from flowpersist.lifecycle.pausing import supersede, wait_receipt
from flowpersist.lifecycle.refusals import busy, closed_error
from flowpersist.lifecycle.views import suspension_of

__all__ = ["retry"]


def retry(
    head: Head,
    now: datetime,
    *,
    lease: timedelta,
    claim_id: str,
    sequence: int | None = None,
    superseded: Collection[str] = (),
) -> Decision[Head]:
    """Take a parked run under a lease, as its next sequence, with the answers that no holder has read.

    ``sequence``: only if it is parked at this one. ``superseded`` names waits whose answers are not wanted any more.
    The same claim id again gets the same run again.
    """
    if head.status is Status.RUNNING and head.claim_id == claim_id:
        return Decision(head, Success(head))
    if head.status is not Status.PARKED:
        return _not_parked(head)
    if sequence is not None and sequence != head.sequence:
        message = f"run {head.id} was retried meanwhile, and is parked again: look at it and decide again"
        return refused(head, AlreadyResumed(message, head.status))
    waits = supersede(whole(head), superseded, now).waits
    kept = [wait for wait in waits if _is_kept(wait)]
    over = [_closed(wait) for wait in waits if not _is_kept(wait)]
    following = head.sequence + 1
    running = replace(
        head,
        status=Status.RUNNING,
        waits=tuple(replace(wait, delivery=following) for wait in kept),
        receipts=(*head.receipts, *(wait_receipt(wait, now) for wait in over)),
        sequence=following,
        attempt=1,
        fence=head.fence + 1,
        claim_id=claim_id,
        lease_until=later(now, lease),
        claimable_at=None,
        closed_at=None,
        error=None,
        updated_at=now,
    )
    return Decision(running, Success(running))


def _not_parked(head: Head) -> Decision[Head]:
    if head.status.closed:
        return refused(head, closed_error(head, None))
    if head.status is Status.RUNNING:
        return refused(head, busy(head, head.lease_until))
    message = f"run {head.id} is {head.status} and not parked: nothing of it has failed"
    return refused(head, StillWaiting(message, suspension_of(head)))


def _is_kept(wait: WaitState) -> bool:
    return wait.undelivered and wait.answer is not None


def _closed(wait: WaitState) -> WaitState:
    # The wait ended with the failure: whoever has its key learns that nobody took an answer to it.
    return replace(wait, status=WaitStatus.SUPERSEDED) if wait.status is WaitStatus.CLOSED else wait
