"""The errors of refused transitions: the status of the suspension, and how the caller's own wait ended."""

from __future__ import annotations

from datetime import datetime
from typing import TypeAlias

from flowpersist.errors import (
    AlreadyResumed,
    AnswerConflict,
    KeyValidationError,
    LeaseLost,
    PersistenceError,
    QuestionChanged,
    SuspensionBusy,
    SuspensionCancelled,
    SuspensionClosed,
    SuspensionExpired,
    SuspensionNotFound,
    WaitSuperseded,
)
from flowpersist.keys.suspension_key import SuspensionId, SuspensionKey
from flowpersist.lifecycle.model import Head, Status, WaitReceipt, WaitState, WaitStatus, whole
from flowpersist.lifecycle.receipts import receipt_of

__all__ = ["Target", "ambiguous", "busy", "closed_error", "ended_error", "lost", "not_found"]

#: What a key opens: a wait, or the receipt of one; None if an id names the suspension.
Target: TypeAlias = WaitState | WaitReceipt | None


def ambiguous(head: Head) -> PersistenceError:
    """The error for an answer by id if several waits are open."""
    if head.status.closed:
        return closed_error(head, None)
    return KeyValidationError(
        f"suspension {head.id} has {len(head.answerable_waits)} open waits: "
        "answer with the key of one of them, not with the id"
    )


def busy(head: Head, retry_at: datetime | None) -> PersistenceError:
    """The error for a run that somebody holds, or that is not claimable yet."""
    return SuspensionBusy(f"suspension {head.id} is held by another process; try again at {retry_at}", retry_at)


def lost(head: Head) -> PersistenceError:
    """The error for a caller that no longer holds the run."""
    if head.status is Status.CANCELLED:
        return closed_error(head, None)
    return LeaseLost(f"the lease on run {head.id} has ended (it is {head.status} now): stop, and claim it again")


def closed_error(head: Head, target: Target) -> PersistenceError:
    """The error for a closed suspension."""
    ended = next((w for w in whole(head).waits if w.answer is not None), None) if target is None else target
    receipt = None if ended is None else receipt_of(head, ended, "replayed")
    kind, what = _CLOSED.get(head.status, (SuspensionClosed, "is closed"))
    return kind(f"suspension {head.id} {what} at {head.closed_at}", head.status, head.closed_at, receipt)


_CLOSED: dict[Status, tuple[type[SuspensionClosed], str]] = {
    Status.COMPLETED: (AlreadyResumed, "was resumed and completed"),
    Status.FAILED: (AlreadyResumed, "was resumed and failed"),
    Status.PARKED: (AlreadyResumed, "was resumed, failed and is parked until it is retried,"),
    Status.EXPIRED: (SuspensionExpired, "expired"),
    Status.CANCELLED: (SuspensionCancelled, "was cancelled"),
}


def ended_error(head: Head, target: Target) -> PersistenceError:
    """The error for a key whose wait has ended: used, superseded, expired or closed."""
    if target is None or (head.status.closed and _unread(target)):
        return closed_error(head, target)
    kind, what = _ended(target)
    receipt = receipt_of(head, target, "replayed")
    name = target.wait if isinstance(target, WaitReceipt) else target.name
    return kind(f"the wait {name} of suspension {head.id} {what}", head.status, receipt.at, receipt)


def question_changed(head: Head, wait: WaitState) -> PersistenceError:
    """The error for an answer to a question with another digest than the wait's."""
    return QuestionChanged(
        f"the wait {wait.name} of suspension {head.id} asks another question than the one that was answered: "
        "inspect it, show it again, and answer with the digest of what was shown"
    )


def _ended(target: WaitState | WaitReceipt) -> tuple[type[SuspensionClosed], str]:
    if target.status is WaitStatus.EXPIRED:
        return SuspensionExpired, "expired without an answer"
    if target.status is WaitStatus.SUPERSEDED:
        return WaitSuperseded, "was superseded: the run goes on without an answer to it"
    if isinstance(target, WaitReceipt) or target.delivery is not None or target.status is WaitStatus.CLOSED:
        return AlreadyResumed, "was used: the run has gone on"
    return AnswerConflict, "has another answer already"


def _unread(target: WaitState | WaitReceipt) -> bool:
    """Whether no holder was given the end of this wait: then the end of the suspension is reported."""
    ended = {WaitStatus.ANSWERED, WaitStatus.CLOSED}
    return isinstance(target, WaitState) and target.delivery is None and target.status in ended


def not_found(key: SuspensionKey | SuspensionId) -> PersistenceError:
    """The same error for an unknown id and a wrong secret."""
    named = key.id if isinstance(key, SuspensionKey) else key
    return SuspensionNotFound(f"no suspension for this key (id {named}): check the link, the store and the namespace")
