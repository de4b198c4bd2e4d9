"""Values of the kinds that are kept by a plan of their own: of the standard library, references, and zones."""

from __future__ import annotations

import dataclasses
import datetime as dt
import functools
import weakref
from array import array
from collections import ChainMap, UserDict, UserList, UserString, defaultdict, namedtuple
from decimal import Decimal
from fractions import Fraction
from pathlib import PosixPath, PurePosixPath
from types import MappingProxyType, SimpleNamespace
from typing import TYPE_CHECKING, Any, Generic, List, Literal, Optional, TypeVar  # noqa: UP035
from uuid import UUID

import msgspec

if TYPE_CHECKING:
    from flowpersist.codec import TypeRegistry

T = TypeVar("T")


class Moment(dt.datetime):
    @property
    def year(self) -> int:
        raise AssertionError("the codec reads by the parts of datetime")


class Day(dt.date):
    pass


class Clock(dt.time):
    pass


class Span(dt.timedelta):
    pass


class Money(Decimal):
    def __new__(cls, *_: object) -> Any:
        raise AssertionError("the codec makes it by the __new__ of Decimal")


class Part(Fraction):
    def __new__(cls, *_: object) -> Any:
        raise AssertionError("the codec makes it by the parts of Fraction")


class Folder(PosixPath):
    pass


class Pure(PurePosixPath):
    pass


class Identifier(UUID):
    pass


class Groups(defaultdict[Any, Any]):
    pass


class Space(SimpleNamespace):
    pass


class Titled(namedtuple("Titled", "name of", defaults=[None])):  # noqa: PYI024, SLOT002 - its attributes are what is kept
    pass


class Offset(dt.tzinfo):
    def __init__(self, hours: Any) -> None:
        self.hours = hours

    def utcoffset(self, _: object) -> dt.timedelta:
        return dt.timedelta(hours=self.hours)

    def dst(self, _: object) -> None:
        return None

    def tzname(self, _: object) -> str:
        return f"+{self.hours}"


#: Subclasses of Python's own, whose own code must not run.
SUBCLASSES = (Moment, Day, Clock, Span, Part, Folder, Pure, Identifier, Groups, Space, Titled, Money)


class Plain:
    """It is kept by its attributes; its code must not run."""

    def __init__(self, *_: object) -> None:
        raise AssertionError

    def method(self) -> None: ...


class Record(msgspec.Struct):
    name: Any
    link: Any = None

    def __post_init__(self) -> None:
        assert self.name == "record"


@dataclasses.dataclass(eq=False)
class Box(Generic[T]):
    value: Any


class Known:
    """Of a later release whose objects had more: what it does not declare is kept aside, and what it lacks is made."""

    first: Any
    second: Any

    def lost(self) -> None: ...


@dataclasses.dataclass(eq=False)
class Changed:
    first: Any
    more: Any = dataclasses.field(default_factory=list)


CLASSES = (Record, Box, *SUBCLASSES)


def named(*arguments: object) -> object:
    """A function that a value may refer to; decoding must not call it."""
    raise AssertionError(arguments)


def register(types: TypeRegistry) -> None:
    """Add what the values below need."""
    for cls in CLASSES:
        types.register(cls, name=f"fuzz.{cls.__name__}")
    types.register(Offset, name="fuzz.Offset", encode=lambda zone: zone.hours, decode=Offset)
    types.register(Plain, name="fuzz.Plain", attributes=True)
    types.register(Known, name="fuzz.Known", attributes=True, fields="tolerant", unknown_fields="keep")
    types.register(Changed, name="fuzz.Changed", fields="tolerant", unknown_fields="keep")
    types.reference(named, name="fuzz.named")


def values(holder: Any) -> list[Any]:
    """One of each kind, most of them in a cycle; ``holder`` is an object that takes a weak reference."""
    ring: list[Any] = []
    space = Space(a=1, ring=ring)
    titled = Titled((1,), ring)
    titled.note = ring
    moment = Moment(2026, 1, 2, 3, tzinfo=Offset(2), fold=1)
    moment.ring = ring
    plain = object.__new__(Plain)
    plain.ring = ring
    changed = Changed(ring)
    changed._flowpersist_unknown_fields = {"lost": ring}
    known = Known()
    known.first, known._flowpersist_unknown_fields = 1, {"lost": [ring]}
    kinds = [
        plain,
        Record("record", ring),
        SimpleNamespace(ring=ring, b=()),
        space,
        ChainMap({"a": ring}, {}),
        UserDict({"a": ring}),
        UserList([ring]),
        UserString("text"),
        MappingProxyType({"a": ring}),
        array("d", [1.5]),
        array("u", "xy"),
        functools.partial(named, ring, key=ring),
        weakref.ref(holder),
        holder,
        titled,
        moment,
        Span(1, 2, 3),
        Decimal.__new__(Money, "1.50"),
        Fraction.__new__(Part, 3, 4),
        Day(2026, 1, 2),
        Clock(1, 2, 3),
        Pure("a/b"),
        changed,
        known,
        Box[int | None](ring),
        Folder("/a"),
        Identifier(int=3),
        Groups(named, {UserString("key"): ring}),
        defaultdict(Offset, {1: 2}),
        [named, int, Money, Offset(1), list[int], dict[str, list[int]], int | None, Box[T], Box[Literal["a", 1]]],
        [Box[list[T] | None], Optional[Box[Any]], Box[Box[Box[str]]], List[int], Literal[b"x", True]],  # noqa: UP006, UP045
    ]
    ring += kinds
    return [
        ring,
        {Decimal.__new__(Money, "2"): {Span(1), Identifier(int=4), UserString("x")}},
        *([one] for one in kinds),
    ]
