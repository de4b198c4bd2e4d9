"""How runs stand: of every status, each step with its status, attempts, times, output and error."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from flowpersist import KeyRing, Status, or_raise
from flowpersist.dynamicflow import FlowRunner, RunInspection, tool
from flowpersist.errors import EncryptionError, FlowError, SuspensionNotFound
from flowpersist.testing.hubs import open_test_hub, travel

broken: set[str] = set()
gates: dict[str, asyncio.Event] = {}


@pytest.fixture(autouse=True)
def _fresh():
    broken.clear()
    gates.clear()


@tool()
async def do(value: object) -> object:
    if str(value) in gates:
        await gates[str(value)].wait()
    if str(value) in broken:
        raise RuntimeError(f"{value} is broken")
    return value


@pytest.fixture
async def hub(url):
    async with open_test_hub(url) as opened:
        yield opened


@pytest.fixture
async def memory():
    async with open_test_hub() as opened:
        yield opened


def runner_of(hub, **options):
    return FlowRunner(hub, [do], backoff=lambda _: 0, **options)


def step(value, **more):
    return {"id": str(value), "tool": "do", "args": {"value": value}, **more}


def ask(name):
    return {"id": name, "tool": "await_input", "args": {"prompt": name}}


def statuses(seen):
    return {path: one.status for path, one in seen.steps.items()}


async def test_a_run_from_its_first_pause_to_its_end(hub):
    runner = runner_of(hub)
    each = {"id": "each", "map": [1, 2], "as": "n", "with": [ask("q")], "parallel": True}
    document = {"flow": [step("a"), each, step("b"), step("c")]}
    paused = or_raise(await runner.start(document, run_id="mine"))
    seen = or_raise(await runner.inspect("mine"))
    assert isinstance(seen, RunInspection)
    assert (seen.run_id, seen.status, seen.error) == ("mine", Status.WAITING, None)
    asked = {"each[0].q": "waiting", "each[1].q": "waiting"}
    assert statuses(seen) == {"a": "done", "each": "waiting", **asked, "b": "pending", "c": "pending"}
    assert seen.position == seen.waits == ("each[0].q", "each[1].q")
    done = seen.steps["a"]
    assert (done.output, done.attempts, done.error) == ("a", 1, None)
    assert seen.suspension.created_at <= done.started <= done.ended
    assert (seen.steps["b"].started, seen.steps["b"].attempts) == (None, 0)
    travel(hub, timedelta(hours=2))
    broken.add("b")
    or_raise(await runner.resume(paused.keys["each[0].q"], answer="one"))
    parking = runner_of(hub, failed="park")
    assert (await parking.resume(paused.keys["each[1].q"], answer="two")).failure().run == "mine"
    seen = or_raise(await parking.inspect("mine"))
    assert statuses(seen) == {"a": "done", "each": "done", "b": "failed", "c": "pending"}
    assert (seen.status, seen.position) == (Status.PARKED, ("b",))
    assert "b is broken" in seen.error
    assert seen.steps["b"].error == seen.error
    assert seen.steps["each"].ended - seen.steps["each"].started >= timedelta(hours=2)
    broken.clear()
    or_raise(await parking.retry("mine"))
    seen = or_raise(await parking.inspect(paused.waits[0].key.id))
    assert (seen.status, seen.result, seen.error) == (Status.COMPLETED, "c", None)
    assert statuses(seen) == dict.fromkeys(["a", "each", "b", "c"], "done")
    assert {path: one.attempts for path, one in seen.steps.items()} == {"a": 1, "each": 1, "b": 2, "c": 1}
    assert seen.steps["each"].output == ["one", "two"]
    assert all(one.started <= one.ended for one in seen.steps.values())


async def test_a_failed_run_keeps_the_history_of_its_steps(memory):
    runner = runner_of(memory)
    broken.add("b")
    nest = {"id": "nest", "sequence": [step("a"), step("b", retry=2), step("c")]}
    error = (await runner.start({"flow": [nest, step("z")]}, run_id="mine")).failure()
    seen = or_raise(await runner.inspect("mine"))
    assert (seen.status, seen.error) == (Status.FAILED, str(error))
    assert statuses(seen) == {
        "nest": "failed", "nest.a": "done", "nest.b": "failed", "nest.c": "pending", "z": "pending",
    }  # fmt: skip
    assert (seen.steps["nest.b"].attempts, seen.steps["nest.a"].output, seen.position) == (3, None, ("nest.b",))


async def test_a_running_one_is_shown_as_it_was_stored(memory):
    runner = runner_of(memory)
    paused = or_raise(await runner.start({"flow": [step("a"), ask("q"), step("b")]}))
    gates["b"] = asyncio.Event()
    running = asyncio.create_task(runner.resume(paused.key, answer="go"))
    while or_raise(await memory.inspect(paused.key)).status is not Status.RUNNING:
        await asyncio.sleep(0)
    seen = or_raise(await runner.inspect(paused.run_id))
    assert (seen.status, seen.steps["a"].status, seen.waits) == (Status.RUNNING, "done", ())
    gates["b"].set()
    or_raise(await running)


@pytest.mark.parametrize("taken", ["true", "false"])
async def test_the_branch_that_was_taken_is_shown_and_the_steps_of_onerror(memory, taken):
    runner = runner_of(memory)
    broken.add("gone")
    branch = {"id": "if", "condition": taken, "if_true": [ask("yes")], "if_false": [ask("no")]}
    handled = {**step("gone"), "onError": [ask("help")]}
    both = {"id": "both", "parallel": [[branch], [handled]]}
    or_raise(await runner.start({"flow": [both]}, run_id="mine"))
    seen = or_raise(await runner.inspect("mine"))
    asked = f"both[0].if.{'yes' if taken == 'true' else 'no'}"
    assert set(seen.waits) == {asked, "both[1].gone.help"}
    assert set(seen.steps) == {"both", "both[0].if", asked, "both[1].gone", "both[1].gone.help"}
    assert set(statuses(seen).values()) == {"waiting"}


async def test_what_is_no_run_and_what_cant_be_read_is_an_error(memory):
    runner = runner_of(memory)
    assert isinstance((await runner.inspect("nobody")).failure(), SuspensionNotFound)
    other = or_raise(await memory.suspend(1))
    assert isinstance((await runner.inspect(other.id)).failure(), FlowError)
    ring = KeyRing.generate()
    async with open_test_hub(keyring=ring) as hub:
        or_raise(await runner_of(hub).start({"flow": [ask("q")]}, run_id="mine"))
        hub.use_keyring(ring.control_only())
        assert isinstance((await runner_of(hub).inspect("mine")).failure(), EncryptionError)
