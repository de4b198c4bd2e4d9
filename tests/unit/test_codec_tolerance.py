"""Fields of others' classes come and go: an absent one takes its default, an unknown one is dropped, or kept aside."""

from __future__ import annotations

import dataclasses
from collections import namedtuple
from typing import Any, Generic, NamedTuple, TypeVar

import attrs
import msgspec
import pydantic
import pytest

from flowpersist.codec import Codec, TypeRegistry
from flowpersist.errors import ConfigurationError, SerializationError, UnknownType

T = TypeVar("T")


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


# What the class does not declare is kept aside, where that is said.


def attributes_class(*fields: str) -> type:
    """Registered by its attributes, of which a later release may have made methods."""
    methods = {name: lambda self: self for name in "abc" if name not in fields}
    return type("Thing", (), {"__module__": "sdk", "__eq__": lambda a, b: vars(a) == vars(b), **methods})


def dict_struct_class(*fields: str) -> type:
    made: Any = struct_class(*fields)
    return msgspec.defstruct("Thing", [(f, Any) for f in fields], module="sdk", dict=True, bases=(made,))


def plain_attrs_class(*fields: str) -> type:
    made = attrs.make_class("Thing", dict.fromkeys(fields, attrs.field(default=None)), slots=False)
    made.__module__ = "sdk"
    return made


KEEPERS = [pydantic_class, dataclass_class, plain_attrs_class, attributes_class]


def keeping(cls: type, unknown_fields: str = "keep") -> Codec:
    types = TypeRegistry()
    types.register(
        cls,
        attributes=not any(hasattr(cls, name) for name in ("__dataclass_fields__", "__attrs_attrs__", "model_fields")),
        fields="tolerant",
        unknown_fields=unknown_fields,
    )
    return Codec(types, verify=True)


def filled(cls: Any, **fields: Any) -> Any:
    try:
        return cls(**fields)
    except TypeError:
        one = cls()
        vars(one).update(fields)
        return one


@pytest.mark.parametrize("count", [1, 100])
@pytest.mark.parametrize("make", KEEPERS)
def test_an_unknown_field_that_is_kept_comes_back(make, count):
    later, earlier = make("a", "b", "c"), make("a", "c")
    values = [filled(later, a=number, b=[number], c=[2]) for number in range(count)]
    values[0].b.append(values)
    data = keeping(later).encode(values).unwrap()
    between = keeping(earlier).decode(data).unwrap()
    assert [one.a for one in between] == list(range(count))
    assert not isinstance(getattr(between[0], "b", None), list)
    between[0].a = "changed"
    again = keeping(earlier).decode(keeping(earlier).encode(between).unwrap()).unwrap()
    copy = keeping(later).decode(keeping(earlier).encode(again).unwrap()).unwrap()
    assert copy[0].b == [0, copy]
    assert [one.b for one in copy[1:]] == [[number] for number in range(1, count)]
    assert (copy[0].a, copy[-1].c) == ("changed", [2])
    assert "_flowpersist_unknown_fields" not in vars(copy[0])


@pytest.mark.parametrize("make", KEEPERS)
def test_what_was_kept_is_dropped_where_that_is_said(make):
    later, earlier = make("a", "b"), make("a")
    between = keeping(earlier).decode(keeping(later).encode(filled(later, a=1, b=2)).unwrap()).unwrap()
    dropped = keeping(earlier, "drop").decode(keeping(earlier).encode(between).unwrap()).unwrap()
    assert list(vars(dropped)) == ["a"]
    brought = keeping(later, "drop").decode(keeping(earlier).encode(between).unwrap()).unwrap()
    assert brought.b == 2


def test_objects_with_something_kept_aside_look_as_others():
    later, earlier = pydantic_class("a", "b", "c"), pydantic_class("a")
    between = keeping(earlier).decode(keeping(later).encode(later(a=1, b=2)).unwrap()).unwrap()
    assert between == earlier(a=1)
    assert between.model_dump_json() == '{"a":1}'
    assert repr(between) == "Thing(a=1)"
    copy = keeping(later).decode(keeping(earlier).encode(between.model_copy()).unwrap()).unwrap()
    assert copy.model_dump(exclude_unset=True) == {"a": 1, "b": 2}
    assert copy.model_fields_set == {"a", "b"}
    assert (copy.c, list(vars(copy))) == ([], ["a", "b", "c"])


def test_an_upgrade_sees_what_was_kept_aside():
    first, second = dataclass_class("a"), dataclass_class("a", "b")
    between = keeping(first).decode(keeping(second).encode(second(a=1, b=2)).unwrap()).unwrap()
    data = keeping(first).encode(between).unwrap()
    types = TypeRegistry()
    types.register(second, version=2, fields="tolerant", upgrades={1: lambda fields: {**fields, "b": [fields["b"]]}})
    assert Codec(types).decode(data).unwrap() == second(a=1, b=[2])


def slots_class(*fields: str) -> type:
    made = attrs.make_class("Thing", list(fields), slots=True)
    made.__module__ = "sdk"
    return made


@pytest.mark.parametrize("make", [struct_class, slots_class], ids=["struct", "slots"])
def test_an_object_without_a_dict_has_no_place(make):
    later, earlier = make("a", "b"), make("a")
    types = [TypeRegistry.tree(one, fields="tolerant", unknown_fields="keep") for one in (later, earlier)]
    error = Codec(types[1]).decode(Codec(types[0]).encode(later(a=1, b=2)).unwrap()).failure()
    assert isinstance(error, UnknownType)
    assert "has the field 'b'" in error.message
    assert "unknown_fields='drop'" in error.message


def test_a_struct_with_a_dict_keeps_any():
    later, earlier = dict_struct_class("a", "b"), dict_struct_class("a")
    types = [TypeRegistry.tree(one, fields="tolerant", unknown_fields="keep") for one in (later, earlier)]
    between = Codec(types[1]).decode(Codec(types[0]).encode(later(a=1, b=2)).unwrap()).unwrap()
    copy = Codec(types[0]).decode(Codec(types[1]).encode(between).unwrap()).unwrap()
    assert copy == later(a=1, b=2)


class Row(NamedTuple):
    a: Any
    b: Any = 7


def test_a_named_tuple_takes_defaults_and_drops():
    more = namedtuple("Row", "c a")  # noqa: PYI024 - as a release before has it
    for unknown_fields in ("drop", "keep"):
        before, after = TypeRegistry(), TypeRegistry()
        before.register(more, name="row")
        after.register(Row, name="row", fields="tolerant", unknown_fields=unknown_fields)
        result = Codec(after).decode(Codec(before).encode([more(1, 2)]).unwrap())
        if unknown_fields == "drop":
            assert result.unwrap() == [Row(2, 7)]
        else:
            assert isinstance(result.failure(), UnknownType)


def test_a_parametrized_model_keeps_what_its_model_keeps():
    class Box(pydantic.BaseModel, Generic[T]):
        value: T

    types = TypeRegistry.tree(Box, attributes=["_request_id"], fields="tolerant", unknown_fields="keep")
    one = Box[int](value=1)
    object.__setattr__(one, "_request_id", "r1")
    copy = Codec(types).decode(Codec(types).encode(one).unwrap()).unwrap()
    assert copy._request_id == "r1"


def test_unknown_fields_are_kept_by_tolerant_registrations_alone():
    with pytest.raises(ConfigurationError, match="tolerant"):
        TypeRegistry().register(Row, unknown_fields="keep")
    with pytest.raises(ConfigurationError, match="unknown_fields"):
        TypeRegistry.tree(Row, fields="tolerant", unknown_fields="aside")


@pytest.mark.parametrize("value", [1, None, [], {1: 2}, {"": 1}, {"a": 2}, {"__pydantic_fields_set__": 1}])
@pytest.mark.parametrize("make", [pydantic_class, dataclass_class, attributes_class])
def test_hostile_things_aside_are_errors_or_dropped(make, value):
    forged = dataclasses.make_dataclass("Thing", [("a", Any), ("_flowpersist_unknown_fields", Any), ("z", Any)])
    types = TypeRegistry()
    types.register(forged, name="sdk.Thing")
    data = Codec(types).encode(forged(1, value, 3)).unwrap()
    for codec in (keeping(make("a")), keeping(make("a"), "drop")):
        assert not isinstance(codec.decode(data).value_or(None), forged)
