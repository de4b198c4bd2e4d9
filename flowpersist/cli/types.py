"""Types of option values: durations, times, and the channels of answers."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

import click

from flowpersist.errors import ConfigurationError
from flowpersist.inputs.people import Via
from flowpersist.settings import parse_duration

__all__ = ["CHANNEL", "DURATION", "MOMENT"]


class _Duration(click.ParamType[timedelta]):
    """A duration such as 90s, 30m, 12h or 7d."""

    name = "duration"

    def convert(self, value: str | timedelta, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """Convert a duration; click's own error for an invalid one."""
        if isinstance(value, timedelta):
            return value
        found = parse_duration(value)
        if found is None:
            self.fail("expected a duration such as 90s, 30m, 12h or 7d", param, ctx)
        return found


class _Moment(click.ParamType[datetime]):
    """A time in ISO 8601 with its offset from UTC."""

    name = "time"

    def convert(self, value: str | datetime, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Convert a time; click's own error for an invalid one, or one without an offset."""
        if isinstance(value, datetime):
            return value
        try:
            found = datetime.fromisoformat(value)
        except ValueError:
            found = None
        if found is None or found.tzinfo is None:
            self.fail("expected a time with its offset, such as 2027-01-31T17:00+01:00", param, ctx)
        return found


class _Channel(click.ParamType[Via]):
    """How an answer came: a channel, and after a colon the id of its delivery there."""

    name = "channel"

    def convert(self, value: str | Via, param: click.Parameter | None, ctx: click.Context | None) -> Via:
        """Convert a channel; click's own error for an invalid one."""
        if isinstance(value, Via):
            return value
        channel, colon, delivery = value.partition(":")
        try:
            return Via(channel, delivery if colon else None)
        except ConfigurationError as error:
            self.fail(f"expected CHANNEL or CHANNEL:DELIVERY, such as email or slack:msg-17: {error}", param, ctx)


CHANNEL: Final = _Channel()
DURATION: Final = _Duration()
MOMENT: Final = _Moment()
