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
from typing import Final, TypeAlias, TypeVar

from attrs import evolve, frozen
from returns.result import Failure, Result, Success

from flowpersist.errors import PersistenceError, StateTooLarge
from flowpersist.lifecycle.changes import next_moment
from flowpersist.lifecycle.indexing import first_asked, tool_of
from flowpersist.lifecycle.model import (
    MAX_RECEIPTS,
    Head,
    Paged,
    PageReference,
    PartOfHead,
    PartRead,
    WaitPage,
    WaitReceipt,
    WaitState,
    WaitStatus,
    references_of,
    replace,
)
from flowpersist.lifecycle.pages import PREFIX_BYTES, PageContent
from flowpersist.lifecycle.scheduling import notices_from
from flowpersist.lifecycle.waits import ENDED
from flowpersist.sealed.heads import packed, unpacker

__all__ = [
    "MAX_KEPT",
    "NAME_BYTES",
    "Divided",
    "Entry",
    "NewPage",
    "divided",
    "first_of",
    "is_paged",
    "joined",
    "made_anew",
    "may_be_too_many",
    "page_at",
    "prefixes_of",
    "read_page",
    "receipts_over",
    "starts_of",
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
Entry: TypeAlias = WaitState | WaitReceipt
H = TypeVar("H", bound=Head)

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
    head, last = _placed(head, 0)
    inline = head.receipts[len(head.receipts) - min(len(head.receipts), MAX_RECEIPTS) :]
    beside = head.receipts[: len(head.receipts) - len(inline)]
    made = _pages([*head.waits, *beside], stood.pages, name)
    if not isinstance(made, Success):
        return Failure(made.failure())
    references, new = made.unwrap()
    tool = tool_of(head)
    head = replace(head, waits=(), receipts=inline)
    return _small_enough(_with_pages(head, stood, references, new, tool, last), grows=grows)


def _small_enough(parts: Divided, *, grows: bool) -> Result[Divided, PersistenceError]:
    size = sum([one.size for one in references_of(parts.head)])
    if not grows or size <= MAX_PAGES_BYTES:
        return Success(parts)
    message = f"what is awaited and answered takes {size} bytes, over the {MAX_PAGES_BYTES} of a suspension's waits"
    return Failure(StateTooLarge(f"{message}: put large data into the state"))


def joined(stored: Head, contents: Sequence[PageContent]) -> Head:
    """The head as it was divided."""
    waits = [wait for content in contents for wait in content.waits]
    receipts = [receipt for content in contents for receipt in content.receipts]
    waits.sort(key=attrgetter("place"))
    return replace(stored, waits=tuple(waits), receipts=(*receipts, *stored.receipts))


def receipts_over(part: PartOfHead) -> tuple[WaitReceipt, ...]:
    """The receipts that find no place in the head any more."""
    return part.receipts[part.beside : max(part.beside, len(part.receipts) - MAX_RECEIPTS)]


def starts_of(references: Sequence[PageReference]) -> list[bytes]:
    """From which prefix on each page has waits."""
    # The first page has whatever comes before the others, also where an earlier first one is gone.
    return [b"", *[one.start for one in references[1:]]]


def made_anew(references: Sequence[PageReference]) -> bool:
    """Whether the next put of the whole makes all pages anew, or none."""
    entries = sum([one.entries for one in references])
    return entries <= PAGED_FROM // 2 or len(references) > _most(entries)


def may_be_too_many(part: PartOfHead, further: int) -> bool:
    """Whether only the whole can tell that so many further waits can be kept, since receipts are counted too."""
    return sum([one.entries for one in references_of(part)]) + further > MAX_KEPT


def _most(entries: int) -> int:
    return 2 * (entries // (PER_PAGE // 2) + 1)


def _divided_part(part: PartOfHead, name: Callable[[], bytes]) -> Result[Divided, PersistenceError]:
    """The same of a head of which some pages were read: the others stay."""
    stood, tool, over = part.paged or Paged(), tool_of(part), receipts_over(part)
    grows = bool([wait for wait in part.waits if wait.place == 0])
    part, last = _placed(part, stood.last)
    entries: list[Entry] = [*part.waits, *part.receipts[: part.beside], *over]
    starts = starts_of(stood.pages)
    groups: dict[int, list[Entry]] = {}
    for entry, prefix in zip(entries, prefixes_of(entries), strict=True):
        # Without a call for each, as below.
        groups.setdefault(bisect_right(starts, prefix) - 1, []).append(entry)
    references: list[PageReference] = []
    new: list[NewPage] = []
    for number, known in enumerate(stood.pages):
        if known.name not in part.pages:
            references.append(known)
            continue
        made = _divided(starts[number], groups.pop(number, []), known, name)
        if not isinstance(made, Success):
            return Failure(made.failure())
        for one in made.unwrap():
            references.append(one if isinstance(one, PageReference) else one.reference)
            new += [] if isinstance(one, PageReference) else [one]
    if groups:
        raise PartRead("a wait belongs on a page of its suspension that was not read")
    fields = {field: getattr(part, field) for field in Head.__struct_fields__}
    fields.update(waits=(), receipts=part.receipts[part.beside + len(over) :])
    parts = _with_pages(Head(**fields), stood, tuple(references), tuple(new), tool, last)
    return _small_enough(parts, grows=grows)


def _placed(head: H, last: int) -> tuple[H, int]:
    """The head, with places of its waits that rise in their order, and the highest place so far; new ones come after
    ``last``. One that has its place keeps it.
    """
    placed: list[WaitState] = []
    before = 0
    for wait in head.waits:
        before = wait.place if wait.place > before else max(before, last) + 1
        placed.append(wait if wait.place == before else replace(wait, place=before))
    return replace(head, waits=tuple(placed)), max(before, last)


def _with_pages(
    head: Head,
    stood: Paged,
    pages: tuple[PageReference, ...],
    new: tuple[NewPage, ...],
    tool: str | None = None,
    last: int = 0,
) -> Divided:
    named = {one.name for one in pages}
    over = stood.replaced[: max(0, len(stood.replaced) - KEPT_PAGES, 0 if pages else len(stood.replaced))]
    removed = over if not pages else over[: max(REMOVED_PAGES, len(new))]
    dropped = [one.name for one in stood.pages if one.name not in named]
    replaced = (*stood.replaced[len(removed) :], *dropped)
    paged = Paged(pages, replaced, tool, last) if pages or replaced else None
    return Divided(replace(head, paged=paged), new, removed)


def _pages(
    entries: Sequence[Entry], stood: Sequence[PageReference], name: Callable[[], bytes]
) -> Result[tuple[tuple[PageReference, ...], tuple[NewPage, ...]], PersistenceError]:
    if len(stood) > _most(len(entries)):
        stood = ()
    starts = starts_of(stood)
    groups: list[list[Entry]] = [[] for _ in starts]
    for entry, prefix in zip(entries, prefixes_of(entries), strict=True):
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


def prefixes_of(entries: Sequence[Entry]) -> list[bytes]:
    """What says on which pages these stand."""
    # Without a call for each, since every put of a holder divides all of them.
    return [
        (one.digest if isinstance(one, WaitReceipt) else hashlib.sha256(one.secret).digest())[:PREFIX_BYTES]
        for one in entries
    ]


def page_at(starts: Sequence[bytes], prefix: bytes) -> int:
    """The number of the page on which a secret with a digest of that prefix stands."""
    return max(0, bisect_right(starts, prefix) - 1)


def _divided(
    start: bytes, group: list[Entry], known: PageReference | None, name: Callable[[], bytes]
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
    sides: tuple[list[Entry], list[Entry]] = ([], [])
    for one, prefix in zip(group, prefixes_of(group), strict=True):
        sides[prefix >= middle].append(one)
    left, right = _divided(start, sides[0], None, name), _divided(middle, sides[1], None, name)
    return left.bind(lambda first: right.map(lambda second: [*first, *second]))


def _middle(group: Sequence[Entry], parts: int) -> bytes | None:
    """Where a group is divided in two, so that it has so many equal parts in the end; None where it can't be."""
    prefixes = sorted(prefixes_of(group))
    middle = prefixes[len(prefixes) * (parts // 2) // parts]
    if middle != prefixes[0]:
        return middle
    return next((prefix for prefix in prefixes if prefix != middle), None)


def _new_page(
    start: bytes, group: Sequence[Entry], known: PageReference | None, name: Callable[[], bytes]
) -> Result[PageReference | NewPage, PersistenceError]:
    waits = tuple(sorted([one for one in group if isinstance(one, WaitState)], key=attrgetter("place")))
    receipts = tuple(sorted([one for one in group if isinstance(one, WaitReceipt)], key=attrgetter("digest")))
    still = [wait for wait in waits if wait.status is WaitStatus.OPEN]
    first = first_asked(waits)
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
        change=first_of([wait.deadline if wait.schedule is None else next_moment(wait) for wait in still]),
        notice=first_of([notices_from(wait) for wait in still if wait.schedule is not None]),
        first=0 if first is None else -first.place if first.timed else first.place,
        tool=None if first is None or first.awaiting is None else str(first.awaiting["id"]),
    )
    return Success(NewPage(reference, WaitPage(data), waits))


def first_of(moments: Sequence[datetime | None]) -> datetime | None:
    """The earliest of some moments."""
    return min([moment for moment in moments if moment is not None], default=None)
