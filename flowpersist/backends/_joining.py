"""What backends share that take part in a transaction of the caller's, and what the others say instead."""

from __future__ import annotations

from typing import Any, NoReturn

from flowpersist.errors import ConfigurationError, StorageError, TransactionAborted, UnknownOutcome

__all__ = ["NoTransactions", "aborted", "not_begun", "unable"]


def aborted(error: StorageError, *, spoilt: bool = False) -> StorageError:
    """The error of an operation in a caller's transaction. What would otherwise be worth another attempt, or leave an
    outcome open, concerns the whole transaction there: nothing of it was committed, and a part can't be done again.
    ``spoilt``: the server says so of any error.
    """
    if not (spoilt or error.retryable or isinstance(error, UnknownOutcome)):
        return error
    # Behind the semicolon stands what to do elsewhere.
    reason = error.message.partition(";")[0]
    message = f"the transaction can't go on ({reason}): roll it back, and do all of it again in a new one"
    return TransactionAborted(message, error.backend)


def not_begun(backend: str, how: str) -> ConfigurationError:
    """A connection on which no transaction is open."""
    message = f"within takes a {backend} connection on which a transaction is open: {how} first"
    return ConfigurationError(message, "within")


def unable(backend: str) -> ConfigurationError:
    """A store that joins no transaction."""
    message = (
        f"the {backend} store can't be part of a transaction of yours: within needs PostgreSQL, SQLite or Neo4j, "
        "without blobs apart"
    )
    return ConfigurationError(message, "within")


class NoTransactions:
    """A backend that has no transactions to join."""

    name: str

    def within(self, transaction: Any) -> NoReturn:  # noqa: ANN401 - any driver's
        """Raise ``ConfigurationError``: only PostgreSQL, SQLite and Neo4j join a caller's transaction."""
        del transaction
        raise unable(self.name)
