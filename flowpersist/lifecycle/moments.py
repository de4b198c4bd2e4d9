"""Moments that can be reckoned with: in UTC, and not after the end of the calendar."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

__all__ = ["END", "TICK", "in_utc", "later"]

#: Time's changes happen so much later than the last moment before them.
TICK: Final = timedelta(microseconds=1)
#: The last moment that differs from never: two days before the end of the calendar, so that any zone can show it.
END: Final = datetime.max.replace(tzinfo=UTC) - timedelta(days=2)


def later(moment: datetime, pause: timedelta) -> datetime:
    """``moment + pause``, or ``END`` where the calendar ends before."""
    try:
        return min(moment + pause, END)
    except OverflowError:
        return END


def in_utc(moment: datetime) -> datetime:
    """An aware datetime in UTC, within what can be reckoned with; one of a subclass as a datetime."""
    try:
        utc = moment.astimezone(UTC)
        return min(datetime.combine(utc.date(), utc.time(), UTC), END)
    except OverflowError:
        return END if moment.year > 1 else datetime.min.replace(tzinfo=UTC)
