"""The contents of a suspension's sealed head: the facts that all decisions use.

::

    reserved -> waiting -> answered -> running
    running -> waiting (next pause) | answered (release, or when its lease ends) | completed | failed | parked
    parked  -> running (retry) | cancelled
                waiting -> answered (by the system, with a default) | expired
    reserved, waiting, answered -> cancelled
    running -> cancelled (at its next renewal, pause or release, or when its lease ends)

Times are aware datetimes in UTC with whole microseconds, by the store's clock.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import ClassVar, Final, Literal, TypeAlias

import msgspec
from msgspec.structs import replace

from flowpersist.backends.base import MAX_ATTRIBUTES, check_scalar, check_text
from flowpersist.errors.arguments import check_mapping, out_of_range
from flowpersist.keys.suspension_key import SuspensionId, SuspensionKey

__all__ = [
    "Answer",
    "AnswerReference",
    "CastVote",
    "FinishedVerb",
    "Head",
    "LoggedEvents",
    "LoggedSteps",
    "MovedEntries",
    "MovedReceipt",
    "Notice",
    "Schedule",
    "Status",
    "Taken",
    "Trail",
    "Until",
    "WaitReceipt",
    "WaitState",
    "WaitStatus",
    "replace",
]

Until: TypeAlias = Literal["all", "any", "each"]
UNTIL: Final = ("all", "any", "each")
Scalar: TypeAlias = str | int | float | bool
#: The prefix of names of metadata among a record's attributes, and how many attributes are left for metadata.
METADATA: Final = "m."
MAX_METADATA: Final = MAX_ATTRIBUTES - 5

#: Receipts of closed waits that stay in the head; older ones move to records of their own.
MAX_RECEIPTS: Final = 100
#: The fences of a holder's last finished verbs, kept so that a repeat of one is a success.
MAX_FINISHED: Final = 4
_canonical: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode


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


# Tuples, not sets: the hash of an enumeration's member is Python code, and every verb asks several times.
CLOSED: Final = (Status.COMPLETED, Status.FAILED, Status.PARKED, Status.EXPIRED, Status.CANCELLED)


class WaitStatus(StrEnum):
    """The status of one wait."""

    OPEN = "open"
    ANSWERED = "answered"
    EXPIRED = "expired"
    SUPERSEDED = "superseded"
    CLOSED = "closed"


#: The statuses of ended waits that the holder of the run is told of.
ENDED: Final = (WaitStatus.ANSWERED, WaitStatus.EXPIRED)


class HeadPart(msgspec.Struct, frozen=True):
    """A part of a head: a value, of which a variant is made by ``replace``. Its text leaves out the ``hidden`` fields.

    A struct, not an attrs class, since every verb reads, writes and replaces some thirty of them: all of that in C.
    """

    hidden: ClassVar[frozenset[str]] = frozenset()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.__rich_repr__())})"

    def __rich_repr__(self) -> list[tuple[str, object]]:
        # The one that Struct has shows all fields.
        return [(name, getattr(self, name)) for name in self.__struct_fields__ if name not in self.hidden]


class AnswerReference(HeadPart, frozen=True):
    """Refers to the record of a value that does not fit in the head: the record's random name, and the value's
    fingerprint.
    """

    hidden: ClassVar[frozenset[str]] = frozenset({"fingerprint"})
    name: bytes
    fingerprint: bytes


class LargeAnswer(HeadPart, frozen=True):
    """The head of the record of such a value."""

    hidden: ClassVar[frozenset[str]] = frozenset({"fingerprint"})
    fingerprint: bytes


class Answer(HeadPart, frozen=True):
    """An accepted answer: validated JSON data, who gave it, when, and the caller's id of the attempt.

    Where the value has a record of its own, ``reference`` names that, and ``value`` is None. ``shown`` is the digest of
    what its wait showed then, ``who`` a principal as data (None: ``by`` is all that was said).
    """

    hidden: ClassVar[frozenset[str]] = frozenset({"value"})
    value: object
    by: str | None
    at: datetime
    answer_id: str | None
    shown: bytes | None = None
    reference: AnswerReference | None = None
    who: Mapping[str, object] | None = None

    @property
    def fingerprint(self) -> bytes:
        """The fingerprint of the value, wherever the value is stored."""
        return fingerprint(self.value) if self.reference is None else self.reference.fingerprint


class Notice(HeadPart, frozen=True):
    """A reminder or a step of the ladder that has come and that ``on_event`` is still to be told of.

    ``at`` is when it came, ``level`` how many steps had been reached then. ``tries`` counts who took it to deliver it;
    nobody else takes it before ``taken_until``.
    """

    verb: Literal["remind", "escalate"]
    at: datetime
    level: int
    tries: int = 0
    taken_until: datetime | None = None


class Schedule(HeadPart, frozen=True):
    """What has become of a wait's reminders and ladder. ``level`` counts the steps that were reached, the last one at
    ``escalated_at``. Reminders up to ``reminded_at`` have passed.
    """

    opened_at: datetime
    reminded_at: datetime
    level: int = 0
    escalated_at: datetime | None = None
    notices: tuple[Notice, ...] = ()


class CastVote(HeadPart, frozen=True):
    """A vote: the answer (None: it is the wait's own, which this vote decided), its decision where it has one, and what
    it is for (None: it rejects). Votes agree where that is equal.
    """

    hidden: ClassVar[frozenset[str]] = frozenset({"ballot"})
    answer: Answer | None
    decision: str | None
    ballot: bytes | None


class WaitState(HeadPart, frozen=True):
    """One wait: its secret, what is awaited (as data; None: no answer is needed), and how it stands.

    ``sequence`` is the pause that opened it, ``delivery`` the pause whose holder was given its answer, ``shown`` the
    digest of what is shown (None: no answer is needed), ``votes`` those of a quorum, the newest last.
    """

    hidden: ClassVar[frozenset[str]] = frozenset({"secret", "awaiting"})
    name: str
    secret: bytes
    sequence: int
    awaiting: Mapping[str, object] | None
    deadline: datetime | None
    status: WaitStatus = WaitStatus.OPEN
    answer: Answer | None = None
    closed_at: datetime | None = None
    delivery: int | None = None
    shown: bytes | None = None
    #: None without reminders and escalation.
    schedule: Schedule | None = None
    votes: tuple[CastVote, ...] = ()

    @property
    def open(self) -> bool:
        """Whether it still takes an answer."""
        return self.status is WaitStatus.OPEN

    @property
    def needed(self) -> bool:
        """Whether the run can't go on without it."""
        return self.open and self.awaiting is not None

    @property
    def timed(self) -> bool:
        """Whether nobody may answer it, so that only time ends it."""
        return self.awaiting is not None and self.awaiting.get("answerable_by") == []

    @property
    def undelivered(self) -> bool:
        """Whether it has ended with something that no holder was given yet."""
        return self.delivery is None and self.status in ENDED


class WaitReceipt(HeadPart, frozen=True):
    """The receipt of a wait of an earlier pause, some 125 bytes: it tells the holder of its key how the wait ended.

    ``digest`` is the SHA-256 of the key's secret; ``answer`` the fingerprint of the accepted value, ``shown`` the
    digest of what it was given to, and ``voted`` whether a quorum took it.
    """

    hidden: ClassVar[frozenset[str]] = frozenset({"digest", "answer"})
    digest: bytes
    wait: str
    sequence: int
    status: WaitStatus
    at: datetime
    by: str | None
    answer_id: str | None
    answer: bytes | None
    shown: bytes | None = None
    voted: bool = False


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
    """The end of a suspension's audit trail: how many entries it has in all, the MAC of the last, and the newest ones,
    as links of the chain. Older ones stand in records of their own.

    ``refusals`` counts the entries of refused verbs, the last one made at ``refused_at``.
    """

    hidden: ClassVar[frozenset[str]] = frozenset({"mac", "links"})
    count: int = 0
    mac: bytes = b""
    links: tuple[bytes, ...] = ()
    refusals: int = 0
    refused_at: datetime | None = None


class Head(HeadPart, frozen=True):
    """All facts of a suspension. The record's attributes are copies of some of them, written in the same put."""

    hidden: ClassVar[frozenset[str]] = frozenset({"fingerprint", "question"})
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

    @property
    def open_waits(self) -> tuple[WaitState, ...]:
        """The waits that still take an answer."""
        return tuple([wait for wait in self.waits if wait.status is WaitStatus.OPEN])

    @property
    def answerable_waits(self) -> tuple[WaitState, ...]:
        """Those of them that somebody may answer."""
        return tuple([wait for wait in self.open_waits if not wait.timed])


def check_metadata(given: Mapping[str, Scalar]) -> Mapping[str, Scalar]:
    """Metadata that fits in a record's attributes, beside our own attributes."""
    check_mapping(given, "metadata")
    if len(given) > MAX_METADATA:
        out_of_range("metadata", f"at most {MAX_METADATA} entries", len(given))
    for name in given:
        check_text(name, "a name in metadata")
        check_text(METADATA + name, f"a name in metadata, with {METADATA!r} before it,")
    return {name: check_scalar(value, f"metadata {name!r}") for name, value in given.items()}


def fingerprint(value: object) -> bytes:
    """SHA-256 of a JSON value in canonical form: equal for equal values, True apart from 1."""
    return hashlib.sha256(_canonical(value).encode()).digest()


def secret_digest(secret: bytes) -> bytes:
    """The digest of a key's secret, as receipts keep it."""
    return hashlib.sha256(secret).digest()


def find(head: Head, key: SuspensionKey) -> WaitState | WaitReceipt | None:
    """The wait or receipt that this key opens. Every secret is compared, each in constant time."""
    digest = secret_digest(key.secret)
    found: list[WaitState | WaitReceipt] = [w for w in head.waits if hmac.compare_digest(w.secret, key.secret)]
    found += [receipt for receipt in head.receipts if hmac.compare_digest(receipt.digest, digest)]
    return found[0] if found else None
