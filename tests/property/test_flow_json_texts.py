"""Long JSON texts are read and written by other code than short ones, to the same effect."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from flowpersist.dynamicflow.json_texts import BRIEF, canonical, parsed

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@settings(deadline=None)
@given(VALUES)
def test_a_long_text_is_read_and_written_as_a_short_one(value):
    text, most = json.dumps(value), 2 * BRIEF + 10_000
    long = f"[{text},{','.join('0' * BRIEF)}]"
    assert parsed(long, most)[0] == parsed(text, most) == value
    assert canonical(value, BRIEF + 1) == canonical(value, 1)
