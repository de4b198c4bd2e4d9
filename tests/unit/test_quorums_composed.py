"""Quorums through what stands above questions: guarded tools, flow documents, and ladders of escalation."""

from __future__ import annotations

from datetime import timedelta

import pytest

from flowpersist import Maintenance, Principal, or_raise
from flowpersist.dynamicflow import Completed, FlowRunner, Suspended
from flowpersist.errors import AlreadyResumed, InputValidationError, PermissionDenied, StillWaiting
from flowpersist.inputs import Action, Escalation
from flowpersist.testing import open_test_hub, travel
from flowpersist.tools import ApprovalNeeded, approve, await_input

HOUR = timedelta(hours=1)
ANN, BEN = Principal("ann", roles=("ops",)), Principal("ben", roles=("ops",))
EDIT = {"decision": "edit", "arguments": {"amount": 50}}


async def test_a_guarded_tool_waits_for_all_votes_and_is_called_once_as_both_edited_it():
    paid = []

    async def pay(amount: int) -> str:
        paid.append(amount)
        return f"paid {amount}"

    async with open_test_hub(keyring=None) as hub:
        guarded = approve(pay, hub=hub, when=lambda call: call.arguments["amount"] > 10, quorum=2, of=["ops"])
        assert await guarded(amount=1) == "paid 1"
        asked = await guarded(amount=100)
        assert isinstance(asked, ApprovalNeeded)
        assert or_raise(await hub.answer(asked.key, EDIT, by=ANN)).outcome == "pending"
        with pytest.raises(StillWaiting):
            await guarded.resume(asked.key)
        for bad in ({"amount": "much"}, {}):
            refused = await hub.answer(asked.key, {**EDIT, "arguments": bad}, by=BEN)
            assert isinstance(refused.failure(), InputValidationError)
        assert or_raise(await hub.answer(asked.key, EDIT, by=BEN)).outcome == "accepted"
        assert await guarded.resume(asked.key) == "paid 50"
        with pytest.raises(AlreadyResumed):
            await guarded.resume(asked.key)
    assert paid == [1, 50]


async def test_a_flow_goes_on_with_the_last_vote():
    args = {"prompt": "Ship?", "schema": {"type": "boolean"}, "quorum": 2, "groups": ["ops"], "risk": "high"}
    async with open_test_hub(keyring=None) as hub:
        runner = FlowRunner(hub)
        outcome = or_raise(await runner.start({"flow": [{"id": "ok", "tool": "await_input", "args": args}]}))
        assert isinstance(outcome, Suspended)
        (wait,) = outcome.waits
        denied = await runner.resume(wait.key, answer=True, by="eve")
        assert isinstance(denied.failure(), PermissionDenied)
        first = or_raise(await hub.answer(wait.key, True, by=ANN))
        assert (first.outcome, first.tally.missing) == ("pending", 1)
        done = or_raise(await runner.resume(wait.key, answer=True, by=BEN))
        assert isinstance(done, Completed)
        assert done.result is True


async def test_the_people_of_a_step_vote_once_it_was_reached():
    ship = await_input.approval(
        "Ship?",
        Action("ship", {"order": 7}),
        quorum=2,
        of=["ops"],
        expires_in=24 * HOUR,
        escalation=[Escalation(to=("lead",), after=4 * HOUR)],
    )
    approved = {"decision": "approve"}
    async with open_test_hub(keyring=None) as hub:
        new = or_raise(await hub.suspend({}, awaiting=ship, by="ann"))
        assert isinstance((await hub.answer(new.key, approved, by="lead")).failure(), PermissionDenied)
        assert isinstance((await hub.answer(new.key, approved, by=ANN)).failure(), PermissionDenied)
        assert or_raise(await hub.answer(new.key, approved, by=BEN)).outcome == "pending"
        travel(hub, 5 * HOUR)
        or_raise(await Maintenance(hub).tick())
        assert or_raise(await hub.answer(new.key, approved, by="lead")).outcome == "accepted"
