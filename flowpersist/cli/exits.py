"""Exit codes: one table from the error tree to codes that scripts can test."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from flowpersist.errors import (
    ClaimsHalted,
    CompressionError,
    ConfigurationError,
    EncryptionError,
    FlowError,
    IdempotencyConflict,
    ImportRefused,
    InputValidationError,
    IntegrityError,
    KeyInUse,
    KeyValidationError,
    LeaseLost,
    LockBusy,
    PermissionDenied,
    PersistenceError,
    QuestionChanged,
    RecordMoved,
    SerializationError,
    StillWaiting,
    StorageError,
    SuspensionBusy,
    SuspensionClosed,
    SuspensionNotFound,
    ValueNotFound,
)

__all__ = ["Exit", "exit_of"]


class Exit(IntEnum):
    """The exit codes. 2 is also click's own for a wrong command line."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    NOT_YET = 3
    INVALID_INPUT = 4
    NOT_FOUND = 5
    CLOSED = 6
    CONFIGURATION = 7
    STORAGE = 8
    UNREADABLE = 9
    DENIED = 10


EXITS: Final[dict[type[PersistenceError], Exit]] = {
    ClaimsHalted: Exit.NOT_YET,
    CompressionError: Exit.UNREADABLE,
    ConfigurationError: Exit.CONFIGURATION,
    EncryptionError: Exit.CONFIGURATION,
    FlowError: Exit.FAILED,
    IdempotencyConflict: Exit.CLOSED,
    ImportRefused: Exit.CLOSED,
    InputValidationError: Exit.INVALID_INPUT,
    IntegrityError: Exit.UNREADABLE,
    KeyInUse: Exit.NOT_YET,
    KeyValidationError: Exit.NOT_FOUND,
    LeaseLost: Exit.NOT_YET,
    LockBusy: Exit.NOT_YET,
    PermissionDenied: Exit.DENIED,
    PersistenceError: Exit.FAILED,
    QuestionChanged: Exit.INVALID_INPUT,
    RecordMoved: Exit.CLOSED,
    SerializationError: Exit.UNREADABLE,
    StillWaiting: Exit.NOT_YET,
    StorageError: Exit.STORAGE,
    SuspensionBusy: Exit.NOT_YET,
    SuspensionClosed: Exit.CLOSED,
    SuspensionNotFound: Exit.NOT_FOUND,
    ValueNotFound: Exit.NOT_FOUND,
}


def exit_of(error: PersistenceError) -> Exit:
    """The code of an error: that of its class, or of the nearest base class that has one."""
    return next(EXITS[kind] for kind in type(error).__mro__ if kind in EXITS)
