"""A question in the forms in which people are asked: MCP elicitation, AG-UI, A2A, LangChain, pydantic-ai,
Strands, ADK, HTML.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, Literal, TypeAlias

from flowpersist.errors import ConfigurationError
from flowpersist.errors.arguments import check_choice
from flowpersist.inputs.action import DECISIONS, Decision
from flowpersist.inputs.forms.fields import Field, field_pointer, fields_of, rules_beyond
from flowpersist.inputs.forms.question import Question, text_of

__all__ = [
    "LangchainForm",
    "a2a_event",
    "adk_request",
    "agui_interrupt",
    "elicitation",
    "html_form",
    "langchain_request",
    "pydantic_ai_requests",
    "strands_interrupt",
]

LangchainForm: TypeAlias = Literal["batched", "per_call", "inbox"]
_MCP_FORMATS: Final = frozenset({"date", "date-time", "email", "uri"})
_MCP_RULES: Final = {
    "string": {"minLength", "maxLength", "format"},
    "integer": {"minimum", "maximum"},
    "number": {"minimum", "maximum"},
    "choices": {"minItems", "maxItems"},
}


def elicitation(asked: Question, url: str | None) -> dict[str, Any]:
    """The parameters of MCP's ``elicitation/create``: a form where the answer's schema is flat, else a URL."""
    fields = fields_of(asked.json_schema)
    lacking = rules_beyond(asked.json_schema)
    lacking += [f"{one.name}: {', '.join(what)}" for one in fields if (what := _beyond_mcp(one))]
    if not lacking:
        properties = {one.name: _mcp_property(one) for one in fields}
        required = [one.name for one in fields if one.required]
        requested: dict[str, Any] = {"type": "object", "properties": properties}
        if required:
            requested["required"] = required
        return {"mode": "form", "message": text_of(asked), "requestedSchema": requested}
    if url is None:
        raise ConfigurationError(
            f"the answer to {asked.id!r} does not fit a form of MCP ({'; '.join(lacking[:5])}): pass url=", "url"
        )
    return {"mode": "url", "message": text_of(asked), "url": url}


def _beyond_mcp(one: Field) -> list[str]:
    """What of a field the flat schemas of MCP can't say."""
    # Several choices are different ones.
    rules = set(one.rules) - {"uniqueItems"} if one.kind == "choices" else set(one.rules)
    lacks = [*one.lacks, *sorted(rules - _MCP_RULES.get(one.kind, set()))]
    if one.kind == "json":
        lacks = ["a nested value"]
    if one.rules.get("format", "date") not in _MCP_FORMATS:
        lacks.append(f"the format {one.rules['format']}")
    if not all(isinstance(value, str) for value, _ in one.options):
        lacks.append("options that are not texts")
    return lacks


def _mcp_property(one: Field) -> dict[str, Any]:
    made: dict[str, Any] = {"title": one.label}
    if one.help is not None:
        made["description"] = one.help
    if one.default is not None:
        made["default"] = copy.deepcopy(one.default)
    titled = any(str(value) != label for value, label in one.options)
    values = [value for value, _ in one.options]
    constants = [{"const": value, "title": label} for value, label in one.options]
    if one.kind == "choice":
        return {**made, "type": "string", **({"oneOf": constants} if titled else {"enum": values})}
    if one.kind == "choices":
        items = {"anyOf": constants} if titled else {"type": "string", "enum": values}
        bounds = {name: value for name, value in one.rules.items() if name != "uniqueItems"}
        return {**made, "type": "array", "items": items, **bounds}
    return {**made, "type": one.kind, **one.rules}


def agui_interrupt(asked: Question, interrupt_id: str, tool_call_id: str | None) -> dict[str, Any]:
    """An interrupt of AG-UI, for the ``interrupts`` of a ``RUN_FINISHED`` event whose outcome is an interrupt."""
    made: dict[str, Any] = {
        "id": interrupt_id,
        "reason": "input_required" if asked.action is None else "tool_approval",
        "message": text_of(asked),
        "responseSchema": copy.deepcopy(dict(asked.json_schema)),
    }
    if tool_call_id is not None:
        made["toolCallId"] = tool_call_id
    if asked.deadline is not None:
        made["expiresAt"] = asked.deadline.isoformat()
    if asked.shown is not None or asked.action is not None:
        made["metadata"] = {"shown": _data(asked)}
    return made


def a2a_event(asked: Question, task_id: str, context_id: str, message_id: str, at: datetime | None) -> dict[str, Any]:
    """A ``TaskStatusUpdateEvent`` of A2A 1.0: the task needs input."""
    parts: list[dict[str, Any]] = [{"text": text_of(asked)}]
    data = {"schema": copy.deepcopy(dict(asked.json_schema)), **_data(asked)}
    parts.append({"data": data, "mediaType": "application/json"})
    message = {
        "messageId": message_id,
        "contextId": context_id,
        "taskId": task_id,
        "role": "ROLE_AGENT",
        "parts": parts,
    }
    status: dict[str, Any] = {"state": "TASK_STATE_INPUT_REQUIRED", "message": message}
    if at is not None:
        status["timestamp"] = at.isoformat()
    return {"taskId": task_id, "contextId": context_id, "status": status}


def langchain_request(
    asked: Question, form: LangchainForm, allowed: tuple[Decision, ...], tool_call_id: str | None
) -> dict[str, Any]:
    """What LangChain's human-in-the-loop middleware interrupts with, or Agent Inbox's older form."""
    check_choice(form, "form", ("batched", "per_call", "inbox"))
    for one in allowed:
        check_choice(one, "allowed", DECISIONS)
    name = asked.id if asked.action is None else asked.action.tool
    args = dict(asked.shown or {}) if asked.action is None else copy.deepcopy(dict(asked.action.arguments))
    if form == "batched":
        request = {"name": name, "args": args, "description": text_of(asked)}
        return {
            "action_requests": [request],
            "review_configs": [{"action_name": name, "allowed_decisions": list(allowed)}],
        }
    if form == "per_call":
        if tool_call_id is None:
            raise ConfigurationError("Invalid tool_call_id: a request per call needs one", "tool_call_id")
        call = {"type": "tool_approval", "tool_call_id": tool_call_id, "name": name, "args": args}
        return {**call, "description": text_of(asked)}
    config = {
        "allow_ignore": "reject" in allowed,
        "allow_respond": "respond" in allowed,
        "allow_edit": "edit" in allowed,
        "allow_accept": "approve" in allowed,
    }
    return {"action_request": {"action": name, "args": args}, "config": config, "description": text_of(asked)}


def pydantic_ai_requests(asked: Question, tool_call_id: str) -> dict[str, Any]:
    """A ``DeferredToolRequests`` of pydantic-ai: an approval of a call, or a call that a person answers."""
    name = asked.id if asked.action is None else asked.action.tool
    args = {} if asked.action is None else copy.deepcopy(dict(asked.action.arguments))
    part = {"part_kind": "tool-call", "tool_name": name, "args": args, "tool_call_id": tool_call_id}
    group = "calls" if asked.action is None else "approvals"
    empty: dict[str, Any] = {"calls": [], "approvals": []}
    metadata = {"prompt": text_of(asked), **_data(asked)}
    return {**empty, group: [part], "metadata": {tool_call_id: metadata}}


def strands_interrupt(asked: Question, interrupt_id: str, name: str | None) -> dict[str, Any]:
    """The fields of a Strands ``Interrupt``, whose reason is JSON data of any form."""
    schema = copy.deepcopy(dict(asked.json_schema))
    reason = {"prompt": asked.prompt, "title": asked.title, "schema": schema, **_data(asked)}
    given = {key: value for key, value in reason.items() if value is not None}
    return {"id": interrupt_id, "name": asked.id if name is None else name, "reason": given}


def adk_request(asked: Question, interrupt_id: str) -> dict[str, Any]:
    """A ``RequestInput`` of Google's ADK."""
    made: dict[str, Any] = {
        "interruptId": interrupt_id,
        "message": text_of(asked),
        "responseSchema": copy.deepcopy(dict(asked.json_schema)),
    }
    data = _data(asked)
    return {**made, "payload": data} if data else made


def html_form(asked: Question) -> dict[str, Any]:
    """Title, prompt, what is shown, and the fields of the answer, for a page that draws a form of them."""
    fields = [_hinted(asked, _html_field(one)) for one in fields_of(asked.json_schema)]
    # Those without an order stand after those with one, as the schema has them.
    fields.sort(key=lambda one: one.pop("order", math.inf))
    return {"title": asked.title, "prompt": asked.prompt, **_data(asked), "fields": fields}


def _hinted(asked: Question, made: dict[str, Any]) -> dict[str, Any]:
    """A field with the hints that the question gives for it."""
    return {**made, **(asked.ui or {}).get(field_pointer(made["name"], asked.json_schema), {})}


_WIDGETS: Final = {
    "boolean": "checkbox",
    "integer": "number",
    "choice": "select",
    "choices": "select",
    "json": "textarea",
}
_TYPES: Final = {"date": "date", "time": "time", "date-time": "datetime-local", "email": "email", "uri": "url"}
_ATTRIBUTES: Final = {
    "minLength": "minlength",
    "maxLength": "maxlength",
    "pattern": "pattern",
    "minimum": "min",
    "maximum": "max",
    "multipleOf": "step",
}


def _html_field(one: Field) -> dict[str, Any]:
    widget = _WIDGETS.get(
        one.kind, _TYPES.get(str(one.rules.get("format")), "text" if one.kind == "string" else "number")
    )
    attributes = {_ATTRIBUTES[rule]: value for rule, value in one.rules.items() if rule in _ATTRIBUTES}
    made: dict[str, Any] = {
        "name": one.name,
        "label": one.label,
        "widget": widget,
        "type": one.kind,
        "required": one.required and one.kind != "boolean",
        "multiple": one.kind == "choices",
        "attributes": attributes,
        "options": [{"value": value, "label": label} for value, label in one.options],
    }
    texts = {"help": one.help, "default": copy.deepcopy(one.default)}
    return {**made, **{name: value for name, value in texts.items() if value is not None}}


def _data(asked: Question) -> dict[str, Any]:
    """What is shown beside the text."""
    shown: Mapping[str, object] | None = asked.shown
    made: dict[str, Any] = {} if shown is None else {"shown": copy.deepcopy(dict(shown))}
    return made if asked.action is None else {**made, "action": asked.action.to_data()}
