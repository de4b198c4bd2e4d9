"""Guarded tools of other ecosystems, called as their own packages call them: they stay native, and a call that was
approved goes on in their own way.
"""

from __future__ import annotations

import json

import pytest
from agents import Agent, FunctionTool, Runner, function_tool
from agents.items import ModelResponse
from agents.models.interface import Model
from agents.tool_context import ToolContext as AgentsContext
from agents.usage import Usage
from langchain_core.tools import BaseTool, StructuredTool
from langchain_core.tools import tool as langchain_tool
from langchain_core.utils.function_calling import convert_to_openai_tool
from openai.types.responses import ResponseFunctionToolCall, ResponseOutputMessage, ResponseOutputText
from pydantic import BaseModel
from pydantic_ai import Agent as PydanticAgent
from pydantic_ai import RunContext, Tool
from pydantic_ai.messages import ModelResponse as PydanticResponse
from pydantic_ai.messages import TextPart, ToolCallPart, ToolReturnPart
from pydantic_ai.models.function import FunctionModel

from flowpersist import Criteria, RaisingHub
from flowpersist.errors import ConfigurationError
from flowpersist.testing.hubs import open_test_hub
from flowpersist.tools import Rejected, approve

MADE: list[object] = []
APPROVE = {"decision": "approve"}
CALL = {"to": "bo", "amount": 500}


@pytest.fixture
async def hub():
    MADE.clear()
    async with open_test_hub("memory://") as opened:
        yield RaisingHub(opened)


@function_tool
async def agents_pay(to: str, amount: int) -> str:
    """Pay somebody."""
    MADE.append((to, amount))
    return f"paid {amount}"


@langchain_tool
async def langchain_pay(to: str, amount: int, currency: str = "EUR") -> str:
    """Pay somebody."""
    MADE.append((to, amount))
    return f"paid {amount}"


class Payment(BaseModel):
    to: str
    amount: int


class PayTool(BaseTool):
    name: str = "class_pay"
    description: str = "Pay somebody."
    args_schema: type[BaseModel] = Payment

    def _run(self, to: str, amount: int) -> str:
        MADE.append((to, amount))
        return f"paid {amount}"


async def pydantic_pay(to: str, amount: int) -> str:
    """Pay somebody."""
    MADE.append((to, amount))
    return f"paid {amount}"


async def pydantic_pay_in_context(context: RunContext[str], to: str, amount: int) -> str:
    """Pay somebody."""
    MADE.append((to, amount, context.deps))
    return f"paid {amount}"


TOOLS = {
    "openai-agents": agents_pay,
    "langchain": langchain_pay,
    "langchain class": PayTool(),
    "pydantic-ai": Tool(pydantic_pay, max_retries=3),
}


async def called(tool, arguments):
    """The call as the ecosystem makes it; what the model is told."""
    if isinstance(tool, FunctionTool):
        text = json.dumps(arguments)
        context = AgentsContext(None, tool_name=tool.name, tool_call_id="c1", tool_arguments=text)
        return await tool.on_invoke_tool(context, text)
    if isinstance(tool, BaseTool):
        message = await tool.ainvoke({"type": "tool_call", "id": "c1", "name": tool.name, "args": arguments})
        return message.content
    schema = tool.function_schema
    return await schema.call(schema.validator.validate_python(arguments), None)


def shown(tool):
    """What a model sees of it."""
    if isinstance(tool, FunctionTool):
        return (tool.name, tool.description, tool.params_json_schema, tool.strict_json_schema)
    if isinstance(tool, BaseTool):
        return convert_to_openai_tool(tool)
    return (tool.name, tool.description, tool.function_schema.json_schema, tool.max_retries, tool.strict)


@pytest.mark.parametrize("name", TOOLS)
async def test_a_guarded_tool_stays_native_and_goes_on_as_approved(hub, name):
    guarded = approve(TOOLS[name], hub=hub, when=lambda call: call.arguments["amount"] > 100)
    assert shown(guarded.tool) == shown(TOOLS[name])
    assert isinstance(guarded.tool, StructuredTool if "langchain" in name else type(TOOLS[name]))
    assert await called(guarded.tool, {"to": "bo", "amount": 5}) == "paid 5"
    told = await called(guarded.tool, CALL)
    assert "waits for a person's approval" in told
    assert MADE == [("bo", 5)]
    # What waits is found in the hub: the model was told its id, and no key.
    (waiting,) = (await hub.query(Criteria(tool=guarded.name))).items
    assert str(waiting.id) in told
    keys = await hub.keys(waiting.id)
    assert str(keys[guarded.name]) not in told
    edit = {"decision": "edit", "arguments": {"to": "bo", "amount": 400}}
    assert await guarded.resume(keys[guarded.name], answer=edit, by="ann") == "paid 400"
    assert MADE == [("bo", 5), ("bo", 400)]
    # The next one is rejected, and the model is told at the same call.
    await called(guarded.tool, CALL)
    (waiting,) = (await hub.query(Criteria(tool=guarded.name, status="waiting"))).items
    await hub.answer(waiting.id, {"decision": "reject", "comment": "too much"}, by="ann")
    assert await called(guarded.tool, CALL) == str(Rejected(guarded.name, waiting.id, "too much"))
    # The unguarded one is as it was.
    assert await called(TOOLS[name], CALL) == "paid 500"


async def test_a_model_of_openai_agents_is_told_of_wrong_arguments(hub):
    guarded = approve(agents_pay, hub=hub)
    for text in ('{"to": "bo"}', "no JSON", "[1]", '{"to": 1, "amount": 2}'):
        context = AgentsContext(None, tool_name="agents_pay", tool_call_id="c1", tool_arguments=text)
        assert "the arguments of 'agents_pay'" in await guarded.tool.on_invoke_tool(context, text)
    assert MADE == []


async def test_a_tool_that_takes_the_context_gets_it_on_resume(hub):
    guarded = approve(Tool(pydantic_pay_in_context), hub=hub)
    waiting = await guarded.call(CALL)
    with pytest.raises(ConfigurationError, match="RunContext"):
        await guarded.resume(waiting.key, answer=APPROVE, by="ann")

    class Context:
        deps = "mine"

    assert await guarded.resume(waiting.key, extra=Context()) == "paid 500"
    assert MADE == [("bo", 500, "mine")]


async def test_names_of_a_native_tool_are_its_own(hub):
    with pytest.raises(ConfigurationError, match="name"):
        approve(agents_pay, hub=hub, name="other")
    for wrong in (FunctionTool, object(), {"name": "pay"}, "pay"):
        with pytest.raises(TypeError, match="tool"):
            approve(wrong, hub=hub)


class Scripted(Model):
    """A model that calls the tool and then repeats what it was told."""

    async def get_response(self, system_instructions, input, *args, **kwargs):
        last = input[-1] if isinstance(input, list) else None
        if isinstance(last, dict) and last.get("type") == "function_call_output":
            text = ResponseOutputText(type="output_text", text=str(last["output"]), annotations=[])
            item = ResponseOutputMessage(id="m", type="message", role="assistant", status="completed", content=[text])
        else:
            item = ResponseFunctionToolCall(
                type="function_call", call_id="c1", name="agents_pay", arguments=json.dumps(CALL)
            )
        return ModelResponse(output=[item], usage=Usage(), response_id=None)

    def stream_response(self, *args, **kwargs):
        raise NotImplementedError


async def test_an_agent_of_openai_calls_it(hub):
    guarded = approve(agents_pay, hub=hub)
    agent = Agent(name="payer", tools=[guarded.tool], model=Scripted())
    said = (await Runner.run(agent, "Pay bo")).final_output
    assert "waits for a person's approval" in said
    (waiting,) = (await hub.query(Criteria(tool="agents_pay"))).items
    await hub.answer(waiting.id, APPROVE, by="ann")
    assert (await Runner.run(agent, "Pay bo")).final_output == "paid 500"
    assert MADE == [("bo", 500)]


async def test_an_agent_of_pydantic_ai_calls_it(hub):
    def model(messages, info):
        last = messages[-1].parts[-1]
        if isinstance(last, ToolReturnPart):
            return PydanticResponse(parts=[TextPart(str(last.content))])
        return PydanticResponse(parts=[ToolCallPart("pydantic_pay_in_context", CALL)])

    guarded = approve(Tool(pydantic_pay_in_context), hub=hub)
    agent = PydanticAgent(FunctionModel(model), deps_type=str, tools=[guarded.tool])
    assert "waits for a person's approval" in (await agent.run("Pay bo", deps="mine")).output
    (waiting,) = (await hub.query(Criteria(tool="pydantic_pay_in_context"))).items
    await hub.answer(waiting.id, APPROVE, by="ann")
    assert (await agent.run("Pay bo", deps="mine")).output == "paid 500"
    assert MADE == [("bo", 500, "mine")]
