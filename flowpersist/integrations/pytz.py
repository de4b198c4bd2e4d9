"""pytz's time zones in a state: ``register(types)``. Needs the extra ``pytz``."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import cache
from typing import Any

from flowpersist.codec import TypeRegistry
from flowpersist.integrations._packages import modules
from flowpersist.integrations._refusals import malformed, unsupported

__all__ = ["register"]

SECOND = timedelta(seconds=1)
DAY = 86_400
#: A zone in one part of the year: its name, its distance from UTC and from winter, and its name then.
PARTS = 4


def register(types: TypeRegistry) -> TypeRegistry:
    """Add pytz's UTC, fixed offsets, and the zones that ``pytz.timezone`` gives, each as ``localize`` chose it.

    The registry is given back. ``ConfigurationError`` where pytz is missing, or one of these classes is registered with
    other arguments.
    """
    pytz, tzinfo = modules("pytz", "pytz", "pytz.tzinfo")
    load = _loaders(pytz)
    found = TypeRegistry()
    found.register(type(pytz.utc), name="pytz.utc", encode=_nothing, decode=load["utc"])
    found.register(type(pytz.FixedOffset(1)), name="pytz.FixedOffset", encode=_minutes, decode=load["fixed"])
    found.register(tzinfo.BaseTzInfo, name="pytz.timezone", encode=_parts_of(pytz), decode=load["zone"])
    types |= found
    return types


def _nothing(_: object) -> str:
    """There is one UTC."""
    return ""


def _minutes(zone: Any) -> object:  # noqa: ANN401 - pytz is imported when it is asked for
    return zone.utcoffset(None) // timedelta(minutes=1)


@cache
def _parts_of(pytz: Any) -> Callable[[Any], object]:  # noqa: ANN401 - as above
    def dump(zone: Any) -> object:  # noqa: ANN401 - as above
        if zone.zone not in pytz.all_timezones_set or type(pytz.timezone(zone.zone)) is not type(zone):
            raise unsupported("a zone that pytz.timezone does not give", "use one that it gives, or a ZoneInfo")
        if not hasattr(zone, "_tzinfos"):
            return zone.zone
        # As pytz pickles it: its object for each part of the year is another one.
        offset, dst, name = zone._utcoffset, zone._dst, zone._tzname  # noqa: SLF001 - nothing else tells it
        return zone.zone, offset // SECOND, dst // SECOND, name

    return dump


@cache
def _loaders(pytz: Any) -> dict[str, Callable[[Any], Any]]:  # noqa: ANN401 - as above
    def utc(nothing: Any) -> Any:  # noqa: ANN401 - as above
        if nothing != "":
            raise malformed("UTC has an offset")
        return pytz.utc

    def fixed(minutes: Any) -> Any:  # noqa: ANN401 - as above
        if type(minutes) is not int or not -DAY < 60 * minutes < DAY:
            raise malformed("an offset is a day or more")
        # pytz keeps each offset in a table for good, so none but these 2,879 get there.
        return pytz.FixedOffset(minutes)

    def zone(parts: Any) -> Any:  # noqa: ANN401 - as above
        name = parts[0] if type(parts) is tuple and len(parts) == PARTS else parts
        if type(name) is not str or name not in pytz.all_timezones_set:
            raise malformed("a time zone is not installed here")
        found = pytz.timezone(name)
        return found if name is parts else _localized(found, *parts[1:])

    return {"utc": utc, "fixed": fixed, "zone": zone}


def _localized(zone: Any, offset: Any, dst: Any, name: Any) -> Any:  # noqa: ANN401 - as above
    if not {int}.issuperset({type(offset), type(dst)}) or max(abs(offset), abs(dst)) >= DAY or type(name) is not str:
        raise malformed("a time zone has an offset of a day or more")
    key = timedelta(seconds=offset), timedelta(seconds=dst), name
    known = getattr(zone, "_tzinfos", {})
    if key in known:
        return known[key]
    # A later database says otherwise. It is made as pytz itself makes it, but not put into its table.
    return type(zone)(key, known) if known else zone
