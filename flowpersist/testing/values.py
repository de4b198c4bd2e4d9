"""Strategies of random values for hypothesis, and what must hold of a value that went to bytes and back.

>>> from flowpersist.testing import assert_round_trips
>>> cyclic = [1, "two"]
>>> cyclic.append(cyclic)
>>> assert_round_trips(cyclic)
"""

from __future__ import annotations

import datetime as dt
import re
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable
from decimal import Decimal
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import PurePosixPath, PureWindowsPath
from typing import TypeAlias
from zoneinfo import ZoneInfo

from hypothesis import strategies as st
from returns.result import Success

from flowpersist.codec import Codec, TypeRegistry
from flowpersist.codec.packing import Cell
from flowpersist.codec.sameness import difference
from flowpersist.errors.arguments import check_callable, check_instance, check_optional, check_whole

__all__ = ["assert_round_trips", "leaves", "same_graph", "values"]

SURROGATES = st.text(st.characters(), max_size=8)
ZONES = st.one_of(
    st.none(),
    st.sampled_from([dt.UTC, ZoneInfo("Europe/Berlin"), ZoneInfo("America/New_York")]),
    st.builds(lambda minutes: dt.timezone(dt.timedelta(minutes=minutes)), st.integers(-1439, 1439)),
    st.builds(lambda name: dt.timezone(dt.timedelta(hours=1), name), st.text(max_size=5)),
)


def _folded(moment: Cell, zone: dt.tzinfo | None, fold: int) -> Cell:
    return moment.replace(tzinfo=zone, fold=fold)


def hashable_leaves() -> st.SearchStrategy[Cell]:
    """Leaves that may be keys and elements."""
    folds = st.integers(0, 1)
    return st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.integers(-(2**70), 2**70),
        st.floats(),
        st.complex_numbers(),
        SURROGATES,
        st.binary(max_size=12),
        st.just(...),
        st.uuids(),
        st.decimals(allow_nan=False),
        st.fractions(),
        st.dates(),
        st.timedeltas(),
        st.builds(_folded, st.datetimes(), ZONES, folds),
        st.builds(_folded, st.times(), ZONES, folds),
        st.builds(range, st.integers(), st.integers(), st.integers(1, 9)),
        st.builds(PurePosixPath, st.text("ab./", max_size=6)),
        st.builds(PureWindowsPath, st.sampled_from(["c:\\", "", "//server/share/"]), st.text("ab\\", max_size=6)),
        st.sampled_from(
            [re.compile("a+(b)?", re.IGNORECASE), re.compile(rb"\d"), re.compile("x", re.MULTILINE | re.DOTALL)]
        ),
        st.ip_addresses(),
        st.sampled_from([ip_network("10.0.0.0/8"), ip_interface("fe80::1%eth0/64"), ip_address("::1")]),
    )


def leaves() -> st.SearchStrategy[Cell]:
    """Values without identity, of every class that the codec knows by itself."""
    return st.one_of(hashable_leaves(), st.just(Decimal("sNaN123")), ZONES)


def values(*, instances: Callable[[], Cell] | None = None, max_objects: int = 12) -> st.SearchStrategy[Cell]:
    """Random graphs of mixed classes: nested, with objects that are met twice, and cycles through any of them.

    ``instances`` makes an empty object of a registered class, of which the attributes ``first`` and ``second`` are set.
    """
    check_optional(instances, "instances", check_callable)
    check_whole(max_objects, "max_objects", least=0)
    return _graphs(instances, max_objects)


@st.composite
def _graphs(draw: st.DrawFn, instances: Callable[[], Cell] | None, max_objects: int) -> Cell:
    made: list[Cell] = []
    hashable: list[Cell] = []
    fillers = _FILLERS | ({"instance": _fill_instance} if instances is not None else {})
    kinds = draw(st.lists(st.sampled_from([*fillers, *_BUILDERS]), max_size=max_objects))
    mutable: list[tuple[Cell, str]] = []
    for kind in kinds:
        if kind in fillers:
            one = _EMPTY[kind]() if instances is None or kind != "instance" else instances()
            mutable.append((one, kind))
            if kind == "instance":
                hashable.append(one)
        else:
            one = _BUILDERS[kind](draw, made, hashable)
        made.append(one)
    for one, kind in mutable:
        fillers[kind](draw, one, made, hashable)
    return draw(_cells(made))


def _cells(made: list[Cell]) -> st.SearchStrategy[Cell]:
    return st.one_of(leaves(), st.sampled_from(made)) if made else leaves()


def _keys(hashable: list[Cell]) -> st.SearchStrategy[Cell]:
    return st.one_of(hashable_leaves(), st.sampled_from(hashable)) if hashable else hashable_leaves()


def _some(draw: st.DrawFn, made: list[Cell]) -> list[Cell]:
    return draw(st.lists(_cells(made), max_size=4))


def _some_keys(draw: st.DrawFn, hashable: list[Cell]) -> list[Cell]:
    return draw(st.lists(_keys(hashable), max_size=4))


Builder: TypeAlias = Callable[[st.DrawFn, list[Cell], list[Cell]], Cell]
Filler: TypeAlias = Callable[[st.DrawFn, Cell, list[Cell], list[Cell]], None]


def _build_tuple(draw: st.DrawFn, made: list[Cell], _hashable: list[Cell]) -> Cell:
    return tuple(_some(draw, made))


def _build_key(draw: st.DrawFn, _made: list[Cell], hashable: list[Cell]) -> Cell:
    one = tuple(_some_keys(draw, hashable))
    hashable.append(one)
    return one


def _build_frozenset(draw: st.DrawFn, _made: list[Cell], hashable: list[Cell]) -> Cell:
    one = frozenset(_some_keys(draw, hashable))
    hashable.append(one)
    return one


def _build_slice(draw: st.DrawFn, made: list[Cell], _hashable: list[Cell]) -> Cell:
    return slice(draw(_cells(made)), draw(_cells(made)), draw(_cells(made)))


def _fill_list(draw: st.DrawFn, one: Cell, made: list[Cell], _hashable: list[Cell]) -> None:
    one.extend(_some(draw, made))


def _fill_set(draw: st.DrawFn, one: Cell, _made: list[Cell], hashable: list[Cell]) -> None:
    one.update(_some_keys(draw, hashable))


def _fill_dict(draw: st.DrawFn, one: Cell, made: list[Cell], hashable: list[Cell]) -> None:
    for key in _some_keys(draw, hashable):
        one[key] = draw(_cells(made))


def _fill_record(draw: st.DrawFn, one: Cell, made: list[Cell], _hashable: list[Cell]) -> None:
    for key in ("id", "next", "text"):
        one[key] = draw(_cells(made))


def _fill_bytearray(draw: st.DrawFn, one: Cell, _made: list[Cell], _hashable: list[Cell]) -> None:
    one.extend(draw(st.binary(max_size=5)))


def _fill_instance(draw: st.DrawFn, one: Cell, made: list[Cell], _hashable: list[Cell]) -> None:
    for name in ("first", "second"):
        object.__setattr__(one, name, draw(_cells(made)))


_BUILDERS: dict[str, Builder] = {
    "tuple": _build_tuple,
    "key": _build_key,
    "frozenset": _build_frozenset,
    "slice": _build_slice,
}
_FILLERS: dict[str, Filler] = {
    "list": _fill_list,
    "deque": _fill_list,
    "bounded deque": _fill_list,
    "set": _fill_set,
    "dict": _fill_dict,
    "record": _fill_record,
    "OrderedDict": _fill_dict,
    "Counter": _fill_dict,
    "defaultdict": _fill_dict,
    "bytearray": _fill_bytearray,
}
_EMPTY: dict[str, Callable[[], Cell]] = {
    "list": list,
    "deque": deque,
    "bounded deque": lambda: deque(maxlen=2),
    "set": set,
    "dict": dict,
    "record": dict,
    "OrderedDict": OrderedDict,
    "Counter": Counter,
    "defaultdict": lambda: defaultdict(list),
    "bytearray": bytearray,
}


def same_graph(a: object, b: object, *, types: TypeRegistry | None = None) -> bool:
    """Whether two values are equal, class by class and part by part, and have the same structure of identity.

    Floats are compared by their bits but for NaN's payload, datetimes also by fold and zone, dicts and attributes also
    by order. ``types`` tells what is kept of registered classes. Iterative, so that depth is no limit.
    """
    check_instance(types, "types", (TypeRegistry, type(None)), "a TypeRegistry or None")
    return difference(a, b, types or TypeRegistry()) is None


def assert_round_trips(value: object, types: TypeRegistry | Iterable[type] = ()) -> None:
    """Assert that a value goes to bytes and back as the same graph, and that the copy gives the same bytes again."""
    codec = Codec(types=types)
    registry = codec.types
    data = codec.encode(value)
    assert isinstance(data, Success), data.failure()
    copy = codec.decode(data.unwrap())
    assert isinstance(copy, Success), copy.failure()
    assert same_graph(value, copy.unwrap(), types=registry), "the copy is another graph"
    assert codec.encode(copy.unwrap()) == data, "the copy gives other bytes"
