"""``check`` finds nothing where ``encode`` takes a value, and what it tells is enough to take it the next time."""

from __future__ import annotations

import dataclasses
import threading
from collections import defaultdict, deque
from collections.abc import Iterable
from datetime import datetime, timedelta, tzinfo
from typing import Any, NamedTuple

import attrs
from hypothesis import given
from hypothesis import strategies as st
from returns.result import Success

from flowpersist.codec import Codec, TypeRegistry
from flowpersist.errors import UnsupportedType


@dataclasses.dataclass(eq=False)
class Data:
    part: Any


@attrs.define(eq=False)
class Slotted:
    part: Any
    __hash__ = object.__hash__


class Pair(NamedTuple):
    left: Any
    right: Any


class Words(list[Any]):
    pass


class Plain:
    def __init__(self, part: Any) -> None:
        self.part = part


class Failed(Exception):
    pass


class Zone(tzinfo):
    def utcoffset(self, when: datetime | None) -> timedelta:
        del when
        return timedelta(hours=1)


def registry(classes: Iterable[type]) -> TypeRegistry:
    types = TypeRegistry()
    for cls in classes:
        types.register(cls, attributes=cls is Plain)
    return types


def odd(part: Any) -> Data:
    one = Data(part)
    one.extra = 1
    return one


CLASSES = {f"{cls.__module__}.{cls.__qualname__}": cls for cls in (Data, Slotted, Pair, Words, Failed, Plain)}
GOOD_LEAVES = st.sampled_from([None, 1, "x", datetime(2026, 1, 1)])  # noqa: DTZ001 - it is kept as it is
BAD_LEAVES = st.builds(
    lambda number: [threading.Lock, object, lambda: datetime(2026, 1, 1, tzinfo=Zone())][number](), st.integers(0, 2)
)


def holders(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    single = [Data, Slotted, Failed, Plain, lambda x: Pair(x, x), lambda x: Words([x, x]), lambda x: {"k": x}]
    return st.one_of(
        *(st.builds(hold, inner) for hold in single),
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.lists(inner, max_size=3).map(deque),
    )


GOOD = st.recursive(GOOD_LEAVES, holders, max_leaves=8)
ODD = st.recursive(
    GOOD_LEAVES | BAD_LEAVES,
    lambda inner: holders(inner) | st.builds(odd, inner) | st.builds(lambda x: defaultdict(lambda: 0, k=x), inner),
    max_leaves=8,
)
REGISTRIES = st.sets(st.sampled_from(sorted(CLASSES))).map(lambda names: tuple(CLASSES[name] for name in names))


@given(ODD, REGISTRIES)
def test_check_finds_nothing_exactly_where_encode_takes_the_value(value, classes):
    codec = Codec(registry(classes))
    found = codec.check(value)
    assert (found == ()) == isinstance(codec.encode(value), Success)
    assert all(one.path is not None and one.remedy for one in found)


@given(GOOD, REGISTRIES)
def test_one_error_names_all_classes_that_are_to_be_registered(value, classes):
    codec = Codec(registry(classes))
    result = codec.encode(value)
    if isinstance(result, Success):
        return
    error = result.failure()
    assert isinstance(error, UnsupportedType)
    assert error.problems == codec.check(value)
    missing = {CLASSES[one.type] for one in error.problems}
    assert len(missing) == len(error.problems)
    assert all(("attributes=True" in one.remedy) == (CLASSES[one.type] is Plain) for one in error.problems)
    assert isinstance(Codec(registry({*classes, *missing})).encode(value), Success)
