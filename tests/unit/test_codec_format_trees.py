"""The clauses of the codec's wire format on trees, with documents that are made by hand: specs/codec/format.md."""

from __future__ import annotations

import struct
import tracemalloc
from typing import Any

import msgpack
import pytest

from flowpersist.codec import Codec, Limits
from flowpersist.errors import StateTooDeep, StateTooLarge
from tests.unit.test_codec_format import CODEC, Label, Listed, decoded, refused


def tree(value: Any) -> bytes:
    return msgpack.packb([2, value])


def levels(depth: int, wrap: Any = lambda one: [one]) -> Any:
    value: Any = None
    for _ in range(depth):
        value = wrap(value)
    return value


def test_a_tree_holds_texts_numbers_lists_and_dicts():
    """Clause 25."""
    for value in (None, True, 7, -(2**63), 2**64 - 1, 1.5, "x", [], {}, [[{"a": [1]}], "b"], levels(10)):
        assert decoded(tree(value)) == value
        assert CODEC.encode(value).unwrap() == tree(value)
    assert list(decoded(tree({"b": 1, "1": 2, "a": 3}))) == ["b", "1", "a"]
    big = msgpack.ExtType(1, b"\x01" + bytes(8))
    for broken in (b"", b"x", big, msgpack.Timestamp(1), levels(11), levels(11, lambda one: {"a": one})):
        for place in (broken, [broken], {"a": broken}):
            refused(tree(place))
    for key in (1, None, b"a", 1.5, True):
        refused(tree({key: 1}))
        refused(tree([{"a": {key: 1}}]))
    refused(b"\x92\x02\xa2\xff\xff")
    refused(tree("x" * 2**24))


@pytest.mark.parametrize("mark", [b"\x91", b"\x81\xa1a", b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff\xa1a"])
def test_what_a_tree_says_of_its_depth_and_counts_costs_nothing(mark):
    """Clauses 13, 17, 25."""
    tracemalloc.start()
    for data in (b"\x92\x02" + mark * 100_000, b"\x92\x02" + mark * 8 + b"\xc0" * 100_000, b"\x92\x02" + mark):
        refused(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**21


def test_what_is_no_tree_is_a_table_of_objects():
    """Clause 26."""
    shared: list[Any] = []
    holds_itself: list[Any] = [1]
    holds_itself.append({"a": holds_itself})
    once_keyed: dict[Any, Any] = {1: 2, "a": 1}
    del once_keyed[1]
    assert CODEC.encode([once_keyed]).unwrap() == tree([{"a": 1}])
    numbers = [[0.5] * 3 for _ in range(5000)]
    assert CODEC.encode(numbers).unwrap() == tree(numbers)
    for value in (
        holds_itself,
        [2**64],
        ["\ud800"],
        [{"\ud800": 1}],
        [{1: 1}],
        [{"a": 1, None: 1}],
        Listed([1]),
        levels(34),
        [{str(number): number for number in range(14)} for _ in range(400)],
        [0.5] * 2**18,
    ):
        data = CODEC.encode(value).unwrap()
        assert data[:2] == b"\x98\x02", value
        assert CODEC.encode(decoded(data)).unwrap() == data
    for value in (
        [shared, shared],
        {"a": shared, "b": {"c": [shared]}},
        (1,),
        [{"a": ()}],
        [b"x"],
        [Label(1)],
        levels(11),
    ):
        data = CODEC.encode(value).unwrap()
        assert data[:2] == b"\x93\x02", value
        assert CODEC.encode(decoded(data)).unwrap() == data


def test_a_tree_is_counted_before_it_is_made():
    """Clause 27."""
    codec = Codec(limits=Limits(max_nodes=50))
    texts = [["x" * 300] * 30] * 2
    for value in ([1] * 60, [[]] * 60, {str(n): {"a": [n]} for n in range(20)}, texts, list(range(300))):
        refused(tree(value), StateTooLarge, codec)
        assert decoded(tree(value)) == value
    wide = [1.5, -1, 200, 2**20, 2**40, -(2**10), -(2**20), -(2**40), "x" * 40, "x" * 300, "x" * 70_000, [None] * 20]
    keys = dict.fromkeys("abcdefghijklmnopq")
    for value in ([1] * 49, {"x" * 100: [{"y" * 70_000: None}] * 20}, [wide], {"a": keys}):
        assert codec.decode(tree(value)).unwrap() == value
    tracemalloc.start()
    refused(b"\x92\x02\xdd" + struct.pack(">I", 10**6) + b"\x90" * 10**6, StateTooLarge, codec)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**22
    assert decoded(b"\x92\x02\x82\xa1a\x01\xa1a\x02") == {"a": 2}
    for limits in (Limits(max_str=20), Limits(max_depth=2), Limits(max_bytes=20)):
        refused(tree([[["x" * 30]]]), (StateTooLarge, StateTooDeep), Codec(limits=limits))
