"""Plain functions of flows on a cluster of Ray, by the executor of examples/ray_map.py."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections import Counter
from concurrent.futures import wait
from pathlib import Path

import pytest
import ray

from examples.ray_map import RayExecutor
from flow_functions import asks_whether_to_stop, fails, nap, square, where
from flowpersist import or_raise
from flowpersist.dynamicflow import FlowRunner
from flowpersist.hub.opening import open_hub

ROOT = Path(__file__).parents[2]
TOOLS = [square, where, asks_whether_to_stop, fails, nap]
ASK = {"id": "ok", "tool": "await_input", "args": {"prompt": "Go on?"}}


@pytest.fixture(scope="module", autouse=True)
def cluster():
    """Two workers, each a process of its own."""
    places = os.pathsep.join([str(ROOT), str(ROOT / "tests" / "integration"), *sys.path])
    variables = {"env_vars": {"PYTHONPATH": places}}
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, runtime_env=variables)
    yield
    ray.shutdown()


@pytest.fixture
def executor():
    with RayExecutor(num_cpus=1) as executor:
        yield executor


@pytest.fixture
async def hub():
    async with open_hub("memory://", keyring=None) as hub:
        yield hub


def mapped(name, concurrency=8):
    args = {"value": "$item", "log": "$input.log"}
    return {"id": "each", "map": "$input.items", "concurrency": concurrency, "with": {"tool": name, "args": args}}


def logged(tmp_path):
    return Counter(map(int, (tmp_path / "log").read_text(encoding="utf-8").split()))


async def result(hub, executor, *steps, **given):
    runner = FlowRunner(hub, TOOLS, backoff=lambda _: 0, executor=executor)
    return or_raise(await runner.start({"flow": list(steps)}, **given))


async def test_a_map_runs_on_the_cluster_in_order_and_each_item_once(hub, executor, tmp_path):
    given = {"items": [*range(20), 5, 5], "log": str(tmp_path / "log")}
    done = await result(hub, executor, mapped("square"), input=given)
    assert done.result == [value * value for value in given["items"]]
    assert logged(tmp_path) == Counter(given["items"])


async def test_a_function_is_told_where_it_is_called_from(hub, executor):
    done = await result(hub, executor, {"id": "w", "tool": "where"}, run_id="run")
    assert done.result[0] != os.getpid()
    assert done.result[1:] == ["run", "w", 1, "run/w/1"]


@pytest.mark.parametrize(
    ("kind", "names"), [("odd", ["RuntimeError"]), ("plain", ["flow_functions.PlainError"]), ("exit", ["RuntimeError"])]
)
async def test_an_error_comes_back_as_its_class_if_it_can_be_pickled(hub, executor, kind, names):
    step = {"tool": "fails", "args": {"kind": kind}, "retry": {"attempts": 1, "on": names}}
    assert (await result(hub, executor, step)).result == 2


async def test_a_function_on_the_cluster_that_asks_whether_to_stop_fails(hub, executor):
    failed = await FlowRunner(hub, TOOLS, executor=executor).start({"flow": [{"tool": "asks_whether_to_stop"}]})
    assert "in another process is not told that it should stop" in failed.failure().message


async def test_a_map_runs_no_item_again_after_a_pause(executor, tmp_path):
    store, log = f"sqlite:///{tmp_path}/flows.db", str(tmp_path / "log")
    document = {"flow": [mapped("square"), ASK, {"tool": "square", "args": {"value": 3, "log": log}}]}
    async with open_hub(store, keyring=None) as hub:
        runner = FlowRunner(hub, TOOLS, executor=executor)
        waiting = or_raise(await runner.start(document, input={"items": list(range(10, 30)), "log": log}))
    async with open_hub(store, keyring=None) as hub:
        done = or_raise(await FlowRunner(hub, TOOLS, executor=executor).resume(waiting.key, answer=True))
    assert done.result == 9
    assert logged(tmp_path) == Counter([3, *range(10, 30)])


async def test_calls_of_a_cancelled_run_that_have_not_begun_are_withdrawn(hub, executor, tmp_path):
    given = {"items": list(range(40)), "log": str(tmp_path / "log")}
    run = asyncio.create_task(result(hub, executor, mapped("nap", concurrency=40), input=given))
    while not (tmp_path / "log").exists():
        await asyncio.sleep(0.05)
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    # Whatever comes now is done before this one, since both of the cluster's processors were busy before.
    wait([executor.submit(os.getpid), executor.submit(os.getpid)])
    assert len(logged(tmp_path)) < 40


def test_what_is_shut_down_takes_no_calls():
    executor = RayExecutor(num_cpus=1)
    going = executor.submit(pow, 2, 5)
    executor.shutdown()
    assert (going.done(), going.result()) == (True, 32)
    with pytest.raises(RuntimeError, match="is shut down"):
        executor.submit(pow, 2, 5)


def test_the_example_runs():
    example = ROOT / "examples" / "ray_map.py"
    done = subprocess.run([sys.executable, example], capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stdout) == (0, "12\n"), done.stderr
