"""If a value encodes, its bytes decode to the same graph: over objects of registered classes of every kind.

A graph is made by a program of bytes: objects are made without their classes' ``__init__``, filled by
``object.__setattr__`` and through ``__dict__``, and changed after they became keys and elements.
``FLOWPERSIST_KEPT_GRAPHS`` says how many graphs; 100,000 take a quarter of an hour.
"""

from __future__ import annotations

import abc
import datetime as dt
import enum
import os
import weakref
from array import array
from collections import ChainMap, Counter, OrderedDict, UserDict, UserList, defaultdict, deque, namedtuple
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property, partial
from types import MappingProxyType, MemberDescriptorType, SimpleNamespace
from typing import Any, Generic, NamedTuple, TypeVar

import attrs
import pydantic
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from returns.result import Failure, Success

from flowpersist.codec import Codec, TypeRegistry
from flowpersist.codec.plans import PairPlan, StatePlan
from flowpersist.codec.sameness import _Comparison, _Parts
from flowpersist.codec.vocabulary import Roles
from flowpersist.errors import SerializationError

S = TypeVar("S")
GRAPHS = int(os.environ.get("FLOWPERSIST_KEPT_GRAPHS", "1500"))
#: Names that attributes are given: of fields, of slots, of methods, and of neither.
NAMES: tuple[Any, ...] = ("first", "second", "extra", "index", "keys", "double", "__hide__", "name", "args", 5)
#: Slots for what is computed again: hashes, and the cached property of an attrs class.
COMPUTED = frozenset({"_attrs_cached_hash", "__msgspec_cached_hash__", "double"})
LEAVES: tuple[Any, ...] = (None, True, 0, 1, 2.5, float("nan"), "a", "first", b"x", 2**70, 1j, ..., "")


class Places:
    __slots__ = ("extra",)


@dataclass
class Data:
    first: Any = None
    second: Any = None


@dataclass(frozen=True)
class Frozen:
    first: Any
    second: Any = 1


@dataclass(eq=False)
class Identical(Places):
    first: Any = None
    second: Any = None

    @cached_property
    def double(self) -> Any:
        return [self.first, self.first]


@dataclass(slots=True)
class Slotted:
    first: Any = None
    second: Any = None


class Below(Data):
    __slots__ = ("extra",)

    def index(self) -> int:
        return 1


class BelowSlotted(Slotted):
    __slots__ = ("extra", "keys")


@attrs.define(eq=False)
class Defined:
    first: Any = None
    second: Any = None


@attrs.frozen(cache_hash=True)
class Cached:
    first: Any = None
    second: Any = None


class BelowDefined(Defined):
    __slots__ = ("extra",)


class Model(pydantic.BaseModel):
    first: Any = None
    second: Any = None
    _name: Any = pydantic.PrivateAttr(None)


class Open(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")
    first: Any = None


class Failed(Exception):
    __slots__ = ("extra",)


class Many(ExceptionGroup[Exception]):
    __slots__ = ("extra",)


class Named(NamedTuple):
    first: Any
    second: Any


class Items(list[Any]):
    __slots__ = ("__dict__", "extra")


class Table(dict[Any, Any]):
    pass


class Pile(set[Any]):
    __hash__ = object.__hash__  # type: ignore[assignment]


class Text(str):
    __slots__ = ("__dict__",)


class Couple(tuple[Any, ...]):  # noqa: SLOT001 - its attributes are what is tested
    pass


class Keyed:
    """What it is hashed by, and its state."""

    first: Any
    second: Any

    def __getstate__(self) -> Any:
        return dict(vars(self))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Keyed) and bool(self.first == other.first)

    def __hash__(self) -> int:
        return hash(self.first)


class Restored(Keyed):
    def __setstate__(self, state: Any) -> None:
        vars(self).update(state)


class SlotState:
    __slots__ = ("__dict__", "extra", "first")

    def __getstate__(self) -> Any:
        slots = {name: getattr(self, name) for name in ("extra", "first") if hasattr(self, name)}
        return dict(vars(self)) or None, slots


class Paired:
    """Kept by functions, with a hash by its value."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Paired) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash(vars(self).get("first"))


class ByReference:
    def __init__(self, parts: Any) -> None:
        self.first = parts


class Groups(defaultdict[Any, Any]):
    pass


class Space(SimpleNamespace):
    __slots__ = ("extra",)


class Moment(dt.datetime):
    pass


class Money(Decimal):
    __slots__ = ("__dict__", "extra")


class Titled(namedtuple("Titled", "first")):  # noqa: PYI024, SLOT002 - its attributes are what is tested
    pass


class Bare(Places):
    """Kept by its attributes, whatever they are."""

    def index(self) -> int:
        return 1


class Boxed(Generic[S]):
    first: S


class Meta(type):
    @property
    def index(cls) -> int:
        return 1


@dataclass(eq=False)
class Odd(metaclass=Meta):
    first: Any = None
    second: Any = None


@dataclass
class Abstract(abc.ABC):  # noqa: B024
    first: Any = None


class Colour(enum.Enum):
    RED = 1

    @classmethod
    def _missing_(cls, value: object) -> Any:
        one = object.__new__(cls)
        one._name_, one._value_ = str(value), value
        return one


class Right(enum.Flag):
    READ = 1
    WRITE = 2


def load(fields: Any) -> Any:
    one = object.__new__(Paired)
    vars(one).update(fields)
    return one


BARE = (
    *(Data, Frozen, Identical, Slotted, Below, BelowSlotted, Defined, Cached, BelowDefined, Keyed, Restored, SlotState),
    *(Paired, ByReference, Odd, Abstract, Open, Bare, Boxed),
)
TYPES = TypeRegistry(
    *(one for one in BARE if one not in {Paired, ByReference, Bare, Boxed}),
    *(Model, Failed, Many, Named, Items, Table, Pile, Text, Couple, Colour, Right),
    *(Groups, Space, Moment, Money, Titled),
)
TYPES.register(Paired, encode=lambda one: dict(vars(one)), decode=load)
TYPES.register(ByReference, encode=lambda one: one.first, decode=ByReference)
TYPES.reference(load, name="load")
for cls in (Bare, Boxed):
    TYPES.register(cls, attributes=True)
CODEC = Codec(types=TYPES)


class Program:
    """What bytes say, one after the other; nothing follows the last."""

    leaves: tuple[Any, ...] = LEAVES

    def __init__(self, code: bytes) -> None:
        self._code = iter(code)
        self.made: list[Any] = []

    @property
    def makers(self) -> Any:
        """How objects are made."""
        return MAKERS

    @property
    def changes(self) -> Any:
        """What is done to objects that are made."""
        return CHANGES

    def number(self, below: int) -> int:
        return next(self._code, 0) % (below or 1)

    def cell(self) -> Any:
        at = self.number(len(self.made) + len(self.leaves))
        return self.made[at] if at < len(self.made) else self.leaves[at - len(self.made)]

    def cells(self) -> list[Any]:
        return [self.cell() for _ in range(self.number(4))]

    def run(self) -> Any:
        for _ in range(2 + self.number(12)):
            self.attempt(make_one)
        for _ in range(self.number(24)):
            self.attempt(self.changes[self.number(len(self.changes))])
        return self.made[:] if self.number(2) else self.made[-1] if self.made else None

    def attempt(self, step: Callable[[Program], Any]) -> None:
        try:
            step(self)
        except (TypeError, AttributeError, ValueError, LookupError, RecursionError, NotImplementedError, StopIteration):
            return


def exception(program: Program) -> Any:
    kind = (Failed, ValueError, OSError, UnicodeDecodeError, KeyError)[program.number(5)]
    if kind is UnicodeDecodeError:
        return UnicodeDecodeError("utf-8", b"abc", program.number(5) - 2, program.number(9) - 2, "odd")
    error = kind(*program.cells())
    if program.number(2):
        error.__cause__ = next((one for one in program.made if isinstance(one, BaseException)), None)
    return error


def group(program: Program) -> Any:
    inner = [one for one in program.made if isinstance(one, Exception)] or [ValueError()]
    return (Many, ExceptionGroup)[program.number(2)]("several", inner[: 1 + program.number(3)])


def model(program: Program) -> Any:
    odd = (None, {"first"}, frozenset({"second"}), ["first"])[program.number(4)]
    return Model.model_construct(_fields_set=odd, first=program.cell())


def from_attributes(program: Program) -> Any:
    one = object.__new__(BARE[program.number(len(BARE))])
    for name in ("first", "second")[: program.number(3)]:
        object.__setattr__(one, name, program.cell())
    return one


MAKERS: tuple[Callable[[Program], Any], ...] = (
    *[from_attributes] * 12,
    lambda program: program.cells(),
    lambda program: tuple(program.cells()),
    lambda program: set(program.cells()),
    lambda program: frozenset(program.cells()),
    lambda program: dict.fromkeys(program.cells(), program.cell()),
    lambda program: OrderedDict.fromkeys(program.cells()),
    lambda program: Counter(program.cells()),
    lambda program: defaultdict((list, None, Data)[program.number(3)], dict.fromkeys(program.cells())),
    lambda program: deque(program.cells(), maxlen=(None, 3)[program.number(2)]),
    lambda program: slice(program.cell(), program.cell()),
    lambda program: bytearray(b"ab"),
    exception,
    exception,
    group,
    model,
    model,
    lambda program: Named(program.cell(), program.cell()),
    lambda program: tuple.__new__(Named, program.cells()),
    lambda program: Items(program.cells()),
    lambda program: Table(dict.fromkeys(program.cells(), program.cell())),
    lambda program: Pile(program.cells()),
    lambda program: Text("text"),
    lambda program: Couple(program.cells()),
    lambda program: Colour(1 + program.number(2)),
    lambda program: Right(program.number(4)),
    lambda program: Groups(load, dict.fromkeys(program.cells())),
    lambda program: Space(first=program.cell()),
    lambda program: SimpleNamespace(first=program.cell()),
    lambda program: Moment(2026, 1, 2, fold=program.number(2)),
    lambda program: Money(program.number(3)),
    lambda program: Titled(program.cell()),
    lambda program: UserList(program.cells()),
    lambda program: UserDict(dict.fromkeys(program.cells())),
    lambda program: ChainMap(*[one for one in program.made if isinstance(one, dict)][:2]),
    lambda program: MappingProxyType(next(one for one in program.made if isinstance(one, dict))),
    lambda program: array("d", [1.5]),
    lambda program: partial(load, *program.cells()),
    lambda program: weakref.ref(some(program)),
    lambda program: [load, Data, program.cell()],
)


def make_one(program: Program) -> None:
    program.made.append(program.makers[program.number(len(program.makers))](program))


def some(program: Program) -> Any:
    return program.made[program.number(len(program.made))]


def set_attribute(program: Program) -> None:
    object.__setattr__(some(program), NAMES[program.number(len(NAMES))], program.cell())


def put_attribute(program: Program) -> None:
    vars(some(program))[NAMES[program.number(len(NAMES))]] = program.cell()


def drop_attribute(program: Program) -> None:
    object.__delattr__(some(program), NAMES[program.number(len(NAMES))])


def compute(program: Program) -> None:
    _ = some(program).double


def insert(program: Program) -> None:
    one, cell = some(program), program.cell()
    if isinstance(one, set):
        one.add(cell)
    elif isinstance(one, dict):
        dict.__setitem__(one, cell, program.cell())
    elif isinstance(one, deque | list):
        one.append(cell)


CHANGES = (*[set_attribute] * 4, *[put_attribute] * 2, drop_attribute, compute, *[insert] * 4)


def raw(one: Any) -> Iterator[tuple[Any, Any]]:
    """What an object has, looked at without the codec: its attributes in their order, and its slots."""
    computed = isinstance(getattr(type(one), "double", None), cached_property)
    held = getattr(one, "__dict__", {}).items()
    yield from ((name, value) for name, value in held if not (computed and name == "double"))
    for base in type(one).__mro__:
        for name, member in vars(base).items():
            is_ours = "test_codec_kept" in base.__module__
            if type(member) is MemberDescriptorType and is_ours and name not in COMPUTED:
                try:
                    yield (base, name), member.__get__(one)
                except AttributeError:
                    continue


def check_raw(comparison: _Comparison, parts: _Parts, pairs: list[tuple[Any, Any]]) -> None:
    for one, other in pairs:
        if isinstance(parts.plan(one), PairPlan | StatePlan) and not isinstance(one, Keyed | SlotState):
            continue
        mine, theirs = list(raw(one)), list(raw(other))
        assert [name for name, _ in mine] == [name for name, _ in theirs], one
        for (_, value), (_, copy) in zip(mine, theirs, strict=True):
            assert type(value) is type(copy), one
            if not parts.is_leaf(value):
                assert comparison._forth.get(id(value)) is copy, one


def check(value: Any, codec: Codec = CODEC) -> str:
    match codec.encode(value):
        case Failure(error):
            assert isinstance(error, SerializationError), error
            return type(error).__name__
        case Success(data):
            copy = codec.decode(data).unwrap()
            parts = _Parts(Roles(codec.types))
            comparison = _Comparison(parts, {})
            assert comparison.run(value, copy) is None
            pairs = [
                (one, comparison._forth[id(one)]) for one, _ in parts._read.values() if id(one) in comparison._forth
            ]
            check_raw(comparison, parts, pairs)
            assert codec.verifying().encode(value) == Success(data)
            return "kept"
    raise AssertionError


@given(st.binary(min_size=48, max_size=160))
@settings(max_examples=GRAPHS, deadline=None, suppress_health_check=list(HealthCheck))
def test_what_encodes_is_decoded_as_the_same_graph(code):
    event(check(Program(code).run()))
