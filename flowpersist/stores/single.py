"""One value at a time: what of it is there, what may replace it, and the classes of values."""

from __future__ import annotations

import asyncio
import copy
import inspect
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final, Generic, TypeVar

from returns.result import Failure, Result, Success

from flowpersist.backends.base import Page, Scalar, Unreadable
from flowpersist.errors import (
    CompressionError,
    EncryptionError,
    IntegrityError,
    PersistenceError,
    SerializationError,
    UnexpectedType,
    ValueNotFound,
)
from flowpersist.hub.outcome import MISSING, or_raise
from flowpersist.sealed.cards import Card, at, live, standing_at, timely
from flowpersist.sealed.collection import SealedCollection, Stored, expiry
from flowpersist.sealed.drafts import Decided, Draft, Found, Updated
from flowpersist.sealed.drafts import Loaded as Sealed
from flowpersist.sealed.naming import Key, Parts, key_of
from flowpersist.stores.entries import Loaded, Saved
from flowpersist.stores.listing import Item

__all__ = ["SingleValues"]

T = TypeVar("T")
R = TypeVar("R")
AT_A_TIME: Final = 16
#: What says that a record can't be opened, and not which one.
_OF_RECORDS: Final = (IntegrityError, EncryptionError, SerializationError, CompressionError)


class SingleValues(Generic[T]):
    """The values of class ``cls`` in a collection, by the parts of their keys."""

    def __init__(self, collection: SealedCollection, cls: type[T]) -> None:
        self.collection = collection
        self._cls = cls

    def check(self, value: object, name: str) -> None:
        """Refuse a value of another class, before anything is done with it."""
        if not isinstance(value, self._cls):
            raise TypeError(f"Invalid {name}: expected {self._cls.__qualname__}, not {type(value).__name__}")

    async def save(
        self,
        parts: Parts,
        value: T,
        if_revision: int | None,
        ttl: timedelta | None,
        attributes: Mapping[str, Scalar],
    ) -> Saved:
        """Put one value."""
        name = or_raise(await self.collection.made_naming()).name(parts)
        content = or_raise(await self.collection.content(name, parts, value))

        def draft(now: datetime | None) -> Draft[Card]:
            return content.draft(attributes, expiry(now, ttl))

        return await self._put(name, draft, if_revision, timed=ttl is not None)

    async def _put(
        self, name: str, draft: Callable[[datetime | None], Draft[Card]], if_revision: int | None, *, timed: bool
    ) -> Saved:
        if if_revision is None:
            written = or_raise(await self.collection.replace(name, draft, timed=timed))
            return Saved(written.revision, written.now)

        async def decide(found: Found[Card]) -> Decided[Card, None]:
            standing = standing_at(found, if_revision, name, records.backend.name)
            if not isinstance(standing, Success):
                return Failure(standing.failure())
            return timely(draft(found.now), standing.unwrap())

        # What is to be created need not be read first.
        records = self.collection.records
        updated = await (records.create(name, decide) if if_revision == 0 else records.update(name, decide))
        self.raised(name, updated.result)
        return _saved(updated)

    async def replace(self, parts: Parts, value: T, revision: int) -> Saved:
        """Put one value in the place of a revision, which never expires: that needs no read."""
        name = or_raise(await self.collection.made_naming()).name(parts)
        content = or_raise(await self.collection.content(name, parts, value))
        written = or_raise(await self.collection.records.put(name, content.draft({}, None), revision=revision))
        return Saved(written.revision, written.now)

    async def load(self, parts: Parts) -> Loaded[T] | None:
        """One value, or None."""
        naming = or_raise(await self.collection.naming())
        if naming is None:
            return None
        name = naming.name(parts)
        return await self._loaded(name, parts, await self.collection.records.read(name, body=True))

    async def _loaded(self, name: str, parts: Parts, found: Result[Found[Card], PersistenceError]) -> Loaded[T] | None:
        record = live(self.raised(name, found))
        if record is None:
            return None
        stored = self.raised(name, await self.collection.opened(record, parts))
        return self.raised(name, self.loaded(stored))

    async def load_many(self, wanted: list[Parts]) -> dict[Key, Loaded[T] | None]:
        """Several values by their keys."""
        naming = or_raise(await self.collection.naming())
        if naming is None:
            return {key_of(parts): None for parts in wanted}
        names = [naming.name(parts) for parts in wanted]
        found = or_raise(await self.collection.records.read_many(names, body=True))
        return {
            key_of(parts): await self._loaded(name, parts, one)
            for name, parts, one in zip(names, wanted, found, strict=True)
        }

    async def save_many(
        self,
        named: Mapping[Key, Parts],
        values: Mapping[Key, T],
        ttl: timedelta | None,
        attributes: Mapping[str, Scalar],
    ) -> dict[Key, Saved]:
        """Put several values, each for itself; all are tried before a failure is raised."""
        limiter = asyncio.Semaphore(AT_A_TIME)

        async def save(key: Key) -> Saved:
            async with limiter:
                return await self.save(named[key], values[key], None, ttl, attributes)

        results = await asyncio.gather(*map(save, named), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result
        return {key: result for key, result in zip(named, results, strict=True) if isinstance(result, Saved)}

    def loaded(self, stored: Stored) -> Result[Loaded[T], PersistenceError]:
        """A value of the class."""
        value = stored.value
        if not isinstance(value, self._cls):
            message = f"the value is of class {type(value).__qualname__}, not {self._cls.__qualname__}"
            return Failure(UnexpectedType(f"{message}; name its class where the store is made"))
        record = stored.record
        return Success(
            Loaded(
                key=key_of(stored.parts),
                value=value,
                revision=record.revision,
                created_at=record.created_at,
                updated_at=record.updated_at,
                expires_at=record.head.expires_at,
                attributes=record.head.attributes,
            )
        )

    async def page(self, page: Page[Item], *, skip: bool) -> Page[Loaded[T]]:
        """The values of a page."""
        items: list[Loaded[T]] = []
        unreadable = list(page.unreadable)
        for item in page.items:
            if item.stored is None:
                continue
            result = self.loaded(item.stored)
            if isinstance(result, Success):
                items.append(result.unwrap())
            elif skip:
                unreadable.append(Unreadable(item.record.ref, result.failure()))
            else:
                raise at(result.failure(), item.record.ref)
        return Page(tuple(items), page.next, page.now, tuple(unreadable))

    async def update(
        self,
        parts: Parts,
        change: Callable[[T], T | Awaitable[T]],
        default: object,
        ttl: timedelta | None,
        given: Mapping[str, Scalar] | None,
    ) -> Loaded[T]:
        """Read, change, put."""
        collection = self.collection
        if default is MISSING and or_raise(await collection.naming()) is None:
            raise self._missing()
        name = or_raise(await collection.made_naming()).name(parts)

        async def decide(found: Found[Card]) -> Decided[Card, tuple[T, Card]]:
            standing = live(found)
            before = await self._before(standing, parts, default)
            if not isinstance(before, Success):
                return Failure(before.failure())
            value: T = await _settled(change(before.unwrap()))
            self.check(value, "result of change")
            content = await collection.content(name, parts, value)
            if not isinstance(content, Success):
                return Failure(content.failure())
            attributes = given if given is not None else {} if standing is None else standing.head.attributes
            kept = standing is not None and ttl is None
            expires_at = standing.head.expires_at if standing is not None and kept else expiry(found.now, ttl)
            draft = content.unwrap().draft(attributes, expires_at)
            return timely(draft, standing).giving((value, draft.head))

        updated = await collection.records.update(name, decide, body=True)
        value, card = self.raised(name, updated.result)
        saved, before = _saved(updated), updated.before
        created_at = saved.at if before is None else before.created_at
        return Loaded(key_of(parts), value, saved.revision, created_at, saved.at, card.expires_at, card.attributes)

    async def _before(
        self,
        standing: Sealed[Card] | None,
        parts: Parts,
        default: Any,  # noqa: ANN401 - T, or that it is missing
    ) -> Result[T, PersistenceError]:
        if standing is not None:
            stored = await self.collection.opened(standing, parts)
            if not isinstance(stored, Success):
                return Failure(stored.failure())
            return self.loaded(stored.unwrap()).map(lambda loaded: loaded.value)
        # A copy, since change may alter what it is given, and run again.
        return Failure(self._missing()) if default is MISSING else Success(copy.deepcopy(default))

    async def delete(self, parts: Parts, if_revision: int | None) -> bool:
        """Remove one value."""
        naming = or_raise(await self.collection.naming())
        if naming is None:
            return False
        name = naming.name(parts)
        # Read, since what has expired is not there: to say so must not depend on whether it was cleaned up.
        records = self.collection.records
        found = self.raised(name, await records.read(name))
        standing = or_raise(standing_at(found, if_revision, name, records.backend.name)) if live(found) else None
        if standing is None:
            return False
        return or_raise(await records.delete(name, revision=if_revision))

    async def copy(self, parts: Parts, target: Parts, if_revision: int | None) -> Saved:
        """Put a value under another key as it is encoded."""
        naming = or_raise(await self.collection.naming())
        if naming is None:
            raise self._missing()
        name, other = naming.name(parts), naming.name(target)
        record = live(self.raised(name, await self.collection.records.read(name, body=True)))
        if record is None:
            raise self._missing()
        stored = self.raised(name, await self.collection.opened(record, parts, decode=False))
        content = or_raise(await self.collection.recoded(other, target, stored.value))
        made = content.draft(record.head.attributes, record.head.expires_at)
        return await self._put(other, lambda _: made, if_revision, timed=False)

    def raised(self, name: str, result: Result[R, PersistenceError]) -> R:
        """The value of a success. An error says what is wrong with a record, and here which one it is."""
        if isinstance(result, Failure) and isinstance(result.failure(), _OF_RECORDS):
            raise at(result.failure(), self.collection.records.ref(name))
        return or_raise(result)

    def _missing(self) -> ValueNotFound:
        return ValueNotFound(f"there is no value of that key in {self.collection.name!r}; save one, or pass a default")


async def _settled(given: Any) -> Any:  # noqa: ANN401 - what an awaitable gives, the checkers don't agree on
    return await given if inspect.isawaitable(given) else given


def _saved(updated: Updated[Card, Any]) -> Saved:
    if updated.written is None:  # pragma: no cover - whose result is a success was written
        msg = "an update without a write"
        raise AssertionError(msg)
    return Saved(updated.written.revision, updated.written.now)
