"""What a store fails with."""

from __future__ import annotations

from flowpersist.errors.base import PersistenceError

__all__ = [
    "BackendUnavailable",
    "DeadlinePassed",
    "LedgerUnavailable",
    "PoolTimeout",
    "RevisionConflict",
    "StorageError",
    "StorageFull",
    "TransactionAborted",
    "UnknownOutcome",
]


class StorageError(PersistenceError):
    """A backend failed; ``retryable`` is what its driver's own classification says."""

    code = "storage"
    http_status = 503

    def __init__(self, message: str, backend: str = "", retryable: bool = False) -> None:  # noqa: FBT001, FBT002
        # Positional, since an exception pickles by its positional arguments.
        super().__init__(message, backend, retryable)
        self.backend = backend
        self.retryable = retryable

    def _members(self) -> dict[str, object]:
        return {"backend": self.backend or None, "retryable": self.retryable}


class BackendUnavailable(StorageError):
    """The store can't be reached, opened, read or written."""

    code = "backend-unavailable"


class LedgerUnavailable(StorageError):
    """The replay ledger can't be reached, read or written: whether the store was put back can't be told."""

    code = "ledger-unavailable"


class PoolTimeout(StorageError):
    """No connection became free in time."""

    code = "pool-timeout"


class RevisionConflict(StorageError):
    """The record is not at the revision that the put named: nothing was written."""

    code = "revision-conflict"
    http_status = 409


class DeadlinePassed(StorageError):
    """The store's clock is past the put's ``not_after``: nothing was written."""

    code = "deadline-passed"
    http_status = 409


class UnknownOutcome(StorageError):
    """The acknowledgement was lost: the write may have happened; its write id tells."""

    code = "unknown-outcome"


class StorageFull(StorageError):
    """No room: the old record is intact."""

    code = "storage-full"
    http_status = 507


class TransactionAborted(StorageError):
    """The caller's transaction, which the operation was part of, can't be committed: roll it back and do it again."""

    code = "transaction-aborted"
