"""Upkeep of all collections of a namespace: what has expired is deleted, and stores see to what is theirs.

A store registers what is to be done beside that for the collections of its name. It gets the records as they are
stored, and works by their names, attributes and times alone: so upkeep needs no key that opens a value, and finds the
collections of every tenant and project.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Any, Final, TypeAlias

from attrs import frozen
from returns.result import Failure, Result, Success

from flowpersist.backends.base import Where
from flowpersist.errors import PersistenceError, StorageError
from flowpersist.sealed.catalogue import CollectionCatalog, beside, expired_before, name_in, purge_all
from flowpersist.sealed.records import SealedRecords
from flowpersist.sealed.walking import stored_pages

__all__ = ["Census", "KeptUp", "Upkeep", "count_all", "count_live", "keep_up", "register"]

PAGE: Final = 1000
#: A census looks at so many pages at most.
MOST_PAGES: Final = 100


@frozen
class KeptUp:
    """A collection that is to be seen to, and the store's present."""

    catalog: CollectionCatalog
    key: str
    now: datetime

    def records(self, name: str) -> SealedRecords[Any]:
        """The records of the collection of that name, of the same tenant and project."""
        return self.catalog.records(beside(self.key, name))


#: What a store does for a collection of its name; gives how many records it deleted.
Upkeep: TypeAlias = Callable[[KeptUp], Awaitable[Result[int, PersistenceError]]]
_UPKEEP: Final[dict[str, Upkeep]] = {}


def register(name: str, upkeep: Upkeep) -> None:
    """Have this done for the collections of that name, from any number of processes at a time."""
    _UPKEEP[name] = upkeep


async def keep_up(
    of: SealedRecords[Any], meant: Callable[[str], bool] = lambda _: True
) -> Result[Mapping[str, int], PersistenceError]:
    """See to the collections whose keys are meant; gives by their names how many records were deleted.

    What can't be opened in one of them leaves the others alone, and is the result at the end.
    """
    catalog = CollectionCatalog(of)
    deleted: Counter[str] = Counter()
    failed: PersistenceError | None = None
    async for found in catalog.keys():
        if not isinstance(found, Success):
            return Failure(found.failure())
        key, now = found.unwrap()
        if not meant(key):
            continue
        done = await _kept_up(KeptUp(catalog, key, now))
        if isinstance(done, Success):
            deleted[name_in(key)] += done.unwrap()
        elif isinstance(done.failure(), StorageError):
            return Failure(done.failure())
        else:
            failed = failed or done.failure()
    return Success(dict(deleted)) if failed is None else Failure(failed)


async def _kept_up(one: KeptUp) -> Result[int, PersistenceError]:
    name = name_in(one.key)
    expired = await purge_all(one.records(name), expired_before(one.now))
    upkeep = _UPKEEP.get(name)
    if upkeep is None or not isinstance(expired, Success):
        return expired
    return (await upkeep(one)).map(lambda count: count + expired.unwrap())


@frozen
class Census:
    """How many values the collections have, by name; ``complete`` is False where there are more than were counted."""

    counts: Mapping[str, int]
    complete: bool


async def count_all(of: SealedRecords[Any]) -> Result[Census, PersistenceError]:
    """Count the values of all collections, at most 100,000. No record is opened."""
    catalog = CollectionCatalog(of)
    counts: Counter[str] = Counter()
    left = MOST_PAGES
    async for found in catalog.keys():
        if not isinstance(found, Success):
            return Failure(found.failure())
        if left <= 0:
            return Success(Census(dict(counts), complete=False))
        key, _ = found.unwrap()
        counted = await count_live(catalog.records(key), Where(), pages=left)
        if not isinstance(counted, Success):
            return Failure(counted.failure())
        count, pages = counted.unwrap()
        counts[name_in(key)] += count
        left -= pages
    return Success(Census(dict(counts), complete=left >= 0))


async def count_live(
    records: SealedRecords[Any], where: Where, *, pages: int | None = None
) -> Result[tuple[int, int], PersistenceError]:
    """How many records have not expired, and how many pages they took, one more than ``pages`` where there are more."""
    count = 0
    walk = stored_pages(records, where, limit=PAGE, most=pages)
    async for listed in walk:
        if not isinstance(listed, Success):
            return Failure(listed.failure())
        page = listed.unwrap()
        count += sum(record.due_at is None or page.now < record.due_at for record in page.items)
    return Success((count, walk.read + (walk.next is not None)))
