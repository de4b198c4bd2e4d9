"""Immutable classes of the standard library that are leaves, and what a subclass of each is read as and made of.

Each is read by its own class's parts, whatever the subclass overrides, and made by that class's ``__new__``.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from pathlib import Path, PosixPath, PurePath, PurePosixPath, PureWindowsPath, WindowsPath
from typing import Final
from uuid import UUID, SafeUUID

from attrs import frozen

from flowpersist.codec.packing import Cell

__all__ = ["SCALARS", "Scalar"]


@frozen
class Scalar:
    """``plain`` is the class of the value that ``read`` gives for an object of a subclass; ``make`` takes the subclass
    and that value.
    """

    plain: type
    read: Callable[[Cell], Cell]
    make: Callable[[type, Cell], Cell]


def _parts(cls: type, *names: str) -> Callable[[Cell], list[Cell]]:
    places = [getattr(cls, name) for name in names]
    return lambda one: [place.__get__(one) for place in places]


_of_date = _parts(dt.date, "year", "month", "day")
_of_moment = _parts(dt.datetime, "year", "month", "day", "hour", "minute", "second", "microsecond", "tzinfo")
_of_time = _parts(dt.time, "hour", "minute", "second", "microsecond", "tzinfo")
_of_span = _parts(dt.timedelta, "days", "seconds", "microseconds")
_of_fraction = _parts(Fraction, "_numerator", "_denominator")
_fold_of_moment: Cell = dt.datetime.fold
_fold_of_time: Cell = dt.time.fold
_number_of: Cell = vars(UUID)["int"]


def _moment(cls: type, one: Cell) -> Cell:
    return dt.datetime.__new__(cls, *_of_moment(one), fold=_fold_of_moment.__get__(one))


def _time(cls: type, one: Cell) -> Cell:
    return dt.time.__new__(cls, *_of_time(one), fold=_fold_of_time.__get__(one))


def _fraction(cls: type, one: Cell) -> Cell:
    # Not by the constructor, whose greatest common divisor takes quadratic time.
    made: Cell = object.__new__(cls)
    for name, part in zip(("_numerator", "_denominator"), _of_fraction(one), strict=True):
        object.__setattr__(made, name, part)
    return made


def _uuid(cls: type, one: Cell) -> Cell:
    made: Cell = object.__new__(cls)
    object.__setattr__(made, "int", _number_of.__get__(one))
    object.__setattr__(made, "is_safe", SafeUUID.unknown)
    return made


def _path(base: type, plain: type) -> Scalar:
    make: Cell = base.__new__
    # From CPython 3.12 on it is not __new__ that takes the text.
    fill: Cell = vars(PurePath).get("__init__")

    def made(cls: type, one: Cell) -> Cell:
        text = str(one)
        path = make(cls, text)
        if fill is not None:
            fill(path, text)
        return path

    return Scalar(plain, lambda one: plain(PurePath.__str__(one)), made)


_MOMENT: Final = Scalar(dt.datetime, lambda one: _moment(dt.datetime, one), _moment)
#: By the class that a registered class extends.
SCALARS: dict[type, Scalar] = {
    dt.datetime: _MOMENT,
    dt.date: Scalar(
        dt.date, lambda one: dt.date(*_of_date(one)), lambda cls, one: dt.date.__new__(cls, *_of_date(one))
    ),
    dt.time: Scalar(dt.time, lambda one: _time(dt.time, one), _time),
    dt.timedelta: Scalar(
        dt.timedelta,
        lambda one: dt.timedelta(*_of_span(one)),
        lambda cls, one: dt.timedelta.__new__(cls, *_of_span(one)),
    ),
    Decimal: Scalar(Decimal, Decimal, Decimal.__new__),
    Fraction: Scalar(Fraction, lambda one: _fraction(Fraction, one), _fraction),
    UUID: Scalar(UUID, lambda one: _uuid(UUID, one), _uuid),
    **{cls: _path(cls, cls) for cls in (PurePosixPath, PureWindowsPath, PosixPath, WindowsPath)},
    # From CPython 3.12 on these two may be extended too.
    Path: _path(Path, type(Path())),
    PurePath: _path(PurePath, type(PurePath())),
}
