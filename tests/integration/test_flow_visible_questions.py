"""A question is visible when it is asked: its key works while other branches of the run go on."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from datetime import timedelta

import pytest
from returns.result import Failure

from flowpersist import Criteria, Status, or_raise
from flowpersist.dynamicflow import Accepted, FlowRunner, Suspended, tool
from flowpersist.errors import BackendUnavailable, UnknownOutcome, WaitSuperseded
from flowpersist.hub.opening import open_hub
from flowpersist.lifecycle import WaitStatus
from flowpersist.testing.hubs import open_test_hub, travel

LEASE = timedelta(seconds=30)


def ask(name, **more):
    return {"id": name, "tool": "await_input", "args": {"prompt": f"{name}?"}, **more}


def document(*steps):
    return {"metadata": {"name": "doc"}, "flow": list(steps)}


class Gates:
    """Tools that a test lets go on by their names, and what was called."""

    def __init__(self):
        self.open: dict[str, asyncio.Event] = {}
        self.called: list[str] = []

        @tool()
        async def long(name: str) -> str:
            self.called.append(name)
            await self.gate(name).wait()
            return name

        @tool()
        async def note(value: object = None) -> object:
            self.called.append(f"note {value}")
            return value

        @tool()
        async def boom(name: str) -> None:
            await self.gate(name).wait()
            raise RuntimeError(name)

        self.tools = [long, note, boom]

    def gate(self, name):
        return self.open.setdefault(name, asyncio.Event())

    async def until(self, called):
        while called not in self.called:
            await asyncio.sleep(0.01)


@pytest.fixture
def gates():
    return Gates()


@pytest.fixture
async def hub():
    async with open_test_hub() as opened:
        yield opened


async def keys_of(hub, *names):
    """The keys of the only run, once these waits are open."""
    while True:
        for one in or_raise(await hub.query(Criteria(metadata={"kind": "flow"}))).items:
            keys = or_raise(await hub.keys(one.id))
            if set(names) <= set(keys):
                return one, keys
        await asyncio.sleep(0.01)


BOTH = {"id": "p", "parallel": [[{"tool": "long", "args": {"name": "slow"}}], [ask("ok"), {"tool": "note"}]]}


async def test_a_question_is_stored_while_another_branch_runs(hub, gates):
    runner = FlowRunner(hub, gates.tools, lease=LEASE)
    going = asyncio.create_task(runner.start(document(BOTH)))
    one, keys = await keys_of(hub, "p[1].ok")
    assert (one.status, gates.called) == (Status.RUNNING, ["slow"])
    assert isinstance(or_raise(await runner.resume(keys["p[1].ok"], answer="yes")), Accepted)
    # The answered branch goes on while the other one still runs.
    await gates.until("note yes")
    gates.gate("slow").set()
    assert or_raise(await going).result == ["slow", "yes"]
    assert gates.called == ["slow", "note yes"]


async def test_a_node_of_a_graph_goes_on_while_another_one_runs(hub, gates):
    runner = FlowRunner(hub, gates.tools, lease=LEASE)
    nodes = [{"id": "slow", "tool": "long", "args": {"name": "slow"}}, ask("ok"), {"id": "after", "tool": "note"}]
    graph = {"metadata": {"name": "doc"}, "nodes": nodes, "edges": [{"from": "ok", "to": "after"}]}
    going = asyncio.create_task(runner.start(graph))
    _, keys = await keys_of(hub, "ok")
    assert isinstance(or_raise(await runner.resume(keys["ok"], answer="yes")), Accepted)
    await gates.until("note yes")
    gates.gate("slow").set()
    assert or_raise(await going).result == {"slow": "slow", "after": "yes"}
    assert gates.called == ["slow", "note yes"]


async def test_the_stream_shows_the_key_while_the_run_goes_on(hub, gates):
    runner = FlowRunner(hub, gates.tools, lease=LEASE)
    told = []
    async with aclosing(runner.stream(document(BOTH))) as events:
        async for event in events:
            told.append(event.type)
            if event.type == "flow-suspended":
                assert (event.data["running"], event.data["accepted"]) == (True, False)
                (wait,) = event.data["waits"]
                assert wait["step"] == "p[1].ok"
                or_raise(await hub.answer(wait["key"], "yes"))
            if event.type == "node-complete" and event.data["path"].startswith("p[1].p_"):
                gates.gate("slow").set()
    assert told.count("flow-suspended") == 1
    assert (event.type, event.data["result"]) == ("flow-complete", ["slow", "yes"])


async def test_a_run_that_pauses_at_once_is_stored_once(hub, gates):
    puts = []
    hub.suspensions.observer = type(hub.suspensions.observer)(
        lambda event: puts.append(event.verb), hub.suspensions.tracebacks
    )
    runner = FlowRunner(hub, gates.tools, lease=LEASE)
    or_raise(await runner.start(document({"id": "p", "parallel": [[ask("a")], [ask("b")]]})))
    assert puts == ["suspend", "claim", "suspend_next"]


async def test_what_was_asked_and_answered_is_there_after_a_crash(gates):
    """The process dies after the question was stored; another one goes on, with the answer that came in between."""
    async with open_test_hub() as hub:
        runner = FlowRunner(hub, gates.tools, lease=LEASE)
        steps = [[{"tool": "note", "args": {"value": 1}}, {"tool": "long", "args": {"name": "slow"}}], [ask("ok")]]
        going = asyncio.create_task(runner.start(document({"id": "p", "parallel": steps})))
        one, keys = await keys_of(hub, "p[1].ok")
        # Nothing more is written for this run: its process is as good as dead.
        hub.suspensions.transact = lost_by(hub.suspensions.transact, going)
        or_raise(await hub.answer(keys["p[1].ok"], "yes"))
        going.cancel()
        await asyncio.wait({going})
        del hub.suspensions.transact
        assert or_raise(await hub.inspect(one.id)).status is Status.RUNNING
        travel(hub, 2 * LEASE)
        gates.gate("slow").set()
        working = asyncio.create_task(FlowRunner(hub, gates.tools, lease=LEASE).work(poll=timedelta(milliseconds=20)))
        while or_raise(await hub.inspect(one.id)).status is not Status.COMPLETED:
            await asyncio.sleep(0.01)
        working.cancel()
        assert or_raise(await hub.outcome(one.id))["result"] == ["slow", "yes"]
        # What had finished before the question was stored is not repeated.
        assert gates.called == ["note 1", "slow", "slow"]


def lost_by(transact, task):
    """Verbs of a holder fail, as if its process had died; those of others work."""

    async def lost(verb, *args, **options):
        if verb in {"release", "renew", "checkpoint", "suspend_next", "complete"}:
            return Failure(BackendUnavailable("gone", "memory", retryable=False))
        return await transact(verb, *args, **options)

    return lost


async def test_a_question_of_a_branch_that_is_given_up_is_closed_while_others_run(hub, gates):
    runner = FlowRunner(hub, gates.tools, lease=LEASE)
    inner = {"id": "q", "parallel": [[ask("ok")], [{"tool": "boom", "args": {"name": "now"}}]], "onError": []}
    inner["onError"] = [{"tool": "note", "args": {"value": "failed"}}]
    outer = {"id": "p", "parallel": [[inner], [{"tool": "long", "args": {"name": "slow"}}]]}
    going = asyncio.create_task(runner.start(document(outer)))
    one, keys = await keys_of(hub, "p[0].q[0].ok")
    gates.gate("now").set()
    await gates.until("note failed")
    while or_raise(await hub.keys(one.id)):
        await asyncio.sleep(0.01)
    assert type((await hub.answer(keys["p[0].q[0].ok"], "late")).failure()) is WaitSuperseded
    assert or_raise(await hub.inspect(one.id)).status is Status.RUNNING
    gates.gate("slow").set()
    assert or_raise(await going).result == ["failed", "slow"]


async def test_an_item_of_a_map_goes_on_within_its_bound(hub, gates):
    """Three at a time: items that wait make room, and those that are answered go on before the long one ends."""
    runner = FlowRunner(hub, gates.tools, lease=LEASE)
    body = {
        "condition": "$index == 0",
        "if_true": [{"tool": "long", "args": {"name": "slow"}}],
        "if_false": [ask("ok"), {"tool": "note", "args": {"value": "$index"}}],
    }
    each = {"id": "m", "map": list(range(6)), "concurrency": 3, "with": [{"id": "c", **body}]}
    going = asyncio.create_task(runner.start(document(each)))
    names = [f"m[{n}].c.ok" for n in range(1, 6)]
    _, keys = await keys_of(hub, *names)
    for name in reversed(names):
        or_raise(await hub.answer(keys[name], True))
    for n in range(1, 6):
        await gates.until(f"note {n}")
    gates.gate("slow").set()
    assert or_raise(await going).result == ["slow", 1, 2, 3, 4, 5]
    assert len(gates.called) == 6


async def test_an_answer_that_no_branch_can_take_yet_is_not_lost(hub, gates):
    """One at a time: the item that waits is behind the one that runs, in another branch."""
    runner = FlowRunner(hub, gates.tools, lease=LEASE)
    one_by_one = {"id": "m", "map": [1, 2], "with": [ask("ok")]}
    document_ = document({"id": "p", "parallel": [[one_by_one], [{"tool": "long", "args": {"name": "slow"}}]]})
    going = asyncio.create_task(runner.start(document_))
    _, keys = await keys_of(hub, "p[0].m[0].ok")
    or_raise(await hub.answer(keys["p[0].m[0].ok"], "one"))
    _, keys = await keys_of(hub, "p[0].m[1].ok")
    or_raise(await hub.answer(keys["p[0].m[1].ok"], "two"))
    gates.gate("slow").set()
    assert or_raise(await going).result == [["one", "two"], "slow"]


@pytest.mark.parametrize("done", [True, False], ids=["written", "not written"])
async def test_a_store_whose_reply_is_lost_asks_once(hub, gates, monkeypatch, done):
    """The write is repeated as it was, until it is known: no question is opened twice, and none is missing."""
    transact, calls = type(hub.suspensions).transact, []

    async def lossy(self, verb, *args, **options):
        if verb == "checkpoint" and not calls:
            calls.append(verb)
            if done:
                or_raise(await transact(self, verb, *args, **options))
            return Failure(UnknownOutcome("no reply", "memory", retryable=True))
        return await transact(self, verb, *args, **options)

    monkeypatch.setattr(type(hub.suspensions), "transact", lossy)
    runner = FlowRunner(hub, gates.tools, lease=LEASE)
    late = [{"tool": "long", "args": {"name": "first"}}, ask("late")]
    going = asyncio.create_task(runner.start(document({**BOTH, "parallel": [*BOTH["parallel"], late]})))
    await gates.until("first")
    while not calls:
        await asyncio.sleep(0.01)
    gates.gate("first").set()
    one, keys = await keys_of(hub, "p[1].ok", "p[2].late")
    waits = or_raise(await hub.inspect(one.id)).waits
    assert sorted(wait.name for wait in waits if wait.status is WaitStatus.OPEN) == ["p[1].ok", "p[2].late"]
    for key in keys.values():
        or_raise(await hub.answer(key, "yes"))
    gates.gate("slow").set()
    assert or_raise(await going).result == ["slow", "yes", "yes"]


async def test_a_run_with_a_stored_question_can_pause_as_ever(hub, gates):
    runner = FlowRunner(hub, gates.tools, lease=LEASE)
    going = asyncio.create_task(runner.start(document(BOTH)))
    _, keys = await keys_of(hub, "p[1].ok")
    gates.gate("slow").set()
    paused = or_raise(await going)
    assert isinstance(paused, Suspended)
    assert paused.keys == keys
    assert or_raise(await runner.resume(paused.key, answer="yes")).result == ["slow", "yes"]


async def test_a_cancelled_run_with_a_stored_question_is_given_back(hub, gates):
    runner = FlowRunner(hub, gates.tools, lease=LEASE)
    going = asyncio.create_task(runner.start(document(BOTH)))
    one, keys = await keys_of(hub, "p[1].ok")
    going.cancel()
    await asyncio.wait({going})
    assert or_raise(await hub.inspect(one.id)).status is Status.ANSWERED
    gates.gate("slow").set()
    assert or_raise(await runner.resume(keys["p[1].ok"], answer="yes")).result == ["slow", "yes"]


async def test_a_question_is_visible_on_every_backend(url, gates):
    async with open_hub(url, keyring=None) as holder, open_hub(url, keyring=None) as other:
        runner = FlowRunner(holder, gates.tools, lease=LEASE)
        going = asyncio.create_task(runner.start(document(BOTH)))
        _, keys = await keys_of(other, "p[1].ok")
        assert isinstance(
            or_raise(await FlowRunner(other, gates.tools, lease=LEASE).resume(keys["p[1].ok"], answer="yes")), Accepted
        )
        await gates.until("note yes")
        gates.gate("slow").set()
        assert or_raise(await going).result == ["slow", "yes"]
