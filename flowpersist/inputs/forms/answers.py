"""What people answered in another ecosystem's form, as the answer that a hub takes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, Literal

from attrs import field, frozen
from returns.result import Failure, Result, Success

from flowpersist.errors import InputValidationError, PersistenceError, Problem
from flowpersist.inputs.action import DECISIONS
from flowpersist.inputs.forms.fields import ANSWER, Field, fields_of, is_flat
from flowpersist.inputs.forms.question import Question, members_of

__all__ = ["Reply", "from_adk", "from_agui", "from_elicitation", "from_html", "from_langchain", "from_strands"]

_TRUE: Final = frozenset({"true", "on", "1", "yes"})
_FALSE: Final = frozenset({"false", "off", "0", "no", ""})
#: What LangChain's decisions need.
_NEEDED: Final = {"edit": "edited_action", "respond": "message"}


@frozen
class Reply:
    """What a person did with a question.

    - ``kind``: ``answered``, ``declined`` (the person refused to answer) or ``cancelled`` (the form was closed).
    - ``value``: the answer, for ``hub.answer``; None without one.
    """

    kind: Literal["answered", "declined", "cancelled"]
    value: object = field(default=None, repr=False)


def from_elicitation(asked: Question, result: object) -> Result[Reply, PersistenceError]:
    """The result of an elicitation by a form."""
    data = members_of(result) or {}
    kinds: dict[object, Literal["answered", "declined", "cancelled"]] = {"decline": "declined", "cancel": "cancelled"}
    action = data.get("action")
    if action in kinds:
        return Success(Reply(kinds[action]))
    content = data.get("content")
    if action != "accept" or not isinstance(content, Mapping):
        return Failure(_invalid("/action", "must be accept with content, decline or cancel"))
    return Success(Reply("answered", _unwrapped(asked, dict(content))))


def from_agui(interrupt_id: str, entry: object) -> Result[Reply, PersistenceError]:
    """One entry of ``resume``."""
    data = members_of(entry) or {}
    if data.get("interruptId", data.get("interrupt_id")) != interrupt_id:
        return Failure(_invalid("/interruptId", "is not the id of the interrupt"))
    if data.get("status") == "cancelled":
        return Success(Reply("cancelled"))
    if data.get("status") != "resolved":
        return Failure(_invalid("/status", "must be resolved or cancelled"))
    return Success(Reply("answered", data.get("payload")))


def from_strands(interrupt_id: str, content: object) -> Result[Reply, PersistenceError]:
    """A content block with the response to an interrupt, as an agent is resumed with it."""
    response = (members_of(content) or {}).get("interruptResponse")
    if not isinstance(response, Mapping) or "response" not in response:
        return Failure(_invalid("/interruptResponse", "must be an object with interruptId and response"))
    if response.get("interruptId") != interrupt_id:
        return Failure(_invalid("/interruptResponse/interruptId", "is not the id of the interrupt"))
    return Success(Reply("answered", response["response"]))


def from_adk(asked: Question, response: object) -> Result[Reply, PersistenceError]:
    """The response to a ``RequestInput``, or a ``ToolConfirmation`` where the question has an action."""
    data = members_of(response) or {}
    if set(data) == {"response"}:
        # ADK's client wraps what it sends as JSON text.
        text = data["response"]
        try:
            inner = json.loads(text) if isinstance(text, str) else text
        except (ValueError, RecursionError):
            # A text of the person's own.
            inner = text
    else:
        inner = dict(data) if data or isinstance(response, Mapping) else response
    if asked.action is None or not isinstance(inner, Mapping) or "confirmed" not in inner:
        return Success(Reply("answered", inner))
    if not isinstance(inner["confirmed"], bool):
        return Failure(_invalid("/confirmed", "must be true or false"))
    return Success(Reply("answered", {"decision": "approve" if inner["confirmed"] else "reject"}))


def from_langchain(decision: object) -> Result[Mapping[str, Any], PersistenceError]:
    """A decision on an action: ``decision``, with the ``arguments`` of an edit and the ``comment`` of others.

    - ``decision``: of LangChain's middleware.
    """
    data = members_of(decision) or {}
    kind = data.get("type")
    if kind not in DECISIONS:
        return Failure(_invalid("/type", f"must be one of {', '.join(DECISIONS)}"))
    needed = _NEEDED.get(kind)
    if needed is not None and needed not in data:
        return Failure(_invalid(f"/{needed}", f"is missing: a decision to {kind} needs it"))
    made: dict[str, Any] = {"decision": kind}
    if kind == "edit":
        edited = data["edited_action"]
        if not isinstance(edited, Mapping) or not isinstance(edited.get("args"), Mapping):
            return Failure(_invalid("/edited_action/args", "must be an object"))
        made["arguments"] = dict(edited["args"])
    elif isinstance(data.get("message"), str):
        made["comment"] = data["message"]
    return Success(made)


def from_html(asked: Question, data: Mapping[str, object]) -> Result[object, PersistenceError]:
    """The answer of a form that was sent: texts by the names of its fields."""
    fields = {one.name: one for one in fields_of(asked.json_schema)}
    unknown = next((name for name in data if name not in fields), None)
    if unknown is not None:
        return Failure(_invalid("", f"has a field that the form does not have: {unknown[:100]!r}"))
    made: dict[str, object] = {}
    for name, one in fields.items():
        read = _read(one, data.get(name))
        if isinstance(read, Failure):
            return Failure(read.failure())
        for value in read.unwrap():
            made[name] = value
    return Success(_unwrapped(asked, made))


def _read(one: Field, given: object) -> Result[tuple[object, ...], PersistenceError]:
    """The value of a field in a tuple; an empty one where the field was left empty."""
    if one.kind == "choices":
        chosen = [] if given is None else list(given) if isinstance(given, list | tuple) else [given]
        labels = {str(value): value for value, _ in one.options}
        return Success(([labels.get(str(value), value) for value in chosen],) if chosen or one.required else ())
    if one.kind == "boolean" and (given is None or isinstance(given, bool)):
        # A browser leaves out what is not checked.
        return Success((bool(given),))
    if given is None or (given == "" and (one.kind != "string" or not one.required)):
        return Success(())
    return Success((given,)) if not isinstance(given, str) else _of_text(one, given)


def _of_text(one: Field, text: str) -> Result[tuple[object, ...], PersistenceError]:
    if one.kind == "choice":
        return Success(({str(value): value for value, _ in one.options}.get(text, text),))
    if one.kind == "boolean" and text.lower() in _TRUE | _FALSE:
        return Success((text.lower() in _TRUE,))
    if one.kind == "string":
        return Success((text,))
    try:
        return Success((json.loads(text),))
    except (ValueError, RecursionError):
        return Failure(_invalid(f"/{one.name}", "must be JSON" if one.kind == "json" else f"must be a {one.kind}"))


def _unwrapped(asked: Question, made: dict[str, object]) -> object:
    return made if is_flat(asked.json_schema) else made.get(ANSWER)


def _invalid(pointer: str, what: str) -> PersistenceError:
    return InputValidationError(f"the reply is not valid: {pointer or '(root)'} {what}", [Problem(pointer, what)])
