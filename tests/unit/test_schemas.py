from __future__ import annotations

import pydantic
import pytest
from returns.result import Success

from flowpersist.errors import ConfigurationError, InputValidationError
from flowpersist.inputs.json_schema import MAX_DEPTH, MAX_NODES, MAX_TEXT, JsonSchema, check_json, matches_pattern
from flowpersist.inputs.json_types import schema_of


def test_a_number_with_too_many_digits_is_a_problem_and_no_exception():
    checked = JsonSchema.of({"type": "integer"}).check([10**5000])
    assert checked.failure().problems[0].pointer == "/0"
    assert JsonSchema.of({"type": "integer"}).check(10**400) == Success(10**400)
    with pytest.raises(ConfigurationError, match="/maximum"):
        JsonSchema.of({"maximum": 10**5000})


@pytest.mark.parametrize(
    "value", [[0] * MAX_NODES, ["x" * (MAX_TEXT + 1)], "y" * (MAX_TEXT + 1), {"k" * (MAX_TEXT + 1): 0}]
)
def test_a_value_over_the_limits_is_refused(value):
    assert isinstance(check_json(value, max_text=MAX_TEXT).failure(), InputValidationError)
    assert isinstance(JsonSchema.of({}).check(value).failure(), InputValidationError)


def test_a_value_that_is_nested_too_deep_is_refused():
    value = []
    for _ in range(MAX_DEPTH + 1):
        value = [value]
    assert isinstance(check_json(value).failure(), InputValidationError)
    assert isinstance(check_json(value[0]), Success)


def test_a_long_key_is_not_copied_for_every_value_below_it(monkeypatch):
    made: list[object] = []
    monkeypatch.setattr("flowpersist.inputs.json_schema.escaped", lambda key: made.append(key) or key)
    value = {"k" * 100_000: [0] * 9_000}
    assert check_json(value) == Success(value)
    assert made == []


def test_a_pointer_is_whole_in_the_problem_and_short_in_the_message():
    error = check_json({"k" * 1000: {"a/b": [object()]}}).failure()
    assert error.problems[0].pointer == "/" + "k" * 1000 + "/a~1b/0"
    assert len(str(error)) < 400


def test_a_mapping_with_a_key_that_is_no_text_is_named_by_its_place():
    assert check_json({"a": {1: 2}}).failure().problems[0].pointer == "/a"


@pytest.mark.parametrize("text", ["b" * 300_000 + "a", "a\ud800"])
def test_a_text_that_is_not_looked_through_is_no_false(text):
    assert isinstance(matches_pattern("a", text).failure(), InputValidationError)


def test_more_problems_than_are_shown_are_counted():
    assert "and 2 more" in str(JsonSchema.of({"items": {"type": "integer"}}).check(["x"] * 7).failure())


def test_another_draft_is_followed_and_an_unknown_one_refused():
    draft7 = JsonSchema.of({"$schema": "http://json-schema.org/draft-07/schema#", "items": [{"type": "string"}]})
    assert draft7.check([1]).failure().problems[0].pointer == "/0"
    assert JsonSchema.of({"items": {"type": "string"}}).check(["a"]) == Success(["a"])
    with pytest.raises(ConfigurationError, match="urn:none"):
        JsonSchema.of({"$schema": "urn:none"})


def test_a_schema_that_refers_to_itself_at_once_is_refused():
    with pytest.raises(ConfigurationError, match="refers to itself for the same value"):
        JsonSchema.of({"$ref": "#"})


def test_a_repetition_that_grows_too_large_is_refused():
    with pytest.raises(ConfigurationError, match="pattern"):
        JsonSchema.of({"pattern": "((a{1000}){1000}){1000}"})


def test_a_model_without_a_schema_is_a_configuration_error():
    class Held(pydantic.BaseModel):
        model_config = pydantic.ConfigDict(arbitrary_types_allowed=True)
        held: memoryview

    with pytest.raises(ConfigurationError, match="as a mapping"):
        schema_of(Held)
