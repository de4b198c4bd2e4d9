"""Conversion of the driver's errors to flowpersist's, in one place."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from bson.errors import BSONError
from pymongo.errors import (
    AutoReconnect,
    BulkWriteError,
    ConnectionFailure,
    DocumentTooLarge,
    ExecutionTimeout,
    InvalidName,
    InvalidOperation,
    NotPrimaryError,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
    WaitQueueTimeoutError,
    WriteConcernError,
)
from pymongo.errors import (
    ConfigurationError as DriverConfigurationError,
)

from flowpersist.errors import (
    BackendUnavailable,
    ConfigurationError,
    IntegrityError,
    PersistenceError,
    PoolTimeout,
    StorageError,
    StorageFull,
    UnknownOutcome,
)

__all__ = ["DUPLICATE", "NAME", "NOT_FOUND", "mapped"]

NAME: Final = "mongodb"
#: https://github.com/mongodb/mongo/blob/master/src/mongo/base/error_codes.yml
NOT_FOUND: Final = 59
DUPLICATE: Final = 11000
#: A server that was not the primary when the command arrived: it did nothing.
_NOT_DONE: Final = frozenset({10107, 13435, 10058})
_REFUSED: Final = {
    18: "rejected the user name or password; correct them and authSource in the URL",
    13: "denied permission to this user; grant it readWrite on the database",
    8000: "rejected the user or is over its quota; see the service's own messages",
}
_DISK_FULL: Final = frozenset({14031, 12501})
#: The texts of the driver's TLS errors, which have no class of their own. An unexpected end of the stream counts as a
#: lost connection.
_NO_TLS: Final = re.compile(r"\[SSL: (?!UNEXPECTED_EOF)")
_DAMAGED: Final = "a document in the mongodb store can't be read: it is damaged; restore it from a backup"
_TRANSIENT: Final = ("RetryableWriteError", "TransientTransactionError")


@contextmanager
def mapped(*, writing: bool = False, sent: Callable[[], int] = lambda: 0) -> Iterator[None]:
    """Convert errors that the block raises. With ``writing``, a lost command may have changed a record. ``sent`` counts
    its transmissions where that is known: the driver tries twice, and its error may concern only the second one.
    """
    try:
        yield
    except (RecursionError, OverflowError) as error:
        # Raised while the driver decodes a reply.
        raise IntegrityError(_DAMAGED) from error
    except (PyMongoError, BSONError) as error:
        if isinstance(error, ConnectionFailure) and sent() > _heard_of(error):
            raise _lost(error, writing=writing) from error
        raise _translated(error, writing=writing) from error


def _heard_of(error: ConnectionFailure) -> int:
    """How many transmissions the error reports as done without effect."""
    return 1 if isinstance(error, NotPrimaryError) and _code(error) in _NOT_DONE else 0


def _translated(error: PyMongoError | BSONError, *, writing: bool) -> PersistenceError:
    # The most specific class first, since many of these derive from one another.
    if isinstance(error, ServerSelectionTimeoutError):
        return _not_found(error)
    if isinstance(error, WaitQueueTimeoutError):
        message = (
            "no connection to the mongodb server became free in time; raise maxPoolSize in the URL, or run "
            "fewer operations at a time"
        )
        return PoolTimeout(message, NAME, True)
    if isinstance(error, NotPrimaryError) and _code(error) in _NOT_DONE:
        return BackendUnavailable("the mongodb server is no longer the primary; try again", NAME, True)
    if isinstance(error, ConnectionFailure | WriteConcernError | ExecutionTimeout):
        return _lost(error, writing=writing)
    if isinstance(error, OperationFailure):
        return _failed(error, writing=writing)
    return _impossible(error)


def _not_found(error: ServerSelectionTimeoutError) -> BackendUnavailable:
    if _NO_TLS.search(str(error)):
        message = "the mongodb server's certificate, or TLS itself, was rejected; check tls and tlsCAFile in the URL"
        return BackendUnavailable(message, NAME)
    message = "no writable mongodb server can be reached; check that it runs, and the URL's hosts and tls"
    return BackendUnavailable(message, NAME, True)


def _code(error: PyMongoError) -> int | None:
    code = getattr(error, "code", None)
    if code is None and isinstance(error, AutoReconnect) and isinstance(error.details, dict):
        code = error.details.get("code")
    return code


def _lost(error: PyMongoError, *, writing: bool) -> StorageError:
    if writing:
        message = "the mongodb server's acknowledgement was lost or late; read the record and compare its write id"
        return UnknownOutcome(message, NAME, True)
    return BackendUnavailable(f"the connection to the mongodb server failed ({type(error).__name__})", NAME, True)


def _of_bulk(error: BulkWriteError, *, writing: bool) -> PersistenceError:
    """The first refusal among several writes; if there is none, the acknowledgement failed."""
    refused = error.details.get("writeErrors")
    if not refused:
        return _lost(error, writing=writing)
    first = refused[0]
    return _failed(OperationFailure(str(first.get("errmsg")), first.get("code"), first), writing=writing)


def _failed(error: OperationFailure, *, writing: bool) -> PersistenceError:
    if isinstance(error, BulkWriteError):
        return _of_bulk(error, writing=writing)
    if any(error.has_error_label(label) for label in _TRANSIENT):
        return _lost(error, writing=writing)
    if error.code in _DISK_FULL or (error.code == 8000 and "quota" in str(error)):  # noqa: PLR2004 - Atlas's own
        return StorageFull("the mongodb server has no space left; nothing was written", NAME)
    if error.code in _REFUSED:
        return BackendUnavailable(f"the mongodb server {_REFUSED[error.code]}", NAME)
    name = (error.details or {}).get("codeName") or error.code
    return StorageError(f"the mongodb server rejected the operation ({name})", NAME)


def _impossible(error: PyMongoError | BSONError) -> PersistenceError:
    if isinstance(error, DriverConfigurationError) and "wire version" in str(error):
        message = "the mongodb server and the driver have incompatible versions; use MongoDB 4.4 or later"
        return BackendUnavailable(message, NAME)
    if isinstance(error, DriverConfigurationError | InvalidName):
        message = f"the driver rejected the options of the mongodb URL ({type(error).__name__}); correct them"
        return ConfigurationError(message, "FLOWPERSIST_URL")
    if isinstance(error, InvalidOperation):
        return BackendUnavailable("the client of the mongodb store was closed; open another backend", NAME)
    if isinstance(error, DocumentTooLarge):
        return StorageError("the record exceeds the mongodb server's size limit", NAME)
    if isinstance(error, BSONError):
        return IntegrityError(_DAMAGED)
    return StorageError(f"the mongodb driver rejected the operation ({type(error).__name__})", NAME)
