"""The driver's errors as ours, in one place.

The server's text may hold values, so it stays out of the message. A connection that is lost after a write was sent is
``UnknownOutcome``, because the auto-commit transaction may have been committed. Errors before anything was sent, and
errors of reads, are retryable.
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
    "Neo.ClientError.Database.DatabaseNotFound": "has no such database; correct the name in the URL's path, or "
    "leave it out for the default database",
    "Neo.ClientError.Security.AuthenticationRateLimit": "refuses this user for some time because of too many "
    "wrong passwords; wait, then try again",
    "Neo.ClientError.Security.CredentialsExpired": "requires a new password for this user; set one, then put it "
    "into the URL",
    "Neo.DatabaseError.Schema.ConstraintCreationFailed": "can't create a constraint because nodes of one label "
    "have the same value; merge them, or map the attribute to "
    "another label",
    "Neo.ClientError.General.ReadOnly": "is read-only; make the database writable, or connect to another one",
    "Neo.ClientError.Transaction.TransactionTimedOutClientConfiguration": "took longer than the timeout in the "
    "URL; raise timeout",
    "Neo.ClientError.Transaction.TransactionTimedOut": "took longer than the server's db.transaction.timeout; raise it",
}
#: The server rolled back and the driver classifies the error as transient: the server resolved a deadlock, or too many
#: transactions took memory at once (2 MiB each, of seven tenths of the heap).
_ROLLED_BACK: Final = frozenset(
    {
        "Neo.TransientError.Transaction.DeadlockDetected",
        "Neo.TransientError.Transaction.Outdated",
        "Neo.TransientError.General.MemoryPoolOutOfMemoryError",
    }
)
#: The same statement may succeed when repeated, or never: a node was created or removed between being found and being
#: used.
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
#: The functions of the driver that get a connection; the second one asks a cluster for its leader.
_CONNECTING: Final = frozenset({"acquire", "update_routing_table"})
_NO_SPACE: Final = "No space left on device"


def rolled_back(error: Neo4jError) -> bool:
    """Whether the server rolled a statement back in favour of other transactions."""
    return error.code in _ROLLED_BACK


def in_the_way(error: Neo4jError) -> bool:
    """Whether a statement failed, possibly because of a concurrent change."""
    return error.code in _IN_THE_WAY


def came_late(error: BaseException | None) -> bool:
    """Whether a statement rolled itself back because its deadline had passed while it waited (records.cypher)."""
    return isinstance(error, Neo4jError) and error.code == "Neo.ClientError.Statement.ArithmeticError"


def of_wrong_type(error: BaseException | None) -> bool:
    """Whether a statement failed on a property of a type that this store does not write."""
    return isinstance(error, Neo4jError) and error.code == "Neo.ClientError.Statement.TypeError"


def _before_sending(error: BaseException) -> bool:
    """Whether the driver was still getting a connection. Its error classes do not show that, but the traceback does. An
    error that is not recognized counts as raised after sending.
    """
    return any(
        frame.f_code.co_name in _CONNECTING and frame.f_globals.get("__name__", "").startswith("neo4j.")
        for one in (error, error.__cause__)  # When time ran out, the cause is the error of what was running.
        if one is not None
        for frame, _ in walk_tb(one.__traceback__)
    )


def lost(*, writes: bool) -> StorageError:
    """The error for a connection that was lost, or time that ran out, after the statement was sent."""
    if writes:
        return UnknownOutcome(
            "the connection to neo4j was lost before the write was acknowledged; read the record and decide again", NAME
        )
    return BackendUnavailable("the connection to neo4j was lost while reading; try again", NAME, True)


def too_many() -> PoolTimeout:
    """The error for a statement that was not sent because all connections were in use."""
    message = "no connection to neo4j became free in time: raise pool_size or pool_timeout in the URL"
    return PoolTimeout(message, NAME, True)


def _unavailable(what: str, *, retryable: bool = False) -> BackendUnavailable:
    return BackendUnavailable(f"the neo4j server {what}", NAME, retryable)


def _unreachable() -> BackendUnavailable:
    return _unavailable("can't be reached; check that it runs, and the URL's scheme, host and port", retryable=True)


_DRIVER: Final[Mapping[type[DriverError], Callable[[DriverError], PersistenceError]]] = {
    ConnectionAcquisitionTimeoutError: lambda _: too_many(),
    UnsupportedServerProduct: lambda _: _unavailable(
        "has a version that the driver does not support; upgrade to Neo4j 5.26 or later"
    ),
    DriverConfigurationError: lambda _: ConfigurationError(
        "the neo4j driver rejected its settings; check the URL's scheme and options", SETTING
    ),
}
_SERVER: Final[Mapping[type[Neo4jError], str]] = {
    AuthError: "rejected the user name or password; correct them in the URL (neo4j://user:password@host)",
    ForbiddenOnReadOnlyDatabase: "is read-only or no longer the leader; connect to the leader",
    Forbidden: "denied permission to this user; grant reading and writing, and schema changes for the first open",
}


def _of_driver(error: DriverError, *, writes: bool) -> PersistenceError:
    for kind, what in _DRIVER.items():
        if isinstance(error, kind):
            return what(error)
    if is_refused(error):
        return _unavailable(
            "has a certificate that is not trusted; install its certificate authority, or use another URL scheme"
        )
    if isinstance(error, ServiceUnavailable | SessionExpired):
        return _unreachable() if _before_sending(error) else lost(writes=writes)
    return StorageError(f"the neo4j driver rejected the operation ({type(error).__name__})", NAME)


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
        return _unavailable(f"reported a transient error ({code}); try again", retryable=True)
    return StorageError(f"the neo4j server rejected the operation ({code})", NAME)


def translated(error: Exception, *, writes: bool) -> PersistenceError:
    """Convert an error of the driver to one of flowpersist."""
    if isinstance(error, Neo4jError):
        return _of_server(error)
    if isinstance(error, DriverError):
        return _of_driver(error, writes=writes)
    return _unreachable() if _before_sending(error) else lost(writes=writes)


@contextmanager
def mapped(*, writes: bool) -> Iterator[None]:
    """Convert the errors of the driver that the block raises; the one place that does."""
    try:
        yield
    except (Neo4jError, DriverError, OSError) as error:
        raise translated(error, writes=writes) from error
