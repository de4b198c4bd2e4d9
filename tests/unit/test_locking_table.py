"""What follows when an agent asks for a lock, renews or releases it: by who stands there, the whole table."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta

import pytest
from returns.result import Failure, Success

from flowpersist.errors import LeaseLost, LockBusy, MalformedPayload, UnsupportedVersion
from flowpersist.lifecycle.locking import (
    MOST_STAKES,
    PLACE,
    Ask,
    Lease,
    Lock,
    Stake,
    Waiting,
    dropped,
    freed,
    renewed,
    taken,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TICK = timedelta(microseconds=1)
LATER = NOW + timedelta(minutes=1)
TTL = timedelta(minutes=5)
#: Who stands there, in order: a capital letter holds, a small one waits; x is exclusive, s shared. Agent a is the first
#: of them, b the second, and so on; z is somebody else. Then what they get who ask.
TABLE = """
stands  asks     gets
-       z:x      lease 1
-       z:s      lease 1
X       z:x      busy a 0
X       z:s      busy a 0
S       z:x      busy a 0
S       z:s      lease 2
SS      z:s      lease 3
SS      z:x      busy a 0
Sx      z:s      busy b 1
Sx      z:x      busy a 1
Sx      b:x      busy a 0
Xx      b:x      busy a 0
Xxx     c:x      busy a 1
Xs      b:s      busy a 0
Xss     c:s      busy a 1
x       a:x      lease 1
xx      a:x      lease 1
xx      b:x      busy a 1
xs      b:s      busy a 1
xs      z:s      busy a 2
sx      a:s      lease 1
sx      b:x      busy a 1
ss      b:s      lease 1
sxs     c:s      busy b 2
X       a:x      again 1
S       a:s      again 1
SSx     b:s      again 2
X       a:s      own
S       a:x      own
"""
_, *ROWS = (line.split(maxsplit=2) for line in TABLE.strip().splitlines())
CASES = [(stands, asks, gets, waits) for stands, asks, gets in ROWS for waits in (False, True)]


def lock_of(stands, until=LATER):
    fences = itertools.count(1)
    stakes = tuple(
        Stake(agent, kind in "Ss", agent.encode(), until, next(fences) if kind.isupper() else 0)
        for agent, kind in zip("abcdef", stands.strip("-"), strict=False)
    )
    return Lock(max((stake.fence for stake in stakes), default=0), stakes)


def wish(asks):
    agent, kind = asks.split(":")
    return Ask("path", agent, "shared" if kind == "s" else "exclusive", TTL, agent.encode())


def asking(lock, asks, *, waits=True, now=NOW):
    return taken(lock, now, wish(asks), waits=waits)


def agents(content):
    return [] if content is None else [stake[0] for stake in content[2]]


@pytest.mark.parametrize(("stands", "asks", "gets", "waits"), CASES, ids=lambda one: str(one).replace(" ", "-"))
def test_who_asks_gets_what_the_table_says(stands, asks, gets, waits):
    lock, asked = lock_of(stands), wish(asks)
    what, *details = gets.split()
    followed = asking(lock, asks, waits=waits)
    if what == "own":
        assert isinstance(followed.failure(), LockBusy)
        assert followed.failure().holder == asked.agent
        return
    step = followed.unwrap()
    if what == "busy":
        holder, position = details
        assert isinstance(step.result, Waiting)
        assert (step.result.busy.holder, step.result.busy.retry_at) == (holder, LATER)
        assert step.result.position == int(position)
        standing = asked.agent in [stake.agent for stake in lock.stakes]
        # A place is taken where there is none, kept where it is not to be renewed yet, and given up without waiting.
        changes = waits != standing
        assert (step.content is not None) == changes
        if changes:
            before = [stake.agent for stake in lock.stakes]
            assert agents(step.content) == (
                [*before, asked.agent] if waits else [a for a in before if a != asked.agent]
            )
        return
    assert isinstance(step.result, Lease)
    assert step.result.fence == int(details[0])
    assert step.result.expires_at == NOW + TTL
    assert step.result.lock_type == ("shared" if asked.shared else "exclusive")
    after = Lock.of(step.content, NOW).unwrap()
    assert after.fence == max(lock.fence, step.result.fence)
    assert after.held(step.result) is not None
    assert [stake for stake in after.stakes if stake.agent != asked.agent] == [
        stake for stake in lock.stakes if stake.agent != asked.agent
    ]


def kinds(most):
    return ("".join(word) for size in range(most + 1) for word in itertools.product("XSxs", repeat=size))


def test_nobody_who_could_be_there_is_ever_beside_an_exclusive_one():
    """Every lock of up to three stakes that steps can reach from a free one, with every next asker."""
    seen, waiting = set(), [Lock()]
    while waiting:
        lock = waiting.pop()
        for agent, kind, waits in itertools.product("abc", "xs", (False, True)):
            followed = asking(lock, f"{agent}:{kind}", waits=waits)
            if isinstance(followed, Failure) or followed.unwrap().content is None:
                continue
            after = Lock.of(followed.unwrap().content, NOW).unwrap()
            holding = [stake for stake in after.stakes if stake.fence]
            assert len(holding) <= 1 or all(stake.shared for stake in holding)
            assert after.fence >= lock.fence
            for gone in (None, *after.stakes):
                left = after if gone is None else after.changed(gone, None)
                shape = tuple((stake.agent, stake.shared, bool(stake.fence)) for stake in left.stakes)
                if shape not in seen and len(shape) <= 3:
                    seen.add(shape)
                    waiting.append(left)
    assert len(seen) > 100


@pytest.mark.parametrize("stands", sorted(kinds(3)))
def test_the_first_in_line_gets_it_once_those_who_hold_it_have_gone(stands):
    lock = lock_of(stands)
    for stake in lock.stakes:
        if stake.fence:
            lock = lock.changed(stake, None)
    for stake in lock.stakes[:1]:
        step = asking(lock, f"{stake.agent}:{'s' if stake.shared else 'x'}").unwrap()
        assert isinstance(step.result, Lease)


@pytest.mark.parametrize("stands", ["X", "SS", "x", "xx", "sx"])
def test_a_stake_is_there_at_its_end_minus_a_tick_and_not_at_its_end(stands):
    content = lock_of(stands, NOW).content
    assert len(Lock.of(content, NOW - TICK).unwrap().stakes) == len(stands)
    gone = Lock.of(content, NOW).unwrap()
    assert gone.stakes == ()
    assert gone.fence == lock_of(stands).fence
    assert isinstance(asking(gone, "z:x", waits=False).unwrap().result, Lease)


def test_a_place_is_renewed_in_its_last_two_thirds_only():
    lock = asking(lock_of("X"), "z:x").unwrap()
    assert Lock.of(lock.content, NOW).unwrap().stakes[1].until == NOW + PLACE
    for passed, is_renewed in ((PLACE / 4, False), (PLACE / 3, True), (PLACE - TICK, True)):
        step = asking(Lock.of(lock.content, NOW + passed).unwrap(), "z:x", now=NOW + passed).unwrap()
        assert (step.content is not None) == is_renewed


def test_the_line_has_an_end():
    lock = lock_of("X")
    for number in range(MOST_STAKES - 1):
        lock = lock.changed(None, Stake(str(number), False, b"", LATER))
    refused = asking(lock, "z:x").failure()
    assert isinstance(refused, LockBusy)
    assert isinstance(asking(lock, "7:x").unwrap().result, Waiting)


def lease(agent, fence):
    return Lease("path", agent, fence, NOW)


@pytest.mark.parametrize(
    ("stands", "agent", "fence", "held"),
    [
        ("X", "a", 1, True),
        ("X", "a", 2, False),
        ("X", "b", 1, False),
        ("x", "a", 0, False),
        ("SS", "b", 2, True),
        ("SS", "b", 1, False),
        ("-", "a", 1, False),
    ],
)
def test_only_the_holder_of_that_fence_renews_and_releases(stands, agent, fence, held):
    lock = lock_of(stands)
    again = renewed(lock, NOW, lease(agent, fence), TTL)
    ended = freed(lock, lease(agent, fence))
    assert ended.result is held
    if not held:
        assert isinstance(again.failure(), LeaseLost)
        assert ended.content is None
        return
    step = again.unwrap()
    assert (step.result.expires_at, step.not_after) == (NOW + TTL, LATER - TICK)
    assert agents(step.content) == [stake.agent for stake in lock.stakes]
    assert agent not in agents(ended.content)
    assert Lock.of(ended.content, NOW).unwrap().fence == lock.fence


def test_a_call_that_is_given_up_leaves_nothing():
    lock = lock_of("XSxs")
    assert agents(dropped(lock, b"c").content) == ["a", "b", "d"]
    assert agents(dropped(lock, b"a").content) == ["b", "c", "d"]
    assert dropped(lock, b"z").content is None


@pytest.mark.parametrize(
    ("content", "error"),
    [
        ((2, 1, ()), UnsupportedVersion),
        ((1, 1, ((1, 2),)), MalformedPayload),
        ((1, 1), MalformedPayload),
        ((1, "one", ()), MalformedPayload),
        ("lock", MalformedPayload),
        ((), MalformedPayload),
        ((1, 1, (("a", True, b"", "soon", 1),)), MalformedPayload),
    ],
    ids=["later", "short stake", "short", "fence", "text", "empty", "until"],
)
def test_what_is_no_lock_is_refused(content, error):
    assert isinstance(Lock.of(content, NOW).failure(), error)


def test_what_was_stored_is_read_again():
    lock = lock_of("SSxs")
    assert Lock.of(lock.content, NOW) == Success(lock)
    assert Lock.of(None, NOW) == Success(Lock())
