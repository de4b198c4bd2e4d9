"""Kinds of the standard library, zones of other packages, and subclasses of leaves: each comes back as itself."""

from __future__ import annotations

import datetime as dt
import functools
import operator
import sys
import warnings
import weakref
from array import array
from collections import ChainMap, OrderedDict, UserDict, UserList, UserString, defaultdict
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from dateutil import tz
from pydantic import TypeAdapter

from flowpersist.codec import Codec, TypeRegistry
from flowpersist.errors import ConfigurationError, MalformedPayload, UnknownType, UnsupportedType
from kinds import (
    SUBCLASSES,
    Clock,
    Day,
    Folder,
    Groups,
    Identifier,
    Moment,
    Money,
    Offset,
    Part,
    Pure,
    Space,
    Span,
    Titled,
)


def double(value: int) -> int:
    return 2 * value


@dataclass(eq=False)
class Node:
    parent: Any = None
    children: Any = None


def registry() -> TypeRegistry:
    types = TypeRegistry(*SUBCLASSES, Node)
    types.register(Offset, encode=lambda zone: zone.hours, decode=Offset)
    types.reference(double)
    types.reference(operator.itemgetter)
    types.reference(lambda: [0], name="zeros")
    return types


TYPES = registry()


def again(value: Any, types: TypeRegistry = TYPES) -> Any:
    codec = Codec(types=types)
    data = codec.encode(value).unwrap()
    copy = codec.decode(data).unwrap()
    assert codec.encode(copy).unwrap() == data
    return copy


def refused(value: Any) -> UnsupportedType:
    error = Codec(types=TYPES).encode(value).failure()
    assert isinstance(error, UnsupportedType)
    return error


def cyclic(make: Any) -> tuple[Any, list[Any]]:
    held: list[Any] = []
    one = make(held)
    held.append(one)
    return one, held


PLAIN = dt.datetime(2026, 3, 4, 5, 6, 7, 8, dt.UTC, fold=1)
KINDS = {
    "namespace": lambda held: SimpleNamespace(a=1, held=held),
    "subclass of namespace": lambda held: Space(a=1, held=held),
    "chain map": lambda held: ChainMap({"a": held}, {"b": 2}),
    "user dict": lambda held: UserDict({"a": held}),
    "user list": lambda held: UserList([1, held]),
    "mapping proxy": lambda held: MappingProxyType({"a": held}),
    "proxy of an ordered dict": lambda held: MappingProxyType(OrderedDict(a=held)),
    "partial": lambda held: functools.partial(double, held, key=held),
    "partial of a class": lambda held: functools.partial(dict, a=held),
    "defaultdict": lambda held: Groups(list, a=held),
    "namedtuple": lambda held: Titled(1, held),
}


@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
def test_a_kind_that_holds_others_keeps_identity_and_cycles(make):
    one, held = cyclic(make)
    copy = again([one, held, one])
    assert type(copy[0]) is type(one)
    assert copy[0] is copy[2]
    assert copy[1][0] is copy[0]
    assert contents(copy[0])[-1] is copy[1]
    assert len(contents(copy[0])) == len(contents(one))


def contents(one: Any) -> list[Any]:
    match one:
        case SimpleNamespace():
            return list(vars(one).values())
        case functools.partial():
            return [one.func, *one.args, *one.keywords.values()]
        case ChainMap():
            return [one.maps[1], *one.maps[0].values()]
        case MappingProxyType() | UserDict() | defaultdict():
            return list(one.values())
    return list(one)


@pytest.mark.parametrize(
    "one",
    [
        UserString("text"),
        array("d", [1.5, -0.0]),
        array("q", [-(2**63), 1]),
        array("l", [1, 2]),
        array("B"),
        Day(2026, 1, 2),
        Span(1, 2, 3),
        Part.__mro__[1](3, 4),
        Folder("/a/b"),
        Pure("a/b"),
        Identifier(int=7),
        functools.partial(double, 2),
        double,
        operator.itemgetter,
        int,
        Node,
        type(None),
        dt.datetime,
    ],
    ids=lambda one: f"{type(one).__name__}-{getattr(one, '__name__', '')}",
)
def test_a_kind_comes_back_as_itself(one):
    copy = again([one, one])
    assert type(copy[0]) is type(one)
    assert copy[0] is copy[1] or isinstance(one, Fraction)
    if isinstance(one, functools.partial):
        assert copy[0]() == one()
    else:
        assert copy[0] == one


def test_moments_of_a_subclass_keep_zone_fold_and_attributes():
    one = Moment.combine(PLAIN.date(), PLAIN.timetz()).replace(fold=1)
    one.note = [one]
    clock = Clock(1, 2, 3, 4, dt.timezone(dt.timedelta(hours=1), "X"), fold=1)
    copy, back = again([one, clock])
    assert type(copy) is Moment
    assert (copy, copy.fold, copy.tzinfo, copy.note[0] is copy) == (one, 1, dt.UTC, True)
    assert (type(back), back, back.fold, back.tzname()) == (Clock, clock, 1, "X")


def test_numbers_of_a_subclass_are_made_without_its_code():
    money = Decimal.__new__(Money, "-sNaN7")
    part = object.__new__(Part)
    part._numerator, part._denominator = 3, 4
    part.note = "x"
    copy = again([money, part])
    assert (type(copy[0]), copy[0].as_tuple()) == (Money, money.as_tuple())
    assert (type(copy[1]), copy[1].numerator, copy[1].denominator, copy[1].note) == (Part, 3, 4, "x")


def test_attributes_of_a_namedtuple_come_back():
    one = Titled(1, ())
    one.note = [one]
    copy = again([one, Titled(3, 4)])
    assert copy[0].note[0] is copy[0]
    assert copy == [one, (3, 4)]


def test_an_ordinary_path_is_a_leaf_as_before():
    assert type(again(Path("a"))) is type(Path("a"))


@pytest.mark.parametrize("factory", [None, list, double, Node, "zeros"])
def test_a_default_factory_comes_back_by_its_name(factory):
    types = TypeRegistry(Node, Groups)
    types.reference(double)
    zeros = types.reference(lambda: [0], name="zeros")
    chosen = zeros if factory == "zeros" else factory
    for one in (defaultdict(chosen, {1: 2}), Groups(chosen, {1: 2})):
        copy = again(one, types)
        assert copy.default_factory is chosen
        assert copy == one


# References.


def test_what_has_no_name_is_refused_with_the_remedy():
    error = refused({"f": [len]})
    assert "builtins.len" in str(error)
    assert "TypeRegistry.reference" in str(error)
    assert error.path == "state['f'][0]"
    assert "default_factory" in str(refused(defaultdict(lambda: 1)))
    assert "builtins.print" in str(refused(functools.partial(print)))


def test_a_reference_that_the_reader_lacks_is_an_unknown_type():
    data = Codec(types=TYPES).encode([double]).unwrap()
    assert isinstance(Codec().decode(data).failure(), UnknownType)


@pytest.mark.parametrize(
    ("one", "name"),
    [(lambda: 1, None), (double, None), (len, f"{__name__}.double")],
    ids=["lambda", "own module", "builtin"],
)
def test_a_reference_that_can_not_be_named_is_refused(one, name):
    types = TypeRegistry()
    types.reference(double)
    with pytest.raises(ConfigurationError):
        types.reference(one, name=name)


def test_merged_registries_hold_the_references_of_both():
    one, other = TypeRegistry(), TypeRegistry()
    one.reference(double)
    other.reference(len)
    other.reference(double)
    assert again([double, len], one | other) == [double, len]


def test_an_array_of_characters_comes_back():
    with warnings.catch_warnings():
        # From CPython 3.13 on array says so of this code. The codec does not.
        warnings.simplefilter("ignore", DeprecationWarning)
        one = array("u", "häß")
    copy = again([one, one])
    assert (type(copy[0]), copy[0], copy[0].typecode) == (array, one, "u")
    assert copy[0] is copy[1]
    assert copy[0] is not again(copy)[0]


def test_an_array_of_a_code_that_this_python_lacks_is_an_unknown_type():
    types = TypeRegistry()
    types.register(UserList, name="array.array", encode=lambda one: tuple(one.data), decode=UserList)
    result = Codec().decode(Codec(types).encode(UserList(["w", 4, "häß"])).unwrap())
    if sys.version_info < (3, 13):
        assert isinstance(result.failure(), UnknownType)
    else:
        assert result.unwrap() == array("w", "häß")


# Weak references.


def test_a_weak_reference_comes_back_to_what_the_graph_holds():
    root = Node(children=[])
    for _ in range(100):
        root.children.append(Node(parent=weakref.ref(root)))
    copy = again(root)
    assert all(child.parent() is copy for child in copy.children)
    one = {1, 2}
    back = again([weakref.ref(one), {"later": [one]}, weakref.ref(Node), weakref.ref(double)])
    assert back[0]() is back[1]["later"][0]
    assert (back[2](), back[3]()) == (Node, double)


def test_a_dead_weak_reference_comes_back_dead():
    assert again([weakref.ref(Node())])[0]() is None


def test_a_weak_reference_to_what_nothing_else_holds_is_refused():
    one = Node()
    assert "nothing else" in str(refused([weakref.ref(one)]))
    assert "callback" in str(refused([one, weakref.ref(one, print)]))
    number = UUID(int=2)
    assert "nothing else" in str(refused([number, weakref.ref(number)]))


# Zones.

BERLIN = tz.tzoffset("CET", 3600)


@pytest.mark.parametrize(
    ("zone", "expected"),
    [
        (TypeAdapter(dt.datetime).validate_python("2026-01-01T00:00:00Z").tzinfo, dt.UTC),
        (
            TypeAdapter(dt.datetime).validate_python("2026-01-01T00:00:00-02:30").tzinfo,
            dt.timezone(-dt.timedelta(hours=2, minutes=30)),
        ),
        (tz.tzutc(), dt.UTC),
        (BERLIN, dt.timezone(dt.timedelta(hours=1), "CET")),
    ],
    ids=["pydantic's Z", "pydantic's offset", "dateutil's UTC", "dateutil's offset"],
)
def test_a_fixed_offset_becomes_the_equal_timezone(zone, expected):
    moment = dt.datetime(2026, 1, 2, 3, tzinfo=zone)
    codec = Codec()
    for value in (moment, [moment, dt.datetime(2026, 1, 1)], moment.timetz(), [zone]):  # noqa: DTZ001 - a naive one
        copy = codec.decode(codec.encode(value).unwrap()).unwrap()
        found = copy if isinstance(copy, dt.datetime | dt.time) else copy[0]
        found = found if isinstance(found, dt.tzinfo) else found.tzinfo
        assert type(found) is dt.timezone
        assert repr(found) == repr(expected)
    assert codec.encode(copy) == codec.encode(codec.decode(codec.encode(copy).unwrap()).unwrap())


def test_a_registered_class_of_zones_is_used():
    zone = Offset(3)
    moments = [dt.datetime(2026, 1, 1, hour, tzinfo=zone) for hour in range(20)]
    copy = again([moments, zone, dt.time(1, tzinfo=Offset(4))])
    assert copy[0] == moments
    assert {type(one.tzinfo) for one in copy[0]} == {Offset}
    assert len({id(one.tzinfo) for one in copy[0]}) == 1
    assert (copy[1].hours, copy[2].tzinfo.hours) == (3, 4)


def test_a_zone_of_another_class_is_refused_with_its_name():
    class Other(Offset):
        pass

    moment = dt.datetime(2026, 1, 1, tzinfo=tz.gettz("Europe/Berlin"))
    # Its module has another name in later releases of dateutil.
    cls = type(moment.tzinfo)
    assert cls.__name__ == "tzfile"
    assert f"{cls.__module__}.tzfile" in str(refused([moment]))
    types = TypeRegistry()
    types.register(Offset, encode=vars, decode=lambda state: Offset(**state))
    error = Codec(types=types).encode(dt.datetime(2026, 1, 1, tzinfo=Offset(1))).failure()
    assert "encode=" in str(error)


def test_a_zone_that_the_reader_lacks_is_an_unknown_type():
    data = Codec(types=TYPES).encode(dt.datetime(2026, 1, 1, tzinfo=Offset(1))).unwrap()
    assert isinstance(Codec().decode(data).failure(), UnknownType)
    codec = Codec(types=TYPES)
    wrong = data.replace(b"2026-01-01T00:00:00;0;R", b"2026-01-01T00:00:00;0;X")
    assert isinstance(codec.decode(wrong).failure(), MalformedPayload)
