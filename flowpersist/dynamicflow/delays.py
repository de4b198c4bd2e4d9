"""How long a delay is: its fields as they are written, or as references give them."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Final

__all__ = ["moment_of", "problem_of"]

#: About 300 years: the longest time that timedelta and deadlines support.
_MAX_SECONDS: Final = 10**10


def problem_of(name: str, value: object) -> str | None:
    """What was expected for a value of ``seconds`` or ``until`` that is none; None if it is good."""
    if name == "seconds":
        return None if _is_length(value) else f"a number of seconds from 0 to {_MAX_SECONDS}"
    return None if _moment(value) is not None else "a time with its offset, such as 2027-01-31T17:00:00+01:00"


def _is_length(value: object) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(value) and 0 <= value <= _MAX_SECONDS  # type: ignore[arg-type, operator]


def moment_of(value: object) -> datetime:
    """The time that a good ``until`` means."""
    found = _moment(value)
    if found is None:
        msg = f"no time: {value!r}"
        raise ValueError(msg)
    return found


def _moment(value: object) -> datetime | None:
    try:
        found = datetime.fromisoformat(value) if isinstance(value, str) else value
        return found.astimezone(UTC) if isinstance(found, datetime) and found.utcoffset() is not None else None
    except (ValueError, OverflowError):
        return None
