"""Which signals are set after a step, by what was set before: the whole table."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from flowpersist.errors import MalformedPayload, StateTooLarge, UnsupportedVersion
from flowpersist.lifecycle.signalling import MOST_SIGNALS, SetSignal, applied, live_signals

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TICK = timedelta(microseconds=1)
TTL = timedelta(hours=1)
ENDS = {"never": None, "later": NOW + 2 * TTL, "tick": NOW + TICK, "now": NOW, "before": NOW - TICK}
#: When a signal that is set expires; what a step does to it; what it is then, and until when the record is there.
TABLE = """
stands  does      is      until
-       nothing   -       same
-       sets      new     +1h
-       lasting   new     never
-       clears    -       same
never   nothing   old     same
never   other     old     never
never   sets      new     +1h
never   lasting   new     never
never   clears    -       now
later   nothing   old     same
later   other     old     +2h
later   sets      new     +1h
later   lasting   new     never
later   clears    -       now
tick    other     old     +1h
tick    sets      new     +1h
tick    clears    -       now
now     nothing   -       same
now     other     -       +1h
now     sets      new     +1h
now     clears    -       same
before  other     -       +1h
before  clears    -       same
"""
_, *ROWS = (line.split() for line in TABLE.strip().splitlines())
UNTIL = {"+1h": NOW + TTL, "+2h": NOW + 2 * TTL, "now": NOW, "never": None}
STEPS = {
    "nothing": ({}, (), TTL),
    "sets": ({"key": b"new"}, (), TTL),
    "lasting": ({"key": b"new"}, (), None),
    "clears": ({}, ("key",), TTL),
    "other": ({"other": b"other"}, (), TTL),
}


def content(ends):
    return None if ends == "-" else (1, {"key": (b"old", NOW - TTL, ENDS[ends])})


@pytest.mark.parametrize(("stands", "does", "becomes", "until"), ROWS)
def test_a_step_makes_of_a_signal_what_the_table_says(stands, does, becomes, until):
    before = live_signals(content(stands), NOW).unwrap()
    values, cleared, ttl = STEPS[does]
    step = applied(before, NOW, values, cleared, ttl).unwrap()
    after, gone = step.result
    assert gone == (does == "clears" and "key" in before)
    assert (
        after.get("key")
        == {
            "-": None,
            "old": before.get("key"),
            "new": SetSignal(b"new", NOW, None if ttl is None else NOW + TTL),
        }[becomes]
    )
    assert (step.content is None) == (until == "same")
    if step.content is not None:
        assert step.expires_at == UNTIL[until]
        assert live_signals(step.content, NOW).unwrap() == after


def test_there_is_a_limit_and_what_is_cleared_makes_room():
    full = {str(number): SetSignal(b"", NOW, None) for number in range(MOST_SIGNALS)}
    assert isinstance(applied(full, NOW, {"new": b""}, (), TTL).failure(), StateTooLarge)
    assert "new" in applied(full, NOW, {"new": b""}, ("7",), TTL).unwrap().result[0]
    assert len(applied(full, NOW, {"7": b""}, (), TTL).unwrap().result[0]) == MOST_SIGNALS


@pytest.mark.parametrize(
    ("stored", "error"),
    [
        ((2, {}), UnsupportedVersion),
        ((1, []), MalformedPayload),
        ((1, {"key": (1,)}), MalformedPayload),
        ((1, {"key": (b"", NOW, "soon")}), MalformedPayload),
        ((1,), MalformedPayload),
        (7, MalformedPayload),
    ],
    ids=["later", "list", "short", "until", "one", "number"],
)
def test_what_are_no_signals_is_refused(stored, error):
    assert isinstance(live_signals(stored, NOW).failure(), error)
