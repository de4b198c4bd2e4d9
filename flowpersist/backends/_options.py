"""What the options of backends take, whichever backend has them: one name means the same everywhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Final

from flowpersist.backends._url import check_prefix
from flowpersist.errors.arguments import (
    check_callable,
    check_duration,
    check_flag,
    check_instance,
    check_mapping,
    check_optional,
    check_size,
    check_str,
    check_whole,
    out_of_range,
)

__all__ = ["check_options"]

_HOUR: Final = timedelta(hours=1)


def _offset(value: object, name: str) -> None:
    check_instance(value, name, timedelta, "a timedelta")


def _path(value: object, name: str) -> None:
    check_instance(value, name, (str, Path), "a path, as a str or a Path")


def _prefix(value: object, name: str) -> None:
    check_instance(value, name, str, "a str of a-z, then up to 31 of a-z, 0-9 and _")
    check_prefix(str(value))


def _limit(value: object, name: str) -> None:
    takes = "a timedelta above 0 and at most an hour"
    check_instance(value, name, timedelta, takes)
    if not timedelta(0) < value <= _HOUR:  # type: ignore[operator]
        out_of_range(name, takes, value)


def _patience(value: object, name: str) -> None:
    takes = "a timedelta from 0 to an hour"
    check_instance(value, name, timedelta, takes)
    if not timedelta(0) <= value <= _HOUR:  # type: ignore[operator]
        out_of_range(name, takes, value)


def _connections(value: object, name: str) -> None:
    check_whole(value, name, most=10_000)


_CHECKS: Final[Mapping[str, Callable[[object, str], None]]] = MappingProxyType(
    {
        "acquire_timeout": _limit,
        "allow_unsafe_ferretdb": check_flag,
        "busy_timeout": _patience,
        "client_class": check_callable,
        "clock": check_callable,
        "clock_offset": _offset,
        "cluster": check_flag,
        "command_timeout": _limit,
        "connect_timeout": _limit,
        "database": lambda value, name: check_optional(value, name, check_str),
        "directory": _path,
        "entropy": check_callable,
        "from_bytes": check_size,
        "grace": check_duration,
        "graph": lambda value, name: check_optional(value, name, check_mapping),
        "notify": check_flag,
        "path": _path,
        "pool_size": _connections,
        "pool_timeout": _limit,
        "prefix": _prefix,
        "statement_cache": check_flag,
        "store": check_str,
        "synchronous": check_str,
        "timeout": _limit,
    }
)


def check_options(**given: object) -> None:
    """Refuse options that make no sense, each by its name."""
    for name, value in given.items():
        _CHECKS[name](value, name)
