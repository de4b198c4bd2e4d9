"""Messages of model SDKs as agents keep them, made by the SDKs themselves: tool calls, images, streams and errors."""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from typing import Any

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4nGNgYGBgAAAABQABpfZFQAAAAABJRU5ErkJggg=="
)
DATA_URL = "data:image/png;base64," + base64.b64encode(PNG).decode()


def http() -> Any:
    """The HTTP package that the imported SDK uses."""
    return sys.modules.get("httpx2") or sys.modules["httpx"]


def answering(*replies: tuple[int, object]) -> Any:
    """A client that gives these replies, one after another; a text is sent as a stream of events."""
    left = list(replies)

    def reply(request: Any) -> Any:
        status, body = left.pop(0)
        headers = {"x-request-id": "req_1", "request-id": "req_1"}
        if isinstance(body, str):
            return http().Response(status, text=body, headers={**headers, "content-type": "text/event-stream"})
        return http().Response(status, json=body, headers=headers)

    return http().Client(transport=http().MockTransport(reply))


def events(*data: dict[str, Any], named: bool = False) -> str:
    return "".join((f"event: {one['type']}\n" if named else "") + f"data: {json.dumps(one)}\n\n" for one in data) + (
        "" if named else "data: [DONE]\n\n"
    )


def langchain() -> list[Any]:
    from langchain_core.agents import AgentAction, AgentFinish
    from langchain_core.documents import Document
    from langchain_core.exceptions import OutputParserException
    from langchain_core.messages import (
        AIMessage,
        AIMessageChunk,
        HumanMessage,
        RemoveMessage,
        SystemMessage,
        ToolMessage,
        trim_messages,
    )
    from langchain_core.outputs import ChatGeneration, ChatResult, Generation, LLMResult
    from langchain_core.prompts import ChatPromptTemplate

    picture = {"type": "image", "base64": base64.b64encode(PNG).decode(), "mime_type": "image/png"}
    call = {"name": "ship", "args": {"order": 7}, "id": "call_1", "type": "tool_call"}
    failed = {"name": "ship", "args": "{", "id": "call_2", "error": "no JSON", "type": "invalid_tool_call"}
    chunks = [
        AIMessageChunk("", tool_call_chunks=[{"name": name, "args": args, "id": "c", "index": 0}])
        for name, args in (("ship", '{"ord'), (None, 'er": 7}'))
    ]
    messages = [
        SystemMessage("You ship orders."),
        HumanMessage([{"type": "text", "text": "Ship this"}, picture], name="ana", id="m1"),
        AIMessage(
            "",
            tool_calls=[call],
            invalid_tool_calls=[failed],
            usage_metadata={"input_tokens": 9, "output_tokens": 2, "total_tokens": 11},
            response_metadata={"model_name": "m", "logprobs": None},
        ),
        ToolMessage("shipped", tool_call_id="call_1", artifact={"order": (7, b"raw")}),
        ToolMessage("OutOfStock: 7", tool_call_id="call_2", status="error"),
        chunks[0] + chunks[1],
        RemoveMessage(id="m1"),
    ]
    return [
        *messages,
        trim_messages(messages[:3], max_tokens=10, token_counter=len, strategy="last"),
        Document("page", metadata={"source": "a.pdf", "page": 3}),
        ChatResult(generations=[ChatGeneration(message=AIMessage("done"))], llm_output={"tokens": 3}),
        LLMResult(generations=[[Generation(text="done")]]),
        ChatPromptTemplate.from_messages([("human", "{q}")]).invoke({"q": "why"}),
        AgentAction("ship", {"order": 7}, "log"),
        AgentFinish({"output": "done"}, "log"),
        OutputParserException("no JSON", observation="try again", llm_output="{", send_to_llm=True),
    ]


CHAT = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [
        {
            "index": 0,
            "finish_reason": "tool_calls",
            "logprobs": None,
            "message": {
                "role": "assistant",
                "content": None,
                "refusal": None,
                "a_field_of_a_later_api": [1],
                "tool_calls": [
                    {"id": "call_1", "type": "function", "function": {"name": "ship", "arguments": '{"order": 7}'}}
                ],
            },
        }
    ],
    "usage": {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11},
}
CHUNK = {
    "id": "chatcmpl-1",
    "object": "chat.completion.chunk",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "delta": {"role": "assistant", "content": "do"}, "finish_reason": None}],
}
RESPONSE = {
    "id": "resp_1",
    "object": "response",
    "created_at": 1.0,
    "model": "m",
    "status": "completed",
    "error": None,
    "incomplete_details": None,
    "instructions": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "temperature": 1.0,
    "tool_choice": "auto",
    "top_p": 1.0,
    "tools": [{"type": "function", "name": "ship", "parameters": {"type": "object"}, "strict": True}],
    "output": [
        {"id": "rs_1", "type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]},
        {
            "id": "fc_1",
            "type": "function_call",
            "call_id": "call_1",
            "name": "ship",
            "arguments": '{"order": 7}',
            "status": "completed",
        },
        {"id": "ig_1", "type": "image_generation_call", "status": "completed", "result": DATA_URL},
        {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": "done", "annotations": []}],
        },
    ],
    "usage": {
        "input_tokens": 9,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": 2,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 11,
    },
}
TEXT_DELTA = {
    "type": "response.output_text.delta",
    "item_id": "msg_1",
    "output_index": 3,
    "content_index": 0,
    "delta": "do",
    "sequence_number": 4,
    "logprobs": [],
}


def openai() -> list[Any]:
    import openai
    import pydantic

    class Order(pydantic.BaseModel):
        order: int

    failed = {"error": {"message": "slow down", "code": "rate_limit_exceeded", "type": "requests", "param": None}}
    client = openai.OpenAI(
        api_key="a-secret-key",
        max_retries=0,
        http_client=answering(
            (200, CHAT), (200, events(CHUNK)), (200, RESPONSE), (200, events(TEXT_DELTA, named=True)), (429, failed)
        ),
    )
    asked: list[Any] = [
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": DATA_URL}}]},
    ]
    kept: list[Any] = [*asked, client.chat.completions.create(model="m", messages=asked)]
    kept += list(client.chat.completions.create(model="m", messages=asked, stream=True))
    response = client.responses.create(model="m", input="ship")
    kept += [response, *response.output, {"type": "function_call_output", "call_id": "call_1", "output": "ok"}]
    kept += list(client.responses.create(model="m", input="ship", stream=True))
    try:
        client.chat.completions.create(model="m", messages=asked)
    except openai.APIStatusError as error:
        kept += [error]
    return [*kept, openai.APITimeoutError(http().Request("POST", "https://api.example/v1"))]


MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "m",
    "content": [
        {"type": "thinking", "thinking": "hm", "signature": "s"},
        {"type": "text", "text": "I ship it", "citations": None},
        {"type": "tool_use", "id": "toolu_1", "name": "ship", "input": {"order": 7, "lines": [1, 2]}},
    ],
    "stop_reason": "tool_use",
    "stop_sequence": None,
    "usage": {"input_tokens": 9, "output_tokens": 2},
}
STREAM = [
    {"type": "message_start", "message": {**MESSAGE, "content": []}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "do"}},
    {"type": "content_block_stop", "index": 0},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}},
    {"type": "message_stop"},
]


def anthropic() -> list[Any]:
    import anthropic

    failed = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    client = anthropic.Anthropic(
        api_key="a-secret-key",
        max_retries=0,
        http_client=answering((200, MESSAGE), (200, events(*STREAM, named=True)), (200, MESSAGE), (529, failed)),
    )
    source = {"type": "base64", "media_type": "image/png", "data": base64.b64encode(PNG).decode()}
    asked: list[Any] = [{"role": "user", "content": [{"type": "image", "source": source}]}]
    message = client.messages.create(model="m", max_tokens=9, messages=asked)
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "no stock", "is_error": True}
    kept: list[Any] = [
        *asked,
        message,
        {"role": "assistant", "content": message.content},
        {"role": "user", "content": [result]},
    ]
    with client.messages.stream(model="m", max_tokens=9, messages=asked) as stream:
        kept += list(stream)
        kept += [stream.get_final_message()]
    kept += [client.beta.messages.create(model="m", max_tokens=9, messages=asked)]
    try:
        client.messages.create(model="m", max_tokens=9, messages=asked)
    except anthropic.APIStatusError as error:
        kept += [error]
    return kept


def mcp() -> list[Any]:
    from mcp import types
    from mcp.shared import exceptions

    image = base64.b64encode(PNG).decode()
    error = {"code": -32600, "message": "Invalid Request", "data": {"why": [1]}}
    raised = getattr(exceptions, "MCPError", None) or exceptions.McpError
    made = raised(**error) if raised.__name__ == "MCPError" else raised(types.ErrorData(**error))
    return [
        types.Tool(name="ship", inputSchema={"type": "object", "properties": {"order": {"type": "integer"}}}),
        types.CallToolResult(
            content=[
                types.TextContent(type="text", text="shipped"),
                types.ImageContent(type="image", data=image, mimeType="image/png"),
                types.EmbeddedResource(
                    type="resource",
                    resource=types.TextResourceContents(uri="file:///a.txt", mimeType="text/plain", text="a"),
                ),
            ],
            structuredContent={"order": 7},
        ),
        types.CallToolResult(content=[types.TextContent(type="text", text="no stock")], isError=True),
        types.PromptMessage(role="user", content=types.TextContent(type="text", text="hi")),
        types.ErrorData(**error),
        made,
    ]


def google_genai() -> list[Any]:
    from google.genai import errors, types

    called = {"name": "ship", "args": {"order": 7}, "id": "1"}
    answered = {"role": "model", "parts": [{"text": "I ship it", "thought_signature": b"s"}, {"function_call": called}]}
    response = types.GenerateContentResponse.model_validate(
        {
            "candidates": [{"content": answered, "finish_reason": "STOP", "safety_ratings": []}],
            "usage_metadata": {"prompt_token_count": 9, "total_token_count": 11},
            "model_version": "m",
        }
    )
    failed = {"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "slow down"}}
    return [
        types.Content(role="user", parts=[types.Part.from_bytes(data=PNG, mime_type="image/png")]),
        response,
        response.candidates[0].content,
        types.Part.from_function_response(name="ship", response={"error": "no stock"}),
        types.GenerateContentConfig(temperature=0.5, tools=[types.Tool(google_search=types.GoogleSearch())]),
        errors.ClientError(429, failed),
    ]


def pydantic_ai() -> list[Any]:
    from pydantic_ai import Agent, BinaryContent, DeferredToolRequests, ImageUrl, ModelRetry
    from pydantic_ai.exceptions import ModelHTTPError
    from pydantic_ai.messages import ModelResponse, TextPart, ThinkingPart, ToolCallPart
    from pydantic_ai.models.function import FunctionModel

    def reply(messages: list[Any], _info: Any) -> ModelResponse:
        turn = sum(isinstance(one, ModelResponse) for one in messages)
        call = ToolCallPart("ship", {"order": 7 - turn}, tool_call_id=f"call_{turn}")
        if turn < 2:
            return ModelResponse([ThinkingPart("hm", signature="s"), call])
        return ModelResponse([TextPart("done")])

    agent = Agent(FunctionModel(reply), instructions="You ship orders.", retries=3)

    @agent.tool_plain
    def ship(order: int) -> Any:
        if order == 7:
            raise ModelRetry("no stock")
        return {"shipped": (order, b"raw")}

    asked = ["Ship this", ImageUrl("https://shop.example/a.png"), BinaryContent(PNG, media_type="image/png")]
    result = asyncio.run(agent.run(asked))
    messages = result.all_messages()
    assert len(messages) == 6, "a retry and a result are among them"
    requests = DeferredToolRequests(approvals=[ToolCallPart("ship", '{"order": 7}', tool_call_id="call_9")])
    return [*messages, result.usage, requests, ModelHTTPError(429, "m", {"error": "slow down"})]


def openai_agents() -> list[Any]:
    from agents import Agent, ItemHelpers, ModelResponse, Runner, Usage, function_tool, set_tracing_disabled
    from agents.exceptions import MaxTurnsExceeded
    from agents.models.interface import Model
    from openai.types.responses import ResponseFunctionToolCall, ResponseOutputMessage

    def answer(text: str) -> ResponseOutputMessage:
        content = [{"type": "output_text", "text": text, "annotations": []}]
        return ResponseOutputMessage.model_validate(
            {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": content}
        )

    def call(name: str, arguments: str) -> ResponseFunctionToolCall:
        return ResponseFunctionToolCall(type="function_call", call_id=f"c_{name}", name=name, arguments=arguments)

    class Replies(Model):
        def __init__(self, *turns: Any) -> None:
            self.turns = list(turns)

        async def get_response(self, *_: Any, **__: Any) -> ModelResponse:
            usage = Usage(requests=1, input_tokens=9, output_tokens=2, total_tokens=11)
            return ModelResponse(output=[self.turns.pop(0)], usage=usage, response_id="resp_1")

        def stream_response(self, *_: Any, **__: Any) -> Any:
            raise NotImplementedError

    @function_tool
    def ship(order: int) -> str:
        raise LookupError(f"no stock for {order}")

    set_tracing_disabled(disabled=True)
    AGENTS.clear()
    shipper = Agent("shipper", model=Replies(call("ship", '{"order": 7}'), answer("no stock")), tools=[ship])
    triage = Agent("triage", model=Replies(call("transfer_to_shipper", "{}")), handoffs=[shipper])
    AGENTS.extend([shipper, triage])
    result = asyncio.run(Runner.run(triage, "ship 7"))
    kinds = [item.type for item in result.new_items]
    assert kinds[:3] == ["handoff_call_item", "handoff_output_item", "tool_call_item"], kinds
    assert ItemHelpers.text_message_outputs(result.new_items) == "no stock"
    return [*result.to_input_list(), *result.new_items, *result.raw_responses, MaxTurnsExceeded("10 turns")]


#: The agents of the items that ``openai_agents`` has made last.
AGENTS: list[Any] = []
ARGUMENTS: dict[str, Any] = {"openai_agents": {"agents": AGENTS}}
SDKS = {one.__name__: one for one in (langchain, openai, anthropic, pydantic_ai, openai_agents, mcp, google_genai)}
