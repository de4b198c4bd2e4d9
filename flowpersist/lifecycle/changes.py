"""What happens to a head by itself as time goes on: waits expire, leases end.

Expiry is lazy. Every verb first brings the head up to the store's present, as if somebody had looked at every instant
in between, so no result depends on when anybody looked. A deadline's own instant is still in time: the change
happens one microsecond later.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from flowpersist.lifecycle.model import Answer, Head, Status, WaitState, WaitStatus, replace, rest_of, whole
from flowpersist.lifecycle.moments import TICK, later
from flowpersist.lifecycle.scheduling import escalated, ladder, next_reminder, next_step, notice_due, reminded
from flowpersist.lifecycle.waits import ENDED

__all__ = ["close", "due_at", "next_change", "next_moment", "pending", "present", "purge_at", "update_status"]

SYSTEM: Final = "system"


def next_change(head: Head) -> datetime | None:
    """The last instant at which the head is as it stands; None if time alone changes nothing."""
    if head.status.closed:
        return head.lease_until
    # Without a call for each wait, since every verb asks several times. Nobody is to be told anything of a run that is
    # being cancelled.
    moments = [
        moment
        for wait in head.waits
        if wait.status is WaitStatus.OPEN
        and (moment := wait.deadline if wait.schedule is None or head.cancelling else next_moment(wait)) is not None
    ]
    moments += [moment for moment in (head.lease_until, rest_of(head).change) if moment is not None]
    return min(moments, default=None)


def next_moment(wait: WaitState) -> datetime | None:
    """When time next changes an open wait of a run that is not being cancelled."""
    if wait.schedule is None:
        return wait.deadline
    moments = (wait.deadline, next_step(wait), next_reminder(wait))
    return min((moment for moment in moments if moment is not None), default=None)


def due_at(head: Head) -> datetime | None:
    """The next moment at which the record is due: for a change, a claim, a notice, or its deletion."""
    purged = purge_at(head)
    if purged is not None and not pending(head):
        return purged
    change = next_change(head)
    moments = [head.claimable_at, None if change is None else change + TICK, notice_due(head), rest_of(head).notice]
    return min((moment for moment in moments if moment is not None), default=None)


def purge_at(head: Head) -> datetime | None:
    """When the retention of a closed suspension ends; None if it is not closed."""
    return None if head.closed_at is None else later(head.closed_at, head.retention)


def pending(head: Head) -> bool:
    """Whether its expiry still has to be handled, or is being handled now."""
    return head.status is Status.EXPIRED and (head.claimable_at is not None or head.lease_until is not None)


def present(head: Head, now: datetime) -> Head:
    """The head as of ``now``. Each round ends a wait or a lease, or passes one of a wait's few reminders and steps, so
    the number of rounds is bounded.
    """
    while (moment := next_change(head)) is not None and now > moment:
        head = _advance(head, moment)
    return head


def _advance(head: Head, moment: datetime) -> Head:
    if head.status.closed:
        # The lease of the expiry's handler has ended.
        return replace(head, claim_id=None, lease_until=None, claimable_at=moment)
    if rest_of(head).change == moment:
        whole(head)
    waits = tuple(_passed(wait, moment) if wait.open else wait for wait in head.waits)
    head = update_status(replace(head, waits=waits, updated_at=moment), moment)
    if head.lease_until == moment and not head.status.closed:
        head = end_lease(head, moment)
    return head


def _passed(wait: WaitState, moment: datetime) -> WaitState:
    """The wait once the moment is over."""
    if wait.deadline == moment:
        return _expire(wait, moment)
    if wait.schedule is not None and next_step(wait) == moment:
        return escalated(wait, wait.schedule, moment)
    if wait.schedule is not None and next_reminder(wait) == moment:
        return reminded(wait, wait.schedule, moment)
    return wait


def _expire(wait: WaitState, moment: datetime) -> WaitState:
    escalates = wait.awaiting is not None and wait.awaiting.get("on_expiry") == "escalate"
    if escalates and wait.schedule is not None and wait.schedule.level < len(ladder(wait)):
        return escalated(wait, wait.schedule, moment)
    default = _default(wait)
    if default is None:
        return replace(wait, status=WaitStatus.EXPIRED, closed_at=moment)
    answer = Answer(default[0], SYSTEM, moment, None, wait.shown)
    return replace(wait, status=WaitStatus.ANSWERED, answer=answer, closed_at=moment)


def _default(wait: WaitState) -> tuple[object] | None:
    if wait.awaiting is None or "default" not in wait.awaiting:
        return None
    return (wait.awaiting["default"],)


def end_lease(head: Head, moment: datetime) -> Head:
    """End a lease that was neither renewed nor finished: the next claim gets the same answers."""
    if head.cancelling:
        return close(head, Status.CANCELLED, moment)
    return replace(head, status=Status.ANSWERED, claim_id=None, lease_until=None, claimable_at=moment)


def update_status(head: Head, moment: datetime) -> Head:
    """Update the status by the waits: answered, expired, or unchanged."""
    if head.until == "any" and any(wait.status is WaitStatus.ANSWERED for wait in head.waits):
        head = _supersede(head, moment)
    if head.status is Status.RESERVED and _hopeless(head):
        return close(head, Status.EXPIRED, moment)
    if head.status is Status.WAITING and _hopeless(head):
        # It has a state, so a worker may handle the expiry.
        return replace(close(head, Status.EXPIRED, moment), claimable_at=moment)
    if head.status is Status.WAITING and _ready(head):
        return replace(head, status=Status.ANSWERED, claimable_at=moment)
    return head


def _supersede(head: Head, moment: datetime) -> Head:
    waits = (replace(w, status=WaitStatus.SUPERSEDED, closed_at=moment) if w.open else w for w in whole(head).waits)
    return replace(head, waits=tuple(waits))


def _hopeless(head: Head) -> bool:
    expired = [wait for wait in head.waits if wait.status is WaitStatus.EXPIRED]
    if head.until == "all":
        return bool(expired or rest_of(head).expired)
    return head.until == "any" and len(expired) == len(whole(head).waits)


def _ready(head: Head) -> bool:
    if head.until == "each":
        # Without a call for each wait, since every verb asks.
        ended = [wait for wait in head.waits if wait.status in ENDED and wait.delivery is None]
        return bool(ended or rest_of(head).undelivered)
    return not (rest_of(head).open or head.open_waits)


def close(head: Head, status: Status, moment: datetime, *, reason: str | None = None) -> Head:
    """Close a suspension with its open waits and its lease. It stays as a tombstone for the retention."""
    ended = WaitStatus.EXPIRED if status is Status.EXPIRED else WaitStatus.CLOSED
    waits = tuple(replace(w, status=ended, closed_at=moment) if w.open else w for w in whole(head).waits)
    return replace(
        head,
        status=status,
        waits=waits,
        closed_at=moment,
        updated_at=moment,
        reason=head.reason if reason is None else reason,
        claim_id=None,
        lease_until=None,
        claimable_at=None,
    )
