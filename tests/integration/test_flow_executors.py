"""Plain functions of flows in pools of processes and on a cluster of Dask."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import subprocess
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import distributed
import loky
import pytest
from returns.result import Failure

from flow_functions import asks_whether_to_stop, fails, nap, square, where
from flowpersist.dynamicflow import FlowRunner, tool
from flowpersist.hub.opening import open_hub
from flowpersist.hub.outcome import or_raise
from flowpersist.tools import approve

#: CI maps fewer; the issue asks for 10,000.
ITEMS = int(os.environ.get("FLOWPERSIST_TEST_ITEMS", "100"))
TOOLS = [square, where, asks_whether_to_stop, fails, nap]
ASK = {"id": "ok", "tool": "await_input", "args": {"prompt": "Go on?"}}


def document(*steps):
    return {"metadata": {"name": "map"}, "flow": list(steps)}


def mapped(name, concurrency=8):
    return {
        "id": "each",
        "map": "$input.items",
        "concurrency": concurrency,
        "with": {"tool": name, "args": {"value": "$item", "log": "$input.log"}},
    }


def logged(tmp_path):
    return Counter(map(int, (tmp_path / "log").read_text(encoding="utf-8").split()))


@pytest.fixture(scope="module")
def pool():
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield pool


@pytest.fixture(scope="module")
def cluster():
    """Two workers, each a process of its own."""
    with (
        distributed.LocalCluster(2, threads_per_worker=1, processes=True, dashboard_address=None) as local,
        distributed.Client(local) as client,
    ):
        yield client


@pytest.fixture(params=["pool", "loky", "dask"])
def executor(request):
    if request.param == "pool":
        return request.getfixturevalue("pool")
    if request.param == "loky":
        return loky.get_reusable_executor(2, timeout=60)
    return request.getfixturevalue("cluster").get_executor()


@pytest.fixture
async def hub():
    async with open_hub("memory://", keyring=None) as hub:
        yield hub


async def result(hub, executor, *steps, **given):
    return or_raise(
        await FlowRunner(hub, TOOLS, backoff=lambda _: 0, executor=executor).start(document(*steps), **given)
    )


async def test_a_map_runs_in_other_processes_in_order_and_each_item_once(hub, executor, tmp_path):
    done = await result(hub, executor, mapped("square"), input={"items": list(range(40)), "log": str(tmp_path / "log")})
    assert done.result == [value * value for value in range(40)]
    assert logged(tmp_path) == Counter(range(40))


async def test_equal_calls_are_made_as_often_as_they_are_asked_for(hub, executor, tmp_path):
    """Dask takes functions for pure ones unless it is told otherwise."""
    done = await result(hub, executor, mapped("square"), input={"items": [5] * 12, "log": str(tmp_path / "log")})
    assert done.result == [25] * 12
    assert logged(tmp_path) == Counter({5: 12})


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
    other = {"tool": "fails", "args": {"kind": kind}, "retry": {"attempts": 1, "on": ["OSError"]}}
    failed = await FlowRunner(hub, TOOLS, executor=executor).start(document(other))
    assert kind in failed.failure().message.lower()


async def test_a_function_in_another_process_that_asks_whether_to_stop_fails(hub, executor):
    failed = await FlowRunner(hub, TOOLS, executor=executor).start(document({"tool": "asks_whether_to_stop"}))
    assert isinstance(failed, Failure)
    assert "in another process is not told that it should stop" in failed.failure().message


async def test_what_can_t_be_pickled_fails_the_attempt_and_harms_no_executor(hub, executor):
    # In the scope of the test, where no other process finds it; and what it returns is a generator.
    local = tool(id="local", output_schema={})(lambda: (_ for _ in ()))
    failed = await FlowRunner(hub, [local], executor=executor).start(document({"tool": "local"}))
    assert "the tool 'local' failed" in failed.failure().message
    assert (await result(hub, executor, {"id": "w", "tool": "where"})).result[2] == "w"


async def test_an_approved_call_runs_in_another_process(hub, executor, tmp_path):
    runner = FlowRunner(hub, [approve(square, hub=hub).tool], executor=executor)
    step = {"tool": "square", "args": {"value": 3, "log": str(tmp_path / "log")}}
    waiting = or_raise(await runner.start(document(step)))
    assert or_raise(await runner.resume(waiting.key, answer={"decision": "approve"})).result == 9
    assert logged(tmp_path) == Counter([3])


async def test_a_map_on_a_cluster_runs_no_item_again_after_a_pause(cluster, tmp_path):
    store, log = f"sqlite:///{tmp_path}/flows.db", str(tmp_path / "log")
    doc = document(mapped("square", concurrency=16), ASK, {"tool": "square", "args": {"value": 3, "log": log}})
    async with open_hub(store, keyring=None) as hub:
        runner = FlowRunner(hub, TOOLS, executor=cluster.get_executor())
        waiting = or_raise(await runner.start(doc, input={"items": list(range(10, 10 + ITEMS)), "log": log}))
    assert logged(tmp_path) == Counter(range(10, 10 + ITEMS))
    async with open_hub(store, keyring=None) as hub:
        runner = FlowRunner(hub, TOOLS, executor=cluster.get_executor())
        done = or_raise(await runner.resume(waiting.key, answer=True))
    assert done.result == 9
    assert done.outputs["each"] == [value * value for value in range(10, 10 + ITEMS)]
    assert logged(tmp_path) == Counter([3, *range(10, 10 + ITEMS)])


def _unfinished(dask_scheduler):
    """What the scheduler still means to run, or runs."""
    states = ("waiting", "queued", "no-worker", "processing")
    return [str(one) for one in dask_scheduler.tasks.values() if one.state in states]


async def test_a_cancelled_run_cancels_what_the_cluster_has_not_begun(hub, cluster, tmp_path):
    executor, log = cluster.get_executor(), tmp_path / "log"
    going = asyncio.create_task(
        result(hub, executor, mapped("nap", concurrency=50), input={"items": list(range(500)), "log": str(log)})
    )
    async with asyncio.timeout(60):
        while not log.exists():
            await asyncio.sleep(0.01)
        going.cancel()
        with pytest.raises(asyncio.CancelledError):
            await going
        while cluster.run_on_scheduler(_unfinished):
            await asyncio.sleep(0.5)
    assert len(logged(tmp_path)) < 50


def test_the_example_runs(tmp_path):
    """Its functions are those of the program itself, which the workers have under another name."""
    example = Path(__file__).parents[2] / "examples" / "dask_map.py"
    command = [sys.executable, str(example)]
    ended = subprocess.run(command, check=False, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert (ended.returncode, ended.stdout) == (0, "12\n"), ended.stderr
