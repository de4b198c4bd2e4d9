"""All tool calls of one message, in the forms of each provider's own package, and the messages with their results."""

from __future__ import annotations

import json

import pytest
from anthropic.types import Message, MessageParam
from google.genai.types import Content
from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.messages.utils import convert_to_messages
from openai.types.chat import ChatCompletionMessage, ChatCompletionToolMessageParam
from openai.types.responses import ResponseFunctionToolCall
from openai.types.responses.response_input_item_param import FunctionCallOutput
from pydantic import TypeAdapter
from pydantic_ai.messages import ModelMessagesTypeAdapter, ModelResponse, TextPart, ToolCallPart

from flowpersist import AwaitInput, ConfigurationError, InputValidationError
from flowpersist.inputs.forms import CallFailure, read_calls

ORDER = {"type": "object", "properties": {"order": {"type": "integer"}}, "required": ["order"]}
SHIP = AwaitInput(id="ship", prompt="Ship $order?", schema=bool, parameters=ORDER)
CHARGE = AwaitInput(id="charge", prompt="Charge for $order?", schema=bool, parameters=ORDER)
#: Two questions, and a call of a tool that is not one.
MADE = (("c1", "ship"), ("c2", "look_up"), ("c3", "charge"))


def chat(made=MADE):
    calls = [{"id": i, "type": "function", "function": {"name": n, "arguments": '{"order": 7}'}} for i, n in made]
    return ChatCompletionMessage.model_validate({"role": "assistant", "content": None, "tool_calls": calls})


def responses(made=MADE):
    calls = [
        ResponseFunctionToolCall(type="function_call", call_id=i, name=n, arguments='{"order": 7}') for i, n in made
    ]
    return [{"type": "reasoning", "id": "r1", "summary": []}, *calls]


def anthropic(made=MADE):
    blocks = [{"type": "tool_use", "id": i, "name": n, "input": {"order": 7}} for i, n in made]
    text = {"type": "text", "text": "I'll do that", "citations": None}
    return Message.model_construct(role="assistant", content=[text, *blocks])


def google(made=MADE):
    parts = [{"functionCall": {"id": i, "name": n, "args": {"order": 7}}} for i, n in made]
    return Content.model_validate({"role": "model", "parts": [{"text": "I'll do that"}, *parts]})


def langchain(made=MADE):
    return AIMessage("", tool_calls=[{"id": i, "name": n, "args": {"order": 7}} for i, n in made])


def pydantic_ai(made=MADE):
    return ModelResponse([TextPart("I'll do that"), *(ToolCallPart(n, {"order": 7}, i) for i, n in made)])


FORMS = {
    "chat": ("openai", chat),
    "responses": ("openai", responses),
    "anthropic": ("anthropic", anthropic),
    "google": ("google", google),
    "langchain": ("langchain", langchain),
    "pydantic_ai": ("pydantic_ai", pydantic_ai),
}


def tool_messages(messages):
    made = convert_to_messages(messages)
    assert all(isinstance(one, ToolMessage) for one in made)
    return [one.tool_call_id for one in made]


def chat_messages(messages):
    TypeAdapter(list[ChatCompletionToolMessageParam]).validate_python(messages)
    return [one["tool_call_id"] for one in messages]


def output_items(messages):
    TypeAdapter(list[FunctionCallOutput]).validate_python(messages)
    return [one["call_id"] for one in messages]


def anthropic_message(messages):
    (message,) = messages
    TypeAdapter(MessageParam).validate_python(message)
    return [one["tool_use_id"] for one in message["content"]]


def google_content(messages):
    (content,) = messages
    return [one.function_response.id for one in Content.model_validate(content).parts]


def pydantic_ai_request(messages):
    ModelMessagesTypeAdapter.validate_python(messages)
    return [one["tool_call_id"] for one in messages[0]["parts"]]


#: The messages pass the package's own validation; their ids.
IDS = {
    "chat": chat_messages,
    "responses": output_items,
    "anthropic": anthropic_message,
    "google": google_content,
    "langchain": tool_messages,
    "pydantic_ai": pydantic_ai_request,
}


@pytest.mark.parametrize("name", FORMS)
def test_all_calls_of_a_message_get_their_results_in_its_order(name):
    provider, message = FORMS[name]
    batch = read_calls(provider, message(), [CHARGE, SHIP]).unwrap()
    assert (list(batch.calls), list(batch.others)) == (["c1", "c3"], ["c2"])
    assert batch.calls["c3"].filled().unwrap().prompt == "Charge for 7?"
    assert "has no question" in str(batch.others["c2"].filled().failure())
    wrong = AwaitInput(id="x", prompt="?", schema=bool).check("no").failure()
    messages = batch.results({"c3": wrong, "c2": {"found": 1}, "c1": CallFailure("not today")}).unwrap()
    assert IDS[name](messages) == ["c1", "c2", "c3"]
    assert "does not fit" in json.dumps(messages)
    assert "not today" in json.dumps(messages)


@pytest.mark.parametrize("name", FORMS)
def test_two_calls_with_one_id_are_refused_by_their_place(name):
    provider, message = FORMS[name]
    error = read_calls(provider, message((*MADE, ("c1", "charge"))), [SHIP, CHARGE]).failure()
    assert isinstance(error, InputValidationError)
    (problem,) = error.problems
    assert "has the id of another call: 'c1'" in problem.message
    assert problem.pointer.rsplit("/", 1)[-1] in ("3", "4")


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize(
    ("ids", "told"),
    [(("c1", "c2", "c3", "c4"), "/c4 is not the id of a tool call"), (("c1", "c3"), "/c2 has no outcome")],
    ids=["unknown", "missing"],
)
def test_an_unknown_or_missing_id_is_refused_by_name(name, ids, told):
    provider, message = FORMS[name]
    batch = read_calls(provider, message(), [SHIP, CHARGE]).unwrap()
    error = batch.results(dict.fromkeys(ids, True)).failure()
    assert isinstance(error, InputValidationError)
    assert told in str(error)


def test_calls_without_ids_are_named_by_their_places():
    message = {"role": "model", "parts": [{"functionCall": {"name": "ship", "args": {"order": n}}} for n in (1, 2)]}
    batch = read_calls("google", message, {"ship": SHIP}).unwrap()
    assert list(batch.calls) == ["0", "1"]
    (content,) = batch.results({"0": True, "1": False}).unwrap()
    assert [one["functionResponse"]["response"]["output"] for one in content["parts"]] == [True, False]


TEXT = {
    "chat": ("openai", {"role": "assistant", "content": "Done"}),
    "responses": ("openai", [{"type": "message", "role": "assistant", "content": []}]),
    "anthropic": ("anthropic", {"role": "assistant", "content": "Done"}),
    "google": ("google", {"role": "model", "parts": [{"text": "Done"}]}),
    "langchain": ("langchain", AIMessage("Done")),
    "pydantic_ai": ("pydantic_ai", ModelResponse([TextPart("Done")])),
}


@pytest.mark.parametrize("name", TEXT)
def test_a_message_without_calls_has_none(name):
    provider, message = TEXT[name]
    batch = read_calls(provider, message, [SHIP]).unwrap()
    assert not batch.calls
    assert not batch.others


@pytest.mark.parametrize("provider", sorted({provider for provider, _ in FORMS.values()}))
@pytest.mark.parametrize("at", range(4))
def test_what_is_no_message_is_refused(provider, at):
    error = read_calls(provider, [7, None, {}, "text"][at], [SHIP]).failure()
    assert isinstance(error, InputValidationError)
    assert f"is not in the form of {provider}" in str(error)


def test_too_many_calls_are_refused():
    made = tuple((f"c{number}", "ship") for number in range(1001))
    error = read_calls("openai", chat(made), [SHIP]).failure()
    assert "has over 1000 tool calls" in str(error)


def test_a_broken_call_is_named_by_its_place():
    message = {"role": "assistant", "tool_calls": [{"id": 7, "function": {"name": "ship", "arguments": "{}"}}, {}]}
    error = read_calls("openai", message, [SHIP]).failure()
    assert [problem.pointer for problem in error.problems] == ["/tool_calls/0", "/tool_calls/1"]


def test_questions_need_names_of_their_own():
    with pytest.raises(ConfigurationError, match="different ids"):
        read_calls("openai", chat(), [SHIP, SHIP])
    with pytest.raises(ConfigurationError, match="Invalid provider"):
        read_calls("bard", chat(), [SHIP])
