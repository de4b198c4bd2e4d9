"""encode_brief: the same bytes as encode where they are few, and a bounded look at everything else."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from flowpersist import or_raise
from flowpersist.codec import Codec

CODEC = Codec()
SHARED = ["a"]


class Unregistered(list):
    """A class that the codec does not know."""


@pytest.mark.parametrize(
    "value",
    [
        {"n": 1},
        [SHARED, SHARED, ("x", b"y")],
        {"at": datetime(2026, 1, 1, tzinfo=UTC), "is": Decimal("1.50")},
        ["x" * 60_000],
    ],
    ids=["dict", "shared", "leaves", "a text below the bound"],
)
def test_small_values_have_the_same_bytes(value):
    assert CODEC.encode_brief(value) == or_raise(CODEC.encode(value))


@pytest.mark.parametrize(
    "value",
    [
        list(range(10_000)),
        [tuple(range(10_000))],
        {str(n): n for n in range(10_000)},
        ["x" * 140_000],
        [b"x" * 80_000, b"y" * 80_000],
        [["x" * 1000] * 200],
        [1 << 1_000_000],
        [Decimal("1" * 200_000)],
    ],
    ids=["list", "tuple", "dict", "text", "bytes", "one text often", "whole number", "decimal"],
)
def test_what_is_not_small_is_left_to_encode(value):
    assert CODEC.encode_brief(value) is None
    assert or_raise(CODEC.decode(or_raise(CODEC.encode(value)))) == value


@pytest.mark.parametrize("value", [[object()], Unregistered("ab")], ids=["refused", "not registered"])
def test_what_is_wrong_with_a_value_is_left_to_encode(value):
    assert CODEC.encode_brief(value) is None
