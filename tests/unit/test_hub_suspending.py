"""suspend, reserve and inspect: what they keep, what they refuse, and what a repeat gets."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import pytest_asyncio

from flowpersist import AwaitInput, Status, SuspensionId, or_raise
from flowpersist.errors import (
    AlreadyResumed,
    IdempotencyConflict,
    KeyValidationError,
    StillWaiting,
    SuspensionCancelled,
    SuspensionExpired,
    SuspensionNotFound,
    UnsupportedType,
)
from flowpersist.keys.suspension_key import generate_key
from flowpersist.testing.hubs import open_test_hub, travel

CONFIRM = AwaitInput(id="confirm", prompt="Ship it?", schema=bool)
REASON = AwaitInput(id="reason", prompt="Why?", schema=str)
HOUR = timedelta(hours=1)


@pytest_asyncio.fixture(loop_scope="module")
async def hub():
    async with open_test_hub() as opened:
        yield opened


async def test_a_suspension_waits_and_shows_what_for(hub):
    new = or_raise(await hub.suspend({"n": 1}, awaiting=CONFIRM, metadata={"run": "r1", "n": 2}, tenant="acme"))
    seen = or_raise(await hub.inspect(new.key))
    assert seen.status is Status.WAITING
    assert (seen.id, seen.sequence, seen.attempt) == (new.id, 1, 0)
    assert (dict(seen.metadata), seen.tenant) == ({"run": "r1", "n": 2}, "acme")
    assert [wait.name for wait in seen.waits] == ["confirm"]
    assert seen.waits[0].awaiting.prompt == "Ship it?"
    assert seen.deadline is None
    assert seen.created_at.tzinfo is not None
    assert not hasattr(seen, "keys")


async def test_one_wait_has_key_and_several_have_keys(hub):
    pair = or_raise(await hub.suspend(1, awaiting={"a": CONFIRM, "b": REASON}))
    assert set(pair.keys) == {"a", "b"}
    assert pair.keys["a"] != pair.keys["b"]
    assert pair.keys["a"].id == pair.keys["b"].id == pair.id
    with pytest.raises(ValueError, match="2"):
        _ = pair.key


async def test_without_awaiting_no_answer_is_needed(hub):
    new = or_raise(await hub.suspend([1, 2]))
    run = or_raise(await hub.resume(new.key))
    assert run.state == [1, 2]
    assert (dict(run.answers), run.answer, run.expired) == ({}, None, ())


async def test_without_awaiting_a_claim_succeeds_at_once(hub):
    new = or_raise(await hub.suspend("s"))
    assert or_raise(await hub.claim(new.key)).suspension.status is Status.RUNNING


async def test_repr_and_text_of_a_new_suspension_hold_no_key(hub):
    new = or_raise(await hub.suspend(1, awaiting=CONFIRM))
    token = str(new.key)
    assert token not in repr(new)
    assert new.key.secret.hex() not in repr(new)
    assert token not in repr(or_raise(await hub.inspect(new.key)))


async def test_a_state_that_cannot_be_kept_is_refused_with_its_path(hub):
    refused = (await hub.suspend({"open": object()}, awaiting=CONFIRM)).failure()
    assert isinstance(refused, UnsupportedType)
    assert refused.path is not None
    assert "open" in refused.path
    assert or_raise(await hub.query()).items == ()


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"until": "most"}, ValueError),
        ({"timeout": timedelta(0)}, ValueError),
        ({"timeout": timedelta(seconds=-1)}, ValueError),
        ({"deadline": datetime(2030, 1, 1)}, ValueError),  # noqa: DTZ001 - that it is naive is the point
        ({"awaiting": {}}, TypeError),
        ({"awaiting": {"a": "Ship it?"}}, TypeError),
        ({"awaiting": "Ship it?"}, (TypeError, AttributeError)),
        ({"metadata": {"when": datetime(2030, 1, 1, tzinfo=UTC)}}, ValueError),
        ({"metadata": {"nul": "\0"}}, ValueError),
        ({"tenant": "x" * 513}, ValueError),
        ({"tenant": 7}, TypeError),
    ],
)
async def test_arguments_that_make_no_sense_are_raised(hub, arguments, error):
    with pytest.raises(error):
        await hub.suspend(1, **arguments)
    assert or_raise(await hub.query()).items == ()


# --------------------------------------------------------------------------------------------------------- idempotency


async def test_the_same_idempotency_key_gives_the_same_suspension_and_keys(hub):
    first = or_raise(await hub.suspend({"a": [1]}, awaiting={"x": CONFIRM, "y": REASON}, idempotency_key="order-1"))
    again = or_raise(await hub.suspend({"a": [1]}, awaiting={"x": CONFIRM, "y": REASON}, idempotency_key="order-1"))
    assert again.id == first.id
    assert dict(again.keys) == dict(first.keys)
    assert len(or_raise(await hub.query()).items) == 1


async def test_another_state_under_the_same_idempotency_key_is_a_conflict(hub):
    first = or_raise(await hub.suspend({"a": 1}, awaiting=CONFIRM, idempotency_key="order-1"))
    refused = (await hub.suspend({"a": 2}, awaiting=CONFIRM, idempotency_key="order-1")).failure()
    assert isinstance(refused, IdempotencyConflict)
    or_raise(await hub.answer(first.key, True))
    assert or_raise(await hub.resume(first.key)).state == {"a": 1}


async def test_a_repeat_after_the_answer_still_gives_the_key(hub):
    """Whoever lost the first reply can only go on with the key, also when somebody was quick to answer."""
    first = or_raise(await hub.suspend(1, awaiting=CONFIRM, idempotency_key="order-1"))
    or_raise(await hub.answer(first.key, True))
    again = or_raise(await hub.suspend(1, awaiting=CONFIRM, idempotency_key="order-1"))
    assert again.status is Status.ANSWERED
    assert again.key == first.key
    assert or_raise(await hub.resume(again.key)).answer is True


async def test_idempotency_keys_of_two_tenants_are_two_suspensions(hub):
    one = or_raise(await hub.suspend(1, awaiting=CONFIRM, idempotency_key="k", tenant="a"))
    two = or_raise(await hub.suspend(2, awaiting=CONFIRM, idempotency_key="k", tenant="b"))
    assert one.id != two.id


async def test_reserve_is_idempotent_too(hub):
    one = or_raise(await hub.reserve(CONFIRM, idempotency_key="k"))
    two = or_raise(await hub.reserve(CONFIRM, idempotency_key="k"))
    assert (one.id, one.key) == (two.id, two.key)


# ------------------------------------------------------------------------------------------------------------- reserve


async def test_an_answer_that_comes_before_the_state_is_kept(hub):
    reserved = or_raise(await hub.reserve(CONFIRM, metadata={"run": "r"}))
    assert reserved.status is Status.RESERVED
    receipt = or_raise(await hub.answer(reserved.key, True, by="ann"))
    assert receipt.outcome in {"accepted", "pending"}
    early = (await hub.resume(reserved.key)).failure()
    assert isinstance(early, StillWaiting)
    filled = or_raise(await hub.suspend({"late": "state"}, key=reserved.key))
    assert (filled.id, filled.status) == (reserved.id, Status.ANSWERED)
    assert dict(filled.metadata) == {"run": "r"}
    run = or_raise(await hub.resume(reserved.key))
    assert (run.state, run.answer, run.answered_by) == ({"late": "state"}, True, "ann")


async def test_filling_gives_the_key_back_whether_or_not_the_answer_came_early(hub):
    for early in (False, True):
        reserved = or_raise(await hub.reserve(CONFIRM))
        if early:
            or_raise(await hub.answer(reserved.key, True))
        assert or_raise(await hub.suspend("s", key=reserved.key)).key == reserved.key


async def test_a_reserved_one_waits_once_it_has_its_state(hub):
    reserved = or_raise(await hub.reserve({"a": CONFIRM, "b": CONFIRM}))
    or_raise(await hub.answer(reserved.keys["a"], True))
    filled = or_raise(await hub.suspend(1, key=reserved.keys["a"]))
    assert filled.status is Status.WAITING
    or_raise(await hub.answer(reserved.keys["b"], False))
    assert dict(or_raise(await hub.resume(reserved.keys["b"])).answers) == {"a": True, "b": False}


async def test_the_state_can_be_brought_again_but_not_another(hub):
    reserved = or_raise(await hub.reserve(CONFIRM))
    or_raise(await hub.suspend([1], key=reserved.key))
    assert or_raise(await hub.suspend([1], key=reserved.key)).id == reserved.id
    assert isinstance((await hub.suspend([2], key=reserved.key)).failure(), IdempotencyConflict)


async def test_a_reserved_key_takes_no_awaiting_of_its_own(hub):
    reserved = or_raise(await hub.reserve(CONFIRM))
    with pytest.raises(ValueError, match="awaiting"):
        await hub.suspend(1, key=reserved.key, awaiting=CONFIRM)
    with pytest.raises(ValueError, match="idempotency_key"):
        await hub.suspend(1, key=reserved.key, idempotency_key="k")


async def test_a_reserved_one_that_was_cancelled_or_has_expired_takes_no_state(hub):
    cancelled = or_raise(await hub.reserve(CONFIRM))
    or_raise(await hub.cancel(cancelled.key))
    assert isinstance((await hub.suspend(1, key=cancelled.key)).failure(), SuspensionCancelled)
    expired = or_raise(await hub.reserve(CONFIRM, timeout=HOUR))
    travel(hub, 2 * HOUR)
    assert isinstance((await hub.suspend(1, key=expired.key)).failure(), SuspensionExpired)


async def test_a_run_that_has_its_state_takes_no_second_one(hub):
    new = or_raise(await hub.suspend(1, awaiting=CONFIRM))
    assert isinstance((await hub.suspend(2, key=new.key)).failure(), AlreadyResumed | IdempotencyConflict)
    or_raise(await hub.answer(new.key, True))
    assert or_raise(await hub.resume(new.key)).state == 1


async def test_a_default_answers_a_reserved_one_too(hub):
    reserved = or_raise(await hub.reserve(AwaitInput(id="c", prompt="?", schema=bool, default=False), timeout=HOUR))
    travel(hub, 2 * HOUR)
    or_raise(await hub.suspend("s", key=reserved.key))
    run = or_raise(await hub.resume(reserved.key))
    assert (run.answer, run.answered_by) == (False, "system")


# ------------------------------------------------------------------------------------------------------ keys and ids


@pytest.mark.parametrize("verb", ["inspect", "resume", "claim", "cancel", "outcome"])
async def test_a_foreign_a_wrong_and_a_malformed_key(hub, verb):
    new = or_raise(await hub.suspend(1, awaiting=CONFIRM))
    unknown = (await getattr(hub, verb)(generate_key())).failure()
    assert isinstance(unknown, SuspensionNotFound)
    wrong = (await getattr(hub, verb)(generate_key(id=new.id))).failure()
    assert isinstance(wrong, SuspensionNotFound)
    token = str(new.key)
    for text in ("", "df_susp_", token[:-1], token + "x", token[:-1] + ("a" if token[-1] != "a" else "b"), str(new.id)):
        assert isinstance((await getattr(hub, verb)(text)).failure(), KeyValidationError), text
    assert or_raise(await hub.inspect(token)).status is Status.WAITING


async def test_a_key_of_another_prefix_is_refused_without_asking_the_store(hub):
    new = or_raise(await hub.suspend(1, awaiting=CONFIRM))
    foreign = generate_key(id=new.id, prefix="other_")
    assert isinstance((await hub.inspect(foreign)).failure(), KeyValidationError)
    assert isinstance((await hub.inspect(str(foreign))).failure(), KeyValidationError)


async def test_an_id_goes_wherever_a_key_goes_but_never_as_text(hub):
    new = or_raise(await hub.suspend(1, awaiting=CONFIRM))
    known = SuspensionId(new.id.value)
    assert or_raise(await hub.inspect(known)).id == new.id
    assert or_raise(await hub.answer(known, True)).wait == "confirm"
    assert or_raise(await hub.resume(known)).answer is True
    assert isinstance((await hub.inspect(str(known))).failure(), KeyValidationError)
    unknown = SuspensionId.new(now=datetime.now(UTC))
    assert isinstance((await hub.inspect(unknown)).failure(), SuspensionNotFound)


async def test_an_id_names_no_wait_of_several(hub):
    pair = or_raise(await hub.suspend(1, awaiting={"a": CONFIRM, "b": CONFIRM}))
    assert isinstance((await hub.answer(pair.id, True)).failure(), KeyValidationError)
    or_raise(await hub.answer(pair.keys["a"], True))
    assert or_raise(await hub.answer(pair.id, True)).wait == "b"


@pytest.mark.parametrize("named", [None, 7, b"df_susp_"])
async def test_what_is_no_key_at_all_is_a_programmers_error(hub, named):
    with pytest.raises(TypeError):
        await hub.inspect(named)


# ------------------------------------------------------------------------------------------------------------- extend


async def test_extend_moves_the_deadline_of_the_keys_wait_only(hub):
    pair = or_raise(await hub.suspend(1, awaiting={"a": CONFIRM, "b": CONFIRM}, timeout=HOUR))
    or_raise(await hub.extend(pair.keys["a"], timeout=5 * HOUR))
    seen = {wait.name: wait.deadline for wait in or_raise(await hub.inspect(pair.id)).waits}
    assert seen["a"] - seen["b"] > 3 * HOUR
    moment = datetime.now(UTC) + 9 * HOUR
    extended = or_raise(await hub.extend(pair.id, deadline=moment))
    assert {wait.deadline for wait in extended.waits} == {moment}


async def test_extend_makes_it_wait_longer(hub):
    new = or_raise(await hub.suspend(1, awaiting=CONFIRM, timeout=HOUR))
    or_raise(await hub.extend(new.key, timeout=3 * HOUR))
    travel(hub, 2 * HOUR)
    assert or_raise(await hub.answer(new.key, True)).outcome == "accepted"


async def test_extend_gives_a_deadline_to_one_that_had_none(hub):
    new = or_raise(await hub.suspend(1, awaiting=CONFIRM))
    assert or_raise(await hub.extend(new.key, timeout=HOUR)).deadline is not None
    travel(hub, 2 * HOUR)
    assert isinstance((await hub.answer(new.key, True)).failure(), SuspensionExpired)


async def test_extend_refuses_what_has_ended(hub):
    new = or_raise(await hub.suspend(1, awaiting=CONFIRM, timeout=HOUR))
    travel(hub, 2 * HOUR)
    assert isinstance((await hub.extend(new.key, timeout=HOUR)).failure(), SuspensionExpired)
    with pytest.raises(ValueError, match="timeout or a deadline"):
        await hub.extend(new.key)
    with pytest.raises(ValueError, match="positive"):
        await hub.extend(new.key, timeout=-HOUR)


# ------------------------------------------------------------------------------------------------------------- cancel


async def test_cancel_closes_and_tells_why(hub):
    new = or_raise(await hub.suspend(1, awaiting=CONFIRM))
    cancelled = or_raise(await hub.cancel(new.key, "no longer needed"))
    assert (cancelled.status, cancelled.reason) == (Status.CANCELLED, "no longer needed")
    assert cancelled.closed_at is not None
    for refused in (await hub.answer(new.key, True), await hub.resume(new.key, True), await hub.claim(new.key)):
        error = refused.failure()
        assert isinstance(error, SuspensionCancelled)
        assert (error.status, error.closed_at) == (Status.CANCELLED, cancelled.closed_at)
    assert or_raise(await hub.cancel(new.key, "again")).reason == "no longer needed"


async def test_cancel_of_an_answered_one(hub):
    new = or_raise(await hub.suspend(1, awaiting=CONFIRM))
    or_raise(await hub.answer(new.key, True))
    or_raise(await hub.cancel(new.key))
    assert isinstance((await hub.claim(new.key)).failure(), SuspensionCancelled)
    assert isinstance((await hub.answer(new.key, False)).failure(), SuspensionCancelled)


async def test_cancel_is_refused_once_it_was_resumed(hub):
    new = or_raise(await hub.suspend(1, awaiting=CONFIRM))
    or_raise(await hub.resume(new.key, True))
    assert isinstance((await hub.cancel(new.key)).failure(), AlreadyResumed)
