"""One collection of sealed values, by the parts of their keys: encoded values in, records out.

The value store above it knows classes and arguments; this knows where records stand, what of a value goes into the
head and what into the body, and how a time to live becomes a moment of the store's clock.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from attrs import evolve, field, frozen
from returns.result import Failure, Result, Success

from flowpersist.backends.base import KEEP, Scalar, Written
from flowpersist.errors import (
    ConfigurationError,
    EncryptionError,
    PersistenceError,
    RevisionConflict,
    StateTooLarge,
    TamperedEnvelope,
)
from flowpersist.sealed.cards import Card, card_key, joined_body, key_in, packed_key, split_body
from flowpersist.sealed.catalogue import Collection, CollectionCatalog, FollowingRecords, collection_key
from flowpersist.sealed.clock import Reading
from flowpersist.sealed.drafts import Draft, Loaded, marked, record_context
from flowpersist.sealed.encoding import encoded, in_thread_if_large
from flowpersist.sealed.heads import NO_BODY
from flowpersist.sealed.naming import Naming, Parts
from flowpersist.sealed.records import SealedRecords

__all__ = ["Content", "SealedCollection", "Stored", "expiry"]

#: A value of at most so many bytes rides in the head, so that a page has it and a load is one read.
HEAD_VALUE_BYTES: Final = 8 * 1024
_PURPOSE: Final = "value"


@frozen
class Content:
    """A key and a value, ready to be put: what of them rides in the head, and the sealed body."""

    key: Parts | bytes | None = field(repr=False)
    value: bytes | None = field(repr=False)
    body: bytes | None = field(repr=False)

    def draft(self, attributes: Mapping[str, Scalar], expires_at: datetime | None) -> Draft[Card]:
        """The record that it becomes."""
        card = Card(self.key, self.value, dict(attributes), expires_at)
        return Draft(head=card, attributes=dict(attributes), due_at=expires_at, body=self.body)


@frozen
class Stored:
    """A record with the parts of its key, and its value, or the bytes of it that were asked for."""

    record: Loaded[Card]
    parts: Parts = field(repr=False)
    value: Any = field(repr=False)


class SealedCollection:
    """The records of one collection of a hub's namespace."""

    def __init__(self, of: SealedRecords[Any], name: str, *, listed: bool, tenant: str | None) -> None:
        self.name = name
        self.listed = listed
        self.tenant = tenant
        self._catalog = CollectionCatalog(of)
        self._naming: Naming | None = None
        self._kid: str | None = None
        namespace = self._catalog.namespace(collection_key(name, tenant))
        self._records = FollowingRecords(of, namespace, Card, purpose=_PURPOSE)

    @property
    def records(self) -> SealedRecords[Card]:
        """The records, sealed by the hub's keyring of now."""
        return self._records.now

    async def naming(self) -> Result[Naming | None, PersistenceError]:
        """How records are named; None where nothing was ever saved. Read once."""
        if self._naming is not None:
            return Success(self._naming)
        found = await self._catalog.find(self.name, self.tenant)
        return found.map(lambda made: None if made is None else self._agreed(made))

    async def made_naming(self) -> Result[Naming, PersistenceError]:
        """The same for a collection that is about to be saved to: it is made where it is not there."""
        found = await self.naming()
        if not isinstance(found, Success):
            return Failure(found.failure())
        naming = found.unwrap()
        if naming is None:
            made = await self._catalog.make(self.name, self.tenant, listed=self.listed)
            return made.map(self._agreed)
        if self._kid != self._catalog.kid:
            # Another key seals by now. What is sealed with one that this process lacks outlives the others anyway.
            resealed = await self._catalog.reseal(self.name, self.tenant)
            if isinstance(resealed, Failure) and not isinstance(resealed.failure(), EncryptionError):
                return Failure(resealed.failure())
            self._kid = self._catalog.kid
        return Success(naming)

    def _agreed(self, made: Collection) -> Naming:
        if made.listed != self.listed:
            raise ConfigurationError(
                f"Invalid listed: expected {made.listed}, with which the collection {self.name!r} was made", "listed"
            )
        self._naming, self._kid = Naming(made.listed, made.secret), made.kid
        return self._naming

    async def content(self, name: str, parts: Parts, value: object) -> Result[Content, PersistenceError]:
        """A value made ready for the record of that name, off the event loop where it is large."""
        sealed = self._sealing(name, parts)
        return await encoded(self.records.sealer.codec, value, sealed)

    async def recoded(self, name: str, parts: Parts, value: bytes) -> Result[Content, PersistenceError]:
        """The same of a value that is encoded already."""
        return await in_thread_if_large(self._sealing(name, parts), value)

    def _sealing(self, name: str, parts: Parts) -> Callable[[bytes], Result[Content, PersistenceError]]:
        """What makes a content of an encoded value, in any thread."""
        sealer, context = self.records.sealer, record_context(self.records.ref(name), None)
        key = card_key(parts)
        most = sealer.codec.limits.max_bytes

        def sealed(value: bytes) -> Result[Content, PersistenceError]:
            if key is not None and len(value) <= HEAD_VALUE_BYTES:
                return Success(Content(key, value, None))
            data = value if key is not None else joined_body(packed_key(parts), value)
            if len(data) > most:
                message = f"key and value take {len(data)} bytes, over the limit of {most}; keep less in them"
                return Failure(StateTooLarge(message))
            body = sealer.seal_bytes(data, context=context, purpose=_PURPOSE)
            return body.map(lambda made: Content(key, None, made))

        return sealed

    async def opened(
        self, record: Loaded[Card], parts: Parts | None = None, *, decode: bool = True
    ) -> Result[Stored, PersistenceError]:
        """Key and value of a record, whose body was read if it has one; a large one is opened in a thread.

        ``parts``: whose record it must be. ``decode``: else the value stays as the codec encoded it.
        """
        card = record.head
        key = card.key
        if key is None:
            both = (await self.records.open_body_bytes(record, purpose=_PURPOSE)).bind(split_body)
            if not isinstance(both, Success):
                return Failure(both.failure())
            key, data = both.unwrap()
            value = await self._decoded(data, decode=decode)
        elif card.value is not None:
            value = await self._decoded(card.value, decode=decode)
        elif decode:
            value = await self.records.open_body(record, purpose=_PURPOSE)
        else:
            value = await self.records.open_body_bytes(record, purpose=_PURPOSE)
        if not isinstance(value, Success):
            return Failure(value.failure())
        return self._fitting(record, parts, key, value.unwrap())

    async def _decoded(self, data: bytes, *, decode: bool) -> Result[object, PersistenceError]:
        if not decode:
            return Success(data)
        return await in_thread_if_large(self.records.sealer.codec.decode, data)

    def _fitting(
        self, record: Loaded[Card], parts: Parts | None, key: Parts | bytes, value: object
    ) -> Result[Stored, PersistenceError]:
        def fitting(found: Parts) -> Result[Stored, PersistenceError]:
            naming = self._naming
            # Whose parts are known was found by their name.
            fits = parts == found if parts is not None else naming is None or naming.name(found) == record.ref.key
            if not fits:
                return Failure(TamperedEnvelope("the record holds the value of another key; restore it from a backup"))
            return Success(Stored(record, found, value))

        return key_in(key).bind(fitting)

    async def replace(
        self, name: str, draft: Callable[[datetime | None], Draft[Card]], *, timed: bool
    ) -> Result[Written, PersistenceError]:
        """Put a record whatever stands there. ``timed``: the draft needs the store's present, which is reckoned."""
        records = self.records
        if not timed:
            return await records.put(name, draft(None), revision=None)
        reading, started = records.reading, records.runtime.monotonic()
        if reading is None or not reading.sharp:
            seen = await records.health()
            if not isinstance(seen, Success):
                return Failure(seen.failure())
            reading = Reading(seen.unwrap().now, started, records.runtime.monotonic())
            started = reading.received
        first = draft(reading.reckoned(started))
        written = await records.put(name, first, revision=None)
        if not isinstance(written, Success):
            return written
        stood = written.unwrap()
        if reading.fits(Reading(stood.now, started, records.runtime.monotonic())):
            return written
        # The store's clock was moved since it was last read.
        again = evolve(draft(stood.now), body=KEEP)
        mended = await records.put(name, again, revision=stood.revision, mark=marked(first.body, NO_BODY))
        overtaken = isinstance(mended, Failure) and isinstance(mended.failure(), RevisionConflict)
        return written if overtaken else mended


def expiry(now: datetime | None, ttl: timedelta | None) -> datetime | None:
    """When a value expires whose time to live begins now; what lies beyond the calendar never does."""
    if now is None or ttl is None:
        return None
    try:
        return now + ttl
    except OverflowError:
        return None
