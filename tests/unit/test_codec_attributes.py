"""Plain classes that are kept by their attributes, and msgspec's structs: made first, without their own code."""

from __future__ import annotations

import dataclasses
from functools import cached_property
from typing import Any

import msgspec
import pytest

from flowpersist.codec import Codec, TypeRegistry
from flowpersist.errors import ConfigurationError, SerializationError, UnknownType, UnsupportedType


class Plain:
    kind = "plain"

    def __init__(self, *_: object) -> None:
        raise AssertionError("no object is made by __init__")

    def method(self) -> None: ...

    @property
    def both(self) -> int:
        return 2

    @cached_property
    def cached(self) -> list[Any]:
        return [self]


class Slotted:
    __slots__ = ("__private", "first", "unset")

    def hidden(self, value: object) -> None:
        self.__private = value


class Below(Slotted):
    """It has a ``__dict__`` besides."""

    __slots__ = ("__dict__", "second")


class Valued:
    def __eq__(self, other: object) -> bool:
        return isinstance(other, Valued) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash(self.name)


class Stated:
    """Its own state is left alone."""

    def __getstate__(self) -> object:
        raise AssertionError

    def __setattr__(self, *_: object) -> None:
        raise AssertionError


class Extending(dict[str, int]):
    pass


@dataclasses.dataclass
class Loose:
    x: int


class Record(msgspec.Struct):
    name: Any
    more: Any = None

    def __post_init__(self) -> None:
        assert self.name == "a", "no struct is made by its own code"


class Frozen(msgspec.Struct, frozen=True, kw_only=True, tag="f", cache_hash=True):
    name: Any
    link: Any


class Open(Record, dict=True, weakref=True):
    last: Any = 3


PLAIN = (Plain, Slotted, Below, Valued, Stated, Loose)
STRUCTS = (Record, Frozen, Open)


def registry(**options: Any) -> TypeRegistry:
    types = TypeRegistry(*STRUCTS)
    for cls in PLAIN:
        types.register(cls, attributes=True, **options)
    return types


TYPES = registry()


def bare(cls: type, **attributes: Any) -> Any:
    one = object.__new__(cls)
    for name, value in attributes.items():
        object.__setattr__(one, name, value)
    return one


def again(value: Any, types: TypeRegistry = TYPES) -> Any:
    codec = Codec(types=types)
    data = codec.encode(value).unwrap()
    copy = codec.decode(data).unwrap()
    assert codec.encode(copy).unwrap() == data
    return copy


@pytest.mark.parametrize("cls", PLAIN, ids=lambda cls: cls.__name__)
def test_attributes_come_back_in_cycles_and_numbers(cls):
    name = "first" if issubclass(cls, Slotted) else "name"
    many = [bare(cls, **{name: number}) for number in range(50)]
    ring = bare(cls, **{name: many})
    many.append(ring)
    copy = again([ring, many])
    assert type(copy[0]) is cls
    assert getattr(copy[0], name) is copy[1]
    assert copy[1][-1] is copy[0]
    assert [getattr(one, name) for one in copy[1][:-1]] == list(range(50))


def test_slots_private_names_and_a_dict_beside_them_come_back():
    one = bare(Below, first=[1], second=2, other=3)
    one.hidden("x")
    copy = again([one, one])
    assert copy[0] is copy[1]
    assert (copy[0].first, copy[0].second, vars(copy[0])) == ([1], 2, {"other": 3})
    assert copy[0]._Slotted__private == "x"
    assert not hasattr(copy[0], "unset")


def test_what_a_cached_property_holds_is_an_attribute():
    one = bare(Plain, x=1)
    assert one.cached == [one]
    copy = again(one)
    assert vars(copy)["cached"][0] is copy


def test_objects_that_hash_by_their_attributes_are_keys():
    one, other = bare(Valued, name="a"), bare(Valued, name=("b", 1))
    copy = again([{one: 1, other: {one}}, frozenset({other}), one])
    assert copy[0] == {one: 1, other: {one}}
    assert copy[2] is next(iter(copy[0]))
    assert Codec(TYPES).encode({one, other}) == Codec(TYPES).encode({other, one})


@pytest.mark.parametrize("name", ["method", "both", "__class__", 1], ids=str)
def test_an_attribute_that_can_not_be_set_again_is_refused(name):
    one = bare(Plain)
    vars(one)[name] = 1
    error = Codec(TYPES).encode([one]).failure()
    assert isinstance(error, UnsupportedType)
    assert error.path == "state[0]"


def test_upgrades_take_the_attributes():
    before, after = TypeRegistry(), TypeRegistry()
    before.register(Plain, name="p", attributes=True)
    after.register(Plain, name="p", attributes=True, version=2, upgrades={1: lambda old: {"y": old["x"]}})
    data = Codec(before).encode([bare(Plain, x=1)]).unwrap()
    assert vars(Codec(after).decode(data).unwrap()[0]) == {"y": 1}


@pytest.mark.parametrize(
    ("cls", "options"),
    [(Extending, {}), (ValueError, {}), (int, {}), (Plain, {"encode": vars, "decode": Plain})],
    ids=["dict", "exception", "builtin", "functions"],
)
def test_what_holds_more_than_attributes_is_not_registered_by_them(cls, options):
    with pytest.raises(ConfigurationError):
        TypeRegistry().register(cls, attributes=True, **options)


def test_the_error_for_a_plain_class_names_the_option():
    with pytest.raises(ConfigurationError, match="attributes=True"):
        TypeRegistry(Plain)


def test_the_same_registration_again_changes_nothing():
    types = registry()
    for cls in PLAIN:
        types.register(cls, attributes=True)
    for cls in STRUCTS:
        types.register(cls)
    with pytest.raises(ConfigurationError):
        types.register(Loose)


# Structs.


def test_structs_come_back_in_cycles_without_their_own_code():
    ring = Record("a")
    frozen = Frozen(name=("x", 1), link=[ring])
    ring.more = [ring, frozen]
    ring.name = frozen
    copy = again([ring, frozen, {frozen.name: 1}])
    assert copy[0].more[0] is copy[0]
    assert copy[0].name is copy[1]
    assert copy[1].link[0] is copy[0]
    assert (type(copy[0]), type(copy[1]), copy[1].name) == (Record, Frozen, ("x", 1))


def test_a_frozen_struct_is_a_key_and_has_its_hash():
    one = Frozen(name="a", link=None)
    copy = again({one: [one]})
    assert copy == {one: [one]}
    assert next(iter(copy)) is copy[one][0]


def test_a_struct_with_a_dict_keeps_what_is_in_it():
    one = Open("a")
    one.extra = [one]
    copy = again(one)
    assert copy.extra[0] is copy
    assert (copy.name, copy.more, copy.last) == ("a", None, 3)


def test_structs_are_freed_however_deep_they_are_nested():
    one: Any = None
    for _ in range(5000):
        one = Record("a", one)
    assert again([one])[0].name == "a"


def test_a_struct_with_other_fields_says_so():
    types = TypeRegistry()
    types.register(msgspec.defstruct("Record", ["name"]), name="r")
    newer = TypeRegistry()
    newer.register(Record, name="r")
    data = Codec(types).encode(next(iter(types)).cls("a")).unwrap()
    error = Codec(newer).decode(data).failure()
    assert isinstance(error, UnknownType)
    assert "'more'" in str(error)
    older = TypeRegistry()
    older.register(msgspec.defstruct("Record", ["name"]), name="r")
    assert isinstance(Codec(older).decode(Codec(newer).encode(Record("a")).unwrap()).failure(), SerializationError)


@pytest.mark.parametrize("types", [{}, {"fields": "tolerant"}], ids=["plain", "tolerant"])
@pytest.mark.parametrize("name", ["name", "more", "last"])
def test_a_struct_of_which_a_field_was_deleted_is_refused(name, types):
    one = Open("a")
    delattr(one, name)
    registry = TypeRegistry()
    registry.register(Open, **types)
    error = Codec(registry).encode([one]).failure()
    assert isinstance(error, UnsupportedType)
    assert error.path == "state[0]"
    assert repr(name) in str(error)
