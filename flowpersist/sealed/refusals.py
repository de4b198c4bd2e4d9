"""The errors of operations on sealed records that are refused or given up."""

from __future__ import annotations

from flowpersist.errors import (
    InputValidationError,
    PersistenceError,
    Problem,
    RevisionConflict,
    StateTooLarge,
    TamperedEnvelope,
)
from flowpersist.sealed.turns import MAX_CONFLICTS

__all__ = ["contended", "exchanged", "foreign_cursor", "head_too_large"]


def contended(key: str, store: str) -> RevisionConflict:
    """What is given up, since others came first each time."""
    message = f"record {key} changed {MAX_CONFLICTS} times while it was being updated; try again later"
    return RevisionConflict(message, store, retryable=True)


def exchanged(key: str, what: str) -> TamperedEnvelope:
    """A body that stands under a head of another moment."""
    message = f"the {what} of record {key} is not its head's own: it was put back or exchanged"
    return TamperedEnvelope(f"{message}; restore the whole record from a backup")


def foreign_cursor() -> PersistenceError:
    """A cursor that no page of this query returned."""
    problem = Problem("/after", "must be a cursor that a page of this query returned")
    message = "Invalid cursor: expected one that a page of this query returned; start again without one"
    return InputValidationError(message, [problem])


def head_too_large(size: int, limit: int) -> PersistenceError:
    """A head that does not fit its record."""
    message = (
        f"what is awaited and answered takes {size} bytes, over the {max(0, limit)} that fit a head: "
        "put large data into the state, and keep schemas, defaults and metadata small"
    )
    return StateTooLarge(message)
