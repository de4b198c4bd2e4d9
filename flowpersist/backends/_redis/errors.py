"""The driver's errors as ours.

::

    connection refused, reset, timed out; LOADING, BUSY, TRYAGAIN, CLUSTERDOWN     BackendUnavailable, retryable
    the same once a write had been sent                                            UnknownOutcome
    TLS refused, NOAUTH, WRONGPASS, NOPERM, READONLY, MISCONF, NOREPLICAS,         BackendUnavailable
    wrong database
    OOM                                                                            StorageFull
    anything else that the server refuses                                          StorageError
"""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Final

from redis import exceptions as theirs

from flowpersist.backends._tls import is_refused
from flowpersist.errors import BackendUnavailable, ConfigurationError, PersistenceError, StorageError, StorageFull

__all__ = ["NAME", "is_elsewhere", "is_lost", "is_of_other_kind", "mapped", "translated"]

NAME: Final = "redis"
_MOVING: Final = "is moving the record to another node; try again"
#: By class, the most specific first; the server's text stays in the cause.
_BY_CLASS: Final[tuple[tuple[type[Exception], str, bool], ...]] = (
    (theirs.AuthenticationError, "rejected the user name or password; correct them in the URL", False),
    (theirs.AuthenticationWrongNumberOfArgsError, "rejected the user name or password; correct them in the URL", False),
    (
        theirs.NoPermissionError,
        "denied the user a command or a key; grant what docs/reference/backend-redis.md lists",
        False,
    ),
    (theirs.BusyLoadingError, "is loading its data; try again", True),
    (theirs.ReadOnlyError, "is a read-only replica; use the primary's address in the URL", False),
    (theirs.MovedError, "is part of a cluster; add cluster=on to the URL", False),
    (theirs.TryAgainError, _MOVING, True),
    (theirs.AskError, _MOVING, True),
    (theirs.ClusterDownError, "is a cluster that is down; try again", True),
    (theirs.SlotNotCoveredError, "is a cluster without a node for some slots; try again", True),
    (theirs.MaxConnectionsError, "has no free connections; raise pool_size in the URL", True),
)
#: By the first word of the server's error, if the driver has no class for it.
_BY_CODE: Final[Mapping[str, tuple[str, bool]]] = {
    "BUSY": ("is running another script; try again", True),
    "MISCONF": ("can't save to disk and refuses writes; see its log", False),
    "NOREPLICAS": ("has fewer replicas than its min-replicas-to-write; add some, or lower that setting", False),
    "NOAUTH": ("rejected the user name or password; correct them in the URL", False),
    "WRONGPASS": ("rejected the user name or password; correct them in the URL", False),
    "NOPERM": ("denied the user a command or a key; grant what docs/reference/backend-redis.md lists", False),
    "READONLY": ("is a read-only replica; use the primary's address in the URL", False),
    "LOADING": ("is loading its data; try again", True),
}
_DATABASE: Final = ("DB index", "SELECT is not allowed")
_NO_CLUSTER: Final = "Cluster mode is not enabled"
_CLIENTS: Final = "max number of clients"
#: The error of a script that uses a key which another node may hold already.
_NOT_LOCAL: Final = "access a non local key"


def is_lost(error: BaseException) -> bool:
    """Whether the outcome of the commands that were sent is unknown. A refusal by the server is a known outcome, though
    the driver derives some of its classes from ``ConnectionError``.
    """
    refused = theirs.AuthenticationError | theirs.BusyLoadingError | theirs.MaxConnectionsError
    if isinstance(error, refused) or _CLIENTS in str(error):
        return False
    return isinstance(error, theirs.ConnectionError | theirs.TimeoutError | theirs.InvalidResponse | OSError)


def is_elsewhere(reply: object) -> bool:
    """Whether a node reports that another node holds, or may hold, the key; it has done nothing."""
    if isinstance(reply, theirs.MovedError | theirs.AskError | theirs.TryAgainError | theirs.ClusterDownError):
        return True
    return isinstance(reply, theirs.ResponseError) and _NOT_LOCAL in str(reply)


def is_of_other_kind(reply: object) -> bool:
    """Whether a command was refused because its key holds a value of another type."""
    return isinstance(reply, theirs.ResponseError) and str(reply).startswith("WRONGTYPE")


def translated(error: Exception) -> PersistenceError:
    """Convert an error of the driver to one of flowpersist; the server's text stays out of the message."""
    said = str(error)
    if isinstance(error, theirs.OutOfMemoryError):
        message = f"the {NAME} server has reached its maxmemory, so nothing was written; purge records, or raise it"
        return StorageFull(message, NAME)
    known = _known(error, said)
    if known is not None:
        what, retryable = known
        return BackendUnavailable(f"the {NAME} server {what}", NAME, retryable)
    if isinstance(error, theirs.RedisClusterException):
        return _of_cluster(error, said)
    if isinstance(error, theirs.ResponseError | theirs.DataError):
        return StorageError(f"the {NAME} server rejected the operation ({_code(error, said)})", NAME)
    if is_refused(error):
        message = f"the {NAME} server's certificate, or TLS itself, was rejected; check ssl_ca_certs in the URL"
        return BackendUnavailable(message, NAME)
    message = (
        f"the {NAME} server can't be reached; check that it runs, has free connections, and whether it needs rediss://"
    )
    return BackendUnavailable(message, NAME, True)


def _of_cluster(error: Exception, said: str) -> PersistenceError:
    if _NO_CLUSTER in said:
        message = f"the {NAME} server is not part of a cluster; remove cluster=on from the URL"
        return ConfigurationError(message, "cluster")
    if isinstance(error.__cause__, Exception):
        # No node answered; the last one's error is the reason.
        return translated(error.__cause__)
    return BackendUnavailable(f"the {NAME} cluster failed ({type(error).__name__}); try again", NAME, True)


def _known(error: Exception, said: str) -> tuple[str, bool] | None:
    for kind, what, retryable in _BY_CLASS:
        if isinstance(error, kind):
            return what, retryable
    if any(text in said for text in _DATABASE):
        return "has no database of that number; correct the number at the end of the URL", False
    if _NOT_LOCAL in said:
        return _MOVING, True
    if _CLIENTS in said:
        return "has no free connections; raise its maxclients, or lower pool_size in the URL", True
    return _BY_CODE.get(said.partition(" ")[0])


def _code(error: Exception, said: str) -> str:
    code = said.partition(" ")[0]
    return code if code.isupper() and code.isalpha() else type(error).__name__


class mapped:  # noqa: N801 - used as a verb; a generator would take longer than what most operations do here
    """Convert the errors of the driver that the block raises; the one place that does."""

    __slots__ = ()

    def __enter__(self) -> None:
        """Nothing is to be done before."""

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        if isinstance(error, theirs.RedisError | theirs.RedisClusterException | OSError):
            raise translated(error) from error
