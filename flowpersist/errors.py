"""The errors that pure stages and hub operations return, and that backends raise.

::

    PersistenceError
    ├── KeyValidationError        malformed, mistyped or foreign key; the store was not asked
    ├── SuspensionNotFound        no such suspension, or a right id with a wrong secret
    ├── SuspensionClosed          carries status, closed_at and the winner's receipt
    │   ├── AlreadyResumed
    │   ├── AnswerConflict
    │   │   └── WaitSuperseded    nobody needs its answer: see there
    │   ├── SuspensionExpired
    │   ├── SuspensionCancelled
    │   └── UnreadAnswers
    ├── SuspensionBusy            under somebody's lease; carries retry_at
    ├── StillWaiting              answers are missing; carries the suspension and the receipt
    ├── LeaseLost
    ├── IdempotencyConflict
    ├── PermissionDenied
    ├── InputValidationError      carries problems, each with its JSON pointer
    ├── SerializationError        carries path, where the value is known
    │   ├── UnsupportedType
    │   ├── StateChanged
    │   ├── StateTooLarge
    │   ├── StateTooDeep
    │   ├── UnknownType
    │   ├── UnexpectedType
    │   └── MalformedPayload
    ├── CompressionError
    │   └── UnknownDictionary     carries id
    ├── IntegrityError
    │   ├── CorruptedEnvelope     a checksum does not match
    │   ├── TamperedEnvelope      authentication failed
    │   └── UnsupportedVersion
    ├── EncryptionError
    │   ├── UnknownKey
    │   └── EncryptionRequired    plaintext where a keyring is set
    ├── StorageError              carries backend and retryable
    │   ├── BackendUnavailable
    │   ├── PoolTimeout
    │   ├── RevisionConflict
    │   ├── DeadlinePassed
    │   ├── UnknownOutcome
    │   └── StorageFull
    ├── ConfigurationError        carries setting; a ValueError too
    └── FlowError                 carries document, step, reference and tool

They are ordinary exceptions, used as values: every argument is passed on to ``Exception``, so that they pickle. A
message names what failed, on what, and what the caller can do; it never holds state, a key's token or a secret.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Self

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

__all__ = [
    "AlreadyResumed",
    "AnswerConflict",
    "BackendUnavailable",
    "CompressionError",
    "ConfigurationError",
    "CorruptedEnvelope",
    "DeadlinePassed",
    "EncryptionError",
    "EncryptionRequired",
    "FlowError",
    "IdempotencyConflict",
    "InputValidationError",
    "IntegrityError",
    "KeyValidationError",
    "LeaseLost",
    "MalformedPayload",
    "PermissionDenied",
    "PersistenceError",
    "PoolTimeout",
    "Problem",
    "RevisionConflict",
    "SerializationError",
    "StateChanged",
    "StateTooDeep",
    "StateTooLarge",
    "StillWaiting",
    "StorageError",
    "StorageFull",
    "SuspensionBusy",
    "SuspensionCancelled",
    "SuspensionClosed",
    "SuspensionExpired",
    "SuspensionNotFound",
    "TamperedEnvelope",
    "UnexpectedType",
    "UnknownDictionary",
    "UnknownKey",
    "UnknownOutcome",
    "UnknownType",
    "UnreadAnswers",
    "UnsupportedType",
    "UnsupportedVersion",
    "WaitSuperseded",
]

#: What an RFC 9457 document of ours holds.
type_prefix = "urn:flowpersist:error:"


class PersistenceError(Exception):
    """The base of everything that flowpersist returns as a failure.

    ``code`` is a stable machine-readable name, ``http_status`` what a web route answers with.
    """

    code: ClassVar[str] = "persistence-error"
    http_status: ClassVar[int] = 500

    def __init__(self, message: str, *details: object) -> None:
        super().__init__(message, *details)
        self.message = message

    def __str__(self) -> str:
        return self.message

    def to_problem(self) -> dict[str, object]:
        """The error as a problem document (RFC 9457): type, title, status, detail, and what the class adds."""
        problem: dict[str, object] = {
            "type": type_prefix + self.code,
            "title": type(self).__name__,
            "status": self.http_status,
            "detail": self.message,
        }
        problem.update({name: value for name, value in self._members().items() if value is not None})
        return problem

    def _members(self) -> dict[str, object]:
        return {}


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


class LeaseLost(PersistenceError):
    """The lease has ended, or another holder has the run: nothing was written."""

    code = "lease-lost"
    http_status = 409


class IdempotencyConflict(PersistenceError):
    """The same idempotency key came with another state or question."""

    code = "idempotency-conflict"
    http_status = 409


class PermissionDenied(PersistenceError):
    """The authorizer refused."""

    code = "permission-denied"
    http_status = 403


class Problem(tuple[str, str]):
    """One problem of an input: ``pointer`` (RFC 6901) and ``message``."""

    __slots__ = ()

    def __new__(cls, pointer: str, message: str) -> Self:
        """A problem at a pointer."""
        return super().__new__(cls, (pointer, message))

    def __getnewargs__(self) -> tuple[str, str]:
        return (self[0], self[1])

    @property
    def pointer(self) -> str:
        """Where, as a JSON pointer: empty for the whole input."""
        return self[0]

    @property
    def message(self) -> str:
        """What is wrong there, without the value."""
        return self[1]


class InputValidationError(PersistenceError):
    """An answer or argument that its schema refuses: carries its problems; the suspension stays as it was."""

    code = "invalid-input"
    http_status = 422

    def __init__(self, message: str, problems: Sequence[Problem] = ()) -> None:
        super().__init__(message, tuple(problems))
        self.problems = tuple(problems)

    def _members(self) -> dict[str, object]:
        return {"problems": [{"pointer": p.pointer, "message": p.message} for p in self.problems]}


class SerializationError(PersistenceError):
    """A value can't become bytes, or bytes can't become a value; ``path`` says where, as ``state.messages[3]``."""

    code = "serialization"
    http_status = 422

    def __init__(self, message: str, path: str | None = None) -> None:
        super().__init__(message, path)
        self.path = path

    def _members(self) -> dict[str, object]:
        return {"path": self.path}


class UnsupportedType(SerializationError):
    """A value of a class that is not registered, or that can't be kept faithfully."""

    code = "unsupported-type"


class StateChanged(SerializationError):
    """The value was changed by another task or thread while it was encoded: nothing is stored."""

    code = "state-changed"
    http_status = 409


class StateTooLarge(SerializationError):
    """Over one of the limits on bytes, nodes or lengths."""

    code = "state-too-large"
    http_status = 413


class StateTooDeep(SerializationError):
    """Over the limit on depth."""

    code = "state-too-deep"
    http_status = 413


class UnknownType(SerializationError):
    """The bytes name a type, or a version of one, that this process has not registered."""

    code = "unknown-type"


class UnexpectedType(SerializationError):
    """The state is not of the class that the caller expects."""

    code = "unexpected-type"


class MalformedPayload(SerializationError):
    """The bytes are not of the codec's format."""

    code = "malformed-payload"


class CompressionError(PersistenceError):
    """The bytes can't be decompressed within their declared length and the limit."""

    code = "compression"


class UnknownDictionary(CompressionError):
    """The state was compressed with a dictionary that is not there: carries its ``id``."""

    code = "unknown-dictionary"

    def __init__(self, message: str, id: int | None = None) -> None:
        super().__init__(message, id)
        self.id = id

    def _members(self) -> dict[str, object]:
        return {"dictionary": self.id}


class IntegrityError(PersistenceError):
    """What is stored is not what was written."""

    code = "integrity"


class CorruptedEnvelope(IntegrityError):
    """A checksum, a length or the magic bytes do not match: rot, truncation, or no envelope at all."""

    code = "corrupted"


class TamperedEnvelope(IntegrityError):
    """Authentication failed: altered, moved to another record, or sealed for another purpose."""

    code = "tampered"


class UnsupportedVersion(IntegrityError):
    """An envelope, schema or head of a version that this release can't read."""

    code = "unsupported-version"


class EncryptionError(PersistenceError):
    """The keyring can't seal or open this."""

    code = "encryption"


class UnknownKey(EncryptionError):
    """The keyring has no key of the id that the envelope names."""

    code = "unknown-key"


class EncryptionRequired(EncryptionError):
    """Plaintext was found where a keyring is set."""

    code = "encryption-required"


class StorageError(PersistenceError):
    """A backend failed; ``retryable`` is what its driver's own classification says."""

    code = "storage"
    http_status = 503

    def __init__(self, message: str, backend: str = "", retryable: bool = False) -> None:  # noqa: FBT001, FBT002
        # Positional, since an exception pickles by its positional arguments.
        super().__init__(message, backend, retryable)
        self.backend = backend
        self.retryable = retryable

    def _members(self) -> dict[str, object]:
        return {"backend": self.backend or None, "retryable": self.retryable}


class BackendUnavailable(StorageError):
    """The store can't be reached, opened, read or written."""

    code = "backend-unavailable"


class PoolTimeout(StorageError):
    """No connection became free in time."""

    code = "pool-timeout"


class RevisionConflict(StorageError):
    """The record is not at the revision that the put named: nothing was written."""

    code = "revision-conflict"
    http_status = 409


class DeadlinePassed(StorageError):
    """The store's clock is past the put's ``not_after``: nothing was written."""

    code = "deadline-passed"
    http_status = 409


class UnknownOutcome(StorageError):
    """The acknowledgement was lost: the write may have happened; its write id tells."""

    code = "unknown-outcome"


class StorageFull(StorageError):
    """No room: the old record is intact."""

    code = "storage-full"
    http_status = 507


class ConfigurationError(PersistenceError, ValueError):
    """A setting or an argument makes no sense; the message names it and the way to mend it.

    It is raised, not returned, and is a ``ValueError``: the program must be mended, not the call repeated.
    """

    code = "configuration"

    def __init__(self, message: str, setting: str | None = None) -> None:
        super().__init__(message, setting)
        self.setting = setting

    def _members(self) -> dict[str, object]:
        return {"setting": self.setting}


class FlowError(PersistenceError):
    """A DynamicFlow document can't be compiled or run: names document, step, reference and tool, where known."""

    code = "flow"
    http_status = 422

    def __init__(
        self,
        message: str,
        document: str | None = None,
        step: str | None = None,
        reference: str | None = None,
        tool: str | None = None,
    ) -> None:
        super().__init__(message, document, step, reference, tool)
        self.document = document
        self.step = step
        self.reference = reference
        self.tool = tool

    def _members(self) -> dict[str, object]:
        return {"document": self.document, "step": self.step, "reference": self.reference, "tool": self.tool}
