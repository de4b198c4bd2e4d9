"""Pages of waits: where the waits of a suspension stand that has too many of them for its head.

Each page is a record beside the head, which holds what the page's key and content are, and in short how its waits
stand. A page is never changed: whoever changes a wait of it puts another page under a new name, and a head that names
that one. So a head and the pages that it names are always of one moment.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar, Final, NoReturn

from flowpersist.lifecycle.waits import HeadPart, WaitReceipt, WaitState

__all__ = ["NO_REST", "PREFIX_BYTES", "UNREAD", "PageContent", "PageReference", "Paged", "Rest", "WaitPage"]

#: The bytes of the digest of a wait's secret that say on which page it stands.
PREFIX_BYTES: Final = 8


class PageContent(HeadPart, frozen=True):
    """What stands on a page: waits in the order of their places, and receipts."""

    waits: tuple[WaitState, ...]
    receipts: tuple[WaitReceipt, ...]


class WaitPage(HeadPart, frozen=True):
    """The head of the record of a page: its content, packed."""

    hidden: ClassVar[frozenset[str]] = frozenset({"content"})
    content: bytes


class PageReference(HeadPart, frozen=True, array_like=True):
    """A page as its head names it: the record's random name, the SHA-256 of the content, and its bytes.

    A page has the waits whose secrets have digests from ``start`` on, up to the start of the next page. ``entries``
    counts what stands on it; ``open``, ``needed``, ``undelivered`` and ``expired`` its waits of that kind. ``change``
    is when time changes the first of them, ``notice`` when somebody may take a notice of one. ``tool`` is what its
    first wait asks that somebody may answer, ``first`` that wait's place; else those of the first one that only time
    ends, with the place made negative; None and 0 where none asks anything.
    """

    hidden: ClassVar[frozenset[str]] = frozenset({"digest", "start"})
    name: bytes
    digest: bytes
    size: int
    start: bytes
    entries: int
    open: int
    needed: int
    undelivered: int
    expired: int
    change: datetime | None
    notice: datetime | None
    first: int
    tool: str | None


class Paged(HeadPart, frozen=True):
    """The pages of a head, by their starts.

    ``replaced`` are the names of pages that earlier heads named, the oldest first: their records are removed by later
    puts, so that whoever has read an earlier head finds its pages for a while. ``tool`` is the attribute of that name,
    ``last`` the highest place that a wait was given so far.
    """

    pages: tuple[PageReference, ...] = ()
    replaced: tuple[bytes, ...] = ()
    tool: str | None = None
    last: int = 0


class Rest(HeadPart, frozen=True):
    """In short, how the waits of the pages stand that were not read; the fields are those of ``PageReference``."""

    open: int = 0
    needed: int = 0
    undelivered: int = 0
    expired: int = 0
    change: datetime | None = None
    notice: datetime | None = None
    first: int = 0
    tool: str | None = None


NO_REST: Final = Rest()


class _Unread(tuple[Any, ...]):
    """The waits of a head whose pages were not read. Whoever looks at them has forgotten to read the pages."""

    __slots__ = ()

    def _refuse(self, *_: object) -> NoReturn:
        raise ValueError("the waits of this head stand on pages that were not read")

    __iter__ = __len__ = __getitem__ = __contains__ = __add__ = __eq__ = __ne__ = _refuse
    __lt__ = __le__ = __gt__ = __ge__ = __bool__ = _refuse

    def __repr__(self) -> str:
        return "<unread>"


UNREAD: Final[Any] = _Unread()
