"""One value of a collection whose saves are known by marks, and made one with those of others.

After a lost reply nobody knows whether a save was done. The marks of the last ones stand with the value, so that the
next save tells one of its own from another's, and what was made from it.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Final, TypeAlias

from attrs import define, field, frozen
from returns.result import Failure, Result, Success

from flowpersist.errors import PersistenceError, RevisionConflict, UnexpectedType, UnknownOutcome
from flowpersist.sealed.collection import SealedCollection, Stored
from flowpersist.sealed.naming import Parts

__all__ = ["Held", "MarkedValue", "Merge", "StateInfo"]

MAX_CONFLICTS: Final = 64
#: So many of the last saves are known by their marks.
MARKS: Final = 8
MARK_BYTES: Final = 16


@frozen
class StateInfo:
    """Who saved a state, when by the store's clock, in which version of its schema, and in which process."""

    revision: int
    at: datetime
    by: str | None = field(repr=False)
    schema_version: int
    process: str = field(repr=False)


@define(eq=False)
class Held:
    """An encoded value, at the revision that it has in the store, or that it is to replace there; 0: there is none."""

    data: bytes | None = field(default=None, repr=False)
    schema: int = 1
    revision: int = 0
    marks: tuple[bytes, ...] = ()
    info: StateInfo | None = None
    #: What it was made from; None where it is in the store.
    origin: Held | None = None


#: What becomes of two values that were made from one: ``merge(base, ours, theirs)``.
Merge: TypeAlias = Callable[[Held, bytes, Held], Awaitable[Result[bytes, PersistenceError]]]


class MarkedValue:
    """The value of ``parts`` in the collection that ``opened`` gives, or raises why it can't be opened."""

    def __init__(
        self, opened: Callable[[], Awaitable[SealedCollection]], parts: Parts, schema: int, by: str | None, merge: Merge
    ) -> None:
        self._opened, self._parts = opened, parts
        self.schema, self._by, self._merge = schema, by, merge
        #: What was saved under marks that the store may have or not.
        self._doubtful: dict[bytes, bytes] = {}

    async def read(self) -> Result[Held, PersistenceError]:
        """What stands in the store."""
        opened = await self._collection()
        if not isinstance(opened, Success):
            return Failure(opened.failure())
        loaded: Result[Stored | None, PersistenceError] = await opened.unwrap().load(self._parts)
        return loaded.bind(_held)

    async def put(self, data: bytes, base: Held) -> Result[Held, PersistenceError]:
        """Save in the place of ``base``; where another was first, what both make together."""
        opened = await self._collection()
        if not isinstance(opened, Success):
            return Failure(opened.failure())
        collection = opened.unwrap()
        runtime = collection.records.runtime
        for attempt in range(1, MAX_CONFLICTS + 1):
            written = await self._written(collection, data, base)
            if isinstance(written, Success) or not isinstance(written.failure(), RevisionConflict):
                return written
            read = await self.read()
            if not isinstance(read, Success):
                return read
            theirs = read.unwrap()
            # What was in doubt has been saved, and theirs may have been made from it.
            ours = next((self._doubtful[one] for one in theirs.marks if one in self._doubtful), None)
            merged = await self.merged(base if ours is None else Held(ours, self.schema), data, theirs)
            if not isinstance(merged, Success):
                return Failure(merged.failure())
            data, base = merged.unwrap(), theirs
            if data == theirs.data:
                return Success(theirs)
            await runtime.sleep(runtime.jitter(attempt) if attempt > 1 else 0)
        message = f"the state was changed {MAX_CONFLICTS} times by others meanwhile; try again later"
        return Failure(RevisionConflict(message, collection.records.backend.name, True))

    async def _written(self, collection: SealedCollection, data: bytes, base: Held) -> Result[Held, PersistenceError]:
        process = f"{socket.gethostname()}:{os.getpid()}"
        mark = collection.records.runtime.entropy(MARK_BYTES)
        marks = (mark, *base.marks)[:MARKS]
        entry = {"state": data, "schema": self.schema, "by": self._by, "process": process, "marks": list(marks)}
        # Before, since a save that is cancelled may have been done.
        self._doubtful[mark] = data
        while len(self._doubtful) > MARKS:
            del self._doubtful[next(iter(self._doubtful))]
        written = await collection.replace(self._parts, entry, base.revision)
        if isinstance(written, Success):
            self._doubtful.clear()
            stood = written.unwrap()
            info = StateInfo(stood.revision, stood.now, self._by, self.schema, process)
            return Success(Held(data, self.schema, stood.revision, marks, info))
        if not isinstance(written.failure(), UnknownOutcome):
            del self._doubtful[mark]
        return Failure(written.failure())

    async def merged(self, base: Held, data: bytes, theirs: Held) -> Result[bytes, PersistenceError]:
        """What is to stand in the place of ``theirs``, where our data was made from ``base``."""
        if theirs.data is None or theirs.data == base.data:
            return Success(data)
        if data == base.data:
            return Success(theirs.data)
        return await self._merge(base, data, theirs)

    async def _collection(self) -> Result[SealedCollection, PersistenceError]:
        try:
            return Success(await self._opened())
        except PersistenceError as error:
            return Failure(error)


def _held(stored: Stored | None) -> Result[Held, PersistenceError]:
    if stored is None:
        return Success(Held())
    record = stored.record
    match stored.value:
        case {"state": bytes(data), "schema": int(schema), "by": by, "process": str(process), "marks": list(marks)}:
            info = StateInfo(record.revision, record.updated_at, by, schema, process)
            return Success(Held(data, schema, record.revision, tuple(marks), info))
    message = f"Invalid record {record.ref.key} of {record.ref.namespace}: expected a state"
    return Failure(UnexpectedType(f"{message}; use another key, or another collection"))
