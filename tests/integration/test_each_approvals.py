"""Guarded tools on every backend: identical requests wait together, and what was approved is called once, also where
processes race for it or are killed.
"""

from __future__ import annotations

import asyncio
import json
import signal
from datetime import timedelta

import pytest
from returns.result import Success

from clients import all_at_once, client
from flowpersist import Criteria, KeyRing, Maintenance, RaisingHub, Status, or_raise
from flowpersist.dynamicflow import FlowRunner, tool
from flowpersist.errors import (
    AlreadyResumed,
    InputValidationError,
    QuestionChanged,
    StillWaiting,
    SuspensionBusy,
    SuspensionCancelled,
    SuspensionExpired,
    WaitSuperseded,
)
from flowpersist.testing.hubs import open_test_hub, travel
from flowpersist.tools import ApprovalNeeded, Rejected, ToolContext, approve

CALL = {"to": "bo", "amount": 500}
APPROVE = {"decision": "approve"}
HOUR = timedelta(hours=1)
PROCESSES, TASKS = 3, 4
#: Of the process that is killed, in seconds: the next one waits for its end.
LEASE = 2


@pytest.fixture
async def hub(url):
    async with open_test_hub(url) as opened:
        yield RaisingHub(opened)


@pytest.fixture
async def here():
    """A hub in memory, for what is the same on every backend."""
    async with open_test_hub("memory://") as opened:
        yield RaisingHub(opened)


class Payments:
    """A tool that remembers its calls."""

    def __init__(self):
        self.made = []
        self.valid = True

    async def pay(self, to: str, amount: int, context: ToolContext, currency: str = "EUR") -> str:
        self.made.append((to, amount, currency, context.key))
        return f"paid {amount}"

    def guarded(self, hub, **options):
        return approve(self.pay, hub=hub, **{"still_valid": lambda call: self.valid, **options})

    @property
    def amounts(self):
        return [amount for _, amount, *_ in self.made]


@pytest.fixture
def payments():
    return Payments()


def lines(ledger):
    return [json.loads(line) for line in ledger.read_text().splitlines()] if ledger.exists() else []


# ----------------------------------------------------------------------------------------------------------- processes


async def test_identical_requests_wait_together_and_the_call_is_made_once(url, tmp_path):
    ring, ledger = KeyRing.generate(), tmp_path / "ledger"
    async with RaisingHub.open(url, keyring=ring) as hub:
        asking = [{"ledger": str(ledger), "arguments": CALL, "tasks": TASKS}] * PROCESSES
        keys = {key for told in await all_at_once(url, ring, "ask", asking) for key in told}
        assert len(keys) == 1
        assert len((await hub.query(Criteria(tool="pay"))).items) == 1
        (key,) = keys
        await hub.answer(key, APPROVE, by="ann")
        going = [{"ledger": str(ledger), "key": key, "tasks": TASKS}] * PROCESSES
        told = [one for each in await all_at_once(url, ring, "go on", going) for one in each]
        assert told.count("paid 500") == 1
        assert set(told) <= {"paid 500", "SuspensionBusy", "AlreadyResumed"}
        assert [(to, amount) for to, amount, _ in lines(ledger)] == [("bo", 500)]


async def kill_at(place, url, ring, verb, **given):
    """Run a client of this verb, and kill it where it stops: before the call, or after it."""
    async with asyncio.timeout(120), client(url, ring, verb, stop=place, lease=LEASE, **given) as killed:
        killed.stdin.write(b"go\n")
        assert json.loads(await killed.stdout.readline()) == "stopped"
        killed.send_signal(signal.SIGKILL)
        await killed.wait()


@pytest.mark.parametrize("place", ["before", "after"])
async def test_a_process_that_is_killed_leaves_the_call_to_the_next(url, tmp_path, place):
    """Killed before the call, which is then made once; or after it and before that is recorded: made again, under the
    same key.
    """
    ring, ledger = KeyRing.generate(), tmp_path / "ledger"
    going = {"ledger": str(ledger), "tasks": 1}
    async with RaisingHub.open(url, keyring=ring) as hub:
        [[key]] = await all_at_once(url, ring, "ask", [{"ledger": str(ledger), "arguments": CALL, "tasks": 1}])
        await hub.answer(key, APPROVE, by="ann")
        await kill_at(place, url, ring, "go on", key=key, **going)
        told = "SuspensionBusy"
        async with asyncio.timeout(120):
            while told == "SuspensionBusy":
                await asyncio.sleep(0.2)
                [[told]] = await all_at_once(url, ring, "go on", [{"key": key, **going}])
        assert told == "paid 500"
        assert len(lines(ledger)) == (1 if place == "before" else 2)
        suspension = await hub.inspect(key)
        assert {line[2] for line in lines(ledger)} == {f"{suspension.id}/1"}
        assert suspension.status is Status.COMPLETED


@pytest.mark.parametrize("backend", ["sqlite", "postgres"], indirect=True)
@pytest.mark.parametrize("place", ["before", "after"])
async def test_a_flow_whose_process_is_killed_makes_the_approved_call(url, tmp_path, place):
    ring, ledger = KeyRing.generate(), tmp_path / "ledger"
    going = {"ledger": str(ledger)}
    async with RaisingHub.open(url, keyring=ring) as hub:
        [key] = await all_at_once(url, ring, "flow", [{"key": None, **going}])
        await hub.answer(key, {"decision": "edit", "arguments": {"to": "bo", "amount": 400}}, by="ann")
        await kill_at(place, url, ring, "flow", key=key, **going)
        told = "SuspensionBusy"
        async with asyncio.timeout(120):
            while told == "SuspensionBusy":
                await asyncio.sleep(0.2)
                [told] = await all_at_once(url, ring, "flow", [{"key": key, **going}])
        assert told == "paid 400"
        assert [amount for _, amount, _ in lines(ledger)] == [400] * (1 if place == "before" else 2)
        assert len({key for *_, key in lines(ledger)}) == 1


# ----------------------------------------------------------------------------------------------------------- decisions


async def test_each_decision_does_what_it_says_and_is_kept(hub, payments):
    guarded = payments.guarded(hub)
    decisions = {
        "approve": (APPROVE, "paid 500", 500),
        "edit": ({"decision": "edit", "arguments": {"to": "cy", "amount": 20}}, "paid 20", 20),
        "patch": ({"decision": "edit", "patch": [{"op": "replace", "path": "/amount", "value": 30}]}, "paid 30", 30),
        "respond": ({"decision": "respond", "comment": "paid in cash"}, "paid in cash", None),
    }
    for name, (answer, result, amount) in decisions.items():
        waiting = await guarded.call(CALL, requested_by="agent")
        assert isinstance(waiting, ApprovalNeeded), name
        with pytest.raises(StillWaiting):
            await guarded.resume(waiting.key)
        assert await guarded.resume(waiting.key, answer=answer, by="ann", shown_digest=waiting.digest) == result, name
        with pytest.raises(AlreadyResumed):
            await guarded.resume(waiting.key)
        kept = await hub.outcome(waiting.key)
        assert (kept["decision"], kept["by"], kept["result"]) == (
            answer["decision"],
            "ann",
            None if name == "respond" else result,
        )
        assert (kept["arguments"] or {}).get("amount") == amount
    assert payments.amounts == [500, 20, 30]
    waiting = await guarded.call(CALL)
    refusal = await guarded.resume(waiting.key, answer={"decision": "reject", "comment": "too much"}, by="ann")
    assert refusal == Rejected("pay", waiting.id, "too much", "ann")
    assert payments.amounts == [500, 20, 30]


async def test_the_same_request_goes_on_once_it_is_decided(here, payments):
    guarded = payments.guarded(here)
    first = await guarded.call(CALL, requested_by="agent", scope="chat-1")
    assert (await guarded.call(CALL, requested_by="agent", scope="chat-1")).key == first.key
    others = [{"requested_by": "other", "scope": "chat-1"}, {"requested_by": "agent", "scope": "chat-2"}, {}]
    keys = {(await guarded.call(CALL, **one)).key for one in others}
    keys.add((await guarded.call({**CALL, "amount": 501}, requested_by="agent", scope="chat-1")).key)
    assert len(keys | {first.key}) == 5
    await here.answer(first.key, APPROVE, by="ann")
    assert await guarded.call(CALL, requested_by="agent", scope="chat-1") == "paid 500"
    anew = await guarded.call(CALL, requested_by="agent", scope="chat-1")
    assert anew.key != first.key
    await here.answer(anew.key, {"decision": "reject"}, by="ann")
    assert isinstance(await guarded.call(CALL, requested_by="agent", scope="chat-1"), Rejected)
    assert payments.amounts == [500]


async def test_what_is_shown_names_all_of_the_call(here, payments):
    guarded = payments.guarded(here, policy="payments-3", version="2", prompt="Pay $amount to $to?")
    waiting = await guarded.call(CALL, requested_by="agent", scope="chat")
    (wait,) = waiting.suspension.waits
    action = wait.awaiting.action
    assert (action.tool, action.version, action.policy) == ("pay", "2", "payments-3")
    assert action.arguments == {**CALL, "currency": "EUR"}
    assert action.schema == guarded.schema
    assert (wait.awaiting.prompt, wait.awaiting.shown) == ("Pay 500 to bo?", {"requested_by": "agent", "scope": "chat"})
    assert waiting.digest == wait.digest
    assert str(waiting.key) not in str(waiting)
    for other in ({"policy": "payments-4"}, {"version": "3"}, {"prompt": "Pay $amount EUR to $to?"}):
        changed = payments.guarded(
            here, **{"policy": "payments-3", "version": "2", "prompt": "Pay $amount to $to?"} | other
        )
        asked = await changed.call(CALL, requested_by="agent", scope="chat")
        assert asked.key != waiting.key
        assert asked.digest != waiting.digest
    with pytest.raises(QuestionChanged):
        await guarded.resume(waiting.key, answer=APPROVE, by="ann", shown_digest=asked.digest)
    assert (await here.inspect(waiting.key)).status is Status.WAITING


# --------------------------------------------------------------------------------------------------------------- stale


async def test_a_stale_approval_is_told_and_asked_anew(hub, payments):
    guarded = payments.guarded(hub)
    first = await guarded.call(CALL)
    payments.valid = False
    edit = {"decision": "edit", "arguments": {"to": "bo", "amount": 400}}
    stale = await guarded.resume(first.key, answer=edit, by="ann")
    assert isinstance(stale, ApprovalNeeded)
    assert "no longer met" in stale.stale
    assert stale.key != first.key
    assert stale.digest != first.digest
    (wait,) = stale.suspension.open_waits
    assert wait.awaiting.shown["stale"]["approved_by"] == "ann"
    assert wait.awaiting.action.arguments["amount"] == 500
    for verb in (guarded.resume(first.key), hub.answer(first.key, APPROVE), guarded.resume(first.key, answer=edit)):
        with pytest.raises(WaitSuperseded):
            await verb
    # Identical requests wait with it, and it is asked as often as it takes.
    assert (await guarded.call(CALL)).key == stale.key
    again = await guarded.resume(stale.key, answer=APPROVE, by="ann")
    assert again.key not in {first.key, stale.key}
    payments.valid = True
    assert await guarded.resume(again.key, answer=APPROVE, by="ann") == "paid 500"
    assert payments.made == [("bo", 500, "EUR", f"{again.id}/3")]


@pytest.mark.parametrize("other", [{"version": "2"}, {"policy": "q"}], ids=str)
async def test_an_approval_of_another_version_or_policy_is_stale(here, payments, other):
    terms = {"version": "1", "policy": "p"}
    waiting = await payments.guarded(here, **terms).call(CALL)
    await here.answer(waiting.key, APPROVE, by="ann")
    changed = payments.guarded(here, **terms | other)
    stale = await changed.resume(waiting.key)
    assert isinstance(stale, ApprovalNeeded)
    assert payments.made == []
    assert await changed.resume(stale.key, answer=APPROVE, by="ann") == "paid 500"


async def test_what_has_ended_without_an_answer_is_asked_anew(hub, payments):
    guarded = payments.guarded(hub, expires_in=HOUR)
    first = await guarded.call(CALL)
    travel(hub, 2 * HOUR)
    with pytest.raises(SuspensionExpired):
        await guarded.resume(first.key, answer=APPROVE, by="ann")
    second = await guarded.call(CALL)
    assert second.key != first.key
    await hub.cancel(second.key, "no longer needed")
    with pytest.raises(SuspensionCancelled):
        await guarded.resume(second.key)
    third = await guarded.call(CALL)
    travel(hub, timedelta(days=60))
    assert or_raise(await Maintenance(hub.hub).cleanup()).deleted >= 1
    fourth = await guarded.call(CALL)
    assert len({first.key, second.key, third.key, fourth.key}) == 4
    assert await guarded.resume(fourth.key, answer=APPROVE, by="ann") == "paid 500"


# ----------------------------------------------------------------------------------------------------------- by policy


async def test_a_standing_approval_lets_calls_through_and_each_is_told(hub, payments):
    guarded = payments.guarded(hub)
    grant = await guarded.approvals.grant("pay", by="ann", arguments={"to": "bo"}, uses=2)
    assert await guarded.call(CALL, requested_by="agent") == "paid 500"
    assert isinstance(await guarded.call({**CALL, "to": "cy"}), ApprovalNeeded)
    assert await guarded.call(CALL) == "paid 500"
    assert isinstance(await guarded.call(CALL), ApprovalNeeded)
    uses = [use async for use in guarded.approvals.uses(grant.id)]
    assert [(use.by, use.key, use.requested_by) for use in uses] == [
        (f"policy:{grant.id}", f"{grant.id}/1", "agent"),
        (f"policy:{grant.id}", f"{grant.id}/2", None),
    ]
    assert [key for *_, key in payments.made] == [use.key for use in uses]


async def test_what_waits_is_not_called_a_second_time_when_a_policy_covers_it(here, payments):
    guarded = payments.guarded(here)
    waiting = await guarded.call(CALL)
    await guarded.approvals.grant("pay", by="ann", arguments={}, uses=9)
    assert await guarded.call(CALL) == "paid 500"
    with pytest.raises(SuspensionCancelled):
        await guarded.resume(waiting.key, answer=APPROVE, by="bo")
    assert payments.amounts == [500]
    # What a person has decided counts, whatever the policies are.
    other = {**CALL, "amount": 7}
    grants = await guarded.approvals.list("pay")
    await guarded.approvals.revoke(grants[0].id, by="ann")
    waiting = await guarded.call(other)
    await here.answer(waiting.key, {"decision": "reject"}, by="ann")
    await guarded.approvals.grant("pay", by="ann", arguments={}, uses=9)
    assert isinstance(await guarded.call(other), Rejected)


# -------------------------------------------------------------------------------------------------------------- worker


async def test_a_worker_goes_on_with_what_was_decided(here, payments):
    guarded = payments.guarded(here)
    keys = [(await guarded.call({"to": "bo", "amount": n})).key for n in range(3)]
    await here.suspend("not an approval")
    for key in keys[:2]:
        await here.answer(key, APPROVE, by="ann")
    async with asyncio.timeout(120):
        working = asyncio.create_task(guarded.work(poll=timedelta(milliseconds=20)))
        while len(payments.made) < 2:
            await asyncio.sleep(0.01)
        while (await here.inspect(keys[1])).status is not Status.COMPLETED:
            await asyncio.sleep(0.01)
        working.cancel()
        with pytest.raises(asyncio.CancelledError):
            await working
    assert sorted(payments.amounts) == [0, 1]


async def test_a_tool_that_raises_leaves_the_approval_to_be_used(here):
    calls = []

    async def flaky(n: int, context: ToolContext) -> int:
        calls.append(context.key)
        if len(calls) == 1:
            raise RuntimeError("down")
        return n

    guarded = approve(flaky, hub=here)
    waiting = await guarded.call({"n": 1})
    with pytest.raises(RuntimeError, match="down"):
        await guarded.resume(waiting.key, answer=APPROVE, by="ann")
    assert await guarded.call({"n": 1}) == 1
    assert calls == [f"{waiting.id}/1"] * 2


async def test_a_result_that_cannot_be_stored_is_given_and_the_approval_is_used_up(here):
    class Unknown:
        pass

    made = Unknown()

    async def odd() -> object:
        return made

    guarded = approve(odd, hub=here)
    waiting = await guarded.call({})
    assert await guarded.resume(waiting.key, answer=APPROVE, by="ann") is made
    assert (await here.outcome(waiting.key))["unstored"].endswith("Unknown")
    with pytest.raises(AlreadyResumed):
        await guarded.resume(waiting.key)


async def test_an_edit_that_breaks_the_schema_leaves_the_wait_open(here, payments):
    guarded = payments.guarded(here)
    waiting = await guarded.call(CALL)
    edits = [
        {"arguments": {"to": "bo"}},
        {"arguments": {"to": "bo", "amount": "much"}},
        {"arguments": {"to": "bo", "amount": 5, "more": 1}},
        {"patch": [{"op": "remove", "path": "/amount"}]},
        {"patch": [{"op": "replace", "path": "/../amount", "value": 5}]},
        {"patch": [{"op": "add", "path": "/deep/er", "value": 5}]},
        {},
    ]
    for edit in edits:
        with pytest.raises(InputValidationError):
            await guarded.resume(waiting.key, answer={"decision": "edit", **edit}, by="ann")
    assert (await here.inspect(waiting.key)).status is Status.WAITING
    assert payments.made == []
    assert await guarded.resume(waiting.key, answer=APPROVE, by="ann") == "paid 500"


async def test_a_call_that_is_being_made_is_not_made_beside_it(here):
    began, end = asyncio.Event(), asyncio.Event()

    async def slow() -> str:
        began.set()
        await end.wait()
        return "done"

    guarded = approve(slow, hub=here)
    waiting = await guarded.call({})
    await here.answer(waiting.key, APPROVE, by="ann")
    going = asyncio.create_task(guarded.resume(waiting.key))
    await began.wait()
    for other in (guarded.call({}), guarded.resume(waiting.key)):
        with pytest.raises(SuspensionBusy):
            await other
    end.set()
    assert await going == "done"


async def test_a_flow_waits_for_the_approval_of_its_step(hub):
    made = []

    @tool()
    async def ship(order: int, context: ToolContext) -> str:
        made.append((order, context.key))
        return f"shipped {order}"

    document = {"name": "shipping", "flow": [{"id": "send", "tool": "ship", "args": {"order": "$input.order"}}]}
    runner = FlowRunner(hub, tools=[approve(ship, hub=hub, when={"properties": {"order": {"minimum": 5}}}).tool])
    assert or_raise(await runner.start(document, input={"order": 1})).result == "shipped 1"
    (wait,) = or_raise(await runner.start(document, input={"order": 7})).waits
    assert len(made) == 1
    await hub.answer(wait.key, {"decision": "edit", "arguments": {"order": 8}}, by="ann")
    told = await asyncio.gather(*(runner.resume(wait.key) for _ in range(4)))
    results = [one.unwrap().result for one in told if isinstance(one, Success)]
    assert results == ["shipped 8"]
    assert [order for order, _ in made] == [1, 8]
