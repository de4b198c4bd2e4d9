"""Values of one class: what is loaded of a record, what may replace it, and what a change makes of it."""

from __future__ import annotations

import copy
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from datetime import timedelta
from typing import Any, Generic, TypeVar

from returns.result import Failure, Result, Success

from flowpersist.backends.base import Scalar
from flowpersist.errors import PersistenceError, UnexpectedType
from flowpersist.hub.outcome import MISSING, or_raise
from flowpersist.hub.watching import Watch
from flowpersist.sealed.cards import Card, live, timely
from flowpersist.sealed.collection import SealedCollection, Stored, expiry
from flowpersist.sealed.drafts import Decided, Found
from flowpersist.sealed.drafts import Loaded as Sealed
from flowpersist.sealed.naming import Parts, key_of
from flowpersist.stores.entries import Change, Loaded

__all__ = ["SingleValues"]

T = TypeVar("T")


class SingleValues(Generic[T]):
    """The values of class ``cls`` in a collection."""

    def __init__(self, collection: SealedCollection, cls: type[T]) -> None:
        self.collection = collection
        self._cls = cls

    def check(self, value: object, name: str) -> None:
        """Refuse a value of another class, before anything is done with it."""
        if not isinstance(value, self._cls):
            raise TypeError(f"Invalid {name}: expected {self._cls.__qualname__}, not {type(value).__name__}")

    def of(self, stored: Stored | None) -> Loaded[T] | None:
        """A value of the class, or None; raises ``UnexpectedType``, which names the record."""
        if stored is None:
            return None
        if isinstance(stored.value, self._cls):
            return self._entry(stored, stored.value)
        return or_raise(self.collection.named(stored.record.ref.key, self.loaded(stored)))

    def loaded(self, stored: Stored) -> Result[Loaded[T], PersistenceError]:
        """A value of the class."""
        value = stored.value
        if not isinstance(value, self._cls):
            message = f"the value is of class {type(value).__qualname__}, not {self._cls.__qualname__}"
            return Failure(UnexpectedType(f"{message}; name its class where the store is made"))
        return Success(self._entry(stored, value))

    def _entry(self, stored: Stored, value: T) -> Loaded[T]:
        record = stored.record
        return Loaded(
            key=key_of(stored.parts),
            value=value,
            revision=record.revision,
            created_at=record.created_at,
            updated_at=record.updated_at,
            expires_at=record.head.expires_at,
            attributes=record.head.attributes,
        )

    async def changes(self, watch: Watch) -> AsyncIterator[Change[T]]:
        """What a watch tells, as values."""
        async with aclosing(watch.changes()) as changes:
            async for parts, stored in changes:
                yield Change(key_of(parts), self.of(stored))

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
            raise collection.missing()
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
        value, card = or_raise(collection.named(name, updated.result))
        written, before = updated.durable, updated.before
        created_at = written.now if before is None else before.created_at
        return Loaded(key_of(parts), value, written.revision, created_at, written.now, card.expires_at, card.attributes)

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
        return Failure(self.collection.missing()) if default is MISSING else Success(copy.deepcopy(default))


async def _settled(given: Any) -> Any:  # noqa: ANN401 - what an awaitable gives, the checkers don't agree on
    return await given if inspect.isawaitable(given) else given
