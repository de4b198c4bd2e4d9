"""The samples of schemas, compared with another validator."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from returns.result import Failure

from flowpersist import or_raise
from flowpersist.inputs.sampling import sample

SMALL = st.integers(0, 4)
TEXTS = st.builds(lambda least, more: {"type": "string", "minLength": least, "maxLength": least + more}, SMALL, SMALL)
NUMBERS = st.builds(
    lambda kind, low, more, open_: {
        "type": kind,
        ("exclusiveMinimum" if open_ else "minimum"): low,
        "maximum": low + more + 1,
    },
    st.sampled_from(["integer", "number"]),
    st.integers(-9, 9),
    SMALL,
    st.booleans(),
)
STEPS = st.builds(
    lambda step, low: {"type": "integer", "multipleOf": step, "minimum": low}, st.integers(1, 7), st.integers(-20, 20)
)
LEAVES = st.one_of(
    st.sampled_from([{}, True, {"type": "null"}, {"type": "boolean"}, {"type": ["string", "null"]}]),
    st.builds(lambda value: {"const": value}, st.one_of(st.none(), st.integers(), st.text(max_size=3))),
    st.builds(lambda values: {"enum": values}, st.lists(st.integers(), min_size=1, max_size=3, unique=True)),
    st.sampled_from([{"type": "string", "format": one} for one in ("date", "date-time", "email", "uuid", "ipv4")]),
    st.sampled_from([{"type": "string", "pattern": one} for one in ("^[a-z]+$", "^[0-9]{5}$", "^[A-Z]{3}$")]),
    TEXTS,
    NUMBERS,
    STEPS,
)


def larger(inner):
    objects = st.builds(
        lambda parts, needed: {
            "type": "object",
            "properties": parts,
            "required": [name for name in parts if name in needed],
            "additionalProperties": False,
        },
        st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
        st.sets(st.sampled_from("abc")),
    )
    lists = st.builds(lambda part, least: {"type": "array", "items": part, "minItems": least}, inner, SMALL)
    tuples = st.builds(
        lambda parts: {"type": "array", "prefixItems": parts, "minItems": len(parts), "items": False},
        st.lists(inner, min_size=1, max_size=3),
    )
    either = st.builds(lambda parts: {"anyOf": [False, *parts]}, st.lists(inner, min_size=1, max_size=2))
    suggested = st.builds(
        lambda part, given: {"allOf": [part], "default": given, "examples": [given]}, inner, st.none() | st.integers()
    )
    referred = st.builds(lambda part: {"allOf": [part], "title": "nested"}, inner)
    return st.one_of(objects, lists, tuples, either, suggested, referred)


@settings(max_examples=150, deadline=None)
@given(st.recursive(LEAVES, larger, max_leaves=8).filter(lambda schema: isinstance(schema, dict)))
def test_a_sample_fits_its_schema(schema):
    made = or_raise(sample(schema, what="it"))
    assert Draft202012Validator(schema).is_valid(made), (schema, made)
    assert sample(schema, what="it").unwrap() == made


NODE = {
    "$ref": "#/$defs/node",
    "$defs": {
        "node": {
            "type": "object",
            "required": ["next", "n"],
            "properties": {"next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}, "n": {"type": "integer"}},
        }
    },
}


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        (NODE, {"next": None, "n": 0}),
        ({"allOf": [{"type": "number", "minimum": 3}, {"type": "integer", "minimum": 5}]}, 5),
        ({"allOf": [{"enum": [1, 2, 3]}, {"enum": [3, 2]}]}, 2),
        ({"type": "array", "uniqueItems": True, "minItems": 3, "items": {"enum": [7, 8, 9]}}, [7, 8, 9]),
        ({"type": "array", "contains": {"const": 4}}, [4]),
        ({"type": "object", "minProperties": 1, "properties": {"b": {"type": "string"}}}, {"b": ""}),
        ({"type": "string", "default": 7}, ""),
        ({"properties": {"a": {"default": 5}}, "required": ["a"]}, {"a": 5}),
        ({"oneOf": [{"type": "integer", "minimum": 9}, {"type": "null"}]}, 9),
    ],
)
def test_samples_are_small_and_prefer_what_the_schema_names(schema, expected):
    assert or_raise(sample(schema, what="it")) == expected


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "pattern": "^ORD-[0-9]+$"},
        {"type": "array", "minItems": 10**9},
        {"type": "string", "minLength": 10**9},
        {"type": "integer", "minimum": 2, "maximum": 1},
        {"type": "number", "minimum": 10**400},
        {
            "$ref": "#/$defs/a",
            "$defs": {"a": {"type": "object", "required": ["a"], "properties": {"a": {"$ref": "#"}}}},
        },
        {"not": {}},
        {"type": "nonsense"},
    ],
    ids="-".join,
)
def test_where_no_value_is_found_the_failure_is_typed(schema):
    made = sample(schema, what="the schema of 'it'")
    assert isinstance(made, Failure)
    assert "the schema of 'it'" in str(made.failure())
