"""Values in the order in which they were appended: under the same first parts, each has the next number.

A number is taken by creating the record of that number, which one of all who try does: so no two values have one
number, none is lost, and the order of the numbers is that of the store's clock. How many are kept stands beside each
value, in clear: so whoever does the upkeep knows it, without a key and without a setting.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from typing import Any, Final
from weakref import WeakValueDictionary

from attrs import frozen
from returns.result import Failure, Result, Success

from flowpersist.backends.base import Range, Where, Written
from flowpersist.errors import PersistenceError, RevisionConflict
from flowpersist.sealed.catalogue import expired_before, purge_all
from flowpersist.sealed.collection import SealedCollection
from flowpersist.sealed.naming import Parts, Prefix, number_in, numbered
from flowpersist.sealed.records import SealedRecords
from flowpersist.sealed.upkeep import Upkeep
from flowpersist.sealed.walking import stored_pages

__all__ = ["Appended", "NumberedLog", "first_kept", "trimming"]

log = logging.getLogger("flowpersist.stores")
#: The attribute that says how many are kept.
KEEP: Final = "keep"
#: Each conflict means that somebody else appended, so only those who always come second get so far.
MAX_CONFLICTS: Final = 1000
#: The bound of the waits between, as the attempt that has it first.
PATIENT: Final = 3
#: What follows all keys that begin with a prefix, in the place of its last character.
_PAST: Final = chr(ord("/") + 1)


def first_kept(last: int, keep: int) -> int:
    """The lowest number that stays where ``keep`` values stay and ``last`` is the highest number."""
    return max(1, last - keep + 1)


@frozen
class Appended:
    """A value became durable under this number, as the record of that name."""

    number: int
    name: str
    written: Written


class NumberedLog:
    """The values of a collection by number. After every number that ``every`` divides, what is not kept is removed."""

    def __init__(self, collection: SealedCollection, every: int) -> None:
        self.collection = collection
        self._every = every
        self._turns: WeakValueDictionary[Parts, asyncio.Lock] = WeakValueDictionary()

    async def append(
        self,
        parts: Parts,
        value: object,
        *,
        keep: int,
        ttl: timedelta | None = None,
        after: int | None = None,
        clear: bool = False,
    ) -> Result[Appended, PersistenceError]:
        """Put a value behind the last one with these first parts. ``after``: only where that is the last number."""
        # Those of this process need not come in each other's way.
        turn = self._turns.setdefault(parts, asyncio.Lock())
        async with turn:
            appended = await self._appended(parts, value, {KEEP: keep}, ttl, after, clear=clear)
        if isinstance(appended, Success) and appended.unwrap().number % self._every == 0:
            await self._trim(appended.unwrap())
        return appended

    async def _appended(
        self,
        parts: Parts,
        value: object,
        attributes: dict[str, Any],
        ttl: timedelta | None,
        after: int | None,
        *,
        clear: bool,
    ) -> Result[Appended, PersistenceError]:
        made = await self.collection.made_naming()
        if not isinstance(made, Success):
            return Failure(made.failure())
        naming, records = made.unwrap(), self.collection.records
        prefix, tried = naming.span(Prefix(parts)).start, 0
        for attempt in range(1, MAX_CONFLICTS + 1):
            found = await last_number(records, prefix)
            if not isinstance(found, Success):
                return Failure(found.failure())
            # One that was in the way and is not seen can't be read.
            number = max(found.unwrap()[0], tried) + 1
            if after is not None and number != after + 1:
                break
            saved = await self.collection.save((*parts, number), value, 0, ttl, attributes, clear=clear)
            if isinstance(saved, Success):
                return Success(Appended(number, numbered(prefix, number), saved.unwrap()))
            if not isinstance(saved.failure(), RevisionConflict):
                return Failure(saved.failure())
            tried = number
            await records.runtime.sleep(records.runtime.jitter(min(attempt, PATIENT)))
        message = "others appended in between: read the last one and decide again"
        return Failure(RevisionConflict(message, records.backend.name))

    async def _trim(self, appended: Appended) -> None:
        records = self.collection.records
        found = number_in(appended.name)
        prefix = "" if found is None else found[0]
        for done in (await purge_all(records, expired_before(appended.written.now)), await trimmed(records, prefix)):
            if isinstance(done, Failure):
                # The value is durable all the same, and upkeep tries again.
                log.warning("what is kept no longer could not be removed yet: %s", done.failure())


async def last_number(records: SealedRecords[Any], prefix: str) -> Result[tuple[int, int], PersistenceError]:
    """The highest number with a prefix, also of what has expired, 0 where there is none; and how many are kept."""
    async for listed in stored_pages(records, Where(range=Range("key", prefix=prefix)), limit=1, descending=True):
        if not isinstance(listed, Success):
            return Failure(listed.failure())
        for record in listed.unwrap().items:
            found, keep = number_in(record.ref.key), record.attributes.get(KEEP)
            if found is not None and found[0] == prefix:
                return Success((found[1], keep if type(keep) is int else found[1]))
    return Success((0, 0))


async def trimmed(records: SealedRecords[Any], prefix: str) -> Result[int, PersistenceError]:
    """Delete what is kept no longer of one prefix; gives how many."""
    found = await last_number(records, prefix)
    if not isinstance(found, Success):
        return Failure(found.failure())
    first = first_kept(*found.unwrap())
    if first <= 1:
        return Success(0)
    return await purge_all(records, Where(range=Range("key", since=prefix, before=numbered(prefix, first))))


async def trimmed_all(records: SealedRecords[Any]) -> Result[int, PersistenceError]:
    """The same of all prefixes. No record is opened."""
    deleted, where = 0, Where()
    after: str | None = None
    while True:
        # The first of what follows the prefixes that were seen to.
        listed = await records.listed(where, limit=1, after=after)
        if not isinstance(listed, Success):
            return Failure(listed.failure())
        page = listed.unwrap()
        found = number_in(page.items[0].ref.key) if page.items else None
        if found is not None:
            done = await trimmed(records, found[0])
            if not isinstance(done, Success):
                return done
            deleted += done.unwrap()
            after, where = None, Where(range=Range("key", since=found[0][:-1] + _PAST))
        elif page.next is not None:
            after = page.next
        else:
            return Success(deleted)


def trimming(name: str) -> Upkeep:
    """The upkeep of the collections of that name."""
    return lambda one: trimmed_all(one.records(name))
