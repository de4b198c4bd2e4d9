"""Frames, series, indexes and scalars of pandas come back as they were, or are refused; bytes do no harm."""

from __future__ import annotations

import datetime as dt
import time
import tracemalloc
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import attrs
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from returns.result import Success

from flowpersist.codec import Codec, TypeRegistry
from flowpersist.errors import MalformedPayload, PersistenceError, UnknownType, UnsupportedType
from flowpersist.integrations import numpy, pandas

CODEC = Codec(types=numpy.register(pandas.register(TypeRegistry())))
ROWS = 4
BERLIN = ZoneInfo("Europe/Berlin")
DAYS = pd.to_datetime(["2020-10-25", None, "1969-12-31T23:59:59.123456789", "2100"], format="ISO8601")


def copied(value: Any) -> Any:
    return CODEC.decode(CODEC.encode(value).unwrap()).unwrap()


def assert_same_index(copy: Any, index: Any) -> None:
    assert type(copy) is type(index)
    assert copy.identical(index)
    assert list(copy.names) == list(index.names)
    assert getattr(copy, "freq", None) == getattr(index, "freq", None)
    pd.testing.assert_index_equal(copy, index, exact=True)
    for one, other in zip(getattr(copy, "levels", ()), getattr(index, "levels", ()), strict=True):
        assert_same_index(one, other)


def assert_same_dtype(copy: Any, dtype: Any) -> None:
    assert copy == dtype
    assert type(copy) is type(dtype)
    assert getattr(copy, "storage", None) == getattr(dtype, "storage", None)
    assert repr(getattr(copy, "na_value", None)) == repr(getattr(dtype, "na_value", None))


def assert_same_series(copy: Any, series: Any) -> None:
    assert type(copy) is pd.Series
    assert_same_dtype(copy.dtype, series.dtype)
    assert_same_index(copy.index, series.index)
    assert repr(copy.name) == repr(series.name)
    assert copy.attrs == series.attrs
    assert copy.flags == series.flags
    pd.testing.assert_series_equal(copy, series, check_exact=True)
    if isinstance(series.dtype, np.dtype) and series.dtype != object:
        assert copy.to_numpy().tobytes() == series.to_numpy().tobytes()
    else:
        # Which value stands for a missing one is compared too.
        assert [repr(one) for one in copy] == [repr(one) for one in series]


def assert_same_frame(copy: Any, frame: Any) -> None:
    assert type(copy) is pd.DataFrame
    assert copy.shape == frame.shape
    assert_same_index(copy.index, frame.index)
    assert_same_index(copy.columns, frame.columns)
    assert copy.attrs == frame.attrs
    assert copy.flags == frame.flags
    for number in range(frame.shape[1]):
        assert_same_series(copy.iloc[:, number], frame.iloc[:, number])


def typed(values: Any, dtype: Any) -> Any:
    return pd.Series(pd.array(values, dtype=dtype))


SERIES: dict[str, Any] = {
    **{code: pd.Series(np.arange(ROWS).astype(code)) for code in ("i1", "u2", "i4", "u8", "f2", "f4", "f8", "c8", "?")},
    "NaNs": pd.Series(np.array([0x7FF8000000000001, 0xFFF0000000000001, 0, 1 << 63], "u8").view("f8")),
    "big-endian": pd.Series(np.arange(ROWS).astype(">f8")),
    **{name: typed([1, None, 0, 1], name) for name in ("Int8", "UInt64", "Float32", "Float64", "boolean")},
    "NaN and NA": pd.Series(pd.arrays.FloatingArray(np.array([np.nan, 1, np.nan]), np.array([False, False, True]))),
    "str": pd.Series(["ä", None, "\0", ""]),
    "string": typed(["ä", None, "\0", ""], "string"),
    "string in Python": typed(["ä", None, "", "x"], pd.StringDtype("python")),
    "string in Python, NaN": typed(["ä", None, "", "x"], pd.StringDtype("python", na_value=np.nan)),
    "Arrow": typed([[1], None, [], [None, 2]], pd.ArrowDtype(pa.list_(pa.int64()))),
    "Arrow's dictionary": pd.Series(
        pd.arrays.ArrowExtensionArray(pa.chunked_array([pa.array(["a", None, "b"]).dictionary_encode()]))
    ),
    "categories": pd.Series(pd.Categorical(["x", None, "y"], categories=["y", "z", "x"], ordered=True)),
    "categories of times": pd.Series(pd.Categorical(DAYS.dropna())),
    "categories of objects": pd.Series(pd.Categorical(["a", 1], categories=pd.Index([1, "a", None], dtype=object)[:2])),
    "no categories": pd.Series(pd.Categorical([])),
    **{f"moments in {unit}": pd.Series(DAYS.as_unit(unit)) for unit in ("s", "ms", "us", "ns")},
    "moments in Berlin": pd.Series(DAYS.tz_localize(BERLIN)),
    "moments an hour twice": pd.Series(pd.date_range("2020-10-25", periods=6, freq="h", tz=BERLIN)),
    "moments at an offset": pd.Series(DAYS.tz_localize(dt.timezone(dt.timedelta(hours=5), "here"))),
    "moments in UTC": pd.Series(DAYS.tz_localize(dt.UTC)),
    "spans": pd.Series(pd.to_timedelta([1, None, -3], unit="s")),
    "months": pd.Series(pd.period_range("2020", periods=ROWS, freq="M")),
    "quarters": pd.Series(pd.PeriodIndex(["2020Q1", None], freq="Q-FEB")),
    "two days": pd.Series(pd.period_range("2020", periods=ROWS, freq="2D")),
    "intervals": pd.Series(pd.interval_range(0, ROWS, closed="left")),
    "intervals of times": pd.Series(pd.interval_range(pd.Timestamp("2020", tz=BERLIN), periods=ROWS, closed="both")),
    "objects": pd.Series(["a", 1, None, (1, 2), float("nan"), Decimal("1.50"), pd.NaT, pd.NA], dtype=object),
    "texts as objects": pd.Series(["a", None], dtype=object),
    "nothing": pd.Series([], dtype="f8"),
    "named": pd.Series([1], name=("a", np.int64(3), pd.Timestamp(0))),
}


@pytest.mark.parametrize("name", SERIES)
def test_series_come_back_with_their_dtype(name):
    assert_same_series(copied([SERIES[name]])[0], SERIES[name])


INDEXES = {
    "range": pd.RangeIndex(3, 30, 4, name="r"),
    "numbers": pd.Index([3, 1, 1]),
    "masked": pd.Index([1, None], dtype="Int8"),
    "texts": pd.Index(["a", None], name=0),
    "bools": pd.Index([True, False]),
    "objects": pd.Index([("a", 1), 2, None], dtype=object, tupleize_cols=False),
    "days of work": pd.date_range("2020", periods=5, freq="B", tz=BERLIN),
    "month's ends": pd.date_range("2020", periods=5, freq="-2ME"),
    "moments": pd.DatetimeIndex(DAYS, name="when"),
    "spans": pd.timedelta_range(0, periods=3, freq="90min"),
    "periods": pd.period_range("2020", periods=3, freq="W-WED"),
    "intervals": pd.interval_range(0.5, periods=3),
    "categories": pd.CategoricalIndex(["a", None, "a"], ordered=True, categories=["b", "a"]),
    "levels": pd.MultiIndex.from_product([[2, 1], pd.date_range("2020", periods=2)], names=["x", None]),
    "unused levels": pd.MultiIndex.from_product([["a", "b"], [1, 2]])[:1],
    "missing in levels": pd.MultiIndex.from_tuples([("a", None), (None, 1)]),
    "sorted levels": pd.MultiIndex([["a"], ["b", "c"]], [[0, 0], [0, 1]], sortorder=1),
    "no levels' rows": pd.MultiIndex([["a"], []], [[], []]),
}


@pytest.mark.parametrize("name", INDEXES)
def test_indexes_come_back(name):
    index: Any = INDEXES[name]
    assert_same_index(copied([index])[0], index)
    if name == "sorted levels":
        assert copied(index).sortorder == 1


@pytest.mark.parametrize("name", INDEXES)
def test_frames_come_back_with_any_index_and_any_columns(name):
    index: Any = INDEXES[name]
    for frame in (
        pd.DataFrame({"a": np.arange(len(index)), "b": "x"}, index=index),
        pd.DataFrame(np.zeros((2, len(index))), columns=index),
        pd.DataFrame(index=index),
    ):
        assert_same_frame(copied(frame), frame)


def wide() -> Any:
    frame = pd.DataFrame({name: one.reindex(range(ROWS)) for name, one in SERIES.items() if name != "nothing"})
    frame.columns = pd.Index([*range(frame.shape[1] - 2), "twice", "twice"], dtype=object)
    frame.attrs = {"of": [1, {"of": "it"}]}
    return frame


def test_a_frame_of_every_dtype_comes_back():
    assert_same_frame(copied(wide()), wide())


def test_views_come_back_by_value():
    frame = wide()
    for view in (frame.iloc[::2], frame.iloc[:0], frame.iloc[1:, 3:7], frame.iloc[::-1]):
        assert_same_frame(copied(view), view)


def test_flags_and_attributes_come_back():
    for one in (pd.DataFrame({"a": [1]}), pd.Series([1], index=pd.Index(["x"], dtype=object))):
        one = one.set_flags(allows_duplicate_labels=False)  # noqa: PLW2901
        shared: list[Any] = []
        one.attrs = {"shared": shared, "array": np.arange(2)}
        copy, other = copied([one, shared])
        assert copy.flags.allows_duplicate_labels is False
        assert copy.attrs["shared"] is other
        assert copy.attrs["array"].tolist() == [0, 1]


def test_what_comes_back_can_be_changed_and_is_shared():
    frame = pd.DataFrame({"a": [1.5, 2], "b": ["x", None], "c": pd.array([1, None], dtype="Int8")})
    copy, other = copied([frame, {"again": frame}])
    assert other["again"] is copy
    copy.iloc[0, 0], copy.iloc[1, 1], copy.iloc[1, 2] = 9, "z", 3
    assert copy.loc[:, "a"].tolist() == [9, 2]
    assert copy["b"].tolist() == ["x", "z"]
    assert copy["c"].tolist() == [1, 3]
    series = copied(frame["a"])
    series.iloc[0] = 7
    assert series.tolist() == [7, 2]


SCALARS = [
    pd.Timestamp("2020-01-01 00:00:00.000000001"),
    pd.Timestamp("2020-10-25 02:30").tz_localize(BERLIN, ambiguous=False),
    pd.Timestamp("2020-10-25 02:30").tz_localize(BERLIN, ambiguous=True),
    pd.Timestamp("2020", tz=dt.UTC),
    pd.Timestamp(2020, 1, 1).replace(fold=1),
    pd.Timestamp("2020").as_unit("s"),
    pd.Timedelta(5),
    pd.Timedelta(-3, "D").as_unit("s"),
    pd.Period("2020Q1", freq="Q-FEB"),
    pd.Period("2020", "3h"),
    pd.Interval(1.5, 2, closed="neither"),
    pd.Interval(pd.Timestamp(0), pd.Timestamp(1)),
    pd.NA,
    pd.NaT,
]


@pytest.mark.parametrize("scalar", SCALARS, ids=repr)
def test_scalars_come_back_as_the_same_type(scalar):
    copy = copied([scalar])[0]
    assert type(copy) is type(scalar)
    assert copy is scalar or copy == scalar
    assert repr(copy) == repr(scalar)
    for name in ("unit", "fold", "tz", "freq"):
        assert getattr(copy, name, None) == getattr(scalar, name, None)


class Mine(pd.DataFrame):
    """A class of somebody's own."""


def with_attributes(attributes: Any) -> Any:
    series = pd.Series([1])
    series.attrs = attributes
    return series


def holding_itself() -> Any:
    series = pd.Series([1])
    series.attrs = {"itself": series}
    return series


COLLIDING = [number * (2**61 - 1) for number in range(1, 300)]
REFUSED = {
    "any object": pd.DataFrame({"a": [object()]}),
    "sparse": pd.Series(pd.arrays.SparseArray([0, 1])),
    "a class of one's own": Mine({"a": [1]}),
    "a machine's float": pd.Series(np.zeros(2, "g")),
    "extension types of Arrow": pd.Series(pd.arrays.ArrowExtensionArray(pa.array([b"1" * 16], pa.uuid()))),
    "lone surrogates": pd.Series(["\ud800"], dtype=pd.StringDtype("python")),
    "holidays": pd.date_range("2020", periods=3, freq=pd.offsets.CustomBusinessDay(holidays=["2020-01-02"])),
    "a frequency without a name": pd.date_range("2020", periods=3, freq=pd.DateOffset(months=1, days=2)),
    "attributes without a text": with_attributes({1: 2}),
    "itself": holding_itself(),
    "a name of objects": pd.Series([1], name=frozenset([1])),
    "a name too long": pd.Index([1], name=(1,) * 65),
    "a name of a large number": pd.Series([1], name=2**64),
    "a name too deep": pd.Index([1], name=((1,),)),
    "categories of tuples": pd.Series(pd.Categorical([(1, 2)])),
    "colliding categories": pd.Series(pd.Categorical(COLLIDING[:1], pd.Index(COLLIDING, dtype=object))),
    "another zone": pd.Series(DAYS.tz_localize(type("Zone", (dt.tzinfo,), {"utcoffset": lambda *_: dt.timedelta()})())),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_not_come_back_is_refused(name):
    error = CODEC.encode({"data": REFUSED[name]}).failure()
    assert isinstance(error, UnsupportedType)
    assert error.path.startswith("state['data']")


def test_scalars_in_objects_need_their_own_registration():
    codec = Codec(types=pandas.register(TypeRegistry()))
    series = pd.Series([np.int64(1)], dtype=object)
    error = codec.encode([series]).failure()
    assert isinstance(error, UnsupportedType)
    assert "numpy.int64" in error.message
    assert isinstance(codec.decode(CODEC.encode([series]).unwrap()).failure(), UnknownType)


@attrs.frozen
class Forged:
    """What stands for an object of pandas in bytes that no encoder has written."""

    cell: Any


def forged(cell: Any, name: str) -> Any:
    types = pandas.register(TypeRegistry())
    types.register(Forged, name="?" * len(name), encode=lambda one: one.cell, decode=Forged)
    data = Codec(types=types).encode([Forged(cell)]).unwrap()
    return data.replace(b"?" * len(name), name.encode(), 1)


def stream(*arrays: Any) -> bytes:
    from flowpersist.integrations._columns import write_columns  # noqa: PLC0415

    return write_columns([pa.array(array) for array in arrays])


def two_batches() -> bytes:
    from flowpersist.integrations._streams import write  # noqa: PLC0415

    batch = pa.record_batch({"0": [1]})
    return write(batch.schema, [batch, batch])


def token() -> bytearray:
    return bytearray(b"1")


ROW = pd.RangeIndex(1)
NUMBERS = stream(np.array([1]))


def series_cell(
    form: Any = "<i8", data: bytes = NUMBERS, index: Any = ROW, name: Any = None, unique: Any = False
) -> Any:
    return (token(), index, name, form, data, unique, ())


def test_what_is_forged_well_is_read():
    assert CODEC.decode(forged(series_cell(), "pandas.Series")).unwrap()[0].tolist() == [1]


def endless(depth: int) -> Any:
    form: Any = "<i8"
    for _ in range(depth):
        form = ("interval", "left", form, form)
    return form


def tuples(depth: int) -> Any:
    label: Any = ()
    for _ in range(depth):
        label = (label, label)
    return label


HOSTILE: dict[str, tuple[str, Any]] = {
    "no tuple": ("Series", 5),
    "spent": ("Series", (bytearray(), *series_cell()[1:])),
    "no form": ("Series", series_cell(None)),
    "an unknown form": ("Series", series_cell(("sparse", 1))),
    "an empty form": ("Series", series_cell(())),
    "another type": ("Series", series_cell("<f8")),
    "another dtype": ("Series", series_cell("|S8")),
    "objects as bytes": ("Series", series_cell("|O")),
    "nulls": ("Series", series_cell("<i8", stream([1, None]), pd.RangeIndex(2))),
    "too many rows": ("Series", series_cell("<i8", stream(np.arange(5)))),
    "too few columns": ("Series", series_cell("<i8", stream())),
    "too many columns": ("Series", series_cell("<i8", stream(np.array([1]), np.array([1])))),
    "an index that is none": ("Series", series_cell(index=[0])),
    "an index without end": ("Series", series_cell(index=pd.RangeIndex(2**62))),
    "a name that takes for ever": ("Series", series_cell(name=tuples(60))),
    "unknown missing value": ("Series", series_cell(("string", "python", "?"), stream(["a"]))),
    "unknown storage": ("Series", series_cell(("string", "os", "NA"), stream(["a"]))),
    "numbers for texts": ("Series", series_cell(("string", "python", "NA"))),
    "masked of another type": ("Series", series_cell(("masked", "Float64"))),
    "masked of none": ("Series", series_cell(("masked", "Sparse"))),
    "masked of a list": ("Series", series_cell(("masked", []))),
    "no unit": ("Series", series_cell(("zoned", "D", dt.UTC))),
    "a zone by name": ("Series", series_cell(("zoned", "ns", "../../etc/passwd"))),
    "moments in days": ("Series", series_cell("<M8[D]")),
    "two batches": ("Series", series_cell("<i8", two_batches(), pd.RangeIndex(2))),
    "a frequency that is none": ("Series", series_cell(("period", "nonsense"))),
    "a frequency too long": ("Series", series_cell(("period", "D" * 100_000))),
    "categories that are none": ("Series", series_cell(("categorical", False, ["a"]))),
    "codes beyond": ("Series", series_cell(("categorical", False, pd.Index(["a"])))),
    "codes below": ("Series", series_cell(("categorical", False, pd.Index(["a"])), stream(np.array([-2])))),
    "categories twice": ("Series", series_cell(("categorical", False, pd.Index([1, 1])))),
    "categories that collide": ("Series", series_cell(("categorical", False, pd.Index(COLLIDING, dtype=object)))),
    "categories that take for ever": (
        "Series",
        series_cell(("categorical", False, pd.Index([tuples(60)], dtype=object, tupleize_cols=False))),
    ),
    "unique labels that take for ever": (
        "Series",
        series_cell(index=pd.Index([tuples(60)], dtype=object, tupleize_cols=False), unique=True),
    ),
    "labels that are not unique": (
        "Series",
        series_cell("<i8", stream(np.arange(2)), index=pd.Index(["a", "a"]), unique=True),
    ),
    "intervals without end": ("Series", series_cell(endless(60))),
    "intervals backwards": (
        "Series",
        series_cell(("interval", "left", "<i8", "<i8"), stream(np.array([2]), np.array([1]))),
    ),
    "attributes without names": ("Series", (*series_cell()[:-1], (1, 2))),
    "attributes without values": ("Series", (*series_cell()[:-1], ("a",))),
    "a frame of another length": ("DataFrame", (token(), ROW, pd.RangeIndex(2), ("<i8",), NUMBERS, False, ())),
    "columns that are none": ("DataFrame", (token(), ROW, ["a"], ("<i8",), NUMBERS, False, ())),
    "a range of texts": ("RangeIndex", (None, "0", 1, 1)),
    "a range without a step": ("RangeIndex", (None, 0, 1, 0)),
    "a range beyond 64 bits": ("RangeIndex", (None, 0, 2**70, 1)),
    "an index of another class": ("DatetimeIndex", (token(), None, "<i8", NUMBERS, None)),
    "moments out of step": ("DatetimeIndex", (token(), None, "<M8[ns]", stream(np.array([1, 2, 9])), "D")),
    "levels that are none": ("MultiIndex", (token(), (None,), (["a"],), NUMBERS, None)),
    "codes beyond levels": ("MultiIndex", (token(), (None,), (pd.Index(["a"]),), NUMBERS, None)),
    "codes of floats": ("MultiIndex", (token(), (None,), (pd.Index(["a"]),), stream(np.array([0.0])), None)),
    "too many levels": ("MultiIndex", (token(), (None, None), (pd.Index(["a"]),) * 2, stream(np.array([0])), None)),
    "a moment without unit": ("Timestamp", ("D", 0, None, 0)),
    "a moment that is none": ("Timestamp", ("ns", -(2**63), None, 0)),
    "a moment by a zone's name": ("Timestamp", ("ns", 0, "Europe/Berlin", 0)),
    "a moment beyond": ("Timestamp", ("s", 2**80, None, 0)),
    "a span of text": ("Timedelta", ("ns", "5")),
    "a period of none": ("Period", (-(2**63), "D")),
    "an interval of nothing": ("Interval", (1,)),
    "an interval of texts": ("Interval", ("a", "b", "left")),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_comes_from_anywhere_is_checked(name):
    cls, cell = HOSTILE[name]
    data = forged(cell, f"pandas.{cls}")
    tracemalloc.start()
    result = CODEC.decode(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert isinstance(result.failure(), MalformedPayload)
    assert peak < 8 * 2**20


@pytest.mark.parametrize("seed", [SERIES["categories"], SERIES["objects"], INDEXES["levels"], wide().iloc[:2, 10:20]])
def test_every_few_bytes_changed_give_a_value_or_a_typed_error(seed):
    data = CODEC.encode([seed]).unwrap()
    for place in range(0, len(data), 11):
        for byte in (0, 0xFF, data[place] ^ 1):
            result = CODEC.decode(data[:place] + bytes([byte]) + data[place + 1 :])
            assert isinstance(result, Success) or isinstance(result.failure(), PersistenceError)


LABELS = pd.Index([str(number) for number in range(50_000)], dtype=object)
MANY = 2_000


def many_of_one_index(kind: str) -> bytes:
    """Objects that refer to the same labels, which pandas looks at for each."""
    if kind == "Series":
        one = stream(np.array([0], "i1"))
        cells = [series_cell(("categorical", False, LABELS), one) for _ in range(MANY)]
    elif kind == "MultiIndex":
        one = stream(np.array([0], "i1"))
        cells = [(token(), (None,), (LABELS,), one, None) for _ in range(MANY)]
    else:
        cells = [(token(), LABELS, pd.RangeIndex(0), (), stream(), True, ()) for _ in range(MANY)]
    types = pandas.register(TypeRegistry())
    name = f"pandas.{kind}"
    types.register(Forged, name="?" * len(name), encode=lambda one: one.cell, decode=Forged)
    data = Codec(types=types).encode([Forged(cell) for cell in cells]).unwrap()
    return data.replace(b"?" * len(name), name.encode(), 1)


@pytest.mark.parametrize("kind", ["Series", "MultiIndex", "DataFrame"])
def test_many_objects_of_one_index_are_not_each_as_much_work_as_all_its_labels(kind):
    data = many_of_one_index(kind)
    started = time.process_time()
    result = CODEC.decode(data)
    # Looking at the labels of each anew takes over four seconds here.
    assert time.process_time() - started < 2.5
    assert isinstance(result, Success) == (kind != "MultiIndex")


def test_nothing_of_it_is_a_pickle():
    data = CODEC.encode([wide(), INDEXES]).unwrap()
    assert b"pickle" not in data
    assert b"numpy.core" not in data
