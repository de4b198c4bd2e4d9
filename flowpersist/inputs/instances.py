"""Whether a value is already what an annotation asks for, so that nothing has to be made of it."""

from __future__ import annotations

import types
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Final, Literal, TypeAlias, Union, cast, get_args, get_origin

__all__ = ["is_instance"]

_Kind: TypeAlias = Any
_ATOMS: Final = frozenset({str, int, float, bool, type(None)})
_UNIONS: Final = (Union, types.UnionType)
_PAIR: Final = 2


def is_instance(value: object, kind: _Kind) -> bool:
    """Whether a value is of the annotated class, and its items of theirs.

    An annotation that names no class (``object``, ``Any``, a plain ``list``) asks for plain data: dicts, lists, text,
    numbers, booleans and None. Values nested deeper than Python's stack are not.
    """
    try:
        return _is(value, kind)
    except (RecursionError, TypeError):
        return False


def _is(value: object, kind: _Kind) -> bool:
    if kind is Any or kind is object:
        return _is_plain(value)
    kind = getattr(kind, "__supertype__", kind)
    origin = get_origin(kind)
    if origin is not None:
        return _is_of(value, origin, get_args(kind))
    if kind is None or kind in _ATOMS:
        return type(value) is (type(None) if kind is None else kind) or (kind is float and type(value) is int)
    return isinstance(value, kind) and (not _is_collection(value) or _holds_plain(value))


def _is_of(value: object, origin: _Kind, within: tuple[_Kind, ...]) -> bool:
    if origin is Annotated:
        return _is(value, within[0])
    if origin in _UNIONS:
        return any(_is(value, one) for one in within)
    if origin is Literal:
        return any(type(value) is type(one) and value == one for one in within)
    # Of a generic class of the user's own, what its arguments stand for is not known.
    return isinstance(value, origin) and (not _is_collection(value) or _holds(value, origin, within))


def _holds(value: object, origin: _Kind, within: tuple[_Kind, ...]) -> bool:
    if isinstance(value, Mapping):
        items = cast("Mapping[object, object]", value).items()
        return len(within) == _PAIR and all(_is(key, within[0]) and _is(one, within[1]) for key, one in items)
    if origin is tuple and within[-1:] != (...,):
        parts = cast("tuple[object, ...]", value)
        return len(parts) == len(within) and all(map(_is, parts, within))
    return all(_is(one, within[0]) for one in cast("Iterable[object]", value))


def _is_collection(value: object) -> bool:
    return isinstance(value, list | tuple | set | frozenset | Mapping)


def _holds_plain(value: object) -> bool:
    if isinstance(value, Mapping):
        return all(map(_is_plain, cast("Mapping[object, object]", value).values()))
    return all(map(_is_plain, cast("Iterable[object]", value)))


def _is_plain(value: object) -> bool:
    return type(value) in _ATOMS or (type(value) in {dict, list} and _holds_plain(value))
