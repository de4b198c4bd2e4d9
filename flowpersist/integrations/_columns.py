"""The values of pandas' columns and indexes to Arrow and to cells, and back from cells that may hold anything.

What Arrow has a type for goes into one stream for each frame; what pandas knows about it besides is its form::

    form = numpy's dtype                                                     numbers, bools, and times as whole numbers
         | array                                                             of objects or complex numbers: see _arrays
         | ("masked", dtype) | ("string", storage, "NA" | "nan") | ("arrow",)
         | ("zoned", unit, zone) | ("period", frequency)
         | ("categorical", is ordered, categories) | ("interval", closed, form of the left ends, form of the right ends)
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import pyarrow as pa
from pandas.tseries.frequencies import to_offset

from flowpersist.integrations._arrays import pack, unpack
from flowpersist.integrations._dtypes import parse
from flowpersist.integrations._labels import checked_labels
from flowpersist.integrations._refusals import malformed, unsupported
from flowpersist.integrations._streams import read, write

__all__ = [
    "Form",
    "codes",
    "frequency_text",
    "offset",
    "pack_values",
    "period_text",
    "read_columns",
    "unpack_values",
    "write_columns",
]

#: Tuples and texts, with indexes, zones and elements as ordinary cells.
Form: TypeAlias = Any
#: A numpy or a pandas array.
Values: TypeAlias = Any

LONGEST_FREQUENCY = 64
MASKED: dict[str, Any] = {
    dtype.name: dtype
    for dtype in (
        *(pd.Int8Dtype(), pd.Int16Dtype(), pd.Int32Dtype(), pd.Int64Dtype()),
        *(pd.UInt8Dtype(), pd.UInt16Dtype(), pd.UInt32Dtype(), pd.UInt64Dtype()),
        *(pd.Float32Dtype(), pd.Float64Dtype(), pd.BooleanDtype()),
    )
}
MISSING: dict[str, Any] = {"NA": pd.NA, "nan": np.nan}


def write_columns(columns: Sequence[pa.Array[Any]]) -> bytes:
    """Columns of one length as a stream."""
    batch = pa.RecordBatch.from_arrays(list(columns), names=[str(number) for number in range(len(columns))])
    return write(batch.schema, [batch] if columns else [])


def read_columns(cell: object) -> Iterator[pa.Array[Any]]:
    """What ``write_columns`` wrote."""
    _, batches = read(cell)
    if len(batches) > 1:
        raise malformed("a frame has more than one batch")
    return iter(batches[0].columns if batches else [])


def next_of(columns: Iterator[pa.Array[Any]]) -> pa.Array[Any]:
    """The next column of a stream."""
    column = next(columns, None)
    if column is None:
        raise malformed("a stream has a column too few")
    return column


def pack_values(holder: Values, columns: list[pa.Array[Any]]) -> Form:
    """The form of what a series or an index holds; what Arrow has a type for is appended to ``columns``."""
    if isinstance(holder.dtype, np.dtype):
        return _pack_numpy(holder.to_numpy(), columns)
    rule = _PACKERS.get(type(holder.dtype))
    if holder.dtype.name in MASKED:
        rule = _pack_masked
    if rule is None:
        raise unsupported(f"a column of the dtype {holder.dtype}", "convert it to one of pandas' usual dtypes")
    return rule(holder.array, columns)


def _pack_numpy(values: Values, columns: list[pa.Array[Any]]) -> Form:
    dtype = values.dtype
    if dtype.kind not in "biufmM" or not dtype.isnative or dtype.char == "g":
        return pack(values)
    # Arrow would take the least number of times for null. Nulls are NaT in pandas alone.
    columns.append(pa.array(values.view(np.int64) if dtype.kind in "mM" else values))
    return str(dtype.str)


def _pack_masked(values: Values, columns: list[pa.Array[Any]]) -> Form:
    columns.append(pa.array(values))
    return ("masked", values.dtype.name)


def _pack_string(values: Values, columns: list[pa.Array[Any]]) -> Form:
    columns.append(_whole(pa.array(values)))
    return ("string", values.dtype.storage, "NA" if values.dtype.na_value is pd.NA else "nan")


def _pack_arrow(values: Values, columns: list[pa.Array[Any]]) -> Form:
    columns.append(_whole(pa.array(values)))
    return ("arrow",)


def _whole(values: Any) -> pa.Array[Any]:  # noqa: ANN401 - pandas gives an array or a chunked one
    return values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values


def _pack_zoned(values: Values, columns: list[pa.Array[Any]]) -> Form:
    columns.append(pa.array(values.asi8))
    return ("zoned", values.dtype.unit, values.dtype.tz)


def _pack_period(values: Values, columns: list[pa.Array[Any]]) -> Form:
    columns.append(pa.array(values.asi8))
    return ("period", period_text(values.dtype.freq, values.freqstr))


def _pack_categorical(values: Values, columns: list[pa.Array[Any]]) -> Form:
    columns.append(pa.array(values.codes))
    return ("categorical", values.ordered, checked_labels(values.categories))


def _pack_interval(values: Values, columns: list[pa.Array[Any]]) -> Form:
    return ("interval", values.closed, pack_values(values.left, columns), pack_values(values.right, columns))


_PACKERS: dict[type, Callable[[Values, list[pa.Array[Any]]], Form]] = {
    pd.StringDtype: _pack_string,
    pd.ArrowDtype: _pack_arrow,
    pd.DatetimeTZDtype: _pack_zoned,
    pd.PeriodDtype: _pack_period,
    pd.CategoricalDtype: _pack_categorical,
    pd.IntervalDtype: _pack_interval,
}


def frequency_text(frequency: Any) -> str:  # noqa: ANN401 - one of many classes
    """The text of a frequency; ``UnsupportedType`` where it does not say all about it."""
    return _telling(str(frequency.freqstr), frequency, to_offset)


def period_text(frequency: Any, text: str) -> str:  # noqa: ANN401 - one of many classes
    """The same for the frequency of periods, whose text is another."""
    return _telling(text, frequency, lambda told: pd.PeriodDtype(told).freq)


def _telling(text: str, frequency: object, read_text: Callable[[str], object]) -> str:
    try:
        told = len(text) <= LONGEST_FREQUENCY and read_text(text) == frequency
    except ValueError:
        told = False
    if not told:
        raise unsupported(f"the frequency {text}", "use one of those that pandas knows by name")
    return text


def unpack_values(form: Form, columns: Iterator[pa.Array[Any]]) -> Values:
    """The values of which ``pack_values`` gave this form; an error for all else."""
    if type(form) is str:
        return _unpack_numpy(form, next_of(columns))
    if type(form) is not tuple or not form:
        raise malformed("a column has no known form")
    name, *parts = form
    if type(name) is not str:
        return unpack(form)
    return _UNPACKERS[name](columns, *parts)


def _numbers(column: pa.Array[Any], dtype: np.dtype[Any]) -> Values:
    if column.null_count or column.type != pa.from_numpy_dtype(dtype):
        raise malformed("a column of numbers holds something else")
    return np.array(column.to_numpy(zero_copy_only=False))


def _ticks(column: pa.Array[Any]) -> Values:
    return _numbers(column, np.dtype(np.int64))


def _unpack_numpy(form: str, column: pa.Array[Any]) -> Values:
    dtype = parse(form)
    if dtype.kind not in "biufmM":
        raise malformed("a column is of a dtype that Arrow does not have")
    return _ticks(column).view(dtype) if dtype.kind in "mM" else _numbers(column, dtype)


def _unpack_masked(columns: Iterator[pa.Array[Any]], name: str) -> Values:
    dtype, column = MASKED[name], next_of(columns)
    if column.type != pa.from_numpy_dtype(dtype.numpy_dtype):
        raise malformed("a column is of another type than its dtype")
    mask = np.array(column.is_null().to_numpy(zero_copy_only=False))
    values = np.array(column.fill_null(False if name == "boolean" else 0).to_numpy(zero_copy_only=False))
    return dtype.construct_array_type()(values, mask)


def _unpack_string(columns: Iterator[pa.Array[Any]], storage: Any, missing: str) -> Values:  # noqa: ANN401 - any cell
    column = next_of(columns)
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        raise malformed("a column of texts holds something else")
    dtype: Any = pd.StringDtype(storage, na_value=MISSING[missing])
    return dtype.__from_arrow__(column)


def _unpack_arrow(columns: Iterator[pa.Array[Any]]) -> Values:
    return pd.arrays.ArrowExtensionArray(next_of(columns))


def _unpack_zoned(columns: Iterator[pa.Array[Any]], unit: object, zone: object) -> Values:
    if unit not in {"s", "ms", "us", "ns"} or not isinstance(zone, dt.tzinfo):
        raise malformed("a column of times has no unit or no zone")
    moments = pd.DatetimeIndex(_ticks(next_of(columns)).view(f"M8[{unit}]"))
    return moments.tz_localize("UTC").tz_convert(zone).array


def _unpack_period(columns: Iterator[pa.Array[Any]], frequency: object) -> Values:
    index: Any = pd.PeriodIndex
    return index.from_ordinals(_ticks(next_of(columns)), freq=offset(frequency)).array


def offset(cell: object) -> str:
    """The text of a frequency, fit to be read."""
    if type(cell) is not str or len(cell) > LONGEST_FREQUENCY:
        raise malformed("expected a short text as a frequency")
    return cell


def _unpack_categorical(columns: Iterator[pa.Array[Any]], ordered: object, categories: object) -> Values:
    if not isinstance(categories, pd.Index) or type(ordered) is not bool:
        raise malformed("expected the categories of a column")
    dtype = pd.CategoricalDtype(checked_labels(categories), ordered=ordered)
    return pd.Categorical.from_codes(codes(next_of(columns)), dtype=dtype)


def codes(column: pa.Array[Any]) -> Values:
    """Places in categories or levels, of which pandas checks that they are there."""
    if not pa.types.is_signed_integer(column.type) or column.null_count:
        raise malformed("expected whole numbers as codes")
    return np.array(column.to_numpy(zero_copy_only=False))


def _unpack_interval(columns: Iterator[pa.Array[Any]], closed: Any, left: Form, right: Form) -> Values:  # noqa: ANN401
    return pd.arrays.IntervalArray.from_arrays(
        unpack_values(left, columns), unpack_values(right, columns), closed=closed
    )


_UNPACKERS: dict[str, Callable[..., Values]] = {
    "masked": _unpack_masked,
    "string": _unpack_string,
    "arrow": _unpack_arrow,
    "zoned": _unpack_zoned,
    "period": _unpack_period,
    "categorical": _unpack_categorical,
    "interval": _unpack_interval,
}
