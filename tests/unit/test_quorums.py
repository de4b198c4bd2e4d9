"""Who may answer, which votes agree, and when they decide: tables over the pure transitions."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from attrs import evolve
from returns.result import Failure, Success

from flowpersist import AwaitInput, ConfigurationError, Principal
from flowpersist.errors import AnswerConflict, PermissionDenied, QuestionChanged, StillWaiting
from flowpersist.inputs.action import Action
from flowpersist.inputs.people import principal_data, principal_from
from flowpersist.keys import SuspensionId
from flowpersist.lifecycle import verbs
from flowpersist.lifecycle.changes import present
from flowpersist.lifecycle.decisions import Offer
from flowpersist.lifecycle.model import Head, Status, WaitState, WaitStatus, replace
from flowpersist.lifecycle.shown import digest_text, shown_digest
from flowpersist.lifecycle.voting import MAX_VOTES, tally_of
from flowpersist.tools import Quorum, await_input

NOW = datetime(2027, 1, 1, tzinfo=UTC)
ID = SuspensionId.derive("n", None, "k")
APPROVE, REJECT = {"decision": "approve"}, {"decision": "reject"}
ACTION = Action("send", {"to": "a"}, schema={"type": "object", "properties": {"to": {"type": "string"}}})


def edit(to):
    return {"decision": "edit", "arguments": {"to": to}}


def head_of(*asked, requester=None, until="all"):
    waits = tuple(
        WaitState(f"w{at}", bytes([at]), 1, one.to_data(), None, shown=shown_digest(one.to_data()))
        for at, one in enumerate(asked)
    )
    who = None if requester is None else {"subject": requester}
    return Head(ID, None, {}, NOW, NOW, timedelta(days=1), Status.WAITING, until, waits, requester=who)


def offer(value, by, **given):
    if isinstance(by, Principal):
        return Offer(value, by.subject, given.pop("answer_id", None), principal=by, **given)
    return Offer(value, by, given.pop("answer_id", None), **given)


def cast(head, *votes):
    """The head after these votes, and what became of each."""
    told = []
    for value, by in votes:
        decision = verbs.answer(head, head.waits[0], offer(value, by), NOW)
        head = decision.head
        match decision.result:
            case Success(receipt):
                told.append(receipt.outcome)
            case Failure(error):
                told.append(type(error))
    return head, told


@pytest.mark.parametrize(
    ("options", "votes", "told"),
    [
        ({"quorum": 2}, [(APPROVE, "ann"), (APPROVE, "bob")], ["pending", "accepted"]),
        ({"quorum": 1}, [(APPROVE, "ann")], ["accepted"]),
        ({"quorum": 2}, [(APPROVE, "ann"), (APPROVE, "ann")], ["pending", "replayed"]),
        ({"quorum": 2}, [(APPROVE, None)], [PermissionDenied]),
        ({"quorum": 2}, [(APPROVE, "ann"), (REJECT, "bob"), (APPROVE, "cy")], ["pending", "pending", "accepted"]),
        ({"quorum": 2}, [(REJECT, "ann"), (REJECT, "bob"), (REJECT, "cy")], ["pending"] * 3),
        ({"quorum": Quorum(2, veto=True)}, [(APPROVE, "ann"), (REJECT, "bob")], ["pending", "accepted"]),
        # Votes are replaced until the end.
        ({"quorum": 2}, [(REJECT, "ann"), (APPROVE, "ann"), (APPROVE, "bob")], ["pending", "pending", "accepted"]),
        ({"quorum": 2}, [(APPROVE, "ann"), (REJECT, "ann"), (APPROVE, "bob")], ["pending"] * 3),
        # Once two of three have rejected, two can't approve.
        (
            {"quorum": 2, "assignees": ["ann", "bob", "cy"]},
            [(REJECT, "ann"), (REJECT, "bob")],
            ["pending", "accepted"],
        ),
        ({"quorum": 3, "assignees": ["ann", "bob", "cy"]}, [(REJECT, "ann")], ["accepted"]),
        ({"quorum": 2, "assignees": ["ann", "bob"], "groups": ["ops"]}, [(REJECT, "ann")], ["pending"]),
        (
            {"assignees": ["ann"]},
            [(APPROVE, "bob"), (APPROVE, None), (APPROVE, "ann")],
            [PermissionDenied] * 2 + ["accepted"],
        ),
        (
            {"groups": ["ops"]},
            [(APPROVE, "ops"), (APPROVE, Principal("bob", roles=["dev"])), (APPROVE, Principal("ann", roles=["ops"]))],
            [PermissionDenied, PermissionDenied, "accepted"],
        ),
        ({"groups": ["ops"], "assignees": ["bob"]}, [(APPROVE, "bob")], ["accepted"]),
        (
            {"quorum": 2, "of": ["ops", "bob"]},
            [(APPROVE, "ann"), (APPROVE, Principal("ann", roles=["ops"])), (APPROVE, "bob")],
            [PermissionDenied, "pending", "accepted"],
        ),
        # The requester does not vote, also not through somebody else.
        (
            {"quorum": 2},
            [(APPROVE, "req"), (APPROVE, Principal("ann", on_behalf_of="req")), (APPROVE, "ann"), (APPROVE, "bob")],
            [PermissionDenied, PermissionDenied, "pending", "accepted"],
        ),
        ({"quorum": Quorum(2, self_approval=True)}, [(APPROVE, "req"), (APPROVE, "ann")], ["pending", "accepted"]),
        # One person, one vote.
        (
            {"quorum": 2},
            [(APPROVE, Principal("ann", on_behalf_of="bob")), (APPROVE, "bob"), (APPROVE, "cy")],
            ["pending", PermissionDenied, "accepted"],
        ),
        *(
            ({}, [(APPROVE, Principal("m", kind=kind)), (APPROVE, "ann")], [PermissionDenied, "accepted"])
            for kind in ("model", "agent", "policy", "system")
        ),
        ({"answerable_by": ["person", "model"]}, [(APPROVE, Principal("m", kind="model"))], ["accepted"]),
        ({"answerable_by": ["policy"]}, [(APPROVE, "ann"), (APPROVE, None)], [PermissionDenied] * 2),
    ],
)
def test_who_may_answer_and_which_votes_decide(options, votes, told):
    head, found = cast(head_of(await_input.approval("Ship?", **options), requester="req"), *votes)
    assert found == told
    assert (head.waits[0].status is WaitStatus.ANSWERED) == ("accepted" in told)
    if "accepted" in told:
        assert head.waits[0].answer.value == votes[-1][0]


@pytest.mark.parametrize(
    ("asked", "votes", "told"),
    [
        (
            await_input.text("?", quorum=2),
            [("a", "ann"), ("b", "bob"), ("a", "cy")],
            ["pending", "pending", "accepted"],
        ),
        (await_input.number("?", quorum=2), [(1, "ann"), (2, "bob"), (1, "cy")], ["pending", "pending", "accepted"]),
        (await_input.confirmation("?", quorum=2), [(True, "ann"), (True, "bob")], ["pending", "accepted"]),
        (
            await_input.confirmation("?", quorum=Quorum(2, veto=True)),
            [(True, "ann"), (False, "bob")],
            ["pending", "accepted"],
        ),
        (
            await_input.approval("?", ACTION, quorum=2),
            [(edit("b"), "ann"), (edit("c"), "bob"), (APPROVE, "cy"), (edit("b"), "dan")],
            ["pending", "pending", "pending", "accepted"],
        ),
        # An edit that changes nothing approves the call as it is; a patch counts by its result.
        (await_input.approval("?", ACTION, quorum=2), [(edit("a"), "ann"), (APPROVE, "bob")], ["pending", "accepted"]),
        (
            await_input.approval("?", ACTION, quorum=2),
            [
                ({"decision": "edit", "patch": [{"op": "replace", "path": "/to", "value": "b"}]}, "ann"),
                (edit("b"), "bob"),
            ],
            ["pending", "accepted"],
        ),
        # A comment is no difference.
        (
            await_input.approval("?", quorum=2),
            [({"decision": "approve", "comment": "now"}, "ann"), (APPROVE, "bob")],
            ["pending", "accepted"],
        ),
        # Other fields of an own form are.
        (
            AwaitInput("a", "?", quorum=2),
            [({"decision": "approve", "sum": 1}, "ann"), ({"decision": "approve", "sum": 2}, "bob")],
            ["pending", "pending"],
        ),
        (AwaitInput("a", "?", quorum=2), [(1, "ann"), (True, "bob"), (1.5, "cy")], ["pending"] * 3),
    ],
)
def test_votes_agree_by_what_they_are_for(asked, votes, told):
    assert cast(head_of(asked), *votes)[1] == told


def test_a_pending_receipt_says_what_is_missing_and_shows_no_answers():
    asked = await_input.approval("?", quorum=3, of=["ops"])
    head = head_of(asked)
    decision = verbs.answer(head, head.waits[0], offer(APPROVE, Principal("ann", roles=["ops", "dev"])), NOW)
    receipt = decision.result.unwrap()
    assert (receipt.outcome, receipt.tally.missing, receipt.tally.needed, receipt.tally.of) == (
        "pending",
        2,
        3,
        ("ops",),
    )
    [vote] = receipt.tally.votes
    assert (vote.by, vote.decision, vote.value, vote.principal.roles) == ("ann", "approve", None, ("ops", "dev"))
    assert vote.digest == digest_text(head.waits[0].shown)


def test_the_digest_is_checked_for_each_vote():
    head, _ = cast(head_of(await_input.approval("?", quorum=2)), (APPROVE, "ann"))
    decision = verbs.answer(head, head.waits[0], offer(APPROVE, "bob", shown="sha256:00"), NOW)
    assert isinstance(decision.result.failure(), QuestionChanged)
    assert decision.head is head


def test_after_the_end_a_voter_is_told_so_and_others_are_refused():
    head, _ = cast(head_of(await_input.approval("?", quorum=2)), (REJECT, "cy"), (APPROVE, "ann"), (APPROVE, "bob"))
    _, told = cast(head, (APPROVE, "ann"), (APPROVE, "bob"), (REJECT, "cy"), (APPROVE, "cy"), (APPROVE, "dan"))
    assert told == ["replayed", "replayed", "replayed", AnswerConflict, AnswerConflict]


def test_a_claim_with_a_vote_that_does_not_decide_records_it():
    head = head_of(await_input.approval("?", quorum=2))
    decision = verbs.claim(head, head.waits[0], offer(APPROVE, "ann"), NOW, lease=timedelta(1), claim_id="c")
    error = decision.result.failure()
    assert isinstance(error, StillWaiting)
    assert error.receipt.tally.missing == 1
    assert len(decision.head.waits[0].votes) == 1


@pytest.mark.parametrize("default", [True, False])
def test_an_expiry_with_votes_is_as_without(default):
    options = {"default": {"decision": "reject"}} if default else {}
    head = head_of(await_input.approval("?", quorum=2, **options))
    deadline = NOW + timedelta(hours=1)
    head = with_deadline(head, deadline)
    head, _ = cast(head, (APPROVE, "ann"))
    late = present(head, NOW + timedelta(hours=2))
    assert late.waits[0].status is (WaitStatus.ANSWERED if default else WaitStatus.EXPIRED)
    assert len(tally_of(late.waits[0]).votes) == 1


def with_deadline(head, deadline):
    return replace(head, waits=(replace(head.waits[0], deadline=deadline),))


def test_at_most_so_many_vote():
    head = head_of(await_input.text("?", quorum=2))
    head, told = cast(head, *((str(n), f"p{n}") for n in range(MAX_VOTES)), ("x", "late"), ("y", "p0"))
    assert told == ["pending"] * MAX_VOTES + [PermissionDenied, "pending"]


BAD = ["", "a\0", "\ud800", "x" * 513, 7]


@pytest.mark.parametrize(
    ("given", "named"),
    [
        *(({"quorum": bad}, "quorum") for bad in (0, -1, True, 1.5, "2", 51, {}, {"votes": 2, "x": 1}, [2])),
        *(({what: [bad]}, what) for what in ("assignees", "groups") for bad in BAD),
        *(
            ({what: bad}, what)
            for what in ("assignees", "groups", "answerable_by")
            for bad in ("ann", 7, None, {"a": 1})
        ),
        *(({what: ["a", "a"]}, what) for what in ("assignees", "groups")),
        ({"assignees": [f"p{n}" for n in range(101)]}, "assignees"),
        ({"quorum": 3, "assignees": ["ann", "bob"]}, "quorum"),
        ({"quorum": {"votes": 2, "veto": 1}}, "veto"),
        ({"quorum": {"votes": 2, "self_approval": "no"}}, "self_approval"),
        ({"quorum": {"votes": 2, "of": ["a", "a"]}}, "of"),
        ({"answerable_by": []}, "answerable_by"),
        ({"answerable_by": ["robot"]}, "answerable_by"),
    ],
)
def test_what_makes_no_sense_is_refused_by_its_name(given, named):
    with pytest.raises(ConfigurationError) as caught:
        AwaitInput("a", "?", **given)
    assert caught.value.setting == named


@pytest.mark.parametrize(
    "given",
    [
        *({"subject": bad} for bad in BAD),
        *({what: bad} for what in ("name", "issuer", "method", "on_behalf_of") for bad in BAD),
        *({"roles": [bad]} for bad in BAD),
        {"roles": "ops"},
        {"roles": ["a", "a"]},
        {"roles": [f"{n}" for n in range(65)]},
        {"roles": [f"{n:0500}" for n in range(10)]},
        {"kind": "robot"},
        {"authenticated_at": datetime(2027, 1, 1)},  # noqa: DTZ001 - that is what is refused
    ],
)
def test_a_principal_that_can_not_be_kept_is_refused(given):
    with pytest.raises((ConfigurationError, TypeError)):
        Principal(**{"subject": "ann", **given})


def test_people_come_back_from_data():
    asked = AwaitInput("a", "?", assignees=["ann", "bob"], groups=("ops",), quorum=Quorum(2, ["ops"], veto=True))
    back = AwaitInput.from_data(asked.to_data()).unwrap()
    assert (back.assignees, back.groups, back.quorum) == (("ann", "bob"), ("ops",), Quorum(2, ["ops"], veto=True))
    assert evolve(asked, title="t").quorum == asked.quorum
    who = Principal("a", "Ann", "idp", ["r"], "agent", datetime(2027, 1, 1, tzinfo=UTC), "passkey", "bob")
    assert principal_from(principal_data(who)) == who


@pytest.mark.parametrize("given", [{"of": ["ops"]}, {"quorum": Quorum(2, ["a"]), "of": ["b"]}])
def test_of_stands_once_and_beside_a_quorum(given):
    with pytest.raises(ConfigurationError) as caught:
        await_input.approval("?", **given)
    assert caught.value.setting == "of"
