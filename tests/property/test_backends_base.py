"""What no store can keep is refused before any sees it, and positions, cursors and canonical texts are exact."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowpersist.backends._clock import from_micros, to_micros
from flowpersist.backends._matching import check_put, selection
from flowpersist.backends._scalars import attributes_from_text, attributes_to_text, entry_text, scalar_to_text
from flowpersist.backends.base import (
    KEEP,
    NamespaceSchema,
    Range,
    RecordChange,
    RecordRef,
    Where,
    applied,
    check_scalar,
    check_text,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
NAIVE = NOW.replace(tzinfo=None)
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=128)
scalars = texts | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False) | st.booleans()


@pytest.mark.parametrize("text", ["\0", "a\0b", "\ud800", "x" * 513, "é" * 257])
def test_texts_that_some_store_can_not_hold(text):
    for make in (lambda: RecordRef("n", text), lambda: RecordRef(text, "k"), lambda: Where({"a": text})):
        with pytest.raises(ValueError):
            make()


@pytest.mark.parametrize("revision", [-1, 2**63, True, 1.0, "1"])
def test_revisions_that_no_store_can_hold(revision):
    check_put(2**63 - 1)
    with pytest.raises(ValueError, match="if_revision"):
        check_put(revision)


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1, float("nan"), float("inf"), b"x", (), object(), 1j])
def test_scalars_that_some_store_can_not_hold(value):
    with pytest.raises(ValueError, match="attribute"):
        RecordChange("w", attributes={"a": value})


def test_what_is_no_text_is_a_programmer_s_error():
    for value in (None, 1, b"x"):
        with pytest.raises(TypeError):
            check_text(value, "a key")


@pytest.mark.parametrize("make", [lambda: RecordRef("", "k"), lambda: RecordRef("n", ""), lambda: NamespaceSchema("")])
def test_empty_names_are_refused(make):
    with pytest.raises(ValueError, match="empty"):
        make()


@pytest.mark.parametrize("write_id", ["", "x" * 65, "é" * 33])
def test_a_write_id_has_1_to_64_bytes(write_id):
    with pytest.raises(ValueError, match="write id"):
        RecordChange(write_id)


def test_parts_of_a_change_are_checked():
    with pytest.raises(ValueError, match="head"):
        RecordChange("w", head=bytes(256 * 1024 + 1))
    for part in ("head", "body"):
        with pytest.raises(TypeError, match=part):
            RecordChange("w", **{part: "text"})
    with pytest.raises(ValueError, match="aware"):
        RecordChange("w", due_at=NAIVE)
    with pytest.raises(ValueError, match="at most 64"):
        RecordChange("w", attributes={str(number): 1 for number in range(65)})


def test_a_change_is_normalized():
    zone = timezone(timedelta(hours=2))
    change = RecordChange("w", attributes={"b": 1, "a": None, "c": -0.0}, due_at=NOW.astimezone(zone))
    assert dict(change.attributes) == {"b": 1, "c": 0.0}
    assert str(change.attributes["c"]) == "0.0"
    assert change.due_at.tzinfo is UTC
    assert (RecordChange("w").attributes, RecordChange("w", attributes=None).attributes) == (KEEP, None)


def test_applied():
    assert (applied(KEEP, "old", ""), applied("new", "old", ""), applied(None, "old", "")) == ("old", "new", "")


@pytest.mark.parametrize(
    ("error", "by", "bound"),
    [
        (TypeError, "key", NOW),
        (TypeError, "due", "x"),
        (ValueError, "due", NAIVE),
        (ValueError, "x", ""),
    ],
)
def test_ranges_are_checked(error, by, bound):
    with pytest.raises(error):
        Range(by, since=bound)


@pytest.mark.parametrize("indexed", [{'a"b': str}, {"": str}, {"1": int}, {"a" * 64: str}, {"a": bytes}])
def test_indexed_names_are_plain(indexed):
    with pytest.raises(ValueError, match="indexed"):
        NamespaceSchema("n", indexed)


@given(st.dictionaries(texts, scalars, max_size=6))
def test_attributes_round_trip_with_their_types(attributes):
    wanted = {name: check_scalar(value, "a") for name, value in attributes.items()}
    read = attributes_from_text(attributes_to_text(wanted))
    assert read == wanted
    assert {name: type(value) for name, value in read.items()} == {name: type(value) for name, value in wanted.items()}


@given(scalars, scalars)
def test_texts_are_equal_for_equal_type_and_value_only(one, other):
    one, other = check_scalar(one, "a"), check_scalar(other, "a")
    assert (scalar_to_text(one) == scalar_to_text(other)) == (type(one) is type(other) and one == other)


fragments = st.text(st.sampled_from("\"\\:,{}sab'"), max_size=6)


@given(st.dictionaries(fragments, fragments, max_size=4), fragments, fragments)
def test_an_entry_is_a_substring_of_the_attributes_that_have_it(attributes, name, value):
    assert entry_text(name, value) in attributes_to_text({**attributes, name: value})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        "1",
        '{"a":1}',
        '{"a":"x1"}',
        '{"a":"i01"}',
        '{"a":"fnan"}',
        '{"a":"byes"}',
        '{"a":"i9223372036854775808"}',
    ],
)
def test_other_texts_are_no_attributes(text):
    with pytest.raises((ValueError, TypeError)):
        attributes_from_text(text)


@given(st.datetimes(timezones=st.just(UTC)))
def test_times_are_exact(moment):
    assert from_micros(to_micros(moment)) == moment


@given(st.sampled_from(["key", "created", "updated", "due"]), st.booleans(), st.integers(-(2**62), 2**62), texts)
def test_a_cursor_gives_its_place_again(order, descending, value, key):
    asked = selection("n", Where(), order, 1, None, descending)
    again = selection("n", Where(), order, 1, asked.cursor((value, key)), descending)
    assert again.after == (value, key)
    with pytest.raises(ValueError, match="cursor"):
        selection("n", Where(), order, 1, asked.cursor((value, key)), not descending)


@given(st.text(max_size=60))
def test_any_text_is_a_cursor_or_a_value_error(text):
    with pytest.raises(ValueError):
        selection("n", Where(), "key", 1, text, False)


def test_an_unknown_order_is_refused():
    with pytest.raises(ValueError, match="order"):
        selection("n", Where(), "size", 1, None, False)
