"""Steps that are kept: a finished step is stored before the next begins, so that a run goes on after a crash there."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from returns.result import Failure, Success

from flowpersist import AwaitInput, Criteria, Status, or_raise
from flowpersist.backends.base import Where
from flowpersist.dynamicflow import FlowRunner, Suspended, ToolContext, tool
from flowpersist.dynamicflow import compile as compile_flow
from flowpersist.dynamicflow.compiled import CompiledFlows
from flowpersist.errors import BackendUnavailable, FlowError, UnknownOutcome
from flowpersist.hub.opening import open_hub
from flowpersist.testing.hubs import open_test_hub, travel
from flowpersist.testing.proxy import Proxy, address_of, rerouted

PROGRAM = Path(__file__).with_name("flow_program.py")
LEASE = timedelta(seconds=30)
CONFIRM = AwaitInput(id="confirm", prompt="?")


def document(*steps, **options):
    return {"metadata": {"name": "doc"}, "flow": list(steps), **options}


def noted(value, **more):
    return {"tool": "note", "args": {"value": value}, **more}


def ask(name):
    return {"id": name, "tool": "await_input", "args": {"prompt": "?"}}


# ----------------------------------------------------------------------------------------------------------- processes


@pytest.fixture(params=["sqlite", "postgres"])
def backend(request):
    return request.param


def test_after_a_kill_at_step_100_the_run_goes_on_there(url, tmp_path):
    log = tmp_path / "log"
    text = json.dumps(document(*(noted(n) for n in range(1, 121)), ask("end"), durability="step"))

    def program(*arguments, **environment):
        command = [sys.executable, str(PROGRAM), url, str(log), *arguments]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **environment})

    first = program("start", text, KILL_AT="100")
    first.communicate(timeout=120)
    assert first.returncode == -signal.SIGKILL
    worker = program("work")
    try:
        while "120 " not in "".join(line[:4] for line in log.read_text().splitlines()[-1:]):
            assert worker.poll() is None
    finally:
        worker.kill()
        worker.communicate()
    calls = [int(line.split()[0]) for line in log.read_text().splitlines()]
    assert calls == [*range(1, 101), *range(100, 121)]


# --------------------------------------------------------------------------------- a run that is lost, in this process


class Calls:
    """Tools that write down their calls; one of them can be held up for good."""

    def __init__(self):
        self.made: list[object] = []
        self.stuck: set[object] = set()
        self.fails: dict[str, int] = {}

        @tool()
        async def note(value: object, context: ToolContext) -> object:
            self.made.append(value)
            if value in list(self.stuck):
                await asyncio.Event().wait()
            if self.fails.get(str(value), 0) > 0:
                self.fails[str(value)] -= 1
                raise RuntimeError(str(value))
            return value

        self.tools = [note]

    async def until(self, value, going=None):
        while value not in self.made:
            # A run that has ended calls nothing any more.
            assert going is None or not going.done(), going.result()
            await asyncio.sleep(0.005)


@pytest.fixture
def calls():
    return Calls()


@pytest.fixture
async def hub():
    async with open_test_hub() as opened:
        yield opened


async def lose(hub, task):
    """The process of a run dies: nothing more is written of it, and its lease ends."""
    transact = hub.suspensions.transact

    async def lost(verb, *args, **options):
        return Failure(BackendUnavailable("gone", "memory", retryable=False))

    hub.suspensions.transact = lost
    task.cancel()
    await asyncio.wait({task})
    del hub.suspensions.transact
    assert transact == hub.suspensions.transact
    travel(hub, 2 * LEASE)


async def the_run(hub):
    (found,) = or_raise(await hub.query(Criteria(metadata={"kind": "flow"}))).items
    return found


async def steps_left(hub):
    return len(or_raise(await hub.suspensions.side_records.steps.records.listed(Where(), limit=1000)).items)


async def finished_by_another(hub, calls, **options):
    """A worker goes on with what was lost, until the run is done; gives what it left."""
    calls.stuck.clear()
    runner = FlowRunner(hub, calls.tools, lease=LEASE, **options)
    working = asyncio.create_task(runner.work(poll=timedelta(milliseconds=10)))
    while (one := await the_run(hub)).status not in {Status.COMPLETED, Status.FAILED, Status.WAITING}:
        await asyncio.sleep(0.01)
    # Its log goes after its end.
    while await steps_left(hub):
        await asyncio.sleep(0.01)
    working.cancel()
    await asyncio.wait({working})
    return one


SHAPES = {
    "sequence": [noted(1), {"sequence": [noted(2), noted(3)]}, noted("x"), noted(4)],
    "loop": [{"loop": "for", "over": [1, 2, 3], "body": [noted("$item", output="v")]}, noted("x"), noted(["$v"])],
    "within a loop": [{"loop": "for", "over": [1, 2, "x", 4], "body": [noted("$item")]}],
    "within a reduce": [{"reduce": [1, 2, "x", 4], "initial": 0, "with": [noted("$item")]}],
    "map": [{"map": [1, 2, "x", 4], "with": [noted("$item")]}],
    "parallel": [{"parallel": [[noted(1), noted(2)], [noted(3), noted("x")]]}, noted(4)],
    "conditional": [
        noted(1, output="v"),
        {"condition": "$v == 1", "if_true": [noted(2, output="v"), noted("x")], "if_false": [noted(3)]},
    ],
    "race": [{"id": "r", "parallel": [[noted(1), ask("never")], [noted(2)]], "until": "any"}, noted("x"), noted("$r")],
    "failures": [noted(1, retry={"attempts": 5, "delay": 1}), noted("x"), noted(4)],
    "handled": [noted(1, onError=[noted(2), noted("x"), noted(4)])],
    "a map that goes on": [{"map": [1, 2, 3], "continueOnError": True, "with": [noted("$item")]}, noted("x")],
    "sub-flow": [{"flow": {"flow": [noted(1), noted("x"), noted(3)]}, "id": "s"}, noted(["$s"])],
    "sub-flows of a map": [
        {"map": [1, "x", 3], "with": [{"flow": {"flow": [noted("$input"), noted(["$input"])]}, "input": "$item"}]},
    ],
    "sub-flow within a sub-flow": [
        noted(0),
        {"flow": {"flow": [noted(1), {"flow": {"flow": [noted(2), noted("x")]}}, noted(4)]}},
        noted(5),
    ],
    "switch": [
        noted("b", id="w"),
        {"switch": "$w", "branches": {"a": [noted(1)], "b": [noted(2), noted("x")]}},
        noted(3),
    ],
    "filter": [
        {"filter": [1, 2, 3], "condition": "$item > 1", "id": "f"},
        {"map": "$f", "with": [noted("$item")]},
        noted("x"),
    ],
}


@pytest.mark.parametrize("shape", SHAPES)
async def test_what_had_finished_is_not_done_again(calls, shape):
    """Lost while ``x`` ran: the run ends as one that was never lost, and only ``x`` is called twice."""
    steps, fails = SHAPES[shape], {"failures": 3, "handled": 1, "a map that goes on": 1}.get(shape, 0)
    if fails:
        calls.fails["1"] = fails
    async with open_test_hub() as hub:
        whole = or_raise(await FlowRunner(hub, calls.tools, lease=LEASE).start(document(*steps)))
    undisturbed, calls.made = [*calls.made], []
    if fails:
        calls.fails["1"] = fails
    async with open_test_hub() as hub:
        calls.stuck.add("x")
        runner = FlowRunner(hub, calls.tools, lease=LEASE, durability="step")
        going = asyncio.create_task(runner.start(document(*steps)))
        await calls.until("x")
        while len(calls.made) < undisturbed.index("x") + 1:
            await asyncio.sleep(0.005)
        await lose(hub, going)
        one = await finished_by_another(hub, calls)
        left = or_raise(await hub.outcome(one.id))
        assert (left["result"], left["outputs"]) == (whole.result, dict(whole.outputs))
        again = [*calls.made]
        again.remove("x")
        assert sorted(map(str, again)) == sorted(map(str, undisturbed))


async def test_a_run_is_inspected_with_the_steps_that_its_log_keeps(hub, calls):
    runner = FlowRunner(hub, calls.tools, lease=LEASE, durability="step")
    calls.stuck = {"x"}
    going = asyncio.create_task(runner.start(document(noted(1, id="a"), noted(2, id="b"), noted("x", id="c"))))
    await calls.until("x")
    seen = or_raise(await runner.inspect((await the_run(hub)).id))
    assert {path: (step.status, step.output) for path, step in seen.steps.items()} == {
        "a": ("done", 1),
        "b": ("done", 2),
        "c": ("pending", None),
    }
    await lose(hub, going)
    one = await finished_by_another(hub, calls)
    assert {step.status for step in or_raise(await runner.inspect(one.id)).steps.values()} == {"done"}


async def test_a_run_can_be_lost_again_and_again(hub, calls):
    for holder in range(4):
        calls.stuck = {f"x{holder}"}
        runner = FlowRunner(hub, calls.tools, lease=LEASE, durability="step")
        steps = [noted(value) for n in range(4) for value in (n, f"x{n}")]
        if holder == 0:
            going = asyncio.create_task(runner.start(document(*steps)))
        else:
            going = asyncio.create_task(runner.work(poll=timedelta(milliseconds=10)))
        await calls.until(f"x{holder}")
        await lose(hub, going)
    await finished_by_another(hub, calls)
    assert calls.made == [0, "x0", "x0", 1, "x1", "x1", 2, "x2", "x2", 3, "x3", "x3"]


async def test_attempts_count_anew_once_a_run_has_come_further(hub, calls):
    """A step that kills its process still ends the run; the steps before it do not count."""
    runner = FlowRunner(hub, calls.tools, lease=LEASE, durability="step")
    calls.stuck = {"x"}
    going = asyncio.create_task(runner.start(document(noted(1), noted("x"))))
    await calls.until("x")
    await lose(hub, going)
    for attempt in range(2, 4):
        calls.made.clear()
        going = asyncio.create_task(runner.work(poll=timedelta(milliseconds=10)))
        await calls.until("x")
        # The first one that took it over has stored what it found.
        assert (await the_run(hub)).attempt == attempt - 1
        await lose(hub, going)
    assert calls.made == ["x"]


async def test_answers_that_a_kept_step_has_used_are_used_once(hub, calls):
    """Its attempt has failed since, and asks again: the old answer does not come back."""
    calls.fails["1"] = 1
    inner = {"sequence": [ask("ok"), noted(1)], "id": "s", "retry": {"attempts": 1, "delay": 1}}
    steps = document({"id": "p", "parallel": [[inner], [noted("x")]]}, durability="step")
    runner = FlowRunner(hub, calls.tools, lease=LEASE)
    paused = or_raise(await runner.start(steps))
    assert isinstance(paused, Suspended)
    calls.stuck.add(1)
    going = asyncio.create_task(runner.resume(paused.key, answer="first"))
    await calls.until(1)
    await lose(hub, going)
    one = await finished_by_another(hub, calls)
    assert one.status is Status.WAITING
    keys = or_raise(await hub.keys(one.id))
    assert list(keys) == ["p[0].s.ok"]
    assert or_raise(await runner.resume(keys["p[0].s.ok"], answer="second")).result == [1, "x"]
    assert calls.made == ["x", 1, 1, 1]


async def test_a_holder_that_lost_its_lease_changes_nothing(hub, calls):
    """It goes on appending under its own fence; whoever took over stores what it found and begins a log of its own."""
    runner = FlowRunner(hub, calls.tools, lease=LEASE, durability="step")
    calls.stuck = {"x"}
    going = asyncio.create_task(runner.start(document(noted(1), noted("x"), noted(2))))
    await calls.until("x")
    log, one = hub.suspensions.side_records.steps, await the_run(hub)
    await lose(hub, going)
    run = or_raise(await hub.claim(one.id, lease=LEASE))
    ((entry,),) = or_raise(await log.read(run.suspension, before=run.fence))
    assert (entry[0], entry[1]["result"], entry[2]) == ("step_1", 1, True)
    stale = await hub.suspensions.side_records.steps.append(
        type(run)(**{**{name: getattr(run, name) for name in run.__slots__ if name != "__weakref__"}, "fence": 1}),
        2,
        [("step_2", {"result": "late"}, True)],
    )
    assert isinstance(stale, Success)
    kept = or_raise(await hub.checkpoint(run, run.state))
    assert or_raise(await log.read(kept.suspension, before=kept.fence)) == []
    or_raise(await hub.release(kept))


@pytest.mark.parametrize(
    ("durability", "records"), [("pause", 0), ("step", 10), ({"every": 3}, 3), ({"seconds": 3600}, 0)]
)
async def test_how_often_steps_are_stored(hub, calls, durability, records):
    calls.stuck = {"x"}
    runner = FlowRunner(hub, calls.tools, lease=LEASE, durability=durability)
    going = asyncio.create_task(runner.start(document(*(noted(n) for n in range(10)), noted("x"))))
    await calls.until("x")
    assert await steps_left(hub) == records
    going.cancel()
    await asyncio.wait({going})


async def test_steps_are_stored_at_the_latest_after_so_many_seconds(hub, calls):
    calls.stuck = {"x"}
    runner = FlowRunner(hub, calls.tools, lease=LEASE)
    steps = document(*(noted(n) for n in range(10)), noted("x"), durability={"seconds": 0.01})
    going = asyncio.create_task(runner.start(steps))
    while not await steps_left(hub):
        await asyncio.sleep(0.005)
    await calls.until("x")
    going.cancel()
    await asyncio.wait({going})


async def test_the_document_decides_before_the_runner(hub, calls):
    calls.stuck = {"x"}
    runner = FlowRunner(hub, calls.tools, lease=LEASE, durability="step")
    going = asyncio.create_task(runner.start(document(noted(1), noted("x"), durability="pause")))
    await calls.until("x")
    assert await steps_left(hub) == 0
    going.cancel()
    await asyncio.wait({going})


@pytest.mark.parametrize(
    "wrong", ["steps", "", None, 1, True, {}, {"every": 0}, {"every": 1.5}, {"every": True}, {"seconds": 0}]
)
async def test_any_other_durability_is_refused(hub, wrong):
    with pytest.raises(TypeError, match="durability"):
        FlowRunner(hub, durability=wrong)
    found = (await FlowRunner(hub).start(document(noted(1), durability=wrong))).failure()
    assert isinstance(found, FlowError)
    assert found.problems[0].pointer == "/durability"


async def test_a_write_whose_reply_is_lost_is_repeated_until_it_is_known(hub, calls, monkeypatch):
    """A step that is not known to be stored holds up the next one."""
    log = type(hub.suspensions.side_records.steps)
    append, lost = log.append, []

    async def lossy(self, run, number, value):
        if number == 2 and len(lost) < 2:
            lost.append(list(value))
            if len(lost) == 1:
                or_raise(await append(self, run, number, value))
            return Failure(UnknownOutcome("no reply", "memory", retryable=True))
        return await append(self, run, number, value)

    monkeypatch.setattr(log, "append", lossy)
    monkeypatch.setattr("flowpersist.dynamicflow.journal._AGAIN", 0.01)
    runner = FlowRunner(hub, calls.tools, lease=LEASE, durability="step")
    calls.stuck = {"x"}
    going = asyncio.create_task(runner.start(document(noted(1), noted(2), noted("x"))))
    await calls.until("x")
    assert lost == [lost[0]] * 2
    assert await steps_left(hub) == 2
    await lose(hub, going)
    await finished_by_another(hub, calls)
    assert calls.made == [1, 2, "x", "x"]


# ------------------------------------------------------------------------------------------------------------ backends


class TestEachBackend:
    @pytest.fixture(params=["memory", "sqlite", "filesystem", "postgres", "redis", "redis_cluster", "mongodb", "neo4j"])
    def backend(self, request):
        return request.param

    async def test_a_lost_run_goes_on_where_it_was(self, url, calls):
        async with open_hub(url, keyring=None) as hub:
            runner = FlowRunner(hub, calls.tools, lease=timedelta(seconds=5), durability="step")
            calls.stuck = {"x"}
            going = asyncio.create_task(runner.start(document(*(noted(n) for n in range(5)), noted("x"))))
            await calls.until("x", going)
            transact = hub.suspensions.transact

            async def lost(verb, *args, **options):
                return Failure(BackendUnavailable("gone", "any", retryable=False))

            hub.suspensions.transact = lost
            going.cancel()
            await asyncio.wait({going})
            del hub.suspensions.transact
            assert transact == hub.suspensions.transact
            await finished_by_another(hub, calls)
            assert calls.made == [0, 1, 2, 3, 4, "x", "x"]


async def test_a_document_is_compiled_once_for_all_answers(hub, calls, monkeypatch):
    compiled = []
    monkeypatch.setattr("flowpersist.dynamicflow.compiled.compile_soon", counted(compiled))
    runner = FlowRunner(hub, calls.tools, lease=LEASE)
    paused = [or_raise(await runner.start(document(*(ask(f"q{n}") for n in range(5))))) for _ in range(2)]
    for n in range(5):
        paused = [or_raise(await runner.resume(one.key, answer=n)) for one in paused]
    assert [one.result for one in paused] == [4, 4]
    assert len(compiled) == 1


def counted(compiled):
    async def compile_soon(document, library):
        assert library.sources == {}
        compiled.append(document)
        return compile_flow(document)

    return compile_soon


async def test_another_text_of_the_same_document_is_compiled_anew(hub, calls):
    """Descriptions do not count for the hash, so two documents of one hash may differ in them."""
    flows = CompiledFlows()
    first, second = ({**document(ask("q")), "metadata": {"name": name}} for name in ("one", "two"))
    made = [or_raise(await flows.of(one, "h")) for one in (first, second, second, first)]
    assert [flow.name for flow in made] == ["one", "two", "two", "one"]


class TestRoundTrips:
    @pytest.fixture
    def backend(self):
        return "postgres"

    async def test_a_step_is_one_round_trip(self, url, calls):
        """Twice as many steps take as many more round trips, whatever else a run takes."""
        async with Proxy(*address_of(url)) as proxy, open_hub(rerouted(url, proxy.address), keyring=None) as hub:
            runner = FlowRunner(hub, calls.tools, lease=timedelta(minutes=10), durability="step")
            taken = []
            for count in (10, 10, 30):
                before = proxy.round_trips
                or_raise(await runner.start(document(*(noted(n) for n in range(count)))))
                taken.append(proxy.round_trips - before)
            assert taken[2] - taken[1] == 20
