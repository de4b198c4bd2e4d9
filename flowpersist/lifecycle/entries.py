"""What a change of a suspension is in its audit trail: found by comparing the head before with the head after it, so
that no verb can forget to say it.

Facts stand in the chain itself. What is ``Private``, such as names, reasons and answers, stands beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from attrs import field, frozen
from returns.result import Result, Success

from flowpersist.errors import (
    InputValidationError,
    PermissionDenied,
    PersistenceError,
    QuestionChanged,
    SuspensionClosed,
)
from flowpersist.inputs.action import DECISIONS
from flowpersist.inputs.people import By, Principal, persons_of, principal_data, principal_from, quorum_in
from flowpersist.lifecycle.changes import SYSTEM
from flowpersist.lifecycle.model import Answer, Head, HeadPart, Status, WaitState, WaitStatus, replace
from flowpersist.lifecycle.shown import shown_digest
from flowpersist.lifecycle.voting import principal_of
from flowpersist.sealed.heads import packed, unpacker

__all__ = [
    "Facts",
    "GivenAnswer",
    "Noted",
    "Private",
    "WaitFacts",
    "noted",
    "noted_by",
    "noted_refusal",
    "read_facts",
    "read_private",
    "refused_verb",
]

#: The waits that one entry names; of more it has the number.
MOST_NAMED: Final = 8
#: The most bytes of the facts, and of what is private: over it, waits are only counted and values left out.
FACTS_BYTES: Final = 4 * 1024
PRIVATE_BYTES: Final = 8 * 1024
#: A larger answer has its digest alone.
VALUE_BYTES: Final = 1024
#: The verbs and errors of refusals that have entries.
_REFUSABLE: Final = frozenset({"suspend", "answer", "resume", "claim", "cancel", "extend", "retry"})
_OF_ANSWERS: Final = (InputValidationError, QuestionChanged)
_REFUSALS: Final = (*_OF_ANSWERS, PermissionDenied, SuspensionClosed)
#: Who causes what time does.
_TIME: Final[Mapping[str, object]] = {"subject": SYSTEM, "kind": SYSTEM}


class WaitFacts(HeadPart, frozen=True, omit_defaults=True):
    """What became of one wait. ``votes`` is the quorum so far, and how many it needs; ``at`` stands where the change
    was before the entry was written. ``schema`` is the digest of the answer's JSON Schema. ``own`` says whether whoever
    made the suspension has answered, None where one of both was not named.
    """

    name: str
    change: str
    at: datetime | None = None
    question: str | None = None
    shown: bytes | None = None
    tool: str | None = None
    version: str | None = None
    policy: str | None = None
    deadline: datetime | None = None
    decision: str | None = None
    votes: tuple[int, int] | None = None
    meaning: str | None = None
    schema: bytes | None = None
    own: bool | None = None


class Facts(HeadPart, frozen=True, omit_defaults=True):
    """The facts of an entry; ``more`` counts the changed waits that are not among ``waits``. ``refusal`` is the code of
    the error of a verb that was refused.
    """

    at: datetime
    verb: str
    status: Status
    sequence: int
    fence: int = 0
    attempt: int = 0
    waits: tuple[WaitFacts, ...] = ()
    more: int = 0
    refusal: str | None = None


class GivenAnswer(HeadPart, frozen=True, omit_defaults=True):
    """An answer or vote that an entry is about. ``digest`` is that of its value, ``replaced`` that of the vote before.
    ``value`` is the value as bytes, None where it is large.
    """

    hidden = frozenset({"digest", "replaced", "value"})
    wait: str
    digest: bytes
    answer_id: str | None = None
    replaced: bytes | None = None
    value: bytes | None = None
    via: tuple[str, str | None] | None = None


class Private(HeadPart, frozen=True, omit_defaults=True):
    """What can be removed from an entry: who, why, and what was answered."""

    hidden = frozenset({"by", "reason", "error"})
    by: Mapping[str, object] | None = None
    reason: str | None = None
    error: str | None = None
    answers: tuple[GivenAnswer, ...] = ()


read_facts = unpacker(Facts)
read_private = unpacker(Private)
_NOBODY: Final = Private()


@frozen
class Noted:
    """An entry to be made."""

    facts: Facts
    private: Private = field(repr=False)

    def packed(self) -> Result[tuple[bytes, bytes | None], PersistenceError]:
        """Its facts and what is private, None where nothing is, as bytes of a bounded number."""
        facts = packed(self.facts)
        if isinstance(facts, Success) and len(facts.unwrap()) > FACTS_BYTES:
            facts = packed(replace(self.facts, waits=(), more=self.facts.more + len(self.facts.waits)))
        if self.private == _NOBODY:
            return facts.map(lambda data: (data, None))
        private = packed(self.private)
        if isinstance(private, Success) and len(private.unwrap()) > PRIVATE_BYTES:
            small = tuple(replace(one, value=None) for one in self.private.answers)
            private = packed(replace(self.private, answers=small))
        return facts.bind(lambda data: private.map(lambda told: (data, told)))


def noted(
    verb: str, by: By | None, stored: Head | None, seen: Head | None, after: Head, given: Head, now: datetime
) -> Sequence[Noted]:
    """The entries of a put of ``after``: one for what time had changed in the ``stored`` head until it was ``seen``,
    and one for what the verb changed then. ``given`` is the same head as ``after``, with all answers in it.
    """
    entries: list[Noted] = []
    if stored is not None and seen is not None and seen is not stored:
        timed = _entry("tick", _TIME, stored, seen, seen, now)
        if timed.facts.waits or _stands(stored) != _stands(seen):
            entries.append(timed)
    # A renewal moves the end of the lease, which decides nothing by itself.
    renewed = verb == "renew" and seen is not None and after.status is seen.status
    if after is not seen and not renewed:
        entries.append(_entry(verb, _data(by), seen, after, given, now))
    return entries


def refused_verb(verb: str, by: By | None, error: PersistenceError) -> bool:
    """Whether a refusal is one of something that somebody asked for, and not of workers among themselves, which claim
    in nobody's name.
    """
    anonymous = verb == "claim" and not by
    return verb in _REFUSABLE and isinstance(error, _OF_ANSWERS if anonymous else _REFUSALS)


def noted_refusal(
    verb: str, by: By | None, head: Head, wait: str | None, error: PersistenceError, now: datetime
) -> Noted:
    """The entry of a refused verb; ``wait`` is the one whose key was used."""
    waits = () if wait is None else (WaitFacts(wait, "refused"),)
    facts = Facts(now, verb, head.status, head.sequence, head.fence, head.attempt, waits, refusal=error.code)
    return Noted(facts, Private(_data(by)))


def noted_by(verb: str, by: By | None, head: Head, reason: str | None, now: datetime) -> Noted:
    """An entry of what was done about a suspension, which stays as it is."""
    facts = Facts(now, verb, head.status, head.sequence, head.fence, head.attempt)
    return Noted(facts, Private(_data(by), reason))


def _stands(head: Head) -> tuple[Status, str | None]:
    return head.status, head.claim_id


def _data(by: By | None) -> Mapping[str, object] | None:
    if isinstance(by, Principal):
        return principal_data(by)
    return {"subject": by} if by else None


def _entry(
    verb: str, by: Mapping[str, object] | None, before: Head | None, after: Head, given: Head, now: datetime
) -> Noted:
    waits: list[WaitFacts] = []
    answers: list[GivenAnswer] = []
    more = 0
    for place, old, wait in _changed(before, after):
        if len(waits) == MOST_NAMED:
            more += 1
            continue
        newest = _newest(wait) if wait.status is WaitStatus.ANSWERED or wait.votes else None
        # A large answer has left the head for its own record; its decision stands in the head that was given.
        whole = _newest(given.waits[place]) if newest is not None and place < len(given.waits) else None
        given_now = newest is not None and (old is None or newest is not _newest(old))
        own = _own(after, newest) if given_now else None
        waits.append(_facts_of(old, wait, now, None if whole is None else whole.value, own=own))
        if newest is not None and given_now:
            answers.append(_given(old, wait, newest))
    reason = after.reason if before is None or after.reason != before.reason else None
    error = after.error if before is None or after.error != before.error else None
    facts = Facts(now, verb, after.status, after.sequence, after.fence, after.attempt, tuple(waits), more)
    return Noted(facts, Private(by, reason, error, tuple(answers)))


def _changed(before: Head | None, after: Head) -> list[tuple[int, WaitState | None, WaitState]]:
    """The waits that have changed: their place in the head after, and as they were and are. Those that a pause closes
    without having been read are changed too.
    """
    if before is not None and before.waits is after.waits:
        return []
    stood = {} if before is None else {wait.secret: wait for wait in before.waits}
    changed: list[tuple[int, WaitState | None, WaitState]] = []
    for place, wait in enumerate(after.waits):
        old = stood.pop(wait.secret, None)
        if old is not wait and (old is None or _stand(old) != _stand(wait)):
            changed.append((place, old, wait))
    closed = [old for old in stood.values() if old.open or old.undelivered]
    over = len(after.waits)
    return changed + [(over, old, replace(old, status=WaitStatus.SUPERSEDED)) for old in closed]


def _stand(wait: WaitState) -> tuple[object, ...]:
    level = 0 if wait.schedule is None else wait.schedule.level
    return wait.status, wait.deadline, level, wait.votes


def _change(old: WaitState | None, wait: WaitState) -> str:
    if old is None:
        return "opened" if wait.open else wait.status.value
    if old.status is not wait.status:
        return wait.status.value
    if old.votes != wait.votes:
        return "voted"
    escalated = old.schedule is not None and wait.schedule is not None and old.schedule.level != wait.schedule.level
    return "escalated" if escalated else "extended"


def _facts_of(old: WaitState | None, wait: WaitState, now: datetime, value: object, *, own: bool | None) -> WaitFacts:
    asked = wait.awaiting or {}
    name = asked.get("id")
    action = asked.get("action")
    quorum = quorum_in(wait.awaiting)
    texts = action if isinstance(action, Mapping) else {}
    meaning = asked.get("meaning")
    return WaitFacts(
        name=wait.name,
        change=_change(old, wait),
        at=None if wait.closed_at == now else wait.closed_at,
        question=name if isinstance(name, str) and name != wait.name else None,
        shown=wait.shown,
        tool=texts.get("tool"),
        version=texts.get("version"),
        policy=texts.get("policy"),
        deadline=wait.deadline,
        decision=_decision(value),
        votes=None if quorum is None else (len(wait.votes), quorum.votes),
        meaning=meaning if isinstance(meaning, str) else None,
        schema=shown_digest({"schema": asked["schema"]}) if old is None and "schema" in asked else None,
        own=own,
    )


def _own(head: Head, answer: Answer | None) -> bool | None:
    """Whether who made the suspension has given this answer, by themselves or through another."""
    who = principal_of(answer)
    if who is None or head.requester is None:
        return None
    return bool(persons_of(principal_from(head.requester)) & persons_of(who))


def _decision(value: object) -> str | None:
    if type(value) is bool:
        return "approve" if value else "reject"
    named = value.get("decision") if isinstance(value, Mapping) else None
    return named if named in DECISIONS else None


def _newest(wait: WaitState) -> Answer | None:
    return wait.votes[-1].answer if wait.answer is None and wait.votes else wait.answer


def _given(old: WaitState | None, wait: WaitState, answer: Answer) -> GivenAnswer:
    votes = () if old is None else old.votes
    replaced = next((one.answer for one in votes if one.answer is not None and one.answer.by == answer.by), None)
    value = packed(answer.value) if answer.reference is None else None
    kept = value.unwrap() if isinstance(value, Success) and len(value.unwrap()) <= VALUE_BYTES else None
    return GivenAnswer(
        wait=wait.name,
        digest=answer.fingerprint,
        answer_id=answer.answer_id,
        replaced=None if replaced is None else replaced.fingerprint,
        value=kept,
        via=answer.via,
    )
