"""Kinds of the standard library in depth: they come back and are freed, however deep they are nested."""

from __future__ import annotations

import functools
from collections import ChainMap, UserList
from types import MappingProxyType, SimpleNamespace
from typing import Any

import pytest

from flowpersist.codec import Codec, TypeRegistry
from flowpersist.errors import StateTooDeep

TYPES = TypeRegistry()
DEPTH = 25_000


@TYPES.reference
def double(value: int) -> int:
    return 2 * value


@pytest.mark.parametrize(
    "wrap",
    [
        lambda one: SimpleNamespace(a=one),
        lambda one: UserList([one]),
        lambda one: ChainMap({1: one}),
        lambda one: functools.partial(double, one),
        lambda one: functools.partial(double, a=one),
    ],
    ids=["namespace", "user list", "chain map", "arguments", "keywords"],
)
def test_any_depth_comes_back_and_is_freed(wrap):
    one: Any = None
    for _ in range(DEPTH):
        one = wrap(one)
    codec = Codec(types=TYPES)
    copy = codec.decode(codec.encode(one).unwrap()).unwrap()
    assert type(copy) is type(one)
    del copy


def test_views_are_nested_within_bounds():
    one: Any = {}
    for _ in range(100):
        one = {"a": MappingProxyType(one)}
    assert isinstance(Codec().encode(one).failure(), StateTooDeep)
