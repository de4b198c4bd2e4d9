"""Checks of arguments: what enters a public function is checked there, before anything is done with it.

A value of a wrong class is a ``TypeError``, one out of range a ``ConfigurationError``, which is a ``ValueError``. Each
names the argument and what it takes. A check costs less than a microsecond, so that every verb can afford its own.
Texts are checked by ``backends.base``, which knows what stores can hold.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final, NoReturn, TypeVar, get_origin

from flowpersist.errors import ConfigurationError

__all__ = [
    "check_async",
    "check_aware",
    "check_bytes",
    "check_callable",
    "check_choice",
    "check_class",
    "check_classes",
    "check_duration",
    "check_flag",
    "check_instance",
    "check_items",
    "check_mapping",
    "check_moment",
    "check_optional",
    "check_pause",
    "check_size",
    "check_str",
    "check_whole",
    "mistyped",
    "out_of_range",
]

T = TypeVar("T")
#: The largest count that every store and driver takes.
MOST: Final = 2**31 - 1
_NO_TIME: Final = timedelta(0)


def mistyped(name: str, takes: str, value: object) -> NoReturn:
    """The value is of a wrong class. Only its class is named: it may be secret."""
    got = "None" if value is None else type(value).__name__
    raise TypeError(f"Invalid {name}: expected {takes}, not {got}")


def out_of_range(name: str, takes: str, value: object) -> NoReturn:
    """The value is of a right class. It is shown, so it must be none that may be secret."""
    raise ConfigurationError(f"Invalid {name}: expected {takes}, not {value!s:.80}", name)


def check_optional(value: T | None, name: str, check: Callable[[T, str], object]) -> None:
    """None, or what the check lets through."""
    if value is not None:
        check(value, name)


def check_instance(value: object, name: str, kinds: type | tuple[type, ...], takes: str) -> None:
    """An instance of one of these classes."""
    if not isinstance(value, kinds):
        mistyped(name, takes, value)


def check_whole(value: object, name: str, *, least: int = 1, most: int = MOST) -> None:
    """An int within bounds, and not a bool."""
    if type(value) is not int:
        mistyped(name, f"an int of at least {least} and at most {most}", value)
    if not least <= value <= most:
        # One that is too large is not repeated: it may have thousands of digits.
        got = value if abs(value) <= most else "a larger one" if value > 0 else "a smaller one"
        out_of_range(name, f"an int of at least {least} and at most {most}", got)


def check_size(value: object, name: str) -> None:
    """A number of bytes, from 0 on."""
    check_whole(value, name, least=0, most=2**63 - 1)


def check_flag(value: object, name: str) -> None:
    """True or False, and not what is merely true."""
    if type(value) is not bool:
        mistyped(name, "a bool", value)


def check_duration(
    value: object, name: str, *, least: timedelta | None = None, most: timedelta = timedelta.max
) -> None:
    """A timedelta that is positive, or of at least ``least``."""
    takes = "a positive timedelta" if least is None else "a timedelta that is not negative"
    if not isinstance(value, timedelta):
        mistyped(name, takes, value)
    if value <= _NO_TIME if least is None else value < least:
        out_of_range(name, takes, value)
    if value > most:
        out_of_range(name, f"{takes} of at most {most}", value)


def check_pause(value: object, name: str) -> None:
    """A timedelta that is not negative."""
    check_duration(value, name, least=_NO_TIME)


def check_aware(value: object, name: str) -> None:
    """A datetime that knows its zone. It may lie beyond the calendar in UTC, and is then as late or early as can be."""
    if not isinstance(value, datetime):
        mistyped(name, "an aware datetime", value)
    if value.utcoffset() is None:
        out_of_range(name, "an aware datetime", "one without a time zone")


def check_moment(value: object, name: str) -> None:
    """A datetime that knows its zone and has a form in UTC."""
    check_aware(value, name)
    try:
        value.astimezone(UTC)  # type: ignore[attr-defined]
    except OverflowError:
        out_of_range(name, "an aware datetime of the years 1 to 9999 in UTC", value)


def check_str(value: object, name: str) -> None:
    """A str that UTF-8 can write, of any length."""
    if not isinstance(value, str):
        mistyped(name, "a str", value)
    try:
        value.encode()
    except UnicodeEncodeError:
        out_of_range(name, "a str", "one with a lone surrogate")


def check_bytes(value: object, name: str) -> None:
    """Bytes, or a view or an array of them."""
    if not isinstance(value, bytes | bytearray | memoryview):
        mistyped(name, "bytes", value)


def check_choice(value: object, name: str, choices: Collection[str]) -> None:
    """One of a few words."""
    if not isinstance(value, str):
        mistyped(name, f"one of {', '.join(choices)}", value)
    if value not in choices:
        out_of_range(name, f"one of {', '.join(choices)}", repr(value))


def check_mapping(value: object, name: str) -> None:
    """A mapping."""
    if not isinstance(value, Mapping):
        mistyped(name, "a mapping", value)


def check_items(value: object, name: str, takes: str) -> None:
    """What can be iterated over, but not a text: the characters of that are hardly meant."""
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        mistyped(name, takes, value)


def check_classes(value: object, name: str, takes: str) -> None:
    """Classes, in whatever can be iterated over again."""
    check_items(value, name, takes)
    for item in value:  # type: ignore[attr-defined]
        check_instance(item, name, type, takes)


def check_callable(value: object, name: str) -> None:
    """What can be called."""
    if not callable(value):
        mistyped(name, "a callable", value)


def check_async(value: object, name: str) -> None:
    """An async function, a partial or wrapper of one, or a callable that may give an awaitable.

    A plain function is refused, since it would have its effects before anybody sees that it gives none; of a lambda or
    an object only the call tells.
    """
    takes = "an async function (async def)"
    if not callable(value) or isinstance(value, type):
        mistyped(name, takes, value)
    inner = inspect.unwrap(value.func if isinstance(value, partial) else value)
    if inspect.isroutine(inner) and not inspect.iscoroutinefunction(inner) and inner.__name__ != "<lambda>":
        raise TypeError(f"Invalid {name}: expected {takes}, not the plain function {inner.__qualname__}")


def check_class(value: object, name: str) -> None:
    """A class that ``isinstance`` takes."""
    if not isinstance(value, type) or get_origin(value) is not None:
        mistyped(name, "a class", value)
    try:
        isinstance(None, value)
    except TypeError:
        raise TypeError(f"Invalid {name}: expected a class that isinstance takes, not {value.__qualname__}") from None
