"""dateutil's time zones in a state: ``register(types)``. Needs the extra ``dateutil``."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import cache
from typing import Any

from flowpersist.codec import TypeRegistry
from flowpersist.codec.zones import installed_zones
from flowpersist.integrations._packages import modules
from flowpersist.integrations._refusals import malformed, unsupported

__all__ = ["register"]

SECOND = timedelta(seconds=1)
DAY = 86_400
#: Characters of the rules of a ``tzstr``.
LONGEST_RULES = 64


def register(types: TypeRegistry) -> TypeRegistry:
    """Add dateutil's ``tzutc``, ``tzoffset``, ``tzstr``, and the zones with a name that ``tz.gettz`` gives.

    The registry is given back. The local zone of a machine, a ``tzrange`` and zones of files without a name are
    ``UnsupportedType``, which says what to use. ``ConfigurationError`` where dateutil is missing, or one of these
    classes is registered with other arguments.
    """
    _, tz = modules("dateutil", "dateutil", "dateutil.tz")
    # What all others extend.
    rest = tz.tzlocal.__mro__[1]
    found = TypeRegistry()
    found.register(tz.tzutc, name="dateutil.tz.tzutc", encode=_nothing, decode=_utc_of(tz))
    found.register(tz.tzoffset, name="dateutil.tz.tzoffset", encode=_offset, decode=_made_by(tz))
    found.register(tz.tzstr, name="dateutil.tz.tzstr", encode=_rules_of(tz), decode=_ruled_by(tz))
    found.register(type(tz.gettz("UTC")), name="dateutil.tz.tzfile", encode=_key_of(tz), decode=_named_by(tz))
    found.register(rest, name="dateutil.tz", encode=_refused, decode=_unread)
    types |= found
    return types


def _nothing(_: object) -> str:
    """There is one UTC."""
    return ""


def _offset(zone: Any) -> object:  # noqa: ANN401 - dateutil is imported when it is asked for
    return zone.tzname(None), zone.utcoffset(None) / SECOND


@cache
def _key_of(tz: Any) -> Callable[[Any], str]:  # noqa: ANN401 - as above
    def dump(zone: Any) -> str:  # noqa: ANN401 - as above
        parts = str(getattr(zone, "_filename", None) or "").split("/")
        keys = installed_zones()
        for place in range(len(parts)):
            key = "/".join(parts[place:])
            if key in keys and type(tz.gettz(key)) is type(zone) and tz.gettz(key) == zone:
                return key
        raise unsupported("a zone of dateutil without a name in the tz database", _remedy())

    return dump


@cache
def _rules_of(tz: Any) -> Callable[[Any], object]:  # noqa: ANN401 - as above
    def dump(zone: Any) -> object:  # noqa: ANN401 - as above
        rules = zone._s  # noqa: SLF001 - as its repr has it
        for is_posix in (False, True):
            if len(rules) <= LONGEST_RULES and tz.tzstr(rules, is_posix) == zone:
                return rules, is_posix
        raise unsupported("a tzstr that its own text does not give back", _remedy())

    return dump


def _refused(zone: object) -> object:
    name = type(zone).__qualname__
    what = "the local zone of a machine" if name == "tzlocal" else f"a {name} of dateutil"
    raise unsupported(what, _remedy())


def _remedy() -> str:
    return "use tz.gettz with the name of a zone, such as Europe/Berlin, or a ZoneInfo"


def _unread(_: object) -> object:
    raise malformed("a zone of dateutil that is never written")


@cache
def _utc_of(tz: Any) -> Callable[[Any], Any]:  # noqa: ANN401 - as above
    def load(nothing: Any) -> Any:  # noqa: ANN401 - as above
        if nothing != "":
            raise malformed("UTC has an offset")
        return tz.tzutc()

    return load


@cache
def _made_by(tz: Any) -> Callable[[Any], Any]:  # noqa: ANN401 - as above
    def load(parts: Any) -> Any:  # noqa: ANN401 - as above
        name, seconds = parts
        if type(name) not in {str, type(None)} or type(seconds) is not float or not -DAY < seconds < DAY:
            raise malformed("an offset has another name or length")
        return tz.tzoffset(name, timedelta(seconds=seconds))

    return load


@cache
def _ruled_by(tz: Any) -> Callable[[Any], Any]:  # noqa: ANN401 - as above
    def load(parts: Any) -> Any:  # noqa: ANN401 - as above
        text, is_posix = parts
        if type(text) is not str or len(text) > LONGEST_RULES or type(is_posix) is not bool:
            raise malformed("expected a short text as the rules of a zone")
        return tz.tzstr(text, is_posix)

    return load


@cache
def _named_by(tz: Any) -> Callable[[Any], Any]:  # noqa: ANN401 - as above
    def load(name: Any) -> Any:  # noqa: ANN401 - as above
        # gettz opens any path, and reads rules: only a name of the installed database reaches it.
        if type(name) is not str or name not in installed_zones():
            raise malformed("a time zone is not installed here")
        return tz.gettz(name)

    return load
