"""Changes of several records of a collection, all or none, on a backend that changes one record at a time.

One intent record says all that is to be done. It is put in one step, and from then on the change has happened: whoever
reads or changes what it may be about does what is left of it first, and then removes it. Whoever does so may be
overtaken at any point. So each step is taken at the revision that was read while the intent stood, and is lost where
anybody came later. specs/persistence/stores.md tells why that holds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from typing import Final

from attrs import evolve, field, frozen
from returns.result import Failure, Result, Success

from flowpersist.backends.base import Range, Record, Unreadable, Where
from flowpersist.errors import MalformedPayload, PersistenceError, RevisionConflict, StorageError, UnsupportedVersion
from flowpersist.sealed.cards import Card, at
from flowpersist.sealed.collection import SealedCollection
from flowpersist.sealed.drafts import Decided, Draft, Found, Loaded
from flowpersist.sealed.naming import Naming, Parts, Prefix
from flowpersist.sealed.records import SealedRecords
from flowpersist.sealed.walking import stored_pages

__all__ = ["INTENT", "Intent", "Intents"]

#: The first part of an intent's key.
INTENT: Final = "intent"
FORMAT: Final = 1
#: So many records are deleted at a time.
PAGE: Final = 16
MAX_CHANGES: Final = 64
#: A put that was decided on longer ago is refused by the store: whoever slept meanwhile brings nothing back.
DECIDED_WITHIN: Final = timedelta(minutes=1)


@frozen
class Intent:
    """What is to be done: remove all records whose names begin with one of ``spans``, then put ``values``, which are
    encoded, by the parts of their keys.
    """

    spans: tuple[str, ...] = ()
    values: Mapping[Parts, bytes] = field(factory=dict, repr=False)


class Intents:
    """The intents of one collection, each by the name of its record."""

    def __init__(self, collection: SealedCollection) -> None:
        self._collection = collection

    @property
    def _records(self) -> SealedRecords[Card]:
        return self._collection.records

    async def found(self, intent: str, name: str) -> Result[Found[Card], PersistenceError]:
        """The record of that name, with its body, once no intent stands. One round trip where none does."""
        for _ in range(MAX_CHANGES):
            # The intent first: where a backend reads one after another, none is missed that stands before the record.
            read = await self._records.read_many((intent, name), body=True)
            if not isinstance(read, Success):
                return Failure(read.failure())
            reads: tuple[Result[Found[Card], PersistenceError], ...] = read.unwrap()
            pending, found = reads
            if isinstance(pending, Success) and pending.unwrap().record is None:
                return found
            settled = await self.settle(intent)
            if not isinstance(settled, Success):
                return Failure(settled.failure())
        return Failure(self._overtaken(intent))

    async def carry_out(self, name: str, parts: Parts, intent: Intent, *, over: bool) -> Result[bool, PersistenceError]:
        """Put an intent, which makes the change happen, and do it. ``over``: in the place of an earlier one, of which
        nothing is to be left; else that one is done first. ``StorageError``: it may have happened.
        """
        content = await self._collection.content(name, parts, (FORMAT, intent.spans, tuple(intent.values.items())))
        if not isinstance(content, Success):
            return Failure(content.failure())
        draft = content.unwrap().draft({}, None)
        for _ in range(MAX_CHANGES):
            written = await self._records.put(name, draft, revision=None if over else 0)
            if isinstance(written, Failure) and not isinstance(written.failure(), RevisionConflict):
                return Failure(written.failure())
            settled = await self.settle(name)
            if isinstance(settled, Failure) or isinstance(written, Success):
                return settled
        return Failure(self._overtaken(name))

    async def settle(self, name: str) -> Result[bool, PersistenceError]:
        """Do what is left of an intent; False where none stands.

        Where it is at another revision before the end, another process has done it, put one in its place, or sealed it
        again: so it is looked at until none stands.
        """
        for attempt in range(MAX_CHANGES):
            read = await self._records.read(name, body=True)
            if not isinstance(read, Success):
                return Failure(self._told(name, read.failure()))
            record = read.unwrap().record
            if record is None:
                return Success(attempt > 0)
            settled = await self._settled(name, record)
            if settled != Success(False):
                return settled
        return Failure(self._overtaken(name))

    async def _settled(self, name: str, record: Loaded[Card]) -> Result[bool, PersistenceError]:
        """Do what is left of an intent as it was read, and remove it; False where another revision stands by then."""
        opened = (await self._collection.opened(record)).bind(lambda stored: _intent(stored.value))
        if not isinstance(opened, Success):
            return Failure(self._told(name, opened.failure()))
        done = await self._done(opened.unwrap(), _Standing(self._records, name, record.revision))
        if done != Success(True):
            return done
        return await self._deleted(name, record.revision)

    async def settle_all(self, naming: Naming) -> Result[int, PersistenceError]:
        """Do what is left of all intents; gives how many there were."""
        settled = 0
        async for listed in stored_pages(self._records, Where(range=naming.span(Prefix((INTENT,))).range), limit=PAGE):
            if not isinstance(listed, Success):
                return Failure(listed.failure())
            for record in listed.unwrap().items:
                done = await self.settle(record.ref.key)
                if not isinstance(done, Success):
                    return Failure(done.failure())
                settled += done.unwrap()
        return Success(settled)

    async def _done(self, intent: Intent, standing: _Standing) -> Result[bool, PersistenceError]:
        """Do it; False where the intent stands no more, so that the rest is nobody's business."""
        for span in intent.spans:
            removed = await self._removed(Where(range=Range("key", prefix=span)), standing)
            if removed != Success(True):
                return removed
        for parts, value in intent.values.items():
            put = await self._put(parts, value, standing)
            if put != Success(True):
                return put
        return Success(True)

    async def _removed(self, where: Where, standing: _Standing) -> Result[bool, PersistenceError]:
        """Remove all that is meant, until a walk over all pages meets nothing."""
        while True:
            walked = await self._walked(where, standing)
            if not isinstance(walked, Success):
                return Failure(walked.failure())
            met = walked.unwrap()
            if not met:
                return Success(met is not None)

    async def _walked(self, where: Where, standing: _Standing) -> Result[int | None, PersistenceError]:
        """Remove what one walk meets; gives how many records, None where the intent stands no more."""
        met = 0
        async for listed in stored_pages(self._records, where, limit=PAGE):
            if not isinstance(listed, Success):
                return Failure(listed.failure())
            page = listed.unwrap()
            # What was listed before this look was there while the intent stood.
            there = await standing.holds()
            if there != Success(True):
                return there.map(lambda _: None)
            removed = await asyncio.gather(*map(self._delete_listed, (*page.items, *page.unreadable)))
            for one in removed:
                if not isinstance(one, Success):
                    return Failure(one.failure())
            met += len(page.items)
        return Success(met)

    async def _delete_listed(self, one: Record | Unreadable) -> Result[bool, PersistenceError]:
        if isinstance(one, Record):
            return await self._deleted(one.ref.key, one.revision)
        # A row that can't be read has no revision.
        return Failure(one.error) if one.ref is None else await self._records.delete(one.ref.key, revision=None)

    async def _deleted(self, key: str, revision: int) -> Result[bool, PersistenceError]:
        """Delete a record at a revision; False where another stands there."""
        deleted = await self._records.delete(key, revision=revision)
        lost = isinstance(deleted, Failure) and isinstance(deleted.failure(), RevisionConflict)
        return Success(False) if lost else deleted

    async def _put(self, parts: Parts, value: bytes, standing: _Standing) -> Result[bool, PersistenceError]:
        naming = await self._collection.made_naming()
        if not isinstance(naming, Success):
            return Failure(naming.failure())
        name = naming.unwrap().name(parts)
        content = await self._collection.recoded(name, parts, value)
        if not isinstance(content, Success):
            return Failure(content.failure())
        draft: Draft[Card] = content.unwrap().draft({}, None)

        async def decide(found: Found[Card]) -> Decided[Card, bool]:
            there = await standing.holds()
            if there != Success(True):
                return there
            return evolve(draft, not_after=found.now + DECIDED_WITHIN).giving(True)

        return (await self._records.update(name, decide)).result

    def _told(self, name: str, error: PersistenceError) -> PersistenceError:
        return error if isinstance(error, StorageError) else at(error, self._records.ref(name))

    def _overtaken(self, name: str) -> RevisionConflict:
        message = f"the records that {name} is about were changed {MAX_CHANGES} times meanwhile; try again later"
        return RevisionConflict(message, self._records.backend.name, retryable=True)


@frozen
class _Standing:
    """An intent as it was read."""

    records: SealedRecords[Card]
    name: str
    revision: int

    async def holds(self) -> Result[bool, PersistenceError]:
        """Whether it still stands."""
        read = await self.records.read(self.name)
        return read.map(lambda found: found.record is not None and found.record.revision == self.revision)


def _intent(value: object) -> Result[Intent, PersistenceError]:
    match value:
        case (int(version), *_) if version > FORMAT:
            return Failure(UnsupportedVersion(f"the intent has version {version}; this release knows {FORMAT}"))
        case (1, tuple(spans), tuple(values)):
            return Success(Intent(spans, dict(values)))
        case _:
            return Failure(
                MalformedPayload(
                    "Invalid intent: expected its version, spans and values; restore the record from a backup"
                )
            )
