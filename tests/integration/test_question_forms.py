"""A question in each ecosystem's form, validated by the ecosystem's own package and compared by its dump."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import a2a.types
import mcp_types._v2025_11_25 as mcp_2025
import mcp_types._v2026_07_28 as mcp_2026
import pytest
from ag_ui.core import ResumeEntry, RunFinishedEvent
from anthropic.types import ToolParam, ToolResultBlockParam, ToolUseBlock
from google.genai.types import FunctionDeclaration, FunctionResponse
from google.protobuf import json_format
from langchain.agents.middleware.human_in_the_loop import HITLRequest, ToolApprovalRequest
from langchain_core.messages import ToolMessage
from langchain_core.messages.utils import convert_to_messages
from mcp.shared.tool_name_validation import validate_tool_name
from openai.types.chat import (
    ChatCompletionFunctionToolParam,
    ChatCompletionMessageFunctionToolCall,
    ChatCompletionToolMessageParam,
)
from openai.types.responses import FunctionToolParam, ResponseFunctionToolCall
from openai.types.responses.response_input_item_param import FunctionCallOutput
from pydantic import TypeAdapter
from pydantic_ai import DeferredToolRequests
from pydantic_ai.messages import ModelRequest, ModelRequestPart, ToolCallPart
from slack_sdk.models.blocks import Block

from flowpersist import AwaitInput, ConfigurationError, InputValidationError
from flowpersist.inputs import Action
from flowpersist.inputs.forms import from_langchain, from_slack
from flowpersist.stages import generate_key

PARAMETERS = {
    "type": "object",
    "properties": {
        "order": {"type": "integer", "minimum": 1},
        "note": {"type": "string", "minLength": 2, "description": "Why"},
        "kind": {"enum": ["gift", "plain"]},
    },
    "required": ["order"],
}
SHIP = AwaitInput(id="ship_order", prompt="Ship order $order?", title="Shipping", schema=bool, parameters=PARAMETERS)
REFUND = AwaitInput(
    id="refund",
    prompt="Refund?",
    schema={"type": "object", "properties": {"decision": {"type": "string"}}},
    shown={"customer": "ann"},
    action=Action("refund", {"order": 7, "amount": 20}, "2", "p1"),
    deadline=datetime(2027, 1, 1, tzinfo=UTC),
)


@dataclass
class Parcel:
    size: Literal["small", "large"]
    weight: int
    fragile: bool = False
    mail: str | None = None


PARCEL = AwaitInput(id="parcel", prompt="Which parcel?", schema=Parcel)
NESTED = AwaitInput(id="lines", prompt="Which lines?", schema=list[dict[str, int]])
CHOICE = AwaitInput(id="size", prompt="Size?", schema=Literal["small", "large"])


def same(adapter, form):
    """The form passes the package's own validation, and nothing of it is dropped or changed."""
    validated = adapter.validate_python(form)
    assert adapter.dump_python(validated, mode="json", by_alias=True, exclude_unset=True) == form
    return validated


# ---------------------------------------------------------------------------------------------------------------- tools


@pytest.mark.parametrize("strict", ["auto", True, False])
def test_openai(strict):
    same(TypeAdapter(FunctionToolParam), SHIP.to_openai(strict=strict))
    chat = same(TypeAdapter(ChatCompletionFunctionToolParam), SHIP.to_openai(strict=strict, api="chat"))
    assert chat["function"]["strict"] is (strict is not False)
    assert chat["function"]["name"] == "ship_order"


def test_openai_says_what_it_narrowed():
    changes = {(one.pointer, one.keyword, one.loosens) for one in SHIP.narrowed("openai").changes}
    assert changes == {
        ("/properties/note", "minLength", True),
        ("/properties/note", "required", False),
        ("/properties/kind", "required", False),
    }


@pytest.mark.parametrize("strict", ["auto", True, False])
def test_anthropic(strict):
    tool = same(TypeAdapter(ToolParam), SHIP.to_anthropic(strict=strict))
    assert tool.get("strict", False) is (strict is not False)


def test_google():
    form = SHIP.to_google()
    declaration = FunctionDeclaration.model_validate(form)
    assert declaration.model_dump(mode="json", by_alias=True, exclude_none=True) == form


@pytest.mark.parametrize("awaiting", [SHIP, REFUND, PARCEL], ids=lambda one: one.id)
def test_mcp_tool(awaiting):
    form = awaiting.to_mcp()
    assert validate_tool_name(form["name"]).is_valid
    same(TypeAdapter(mcp_2026.Tool), form)
    assert ("outputSchema" in form) is (awaiting is not SHIP)


FREE = {"type": "object", "properties": {"any": {"type": "object", "additionalProperties": {"type": "integer"}}}}


def test_parameters_that_cannot_be_strict_are_given_as_they_are_and_the_places_named():
    free = AwaitInput(id="free", prompt="?", parameters=FREE)
    assert free.to_openai()["strict"] is False
    assert free.to_openai()["parameters"] == FREE
    assert "strict" not in free.to_anthropic()
    for form in (free.to_openai, free.to_anthropic):
        with pytest.raises(ConfigurationError, match="/properties/any additionalProperties"):
            form(strict=True)


def test_a_name_that_an_ecosystem_refuses():
    spaced = AwaitInput(id="ship order", prompt="?")
    for form in (spaced.to_openai, spaced.to_anthropic, spaced.to_google, spaced.to_mcp):
        with pytest.raises(ConfigurationError, match="Invalid name of a tool"):
            form()
        assert "ship" in json.dumps(form(name="ship"))


# ---------------------------------------------------------------------------------------------------------------- calls
ARGUMENTS = {"order": 7, "note": None, "kind": "gift"}
CALLS = {
    "chat": (
        "from_openai",
        ChatCompletionMessageFunctionToolCall(
            id="c1", type="function", function={"name": "ship_order", "arguments": json.dumps(ARGUMENTS)}
        ),
    ),
    "responses": (
        "from_openai",
        ResponseFunctionToolCall(
            type="function_call", call_id="c1", name="ship_order", arguments=json.dumps(ARGUMENTS)
        ),
    ),
    "anthropic": (
        "from_anthropic",
        ToolUseBlock(type="tool_use", id="c1", name="ship_order", input={"order": 7, "kind": "gift"}),
    ),
    "mcp": ("from_mcp", {"method": "tools/call", "params": {"name": "ship_order", "arguments": {"order": 7}}}),
    "google": ("from_google", {"functionCall": {"id": "c1", "name": "ship_order", "args": {"order": 7}}}),
    "langchain": ("from_langchain", {"type": "tool_call", "id": "c1", "name": "ship_order", "args": {"order": 7}}),
    "pydantic_ai": ("from_pydantic_ai", ToolCallPart("ship_order", {"order": 7}, "c1")),
}


@pytest.mark.parametrize(("reader", "call"), CALLS.values(), ids=CALLS)
def test_a_call_fills_the_question_in(reader, call):
    read = getattr(SHIP, reader)(call).unwrap()
    assert read.filled().unwrap().prompt == "Ship order 7?"
    assert read.id == (None if reader == "from_mcp" else "c1")


def google_response(message):
    made = FunctionResponse.model_validate(message["functionResponse"])
    assert made.model_dump(mode="json", exclude_none=True) == message["functionResponse"]


def tool_message(message):
    (made,) = convert_to_messages([message])
    assert isinstance(made, ToolMessage)
    assert (made.status, made.tool_call_id) == (message["status"], "c1")


def request_part(message):
    ModelRequest(TypeAdapter(list[ModelRequestPart]).validate_python([message]))


#: The message passes the package's own validation.
VALID = {
    "chat": lambda message: same(TypeAdapter(ChatCompletionToolMessageParam), message),
    "responses": lambda message: same(TypeAdapter(FunctionCallOutput), message),
    "anthropic": lambda message: same(TypeAdapter(ToolResultBlockParam), message),
    "mcp": lambda message: same(TypeAdapter(mcp_2026.CallToolResult), message),
    "google": google_response,
    "langchain": tool_message,
    "pydantic_ai": request_part,
}


@pytest.mark.parametrize("name", CALLS)
def test_the_result_and_the_failure_are_messages_of_the_ecosystem(name):
    reader, call = CALLS[name]
    read = getattr(SHIP, reader)(call).unwrap()
    for answer in (True, "yes", {"decision": "approve"}, None):
        VALID[name](read.result(answer))
    wrong = getattr(SHIP, reader)(call).unwrap()
    error = AwaitInput(id="x", prompt="?", schema=bool).check("no").failure()
    assert "does not fit" in json.dumps(wrong.failure(error))
    VALID[name](wrong.failure(error))


def changed(call, **changes):
    data = (
        dict(call) if isinstance(call, dict) else call.model_dump() if hasattr(call, "model_dump") else dict(vars(call))
    )
    inner = next((key for key in ("function", "params", "functionCall") if isinstance(data.get(key), dict)), None)
    (data[inner] if inner else data).update(changes)
    return data


WRONG = {
    "chat": {"arguments": "{no json"},
    "responses": {"arguments": "[]"},
    "anthropic": {"input": {"order": 0}},
    "mcp": {"arguments": {"order": "seven"}},
    "google": {"args": {"kind": "other", "order": 1}},
    "langchain": {"args": {}},
    "pydantic_ai": {"args": "{"},
}


@pytest.mark.parametrize("name", WRONG)
def test_arguments_that_break_the_parameters_are_a_typed_error_that_the_model_is_told(name):
    reader, call = CALLS[name]
    read = getattr(SHIP, reader)(changed(copy.deepcopy(call), **WRONG[name])).unwrap()
    error = read.filled().failure()
    assert isinstance(error, InputValidationError)
    VALID[name](read.failure(error))


BAD_CALLS = [7, None, {}, {"type": "function"}, {"name": "ship_order"}, object()]


@pytest.mark.parametrize("reader", sorted({reader for reader, _ in CALLS.values()}))
@pytest.mark.parametrize("at", range(len(BAD_CALLS)))
def test_what_is_no_call_is_refused(reader, at):
    read = getattr(SHIP, reader)(BAD_CALLS[at])
    if reader in ("from_mcp", "from_google") and at == 4:
        assert isinstance(read.unwrap().filled().failure(), InputValidationError)
    else:
        assert isinstance(read.failure(), InputValidationError)


@pytest.mark.parametrize("name", CALLS)
def test_a_call_of_another_tool_or_without_an_id_of_text_is_refused(name):
    reader, call = CALLS[name]
    key = "tool_name" if name == "pydantic_ai" else "name"
    other = getattr(SHIP, reader)(changed(copy.deepcopy(call), **{key: "charge"}))
    assert "is not of the tool 'ship_order'" in str(other.failure())
    named = getattr(SHIP, reader)(changed(copy.deepcopy(call), **{key: "charge"}), name="charge")
    assert named.unwrap().name == "charge"


# --------------------------------------------------------------------------------------------------------------- people


@pytest.mark.parametrize("awaiting", [SHIP, PARCEL, CHOICE], ids=lambda one: one.id)
def test_mcp_elicitation_by_a_form(awaiting):
    form = awaiting.to_mcp_elicitation()
    properties = TypeAdapter(mcp_2025.PrimitiveSchemaDefinition)
    for one in form["requestedSchema"]["properties"].values():
        assert (
            properties.dump_python(properties.validate_python(one), mode="json", by_alias=True, exclude_unset=True)
            == one
        )
    for version in (mcp_2025, mcp_2026):
        same(TypeAdapter(version.ElicitRequestFormParams), form)


REPLIES = {
    "parcel": (PARCEL, {"size": "small", "weight": 3}, {"size": "small", "weight": 3}),
    "boolean": (SHIP, {"answer": True}, True),
    "choice": (CHOICE, {"answer": "large"}, "large"),
}


@pytest.mark.parametrize(("awaiting", "content", "answer"), REPLIES.values(), ids=REPLIES)
def test_what_comes_back_from_an_elicitation_is_the_answer(awaiting, content, answer):
    reply = awaiting.from_mcp_elicitation({"action": "accept", "content": content}).unwrap()
    assert (reply.kind, reply.value) == ("answered", answer)
    awaiting.check(reply.value).unwrap()
    assert awaiting.from_mcp_elicitation({"action": "decline"}).unwrap().kind == "declined"
    assert awaiting.from_mcp_elicitation({"action": "cancel"}).unwrap().kind == "cancelled"
    for bad in ({}, {"action": "accept"}, {"action": "later"}, 7):
        assert isinstance(awaiting.from_mcp_elicitation(bad).failure(), InputValidationError)


BEYOND = {
    "nested": list[dict[str, int]],
    "pattern": {"type": "object", "properties": {"a": {"type": "string", "pattern": "^a"}}},
    "multiples": {"type": "object", "properties": {"a": {"type": "integer", "multipleOf": 2}}},
    "exclusive bounds": {"type": "object", "properties": {"a": {"type": "number", "exclusiveMinimum": 2}}},
    "enum of integers": {"type": "object", "properties": {"a": {"enum": [1, 2]}}},
    "format": {"type": "object", "properties": {"a": {"type": "string", "format": "uuid"}}},
    "free list": {"type": "object", "properties": {"a": {"type": "array", "items": {"type": "string"}}}},
    "rule over properties": {"type": "object", "properties": {"a": {"type": "string"}}, "not": {"required": ["a"]}},
    "least properties": {"type": "object", "properties": {"a": {"type": "string"}}, "minProperties": 1},
    "other properties": {"type": "object", "properties": {"a": {"type": "string"}}, "patternProperties": {"b": {}}},
}


@pytest.mark.parametrize("schema", BEYOND.values(), ids=BEYOND)
def test_what_a_form_of_mcp_cannot_carry_needs_a_url(schema):
    awaiting = AwaitInput(id="q", prompt="Which?", schema=schema)
    with pytest.raises(ConfigurationError, match="does not fit a form of MCP"):
        awaiting.to_mcp_elicitation()
    form = awaiting.to_mcp_elicitation(url="https://a.example/q")
    same(TypeAdapter(mcp_2026.ElicitRequestURLParams), form)
    same(TypeAdapter(mcp_2025.ElicitRequestURLParams), {**form, "elicitationId": "e1"})


@pytest.mark.parametrize("awaiting", [SHIP, REFUND, NESTED], ids=lambda one: one.id)
def test_agui(awaiting):
    outcome = {"type": "interrupt", "interrupts": [awaiting.to_agui("i1", tool_call_id="c1")]}
    event = {"type": "RUN_FINISHED", "threadId": "t", "runId": "r", "outcome": outcome}
    validated = RunFinishedEvent.model_validate(event)
    assert validated.model_dump(mode="json", by_alias=True, exclude_unset=True) == event
    (interrupt,) = validated.outcome.interrupts
    assert interrupt.reason == ("tool_approval" if awaiting is REFUND else "input_required")
    assert interrupt.model_extra in (None, {})


def test_what_agui_sends_back():
    entry = ResumeEntry(interrupt_id="i1", status="resolved", payload=True)
    assert SHIP.from_agui(entry, "i1").unwrap().value is True
    assert SHIP.from_agui({"interruptId": "i1", "status": "cancelled"}, "i1").unwrap().kind == "cancelled"
    for bad in ({"interruptId": "i2", "status": "resolved"}, {"interruptId": "i1", "status": "done"}, 7):
        assert isinstance(SHIP.from_agui(bad, "i1").failure(), InputValidationError)


@pytest.mark.parametrize("awaiting", [SHIP, REFUND], ids=lambda one: one.id)
def test_a2a(awaiting):
    form = awaiting.to_a2a("t1", "x1", "m1", at=datetime(2027, 1, 1, tzinfo=UTC))
    event = json_format.ParseDict(form, a2a.types.TaskStatusUpdateEvent())
    assert event.status.state == a2a.types.TaskState.TASK_STATE_INPUT_REQUIRED
    back = json_format.MessageToDict(event)
    assert back["status"]["message"] == form["status"]["message"]


@pytest.mark.parametrize("awaiting", [SHIP, REFUND], ids=lambda one: one.id)
def test_langchain(awaiting):
    same(TypeAdapter(HITLRequest), awaiting.to_langchain())
    same(TypeAdapter(ToolApprovalRequest), awaiting.to_langchain(form="per_call", tool_call_id="c1"))
    inbox = awaiting.to_langchain(form="inbox", allowed=("approve", "reject"))
    assert set(inbox) == {"action_request", "config", "description"}
    assert inbox["config"] == {
        "allow_ignore": True,
        "allow_respond": False,
        "allow_edit": False,
        "allow_accept": True,
    }
    with pytest.raises(ConfigurationError, match="tool_call_id"):
        awaiting.to_langchain(form="per_call")


DECISIONS = {
    "approve": ({"type": "approve"}, {"decision": "approve"}),
    "reject": ({"type": "reject", "message": "no"}, {"decision": "reject", "comment": "no"}),
    "respond": ({"type": "respond", "message": "4"}, {"decision": "respond", "comment": "4"}),
    "edit": (
        {"type": "edit", "edited_action": {"name": "refund", "args": {"amount": 2}}},
        {"decision": "edit", "arguments": {"amount": 2}},
    ),
}


@pytest.mark.parametrize(("decision", "answer"), DECISIONS.values(), ids=DECISIONS)
def test_a_decision_of_langchain(decision, answer):
    assert from_langchain(decision).unwrap() == answer


@pytest.mark.parametrize("bad", [{}, {"type": "accept"}, {"type": "edit"}, {"type": "edit", "edited_action": 7}, 7])
def test_a_bad_decision_of_langchain(bad):
    assert isinstance(from_langchain(bad).failure(), InputValidationError)


@pytest.mark.parametrize("awaiting", [SHIP, REFUND], ids=lambda one: one.id)
def test_pydantic_ai(awaiting):
    requests = TypeAdapter(DeferredToolRequests)
    form = awaiting.to_pydantic_ai("c1")
    validated = requests.validate_python(form)
    dumped = requests.dump_python(validated, mode="json", exclude_defaults=True)
    group = "approvals" if awaiting is REFUND else "calls"
    ((part,), metadata) = form[group], form["metadata"]
    assert {**dumped[group][0], "part_kind": "tool-call"} == part
    assert dumped["metadata"] == metadata
    assert validated.build_results(**{group: {"c1": True}})


SLACK = {"yes or no": (SHIP, 2), "a choice": (CHOICE, 2), "a link": (PARCEL, 1), "with data": (REFUND, 1)}


@pytest.mark.parametrize(("awaiting", "count"), SLACK.values(), ids=SLACK)
def test_slack(awaiting, count):
    message = awaiting.to_slack("case-7", url="https://a.example/q")
    blocks = Block.parse_all(message["blocks"])
    assert [block.to_dict() for block in blocks] == message["blocks"]
    buttons = message["blocks"][-1]["elements"]
    assert len(buttons) == count
    if count > 1:
        reference, answer = from_slack({"type": "block_actions", "actions": [buttons[0]]}).unwrap()
        assert reference == "case-7"
        awaiting.check(answer).unwrap()


def test_slack_texts_are_cut_to_what_it_takes():
    long = AwaitInput(id="q", prompt="p" * 9000, title="t" * 900, schema=bool, shown={"a": "x" * 9000})
    message = long.to_slack("r")
    assert [block.to_dict() for block in Block.parse_all(message["blocks"])] == message["blocks"]


def test_slack_never_has_a_key():
    with pytest.raises(ConfigurationError, match="must not stand in a message"):
        SHIP.to_slack(str(generate_key()))
    with pytest.raises(ConfigurationError, match="pass url="):
        PARCEL.to_slack("r")


@pytest.mark.parametrize(
    "payload", [{}, {"actions": [{}]}, {"actions": [{"action_id": "flowpersist_answer_0", "value": "x"}]}]
)
def test_a_slack_payload_without_an_answer(payload):
    assert isinstance(from_slack(payload).failure(), InputValidationError)


FORMS = {
    "parcel": (PARCEL, {"size": "small", "weight": "3", "mail": ""}, {"size": "small", "weight": 3, "fragile": False}),
    "checked": (
        PARCEL,
        {"size": "large", "weight": "3", "fragile": "on"},
        {"size": "large", "weight": 3, "fragile": True},
    ),
    "boolean": (SHIP, {"answer": "true"}, True),
    "unchecked": (SHIP, {}, False),
    "nested": (NESTED, {"answer": '[{"a": 1}]'}, [{"a": 1}]),
}


@pytest.mark.parametrize(("awaiting", "sent", "answer"), FORMS.values(), ids=FORMS)
def test_a_form_and_what_it_sends(awaiting, sent, answer):
    form = awaiting.to_form()
    assert set(sent) <= {one["name"] for one in form["fields"]}
    assert awaiting.from_form(sent).unwrap() == answer
    awaiting.check(answer).unwrap()


def test_the_fields_of_a_form():
    fields = {one["name"]: one for one in PARCEL.to_form()["fields"]}
    assert [one["widget"] for one in fields.values()] == ["select", "number", "checkbox", "text"]
    assert [one["required"] for one in fields.values()] == [True, True, False, False]
    assert sorted(one["value"] for one in fields["size"]["options"]) == ["large", "small"]


@pytest.mark.parametrize("sent", [{"other": "1"}, {"weight": "three"}])
def test_a_bad_form(sent):
    assert isinstance(PARCEL.from_form(sent).failure(), InputValidationError)


def test_forms_are_the_callers_own():
    for form in (SHIP.to_openai(strict=False), SHIP.to_mcp(), SHIP.to_google()):
        schema = form.get("parameters") or form.get("inputSchema") or form["parametersJsonSchema"]
        schema["properties"].clear()
    assert SHIP.parameters == PARAMETERS
    assert SHIP.to_mcp()["inputSchema"]["properties"]


def test_a_definition_that_refers_to_itself_by_an_escaped_name_is_found():
    node = {"type": "object", "properties": {"next": {"$ref": "#/$defs/a~1b"}}}
    tree = AwaitInput(id="tree", prompt="?", parameters={**node, "$defs": {"a/b": node}})
    assert tree.to_openai()["strict"] is True
    assert "strict" not in tree.to_anthropic()
