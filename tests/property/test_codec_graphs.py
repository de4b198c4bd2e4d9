"""Random graphs go both ways, and random bytes do no harm."""

from __future__ import annotations

import os
import tracemalloc
from typing import Any

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from returns.result import Failure, Success

from flowpersist.codec import Codec, Limits, TypeRegistry
from flowpersist.errors import PersistenceError
from flowpersist.testing import assert_round_trips, same_graph, values

LONG = os.environ.get("FLOWPERSIST_LONG") == "1"
#: Of a linked list: a hundred times as many as Python's recursion goes deep.
NODES = 1_000_000 if LONG else 100_000
SLOW_DATA = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]


@attrs.define(eq=False)
class Couple:
    first: Any = None
    second: Any = None


@attrs.frozen
class Label:
    first: Any = None
    second: Any = None


TYPES = TypeRegistry(Couple, Label)
CODEC = Codec(types=TYPES, limits=Limits(max_bytes=2**20, max_nodes=100_000))
SEEDS = [
    CODEC.encode(value).unwrap()
    for value in (
        None,
        [{"id": number, "text": "x", "next": [number]} for number in range(9)],
        {(1, (2, "three")): {4, 5.0}, frozenset({(6, 7)}): bytearray(b"8")},
        [Couple(1, {Label(1, (2, (3,)))}), {Label((1, 2), None): frozenset({Label(3, 4)})}],
        [ValueError("a", {"b": 1}), slice(1, 2), 2**80, "\ud800", 1j, ...],
    )
]


@given(values(instances=Couple))
@settings(max_examples=1500 if LONG else 75, deadline=None, suppress_health_check=SLOW_DATA)
def test_any_graph_goes_both_ways(value):
    assert_round_trips(value, types=TYPES)


@given(values(), values())
@settings(max_examples=20, deadline=None, suppress_health_check=SLOW_DATA)
def test_graphs_are_the_same_only_where_their_bytes_are(one, other):
    codec = Codec()
    if same_graph(one, other):
        assert codec.encode(one) == codec.encode(other)


def decode_harmlessly(data: bytes) -> None:
    match CODEC.decode(data):
        case Failure(error):
            assert isinstance(error, PersistenceError)
        case Success(value):
            assert isinstance(CODEC.encode(value), (Success, Failure))


@given(st.binary(max_size=200))
@settings(max_examples=150, deadline=None)
def test_bytes_from_anywhere_give_a_typed_error(data):
    decode_harmlessly(data)


@given(st.sampled_from(SEEDS), st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=4))
@settings(max_examples=400, deadline=None)
def test_changed_bytes_give_a_value_or_a_typed_error(seed, changes):
    data = bytearray(seed)
    for place, byte in changes:
        data[place % len(data)] = byte
    decode_harmlessly(bytes(data))


def test_every_single_byte_changed_and_every_truncation_stays_within_bounds():
    for seed in SEEDS:
        for place in range(len(seed)):
            for byte in (0, 0x7F, 0xC0, seed[place] ^ 1):
                decode_harmlessly(seed[:place] + bytes([byte]) + seed[place + 1 :])
    # Tracing makes decoding three times as slow: for what claims the largest lengths.
    tracemalloc.start()
    for seed in SEEDS:
        for place in range(len(seed)):
            decode_harmlessly(seed[:place])
            for byte in (0xDD, 0xFF):
                decode_harmlessly(seed[:place] + bytes([byte]) + seed[place + 1 :])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 * CODEC.limits.max_bytes


@pytest.mark.slow
def test_long_linked_lists_go_both_ways():
    mapped: Any = None
    chained: Any = None
    for number in range(NODES):
        mapped = {"value": number, "next": mapped}
        chained = (number, chained)
    codec = Codec()
    for value, link in ((mapped, "next"), (chained, 1)):
        copy: Any = codec.decode(codec.encode(value).unwrap()).unwrap()
        length = 0
        while copy is not None:
            copy = copy[link]
            length += 1
        assert length == NODES
