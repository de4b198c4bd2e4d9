"""Generic classes: one registration covers the parametrizations, and an object keeps the one that made it."""

from __future__ import annotations

import dataclasses
from typing import Any, Generic, TypeVar

import attrs
import pydantic
import pytest

from flowpersist.codec import Codec, TypeRegistry
from flowpersist.errors import PersistenceError, UnknownType, UnsupportedType

T = TypeVar("T")


@dataclasses.dataclass
class Box(Generic[T]):
    value: T


@attrs.define(slots=False)
class Crate(Generic[T]):
    value: T


class Plain(Generic[T]):
    pass


class Names(list[T], Generic[T]):
    pass


class Model(pydantic.BaseModel, Generic[T]):
    value: T


def registry() -> TypeRegistry:
    types = TypeRegistry(Box, Crate, Names, Model)
    types.register(Plain, attributes=True)
    return types


CODEC = Codec(registry())


def again(value: Any) -> Any:
    data = CODEC.encode(value).unwrap()
    copy = CODEC.decode(data).unwrap()
    assert CODEC.encode(copy).unwrap() == data
    return copy


@pytest.mark.parametrize("argument", [int, list[int], dict[str, Box[int]], tuple[int, str], Model, type(None)], ids=str)
def test_an_object_keeps_the_alias_that_made_it(argument):
    plain = Plain[argument]()
    named = Names[argument]([1])
    copies = again([Box[argument](1), Box(2), Crate[argument](3), plain, named, Box[argument]])
    assert [one.value for one in copies[:3]] == [1, 2, 3]
    assert copies[0].__orig_class__ == Box[argument]
    assert not hasattr(copies[1], "__orig_class__")
    assert copies[2].__orig_class__ == Crate[argument]
    assert copies[3].__orig_class__ == Plain[argument]
    assert copies[4] == [1]
    assert copies[4].__orig_class__ == Names[argument]
    assert copies[5] == Box[argument]


def test_many_objects_come_back_with_cycles():
    many = [Box[int](number) for number in range(50)]
    many[0].value = many
    copies = again(many)
    assert copies[0].value is copies
    assert {one.__orig_class__ for one in copies} == {Box[int]}


def test_a_parametrized_model_is_covered_by_its_registration():
    one, other = Model[int](value=1), Model[list[str]](value=["a"])
    copies = again([one, other, Model(value=None)])
    assert copies == [one, other, Model(value=None)]
    assert [type(copy) for copy in copies] == [Model[int], Model[list[str]], Model]


def test_a_parametrization_that_this_process_has_not_made_is_an_unknown_type():
    data = CODEC.encode(Model[int](value=1)).unwrap().replace(b"builtins.int", b"builtins.set")
    error = CODEC.decode(data).failure()
    assert isinstance(error, UnknownType)
    assert "has not made" in str(error)


@pytest.mark.parametrize("argument", [T, Any, UnknownType], ids=str)
def test_what_has_no_name_is_no_parameter(argument):
    error = CODEC.encode([Box[argument](1)]).failure()
    assert isinstance(error, UnsupportedType)


@pytest.mark.parametrize(
    "text", ["[]", "{}", "1", "[" * 90, '["builtins.int", "builtins.int"]', '["os.system"]', '[["builtins.list"]]', "x"]
)
def test_hostile_aliases_are_refused(text):
    size = len('["tests.unit.test_codec_generics.Box", "builtins.int"]')
    data = CODEC.encode([Box[int]]).unwrap()
    name = b'["tests.unit.test_codec_generics.Box", "builtins.int"]'
    assert name in data
    changed = data.replace(name, text.ljust(size)[:size].encode())
    assert isinstance(CODEC.decode(changed).failure(), PersistenceError)
