"""Time zones as texts: a key of the tz database, a fixed offset, or what a registered class of zones is encoded as.

Nothing is looked up by a name in the text but keys of the installed tz database and classes of the reader's registry.
"""

from __future__ import annotations

import datetime as dt
import re
from base64 import b64decode, b64encode
from functools import cache
from typing import Protocol
from zoneinfo import ZoneInfo, available_timezones

from flowpersist.codec.limits import Limits
from flowpersist.codec.packing import PLAIN_TYPES, Cell, pack_cells
from flowpersist.codec.reading import unpack_all
from flowpersist.codec.ready import ready_registry
from flowpersist.codec.refusals import Halted, Refused, malformed
from flowpersist.errors import UnknownType, UnsupportedType

__all__ = [
    "EQUAL_TIMEZONE",
    "MICROSECOND",
    "ZoneClasses",
    "as_kept",
    "as_timezone",
    "denotes_offset",
    "dump_zone",
    "equal_timezone",
    "installed_zones",
    "is_fixed_offset",
    "load_zone",
]

MICROSECOND = dt.timedelta(microseconds=1)
#: Classes of fixed offsets in other packages, by module and name: a copy is the equal ``datetime.timezone``.
FIXED_OFFSETS = frozenset(
    {
        ("pydantic_core._pydantic_core", "TzInfo"),
        ("dateutil.tz.tz", "tzutc"),
        ("dateutil.tz.tz", "tzoffset"),
        ("pytz", "UTC"),
        ("pytz", "_FixedOffset"),
        ("pendulum.tz.timezone", "FixedTimezone"),
    }
)
#: The name in the bytes of what a fixed offset of another package becomes.
EQUAL_TIMEZONE = "datetime.timezone"
#: Names that say no more than the offset does.
OFFSET_NAME = re.compile(r"(UTC)?([+-]\d\d:?\d\d(:\d\d)?)?")
#: The digits of any offset, and a bound on int().
OFFSET_DIGITS = 20
#: Characters of what a registered class of zones is encoded as.
LONGEST = 4096
BOUNDS = Limits(max_bytes=LONGEST)


class ZoneClasses(Protocol):
    """The registered classes, of which some may be classes of zones."""

    def by_class(self, cls: type) -> Cell:
        """What is registered for the class, or for the class of zones that it extends."""
        ...

    def by_name(self, name: str) -> Cell:
        """What is registered under the name."""
        ...


def dump_zone(zone: dt.tzinfo | None, owner: object, types: ZoneClasses | None) -> str:
    """The text for the zone of a datetime or time; ``Refused`` where there is none."""
    if zone is None:
        return ""
    if type(zone) is ZoneInfo and zone.key is not None:
        return f"Z{zone.key}"
    if type(zone) is dt.timezone:
        return f"F{zone.utcoffset(None) // MICROSECOND};{_zone_name(zone)}"
    registration = _registered(zone, types)
    if registration is not None:
        return f"R{_packed(zone, owner, registration)}"
    if is_fixed_offset(type(zone)):
        return dump_zone(equal_timezone(zone), owner, types)
    cls = f"{type(zone).__module__}.{type(zone).__qualname__}"
    remedy = ready_registry(type(zone).__module__.partition(".")[0]) or "register that class"
    raise Refused(owner, f"has a time zone of class {cls}; {remedy}, or use a ZoneInfo or a datetime.timezone")


def _registered(zone: dt.tzinfo, types: ZoneClasses | None) -> Cell:
    """What the user has registered for a zone."""
    found = types.by_class(type(zone)) if types is not None else None
    return None if found is None or found.name == EQUAL_TIMEZONE else found


def load_zone(text: str, types: ZoneClasses | None) -> dt.tzinfo | None:
    """The zone of a text."""
    if not text:
        return None
    if text[0] == "Z":
        return _zone_of(text[1:])
    if text[0] == "R" and types is not None:
        return _unpacked(text[1:], types)
    offset, _, name = text[1:].partition(";")
    if text[0] != "F" or len(offset) > OFFSET_DIGITS:
        raise malformed("a time zone is unreadable")
    span = dt.timedelta(microseconds=int(offset))
    return dt.timezone(span, name[1:]) if name else dt.timezone(span)


def is_fixed_offset(cls: type) -> bool:
    """Whether a class of another package is one of fixed offsets."""
    return (cls.__module__, cls.__qualname__) in FIXED_OFFSETS


def denotes_offset(zone: dt.tzinfo | None, types: ZoneClasses | None = None) -> bool:
    """Whether the offset in ISO 8601 says all that is kept of a zone."""
    if zone is None or zone is dt.UTC:
        return True
    if is_fixed_offset(type(zone)) and _registered(zone, types) is None:
        zone = equal_timezone(zone)
    return type(zone) is dt.timezone and not _zone_name(zone) and not _is_below_a_second(zone.utcoffset(None))


def _is_below_a_second(offset: dt.timedelta) -> bool:
    """Whether it is one that CPython reads in ISO 8601 as none at all."""
    return bool(offset) and abs(offset) < dt.timedelta(seconds=1)


def _zone_name(zone: dt.timezone) -> str:
    """The name that a timezone was given, behind a ``=``; empty for one without."""
    # The constructor's arguments are the only place that tells whether one was given.
    arguments = zone.__reduce__()[1]
    return f"={arguments[1]}" if len(arguments) > 1 else ""


def equal_timezone(zone: dt.tzinfo) -> dt.timezone:
    """The ``datetime.timezone`` of the same offset, and of the same name where that says more than the offset."""
    span: Cell = zone.utcoffset(None)
    name = zone.tzname(None)
    if name is None or OFFSET_NAME.fullmatch(name):
        return dt.timezone(span)
    return dt.timezone(span, name)


def as_kept(one: Cell) -> Cell:
    """What a copy has for an object: the equal timezone of a fixed offset of another package, else the same."""
    return equal_timezone(one) if is_fixed_offset(type(one)) else one


def as_timezone(cell: Cell) -> dt.timezone:
    """What ``equal_timezone`` gave."""
    if type(cell) is not dt.timezone:
        raise malformed("a fixed offset is of another class")
    return cell


@cache
def installed_zones() -> frozenset[str]:
    """The keys of the tz database here: to list them takes some ten milliseconds."""
    return frozenset(available_timezones())


@cache
def _zone_of(key: str) -> ZoneInfo:
    # Only a key of the installed tz database opens its file: a name from elsewhere never reaches a path or an import.
    if key not in installed_zones():
        raise malformed("it names a time zone that is not installed here")
    return ZoneInfo(key)


def _packed(zone: dt.tzinfo, owner: object, registration: Cell) -> str:
    encode = getattr(registration.plan, "encode", None)
    try:
        value = None if encode is None else encode(zone)
    except UnsupportedType as error:
        raise Refused(owner, f"has as its time zone {error}") from error
    except Exception as error:
        reason = f"has a time zone whose encode= function raised {type(error).__name__}"
        raise Refused(owner, reason) from error
    parts = list(value) if type(value) is tuple else [value]
    if encode is None or not PLAIN_TYPES.issuperset(map(type, parts)):
        reason = f"has a time zone of class {registration.name}, which is not registered with an encode= that gives"
        raise Refused(owner, f"{reason} a str, a number or a tuple of such; register it so")
    head = [registration.name, registration.version, type(value) is tuple]
    text = b64encode(pack_cells([*head, *parts])).decode("ascii")
    if len(text) > LONGEST:
        raise Refused(owner, f"has a time zone whose encode= gives more than {LONGEST} characters; return less")
    return text


def _unpacked(text: str, types: ZoneClasses) -> dt.tzinfo:
    try:
        packed = b64decode(text[:LONGEST], validate=True)
        name, version, is_tuple, *parts = unpack_all(memoryview(packed), BOUNDS)
    except ValueError as error:
        raise malformed("a time zone is unreadable") from error
    registration: Cell = types.by_name(name) if type(name) is str and type(version) is int else None
    if (
        registration is None
        or not 1 <= version <= registration.version
        or registration.missing_upgrade(version) is not None
    ):
        raise Halted(
            UnknownType(
                "the bytes hold a time zone of a class that is not registered, or not in this version; register the "
                "class that it was stored with"
            )
        )
    if not hasattr(registration.plan, "decode") or not isinstance(registration.cls, type):
        raise malformed("a time zone is of a class without decode=")
    if is_tuple is not True and len(parts) != 1:
        raise malformed("a time zone is unreadable")
    value = tuple(parts) if is_tuple is True else parts[0]
    zone = registration.decoded(registration.plan, registration.upgrade(value, version))
    if not isinstance(zone, dt.tzinfo):
        raise malformed("a time zone is of another class")
    return zone
