from __future__ import annotations

import dataclasses
import enum
import json
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Literal, NotRequired, TypedDict

import attrs
import msgspec
import pydantic
import pytest
from returns.result import Failure, Success

from flowpersist import AwaitInput, ConfigurationError, InputValidationError
from flowpersist.errors import MalformedPayload
from flowpersist.inputs.await_input import schema_in
from flowpersist.inputs.json_schema import JsonSchema, check_json, matches_pattern
from flowpersist.inputs.json_types import schema_of


class Decision(TypedDict):
    decision: Literal["approve", "refuse"]
    reason: Annotated[str, msgspec.Meta(min_length=3)]
    until: NotRequired[str]


class Colour(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Point:
    x: int
    y: int = 0


@attrs.frozen
class Amount:
    value: float
    due: date


class Person(pydantic.BaseModel):
    name: str
    age: int = 0


REVIEW = AwaitInput(id="review", prompt="Is $package fine?", title="Review of $package", schema=Decision)


def problems(result) -> dict[str, str]:
    assert isinstance(result.failure(), InputValidationError)
    return dict(result.failure().problems)


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (bool, True, 1),
        (int, 3, "3"),
        (str, "x", None),
        (Literal["a", "b"], "a", "c"),
        (Colour, "red", "blue"),
        (list[int], [1, 2], [1, "2"]),
        (dict[str, int], {"a": 1}, {"a": "1"}),
        (int | None, None, "none"),
        (Decision, {"decision": "approve", "reason": "all good"}, {"decision": "maybe", "reason": "all good"}),
        (Point, {"x": 1}, {"y": 1}),
        (Amount, {"value": 1.5, "due": "2026-01-01"}, {"value": 1.5, "due": 7}),
        (Person, {"name": "Ann"}, {"age": 3}),
        ({"type": "string", "maxLength": 3}, "abc", "abcd"),
        (None, {"any": [1, None]}, {1: "no text"}),
    ],
)
def test_a_schema_comes_from_a_type_or_is_given(kind, good, bad):
    awaiting = AwaitInput(id="x", prompt="?", schema=kind)
    assert awaiting.check(good) == Success(good)
    assert problems(awaiting.check(bad))


@pytest.mark.parametrize(
    ("kind", "data", "value"),
    [
        (Point, {"x": 1}, Point(1)),
        (Amount, {"value": 2, "due": "2026-01-01"}, Amount(2.0, date(2026, 1, 1))),
        (Person, {"name": "Ann"}, Person(name="Ann")),
        (Colour, "red", Colour.RED),
        (bool, True, True),
        ({"type": "integer"}, 3, 3),
        (None, "anything", "anything"),
    ],
)
def test_parse_makes_the_class(kind, data, value):
    assert AwaitInput(id="x", prompt="?", schema=kind).parse(data) == Success(value)


def test_what_the_classs_own_rule_refuses_is_a_problem_without_the_value():
    class Even(pydantic.BaseModel):
        n: int

        @pydantic.field_validator("n")
        @classmethod
        def even(cls, n: int) -> int:
            if n % 2:
                msg = f"{n} is odd"
                raise ValueError(msg)
            return n

    refused = AwaitInput(id="x", prompt="?", schema=Even).parse({"n": 12345})
    assert "12345" not in str(refused.failure())
    assert "Even" in str(refused.failure())


def test_every_problem_is_named_with_its_pointer_and_without_the_value():
    found = problems(REVIEW.check({"decision": "my-secret", "reason": "x"}))
    assert found.keys() == {"/decision", "/reason"}
    assert "my-secret" not in json.dumps(found)
    assert problems(REVIEW.check({}))[""].endswith("is a required property")


def test_pointers_are_escaped():
    awaiting = AwaitInput(id="x", prompt="?", schema={"additionalProperties": {"type": "integer"}})
    assert problems(awaiting.check({"a/b~c": "x"})).keys() == {"/a~1b~0c"}


def test_problems_are_bounded():
    awaiting = AwaitInput(id="x", prompt="?", schema=list[int])
    assert len(awaiting.check(["x"] * 500).failure().problems) == 100


@pytest.mark.parametrize(
    "value",
    [
        float("nan"),
        float("inf"),
        "\ud800",
        {"\ud800": 1},
        {1: 2},
        (1, 2),
        b"bytes",
        {"a": object()},
        [[]] * 20_000,
        ["x" * 2**20] * 101,
        json.loads("[" * 80 + "]" * 80),
    ],
)
def test_what_is_no_bounded_json_is_refused(value):
    assert problems(AwaitInput(id="x", prompt="?").check(value))


def test_a_cycle_is_over_the_limits_and_ends():
    loop: list[object] = []
    loop.append(loop)
    assert "limits" in str(check_json(loop).failure())


@pytest.mark.parametrize(
    "arguments",
    [
        {"schema": {"type": "nonsense"}},
        {"schema": {"$ref": "https://example.org/schema"}},
        {"schema": {"$ref": "file:///etc/passwd"}},
        {"schema": {"pattern": "(?=look)"}},
        {"schema": {"enum": object()}},
        {"schema": object()},
        {"parameters": {"type": 7}},
        {"schema": bool, "default": "yes"},
        {"shown": {"a": b""}},
        {"timeout": timedelta(0)},
        {"deadline": datetime(2026, 1, 1)},  # noqa: DTZ001 - that is the mistake
        {"id": ""},
        {"id": 7},
    ],
)
def test_what_makes_no_sense_is_refused_when_it_is_made(arguments):
    with pytest.raises(ConfigurationError):
        AwaitInput(**({"id": "x", "prompt": "?"} | arguments))


def test_a_default_of_none_is_a_default():
    awaiting = AwaitInput(id="x", prompt="?", schema=bool | None, default=None)
    assert awaiting.to_data()["default"] is None
    assert "default" not in AwaitInput(id="x", prompt="?").to_data()


def test_it_comes_back_from_its_data_with_the_same_rules():
    awaiting = AwaitInput(
        id="x",
        prompt="?",
        schema=Decision,
        title="T",
        parameters={"type": "object"},
        default={"decision": "refuse", "reason": "nobody answered"},
        timeout=timedelta(hours=1, microseconds=1),
        deadline=datetime(2026, 1, 1, tzinfo=UTC),
        shown={"lines": [1, 2]},
    )
    data = json.loads(json.dumps(awaiting.to_data()))
    again = AwaitInput.from_data(data).unwrap()
    # The class is for whoever has it: here the schema stands for it.
    assert again.to_data() == {name: value for name, value in awaiting.to_data().items() if name != "class"}
    assert again.timeout == awaiting.timeout
    assert again.json_schema == awaiting.json_schema


@pytest.mark.parametrize(
    "data", [{}, {"id": "x"}, {"id": "x", "prompt": "?", "new": 1}, {"id": "x", "prompt": "?", "timeout": "a"}]
)
def test_other_data_is_malformed(data):
    assert isinstance(AwaitInput.from_data(data).failure(), MalformedPayload)


def test_fill_puts_arguments_into_prompt_and_title():
    filled = REVIEW.fill({"package": "attrs"}).unwrap()
    assert (filled.prompt, filled.title) == ("Is attrs fine?", "Review of attrs")
    assert REVIEW.fill('{"package": ["a", 1]}').unwrap().prompt == 'Is ["a", 1] fine?'
    money = AwaitInput(id="x", prompt="Pay $$5 to $who?")
    assert money.fill({"who": "Bob"}).unwrap().prompt == "Pay $5 to Bob?"


@pytest.mark.parametrize("arguments", [{}, "[1]", "{", 7, "[" * 100_000])
def test_fill_refuses_what_does_not_fit(arguments):
    assert isinstance(REVIEW.fill(arguments), Failure)
    strict = AwaitInput(id="x", prompt="$n", parameters={"properties": {"n": {"type": "integer"}}})
    assert problems(strict.fill({"n": "three"})).keys() == {"/n"}


def test_patterns_are_linear_and_bad_ones_are_failures():
    assert matches_pattern("^(a+)+$", "a" * 50_000 + "b") == Success(False)
    assert matches_pattern("^a+b$", "aab") == Success(True)
    assert isinstance(matches_pattern("(", "x").failure(), InputValidationError)


def test_a_reference_within_the_schema_resolves():
    schema = JsonSchema.of({"$ref": "#/$defs/n", "$defs": {"n": {"type": "integer"}}})
    assert schema.check(3) == Success(3)
    with pytest.raises(ConfigurationError):
        JsonSchema.of({"$ref": "#/$defs/none"})


def test_a_type_without_a_schema_is_refused():
    class Other:
        pass

    with pytest.raises(ConfigurationError, match="as a mapping"):
        schema_of(Other)


@pytest.mark.parametrize(
    "wrong", [{"prompt": 7}, {"title": []}, {"shown": 7}, {"parameters": [1]}, {"timeout": 10**30}, {"deadline": 7}]
)
def test_data_of_the_wrong_classes_is_malformed(wrong):
    assert isinstance(AwaitInput.from_data({"id": "x", "prompt": "?"} | wrong).failure(), MalformedPayload)


@pytest.mark.parametrize(
    "schema",
    [
        None,
        [],
        "x",
        {"type": "nothing"},
        {"enum": [float("nan")]},
        {"title": "\ud800"},
        {1: 2, "a": 3},
        {"const": b"x"},
    ],
    ids=["none", "list", "text", "invalid", "nan", "surrogate", "keys", "bytes"],
)
def test_a_stored_schema_that_is_none_is_malformed(schema):
    for _ in range(2):
        assert isinstance(schema_in({"id": "x", "prompt": "?", "schema": schema}).failure(), MalformedPayload)


def test_a_stored_schema_that_is_nested_too_deeply_is_malformed():
    schema: object = {}
    for _ in range(100_000):
        schema = {"not": schema}
    assert isinstance(schema_in({"schema": schema}).failure(), MalformedPayload)


def test_stored_schemas_that_differ_in_a_number_s_class_are_told_apart():
    for stored, fitting, other in ((1, 1, True), (True, True, 1), (0, 0, False)):
        schema = schema_in({"schema": {"const": stored}}).unwrap()
        assert isinstance(schema.check(fitting), Success)
        assert isinstance(schema.check(other), Failure)


def test_a_number_of_thousands_of_digits_is_refused_as_an_argument():
    assert problems(AwaitInput(id="x", prompt="$n").fill({"n": 10**5000})).keys() == {"/n"}
