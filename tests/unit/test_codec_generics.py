"""Generic classes: one registration covers the parametrizations, and an object keeps the one that made it."""

from __future__ import annotations

import collections.abc
import dataclasses
import enum
import functools
import typing
from typing import Any, Generic, List, Literal, Never, Optional, ParamSpec, Tuple, TypeVar, Union  # noqa: UP035

import attrs
import pydantic
import pytest

from flowpersist.codec import Codec, TypeRegistry
from flowpersist.errors import PersistenceError, UnknownType, UnsupportedType

T = TypeVar("T")
U = TypeVar("U")
V = TypeVar("V")
P = ParamSpec("P")


class Colour(enum.Enum):
    RED = 1


class Strange(enum.Enum):
    ONE = 1


@dataclasses.dataclass
class Box(Generic[T]):
    value: T


@attrs.define(slots=False)
class Crate(Generic[T]):
    value: T


@dataclasses.dataclass
class Two(Generic[T, U]):
    value: Any


@dataclasses.dataclass
class Call(Generic[P, T]):
    value: Any


class Plain(Generic[T]):
    pass


class Names(list[T], Generic[T]):
    pass


class Model(pydantic.BaseModel, Generic[T]):
    value: T


def registry() -> TypeRegistry:
    types = TypeRegistry(Box, Crate, Names, Model, Two, Call, Colour)
    types.reference(collections.abc.Sequence)
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


EXPRESSIONS: dict[str, Any] = {
    "none": None,
    "union": int | None,
    # The names of typing give other classes than the syntax, until CPython 3.14.
    "union of typing": Union[int, str, None],  # noqa: UP007
    "union of aliases": list[int] | Box[int] | None,
    "any": Any,
    "never": Never,
    "literal": Literal["a", 'quote " [', 1, True, None, b"x", Colour.RED],  # noqa: PYI061
    "long literal": Literal[tuple(range(200))],
    "variable": T,
    "variable of a class around": list[T],
    "both variables": Two[int, list[T]],
    "nested": Box[dict[str, Crate[int | None]]],
    "tuple": tuple[int, ...],
    "empty tuple": tuple[()],
    "empty tuple of typing": Tuple[()],  # noqa: UP006
    "list of typing": List[int],  # noqa: UP006
    "mapping of typing": typing.Mapping[str, Any],
    "class": type[int],
    "named": collections.abc.Sequence[int],
}


@pytest.mark.parametrize("argument", EXPRESSIONS.values(), ids=EXPRESSIONS)
def test_a_parameter_may_be_an_expression(argument):
    copies = again([Box[argument](1), Crate[argument](2), Plain[argument](), Box[argument]])
    for copy, cls in zip(copies, [Box, Crate, Plain], strict=False):
        assert copy.__orig_class__ == cls[argument]
        assert type(copy.__orig_class__.__args__[0]) is type(cls[argument].__args__[0])
    assert copies[3] == Box[argument]
    assert [CODEC.check(copy) for copy in copies] == [()] * 4


@pytest.mark.parametrize("argument", [(int, str), (int,), ...], ids=["two", "one", "any"])
def test_parameters_in_brackets_come_back(argument):
    given = list(argument) if type(argument) is tuple else argument
    copy = again(Call[given, int](1))
    assert copy.__orig_class__.__args__ == (argument, int)


@pytest.mark.parametrize("value", [int | None, Optional[int], Literal["a"], List[int], list[Any]], ids=repr)  # noqa: UP006, UP045
def test_an_expression_is_a_value(value):
    assert again([value, value]) == [value, value]


@pytest.mark.parametrize("argument", [int | None, Literal["a"], Optional[Box[int]], List[int], Any], ids=repr)  # noqa: UP006, UP045
def test_a_model_is_parametrized_by_an_expression(argument):
    cls = Model[argument]
    assert type(again(cls.model_construct(value=None))) is cls


def test_a_parametrized_model_is_a_parameter():
    inner = Model[int](value=1)
    pages = [Model[Model[int]](value=inner), Model[list[Model[int | None]]](value=[Model[int | None](value=None)])]
    copies = again([*pages, Box[Model[int]](inner), Box[Model[int]]])
    assert [type(copy) for copy in copies[:2]] == [Model[Model[int]], Model[list[Model[int | None]]]]
    assert type(copies[0].value) is Model[int]
    assert copies[2].__orig_class__ == copies[3] == Box[Model[int]]


def test_a_parametrized_model_that_is_not_there_is_an_unknown_type():
    data = CODEC.encode(Box[Model[int]]).unwrap()
    forged = data.replace(b"builtins.int", b"builtins.set")
    assert isinstance(CODEC.decode(forged).failure(), UnknownType)
    for text in (b'["X", "int"]', b"[]", b'{"typing": "Any"}'):
        assert isinstance(CODEC.decode(data.replace(b'"builtins.int"', text.ljust(14))).failure(), PersistenceError)


def test_nested_models_take_no_more_time_than_their_text():
    text = '["tests.unit.test_codec_generics.Model", ' * 30 + '"builtins.int"' + "]" * 30
    calls = []

    class Counted(TypeRegistry):
        def by_name(self, name):
            calls.append(name)
            return super().by_name(name)

    types = Counted(Model)
    plan: Any = types.by_class(type(Box[int])).plan
    with pytest.raises(Exception, match="has not made"):
        plan.load(text)
    assert len(calls) < 200


REFUSED: dict[str, tuple[Any, str]] = {
    "class without a name": (UnknownType, "UnknownType"),
    "variable of another class": (V, "~V"),
    "forward reference": ("Order", "ForwardRef('Order')"),
    "callable": (typing.Callable[[int], str], "Callable"),
    "annotated": (typing.Annotated[int, "s3cret"], "Annotated"),
    "abstract class": (collections.abc.Iterable[int], "collections.abc.Iterable"),
    "literal of another class": (Literal[Strange.ONE], "Strange"),
    "deep": (functools.reduce(lambda inner, _: Box[inner], range(9), int), "deep"),
    "many names": (Literal[tuple(map(str, range(70)))], "names"),
    "a large number": (Literal[10**5000], "give again"),
}


@pytest.mark.parametrize(("argument", "named"), REFUSED.values(), ids=REFUSED)
def test_what_is_not_in_the_grammar_is_refused_by_its_name(argument, named):
    error = CODEC.encode([Box[argument](1)]).failure()
    assert isinstance(error, UnsupportedType)
    assert named in error.message
    assert "s3cret" not in error.message
    assert error.path == "state[0].__orig_class__"
    assert len(error.problems) == len(CODEC.check([Box[argument](1)])) == 1


@pytest.mark.parametrize(
    "text",
    [
        *("[]", "{}", "1", "[" * 90, '["builtins.int", "builtins.int"]', '["os.system"]', '[["builtins.list"]]', "x"),
        *('{"|": []}', '{"Union": []}', '{"|": [1]}', '{"typing": "Text"}', '{"typing": 1}', '{"Any": []}', "null"),
        *('{"T": ["builtins.int", 0]}', '{"T": []}', '{"T": ["flowpersist.None", -1]}', '{"exec": ["builtins.int"]}'),
        *('{"Literal": [{"enum": ["builtins.int", "a"]}]}', '{"Literal": [1.5]}', '{"Literal": [{"bytes": "x"}]}'),
        *(
            '{"|": ["builtins.int", null], "a": 1}',
            '{"|": ["builtins.int"]}',
            '{"[]": ["builtins.int"]}',
            '"builtins.int"',
        ),
    ],
)
def test_hostile_aliases_are_refused(text):
    size = len('["tests.unit.test_codec_generics.Box", "builtins.int"]')
    data = CODEC.encode([Box[int]]).unwrap()
    name = b'["tests.unit.test_codec_generics.Box", "builtins.int"]'
    assert name in data
    changed = data.replace(name, text.ljust(size)[:size].encode())
    assert isinstance(CODEC.decode(changed).failure(), PersistenceError)
