"""What a verb on a suspension is refused with."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

from flowpersist.errors.base import PersistenceError

__all__ = [
    "AlreadyResumed",
    "AnswerConflict",
    "ClaimsHalted",
    "IdempotencyConflict",
    "KeyValidationError",
    "LeaseLost",
    "PermissionDenied",
    "QuestionChanged",
    "StillWaiting",
    "SuspensionBusy",
    "SuspensionCancelled",
    "SuspensionClosed",
    "SuspensionExpired",
    "SuspensionNotFound",
    "UnreadAnswers",
    "WaitSuperseded",
]


class KeyValidationError(PersistenceError):
    """A key that is malformed, mistyped, of a foreign prefix, or ambiguous."""

    code = "invalid-key"
    http_status = 404


class SuspensionNotFound(PersistenceError):
    """No suspension has this id, or the key's secret is not one of its own."""

    code = "not-found"
    http_status = 404


class SuspensionClosed(PersistenceError):
    """The suspension, or this key's wait in it, takes no more: carries how and when it ended, and the winner's
    receipt.
    """

    code = "closed"
    http_status = 410

    def __init__(
        self, message: str, status: str | None = None, closed_at: datetime | None = None, receipt: object = None
    ) -> None:
        super().__init__(message, status, closed_at, receipt)
        self.status = status
        self.closed_at = closed_at
        self.receipt = receipt

    def _members(self) -> dict[str, object]:
        closed_at = None if self.closed_at is None else self.closed_at.isoformat()
        return {"suspensionStatus": self.status, "closedAt": closed_at}


class AlreadyResumed(SuspensionClosed):
    """Somebody has taken the run with this wait's answer."""

    code = "already-resumed"
    http_status = 409


class AnswerConflict(SuspensionClosed):
    """The wait has another answer already."""

    code = "answer-conflict"
    http_status = 409


class WaitSuperseded(AnswerConflict):
    """The run goes on without an answer to this wait: another was answered, its branch was given up, or its question
    was asked anew, under another key.
    """

    code = "superseded"
    http_status = 410


class SuspensionExpired(SuspensionClosed):
    """The deadline has passed without an answer."""

    code = "expired"


class SuspensionCancelled(SuspensionClosed):
    """The suspension was cancelled."""

    code = "cancelled"


class UnreadAnswers(SuspensionClosed):
    """The run can't be completed while answers have come that it has not read; ``discard=True`` drops them."""

    code = "unread-answers"
    http_status = 409


class QuestionChanged(PersistenceError):
    """The answer was given to another question than the wait has: the digests of what is shown differ."""

    code = "question-changed"
    http_status = 409


class SuspensionBusy(PersistenceError):
    """The run is under somebody's lease until ``retry_at``."""

    code = "busy"
    http_status = 409

    def __init__(self, message: str, retry_at: datetime | None = None) -> None:
        super().__init__(message, retry_at)
        self.retry_at = retry_at

    def _members(self) -> dict[str, object]:
        return {"retryAt": None if self.retry_at is None else self.retry_at.isoformat()}


class StillWaiting(PersistenceError):
    """Answers are missing: carries the suspension as it stands, and the receipt of an answer given with the call."""

    code = "still-waiting"
    http_status = 409

    def __init__(self, message: str, suspension: object = None, receipt: object = None) -> None:
        super().__init__(message, suspension, receipt)
        self.suspension = suspension
        self.receipt = receipt


class ClaimsHalted(PersistenceError):
    """Claims are halted: carries the halt's id, its reason and since when. Nothing was changed; answers are taken."""

    code = "claims-halted"
    http_status = 503

    def __init__(
        self, message: str, halt: str | None = None, reason: str | None = None, since: datetime | None = None
    ) -> None:
        super().__init__(message, halt, reason, since)
        self.halt = halt
        self.reason = reason
        self.since = since

    def _members(self) -> dict[str, object]:
        since = None if self.since is None else self.since.isoformat()
        return {"halt": self.halt, "reason": self.reason, "since": since}


class LeaseLost(PersistenceError):
    """The lease has ended, or another holder has the run: nothing was written."""

    code = "lease-lost"
    http_status = 409


class IdempotencyConflict(PersistenceError):
    """The same idempotency key came with another state or question."""

    code = "idempotency-conflict"
    http_status = 409


class PermissionDenied(PersistenceError):
    """The authorizer refused, or raised: then that is the cause."""

    code = "permission-denied"
    http_status = 403
