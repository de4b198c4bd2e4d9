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
    ├── ClaimsHalted              claims are stopped until somebody lifts it; carries halt, reason and since
    ├── StillWaiting              answers are missing; carries the suspension and the receipt
    ├── LeaseLost
    ├── LockBusy                  held by another agent; carries holder and retry_at
    ├── ImportRefused             of another namespace, or another record stands there
    ├── RecordMoved               to another store; carries to, the name of that store
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
    │   ├── RollbackDetected      the replay ledger knows a later state
    │   └── UnsupportedVersion
    ├── EncryptionError
    │   ├── UnknownKey
    │   │   └── KeyDestroyed      of a shredded tenant
    │   ├── EncryptionRequired    plaintext where a keyring is set
    │   └── KeyInUse              carries kid and records
    ├── StorageError              carries backend and retryable
    │   ├── BackendUnavailable
    │   ├── LedgerUnavailable     the second store, of the replay ledger
    │   ├── PoolTimeout
    │   ├── RevisionConflict
    │   ├── DeadlinePassed
    │   ├── UnknownOutcome
    │   ├── StorageFull
    │   └── TransactionAborted
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
    KeyDestroyed,
    KeyInUse,
    MalformedPayload,
    Problem,
    RollbackDetected,
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
    LedgerUnavailable,
    PoolTimeout,
    RevisionConflict,
    StorageError,
    StorageFull,
    TransactionAborted,
    UnknownOutcome,
)
from flowpersist.errors.stores import LockBusy
from flowpersist.errors.suspensions import (
    AlreadyResumed,
    AnswerConflict,
    ClaimsHalted,
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
from flowpersist.errors.transfers import ImportRefused, RecordMoved

__all__ = [
    "AlreadyResumed",
    "AnswerConflict",
    "BackendUnavailable",
    "ClaimsHalted",
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
    "ImportRefused",
    "InputValidationError",
    "IntegrityError",
    "KeyDestroyed",
    "KeyInUse",
    "KeyValidationError",
    "LeaseLost",
    "LedgerUnavailable",
    "LockBusy",
    "MalformedPayload",
    "PermissionDenied",
    "PersistenceError",
    "PoolTimeout",
    "Problem",
    "QuestionChanged",
    "RecordMoved",
    "RevisionConflict",
    "RollbackDetected",
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
    "TransactionAborted",
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
