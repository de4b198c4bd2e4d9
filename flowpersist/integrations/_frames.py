"""pandas' frames, series, indexes and scalars to tuples, and back from cells that may hold anything.

::

    frame       = (token, index, columns, (form…), stream, has unique labels, attributes)
    series      = (token, index, name, form, stream, has unique labels, attributes)
    index       = (token, name, form, stream, frequency | nil)
    range       = (name, start, stop, step)
    multi-index = (token, names, levels, stream of codes, sort order | nil)
    attributes  = (key, value, …)

Indexes, names and attributes are ordinary cells.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pandas as pd
import pyarrow as pa

from flowpersist.integrations._columns import (
    codes,
    frequency_text,
    offset,
    pack_values,
    period_text,
    read_columns,
    unpack_values,
    write_columns,
)
from flowpersist.integrations._labels import checked_labels, checked_name, own_level
from flowpersist.integrations._packages import Pair, register_pairs
from flowpersist.integrations._refusals import exactly, malformed, once, spend, unsupported

if TYPE_CHECKING:
    from flowpersist.codec import TypeRegistry

__all__ = ["register"]

Labelled = TypeVar("Labelled", pd.DataFrame, "pd.Series[Any]")

UNITS = frozenset({"s", "ms", "us", "ns"})


def _pack_attributes(attributes: dict[Any, object]) -> tuple[object, ...]:
    if any(type(key) is not str for key in attributes):
        raise unsupported("an attribute whose name is not a str", "give attrs names that are texts")
    # A tuple, and no dict, so that the codec sees a frame that holds itself.
    return tuple([part for item in attributes.items() for part in item])


def _finish(made: Labelled, axes: Iterable[pd.Index[Any]], unique: object, cells: Any) -> Labelled:  # noqa: ANN401
    """The frame or series with its attributes and flags."""
    keys = cells[::2]
    if type(unique) is not bool or any(type(key) is not str for key in keys):
        raise malformed("an attribute has no name")
    made.attrs = dict(zip(keys, cells[1::2], strict=True))
    if unique:
        for axis in axes:
            checked_labels(axis)
        flags: Any = made.flags
        flags.allows_duplicate_labels = False
    return made


def _is_unique(holder: Any) -> bool:  # noqa: ANN401 - a frame or series
    """Whether its labels must be unique, which pandas checks by hashing them."""
    unique = not holder.flags.allows_duplicate_labels
    for axis in holder.axes if unique else ():
        checked_labels(axis)
    return unique


def _index_cell(cell: object) -> pd.Index[Any]:
    if not isinstance(cell, pd.Index):
        raise malformed("expected an index")
    return cell


def _pack_frame(frame: pd.DataFrame) -> tuple[object, ...]:
    columns: list[Any] = []
    forms = tuple([pack_values(frame.iloc[:, number], columns) for number in range(frame.shape[1])])
    stream, attributes = write_columns(columns), _pack_attributes(frame.attrs)
    return (once(), frame.index, frame.columns, forms, stream, _is_unique(frame), attributes)


def _unpack_frame(cell: Any) -> pd.DataFrame:  # noqa: ANN401 - any cell
    token, index, labels, forms, stream, unique, attributes = cell
    spend(token)
    _index_cell(index)
    columns = read_columns(stream)
    series = {number: _series(unpack_values(form, columns), index) for number, form in enumerate(forms)}
    frame = pd.DataFrame(series, index=index, copy=False)
    frame.columns = _index_cell(labels)
    _check_end(columns)
    return _finish(frame, (index, labels), unique, attributes)


def _series(values: Any, index: pd.Index[Any], name: Any = None) -> pd.Series[Any]:  # noqa: ANN401 - any array and cell
    series: pd.Series[Any] = pd.Series(values, index=index, dtype=values.dtype, name=checked_name(name), copy=False)
    if series.dtype != values.dtype:
        raise malformed("a column is of a dtype that pandas does not keep")
    return series


def _check_end(columns: Iterator[object]) -> None:
    if next(columns, None) is not None:
        raise malformed("a stream has a column too many")


def _pack_series(series: pd.Series[Any]) -> tuple[object, ...]:
    columns: list[Any] = []
    form = pack_values(series, columns)
    stream, attributes = write_columns(columns), _pack_attributes(series.attrs)
    return (once(), series.index, checked_name(series.name), form, stream, _is_unique(series), attributes)


def _unpack_series(cell: Any) -> pd.Series[Any]:  # noqa: ANN401 - any cell
    token, index, name, form, stream, unique, attributes = cell
    spend(token)
    columns = read_columns(stream)
    series = _series(unpack_values(form, columns), _index_cell(index), name)
    _check_end(columns)
    return _finish(series, (index,), unique, attributes)


def _pack_index(index: Any) -> tuple[object, ...]:  # noqa: ANN401 - of many classes
    columns: list[Any] = []
    form = pack_values(index, columns)
    frequency = index.freq if isinstance(index, pd.DatetimeIndex | pd.TimedeltaIndex) else None
    told = None if frequency is None else frequency_text(frequency)
    return (once(), checked_name(index.name), form, write_columns(columns), told)


def _unpack_index(cls: type[pd.Index[Any]]) -> Callable[[Any], Any]:
    def load(cell: Any) -> Any:  # noqa: ANN401 - any cell
        token, name, form, stream, frequency = cell
        spend(token)
        columns = read_columns(stream)
        values = unpack_values(form, columns)
        index: Any = pd.Index(values, dtype=values.dtype, name=checked_name(name), copy=False, tupleize_cols=False)
        _check_end(columns)
        if type(index) is not cls or index.dtype != values.dtype:
            raise malformed("an index is of another class than its values")
        return index if frequency is None else _with_frequency(index, offset(frequency))

    return load


def _with_frequency(index: Any, frequency: str) -> Any:  # noqa: ANN401 - the stubs lack the setter
    index.freq = frequency
    return index


def _pack_range(index: pd.RangeIndex) -> tuple[object, ...]:
    return (checked_name(index.name), index.start, index.stop, index.step)


def _unpack_range(cell: Any) -> pd.RangeIndex:  # noqa: ANN401 - any cell
    name, start, stop, step = cell
    return pd.RangeIndex(_whole(start), _whole(stop), _whole(step), name=checked_name(name))


def _pack_multi(index: Any) -> tuple[object, ...]:  # noqa: ANN401 - the stubs lack sortorder
    stream = write_columns([pa.array(one) for one in index.codes])
    checked_labels(index)
    return (once(), tuple(map(checked_name, index.names)), tuple(index.levels), stream, index.sortorder)


def _unpack_multi(cell: Any) -> pd.MultiIndex:  # noqa: ANN401 - any cell
    token, names, levels, stream, sort_order = cell
    spend(token)
    if sort_order is not None:
        _whole(sort_order)
    places: list[Any] = [codes(column) for column in read_columns(stream)]
    parts: list[Any] = [own_level(_index_cell(level)) for level in levels]
    return pd.MultiIndex(parts, places, sort_order, [checked_name(name) for name in names])


def _pack_timestamp(moment: pd.Timestamp) -> tuple[object, ...]:
    return (moment.unit, int(moment.asm8.view(np.int64)), moment.tz, moment.fold)


def _unpack_timestamp(cell: Any) -> pd.Timestamp:  # noqa: ANN401 - any cell
    unit, ticks, zone, fold = cell
    moment = pd.Timestamp(np.datetime64(_whole(ticks), _unit(unit)))
    if isinstance(zone, dt.tzinfo):
        return moment.tz_localize("UTC").tz_convert(zone)
    if zone is not None:
        raise malformed("expected a time zone")
    return moment.replace(fold=fold) if fold else moment


def _whole(cell: object) -> int:
    if type(cell) is not int or not -(2**63) <= cell < 2**63:
        raise malformed("expected a whole number of 64 bits")
    return cell


def _unit(cell: object) -> Any:  # noqa: ANN401 - the stubs know units one by one
    if cell not in UNITS:
        raise malformed("expected the unit of a time")
    return cell


def _pack_timedelta(span: pd.Timedelta) -> tuple[object, ...]:
    return (span.unit, int(span.asm8.view(np.int64)))


def _unpack_timedelta(cell: Any) -> pd.Timedelta:  # noqa: ANN401 - any cell
    unit, ticks = cell
    return pd.Timedelta(np.timedelta64(_whole(ticks), _unit(unit)))


def _unpack_period(cell: Any) -> pd.Period:  # noqa: ANN401 - any cell
    ordinal, frequency = cell
    return pd.Period(ordinal=_whole(ordinal), freq=offset(frequency))


def _scalar(cls: type, load: Callable[[Any], object]) -> Callable[[Any], Any]:
    # Some texts and numbers mean NaT, which is of a class of its own.
    return lambda cell: exactly(cls, load(cell), f"expected a {cls.__name__}")


INDEXES: tuple[type[Any], ...] = (
    pd.Index,
    pd.DatetimeIndex,
    pd.TimedeltaIndex,
    pd.PeriodIndex,
    pd.IntervalIndex,
    pd.CategoricalIndex,
)
PAIRS: tuple[Pair, ...] = (
    (pd.DataFrame, _pack_frame, _unpack_frame),
    (pd.Series, _pack_series, _unpack_series),
    *((cls, _pack_index, _unpack_index(cls)) for cls in INDEXES),
    (pd.RangeIndex, _pack_range, _unpack_range),
    (pd.MultiIndex, _pack_multi, _unpack_multi),
    (pd.Timestamp, _pack_timestamp, _scalar(pd.Timestamp, _unpack_timestamp)),
    (pd.Timedelta, _pack_timedelta, _scalar(pd.Timedelta, _unpack_timedelta)),
    (pd.Period, lambda one: (one.ordinal, period_text(one.freq, one.freqstr)), _scalar(pd.Period, _unpack_period)),
    (pd.Interval, lambda one: (one.left, one.right, one.closed), lambda cell: pd.Interval(*cell)),
    (type(pd.NA), lambda _: None, lambda _: pd.NA),
    (type(pd.NaT), lambda _: None, lambda _: pd.NaT),
)


def register(types: TypeRegistry) -> TypeRegistry:
    """Add frames, series, indexes and scalars to a registry."""
    return register_pairs(types, "pandas", PAIRS)
