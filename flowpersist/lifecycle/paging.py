"""Bringing the waits of a head onto pages, and back: pure functions, which read and write no record.

A page has the waits and receipts whose secrets have digests of one range. So a key's page is found by its secret, and a
wait that changes changes its own page alone. A page that has grown too large is divided; once there are many more pages
than the waits need, all are made anew.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Callable, Sequence
from datetime import datetime
from operator import attrgetter
from typing import Final, TypeAlias

from attrs import evolve, frozen
from returns.result import Failure, Result, Success

from flowpersist.errors import PersistenceError, StateTooLarge
from flowpersist.lifecycle.changes import next_moment
from flowpersist.lifecycle.indexing import tool_of
from flowpersist.lifecycle.model import (
    MAX_RECEIPTS,
    Head,
    Paged,
    PageReference,
    PartOfHead,
    WaitPage,
    WaitReceipt,
    WaitState,
    WaitStatus,
    references_of,
    replace,
    secret_digest,
)
from flowpersist.lifecycle.pages import PREFIX_BYTES, PageContent, Rest
from flowpersist.lifecycle.scheduling import notices_from
from flowpersist.lifecycle.waits import ENDED
from flowpersist.sealed.heads import packed, unpacker

__all__ = [
    "MAX_KEPT",
    "NAME_BYTES",
    "Divided",
    "NewPage",
    "divided",
    "enough",
    "is_paged",
    "joined",
    "page_of",
    "part_of",
    "read_page",
]

NAME_BYTES: Final = 16
#: With more waits, and receipts beside the newest ones, than this a head has pages.
PAGED_FROM: Final = 128
#: A page with more entries, or more bytes, is divided. One entry may be larger.
PER_PAGE: Final = 64
PAGE_BYTES: Final = 32 * 1024
#: The most waits that a suspension keeps, open ones and those that no holder has read, and the most bytes of its pages
#: when further ones are opened.
MAX_KEPT: Final = 20_000
MAX_PAGES_BYTES: Final = 16 * 1024 * 1024
#: So many replaced pages stay at least, for whoever has read an earlier head.
KEPT_PAGES: Final = 16
#: So many are removed by a put at least.
REMOVED_PAGES: Final = 4
_Entry: TypeAlias = WaitState | WaitReceipt

read_page = unpacker(PageContent)


@frozen
class NewPage:
    """A page to be written."""

    reference: PageReference
    page: WaitPage
    waits: tuple[WaitState, ...]


@frozen
class Divided:
    """A head as it is stored, the pages that have to be written before it, and the names of those that earlier heads
    have replaced and that can be removed now.
    """

    head: Head
    new: tuple[NewPage, ...] = ()
    removed: tuple[bytes, ...] = ()

    def renamed(self, name: Callable[[], bytes]) -> Divided:
        """The same with other names of the new pages."""
        names = {one.reference.name: name() for one in self.new}

        def again(one: PageReference) -> PageReference:
            return replace(one, name=names[one.name]) if one.name in names else one

        paged = self.head.paged or Paged()
        head = replace(self.head, paged=replace(paged, pages=tuple(map(again, paged.pages))))
        return evolve(self, head=head, new=tuple(evolve(one, reference=again(one.reference)) for one in self.new))


def is_paged(head: Head) -> bool:
    """Whether its waits stand on pages. Once they do, they do until they are far fewer."""
    if isinstance(head, PartOfHead):
        return True
    count = len(head.waits) + max(0, len(head.receipts) - MAX_RECEIPTS)
    return count > (PAGED_FROM // 2 if references_of(head) else PAGED_FROM)


def divided(head: Head, name: Callable[[], bytes], *, pages: bool) -> Result[Divided, PersistenceError]:
    """The head with its waits on pages, or, without ``pages``, with all of them in it. ``name`` draws a page's name."""
    if isinstance(head, PartOfHead):
        return _divided_part(head, name)
    stood = head.paged or Paged()
    if not pages:
        return Success(_with_pages(head, stood, (), ()))
    grows = any(wait.place == 0 for wait in head.waits)
    if grows and len(head.waits) > MAX_KEPT:
        message = f"a suspension keeps at most {MAX_KEPT} waits, not {len(head.waits)}: end or read some first"
        return Failure(StateTooLarge(message))
    head = replace(head, waits=_placed(head.waits))
    inline = head.receipts[len(head.receipts) - min(len(head.receipts), MAX_RECEIPTS) :]
    beside = head.receipts[: len(head.receipts) - len(inline)]
    made = _pages([*head.waits, *beside], stood.pages, name)
    if not isinstance(made, Success):
        return Failure(made.failure())
    references, new = made.unwrap()
    size = sum(one.size for one in references)
    if grows and size > MAX_PAGES_BYTES:
        message = f"what is awaited and answered takes {size} bytes, over the {MAX_PAGES_BYTES} of a suspension's waits"
        return Failure(StateTooLarge(f"{message}: put large data into the state"))
    return Success(_with_pages(replace(head, waits=(), receipts=inline), stood, references, new, tool_of(head)))


def joined(stored: Head, contents: Sequence[PageContent]) -> Head:
    """The head as it was divided."""
    waits = [*(wait for content in contents for wait in content.waits)]
    receipts = [receipt for content in contents for receipt in content.receipts]
    waits.sort(key=attrgetter("place"))
    return replace(stored, waits=tuple(waits), receipts=(*receipts, *stored.receipts))


def part_of(stored: Head, reference: PageReference, content: PageContent) -> PartOfHead:
    """A head with the waits of one page."""
    others = [one for one in references_of(stored) if one is not reference]
    rest = Rest(
        open=sum([one.open for one in others]),
        needed=sum([one.needed for one in others]),
        undelivered=sum([one.undelivered for one in others]),
        expired=sum([one.expired for one in others]),
        change=_first([one.change for one in others]),
        notice=_first([one.notice for one in others]),
    )
    fields = {name: getattr(stored, name) for name in Head.__struct_fields__}
    fields.update(waits=content.waits, receipts=(*content.receipts, *stored.receipts))
    return PartOfHead(**fields, rest=rest, page=reference.name, beside=len(content.receipts))


def page_of(stored: Head, secret: bytes) -> PageReference | None:
    """The page of the wait or receipt of that secret; None where no waits stand on pages."""
    references = references_of(stored)
    if not references:
        return None
    return references[page_at([one.start for one in references], secret_digest(secret)[:PREFIX_BYTES])]


def enough(stored: Head, now: datetime) -> bool:
    """Whether an answer needs no page but that of its wait: nothing has come by time, and nothing ends with the answer
    but the pause.
    """
    references = references_of(stored)
    if stored.status.closed or stored.removing or stored.cancelling or stored.until == "any":
        return False
    if stored.until == "all" and max([one.expired for one in references]):
        return False
    moment = _first([stored.lease_until, *[one.change for one in references]])
    return moment is None or now <= moment


def _divided_part(part: PartOfHead, name: Callable[[], bytes]) -> Result[Divided, PersistenceError]:
    """The same of a head of which one page was read: the others stay."""
    stood = part.paged or Paged()
    entries: list[_Entry] = [*part.waits, *part.receipts[: part.beside]]
    references: list[PageReference] = []
    new: list[NewPage] = []
    for number, known in enumerate(stood.pages):
        if known.name != part.page:
            references.append(known)
            continue
        made = _divided(known.start if number else b"", entries, known, name)
        if not isinstance(made, Success):
            return Failure(made.failure())
        references += [one if isinstance(one, PageReference) else one.reference for one in made.unwrap()]
        new = [one for one in made.unwrap() if isinstance(one, NewPage)]
    fields = {field: getattr(part, field) for field in Head.__struct_fields__}
    fields.update(waits=(), receipts=part.receipts[part.beside :])
    return Success(_with_pages(Head(**fields), stood, tuple(references), tuple(new), stood.tool))


def _placed(waits: Sequence[WaitState]) -> tuple[WaitState, ...]:
    """The waits with places that rise in their order; one that has its place keeps it."""
    placed: list[WaitState] = []
    last = 0
    for wait in waits:
        last = wait.place if wait.place > last else last + 1
        placed.append(wait if wait.place == last else replace(wait, place=last))
    return tuple(placed)


def _with_pages(
    head: Head,
    stood: Paged,
    pages: tuple[PageReference, ...],
    new: tuple[NewPage, ...],
    tool: str | None = None,
) -> Divided:
    named = {one.name for one in pages}
    over = stood.replaced[: max(0, len(stood.replaced) - KEPT_PAGES, 0 if pages else len(stood.replaced))]
    removed = over if not pages else over[: max(REMOVED_PAGES, len(new))]
    dropped = tuple(one.name for one in stood.pages if one.name not in named)
    replaced = (*stood.replaced[len(removed) :], *dropped)
    paged = Paged(pages, replaced, tool) if pages or replaced else None
    return Divided(replace(head, paged=paged), new, removed)


def _pages(
    entries: Sequence[_Entry], stood: Sequence[PageReference], name: Callable[[], bytes]
) -> Result[tuple[tuple[PageReference, ...], tuple[NewPage, ...]], PersistenceError]:
    if len(stood) > 2 * (len(entries) // (PER_PAGE // 2) + 1):
        stood = ()
    # The first page has whatever comes before the others, also where an earlier first one is gone.
    starts = [b"", *[one.start for one in stood[1:]]]
    groups: list[list[_Entry]] = [[] for _ in starts]
    for entry, prefix in zip(entries, _prefixes(entries), strict=True):
        groups[page_at(starts, prefix)].append(entry)
    references: list[PageReference] = []
    new: list[NewPage] = []
    for number, group in enumerate(groups):
        known = stood[number] if stood else None
        made = _divided(starts[number], group, known, name)
        if not isinstance(made, Success):
            return Failure(made.failure())
        for one in made.unwrap():
            references.append(one if isinstance(one, PageReference) else one.reference)
            new += [] if isinstance(one, PageReference) else [one]
    return Success((tuple(references), tuple(new)))


def _prefixes(entries: Sequence[_Entry]) -> list[bytes]:
    # Without a call for each, since every put of a holder divides all of them.
    return [
        (one.digest if isinstance(one, WaitReceipt) else hashlib.sha256(one.secret).digest())[:PREFIX_BYTES]
        for one in entries
    ]


def page_at(starts: Sequence[bytes], prefix: bytes) -> int:
    """The number of the page on which a secret with a digest of that prefix stands."""
    return max(0, bisect_right(starts, prefix) - 1)


def _divided(
    start: bytes, group: list[_Entry], known: PageReference | None, name: Callable[[], bytes]
) -> Result[list[PageReference | NewPage], PersistenceError]:
    """The pages of a range; the known one where nothing of it has changed."""
    if not group:
        return Success([])
    parts = -(-len(group) // PER_PAGE)
    middle = _middle(group, parts) if parts > 1 else None
    if middle is None:
        made = _new_page(start, group, known, name)
        if not isinstance(made, Success):
            return Failure(made.failure())
        page = made.unwrap()
        reference = page if isinstance(page, PageReference) else page.reference
        middle = _middle(group, 2) if reference.size > PAGE_BYTES else None
        if middle is None:
            return Success([page])
    sides: tuple[list[_Entry], list[_Entry]] = ([], [])
    for one, prefix in zip(group, _prefixes(group), strict=True):
        sides[prefix >= middle].append(one)
    left, right = _divided(start, sides[0], None, name), _divided(middle, sides[1], None, name)
    return left.bind(lambda first: right.map(lambda second: [*first, *second]))


def _middle(group: Sequence[_Entry], parts: int) -> bytes | None:
    """Where a group is divided in two, so that it has so many equal parts in the end; None where it can't be."""
    prefixes = sorted(_prefixes(group))
    middle = prefixes[len(prefixes) * (parts // 2) // parts]
    if middle != prefixes[0]:
        return middle
    return next((prefix for prefix in prefixes if prefix != middle), None)


def _new_page(
    start: bytes, group: Sequence[_Entry], known: PageReference | None, name: Callable[[], bytes]
) -> Result[PageReference | NewPage, PersistenceError]:
    waits = tuple(sorted([one for one in group if isinstance(one, WaitState)], key=attrgetter("place")))
    receipts = tuple(sorted([one for one in group if isinstance(one, WaitReceipt)], key=attrgetter("digest")))
    still = [wait for wait in waits if wait.status is WaitStatus.OPEN]
    content = packed(PageContent(waits, receipts))
    if not isinstance(content, Success):
        return Failure(content.failure())
    data = content.unwrap()
    digest = hashlib.sha256(data).digest()
    if known is not None and known.digest == digest:
        return Success(known)
    reference = PageReference(
        name=name(),
        digest=digest,
        size=len(data),
        start=start,
        entries=len(group),
        open=len(still),
        needed=len([wait for wait in still if wait.awaiting is not None]),
        undelivered=len([wait for wait in waits if wait.delivery is None and wait.status in ENDED]),
        expired=len([wait for wait in waits if wait.status is WaitStatus.EXPIRED]),
        change=_first([wait.deadline if wait.schedule is None else next_moment(wait) for wait in still]),
        notice=_first([notices_from(wait) for wait in still if wait.schedule is not None]),
    )
    return Success(NewPage(reference, WaitPage(data), waits))


def _first(moments: Sequence[datetime | None]) -> datetime | None:
    return min([moment for moment in moments if moment is not None], default=None)
