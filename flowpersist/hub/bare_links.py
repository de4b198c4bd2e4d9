"""Links of an audit trail without what is private in them, also in the records beside it that older ones moved to.

A writer that has found the trail as it was can still copy its links beside it. So the records are looked at until a
look finds nothing more.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from returns.result import Failure, Result, Success

from flowpersist.backends.base import Where
from flowpersist.errors import PersistenceError
from flowpersist.lifecycle.model import MovedEntries
from flowpersist.sealed.chain import without_private
from flowpersist.sealed.drafts import Decided, Draft, Found
from flowpersist.sealed.records import SealedRecords
from flowpersist.sealed.walking import pages

__all__ = ["bare_links", "strip_moved"]

_PAGE: Final = 100
#: Looks at the records of one trail. More are only needed while somebody writes it all the time.
_LOOKS: Final = 10


def bare_links(links: Sequence[bytes], meant: Callable[[bytes], bool]) -> tuple[tuple[bytes, ...], int]:
    """The links without what is private in those that are meant, and how many these are."""
    chosen = [meant(link) for link in links]
    bare = (without_private(link) if one else link for link, one in zip(links, chosen, strict=True))
    return tuple(bare), sum(chosen)


async def strip_moved(
    records: SealedRecords[MovedEntries], where: Where, meant: Callable[[bytes], bool]
) -> Result[int, PersistenceError]:
    """Strip the records beside a trail; gives how many links."""
    count = 0
    for _ in range(_LOOKS):
        found = await _look(records, where, meant)
        if not isinstance(found, Success):
            return found
        count += found.unwrap()
        if not found.unwrap():
            break
    return Success(count)


async def _look(
    records: SealedRecords[MovedEntries], where: Where, meant: Callable[[bytes], bool]
) -> Result[int, PersistenceError]:
    decide = _stripping(meant)
    count = 0
    async for listed in pages(records, where, limit=_PAGE):
        if not isinstance(listed, Success):
            return Failure(listed.failure())
        for record in listed.unwrap().items:
            if any(map(meant, record.head.links)):
                changed = (await records.update(record.ref.key, decide)).result
                if not isinstance(changed, Success):
                    return changed
                count += changed.unwrap()
    return Success(count)


def _stripping(
    meant: Callable[[bytes], bool],
) -> Callable[[Found[MovedEntries]], Awaitable[Decided[MovedEntries, int]]]:
    async def decide(found: Found[MovedEntries]) -> Decided[MovedEntries, int]:
        if found.record is None:
            return Success(0)
        links, count = bare_links(found.record.head.links, meant)
        draft: Draft[MovedEntries, int] = Draft(
            MovedEntries(links), dict(found.record.attributes), found.record.due_at, result=Success(count)
        )
        return draft if count else Success(0)

    return decide
