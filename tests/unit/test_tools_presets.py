"""Ready questions: what each takes and refuses, its forms, and the families of tools for agents."""

from __future__ import annotations

import pytest

from flowpersist import AwaitInput, ConfigurationError, or_raise
from flowpersist.inputs import Action
from flowpersist.tools import await_input, customer, development, human_in_the_loop

CALL = Action("refund", {"amount": 5}, schema={"type": "object", "properties": {"amount": {"maximum": 9}}})
FILE = {"name": "a.pdf", "media_type": "application/pdf", "size": 3, "digest": "sha256:" + "0" * 64}
ORDER = {"type": "object", "properties": {"n": {"type": "integer"}, "to": {"type": "string"}}, "required": ["n"]}
#: The question, answers that it takes, and answers that it refuses.
PRESETS = {
    "text": (
        await_input.text("Why?", min_length=2, max_length=4, pattern="^a"),
        ["ab", "abcd"],
        ["a", "abcde", "bb", 7, None],
    ),
    "confirmation": (await_input.confirmation("Sure?"), [True, False], ["yes", 1, None]),
    "number": (await_input.number("How much?", minimum=1, maximum=3), [1, 2.5, 3], [0.9, 4, "2", True]),
    "whole number": (await_input.number("How many?", minimum=1, whole=True), [1, 7], [0, 1.5]),
    "date": (await_input.date("When?"), ["2027-01-31"], ["31.1.2027", "2027-02-30", 7]),
    "moment": (await_input.moment("When?"), ["2027-01-31T17:00:00+01:00"], ["2027-01-31", "17:00"]),
    "choice": (await_input.choice("Which?", ["a", "b"]), ["a", "b"], ["c", "", None]),
    "labelled choice": (await_input.choice("Which?", {"a": "An A", "b": "A B"}), ["a"], ["An A"]),
    "choices": (
        await_input.choices("Which?", {"a": "A", "b": "B", "c": "C"}, at_least=1, at_most=2),
        [["a"], ["c", "a"]],
        [[], ["a", "b", "c"], ["a", "a"], ["d"], "a"],
    ),
    "form": (await_input.form("Which order?", ORDER), [{"n": 1}, {"n": 1, "to": "x"}], [{}, {"n": "1"}, 7]),
    "approval": (
        await_input.approval("Refund?", CALL),
        [
            {"decision": "approve"},
            {"decision": "reject"},
            {"decision": "respond", "comment": "5"},
            {"decision": "edit", "arguments": {"amount": 2}},
            {"decision": "edit", "patch": [{"op": "replace", "path": "/amount", "value": 2}]},
        ],
        [
            {},
            True,
            {"decision": "perhaps"},
            {"decision": "respond"},
            {"decision": "edit"},
            {"decision": "edit", "arguments": {"amount": 10}},
            {"decision": "edit", "patch": [{"op": "replace", "path": "/amount", "value": 10}]},
            {"decision": "approve", "by": "me"},
        ],
    ),
    "explained approval": (
        await_input.approval("Ship?", allow=("approve", "reject"), explain_rejection=True),
        [{"decision": "approve"}, {"decision": "reject", "comment": "late"}],
        [{"decision": "reject"}, {"decision": "reject", "comment": ""}, {"decision": "respond", "comment": "x"}],
    ),
    "approval of no call": (await_input.approval("Ship?"), [{"decision": "approve"}], [{"decision": "edit"}]),
    "document review": (
        await_input.document_review("Good?", {"text": "once upon"}),
        [{"verdict": "approve"}, {"verdict": "changes", "remarks": [{"place": "line 1", "text": "typo"}]}],
        [{}, {"verdict": "fine"}, {"verdict": "changes", "remarks": [{"place": "line 1"}]}],
    ),
    "data entry": (await_input.data_entry("Right?", ORDER, {"n": "one"}), [{"n": 1}], [{"n": "one"}, {}]),
    "file": (
        await_input.file("The bill?", media_types=["application/pdf"], max_size=3),
        [FILE],
        [{**FILE, "size": 4}, {**FILE, "media_type": "text/html"}, {**FILE, "digest": "x"}, {"name": "a"}],
    ),
    "rating": (await_input.rating("How was it?"), [1, 5], [0, 6, 2.5]),
    "table": (
        await_input.table("Which?", {"a": {"n": 1}, "b": {"n": 2}}),
        [{"a": {"decision": "approve"}, "b": {"decision": "reject", "comment": "no"}}],
        [{"a": {"decision": "approve"}}, {"a": {"decision": "later"}, "b": {"decision": "approve"}}],
    ),
    "checkpoint": (
        await_input.checkpoint("Go on?", {"step": 3}),
        [{"action": "continue"}, {"action": "abort", "note": "odd"}],
        [{}, {"action": "stop"}],
    ),
}


@pytest.mark.parametrize("name", PRESETS)
def test_a_ready_question_takes_and_refuses(name):
    awaiting, taken, refused = PRESETS[name]
    for answer in taken:
        assert or_raise(awaiting.check(answer)) == answer
    for answer in refused:
        assert awaiting.check(answer).failure().code == "invalid-input"
    assert or_raise(AwaitInput.from_data(awaiting.to_data())).to_data() == awaiting.to_data()


#: Those whose answer does not fit the flat form of an MCP elicitation.
NESTED = {"text", "approval", "approval of no call", "explained approval", "document review", "file", "table"}


@pytest.mark.parametrize("name", PRESETS)
def test_a_ready_question_has_its_forms(name):
    awaiting = PRESETS[name][0]
    assert awaiting.to_form()["fields"]
    assert awaiting.to_agui("i")["message"]
    if name in NESTED:
        with pytest.raises(ConfigurationError, match="pass url="):
            awaiting.to_mcp_elicitation()
        assert awaiting.to_mcp_elicitation(url="https://a.example/q")["mode"] == "url"
    else:
        assert awaiting.to_mcp_elicitation()["mode"] == "form"


BAD = {
    "no choices": lambda: await_input.choice("?", []),
    "a choice twice": lambda: await_input.choice("?", ["a", "a"]),
    "an empty choice": lambda: await_input.choice("?", ["a", ""]),
    "a choice that is no text": lambda: await_input.choice("?", [1, 2]),
    "bounds of a scale": lambda: await_input.rating("?", lowest=5, highest=1),
    "no rows": lambda: await_input.table("?", {}),
    "no decisions": lambda: await_input.approval("?", allow=()),
    "an unknown decision": lambda: await_input.approval("?", allow=("accept",)),
    "a silent approval": lambda: await_input.approval("?", CALL, default={"decision": "approve"}),
    "a default that does not fit": lambda: await_input.confirmation("?", default="yes"),
    "a pattern": lambda: await_input.text("?", pattern="("),
    "bounds of a number": lambda: await_input.number("?", minimum="low"),
}


@pytest.mark.parametrize("make", BAD.values(), ids=BAD)
def test_what_makes_no_sense_is_refused(make):
    with pytest.raises(ConfigurationError):
        make()


def test_an_unknown_argument_is_refused():
    with pytest.raises(TypeError, match="unexpected arguments of an AwaitInput: quorums"):
        await_input.confirmation("?", quorums=2)


def test_options_reach_the_question():
    asked = await_input.approval("Ship?", id="ship", title="Order 7", shown={"a": 1}, default={"decision": "reject"})
    assert (asked.id, asked.title, asked.shown, asked.default) == ("ship", "Order 7", {"a": 1}, {"decision": "reject"})
    said = await_input.approval("Ship?", CALL, default={"decision": "approve"}, approve_on_expiry=True)
    assert said.default == {"decision": "approve"}


@pytest.mark.parametrize("family", [human_in_the_loop, customer, development])
def test_a_family_is_tools_that_a_model_calls(family):
    tools = family()
    assert len({one.id for one in tools}) == len(tools) == 3
    for one in tools:
        assert one.to_openai(strict=True)["strict"] is True
        assert one.to_anthropic(strict=True)["strict"] is True
        arguments = dict.fromkeys(one.parameters["required"], "seven")
        asked = or_raise(one.fill(arguments))
        assert "seven" in asked.prompt
        assert "$" not in asked.prompt + (asked.title or "")
