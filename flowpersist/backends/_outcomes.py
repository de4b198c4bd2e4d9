"""The errors that every backend raises alike, and what a change makes of a record."""

from __future__ import annotations

from datetime import datetime

from flowpersist.backends.base import Record, RecordChange, RecordRef, applied
from flowpersist.errors import DeadlinePassed, IntegrityError, RevisionConflict, StorageError, UnsupportedVersion

__all__ = [
    "body_missing",
    "check_body",
    "check_deadline",
    "check_revision",
    "check_unwritten",
    "later_release",
    "revised",
    "unreadable",
    "written_already",
]


def check_revision(backend: str, ref: RecordRef, found: int, expected: int | None) -> None:
    """Refuse a write at another revision than the record's; 0 stands for none, None expects nothing."""
    if found == expected or expected is None:
        return
    stands = f"is at revision {found}" if found else "does not exist"
    message = f"record {ref.key} {stands}, not at {expected}: read it and decide again"
    raise RevisionConflict(message, backend)


def check_unwritten(backend: str, ref: RecordRef, standing: str | None, write_id: str) -> None:
    """Refuse a write without a revision that an earlier attempt of it has already made."""
    if standing == write_id:
        raise written_already(backend, ref)


def written_already(backend: str, ref: RecordRef) -> RevisionConflict:
    """The error of a repeated write without a revision that an earlier attempt has already made."""
    return RevisionConflict(f"record {ref.key} is already as this write made it: read its revision", backend)


def check_deadline(backend: str, ref: RecordRef, now: datetime, not_after: datetime | None) -> None:
    """Refuse a write after its deadline, by the store's clock; its own instant is still in time."""
    if not_after is not None and now > not_after:
        raise DeadlinePassed(f"the deadline for writing record {ref.key} has passed; nothing was written", backend)


def check_body(backend: str, ref: RecordRef, body: object, largest: int) -> None:
    """Refuse a body that the store can't take."""
    if isinstance(body, bytes) and len(body) > largest:
        message = (
            f"the body of record {ref.key} has {len(body)} bytes, and the {backend} store takes {largest}: "
            "keep large bodies in a blob store, or make the state smaller"
        )
        raise StorageError(message, backend)


def body_missing(backend: str, ref: RecordRef) -> IntegrityError:
    """A record names a body that is not there, or not as it was written."""
    what = f"the body of record {ref.key} in the {backend} store is missing or damaged"
    return IntegrityError(f"{what}: restore the record from a backup")


def unreadable(backend: str, what: str) -> IntegrityError:
    """A row or file that no release of this library has written."""
    return IntegrityError(
        f"{what} in the {backend} store can't be read: it is damaged, or another program wrote it; "
        "restore it from a backup, or remove it by the store's own tools"
    )


def later_release(what: str, found: object, known: int) -> UnsupportedVersion:
    """A store that a later release has written; ``what`` is such as ``sqlite database has schema``."""
    remedy = "install the release of flowpersist that wrote it, or a later one"
    return UnsupportedVersion(f"the {what} {found}, this release knows {known}: {remedy}")


def revised(
    ref: RecordRef, old: Record | None, change: RecordChange, revision: int, now: datetime, body_size: int | None
) -> Record:
    """The record that a change makes, of a body of ``body_size`` that is not read."""
    return Record(
        ref=ref,
        revision=revision,
        write_id=change.write_id,
        attributes=applied(change.attributes, {} if old is None else old.attributes, {}) or {},
        head=applied(change.head, b"" if old is None else old.head, b"") or b"",
        body=None,
        body_size=body_size,
        created_at=now if old is None else old.created_at,
        updated_at=now,
        due_at=applied(change.due_at, None if old is None else old.due_at, None),
    )
