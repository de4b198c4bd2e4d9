"""The audit trail of a suspension, as callers see it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from attrs import field, frozen
from returns.result import Failure, Result, Success

from flowpersist.errors import PersistenceError
from flowpersist.inputs.people import Principal, principal_from
from flowpersist.keys.suspension_key import SuspensionId
from flowpersist.lifecycle.entries import Facts, GivenAnswer, Private, WaitFacts, read_facts, read_private
from flowpersist.lifecycle.model import Head, Status
from flowpersist.lifecycle.shown import digest_text
from flowpersist.sealed.chain import Link
from flowpersist.sealed.heads import unpacker

__all__ = ["AnswerEntry", "AuditEntry", "WaitEntry", "entries_of", "entry_of"]

_read_value = unpacker(object)


@frozen
class AnswerEntry:
    """An answer or a vote as the trail keeps it: the digest of its value, and the value where it took at most 1 KiB
    (``kept``). ``replaced`` is the digest of the vote that it replaced. It came by ``channel``, as ``delivery`` there.
    """

    digest: str
    answer_id: str | None
    replaced: str | None
    kept: bool
    value: object = field(repr=False)
    channel: str | None = None
    delivery: str | None = None


@frozen
class WaitEntry:
    """What became of one wait: ``opened``, ``answered``, ``voted``, ``expired``, ``escalated``, ``extended``,
    ``superseded`` or ``closed``, at ``at``; ``refused`` is the one whose key a refused verb was called with.

    ``question`` is the id of its AwaitInput, ``shown`` the digest of what was shown, ``tool``, ``version`` and
    ``policy`` those of the action that it approves. ``decision`` is approve, edit, reject or respond. ``votes`` says
    how many have voted, and how many must agree. ``meaning`` is review, approval or responsibility, ``schema`` the
    digest of the answer's JSON Schema. ``self_approval`` says whether whoever made the suspension has given the answer;
    None without an answer, and where one of both was not named.
    """

    name: str
    change: str
    at: datetime
    question: str
    shown: str | None
    tool: str | None
    version: str | None
    policy: str | None
    deadline: datetime | None
    decision: str | None
    votes: tuple[int, int] | None
    answer: AnswerEntry | None
    meaning: str | None = None
    schema: str | None = None
    self_approval: bool | None = None


@frozen
class AuditEntry:
    """One change of a suspension, as it was written with the change itself; or a verb that was refused.

    ``number`` counts from 1, ``id`` names the entry everywhere. ``status``, ``sequence``, ``fence`` and ``attempt`` are
    as the change left them. ``by`` is who made it, None where nobody was named; changes by time are made by ``system``.
    ``more`` counts further changed waits that ``waits`` does not name. ``mac`` proves the entry and all before it,
    ``previous`` is that of the entry before, ``kid`` the key that it was made with.

    ``refusal`` is the code of the error with which the verb was refused; None for a change.

    ``removed`` says that who, why and what was answered were removed from the entry.
    """

    number: int
    id: str
    at: datetime
    verb: str
    suspension: SuspensionId
    tenant: str | None
    status: Status
    sequence: int
    fence: int
    attempt: int
    by: Principal | None
    reason: str | None
    error: str | None
    waits: tuple[WaitEntry, ...]
    more: int
    refusal: str | None
    removed: bool
    previous: str
    mac: str
    kid: str


def entries_of(head: Head, links: tuple[Link, ...]) -> Result[tuple[AuditEntry, ...], PersistenceError]:
    """The entries of verified links."""
    entries: list[AuditEntry] = []
    for link in links:
        entry = entry_of(head.id, head.tenant, link)
        if not isinstance(entry, Success):
            return Failure(entry.failure())
        entries.append(entry.unwrap())
    return Success(tuple(entries))


def entry_of(id: SuspensionId, tenant: str | None, link: Link) -> Result[AuditEntry, PersistenceError]:
    """The entry of one link."""
    private = Success(Private()) if link.private is None else read_private(link.private)
    return read_facts(link.facts).bind(lambda facts: private.bind(lambda told: _made(id, tenant, link, facts, told)))


def _made(
    id: SuspensionId, tenant: str | None, link: Link, facts: Facts, told: Private
) -> Result[AuditEntry, PersistenceError]:
    given: dict[str, AnswerEntry] = {}
    for one in told.answers:
        answer = _answer(one)
        if not isinstance(answer, Success):
            return Failure(answer.failure())
        given[one.wait] = answer.unwrap()
    return Success(
        AuditEntry(
            number=link.number,
            id=f"{id}/{link.number}",
            at=facts.at,
            verb=facts.verb,
            suspension=id,
            tenant=tenant,
            status=facts.status,
            sequence=facts.sequence,
            fence=facts.fence,
            attempt=facts.attempt,
            by=_principal(told.by),
            reason=told.reason,
            error=told.error,
            waits=tuple(_wait(one, facts.at, given.get(one.name)) for one in facts.waits),
            more=facts.more,
            refusal=facts.refusal,
            removed=link.removed,
            previous=link.previous.hex(),
            mac=link.mac.hex(),
            kid=link.kid,
        )
    )


def _principal(data: Mapping[str, Any] | None) -> Principal | None:
    return None if data is None else principal_from(data)


def _answer(given: GivenAnswer) -> Result[AnswerEntry, PersistenceError]:
    value = Success(None) if given.value is None else _read_value(given.value)
    return value.map(
        lambda read: AnswerEntry(
            digest=given.digest.hex(),
            answer_id=given.answer_id,
            replaced=None if given.replaced is None else given.replaced.hex(),
            kept=given.value is not None,
            value=read,
            channel=None if given.via is None else given.via[0],
            delivery=None if given.via is None else given.via[1],
        )
    )


def _wait(facts: WaitFacts, at: datetime, answer: AnswerEntry | None) -> WaitEntry:
    return WaitEntry(
        name=facts.name,
        change=facts.change,
        at=facts.at or at,
        question=facts.question or facts.name,
        shown=digest_text(facts.shown),
        tool=facts.tool,
        version=facts.version,
        policy=facts.policy,
        deadline=facts.deadline,
        decision=facts.decision,
        votes=facts.votes,
        answer=answer,
        meaning=facts.meaning,
        schema=digest_text(facts.schema),
        self_approval=facts.own,
    )
