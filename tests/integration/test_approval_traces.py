"""The trace of approvals that ``agentack check`` reads: made of histories, and checked by the package itself."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from returns.result import Success

from flowpersist import AwaitInput, Maintenance, Principal, or_raise
from flowpersist.inputs.action import Action
from flowpersist.lifecycle.traces import approval_trace
from flowpersist.testing.hubs import open_test_hub, travel

agentack = pytest.importorskip("agentack")
engine = pytest.importorskip("agentack.engine")
parser = pytest.importorskip("agentack.parser")
policies = pytest.importorskip("agentack.policy")

PAY = AwaitInput(
    "pay", "Pay?", action=Action("transfer", {"amount": 4000}, version="2", policy="p7"), timeout=timedelta(days=2)
)
#: Every action needs an approval.
STRICT = policies.Policy(require_approval_for=("*",))
APPROVE, REJECT = {"decision": "approve"}, {"decision": "reject", "comment": "no"}
EDIT = {"decision": "edit", "arguments": {"amount": 3000}}


async def checked(hub, id, tmp_path):
    """The events of a suspension and what the checker says of them."""
    events = list(approval_trace(or_raise(await hub.history(id))))
    path = tmp_path / "trace.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in events))
    report = engine.evaluate_events(parser.read_jsonl(path), policy=STRICT)
    return [one["type"] for one in events], report


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (APPROVE, ["action_executed"]),
        (REJECT, ["action_blocked"]),
        (EDIT, ["action_executed"]),
    ],
)
async def test_a_decision_passes(answer, told, tmp_path):
    async with open_test_hub() as hub:
        new = or_raise(await hub.suspend(1, awaiting=PAY, by="ann"))
        or_raise(await hub.answer(new.key, answer, by=Principal("ben")))
        travel(hub, timedelta(days=1))
        run = or_raise(await hub.claim(new.id))
        or_raise(await hub.complete(run))
        types, report = await checked(hub, new.id, tmp_path)
        assert (report.status, report.findings) == ("PASS", ())
        assert types[-2:] == [*told, "session_end"]


async def test_a_run_of_many_pauses_passes(tmp_path):
    async with open_test_hub() as hub:
        new = or_raise(await hub.suspend(0, awaiting=PAY, by="ann"))
        for number in range(20):
            or_raise(await hub.answer(new.key, (APPROVE, REJECT, EDIT)[number % 3], by="ben"))
            run = or_raise(await hub.claim(new.key))
            if number == 5:
                or_raise(await hub.release(run, error="again"))
                run = or_raise(await hub.claim(new.key))
            new = or_raise(await hub.suspend_next(run, number, awaiting=PAY))
        or_raise(await hub.cancel(new.id))
        types, report = await checked(hub, new.id, tmp_path)
        assert (report.status, report.findings) == ("PASS", ())
        assert (types.count("action_executed"), types.count("approval_decision")) == (13, 20 + 6 + 1)


async def expired(hub):
    new = or_raise(await hub.suspend(1, awaiting=PAY))
    travel(hub, timedelta(days=3))
    or_raise(await Maintenance(hub).tick())
    return new


async def defaulted(hub):
    asked = AwaitInput("pay", "?", schema=bool, default=False, timeout=timedelta(hours=1))
    new = or_raise(await hub.suspend(1, awaiting=asked))
    travel(hub, timedelta(hours=2))
    or_raise(await hub.complete(or_raise(await hub.claim(new.id))))
    return new


async def cancelled(hub):
    new = or_raise(await hub.suspend(1, awaiting=PAY))
    or_raise(await hub.cancel(new.id))
    return new


async def cancelled_when_answered(hub):
    new = or_raise(await hub.suspend(1, awaiting=PAY))
    or_raise(await hub.answer(new.key, APPROVE))
    or_raise(await hub.cancel(new.id))
    return new


async def resumed(hub):
    new = or_raise(await hub.suspend(1, awaiting=PAY))
    or_raise(await hub.resume(new.key, APPROVE))
    return new


async def failed(hub):
    new = or_raise(await hub.suspend(1, awaiting=PAY))
    or_raise(await hub.fail(or_raise(await hub.claim(new.key, APPROVE)), "broken"))
    return new


async def parked_and_retried(hub):
    new = or_raise(await hub.suspend(1, awaiting=PAY))
    or_raise(await hub.park(or_raise(await hub.claim(new.key, APPROVE)), unread=["pay"]))
    or_raise(await hub.complete(or_raise(await hub.retry(new.id))))
    return new


async def one_of_two(hub):
    new = or_raise(await hub.suspend(1, awaiting={"a": PAY, "b": PAY}, until="any"))
    or_raise(await hub.answer(new.keys["a"], APPROVE))
    or_raise(await hub.complete(or_raise(await hub.claim(new.id))))
    return new


ENDS = [
    expired, defaulted, cancelled, cancelled_when_answered, resumed, failed, parked_and_retried, one_of_two,
]  # fmt: skip


@pytest.mark.parametrize("end", ENDS)
async def test_every_end_passes(end, tmp_path):
    async with open_test_hub() as hub:
        types, report = await checked(hub, (await end(hub)).id, tmp_path)
        assert (report.status, report.findings) == ("PASS", ())
        assert types[-1] == "session_end"


async def test_a_suspension_that_has_not_ended_is_incomplete(tmp_path):
    async with open_test_hub() as hub:
        new = or_raise(await hub.suspend(1, awaiting=PAY))
        or_raise(await hub.answer(new.key, APPROVE))
        _, report = await checked(hub, new.id, tmp_path)
        assert report.status == "INCOMPLETE"


async def test_a_trace_that_was_altered_fails(tmp_path):
    """The checker can tell: an execution without its decision, and one of another action, do not pass."""
    async with open_test_hub() as hub:
        new = or_raise(await hub.suspend(1, awaiting=PAY))
        or_raise(await hub.answer(new.key, REJECT))
        or_raise(await hub.complete(or_raise(await hub.claim(new.id))))
        events = list(approval_trace(or_raise(await hub.history(new.id))))
    blocked = next(one for one in events if one["type"] == "action_blocked")
    del blocked["reason"]
    blocked |= {"type": "action_executed", "action": events[0]["action"]}
    path = tmp_path / "trace.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in events))
    assert engine.evaluate_events(parser.read_jsonl(path), policy=STRICT).status == "FAIL"


async def test_quorums_and_refusals(tmp_path):
    async with open_test_hub() as hub:
        asked = AwaitInput("pay", "?", schema=bool, assignees=["ben", "cy"], quorum=2)
        new = or_raise(await hub.suspend(1, awaiting=asked, by="ann"))
        assert not isinstance(await hub.answer(new.key, True, by="eve"), Success)
        for who in ("ben", "cy"):
            or_raise(await hub.answer(new.key, True, by=who))
        or_raise(await hub.complete(or_raise(await hub.claim(new.id))))
        types, report = await checked(hub, new.id, tmp_path)
        assert (report.status, types.count("approval_decision")) == ("PASS", 1)
