"""Guarded tools in a flow: the run itself waits for the approval, and the approved call is made as its step."""

from __future__ import annotations

import pytest
import pytest_asyncio

from flowpersist import Criteria, RaisingHub, or_raise
from flowpersist.dynamicflow import Completed, FlowRunner, Migration, Suspended, ToolContext, tool
from flowpersist.dynamicflow import compile as compile_flow
from flowpersist.errors import AlreadyResumed, FlowError, InputValidationError, WaitSuperseded
from flowpersist.testing.hubs import open_test_hub
from flowpersist.tools import ApprovalNeeded, Approvals, approve

MADE: list[tuple[object, ...]] = []
VALID: list[bool] = []
APPROVE = {"decision": "approve"}


@tool()
async def pay(to: str, amount: int, context: ToolContext, currency: str = "EUR") -> str:
    """Pay somebody."""
    MADE.append((to, amount, context.key))
    if to == "flaky" and len(MADE) < 2:
        raise RuntimeError("down")
    return f"paid {amount}"


@tool()
async def note(text: str) -> str:
    return f"noted: {text}"


@pytest_asyncio.fixture(loop_scope="module")
async def hub():
    MADE.clear()
    VALID[:] = [True]
    async with open_test_hub("memory://") as opened:
        yield RaisingHub(opened)


def runner(hub, **options):
    terms = {"when": lambda call: call.arguments["amount"] > 100, "still_valid": lambda call: VALID[0]}
    return FlowRunner(hub, tools=[approve(pay, hub=hub, **terms | options).tool, note])


def document(args=None, **step):
    given = {"to": "bo", "amount": 500} if args is None else args
    return {"name": "payments", "flow": [{"id": "send", "tool": "pay", "args": given, **step}]}


async def started(hub, *, runs=None, **given):
    suspended = or_raise(await (runs or runner(hub)).start(document(**given)))
    assert isinstance(suspended, Suspended)
    return suspended.waits[0]


async def test_a_call_that_needs_none_is_made_at_once(hub):
    done = or_raise(await runner(hub).start(document({"to": "bo", "amount": 5})))
    assert done == Completed("paid 5", {"send": "paid 5"})


async def test_the_run_waits_and_any_runner_goes_on(hub):
    wait = await started(hub)
    assert (wait.step, wait.awaiting.action.arguments) == ("send", {"to": "bo", "amount": 500, "currency": "EUR"})
    assert MADE == []
    edit = {"decision": "edit", "patch": [{"op": "replace", "path": "/amount", "value": 400}]}
    done = or_raise(await runner(hub).resume(wait.key, answer=edit, by="ann"))
    assert done == Completed("paid 400", {"send": "paid 400"})
    assert [call[:2] for call in MADE] == [("bo", 400)]
    with pytest.raises(AlreadyResumed):
        or_raise(await runner(hub).resume(wait.key))
    # The run is the only suspension.
    assert len((await hub.query(Criteria())).items) == 1


async def test_a_response_takes_the_place_of_the_result(hub):
    wait = await started(hub)
    done = or_raise(await runner(hub).resume(wait.key, answer={"decision": "respond", "comment": "cash"}))
    assert done.result == "cash"


async def test_a_rejection_fails_the_step_and_is_not_tried_again(hub):
    wait = await started(hub, retry=3)
    rejection = {"decision": "reject", "comment": "too much"}
    with pytest.raises(FlowError, match="rejected the call of 'pay': too much"):
        or_raise(await runner(hub).resume(wait.key, answer=rejection))
    handled = {"onError": [{"id": "sorry", "tool": "note", "args": {"text": "$error.message"}}]}
    wait = await started(hub, retry=3, **handled)
    done = or_raise(await runner(hub).resume(wait.key, answer=rejection))
    assert "too much" in done.result
    assert MADE == []


async def test_a_further_attempt_makes_the_approved_call_again(hub):
    runs = FlowRunner(hub, tools=[approve(pay, hub=hub).tool], backoff=lambda failures: 0)
    wait = await started(hub, runs=runs, args={"to": "flaky", "amount": 500}, retry=2)
    edit = {"decision": "edit", "arguments": {"to": "flaky", "amount": 7}}
    assert or_raise(await runs.resume(wait.key, answer=edit)).result == "paid 7"
    assert [call[:2] for call in MADE] == [("flaky", 7)] * 2
    assert len({call[2] for call in MADE}) == 2


async def test_a_stale_approval_is_asked_anew_in_the_run(hub):
    wait = await started(hub)
    VALID[0] = False
    stale = or_raise(await runner(hub).resume(wait.key, answer=APPROVE, by="ann"))
    assert isinstance(stale, Suspended)
    (again,) = stale.waits
    assert again.key != wait.key
    assert again.awaiting.shown["stale"] == {
        "reason": "the precondition is no longer met",
        "approved_by": "ann",
        "arguments": {"to": "bo", "amount": 500, "currency": "EUR"},
    }
    with pytest.raises(WaitSuperseded):
        or_raise(await runner(hub).resume(wait.key, answer=APPROVE))
    VALID[0] = True
    # Another version of the tool needs another approval too.
    newer = runner(hub, version="9")
    stale = or_raise(await newer.resume(again.key, answer=APPROVE, by="ann"))
    assert "version" in stale.waits[0].awaiting.shown["stale"]["reason"]
    assert MADE == []
    assert or_raise(await newer.resume(stale.waits[0].key, answer=APPROVE)).result == "paid 500"


async def test_a_standing_approval_lets_the_step_pass(hub):
    await Approvals(hub).grant("pay", by="ann", arguments={"to": "bo"}, uses=1)
    done = or_raise(await runner(hub).start(document()))
    assert done.result == "paid 500"
    (use,) = [use async for use in Approvals(hub).uses()]
    assert use.arguments["amount"] == 500
    assert isinstance(or_raise(await runner(hub).start(document())), Suspended)


async def test_each_iteration_waits_for_its_own(hub):
    each = {"id": "send", "tool": "pay", "args": {"to": "bo", "amount": "$item"}}
    pay_all = {"name": "payments", "flow": [{"id": "all", "map": "$input.amounts", "with": [each], "concurrency": 3}]}
    suspended = or_raise(await runner(hub).start(pay_all, input={"amounts": [5, 500, 600]}))
    waits = {wait.step: wait for wait in suspended.waits}
    assert set(waits) == {"all[1].send", "all[2].send"}
    or_raise(await runner(hub).resume(waits["all[2].send"].key, answer=APPROVE))
    done = or_raise(await runner(hub).resume(waits["all[1].send"].key, answer=APPROVE))
    assert done.result == ["paid 5", "paid 500", "paid 600"]
    assert [call[1] for call in MADE] == [5, 600, 500]


async def test_a_document_that_calls_otherwise_asks_anew_while_nothing_is_decided(hub):
    """What was asked is what an answer approves, so that a question which stays open must be the present one."""
    pair = [{"id": "a", "tool": "await_input", "args": {"prompt": "?"}}]
    before = {"name": "p", "flow": [{"id": "both", "parallel": [pair, document()["flow"]]}]}
    after = {"name": "p", "flow": [{"id": "both", "parallel": [pair, document({"to": "cy", "amount": 600})["flow"]]}]}
    runs = FlowRunner(
        hub, tools=runner(hub).toolbox.tools.values(), migrations=[Migration(hash_of(before), hash_of(after), dict)]
    )
    first = {wait.awaiting.id: wait for wait in or_raise(await runs.start(before)).waits}
    moved = or_raise(await runs.resume(first["a"].key, answer=1, document=after))
    (wait,) = moved.waits
    assert wait.key != first["pay"].key
    assert wait.awaiting.action.arguments["amount"] == 600
    with pytest.raises(WaitSuperseded):
        or_raise(await runs.resume(first["pay"].key, answer=APPROVE))
    or_raise(await runs.resume(wait.key, answer=APPROVE))
    assert [call[:2] for call in MADE] == [("cy", 600)]


def hash_of(source):
    return compile_flow(source).unwrap().hash


@pytest.mark.parametrize("args", [{"to": "bo"}, {"to": "bo", "amount": "much"}], ids=["missing", "mistyped"])
async def test_wrong_arguments_fail_the_step_and_are_not_asked(hub, args):
    with pytest.raises(FlowError, match="input of 'pay'"):
        or_raise(await runner(hub).start(document(args)))
    assert (await hub.query(Criteria(status="waiting"))).items == ()


async def test_an_edit_that_breaks_the_schema_leaves_the_run_waiting(hub):
    wait = await started(hub)
    with pytest.raises(InputValidationError):
        or_raise(await runner(hub).resume(wait.key, answer={"decision": "edit", "arguments": {"to": "bo"}}))
    assert or_raise(await runner(hub).resume(wait.key, answer=APPROVE)).result == "paid 500"


async def test_outside_a_flow_it_is_as_a_guarded_function(hub):
    guarded = approve(pay, hub=hub)
    assert (guarded.name, guarded.tool.id, guarded.tool.input_schema) == ("pay", "pay", pay.input_schema)
    waiting = await guarded.tool(to="bo", amount=500)
    assert isinstance(waiting, ApprovalNeeded)
    assert await guarded.resume(waiting.key, answer=APPROVE, by="ann") == "paid 500"
    (made,) = MADE
    assert made == ("bo", 500, f"{waiting.id}/1")
    with pytest.raises(InputValidationError):
        await guarded.call({"to": "bo"})
