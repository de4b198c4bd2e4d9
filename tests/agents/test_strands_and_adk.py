"""Questions in the forms of Strands and of Google's ADK, taken by the packages themselves."""

from __future__ import annotations

import json

import pytest
from google.adk.events.request_input import RequestInput
from google.adk.tools.tool_confirmation import ToolConfirmation
from strands import Agent, tool
from strands.hooks import BeforeToolCallEvent
from strands.interrupt import Interrupt
from strands.models import Model

from flowpersist import AwaitInput, InputValidationError
from flowpersist.inputs import Action
from flowpersist.tools import await_input

SHIP = AwaitInput(id="ship_order", prompt="Ship it?", title="Shipping", schema=bool, shown={"order": 7})
REFUND = await_input.approval("Refund?", Action("refund", {"amount": 20}))


@pytest.mark.parametrize("awaiting", [SHIP, REFUND], ids=lambda one: one.id)
def test_an_interrupt_of_strands(awaiting):
    form = awaiting.to_strands("i1")
    interrupt = Interrupt(**form)
    assert interrupt.to_dict() == {**form, "response": None}
    assert json.loads(json.dumps(form)) == form
    assert form["reason"]["prompt"] == awaiting.prompt


class ScriptedModel(Model):
    """A model that calls one tool, and ends once it has the result."""

    def update_config(self, **_):
        pass

    def get_config(self):
        return {}

    def structured_output(self, *_, **__):
        raise NotImplementedError

    async def stream(self, messages, *_, **__):
        called = any("toolResult" in block for message in messages for block in message["content"])
        yield {"messageStart": {"role": "assistant"}}
        if called:
            yield {"contentBlockStart": {"start": {}}}
            yield {"contentBlockDelta": {"delta": {"text": "done"}}}
        else:
            yield {"contentBlockStart": {"start": {"toolUse": {"toolUseId": "c1", "name": "ship"}}}}
            yield {"contentBlockDelta": {"delta": {"toolUse": {"input": '{"order": 7}'}}}}
        yield {"contentBlockStop": {}}
        yield {"messageStop": {"stopReason": "end_turn" if called else "tool_use"}}


@pytest.mark.parametrize("answer", [True, False])
async def test_a_question_interrupts_an_agent_of_strands_and_its_answer_goes_on(answer):
    shipped = []

    @tool
    def ship(order: int) -> str:
        """Ship an order."""
        shipped.append(order)
        return "shipped"

    def ask(event: BeforeToolCallEvent):
        form = SHIP.to_strands("given by Strands")
        if not event.interrupt(form["name"], reason=form["reason"]):
            event.cancel_tool = "a person refused this call"

    agent = Agent(model=ScriptedModel(), tools=[ship], callback_handler=None)
    agent.add_hook(ask, BeforeToolCallEvent)
    result = await agent.invoke_async("ship order 7")
    assert result.stop_reason == "interrupt"
    (interrupt,) = result.interrupts
    assert interrupt.name == "ship_order"
    assert interrupt.reason["prompt"] == "Ship it?"
    block = {"interruptResponse": {"interruptId": interrupt.id, "response": answer}}
    assert SHIP.from_strands(block, interrupt.id).unwrap().value is answer
    assert (await agent.invoke_async([block])).stop_reason == "end_turn"
    assert shipped == ([7] if answer else [])


@pytest.mark.parametrize(
    "bad",
    [
        7,
        {},
        {"interruptResponse": 7},
        {"interruptResponse": {"interruptId": "i1"}},
        {"interruptResponse": {"response": 1}},
    ],
    ids=["number", "empty", "no object", "no response", "no id"],
)
def test_a_response_that_is_none_of_the_interrupts_is_refused(bad):
    assert isinstance(SHIP.from_strands(bad, "i1").failure(), InputValidationError)


@pytest.mark.parametrize("awaiting", [SHIP, REFUND], ids=lambda one: one.id)
def test_a_request_for_input_of_adk(awaiting):
    form = awaiting.to_adk("i1")
    validated = RequestInput.model_validate(form)
    assert validated.model_dump(mode="json", by_alias=True, exclude_unset=True) == form


def test_what_adk_sends_back():
    assert SHIP.from_adk({"response": "true"}).unwrap().value is True
    assert SHIP.from_adk(True).unwrap().value is True
    assert SHIP.from_adk({"response": "in words"}).unwrap().value == "in words"
    for confirmed, decision in ((True, "approve"), (False, "reject")):
        confirmation = ToolConfirmation(confirmed=confirmed)
        for given in (confirmation, {"response": confirmation.model_dump_json(by_alias=True)}):
            reply = REFUND.from_adk(given).unwrap()
            assert reply.value == {"decision": decision}
            REFUND.check(reply.value).unwrap()
    assert isinstance(REFUND.from_adk({"confirmed": "yes"}).failure(), InputValidationError)
