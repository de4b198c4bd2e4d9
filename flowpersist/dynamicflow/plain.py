"""What tools return as the plain data that references reach into: dicts, lists, text, numbers, truth values and
None.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Any, Final, cast
from uuid import UUID

import attrs

__all__ = ["TEXT_CLASSES", "plain"]

_ATOMS: Final = frozenset({str, int, float, bool, type(None)})
_TIMES: Final = (datetime, date, time)
_TEXTS: Final = (UUID, Decimal, PurePath)
#: The classes that JSON has no form for but a text or a value.
TEXT_CLASSES: Final = (*_TIMES, *_TEXTS, Enum)


def plain(value: object) -> object:
    """The value with objects as dicts, and what JSON writes as text as text. What is plain already stays the same
    object.

    ``RecursionError`` for what is nested too deep, or in itself. What has no plain form stays as it is.
    """
    kind = type(value)
    if kind in _ATOMS:
        return value
    if kind is dict:
        return _dict(cast("dict[object, object]", value))
    if kind is list:
        return _list(cast("list[object]", value))
    return _other(value)


def _dict(value: dict[object, object]) -> object:
    made = {key: plain(item) for key, item in value.items()}
    return value if all(made[key] is item for key, item in value.items()) else made


def _list(value: list[object]) -> object:
    made = [plain(item) for item in value]
    return value if all(new is old for new, old in zip(made, value, strict=True)) else made


def _other(value: object) -> object:
    fields = _fields(value)
    if fields is not None:
        return {name: plain(item) for name, item in fields.items()}
    if isinstance(value, tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, Enum):
        return plain(value.value)
    return _text(value)


def _text(value: object) -> object:
    if isinstance(value, _TIMES):
        return value.isoformat()
    return str(value) if isinstance(value, _TEXTS) else value


def _fields(value: object) -> Mapping[str, object] | None:
    """The fields of an object that is made of fields; None for another."""
    if isinstance(value, Mapping):
        return value
    kind: type[Any] = type(value)
    if attrs.has(kind):
        return {field.name: getattr(value, field.name) for field in attrs.fields(kind)}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    dump: Any = getattr(value, "model_dump", None)
    return cast("Mapping[str, object]", dump(mode="json")) if callable(dump) else None
