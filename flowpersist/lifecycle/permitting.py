"""Who may answer a wait: the kinds of principals, the assignees and groups, the voters of a quorum."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final, cast

from flowpersist.errors import PermissionDenied, PersistenceError
from flowpersist.inputs.people import PERSONS, Principal, Quorum, persons_of, principal_from, quorum_in
from flowpersist.lifecycle.decisions import Offer
from flowpersist.lifecycle.model import CastVote, Head, WaitState
from flowpersist.lifecycle.scheduling import escalated_to
from flowpersist.lifecycle.voting import MAX_VOTES, answer_of, entitled, principal_of

__all__ = ["may_answer", "may_vote"]

#: The members of what is awaited that say who may answer.
_RULES: Final = frozenset({"answerable_by", "assignees", "groups", "quorum"})
#: Names that a refusal lists.
_LISTED: Final = 20


def may_answer(head: Head, wait: WaitState, offer: Offer) -> PersistenceError | None:
    """Why an answer is not taken from whoever gives it; None where it is."""
    asked = cast("Mapping[str, Any]", wait.awaiting or {})
    if offer.principal is None and asked.keys().isdisjoint(_RULES):
        return None
    who = offer.who
    kinds = asked.get("answerable_by", PERSONS)
    kind = "person" if who is None else who.kind
    if kind not in kinds:
        takes = f"answers of {_listed(kinds)}, not of a principal whose kind is {kind}"
        return _denied(head, wait, takes if kinds else "no answers: only time ends it")
    quorum = quorum_in(asked)
    assignees, groups = entitled(wait)
    if who is None and (assignees or groups or quorum is not None):
        return _denied(head, wait, "answers of a named person only: say by whom it is")
    if who is None:
        return None
    if (assignees or groups) and who.subject not in assignees and set(who.roles).isdisjoint(groups):
        return _denied(head, wait, f"answers of {_named(assignees, groups)}")
    return None if quorum is None else _voter(head, wait, quorum, who)


def _voter(head: Head, wait: WaitState, quorum: Quorum, who: Principal) -> PersistenceError | None:
    of = (*quorum.of, *escalated_to(wait))
    if quorum.of and who.subject not in of and set(who.roles).isdisjoint(of):
        return _denied(head, wait, f"votes of {_listed(of)}")
    requester = None if head.requester is None else principal_from(head.requester)
    if not quorum.self_approval and requester is not None and persons_of(requester) & persons_of(who):
        return _denied(head, wait, "votes of others than whoever asked")
    return None


def may_vote(head: Head, wait: WaitState, offer: Offer, others: Collection[CastVote]) -> PersistenceError | None:
    """Why a vote is not counted beside the votes of ``others``; None where it is."""
    persons = frozenset[str]() if offer.who is None else persons_of(offer.who)
    for vote in others:
        voter = principal_of(answer_of(wait, vote))
        if voter is not None and persons_of(voter) & persons:
            return _denied(head, wait, "one vote of each person, also where others vote on their behalf")
    if len(others) >= MAX_VOTES:
        return _denied(head, wait, f"at most {MAX_VOTES} votes: somebody who has voted may vote otherwise")
    return None


def _denied(head: Head, wait: WaitState, takes: str) -> PersistenceError:
    return PermissionDenied(f"the wait {wait.name} of suspension {head.id} takes {takes}; it is as it was")


def _named(assignees: Collection[str], groups: Collection[str]) -> str:
    named = [_listed(assignees)] if assignees else []
    return " or ".join([*named, *([f"members of {_listed(groups)}"] if groups else [])])


def _listed(names: Collection[str]) -> str:
    listed = ", ".join(list(names)[:_LISTED])
    return listed if len(names) <= _LISTED else f"{listed} and {len(names) - _LISTED} more"
