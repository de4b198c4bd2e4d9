"""Quorums: what a vote is for, whether it decides, and how the votes stand.

Votes of one wait are recorded in its head, each in one put, until enough agree. Somebody who votes again replaces the
own vote, so that people who edited a call in different ways can come to agree.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, cast

from attrs import field, frozen
from returns.result import Success

from flowpersist.inputs.action import DECISIONS, Action
from flowpersist.inputs.people import Principal, Quorum, principal_from, quorum_in
from flowpersist.lifecycle.model import Answer, CastVote, Head, WaitState, fingerprint
from flowpersist.lifecycle.scheduling import escalated_to
from flowpersist.lifecycle.shown import digest_text

__all__ = [
    "MAX_VOTES",
    "Tally",
    "Vote",
    "answer_of",
    "ballot_of",
    "decides",
    "entitled",
    "principal_of",
    "tally_of",
    "value_of",
]

#: Of one wait.
MAX_VOTES: Final = 100
#: The members of a decision that do not say what it is for.
_ASIDE: Final = ("decision", "comment", "arguments", "patch")


@frozen
class Vote:
    """One vote of a quorum.

    ``decision`` is approve, edit, reject or respond; None for another answer. ``digest`` is that of what
    was shown. ``value`` is the answer, for whoever holds the run; else None.
    """

    by: str | None
    decision: str | None
    at: datetime
    digest: str | None
    principal: Principal | None
    value: object = field(default=None, repr=False)


@frozen
class Tally:
    """How a quorum stands: the votes, how many must agree (``needed``), how many of those are ``missing`` (0: it has
    ended), and the subjects and groups that may give them (``of``; empty: anybody).
    """

    votes: tuple[Vote, ...]
    needed: int
    missing: int
    of: tuple[str, ...]
    veto: bool


def principal_of(answer: Answer | None) -> Principal | None:
    """Who gave an answer; None where nobody was named."""
    if answer is None or (answer.who is None and not answer.by):
        return None
    return Principal(str(answer.by)) if answer.who is None else principal_from(answer.who)


def answer_of(wait: WaitState, vote: CastVote) -> Answer | None:
    """The answer of a vote."""
    return wait.answer if vote.answer is None else vote.answer


def entitled(wait: WaitState) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The assignees and groups that may answer, both empty where anybody may. Those that the wait was escalated to are
    among both, since their names may be subjects or groups.
    """
    asked = cast("Mapping[str, Any]", wait.awaiting or {})
    assignees, groups = tuple(asked.get("assignees", ())), tuple(asked.get("groups", ()))
    if not (assignees or groups):
        return (), ()
    further = escalated_to(wait)
    return (*assignees, *further), (*groups, *further)


def ballot_of(awaiting: Mapping[str, Any] | None, value: object) -> tuple[str | None, bytes | None]:
    """The decision that an answer is, and what it is for; no decision for an answer of another form."""
    if type(value) is bool:
        return ("approve", fingerprint(value)) if value else ("reject", None)
    named = value.get("decision") if isinstance(value, Mapping) else None
    if not isinstance(value, Mapping) or named not in DECISIONS:
        return None, fingerprint(value)
    if named in ("reject", "respond"):
        return named, None
    rest = {name: one for name, one in value.items() if name not in _ASIDE}
    return named, fingerprint([_approved(awaiting or {}, value), rest])


def _approved(awaiting: Mapping[str, Any], value: Mapping[str, object]) -> object:
    """The arguments that a decision approves; without an action, its own."""
    if "action" not in awaiting:
        return [value.get("arguments"), value.get("patch")]
    decided = Action.from_data(awaiting["action"]).decided(value)
    made = decided.unwrap() if isinstance(decided, Success) else None
    return None if made is None else [dict(made.arguments)]


def decides(head: Head, wait: WaitState, quorum: Quorum, votes: Sequence[CastVote]) -> bool:
    """Whether the last of these votes ends the wait."""
    ballot = votes[-1].ballot
    same = len([one for one in votes if one.ballot == ballot])
    if ballot is not None:
        return same >= quorum.votes
    requester = None if head.requester is None else str(head.requester["subject"])
    voters = quorum.voters(*entitled(wait), requester)
    return quorum.veto or (voters is not None and voters - same < quorum.votes)


def tally_of(wait: WaitState, values: Mapping[bytes, object] | None = None) -> Tally | None:
    """How the quorum of a wait stands; None without one. ``values`` has the large answers by the names of their
    records; where it is given, the votes have their values.
    """
    quorum = quorum_in(wait.awaiting)
    if quorum is None:
        return None
    ballots = [vote.ballot for vote in wait.votes if vote.ballot is not None]
    most = max((ballots.count(one) for one in ballots), default=0)
    assignees, groups = entitled(wait)
    of = dict.fromkeys((*quorum.of, *escalated_to(wait)) if quorum.of else (*assignees, *groups))
    votes = tuple(_vote(wait, vote, values) for vote in wait.votes)
    return Tally(votes, quorum.votes, quorum.votes - most if wait.open else 0, tuple(of), quorum.veto)


def _vote(wait: WaitState, vote: CastVote, values: Mapping[bytes, object] | None) -> Vote:
    answer = answer_of(wait, vote)
    if answer is None:
        msg = "a vote without an answer"
        raise ValueError(msg)
    value = None if values is None else value_of(answer, values)
    return Vote(answer.by, vote.decision, answer.at, digest_text(answer.shown), principal_of(answer), value)


def value_of(answer: Answer, values: Mapping[bytes, object]) -> object:
    """The value of an answer, wherever it is stored."""
    return answer.value if answer.reference is None else values[answer.reference.name]
