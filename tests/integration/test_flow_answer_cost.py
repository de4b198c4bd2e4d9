"""What an answer to a run costs, in calls of functions: the same at every run, and so without a clock."""

import asyncio
import sys
from collections.abc import Callable
from typing import Any, Self

import pytest
from returns.result import Failure

from flowpersist import KeyRing, open_hub, or_raise
from flowpersist.dynamicflow import Completed, FlowRunner, Suspended, tool
from flowpersist.dynamicflow import context as context_module
from flowpersist.inputs.await_input import AwaitInput

ASK = {"id": "ask", "tool": "await_input", "args": {"id": "ok", "prompt": "ok $item?", "schema": {"type": "boolean"}}}

NOTHING_SHOWN = {**ASK, "args": {"id": "ok", "prompt": "Go on?"}}
ANY = {**ASK, "args": {"id": "ok", "prompt": "what of $item?"}}


def many_waits(count: int) -> dict[str, Any]:
    """A document that awaits as many answers as it has items."""
    return {"flow": [{"id": "each", "map": "$input", "concurrency": count, "with": [ASK]}]}


def after_many(count: int) -> dict[str, Any]:
    """A document of as many iterations, of which all but a few have finished when it first pauses."""
    no = {"id": "no", "expression": "$item"}
    one = {"id": "one", "condition": f"$item >= {count - 5}", "then": [ASK], "else": [no]}
    return {"flow": [{"id": "each", "map": "$input", "concurrency": count, "with": [one]}]}


class Calls:
    """Counts the calls of Python functions in this thread while it is entered."""

    def __init__(self) -> None:
        self.count = 0

    def __enter__(self) -> Self:
        sys.setprofile(self._called)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def _called(self, _frame: object, event: str, _argument: object) -> None:
        self.count += event == "call"


async def cost_of_an_answer(document: Callable[[int], dict[str, Any]], count: int) -> int:
    """The calls of the third answer: the first ones fill caches."""
    async with open_hub("memory://", keyring=KeyRing.generate()) as hub:
        runner = FlowRunner(hub)
        outcome = or_raise(await runner.start(document(count), input=list(range(count))))
        calls = Calls()
        for _ in range(3):
            assert isinstance(outcome, Suspended)
            key, calls = outcome.waits[0].key, Calls()
            with calls:
                outcome = or_raise(await runner.resume(key, answer=True))
        return calls.count


async def test_an_answer_costs_about_the_same_beside_any_number_of_open_waits():
    few = await cost_of_an_answer(many_waits, 10)
    for count in (100, 1_000, 10_000):
        assert await cost_of_an_answer(many_waits, count) < 1.8 * few


async def test_finished_iterations_cost_an_answer_nothing():
    few, many = [await cost_of_an_answer(after_many, count) for count in (10, 2_000)]
    assert many < 1.6 * few


async def test_an_answer_reads_no_question_that_stays_open(monkeypatch):
    read: list[object] = []
    made = AwaitInput.from_data

    def counted(data):
        read.append(data["id"])
        return made(data)

    async with open_hub("memory://", keyring=KeyRing.generate()) as hub:
        runner = FlowRunner(hub)
        outcome = or_raise(await runner.start(many_waits(30), input=list(range(30))))
        assert isinstance(outcome, Suspended)
        monkeypatch.setattr(AwaitInput, "from_data", counted)
        outcome = or_raise(await runner.resume(outcome.waits[0].key, answer=True))
        assert isinstance(outcome, Suspended)
        assert len(outcome.waits) == 29
        assert read == []
        assert outcome.waits[0].awaiting.prompt == "ok 1?"
        assert read == ["ok"]


async def test_answers_in_any_order_open_what_follows_them_and_nothing_else():
    document = {"flow": [{"id": "each", "map": "$input", "concurrency": 8, "with": [ANY, {**ANY, "id": "again"}]}]}
    expected = {f"each[{index}].ask" for index in range(8)}
    async with open_hub("memory://", keyring=KeyRing.generate()) as hub:
        runner = FlowRunner(hub)
        outcome = or_raise(await runner.start(document, input=list(range(8))))
        while isinstance(outcome, Suspended):
            assert outcome.keys.keys() == expected
            wait = outcome.waits[len(outcome.waits) // 2]
            expected.remove(wait.step)
            expected |= {wait.step.replace("ask", "again")} if wait.step.endswith("ask") else set()
            outcome = or_raise(await runner.resume(wait.key, answer=wait.step))
    assert expected == set()
    assert isinstance(outcome, Completed)
    assert outcome.result == [f"each[{index}].again" for index in range(8)]


async def test_an_iteration_goes_on_by_its_answer_while_the_only_other_one_that_runs_is_in_a_tool():
    running, ended, noted = asyncio.Event(), asyncio.Event(), asyncio.Event()

    @tool()
    async def work(item: int) -> int:
        if item == 2:
            running.set()
            await ended.wait()
        noted.set()
        return item

    step = {"id": "work", "tool": "work", "args": {"item": "$item"}}
    document = {"flow": [{"id": "each", "map": "$input", "concurrency": 3, "with": [ANY, step]}]}
    async with open_hub("memory://", keyring=KeyRing.generate()) as hub, asyncio.timeout(20):
        runner = FlowRunner(hub, [work])
        outcome = or_raise(await runner.start(document, input=[0, 1, 2]))
        assert isinstance(outcome, Suspended)
        slow = asyncio.create_task(runner.resume(outcome.keys["each[2].ask"], answer=True))
        await running.wait()
        or_raise(await runner.resume(outcome.keys["each[0].ask"], answer=True))
        await noted.wait()
        or_raise(await runner.resume(outcome.keys["each[1].ask"], answer=True))
        ended.set()
        finished = or_raise(await slow)
        assert isinstance(finished, Completed)
        assert finished.result == [0, 1, 2]


async def test_a_retry_with_another_input_checks_that_it_is_within_the_limits():
    failing = True

    @tool()
    async def work(item: int) -> int:
        if failing:
            raise ValueError(item)
        return item

    document = {"failed": "park", "flow": [NOTHING_SHOWN, {"id": "work", "tool": "work", "args": {"item": 1}}]}
    async with open_hub("memory://", keyring=KeyRing.generate()) as hub:
        runner = FlowRunner(hub, [work])
        outcome = or_raise(await runner.start(document, input={"item": 1}, run_id="r"))
        assert isinstance(outcome, Suspended)
        assert isinstance(await runner.resume(outcome.key, answer=1), Failure)
        failing, large = False, [0]
        for _ in range(40):
            large = [large, large]
        refused = await runner.retry("r", edit={"input": {"item": large}})
        assert isinstance(refused, Failure)
        assert "the run's input" in str(refused.failure())
        assert isinstance(or_raise(await runner.retry("r", edit={"input": {"item": 2}})), Completed)


@pytest.mark.parametrize("concurrency", [1, 3, 30])
async def test_questions_that_do_not_fit_open_as_others_are_answered(monkeypatch, concurrency):
    monkeypatch.setattr(context_module, "MAX_OPEN", 5)
    document = {"flow": [{"id": "each", "map": "$input", "concurrency": concurrency, "with": [ANY]}]}
    async with open_hub("memory://", keyring=KeyRing.generate()) as hub:
        runner = FlowRunner(hub)
        outcome = or_raise(await runner.start(document, input=list(range(30))))
        answered = 0
        while isinstance(outcome, Suspended):
            assert len(outcome.waits) == min(5, 30 - answered, 30 if concurrency > 1 else 1)
            wait = outcome.waits[-1]
            outcome = or_raise(await runner.resume(wait.key, answer=wait.step))
            answered += 1
    assert isinstance(outcome, Completed)
    assert outcome.result == [f"each[{index}].ask" for index in range(30)]


async def test_an_answer_makes_no_question_again_that_does_not_fit(monkeypatch):
    monkeypatch.setattr(context_module, "MAX_OPEN", 5)
    few, many = [await cost_of_an_answer(many_waits, count) for count in (20, 120)]
    assert (many - few) / 100 < 80


async def test_a_run_has_far_more_open_waits_than_fit_in_a_head():
    count = 2_000
    async with open_hub("memory://", keyring=KeyRing.generate()) as hub:
        runner = FlowRunner(hub)
        outcome = or_raise(await runner.start(many_waits(count), input=list(range(count))))
        assert isinstance(outcome, Suspended)
        assert [wait.step for wait in outcome.waits] == [f"each[{index}].ask" for index in range(count)]
        keys = outcome.keys
        for index in range(1, count):
            or_raise(await hub.answer(keys[f"each[{index}].ask"], index % 3 == 0))
        outcome = or_raise(await runner.resume(keys["each[0].ask"], answer=True))
    assert isinstance(outcome, Completed)
    assert outcome.result == [index % 3 == 0 for index in range(count)]
