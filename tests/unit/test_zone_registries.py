"""Zones of dateutil and pytz come back as they were: the same instant, offset and name."""

from __future__ import annotations

import datetime as dt
import sys
from pathlib import Path
from typing import Any

import pytest
import pytz
from dateutil import tz

from flowpersist.codec import Codec, TypeRegistry
from flowpersist.errors import ConfigurationError, PersistenceError, UnknownType, UnsupportedType
from flowpersist.integrations import dateutil as of_dateutil
from flowpersist.integrations import pytz as of_pytz

TYPES = of_pytz.register(of_dateutil.register(TypeRegistry()))
CODEC = Codec(TYPES, verify=True)
SUMMER, WINTER = dt.datetime(2026, 7, 1, 12), dt.datetime(2026, 1, 1, 12)  # noqa: DTZ001 - zones are put on
BERLIN = "Europe/Berlin"

DATEUTIL: dict[str, Any] = {
    "utc": tz.tzutc(),
    "offset": tz.tzoffset("CET", 3600),
    "offset without a name": tz.tzoffset(None, -9000),
    "odd offset": tz.tzoffset("X", dt.timedelta(hours=1, seconds=7)),
    "zone": tz.gettz(BERLIN),
    "zone of the south": tz.gettz("Australia/Lord_Howe"),
    "UTC by name": tz.gettz("UTC"),
    "rules": tz.tzstr("EST5EDT"),
    "rules by name": tz.gettz("EST5EDT4,M4.1.0,M10.5.0"),
    "rules of POSIX": tz.tzstr("UTC+3", posix_offset=True),
}
PYTZ: dict[str, Any] = {
    "utc": pytz.UTC,
    "zone": pytz.timezone(BERLIN),
    "zone without summers": pytz.timezone("Etc/GMT+5"),
    "offset": pytz.FixedOffset(90),
    "offset back": pytz.FixedOffset(-720),
    "no offset": pytz.FixedOffset(0),
}


def placed(zone: Any, naive: dt.datetime) -> dt.datetime:
    return zone.localize(naive) if hasattr(zone, "localize") else naive.replace(tzinfo=zone)


def is_same(copy: dt.datetime, moment: dt.datetime) -> bool:
    one, other = ((one, one.utcoffset(), one.tzname(), one.dst(), one.fold) for one in (copy, moment))
    return one == other and copy.replace(tzinfo=None) == moment.replace(tzinfo=None)


@pytest.mark.parametrize("naive", [SUMMER, WINTER, dt.datetime(1910, 1, 1), dt.datetime(2026, 10, 25, 2, 30, fold=1)])  # noqa: DTZ001
@pytest.mark.parametrize(
    "zone", [*DATEUTIL.values(), *PYTZ.values()], ids=[*DATEUTIL, *(f"pytz {one}" for one in PYTZ)]
)
def test_a_moment_comes_back_with_its_zone(zone, naive):
    moment = placed(zone, naive)
    for value in ([moment], [moment, placed(zone, WINTER)], {"at": moment, "clock": moment.timetz()}, [moment] * 100):
        copies = CODEC.decode(CODEC.encode(value).unwrap()).unwrap()
        copy = copies["at"] if isinstance(copies, dict) else copies[0]
        assert is_same(copy, moment)
        assert type(copy.tzinfo) is type(moment.tzinfo)
    assert is_same(copies[-1] + dt.timedelta(days=180), moment + dt.timedelta(days=180))


@pytest.mark.parametrize(
    "zone", [*DATEUTIL.values(), *PYTZ.values()], ids=[*DATEUTIL, *(f"pytz {one}" for one in PYTZ)]
)
def test_a_zone_is_a_value(zone):
    copy, again = CODEC.decode(CODEC.encode([zone, zone]).unwrap()).unwrap()
    assert copy is again
    assert is_same(placed(copy, SUMMER), placed(zone, SUMMER))


def test_a_zone_of_an_older_database_keeps_its_offset_and_adds_nothing_to_the_table():
    zone = pytz.timezone(BERLIN)
    other = type(zone)((dt.timedelta(minutes=54), dt.timedelta(0), "OLD"), zone._tzinfos)
    moment = other.localize(SUMMER).replace(tzinfo=other)
    count = len(zone._tzinfos)
    copy = CODEC.decode(CODEC.encode([moment]).unwrap()).unwrap()[0]
    assert (copy.utcoffset(), copy.tzname()) == (dt.timedelta(minutes=54), "OLD")
    assert len(zone._tzinfos) == count


class Files(tz.tzlocal):
    pass


@pytest.mark.parametrize(
    ("zone", "reason"),
    [
        (tz.tzlocal(), "the local zone of a machine"),
        (tz.tzrange("CET", 3600), "a tzrange of dateutil"),
        (Files(), "a Files of dateutil"),
        (type(pytz.timezone(BERLIN))((dt.timedelta(0), dt.timedelta(0), "x"), {}), None),
    ],
    ids=["local", "range", "subclass", "pytz"],
)
def test_what_has_no_name_is_refused_with_the_remedy(zone, reason):
    if reason is None:
        zone.zone = "Mars/Olympus"
        reason = "a zone that pytz.timezone does not give"
    for value in (WINTER.replace(tzinfo=zone), {"zone": zone}):
        error = Codec(TYPES).encode([value]).failure()
        assert isinstance(error, UnsupportedType)
        assert f"{reason} can't be kept; use " in error.message


@pytest.mark.skipif(sys.platform == "win32", reason="it reads a file")
def test_a_zone_of_a_file_without_a_name_is_refused(tmp_path):
    file = tmp_path / "zone"
    file.write_bytes(Path(tz.gettz(BERLIN)._filename).read_bytes())
    zone = tz.tzfile(str(file)) if not hasattr(tz.gettz(BERLIN), "key") else tz.gettz(str(file))
    error = Codec(TYPES).encode([WINTER.replace(tzinfo=zone)]).failure()
    assert "without a name in the tz database" in error.message


@pytest.mark.parametrize(
    ("zone", "name"), [(tz.gettz(BERLIN), "dateutil"), (pytz.timezone(BERLIN), "pytz")], ids=["dateutil", "pytz"]
)
def test_without_a_registry_the_error_names_it(zone, name):
    line = f"from flowpersist.integrations import {name}; {name}.register(types)"
    for value in (WINTER.replace(tzinfo=zone), zone):
        assert line in Codec().encode([value]).failure().message


def test_a_reader_without_the_registry_says_so():
    data = CODEC.encode([WINTER.replace(tzinfo=tz.gettz(BERLIN))]).unwrap()
    assert isinstance(Codec().decode(data).failure(), UnknownType)


def test_registering_again_changes_nothing_and_a_zone_of_the_users_stays():
    count = len(TYPES)
    of_pytz.register(of_dateutil.register(TYPES))
    assert len(TYPES) == count
    types = TypeRegistry()
    types.register(Files, encode=lambda _: "mine", decode=lambda _: Files())
    copy = Codec(of_dateutil.register(types)).decode(Codec(types).encode([Files()]).unwrap()).unwrap()
    assert type(copy[0]) is Files


def test_a_package_that_is_missing_is_named(monkeypatch):
    for name in ("dateutil", "pytz"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "dateutil.tz")
    with pytest.raises(ConfigurationError, match=r"needs dateutil: pip install 'flowpersist\[dateutil\]'"):
        of_dateutil.register(TypeRegistry())
    with pytest.raises(ConfigurationError, match=r"needs pytz: pip install 'flowpersist\[pytz\]'"):
        of_pytz.register(TypeRegistry())


NAMES = (
    "dateutil.tz.tzutc",
    "dateutil.tz.tzoffset",
    "dateutil.tz.tzstr",
    "dateutil.tz.tzfile",
    "dateutil.tz",
    "pytz.utc",
)
HOSTILE: tuple[Any, ...] = (
    *("/etc/passwd", "../../etc/passwd", ":/etc/passwd", "", None, 7, 10**30, (), ("a", 1.0), ("a", float("nan"))),
    *(("x" * 1000, False), ("Europe/Berlin", 10**9, 0, "x"), ("Europe/Berlin", 0, 0, None), (None, 1e300)),
    *(("Etc/GMT+5", 0, 0, "x"), ("Mars", 1, 1, "x"), "EST5EDT", ("EST5EDT", 1)),
)


@pytest.mark.parametrize("value", HOSTILE, ids=range(len(HOSTILE)))
@pytest.mark.parametrize("name", [*NAMES, "pytz.FixedOffset", "pytz.timezone"])
def test_hostile_zones_are_errors_or_zones(name, value):
    class Zone(dt.tzinfo):
        """It is written under the name of another."""

    forged = TypeRegistry()
    forged.register(Zone, name=name, encode=lambda _: value, decode=lambda _: Zone())
    for state in ([WINTER.replace(tzinfo=Zone())], [Zone()]):
        result = Codec(TYPES).decode(Codec(forged).encode(state).unwrap())
        if isinstance(result.swap().value_or(None), PersistenceError):
            continue
        (made,) = result.unwrap()
        zone = made if isinstance(made, dt.tzinfo) else made.tzinfo
        assert abs(zone.utcoffset(WINTER)) < dt.timedelta(days=1)
