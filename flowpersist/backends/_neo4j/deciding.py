"""What the rows of statements mean, and what is decided by them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from attrs import evolve

from flowpersist.backends._damage import named
from flowpersist.backends._neo4j.link import Rows
from flowpersist.backends._neo4j.rows import NAME, body_of, record_of
from flowpersist.backends._outcomes import unreadable
from flowpersist.backends.base import Order, Record, RecordRef, Scalar
from flowpersist.errors import StorageError

__all__ = ["decided", "leading_of", "maimed", "of_one", "portions", "standing"]

#: The bytes of bodies that a purge removes in one transaction, which the server holds in memory.
PURGE_BYTES: Final = 16 * 1024 * 1024


def of_one(ref: RecordRef, rows: Sequence[Sequence[Any]], *, body: bool) -> Record:
    """The record of the rows of one read; ``Torn`` if they are of different revisions."""
    heads = [row[3] for row in rows if row[3] is not None]
    record, body_tag = record_of(ref, rows[0][2], heads[0] if heads else None)
    if not body:
        return record
    parts = [(tag, part, data) for *_, tag, part, data in rows if tag is not None]
    return evolve(record, body=body_of(record, body_tag, parts))


def maimed() -> StorageError:
    """The error of a store whose own nodes are gone."""
    message = "the neo4j store's own nodes were deleted, so nothing was written; run flowpersist migrate"
    return StorageError(message, NAME)


def standing(ref: RecordRef, revision: object) -> int:
    """The revision of a record, 0 while it is being deleted; ``IntegrityError`` for a damaged one."""
    if revision is None:
        return 0
    if type(revision) is not int or revision < 0:
        raise unreadable(NAME, named(ref))
    return revision


def portions(records: Sequence[Record]) -> Iterator[list[Record]]:
    """Records in portions, each small enough for one transaction."""
    portion: list[Record] = []
    size = 0
    for record in records:
        if portion and size + (record.body_size or 0) > PURGE_BYTES:
            yield portion
            portion, size = [], 0
        portion.append(record)
        size += record.body_size or 0
    if portion:
        yield portion


def leading_of(equals: Mapping[str, Scalar], indexed: Mapping[str, type], order: Order) -> str | None:
    """The one condition that an index answers. A bool is the last choice because it selects the least."""
    if order not in {"key", "due"}:
        return None
    usable = [name for name, value in equals.items() if indexed.get(name) is type(value)]
    return min(usable, key=lambda name: indexed[name] is bool, default=None)


def decided(rows: Rows) -> list[Any]:
    """The result of a comparison. The server may find two nodes of one key, one that is being deleted and its
    successor: each was compared by itself, and at most one has the expected revision.
    """
    return max(rows, key=lambda row: (row[0] is True or row[-1] is True, row[1] if isinstance(row[1], int) else -1))
