"""The waits of a suspension, as its head keeps them: what is awaited, how it was answered, and what is left of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import ClassVar, Final, Literal

import msgspec

__all__ = [
    "ENDED",
    "Answer",
    "AnswerReference",
    "CastVote",
    "HeadPart",
    "Notice",
    "Schedule",
    "WaitReceipt",
    "WaitState",
    "WaitStatus",
    "fingerprint",
    "secret_digest",
]

_canonical: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode


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


class Answer(HeadPart, frozen=True):
    """An accepted answer: validated JSON data, who gave it, when, and the caller's id of the attempt.

    Where the value has a record of its own, ``reference`` names that, and ``value`` is None. ``shown`` is the digest of
    what was shown then, ``who`` a principal as data (None: ``by`` is all that was said), ``via`` channel and delivery.
    """

    hidden: ClassVar[frozenset[str]] = frozenset({"value"})
    value: object
    by: str | None
    at: datetime
    answer_id: str | None
    shown: bytes | None = None
    reference: AnswerReference | None = None
    who: Mapping[str, object] | None = None
    via: tuple[str, str | None] | None = None

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
    digest of what is shown (None: no answer is needed), ``votes`` those of a quorum, the newest last. ``schedule`` is
    None without reminders and escalation. ``place`` orders the waits that stand on pages; 0: it has been on none.
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
    schedule: Schedule | None = None
    votes: tuple[CastVote, ...] = ()
    place: int = 0

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


def fingerprint(value: object) -> bytes:
    """SHA-256 of a JSON value in canonical form: equal for equal values, True apart from 1."""
    return hashlib.sha256(_canonical(value).encode()).digest()


def secret_digest(secret: bytes) -> bytes:
    """The digest of a key's secret, as receipts keep it."""
    return hashlib.sha256(secret).digest()
