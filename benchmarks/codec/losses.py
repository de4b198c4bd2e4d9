"""What a value has lost on its way to bytes and back, found by walking both, part by part."""

from __future__ import annotations

import dataclasses
from collections import defaultdict, deque
from itertools import chain
from types import FunctionType
from typing import Any

import attrs

__all__ = ["losses"]

#: One object to Python, however often it is written: nothing can be told of its identity.
EMPTY: tuple[()] = ()


def losses(before: object, after: object) -> list[str]:
    """What is not as it was; an empty list where all is.

    A class that became another, a leaf with another value, and identity: one object that became several, and several
    that became one. Iterative, so that depth is no limit.
    """
    found: set[str] = set()
    turned: dict[str, set[str]] = defaultdict(set)
    forth: dict[int, Any] = {}
    back: dict[int, Any] = {}
    stack: list[tuple[Any, Any]] = [(before, after)]
    while stack:
        one, other = stack.pop()
        if type(one) is not type(other):
            turned[_called(other)].add(_called(one))
        elif _parts(one) is None and not _same_leaf(one, other):
            found.add(f"another {_called(one)}")
        if _parts(one) is None or _parts(other) is None:
            continue
        if one is not EMPTY and id(one) in forth:
            if forth[id(one)] is not other:
                found.add("sharing lost")
            continue
        if other is not EMPTY and id(other) in back:
            found.add("several become one")
        forth[id(one)], back[id(other)] = other, one
        stack += _pairs(one, other, found)
    return [*(_turned(classes, into) for into, classes in sorted(turned.items())), *sorted(found)]


def _turned(classes: set[str], into: str) -> str:
    return f"{', '.join(sorted(classes))} {'become' if len(classes) > 1 else 'becomes'} {into}"


def _called(value: object) -> str:
    return type(value).__qualname__


def _fields(value: Any) -> list[str] | None:  # noqa: ANN401 - any value
    if dataclasses.is_dataclass(value):
        return [field.name for field in dataclasses.fields(value)]
    if attrs.has(type(value)):
        return [field.name for field in attrs.fields(type(value))]
    return None


def _parts(value: Any) -> list[Any] | None:  # noqa: ANN401 - any value
    """The parts of what has any; None for leaves."""
    if isinstance(value, dict):
        return list(chain.from_iterable(value.items()))
    if isinstance(value, (list, tuple, deque)):
        return list(value)
    if isinstance(value, BaseException):
        return [*value.args, value.__cause__]
    names = _fields(value)
    return None if names is None else [getattr(value, name) for name in names]


def _pairs(one: Any, other: Any, found: set[str]) -> list[tuple[Any, Any]]:  # noqa: ANN401 - any values
    mine, theirs = _parts(one) or [], _parts(other) or []
    names = _fields(one)
    if names is not None and isinstance(other, dict):
        theirs = [other.get(name) for name in names]
    if len(mine) != len(theirs):
        found.add(f"{_called(one)} of another length")
        return []
    if _traits(one) != _traits(other):
        found.add(f"another {_called(one)}")
    return list(zip(mine, theirs, strict=True))


def _traits(value: object) -> object:
    return getattr(value, "maxlen", None), getattr(value, "default_factory", None)


def _same_leaf(one: Any, other: Any) -> bool:  # noqa: ANN401 - any values
    if isinstance(one, FunctionType):
        return bool(one.__code__.co_code == other.__code__.co_code)
    if isinstance(one, (str, bytes, set, frozenset, list, tuple, deque)):
        return bool(one == other)
    # The text of a float, a Decimal or a datetime also tells the sign of zero, NaN, digits, fold and zone.
    return repr(one) == repr(other)
