"""Tools that ask, over processes that are killed between the question and the answer, and in the middle of the tool."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from flowpersist import AwaitInput, KeyRing, Status, open_hub, or_raise
from flowpersist.dynamicflow import FlowRunner, ToolContext, tool
from flowpersist.tools import approve
from machine import WITH_MEMORY
from programs import started_programs

PROGRAM = Path(__file__).with_name("asking_program.py")
SIZE = AwaitInput(id="size", prompt="Which size?", schema=int)
COLOUR = AwaitInput(id="colour", prompt="Which colour?", schema=str)
ONE = {"metadata": {"name": "one"}, "flow": [{"id": "t", "tool": "order"}]}
RING = KeyRing.generate()


def order_tool(calls):
    @tool()
    async def order(context: ToolContext) -> list[Any]:
        draft = await context.memo("draft", lambda: calls.append("drafted") or b"draft")
        link = await context.link(SIZE)
        calls.append(link)
        return [len(draft), await context.ask(SIZE), await context.ask(COLOUR)]

    return order


class Each:
    @pytest.fixture(params=WITH_MEMORY)
    def backend(self, request):
        return request.param


class TestEachBackend(Each):
    @pytest.mark.parametrize("guarded", [False, True], ids=["free", "guarded"])
    async def test_a_tool_goes_on_with_each_answer_under_the_same_hub_or_another(self, backend, url, guarded):
        calls: list[object] = []
        async with open_hub(url, keyring=RING, public_url="https://x.test") as first:

            def runner(hub):
                order = order_tool(calls)
                return FlowRunner(hub, [approve(order, hub=hub).tool if guarded else order])

            outcome = or_raise(await runner(first).start(ONE))
            if guarded:
                assert calls == []
                outcome = or_raise(await runner(first).resume(outcome.key, answer={"decision": "approve"}))
            assert calls == ["drafted", f"https://x.test/{outcome.key}"]
            assert list(outcome.keys) == ["t.size"]
            if backend == "memory":
                outcome = or_raise(await runner(first).resume(outcome.key, answer=7))
                outcome = or_raise(await runner(first).resume(outcome.key, answer="red"))
        if backend != "memory":
            for answer in (7, "red"):
                async with open_hub(url, keyring=RING, public_url="https://x.test") as hub:
                    outcome = or_raise(await runner(hub).resume(outcome.key, answer=answer))
        assert outcome.result == [5, 7, "red"]
        assert calls.count("drafted") == 1
        assert len(set(calls)) == 2


@pytest.fixture
def program(tmp_path):
    with started_programs(PROGRAM, f"sqlite:///{tmp_path}/flows.db", str(tmp_path / "log")) as start:
        yield start


def said(process):
    text, _ = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    return json.loads(text.splitlines()[-1]) if text else None


def logged(tmp_path, what):
    lines = [json.loads(line) for line in (tmp_path / "log").read_text(encoding="utf-8").splitlines()]
    return [line[1:] for line in lines if line[0] == what]


async def status(tmp_path):
    async with open_hub(f"sqlite:///{tmp_path}/flows.db", keyring=None) as hub:
        return or_raise(await hub.query()).items[0].status


def worked(program, tmp_path):
    """A worker goes on with the run until it waits again or is done."""
    worker = program("work")
    deadline = time.monotonic() + 60
    while asyncio.run(status(tmp_path)) not in {Status.WAITING, Status.COMPLETED}:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    worker.terminate()
    worker.wait()


def test_each_answer_may_come_in_a_process_of_its_own(program, tmp_path):
    keys = said(program("start"))["suspended"]
    assert logged(tmp_path, "link") == [[f"https://x.test/{keys['t.size']}"]]
    keys = said(program("resume", keys["t.size"], "7"))["suspended"]
    assert said(program("resume", keys["t.colour"], '"red"')) == {"completed": [{"draft": 1}, 7, "red"]}
    # The tool was called with the same key each time, and has drafted once.
    assert logged(tmp_path, "begun") == [["t/1"]] * 3
    assert logged(tmp_path, "drafted") == [[]]
    assert len({json.dumps(link) for link in logged(tmp_path, "link")}) == 1


@pytest.mark.parametrize("point", ["drafted", "linked"])
def test_a_tool_that_is_killed_before_it_asks_asks_in_another_process(program, tmp_path, point):
    assert said(program("start", DIE_AT=point)) is None
    worked(program, tmp_path)
    keys = said(program("start"))["suspended"]
    links = {link for (link,) in logged(tmp_path, "link")}
    # A link that was given is the same afterwards: its question had been stored before.
    assert links == {f"https://x.test/{keys['t.size']}"}
    keys = said(program("resume", keys["t.size"], "7"))["suspended"]
    assert said(program("resume", keys["t.colour"], '"red"')) == {"completed": [{"draft": 1}, 7, "red"]}
    # What was kept before a link is stored with it.
    assert len(logged(tmp_path, "drafted")) == (1 if point == "linked" else 2)


@pytest.mark.parametrize("point", ["sized", "coloured"])
def test_an_answer_is_not_lost_with_the_process_that_took_it(program, tmp_path, point):
    keys = said(program("start"))["suspended"]
    answers = {"t.size": "7", "t.colour": '"red"'}
    if point == "coloured":
        keys = said(program("resume", keys["t.size"], "7"))["suspended"]
    name = next(iter(keys))
    assert said(program("resume", keys[name], answers[name], DIE_AT=point)) is None
    worked(program, tmp_path)
    again = said(program("start"))
    if point == "sized":
        again = said(program("resume", again["suspended"]["t.colour"], '"red"'))
    assert again == {"completed": [{"draft": 1}, 7, "red"]}
    assert logged(tmp_path, "drafted") == [[]]
