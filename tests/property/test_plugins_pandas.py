"""Random frames of pandas go both ways."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import pandas as random_frames

from flowpersist.codec import Codec, TypeRegistry
from flowpersist.integrations import numpy, pandas

CODEC = Codec(types=numpy.register(pandas.register(TypeRegistry())))
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
CONVERSIONS = st.sampled_from(
    ["f4", "f8", "i2", "u8", "bool", "object", "str", "string", "category", "Int64", "Float32", "M8[ns]", "m8[s]"]
)
NUMBERS = st.integers(-(2**64) + 1, 2**64 - 1)
NAMES = st.one_of(st.none(), NUMBERS, TEXTS, st.tuples(TEXTS, NUMBERS))


@st.composite
def frames(draw: Any) -> Any:
    """A frame of columns of many dtypes, with labels of many kinds."""
    rows = draw(st.integers(0, 5))
    numbers = [np.array(draw(st.lists(st.integers(0, 120), min_size=rows, max_size=rows)), "i8") for _ in range(3)]
    columns = [pd.Series(one).astype(draw(CONVERSIONS)) for one in numbers]
    frame = pd.concat(columns, axis=1) if draw(st.booleans()) else pd.DataFrame(dict(enumerate(columns)))
    index = draw(random_frames.indexes(dtype=draw(st.sampled_from([int, float])), min_size=rows, max_size=rows))
    frame.index = index.rename(draw(NAMES))
    if draw(st.booleans()):
        frame = frame.set_index(pd.Index(draw(st.lists(TEXTS, min_size=rows, max_size=rows)), dtype="str"), append=True)
    frame.columns = pd.Index(draw(st.lists(NAMES, min_size=3, max_size=3)), dtype=object, tupleize_cols=False)
    return frame.iloc[:: draw(st.sampled_from([1, 2, -1]))]


@given(frames())
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_frame_goes_both_ways(frame):
    copy: Any = CODEC.decode(CODEC.encode(frame).unwrap()).unwrap()
    assert copy.index.identical(frame.index)
    assert copy.columns.identical(frame.columns)
    assert list(copy.dtypes) == list(frame.dtypes)
    pd.testing.assert_frame_equal(copy, frame, check_exact=True, check_column_type=True)
    assert CODEC.encode(copy) == CODEC.encode(frame)


@given(random_frames.series(dtype=float), NAMES)
@settings(max_examples=50, deadline=None)
def test_any_series_of_floats_keeps_its_bits(series, name):
    series = series.rename(name)
    copy: Any = CODEC.decode(CODEC.encode(series).unwrap()).unwrap()
    assert copy.name == name
    assert copy.to_numpy().tobytes() == series.to_numpy().tobytes()
