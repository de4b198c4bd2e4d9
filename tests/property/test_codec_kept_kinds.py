"""If a value encodes, its bytes decode to the same graph: over further kinds of classes, mixed with those of
``test_codec_kept``, and under limits that are hardly wide enough.

``FLOWPERSIST_KEPT_GRAPHS`` says how many graphs.
"""

from __future__ import annotations

import copy
import datetime as dt
import enum
import os
import re
import weakref
from collections import Counter, OrderedDict, UserDict, UserList, deque
from collections.abc import Callable
from dataclasses import InitVar, dataclass, field
from decimal import Decimal
from functools import cached_property, partial
from pathlib import PurePosixPath
from typing import Any, Generic, NamedTuple, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo

import attrs
import msgspec
import numpy as np
import pandas as pd
import pydantic
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from returns.result import Failure, Success

from flowpersist.codec import Codec, Limits, TypeRegistry
from flowpersist.integrations import numpy, pandas
from tests.property import test_codec_kept as base
from tests.property.test_codec_kept import some

S = TypeVar("S")
GRAPHS = int(os.environ.get("FLOWPERSIST_KEPT_GRAPHS", "1000"))


@dataclass(kw_only=True)
class Keywords:
    first: Any = None
    seed: InitVar[int] = 0
    second: Any = field(init=False, default=None)


@dataclass(frozen=True, slots=True, weakref_slot=True)
class FrozenSlots:
    first: Any = None
    second: Any = None


@dataclass(order=True, unsafe_hash=True)
class Hashed:
    first: Any = None
    second: Any = field(default=None, compare=False)


@dataclass(slots=True)
class Parametrized(Generic[S]):
    first: S


@dataclass
class Tolerant:
    first: Any = None
    second: Any = field(default_factory=list)


@attrs.define
class Converted:
    first: Any = attrs.field(default="1", converter=str)
    second: Any = attrs.field(default=None, on_setattr=attrs.setters.frozen)


@attrs.define(slots=False, unsafe_hash=True)
class Loose:
    first: Any = None
    second: Any = attrs.field(default=None, validator=attrs.validators.instance_of(int))


@attrs.frozen
class Computed:
    first: Any = None

    @cached_property
    def double(self) -> Any:
        return [self.first, self.first]


class Root(pydantic.RootModel[Any]):
    model_config = pydantic.ConfigDict(frozen=True)


class Template(pydantic.BaseModel, Generic[S]):
    first: S
    _name: Any = pydantic.PrivateAttr(default_factory=list)


class Extended(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow", validate_assignment=True, frozen=True)
    first: Any = pydantic.Field(None, alias="FIRST")
    _name: Any = pydantic.PrivateAttr()

    @pydantic.computed_field  # type: ignore[prop-decorator]
    @property
    def both(self) -> Any:
        return [self.first]


class Deprecating(base.Model):
    third: Any = pydantic.Field(None, deprecated=True)


class Struct(msgspec.Struct, weakref=True):
    first: Any = None
    second: Any = None


class FrozenStruct(msgspec.Struct, frozen=True, tag=True, cache_hash=True):
    first: Any = None
    second: Any = None


class OpenStruct(msgspec.Struct, array_like=True, dict=True):
    first: Any = None
    second: Any = None


class Whole(int):
    pass


class Part(float):
    pass


class Frost(frozenset[Any]):
    __slots__ = ("__dict__", "extra")


class Buffer(bytearray):
    pass


class Queue(deque[Any]):
    __slots__ = ("__dict__", "extra")


class Arranged(OrderedDict[Any, Any]):
    pass


class Tally(Counter[Any]):
    pass


class Zone(dt.tzinfo):
    def utcoffset(self, when: Any) -> dt.timedelta:
        return dt.timedelta(hours=1)


class Instant(dt.datetime):
    __slots__ = ("__dict__", "extra")


class Span(dt.timedelta):
    __slots__ = ("__dict__", "extra")


class Way(PurePosixPath):
    __slots__ = ("__dict__",)


class Mapped(UserDict[Any, Any]):
    pass


class Listed(UserList[Any]):
    pass


class Letter(enum.StrEnum):
    A = "a"


class Loud(list[Any]):
    """Its own methods say something else than what it holds, or refuse."""

    append = extend = __setitem__ = None  # type: ignore[assignment]

    def __iter__(self) -> Any:
        return iter(())

    def __len__(self) -> int:
        return 0


class ByAttribute(str):
    """Hashed by an attribute of its own."""

    __slots__ = ("__dict__",)

    def __hash__(self) -> int:
        return hash(vars(self).get("first"))

    def __eq__(self, other: object) -> bool:
        return self is other


class Private:
    __slots__ = ("__dict__", "__first", "__weakref__", "_second")

    def put(self, first: Any, second: Any) -> None:
        self.__first = first
        self._second = second


class Answering:
    """Has any attribute that is asked for."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return 5


class Contrary:
    """Equal to everything, and neither true nor false."""

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 1

    def __bool__(self) -> bool:
        raise ValueError


class Split:
    """Its state is no dict."""

    __slots__ = ("__weakref__", "first", "second")

    def __getstate__(self) -> Any:
        return tuple([getattr(self, name)] if hasattr(self, name) else [] for name in ("first", "second"))

    def __setstate__(self, state: Any) -> None:
        for name, held in zip(("first", "second"), state, strict=True):
            for value in held:
                setattr(self, name, value)


class Numbered(NamedTuple):
    first: Any = None
    second: Any = None


class Required(Exception):
    def __init__(self, first: Any, *, second: Any) -> None:
        super().__init__(first)
        self.second = second


class Ended(BaseExceptionGroup[BaseException]):
    pass


BARE = (Keywords, FrozenSlots, Hashed, Parametrized, Tolerant, Converted, Loose, Computed, Private, Answering, Contrary)
STRUCTS = (Struct, FrozenStruct, OpenStruct)
TYPES = base.TYPES | TypeRegistry(
    *(Keywords, FrozenSlots, Hashed, Parametrized, Converted, Loose, Computed, Root, Template, Extended, Deprecating),
    *(Whole, Part, Frost, Buffer, Queue, Arranged, Tally, Instant, Span, Way, Letter, Loud),
    *(ByAttribute, Split, Numbered, Required, Ended, *STRUCTS),
)
TYPES.register(Tolerant, fields="tolerant")
for cls in (Private, Answering, Contrary, Zone, Mapped, Listed):
    TYPES.register(cls, attributes=True)
CODEC = Codec(types=pandas.register(numpy.register(TYPES)))
#: Keys that are equal to others, or to nothing; numbers that Python does not write; texts that are no UTF-8.
KEYS: tuple[Any, ...] = (
    *(0, False, -0.0, 0.0, True, 1.0, Decimal(0), Decimal("-0"), Decimal("NaN"), 10**5000, -(2**64), 2**64, "\ud800"),
    *(complex(0, -0.0), dt.UTC, range(0), range(3, 0), UUID(int=5), re.compile("a"), ZoneInfo("Europe/Berlin")),
    *(dt.datetime(2026, 1, 1, tzinfo=dt.UTC), dt.time(1, fold=1), Letter.A, list[int], Template[int], base.load),
)


class Program(base.Program):
    leaves = (*base.LEAVES, *KEYS)

    @property
    def makers(self) -> Any:
        return MAKERS

    @property
    def changes(self) -> Any:
        return CHANGES


def from_attributes(program: base.Program) -> Any:
    one = object.__new__(BARE[program.number(len(BARE))])
    for name in ("first", "second")[: program.number(3)]:
        object.__setattr__(one, name, program.cell())
    return one


def template(program: base.Program) -> Any:
    model: Any = (Template, Template[int], Template[list[int]])[program.number(3)]
    return model.model_construct(first=program.cell(), _fields_set=({"first"}, set[str]())[program.number(2)])


def error(program: base.Program) -> Any:
    kind: Any = (ImportError, SyntaxError, StopIteration, SystemExit, AttributeError, NameError)[program.number(6)]
    one: BaseException
    if program.number(3) == 0:
        one = Required(program.cell(), second=program.cell())
    else:
        one = kind(*program.cells(), **({"name": program.cell()} if kind in {ImportError, AttributeError} else {}))
    if program.number(2):
        one.__notes__ = [program.cell()] if program.number(2) else program.cell()
    one.__cause__ = next((made for made in program.made if isinstance(made, BaseException)), None)
    one.__suppress_context__ = bool(program.number(2))
    return one


def ended(program: base.Program) -> Any:
    inner = [one for one in program.made if isinstance(one, BaseException)] or [KeyboardInterrupt()]
    return Ended("several", inner[: 1 + program.number(3)])


def many(program: base.Program) -> Any:
    """As many as fill a block, or one more or less, of which some are held elsewhere too."""
    first, second = program.cell(), program.cell()
    makes: tuple[Callable[[int], Any], ...] = (
        *(lambda i: [first, second, i], lambda i: (first, second, i), lambda i: (first,) if i % 3 else (second, first)),
        *(lambda i: {"first": first, "n": i}, lambda i: {i: first}, lambda i: base.Data(first, i)),
        *(lambda _: base.Frozen(first, second), lambda _: Struct(first, second), lambda i: Numbered(first, i)),
    )
    make = makes[program.number(len(makes))]
    made = [make(i) for i in range((15, 16, 17, 63, 64, 65, 130)[program.number(7)])]
    program.made += [made[program.number(len(made))] for _ in range(program.number(3))]
    if isinstance(made[0], list):
        made[program.number(len(made))].append(made)
    return made


def deep(program: base.Program) -> Any:
    one = program.cell()
    wraps: tuple[Callable[[Any], Any], ...] = (lambda x: [x], lambda x: (x,), lambda x: {"a": x}, base.Data, slice)
    for _ in range(program.number(200)):
        one = wraps[program.number(len(wraps))](one)
    return one


def objects(program: base.Program) -> Any:
    made = np.empty(2, dtype=object)
    made[0] = program.cell()
    made[1] = made if program.number(2) else program.cell()
    return made if program.number(2) else pd.Series([program.cell(), None], dtype=object)


def zoned(program: base.Program) -> Any:
    zone = next((one for one in program.made if isinstance(one, dt.tzinfo)), None)
    return (Instant, dt.datetime)[program.number(2)](2026, 1, 1, tzinfo=zone)


def private(program: base.Program) -> Any:
    one = Private()
    one.put(program.cell(), program.cell())
    return one


def loud(program: base.Program) -> Any:
    one = Loud()
    list.append(one, program.cell())
    return one


MAKERS: tuple[Callable[[base.Program], Any], ...] = (
    *base.MAKERS,
    *([from_attributes] * 8),
    *(template, template, error, error, ended, many, many, deep, objects, zoned, private, loud),
    *([lambda program: STRUCTS[program.number(len(STRUCTS))](program.cell(), program.cell())] * 3),
    lambda program: Extended.model_construct(FIRST=program.cell(), other=program.cell()),
    lambda program: Root.model_construct(program.cell()),
    lambda program: Deprecating.model_construct(third=program.cell()),
    lambda _: Zone(),
    lambda program: Whole(2 ** program.number(90)),
    lambda program: Part((-0.0, float("nan"))[program.number(2)]),
    lambda program: (Frost, Queue, Tally, Listed, base.Couple)[program.number(5)](program.cells()),
    lambda program: (Arranged, OrderedDict, dict)[program.number(3)].fromkeys(program.cells()),
    lambda program: Mapped(dict.fromkeys(program.cells())),
    lambda _: Buffer(b"a"),
    lambda _: Span(3, 4),
    lambda _: Way("a/b"),
    lambda _: ByAttribute("a"),
    lambda _: Split(),
    lambda program: Numbered(program.cell(), program.cell()),
    lambda program: Parametrized[int](program.cell()),
    lambda program: {some(program): some(program)},
    lambda program: (frozenset, tuple, set)[program.number(3)]([some(program), some(program)]),
    lambda program: weakref.ref(some(program)),
    lambda program: copy.copy(some(program)),
    lambda program: (np.arange(6)[::2], np.float64(1.5), pd.Timestamp(0, tz="UTC"))[program.number(3)],
)


def refer_back(program: base.Program) -> None:
    """Put into an object that takes it only by a way of its own what may hold that object."""
    one, cell = some(program), program.cell()
    match one:
        case partial():
            one.__setstate__((base.load, (cell, one), {"a": cell}, {"extra": cell} if program.number(2) else None))  # type: ignore[attr-defined]
        case UserDict() | UserList():
            one.data = some(program)
        case np.ndarray():
            one.flat[0] = cell
        case BaseException():
            one.__notes__ = [cell]
        case msgspec.Struct():
            msgspec.structs.force_setattr(one, ("first", "second")[program.number(2)], cell)
        case pydantic.BaseModel():
            odd = ({"_name": cell}, {"odd": cell}, {"model_dump": 1}, {}, None, {"first"}, {"odd"})[program.number(7)]
            names = ("__pydantic_private__", "__pydantic_extra__", "__pydantic_fields_set__")
            object.__setattr__(one, names[program.number(3)], odd)
        case _:
            object.__setattr__(one, "__orig_class__", (base.Boxed[int], Parametrized[int], cell)[program.number(3)])


def delete(program: base.Program) -> None:
    delattr(some(program), ("first", "second", "_second")[program.number(3)])


CHANGES: tuple[Callable[[base.Program], None], ...] = (*base.CHANGES, *([refer_back] * 6), delete)


@given(st.binary(min_size=48, max_size=160))
@settings(max_examples=GRAPHS, deadline=None, suppress_health_check=list(HealthCheck))
def test_what_encodes_is_decoded_as_the_same_graph(code):
    event(base.check(Program(code).run(), CODEC))


@given(st.binary(min_size=48, max_size=160), st.integers(1, 14), st.integers(1, 80), st.integers(-20, 20))
@settings(max_examples=GRAPHS // 4, deadline=None, suppress_health_check=list(HealthCheck))
def test_what_encodes_within_limits_is_decoded_within_them(code, depth, nodes, spare):
    value = Program(code).run()
    match CODEC.encode(value):
        case Success(data):
            limits = (Limits(max_depth=depth), Limits(max_nodes=nodes), Limits(max_bytes=max(len(data) + spare, 1)))
            for codec in (Codec(TYPES, limits=one) for one in limits):
                encoded = codec.encode(value)
                watched = codec.encode_watched(value).bind(lambda one: one.settled())
                assert codec.encode_brief(value) in {None, encoded.value_or(None)}
                assert bool(codec.check(value)) is isinstance(encoded, Failure)
                assert watched.value_or(None) == encoded.value_or(None)
                assert isinstance(encoded.bind(codec.decode), Success) is isinstance(encoded, Success)
