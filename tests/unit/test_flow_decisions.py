"""Conditions and choices that a tool makes: which tool is called with what, how often, and what it may answer."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from returns.result import Success

from flowpersist.dynamicflow import check, tool
from flowpersist.dynamicflow import compile as compile_flow
from flowpersist.dynamicflow.engine import Engine
from flowpersist.dynamicflow.outcomes import PENDING, Done, Failed
from flowpersist.dynamicflow.tools import Toolbox
from flowpersist.errors import ConfigurationError
from flowpersist.inputs.await_input import AwaitInput

asked: list[Any] = []
answers: list[object] = []
calls: list[Any] = []


@tool(id="model")
async def model(prompt: str, options: list[dict[str, str]], input: object = None) -> object:
    asked.append((prompt, options, input))
    return answers.pop(0)


@tool(id="short")
async def short(prompt: str) -> object:
    asked.append(prompt)
    return answers.pop(0)


@tool(id="is_even")
async def is_even(value: int) -> bool:
    calls.append(value)
    return value % 2 == 0


@tool(id="kind_of")
async def kind_of(value: object) -> object:
    calls.append(value)
    return value


@tool(id="say")
async def say(value: object = None) -> object:
    calls.append(value)
    return value


TOOLS = [model, short, is_even, kind_of, say]


@pytest.fixture(autouse=True)
def _fresh():
    for kept in (asked, answers, calls):
        kept.clear()


class Run:
    """Walks a flow again and again, as the runner does."""

    def __init__(self, *steps: Any, input: Any = None, chooser: Any = "model", tools: Any = TOOLS) -> None:
        compiled = compile_flow({"metadata": {"name": "doc"}, "flow": list(steps)})
        assert isinstance(compiled, Success), compiled
        self.flow, self.input, self.frame = compiled.unwrap(), input, {}
        self.toolbox = Toolbox.of(tools, [], chooser=chooser)
        self.open: set[str] = set()

    async def walk(self, given=None):
        self.frame = copy.deepcopy(self.frame)
        self.open -= set(given or {})
        before = dict.fromkeys(self.open, 0)
        engine = Engine(
            self.flow, self.toolbox, "run", self.input, dict(given or {}), open=before, backoff=lambda _failures: 0.0
        )
        outcome = await engine.run(self.frame)
        self.open = set(engine.open)
        self.waits = engine.waits
        return outcome


def step(name, **more):
    return {"id": name, "tool": "say", "args": {"value": name}, **more}


def ask(name):
    return {"id": name, "tool": "await_input", "args": {"prompt": "?"}}


SWITCH: dict[str, Any] = {
    "id": "s",
    "switch": "What is $input.text about?",
    "options": [{"id": "a", "name": "A", "description": "$first"}, "b"],
    "branches": {"a": step("in_a"), "b": step("in_b")},
}
TRUTH = [{"id": "true"}, {"id": "false"}]


@pytest.mark.parametrize("answer", ["b", {"choice": "b"}, {"choice": "b", "reason": "so"}])
async def test_a_prompt_of_a_switch_is_answered_by_the_chooser(answer):
    answers.append(answer)
    run = Run(SWITCH, input={"text": "cats"})
    assert await run.walk() == Done("in_b", "say")
    assert asked == [("What is cats about?", [SWITCH["options"][0], {"id": "b"}], {"text": "cats"})]
    assert run.flow.tools == {"choose", "say"}


async def test_without_options_the_branches_are_the_options():
    answers.append("y")
    run = Run({"switch": "Which?", "branches": {"x": step("in_x"), "y": step("in_y")}}, input=1)
    assert await run.walk() == Done("in_y", "say")
    assert asked == [("Which?", [{"id": "x"}, {"id": "y"}], 1)]


async def test_an_option_without_a_branch_takes_the_default():
    answers.append("b")
    branches = {"a": step("in_a")}
    assert await Run({**SWITCH, "branches": branches, "default": step("other")}, input={"text": ""}).walk() == Done(
        "other", "say"
    )


@pytest.mark.parametrize("answer", ["c", 1, None, True, ["a"], {"choice": "c"}, {"chosen": "a"}])
async def test_a_choice_that_is_no_option_is_an_error(answer):
    answers.append(answer)
    outcome = await Run(SWITCH, input={"text": "cats"}).walk()
    assert isinstance(outcome, Failed)
    assert (outcome.error.step, outcome.error.tool) == ("s", "model")
    assert "the tool 'model' chose" in outcome.error.message
    assert "the options are a, b" in outcome.error.message


async def test_a_failed_choice_is_tried_again():
    answers.extend(["c", "a"])
    assert await Run({**SWITCH, "retry": 1}, input={"text": ""}).walk() == Done("in_a", "say")
    answers.append("c")
    run = Run({**SWITCH, "onError": step("caught")}, input={"text": ""})
    assert await run.walk() == Done("caught", "say")


async def test_a_choice_is_made_once():
    answers.append("a")
    run = Run({**SWITCH, "branches": {"a": [ask("q"), step("in_a")], "b": step("in_b")}}, input={"text": ""})
    assert await run.walk() is PENDING
    assert await run.walk({"s.q": 1}) == Done("in_a", "say")
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("condition", "answer", "expected"),
    [
        ({"type": "tool", "tool": "is_even", "args": {"value": "$input.n"}}, None, "yes"),
        ({"type": "tool", "toolId": "is_even", "inputs": {"value": 3}}, None, "no"),
        ({"type": "tool", "tool": "is_even", "with": "$input.whole"}, None, "yes"),
        ({"type": "tool", "tool": "kind_of", "args": {"value": {"choice": False}}}, None, "no"),
        ({"type": "llm", "prompt": "Is $input.n even?"}, True, "yes"),
        ({"type": "llm", "prompt": "Is $input.n even?"}, "false", "no"),
        ({"type": "llm", "prompt": "Is $input.n even?"}, {"choice": "true"}, "yes"),
        ({"type": "expression", "expression": "$input.n > 3"}, None, "yes"),
    ],
)
async def test_conditions_of_all_types(condition, answer, expected):
    answers.append(answer)
    steps = {"id": "c", "condition": condition, "then": step("yes"), "else": step("no")}
    assert await Run(steps, input={"n": 4, "whole": {"value": 8}}).walk() == Done(expected, "say")
    if condition["type"] == "llm":
        assert asked[0][:2] == ("Is 4 even?", TRUTH)


@pytest.mark.parametrize("value", ["yes", 1, None, {"ok": True}])
async def test_a_condition_of_a_tool_is_true_or_false(value):
    condition = {"type": "tool", "tool": "kind_of", "args": {"value": value}}
    outcome = await Run({"id": "c", "condition": condition, "then": step("yes")}).walk()
    assert isinstance(outcome, Failed)
    assert "the options are true, false" in outcome.error.message


async def test_a_tool_without_arguments_gets_the_step_before():
    condition = {"type": "tool", "tool": "is_even"}
    assert await Run({"condition": condition, "then": step("yes")}, input=8).walk() == Done("yes", "say")
    switch = {"switch": {"type": "tool", "tool": "kind_of"}, "branches": {"a": step("in_a"), "b": step("in_b")}}
    assert await Run(switch, input="b").walk() == Done("in_b", "say")


async def test_what_a_text_holds_is_no_reference_for_the_chooser():
    answers.append("a")
    await Run({**SWITCH, "switch": {"type": "llm", "prompt": "$input.text"}}, input={"text": "$input.secret"}).walk()
    assert asked[0][0] == "$input.secret"


async def test_the_chooser_gets_the_fields_that_it_takes():
    answers.append("a")
    await Run(SWITCH, input={"text": "x"}, chooser=short).walk()
    assert asked == ["What is x about?"]


async def test_a_filter_asks_for_each_item_once():
    over = {"id": "f", "filter": "$input", "concurrency": 2}
    assert await Run({**over, "condition": {"type": "tool", "tool": "is_even"}}, input=[1, 2, 3, 4]).walk() == Done(
        [2, 4]
    )
    assert sorted(calls) == [1, 2, 3, 4]
    answers.extend(["true", "false"])
    by_prompt = {"type": "llm", "prompt": "Keep $item at $index?"}
    assert await Run({"filter": "$input", "condition": by_prompt}, input=["x", "y"]).walk() == Done(["x"])
    assert asked == [("Keep x at 0?", TRUTH, "x"), ("Keep y at 1?", TRUTH, "y")]


async def test_a_while_loop_asks_before_each_iteration_once():
    answers.extend([True, True, False])
    loop = {"loop": "while", "condition": {"type": "llm", "prompt": "More than $index?"}, "body": [ask("q")], "id": "l"}
    run = Run(loop)
    assert await run.walk() is PENDING
    assert await run.walk({"l[0].q": "one"}) is PENDING
    assert await run.walk({"l[1].q": "two"}) == Done(["one", "two"])
    assert [prompt for prompt, _, _ in asked] == ["More than 0?", "More than 1?", "More than 2?"]
    answers.extend([True] * 5)
    assert isinstance(await Run({**loop, "body": step("x"), "maxIterations": 3}).walk(), Failed)


async def test_a_person_may_choose():
    person = AwaitInput(
        id="person",
        prompt="$prompt",
        schema={"enum": ["a", "b"]},
        parameters={"type": "object", "properties": {"prompt": {"type": "string"}}, "required": ["prompt"]},
    )
    run = Run({**SWITCH, "branches": {"a": [ask("q")], "b": step("in_b")}}, input={"text": "x"}, chooser=person)
    assert await run.walk() is PENDING
    assert run.open == {"s"}
    assert run.waits["s"].prompt == "What is x about?"
    assert await run.walk({"s": "a"}) is PENDING
    assert run.open == {"s.q"}
    assert await run.walk({"s.q": "done"}) == Done("done")
    each = {"id": "f", "filter": "$input", "condition": {"type": "llm", "prompt": "$item?"}, "concurrency": 2}
    run = Run(each, input=[1, 2], chooser=person)
    assert await run.walk() is PENDING
    assert run.open == {"f[0]", "f[1]"}
    assert await run.walk({"f[1]": "true"}) is PENDING
    assert await run.walk({"f[0]": "false"}) == Done([2])


def test_a_missing_chooser_names_the_remedy():
    (problem,) = check({"flow": [SWITCH]}, tools=[say])
    assert (problem.pointer, problem.code, problem.tool) == ("/flow/0/switch", "unknown-tool", "choose")
    assert "FlowRunner(chooser=…)" in problem.message
    assert check({"flow": [SWITCH]}, tools=[say], chooser=model) == ()
    assert check({"flow": [SWITCH]}, tools=[say, model], chooser="model") == ()
    (problem,) = check({"flow": [{"condition": {"type": "tool", "tool": "nope"}, "then": []}]}, tools=[say])
    assert (problem.pointer, problem.tool) == ("/flow/0/condition", "nope")


@pytest.mark.parametrize("chooser", ["nope", "choose"])
def test_the_chooser_is_a_tool(chooser):
    with pytest.raises(ConfigurationError, match="chooser"):
        Toolbox.of(TOOLS, [], chooser=chooser)
    with pytest.raises(TypeError):
        Toolbox.of(TOOLS, [], chooser=3)


@pytest.mark.parametrize(
    ("step", "pointer", "code"),
    [
        ({"condition": {"type": "vote"}}, "/condition/type", "invalid-value"),
        ({"condition": {"type": "llm"}}, "/condition", "missing-field"),
        ({"condition": {"type": "llm", "prompt": 3}}, "/condition/prompt", "invalid-value"),
        ({"condition": {"type": "llm", "prompt": "Is $x so?"}}, "/condition/prompt", "unknown-name"),
        ({"condition": {"type": "llm", "prompt": "?", "model": "x"}}, "/condition/model", "unknown-field"),
        ({"condition": {"type": "tool"}}, "/condition", "invalid-value"),
        ({"condition": {"type": "tool", "tool": "say", "args": [1]}}, "/condition/args", "wrong-type"),
        (
            {"condition": {"type": "tool", "tool": "say", "args": {"value": "$x"}}},
            "/condition/args/value",
            "unknown-name",
        ),
        ({"switch": "Which?", "branches": {}}, "/options", "invalid-value"),
        ({"switch": "Which?", "options": ["a", "b"], "branches": {"a": []}}, "/options", "invalid-value"),
        ({"switch": "Which?", "options": [3], "branches": {"a": []}}, "/options/0", "wrong-type"),
        ({"switch": "Is $x so?", "branches": {"a": []}}, "/switch", "unknown-name"),
        ({"switch": "$input.kind ==", "branches": {"a": []}}, "/switch", "invalid-expression"),
        ({"switch": "lenght($input) > 1", "branches": {"a": []}}, "/switch", "invalid-expression"),
        ({"filter": [1], "condition": {"type": "llm", "prompt": "$itme?"}}, "/condition/prompt", "unknown-name"),
    ],
)
def test_what_can_not_be_a_decision_is_a_problem(step, pointer, code):
    assert (f"/flow/0{pointer}", code) in [(one.pointer, one.code) for one in check({"flow": [step]})]
