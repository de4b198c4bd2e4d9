"""Policies of retries, maps that go on over errors, and parallels that need some of their branches."""

from __future__ import annotations

import asyncio

import pytest
from returns.result import Failure

from flowpersist import or_raise
from flowpersist.dynamicflow import Completed, FlowRunner, Suspended, ToolContext, tool
from flowpersist.dynamicflow import compile as compile_flow
from flowpersist.errors import WaitSuperseded
from flowpersist.testing import open_test_hub

calls: list[object] = []


class Busy(OSError):
    """What a tool raises."""


@tool()
async def say(value: object = None) -> object:
    calls.append(value)
    return value


@tool()
async def busy(times: int, context: ToolContext) -> int:
    calls.append(context.attempt)
    if context.attempt <= times:
        raise Busy("try again")
    return context.attempt


@tool()
async def odd(value: int) -> int:
    if value % 2:
        raise ValueError(f"{value} is odd")
    return value


@tool()
async def hang(value: object = None) -> None:
    try:
        await asyncio.Event().wait()
    finally:
        calls.append("cancelled")


@pytest.fixture(autouse=True)
def _fresh():
    calls.clear()


async def flow(*steps):
    async with open_test_hub(keyring=None) as hub:
        return await FlowRunner(hub, [say, busy, odd, hang], backoff=lambda _: 0).start({"flow": list(steps)})


def spoken(value, **more):
    return {"tool": "say", "args": {"value": value}, **more}


def asked(name):
    return {"id": name, "tool": "await_input", "args": {"prompt": "?"}}


FIXED = {"attempts": 2, "delay": 0, "backoff": "fixed"}


@pytest.mark.parametrize(
    ("retry", "attempts"),
    [
        (2, 3),
        (FIXED, 3),
        ({**FIXED, "on": ["Busy"]}, 3),
        ({**FIXED, "on": ["ValueError", "OSError"]}, 3),
        ({**FIXED, "on": [f"{Busy.__module__}.Busy"]}, 3),
        ({**FIXED, "on": ["ValueError"]}, 1),
        ({**FIXED, "on": ["elsewhere.Busy"]}, 1),
        ({"attempts": 0}, 1),
    ],
)
async def test_only_named_errors_are_tried_again(retry, attempts):
    outcome = await flow({"tool": "busy", "args": {"times": 9}, "retry": retry})
    assert "Busy: try again" in str(outcome.failure())
    assert calls == list(range(1, attempts + 1))


async def test_a_timeout_is_a_class_of_error():
    step = {"tool": "hang", "timeout": 5, "retry": {**FIXED, "on": ["TimeoutError"]}}
    assert "attempt 3 took longer" in str((await flow(step)).failure())


async def test_an_error_within_a_container_tries_the_container_again():
    inner = {"sequence": [{"tool": "busy", "args": {"times": 9}}], "retry": {**FIXED, "on": ["Busy"]}}
    assert isinstance(await flow(inner), Failure)
    assert len(calls) == 3


@pytest.mark.parametrize(
    ("retry", "pauses"),
    [
        ({"attempts": 4, "delay": 100}, [0.1, 0.2, 0.4, 0.8]),
        ({"attempts": 4, "delay": 100, "maxDelay": 250}, [0.1, 0.2, 0.25, 0.25]),
        ({"attempts": 3, "delay": 100, "backoff": "fixed"}, [0.1, 0.1, 0.1]),
    ],
)
async def test_pauses_before_further_attempts(monkeypatch, retry, pauses):
    slept, sleep = [], asyncio.sleep

    async def at_once(seconds, *rest):
        if seconds:
            slept.append(seconds)
        await sleep(0, *rest)

    monkeypatch.setattr("flowpersist.dynamicflow.engine.asyncio.sleep", at_once)
    await flow({"tool": "busy", "args": {"times": 9}, "retry": retry})
    assert [one for one in slept if one in pauses] == pytest.approx(pauses)


BAD_RETRIES = {
    "negative": -1,
    "text": "three",
    "no attempts": {},
    "many attempts": {"attempts": 101},
    "unknown field": {"attempts": 1, "jitter": 1},
    "negative delay": {"attempts": 1, "delay": -1},
    "long delay": {"attempts": 1, "delay": 10**9},
    "text for a delay": {"attempts": 1, "delay": "1s"},
    "unknown backoff": {"attempts": 1, "backoff": "random"},
    "list for a backoff": {"attempts": 1, "backoff": []},
    "text for classes": {"attempts": 1, "on": "TimeoutError"},
    "number for a class": {"attempts": 1, "on": [1]},
}


@pytest.mark.parametrize("retry", BAD_RETRIES.values(), ids=BAD_RETRIES)
def test_a_policy_that_makes_no_sense_is_refused(retry):
    error = compile_flow({"flow": [spoken(1, id="s", retry=retry)]}).failure()
    assert error.step == "s"
    assert "retry" in str(error)


@pytest.mark.parametrize("concurrency", [1, 5])
async def test_a_map_goes_on_over_errors(concurrency):
    body = {"id": "check", "tool": "odd", "args": {"value": "$item"}}
    step = {"map": [2, 3, 4, 5], "with": body, "continueOnError": True, "concurrency": concurrency}
    outcome = or_raise(await flow(step))
    first, second, third, fourth = outcome.result
    assert (first, third) == (2, 4)
    assert second["error"]["step"] == fourth["error"]["step"] == "check"
    assert "3 is odd" in second["error"]["message"]


async def test_a_failed_item_closes_its_questions_and_the_others_wait():
    async with open_test_hub(keyring=None) as hub:
        body = {"parallel": [asked("ask"), {"tool": "odd", "args": {"value": "$item"}}]}
        step = {"id": "each", "map": [1, 2], "with": body, "parallel": True, "continueOnError": True}
        runner = FlowRunner(hub, [say, odd])
        outcome = or_raise(await runner.start({"flow": [step]}))
        assert isinstance(outcome, Suspended)
        assert len(outcome.waits) == 1
        assert outcome.waits[0].step.startswith("each[1].")
        done = or_raise(await runner.resume(outcome.waits[0].key, answer="yes"))
        assert isinstance(done, Completed)
        assert "1 is odd" in done.result[0]["error"]["message"]
        assert done.result[1] == ["yes", 2]


@pytest.mark.parametrize("until", ["any", {"count": 1}])
async def test_the_first_branch_ends_the_others(until):
    outcome = or_raise(await flow({"parallel": [{"tool": "hang"}, spoken("quick"), asked("ask")], "until": until}))
    assert outcome.result == [None, "quick", None]
    assert calls == ["quick", "cancelled"]


async def test_some_of_several_answers_are_enough_and_close_the_others():
    async with open_test_hub(keyring=None) as hub:
        runner = FlowRunner(hub, [say])
        names = ["a", "b", "c"]
        document = {
            "flow": [{"id": "votes", "parallel": [asked(name) for name in names], "until": {"count": 2}}, asked("more")]
        }
        outcome = or_raise(await runner.start(document))
        keys = {wait.step.rsplit(".", 1)[-1]: wait.key for wait in outcome.waits}
        outcome = or_raise(await runner.resume(keys["c"], answer="C"))
        assert isinstance(outcome, Suspended)
        outcome = or_raise(await runner.resume(keys["a"], answer="A"))
        assert [wait.step for wait in outcome.waits] == ["more"]
        assert isinstance((await hub.answer(keys["b"], "B")).failure(), WaitSuperseded)
        done = or_raise(await runner.resume(outcome.waits[0].key, answer="!"))
        assert done.outputs["votes"] == ["A", None, "C"]
        assert (done.outputs["a"], done.outputs["c"]) == ("A", "C")
        assert "b" not in done.outputs


async def test_it_fails_once_too_few_branches_can_finish():
    broken = {"tool": "odd", "args": {"value": 1}}
    two = {"parallel": [broken, spoken("a"), spoken("b")], "until": {"count": 2}}
    assert or_raise(await flow(two)).result == [None, "a", "b"]
    three = {"parallel": [broken, broken, spoken("b")], "until": {"count": 2}}
    assert "1 is odd" in str((await flow(three)).failure())


BAD_UNTILS = [
    "some",
    {"count": 0},
    {"count": 3},
    {"count": "1"},
    {"count": True},
    {},
    {"count": 1, "of": 2},
    1,
    ["any"],
]


@pytest.mark.parametrize("at", range(len(BAD_UNTILS)))
def test_an_until_that_makes_no_sense_is_refused(at):
    error = compile_flow({"flow": [{"id": "p", "parallel": [spoken(1), spoken(2)], "until": BAD_UNTILS[at]}]}).failure()
    assert error.step == "p"
    assert "until" in str(error)
