"""What a scrub says of one record."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Literal, TypeAlias

from attrs import frozen
from returns.result import Result

from flowpersist.backends.base import Record
from flowpersist.errors import PersistenceError
from flowpersist.sealed.raw import RawRecords

__all__ = ["Looked", "Mend", "Problem", "Trouble"]

#: ``unreadable``: the store's own row; ``head`` and ``body``: a seal or checksum; ``columns``: attributes or a due time
#: that differ from the head; ``index``: a query that should find the record does not; ``missing``: what a head names;
#: ``orphan``: what no suspension has any more; ``trail``: the audit trail.
Problem: TypeAlias = Literal["unreadable", "head", "body", "columns", "index", "missing", "orphan", "trail"]
#: Writes or deletes at the record's revision.
Mend: TypeAlias = Callable[[RawRecords, Record], Awaitable[Result[object, PersistenceError]]]


@frozen
class Trouble:
    """One thing that is wrong, and what mends it; None: only a backup does."""

    problem: Problem
    code: str | None
    message: str
    mend: Mend | None = None


@frozen
class Looked:
    """What is wrong with a record; ``unopened`` where, for want of a key, only checksums were compared."""

    troubles: tuple[Trouble, ...]
    unopened: bool = False
