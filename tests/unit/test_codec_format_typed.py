"""The clauses of the codec's wire format on typed trees, with documents made by hand: specs/codec/format.md."""

from __future__ import annotations

import dataclasses
import tracemalloc
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

import msgpack
import pytest

from flowpersist.codec import Codec, Limits, TypeRegistry
from flowpersist.errors import StateTooDeep, StateTooLarge, UnknownType
from tests.unit.test_codec_format import refused


@dataclasses.dataclass
class Line:
    name: Any
    price: Any


@dataclasses.dataclass(frozen=True)
class Total:
    of: Any


class Colour(Enum):
    RED = 1


TYPES = TypeRegistry()
TYPES.register(Line, name="t.Line")
TYPES.register(Total, name="t.Total")
TYPES.register(Colour, name="t.Colour")
CODEC = Codec(types=TYPES)
CLASSES = ["t.Line", 1, 2, "name", "price", "t.Total", 1, 1, "of", "t.Colour", 1, 0]
LINE, TOTAL = b"\2", b"\3"


def typed(value: Any, classes: Any = CLASSES) -> bytes:
    return msgpack.packb([2, msgpack.packb(classes), value])


def ext(code: int, data: bytes) -> Any:
    return msgpack.ExtType(code, data)


def read(value: Any) -> Any:
    return CODEC.decode(typed(value)).unwrap()


def test_an_object_is_a_map_of_a_mark():
    """Clauses 3, 28."""
    assert read({LINE: ["a", 1.5]}) == Line("a", 1.5)
    assert read([{TOTAL: [{LINE: [b"x", None]}]}, {"a": {b"\0": [1, {b"\0": []}]}}]) == [
        Total(Line(b"x", None)),
        {"a": (1, ())},
    ]
    assert read({b"\1": ["a", "b"]}) == {"a", "b"}
    assert read({b"\1": []}) == set()
    assert read({"a": 1, "b": {}}) == {"a": 1, "b": {}}
    for mark in (b"\4", b"\5", b"\xff", b"", b"\2\0"):
        refused(typed({mark: ["a", 1]}), codec=CODEC)
    for cells in (["a"], ["a", 1, 2], [], None, "ab", {"a": 1, "b": 2}, b"ab"):
        refused(typed({LINE: cells}), codec=CODEC)
        refused(typed([{TOTAL: [{LINE: cells}]}]), codec=CODEC)
    for cells in (["a", "a"], [1], [b"a"], [[]], None, "a"):
        refused(typed({b"\1": cells}), codec=CODEC)


def test_leaves_and_members_are_extensions():
    """Clauses 10, 28."""
    leaves = {
        36: (b"2026-01-01T00:00:00+00:00", datetime(2026, 1, 1, tzinfo=UTC)),
        43: (b"1.50", Decimal("1.50")),
        42: (bytes(15) + b"\7", UUID(int=7)),
        39: (b"\x91\x05", timedelta(microseconds=5)),
        35: (b"\x92\xcb" + bytes(8) + b"\xcb" + bytes(8), 0j),
        34: (b"\x91\xc0", ...),
        4: (b"\x92\x02\xa3RED", Colour.RED),
    }
    for code, (data, value) in leaves.items():
        assert read([ext(code, data)]) == [value]
        assert CODEC.encode([value]).unwrap() == typed(
            [ext(code, data)], ["t.Colour", 1, 0] if code == 4 else []
        ).replace(b"\x92\x02\xa3RED", b"\x92\x00\xa3RED")
        for broken in (data[:-1], data + b"\xff", b"", b"\x91"):
            if (code, broken) != (43, b"1.5"):
                refused(typed([ext(code, broken)]), codec=CODEC)
    for code in (0, 1, 2, 5, 31, 32, 33, 46, 59, 127):
        refused(typed([ext(code, b"\x91\xc0")]), codec=CODEC)
    for data in (b"\x92\x00\xa3RED", b"\x92\x03\xa3RED", b"\x92\xff\xa3RED", b"\x92\xc3\xa3RED", b"\x92\x02\x01"):
        refused(typed([ext(4, data)]), codec=CODEC)
    refused(typed([ext(4, b"\x92\x02\xa4BLUE")]), UnknownType, CODEC)


def test_a_reference_is_to_an_object_that_has_ended():
    """Clauses 28, 29."""
    first, again, line = read([["x"], ext(3, b"\0\0"), {LINE: ["a", ext(3, b"\0\0")]}])
    assert first is again is line.price
    found = read([{LINE: [[], {}]}, ext(3, b"\0\0"), ext(3, b"\0\1"), ext(3, b"\0\2")])
    assert found[1:] == [[], {}, Line([], {})]
    assert found[3] is found[0]
    for number in (b"\0\1", b"\0\3", b"\xff\xff", bytes(7) + b"\1"):
        refused(typed([["x"], [ext(3, number)]]), codec=CODEC)
    shared: list[Any] = []
    one = Line(shared, shared)
    data = CODEC.encode([one, one, shared]).unwrap()
    assert data == typed([{LINE: [[], ext(3, b"\0\0")]}, ext(3, b"\0\1"), ext(3, b"\0\0")], CLASSES[:5])


@pytest.mark.parametrize("stamp", [b"\xd6\xff" + bytes(4), b"\xd7\xff" + bytes(8), b"\xc7\x0c\xff" + bytes(12)])
def test_a_timestamp_is_refused(stamp):
    """Clause 29."""
    head = typed([])[:-1]
    for document in (head + stamp, head + b"\x91" + stamp, head + b"\x92\xa1\xc2" + stamp, head + b"\x81\xa1a" + stamp):
        refused(document, codec=CODEC)
    assert read([stamp, b"\xff" * 100, -1]) == [stamp, b"\xff" * 100, -1]


def test_what_a_reader_refuses():
    """Clauses 1, 2, 29."""
    for value in (
        {LINE: ["a", 1], "b": 2},
        {b"x": 1, b"y": 2},
        {"a": {b"x": 1, "y": 2}},
        [0] * 2049,
        {1: 2},
        {None: 1},
    ):
        refused(typed(value), codec=CODEC)
    refused(typed({str(number): 1 for number in range(2049)}), codec=CODEC)
    refused(typed(["x" * 2**18]), codec=CODEC)
    many = [cell for number in range(255) for cell in (f"t.{number}", 1, 0)]
    registry = TypeRegistry()
    for number in range(255):
        registry.register(type(f"C{number}", (Total,), {}), name=f"t.{number}")
    refused(typed([], many), codec=Codec(types=registry))
    for document in (
        typed([]) + b"\0",
        typed([1])[:-1],
        b"\x93\x02",
        b"\x93\x02\xc4",
        b"\x93\x02\x90\x90",
        b"\x93\x02\xc4\x09\x90\x90",
    ):
        refused(document, codec=CODEC)
    for classes in (None, ["t.Line"], ["t.Line", 1, 1], ["t.Line", 1, 2, "name", "name"], [1, 1, 0]):
        refused(typed([], classes), codec=CODEC)
    refused(typed([], ["t.None", 1, 0]), UnknownType, CODEC)
    refused(typed([], ["t.Line", 2, 2, "name", "price"]), UnknownType, CODEC)
    refused(typed([], ["t.Line", 1, 1, "name"]), UnknownType, CODEC)


def test_fields_stand_in_the_order_of_the_document():
    """Clauses 11, 22."""
    made = CODEC.decode(typed({LINE: [1, "a"]}, ["t.Line", 1, 2, "price", "name"])).unwrap()
    assert list(vars(made).items()) == [("price", 1), ("name", "a")]


def test_an_older_version_is_upgraded():
    """Clauses 10, 30."""
    types = TypeRegistry()
    types.register(Line, name="t.Line", version=2, upgrades={1: lambda old: {"name": old["title"], "price": None}})
    types.register(Total, name="t.Total")
    data = typed({TOTAL: [{LINE: ["a"]}]}, ["t.Line", 1, 1, "title", "t.Total", 1, 1, "of"])
    assert Codec(types=types).decode(data).unwrap() == Total(Line("a", None))


@pytest.mark.parametrize(
    "mark",
    [b"\x91", b"\x81\xa1a", b"\x81\xc4\x01\x03\x91", b"\xdc\x08\x00", b"\xdd\xff\xff\xff\xff", b"\xdf\0\0\x07\xff"],
)
def test_what_a_typed_tree_says_of_its_depth_and_counts_costs_little(mark):
    """Clauses 13, 17, 29."""
    head = typed([])[:-1]
    tracemalloc.start()
    for data in (head + mark * 40_000, head + mark * 900, head + mark * 8 + b"\xc0" * 100_000, head + mark):
        refused(data, codec=CODEC)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**25


def test_limits_hold_of_typed_trees():
    """Clauses 18, 27, 30."""
    few = Codec(types=TYPES, limits=Limits(max_nodes=50))
    for value in ([1] * 60, [{LINE: [1, 2]}] * 15, [ext(42, bytes(16))] * 60, [b"x" * 300] * 60):
        refused(typed(value), StateTooLarge, few)
        read(value)
    assert few.decode(typed([{LINE: [b"x" * 300, ext(42, bytes(16))]}, "x" * 70_000 * 0, 1.5])).unwrap()
    assert few.encode([Line(1, 2)]).unwrap()[:2] == b"\x98\x02"
    deep: Any = []
    for _ in range(30):
        deep = [deep, {b"\0": []}]
    refused(typed(deep), StateTooDeep, Codec(types=TYPES, limits=Limits(max_depth=10)))
    refused(typed([b"x" * 99, {b"\0": []}]), StateTooLarge, Codec(types=TYPES, limits=Limits(max_str=50)))
    refused(typed([b"x" * 99]), StateTooLarge, Codec(types=TYPES, limits=Limits(max_bytes=50)))
