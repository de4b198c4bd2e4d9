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
    ├── LockBusy                  held by another agent; carries holder and retry_at
    ├── IdempotencyConflict
    ├── PermissionDenied
    ├── QuestionChanged           the answer was given to another question than the wait has
    ├── InputValidationError      carries problems, each with its JSON pointer
    ├── SerializationError        carries path, where the value is known
    │   ├── UnsupportedType       carries problems: each class, its path and what to do
    │   ├── StateChanged
    │   ├── StateTooLarge
    │   ├── StateTooDeep
    │   ├── UnknownType
    │   ├── UnexpectedType
    │   └── MalformedPayload
    ├── ValueNotFound
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
    └── FlowError                 carries document, step, reference, tool, and the problems of a document
        └── FlowDeadlinePassed
        └── FlowParked            a run that has failed and can be retried; carries its id

They are ordinary exceptions, used as values: every argument is passed on to ``Exception``, so that they pickle. A
message names what failed, on what, and what the caller can do; it never holds state, a key's token or a secret.
"""

from __future__ import annotations

from flowpersist.errors.base import ConfigurationError, FlowDeadlinePassed, FlowError, PersistenceError
from flowpersist.errors.data import (
    CompressionError,
    CorruptedEnvelope,
    EncryptionError,
    EncryptionRequired,
    InputValidationError,
    IntegrityError,
    MalformedPayload,
    Problem,
    SerializationError,
    StateChanged,
    StateProblem,
    StateTooDeep,
    StateTooLarge,
    TamperedEnvelope,
    UnexpectedType,
    UnknownDictionary,
    UnknownKey,
    UnknownType,
    UnsupportedType,
    UnsupportedVersion,
    ValueNotFound,
)
from flowpersist.errors.flow_problems import FlowCode, FlowProblem
from flowpersist.errors.parked import FlowParked
from flowpersist.errors.storage import (
    BackendUnavailable,
    DeadlinePassed,
    PoolTimeout,
    RevisionConflict,
    StorageError,
    StorageFull,
    UnknownOutcome,
)
from flowpersist.errors.stores import LockBusy
from flowpersist.errors.suspensions import (
    AlreadyResumed,
    AnswerConflict,
    IdempotencyConflict,
    KeyValidationError,
    LeaseLost,
    PermissionDenied,
    QuestionChanged,
    StillWaiting,
    SuspensionBusy,
    SuspensionCancelled,
    SuspensionClosed,
    SuspensionExpired,
    SuspensionNotFound,
    UnreadAnswers,
    WaitSuperseded,
)

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
    "FlowCode",
    "FlowDeadlinePassed",
    "FlowError",
    "FlowParked",
    "FlowProblem",
    "IdempotencyConflict",
    "InputValidationError",
    "IntegrityError",
    "KeyValidationError",
    "LeaseLost",
    "LockBusy",
    "MalformedPayload",
    "PermissionDenied",
    "PersistenceError",
    "PoolTimeout",
    "Problem",
    "QuestionChanged",
    "RevisionConflict",
    "SerializationError",
    "StateChanged",
    "StateProblem",
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
    "ValueNotFound",
    "WaitSuperseded",
]
