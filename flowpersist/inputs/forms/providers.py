"""How each provider writes a model's call of a tool, and the result that it expects."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from attrs import frozen

__all__ = ["READERS", "Outcome", "RawCall"]


@frozen
class Outcome:
    """What comes of a call: the answer, or that it failed, and the same as a text."""

    text: str
    answer: object
    is_error: bool


@frozen
class RawCall:
    """A call as the provider wrote it; nothing of it is checked."""

    id: Any
    name: Any
    arguments: Any
    reply: Callable[[RawCall, Outcome], dict[str, Any]]


Reader: TypeAlias = Callable[[Mapping[str, Any]], RawCall | None]


def _openai(data: Mapping[str, Any]) -> RawCall | None:
    function = data.get("function")
    if isinstance(function, Mapping):
        return RawCall(data.get("id"), function.get("name"), function.get("arguments"), _chat_message)
    if data.get("type") != "function_call":
        return None
    return RawCall(data.get("call_id"), data.get("name"), data.get("arguments"), _responses_item)


def _chat_message(call: RawCall, outcome: Outcome) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call.id, "content": outcome.text}


def _responses_item(call: RawCall, outcome: Outcome) -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": call.id, "output": outcome.text}


def _anthropic(data: Mapping[str, Any]) -> RawCall | None:
    if data.get("type") != "tool_use":
        return None
    return RawCall(data.get("id"), data.get("name"), data.get("input"), _anthropic_block)


def _anthropic_block(call: RawCall, outcome: Outcome) -> dict[str, Any]:
    block = {"type": "tool_result", "tool_use_id": call.id, "content": outcome.text}
    return {**block, "is_error": True} if outcome.is_error else block


def _mcp(data: Mapping[str, Any]) -> RawCall | None:
    params = data.get("params", data)
    if not isinstance(params, Mapping):
        return None
    return RawCall(None, params.get("name"), params.get("arguments") or {}, _mcp_result)


def _mcp_result(_: RawCall, outcome: Outcome) -> dict[str, Any]:
    content = [{"type": "text", "text": outcome.text}]
    made: dict[str, Any] = {"resultType": "complete", "content": content, "isError": outcome.is_error}
    structured = isinstance(outcome.answer, dict) and not outcome.is_error
    return {**made, "structuredContent": outcome.answer} if structured else made


def _google(data: Mapping[str, Any]) -> RawCall | None:
    inner = data.get("functionCall", data.get("function_call", data))
    if not isinstance(inner, Mapping):
        return None
    return RawCall(inner.get("id"), inner.get("name"), inner.get("args") or {}, _google_part)


def _google_part(call: RawCall, outcome: Outcome) -> dict[str, Any]:
    response = {"error": outcome.text} if outcome.is_error else {"output": outcome.answer}
    made = {"name": call.name, "response": response}
    return {"functionResponse": made if call.id is None else {"id": call.id, **made}}


def _langchain(data: Mapping[str, Any]) -> RawCall | None:
    if data.get("type") != "tool_call":
        return None
    return RawCall(data.get("id"), data.get("name"), data.get("args"), _langchain_message)


def _langchain_message(call: RawCall, outcome: Outcome) -> dict[str, Any]:
    status = "error" if outcome.is_error else "success"
    return {"type": "tool", "content": outcome.text, "name": call.name, "tool_call_id": call.id, "status": status}


def _pydantic_ai(data: Mapping[str, Any]) -> RawCall | None:
    if "tool_name" not in data:
        return None
    return RawCall(data.get("tool_call_id"), data.get("tool_name"), data.get("args") or {}, _pydantic_ai_part)


def _pydantic_ai_part(call: RawCall, outcome: Outcome) -> dict[str, Any]:
    kind = "retry-prompt" if outcome.is_error else "tool-return"
    content = outcome.text if outcome.is_error else outcome.answer
    return {"part_kind": kind, "tool_name": call.name, "content": content, "tool_call_id": call.id}


READERS: Final[Mapping[str, Reader]] = {
    "openai": _openai,
    "anthropic": _anthropic,
    "mcp": _mcp,
    "google": _google,
    "langchain": _langchain,
    "pydantic_ai": _pydantic_ai,
}
