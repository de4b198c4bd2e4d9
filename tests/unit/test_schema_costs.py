"""No schema makes much work of a small instance."""

from __future__ import annotations

import time

import pytest
from returns.result import Success

from flowpersist import ConfigurationError, InputValidationError
from flowpersist.inputs.json_schema import JsonSchema
from flowpersist.inputs.schema_costs import costs_of


def chain(length: int) -> dict[str, object]:
    """Each definition asks the next one twice: 2 to the power of the length."""
    parts = {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(length)}
    return {"$ref": "#/$defs/d0", "$defs": {**parts, f"d{length}": {}}}


def nested(depth: int) -> object:
    value: object = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "schema", [chain(28), chain(300), {"allOf": [{"$ref": "#"}]}, {"$dynamicRef": "#x"}, {"$ref": "other"}]
)
def test_what_is_not_bounded_is_refused_at_once(schema):
    started = time.monotonic()
    with pytest.raises(ConfigurationError):
        JsonSchema.of(schema)
    assert time.monotonic() - started < 5


def test_a_schema_that_doubles_at_each_level_takes_shallow_instances_only():
    schema = JsonSchema.of({"items": {"allOf": [{"$ref": "#"}, {"$ref": "#"}]}})
    assert schema.check(nested(10)) == Success(nested(10))
    assert isinstance(schema.check(nested(30)).failure(), InputValidationError)


def test_an_answer_that_takes_too_much_work_is_refused():
    schema = JsonSchema.of({"items": {"enum": [{"a": n} for n in range(2_000)]}})
    assert schema.check([{"a": 1}] * 100) == Success([{"a": 1}] * 100)
    assert "too large to be checked" in str(schema.check([{"a": 1}] * 4_500).failure())


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {"left": {"$ref": "#"}, "right": {"$ref": "#"}}},
        {"anyOf": [{"type": "integer"}, {"items": {"$ref": "#"}}]},
        {
            "$ref": "#/$defs/a",
            "$defs": {"a": {"anyOf": [{"$ref": "#/$defs/b"}, {"$ref": "#/$defs/c"}]}, "b": {}, "c": {}},
        },
        {"properties": {"$ref": {"type": "string"}, "a/b": {"$ref": "#/properties/x~1y"}, "x/y": {}}},
        {"allOf": [{}, {"$ref": "#/allOf/0"}]},
        chain(5),
    ],
)
def test_ordinary_schemas_are_not_held_back(schema):
    assert costs_of(schema, 64, lambda _: 1.0).max_depth == 64
    assert JsonSchema.of(schema).check(nested(40)) == Success(nested(40))
