"""answer, resume and claim: who wins, what the others are told, and what a repeat gets."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta

import pytest
import pytest_asyncio
from returns.result import Failure, Success

from flowpersist import AwaitInput, Status, or_raise
from flowpersist.errors import (
    AlreadyResumed,
    AnswerConflict,
    InputValidationError,
    StillWaiting,
    SuspensionBusy,
    SuspensionCancelled,
    SuspensionExpired,
    UnexpectedType,
    UnknownType,
    WaitSuperseded,
)
from flowpersist.testing.hubs import open_test_hub, travel

CONFIRM = AwaitInput(id="confirm", prompt="Ship it?", schema=bool)
ANYTHING = AwaitInput(id="anything", prompt="Say something")
HOUR = timedelta(hours=1)


@dataclass
class Order:
    number: int


@pytest_asyncio.fixture(loop_scope="module")
async def hub():
    async with open_test_hub(types=[Order]) as opened:
        yield opened


async def test_an_answer_is_recorded_with_who_when_and_under_which_id(hub):
    new = or_raise(await hub.suspend(1, awaiting=CONFIRM))
    receipt = or_raise(await hub.answer(new.key, True, by="ann", answer_id="a-1"))
    assert (receipt.outcome, receipt.wait, receipt.by, receipt.answer_id) == ("accepted", "confirm", "ann", "a-1")
    assert receipt.suspension_id == new.id
    seen = or_raise(await hub.inspect(new.key))
    assert (seen.status, seen.waits[0].answered_by, seen.waits[0].answered_at) == (Status.ANSWERED, "ann", receipt.at)


async def test_an_invalid_answer_names_each_problem_and_leaves_it_waiting(hub):
    schema = {
        "type": "object",
        "properties": {"n": {"type": "integer"}, "why": {"type": "string", "minLength": 3}},
        "required": ["n", "why"],
    }
    new = or_raise(await hub.suspend(1, awaiting=AwaitInput(id="form", prompt="?", schema=schema)))
    refused = (await hub.answer(new.key, {"n": "seven", "why": ""})).failure()
    assert isinstance(refused, InputValidationError)
    assert {problem.pointer for problem in refused.problems} == {"/n", "/why"}
    for verb in (hub.resume, hub.claim):
        assert isinstance((await verb(new.key, {})).failure(), InputValidationError)
    assert or_raise(await hub.inspect(new.key)).status is Status.WAITING
    assert or_raise(await hub.answer(new.key, {"n": 7, "why": "because"})).outcome == "accepted"


async def test_the_same_answer_again_is_replayed_and_another_is_a_conflict(hub):
    new = or_raise(await hub.suspend(1, awaiting=CONFIRM))
    first = or_raise(await hub.answer(new.key, True, by="ann", answer_id="a-1"))
    by_value = or_raise(await hub.answer(new.key, True, by="bob"))
    by_id = or_raise(await hub.answer(new.key, False, by="bob", answer_id="a-1"))
    for again in (by_value, by_id):
        assert (again.outcome, again.by, again.at, again.answer_id) == ("replayed", "ann", first.at, "a-1")
    conflict = (await hub.answer(new.key, False, answer_id="b-1")).failure()
    assert isinstance(conflict, AnswerConflict)
    assert (conflict.receipt.by, conflict.receipt.answer_id) == ("ann", "a-1")
    assert conflict.status == Status.ANSWERED


@pytest.mark.parametrize(("one", "other"), [(True, 1), (1, 1.0), ([], {}), ("1", 1), (None, False), (0, False)])
async def test_answers_that_only_look_alike_are_not_the_same(hub, one, other):
    new = or_raise(await hub.suspend(1, awaiting=ANYTHING))
    or_raise(await hub.answer(new.key, one))
    assert isinstance((await hub.answer(new.key, other)).failure(), AnswerConflict)
    got = or_raise(await hub.resume(new.key)).answer
    assert (type(got), got) == (type(one), one)


async def test_equal_objects_are_the_same_answer_whatever_their_order(hub):
    new = or_raise(await hub.suspend(1, awaiting=ANYTHING))
    or_raise(await hub.answer(new.key, {"a": 1, "b": [2]}))
    assert or_raise(await hub.answer(new.key, {"b": [2], "a": 1})).outcome == "replayed"


async def test_a_replay_holds_until_the_tombstone_goes(hub):
    new = or_raise(await hub.suspend(1, awaiting=CONFIRM))
    or_raise(await hub.answer(new.key, True))
    or_raise(await hub.resume(new.key))
    assert or_raise(await hub.answer(new.key, True)).outcome == "replayed"
    assert isinstance((await hub.answer(new.key, False)).failure(), AlreadyResumed)


@pytest.mark.parametrize("value", [object(), {1: 2}, float("nan"), b"bytes", "\ud800x", {"a": {2}}])
async def test_what_is_no_json_is_refused_before_anything_is_written(hub, value):
    new = or_raise(await hub.suspend(1, awaiting=ANYTHING))
    assert isinstance((await hub.answer(new.key, value)).failure(), InputValidationError)
    assert or_raise(await hub.inspect(new.key)).status is Status.WAITING


async def test_none_is_an_answer_and_no_value_is_none(hub):
    new = or_raise(await hub.suspend(1, awaiting=ANYTHING))
    assert isinstance((await hub.resume(new.key)).failure(), StillWaiting)
    assert dict(or_raise(await hub.resume(new.key, None)).answers) == {"anything": None}


# -------------------------------------------------------------------------------------------------------------- resume


async def test_resume_answers_and_takes_it_for_good(hub):
    new = or_raise(await hub.suspend(Order(7), awaiting=CONFIRM))
    run = or_raise(await hub.resume(new.key, True, by="ann", expect=Order))
    assert (run.state, run.answer, run.answered_by) == (Order(7), True, "ann")
    assert (run.attempt, run.sequence, run.suspension.status) == (1, 1, Status.COMPLETED)
    late = (await hub.resume(new.key, True, by="bob")).failure()
    assert isinstance(late, AlreadyResumed)
    assert late.receipt.by == "ann"
    assert late.closed_at == run.suspension.closed_at
    assert isinstance((await hub.claim(new.key)).failure(), AlreadyResumed)


async def test_one_of_many_resumers_wins(hub):
    new = or_raise(await hub.suspend("s", awaiting=CONFIRM))
    results = await asyncio.gather(*(hub.resume(new.key, True, by=str(n)) for n in range(40)))
    winners = [result for result in results if isinstance(result, Success)]
    losers = [result.failure() for result in results if isinstance(result, Failure)]
    assert len(winners) == 1
    assert all(isinstance(error, AlreadyResumed) for error in losers)


async def test_the_winners_own_answer_id_gets_the_same_run_again(hub):
    new = or_raise(await hub.suspend({"s": 1}, awaiting=CONFIRM))
    run = or_raise(await hub.resume(new.key, True, answer_id="mine"))
    again = or_raise(await hub.resume(new.key, True, answer_id="mine"))
    assert (again.state, dict(again.answers), again.fence) == (run.state, dict(run.answers), run.fence)
    assert isinstance((await hub.resume(new.key, True, answer_id="yours")).failure(), AlreadyResumed)


async def test_resume_without_a_value_takes_what_was_answered(hub):
    new = or_raise(await hub.suspend(1, awaiting=CONFIRM))
    waiting = (await hub.resume(new.key)).failure()
    assert isinstance(waiting, StillWaiting)
    assert waiting.suspension.id == new.id
    assert waiting.receipt is None
    or_raise(await hub.answer(new.key, False, by="ann"))
    assert or_raise(await hub.resume(new.key)).answered_by == "ann"


async def test_resume_with_another_value_than_the_answer_is_a_conflict(hub):
    new = or_raise(await hub.suspend(1, awaiting=CONFIRM))
    or_raise(await hub.answer(new.key, True))
    assert isinstance((await hub.resume(new.key, False)).failure(), AnswerConflict)
    assert or_raise(await hub.resume(new.key, True)).answer is True


# ---------------------------------------------------------------------------------------------------------------- claim


async def test_claim_is_exclusive_until_its_lease_ends(hub):
    new = or_raise(await hub.suspend("s", awaiting=CONFIRM))
    run = or_raise(await hub.claim(new.key, True, lease=timedelta(seconds=10)))
    busy = (await hub.claim(new.key)).failure()
    assert isinstance(busy, SuspensionBusy)
    assert timedelta(0) < busy.retry_at - run.suspension.updated_at <= timedelta(seconds=10)
    assert isinstance((await hub.resume(new.key)).failure(), SuspensionBusy)
    travel(hub, timedelta(seconds=11))
    second = or_raise(await hub.claim(new.key))
    assert (second.attempt, dict(second.answers), second.state) == (2, {"confirm": True}, "s")
    assert second.fence > run.fence


async def test_a_value_that_comes_while_somebody_runs_is_not_recorded_by_claim(hub):
    pair = or_raise(await hub.suspend(1, awaiting={"a": CONFIRM, "b": CONFIRM}, until="each"))
    or_raise(await hub.claim(pair.keys["a"], True))
    assert isinstance((await hub.claim(pair.keys["b"], True)).failure(), SuspensionBusy)
    assert [wait.name for wait in or_raise(await hub.inspect(pair.id)).open_waits] == ["b"]
    assert or_raise(await hub.answer(pair.keys["b"], True)).outcome == "accepted"


async def test_the_same_claim_id_gets_the_same_run_again(hub):
    new = or_raise(await hub.suspend("s", awaiting=CONFIRM))
    run = or_raise(await hub.claim(new.key, True, claim_id="worker-1"))
    again = or_raise(await hub.claim(new.key, True, claim_id="worker-1"))
    assert (again.fence, again.attempt, again.claim_id) == (run.fence, run.attempt, "worker-1")
    assert isinstance((await hub.claim(new.key, claim_id="worker-2")).failure(), SuspensionBusy)


async def test_one_of_many_claimers_wins(hub):
    new = or_raise(await hub.suspend("s", awaiting=CONFIRM))
    or_raise(await hub.answer(new.key, True))
    results = await asyncio.gather(*(hub.claim(new.key) for _ in range(40)))
    assert sum(isinstance(result, Success) for result in results) == 1
    assert {type(result.failure()) for result in results if isinstance(result, Failure)} == {SuspensionBusy}


async def test_a_claim_that_answers_while_others_are_missing_keeps_the_answer(hub):
    pair = or_raise(await hub.suspend("s", awaiting={"a": CONFIRM, "b": CONFIRM}))
    waiting = (await hub.claim(pair.keys["a"], True, by="ann")).failure()
    assert isinstance(waiting, StillWaiting)
    assert (waiting.receipt.outcome, waiting.receipt.wait, waiting.receipt.by) == ("pending", "a", "ann")
    assert [wait.name for wait in waiting.suspension.open_waits] == ["b"]
    assert "b" in str(waiting)
    assert dict(or_raise(await hub.claim(pair.keys["b"], False)).answers) == {"a": True, "b": False}


@pytest.mark.parametrize("lease", [timedelta(0), timedelta(seconds=-1)])
async def test_a_lease_must_be_positive(hub, lease):
    new = or_raise(await hub.suspend("s"))
    for call in (
        lambda: hub.claim(new.key, lease=lease),
        lambda: hub.claim_due(lease=lease),
        lambda: hub.work(None, lease=lease),
    ):
        with pytest.raises(ValueError, match="lease"):
            await call()
    with pytest.raises(ValueError, match="lease"):
        hub.running(new.key, lease=lease)


# ---------------------------------------------------------------------------------------------------------------- until


async def test_all_is_answered_by_the_last(hub):
    three = or_raise(await hub.suspend(1, awaiting=dict.fromkeys("abc", CONFIRM), until="all"))
    outcomes = [or_raise(await hub.answer(three.keys[name], True)).outcome for name in "cab"]
    assert outcomes == ["pending", "pending", "accepted"]
    assert dict(or_raise(await hub.resume(three.keys["a"])).answers) == dict.fromkeys("abc", True)


async def test_any_is_answered_by_the_first_and_the_others_close_with_it(hub):
    three = or_raise(await hub.suspend(1, awaiting=dict.fromkeys("abc", CONFIRM), until="any"))
    assert or_raise(await hub.answer(three.keys["b"], True, by="bob")).outcome == "accepted"
    late = (await hub.answer(three.keys["a"], True)).failure()
    assert isinstance(late, WaitSuperseded)
    statuses = {wait.name: wait.status for wait in or_raise(await hub.inspect(three.id)).waits}
    assert statuses == {"a": "superseded", "b": "answered", "c": "superseded"}
    assert isinstance((await hub.claim(three.keys["c"])).failure(), WaitSuperseded)
    run = or_raise(await hub.claim(three.keys["b"]))
    assert (dict(run.answers), run.expired) == ({"b": True}, ())


async def test_each_is_claimable_at_every_answer_and_keeps_the_rest_open(hub):
    three = or_raise(await hub.suspend(0, awaiting=dict.fromkeys("abc", CONFIRM), until="each"))
    assert isinstance((await hub.claim(three.keys["a"])).failure(), StillWaiting)
    first = or_raise(await hub.claim(three.keys["a"], True))
    assert dict(first.answers) == {"a": True}
    or_raise(await hub.answer(three.keys["b"], False))  # while it runs
    second = or_raise(await hub.suspend_next(first, 1, until="each"))
    assert second.status is Status.ANSWERED
    assert second.keys["c"] == three.keys["c"]
    again = or_raise(await hub.claim(three.id))
    assert (again.state, again.sequence, dict(again.answers)) == (1, 2, {"b": False})
    third = or_raise(await hub.suspend_next(again, 2, until="each"))
    assert (third.status, dict(third.keys)) == (Status.WAITING, {"c": three.keys["c"]})
    last = or_raise(await hub.claim(three.keys["c"], True))
    assert (last.state, dict(last.answers)) == (2, {"c": True})
    or_raise(await hub.complete(last))


async def test_each_delivers_two_answers_that_came_before_the_claim_together(hub):
    pair = or_raise(await hub.suspend(0, awaiting=dict.fromkeys("ab", CONFIRM), until="each"))
    or_raise(await hub.answer(pair.keys["a"], True))
    or_raise(await hub.answer(pair.keys["b"], False))
    run = or_raise(await hub.claim(pair.id))
    assert dict(run.answers) == {"a": True, "b": False}
    with pytest.raises(ValueError, match="2"):
        _ = run.answer
    with pytest.raises(ValueError, match="2"):
        _ = run.answered_by


async def test_each_delivers_what_expired(hub):
    pair = or_raise(
        await hub.suspend(0, awaiting={"a": AwaitInput(id="a", prompt="?", timeout=HOUR), "b": CONFIRM}, until="each")
    )
    travel(hub, 2 * HOUR)
    run = or_raise(await hub.claim(pair.id))
    assert (run.expired, dict(run.answers)) == (("a",), {})
    after = or_raise(await hub.suspend_next(run, 1, until="each"))
    assert set(after.keys) == {"b"}
    assert isinstance((await hub.answer(pair.keys["a"], 1)).failure(), SuspensionExpired)


# ------------------------------------------------------------------------------------------- states that can't be read


async def test_a_state_of_another_class_than_expected_stays_as_it_was(hub):
    new = or_raise(await hub.suspend(Order(1), awaiting=CONFIRM))
    for verb in (hub.resume, hub.claim):
        assert isinstance((await verb(new.key, True, expect=dict)).failure(), UnexpectedType)
        assert or_raise(await hub.inspect(new.key)).status is Status.WAITING
    or_raise(await hub.answer(new.key, True))
    assert isinstance((await hub.claim(new.key, expect=dict)).failure(), UnexpectedType)
    assert or_raise(await hub.claim(new.key, expect=Order)).attempt == 1


async def test_a_type_that_this_process_does_not_know_leaves_it_for_one_that_does():
    async with open_test_hub(types=[Order]) as knowing:
        new = or_raise(await knowing.suspend(Order(1), awaiting=CONFIRM))
        ring = knowing.suspensions.records.sealer.keyring
        async with open_test_hub(knowing.backend, keyring=ring) as ignorant:
            or_raise(await ignorant.answer(new.key, True))
            for verb in (ignorant.resume, ignorant.claim):
                assert isinstance((await verb(new.key)).failure(), UnknownType)
            assert or_raise(await ignorant.claim_due()) == ()
            seen = or_raise(await knowing.inspect(new.key))
            assert (seen.status, seen.attempt) == (Status.ANSWERED, 0)
            assert or_raise(await knowing.claim(new.key)).state == Order(1)


# ------------------------------------------------------------------------------------------------ no answer is needed


async def test_a_run_that_needs_no_answer_is_exclusive_and_can_be_taken_over_by_its_key(hub):
    new = or_raise(await hub.suspend("s"))
    or_raise(await hub.claim(new.key, lease=timedelta(seconds=10)))
    assert isinstance((await hub.claim(new.key)).failure(), SuspensionBusy)
    assert isinstance((await hub.answer(new.key, 1)).failure(), AlreadyResumed)
    travel(hub, timedelta(seconds=11))
    second = or_raise(await hub.claim(new.key))
    assert (second.attempt, second.state) == (2, "s")
    or_raise(await hub.complete(second))
    assert isinstance((await hub.claim(new.key)).failure(), AlreadyResumed)


async def test_a_run_that_needs_no_answer_waits_for_its_key_and_goes_to_workers_once_it_is_given_back(hub):
    new = or_raise(await hub.suspend("s"))
    assert or_raise(await hub.claim_due(limit=10)) == ()
    run = or_raise(await hub.claim(new.key))
    or_raise(await hub.release(run))
    (taken,) = or_raise(await hub.claim_due(limit=10))
    assert (taken.suspension.id, taken.attempt) == (new.id, 2)


async def test_a_claim_that_comes_too_early_after_a_release_records_nothing(hub):
    pair = or_raise(await hub.suspend(0, awaiting=dict.fromkeys("ab", CONFIRM), until="each"))
    run = or_raise(await hub.claim(pair.keys["a"], True))
    or_raise(await hub.release(run, delay=HOUR))
    assert isinstance((await hub.claim(pair.keys["b"], True)).failure(), SuspensionBusy)
    assert [wait.name for wait in or_raise(await hub.inspect(pair.id)).open_waits] == ["b"]


async def largest_answer(hub):
    """The largest answer that is accepted, as a suspension that has it."""
    least, most, new = 0, 256 * 1024, None
    while most - least > 1:
        size = (least + most) // 2
        tried = or_raise(await hub.suspend(1, awaiting=AwaitInput(id="note", prompt="?")))
        if isinstance(await hub.answer(tried.key, "x" * size), Success):
            least, new = size, tried
        else:
            most = size
    return new


@pytest.mark.parametrize("verb", ["resume", "claim", "cancel"])
async def test_an_answer_never_fills_a_head_so_that_nothing_can_follow(verb):
    async with open_test_hub(keyring=None, compression="none") as plain:
        new = await largest_answer(plain)
        run = or_raise(await plain.claim(new.key))
        or_raise(await plain.cancel(new.key, "r" * 10_000))
        assert isinstance((await plain.release(run, "e" * 10_000)).failure(), SuspensionCancelled)
        new = await largest_answer(plain)
        run = or_raise(await plain.claim(new.key))
        or_raise(await plain.release(run, "e" * 10_000))
        assert isinstance(await getattr(plain, verb)(new.key), Success)


@pytest.mark.parametrize("wrong", [{1}, 7, b"ann", "x" * 600, "\0", "\ud800"])
async def test_who_answers_and_the_ids_of_calls_are_bounded_texts(hub, wrong):
    new = or_raise(await hub.suspend(1, awaiting=CONFIRM))
    for call in (
        lambda: hub.answer(new.key, True, by=wrong),
        lambda: hub.answer(new.key, True, answer_id=wrong),
        lambda: hub.resume(new.key, by=wrong),
        lambda: hub.resume(new.key, True, answer_id=wrong),
        lambda: hub.claim(new.key, True, claim_id=wrong),
    ):
        with pytest.raises((TypeError, ValueError)):
            await call()
    assert or_raise(await hub.inspect(new.key)).status is Status.WAITING
