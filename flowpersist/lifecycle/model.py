"""The contents of a suspension's sealed head: the facts that all decisions use. Times are UTC, by the store's clock.

::

    reserved -> waiting -> answered -> running
    running -> waiting (next pause) | answered (release, or when its lease ends) | completed | failed | parked
    parked  -> running (retry) | cancelled
                waiting -> answered (by the system, with a default) | expired
    reserved, waiting, answered, running (at its next renewal, pause or release, or when its lease ends) -> cancelled
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import ClassVar, Final, Literal, TypeAlias, TypeVar

from msgspec.structs import replace

from flowpersist.backends.base import MAX_ATTRIBUTES, Scalar, check_scalar, check_text
from flowpersist.errors.arguments import check_mapping, out_of_range
from flowpersist.keys.suspension_key import SuspensionId, SuspensionKey
from flowpersist.lifecycle.pages import NO_REST, Paged, PageReference, Rest, WaitPage
from flowpersist.lifecycle.waits import (
    Answer,
    AnswerReference,
    CastVote,
    HeadPart,
    Notice,
    Schedule,
    WaitReceipt,
    WaitState,
    WaitStatus,
    fingerprint,
    secret_digest,
)

__all__ = [
    "Answer",
    "AnswerReference",
    "CastVote",
    "FinishedVerb",
    "Head",
    "HeadPart",
    "LoggedEvents",
    "LoggedSteps",
    "MovedEntries",
    "MovedReceipt",
    "Notice",
    "PageReference",
    "Paged",
    "PartOfHead",
    "PartRead",
    "Schedule",
    "Status",
    "Taken",
    "Trail",
    "Until",
    "WaitPage",
    "WaitReceipt",
    "WaitState",
    "WaitStatus",
    "complete_for",
    "fingerprint",
    "references_of",
    "replace",
    "rest_of",
    "secret_digest",
    "whole",
]

Until: TypeAlias = Literal["all", "any", "each"]
UNTIL: Final = ("all", "any", "each")
#: The prefix of names of metadata among a record's attributes, and how many attributes are left for metadata.
METADATA: Final = "m."
MAX_METADATA: Final = MAX_ATTRIBUTES - 5

#: Receipts of closed waits that stay in the head; older ones move to records of their own.
MAX_RECEIPTS: Final = 100
#: The fences of a holder's last finished verbs, kept so that a repeat of one is a success.
MAX_FINISHED: Final = 4


class Status(StrEnum):
    """The status of a suspension."""

    RESERVED = "reserved"
    WAITING = "waiting"
    ANSWERED = "answered"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    PARKED = "parked"
    EXPIRED = "expired"
    CANCELLED = "cancelled"

    @property
    def closed(self) -> bool:
        """Whether it takes no answers and can't be claimed. A parked one can be retried, the others are final."""
        return self in CLOSED


# Tuples, since the hash of an enumeration's member is Python code, and every verb asks several times.
CLOSED: Final = (Status.COMPLETED, Status.FAILED, Status.PARKED, Status.EXPIRED, Status.CANCELLED)


class LargeAnswer(HeadPart, frozen=True):
    """The head of the record of a value that does not fit in the head of its suspension."""

    hidden: ClassVar[frozenset[str]] = frozenset({"fingerprint"})
    fingerprint: bytes


class MovedReceipt(HeadPart, frozen=True):
    """A receipt that has left its head for a record of its own. An id that is derived from an idempotency key can be
    used by a later suspension too; ``suspension_created_at`` tells whose receipt it is.
    """

    receipt: WaitReceipt
    suspension_created_at: datetime


class MovedEntries(HeadPart, frozen=True):
    """Links of an audit trail that have left their head for a record of their own, in their order."""

    links: tuple[bytes, ...]


class LoggedSteps(HeadPart, frozen=True):
    """The head of a record of a run's log: the fence of the holder that appended it, its number in that holder's log,
    and whose log it is, as for a moved receipt.
    """

    fence: int
    number: int
    suspension_created_at: datetime


class LoggedEvents(HeadPart, frozen=True):
    """The head of a record of a run's events: the fence of the holder that stored it, the number of its first event,
    how many it has, and whose events they are, as for a moved receipt.
    """

    fence: int
    first: int
    count: int
    suspension_created_at: datetime


class FinishedVerb(HeadPart, frozen=True):
    """A holder's verb that was committed: its fence and the verb's name."""

    fence: int
    verb: str


class Taken(HeadPart, frozen=True):
    """Who took the run for good."""

    answer_id: str | None
    by: str | None
    at: datetime


class Trail(HeadPart, frozen=True):
    """The end of a suspension's audit trail: how many entries it has in all, the MAC of the last, the digest of all,
    and the newest ones, as links of the chain. Older ones stand in records of their own.

    ``refusals`` counts the entries of refused verbs, the last one made at ``refused_at``.
    """

    hidden: ClassVar[frozenset[str]] = frozenset({"mac", "digest", "links"})
    count: int = 0
    mac: bytes = b""
    digest: bytes = b""
    links: tuple[bytes, ...] = ()
    refusals: int = 0
    refused_at: datetime | None = None


class Head(HeadPart, frozen=True):
    """All facts of a suspension. The record's attributes are copies of some of them, written in the same put."""

    hidden: ClassVar[frozenset[str]] = frozenset({"fingerprint", "question", "paged"})
    id: SuspensionId
    tenant: str | None
    metadata: Mapping[str, Scalar]
    created_at: datetime
    updated_at: datetime
    retention: timedelta
    status: Status
    until: Until
    waits: tuple[WaitState, ...]
    sequence: int = 1
    attempt: int = 0
    fence: int = 0
    claim_id: str | None = None
    lease_until: datetime | None = None
    claimable_at: datetime | None = None
    cancelling: bool = False
    reason: str | None = None
    error: str | None = None
    explained: bool = False
    closed_at: datetime | None = None
    taken: Taken | None = None
    finished: tuple[FinishedVerb, ...] = ()
    receipts: tuple[WaitReceipt, ...] = ()
    moved_receipts: int = 0
    fingerprint: bytes | None = None
    #: The digest of what was asked, if the suspension has an idempotency key.
    question: bytes | None = None
    #: Who asked, a principal as data.
    requester: Mapping[str, object] | None = None
    trail: Trail = Trail()
    paused_at: datetime | None = None
    trace: bytes | None = None
    position: int = 0
    #: It is being deleted: for every verb it is gone, and what stands beside it may be.
    removing: bool = False
    #: Where its waits stand, if not all are in the head. A head that was read has them all in ``waits`` too.
    paged: Paged | None = None

    @property
    def open_waits(self) -> tuple[WaitState, ...]:
        """The waits that still take an answer."""
        return tuple([wait for wait in self.waits if wait.status is WaitStatus.OPEN])

    @property
    def answerable_waits(self) -> tuple[WaitState, ...]:
        """Those of them that somebody may answer."""
        return tuple([wait for wait in self.open_waits if not wait.timed])


class PartOfHead(Head, frozen=True):
    """A head of which some ``pages`` were read, by their names: ``waits`` are those of these pages, ``rest`` stands for
    the others, and the first ``beside`` receipts are the pages'.

    It is enough to answer a wait of the pages, to take the run with what they deliver, and to pause it again with waits
    that belong on them. What needs all waits refuses it: see ``whole``. ``told`` is the pause of which all is here that
    its holder is told; 0: of none.
    """

    rest: Rest = NO_REST
    pages: frozenset[bytes] = frozenset()
    beside: int = 0
    told: int = 0


class PartRead(TypeError):
    """A function needs all waits of a suspension, and only some pages of them were read: the caller reads all pages."""


H = TypeVar("H", bound=Head)


def references_of(head: Head) -> Sequence[PageReference]:
    """The pages on which waits of a head stand."""
    return () if head.paged is None else head.paged.pages


def rest_of(head: Head) -> Rest:
    """How the waits stand that were not read."""
    return head.rest if isinstance(head, PartOfHead) else NO_REST


def whole(head: Head) -> Head:
    """The head, with all its waits; ``PartRead`` where only a part was read."""
    if isinstance(head, PartOfHead):
        raise PartRead("this takes all waits of a suspension, and some pages of them were read")
    return head


def complete_for(head: H, sequence: int) -> H:
    """The head; a part as one that has all of which the holder of this pause is told."""
    return replace(head, told=sequence) if isinstance(head, PartOfHead) else head


def check_metadata(given: Mapping[str, Scalar]) -> Mapping[str, Scalar]:
    """Metadata that fits in a record's attributes, beside our own attributes."""
    check_mapping(given, "metadata")
    if len(given) > MAX_METADATA:
        out_of_range("metadata", f"at most {MAX_METADATA} entries", len(given))
    for name in given:
        check_text(name, "a name in metadata")
        check_text(METADATA + name, f"a name in metadata, with {METADATA!r} before it,")
    return {name: check_scalar(value, f"metadata {name!r}") for name, value in given.items()}


def find(head: Head, key: SuspensionKey) -> WaitState | WaitReceipt | None:
    """The wait or receipt that this key opens. Every secret is compared, each in constant time."""
    secret = key.secret
    digest = secret_digest(secret)
    found: list[WaitState | WaitReceipt] = [w for w in head.waits if hmac.compare_digest(w.secret, secret)]
    found += [receipt for receipt in head.receipts if hmac.compare_digest(receipt.digest, digest)]
    return found[0] if found else None
