"""Conditions and references come from documents that are not trusted: whatever they hold, the answer is a Result."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from returns.result import Failure, Result, Success

from flowpersist.dynamicflow import expressions
from flowpersist.dynamicflow.references import fill_text, follow, parse_reference, resolve_all
from flowpersist.errors import PersistenceError

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=10,
)
TOKENS = st.sampled_from(
    [
        "$a",
        "$a.b",
        "$b.0",
        "$.c",
        "(",
        ")",
        ",",
        "!",
        "not",
        "and",
        "or",
        "&&",
        "||",
        "==",
        "===",
        "!=",
        "<",
        ">=",
        "'x'",
        '"("',
        "1",
        "-2.5",
        "1e999",
        "true",
        "null",
        "contains(",
        "startsWith(",
        "length(",
        "exists(",
        "isEmpty(",
        "upper(",
        "matches(",
    ]
)
REFERENCES = st.text(alphabet="$a.-_0[]² ", max_size=20)


def graceful(result: Result[object, PersistenceError]) -> bool:
    return isinstance(result, Success) or (
        isinstance(result, Failure) and isinstance(result.failure(), PersistenceError)
    )


def resolver(values):
    return lambda reference: follow(values, (reference.root, *reference.path))


@given(st.text() | REFERENCES, JSON)
def test_arbitrary_text(text, values):
    resolve = resolver(values)
    assert graceful(expressions.parse(text).bind(lambda parsed: expressions.evaluate(parsed, resolve)))
    assert graceful(parse_reference(text))
    assert graceful(fill_text(text, resolve))


@given(st.lists(TOKENS, max_size=20), st.dictionaries(st.sampled_from(["a", "b", "previousOutput"]), JSON))
def test_arbitrary_tokens_over_arbitrary_values(tokens, values):
    resolve = resolver(values)
    assert graceful(expressions.parse(" ".join(tokens)).bind(lambda parsed: expressions.evaluate(parsed, resolve)))


@given(st.recursive(st.text() | REFERENCES | JSON, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_arbitrary_arguments(arguments):
    assert graceful(resolve_all(arguments, lambda _: Success(None)))
    assert graceful(resolve_all(arguments, resolver({"a": 1})))


@given(JSON, JSON)
def test_equality_is_symmetric_and_inequality_its_opposite(left, right):
    resolve = resolver({"a": left, "b": right})

    def value(text):
        return expressions.parse(text).bind(lambda parsed: expressions.evaluate(parsed, resolve)).unwrap()

    assert value("$a == $b") == value("$b === $a") == (not value("$a != $b"))
