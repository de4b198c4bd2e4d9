"""Votes of several people on every backend: none is lost, nobody counts twice, and exactly one of them decides."""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from datetime import timedelta

import pytest
from returns.result import Failure, Success

from clients import all_at_once, client
from flowpersist import AwaitInput, KeyRing, Principal, RaisingHub, Status, or_raise
from flowpersist.backends.base import Where
from flowpersist.errors import (
    AnswerConflict,
    ConfigurationError,
    PermissionDenied,
    StateTooLarge,
    StillWaiting,
    SuspensionClosed,
)
from flowpersist.testing.hubs import open_test_hub, travel
from flowpersist.tools import Quorum, await_input
from machine import WITH_MEMORY

APPROVE, REJECT = {"decision": "approve"}, {"decision": "reject"}
OPS = ["ops"]
#: Random interleavings on each backend; FLOWPERSIST_QUORUMS=200 for the long form.
ROUNDS = int(os.environ.get("FLOWPERSIST_QUORUMS", "4"))


@pytest.fixture(params=WITH_MEMORY)
def backend(request):
    return request.param


def told(outcome):
    return outcome.unwrap().outcome if isinstance(outcome, Success) else type(outcome.failure())


# --------------------------------------------------------------------------------------------------------------- races


async def test_of_eight_voters_at_once_one_decides(url):
    async with open_test_hub(url) as hub:
        new = or_raise(await hub.suspend(1, awaiting=await_input.approval("Ship?", quorum=3)))
        votes = await asyncio.gather(*(hub.answer(new.key, APPROVE, by=f"p{n}") for n in range(8)))
        assert Counter(map(told, votes)) == {"pending": 2, "accepted": 1, AnswerConflict: 5}
        wait = or_raise(await hub.inspect(new.key)).waits[0]
        assert len(wait.tally.votes) == 3
        counted = {f"p{n}" for n, vote in enumerate(votes) if isinstance(vote, Success)}
        assert {vote.by for vote in wait.tally.votes} == counted


async def test_one_person_who_votes_eight_times_at_once_counts_once(url):
    async with open_test_hub(url) as hub:
        new = or_raise(await hub.suspend(1, awaiting=await_input.approval("Ship?", quorum=2)))
        votes = await asyncio.gather(*(hub.answer(new.key, APPROVE, by="ann") for _ in range(8)))
        assert Counter(map(told, votes)) == {"pending": 1, "replayed": 7}
        assert or_raise(await hub.inspect(new.key)).waits[0].tally.missing == 1


async def test_random_votes_end_a_quorum_exactly_once(url):
    """Against a model: the votes as the store has put them one after another."""
    async with open_test_hub(url) as hub:
        for seed in range(ROUNDS):
            chance = random.Random(seed)
            needed, veto = chance.randint(1, 4), chance.random() < 0.5
            asked = await_input.approval("Ship?", quorum=Quorum(needed, veto=veto))
            new = or_raise(await hub.suspend(1, awaiting=asked, by="p0"))
            acts = [(f"p{chance.randrange(6)}", chance.choice([APPROVE, APPROVE, REJECT])) for _ in range(12)]

            async def vote(by, value, chance=chance, key=new.key):
                await asyncio.sleep(chance.random() * 0.002)
                return by, value, await hub.answer(key, value, by=by)

            done = await asyncio.gather(*(vote(*act) for act in acts))
            taken = [(by, value) for by, value, one in done if told(one) in ("pending", "accepted")]
            assert all(told(one) is PermissionDenied for by, _, one in done if by == "p0")
            wait = or_raise(await hub.inspect(new.key)).waits[0]
            kept = {vote.by: vote.decision for vote in wait.tally.votes}
            assert len(kept) == len(wait.tally.votes)
            # Whose vote was taken has one, and it is one that was taken.
            assert kept.keys() == {by for by, _ in taken}
            assert all((by, {"decision": decision}) in taken for by, decision in kept.items())
            approvals = [decision for decision in kept.values() if decision == "approve"]
            ended = len(approvals) == needed or (veto and "reject" in kept.values())
            assert len([one for *_, one in done if told(one) == "accepted"]) == ended
            assert (wait.status == "answered") == ended
            assert len(approvals) <= needed


# ------------------------------------------------------------------------------------------------------------ processes


async def asked_in(url, ring, **options):
    async with open_test_hub(url, keyring=ring) as hub:
        return str(or_raise(await hub.suspend(1, awaiting=await_input.approval("Ship?", **options))).key)


async def test_voters_in_several_processes_are_counted_once_each(backend, url):
    if backend == "memory":
        pytest.skip("a store of one process")
    ring = KeyRing.generate()
    key = await asked_in(url, ring, quorum=5)
    voters = [f"p{n}" for n in range(6)]
    lines = await all_at_once(url, ring, "vote", [{"key": key, "voters": voters, "value": APPROVE}] * 2)
    found = Counter(outcome for line in lines for _, outcome in line)
    assert (found["accepted"], found["pending"]) == (1, 4)
    assert found["replayed"] + found["AnswerConflict"] == 7
    async with open_test_hub(url, keyring=ring) as hub:
        wait = or_raise(await hub.inspect(key)).waits[0]
        assert len({vote.by for vote in wait.tally.votes}) == len(wait.tally.votes) == 5


async def test_votes_outlive_a_process_that_is_killed_between_them(backend, url):
    if backend == "memory":
        pytest.skip("a store of one process")
    ring = KeyRing.generate()
    key = await asked_in(url, ring, quorum=3)
    async with client(url, ring, "vote", key=key, voters=["ann", "bob", "cy"], value=APPROVE, stop=2) as process:
        process.stdin.write(b"go\n")
        assert await process.stdout.readline() == b'"stopped"\n'
        process.kill()
    async with open_test_hub(url, keyring=ring) as hub:
        assert told(await hub.answer(key, APPROVE, by="bob")) == "replayed"
        run = or_raise(await hub.claim(key, APPROVE, by="cy"))
        assert [vote.by for vote in run.tallies["approval"].votes] == ["ann", "bob", "cy"]


# ------------------------------------------------------------------------------------------------- verbs and the run


async def test_the_run_is_given_one_answer_and_all_votes(url):
    async with open_test_hub(url) as hub:
        asked = await_input.approval("Ship?", quorum=2, of=OPS)
        new = or_raise(await hub.suspend("state", awaiting=asked, by=Principal("req", kind="agent")))
        ann, bob = (Principal(name, name.title(), roles=OPS, method="passkey") for name in ("ann", "bob"))
        seen = or_raise(await hub.inspect(new.key))
        assert (seen.requested_by, seen.waits[0].tally.missing) == ("req", 2)
        said = {"decision": "approve", "comment": "yes"}
        refused = await hub.resume(new.key, said, by=ann, shown_digest=seen.waits[0].digest)
        assert isinstance(refused.failure(), StillWaiting)
        assert refused.failure().receipt.tally.missing == 1
        run = or_raise(await hub.resume(new.key, APPROVE, by=bob))
        assert (run.state, run.answer, run.answered_by) == ("state", APPROVE, "bob")
        assert run.principals == {"approval": bob}
        votes = run.tallies["approval"].votes
        assert [(vote.principal, vote.value) for vote in votes] == [(ann, said), (bob, APPROVE)]
        assert [vote.digest for vote in votes] == [seen.waits[0].digest] * 2


@pytest.mark.parametrize("until", ["all", "any", "each"])
async def test_a_quorum_among_other_waits(until):
    async with open_test_hub() as hub:
        waits = {"ship": await_input.approval("Ship?", quorum=2), "name": await_input.text("Name?")}
        new = or_raise(await hub.suspend(1, awaiting=waits, until=until))
        assert told(await hub.answer(new.keys["ship"], APPROVE, by="ann")) == "pending"
        assert isinstance((await hub.claim(new.id)).failure(), StillWaiting)
        last = or_raise(await hub.answer(new.keys["ship"], APPROVE, by="bob"))
        assert last.outcome == ("pending" if until == "all" else "accepted")
        assert last.tally.missing == 0
        if until == "all":
            or_raise(await hub.answer(new.keys["name"], "x"))
        run = or_raise(await hub.claim(new.id))
        assert run.answers["ship"] == APPROVE
        # An earlier pause's key: the voter who decided gets the receipt again, another is told that it is over.
        or_raise(await hub.suspend_next(run, 2, awaiting=await_input.text("Next?")))
        assert told(await hub.answer(new.keys["ship"], APPROVE, by="bob")) == "replayed"
        assert issubclass(told(await hub.answer(new.keys["ship"], APPROVE, by="dan")), SuspensionClosed)


async def test_votes_stay_with_an_open_wait_from_pause_to_pause():
    async with open_test_hub() as hub:
        waits = {"ship": await_input.approval("Ship?", quorum=2), "name": await_input.text("Name?")}
        new = or_raise(await hub.suspend(1, awaiting=waits, until="each", by="req"))
        or_raise(await hub.answer(new.keys["ship"], APPROVE, by="ann"))
        or_raise(await hub.answer(new.keys["name"], "x"))
        run = or_raise(await hub.claim(new.id))
        assert told(await hub.answer(new.keys["ship"], REJECT, by="bob")) == "pending"
        or_raise(await hub.suspend_next(run, 2, until="each"))
        assert told(await hub.answer(new.keys["ship"], APPROVE, by="req")) is PermissionDenied
        assert told(await hub.answer(new.keys["ship"], APPROVE, by="bob")) == "accepted"


@pytest.mark.parametrize("default", [True, False])
async def test_a_deadline_with_votes_pending_is_as_without(url, default):
    options = {"default": REJECT} if default else {}
    async with open_test_hub(url) as hub:
        asked = await_input.approval("Ship?", quorum=2, expires_in=timedelta(hours=1), **options)
        new = or_raise(await hub.suspend(1, awaiting=asked))
        or_raise(await hub.answer(new.key, APPROVE, by="ann"))
        travel(hub, timedelta(hours=2))
        late = await hub.answer(new.key, APPROVE, by="bob")
        assert issubclass(told(late), SuspensionClosed)
        seen = or_raise(await hub.inspect(new.key))
        assert seen.status is (Status.ANSWERED if default else Status.EXPIRED)
        assert [vote.by for vote in seen.waits[0].tally.votes] == ["ann"]
        if default:
            assert or_raise(await hub.claim(new.id)).answered_by == "system"


async def test_large_votes_are_kept_apart(url):
    a, b, c = ("a" * 20_000, "b" * 20_000, "c" * 20_000)
    async with open_test_hub(url) as hub:
        new = or_raise(await hub.suspend(1, awaiting=await_input.text("?", quorum=2)))
        votes = [(a, "ann"), (b, "bob"), (c, "ann"), (b, "cy")]
        assert [told(await hub.answer(new.key, text, by=by)) for text, by in votes] == ["pending"] * 3 + ["accepted"]
        run = or_raise(await hub.resume(new.key))
        assert run.answer == b
        assert {vote.by: vote.value for vote in run.tallies["text"].votes} == {"ann": c, "bob": b, "cy": b}
        beside = (await hub.backend.query("default.answers", Where(), limit=100)).items
        # What ann took back is due for removal, the others are not.
        assert sorted(record.due_at is None for record in beside).count(False) >= 1


async def test_a_head_keeps_room_for_the_votes_that_are_needed():
    """What is accepted can be decided: what would not fit is refused before anything waits for it."""
    async with open_test_hub() as hub:
        asked = AwaitInput("a", "?", quorum=50)
        refused = await hub.suspend(1, awaiting={f"w{n}": asked for n in range(3000)})
        assert isinstance(refused, Failure)
        assert isinstance(refused.failure(), StateTooLarge)


async def test_a_reserved_question_takes_votes_before_its_state():
    async with open_test_hub() as hub:
        early = or_raise(await hub.reserve(await_input.approval("Ship?", quorum=2), by="req"))
        assert told(await hub.answer(early.key, APPROVE, by="ann")) == "pending"
        or_raise(await hub.suspend("state", key=early.key, by="somebody else"))
        assert told(await hub.answer(early.key, APPROVE, by="req")) is PermissionDenied
        assert or_raise(await hub.resume(early.key, APPROVE, by="bob")).state == "state"


async def test_a_quorum_that_others_can_not_reach_is_refused():
    async with open_test_hub() as hub:
        asked = AwaitInput("a", "?", assignees=["ann", "bob"], quorum=2)
        with pytest.raises(ConfigurationError, match="quorum"):
            await hub.suspend(1, awaiting=asked, by="ann")
        or_raise(await hub.suspend(1, awaiting=asked, by="cy"))


async def test_a_principal_is_taken_wherever_by_is():
    who = Principal("ann", roles=OPS)
    events, asked = [], []

    def authorizer(verb, _, by):
        asked.append((verb, by))
        return True

    async with open_test_hub(on_event=events.append, authorizer=authorizer) as made:
        hub = RaisingHub(made)
        new = await hub.suspend(1, awaiting=AwaitInput("a", "?", groups=OPS), by=who)
        await hub.inspect(new.key, by=who)
        await hub.keys(new.id, by=who)
        await hub.query(by=who)
        await hub.extend(new.key, timeout=timedelta(hours=1), by=who)
        receipt = await hub.answer(new.key, 1, by=who)
        assert (receipt.by, receipt.principal) == ("ann", who)
        run = await hub.claim(new.key, by=who)
        await hub.complete(run)
        await hub.outcome(new.id, by=who)
        other = await hub.reserve(AwaitInput("a", "?"), by=who)
        await hub.cancel(other.key, by=who)
        assert {by for verb, by in asked if verb != "complete"} == {"ann"}
        assert {event.by for event in events if event.verb != "complete"} == {"ann"}
