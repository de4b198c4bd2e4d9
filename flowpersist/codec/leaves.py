"""The leaves beyond MessagePack's own: values without identity, each class with a pair of functions over whole columns.

``dump`` turns a column of one class into ``width`` plain values for each; ``load`` is its inverse, and runs on bytes
from anywhere: it builds values of the standard library only, from checked parts, in time linear in their size.
"""

from __future__ import annotations

import datetime as dt
import re
import warnings
from collections import deque
from decimal import Decimal
from fractions import Fraction
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from itertools import chain, repeat
from operator import attrgetter
from pathlib import PosixPath, PurePosixPath, PureWindowsPath, WindowsPath
from types import EllipsisType
from typing import TYPE_CHECKING
from uuid import UUID, SafeUUID
from zoneinfo import ZoneInfo

from attrs import frozen

from flowpersist.codec.packing import Cell
from flowpersist.codec.refusals import Refused, malformed
from flowpersist.codec.zones import MICROSECOND, denotes_offset, dump_zone, load_zone
from flowpersist.keys.suspension_key import SuspensionId, SuspensionKey

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from flowpersist.codec.zones import ZoneClasses

__all__ = ["ABSENT", "LEAVES", "LEAVES_BY_CODE", "Absent", "Leaf"]


class Absent:
    """The one value ``ABSENT`` stands for a declared field that an object does not have."""


ABSENT = Absent()
# What a pattern may mean in a later Python was said where it was written. Said here, nobody could mend it, and showing
# it opens a source file.
warnings.filterwarnings("ignore", category=FutureWarning, module=rf"{re.escape(__name__)}\Z")
#: The flags that ``re.compile`` takes for a pattern; DEBUG prints, TEMPLATE is gone.
PATTERN_FLAGS = int(re.ASCII | re.IGNORECASE | re.LOCALE | re.MULTILINE | re.DOTALL | re.UNICODE | re.VERBOSE)
ID_BYTES = 16
SECRET_BYTES = 32


@frozen
class Leaf:
    """How a class without identity goes: its code on the wire, plain values for each, and the functions over a
    column.
    """

    cls: type
    code: int
    width: int
    dump: Callable[..., list[Cell]]
    load: Callable[..., list[Cell]]
    #: Whether both functions take the registered classes besides, among which may be classes of zones.
    is_zoned: bool = False

    def dumped(self, column: list[Cell], types: ZoneClasses) -> list[Cell]:
        """Plain values for each of a column."""
        return self.dump(column, types) if self.is_zoned else self.dump(column)

    def loaded(self, cells: list[Cell], types: ZoneClasses) -> list[Cell]:
        """The column of these plain values."""
        return self.load(cells, types) if self.is_zoned else self.load(cells)


def _each(function: Callable[[Cell], Cell]) -> Callable[[list[Cell]], list[Cell]]:
    return lambda column: list(map(function, column))


def _expand(function: Callable[[Cell], Iterable[Cell]]) -> Callable[[list[Cell]], list[Cell]]:
    return lambda column: list(chain.from_iterable(map(function, column)))


def _gather(width: int, function: Callable[..., Cell]) -> Callable[[list[Cell]], list[Cell]]:
    return lambda cells: list(map(function, *(cells[offset::width] for offset in range(width))))


def _all_of(column: list[Cell], cls: type) -> list[Cell]:
    if not {cls}.issuperset(map(type, column)):
        raise malformed("a part of a leaf is of a wrong class")
    return column


def _checked(value: Cell, *classes: type) -> Cell:
    if type(value) not in classes:
        raise malformed("a part of a leaf is of a wrong class")
    return value


def _text(value: Cell) -> str:
    text: str = _checked(value, str)
    return text


def _whole(value: Cell) -> int:
    number: int = _checked(value, int)
    return number


def _dump_moment(value: dt.datetime | dt.time, types: ZoneClasses | None) -> str:
    if value.tzinfo is None and not value.fold:
        return value.isoformat()
    return f"{value.replace(tzinfo=None).isoformat()};{value.fold};{dump_zone(value.tzinfo, value, types)}"


def _dump_moments(cls: type[dt.datetime | dt.time]) -> Callable[..., list[Cell]]:
    def dump(column: list[Cell], types: ZoneClasses | None = None) -> list[Cell]:
        # By identity: a named zone equals an unnamed one of the same offset.
        zones = {id(zone): zone for zone in map(_tzinfo, column)}
        if all(denotes_offset(zone, types) for zone in zones.values()) and not any(map(_fold, column)):
            return list(map(cls.isoformat, column))
        return [_dump_moment(value, types) for value in column]

    return dump


def _load_moments(cls: type[dt.datetime | dt.time]) -> Callable[..., list[Cell]]:
    def load_all(column: list[Cell], types: ZoneClasses | None = None) -> list[Cell]:
        texts = _all_of(column, str)
        zones: dict[str, dt.tzinfo | None] = {}

        def load(cell: str) -> dt.datetime | dt.time:
            moment, _, rest = cell.partition(";")
            plain = cls.fromisoformat(moment)
            if not rest:
                return plain
            text = rest[2:]
            if text not in zones:
                zones[text] = load_zone(text, types)
            return plain.replace(fold=int(rest[:1]), tzinfo=zones[text])

        return list(map(load if any(";" in text for text in texts) else cls.fromisoformat, texts))

    return load_all


_tzinfo = attrgetter("tzinfo")
_fold = attrgetter("fold")
_int = attrgetter("int")


def _dump_uuids(column: list[Cell]) -> list[Cell]:
    to_bytes: Cell = int.to_bytes
    return list(map(to_bytes, map(_int, column), repeat(ID_BYTES), repeat("big")))


def _load_uuids(column: list[Cell]) -> list[Cell]:
    if not {ID_BYTES}.issuperset(map(len, _all_of(column, bytes))):
        raise malformed("a UUID has a wrong length")
    # Not by the constructor, which takes ten times as long to look at arguments that are known to be right.
    made = list(map(object.__new__, repeat(UUID, len(column))))
    from_bytes: Cell = int.from_bytes
    deque(map(object.__setattr__, made, repeat("int"), map(from_bytes, column, repeat("big"))), maxlen=0)
    deque(map(object.__setattr__, made, repeat("is_safe"), repeat(SafeUUID.unknown)), maxlen=0)
    return made


def _load_fraction(numerator: Cell, denominator: Cell) -> Fraction:
    if _whole(denominator) <= 0:
        raise malformed("a fraction's denominator is not positive")
    # Not by the constructor: its greatest common divisor takes quadratic time, and what was dumped is in lowest terms.
    fraction = object.__new__(Fraction)
    fraction._numerator = _whole(numerator)  # type: ignore[attr-defined]
    fraction._denominator = denominator  # type: ignore[attr-defined]
    return fraction


def _dump_pattern(pattern: re.Pattern[Cell]) -> tuple[str | bytes, int]:
    return (pattern.pattern, int(pattern.flags & PATTERN_FLAGS))


def _load_pattern(text: Cell, flags: Cell) -> re.Pattern[Cell]:
    if _whole(flags) & ~PATTERN_FLAGS:
        raise malformed("a regular expression has an unknown flag")
    pattern: re.Pattern[Cell] = re.compile(_checked(text, str, bytes), flags)
    return pattern


def _dump_windows_path(path: PureWindowsPath) -> str:
    # CPython 3.11 writes some odd ones ("b:.") as the text of another path.
    if type(path)(str(path)) != path:
        raise Refused(path, "is a Windows path whose text is that of another one; use one in its usual form")
    return str(path)


def _dump_key(key: SuspensionKey) -> bytes:
    return key.id.value + key.secret + key.prefix.encode()


def _load_key(cell: Cell) -> SuspensionKey:
    data: bytes = _checked(cell, bytes)
    end = ID_BYTES + SECRET_BYTES
    return SuspensionKey(id=SuspensionId(data[:ID_BYTES]), secret=data[ID_BYTES:end], prefix=data[end:].decode())


def _texts(cls: type, code: int, load: Callable[[str], Cell], dump: Callable[[Cell], str] = str) -> Leaf:
    return Leaf(cls, code, 1, _each(dump), lambda column: list(map(load, _all_of(column, str))))


def _zone_cell(zone: Cell) -> str:
    return dump_zone(zone, zone, None)


def _load_zone(text: str) -> dt.tzinfo | None:
    return load_zone(text, None)


#: The codes are part of the wire format: specs/codec/format.md lists them. They are never used anew.
LEAVES: dict[type, Leaf] = {
    leaf.cls: leaf
    for leaf in (
        Leaf(Absent, 1, 1, _each(lambda _: None), _each(lambda _: ABSENT)),
        Leaf(EllipsisType, 2, 1, _each(lambda _: None), _each(lambda _: ...)),
        Leaf(complex, 3, 2, _expand(lambda z: (z.real, z.imag)), _gather(2, complex)),
        Leaf(dt.datetime, 4, 1, _dump_moments(dt.datetime), _load_moments(dt.datetime), is_zoned=True),
        _texts(dt.date, 5, dt.date.fromisoformat, dt.date.isoformat),
        Leaf(dt.time, 6, 1, _dump_moments(dt.time), _load_moments(dt.time), is_zoned=True),
        Leaf(
            dt.timedelta,
            7,
            1,
            _each(lambda span: span // MICROSECOND),
            _each(lambda cell: dt.timedelta(microseconds=_whole(cell))),
        ),
        _texts(dt.timezone, 8, _load_zone, _zone_cell),
        _texts(ZoneInfo, 9, _load_zone, _zone_cell),
        Leaf(UUID, 10, 1, _dump_uuids, _load_uuids),
        _texts(Decimal, 11, Decimal),
        Leaf(Fraction, 12, 2, _expand(lambda value: (value.numerator, value.denominator)), _gather(2, _load_fraction)),
        Leaf(range, 13, 3, _expand(lambda value: (value.start, value.stop, value.step)), _gather(3, range)),
        Leaf(re.Pattern, 14, 2, _expand(_dump_pattern), _gather(2, _load_pattern)),
        _texts(PurePosixPath, 15, PurePosixPath),
        _texts(PureWindowsPath, 16, PureWindowsPath, _dump_windows_path),
        _texts(PosixPath, 17, PosixPath),
        _texts(WindowsPath, 18, WindowsPath, _dump_windows_path),
        _texts(IPv4Address, 19, IPv4Address),
        _texts(IPv6Address, 20, IPv6Address),
        _texts(IPv4Network, 21, IPv4Network),
        _texts(IPv6Network, 22, IPv6Network),
        _texts(IPv4Interface, 23, IPv4Interface),
        _texts(IPv6Interface, 24, IPv6Interface),
        Leaf(
            SuspensionId,
            25,
            1,
            _each(lambda value: value.value),
            _each(lambda cell: SuspensionId(_checked(cell, bytes))),
        ),
        Leaf(SuspensionKey, 26, 1, _each(_dump_key), _each(_load_key)),
    )
}
LEAVES_BY_CODE: dict[int, Leaf] = {leaf.code: leaf for leaf in LEAVES.values()}
