"""Which names a step sees: numbers of iterations, and names in scope that are written as fields of the step before."""

from __future__ import annotations

import pytest
from returns.result import Failure

from flowpersist import or_raise
from flowpersist.dynamicflow import Completed, FlowRunner, tool
from flowpersist.dynamicflow import compile as compile_flow
from flowpersist.errors import FlowError
from flowpersist.testing import open_test_hub


@tool()
async def say(value: object = None) -> object:
    return value


def spoken(value, **more):
    return {"tool": "say", "args": {"value": value}, **more}


async def result(*steps, input=None):
    async with open_test_hub(keyring=None) as hub:
        outcome = or_raise(await FlowRunner(hub, [say]).start({"flow": list(steps)}, input=input))
        assert isinstance(outcome, Completed)
        return outcome.result


INDEXED = {
    "map": ({"map": ["a", "b"], "with": spoken(["$index", "$item"])}, [[0, "a"], [1, "b"]]),
    "filter": ({"filter": ["a", "b", "c"], "condition": "$index % 2 == 0"}, ["a", "c"]),
    "reduce": (
        {"reduce": [5, 6], "initial": 0, "with": spoken({"i": "$index", "acc": "$acc"})},
        {"i": 1, "acc": {"i": 0, "acc": 0}},
    ),
    "for": ({"loop": "for", "over": ["a", "b"], "body": spoken("$index")}, [0, 1]),
    "while": ({"loop": "while", "condition": "$index < 3", "body": spoken("$index")}, [0, 1, 2]),
    "nested": (
        {"map": [[1, 2], [3]], "as": "row", "with": {"map": "$row", "with": spoken("$index")}},
        [[0, 1], [0]],
    ),
}


@pytest.mark.parametrize(("step", "expected"), INDEXED.values(), ids=INDEXED)
async def test_an_iteration_has_its_number(step, expected):
    assert await result(step) == expected


@pytest.mark.parametrize(
    "step",
    [spoken("$index"), {"condition": "$index == 0", "then": spoken(1)}, {"map": "$index", "with": spoken(1)}],
    ids=["arguments", "condition", "over"],
)
def test_outside_of_iterations_there_is_no_number(step):
    error = compile_flow({"flow": [step]}).failure()
    assert "this step is in none" in str(error)


@pytest.mark.parametrize(
    "step", [spoken(1, id="index"), spoken(1, output="index"), {"map": [1], "as": "index", "with": spoken(1)}]
)
def test_the_name_of_the_number_is_reserved(step):
    assert "index, input, previousOutput" in str(compile_flow({"flow": [step]}).failure())


SHORT = {
    "item": ({"map": [{"a": 1}, {"a": 2}], "with": [spoken("no object"), spoken("$.item.a")]}, [1, 2]),
    "accumulator": (
        {"reduce": [1, 2, 3], "initial": [], "with": [spoken(0), spoken(["$.acc", "$.item"])]},
        [[[[], 1], 2], 3],
    ),
    "filter": ({"filter": [1, 2], "condition": "$.item > 1"}, [2]),
    "condition": (
        {"map": [1, 2], "with": {"condition": "$.item == 2", "then": spoken("two"), "else": spoken("one")}},
        ["one", "two"],
    ),
    "the field first": ({"map": [{"item": "a field"}], "with": spoken("$.item")}, ["a field"]),
}


@pytest.mark.parametrize(("step", "expected"), SHORT.values(), ids=SHORT)
async def test_a_name_in_scope_is_found_where_the_step_before_has_no_such_field(step, expected):
    assert await result(step) == expected


async def test_a_step_in_scope_is_found_as_a_field_too():
    assert await result(spoken({"a": 1}, id="first"), spoken("text"), spoken("$.first.output.a")) == 1


async def test_what_is_neither_a_field_nor_a_name_is_an_error_of_the_field():
    async with open_test_hub(keyring=None) as hub:
        outcome = await FlowRunner(hub, [say]).start({"flow": [spoken({"a": 1}), spoken("$.missing.a", id="s")]})
    assert isinstance(outcome, Failure)
    error = outcome.failure()
    assert isinstance(error, FlowError)
    assert (error.step, error.reference) == ("s", "$previousOutput.missing.a")


async def test_keys_of_any_text_are_followed():
    given = {"a.b": [{"x y": 1}], "日本": 2}
    steps = [spoken(["$input['a.b'][0]['x y']", '$input["日本"]', "$input.日本"])]
    assert await result(*steps, input=given) == [1, 2, 2]


TEXTS = {
    "twice": ('{"flow": [{"tool": "say", "tool": "say"}]}', "has the key 'tool' twice"),
    "twice deep": ('{"flow": [{"tool": "say", "args": {"value": {"a": 1, "a": 2}}}]}', "has the key 'a' twice"),
    "twice in bytes": (b'{"flow": [], "flow": [{"tool": "say"}]}', "has the key 'flow' twice"),
}


@pytest.mark.parametrize(("text", "told"), TEXTS.values(), ids=TEXTS)
def test_a_key_that_is_twice_in_an_object_is_refused(text, told):
    assert told in str(compile_flow(text).failure())


@pytest.mark.parametrize("kind", ["str", "bytes"])
def test_a_byte_order_mark_is_read(kind):
    text = '\ufeff{"flow": [{"tool": "say"}]}'
    source = text if kind == "str" else text.encode()
    assert compile_flow(source).unwrap().hash == compile_flow('{"flow": [{"tool": "say"}]}').unwrap().hash
