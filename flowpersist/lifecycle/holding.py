"""The transitions of whoever holds a run: ``renew``, ``complete``, ``fail``, ``park``, ``release``, ``checkpoint`` and
``suspend_next``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeVar

from returns.result import Failure, Success

from flowpersist.backends.base import Scalar
from flowpersist.errors import UnreadAnswers
from flowpersist.lifecycle.changes import close, update_status
from flowpersist.lifecycle.decisions import Decision, Holder, refused
from flowpersist.lifecycle.model import (
    MAX_FINISHED,
    FinishedVerb,
    Head,
    Status,
    Until,
    WaitState,
    WaitStatus,
    complete_for,
    replace,
    rest_of,
    whole,
)
from flowpersist.lifecycle.moments import later
from flowpersist.lifecycle.pausing import carried, check_names, supersede, undelivered, wait_receipt
from flowpersist.lifecycle.refusals import closed_error, lost

__all__ = ["checkpoint", "complete", "fail", "park", "release", "renew", "suspend_next"]

T = TypeVar("T")


def renew(head: Head, holder: Holder, now: datetime, *, lease: timedelta) -> Decision[datetime]:
    """Move the end of the lease to ``now + lease``."""
    return _held(head, holder, now, lambda: _renewed(head, later(now, lease)))


def _renewed(head: Head, until: datetime) -> Decision[datetime]:
    return Decision(replace(head, lease_until=until), Success(until))


def complete(
    head: Head, holder: Holder, now: datetime, *, discard: bool, superseded: Collection[str] = ()
) -> Decision[Head]:
    """End the run as completed, even if a cancellation came while it ran."""
    repeated = _repeated(head, holder, "complete")
    if repeated is not None:
        return repeated
    if not _holds(head, holder):
        return refused(head, lost(head))
    if head.status is Status.EXPIRED:
        return _handled(head, holder, "complete", now, error=None)
    given, head = head, supersede(whole(head), superseded, now)
    unread = [wait.name for wait in head.waits if wait.undelivered and wait.answer is not None]
    if unread and not discard:
        message = f"run {head.id} has unread answers to {', '.join(unread)}: pause again to read them, or discard them"
        return refused(given, UnreadAnswers(message, head.status))
    completed = close(_finish(head, holder, "complete"), Status.COMPLETED, now)
    return Decision(completed, Success(completed))


def fail(head: Head, holder: Holder, now: datetime, *, error: str | None, explained: bool = False) -> Decision[Head]:
    """End the run as failed; ``explained``: its body says why."""
    repeated = _repeated(head, holder, "fail")
    if repeated is not None:
        return repeated

    def failed() -> Decision[Head]:
        if head.status is Status.EXPIRED:
            return _handled(head, holder, "fail", now, error=error)
        ended = close(replace(_finish(head, holder, "fail"), error=error, explained=explained), Status.FAILED, now)
        return Decision(ended, Success(ended))

    return _held(head, holder, now, failed)


def park(
    head: Head, holder: Holder, now: datetime, *, error: str | None, unread: Collection[str] = ()
) -> Decision[Head]:
    """End the run as failed, but so that it can be retried: its open waits close, and its state stays.

    ``unread`` names waits whose answers the holder was given and its state does not hold: a retry delivers them again.
    """
    repeated = _repeated(head, holder, "park")
    if repeated is not None:
        return repeated

    def parked() -> Decision[Head]:
        if head.status is Status.EXPIRED:
            return _handled(head, holder, "park", now, error=error)
        again = undelivered(head, unread)
        ended = close(replace(_finish(again, holder, "park"), error=error), Status.PARKED, now)
        return Decision(ended, Success(ended))

    return _held(head, holder, now, parked)


def release(head: Head, holder: Holder, now: datetime, *, error: str | None, delay: timedelta) -> Decision[Head]:
    """Give the run back: the same answers are claimable after ``delay``."""
    repeated = _repeated(head, holder, "release")
    if repeated is not None:
        return repeated

    def released() -> Decision[Head]:
        if head.status is Status.EXPIRED:
            return _handled(head, holder, "release", now, error=error, claimable_at=later(now, delay))
        free = replace(
            _finish(head, holder, "release"),
            status=Status.ANSWERED,
            error=error,
            claim_id=None,
            lease_until=None,
            claimable_at=later(now, delay),
            updated_at=now,
        )
        return Decision(free, Success(free))

    return _held(head, holder, now, released)


def suspend_next(
    head: Head,
    holder: Holder,
    now: datetime,
    *,
    waits: Sequence[WaitState],
    until: Until,
    superseded: Collection[str] = (),
    metadata: Mapping[str, Scalar] | None = None,
    sequence: int | None = None,
) -> Decision[Head]:
    """Pause again: what was delivered or superseded becomes receipts, what is open or unread stays, and the new waits
    join them.

    A part must have all waits that were delivered to the holder of this ``sequence``.
    """
    if head.sequence != sequence or until != "each":
        whole(head)
    repeated = _repeated(head, holder, "suspend_next")
    if repeated is not None:
        return repeated

    def paused() -> Decision[Head]:
        if head.status is Status.EXPIRED:
            return refused(head, closed_error(head, None))
        standing = supersede(_finish(head, holder, "suspend_next"), superseded, now)
        following = _following(standing, now, superseded, waits, metadata)
        waiting = replace(
            following,
            status=Status.WAITING,
            until=until,
            attempt=0,
            claim_id=None,
            lease_until=None,
            error=None,
        )
        updated = update_status(waiting, now)
        return Decision(updated, Success(updated))

    return _held(head, holder, now, paused)


def checkpoint(
    head: Head,
    holder: Holder,
    now: datetime,
    *,
    sequence: int,
    waits: Sequence[WaitState],
    superseded: Collection[str] = (),
    unread: Collection[str] = (),
    progress: bool = True,
    metadata: Mapping[str, Scalar] | None = None,
) -> Decision[Head]:
    """Begin the next sequence under the same lease: what was read or superseded becomes receipts, the new waits open,
    and what has come meanwhile is delivered, with the ``unread`` ones again.

    ``sequence`` is the one that the holder was given. Only a holder begins the next one, so where that has begun under
    the same fence, this call repeats one whose reply was lost.
    """
    if _holds(head, holder) and head.sequence == sequence + 1:
        return Decision(head, Success(whole(head)))

    def kept() -> Decision[Head]:
        if head.status is Status.EXPIRED:
            return refused(head, closed_error(head, None))
        if head.sequence != sequence:
            return refused(head, lost(head))
        if rest_of(head).undelivered:
            whole(head)
        standing = supersede(undelivered(head, unread), superseded, now)
        following = _following(standing, now, superseded, waits, metadata)
        delivered = [wait if wait.open else replace(wait, delivery=following.sequence) for wait in following.waits]
        held = replace(following, until="each", waits=tuple(delivered), attempt=1 if progress else head.attempt)
        held = complete_for(held, held.sequence)
        return Decision(held, Success(held))

    return _held(head, holder, now, kept)


def _following(
    head: Head,
    now: datetime,
    superseded: Collection[str],
    waits: Sequence[WaitState],
    metadata: Mapping[str, Scalar] | None,
) -> Head:
    """The head of the next sequence: what was delivered or superseded becomes receipts, what is open or unread stays,
    and the new waits join them.
    """
    kept: list[WaitState] = []
    over: list[WaitState] = []
    still = WaitStatus.OPEN
    for wait in head.waits:
        # Most are open, so that these need no call.
        stays = wait.status is still and wait.name not in superseded
        (kept if stays or carried(wait, superseded) else over).append(wait)
    if waits:
        check_names([*kept, *waits])
    return replace(
        head,
        metadata=head.metadata if metadata is None else metadata,
        waits=(*kept, *(replace(wait, sequence=head.sequence + 1) for wait in waits)),
        receipts=(*head.receipts, *(wait_receipt(wait, now) for wait in over)),
        sequence=head.sequence + 1,
        paused_at=now,
        updated_at=now,
    )


def _handled(head: Head, holder: Holder, verb: str, now: datetime, **ends: Any) -> Decision[Head]:  # noqa: ANN401 - as _hold
    """End the lease on an expired suspension, which stays expired."""
    handled = replace(_finish(head, holder, verb), claim_id=None, lease_until=None, updated_at=now, **ends)
    return Decision(handled, Success(handled))


def _held(head: Head, holder: Holder, now: datetime, go_on: Callable[[], Decision[T]]) -> Decision[T]:
    """Go on for the holder only. If the run was cancelled meanwhile, close it here instead."""
    if not _holds(head, holder):
        return refused(head, lost(head))
    if not head.cancelling:
        return go_on()
    cancelled = close(head, Status.CANCELLED, now)
    return Decision(cancelled, Failure(closed_error(cancelled, None)))


def _holds(head: Head, holder: Holder) -> bool:
    held = head.status is Status.RUNNING or (head.status is Status.EXPIRED and head.lease_until is not None)
    return held and (head.fence, head.claim_id) == (holder.fence, holder.claim_id)


def _finish(head: Head, holder: Holder, verb: str) -> Head:
    return replace(head, finished=(*head.finished, FinishedVerb(holder.fence, verb))[-MAX_FINISHED:])


def _repeated(head: Head, holder: Holder, verb: str) -> Decision[Head] | None:
    """The success of a verb that was committed under this fence already, as after a lost reply; else None."""
    return Decision(head, Success(head)) if FinishedVerb(holder.fence, verb) in head.finished else None
