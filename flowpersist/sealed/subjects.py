"""Records that are of subjects, such as persons: all that is of one can be removed, or written, in one step.

A record's key is a kind, the subject, and what tells it from others of that kind. Its value is a mapping of parts,
which change together. What spans records is an intent, by a digest of the subject: it names nobody.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final, TypeAlias, TypeVar

from returns.result import Failure, Result, Success

from flowpersist.backends.base import Page, Record, Where
from flowpersist.errors import (
    EncryptionError,
    MalformedPayload,
    PersistenceError,
    RevisionConflict,
    StorageError,
    UnsupportedVersion,
)
from flowpersist.errors.arguments import check_instance
from flowpersist.sealed.caching import RecordCache
from flowpersist.sealed.cards import Card, at
from flowpersist.sealed.catalogue import scope_in
from flowpersist.sealed.collection import SealedCollection, Stored
from flowpersist.sealed.drafts import Decided, Draft, Found
from flowpersist.sealed.intents import INTENT, Intent, Intents
from flowpersist.sealed.naming import Naming, Parts, Prefix, parts_of
from flowpersist.sealed.upkeep import KeptUp, Upkeep

__all__ = ["Parted", "SubjectRecords", "settling"]

T = TypeVar("T")
#: Contents of parts, by their names.
Parted: TypeAlias = Mapping[str, Mapping[str, Any]]
#: Takes the parts that stand and the store's present; gives those that are to stand, None if nothing changes, and
#: the result.
_Change: TypeAlias = Callable[[Parted, datetime], Result[tuple[Parted | None, T], PersistenceError]]
#: What every content has: it counts the saves, and the times are the store's.
VERSION: Final = "version"
CREATED: Final = "created_at"
UPDATED: Final = "updated_at"
#: What a key is called that is too long.
IDS: Final = "ids"
FORMAT: Final = 1
_FORMAT: Final = "format"


class SubjectRecords:
    """The records of ``kinds`` in one collection.

    Where a verb finds an intent of its subject, it does what is left of that first.
    """

    def __init__(self, collection: SealedCollection, kinds: tuple[str, ...], of: str) -> None:
        self.collection = collection
        #: What the users call a subject.
        self._of = of
        self.cache: RecordCache[Card] | None = None
        self._kinds = kinds
        #: What the names of intents begin with, once it is known.
        self._span = ""
        self._intents = Intents(collection)

    def keep(self, bound: timedelta) -> RecordCache[Card]:
        """Give what was read again for so long, unless it is dropped."""
        self.cache = RecordCache(bound, self.collection.records.runtime.monotonic)
        return self.cache

    async def load(self, key: Parts) -> Result[Parted, PersistenceError]:
        """The parts of a record, none where it is not there. One round trip, none where it was kept."""
        parts_of(key, IDS)
        naming = await self.collection.naming()
        if not isinstance(naming, Success) or (made := naming.unwrap()) is None:
            return naming.map(lambda _: {})
        name, read = made.name(key), partial(self._found, made, key)
        if self.cache is None:
            return await self._parts(key, name, await read())
        self._span = made.span(Prefix((INTENT,))).start
        return await self._parts(key, name, await self.cache.found(name, read))

    async def save(self, key: Parts, given: Parted) -> Result[Parted, PersistenceError]:
        """Put parts of a record, all in one step; the others stay. Gives them as they stand now.

        A part of a version other than 0 replaces only that version, else ``RevisionConflict``.
        """
        parts_of(key, IDS)
        backend = self.collection.records.backend.name

        def change(parts: Parted, now: datetime) -> Result[tuple[Parted | None, Parted], PersistenceError]:
            made = {}
            for part, content in given.items():
                there = parts.get(part, {VERSION: 0, CREATED: None})
                # A version counts from one again where the part was deleted meanwhile, and then it was made later.
                if content[VERSION] and (content[VERSION], content[CREATED]) != (there[VERSION], there[CREATED]):
                    message = f"the {part} of version {content[VERSION]} was replaced or deleted"
                    return Failure(RevisionConflict(f"{message}; read it and decide again", backend))
                times = {VERSION: there[VERSION] + 1, CREATED: there[CREATED] or now, UPDATED: now}
                made[part] = {**content, **times}
            return Success(({**parts, **made}, made))

        return await self._update(key, change)

    async def drop(self, key: Parts, part: str) -> Result[bool, PersistenceError]:
        """Remove one part of a record, with the last one the record; False if it did not exist."""
        parts_of(key, IDS)

        def change(parts: Parted, _: datetime) -> Result[tuple[Parted | None, bool], PersistenceError]:
            left = {name: one for name, one in parts.items() if name != part}
            return Success((left, True) if part in parts else (None, False))

        naming = await self.collection.naming()
        if not isinstance(naming, Success) or naming.unwrap() is None:
            return naming.map(lambda _: False)
        return await self._update(key, change)

    async def _update(self, key: Parts, change: _Change[T]) -> Result[T, PersistenceError]:
        """Read, change, put. Where no part is to stand, the record is removed."""
        naming = await self.collection.made_naming()
        if not isinstance(naming, Success):
            return Failure(naming.failure())
        name, records = naming.unwrap().name(key), self.collection.records
        left: Parted = {}

        async def decide(found: Found[Card]) -> Decided[Card, T]:
            nonlocal left
            changed = (await self._parts(key, name, Success(found))).bind(lambda parts: change(parts, found.now))
            if not isinstance(changed, Success) or (after := changed.unwrap()[0]) is None:
                return changed.map(lambda both: both[1])
            left, result = after, changed.unwrap()[1]
            content = await self.collection.content(name, key, {_FORMAT: FORMAT, **left})
            if not isinstance(content, Success):
                return Failure(content.failure())
            draft: Draft[Card] = content.unwrap().draft({}, None)
            return draft.giving(result)

        try:
            updated = await records.update(name, decide, find=partial(self._found, naming.unwrap(), key))
            if left or updated.written is None:
                return updated.result
            deleted = await records.delete(name, revision=updated.written.revision)
        finally:
            self.changed(name)
        # Another's part stands there by now, or it is removed.
        overtaken = isinstance(deleted, Success) or isinstance(deleted.failure(), RevisionConflict)
        return updated.result if overtaken else deleted.bind(lambda _: updated.result)

    async def delete(self, key: Parts) -> Result[bool, PersistenceError]:
        """Remove a record; False if it did not exist."""
        settled = await self.settle(parts_of(key, IDS)[1])
        if not isinstance(settled, Success) or (naming := settled.unwrap()[0]) is None:
            return settled.map(lambda _: False)
        name = naming.name(key)
        try:
            return await self.collection.records.delete(name, revision=None)
        finally:
            self.changed(name)

    async def settle(self, subject: str | int | None) -> Result[tuple[Naming | None, int], PersistenceError]:
        """Do what is left to be done of a subject (None: of all): how records are named (None where nothing was ever
        saved), and how many intents there were.
        """
        naming = await self.collection.naming()
        if not isinstance(naming, Success) or (made := naming.unwrap()) is None:
            return naming.map(lambda _: (None, 0))
        if subject is None:
            return (await self._intents.settle_all(made)).map(lambda count: (made, count))
        return (await self._intents.settle(_intent(made, subject)[0])).map(lambda done: (made, int(done)))

    async def forget(self, subject: str) -> Result[bool, PersistenceError]:
        """Remove all that is of a subject: nothing of it is found from the moment at which the intent stands."""
        check_instance(subject, self._of, str, "a str")
        parts_of(subject, IDS)
        naming = await self.collection.naming()
        if not isinstance(naming, Success) or (made := naming.unwrap()) is None:
            return naming.map(lambda _: False)
        spans = tuple(made.span(Prefix((kind, subject))).start for kind in self._kinds)
        return await self._carry_out(made, subject, Intent(spans), over=True)

    async def write(self, subject: str, values: Mapping[Parts, Parted]) -> Result[bool, PersistenceError]:
        """Put records of a subject, all or none, by their keys."""
        naming = await self.collection.made_naming()
        if not isinstance(naming, Success):
            return Failure(naming.failure())
        made, codec = naming.unwrap(), self.collection.records.sealer.codec
        encoded: dict[Parts, bytes] = {}
        for key, value in values.items():
            parts_of(key, IDS)
            data = codec.encode({_FORMAT: FORMAT, **value})
            if not isinstance(data, Success):
                return Failure(data.failure())
            encoded[key] = data.unwrap()
        # Once the intent stands, what is there must not stand in its way.
        there = await self.collection.records.read_many([made.name(key) for key in values])
        if not isinstance(there, Success):
            return Failure(there.failure())
        for key, one in zip(values, there.unwrap(), strict=True):
            if isinstance(one, Failure):
                return Failure(self._at(made.name(key), one.failure()))
        return await self._carry_out(made, subject, Intent((), encoded), over=False)

    async def _carry_out(
        self, naming: Naming, subject: str, intent: Intent, *, over: bool
    ) -> Result[bool, PersistenceError]:
        try:
            return await self._intents.carry_out(*_intent(naming, subject), intent, over=over)
        finally:
            if self.cache is not None:
                self.cache.clear()

    async def _found(self, naming: Naming, key: Parts) -> Result[Found[Card], PersistenceError]:
        name = naming.name(key)
        found = await self._intents.found(_intent(naming, key[1])[0], name)
        return Failure(self._at(name, found.failure())) if isinstance(found, Failure) else found

    async def _parts(
        self, key: Parts, name: str, found: Result[Found[Card], PersistenceError]
    ) -> Result[Parted, PersistenceError]:
        if not isinstance(found, Success):
            return Failure(found.failure())
        record = found.unwrap().record
        if record is None:
            return Success({})
        stored = await self.collection.opened(record, key)
        if not isinstance(stored, Success):
            return Failure(self._at(name, stored.failure()))
        return self._parted(name, stored.unwrap().value)

    def _at(self, name: str, error: PersistenceError) -> PersistenceError:
        return error if isinstance(error, StorageError) else at(error, self.collection.records.ref(name))

    def changed(self, name: str) -> None:
        """A record was changed, here or elsewhere: it is kept no longer. An intent changes more than itself."""
        if self.cache is not None and self._span and name.startswith(self._span):
            self.cache.clear()
        elif self.cache is not None:
            self.cache.drop(name)

    async def page(
        self, kind: str, subject: str | None, *, limit: int, after: str | None
    ) -> Result[Page[tuple[Parts, Parted]], PersistenceError]:
        """Keys and parts of the records of a kind, of one subject or of all; one that can't be opened fails the page.
        One round trip for what is left to be done, and one for the page.
        """
        records = self.collection.records
        if subject is not None:
            parts_of(subject, IDS)
        settled = await self.settle(subject)
        if not isinstance(settled, Success) or (naming := settled.unwrap()[0]) is None:
            return settled.map(lambda _: Page((), None, records.reckoned()))
        where = Where(range=naming.span(Prefix((kind,) if subject is None else (kind, subject))).range)
        listed = await records.listed(where, limit=limit, after=after, bodies=True)
        if not isinstance(listed, Success):
            return Failure(listed.failure())
        page: Page[Record] = listed.unwrap()
        for one in page.unreadable:
            return Failure(one.error if one.ref is None else at(one.error, one.ref))
        items: list[tuple[Parts, Parted]] = []
        for record in page.items:
            opened = await self._opened(record, page.now)
            if not isinstance(opened, Success):
                return Failure(opened.failure())
            items.append(opened.unwrap())
        return Success(Page(tuple(items), page.next, page.now))

    async def _opened(self, record: Record, now: datetime) -> Result[tuple[Parts, Parted], PersistenceError]:
        name, loaded = record.ref.key, self.collection.records.loaded(record, now)
        if not isinstance(loaded, Success):
            return Failure(self._at(name, loaded.failure()))
        stored = await self.collection.opened(loaded.unwrap())
        if not isinstance(stored, Success):
            return Failure(self._at(name, stored.failure()))
        # Others have the event loop between two records.
        await asyncio.sleep(0)
        one: Stored = stored.unwrap()
        return self._parted(name, one.value).map(lambda parts: (one.parts, parts))

    def _parted(self, name: str, value: object) -> Result[Parted, PersistenceError]:
        version = value.get(_FORMAT) if isinstance(value, dict) else None
        if not isinstance(value, dict) or type(version) is not int or version < FORMAT:
            return Failure(self._at(name, MalformedPayload("the value is not of this store; restore it from a backup")))
        if version > FORMAT:
            message = f"the value has version {version}, and this release reads {FORMAT}; upgrade flowpersist"
            return Failure(self._at(name, UnsupportedVersion(message)))
        return Success({part: one for part, one in value.items() if part != _FORMAT})


def settling(kinds: tuple[str, ...], of: str) -> Upkeep:
    """The upkeep of such a collection: what was cut is done to its end.

    That opens intents, which are sealed as values are. A process whose keyring has not their key leaves them to others.
    """

    async def settle(one: KeptUp) -> Result[int, PersistenceError]:
        found = await one.catalog.read(one.key)
        made = found.value_or(None)
        if made is not None:
            scope = scope_in(one.key)
            collection = SealedCollection(
                one.catalog.of, made.name, listed=made.listed, tenant=made.tenant, scope=scope
            )
            found = (await SubjectRecords(collection, kinds, of).settle(None)).map(lambda _: None)
        sealed_otherwise = isinstance(found, Failure) and isinstance(found.failure(), EncryptionError)
        return Success(0) if sealed_otherwise else found.map(lambda _: 0)

    return settle


def _intent(naming: Naming, subject: str | int) -> tuple[str, Parts]:
    """The name and the key of a subject's intent. The key holds a digest of the subject, and not the subject."""
    key = (INTENT, naming.name((INTENT, subject)))
    return naming.name(key), key
