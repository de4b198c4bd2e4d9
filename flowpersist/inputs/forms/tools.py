"""A question as a tool that a model calls: the definition in each provider's form."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from typing import Any, Final, Literal, TypeAlias

from flowpersist.errors import ConfigurationError
from flowpersist.errors.arguments import check_choice, check_flag
from flowpersist.inputs.forms.dialects import ANTHROPIC, GOOGLE, OPENAI, Dialect
from flowpersist.inputs.forms.narrowing import Narrowed, narrow
from flowpersist.inputs.forms.question import Question, text_of
from flowpersist.inputs.forms.references import resolved

__all__ = ["Strict", "anthropic_tool", "dialect_of", "google_tool", "mcp_tool", "narrowed", "openai_tool"]

#: Whether a provider is to hold the model to the schema: if it can, in any case, or not.
Strict: TypeAlias = Literal["auto", True, False]
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
#: Of MCP, SEP-986.
_MCP_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,128}")
_DIALECTS: Final = {"openai": OPENAI, "anthropic": ANTHROPIC, "google": GOOGLE}


def dialect_of(name: str) -> Dialect:
    """The dialect of a provider: ``openai``, ``anthropic`` or ``google``."""
    check_choice(name, "provider", tuple(_DIALECTS))
    return _DIALECTS[name]


def narrowed(asked: Question, provider: str) -> Narrowed:
    """The parameters of a question within what a provider's strict form takes."""
    return narrow(_parameters(asked), dialect_of(provider))


def openai_tool(asked: Question, strict: Strict, api: str, name: str | None) -> dict[str, Any]:
    """A function tool of OpenAI's Responses API, or of its Chat Completions API."""
    check_choice(api, "api", ("responses", "chat"))
    schema, is_strict = _held(asked, "openai", strict)
    function: dict[str, Any] = {
        "name": _name(asked, name, "OpenAI"),
        "description": text_of(asked),
        "parameters": schema,
    }
    function["strict"] = is_strict
    return {"type": "function", **function} if api == "responses" else {"type": "function", "function": function}


def anthropic_tool(asked: Question, strict: Strict, name: str | None) -> dict[str, Any]:
    """A custom tool of Anthropic's Messages API."""
    schema, is_strict = _held(asked, "anthropic", strict)
    tool = {"name": _name(asked, name, "Anthropic"), "description": text_of(asked), "input_schema": schema}
    return {**tool, "strict": True} if is_strict else tool


def google_tool(asked: Question, name: str | None) -> dict[str, Any]:
    """A function declaration of Gemini, whose parameters are a JSON Schema."""
    schema = dict(narrowed(asked, "google").schema)
    return {"name": _name(asked, name, "Google"), "description": text_of(asked), "parametersJsonSchema": schema}


def mcp_tool(asked: Question, name: str | None) -> dict[str, Any]:
    """A tool of the Model Context Protocol, version 2026-07-28."""
    tool: dict[str, Any] = {
        "name": _name(asked, name, "MCP", _MCP_NAME),
        "description": text_of(asked),
        "inputSchema": {**_parameters(asked), "type": "object"},
        "annotations": {"readOnlyHint": True, "openWorldHint": True},
    }
    if asked.title is not None:
        tool["title"] = asked.title
    # Structured content is an object, so another answer is text.
    answer = resolved(asked.json_schema, asked.json_schema)
    if answer.get("type") == "object":
        tool["outputSchema"] = copy.deepcopy(dict(answer))
    return tool


def _parameters(asked: Question) -> dict[str, Any]:
    return {"type": "object"} if asked.parameters is None else copy.deepcopy(dict(asked.parameters))


def _held(asked: Question, provider: str, strict: Strict) -> tuple[Mapping[str, Any], bool]:
    if strict != "auto":
        check_flag(strict, "strict")
    if strict is False:
        return _parameters(asked), False
    made = narrowed(asked, provider)
    if strict is True and not made.strict:
        places = "; ".join(f"{one.pointer or '(root)'} {one.keyword}: {one.what}" for one in made.obstacles[:5])
        raise ConfigurationError(
            f"the parameters of {asked.id!r} can't be strict: {places}. Change them, or pass strict='auto'", "strict"
        )
    return made.schema, made.strict


def _name(asked: Question, name: str | None, provider: str, rule: re.Pattern[str] = _NAME) -> str:
    chosen = asked.id if name is None else name
    if not rule.fullmatch(chosen):
        takes = rule.pattern
        raise ConfigurationError(f"Invalid name of a tool for {provider}: expected {takes}; pass name=", "name")
    return chosen
