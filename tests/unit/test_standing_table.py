"""What may follow what in the record of a standing approval, by every state and moment that it may have."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import product

import pytest
from attrs import evolve

from flowpersist import Principal, RaisingHub
from flowpersist.errors import ConfigurationError, MalformedPayload, PermissionDenied
from flowpersist.stores import Stores
from flowpersist.testing.hubs import open_test_hub
from flowpersist.tools import Approvals, Call, PolicyUse, StandingApproval
from flowpersist.tools import standing_rules as rules

NOW = datetime(2027, 1, 31, 12, tzinfo=UTC)
TICK = timedelta(microseconds=1)
#: Until when no halt can have come.
LAST = NOW + timedelta(seconds=3)
CALL = Call("pay", {"amount": 5}, "1", "p", "agent", "chat")
GRANT = StandingApproval("pay:1", "pay", {}, None, None, None, None, 3, "ann", NOW)
#: Whether each of these lets a call through.
UNTIL = {None: True, NOW: True, NOW + TICK: True, NOW - TICK: False}
USED = {(None, 7): True, (3, 2): True, (3, 3): False, (3, 4): False}
REVOKED = {None: True, NOW: False}


@pytest.mark.parametrize("until", UNTIL, ids=["never", "now", "later", "over"])
@pytest.mark.parametrize("revoked", REVOKED, ids=["live", "revoked"])
@pytest.mark.parametrize("counts", USED, ids=["endless", "left", "used up", "beyond"])
def test_a_use_is_taken_only_of_what_is_live(until, revoked, counts):
    grant = evolve(GRANT, until=until, uses=counts[0], used=counts[1], revoked_at=revoked)
    live = UNTIL[until] and USED[counts] and REVOKED[revoked]
    assert (grant.status(NOW) == "live") is live
    step = rules.taken(grant, NOW, call=CALL, until=LAST).unwrap()
    assert isinstance(step.result, PolicyUse) is live
    assert (step.content is None) is not live
    if live:
        after = rules.read_grant(step.content, NOW).unwrap()
        assert (after.used, after.recent) == (counts[1] + 1, (step.result,))
        assert evolve(after, used=grant.used, recent=()) == grant
        assert step.not_after == (until or LAST)
        late = rules.taken(grant, LAST + TICK, call=CALL, until=LAST).unwrap()
        assert (late.result, late.content) == (rules.Late(LAST + TICK), None)


def test_uses_are_copied_before_they_are_too_many_and_none_is_lost():
    grant, log, taken = evolve(GRANT, uses=100), [], 0
    while True:
        step = rules.taken(grant, NOW, call=CALL, until=LAST).unwrap()
        if step.result is None:
            break
        if step.result == rules.FULL:
            assert step.content is None
            log += grant.recent
            # Of those that came meanwhile none is dropped.
            copied = rules.copied(grant, grant.recent[-1].number - 1).unwrap()
            grant = rules.read_grant(copied.content, NOW).unwrap()
            log.pop()
            continue
        grant, taken = rules.read_grant(step.content, NOW).unwrap(), taken + 1
        assert len(grant.recent) <= rules.MOST_RECENT
    assert taken == 100
    assert [use.number for use in (*log, *grant.recent)] == list(range(1, 101))
    assert rules.copied(grant, 0).unwrap().content is None
    assert rules.copied(None, 9).unwrap().content is None


def test_it_is_revoked_once_and_ends_in_the_future():
    revoked = rules.revoked(GRANT, NOW, "bo").unwrap()
    assert (revoked.result.revoked_by, revoked.result.revoked_at) == ("bo", NOW)
    again = rules.revoked(revoked.result, NOW + TICK, "cy").unwrap()
    assert (again.result, again.content) == (revoked.result, None)
    assert rules.revoked(None, NOW, "bo").unwrap().result is None
    for until in (NOW, NOW - TICK):
        failure = rules.granted(evolve(GRANT, until=until), NOW, None).failure()
        assert isinstance(failure, ConfigurationError)
    made = rules.granted(GRANT, NOW, TICK).unwrap()
    assert (made.result.until, made.result.at) == (NOW + TICK, NOW)


DAMAGED = [
    {},
    [],
    "text",
    7,
    {"format": 2},
    {"format": 1},
    {**GRANT.content(), "recent": [{}]},
    {**GRANT.content(), "x": 1},
]


@pytest.mark.parametrize("content", DAMAGED, ids=range(len(DAMAGED)))
def test_what_is_no_grant_is_named(content):
    assert isinstance(rules.read_grant(content, NOW).failure(), MalformedPayload)
    assert isinstance(rules.read_use(content).failure(), MalformedPayload)


async def test_a_process_that_died_between_copying_and_dropping_leaves_each_use_once():
    async with open_test_hub("memory://") as opened:
        approvals = Approvals(RaisingHub(opened))
        grant = await approvals.grant("pay", by="ann", arguments={}, uses=50)
        for _ in range(rules.MOST_RECENT):
            await approvals.use(CALL)
        log = Stores(opened).values("approval_uses", dict)
        found = await approvals.get(grant.id)
        tool, _, suffix = grant.id.rpartition(":")
        for use in found.recent[:9]:
            await log.save((tool, suffix, use.number), rules.use_content(use))
        for count in (rules.MOST_RECENT, 40):
            while (await approvals.get(grant.id)).used < count:
                await approvals.use(CALL)
            numbers = [use.number async for use in approvals.uses(grant.id)]
            assert numbers == list(range(1, count + 1))


def test_versions_and_policies_that_are_named_must_be_the_tools():
    for version, policy in product((None, "1", "2"), (None, "p", "q")):
        grant = evolve(GRANT, version=version, policy=policy)
        assert grant.covers(CALL) is (version in {None, "1"} and policy in {None, "p"})


@pytest.mark.parametrize("kind", ["model", "agent", "policy", "system"])
async def test_only_a_person_grants_a_standing_approval(kind):
    async with open_test_hub(keyring=None) as hub:
        approvals = Approvals(hub)
        with pytest.raises(PermissionDenied, match=f"'{kind}' can't grant"):
            await approvals.grant("pay", by=Principal("it", kind=kind), arguments={}, uses=1)
        assert await approvals.list() == ()
        grant = await approvals.grant("pay", by=Principal("ann"), arguments={}, uses=1)
        assert grant.by == "ann"
        # To end one is no harm, so everybody may.
        assert (await approvals.revoke(grant.id, by=Principal("it", kind=kind))).revoked_by == "it"
