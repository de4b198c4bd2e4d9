"""What can't be kept is refused with its path; what is over a limit, or broken, is a typed error."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import gc
import struct
import sys
import threading
from collections import OrderedDict, defaultdict, deque
from pathlib import PureWindowsPath
from types import SimpleNamespace
from typing import Any, NamedTuple

import attrs
import msgpack
import pydantic
import pytest
from returns.result import Failure, Success

from flowpersist.codec import Codec, Limits, TypeRegistry
from flowpersist.codec.collector import collector_paused
from flowpersist.codec.leaves import LEAVES, LEAVES_BY_CODE
from flowpersist.errors import (
    ConfigurationError,
    MalformedPayload,
    PersistenceError,
    SerializationError,
    StateTooDeep,
    StateTooLarge,
    UnknownType,
    UnsupportedType,
    UnsupportedVersion,
)


@dataclasses.dataclass
class Message:
    tool: Any


@dataclasses.dataclass
class State:
    messages: Any


@attrs.frozen
class EmptyClass:
    pass


class Colour(enum.Enum):
    RED = 1


class Model(pydantic.BaseModel):
    name: str


class Point(NamedTuple):
    x: Any


@attrs.frozen
class Bad:
    value: Any

    def __hash__(self) -> int:
        return 1


def failure(value: Any, *types: type, **limits: int) -> PersistenceError:
    return Codec(types=types, limits=Limits(**limits)).encode(value).failure()


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (print, "state"),
        (State([1, Message({"args": {"x": print}})]), "state.messages[1].tool['args']['x']"),
        ([1, (2, {3: lambda: None})], "state[1][1][3]"),
        ({print: 1}, "state[<key>]"),
        ({"k" * 99: {print}}, None),
        (deque([slice(1, threading.Lock())]), "state[0].stop"),
        (Point(object()), "state.x"),
        (OrderedDict(a=object()), "state['a']"),
        ({(1,): object()}, "state[<tuple>]"),
        (["a", (letter for letter in "b")], "state[1]"),
    ],
)
def test_what_is_not_registered_is_refused_with_its_path(value, path):
    error = failure(value, State, Message, Point)
    assert isinstance(error, UnsupportedType)
    assert error.path is not None
    assert path is None or error.path == path
    assert error.problems[0].remedy in error.message


class Text(str):
    __slots__ = ()


class Listed(list):
    pass


@pytest.mark.parametrize("value", [Text("a"), Listed(), {Text("a"): 1}, [{"a": 1}] * 2 + [{Text("a"): 1}]])
def test_a_subclass_is_never_flattened(value):
    assert isinstance(failure(value), UnsupportedType)


class OtherZone(dt.tzinfo):
    pass


def test_a_leaf_that_can_not_be_kept_names_itself():
    error = failure([dt.datetime(2026, 1, 1, tzinfo=OtherZone())])
    assert error.path == "state[0]"
    assert "time zone" in error.message
    assert "default_factory" in failure(defaultdict(lambda: 1)).message


def test_a_path_is_the_same_or_refused():
    odd = PureWindowsPath("./b:.")
    match Codec().encode([odd]):
        case Success(data):
            assert Codec().decode(data) == Success([odd])
        case Failure(error):
            assert (sys.version_info < (3, 12), error.path) == (True, "state[0]")


def test_an_attribute_that_would_be_lost_is_refused():
    state = State(1)
    state.extra = 2
    assert "extra" in failure(state, State).message
    assert "extra" in failure([State(2), state], State).message


def test_a_function_of_the_user_that_fails_is_told_with_its_cause():
    types = TypeRegistry()
    types.register(SimpleNamespace, encode=lambda _: 1 / 0, decode=lambda _: SimpleNamespace())
    error = Codec(types=types).encode([SimpleNamespace()]).failure()
    assert isinstance(error, UnsupportedType)
    assert isinstance(error.__cause__, ZeroDivisionError)


def test_a_pair_that_reaches_itself_through_its_own_data_is_refused():
    types = TypeRegistry()
    types.register(SimpleNamespace, encode=lambda one: (one.me,), decode=lambda parts: SimpleNamespace(me=parts[0]))
    one = SimpleNamespace()
    one.me = one
    assert "reaches itself" in Codec(types=types).encode(one).failure().message
    one.me = dt.datetime(2026, 1, 1, tzinfo=OtherZone())
    error = Codec(types=types).encode(one).failure()
    assert (error.path, "time zone" in error.message) == ("state<encoded>[0]", True)
    types = TypeRegistry()
    types.register(SimpleNamespace, encode=lambda _: dt.time(tzinfo=OtherZone()), decode=lambda _: SimpleNamespace())
    assert Codec(types=types).encode([one, {1}]).failure().path is None
    one.me = print
    types = TypeRegistry()
    types.register(SimpleNamespace, encode=lambda one: (one.me,), decode=lambda parts: SimpleNamespace(me=parts[0]))
    assert Codec(types=types).encode(one).failure().path == "state<encoded>[0]"


@pytest.mark.parametrize(
    ("value", "limits", "expected"),
    [
        ([0] * 100, {"max_nodes": 50}, StateTooLarge),
        ([[] for _ in range(100)], {"max_nodes": 100}, StateTooLarge),
        ([set() for _ in range(100)], {"max_nodes": 150}, StateTooLarge),
        ("x" * 100, {"max_bytes": 50}, StateTooLarge),
        ({str(number): 1 for number in range(50)}, {"max_bytes": 50}, StateTooLarge),
        (["x", "y" * 100], {"max_str": 50}, StateTooLarge),
        ([[[[[]]]]], {"max_depth": 3}, StateTooDeep),
        (__import__("re").compile("x" * 100), {"max_pattern": 50}, StateTooLarge),
        ({Bad(number) for number in range(20)}, {"max_collisions": 10}, StateTooLarge),
        ({Bad(number): 1 for number in range(20)}, {"max_collisions": 10}, StateTooLarge),
    ],
)
def test_limits_hold_both_ways(value, limits, expected):
    assert type(failure(value, Bad, **limits)) is expected
    data = Codec(types=[Bad]).encode(value).unwrap()
    assert isinstance(Codec(types=[Bad], limits=Limits(**limits)).decode(data).failure(), (expected, MalformedPayload))


@pytest.mark.parametrize("value", [0, -1, 1.5, True])
def test_a_limit_that_makes_no_sense_is_refused(value):
    with pytest.raises(ConfigurationError, match="max_bytes"):
        Limits(max_bytes=value)


def test_sizes_are_of_single_values():
    assert isinstance(Codec(limits=Limits(max_str=50)).encode(["x"] * 100), Success)


SHAPES: list[Any] = [
    None,
    [1, [2], (3, (4,))],
    {"a": {1, 2}, (1, 2): {Bad(1): bytearray(b"x")}},
    [{"a": 1, "b": []} for _ in range(9)],
    [deque([1], 3), slice(1), Point(2), defaultdict(list)],
    {Bad(1): {Bad(2)}, frozenset({Bad(3)}): (Bad(4), frozenset({Bad(5)}))},
    [EmptyClass() for _ in range(5)],
]


@pytest.mark.parametrize("value", SHAPES, ids=repr)
def test_what_was_encoded_within_limits_can_be_decoded_within_them(value):
    data = Codec(types=[Bad, Point, EmptyClass]).encode(value).unwrap()
    for name, enough in (("max_nodes", 100), ("max_bytes", len(data))):
        outcomes = []
        for limit in range(max(1, enough - 99), enough + 1):
            codec = Codec(types=[Bad, Point, EmptyClass], limits=Limits(**{name: limit}))
            encoded, decoded = codec.encode(value), codec.decode(data)
            assert isinstance(encoded, Failure) or isinstance(decoded, Success)
            outcomes.append(isinstance(encoded, Success))
        assert outcomes == sorted(outcomes)
        assert outcomes[-1]
        assert name == "max_nodes" or not outcomes[-2]


@dataclasses.dataclass(slots=True)
class Racing:
    value: int

    def __getattribute__(self, name: str) -> Any:
        if name == "value":
            raise RuntimeError
        return super().__getattribute__(name)


def test_a_value_that_changes_meanwhile_is_told():
    racing = object.__new__(Racing)
    assert isinstance(Codec(types=[Racing]).encode(racing).failure(), SerializationError)


def test_a_namedtuple_of_another_length_is_refused():
    error = Codec(types=[Point]).encode([Point(1), tuple.__new__(Point, (1, 2))]).failure()
    assert isinstance(error, UnsupportedType)
    assert error.path == "state[1]"


# Broken bytes, made by hand.

PACKED_EMPTY = msgpack.packb([])


def column(*cells: Any) -> list[Any]:
    return [0, msgpack.packb(list(cells))]


def numbers(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}I", *values)


def references(*values: int) -> list[Any]:
    return [2, numbers(*values)]


NO_ROWS = [b"", column()]
FILLED = {4, 6, 15}
ATTRIBUTES = 14


def document(
    *blocks: Any,
    types: Any = (),
    few: Any = NO_ROWS,
    early: Any = NO_ROWS,
    late: Any = NO_ROWS,
    root: Any = None,
    version: Any = 2,
) -> bytes:
    laid, first = [], 0
    for kind, count, *parts in blocks:
        laid.append([kind, numbers(first, count), *parts])
        first += count
    few_kinds, *ordered = ([row[0] for row in struct.iter_unpack("<4I", section[0])] for section in (few, early, late))
    count = first + sum(kind != ATTRIBUTES for kind in few_kinds)
    count += sum(kind not in FILLED for kinds in ordered for kind in kinds)
    root = references(0) if root is None else root
    described = [part for name, one, *names in types for part in (name, one, len(names), *names)]
    return msgpack.packb([version, msgpack.packb(described), min(count, 2**32), laid, few, early, late, root])


def rows(
    kinds: bytes, made: tuple[int, ...], lengths: tuple[int, ...], cells: Any, classes: tuple[int, ...] = ()
) -> list[Any]:
    found = zip(kinds, made, classes or (0,) * len(kinds), lengths, strict=True)
    return [numbers(*(part for row in found for part in row)), cells]


LIST, TUPLE, NAMED, SET, FROZENSET, DICT, RECORD, DEQUE, BYTEARRAY, SLICE, INSTANCE, PAIR = range(1, 13)
STATE = [f"{__name__}.State", 1, "messages"]
POINT = [f"{__name__}.Point", 1, "x"]
COLOUR = [f"{__name__}.Colour", 1]
MODEL = [f"{__name__}.Model", 1, "name", "__pydantic_extra__", "__pydantic_fields_set__", "__pydantic_private__"]
EMPTY_LIST = [LIST, 1, numbers(0), column()]
DEEP_KEY = rows(
    bytes([TUPLE]) * 60 + bytes([FROZENSET]),
    tuple(range(61)),
    (0,) + (2,) * 59 + (1,),
    references(*(number for one in range(59) for number in (one, one)), 59),
)

BROKEN = {
    "nothing": b"",
    "no array": b"\x01",
    "a short array": msgpack.packb([2]),
    "a huge array": b"\xdd\xff\xff\xff\xff",
    "an array for a version": document(version=[]),
    "text for a version": document(version="1"),
    "a version below zero": document(version=-1),
    "bytes after the end": document(EMPTY_LIST) + b"\0",
    "a root beyond the table": document(EMPTY_LIST, root=references(7)),
    "no name of a class": document(types=[[1, 1]]),
    "a class with a field twice": document(types=[[*STATE, "messages"]]),
    "an unknown block": document([99, 0]),
    "a block with a part too many": document([LIST, 1, numbers(0), column(), 1]),
    "no length": document([LIST, 1, b"", column()]),
    "half a number": document([LIST, 1, b"\0", column()]),
    "text for bytes": document([LIST, 1, "a", column()]),
    "a count beyond the bytes": document([RECORD, 4_000_000_000, [], column()]),
    "cells beyond the bytes": document([LIST, 1, numbers(4_000_000_000), column()]),
    "a column of fewer bytes than cells": document([LIST, 1, numbers(20), column()]),
    "an unknown column": document(root=[77, b""]),
    "a mixture in a mixture": document(root=[5, b"\0", [5, b"\0", column(1)]]),
    "a mask of a wrong length": document(root=[5, b"\0\0", column(1), column(1)]),
    "a mask beyond its columns": document(root=[5, b"\2", column(1)]),
    "a column with a part too many": document(root=[*column(1), 1]),
    "a column of two for one": document(root=column(1, 2)),
    "a map": document(root=[0, msgpack.packb([{}])]),
    "an array within": document(root=[0, msgpack.packb([[1]])]),
    "arrays within arrays": document(root=[0, b"\x91" * 500 + b"\xc0"]),
    "two arrays within": document([LIST, 1, numbers(2), [0, msgpack.packb([[1, 2], [1, 2]])]]),
    "no array of cells": document(root=[0, msgpack.packb(1)]),
    "an unknown extension": document(root=[0, msgpack.packb([msgpack.ExtType(99, b"x")])]),
    "a timestamp": document(root=[0, msgpack.packb([msgpack.Timestamp(1)])]),
    "a value that is none": document(root=[0, b"\x91\xc1"]),
    "a text that is no UTF-8": document(root=[0, b"\x91\xa1\xff"]),
    "floats of a wrong length": document(root=[1, b"\0"]),
    "references of a wrong number": document(root=[2, numbers(1, 2)]),
    "an unknown leaf": document(root=[3, 99, column(1)]),
    "a leaf of references": document(root=[3, 4, references(0)]),
    "members of a wrong number": document(root=[4, numbers(1, 2), column(1)]),
    "a member of no class": document(root=[4, numbers(9), column("x")]),
    "a member of a dataclass": document(types=[STATE], root=[4, numbers(0), column("x")]),
    "a tuple of a later one": document(
        [TUPLE, 1, numbers(1), references(1)], early=rows(bytes([TUPLE]), (1,), (1,), references(1))
    ),
    "a tuple of itself": document(early=rows(bytes([TUPLE]), (0,), (1,), references(0))),
    "a frozenset of objects among those of leaves": document(EMPTY_LIST, [FROZENSET, 1, numbers(1), references(0)]),
    "a frozenset with an element twice": document([FROZENSET, 1, numbers(2), column(1, 1)]),
    "a late frozenset with an element twice": document(late=rows(bytes([FROZENSET]), (0,), (2,), column(1, 1))),
    "a set with an element twice": document([SET, 1, numbers(2), column(1, 1)]),
    "a set of lists": document(EMPTY_LIST, [SET, 1, numbers(1), references(0)]),
    "a set of what is not built": document(
        [SET, 1, numbers(1), references(1)], late=rows(bytes([TUPLE]), (1,), (0,), column())
    ),
    "a dict with a key twice": document([DICT, 1, 0, None, numbers(2), column(1, 1), column(1, 1)]),
    "a record with a key twice": document([RECORD, 1, ["a", "a"], column(1), column(1)]),
    "a member of a wrong class": document(types=[COLOUR], root=[4, numbers(0), column(1.5)]),
    "a model whose parts are none": document(
        [INSTANCE, 1, 0, column("x"), column(None), column(1), column(None)], types=[MODEL]
    ),
    "a dict of an unknown flavour": document([DICT, 1, 9, None, numbers(0), column(), column()]),
    "an unknown factory": document([DICT, 1, 3, "eval", numbers(0), column(), column()]),
    "a factory of a wrong class": document([DICT, 1, 3, 1.5, numbers(0), column(), column()]),
    "a deque over its maxlen": document([DEQUE, 1, numbers(2), column(1), column(1, 2)]),
    "a deque with a text for maxlen": document([DEQUE, 1, numbers(0), column("1"), column()]),
    "a bytearray of a number": document([BYTEARRAY, 1, column(5)]),
    "an instance of a number beyond the classes": document([INSTANCE, 1, 3, column(1)]),
    "an instance of a namedtuple": document([INSTANCE, 1, 0, column(1)], types=[POINT]),
    "a namedtuple of a dataclass": document([NAMED, 1, 0, column(1)], types=[STATE]),
    "a pair of a dataclass": document(types=[STATE], late=rows(bytes([PAIR]), (0,), (1,), column(1), (1,))),
    "an unknown row": document(early=rows(b"\1", (0,), (0,), column())),
    "a row that fills a list": document(EMPTY_LIST, late=rows(bytes([SET]), (0,), (0,), column())),
    "a set that is filled twice": document(
        [SET, 1, numbers(1), column(1)], late=rows(bytes([SET]), (0,), (1,), column(2))
    ),
    "a key that takes for ever to hash": document(early=DEEP_KEY),
    "an unknown zone": document(root=[3, 9, column("Zno/where")]),
    "an unreadable zone": document(root=[3, 8, column("X1")]),
    "a zone with an endless offset": document(root=[3, 8, column("F" + "1" * 50)]),
    "a negative denominator": document(root=[3, 12, column(1, -1)]),
    "an unknown flag": document(root=[3, 14, column("a", 128)]),
    "a pattern that does not compile": document(root=[3, 14, column("(", 0)]),
    "a number for a text": document(root=[3, 4, column(1)]),
    "a text for a number": document(root=[3, 7, column("1")]),
    "a decimal that is none": document(root=[3, 11, column("x")]),
    "a UnicodeError that begins below zero": document(
        [TUPLE, 1, numbers(0), column()],
        [INSTANCE, 1, 0, column(-5)],
        types=[["builtins.UnicodeDecodeError", 1, "start"]],
        root=references(1),
    ),
    "an exception that hides a method": document(
        [INSTANCE, 1, 0, references(1)],
        [RECORD, 1, ["with_traceback"], column(1)],
        types=[["builtins.ValueError", 1, "__dict__"]],
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_bytes_are_a_typed_error(name):
    error = Codec(types=[State, Point, Colour, Model]).decode(BROKEN[name]).failure()
    assert isinstance(error, (MalformedPayload, StateTooLarge)), error
    assert "a" * 20 not in str(error)


def test_the_hand_made_documents_are_right_but_for_their_break():
    codec = Codec(types=[State, Point, Colour, Model])
    assert codec.decode(document(EMPTY_LIST)) == Success([])
    assert codec.decode(document([INSTANCE, 1, 0, column(1)], types=[STATE])) == Success(State(1))
    assert codec.decode(document(late=rows(bytes([FROZENSET]), (0,), (1,), column(1)))) == Success(frozenset({1}))
    assert codec.decode(document(root=[3, 12, column(1, 2)])).unwrap() == 0.5


def test_a_later_format_and_unknown_classes_are_told_apart():
    assert isinstance(Codec().decode(document(version=3)).failure(), UnsupportedVersion)
    error = Codec().decode(document(types=[["os.system", 1]])).failure()
    assert isinstance(error, UnknownType)
    assert "os.system" in error.message


def test_colliding_keys_are_refused_before_they_cost():
    numbers_that_collide = [number * sys.hash_info.modulus for number in range(1, 600)]
    data = document([SET, 1, numbers(599), column(*numbers_that_collide[:2]) and [0, b""]])
    assert isinstance(Codec().decode(data).failure(), PersistenceError)
    assert isinstance(failure(set(numbers_that_collide)), StateTooLarge)
    data = Codec(limits=Limits(max_collisions=1000)).encode(set(numbers_that_collide)).unwrap()
    assert isinstance(Codec().decode(data).failure(), StateTooLarge)


def test_a_key_nested_too_deep_to_be_hashed_is_refused_both_ways():
    key: Any = ()
    for _ in range(1100):
        key = (key,)
    assert isinstance(failure({key}), StateTooDeep)
    assert isinstance(failure({frozenset({key}): 1}), StateTooDeep)
    kinds = bytes([TUPLE]) * 20_000 + bytes([FROZENSET])
    rows_of_key = rows(kinds, tuple(range(20_001)), (0,) + (1,) * 20_000, references(*range(20_000)))
    assert isinstance(Codec().decode(document(early=rows_of_key)).failure(), StateTooDeep)


#: Classes of the standard library, of modules that are imported and of one that nothing here imports.
FOREIGN = ["mailbox.Mailbox", "subprocess.Popen", "pathlib.Path", "builtins.open"]


def test_nothing_that_bytes_name_is_imported_or_opened():
    seen: list[str] = []
    watching = True

    def hook(event: str, _arguments: object) -> None:
        if watching and event in {"import", "open", "exec", "subprocess.Popen", "os.system"}:
            seen.append(event)

    codec = Codec(types=[State, Point, Colour, Model])
    codec.decode(BROKEN["an unknown zone"])  # the list of zones is read once
    codec.decode(BROKEN["a pattern that does not compile"])
    foreign = [document([INSTANCE, 1, 0, column(1)], types=[[name, 1]]) for name in FOREIGN]
    sys.addaudithook(hook)
    for data in (*BROKEN.values(), *foreign):
        codec.decode(data)
    watching = False
    assert seen == []
    assert "mailbox" not in sys.modules
    assert {type(codec.decode(data).failure()) for data in foreign} == {UnknownType}


def test_the_collector_is_left_as_it_was():
    assert gc.isenabled()
    with collector_paused():
        assert not gc.isenabled()
        Codec().encode([1])
        assert not gc.isenabled()
    assert gc.isenabled()
    gc.disable()
    try:
        Codec().decode(b"")
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_codes_of_leaves_are_distinct():
    assert len(LEAVES_BY_CODE) == len(LEAVES)


def test_a_decode_function_that_fails_is_a_failure():
    types = TypeRegistry()
    types.register(SimpleNamespace, encode=lambda _: 1, decode=lambda _: 1 / 0)
    codec = Codec(types=types)
    assert isinstance(codec.decode(codec.encode(SimpleNamespace()).unwrap()), Failure)
