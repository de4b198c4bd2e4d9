"""Positions, and what a head is by its entry of the replay ledger: specs/persistence/ledger.md."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from flowpersist.keys.suspension_key import SuspensionId
from flowpersist.lifecycle.model import Head, Status
from flowpersist.lifecycle.positions import (
    LedgerEntry,
    advanced,
    after,
    first_number,
    floor_of,
    is_floor,
    standing,
)

MADE = datetime(2026, 5, 1, 12, tzinfo=UTC)
FIRST = first_number(MADE)
SINCE = FIRST - 1
ENTRY = LedgerEntry("k", floor_of(FIRST + 3) | 7, FIRST)
FLOOR = LedgerEntry("k", floor_of(FIRST), FIRST)
GONE = LedgerEntry("k", floor_of(FIRST + 3) | 7, FIRST, gone=True)


def head(position=0, made=MADE):
    return Head(
        id=SuspensionId(bytes(16)),
        tenant=None,
        metadata={},
        created_at=made,
        updated_at=made,
        retention=timedelta(days=7),
        status=Status.WAITING,
        until="all",
        waits=(),
        position=position,
    )


@pytest.mark.parametrize("chance", [b"\0\0\0", b"\xff\xff\xff", b"\x0f\xff\xff", b"\x10\0\0", b"\x07\x08\x09"])
def test_a_position_rises_and_is_no_floor(chance):
    first = advanced(head(), chance)
    assert first.position >> 20 == FIRST
    second = advanced(first, chance)
    assert second.position >> 20 == FIRST + 1
    for one in (first, second):
        assert not is_floor(LedgerEntry("k", one.position, FIRST))
        assert one.position < 2**63


def test_a_position_begins_with_the_time_and_has_at_least_what_is_asked():
    assert first_number(datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)) == 1000
    assert advanced(head(), b"\0\0\0", FIRST + 9).position >> 20 == FIRST + 9
    assert advanced(head(floor_of(FIRST + 20)), b"\0\0\0", FIRST + 9).position >> 20 == FIRST + 21


def test_a_later_suspension_of_an_id_begins_after_the_earlier_one():
    assert after(ENTRY) == FIRST + 4
    assert after(FLOOR) == FIRST
    later = MADE + timedelta(seconds=1)
    assert standing(advanced(head(made=later), b"\0\0\1"), ENTRY, SINCE) == "ahead"


@pytest.mark.parametrize(
    ("position", "entry", "expected"),
    [
        (None, None, "level"),
        (None, FLOOR, "level"),
        (None, GONE, "level"),
        (None, ENTRY, "back"),
        (floor_of(FIRST) | 1, None, "back"),
        (floor_of(FIRST) | 1, FLOOR, "level"),
        (floor_of(FIRST - 1) | 1, FLOOR, "back"),
        (floor_of(FIRST + 1) | 1, FLOOR, "ahead"),
        (floor_of(FIRST + 3) | 7, ENTRY, "level"),
        (floor_of(FIRST + 3) | 7, GONE, "level"),
        (floor_of(FIRST + 3) | 6, ENTRY, "back"),
        (floor_of(FIRST + 3) | 8, ENTRY, "back"),
        (floor_of(FIRST + 2) | 7, ENTRY, "back"),
        (floor_of(FIRST + 2) | 7, GONE, "back"),
        (floor_of(FIRST + 4) | 1, ENTRY, "ahead"),
        (floor_of(FIRST + 4) | 1, GONE, "ahead"),
        (0, ENTRY, "back"),
    ],
)
def test_what_a_head_is_by_its_entry(position, entry, expected):
    assert standing(None if position is None else head(position), entry, SINCE) == expected


def test_an_unknown_head_is_taken_where_it_is_older_than_the_ledger():
    assert standing(head(floor_of(FIRST) | 1), None, FIRST + 1) == "ahead"
    assert standing(head(), None, FIRST + 1) == "ahead"
    assert standing(head(floor_of(FIRST) | 1), None, FIRST) == "back"
