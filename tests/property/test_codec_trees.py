"""Trees are told from all other values, and mean what the general way means."""

from __future__ import annotations

import gc
import os
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from flowpersist.codec import Codec, Limits, TypeRegistry
from flowpersist.codec.decoder import decode_graph
from flowpersist.codec.encoder import encode_graph
from flowpersist.codec.trees import decode_tree, encode_tree, is_tree
from flowpersist.testing import same_graph
from flowpersist.testing.values import leaves

SLOW_DATA = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
LIMITS = Limits()
#: How many values are tried. The long form: FLOWPERSIST_TREES=20000.
GRAPHS = int(os.environ.get("FLOWPERSIST_TREES", "300"))
TYPES = TypeRegistry()
CODEC = Codec()
MOST_LEVELS = 10
PLAIN = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=20)
JSON = st.recursive(
    PLAIN,
    lambda inner: st.lists(inner, max_size=40) | st.dictionaries(st.text(max_size=9), inner, max_size=9),
    max_leaves=60,
)
#: And what is nearly one.
OTHERS = st.recursive(
    PLAIN | leaves() | st.integers(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=3) | st.integers(0, 3) | st.none(), inner, max_size=4)
        | st.tuples(inner)
        | inner.map(lambda one: [one, [one]])
    ),
    max_leaves=20,
)


class Text(str):
    __slots__ = ()


class Whole(int):
    pass


class Mapped(dict):  # type: ignore[type-arg]
    pass


def is_one(value: Any, seen: set[int], level: int = 0) -> bool:
    """What a tree is, told part by part."""
    if type(value) is str:
        return not any(0xD800 <= ord(character) < 0xE000 for character in value)
    if type(value) is int:
        return -(2**63) <= value < 2**64
    if type(value) not in (list, dict):
        return value is None or type(value) in (bool, float)
    if id(value) in seen or level == MOST_LEVELS:
        return False
    seen.add(id(value))
    if type(value) is list:
        return all(is_one(part, seen, level + 1) for part in value)
    keys = all(type(key) is str and is_one(key, seen) for key in value)
    return keys and all(is_one(part, seen, level + 1) for part in value.values())


@given(JSON | OTHERS)
@example([Text("a")])
@example({Text("a"): 1})
@example([Whole(1)])
@example([Mapped(a=1)])
@example({"a": {Whole(1): 1}})
@settings(max_examples=GRAPHS, deadline=None, suppress_health_check=SLOW_DATA)
def test_what_is_a_tree_is_written_as_one(value):
    data = encode_tree(value, LIMITS)
    assert (data is not None) == is_one(value, set())
    if data is None:
        return
    assert is_tree(data)
    assert CODEC.encode(value).unwrap() == data == CODEC.encode_watched(value).unwrap().settled().unwrap()
    assert CODEC.encode_brief(value) == data
    copy = decode_tree(data, TYPES, LIMITS)
    other, _ = decode_graph(encode_graph(value, TYPES, LIMITS), TYPES, LIMITS)
    assert same_graph(copy, value, types=TYPES)
    assert same_graph(copy, other, types=TYPES)
    assert encode_tree(copy, LIMITS) == data


@given(JSON, st.integers(1, 400), st.booleans())
@settings(max_examples=60, deadline=None, suppress_health_check=SLOW_DATA)
def test_limits_hold_of_trees_as_they_do_of_graphs(value, most, depth):
    """What is written within limits is read within them."""
    limits = Limits(max_depth=most % 12 + 1) if depth else Limits(max_nodes=most, max_str=most, max_bytes=10 * most)
    codec = Codec(limits=limits)
    written = codec.encode(value)
    if written.value_or(None) is not None:
        assert same_graph(codec.decode(written.unwrap()).unwrap(), value, types=TYPES)


@given(st.integers(30, 2000), st.integers(1, 3), st.integers(0, 1999), st.integers(0, 1999), st.booleans())
@settings(max_examples=60, deadline=None)
def test_one_object_in_two_of_many_places_makes_a_graph(count, width, first, second, held):
    """Where many objects are told apart by how many references there are to them."""
    value: list[Any] = [{"of": [[number] for number in range(width)], "n": "text" * 9} for number in range(count)]
    kept = list(value) if held else []
    assert encode_tree(value, LIMITS) is not None
    place = value[first % count]["of"]
    other = value[second % count]["of"]
    other.append(place[-1])
    assert encode_tree(value, LIMITS) is None
    other.pop()
    value.append(kept[0] if kept else value[first % count])
    assert encode_tree(value, LIMITS) is None


def test_a_small_value_that_holds_itself_is_no_tree():
    holder: dict[str, Any] = {"parts": [1, "a"]}
    holder["parts"].append(holder)
    assert encode_tree(holder, LIMITS) is None
    assert encode_tree(holder["parts"], LIMITS) is None


def test_the_collector_does_not_run_while_many_empty_lists_are_made():
    """It would take ten times as long as to make them."""
    data = CODEC.encode([[] for _ in range(100_000)]).unwrap()
    started: list[str] = []
    gc.callbacks.append(lambda phase, _: started.append(phase))
    try:
        copy = CODEC.decode(data).unwrap()
    finally:
        gc.callbacks.pop()
    assert copy == [[]] * 100_000
    assert started.count("start") <= 2
    assert gc.isenabled()


def test_what_is_held_elsewhere_is_a_tree_all_the_same():
    held = [[number] for number in range(2000)]
    value = {"held": list(held), "more": [{"a": [number]} for number in range(2000)]}
    assert CODEC.decode(CODEC.encode(value).unwrap()).unwrap() == value
    assert is_tree(CODEC.encode(value).unwrap())
    value["more"][1999]["a"].append(held[1000])
    assert not is_tree(CODEC.encode(value).unwrap())


CHANGES = {
    "an element more": lambda value: value["rows"][600].append(1),
    "another element": lambda value: value["rows"][600].__setitem__(0, 1),
    "another value": lambda value: value["texts"].__setitem__("a", "other"),
    "another key": lambda value: value["texts"].__setitem__("b", value["texts"].pop("a")),
    "another order": lambda value: value["texts"].__setitem__("a", value["texts"].pop("a")),
    "one moved": lambda value: value["rows"][601].insert(0, value["rows"][600].pop()),
    "an equal one": lambda value: value["texts"].__setitem__("z", True),
    "a key more": lambda value: value.__setitem__("more", None),
}


def test_a_watched_tree_tells_what_was_changed():
    for name, change in CHANGES.items():
        value: dict[str, Any] = {"rows": [[n, "x"] for n in range(1200)], "texts": {"a": "text", "y": "more", "z": 1}}
        watched = CODEC.encode_watched(value).unwrap()
        assert watched.settled().unwrap() == CODEC.encode(value).unwrap()
        change(value)
        assert watched.settled().value_or(None) is None, name
