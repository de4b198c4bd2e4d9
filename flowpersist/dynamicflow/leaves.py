"""Values without parts: their lengths, their texts in plain data, and the order of a set's items."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import PurePath
from typing import Any, Final, cast
from uuid import UUID

from flowpersist.inputs.json_types import json_form

__all__ = ["ATOMS", "length", "ordered", "text_form"]

#: The classes of values that plain data has beside dicts and lists.
ATOMS: Final = frozenset({str, int, float, bool, type(None)})
_TIMES: Final = (datetime, date, time)
_TEXTS: Final = (UUID, Decimal, PurePath)
_SORTABLE: Final = frozenset({str, int})
_FLOATS: Final = 1e300


def length(item: object) -> int:
    """The characters that a value counts as: of a text or bytes its length, of a number about what it takes."""
    if type(item) is str:
        return len(item)
    if isinstance(item, str | bytes | bytearray):
        return len(item)
    return item.bit_length() >> 3 if isinstance(item, int) else 0


def text_form(value: object) -> object:
    """The text that stands for a time, a UUID, a number of decimals, a path or bytes in JSON; any other value itself.

    These are the texts that a tool's parameters of these classes are read from.
    """
    if isinstance(value, _TIMES):
        return value.isoformat()
    if isinstance(value, _TEXTS):
        return str(value)
    if isinstance(value, bytes | bytearray):
        return base64.b64encode(value).decode()
    return json_form(value) if isinstance(value, timedelta) else value


def ordered(items: Iterable[object], plain: Callable[[object], object]) -> list[object]:
    """The items of a set in an order that is the same in every process: hashes differ between processes.

    ``plain`` gives an item as plain data.
    """
    listed = list(items)
    kinds = {type(item) for item in listed}
    if len(kinds) == 1 and kinds <= _SORTABLE:
        return sorted(cast("list[Any]", listed))
    return sorted(listed, key=lambda item: _rank(item, plain))


def _rank(item: object, plain: Callable[[object], object]) -> tuple[str, float, str]:
    kind = type(item)
    if kind is str:
        return "text", 0, cast("str", item)
    if kind is bool or kind is int or kind is float:
        number = cast("float", item)
        if abs(number) < _FLOATS:
            return "number", float(number), repr(number)
        return "number beyond", 0, number.hex() if kind is float else hex(cast("int", item))
    try:
        return kind.__qualname__, 0, json.dumps(plain(item), default=lambda part: type(part).__qualname__)
    except (TypeError, ValueError):
        return kind.__qualname__, 0, ""
