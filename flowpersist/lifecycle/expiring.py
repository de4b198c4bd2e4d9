"""Handling an expiry: an expired suspension stays closed, and is due until somebody has handled that under a lease.

::

    expired, due -> held -> handled | due again (release, end of the lease)

``complete``, ``fail``, ``release`` and ``renew`` (holding.py) are those of any holder. The status is ``expired``
throughout.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from returns.result import Success

from flowpersist.lifecycle.changes import pending
from flowpersist.lifecycle.decisions import Decision, refused
from flowpersist.lifecycle.model import Head, Status, replace
from flowpersist.lifecycle.moments import later
from flowpersist.lifecycle.refusals import busy, closed_error

__all__ = ["expire"]


def expire(head: Head, now: datetime, *, lease: timedelta, claim_id: str) -> Decision[Head]:
    """Take an expired suspension under a lease, to handle its expiry; it stays expired. The same claim id gets the same
    lease again.
    """
    if head.status is not Status.EXPIRED or not pending(head):
        return refused(head, closed_error(head, None) if head.status.closed else busy(head, None))
    if head.lease_until is not None and head.claim_id == claim_id:
        return Decision(head, Success(head))
    busy_until = head.lease_until or head.claimable_at
    if busy_until is not None and busy_until > now:
        return refused(head, busy(head, busy_until))
    held = replace(
        head,
        fence=head.fence + 1,
        attempt=head.attempt + 1,
        claim_id=claim_id,
        lease_until=later(now, lease),
        claimable_at=None,
        updated_at=now,
    )
    return Decision(held, Success(held))
