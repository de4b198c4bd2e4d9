"""Tools that are plain functions: in threads of the runner's, in an executor, and what of a run they get to know."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import pickle
import threading
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any

import pytest
from returns.result import Failure

from flowpersist import ConfigurationError, open_hub
from flowpersist.dynamicflow import Completed, FlowRunner, ToolContext, tool
from flowpersist.dynamicflow.executing import Executors
from flowpersist.hub.outcome import or_raise
from flowpersist.tools import approve

HERE = contextvars.ContextVar("HERE", default="nowhere")


def steps(*flow):
    return {"metadata": {"name": "plain"}, "flow": list(flow)}


@tool()
def thread_name() -> str:
    return threading.current_thread().name


@tool()
def told(context: ToolContext) -> list[Any]:
    return [context.step_id, context.path, context.attempt, context.key, context.cancellation.requested, HERE.get()]


@tool()
def unlucky(kind: str) -> str:
    class OddError(Exception):
        def __init__(self, a, b):
            super().__init__(a)

    raise {
        "stop": StopIteration(1),
        "exit": SystemExit(3),
        "odd": OddError(1, 2),
        "cancelled": asyncio.CancelledError(),
    }[kind]


async def run(hub, tools, document, **options):
    outcome = await FlowRunner(hub, tools, backoff=lambda _: 0, **options).start(document)
    return outcome.failure() if isinstance(outcome, Failure) else outcome.unwrap()


async def test_a_plain_function_runs_in_a_thread_of_the_runner_and_not_of_the_event_loop():
    async with open_hub("memory://", keyring=None) as hub:
        done = await run(hub, [thread_name], steps({"tool": "thread_name"}))
    assert isinstance(done, Completed)
    assert done.result.startswith("flowpersist-tool")


async def test_the_threads_are_bounded_and_end_with_the_hub():
    alive = {"now": 0, "most": 0}
    guard = threading.Lock()

    @tool()
    def busy(value: int) -> int:
        with guard:
            alive["now"] += 1
            alive["most"] = max(alive["most"], alive["now"])
        threading.Event().wait(0.001)
        with guard:
            alive["now"] -= 1
        return value

    async with open_hub("memory://", keyring=None) as hub:
        runner = FlowRunner(hub, [busy])
        document = steps(
            {"map": list(range(200)), "concurrency": 100, "with": {"tool": "busy", "args": {"value": "$item"}}}
        )
        done = or_raise(await runner.start(document))
        pool = runner.toolbox.executors.get()
        assert isinstance(pool, ThreadPoolExecutor)
        assert alive["most"] <= pool._max_workers <= 100
    assert done.result == list(range(200))
    with pytest.raises(RuntimeError, match="after shutdown"):
        pool.submit(print)


async def test_an_executor_is_left_open_and_the_tool_s_own_goes_before_the_runner_s():
    with (
        ThreadPoolExecutor(1, thread_name_prefix="runner") as of_runner,
        ThreadPoolExecutor(1, thread_name_prefix="own") as of_tool,
    ):
        own = tool(id="own", executor=of_tool)(thread_name.function)
        async with open_hub("memory://", keyring=None) as hub:
            both = steps({"id": "a", "tool": "own"}, {"id": "b", "tool": "thread_name"})
            done = await run(hub, [own, thread_name], both, executor=of_runner)
        assert isinstance(done, Completed)
        assert (done.outputs["a"][:3], done.outputs["b"][:6]) == ("own", "runner")
        assert of_runner.submit(int).result() == of_tool.submit(int).result() == 0


async def test_it_gets_the_context_and_the_caller_s_variables():
    HERE.set("in the run")
    async with open_hub("memory://", keyring=None) as hub:
        done = or_raise(await FlowRunner(hub, [told]).start(steps({"id": "t", "tool": "told"}), run_id="r"))
    assert done.result == ["t", "t", 1, "r/t/1", False, "in the run"]


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("stop", "RuntimeError: StopIteration: 1"),
        ("exit", "RuntimeError: SystemExit: 3"),
        ("odd", "OddError: 1"),
        ("cancelled", "RuntimeError: CancelledError"),
    ],
)
async def test_whatever_it_raises_fails_the_attempt(kind, said):
    async with open_hub("memory://", keyring=None) as hub:
        failed = await run(hub, [unlucky], steps({"tool": "unlucky", "args": {"kind": kind}}))
    assert said in failed.message


async def test_what_returns_an_awaitable_fails_and_leaves_no_coroutine_behind():
    async def inner():
        return 1

    made = tool(id="made")(lambda: inner())  # noqa: PLW0108 - the point of it
    async with open_hub("memory://", keyring=None) as hub:
        failed = await run(hub, [made], steps({"tool": "made"}))
    assert "make it an async function" in failed.message
    gc.collect()


async def test_a_step_that_takes_too_long_asks_its_thread_to_stop_and_drops_what_it_returns():
    stopped = threading.Event()

    @tool()
    def endless(context: ToolContext) -> str:
        context.cancellation.wait(30)
        stopped.set()
        return f"too late, in attempt {context.attempt}"

    async with open_hub("memory://", keyring=None) as hub:
        step = {"tool": "endless", "timeout": 20, "onError": {"tool": "thread_name"}}
        done = await run(hub, [endless, thread_name], steps(step))
        assert await asyncio.to_thread(stopped.wait, 10)
    assert isinstance(done, Completed)
    assert done.result.startswith("flowpersist-tool")


class Elsewhere(Executor):
    """An executor of a kind that nobody knows: its calls begin when the test says so."""

    def __init__(self):
        self.futures: list[Future[object]] = []
        self.calls = []

    def submit(self, fn, /, *args, **kwargs):
        assert (args, kwargs) == ((), {})
        self.calls.append(fn)
        self.futures.append(Future())
        return self.futures[-1]

    def go(self, number):
        future = self.futures[number]
        if future.set_running_or_notify_cancel():
            try:
                future.set_result(pickle.loads(pickle.dumps(self.calls[number]))())
            except Exception as error:  # noqa: BLE001 - as executors do
                future.set_exception(error)


async def until(check):
    async with asyncio.timeout(10):
        while not check():
            await asyncio.sleep(0.001)


async def test_calls_are_in_flight_as_many_as_the_map_s_concurrency_says_and_withdrawn_with_the_run():
    away = Elsewhere()
    async with open_hub("memory://", keyring=None) as hub:
        runner = FlowRunner(hub, [thread_name], executor=away)
        document = steps({"map": "$input.items", "concurrency": 7, "with": {"tool": "thread_name", "args": {}}})
        going = asyncio.create_task(runner.start(document, input={"items": list(range(10_000))}))
        await until(lambda: len(away.futures) == 7)
        away.go(0)
        await until(lambda: len(away.futures) == 8)
        going.cancel()
        with pytest.raises(asyncio.CancelledError):
            await going
        await until(lambda: all(future.cancelled() for future in away.futures[1:]))
    assert len(away.futures) == 8


async def test_a_call_that_is_cancelled_while_it_is_submitted_is_withdrawn_too():
    entered, leave = threading.Event(), threading.Event()

    class Slow(Elsewhere):
        def submit(self, fn, /, *args, **kwargs):
            entered.set()
            leave.wait(10)
            return super().submit(fn)

    away = Slow()
    async with open_hub("memory://", keyring=None) as hub:
        going = asyncio.create_task(FlowRunner(hub, [thread_name], executor=away).start(steps({"tool": "thread_name"})))
        await asyncio.to_thread(entered.wait, 10)
        going.cancel()
        with pytest.raises(asyncio.CancelledError):
            await going
        leave.set()
        await until(lambda: away.futures and away.futures[0].cancelled())


async def test_an_executor_that_takes_no_calls_any_more_fails_the_attempt():
    pool = ThreadPoolExecutor(1)
    pool.shutdown()
    async with open_hub("memory://", keyring=None) as hub:
        failed = await run(hub, [thread_name], steps({"tool": "thread_name"}), executor=pool)
        away = Elsewhere()
        going = asyncio.create_task(run(hub, [thread_name], steps({"tool": "thread_name"}), executor=away))
        await until(lambda: away.futures)
        # As an executor does that is shut down with cancel_futures.
        away.futures[0].cancel()
        lost = await going
    assert "after shutdown" in failed.message
    assert "the tool 'thread_name' failed: CancelledError" in lost.message


def test_a_pickled_context_has_all_but_the_cancellation():
    context = ToolContext("run", "step", "each[1].step", 2, key="k")
    there = pickle.loads(pickle.dumps(context))
    names = ("run_id", "step_id", "path", "attempt", "key", "logger")
    assert [getattr(there, name) for name in names] == [getattr(context, name) for name in names]
    for use in (lambda c: c.requested, lambda c: c.wait(0), lambda c: c.request()):
        with pytest.raises(ConfigurationError, match="another process"):
            use(there.cancellation)


async def test_a_guarded_plain_tool_waits_for_its_approval_and_runs_in_its_thread():
    calls = []

    @tool()
    def pay(amount: int) -> str:
        calls.append(amount)
        return threading.current_thread().name

    async with open_hub("memory://", keyring=None) as hub:
        guarded = approve(pay, hub=hub)
        runner = FlowRunner(hub, [guarded.tool])
        waiting = or_raise(await runner.start(steps({"tool": "pay", "args": {"amount": 3}})))
        assert calls == []
        done = or_raise(await runner.resume(waiting.key, answer={"decision": "approve"}))
        assert done.result.startswith("flowpersist-tool")
        # Outside a flow there is no runner with threads.
        asked = await guarded.tool(amount=4)
        assert "MainThread" not in await guarded.resume(asked.key, answer={"decision": "approve"})
    assert calls == [3, 4]


def test_a_plain_tool_is_called_as_its_function():
    assert thread_name() == "MainThread"


@pytest.mark.parametrize("executor", [7, "threads", print, ThreadPoolExecutor])
def test_what_is_no_executor_is_refused(executor):
    with pytest.raises(TypeError, match="Invalid executor"):
        tool(executor=executor)


async def test_what_is_no_function_of_one_result_is_refused():
    async def fetch():
        pass

    def several():
        yield 1

    with pytest.raises(TypeError, match="event loop"), ThreadPoolExecutor(1) as pool:
        tool(executor=pool)(fetch)
    with pytest.raises(TypeError, match="generator"):
        tool()(several)
    with pytest.raises(TypeError, match="Invalid function"):
        tool()(int)
    assert Executors().given is None
