"""Typed trees mean what tables of objects mean, and are written of exactly the values that they can hold."""

from __future__ import annotations

import dataclasses
import enum
import os
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import attrs
import pydantic
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from returns.result import Success

from flowpersist.codec import Codec, Limits, TypeRegistry
from flowpersist.codec.decoder import decode_graph
from flowpersist.codec.encoder import encode_graph
from flowpersist.codec.typed import is_typed
from flowpersist.codec.typed_reading import decode_typed
from flowpersist.codec.typed_writing import encode_typed
from flowpersist.errors import PersistenceError
from flowpersist.testing import same_graph, values
from flowpersist.testing.values import leaves

SLOW_DATA = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
LIMITS = Limits()
#: How many values are tried. The long form: FLOWPERSIST_TREES=20000.
GRAPHS = int(os.environ.get("FLOWPERSIST_TREES", "100"))


class Role(enum.Enum):
    USER = 1
    TOOL = "t"


class Right(enum.Flag):
    READ = 1
    WRITE = 2


@attrs.define(eq=False)
class Couple:
    first: Any = None
    second: Any = None


@dataclasses.dataclass
class Message:
    role: Any
    content: Any
    at: Any = None


@dataclasses.dataclass(frozen=True)
class Fixed:
    held: Any


@dataclasses.dataclass
class Bare:
    pass


class Model(pydantic.BaseModel):
    name: Any = None
    more: Any = None


TYPES = TypeRegistry(Couple, Message, Fixed, Bare, Model, Role, Right)
CODEC = Codec(types=TYPES)
TEXTS = st.text(max_size=20)
MEMBERS = st.sampled_from([*Role, *Right, Right.READ | Right.WRITE])


def held(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return (
        st.lists(inner, max_size=4)
        | st.dictionaries(TEXTS, inner, max_size=4)
        | st.tuples(inner, inner)
        | st.sets(TEXTS, max_size=3)
        | st.builds(Couple, inner, inner)
        | st.builds(Message, MEMBERS, inner, leaves())
        | st.builds(Fixed, inner)
        | st.builds(Bare)
        | st.builds(Model, name=inner)
        | inner.map(lambda one: [one, one, (one,)])
    )


STATES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS | st.binary(max_size=9) | MEMBERS | leaves(),
    held,
    max_leaves=25,
)


def agree(value: Any, data: bytes) -> None:
    copy = decode_typed(data, TYPES, LIMITS)
    other, _ = decode_graph(encode_graph(value, TYPES, LIMITS), TYPES, LIMITS)
    assert same_graph(copy, value, types=TYPES)
    assert same_graph(copy, other, types=TYPES)
    assert encode_typed(copy, TYPES, LIMITS) == data


@given(STATES | values(instances=Couple))
@example([0.0, 0.0])
@example([Model(name={"b", "a"}), Model.model_construct()])
@settings(max_examples=GRAPHS, deadline=None, suppress_health_check=SLOW_DATA)
def test_what_is_written_as_a_typed_tree_is_read_as_the_same_graph(value):
    result = CODEC.encode(value)
    if not isinstance(result, Success):
        # A Windows path that can't be written as text.
        return
    whole = result.unwrap()
    data = encode_typed(value, TYPES, LIMITS)
    if data is not None:
        assert is_typed(data)
        agree(value, data)
    assert same_graph(CODEC.decode(whole).unwrap(), value, types=TYPES)
    assert CODEC.encode_watched(value).unwrap().settled().unwrap() == whole or not is_typed(whole)
    assert CODEC.encode_brief(value) in {whole, None}


SHARED = ["shared"]
LONG: Any = []
for _ in range(31):
    LONG = [LONG, Couple()]
MESSAGES = [Message(Role.USER, "text", {"n": number}) for number in range(128)]
TYPED = {
    "an instance": Message(Role.USER, ["a", {"b": 1.5}], datetime(2026, 1, 1, tzinfo=UTC)),
    "an instance without fields": [Bare(), Bare()],
    "an instance of a class that can't be assigned to": Fixed(Fixed(1)),
    "a model": Model(name="a", more=[Model()]),
    "a reference": [SHARED, Couple(SHARED, SHARED)],
    "a reference to an instance": [one := Message(Role.TOOL, None), {"again": one}],
    "many references": [SHARED, *[[[number] for number in range(100)] for _ in range(3)], SHARED, [last := []], last],
    "tuples": ((), ((1, b"x"), [()])),
    "texts in a set": [{"b", "a", "ab"}, set()],
    "leaves": [UUID(int=7), Decimal("1.50"), date(2026, 1, 1), timedelta(1), 1j, ..., range(3), Decimal("1" * 900)],
    "members": [Role.USER, Role.TOOL, Right.READ, Right.READ | Right.WRITE],
    "functions and aliases": [[int, list[int]], Message],
    "bytes": [b"", b"\xd6\xff\0\0\0\0", b"x" * 140_000],
    "deep": LONG,
    "many": MESSAGES,
}


@pytest.mark.parametrize("name", TYPED)
def test_a_small_value_is_a_typed_tree(name):
    value = TYPED[name]
    data = CODEC.encode(value).unwrap()
    assert is_typed(data)
    agree(value, data)
    assert CODEC.verifying().encode(value).unwrap() == data
    assert CODEC.encode_watched(value).unwrap().settled().unwrap() == data
    assert CODEC.encode_brief(value) == (None if name in {"many", "many references", "bytes"} else data)


RING = Couple()
RING.first = [RING]
UNSET = object.__new__(Couple)
TABLES = {
    "a cycle": RING,
    "a field that is not set": [UNSET],
    "a set of other elements": {("a", 1)},
    "a key that is no text": {1: Message(Role.USER, "x")},
    "one more level": [LONG],
    "an integer beyond 64 bits": [Couple(2**64)],
    "a lone surrogate": Couple("\ud800"),
    "an exception": [ValueError("x")],
    "many cells": [(number,) * 30 for number in range(100)],
    "many objects": [Message(Role.USER, "x") for _ in range(129)],
    "many objects in a dict": {str(number): (number,) for number in range(129)},
    "many bytes": Couple("x" * 2**18),
    "a frozenset": [frozenset({"a"})],
}


@pytest.mark.parametrize("name", TABLES)
def test_what_a_typed_tree_does_not_hold_is_a_table_of_objects(name):
    value = TABLES[name]
    assert encode_typed(value, TYPES, LIMITS) is None
    data = CODEC.encode(value).unwrap()
    assert data[:2] == b"\x98\x02"
    assert same_graph(CODEC.decode(data).unwrap(), value, types=TYPES)


@given(STATES, st.data())
@settings(max_examples=100, deadline=None, suppress_health_check=SLOW_DATA)
def test_changed_bytes_give_a_value_or_a_typed_error(value, data):
    document = CODEC.encode(value).value_or(b"")
    if not is_typed(document):
        return
    changed = bytearray(document)
    for _ in range(data.draw(st.integers(1, 3))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    result = CODEC.decode(bytes(changed))
    error = result.swap().value_or(None)
    if error is not None:
        assert isinstance(error, PersistenceError)
    else:
        CODEC.encode(result.unwrap())


CHANGES = {
    "a field": lambda value: setattr(value["of"][1], "content", "other"),
    "an element": lambda value: value["of"].append(1),
    "a key": lambda value: value.__setitem__("more", 1),
    "an equal value": lambda value: setattr(value["of"][0], "content", True),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_watched_value_tells_what_was_changed(name):
    value = {"of": [Message(Role.USER, 1), Message(Role.TOOL, "text")]}
    watched = CODEC.encode_watched(value).unwrap()
    assert is_typed(watched.settled().unwrap())
    CHANGES[name](value)
    assert watched.settled().value_or(None) is None
