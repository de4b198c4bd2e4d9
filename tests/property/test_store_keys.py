"""Names of records: different keys have different ones, prefixes find what they begin, integers keep their order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowpersist.backends.base import RecordRef
from flowpersist.sealed.cards import card_key, key_in, packed_key
from flowpersist.sealed.naming import Naming, Prefix, key_of, parts_of

TEXT = st.one_of(
    st.text(st.characters(), max_size=8),
    st.text("ab\0\1\2\ufffd\ud800/~=", max_size=6),
    st.sampled_from(["a" * 398, "a" * 399, "a" * 400, "a" * 401, "ä" * 200, "a" * 600, "a" * 600 + "b"]),
)
INTEGER = st.integers(-(2**255), 2**255 - 1)
PARTS = st.lists(st.one_of(TEXT, st.integers(-3, 3), INTEGER), min_size=1, max_size=4).map(tuple)
MANY = st.lists(st.one_of(TEXT, INTEGER), min_size=1, max_size=40).map(tuple)
NAMINGS = st.sampled_from([Naming(listed, secret) for listed in (False, True) for secret in (b"", b"s" * 32)])


@pytest.mark.parametrize("parts", [("order-7",), ("orders", 7, "lines"), ("a" * 600, "b"), ("",)])
def test_a_guess_of_a_key_can_not_be_tested_without_the_secret(parts):
    names = {Naming(listed=False, secret=secret).name(parts) for secret in (b"", b"s" * 32, b"t" * 32)}
    assert len(names) == 3


@given(NAMINGS, st.one_of(PARTS, MANY))
def test_a_name_is_a_records_key(naming, parts):
    name = naming.name(parts)
    assert RecordRef("n", name).key == name
    assert naming.name(parts) == name
    if not naming.listed:
        assert name.isascii()


@given(NAMINGS, PARTS, PARTS)
def test_different_keys_have_different_names(naming, one, other):
    # 1 is not True, and no key has a True.
    assert (naming.name(one) == naming.name(other)) == (one == other)


@given(NAMINGS, st.one_of(PARTS, MANY), st.integers(1, 40))
def test_what_a_prefix_begins_is_in_its_span(naming, parts, count):
    prefix = Prefix(parts=parts[:count])
    assert prefix.holds(parts)
    assert naming.name(parts).startswith(naming.span(prefix).start)


@given(NAMINGS, PARTS, PARTS)
def test_an_exact_span_holds_nothing_else(naming, parts, other):
    prefix = Prefix(parts=parts)
    span = naming.span(prefix)
    if span.exact:
        assert naming.name(other).startswith(span.start) == prefix.holds(other)


@given(PARTS, TEXT, st.integers(0, 8))
def test_a_text_that_a_listed_key_begins_with_finds_it(parts, text, count):
    naming = Naming(listed=True, secret=b"")
    for prefix in (Prefix(text=text), *(Prefix(text=parts[0][:count]) for _ in [0] if isinstance(parts[0], str))):
        span = naming.span(prefix)
        if prefix.holds(parts):
            assert naming.name(parts).startswith(span.start)
        elif span.exact:
            assert not naming.name(parts).startswith(span.start)


@given(NAMINGS, st.lists(INTEGER, min_size=2, max_size=10, unique=True))
def test_integers_are_in_their_order(naming, numbers):
    names = {number: naming.name(("agent", number)).encode() for number in numbers}
    assert sorted(numbers) == sorted(numbers, key=lambda number: names[number])


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=8), min_size=2, max_size=8, unique=True))
def test_listed_texts_are_in_the_order_of_their_bytes(texts):
    naming = Naming(listed=True, secret=b"")
    assert sorted(texts, key=lambda text: text.encode()) == sorted(
        texts, key=lambda text: naming.name((text,)).encode()
    )


@given(st.one_of(PARTS, MANY))
def test_a_key_comes_back_from_a_head_and_from_a_body(parts):
    assert key_in(packed_key(parts)).unwrap() == parts
    kept = card_key(parts)
    assert kept is None or key_in(kept).unwrap() == parts
    assert parts_of(key_of(parts)) == parts
