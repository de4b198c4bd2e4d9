"""What an answer to a run costs, in calls of functions: the same at every run, and so without a clock."""

import sys
from collections.abc import Callable
from typing import Any, Self

import pytest

from flowpersist import KeyRing, open_hub, or_raise
from flowpersist.dynamicflow import FlowRunner, Suspended
from flowpersist.inputs.await_input import AwaitInput

ASK = {"id": "ask", "tool": "await_input", "args": {"id": "ok", "prompt": "ok $item?", "schema": {"type": "boolean"}}}


def many_waits(count: int) -> dict[str, Any]:
    """A document that awaits as many answers as it has items."""
    return {"flow": [{"id": "each", "map": "$input", "concurrency": count, "with": [ASK]}]}


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
        for _ in range(3):
            assert isinstance(outcome, Suspended)
            key = outcome.waits[0].key
            with Calls() as calls:
                outcome = or_raise(await runner.resume(key, answer=True))
        return calls.count


async def test_each_further_open_wait_adds_the_same_to_an_answer():
    few, some, many = [await cost_of_an_answer(many_waits, count) for count in (20, 60, 180)]
    assert (many - some) / 120 < 1.2 * (some - few) / 40


@pytest.mark.parametrize("most", [230])
async def test_an_open_wait_adds_few_calls_to_an_answer(most):
    few, many = [await cost_of_an_answer(many_waits, count) for count in (20, 120)]
    assert (many - few) / 100 < most


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
