"""One collection of sealed values, by the parts of their keys: encoded values in, records out.

The value store above it knows classes and arguments; this knows where records stand, what of a value goes into the
head and what into the body, and how a time to live becomes a moment of the store's clock.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar

from attrs import evolve, field, frozen
from returns.result import Failure, Result, Success

from flowpersist.backends.base import KEEP, Scalar, Written
from flowpersist.errors import (
    CompressionError,
    EncryptionError,
    IntegrityError,
    PersistenceError,
    RevisionConflict,
    SerializationError,
    StateTooLarge,
    TamperedEnvelope,
    ValueNotFound,
)
from flowpersist.sealed.cards import (
    Card,
    at,
    card_key,
    joined_body,
    key_in,
    live,
    packed_key,
    standing_at,
    timely,
)
from flowpersist.sealed.clear import clear_body, digest_of
from flowpersist.sealed.clock import Reading
from flowpersist.sealed.contents import PURPOSE, opened_value
from flowpersist.sealed.drafts import Decided, Draft, Found, Loaded, marked, record_context
from flowpersist.sealed.encoding import encoded, in_thread_if_large
from flowpersist.sealed.heads import NO_BODY
from flowpersist.sealed.named import NamedCollection
from flowpersist.sealed.naming import Parts

__all__ = ["Content", "SealedCollection", "Stored", "expiry"]

T = TypeVar("T")
#: A value of at most so many bytes rides in the head, so that a page has it and a load is one read.
HEAD_VALUE_BYTES: Final = 8 * 1024
#: What says that a record can't be opened, and not which one.
_OF_RECORDS: Final = (IntegrityError, EncryptionError, SerializationError, CompressionError)


@frozen
class Content:
    """A key and a value, ready to be put: what of them rides in the head, and the sealed body."""

    key: Parts | bytes | None = field(repr=False)
    value: bytes | None = field(repr=False)
    body: bytes | None = field(repr=False)
    clear: bytes | None = None

    def draft(self, attributes: Mapping[str, Scalar], expires_at: datetime | None) -> Draft[Card]:
        """The record that it becomes."""
        card = Card(self.key, self.value, dict(attributes), expires_at, self.clear)
        return Draft(head=card, attributes=dict(attributes), due_at=expires_at, body=self.body)


@frozen
class Stored:
    """A record with the parts of its key, and its value, or the bytes of it that were asked for."""

    record: Loaded[Card]
    parts: Parts = field(repr=False)
    value: Any = field(repr=False)


class SealedCollection(NamedCollection):
    """The records of one collection of a hub's namespace, as values by the parts of their keys."""

    async def content(
        self, name: str, parts: Parts, value: object, *, clear: bool = False
    ) -> Result[Content, PersistenceError]:
        """A value made ready for the record of that name, off the event loop where it is large.

        ``clear``: it is JSON data, and stands in clear in the record's body; the key is one for a head.
        """
        if clear:
            body = await asyncio.to_thread(clear_body, value, self.records.sealer.codec.limits.max_bytes)
            return body.map(lambda made: Content(parts, None, made, digest_of(made)))
        failed = await self.records.ready({})
        if failed is not None:
            return Failure(failed)
        sealed = self._sealing(name, parts)
        return await encoded(self.records.sealer.codec, value, sealed)

    async def recoded(self, name: str, parts: Parts, value: bytes) -> Result[Content, PersistenceError]:
        """The same of a value that is encoded already."""
        failed = await self.records.ready({})
        if failed is not None:
            return Failure(failed)
        return await in_thread_if_large(self._sealing(name, parts), value)

    def _sealing(self, name: str, parts: Parts) -> Callable[[bytes], Result[Content, PersistenceError]]:
        """What makes a content of an encoded value, in any thread."""
        sealer, key = self.records.sealer.for_tenant(self.tenant), card_key(parts)
        most = sealer.codec.limits.max_bytes

        def sealed(value: bytes) -> Result[Content, PersistenceError]:
            if key is not None and len(value) <= HEAD_VALUE_BYTES:
                return Success(Content(key, value, None))
            data = value if key is not None else joined_body(packed_key(parts), value)
            if len(data) > most:
                message = f"key and value take {len(data)} bytes, over the limit of {most}; keep less in them"
                return Failure(StateTooLarge(message))
            context = record_context(self.records.ref(name), None)
            body = sealer.seal_bytes(data, context=context, purpose=PURPOSE)
            return body.map(lambda made: Content(key, None, made))

        return sealed

    async def opened(
        self, record: Loaded[Card], parts: Parts | None = None, *, decode: bool = True
    ) -> Result[Stored, PersistenceError]:
        """Key and value of a record, whose body was read if it has one; a large one is opened in a thread.

        ``parts``: whose record it must be. ``decode``: else the value stays as the codec encoded it.
        """
        both = await opened_value(self.records, record, decode=decode)
        if not isinstance(both, Success):
            return Failure(both.failure())
        key, value = both.unwrap()
        return self._fitting(record, parts, key, value)

    def _fitting(
        self, record: Loaded[Card], parts: Parts | None, key: Parts | bytes, value: object
    ) -> Result[Stored, PersistenceError]:
        read = key_in(key)
        if not isinstance(read, Success):
            return Failure(read.failure())
        naming, found = self._naming, read.unwrap()
        # Whose parts are known was found by their name.
        fits = parts == found if parts is not None else naming is None or naming.name(found) == record.ref.key
        if not fits:
            return Failure(TamperedEnvelope("the record holds the value of another key; restore it from a backup"))
        return Success(Stored(record, found, value))

    def named(self, name: str, result: Result[T, PersistenceError]) -> Result[T, PersistenceError]:
        """The same; an error that says what is wrong with a record says here which one it is."""
        if isinstance(result, Success) or not isinstance(result.failure(), _OF_RECORDS):
            return result
        return Failure(at(result.failure(), self.records.ref(name)))

    async def load(self, parts: Parts, *, decode: bool = True) -> Result[Stored | None, PersistenceError]:
        """The value of a key; None if it was not saved or has expired."""
        return await self._stored(await self._read(parts, body=True), parts, decode=decode)

    async def load_many(self, wanted: list[Parts]) -> Result[list[Stored | None], PersistenceError]:
        """The same of several keys, in their order."""
        naming = await self.naming()
        if not isinstance(naming, Success):
            return Failure(naming.failure())
        made = naming.unwrap()
        if made is None:
            return Success([None] * len(wanted))
        names = [made.name(parts) for parts in wanted]
        read = await self.records.read_many(names, body=True)
        if not isinstance(read, Success):
            return Failure(read.failure())
        found: list[Stored | None] = []
        for name, parts, one in zip(names, wanted, read.unwrap(), strict=True):
            stored = await self._stored(self.named(name, one), parts)
            if not isinstance(stored, Success):
                return Failure(stored.failure())
            found.append(stored.unwrap())
        return Success(found)

    async def _read(self, parts: Parts, *, body: bool) -> Result[Found[Card], PersistenceError]:
        made = self._naming
        if made is None:
            naming = await self.naming()
            if not isinstance(naming, Success):
                return Failure(naming.failure())
            made = naming.unwrap()
        if made is None:
            return Success(Found(None, self.records.reckoned()))
        name = made.name(parts)
        return self.named(name, await self.records.read(name, body=body))

    async def _stored(
        self, found: Result[Found[Card], PersistenceError], parts: Parts, *, decode: bool = True
    ) -> Result[Stored | None, PersistenceError]:
        if not isinstance(found, Success):
            return Failure(found.failure())
        record = live(found.unwrap())
        if record is None:
            return Success(None)
        opened: Result[Any, PersistenceError] = await self.opened(record, parts, decode=decode)
        return self.named(record.ref.key, opened)

    async def delete(self, parts: Parts, if_revision: int | None) -> Result[bool, PersistenceError]:
        """Remove a value; False if it does not exist."""
        # Read, since what has expired is not there: to say so must not depend on whether it was cleaned up.
        read = await self._read(parts, body=False)
        if not isinstance(read, Success):
            return Failure(read.failure())
        record = live(read.unwrap())
        if record is None:
            return Success(False)
        standing = standing_at(read.unwrap(), if_revision, record.ref.key, self.records.backend.name)
        if not isinstance(standing, Success):
            return Failure(standing.failure())
        return await self.records.delete(record.ref.key, revision=if_revision)

    async def save(
        self,
        parts: Parts,
        value: object,
        if_revision: int | None,
        ttl: timedelta | None,
        attributes: Mapping[str, Scalar],
        *,
        clear: bool = False,
    ) -> Result[Written, PersistenceError]:
        """Put a value at a revision, as ``standing_at`` takes it."""
        ready = await self.ready(parts, value, clear=clear)
        if not isinstance(ready, Success):
            return Failure(ready.failure())
        name, content = ready.unwrap()
        return await self._put(
            name, lambda now: content.draft(attributes, expiry(now, ttl)), if_revision, timed=bool(ttl)
        )

    async def replace(self, parts: Parts, value: object, revision: int) -> Result[Written, PersistenceError]:
        """Put a value in the place of a revision, where no value ever expires: that needs no read."""
        ready = await self.ready(parts, value)
        if not isinstance(ready, Success):
            return Failure(ready.failure())
        name, content = ready.unwrap()
        return await self.records.put(name, content.draft({}, None), revision=revision)

    async def copy(self, parts: Parts, target: Parts, if_revision: int | None) -> Result[Written, PersistenceError]:
        """Put a value under another key as it is encoded."""
        loaded = await self.load(parts, decode=False)
        if not isinstance(loaded, Success):
            return Failure(loaded.failure())
        stored = loaded.unwrap()
        if stored is None:
            return Failure(self.missing())
        naming = await self.made_naming()
        if not isinstance(naming, Success):
            return Failure(naming.failure())
        name, card = naming.unwrap().name(target), stored.record.head
        content = await self.recoded(name, target, stored.value)
        if not isinstance(content, Success):
            return Failure(content.failure())
        draft = content.unwrap().draft(card.attributes, card.expires_at)
        return await self._put(name, lambda _: draft, if_revision, timed=False)

    def missing(self) -> ValueNotFound:
        """The error of a key that has no value."""
        return ValueNotFound(f"there is no value of that key in {self.name!r}; save one, or pass a default")

    async def ready(
        self, parts: Parts, value: object, *, clear: bool = False
    ) -> Result[tuple[str, Content], PersistenceError]:
        """The name of a key's record, and its content."""
        naming = self.noted_naming()
        if naming is None:
            made = await self.made_naming()
            if not isinstance(made, Success):
                return Failure(made.failure())
            naming = made.unwrap()
        name = naming.name(parts)
        content = await self.content(name, parts, value, clear=clear)
        return Success((name, content.unwrap())) if isinstance(content, Success) else Failure(content.failure())

    async def _put(
        self, name: str, draft: Callable[[datetime | None], Draft[Card]], if_revision: int | None, *, timed: bool
    ) -> Result[Written, PersistenceError]:
        if if_revision is None:
            return await self._overwrite(name, draft, timed=timed)

        async def decide(found: Found[Card]) -> Decided[Card, None]:
            standing = standing_at(found, if_revision, name, records.backend.name)
            if not isinstance(standing, Success):
                return Failure(standing.failure())
            return timely(draft(found.now), standing.unwrap())

        # What is to be created need not be read first.
        records = self.records
        updated = await (records.create(name, decide) if if_revision == 0 else records.update(name, decide))
        return self.named(name, updated.result.map(lambda _: updated.durable))

    async def _overwrite(
        self, name: str, draft: Callable[[datetime | None], Draft[Card]], *, timed: bool
    ) -> Result[Written, PersistenceError]:
        # Where it is timed the draft needs the store's present, which is reckoned.
        records = self.records
        if not timed:
            return await records.put(name, draft(None), revision=None)
        present = await self.present()
        if not isinstance(present, Success):
            return Failure(present.failure())
        reading, started = present.unwrap()
        written = await records.put(name, draft(reading.reckoned(started)), revision=None)
        return await self.mended(name, draft, written, present.unwrap())

    async def present(self) -> Result[tuple[Reading, float], PersistenceError]:
        """A reading of the store's clock that is near enough to reckon by, and this process's moment."""
        records = self.records
        reading, started = records.reading, records.runtime.monotonic()
        if reading is not None and reading.sharp:
            return Success((reading, started))
        seen = await records.health()
        if not isinstance(seen, Success):
            return Failure(seen.failure())
        received = records.runtime.monotonic()
        return Success((Reading(seen.unwrap().now, started, received), received))

    async def mended(
        self,
        name: str,
        draft: Callable[[datetime | None], Draft[Card]],
        written: Result[Written, PersistenceError],
        present: tuple[Reading, float],
    ) -> Result[Written, PersistenceError]:
        """What a put by a reckoned present made, put right where the store's clock was moved since it was read."""
        records, (reading, started) = self.records, present
        if not isinstance(written, Success):
            return written
        stood = written.unwrap()
        if reading.fits(Reading(stood.now, started, records.runtime.monotonic())):
            return written
        right = draft(stood.now)
        mark = marked(right.body, NO_BODY)
        again = await records.put(name, evolve(right, body=KEEP), revision=stood.revision, mark=mark)
        overtaken = isinstance(again, Failure) and isinstance(again.failure(), RevisionConflict)
        return written if overtaken else again


def expiry(now: datetime | None, ttl: timedelta | None) -> datetime | None:
    """When a value expires whose time to live begins now; what lies beyond the calendar never does."""
    if now is None or ttl is None:
        return None
    try:
        return now + ttl
    except OverflowError:
        return None
