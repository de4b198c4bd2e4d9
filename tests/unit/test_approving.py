"""Which calls a rule lets through, and what ``approve`` refuses before anything is asked or called."""

from __future__ import annotations

import asyncio
import inspect
from dataclasses import dataclass
from datetime import date, timedelta

import pytest
import pytest_asyncio

from flowpersist import RaisingHub, or_raise
from flowpersist.errors import (
    ConfigurationError,
    InputValidationError,
    KeyValidationError,
    MalformedPayload,
    SuspensionCancelled,
)
from flowpersist.testing.hubs import open_test_hub, travel
from flowpersist.tools import ApprovalNeeded, Call, Rejected, ToolContext, approve, await_input
from flowpersist.tools.terms import digest_of_question
from flowpersist.tools.waiting import Waiting, metadata_of

MADE: list[object] = []


@dataclass
class Address:
    street: str
    number: int = 1


async def pay(to: str, amount: float, context: ToolContext, due: date | None = None, currency: str = "EUR") -> str:
    """Pay somebody.

    More of it.
    """
    MADE.append((to, amount, due, currency, context.key))
    return f"paid {amount}"


async def move(where: Address, **more: int) -> object:
    MADE.append((where, more))
    return where


@pytest_asyncio.fixture(loop_scope="module")
async def hub():
    MADE.clear()
    async with open_test_hub("memory://") as opened:
        yield RaisingHub(opened)


def raises(call):
    raise ZeroDivisionError


async def raises_later(call):
    await asyncio.sleep(0)
    raise KeyError


async def cancelled(call):
    raise asyncio.CancelledError


async def says_false(call):
    return False


def exits(call):
    raise BaseExceptionGroup("", [ValueError()])


AMOUNT = {"properties": {"amount": {"exclusiveMinimum": 100}}, "required": ["amount"]}
RULES = {
    "all": (True, True),
    "none": (False, False),
    "more": (lambda call: call.arguments["amount"] > 100, True),
    "less": (lambda call: call.arguments["amount"] < 100, False),
    "async": (says_false, False),
    "schema fits": (AMOUNT, True),
    "schema does not": ({"properties": {"amount": {"exclusiveMinimum": 900}}, "required": ["amount"]}, False),
    "by default's value": (lambda call: call.arguments["currency"] != "EUR", False),
    # Doubt asks a person.
    "raises": (raises, True),
    "raises later": (raises_later, True),
    "cancels itself": (cancelled, True),
    "group": (exits, True),
    "zero": (lambda call: 0, True),
    "nothing": (lambda call: None, True),
    "text": (lambda call: "no", True),
    "empty": (lambda call: [], True),
}


@pytest.mark.parametrize("name", RULES)
async def test_only_a_rule_that_says_false_lets_a_call_through(hub, name):
    when, asks = RULES[name]
    guarded = approve(pay, hub=hub, when=when)
    told = await guarded(to="bo", amount=500)
    assert isinstance(told, ApprovalNeeded) is asks
    assert len(MADE) == (0 if asks else 1)
    assert asks or told == "paid 500"


@pytest.mark.parametrize(
    "valid", [raises, raises_later, lambda call: 1, lambda call: None, lambda call: "yes"], ids=range(5)
)
async def test_a_precondition_that_says_anything_but_true_makes_it_stale(hub, valid):
    guarded = approve(pay, hub=hub, still_valid=valid)
    waiting = await guarded(to="bo", amount=500)
    stale = await guarded.resume(waiting.key, answer={"decision": "approve"}, by="ann")
    assert isinstance(stale, ApprovalNeeded)
    assert stale.stale
    assert MADE == []


async def test_a_rule_that_is_cancelled_from_outside_ends_the_call(hub):
    began = asyncio.Event()

    async def slow(call):
        began.set()
        await asyncio.sleep(60)
        return False

    going = asyncio.create_task(approve(pay, hub=hub, when=slow)(to="bo", amount=1))
    await began.wait()
    going.cancel()
    with pytest.raises(asyncio.CancelledError):
        await going
    assert MADE == []


async def test_the_guarded_function_looks_like_the_function(hub):
    guarded = approve(pay, hub=hub, when=False)
    assert (guarded.name, guarded.description) == ("pay", "Pay somebody.")
    assert guarded.tool.__name__ == "pay"
    assert guarded.tool.__doc__ == pay.__doc__
    assert list(inspect.signature(guarded.tool).parameters) == ["to", "amount", "due", "currency"]
    assert guarded.schema["required"] == ["to", "amount"]
    assert await guarded.tool("bo", 5) == await guarded("bo", amount=5) == "paid 5"
    assert MADE[0][:4] == ("bo", 5, None, "EUR")


async def test_objects_come_to_the_function_as_they_were_given(hub):
    guarded = approve(move, hub=hub)
    waiting = await guarded(Address("Main"), extra=7)
    (wait,) = waiting.suspension.waits
    assert wait.awaiting.action.arguments == {"where": {"street": "Main", "number": 1}, "extra": 7}
    edit = {"decision": "edit", "patch": [{"op": "replace", "path": "/where/number", "value": 3}]}
    assert await guarded.resume(waiting.key, answer=edit, by="ann") == Address("Main", 3)
    waiting = await approve(pay, hub=hub)(to="bo", amount=1, due=date(2027, 1, 31))
    await approve(pay, hub=hub).resume(waiting.key, answer={"decision": "approve"})
    assert MADE[-1][2] == date(2027, 1, 31)


BROKEN = {
    "missing": {"to": "bo"},
    "of another type": {"to": "bo", "amount": "much"},
    "unknown": {"to": "bo", "amount": 1, "more": 2},
    "not JSON": {"to": "bo", "amount": 1, "currency": timedelta},
    "a number that is none": {"to": "bo", "amount": float("nan")},
}


@pytest.mark.parametrize("when", [True, False])
@pytest.mark.parametrize("name", BROKEN)
async def test_arguments_that_break_the_schema_are_refused_and_nothing_is_asked(hub, name, when):
    guarded = approve(pay, hub=hub, when=when)
    with pytest.raises(InputValidationError, match="arguments of 'pay'"):
        await guarded.call(BROKEN[name])
    with pytest.raises((InputValidationError, TypeError)):
        await guarded(**BROKEN[name])
    assert MADE == []
    assert (await hub.query()).items == ()


def plain(to: str) -> None:
    raise AssertionError


WRONG = {
    "a plain function": (plain, {}, TypeError, "async"),
    "no function": (7, {}, TypeError, "tool"),
    "a rule that is none": (pay, {"when": "amount > 100"}, TypeError, "when"),
    "a rule that is no schema": (pay, {"when": {"amount": 100}}, ConfigurationError, "amount"),
    "a misspelled rule": (pay, {"when": {"properties": {"amount": {"maximun": 1}}}}, ConfigurationError, "maximun"),
    "silence that approves": (pay, {"default": {"decision": "approve"}}, ConfigurationError, "silence"),
    "a default that is no answer": (pay, {"default": 7}, ConfigurationError, "default"),
    "a decision that is none": (pay, {"allow": ["maybe"]}, ConfigurationError, "allow"),
    "an unknown option": (pay, {"expires": 7}, TypeError, "expires"),
    "a schema that is none": (pay, {"schema": {"type": "nonsense"}}, ConfigurationError, "schema"),
    "a precondition that is none": (pay, {"still_valid": 7}, TypeError, "still_valid"),
    "a name that is too long": (pay, {"name": "n" * 300}, ConfigurationError, "name"),
    "a policy that is no text": (pay, {"policy": 3}, TypeError, "policy"),
    "a lease that is none": (pay, {"lease": timedelta(0)}, ConfigurationError, "lease"),
}


@pytest.mark.parametrize("name", WRONG)
async def test_what_cannot_be_asked_is_refused_when_the_tool_is_wrapped(hub, name):
    tool, options, error, said = WRONG[name]
    with pytest.raises(error, match=said):
        approve(tool, hub=hub, **options)


async def test_a_key_of_something_else_is_refused_and_stays_as_it_was(hub):
    async def refund(amount: int) -> int:
        raise AssertionError

    waiting = await approve(refund, hub=hub)(amount=5)
    other = await hub.suspend(1, awaiting=await_input.confirmation("?"))
    for key, said in ((waiting.key, "refund"), (other.key, "not of suspension")):
        with pytest.raises(KeyValidationError, match=said):
            await approve(pay, hub=hub).resume(key, answer={"decision": "approve"})
    with pytest.raises(KeyValidationError):
        await approve(pay, hub=hub).resume("no key")
    assert [one.status for one in (await hub.query()).items] == ["waiting", "waiting"]


async def test_the_options_of_a_question_are_its_own(hub):
    """Identical requests wait together whenever they come, and silence rejects."""
    silence = {"decision": "reject", "comment": "nobody decided"}
    options = {"expires_in": timedelta(days=1), "reminders": [timedelta(hours=1)], "default": silence}
    guarded = approve(pay, hub=hub, allow=["approve", "reject"], explain_rejection=True, title="$to", **options)
    waiting = await guarded(to="bo", amount=5)
    travel(hub.hub, timedelta(hours=23))
    assert (await guarded(to="bo", amount=5)).key == waiting.key
    asked = waiting.suspension.open_waits[0].awaiting
    assert (asked.title, asked.reminders) == ("bo", (timedelta(hours=1),))
    for refused in ({"decision": "edit", "arguments": {"to": "bo", "amount": 1}}, {"decision": "reject"}):
        with pytest.raises(InputValidationError):
            await guarded.resume(waiting.key, answer=refused)
    travel(hub.hub, timedelta(hours=2))
    told = await guarded.resume(waiting.key)
    assert (told, told.by) == (Rejected("pay", waiting.id, "nobody decided", "system"), "system")
    assert MADE == []


async def test_an_answer_to_a_question_about_another_call_approves_nothing(hub):
    """Whoever may answer can write the head, where the question is, and not the state."""
    guarded = approve(pay, hub=hub)
    terms = guarded.terms
    meant, shown = (or_raise(terms.call({"to": "bo", "amount": n}, None, None)) for n in (9000, 1))
    digest = digest_of_question(terms.question(meant).to_data())
    state = Waiting(meant, "pay", digest, "request", "token").content()
    forged = await hub.suspend(state, awaiting=terms.question(shown), metadata=metadata_of("pay", None))
    asked = await guarded.resume(forged.key, answer={"decision": "approve"}, by="ann")
    assert isinstance(asked, ApprovalNeeded)
    assert "another question" in asked.stale
    assert asked.suspension.open_waits[0].awaiting.action.arguments["amount"] == 9000
    assert MADE == []


@pytest.mark.parametrize(
    "state", [{}, [], "text", {"format": 2}, {"format": 1}, {"format": 1, "call": {}}], ids=range(6)
)
async def test_a_state_that_is_no_call_is_named_and_stays(hub, state):
    guarded = approve(pay, hub=hub)
    call = or_raise(guarded.terms.call({"to": "bo", "amount": 1}, None, None))
    odd = await hub.suspend(state, awaiting=guarded.terms.question(call), metadata=metadata_of("pay", None))
    with pytest.raises(MalformedPayload):
        await guarded.resume(odd.key, answer={"decision": "approve"}, by="ann")
    assert MADE == []


async def test_the_approvals_of_tenants_are_apart(hub):
    ours, theirs = approve(pay, hub=hub, tenant="a"), approve(pay, hub=hub, tenant="b")
    neither = approve(pay, hub=hub)
    waiting = [await one(to="bo", amount=5) for one in (ours, theirs, neither)]
    assert len({one.id for one in waiting}) == 3
    await ours.approvals.grant("pay", by="ann", arguments={"amount": 7}, uses=9)
    assert await ours(to="bo", amount=7) == "paid 7"
    for other in (theirs, neither):
        assert isinstance(await other(to="bo", amount=7), ApprovalNeeded)
        with pytest.raises(KeyValidationError, match="tenant"):
            await other.resume(waiting[0].key, answer={"decision": "approve"})
    assert await ours.resume(waiting[0].key, answer={"decision": "approve"}) == "paid 5"


async def test_arguments_that_are_too_large_to_be_shown_are_refused(hub):
    guarded = approve(pay, hub=hub)
    with pytest.raises(InputValidationError, match="can't be shown"):
        await guarded(to="\x01" * 200_000, amount=5)
    with pytest.raises(InputValidationError, match="arguments of 'pay'"):
        await guarded(to="b" * 3_000_000, amount=5)


async def test_a_prompt_that_names_a_missing_argument_is_refused(hub):
    guarded = approve(pay, hub=hub, prompt="Pay by $when?")
    with pytest.raises(InputValidationError, match="when"):
        await guarded(to="bo", amount=5)
    assert MADE == []


async def test_what_a_model_is_told_holds_no_key(hub):
    waiting = await approve(pay, hub=hub)(to="bo", amount=5)
    assert str(waiting) == f"The call of 'pay' was not made: it waits for a person's approval (request {waiting.id})."
    for text in (str(waiting), repr(waiting)):
        assert str(waiting.key) not in text
    assert str(Rejected("pay", waiting.id, "no", "ann")) == "A person has rejected the call of 'pay': no"
    or_raise(await hub.hub.cancel(waiting.key))
    with pytest.raises(SuspensionCancelled):
        await approve(pay, hub=hub).resume(waiting.key)


def test_the_digest_of_a_call_tells_calls_apart():
    call = Call("pay", {"amount": 5, "to": "bo"}, "1", "p", "agent", "chat")
    assert call.digest == Call("pay", {"to": "bo", "amount": 5.0}, "1", "p").digest
    others = [
        Call("pay2", {"amount": 5, "to": "bo"}, "1", "p"),
        Call("pay", {"amount": 6, "to": "bo"}, "1", "p"),
        Call("pay", {"amount": 5, "to": "bo"}, "2", "p"),
        Call("pay", {"amount": 5, "to": "bo"}, "1", "q"),
        Call("pay", {"amount": 5, "to": "bo"}, None, "p"),
    ]
    assert len({call.digest, *(one.digest for one in others)}) == 6


async def test_a_call_that_is_cancelled_leaves_its_approval_to_the_next(hub):
    began, calls = asyncio.Event(), []

    async def slow(context: ToolContext) -> str:
        calls.append(context.key)
        began.set()
        await asyncio.sleep(0 if len(calls) > 1 else 60)
        return "done"

    guarded = approve(slow, hub=hub)
    waiting = await guarded.call({})
    await hub.answer(waiting.key, {"decision": "approve"}, by="ann")
    going = asyncio.create_task(guarded.resume(waiting.key))
    await began.wait()
    going.cancel()
    with pytest.raises(asyncio.CancelledError):
        await going
    assert await guarded.resume(waiting.key) == "done"
    assert calls == [f"{waiting.id}/1"] * 2
