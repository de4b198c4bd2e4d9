"""The one place where asyncpg's errors, and the network's, become ours.

What a server has refused was rolled back, so nothing was written. Where the connection went away under a write, or an
answer did not come in time, only the write id tells: ``UnknownOutcome``. ``retryable`` is what PostgreSQL says of the
error's class. What the server says of values or SQL stays out of the message.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import asyncpg
from asyncpg import exceptions as pg

from flowpersist.backends._postgres.layout import NAME, Link
from flowpersist.backends._postgres.liveness import is_gone
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

__all__ = ["DRIVER", "connecting", "lost", "mapped", "translated"]

#: The connection is gone, or goes; what was under way on it may have been done or not.
_LOST: Final = (
    pg.PostgresConnectionError,
    pg.StatementCompletionUnknownError,
    pg.AdminShutdownError,
    pg.CrashShutdownError,
    pg.DatabaseDroppedError,
    pg.IdleSessionTimeoutError,
    pg.IdleInTransactionSessionTimeoutError,
    pg.InternalClientError,
    OSError,
    EOFError,
)

#: What the server is not able or willing to do, the most specific first: what it says, and whether that may pass.
_UNAVAILABLE: Final[tuple[tuple[type[Exception] | tuple[type[Exception], ...], str, bool], ...]] = (
    (
        (pg.InvalidPasswordError, pg.InvalidAuthorizationSpecificationError),
        "refused the user or the password; mend them or sslmode in the URL, or let this host in in pg_hba.conf",
        False,
    ),
    (pg.InvalidCatalogNameError, "has no database of that name; create it, or mend the URL", False),
    (
        pg.TooManyConnectionsError,
        "has no connection left; lower pool_size in the URL, raise max_connections, or put a pooler in between",
        True,
    ),
    (pg.CannotConnectNowError, "is starting up or shutting down; try again", True),
    (
        pg.ReadOnlySQLTransactionError,
        "is read-only; name the primary, or a role and a database without default_transaction_read_only",
        False,
    ),
    (
        pg.InsufficientPrivilegeError,
        "denies its role a right; grant it on the tables, or let their owner run what flowpersist migrate --plan shows",
        False,
    ),
    (
        pg.UndefinedTableError,
        "has no tables of this prefix any more; open the store anew, which makes them, or mend search_path",
        False,
    ),
    (
        (pg.InvalidSQLStatementNameError, pg.DuplicatePreparedStatementError),
        "is behind a pooler that mixes up prepared statements; put statement_cache=off into the URL",
        False,
    ),
    (pg.QueryCanceledError, "cancelled the statement, which took longer than statement_timeout; try again", True),
    (pg.LockNotAvailableError, "could not get a lock within lock_timeout; try again", True),
    (
        (pg.SerializationError, pg.DeadlockDetectedError),
        "rolled the statement back in favour of another; try again",
        True,
    ),
)


def translated(error: Exception, *, writes: bool) -> PersistenceError:
    """An operation's error as ours."""
    if isinstance(error, TimeoutError):
        return _doubtful(
            "did not answer in time; raise command_timeout in the URL where it is merely slow", writes=writes
        )
    for classes, what, retryable in _UNAVAILABLE:
        if isinstance(error, classes):
            return BackendUnavailable(f"the {NAME} server {what}", NAME, retryable)
    if isinstance(error, pg.DiskFullError):
        return StorageFull(f"the {NAME} database has no space left; nothing was written", NAME)
    if isinstance(error, pg.DataCorruptedError | pg.IndexCorruptedError):
        return IntegrityError(f"the {NAME} database is damaged; restore it from a backup")
    if isinstance(error, _LOST):
        return _doubtful("closed the connection, or it was cut", writes=writes)
    state = getattr(error, "sqlstate", None) or "no SQLSTATE"
    return StorageError(f"the {NAME} server rejected the operation ({type(error).__name__}, {state})", NAME)


def _doubtful(what: str, *, writes: bool) -> StorageError:
    message = f"the {NAME} server {what}"
    if writes:
        return UnknownOutcome(f"{message}; whether the write was done, its write id tells", NAME)
    return BackendUnavailable(message, NAME, True)


def lost(error: BaseException) -> bool:
    """Whether nothing more should be asked on the connection."""
    return isinstance(error, (*_LOST, pg.ReadOnlySQLTransactionError))


#: All that the driver and the network raise.
DRIVER: Final = (asyncpg.PostgresError, asyncpg.InterfaceError, *_LOST)


@contextmanager
def mapped(connection: Link, *, writes: bool = False) -> Iterator[None]:
    """Operations on a connection."""
    try:
        yield
    except asyncpg.InterfaceError as error:
        raise _not_sent(connection) from error
    except DRIVER as error:
        raise translated(error, writes=writes) from error


def _not_sent(connection: Link) -> StorageError:
    """The driver looks before it sends: nothing has left this process."""
    if is_gone(connection):
        message = f"the connection to the {NAME} server was closed before anything was sent; try again"
        return BackendUnavailable(message, NAME, True)
    return StorageError(
        f"the driver of {NAME} rejected the operation; check that nothing else uses its connection", NAME
    )


@contextmanager
def connecting() -> Iterator[None]:
    """Getting a connection: nothing was sent yet, so that no outcome is in doubt."""
    try:
        yield
    except PersistenceError:
        # Ours already: a ConfigurationError is a ValueError, too.
        raise
    except TimeoutError as error:
        message = (
            f"no connection to the {NAME} server became free in time; raise pool_size or acquire_timeout in the URL, "
            "or look for what holds connections"
        )
        raise PoolTimeout(message, NAME, True) from error
    except ssl.SSLError as error:
        # Some of these are ValueErrors, too.
        raise _unreachable(error) from error
    except (ValueError, UnicodeError):
        # Not chained: it may quote a part of the URL, and there stands the password.
        message = "the postgresql URL is not one that the driver understands; check its host, port and options"
        raise ConfigurationError(message, "FLOWPERSIST_URL") from None
    except OSError as error:
        raise _unreachable(error) from error
    except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
        raise _not_connected(error) from error


def _unreachable(error: OSError) -> BackendUnavailable:
    if isinstance(error, ssl.SSLError) or "SSL upgrade" in str(error):
        return BackendUnavailable(
            f"the {NAME} server and sslmode, sslrootcert or sslcert in the URL do not agree", NAME
        )
    known = not (isinstance(error, socket.gaierror) and error.errno == socket.EAI_NONAME)
    message = f"the {NAME} server can't be reached; check that it runs, and host and port in the URL"
    return BackendUnavailable(message, NAME, known)


def _not_connected(error: Exception) -> PersistenceError:
    if isinstance(error, pg.TargetServerAttributeNotMatched):
        message = f"no {NAME} primary was found, only standbys; name the primary, or all hosts in the URL"
        return BackendUnavailable(message, NAME, True)
    if isinstance(error, pg.UndefinedObjectError | pg.InvalidParameterValueError | pg.CantChangeRuntimeParamError):
        message = "the postgresql URL has an option that neither flowpersist, the driver nor the server knows or takes"
        return ConfigurationError(message, "FLOWPERSIST_URL")
    return translated(error, writes=False)
