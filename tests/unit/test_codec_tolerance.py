"""Fields of others' classes come and go: an absent one takes its default, an unknown one is dropped."""

from __future__ import annotations

import dataclasses
from typing import Any

import attrs
import msgspec
import pydantic
import pytest

from flowpersist.codec import Codec, TypeRegistry
from flowpersist.errors import ConfigurationError, SerializationError, UnknownType


def pydantic_class(*fields: str) -> type:
    defaults: dict[str, Any] = {"a": (Any, ...), "b": (Any, 7), "c": (list[int], pydantic.Field(default_factory=list))}
    return pydantic.create_model("Thing", __module__="sdk", **{name: defaults[name] for name in fields})


def dataclass_class(*fields: str) -> type:
    defaults: dict[str, Any] = {
        "a": ("a", Any),
        "b": ("b", Any, dataclasses.field(default=7)),
        "c": ("c", Any, dataclasses.field(default_factory=list)),
    }
    made = dataclasses.make_dataclass("Thing", [defaults[name] for name in fields])
    made.__module__ = "sdk"
    return made


def attrs_class(*fields: str) -> type:
    defaults: dict[str, Any] = {"a": attrs.field(), "b": attrs.field(default=7), "c": attrs.field(factory=list)}
    made = attrs.make_class("Thing", {name: defaults[name] for name in fields})
    made.__module__ = "sdk"
    return made


def struct_class(*fields: str) -> type:
    defaults: dict[str, Any] = {
        "a": ("a", Any),
        "b": ("b", Any, 7),
        "c": ("c", Any, msgspec.field(default_factory=list)),
    }
    return msgspec.defstruct("Thing", [defaults[name] for name in fields], module="sdk")


MAKERS = [pydantic_class, dataclass_class, attrs_class, struct_class]


def carried(old: type, new: type, value: Any) -> Any:
    before, after = (TypeRegistry.tree(cls, fields="tolerant") for cls in (old, new))
    return Codec(after).decode(Codec(before).encode(value).unwrap())


@pytest.mark.parametrize("count", [1, 100])
@pytest.mark.parametrize("make", MAKERS)
def test_an_absent_field_takes_its_default(make, count):
    old, new = make("a"), make("a", "b", "c")
    values = [old(a=[number]) for number in range(count)]
    copy = carried(old, new, [values, values[0]]).unwrap()
    assert copy[0] == [new(a=[number]) for number in range(count)]
    assert copy[1] is copy[0][0]
    assert type(copy[1]) is new
    assert copy[1].c is not copy[0][-1].c or count == 1
    assert list(vars(copy[1]) if hasattr(copy[1], "__dict__") else "abc") == ["a", "b", "c"]


@pytest.mark.parametrize("count", [1, 100])
@pytest.mark.parametrize("make", MAKERS)
def test_an_unknown_field_is_dropped(make, count):
    old, new = make("a", "b", "c"), make("a", "c")
    copy = carried(old, new, [old(a=number, b=[1], c=[2]) for number in range(count)]).unwrap()
    assert copy == [new(a=number, c=[2]) for number in range(count)]
    assert not hasattr(copy[0], "b")


@pytest.mark.parametrize("make", MAKERS)
def test_a_field_without_a_default_is_an_unknown_type(make):
    old = make("b")
    error = carried(old, make("a", "b"), old(b=1)).failure()
    assert isinstance(error, UnknownType)
    assert "has no field 'a', which has no default" in error.message


@pytest.mark.parametrize("make", MAKERS)
def test_fields_are_exact_where_nothing_else_is_said(make):
    old, new = make("a"), make("a", "b")
    data = Codec(TypeRegistry.tree(old)).encode(old(a=1)).unwrap()
    assert isinstance(Codec(TypeRegistry.tree(new)).decode(data).failure(), UnknownType)


def test_pydantic_keeps_which_fields_were_given():
    old, new = pydantic_class("a", "b"), pydantic_class("a", "c")
    copy = carried(old, new, old(a=1, b=2)).unwrap()
    assert copy.model_fields_set == {"a"}
    assert copy.model_dump(exclude_unset=True) == {"a": 1}


@pytest.mark.parametrize("make", MAKERS)
def test_a_cycle_stays_one(make):
    old, new = make("a"), make("a", "b")
    one = old(a=[])
    one.a.append(one)
    copy = carried(old, new, one).unwrap()
    assert copy.a[0] is copy
    assert copy.b == 7


def test_a_class_is_registered_so_by_name_too():
    old, new = pydantic_class("a"), pydantic_class("a", "b")
    before, after = TypeRegistry(), TypeRegistry()
    before.register(old, name="thing")
    after.register(new, name="thing", fields="tolerant")
    assert Codec(after).decode(Codec(before).encode(old(a=1)).unwrap()).unwrap() == new(a=1)
    with pytest.raises(ConfigurationError, match="registered already"):
        after.register(new, name="thing")


@pytest.mark.parametrize("tolerant_first", [True, False])
def test_of_two_classes_found_the_tolerant_one_stays(tolerant_first):
    cls = pydantic_class("a", "b")
    exact, tolerant = TypeRegistry.tree(cls), TypeRegistry.tree(cls, fields="tolerant")
    types = tolerant | exact if tolerant_first else exact | tolerant
    old = pydantic_class("a")
    assert Codec(types).decode(Codec([old]).encode(old(a=1)).unwrap()).unwrap() == cls(a=1)


def test_a_default_that_raises_is_named_and_not_the_bytes():
    old, new = (
        dataclass_class("a"),
        dataclasses.make_dataclass("Thing", [("a", Any), ("b", Any, dataclasses.field(default_factory=lambda: 1 / 0))]),
    )
    new.__module__ = "sdk"
    error = carried(old, new, old(a=1)).failure()
    assert type(error) is SerializationError
    assert "the default of the field 'b' of sdk.Thing raised ZeroDivisionError" in error.message
