"""Every class of value comes back as itself, with its identity."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import re
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from decimal import Decimal
from fractions import Fraction
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

import attrs
import pytest
from pydantic import BaseModel, ConfigDict, PrivateAttr

from flowpersist.codec import Codec, TypeRegistry
from flowpersist.errors import UnsupportedType
from flowpersist.keys.suspension_key import SuspensionId, SuspensionKey
from flowpersist.testing import assert_round_trips, same_graph


def again(value: Any, *types: type) -> Any:
    codec = Codec(types=TypeRegistry(*types))
    return codec.decode(codec.encode(value).unwrap()).unwrap()


IDENTIFIER = SuspensionId(bytes(range(16)))
BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        False,
        0,
        -1,
        2**63 - 1,
        -(2**63),
        2**64 - 1,
        2**64,
        -(2**64),
        2**5000,
        1.5,
        -0.0,
        float("nan"),
        float("inf"),
        complex(-0.0, float("nan")),
        "",
        "a\0b",
        "\ud800 lone",
        "\ud83d\ude00",
        b"",
        b"\xff",
        ...,
        range(3),
        range(2**70, 0, -3),
        slice(None, [1], "x"),
        [slice((1,), ((2,),))],
        dt.datetime(2026, 1, 1, tzinfo=dt.UTC).replace(tzinfo=None),
        dt.time(1, 2),
        dt.datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN, fold=1),
        dt.datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN, fold=1).replace(tzinfo=None),
        dt.datetime(1, 1, 1, tzinfo=dt.UTC),
        dt.datetime(2026, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=-5), "EST")),
        dt.date(2026, 1, 1),
        dt.time(1, 2, 3, 4, tzinfo=dt.timezone(dt.timedelta(seconds=1)), fold=1),
        dt.timedelta(days=-999_999_999),
        dt.timedelta.max,
        dt.UTC,
        dt.timezone(dt.timedelta(hours=1), ""),
        BERLIN,
        UUID(int=2**127),
        Decimal("1.50E+999999"),
        Decimal("-sNaN7"),
        Fraction(-3, 7),
        Path("/a/b"),
        PurePosixPath("."),
        PureWindowsPath("c:\\x"),
        re.compile("(?i)a|b", re.DOTALL),
        re.compile(b"x"),
        ip_address("1.2.3.4"),
        ip_address("fe80::1%eth0"),
        ip_network("10.0.0.0/8"),
        ip_network("2001:db8::/32"),
        ip_interface("10.1.2.3/8"),
        ip_interface("::1/64"),
        IDENTIFIER,
        [],
        (),
        set(),
        frozenset(),
        {},
        bytearray(b"x"),
        {1: "a", "1": "b", None: [], (1, "x"): {}},
        OrderedDict([("b", 1), ("a", 2)]),
        Counter("abracadabra"),
        defaultdict(list, {"a": [1]}),
        defaultdict(None, {1: 2}),
        deque([1, 2], maxlen=2),
        deque([3]),
        {1, "1", 1.5, None, (2, 3), frozenset({4}), b"5", Decimal(6)},
        [{"a": number, "b": str(number)} for number in range(20)],
        [{"a": number, "b": [None, 1.5][number % 2]} for number in range(20)],
        [(number, float(number)) for number in range(20)],
        [1.5, 2.5, [3.5]],
        ((1, (2, (3,))), (4,)),
        {"a": {"b": {"c": [{"d": ()}]}}},
    ],
    ids=lambda value: type(value).__name__,
)
def test_comes_back_as_itself(value):
    assert_round_trips([value, [value]])
    assert type(again(value)) is type(value)


def test_a_suspension_key_is_a_leaf_of_a_sealed_state():
    key = SuspensionKey(IDENTIFIER, bytes(range(32)), "my_")
    copy = again([key])[0]
    assert copy == key
    assert str(copy) == str(key)


def test_an_ordered_dict_keeps_the_order_that_it_was_moved_into():
    ordered = OrderedDict([("a", 1), ("b", 2)])
    ordered.move_to_end("a")
    assert list(again(ordered)) == ["b", "a"]


def test_what_was_one_object_is_one_object_again():
    shared: list[Any] = [1]
    key = (1, 2)
    pair = (shared, key)
    copy = again([shared, pair, {key: pair}, shared, bytearray(b"x")])
    assert copy[0] is copy[1][0]
    assert copy[0] is copy[3]
    assert copy[1] is next(iter(copy[2].values()))
    assert copy[1][1] is next(iter(copy[2]))


def test_an_alias_is_not_mistaken_for_an_equal():
    shared: list[Any] = []
    assert not same_graph([shared, shared], [[], []])
    assert not same_graph([[], []], [shared, shared])
    assert not same_graph([1], [1, 2])
    assert not same_graph([1], [True])
    assert not same_graph({1}, {1, 2})
    assert not same_graph(deque(maxlen=1), deque(maxlen=2))
    assert not same_graph([0.0], [-0.0])


def test_containers_that_hold_themselves():
    listed: list[Any] = []
    listed.append(listed)
    mapped: dict[Any, Any] = {}
    mapped["self"] = mapped
    queue: deque[Any] = deque(maxlen=3)
    queue.append(queue)
    held = (listed, [])
    held[1].append(held)
    for value in (listed, mapped, queue, held, held[1]):
        assert_round_trips(value)
    assert again(held)[1][0][1][0] is not held
    copy = again(held)
    assert copy[1][0] is copy


@dataclasses.dataclass(eq=False)
class Node:
    name: str
    links: Any = None


@dataclasses.dataclass(frozen=True)
class Named:
    name: Any
    more: Any = dataclasses.field(default=None, compare=False)


@dataclasses.dataclass(slots=True)
class Slotted:
    first: int
    second: int = dataclasses.field(init=False)


class Point(NamedTuple):
    x: Any
    y: Any = None


def test_an_object_in_a_set_that_it_holds_itself():
    node = Node("a")
    node.links = {node}
    copy = again(node, Node)
    assert copy.links == {copy}
    node.links = frozenset({node})
    copy = again(node, Node)
    assert copy.links == frozenset({copy})


def test_a_key_hashed_by_value_that_holds_its_dict():
    mapped: dict[Any, Any] = {}
    key = Named(("a", ("b",)), mapped)
    mapped[key] = [key]
    copy = again([mapped, {key}, frozenset({(key, 1)})], Named)
    inner = next(iter(copy[0]))
    assert inner.more is copy[0]
    assert copy[0][inner] == [inner]
    assert copy[1] == {inner}
    assert (inner, 1) in copy[2]


def test_a_frozenset_of_values_is_filled_before_what_holds_it_is_hashed():
    inner = frozenset({Named("x"), Named("y")})
    outer = {Named(inner): 1, Named((inner, frozenset({Named(inner)}))): 2}
    copy = again([outer, {"late": inner}, [inner]] + [{"late": inner} for _ in range(9)], Named)
    assert copy[0] == outer
    assert copy[1]["late"] is copy[2][0]
    assert copy[2][0] is copy[-1]["late"]


def test_namedtuples_of_all_shapes():
    empty = namedtuple("empty", [])  # noqa: PYI024
    listed: list[Any] = []
    point = Point(1, listed)
    listed.append(Point(point, (point,)))
    copy = again([point, empty(), listed], Point, empty)
    assert type(copy[0]) is Point
    assert copy[2][0].x is copy[0]
    assert type(copy[1]) is empty
    assert_round_trips([point, listed], types=[Point])


def test_fields_that_were_never_set_stay_unset():
    copy = again([Slotted(1)], Slotted)[0]
    assert copy.first == 1
    assert not hasattr(copy, "second")


@attrs.frozen
class Converted:
    _private: int = attrs.field(converter=lambda value: value + 1, alias="given")
    late: Any = attrs.field(init=False, eq=False)


@attrs.frozen(cache_hash=True)
class Cached:
    name: str


@attrs.define
class Nothing:
    pass


def test_attrs_classes_are_made_without_their_init():
    one = Converted(given=1)
    object.__setattr__(one, "late", [one])
    copy = again(one, Converted)
    assert copy._private == 2
    assert copy.late[0] is copy


def test_a_cached_hash_is_made_anew():
    copy = again({Cached("a"): 1, "n": Nothing()}, Cached, Nothing)
    assert copy == {Cached("a"): 1, "n": Nothing()}


class Model(BaseModel):
    model_config = ConfigDict(extra="allow")
    name: str
    child: Model | None = None
    _secret: int = PrivateAttr(default=3)


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)
    name: str


def test_pydantic_models_keep_extras_and_privates_and_what_was_set():
    model = Model(name="a", extra=[1])
    model._secret = 4
    model.child = model
    copy = again(model, Model)
    assert copy.child is copy
    assert copy.extra == [1]
    assert copy._secret == 4
    assert copy.model_fields_set == {"name", "child", "extra"}
    assert again({Frozen(name="x"): 1}, Frozen) == {Frozen(name="x"): 1}


class Colour(enum.Enum):
    RED = 1
    CRIMSON = RED
    BLUE = (2, "b")


class Permission(enum.Flag):
    READ = enum.auto()
    WRITE = enum.auto()


class Role(enum.StrEnum):
    USER = "user"


def test_members_are_the_members_themselves():
    value = [
        Colour.RED,
        Colour.BLUE,
        Permission.READ,
        Permission.READ | Permission.WRITE,
        Permission(0),
        Role.USER,
        {Role.USER: 1},
    ]
    copy = again(value, Colour, Permission, Role)
    assert all(one is other for one, other in zip(copy[:6], value[:6], strict=True))
    assert type(next(iter(copy[6]))) is Role
    assert again({Colour.RED, Colour.BLUE, "x", 1}, Colour) == {Colour.RED, Colour.BLUE, "x", 1}


class Refused(Exception):
    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


def test_exceptions_are_data():
    error = Refused(7, "no")
    error.add_note("a note")
    error.__cause__ = OSError(2, "gone", "file")
    error.details = [error]
    copy = again(error, Refused)
    assert (copy.args, copy.code, copy.__notes__) == (("no",), 7, ["a note"])
    assert copy.details[0] is copy
    assert (copy.__cause__.errno, copy.__cause__.filename, str(copy.__cause__)) == (2, "file", str(error.__cause__))
    assert copy.__suppress_context__


def test_builtin_exceptions_need_no_registration():
    with pytest.raises(UnicodeDecodeError) as caught:
        b"\xff".decode()
    assert str(again(caught.value)) == str(caught.value)
    stop = again(StopIteration(3))
    assert stop.value == 3
    missing = again(AttributeError("x", name="y", obj=object()))
    assert (missing.args, missing.name, missing.obj) == (("x",), "y", None)


def test_groups_of_exceptions():
    inner = ExceptionGroup("inner", [ValueError(1)])
    group = ExceptionGroup("outer", [inner, KeyError("k")])
    group.add_note("n")
    copy = again([group, {"again": group}])
    assert copy[0] is copy[1]["again"]
    assert (copy[0].message, copy[0].__notes__) == ("outer", ["n"])
    assert copy[0].exceptions[0].exceptions[0].args == (1,)


class Vector:
    def __init__(self, *parts: Any) -> None:
        self.parts = parts

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vector) and self.parts == other.parts

    def __hash__(self) -> int:
        return hash(self.parts)


def vectors() -> TypeRegistry:
    types = TypeRegistry()
    types.register(Vector, encode=lambda vector: list(vector.parts), decode=lambda parts: Vector(*parts))
    return types


def test_any_class_by_a_pair_of_functions():
    codec = Codec(types=vectors())
    leaf = Vector(1, 2)
    value = {
        "tree": Vector(leaf, (leaf, Vector())),
        "keys": {leaf: [leaf]},
        "set": {leaf, Vector(3)},
        "many": deque([leaf]),
    }
    copy = codec.decode(codec.encode(value).unwrap()).unwrap()
    assert copy == value
    assert copy["tree"].parts[0] is copy["many"][0]


def test_depth_is_no_limit():
    nested: Any = None
    for number in range(10_000):
        nested = {"value": number, "next": nested} if number % 2 else [nested]
    copy = again(nested)
    for _ in range(9_999):
        copy = copy["next"] if isinstance(copy, dict) else copy[0]
    assert copy == [None]
    chained: Any = None
    for number in range(10_000):
        chained = (number, chained)
    copy = again(chained)
    for number in range(9_999, -1, -1):
        assert copy[0] == number
        copy = copy[1]


def test_an_immutable_that_a_key_holds_and_that_holds_the_key():
    inner = Named("x")
    held = frozenset({inner})
    object.__setattr__(inner, "more", (held, [held]))
    copy = again([held], Named)[0]
    assert next(iter(copy)).more[0] is copy
    assert next(iter(copy)).more[1][0] is copy


def test_equal_sets_give_equal_bytes_however_they_were_filled():
    types = vectors() | TypeRegistry(Named, Point, Colour, Node)
    shared = (1, (2, 3))
    elements: list[Any] = [
        Named("a"),
        Named(shared),
        Named("b", [1]),
        Named("c", slice((1,), 2)),
        Point(shared, (shared, shared)),
        shared,
        frozenset({shared, (4,)}),
        Vector(1),
        Colour.RED,
        Decimal(2),
        "text",
        3,
    ]
    codec = Codec(types=types)
    one, other = set(elements), {77, *reversed(elements)}
    other.remove(77)
    assert codec.encode(one) == codec.encode(other)
    assert codec.decode(codec.encode(one).unwrap()).unwrap() == one


def test_a_hash_of_its_own_making_may_reach_itself():
    one, other = Tied("a"), Tied("b")
    one.link, other.link = other, one
    copy = again({one, other, (one,)}, Tied)
    assert len(copy) == 3


@dataclasses.dataclass(eq=False)
class Tied:
    name: str
    link: Any = None

    def __hash__(self) -> int:
        return hash(self.name)


@dataclasses.dataclass(eq=False)
class Aloof:
    """Is compared with nothing."""

    name: Any

    def __eq__(self, other: object) -> bool:
        raise ValueError

    def __hash__(self) -> int:
        return hash(self.name)


def test_no_object_is_asked_whether_it_is_equal():
    one, other = Aloof("a"), Aloof("b")
    value = [Node("n", one), {one: other}, {other: 1}, {"text": one}, {one}, frozenset({other}), (one,), deque([other])]
    copy = again(value * 2, Node, Aloof)
    assert copy[0].links.name == "a"
    assert next(iter(copy[1])) is copy[0].links
    assert [type(part) for part in copy] == [type(part) for part in value * 2]


class Rate(enum.Enum):
    FULL = 1.5


class Share(float, enum.Enum):
    HALF = 0.5


@pytest.mark.parametrize("member", [Rate.FULL, Share.HALF])
def test_a_member_whose_value_is_a_float_is_none_among_floats(member):
    assert again([0.25] * 600 + [member], type(member))[-1] is member
    assert isinstance(Codec().encode([0.25] * 600 + [member]).failure(), UnsupportedType)


def test_a_graph_among_floats_is_not_walked_along_each_of_its_ways():
    """There are 2 to the 60th of them."""
    graph: list[Any] = []
    for _ in range(60):
        graph = [graph, graph]
    made = again([0.25] * 600 + [graph])[-1]
    assert made[0] is made[1]


@dataclasses.dataclass
class Holder:
    held: Any


def test_what_an_object_holds_is_the_same_in_its_dict():
    """One reference, two ways to it."""
    holders = [Holder([number]) for number in range(600)]
    objects, dicts = again([holders, [vars(one) for one in holders]], Holder)
    assert all(one.held is entries["held"] for one, entries in zip(objects, dicts, strict=True))


def test_what_objects_share_by_one_dict_is_shared_again():
    holders = [Holder([number]) for number in range(600)]
    others = [Holder(None) for _ in holders]
    for one, other in zip(holders, others, strict=True):
        other.__dict__ = one.__dict__
    objects, [[same]] = again([holders, [[others]]], Holder)
    assert all(one.held is other.held for one, other in zip(objects, same, strict=True))


def test_what_a_class_holds_for_its_objects_is_one_object():
    made = dataclasses.make_dataclass("Falling", ["held"])
    some, others = ([made([number]) for number in range(600)] for _ in range(2))
    del some[3].held, others[5].held
    made.held = [0]
    first, [[second]] = again([some, [[others]]], made)
    assert first[3].held is second[5].held


@pytest.mark.parametrize("microseconds", [1, -1, 999_999, -999_999, 1_000_000, -1_000_001])
@pytest.mark.parametrize("wrap", [lambda one: [one], lambda one: {1: one}], ids=["typed tree", "table"])
def test_an_offset_below_a_second_is_kept(microseconds, wrap):
    zone = dt.timezone(dt.timedelta(microseconds=microseconds))
    for moment in (dt.datetime(2026, 1, 1, tzinfo=zone), dt.time(1, tzinfo=zone)):
        value = wrap(moment)
        copy = Codec().decode(Codec().encode(value).unwrap()).unwrap()
        assert copy == value
        assert same_graph(copy, value)


class Count(int):
    pass


@pytest.mark.parametrize(
    "make",
    [int, Count, Fraction, lambda digits: Fraction(1, digits)],
    ids=["int", "subclass", "numerator", "denominator"],
)
def test_a_number_of_more_digits_than_python_writes_is_verified_too(make):
    value = {make(10**5000): [make(10**5000)]}
    codec = Codec(TypeRegistry(Count), verify=True)
    assert same_graph(codec.decode(codec.encode(value).unwrap()).unwrap(), value, types=codec.types)
    assert not same_graph({make(10**5000): [make(10**5000 + 1)]}, value, types=codec.types)
