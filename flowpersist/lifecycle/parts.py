"""Reading some pages of a head in the place of all: which ones a verb needs, and whether those that were read do.

What is decided on a part is what would have been decided on the whole. Where that can't be, the part is refused, and
the caller reads all pages (``PartRead``).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime

from flowpersist.lifecycle.changes import present
from flowpersist.lifecycle.model import Head, PageReference, PartOfHead, Status, references_of, secret_digest, whole
from flowpersist.lifecycle.pages import PREFIX_BYTES, PageContent, Rest
from flowpersist.lifecycle.paging import (
    Entry,
    first_of,
    joined,
    made_anew,
    may_be_too_many,
    page_at,
    prefixes_of,
    receipts_over,
    starts_of,
)

__all__ = [
    "enough",
    "has_news",
    "pages_of",
    "pages_to_answer",
    "pages_to_claim",
    "pages_to_pause",
    "part_of",
    "prefix_of",
    "require_pages",
]


def part_of(stored: Head, read: Mapping[bytes, PageContent]) -> PartOfHead:
    """A head with the waits of these pages alone, which are given by their names."""
    others = [one for one in references_of(stored) if one.name not in read]
    contents = [read[one.name] for one in references_of(stored) if one.name in read]
    answerable = min([(one.first, one.tool) for one in others if one.first > 0], default=None)
    timed = max([(one.first, one.tool) for one in others if one.first < 0], default=None)
    first, tool = answerable or timed or (0, None)
    rest = Rest(
        open=sum([one.open for one in others]),
        needed=sum([one.needed for one in others]),
        undelivered=sum([one.undelivered for one in others]),
        expired=sum([one.expired for one in others]),
        change=first_of([one.change for one in others]),
        notice=first_of([one.notice for one in others]),
        first=first,
        tool=tool,
    )
    own = joined(stored, contents)
    beside = len(own.receipts) - len(stored.receipts)
    fields = {name: getattr(own, name) for name in Head.__struct_fields__}
    return PartOfHead(**fields, rest=rest, pages=frozenset(read), beside=beside)


def prefix_of(secret: bytes) -> bytes:
    """What says on which page the wait of a secret stands."""
    return secret_digest(secret)[:PREFIX_BYTES]


def pages_of(stored: Head, prefixes: Collection[bytes]) -> tuple[PageReference, ...]:
    """The pages on which waits and receipts of these prefixes stand, or would stand."""
    references = references_of(stored)
    if not references:
        return ()
    starts = starts_of(references)
    numbers = {page_at(starts, prefix) for prefix in prefixes}
    return tuple([references[number] for number in sorted(numbers)])


def pages_to_answer(_: Head) -> tuple[PageReference, ...]:
    """The pages that an answer needs beside the one of its key: none."""
    return ()


def pages_to_claim(stored: Head) -> tuple[PageReference, ...] | None:
    """The pages that a claim needs: those with what no holder was given, or with what a claim closes. None: all, as
    where an earlier claim has fixed what is given.
    """
    references = references_of(stored)
    if stored.until != "each" or made_anew(references) or (stored.attempt and stored.status is Status.ANSWERED):
        return None
    return tuple([one for one in references if one.undelivered or one.open != one.needed])


def pages_to_pause(stored: Head, prefixes: Collection[bytes]) -> tuple[PageReference, ...] | None:
    """The pages that a pause or a checkpoint needs which concerns the waits of these prefixes: theirs, and those with
    what no holder was given, and one with an open wait to be shown. None: all, as where the next put would make them
    anew.
    """
    references = references_of(stored)
    if stored.until != "each" or made_anew(references):
        return None
    wanted = {one.name for one in pages_of(stored, prefixes)}
    found = [one for one in references if one.undelivered or one.name in wanted]
    if not any(one.open for one in found):
        found += [one for one in references if one.open][:1]
    return tuple(found)


def has_news(stored: Head, now: datetime) -> bool:
    """Whether a run that somebody holds may have something that no holder was given; of a head whose pages were not
    read too. Where time has changed a wait of these, it may.
    """
    references = references_of(stored)
    if not references:
        return any(wait.undelivered for wait in present(stored, now).waits)
    return any(one.undelivered or (one.change is not None and one.change < now) for one in references)


def require_pages(head: Head) -> None:
    """``PartRead`` where a part of a head has to be stored on pages that were not read, or where only the whole tells
    whether there are too many waits.
    """
    if not isinstance(head, PartOfHead):
        return
    new = [wait for wait in head.waits if wait.place == 0]
    entries: list[Entry] = [*new, *receipts_over(head)]
    wanted = {one.name for one in pages_of(head, prefixes_of(entries))} if entries else frozenset()
    if not wanted <= head.pages or (new and may_be_too_many(head, len(new))):
        whole(head)


def enough(stored: Head, now: datetime) -> bool:
    """Whether a verb needs no pages but those that it concerns: nothing has come by time, and nothing ends with an
    answer but the pause.
    """
    references = references_of(stored)
    if stored.status.closed or stored.removing or stored.cancelling or stored.until == "any":
        return False
    if stored.until == "all" and max([one.expired for one in references]):
        return False
    moment = first_of([stored.lease_until, *[one.change for one in references]])
    return moment is None or now <= moment
