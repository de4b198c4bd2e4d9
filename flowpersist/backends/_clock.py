"""Times as stores keep them: whole microseconds since 1970-01-01T00:00:00Z, in integers, so that nothing is rounded."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Final, TypeAlias, TypeVar

__all__ = ["Clock", "from_micros", "host_clock", "timed", "to_micros"]

T = TypeVar("T")
Clock: TypeAlias = Callable[[], datetime]
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


def host_clock() -> datetime:
    """The time of this machine."""
    return datetime.now(UTC)


def to_micros(moment: datetime) -> int:
    """Microseconds since the epoch of an aware datetime."""
    return (moment - _EPOCH) // _MICROSECOND


def from_micros(micros: int) -> datetime:
    """The UTC datetime of so many microseconds since the epoch; ``OverflowError`` outside the years 1 to 9999,
    ``TypeError`` for anything but an int.
    """
    if type(micros) is not int:
        raise TypeError("microseconds are an int")
    return _EPOCH + timedelta(microseconds=micros)


async def timed(asking: Awaitable[T]) -> tuple[T, timedelta]:
    """What is awaited, and how long that took."""
    started = time.monotonic()
    return await asking, timedelta(seconds=time.monotonic() - started)
