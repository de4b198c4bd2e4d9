"""The driver's errors as ours, in one place.

What the server says may hold values, and stays out of the message. A connection that was lost once a write was
sent is ``UnknownOutcome``: an auto-commit transaction may have been committed. What happened before anything was
sent, or while reading, can be tried again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from traceback import walk_tb
from typing import Final

from neo4j.exceptions import (
    AuthError,
    ConnectionAcquisitionTimeoutError,
    DriverError,
    Forbidden,
    ForbiddenOnReadOnlyDatabase,
    Neo4jError,
    ServiceUnavailable,
    SessionExpired,
    UnsupportedServerProduct,
)
from neo4j.exceptions import (
    ConfigurationError as DriverConfigurationError,
)

from flowpersist.backends._neo4j.rows import NAME
from flowpersist.backends._tls import is_refused
from flowpersist.backends._url import SETTING
from flowpersist.errors import (
    BackendUnavailable,
    ConfigurationError,
    PersistenceError,
    PoolTimeout,
    StorageError,
    StorageFull,
    UnknownOutcome,
)

__all__ = ["came_late", "in_the_way", "lost", "mapped", "of_wrong_type", "rolled_back", "too_many", "translated"]

_CODES: Final = {
    "Neo.ClientError.Database.DatabaseNotFound": "has no such database; name one as the URL's path, or none",
    "Neo.ClientError.Security.AuthenticationRateLimit": "refuses this user for a while, after too many wrong passwords",
    "Neo.ClientError.Security.CredentialsExpired": "wants a new password for this user; set one, then give it",
    "Neo.DatabaseError.Schema.ConstraintCreationFailed": "can't make a constraint, since nodes of a label in the graph "
    "have the same value; merge them, or map the attribute to another label",
    "Neo.ClientError.General.ReadOnly": "is read-only; make the database writable, or connect to another one",
    "Neo.ClientError.Transaction.TransactionTimedOutClientConfiguration": "took longer than the timeout in the URL",
    "Neo.ClientError.Transaction.TransactionTimedOut": "took longer than the server's own db.transaction.timeout",
}
#: The server rolled back, and the driver calls it transient: it had to choose a victim, or too many transactions took
#: memory at once, 2 MiB each of seven tenths of the heap.
_ROLLED_BACK: Final = frozenset(
    {
        "Neo.TransientError.Transaction.DeadlockDetected",
        "Neo.TransientError.Transaction.Outdated",
        "Neo.TransientError.General.MemoryPoolOutOfMemoryError",
    }
)
#: The same statement may well succeed now, or never: a node came or went between being looked for and being used.
_IN_THE_WAY: Final = frozenset(
    {
        "Neo.ClientError.Statement.EntityNotFound",
        "Neo.ClientError.Schema.ConstraintValidationFailed",
        # IF NOT EXISTS looks before it locks.
        "Neo.ClientError.Schema.ConstraintAlreadyExists",
        "Neo.ClientError.Schema.EquivalentSchemaRuleAlreadyExists",
        "Neo.ClientError.Schema.IndexAlreadyExists",
    }
)
#: The driver's functions that get a connection, the second by asking a cluster who its leader is.
_CONNECTING: Final = frozenset({"acquire", "update_routing_table"})
_NO_SPACE: Final = "No space left on device"


def rolled_back(error: Neo4jError) -> bool:
    """Whether a statement was rolled back for others' sake."""
    return error.code in _ROLLED_BACK


def in_the_way(error: Neo4jError) -> bool:
    """Whether a statement failed since others may have come in its way."""
    return error.code in _IN_THE_WAY


def came_late(error: BaseException | None) -> bool:
    """Whether a statement undid itself since it had waited past its deadline (records.cypher)."""
    return isinstance(error, Neo4jError) and error.code == "Neo.ClientError.Statement.ArithmeticError"


def of_wrong_type(error: BaseException | None) -> bool:
    """Whether a statement failed on a property that is of no type of ours."""
    return isinstance(error, Neo4jError) and error.code == "Neo.ClientError.Statement.TypeError"


def _before_sending(error: BaseException) -> bool:
    """Whether the driver was still getting a connection. Its classes do not tell; where it was does. What is not
    recognized counts as sent.
    """
    return any(
        frame.f_code.co_name in _CONNECTING and frame.f_globals.get("__name__", "").startswith("neo4j.")
        for one in (error, error.__cause__)  # what was under way where time ran out is the cause
        if one is not None
        for frame, _ in walk_tb(one.__traceback__)
    )


def lost(*, writes: bool) -> StorageError:
    """The connection was lost, or time ran out, once the statement had been sent."""
    if writes:
        return UnknownOutcome("the connection to neo4j was lost before the write was acknowledged", NAME)
    return BackendUnavailable("the connection to neo4j was lost while reading; try again", NAME, True)


def too_many() -> PoolTimeout:
    """Nothing was sent, since all connections were in use."""
    message = "no connection to neo4j became free in time: raise pool_size or pool_timeout in the URL"
    return PoolTimeout(message, NAME, True)


def _unavailable(what: str, *, retryable: bool = False) -> BackendUnavailable:
    return BackendUnavailable(f"the neo4j server {what}", NAME, retryable)


def _unreachable() -> BackendUnavailable:
    return _unavailable("can't be reached; look whether it runs, and at scheme, host and port", retryable=True)


_DRIVER: Final[Mapping[type[DriverError], Callable[[DriverError], PersistenceError]]] = {
    ConnectionAcquisitionTimeoutError: lambda _: too_many(),
    UnsupportedServerProduct: lambda _: _unavailable(
        "is of a version that the driver does not speak to; flowpersist needs Neo4j 5.26 or later"
    ),
    DriverConfigurationError: lambda _: ConfigurationError(
        "the driver of neo4j refuses its settings: look at the URL's scheme and options", SETTING
    ),
}
_SERVER: Final[Mapping[type[Neo4jError], str]] = {
    AuthError: "refuses user or password; give the right ones in the URL, as neo4j://user:password@host",
    ForbiddenOnReadOnlyDatabase: "is read-only, or no longer the leader; write to another one",
    Forbidden: "does not permit this user to do so; grant it reading and writing, and at first the schema",
}


def _of_driver(error: DriverError, *, writes: bool) -> PersistenceError:
    for kind, what in _DRIVER.items():
        if isinstance(error, kind):
            return what(error)
    if is_refused(error):
        return _unavailable("has a certificate that is not trusted; install its authority, or name another scheme")
    if isinstance(error, ServiceUnavailable | SessionExpired):
        return _unreachable() if _before_sending(error) else lost(writes=writes)
    return StorageError(f"the driver of neo4j refused the operation ({type(error).__name__})", NAME)


def _of_server(error: Neo4jError) -> PersistenceError:
    code = error.code or ""
    if code in _CODES:
        return _unavailable(_CODES[code])
    for kind, what in _SERVER.items():
        if isinstance(error, kind):
            return _unavailable(what)
    if _NO_SPACE in (error.message or ""):
        return StorageFull("the neo4j database has no space left; nothing was written", NAME)
    if error.is_retryable():
        return _unavailable(f"asks to try again ({code})", retryable=True)
    return StorageError(f"the neo4j server refused the operation ({code})", NAME)


def translated(error: Exception, *, writes: bool) -> PersistenceError:
    """The driver's error as ours."""
    if isinstance(error, Neo4jError):
        return _of_server(error)
    if isinstance(error, DriverError):
        return _of_driver(error, writes=writes)
    return _unreachable() if _before_sending(error) else lost(writes=writes)


@contextmanager
def mapped(*, writes: bool) -> Iterator[None]:
    """The one place where the driver's errors become ours."""
    try:
        yield
    except (Neo4jError, DriverError, OSError) as error:
        raise translated(error, writes=writes) from error
