"""The driver's errors as ours, in one place."""

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
#: A server that was no primary when the command came: it did nothing.
_NOT_DONE: Final = frozenset({10107, 13435, 10058})
_REFUSED: Final = {
    18: "refuses the user name or password; look at those of the URL and at its authSource",
    13: "does not let this user do that; grant it readWrite on the database",
    8000: "refuses the user, or is over its quota; look at the service's own messages",
}
_DISK_FULL: Final = frozenset({14031, 12501})
#: What the driver says of TLS, in words alone; an end of the stream in the middle is a lost connection like any other.
_NO_TLS: Final = re.compile(r"\[SSL: (?!UNEXPECTED_EOF)")
_DAMAGED: Final = "a document in the mongodb store can't be read: it is damaged; restore it from a backup"
_TRANSIENT: Final = ("RetryableWriteError", "TransientTransactionError")


@contextmanager
def mapped(*, writing: bool = False, sent: Callable[[], int] = lambda: 0) -> Iterator[None]:
    """``writing``: what is lost on the way may have been done, and changes a record. ``sent`` tells how often it was,
    where that is known: the driver tries twice, and its error may be of the second time alone.
    """
    try:
        yield
    except (RecursionError, OverflowError) as error:
        # What the driver decodes of a reply.
        raise IntegrityError(_DAMAGED) from error
    except (PyMongoError, BSONError) as error:
        if isinstance(error, ConnectionFailure) and sent() > _heard_of(error):
            raise _lost(error, writing=writing) from error
        raise _translated(error, writing=writing) from error


def _heard_of(error: ConnectionFailure) -> int:
    """How many sendings the error speaks of, and says that nothing came of them."""
    return 1 if isinstance(error, NotPrimaryError) and _code(error) in _NOT_DONE else 0


def _translated(error: PyMongoError | BSONError, *, writing: bool) -> PersistenceError:
    # The most specific class first: many of these derive from one another.
    if isinstance(error, ServerSelectionTimeoutError):
        return _not_found(error)
    if isinstance(error, WaitQueueTimeoutError):
        message = "no connection to the mongodb server became free in time; raise maxPoolSize in the URL, or do less"
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
        message = "the mongodb server's certificate, or TLS itself, was refused; look at tls and tlsCAFile in the URL"
        return BackendUnavailable(message, NAME)
    message = "no mongodb server that takes writes can be reached; look whether it runs, and at the URL's hosts and tls"
    return BackendUnavailable(message, NAME, True)


def _code(error: PyMongoError) -> int | None:
    code = getattr(error, "code", None)
    if code is None and isinstance(error, AutoReconnect) and isinstance(error.details, dict):
        code = error.details.get("code")
    return code


def _lost(error: PyMongoError, *, writing: bool) -> StorageError:
    if writing:
        message = "the acknowledgement of the mongodb server was lost or came too late: the write id tells"
        return UnknownOutcome(message, NAME, True)
    return BackendUnavailable(f"the connection to the mongodb server failed ({type(error).__name__})", NAME, True)


def _of_bulk(error: BulkWriteError, *, writing: bool) -> PersistenceError:
    """What of several writes was refused first; where none was, the acknowledgement is what failed."""
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
    return StorageError(f"the mongodb server refused the operation ({name})", NAME)


def _impossible(error: PyMongoError | BSONError) -> PersistenceError:
    if isinstance(error, DriverConfigurationError) and "wire version" in str(error):
        message = "the mongodb server and the driver are of incompatible releases; MongoDB 4.4 or later is needed"
        return BackendUnavailable(message, NAME)
    if isinstance(error, DriverConfigurationError | InvalidName):
        message = f"the driver refuses the options of the mongodb URL ({type(error).__name__}); correct them"
        return ConfigurationError(message, "FLOWPERSIST_URL")
    if isinstance(error, InvalidOperation):
        return BackendUnavailable("the client of the mongodb store was closed; open another backend", NAME)
    if isinstance(error, DocumentTooLarge):
        return StorageError("a record is larger than the mongodb server takes", NAME)
    if isinstance(error, BSONError):
        return IntegrityError(_DAMAGED)
    return StorageError(f"the mongodb driver refused the operation ({type(error).__name__})", NAME)
