"""``ValueStore``: one collection of sealed values by key, on any backend.

Verbs are plain async functions that return values and raise ``PersistenceError``; ``attempt`` makes an ``Outcome`` of
any of them. A key that is not there is None, or False where it is deleted. What a database sees of a key is a keyed
digest, unless the collection is ``listed``. Values, keys and attributes are sealed with the state subkey; attributes
also stand in clear, so that they can be asked for.

A verb that was cancelled may have happened: repeat it, or ``load``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from datetime import timedelta
from typing import Any, Generic, TypeVar

from flowpersist.backends.base import Order, Page, Scalar
from flowpersist.errors.arguments import (
    check_callable,
    check_duration,
    check_instance,
    check_items,
    check_mapping,
    check_optional,
    check_pause,
    check_size,
    check_whole,
)
from flowpersist.errors.secrecy import discreet, forgetting
from flowpersist.hub.outcome import MISSING, or_raise
from flowpersist.hub.watching import Watch
from flowpersist.sealed.catalogue import purge_old
from flowpersist.sealed.collection import SealedCollection
from flowpersist.sealed.listing import Asked, Item, Unreadables, asked, checked_attributes, delete_all, listing
from flowpersist.sealed.naming import Key, key_of, parts_of, prefix_of
from flowpersist.sealed.records import SealedRecords
from flowpersist.sealed.several import save_many
from flowpersist.stores.entries import Change, Loaded, Saved, saved_as
from flowpersist.stores.single import SingleValues

__all__ = ["ValueStore", "value_store"]

T = TypeVar("T")

#: ``MISSING`` where a value of the collection's class may stand.
_NO_DEFAULT: Any = MISSING


class ValueStore(Generic[T]):
    """The values of one collection. ``Stores.values`` makes it; any number of tasks of its event loop may use it.

    A ``key`` is a text, or a tuple of texts and integers. Every verb raises ``StorageError``, and where a record can't
    be opened ``IntegrityError``, ``EncryptionError`` or ``SerializationError``, which name it; what else a verb raises
    stands with it.
    """

    def __init__(self, single: SingleValues[T]) -> None:
        check_instance(single, "single", SingleValues, "a SingleValues; Stores.values makes a store")
        self.single = single
        self.collection = single.collection

    @discreet
    async def save(
        self,
        key: Key,
        value: T,
        *,
        if_revision: int | None = None,
        ttl: timedelta | None = None,
        attributes: Mapping[str, Scalar] | None = None,
    ) -> Saved:
        """Make a value durable under a key. One round trip.

        - ``key``: where.
        - ``value``: of the store's class.
        - ``if_revision``: None overwrites; 0 only creates; another replaces only that revision, in two round trips.
        - ``ttl``: how long the value is there, by the store's clock; None: until it is deleted.
        - ``attributes``: what ``items(where=…)`` may ask for. They stand in clear in the database.

        Raises ``RevisionConflict``, and ``SerializationError`` where the value can't be kept.
        """
        parts = parts_of(key)
        self.single.check(value, "value")
        check_optional(if_revision, "if_revision", check_size)
        check_optional(ttl, "ttl", check_duration)
        given = checked_attributes(attributes)
        return saved_as(or_raise(await self.collection.save(parts, value, if_revision, ttl, given)))

    @discreet
    async def load(self, key: Key) -> Loaded[T] | None:
        """The value of a key; None if it was not saved or has expired. One round trip.

        - ``key``: which.

        Raises ``UnexpectedType`` for a value of another class.
        """
        return self.single.of(or_raise(await self.collection.load(parts_of(key))))

    @discreet
    async def update(
        self,
        key: Key,
        change: Callable[[T], T | Awaitable[T]],
        *,
        default: T = _NO_DEFAULT,
        ttl: timedelta | None = None,
        attributes: Mapping[str, Scalar] | None = None,
    ) -> Loaded[T]:
        """Read a value, change it and put it; again from the start where somebody else came first.

        - ``key``: which.
        - ``change``: a function, plain or async, that takes the value and gives the new one. It may run more than once.
        - ``default``: the value to change if none is stored; left out: ``ValueNotFound``.
        - ``ttl``: how long the value is there from now on; None: as long as before.
        - ``attributes``: the new ones; None: those of before.

        Raises ``ValueNotFound``, ``RevisionConflict`` after 64 attempts, and ``SerializationError``.
        """
        parts = parts_of(key)
        check_callable(change, "change")
        check_optional(ttl, "ttl", check_duration)
        given = None if attributes is None else checked_attributes(attributes)
        if default is not MISSING:
            self.single.check(default, "default")
        return await self.single.update(parts, change, default, ttl, given)

    @discreet
    async def delete(self, key: Key, *, if_revision: int | None = None) -> bool:
        """Delete a value; False if it does not exist.

        - ``key``: which.
        - ``if_revision``: None: whatever its revision is.

        Raises ``RevisionConflict``.
        """
        parts = parts_of(key)
        check_optional(if_revision, "if_revision", check_whole)
        return or_raise(await self.collection.delete(parts, if_revision))

    @discreet
    async def copy(self, key: Key, to: Key, *, if_revision: int | None = None) -> Saved:
        """Put a value under another key too, as it is encoded, with its attributes and its end.

        - ``key``: of the value.
        - ``to``: the other key.
        - ``if_revision``: of what stands there, as ``save`` takes it.

        Raises ``ValueNotFound`` and ``RevisionConflict``.
        """
        parts, target = parts_of(key), parts_of(to, "to")
        check_optional(if_revision, "if_revision", check_size)
        return saved_as(or_raise(await self.collection.copy(parts, target, if_revision)))

    @discreet
    async def load_many(self, keys: Iterable[Key]) -> dict[Key, Loaded[T] | None]:
        """The values of several keys, None for each that has none. Each is read for itself.

        - ``keys``: which.
        """
        check_items(keys, "keys", "keys")
        wanted = [parts_of(key) for key in keys]
        found = or_raise(await self.collection.load_many(wanted))
        return {key_of(parts): self.single.of(stored) for parts, stored in zip(wanted, found, strict=True)}

    @discreet
    async def save_many(
        self,
        values: Mapping[Key, T],
        *,
        ttl: timedelta | None = None,
        attributes: Mapping[str, Scalar] | None = None,
    ) -> dict[Key, Saved]:
        """Make several values durable, each for itself: no transaction. One round trip for up to 1,000 of them where
        the backend has one. Where one fails the others are saved all the same, and the first failure is raised; repeat
        the call.

        - ``values``: by key.
        - ``ttl``: as ``save`` takes it.
        - ``attributes``: of each of them.
        """
        check_mapping(values, "values")
        check_optional(ttl, "ttl", check_duration)
        given = checked_attributes(attributes)
        for value in values.values():
            self.single.check(value, "values")
        wanted = [(parts_of(key), value) for key, value in values.items()]
        results = await save_many(self.collection, wanted, ttl, given)
        return {key: saved_as(or_raise(result)) for key, result in zip(values, results, strict=True)}

    @discreet
    async def keys(
        self,
        prefix: Key | tuple[()] = (),
        *,
        where: Mapping[str, Scalar] | None = None,
        order: Order = "key",
        descending: bool = False,
        limit: int = 100,
        after: str | None = None,
        unreadable: Unreadables = "raise",
    ) -> Page[Key]:
        """A page of keys, with the arguments of ``items``."""
        wanted = asked(prefix, where, order, descending, limit, after, unreadable, values=False)
        page = await self._page(wanted)
        return Page(tuple(key_of(item.parts) for item in page.items), page.next, page.now, page.unreadable)

    @discreet
    async def items(
        self,
        prefix: Key | tuple[()] = (),
        *,
        where: Mapping[str, Scalar] | None = None,
        order: Order = "key",
        descending: bool = False,
        limit: int = 100,
        after: str | None = None,
        unreadable: Unreadables = "raise",
    ) -> Page[Loaded[T]]:
        """A page of values. What is there throughout a walk over all pages is seen exactly once.

        - ``prefix``: a tuple of the first parts of the keys; where the collection is ``listed`` also a text that the
          first part begins with.
        - ``where``: the attributes that values must have. They narrow the page, and it may come short with a cursor.
        - ``order``: ``key``, ``created``, ``updated`` or ``due`` (those that expire). Digests have an order too, which
          tells nothing.
        - ``descending``: the last first.
        - ``limit``: how many at most.
        - ``after``: the cursor of the page before.
        - ``unreadable``: ``raise`` fails where a record can't be opened; ``skip`` leaves it out, and the page's
          ``unreadable`` names it.

        Raises ``InputValidationError`` for a cursor of another query.
        """
        wanted = asked(prefix, where, order, descending, limit, after, unreadable, values=True)
        page = await self._page(wanted)
        return Page(tuple(item.value for item in page.items), page.next, page.now, page.unreadable)

    async def iterate(
        self,
        prefix: Key | tuple[()] = (),
        *,
        where: Mapping[str, Scalar] | None = None,
        unreadable: Unreadables = "raise",
    ) -> AsyncIterator[Loaded[T]]:
        """All values in the order of their keys, page by page, with the arguments of ``items``."""
        after: str | None = None
        while True:
            with forgetting():
                page = await self.items(prefix, where=where, after=after, unreadable=unreadable)
            for item in page.items:
                yield item
            after = page.next
            if after is None:
                return

    @discreet
    async def delete_many(self, prefix: Key | tuple[()]) -> int:
        """Delete all values whose keys have a prefix; gives how many records went.

        - ``prefix``: as ``items`` takes it; ``()``: all.
        """
        wanted = prefix_of(prefix)
        naming = or_raise(await self.collection.naming())
        return 0 if naming is None else or_raise(await delete_all(self.collection, naming, wanted))

    def watch(self, key: Key | tuple[()] = (), *, poll: timedelta = timedelta(seconds=1)) -> AsyncIterator[Change[T]]:
        """The values as they are, and then every change, until the caller leaves. Of a key that changes often the last
        state is told, not each. After a lost connection the values are told again.

        - ``key``: a key, or a prefix as ``items`` takes it: told is what it begins. In a collection that is not
          ``listed`` a text is a whole first part.
        - ``poll``: how often it looks where the backend tells nothing of changes; elsewhere ten times as long.
        """
        check_duration(poll, "poll")
        if isinstance(key, str) and not self.collection.listed:
            key = (key,)
        return self.single.changes(Watch(self.collection, prefix_of(key, "key"), poll))

    @discreet
    async def cleanup(self, older_than: timedelta | None = None) -> int:
        """Delete what has expired; gives how many records went. ``load`` gives None for these before it.

        - ``older_than``: also what was not saved for that long.
        """
        check_optional(older_than, "older_than", check_pause)
        return or_raise(await purge_old(self.collection.records, older_than))

    async def _page(self, asked: Asked) -> Page[Item]:
        naming = or_raise(await self.collection.naming())
        if naming is None:
            return Page((), None, self.collection.records.reckoned())
        return or_raise(await listing(self.collection, naming, asked, self.single.loaded))


def value_store(
    of: SealedRecords[Any], name: str, cls: type[T], *, listed: bool = False, tenant: str | None = None
) -> ValueStore[T]:
    """A store of values beside the records of a hub's suspensions."""
    return ValueStore(SingleValues(SealedCollection(of, name, listed=listed, tenant=tenant), cls))
