"""Attributes that do not lie where the class says: descriptors, hidden slots and members, what is made up on demand."""

from __future__ import annotations

import weakref
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import msgspec
import pydantic
import pytest

from flowpersist.codec import Codec, TypeRegistry
from flowpersist.errors import SerializationError, UnsupportedType


class Retired(pydantic.BaseModel):
    """pydantic puts a descriptor over a deprecated field, which warns and takes no value."""

    model_config = pydantic.ConfigDict(frozen=True)
    name: Any = None
    old: Any = pydantic.Field(default=3, deprecated=True)


def test_a_deprecated_field_of_a_model_comes_back_without_a_warning():
    types = TypeRegistry(Retired)
    codec = Codec(types, verify=True)
    one = Retired(name=[1], old=(2,))
    value = [one, one, {Retired(name="key"): [Retired(name=n) for n in range(50)]}]
    copy = codec.decode(codec.encode(value).unwrap()).unwrap()
    assert copy[0] is copy[1]
    assert [vars(each) for each in (copy[0], *copy[2])] == [{"name": [1], "old": (2,)}, {"name": "key", "old": 3}]
    unset = Retired.model_construct(name=1)
    del vars(unset)["old"]
    assert vars(codec.decode(codec.encode(unset).unwrap()).unwrap()) == {"name": 1}
    later = TypeRegistry()
    later.register(Retired, version=2, upgrades={1: lambda fields: {**fields, "old": 7}})
    assert vars(Codec(later).decode(codec.encode(one).unwrap()).unwrap())["old"] == 7


class Elsewhere:
    """A descriptor that keeps what it is given apart, and has a default for the class."""

    def __init__(self) -> None:
        self.kept: Any = weakref.WeakKeyDictionary()

    def __get__(self, one: Any, _: Any = None) -> Any:
        return "default" if one is None else self.kept[one]

    def __set__(self, one: Any, value: Any) -> None:
        self.kept[one] = value


@dataclass(eq=False)
class Apart:
    x: Any = Elsewhere()  # type: ignore[assignment]


class Guessing:
    __slots__ = ("a", "b")

    def __getattr__(self, name: str) -> str:
        return f"no {name}"


class GuessingStruct(msgspec.Struct):
    a: Any = 1

    def __getattr__(self, name: str) -> int:
        return 5


class Under:
    __slots__ = ("x",)


class Over(Under):
    __slots__ = ("x",)


class OverList(list[Any]):
    __slots__ = ("x",)


class OverOverList(OverList):
    __slots__ = ("x",)


class Nicked(ImportError):
    name = "mine"


class Located(OSError):
    @property
    def filename(self) -> str:  # type: ignore[override]
        return "mine"


class Arguing(Exception):
    @property
    def args(self) -> Any:  # type: ignore[override]
        return (9,)


class Made(defaultdict[Any, Any]):
    default_factory = 3  # type: ignore[assignment]


def over(cls: Any, base: Any) -> Any:
    one = cls()
    one.x = 1
    base.x.__set__(one, [2])
    return one


def test_what_a_descriptor_keeps_apart_comes_back():
    codec = Codec([Apart])
    one = Apart([1])
    copy = codec.decode(codec.encode([one]).unwrap()).unwrap()[0]
    assert (copy.x, vars(copy)) == ([1], {})


def test_an_unset_slot_is_not_what_the_class_says_of_it():
    types = TypeRegistry(GuessingStruct)
    types.register(Guessing, attributes=True)
    one = Guessing()
    one.a = [1]
    copy, struct = Codec(types).decode(Codec(types).encode([one, GuessingStruct([2])]).unwrap()).unwrap()
    assert (copy.a, copy.b, struct.a) == ([1], "no b", [2])
    with pytest.raises(AttributeError):
        vars(Guessing)["b"].__get__(copy)


@pytest.mark.parametrize(
    ("one", "place"),
    [
        (over(Over, Under), "Under.x"),
        (over(OverOverList, OverList), "OverList.x"),
        (Nicked("a", name="b"), "ImportError.name"),
        (Located(2, "x", "y"), "OSError.filename"),
        (Arguing(1), "can't be made again"),
    ],
    ids=["slot", "slot of a list", "name", "filename", "args"],
)
def test_what_lies_where_the_class_hides_it_is_refused(one, place):
    types = TypeRegistry(OverOverList, Nicked, Located, Arguing)
    types.register(Over, attributes=True)
    error = Codec(types).encode([one]).failure()
    assert isinstance(error, UnsupportedType)
    assert place in error.message


def test_what_the_class_hides_is_no_hindrance_where_it_is_empty():
    codec = Codec([OverOverList, Nicked, Located, Made])
    value = [OverOverList([1]), Nicked("a"), Located(2, "x"), Made(list, {1: 2})]
    value[0].x = 3
    copy = codec.decode(codec.encode(value).unwrap()).unwrap()
    assert (copy[0].x, copy[1].name, copy[2].args, copy[2].filename) == (3, "mine", (2, "x"), "mine")
    assert vars(defaultdict)["default_factory"].__get__(copy[3]) is list
    assert not vars(copy[1])


class Raising:
    a: Any

    def __getattribute__(self, name: str) -> Any:
        if name == "__dict__":
            raise ZeroDivisionError
        return object.__getattribute__(self, name)


def test_what_a_class_raises_while_it_is_read_is_an_error_of_the_value():
    types = TypeRegistry()
    types.register(Raising, attributes=True)
    error = Codec(types).encode([Raising()]).failure()
    assert isinstance(error, SerializationError)
    assert "ZeroDivisionError" in error.message
    assert Codec(types).check([Raising()])[0].reason
