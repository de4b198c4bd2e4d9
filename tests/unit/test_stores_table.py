"""What a write meets in a store of values, by what stands there and what the caller expects: the whole table."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from returns.result import Success

from flowpersist.backends.base import RecordRef
from flowpersist.errors import RevisionConflict
from flowpersist.sealed.cards import Card, live, standing_at, timely
from flowpersist.sealed.drafts import Draft, Found, Loaded
from flowpersist.sealed.heads import NO_BODY

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TICK = timedelta(microseconds=1)
EXPIRES = {"never": None, "later": NOW + TICK, "now": NOW, "before": NOW - TICK}
TABLE = """
stands   expires   any       0         7         8
nothing  -         nothing   nothing   conflict  conflict
7        never     7         conflict  7         conflict
7        later     7         conflict  7         conflict
7        now       nothing   nothing   conflict  conflict
7        before    nothing   nothing   conflict  conflict
"""
HEADER, *ROWS = (line.split() for line in TABLE.strip().splitlines())
CASES = [
    (stands, expires, expected, outcome)
    for stands, expires, *outcomes in ROWS
    for expected, outcome in zip(HEADER[2:], outcomes, strict=True)
]


def found(stands, expires):
    if stands == "nothing":
        return Found(None, NOW)
    record = Loaded(
        ref=RecordRef("n", "name"),
        revision=int(stands),
        head=Card(("a",), b"value", {}, EXPIRES[expires]),
        attributes={},
        due_at=None,
        body=None,
        body_size=None,
        mark=NO_BODY,
        created_at=NOW,
        updated_at=NOW,
        now=NOW,
    )
    return Found(record, NOW)


@pytest.mark.parametrize(("stands", "expires", "expected", "outcome"), CASES)
def test_a_write_meets_what_the_table_says(stands, expires, expected, outcome):
    met = standing_at(found(stands, expires), None if expected == "any" else int(expected), "name", "memory")
    if outcome == "conflict":
        assert isinstance(met.failure(), RevisionConflict)
        assert "record name" in str(met.failure())
    else:
        standing = met.unwrap()
        assert (0 if standing is None else standing.revision) == (0 if outcome == "nothing" else 7)
        assert isinstance(met, Success)


@pytest.mark.parametrize("expires", EXPIRES)
def test_a_put_holds_only_while_what_it_replaces_is_there(expires):
    draft = Draft(head=Card(("a",), b"new", {}, None), attributes={}, due_at=None)
    put = timely(draft, live(found("7", expires)))
    assert put.not_after == (NOW if expires == "later" else None)
