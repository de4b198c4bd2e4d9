"""Values of the kinds that are kept by a plan of their own: of the standard library, references, and zones."""

from __future__ import annotations

import datetime as dt
import functools
import weakref
from array import array
from collections import ChainMap, UserDict, UserList, UserString, defaultdict, namedtuple
from decimal import Decimal
from fractions import Fraction
from pathlib import PosixPath
from types import MappingProxyType, SimpleNamespace
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec

if TYPE_CHECKING:
    from flowpersist.codec import TypeRegistry


class Moment(dt.datetime):
    pass


class Span(dt.timedelta):
    pass


class Money(Decimal):
    pass


class Part(Fraction):
    pass


class Folder(PosixPath):
    pass


class Identifier(UUID):
    pass


class Groups(defaultdict[Any, Any]):
    pass


class Space(SimpleNamespace):
    pass


class Titled(namedtuple("Titled", "name")):  # noqa: PYI024, SLOT002 - its attributes are what is kept
    pass


class Offset(dt.tzinfo):
    def __init__(self, hours: Any) -> None:
        self.hours = hours

    def utcoffset(self, _: object) -> dt.timedelta:
        return dt.timedelta(hours=self.hours)

    def dst(self, _: object) -> None:
        return None

    def tzname(self, _: object) -> None:
        return None


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


CLASSES = (Record, Moment, Span, Money, Part, Folder, Identifier, Groups, Space, Titled)


def named(*arguments: object) -> object:
    """A function that a value may refer to; decoding must not call it."""
    raise AssertionError(arguments)


def register(types: TypeRegistry) -> None:
    """Add what the values below need."""
    for cls in CLASSES:
        types.register(cls, name=f"fuzz.{cls.__name__}")
    types.register(Offset, name="fuzz.Offset", encode=lambda zone: zone.hours, decode=Offset)
    types.register(Plain, name="fuzz.Plain", attributes=True)
    types.reference(named, name="fuzz.named")


def values(holder: Any) -> list[Any]:
    """One of each kind, most of them in a cycle; ``holder`` is an object that takes a weak reference."""
    ring: list[Any] = []
    space = Space(a=1, ring=ring)
    titled = Titled((1,))
    titled.of = ring
    moment = Moment(2026, 1, 2, 3, tzinfo=Offset(2), fold=1)
    moment.ring = ring
    plain = object.__new__(Plain)
    plain.ring = ring
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
        Money("1.50"),
        Part(3, 4),
        Folder("/a"),
        Identifier(int=3),
        Groups(named, {UserString("key"): ring}),
        defaultdict(Offset, {1: 2}),
        [named, int, Money, Offset(1), list[int], dict[str, list[int]]],
    ]
    ring += kinds
    return [ring, {Money("2"): {Span(1), Identifier(int=4), UserString("x")}}, *([one] for one in kinds)]
