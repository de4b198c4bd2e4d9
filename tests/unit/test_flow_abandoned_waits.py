"""Waits that nobody needs any more close in the put that gives them up: by the hub's verbs, and in a run's loops."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta

import pytest
import pytest_asyncio
from returns.result import Failure, Success

from flowpersist import AwaitInput, Criteria, RaisingHub, Status, or_raise
from flowpersist.dynamicflow import Completed, FlowRunner, Suspended, tool
from flowpersist.dynamicflow import context as context_module
from flowpersist.errors import AlreadyResumed, AnswerConflict, PersistenceError, WaitSuperseded
from flowpersist.lifecycle import WaitStatus
from flowpersist.testing.hubs import open_test_hub, travel

HOUR = timedelta(hours=1)
ASK = AwaitInput(id="ask", prompt="?")
SHORT = AwaitInput(id="ask", prompt="?", timeout=HOUR)


@pytest_asyncio.fixture(loop_scope="module")
async def hub():
    async with open_test_hub(keyring=None) as opened:
        yield opened


@pytest.fixture(params=["outcomes", "raising"])
def do(request, hub):
    """A verb by one of the two doors: its value, or its error."""

    async def outcomes(verb, *args, **options):
        told = await getattr(hub, verb)(*args, **options)
        return told.failure() if isinstance(told, Failure) else told.unwrap()

    async def raising(verb, *args, **options):
        try:
            return await getattr(RaisingHub(hub), verb)(*args, **options)
        except PersistenceError as error:
            return error

    return {"outcomes": outcomes, "raising": raising}[request.param]


async def claimed(do):
    new = await do("suspend", 1, awaiting={"go": ASK, "open": ASK, "short": SHORT, "late": ASK}, until="each")
    return new, await do("claim", new.keys["go"], "yes")


async def test_a_pause_closes_the_waits_that_it_names(do):
    new, run = await claimed(do)
    # The holder can't know that it was answered meanwhile.
    await do("answer", new.keys["late"], "in vain", by="ann")
    next_pause = await do("suspend_next", run, 2, awaiting=None, until="each", superseded={"short", "late"})
    assert [(wait.name, wait.status) for wait in next_pause.waits] == [("open", WaitStatus.OPEN)]
    assert (next_pause.status, next_pause.deadline) == (Status.WAITING, None)
    for name in ("short", "late"):
        for verb, args in (("answer", ["other"]), ("resume", ["other"]), ("claim", []), ("cancel", []), ("extend", [])):
            more = {"timeout": HOUR} if verb == "extend" else {}
            error = await do(verb, new.keys[name], *args, **more)
            assert type(error) is WaitSuperseded, (verb, error)
            assert isinstance(error, AnswerConflict)
            assert (error.code, error.receipt.wait) == ("superseded", name)
    # What was accepted is still told as such: whoever asks again after a lost reply.
    assert (await do("answer", new.keys["late"], "in vain")).outcome == "replayed"


async def test_a_name_is_free_for_the_question_that_takes_its_place(do):
    new, run = await claimed(do)
    after = await do("suspend_next", run, 2, awaiting={"open": ASK}, until="each", superseded=["open", "short", "late"])
    assert set(after.keys) == {"open"}
    assert after.keys["open"] != new.keys["open"]
    assert type(await do("answer", new.keys["open"], 1)) is WaitSuperseded
    assert (await do("claim", after.keys["open"], "new")).answers == {"open": "new"}


async def test_the_end_closes_the_waits_that_it_names(do):
    new, run = await claimed(do)
    await do("answer", new.keys["late"], "in vain")
    assert (await do("complete", run, "done", superseded=["open", "late"])).status is Status.COMPLETED
    told = {name: type(await do("answer", key, "other")) for name, key in new.keys.items()}
    assert told == {
        "go": AlreadyResumed,
        "open": WaitSuperseded,
        "short": AlreadyResumed,
        "late": WaitSuperseded,
    }


@pytest.mark.parametrize("verb", ["complete", "suspend_next"])
async def test_names_of_no_waits_are_refused(do, verb):
    _, run = await claimed(do)
    with pytest.raises(ValueError, match="no such wait"):
        await do(verb, run, "state", superseded=["opne"])
    for wrong in ("open", 7, [1]):
        with pytest.raises(TypeError, match="superseded"):
            await do(verb, run, "state", superseded=wrong)
    assert (await do("renew", run)) is not None


async def test_an_expired_wait_that_is_given_up_wakes_nobody(hub, do):
    new, run = await claimed(do)
    travel(hub, timedelta(seconds=20))
    await do("renew", run, lease=2 * HOUR)
    travel(hub, HOUR)
    paused = await do("suspend_next", run, 2, until="each", superseded=["short"])
    assert (paused.status, paused.deadline) == (Status.WAITING, None)
    assert new.id == paused.id


# ---------------------------------------------------------------------------------------------------- a run of a flow


@tool()
async def say(value: object = None) -> object:
    return value


@tool()
async def boom() -> None:
    raise RuntimeError("it broke")


def ask(name, **args):
    return {"id": name, "tool": "await_input", "args": {"prompt": "?", **args}}


def document(*steps):
    return {"flow": list(steps)}


PAIR = {"id": "p", "parallel": [[ask("a"), {"tool": "boom"}], [ask("b", timeout=3_600_000)]], "onError": [ask("c")]}


async def test_a_dead_wait_with_a_deadline_wakes_no_worker(hub):
    runner = FlowRunner(hub, [say, boom])
    first = or_raise(await runner.start(document(PAIR)))
    assert isinstance(first, Suspended)
    second = or_raise(await runner.resume(first.keys["p[0].a"], answer=1))
    assert isinstance(second, Suspended)
    assert set(second.keys) == {"p.c"}
    travel(hub, 2 * HOUR)
    assert or_raise(await hub.claim_due(Criteria(), limit=10)) == ()
    assert type((await hub.answer(first.keys["p[1].b"], 1)).failure()) is WaitSuperseded


async def test_dead_waits_of_a_loop_take_no_room(hub, monkeypatch):
    """Five turns, each of which leaves a question behind, with room for two."""
    monkeypatch.setattr(context_module, "MAX_OPEN", 2)
    turn = {"id": "p", "parallel": [[ask("a"), {"tool": "boom"}], [ask("b")]], "onError": [{"tool": "say"}]}
    runner = FlowRunner(hub, [say, boom])
    outcome = or_raise(await runner.start(document({"id": "l", "loop": "for", "over": [1, 2, 3, 4, 5], "body": turn})))
    for number in range(5):
        assert isinstance(outcome, Suspended)
        assert set(outcome.keys) == {f"l[{number}].p[0].a", f"l[{number}].p[1].b"}
        outcome = or_raise(await runner.resume(outcome.keys[f"l[{number}].p[0].a"], answer=1))
    assert isinstance(outcome, Completed)


async def test_a_question_that_found_no_room_has_it_when_others_are_given_up(hub, monkeypatch):
    """Or the run would wait with no question open, for ever."""
    monkeypatch.setattr(context_module, "MAX_OPEN", 1)
    gives_up = {
        "id": "g",
        "parallel": [[ask("a")], [{"tool": "later"}, {"tool": "boom"}]],
        "onError": [{"tool": "say"}],
    }

    @tool()
    async def soon() -> None:
        for _ in range(10):
            await asyncio.sleep(0)

    @tool()
    async def later() -> None:
        for _ in range(50):
            await asyncio.sleep(0)

    runner = FlowRunner(hub, [say, boom, soon, later])
    outcome = or_raise(
        await runner.start(document({"id": "o", "parallel": [[gives_up], [{"tool": "soon"}, ask("b")]]}))
    )
    assert isinstance(outcome, Suspended)
    assert set(outcome.keys) == {"o[1].b"}
    assert isinstance(await runner.resume(outcome.key, answer=1), Success)


async def test_the_end_of_a_run_supersedes_what_its_branches_left_open(hub, caplog):
    caplog.set_level(logging.ERROR)
    steps = {"id": "p", "parallel": [[ask("a"), {"tool": "boom"}], [ask("b")]], "onError": [{"tool": "say"}]}
    runner = FlowRunner(hub, [say, boom])
    first = or_raise(await runner.start(document(steps)))
    assert isinstance(first, Suspended)
    assert isinstance(or_raise(await runner.resume(first.keys["p[0].a"], answer=1)), Completed)
    assert type((await hub.answer(first.keys["p[1].b"], 1)).failure()) is WaitSuperseded
    assert type((await runner.resume(first.keys["p[1].b"], answer=1)).failure()) is WaitSuperseded
