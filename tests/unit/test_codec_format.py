"""The codec's wire format, clause by clause, with documents that are made by hand: specs/codec/format.md."""

from __future__ import annotations

import dataclasses
import re
import struct
import sys
import tracemalloc
from collections import defaultdict, deque
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any, NamedTuple, Self

import msgpack
import pytest
from returns.result import Failure, Success

from flowpersist.codec import Codec, Limits, TypeRegistry
from flowpersist.codec.encoder import encode_graph
from flowpersist.errors import (
    MalformedPayload,
    PersistenceError,
    StateTooDeep,
    StateTooLarge,
    UnknownType,
    UnsupportedType,
    UnsupportedVersion,
)

SPEC = Path(__file__).parents[2] / "specs" / "codec" / "format.md"
LIST, TUPLE, NAMED, SET, FROZENSET, DICT, RECORD, DEQUE, BYTEARRAY, SLICE, INSTANCE, PAIR = range(1, 13)
SCALAR, ATTRIBUTES, STATE, SHELL = range(13, 17)
PLAIN, FLOATS, REFERENCES, LEAF, MEMBERS, MIXTURE = range(6)

#: What ran though decoding must not run it.
ran: list[str] = []


@dataclasses.dataclass(frozen=True)
class Label:
    name: Any


@dataclasses.dataclass
class Watched:
    name: Any

    def __new__(cls, *_: object) -> Self:
        ran.append("__new__")
        return object.__new__(cls)

    def __post_init__(self) -> None:
        ran.append("__post_init__")

    def __setattr__(self, name: str, value: object) -> None:
        ran.append("__setattr__")
        object.__setattr__(self, name, value)


class Stateful:
    def __getstate__(self) -> object:
        return vars(self)

    def __setstate__(self, state: object) -> None:
        ran.append("__setstate__")
        self.state = state


class Point(NamedTuple):
    x: Any


class Listed(list[Any]):
    pass


TYPES = TypeRegistry()
for _cls in (Label, Point, Listed):
    TYPES.register(_cls, name=_cls.__name__)
CODEC = Codec(types=TYPES)
LABEL = ["Label", 1, "name"]
POINT = ["Point", 1, "x"]


def u32(*numbers: int) -> bytes:
    return struct.pack(f"<{len(numbers)}I", *numbers)


@dataclasses.dataclass(frozen=True)
class To:
    """A cell that refers to an object."""

    number: int


def _plain(cell: Any) -> Any:
    if type(cell) is int and cell >= 2**64:
        return msgpack.ExtType(1, b"\0" + cell.to_bytes(15, "big"))
    return cell


def column(*cells: Any) -> list[Any]:
    """A column of plain values, of references, or a mixture of both."""
    numbers = [cell.number for cell in cells if isinstance(cell, To)]
    plain = [PLAIN, packed(*(cell for cell in cells if not isinstance(cell, To)))]
    if not numbers:
        return plain
    references = [REFERENCES, u32(*numbers)]
    if len(numbers) == len(cells):
        return references
    return [MIXTURE, bytes(isinstance(cell, To) for cell in cells), plain, references]


def section(*rows: tuple[Any, ...]) -> list[Any]:
    """Rows, each its kind, the number of its object, its class (None, or an index in types), and its cells."""
    table, cells = [], []
    for kind, number, cls, *own in rows:
        table += [kind, number, 0 if cls is None else cls + 1, len(own)]
        cells += own
    return [u32(*table), column(*cells)]


def document(
    count: int = 0,
    *blocks: Any,
    types: Any = (),
    rows: Any = (),
    early: Any = (),
    late: Any = (),
    root: Any = None,
    version: Any = 2,
) -> bytes:
    cells = column(To(0) if count else None) if root is None else root
    return msgpack.packb(
        [version, classes(types), count, list(blocks), section(*rows), section(*early), section(*late), cells]
    )


def packed(*cells: Any) -> bytes:
    """Plain values within a bin."""
    return msgpack.packb([_plain(cell) for cell in cells])


def classes(types: Any) -> bytes:
    """The table of classes, each given as its name, its version and its fields."""
    return packed(*(cell for name, version, *fields in types for cell in (name, version, len(fields), *fields)))


def run(first: int, length: int = 1) -> bytes:
    return u32(first, length)


def decoded(data: bytes) -> Any:
    return CODEC.decode(data).unwrap()


def refused(data: bytes, error: type[PersistenceError] = MalformedPayload, codec: Codec = CODEC) -> None:
    outcome = codec.decode(data)
    assert isinstance(outcome, Failure), outcome
    assert isinstance(outcome.failure(), error), outcome.failure()


def leaf(code: int, *plain: Any) -> bytes:
    return document(root=[LEAF, code, column(*plain)])


def test_every_clause_of_the_specification_has_a_test():
    clauses = [int(number) for number in re.findall(r"^(\d+)\. ", SPEC.read_text(encoding="utf-8"), re.MULTILINE)]
    assert clauses == list(range(1, 31))
    texts = [file.read_text(encoding="utf-8") for file in Path(__file__).parent.glob("test_codec_format*.py")]
    told = re.findall(r'"""Clauses? ([\d, ]+)[.:]', "".join(texts))
    assert set(clauses) == {int(number) for one in told for number in one.split(", ")}


def test_the_documents_made_by_hand_are_right():
    """All below are refused for the one thing that is wrong with them."""
    assert decoded(document()) is None
    assert decoded(document(1, [LIST, run(0), u32(2), column(1, "a")])) == [1, "a"]
    assert decoded(document(1, rows=[(LIST, 0, None, 1, To(0))]))[0] == 1
    assert decoded(document(2, early=[(TUPLE, 1, None, 7), (TUPLE, 0, None, To(1), 8)])) == ((7,), 8)
    assert decoded(document(2, [LIST, run(0, 2), u32(1, 0), column(To(1))])) == [[]]
    assert decoded(document(1, types=[LABEL], rows=[(INSTANCE, 0, 0, "x")])).name == "x"
    assert decoded(document(1, types=[POINT], rows=[(NAMED, 0, 0, "x")])) == Point("x")
    assert decoded(leaf(3, 1.0, 2.0)) == 1 + 2j


@pytest.mark.parametrize("version", [0, 1, 3, 2**40])
def test_other_versions_are_refused_whatever_follows(version):
    """Clause 1."""
    refused(document(version=version), UnsupportedVersion)
    for behind in (b"\xc1", b"\x80", b""):
        refused(b"\x92" + msgpack.packb(version) + b"\xc0" + behind, UnsupportedVersion)


@pytest.mark.parametrize("version", [-1, "2", None, 2.0, True, [2]])
def test_what_has_no_version_is_no_document(version):
    """Clause 1."""
    refused(document(version=version))


@pytest.mark.parametrize("behind", [b"\0", b"\xc0", b"\xc1", document()])
def test_nothing_follows(behind):
    """Clause 2."""
    refused(document() + behind)


@pytest.mark.parametrize("map_", [{}, {1: 2}])
def test_maps_are_refused_wherever_they_are(map_):
    """Clause 3."""
    parts = msgpack.unpackb(document(1, [LIST, run(0), u32(0), column()], types=[LABEL]))
    for place in range(len(parts)):
        refused(msgpack.packb([*parts[:place], map_, *parts[place + 1 :]]))
    refused(document(1, map_))
    refused(document(root=[PLAIN, map_]))
    refused(document(root=[PLAIN, msgpack.packb(map_)]))
    refused(document(root=[PLAIN, msgpack.packb([map_])]))


def numbers_in(data: bytes) -> list[int]:
    return [number for (number,) in struct.iter_unpack("<I", data)]


def references_of(data: bytes) -> dict[int, list[int]]:
    """What each list in a document of lists refers to."""
    _, _, _, blocks, (table, cells), *_ = msgpack.unpackb(data)
    rows = numbers_in(table)
    parts = [(rows[1::4], rows[3::4], cells)]
    for _, runs, lengths, own in blocks:
        bounds = zip(numbers_in(runs)[::2], numbers_in(runs)[1::2], strict=True)
        parts.append(
            ([number for first, length in bounds for number in range(first, first + length)], numbers_in(lengths), own)
        )
    found: dict[int, list[int]] = {}
    for numbers, lengths, (kind, own) in parts:
        references = iter(numbers_in(own) if kind == REFERENCES else ())
        found.update(
            (number, [next(references) for _ in range(length)]) for number, length in zip(numbers, lengths, strict=True)
        )
    return found


def test_objects_are_numbered_breadth_first():
    """Clause 4."""
    shared: list[Any] = []
    tree = [[[], shared], [[[]]], shared]
    expected = {0: [1, 2, 3], 1: [4, 3], 2: [5], 3: [], 4: [], 5: [6], 6: []}
    assert references_of(encode_graph(tree, CODEC.types, CODEC.limits)) == expected


def test_the_same_graph_gives_the_same_bytes():
    """Clause 4."""

    def made() -> Any:
        shared = (1, "x")
        ring: list[Any] = [shared, {"a": shared, "b": Label(shared)}, {1, "two", 3.0}]
        ring.append(ring)
        return ring

    data = CODEC.encode(made()).unwrap()
    assert CODEC.encode(made()).unwrap() == data
    assert CODEC.encode(CODEC.decode(data).unwrap()).unwrap() == data


@pytest.mark.parametrize(
    "elements", [(0, 8), ("a", 1, b"a"), (Label(1), Label(9)), ((0,), (8, 1)), (frozenset({8, 0}), frozenset({1}), 3)]
)
def test_elements_have_an_order_of_their_own(elements):
    """Clause 5."""
    one, other = set(elements), set()
    for element in reversed(elements):
        other.add(element)
    spread = set(range(1000)) | one
    spread.difference_update(set(range(1000)) - one)
    for kind in (set, frozenset):
        assert CODEC.encode(kind(one)) == CODEC.encode(kind(other)) == CODEC.encode(kind(spread))
    assert list({0, 8}) != list({8, 0})


def test_immutables_in_immutables_are_in_early_or_late():
    """Clause 6."""
    refused(document(2, [TUPLE, run(0, 2), u32(1, 0), column(To(1))]))
    refused(document(2, rows=[(TUPLE, 0, None, To(1)), (TUPLE, 1, None)]))
    refused(document(2, rows=[(TUPLE, 1, None), (TUPLE, 0, None, To(1))]))
    refused(document(2, rows=[(TUPLE, 1, None), (SLICE, 0, None, 1, To(1), 2)]))
    refused(document(2, [FROZENSET, run(0), u32(1), column(To(1))], early=[(TUPLE, 1, None)]))
    refused(document(2, [SLICE, run(0), column(1, To(1), 2)], late=[(TUPLE, 1, None)]))
    assert decoded(document(2, [TUPLE, run(1), u32(0), column()], early=[(TUPLE, 0, None, To(1))])) == ((),)


@pytest.mark.parametrize("where", ["early", "late"])
def test_rows_refer_to_rows_before_them(where):
    """Clause 7."""
    inner, outer = (TUPLE, 1, None), (TUPLE, 0, None, To(1))
    assert decoded(document(2, **{where: [inner, outer]})) == ((),)
    refused(document(2, **{where: [outer, inner]}))
    refused(document(1, **{where: [(TUPLE, 0, None, To(0))]}))
    refused(document(2, early=[outer], late=[inner]))


def test_what_waits_is_in_late():
    """Clause 8."""
    instance = (INSTANCE, 1, 0, "x")
    keyed = {"types": [LABEL], "rows": [instance]}
    assert decoded(document(2, late=[(FROZENSET, 0, None, To(1))], **keyed)) == frozenset({Label("x")})
    refused(document(2, early=[(FROZENSET, 0, None, To(1))], **keyed))
    refused(document(1, [SET, run(0), u32(0), column()], early=[(SET, 0, None, 1)]))
    refused(document(1, [RECORD, run(0), packed(), column(None)], early=[(DICT, 0, None, 1, 1)]))
    for kind in (PAIR, STATE, LIST, DEQUE, BYTEARRAY, INSTANCE, SCALAR, ATTRIBUTES, SHELL, 7, 0, 17, 255):
        refused(document(1, types=[LABEL], early=[(kind, 0, 0, 1)]))
    assert decoded(document(1, rows=[(SET, 0, None)], late=[(SET, 0, None, 1)])) == {1}
    assert decoded(document(1, rows=[(DICT, 0, None)], late=[(DICT, 0, None, 1, 2)])) == {1: 2}


def test_elements_and_keys_are_there_once():
    """Clause 9."""
    refused(document(1, [SET, run(0), u32(2), column(1, 1)]))
    refused(document(1, [SET, run(0), u32(2), column(1, True)]))
    refused(document(1, [FROZENSET, run(0), u32(2), column("a", "a")]))
    refused(document(1, [DICT, run(0), 0, packed(None), u32(2), column(1, 1), column(2, 3)]))
    refused(document(1, [RECORD, run(0), packed("a", "a"), column(1), column(1)]))
    refused(document(1, rows=[(SET, 0, None, 1, 1)]))
    refused(document(1, rows=[(FROZENSET, 0, None, 1, 1)]))
    refused(document(1, rows=[(DICT, 0, None, 1, 2, 1, 3)]))
    refused(document(1, early=[(FROZENSET, 0, None, 1, 1)]))
    refused(document(1, rows=[(SET, 0, None)], late=[(SET, 0, None, 1, 1)]))
    refused(document(1, rows=[(DICT, 0, None, 1, 1)], late=[(DICT, 0, None, 1, 1)]))


def test_classes_are_looked_up_in_the_registry_alone():
    """Clause 10."""
    assert "antigravity" not in sys.modules
    for name in ("os.system", "antigravity.webbrowser", "builtins.eval", f"{__name__}.Watched", ""):
        refused(document(types=[[name, 1]]), UnknownType)
    refused(document(types=[["Label", 2, "name"]]), UnknownType)
    assert "antigravity" not in sys.modules
    later = TypeRegistry()
    later.register(Label, name="Label", version=3, upgrades={2: lambda fields: fields})
    refused(document(types=[LABEL]), UnknownType, Codec(types=later))
    refused(document(types=[[1, 1]]))
    refused(document(types=[["Label", "1", "name"]]))
    parts = msgpack.unpackb(document())
    for broken in (
        (1,),
        ("Label",),
        ("Label", 1),
        ("Label", 1, 2, "name"),
        ("Label", 1, -1),
        ("Label", 1, 1, 5),
        (None, 1, 0),
    ):
        refused(msgpack.packb([2, packed(*broken), *parts[2:]]))


def test_only_declared_fields_are_set_and_nothing_of_the_class_runs():
    """Clause 11."""
    types = TypeRegistry()
    types.register(Watched, name="Watched")
    codec = Codec(types=types)
    ran.clear()
    copy = codec.decode(document(1, types=[["Watched", 1, "name"]], rows=[(INSTANCE, 0, 0, "x")])).unwrap()
    block = [INSTANCE, run(0), 0, column("x")]
    assert (
        vars(copy) == vars(codec.decode(document(1, block, types=[["Watched", 1, "name"]])).unwrap()) == {"name": "x"}
    )
    for names in (["other"], ["name", "other"], ["__class__"], ["__dict__"], []):
        cells = ["x"] * len(names)
        refused(document(1, types=[["Watched", 1, *names]], rows=[(INSTANCE, 0, 0, *cells)]), UnknownType, codec)
    refused(document(1, types=[["Watched", 1, "name", "name"]], rows=[(INSTANCE, 0, 0, 1, 2)]), codec=codec)
    assert ran == []


def test_a_state_is_handed_to_what_was_registered_as_having_one():
    """Clause 11."""
    types = TypeRegistry()
    types.register(Watched, name="Watched")
    types.register(Stateful, name="Stateful")
    codec = Codec(types=types)
    watched, stateful = {"types": [["Watched", 1, "name"]]}, {"types": [["Stateful", 1]]}
    shell, state = (SHELL, 0, 0, None), (STATE, 0, 0, "x")
    ran.clear()
    refused(document(1, rows=[shell], late=[state], **watched), codec=codec)
    refused(document(1, rows=[(INSTANCE, 0, 0, 1)], late=[state], **watched), codec=codec)
    refused(document(1, rows=[(LIST, 0, None)], late=[state], **stateful), codec=codec)
    refused(document(1, rows=[shell, (INSTANCE, 0, 0)], **stateful), codec=codec)
    assert ran == []
    # A state is handed over once: an object without one, or with two, is none that was written.
    refused(document(1, rows=[shell], **stateful), codec=codec)
    refused(document(1, rows=[shell], late=[state, state], **stateful), codec=codec)
    ran.clear()
    copy = codec.decode(document(1, rows=[shell], late=[state], **stateful)).unwrap()
    assert (copy.state, ran) == ("x", ["__setstate__"])


def test_attributes_hide_nothing_of_the_class():
    """Clause 11."""
    made = (LIST, 0, 0, 1)
    copy = decoded(document(1, types=[["Listed", 1]], rows=[made, (ATTRIBUTES, 0, 0, "colour", "red")]))
    assert (type(copy), copy, copy.colour) == (Listed, [1], "red")
    for name in ("append", "__class__", "__len__", "__dict__", 1, None):
        refused(document(1, types=[["Listed", 1]], rows=[made, (ATTRIBUTES, 0, 0, name, 1)]))
    refused(document(1, rows=[(LIST, 0, None, 1), (ATTRIBUTES, 0, None, "colour", "red")]))


def extension(code: int, data: bytes) -> bytes:
    return document(root=[PLAIN, msgpack.packb([msgpack.ExtType(code, data)])])


def test_plain_values_are_plain():
    """Clause 12."""
    for broken in ([[]], [[1]], [{}], [[[]]], [1, 2], []):
        refused(document(root=[PLAIN, msgpack.packb(broken)]))
    refused(document(root=[PLAIN, b"\x91" * 100_000 + b"\xc0"]))
    assert decoded(extension(1, b"\x01" + bytes(8))) == 2**64
    assert decoded(extension(1, b"\xff" + bytes(8))) == -(2**64)
    assert decoded(extension(2, b"a\xed\xa0\x80")) == "a\ud800"
    for code in (0, 3, 5, 127):
        refused(extension(code, b"\0"))
    refused(document(root=[PLAIN, msgpack.packb([msgpack.Timestamp(1)])]))
    refused(extension(2, b"\xff"))


HUGE = (2**31 - 1, 2**31, 2**32 - 1)


@pytest.mark.parametrize("huge", HUGE)
def test_counts_are_held_against_the_bytes(huge):
    """Clause 13."""
    hostile = [
        document(huge),
        document(huge, [LIST, run(0, huge), u32(0), column()]),
        document(1, [LIST, run(0), u32(huge), column()]),
        document(1, [LIST, run(huge, 2), u32(0), column()]),
        document(huge, [BYTEARRAY, run(0, huge), column(b"")]),
        document(huge, [SLICE, run(0, huge), column()]),
        document(huge, [INSTANCE, run(0, huge), 0, column("x")], types=[LABEL]),
        document(huge, [RECORD, run(0, huge), packed("a"), column(1)]),
        document(1, rows=[(LIST, huge, None)]),
        document(1, early=[(TUPLE, huge, None)]),
        document(1, types=[LABEL], rows=[(INSTANCE, 0, huge - 1, 1)]),
        document(root=[REFERENCES, u32(huge)]),
        document(root=[MEMBERS, u32(huge), column("x")]),
        document(root=[PLAIN, b"\xdd" + struct.pack(">I", huge) + b"\xc0"]),
        document(root=[PLAIN, b"\x91\xc6" + struct.pack(">I", huge)]),
        b"\xdd" + struct.pack(">I", huge) + b"\x02",
        b"\x98\x02\xdd" + struct.pack(">I", huge),
    ]
    tracemalloc.start()
    for data in hostile:
        refused(data, (MalformedPayload, StateTooLarge))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20


def test_every_object_is_made_once():
    """Clauses 7, 13."""
    lists = [LIST, run(0), u32(0), column()]
    refused(document(2, lists))
    refused(document(1, lists, lists))
    refused(document(1, lists, rows=[(LIST, 0, None)]))
    refused(document(1, rows=[(LIST, 0, None), (LIST, 0, None)]))
    refused(document(1, rows=[(LIST, 0, None)], early=[(TUPLE, 0, None)]))
    refused(document(1, early=[(TUPLE, 0, None)], late=[(TUPLE, 0, None)]))
    refused(document(0, lists, root=column(1)))
    refused(document(1, [LIST, u32(0, 1, 0, 1), u32(0, 0), column()]))
    refused(document(1, [LIST, u32(0), u32(0), column()]))


@pytest.mark.parametrize(
    "key", ["../../../etc/passwd", "/etc/passwd", "Etc/../UTC", "", "europe/berlin", "\0", "tzdata.zi"]
)
def test_zones_are_those_that_are_installed(key):
    """Clause 14."""
    refused(leaf(9, "Z" + key))
    refused(leaf(4, f"2026-01-01T00:00:00;0;Z{key}"))
    assert decoded(leaf(9, "ZEurope/Berlin")).key == "Europe/Berlin"


def test_regular_expressions_are_compiled_within_the_limit_only():
    """Clause 15."""
    codec = Codec(limits=Limits(max_pattern=100))
    # Compiled, this one would be refused as broken.
    refused(leaf(14, "(" * 101, 0), StateTooLarge, codec)
    refused(document(1, [LIST, run(0), u32(2), [LEAF, 14, column("(" * 60, 0, "b" * 60, 0)]]), StateTooLarge, codec)
    refused(leaf(14, "(" * 100, 0), MalformedPayload, codec)
    assert codec.decode(leaf(14, "a" * 100, 0)).unwrap().pattern == "a" * 100


def test_any_bytes_end_with_a_value_or_an_error_of_ours():
    """Clause 16."""
    whole = document(3, [LIST, run(0), u32(2), column(To(1), "x")], rows=[(SET, 1, None, 1)], early=[(TUPLE, 2, None)])
    hostile = [whole[:end] for end in range(len(whole))]
    hostile += [whole[:at] + bytes([byte]) + whole[at + 1 :] for at in range(len(whole)) for byte in (0, 0xC1, 0xFF)]
    hostile += [bytes([byte]) for byte in range(256)]
    for data in hostile:
        match CODEC.decode(data):
            case Failure(error):
                assert isinstance(error, PersistenceError)
            case Success(value):
                assert isinstance(CODEC.encode(value), Success)


def test_coding_does_not_recurse():
    """Clause 17."""
    depth = 3000
    assert depth > sys.getrecursionlimit()
    chains = [
        [(LIST, number, None, To(number + 1)) for number in range(depth - 1)] + [(LIST, depth - 1, None)],
        [(DICT, number, None, "a", To(number + 1)) for number in range(depth - 1)] + [(DICT, depth - 1, None)],
    ]
    for chain in chains:
        value = decoded(document(depth, rows=chain))
        assert isinstance(CODEC.encode(value), Success)
    tuples = [(TUPLE, depth - 1, None)] + [
        (TUPLE, number, None, To(number + 1)) for number in reversed(range(depth - 1))
    ]
    assert isinstance(CODEC.encode(decoded(document(depth, early=tuples))), Success)


def ladder(depth: int) -> dict[str, bytes]:
    """Documents of objects that are nested so deep, of each class that CPython frees by recursion."""
    down = [To(number + 1) for number in range(depth - 1)]
    lengths = u32(*[1] * (depth - 1), 0)
    keys = column(*["a"] * (depth - 1))
    nones = column(*[None] * depth)
    errors = [(INSTANCE, number, 0, To(number + 1)) for number in range(depth - 1)] + [(INSTANCE, depth - 1, 0, 1)]
    slices = [(SLICE, number, None, 1, To(number + 1), 2) for number in reversed(range(depth - 1))]
    filled = [(DICT, number, None, "a", To(number + 1)) for number in range(depth - 1)]
    empty = [DICT, run(0, depth), 3, packed(None), u32(*[0] * depth), column(), column()]
    return {
        "deques": document(depth, [DEQUE, run(0, depth), lengths, nones, column(*down)]),
        "defaultdicts": document(depth, [DICT, run(0, depth), 3, packed(None), lengths, keys, column(*down)]),
        "defaultdicts, late": document(depth, empty, late=filled),
        "slices": document(depth, early=[(SLICE, depth - 1, None, 1, 2, 3), *slices]),
        "exceptions": document(depth, types=[["builtins.SystemExit", 1, "code"]], rows=errors),
        "exceptions, many": document(
            depth, [INSTANCE, run(0, depth), 0, column(*down, 1)], types=[["builtins.SystemExit", 1, "code"]]
        ),
        "a ring of deques": document(
            depth, [DEQUE, run(0, depth), u32(*[1] * depth), nones, column(*down, To(0))], root=column(To(0))
        ),
    }


@pytest.mark.parametrize("name", ladder(1))
def test_what_python_frees_by_recursion_is_nested_within_bounds(name):
    """Clause 17."""
    assert isinstance(CODEC.decode(ladder(900)[name]), Success)
    refused(ladder(1200)[name], StateTooDeep)


def test_what_extensions_free_by_recursion_is_nested_within_bounds():
    """Clause 17."""
    types = TypeRegistry()
    types.register(MappingProxyType, name="View", encode=dict, decode=MappingProxyType)
    codec = Codec(types=types)

    def views(depth: int) -> bytes:
        rows = [(DICT, 2 * number + 1, None, "a", To(2 * number + 2)) for number in range(depth)]
        late = [(PAIR, 2 * number, 0, To(2 * number + 1)) for number in reversed(range(depth))]
        end = (LIST, 2 * depth, None)
        return document(2 * depth + 1, types=[["View", 1]], rows=[*rows, end], late=late)

    value: Any = []
    for _ in range(50):
        value = MappingProxyType({"a": value})
    assert isinstance(codec.encode(value), Success)
    assert isinstance(codec.decode(views(50)), Success)
    for _ in range(50):
        value = MappingProxyType({"a": value})
    assert isinstance(codec.encode(value).failure(), StateTooDeep)
    refused(views(100), StateTooDeep, codec)
    assert isinstance(codec.encode([MappingProxyType({"a": number}) for number in range(200)]), Success)


def test_what_could_not_be_freed_is_not_written():
    """Clause 17."""

    def deep(depth: int, wrap: Any) -> Any:
        value = None
        for _ in range(depth):
            value = wrap(value)
        return value

    def caused(cause: Any) -> OSError:
        error = OSError(1)
        error.__cause__ = cause
        return error

    wraps = [lambda one: deque([one]), slice, lambda one: defaultdict(None, {1: one}), caused]
    for wrap in wraps:
        assert isinstance(CODEC.encode(deep(900, wrap)), Success)
        assert isinstance(CODEC.encode(deep(1200, wrap)).failure(), StateTooDeep)
    # Between lists they are freed one by one.
    assert isinstance(CODEC.encode(deep(1200, lambda one: deque([[one]]))), Success)
    hub: deque[Any] = deque()
    hub.extend([deque([hub, number]) for number in range(900)])
    assert isinstance(CODEC.encode(hub), Success)
    pointing = [defaultdict(None, {"hub": ring}) for ring in [deque()] for _ in range(2000)]
    pointing[0]["hub"].append(pointing[0]["hub"])
    assert isinstance(CODEC.encode(pointing), Success)


def test_objects_and_cells_are_counted():
    """Clause 18."""
    codec = Codec(limits=Limits(max_nodes=50))
    for data in (
        document(1, [LIST, run(0), u32(60), column(*[1] * 60)]),
        document(60, [LIST, run(0, 60), u32(*[0] * 60), column()]),
        document(60, rows=[(LIST, number, None) for number in range(60)]),
        document(30, rows=[(LIST, number, None, 1) for number in range(30)]),
        document(1, early=[(TUPLE, 0, None, *[1] * 60)]),
    ):
        refused(data, StateTooLarge, codec)
        assert isinstance(CODEC.decode(data), Success)
    refused(document(10**6, [SLICE, run(0, 10**6), column()]), (MalformedPayload, StateTooLarge))


def test_what_is_made_before_it_is_counted_is_within_the_limit_too():
    """Clause 18."""
    codec = Codec(limits=Limits(max_nodes=50))
    padding = column("x" * 2**20)
    names = packed(*[None] * 2**20)
    parts = msgpack.unpackb(document())
    tables = msgpack.packb([2, names, *parts[2:]])
    hostile = [document(2**20, root=padding), tables, document(1, [RECORD, run(0), names, column()])]
    tracemalloc.start()
    for data in hostile:
        refused(data, StateTooLarge, codec)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20


def nested(depth: int, width: int = 1) -> list[tuple[Any, ...]]:
    """Tuples of which each holds the one before, and a frozenset of the last, which is number 0."""
    rows: list[tuple[Any, ...]] = [(TUPLE, 1, None)]
    rows += [(TUPLE, number, None, *[To(number - 1)] * width) for number in range(2, depth + 1)]
    return [*rows, (FROZENSET, 0, None, To(depth))]


def test_what_is_hashed_is_weighed_before():
    """Clause 19."""
    refused(document(61, early=nested(60, 2)), StateTooLarge)
    refused(document(1201, early=nested(1200)), StateTooDeep)
    assert isinstance(CODEC.decode(document(901, early=nested(900))), Success)
    equal = [number * sys.hash_info.modulus for number in range(1, 300)]
    refused(document(1, rows=[(SET, 0, None, *equal)]), StateTooLarge)
    refused(document(1, [SET, run(0), u32(299), column(*equal)]), StateTooLarge)
    refused(document(1, [DICT, run(0), 0, packed(None), u32(299), column(*equal), column(*equal)]), StateTooLarge)
    assert isinstance(CODEC.decode(document(1, rows=[(SET, 0, None, *equal[:200])])), Success)


def test_exceptions_hide_nothing_and_begin_within_themselves():
    """Clause 20."""
    value_error = ["builtins.ValueError", 1, "__dict__"]
    told = decoded(document(2, types=[value_error], rows=[(INSTANCE, 0, 0, To(1)), (DICT, 1, None, "detail", 1)]))
    assert told.detail == 1
    for name in ("with_traceback", "__class__", "__reduce__", "add_note", 1):
        attributes = (DICT, 1, None, name, 1)
        refused(document(2, types=[value_error], rows=[(INSTANCE, 0, 0, To(1)), attributes]))
    decode_error = ["builtins.UnicodeDecodeError", 1, "start", "end"]
    for start, end in ((-1, 0), (0, -1), (-(2**62), 1)):
        rows = [(INSTANCE, 0, 0, start, end), (DICT, 1, None)]
        refused(document(2, types=[decode_error], rows=rows))


def test_functions_that_decode_run_for_their_own_class_alone():
    """Clauses 10, 11."""
    types = TypeRegistry()
    types.register(SimpleNamespace, name="Space", encode=vars, decode=lambda fields: SimpleNamespace(**fields))
    codec = Codec(types=types)
    fields = (DICT, 1, None, "a", 1)
    row = (PAIR, 0, 0, To(1))
    assert codec.decode(document(2, types=[["Space", 1]], rows=[fields], late=[row])).unwrap() == SimpleNamespace(a=1)
    refused(document(2, types=[LABEL], rows=[fields], late=[row]))
    refused(document(2, types=[["Space", 1]], rows=[fields, (INSTANCE, 0, 0)]), (MalformedPayload, UnknownType), codec)


@pytest.mark.parametrize("place", [1, 2])
@pytest.mark.parametrize("number", [True, 1.0])
def test_what_equals_a_whole_number_is_none(place, number):
    """Neither as the version of a class nor as its number of fields, however small the document."""
    one = dataclasses.make_dataclass("One", ["only"])
    codec = Codec(types=TypeRegistry(one))
    version, described, *rest = msgpack.unpackb(codec.encode([one(2)]).unwrap())
    cells = msgpack.unpackb(described)
    cells[place] = number
    data = msgpack.packb([version, msgpack.packb(cells), *rest])
    assert isinstance(codec.decode(data).failure(), MalformedPayload)


def test_a_class_may_stand_twice_with_its_fields_in_other_orders():
    """Clause 22."""
    two = dataclasses.make_dataclass("Two", ["a", "b"])
    codec = Codec(types=TypeRegistry(two))
    name = f"{two.__module__}.Two"
    rows = [(INSTANCE, 0, 0, 1, 2), (INSTANCE, 1, 1, 2, 1), (LIST, 2, None, To(0), To(1))]
    data = document(3, types=[[name, 1, "a", "b"], [name, 1, "b", "a"]], rows=rows, root=column(To(2)))
    one, other = codec.decode(data).unwrap()
    assert one == other == two(1, 2)
    assert [list(vars(one)), list(vars(other))] == [["a", "b"], ["b", "a"]]


def test_what_a_reader_would_refuse_is_not_written():
    """Clause 21. The rest is in test_codec_kept.py."""
    equal = {Label("a"), Label("b")}
    for one in equal:
        object.__setattr__(one, "name", "c")
    assert isinstance(CODEC.encode(equal).failure(), UnsupportedType)
