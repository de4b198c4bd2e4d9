"""The short way for small values writes what the general way writes.

Rows may stand in another order, since the general way puts those of one shape together. So bytes are compared where a
value has one shape for each level, and meaning, counts and length for all values.
"""

from __future__ import annotations

from typing import Any

import attrs
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from flowpersist.codec import Limits, TypeRegistry
from flowpersist.codec.decoder import decode_graph
from flowpersist.codec.encoder import encode_graph
from flowpersist.codec.refusals import Halted
from flowpersist.codec.small import decode_small, encode_small
from flowpersist.testing import same_graph, values
from flowpersist.testing.values import leaves

SLOW_DATA = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
LIMITS = Limits()


@attrs.define(eq=False)
class Couple:
    first: Any = None
    second: Any = None


TYPES = TypeRegistry(Couple)
TEXTS = st.text(max_size=20)
#: Fewer messages than make a block, which a small value has none of.
MESSAGES = st.lists(
    st.builds(lambda role, content, at: {"role": role, "content": content, "at": at}, TEXTS, TEXTS, leaves()),
    max_size=15,
)
CONVERSATIONS = st.builds(lambda messages, seed: {"messages": messages, "seed": seed}, MESSAGES, leaves())
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=14,
)


def both(value: object) -> tuple[bytes | None, bytes]:
    return encode_small(value, TYPES, LIMITS), encode_graph(value, TYPES, LIMITS)


@given(CONVERSATIONS)
@settings(max_examples=50, deadline=None, suppress_health_check=SLOW_DATA)
def test_conversations_have_the_same_bytes_either_way(value):
    small, general = both(value)
    assert small == general


@given(leaves())
@settings(max_examples=50, deadline=None)
def test_one_object_has_the_same_bytes_either_way(value):
    small, general = both([value])
    assert small == general


@given(values(instances=Couple) | JSON)
@example([0.0, 0.0, 0.0, 0.0])
@example((1.5,) * 9)
@settings(max_examples=80, deadline=None, suppress_health_check=SLOW_DATA)
def test_any_small_value_has_the_same_meaning_either_way(value):
    small, general = both(value)
    if small is None:
        return
    copy, size = decode_graph(small, TYPES, LIMITS)
    other, other_size = decode_graph(general, TYPES, LIMITS)
    assert same_graph(copy, other, types=TYPES)
    assert size == other_size
    assert len(small) == len(general)
    for document in (small, general):
        plain = decode_small(document, TYPES, LIMITS)
        assert plain is None or (same_graph(plain[0], value, types=TYPES) and plain[1] == size)


@pytest.mark.parametrize("header", [b"\xcc", b"\xcd\0", b"\xd0", b"\xd1\0", b"\xd2" + bytes(3), b"\xd3" + bytes(7)])
def test_a_whole_number_has_the_same_meaning_in_each_of_its_forms(header):
    small, _ = both([(1.5, "a")])
    assert small[:2] == b"\x98\x02"
    document = small[:1] + header + small[1:]
    assert decode_small(document, TYPES, LIMITS) == decode_graph(document, TYPES, LIMITS) == ([(1.5, "a")], 6)


@pytest.mark.parametrize("version", [b"\xd0\xff", b"\xd1\xff\xfe", b"\xff"])
def test_a_negative_number_is_refused(version):
    small, _ = both([(1.5, "a")])
    document = small[:1] + version + small[2:]
    assert decode_small(document, TYPES, LIMITS) is None
    with pytest.raises(Halted):
        decode_graph(document, TYPES, LIMITS)
