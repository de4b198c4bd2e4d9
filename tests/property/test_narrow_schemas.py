"""What fits a provider's strict form fits the schema, or the form says what it could not carry."""

from __future__ import annotations

import copy
import os

import anthropic
import pytest
from agents.strict_schema import ensure_strict_json_schema
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from pydantic_ai.profiles.google import GoogleJsonSchemaTransformer
from pydantic_ai.profiles.openai import OpenAIJsonSchemaTransformer

from flowpersist.inputs.forms.dialects import ANTHROPIC, GOOGLE, OPENAI
from flowpersist.inputs.forms.narrowing import narrow
from flowpersist.inputs.json_schema import JsonSchema

#: More of them in the long form.
EXAMPLES = int(os.environ.get("FLOWPERSIST_TEST_NARROW_EXAMPLES", "60"))
TEXT = st.text("abz é", max_size=5)
NAMES = st.sampled_from(["a", "b", "c/d", "e~f", "g"])
WORDS = st.fixed_dictionaries({}, optional={"title": TEXT, "description": TEXT})
FORMATS = st.sampled_from(["date", "email", "uri", "uuid", "regex"])


def typed(kind, **optional):
    rules = st.fixed_dictionaries({"type": st.just(kind)}, optional=optional)
    return st.builds(lambda rules, words: {**rules, **words}, rules, WORDS)


SMALL = st.integers(-3, 9)
COUNT = st.integers(0, 3)
NUMBERS = {
    "minimum": SMALL,
    "maximum": SMALL,
    "exclusiveMinimum": SMALL,
    "multipleOf": st.integers(1, 3),
    "default": SMALL,
}
LITERALS = st.lists(st.none() | st.booleans() | SMALL | TEXT, min_size=1, max_size=3, unique_by=repr)
LEAVES = st.one_of(
    typed("string", minLength=COUNT, maxLength=COUNT, pattern=st.just("^[a-z]*$"), format=FORMATS, default=TEXT),
    typed("integer", **NUMBERS),
    typed("number", **NUMBERS),
    typed("boolean"),
    typed("null"),
    st.builds(lambda values, words: {"enum": values, **words}, LITERALS, WORDS),
    st.builds(lambda value: {"const": value}, SMALL | TEXT),
    st.builds(lambda values: {"type": "string", "enum": values}, LITERALS),
    st.builds(
        lambda kinds, least: {"type": kinds, "minLength": least, "minimum": least},
        st.lists(st.sampled_from(["string", "integer", "null", "boolean"]), min_size=1, max_size=3, unique=True),
        COUNT,
    ),
    st.builds(lambda name: {"$ref": f"#/$defs/{name}"}, st.sampled_from(["one", "two"])),
    st.just({"$ref": "#/$defs/one", "description": "one"}),
)


def composed(inner):
    properties = st.dictionaries(NAMES, inner, max_size=3)
    return st.one_of(
        st.builds(an_object, properties, st.sets(NAMES), st.sampled_from([None, True, False]), WORDS),
        st.builds(
            lambda items, rules: {"type": "array", "items": items, **rules},
            inner,
            st.fixed_dictionaries({}, optional={"minItems": COUNT, "maxItems": COUNT, "uniqueItems": st.booleans()}),
        ),
        st.builds(
            lambda key, parts: {key: parts},
            st.sampled_from(["anyOf", "oneOf"]),
            st.lists(inner, min_size=1, max_size=3),
        ),
        st.builds(lambda part: {"allOf": [part]}, inner),
        st.builds(lambda part: {"type": "object", "additionalProperties": part}, inner),
    )


def an_object(properties, required, others, words):
    made = {"type": "object", "properties": properties, **words}
    named = sorted(required & set(properties))
    if named:
        made["required"] = named
    if others is not None:
        made["additionalProperties"] = others
    return made


SCHEMAS = st.builds(
    lambda root, one, two: {**root, "$defs": {"one": one, "two": two}},
    st.builds(
        an_object,
        st.dictionaries(NAMES, st.recursive(LEAVES, composed, max_leaves=6), max_size=3),
        st.sets(NAMES),
        st.sampled_from([None, True, False]),
        WORDS,
    ),
    typed("string", maxLength=COUNT),
    st.builds(lambda inner: {"type": "object", "properties": {"n": inner}, "required": ["n"]}, typed("integer")),
)
DIALECTS = {"openai": OPENAI, "anthropic": ANTHROPIC, "google": GOOGLE}


def values_of(schema, definitions, depth):
    """Values that are likely to fit a narrowed schema; what does not fit is left out by the caller."""
    if "$ref" in schema:
        return values_of(definitions[schema["$ref"].rpartition("/")[2]], definitions, depth)
    if "anyOf" in schema:
        return st.one_of(*(values_of(one, definitions, depth) for one in schema["anyOf"]))
    if "enum" in schema or "const" in schema:
        return st.sampled_from(schema.get("enum") or [schema["const"]])
    kind = schema.get("type")
    if kind == "object":
        required = schema.get("required", [])
        inner = {name: values_of(one, definitions, depth - 1) for name, one in schema["properties"].items()}
        optional = {name: one for name, one in inner.items() if name not in required}
        return st.fixed_dictionaries({name: inner[name] for name in required}, optional=optional)
    if kind == "array":
        return st.lists(values_of(schema.get("items", {}), definitions, depth - 1), max_size=4)
    scalars = {
        "string": TEXTS,
        "integer": SMALL,
        "number": SMALL | st.just(0.5),
        "boolean": st.booleans(),
        "null": st.none(),
    }
    return scalars.get(kind, st.one_of(*scalars.values()))


TEXTS = TEXT | st.sampled_from(
    ["2026-01-02", "a@b.org", "https://a.org/", "9f0c8c5e-0000-4000-8000-000000000000", "abab"]
)


def strict_openai(schema):
    transformer = OpenAIJsonSchemaTransformer(copy.deepcopy(schema), strict=None)
    transformer.walk()
    assert transformer.is_strict_compatible
    assert ensure_strict_json_schema(copy.deepcopy(schema)) == schema


def strict_anthropic(schema):
    assert anthropic.transform_schema(copy.deepcopy(schema)) == schema


def plain_google(schema):
    assert GoogleJsonSchemaTransformer(copy.deepcopy(schema)).walk() == schema


CHECKS = {"openai": strict_openai, "anthropic": strict_anthropic, "google": plain_google}


@pytest.mark.parametrize("name", DIALECTS)
@settings(max_examples=EXAMPLES)
@given(schema=SCHEMAS)
def test_a_strict_form_is_what_the_provider_takes(name, schema):
    before = copy.deepcopy(schema)
    narrowed = narrow(schema, DIALECTS[name])
    assert schema == before
    JsonSchema.of(narrowed.schema)
    if narrowed.strict:
        CHECKS[name](narrowed.schema)
    else:
        assert narrowed.schema == schema
        assert narrowed.obstacles


@pytest.mark.parametrize("name", DIALECTS)
@settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(schema=SCHEMAS, data=st.data())
def test_what_fits_the_form_fits_the_schema_or_the_form_says_what_it_lacks(name, schema, data):
    narrowed = narrow(schema, DIALECTS[name])
    assume(narrowed.strict)
    form = JsonSchema.of(narrowed.schema)
    value = data.draw(values_of(narrowed.schema, narrowed.schema["$defs"], 4))
    assume(form.fits(value))
    if not any(change.loosens for change in narrowed.changes):
        assert JsonSchema.of(schema).fits(narrowed.restore(value))


@pytest.mark.parametrize("name", DIALECTS)
@settings(max_examples=EXAMPLES)
@given(schema=SCHEMAS)
def test_narrowing_twice_changes_nothing(name, schema):
    narrowed = narrow(schema, DIALECTS[name])
    assume(narrowed.strict)
    again = narrow(narrowed.schema, DIALECTS[name])
    assert (again.strict, again.changes, again.schema) == (True, (), narrowed.schema)
