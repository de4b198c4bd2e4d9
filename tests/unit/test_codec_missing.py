"""A value that can't be encoded: all classes that are missing are named at once, with where and what to do."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import dataclasses
import io
import logging
import multiprocessing
import pickle
import re
import socket
import sqlite3
import sys
import threading
import weakref
from collections import OrderedDict, defaultdict, deque
from datetime import datetime, timedelta, tzinfo
from enum import Enum
from typing import Any, Generic, NamedTuple, TypeVar

import attrs
import pydantic
import pytest

from flowpersist.codec import Codec, Limits, TypeRegistry
from flowpersist.errors import StateProblem, StateTooDeep, UnknownType, UnsupportedType

HERE = __name__


@dataclasses.dataclass
class Data:
    part: Any = None


@attrs.define
class Slotted:
    part: Any = None


class Model(pydantic.BaseModel):
    part: Any = None


class Pair(NamedTuple):
    left: Any
    right: Any


class Words(list[Any]):
    pass


class Colour(Enum):
    RED = 1


class Failed(Exception):
    pass


class Plain:
    def __init__(self, part: Any = None) -> None:
        self.part = part


class Resource:
    def close(self) -> None: ...


class Outer:
    @dataclasses.dataclass
    class Inner:
        pass


class Zone(tzinfo):
    def utcoffset(self, when: datetime | None) -> timedelta:
        del when
        return timedelta(hours=1)


def refused(value: Any, *classes: type, **limits: int) -> UnsupportedType:
    error = Codec(classes, Limits(**limits)).encode(value).failure()
    assert isinstance(error, UnsupportedType)
    assert error.path == error.problems[0].path
    return error


def named(error: UnsupportedType) -> dict[str | None, str]:
    return {one.path: one.type.removeprefix(f"{HERE}.") for one in error.problems}


def test_one_class_is_named_with_its_path_and_the_line_that_registers_it():
    error = refused({"to": [1, Data()]})
    assert error.message == (
        f"state['to'][1]: an object of class {HERE}.Data, which is not registered; "
        f"register it: from {HERE} import Data; types.register(Data)"
    )
    assert error.problems == (StateProblem("state['to'][1]", f"{HERE}.Data", *error.problems[0][2:]),)
    assert error.to_problem()["problems"] == [error.problems[0]._asdict()]
    copy = pickle.loads(pickle.dumps(error))
    assert (copy.message, copy.path, copy.problems) == (error.message, error.path, error.problems)


def test_all_classes_are_named_at_once_also_those_within_others():
    value = {
        "data": Data(Slotted(Model(part=Pair(Words([1]), Failed())))),
        ("key", Colour.RED): 1,
        "again": [Data(), Data()],
    }
    error = refused(value)
    assert named(error) == {
        "state['data']": "Data",
        "state['data'].part": "Slotted",
        "state['data'].part.part": "Model",
        "state['data'].part.part.part": "Pair",
        "state['data'].part.part.part.left": "Words",
        "state['data'].part.part.part.right": "Failed",
        "state[<key>][1]": "Colour",
    }
    assert error.message.startswith(
        "the value holds objects of 7 classes that are not registered or can't be kept:\n- "
    )
    assert error.message.count("\n- ") == 7
    types = (Data, Slotted, Model, Pair, Words, Colour, Failed)
    assert isinstance(Codec(types).encode(value).unwrap(), bytes)


HOLDERS: list[tuple[Any, str]] = [
    (lambda x: [0, x], "[1]"),
    (lambda x: (0, x), "[1]"),
    (lambda x: deque([0, x]), "[1]"),
    (lambda x: {x}, "{<element>}"),
    (lambda x: frozenset({x}), "{<element>}"),
    (lambda x: {"a": x}, "['a']"),
    (lambda x: {x: 1}, "[<key>]"),
    (lambda x: OrderedDict(a=x), "['a']"),
    (lambda x: defaultdict(int, a=x), "['a']"),
    (lambda x: slice(0, x), ".stop"),
    (Data, ".part"),
    (Slotted, ".part"),
    (lambda x: Model(part=x), ".part"),
    (lambda x: Pair(0, x), ".right"),
    (lambda x: Words([0, x]), "[1]"),
    (Failed, ".args[0]"),
]


@pytest.mark.parametrize("number", range(len(HOLDERS)))
@pytest.mark.parametrize("registered", [True, False])
def test_the_path_leads_through(number, registered):
    hold, label = HOLDERS[number]
    types = (Data, Slotted, Model, Pair, Words, Failed) if registered else ()
    error = refused([hold(Plain())], *types)
    assert named(error)[f"state[0]{label}"] == "Plain"


async def running() -> None: ...


coroutine = running()
coroutine.close()
closed_socket = socket.socket()
closed_socket.close()
connection = sqlite3.connect(":memory:")
connection.close()

#: What can never be kept, and a word of what to do instead.
NEVER: list[tuple[str, Any, str]] = [
    ("module", re, "import it"),
    ("lock", threading.Lock(), "make a new one"),
    ("rlock", threading.RLock(), "make a new one"),
    ("event", threading.Event(), "make a new one"),
    ("local", threading.local(), "make a new one"),
    ("asyncio lock", asyncio.Lock(), "make a new one"),
    ("queue", asyncio.Queue(), "a list of what is in it"),
    ("context", contextvars.copy_context(), "set them again"),
    ("executor", concurrent.futures.ThreadPoolExecutor(), "start it again"),
    ("future", concurrent.futures.Future(), "finish it"),
    ("process", multiprocessing.Process(), "start it again"),
    ("generator", (x for x in ()), "finish it"),
    ("coroutine", coroutine, "finish it"),
    ("thread", threading.Thread(), "start it again"),
    ("socket", closed_socket, "connect again"),
    ("connection", connection, "connect again"),
    ("file", io.BytesIO(), "its content"),
    ("text file", sys.__stdout__, "its path"),
    ("frame", sys._getframe(), "traceback.format_exception"),
    ("code", running.__code__, "traceback.format_exception"),
    ("logger", logging.getLogger("x"), "keep its name"),
    ("view", memoryview(b""), "bytes(view)"),
    ("keys", {}.keys(), "a list"),
    ("iterator", iter([]), "a list"),
    ("map", map(int, ()), "a list"),
    ("match", re.match("", ""), "groups"),
    ("marker", object(), "Enum"),
    ("resource", Resource(), "open it again"),
]


@pytest.mark.parametrize(("value", "word"), [row[1:] for row in NEVER], ids=[row[0] for row in NEVER])
def test_what_can_never_be_kept_says_what_to_do_instead(value, word):
    error = refused([value])
    assert len(error.problems) == 1
    assert "which can't be kept; " in error.message
    assert word in error.problems[0].remedy
    assert "register" not in error.message


@pytest.mark.parametrize(
    "value",
    [running, lambda: 0, len, [].append, Plain, weakref.ref(Plain)],
    ids=["function", "lambda", "builtin", "method", "class", "reference"],
)
def test_a_function_or_class_without_a_name_can_be_given_one(value):
    (problem,) = refused([value]).problems
    assert "has no name in the registry" in problem.reason
    assert "TypeRegistry.reference" in problem.remedy


T = TypeVar("T")


class Box(pydantic.BaseModel, Generic[T]):
    content: T


REMEDIES: list[tuple[str, Any, str]] = [
    ("generic class", Box[int](content=1), f"from {HERE} import Box; types.register(Box[int])"),
    ("nested class", Outer.Inner(), f"from {HERE} import Outer; types.register(Outer.Inner)"),
    ("plain class", Plain(), f"from {HERE} import Plain; types.register(Plain, attributes=True)"),
    ("in a function", dataclasses.make_dataclass("Local", [])(), "types.register(Local)"),
]


@pytest.mark.parametrize(("value", "line"), [row[1:] for row in REMEDIES], ids=[row[0] for row in REMEDIES])
def test_the_remedy_is_a_line_of_code(value, line):
    if type(value).__name__ == "Local":
        type(value).__qualname__ = "test.<locals>.Local"
    assert refused([value]).problems[0].remedy == f"register it: {line}"


KEYS: list[tuple[Any, str]] = [
    ("short", "['short']"),
    ("k" * 40, f"['{'k' * 40}']"),
    ("s" * 41, f"['{'s' * 16}'… (41 characters)]"),
    ("x" * 10**6, f"['{'x' * 16}'… (1000000 characters)]"),
    ("new\nline", "['new\\nline']"),
    (7, "[7]"),
    (10**5000, "[<int>]"),
    (-(10**5000), "[<int>]"),
    (None, "[None]"),
    (True, "[True]"),
    (1.5, "[<float>]"),
    (b"secret", "[<bytes>]"),
    (("a", "b"), "[<tuple>]"),
]


@pytest.mark.parametrize("number", range(len(KEYS)))
def test_a_key_is_shown_as_far_as_a_message_may_hold_it(number):
    key, label = KEYS[number]
    assert refused({key: Plain()}).path == f"state{label}"


def test_a_long_path_is_shown_by_its_ends():
    value: Any = Plain()
    for _ in range(5000):
        value = {"next": value}
    error = refused([value])
    assert error.path.startswith("state[0]['next']['next']")
    assert error.path.endswith("['next']['next']")
    assert "]…[" in error.path
    assert len(error.path) <= 310


def test_many_classes_make_no_endless_message():
    values = [attrs.make_class(f"Class{number}{'x' * 500}\n", [])() for number in range(300)]
    error = refused(values)
    assert len(error.problems) == 100
    assert len(error.message) < 20_000
    assert error.message.endswith("\n- and 80 more")
    assert error.message.count("\n") == 21


def test_no_value_is_in_the_error():
    secret = "df_susp_a-token-of-somebody"
    error = refused({"data": Data({"inner": secret, b"key": secret}), "other": Plain(secret)})
    assert secret not in f"{error!r} {error.to_problem()} {error.problems}"


class Hostile(type):
    def __getattribute__(cls, name: str) -> Any:
        if name in {"close", "__fields__", "__attrs_attrs__", "_fields", "__qualname__", "__module__"}:
            raise RuntimeError(name)
        return super().__getattribute__(name)


class OfHostile(metaclass=Hostile):
    pass


def test_a_class_that_answers_in_any_way_is_told_all_the_same():
    error = refused([OfHostile()])
    assert error.problems[0].type == f"{HERE}.OfHostile"
    assert Codec().check([OfHostile()]) == error.problems


def test_check_tells_all_that_keeps_a_value_from_being_encoded():
    odd = Data()
    odd.extra = 1
    value = [odd, {"when": datetime(2026, 1, 1, tzinfo=Zone())}, Plain(), defaultdict(lambda: 0), [Data(Failed())]]
    found = Codec([Data]).check(value)
    own = f"{HERE}.test_check_tells_all_that_keeps_a_value_from_being_encoded.<locals>.<lambda>"
    assert {one.path: one.reason.partition(",")[0] for one in found} == {
        "state[2]": f"an object of class {HERE}.Plain",
        "state[4][0].part": f"an object of class {HERE}.Failed",
        "state[0]": "has the attribute 'extra'",
        "state[1]['when']": f"has a time zone of class {HERE}.Zone",
        "state[3]": f"has a default_factory that is the function {own}",
    }
    assert all(one.remedy for one in found)


def test_check_tells_nothing_of_what_can_be_encoded_and_the_limits_else():
    codec = Codec([Data], Limits(max_depth=3))
    assert codec.check([Data([1])]) == ()
    (problem,) = codec.check([[[[[1]]]]])
    assert isinstance(codec.encode([[[[[1]]]]]).failure(), StateTooDeep)
    assert "3 steps" in problem.reason
    assert "max_depth" in problem.remedy


def test_check_tells_a_cycle_through_immutable_values():
    loop: list[Any] = []
    types = TypeRegistry()
    types.register(Plain, encode=lambda one: one.part, decode=Plain)
    one = Plain((loop,))
    one.part = (one,)
    (problem,) = Codec(types).check([one])
    assert "reaches itself" in problem.reason


def test_functions_of_unregistered_classes_are_not_called():
    class Stateful:
        def __getstate__(self) -> Any:
            raise AssertionError("it was called")

    assert named(refused([Stateful(), Plain()]))["state[1]"] == "Plain"


NAMES: list[tuple[str, str]] = [
    ("shop.models.Order", "register class Order: TypeRegistry(Order)"),
    (
        "langchain_core.messages.ai.AIMessage",
        "from flowpersist.integrations import langchain; langchain.register(types)",
    ),
    ("google.genai.types.Part", "from flowpersist.integrations import google_genai; google_genai.register(types)"),
    ("x" * 10**6, f"register class {'x' * 160}…: TypeRegistry({'x' * 160}…)"),
    ("a\nb", "register class a\\nb: TypeRegistry(a\\nb)"),
]


@pytest.mark.parametrize("number", range(len(NAMES)))
def test_a_class_that_only_the_bytes_name_has_its_remedy_too(number):
    name, remedy = NAMES[number]
    types = TypeRegistry()
    types.register(Data, name=name)
    error = Codec().decode(Codec(types).encode(Data()).unwrap()).failure()
    assert isinstance(error, UnknownType)
    assert error.message.endswith(f", which is not registered; {remedy}")
    assert len(error.message) < 1000
