"""The stored events of runs over processes: one is killed, another answers, and a third follows."""

from __future__ import annotations

import asyncio
import json
import signal
from contextlib import aclosing
from datetime import timedelta
from pathlib import Path

import pytest

from flowpersist.dynamicflow import FlowRunner
from flowpersist.hub.opening import open_hub
from programs import started_programs

PROGRAM = Path(__file__).with_name("flow_program.py")
ASK = {"id": "q", "tool": "await_input", "args": {"prompt": "q?"}}
SOON = timedelta(milliseconds=50)


@pytest.fixture(params=["sqlite", "postgres"])
def backend(request):
    return request.param


@pytest.fixture
def program(url, tmp_path):
    with started_programs(PROGRAM, url, str(tmp_path / "log")) as start:
        yield start


@pytest.fixture
async def runner(url):
    async with open_hub(url, keyring=None) as hub:
        yield FlowRunner(hub)


def document(*steps, **options):
    return json.dumps({"metadata": {"name": "doc"}, "flow": list(steps), **options})


def noted(value):
    return {"tool": "note", "args": {"value": value}}


async def ended(process):
    text, _ = await asyncio.to_thread(process.communicate, timeout=60)
    return json.loads(text.splitlines()[-1]) if text else None


async def read(runner, **options):
    return [event async for event in runner.events("run", **options)]


def gapless(events):
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))


async def test_two_followers_of_a_run_that_other_processes_run(program, runner):
    keys = (await ended(program("start", document(noted(1), ASK, noted(["$q"])), EVENTS="1")))["suspended"]
    before = await read(runner)
    assert before[-1].type == "flow-suspended"
    assert keys["q"] not in json.dumps([dict(event.data) for event in before])

    async def followed(after):
        return await read(runner, after=after, follow=True, poll=SOON)

    followers = [asyncio.create_task(followed(after)) for after in (0, len(before))]
    assert await ended(program("resume", keys["q"], '"yes"')) == {"completed": ["yes"]}
    first, second = await asyncio.gather(*followers)
    gapless(first)
    assert first == before + second == await read(runner)
    assert second[0].type == "flow-resumed"
    assert second[-1].data["result"] == ["yes"]


async def test_after_a_kill_the_events_go_on(program, runner):
    flow = document(*(noted(number) for number in range(1, 9)), durability="step")
    killed = program("start", flow, EVENTS="1", KILL_AT="5")
    await ended(killed)
    assert killed.returncode == -signal.SIGKILL
    before = await read(runner)
    gapless(before)
    # What is stored of a step is told.
    assert _done(before) == [1, 2, 3, 4]
    worker = program("work")
    seen = []
    async with aclosing(runner.events("run", after=before[-1].sequence, follow=True, poll=SOON)) as events:
        async for event in events:
            assert worker.poll() is None
            seen.append(event)
    gapless(before + seen)
    assert before + seen == await read(runner)
    assert seen[0].type == "flow-resumed"
    assert _done(seen) == [5, 6, 7, 8]
    assert seen[-1].type == "flow-complete"


def _done(events):
    return [event.data["result"] for event in events if event.type == "node-complete"]
