"""Registered subclasses of Python's own classes, and classes with a state of their own."""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from dataclasses import dataclass
from typing import Any

import pytest

from flowpersist.codec import Codec, TypeRegistry
from flowpersist.errors import ConfigurationError, MalformedPayload, UnknownType, UnsupportedType


class Names(list[Any]):
    owner: Any

    def __iter__(self):
        raise AssertionError("the codec reads by the methods of list")

    def append(self, _):
        raise AssertionError("the codec fills by the methods of list")


class Slotted(list[Any]):
    __slots__ = ("owner", "unset")


class Pair(tuple[Any, ...]):  # noqa: SLOT001 - its attributes are what is tested
    owner: Any


class Tags(set[Any]):
    pass


class Frozen(frozenset[Any]):
    owner: Any


class Table(dict[Any, Any]):
    owner: Any

    def __setitem__(self, key, value):
        raise AssertionError("the codec fills by the methods of dict")


class Ordered(OrderedDict[Any, Any]):
    pass


class Tally(Counter[str]):
    pass


class Window(deque[Any]):
    pass


class Buffer(bytearray):
    pass


class Text(str):
    __slots__ = ("__dict__",)


class Raw(bytes):
    pass


class Count(int):
    pass


class Ratio(float):
    pass


class Point(complex):
    pass


@dataclass
class Listed(list[Any]):
    x: int = 0


ALL = (
    *(Names, Slotted, Pair, Tags, Frozen, Table, Ordered, Tally, Window, Buffer, Text, Raw, Count, Ratio, Point),
    Listed,
)


def again(value: Any, *classes: type) -> Any:
    codec = Codec(types=classes or ALL)
    return codec.decode(codec.encode(value).unwrap()).unwrap()


@pytest.mark.parametrize(
    "one",
    [
        Pair((1, 2)),
        Tags({1, 2}),
        Frozen({1, 2}),
        Table(a=1, b=[2]),
        Ordered(b=1, a=2),
        Tally("abca"),
        Window([1, 2], maxlen=3),
        Window(),
        Buffer(b"xy"),
        Text("text"),
        Raw(b"\0\xff"),
        Count(2**80),
        Ratio(0.5),
        Point(1, 2),
    ],
    ids=lambda one: type(one).__name__,
)
def test_a_subclass_comes_back_as_itself_with_its_attributes(one):
    if hasattr(one, "__dict__"):
        one.owner = [one]
    copy = again([one, one])
    assert type(copy[0]) is type(one)
    assert copy[0] == one
    assert copy[0] is copy[1]
    assert getattr(copy[0], "maxlen", None) == getattr(one, "maxlen", None)
    if hasattr(one, "__dict__"):
        assert vars(copy[0]).keys() == {"owner"}
        assert copy[0].owner[0] is copy[0]


def test_content_is_read_and_filled_by_the_methods_of_the_builtin_class():
    names = Names((1, 2))
    names.owner = "x"
    copy = again(names)
    assert (type(copy), list.__getitem__(copy, slice(None)), copy.owner) == (Names, [1, 2], "x")


def test_slots_are_attributes_and_unset_ones_stay_unset():
    one = Slotted([1])
    one.owner = one
    copy = again(one)
    assert copy.owner is copy
    assert not hasattr(copy, "unset")


def test_a_dataclass_that_is_a_list_keeps_both():
    one = Listed(3)
    one.extend([1, one])
    copy = again(one)
    assert copy.x == 3
    assert copy[1] is copy


def test_subclasses_are_keys_elements_and_parts_of_immutables():
    key, pair = Text("k"), Pair((1, (2, Text("in"))))
    pair.owner = {"back": pair}
    table = Table({key: pair, pair: key})
    value = {"table": table, "set": {pair, Frozen({pair})}, "tuple": (pair, (pair,)), "dict": {key: [pair]}}
    copy = again(value)
    assert copy == value
    (inner,) = copy["dict"].values()
    assert inner[0] is copy["tuple"][0] is copy["tuple"][1][0] is inner[0].owner["back"]
    assert type(next(iter(copy["dict"]))) is Text
    assert {type(one) for one in copy["set"]} == {Pair, Frozen}


def test_a_subclass_that_is_not_registered_is_refused_with_its_path():
    error = Codec().encode({"a": [Names()]}).failure()
    assert isinstance(error, UnsupportedType)
    assert "state['a'][0]" in str(error)


def test_an_attribute_never_hides_what_the_class_defines():
    class Free(list[Any]):
        pass

    class Guarded(list[Any]):
        def secret(self) -> int:
            return 1

    one = Free()
    one.secret = 2  # type: ignore[attr-defined]
    free, guarded = TypeRegistry(), TypeRegistry()
    free.register(Free, name="it")
    guarded.register(Guarded, name="it")
    data = Codec(types=free).encode(one).unwrap()
    assert isinstance(Codec(types=guarded).decode(data).failure(), MalformedPayload)


@pytest.mark.parametrize("name", ["__class__", "__dict__", "__len__"])
def test_an_attribute_is_no_dunder(name):
    codec = Codec(types=ALL)
    one, harmless = Tags(), "x" * len(name)
    vars(one)[name] = 1
    assert isinstance(codec.encode(one).failure(), UnsupportedType)
    other = Tags()
    vars(other)[harmless] = 1
    data = codec.encode(other).unwrap().replace(harmless.encode(), name.encode())
    assert isinstance(codec.decode(data).failure(), MalformedPayload)


def test_older_attributes_are_upgraded():
    class Old(list[Any]):
        pass

    class New(list[Any]):
        pass

    one = Old([1])
    one.first = 1  # type: ignore[attr-defined]
    old, new = TypeRegistry(), TypeRegistry()
    old.register(Old, name="it")
    new.register(New, name="it", version=2, upgrades={1: lambda fields: {"second": fields["first"] + 1}})
    copy: Any = Codec(types=new).decode(Codec(types=old).encode(one).unwrap()).unwrap()
    assert (list(copy), vars(copy)) == ([1], {"second": 2})


class Stateful:
    def __init__(self) -> None:
        raise AssertionError("not called")

    def __getstate__(self) -> Any:
        return {"parts": self.parts, "me": self}

    def __setstate__(self, state: Any) -> None:
        self.parts = state["parts"]
        self.length = len(self.parts)
        self.me = state["me"]


class OnlyGet:
    def __init__(self) -> None:
        self.kept, self.dropped = 1, object()

    def __getstate__(self) -> dict[str, Any]:
        return {"kept": [self.kept]}


@dataclass
class Cached:
    x: int
    cache: Any = None

    def __getstate__(self) -> tuple[int]:
        return (self.x,)

    def __setstate__(self, state: tuple[int]) -> None:
        self.x, self.cache = state[0], "made anew"


def test_a_class_is_restored_by_its_own_state_once_that_is_whole():
    one = object.__new__(Stateful)
    one.parts = [(one, [1]), {(1, (2,)): one}]
    copy = again({"one": one, "again": [one]}, Stateful)
    assert copy["one"] is copy["again"][0] is copy["one"].me is copy["one"].parts[0][0]
    assert copy["one"].length == 2
    assert copy["one"].parts[1][1, (2,)] is copy["one"]


def test_a_state_without_setstate_becomes_attributes():
    copy = again(OnlyGet(), OnlyGet)
    assert vars(copy) == {"kept": [1]}


def test_a_dataclass_with_a_state_of_its_own_keeps_to_it():
    assert again(Cached(1, object()), Cached) == Cached(1, "made anew")


@dataclass(slots=True, frozen=True)
class FrozenSlots:
    x: int


def test_the_state_that_a_decorator_makes_is_not_one_of_its_own():
    assert TypeRegistry(FrozenSlots).by_class(FrozenSlots).plan.names == ("x",)  # type: ignore[union-attr]


def test_an_older_state_is_upgraded():
    old, new = TypeRegistry(), TypeRegistry()
    old.register(Cached, name="it")

    class Newer(Cached):
        pass

    new.register(Newer, name="it", version=2, upgrades={1: lambda state: (state[0] + 1,)})
    copy: Any = Codec(types=new).decode(Codec(types=old).encode(Cached(1)).unwrap()).unwrap()
    assert copy.x == 2


def test_a_retired_name_is_still_read_and_the_new_one_written():
    old, new = TypeRegistry(), TypeRegistry()
    old.register(Tags, name="app.old.Tags")
    new.register(Tags, name="app.new.Tags", aliases=("app.old.Tags", "app.older.Tags"))
    data = Codec(types=old).encode(Tags({1})).unwrap()
    assert Codec(types=new).decode(data).unwrap() == {1}
    assert b"app.new.Tags" in Codec(types=new).encode(Tags()).unwrap()
    assert isinstance(Codec(types=old).decode(Codec(types=new).encode(Tags()).unwrap()).failure(), UnknownType)
    assert len(new) == 1


@pytest.mark.parametrize("aliases", ["text", ("",), (1,), ("same", "same"), ("it",), ("taken",)])
def test_an_alias_is_a_name_of_its_own(aliases):
    types = TypeRegistry()
    types.register(Names, name="taken")
    with pytest.raises(ConfigurationError):
        types.register(Tags, name="it", aliases=aliases)
