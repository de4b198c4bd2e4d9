"""The runner on a real hub in memory: pauses, answers in any order, failures, migrations, workers and streams."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import timedelta

import pytest
from returns.result import Failure, Success

from flowpersist.dynamicflow import (
    Accepted,
    Completed,
    FlowRunner,
    Join,
    Migration,
    Suspended,
    legs,
    tool,
)
from flowpersist.dynamicflow import (
    compile as compile_flow,
)
from flowpersist.errors import (
    AlreadyResumed,
    BackendUnavailable,
    ConfigurationError,
    FlowError,
    IdempotencyConflict,
    InputValidationError,
    KeyValidationError,
    StillWaiting,
    SuspensionBusy,
    SuspensionCancelled,
)
from flowpersist.hub.opening import open_hub
from flowpersist.hub.outcome import or_raise
from flowpersist.hub.raising import RaisingHub
from flowpersist.inputs.await_input import AwaitInput
from flowpersist.lifecycle import Criteria, Status

calls: list[object] = []
gates: list[asyncio.Event] = []


@tool()
async def say(value: object = None) -> object:
    calls.append(value)
    return value


@tool()
async def boom() -> None:
    raise RuntimeError("secret of the state")


@tool()
async def held(value: object = None) -> object:
    calls.append(value)
    await gates[0].wait()
    return value


class Strange:
    pass


@tool(output_schema={})
async def strange() -> object:
    return Strange()


TOOLS = [say, boom, held, strange, AwaitInput(id="approve", prompt="Approve?", schema=bool)]


@pytest.fixture(autouse=True)
def _fresh():
    calls.clear()
    gates[:] = [asyncio.Event()]


@pytest.fixture
async def hub():
    async with open_hub("memory://", keyring=None) as opened:
        yield opened


@pytest.fixture
def runner(hub):
    return FlowRunner(hub, TOOLS)


def doc(*steps, name="doc"):
    return {"metadata": {"name": name}, "flow": list(steps)}


def ask(name="q", **args):
    return {"id": name, "tool": "await_input", "args": {"prompt": f"{name}?", **args}}


def spoken(value, **more):
    return {"tool": "say", "args": {"value": value}, **more}


TWO = doc(spoken("begin"), {"id": "p", "parallel": [ask("a"), ask("b")]}, spoken(["$a", "$b"]))


@pytest.mark.parametrize("document", [None, TWO], ids=["its own", "given"])
async def test_a_resume_reads_the_record_once(hub, runner, monkeypatch, document):
    key = or_raise(await runner.start(TWO)).waits[0].key
    reads, get = [], hub.backend.get

    async def counting(ref, **options):
        reads.append(ref.namespace)
        return await get(ref, **options)

    monkeypatch.setattr(hub.backend, "get", counting)
    engine = runner._legs._engine

    def begun(*args):
        assert reads == ["default"]
        return engine(*args)

    monkeypatch.setattr(type(runner._legs), "_engine", lambda _, *args: begun(*args))
    assert isinstance(or_raise(await runner.resume(key, answer="x", document=document)), Suspended)
    # The claim, and the pause at the end of the leg.
    assert reads == ["default", "default"]


async def only_run(hub):
    (found,) = or_raise(await hub.query()).items
    return found


def waits_of(outcome):
    assert isinstance(outcome, Suspended), outcome
    return outcome.keys


async def test_a_flow_without_waits_completes(runner, hub):
    outcome = or_raise(await runner.start(doc(spoken("$input.a", id="s")), input={"a": 1}))
    assert outcome == Completed(1, {"s": 1})
    found = await only_run(hub)
    assert found.status is Status.COMPLETED
    left = or_raise(await hub.outcome(found.id))
    assert (left["result"], left["outputs"]) == (1, {"s": 1})


async def test_a_flow_pauses_and_goes_on_by_its_key(runner, hub):
    outcome = or_raise(await runner.start(doc(spoken("begin"), ask(), spoken("$q"))))
    assert isinstance(outcome, Suspended)
    (wait,) = outcome.waits
    assert (wait.step, wait.awaiting.prompt, wait.key) == ("q", "q?", outcome.key)
    assert outcome.run_id == str((await only_run(hub)).id)
    again = FlowRunner(hub, TOOLS)
    assert or_raise(await again.resume(str(wait.key), answer="yes")).result == "yes"
    assert calls == ["begin", "yes"]


async def test_a_runner_takes_a_raising_hub_too():
    async with RaisingHub.open("memory://", keyring=None) as raising:
        assert or_raise(await FlowRunner(raising, TOOLS).start(doc(spoken(1)))).result == 1


async def test_answers_come_in_any_order_and_keys_stay(runner):
    keys = waits_of(or_raise(await runner.start(TWO)))
    assert set(keys) == {"p[0].a", "p[1].b"}
    middle = or_raise(await runner.resume(keys["p[1].b"], answer="B"))
    assert waits_of(middle) == {"p[0].a": keys["p[0].a"]}
    assert middle.key == keys["p[0].a"]
    assert or_raise(await runner.resume(keys["p[0].a"], answer="A")).result == ["A", "B"]
    assert calls == ["begin", ["A", "B"]]


async def test_an_answer_that_the_schema_refuses_leaves_the_run_waiting(runner):
    key = or_raise(await runner.start(doc({"id": "a", "tool": "approve"}))).key
    failure = await runner.resume(key, answer="maybe")
    assert isinstance(failure, Failure)
    assert isinstance(failure.failure(), InputValidationError)
    assert or_raise(await runner.resume(key, answer=True)).result is True


async def test_who_resumes_too_early_too_late_or_with_a_bad_key_is_told(runner, hub):
    key = or_raise(await runner.start(doc(ask()))).key
    assert isinstance((await runner.resume(key)).failure(), StillWaiting)
    assert isinstance((await runner.resume("df_susp_nonsense", answer=1)).failure(), KeyValidationError)
    or_raise(await runner.resume(key, answer=1))
    assert isinstance((await runner.resume(key, answer=1)).failure(), AlreadyResumed)
    other = or_raise(await hub.suspend({"any": "state"}))
    assert isinstance((await runner.resume(other.key, answer=1)).failure(), FlowError)


async def test_an_answer_given_by_the_hub_is_found_by_a_resume_without_one(runner, hub):
    key = or_raise(await runner.start(doc(ask()))).key
    or_raise(await hub.answer(key, "from a form"))
    assert or_raise(await runner.resume(key)).result == "from a form"


async def test_a_failing_step_fails_the_run_without_telling_its_state(runner, hub):
    failure = await runner.start(doc({"id": "b", "tool": "boom"}))
    assert isinstance(failure, Failure)
    error = failure.failure()
    assert isinstance(error, FlowError)
    assert (error.step, error.tool, error.document) == ("b", "boom", "doc")
    found = await only_run(hub)
    assert found.status is Status.FAILED
    assert "boom" in found.error
    assert "secret" not in found.error


async def test_a_result_that_can_not_be_kept_fails_the_run_by_name(runner, hub):
    failure = await runner.start(doc({"id": "s", "tool": "strange"}, ask()))
    assert isinstance(failure.failure(), FlowError)
    assert (await only_run(hub)).status is Status.FAILED
    failure = await runner.start(doc({"id": "s", "tool": "strange"}))
    assert isinstance(failure.failure(), FlowError)


async def test_a_wrong_document_or_a_missing_tool_starts_nothing(runner, hub):
    assert isinstance((await runner.start({"flow": []})).failure(), FlowError)
    error = (await runner.start(doc({"id": "x", "tool": "unknown"}))).failure()
    assert isinstance(error, FlowError)
    assert (error.step, error.tool) == ("x", "unknown")
    assert or_raise(await hub.query()).items == ()


async def test_a_runner_without_the_tools_leaves_the_run_as_it_was(runner, hub):
    key = or_raise(await runner.start(doc(ask(), spoken(1)))).key
    error = (await FlowRunner(hub).resume(key, answer="yes")).failure()
    assert isinstance(error, FlowError)
    assert error.tool == "say"
    assert (await only_run(hub)).status is Status.WAITING
    assert or_raise(await runner.resume(key, answer="yes")).result == 1


async def test_twice_the_same_tool_join_or_migration_is_a_mistake(hub):
    with pytest.raises(ConfigurationError):
        FlowRunner(hub, [say, say])
    with pytest.raises(ConfigurationError):
        FlowRunner(hub, [AwaitInput(id="await_input", prompt="?")])
    with pytest.raises(ConfigurationError):
        FlowRunner(hub, joins=[Join("a", "b", str), Join("a", "b", str)])
    with pytest.raises(ConfigurationError):
        FlowRunner(hub, migrations=[Migration("a", "b", dict), Migration("a", "b", dict)])
    with pytest.raises(TypeError):
        FlowRunner(hub, [print])


# ------------------------------------------------------------------------------------------------------ run ids, again


async def test_the_same_run_id_starts_once_and_tells_where_the_run_stands(runner, hub):
    document = doc(ask(), spoken("$q"))
    first = or_raise(await runner.start(document, run_id="order-7"))
    assert first.run_id == "order-7"
    assert or_raise(await runner.start(document, run_id="order-7")) == first
    assert isinstance((await runner.start(document, input={"n": 1}, run_id="order-7")).failure(), IdempotencyConflict)
    done = or_raise(await runner.resume(first.key, answer=5))
    assert or_raise(await runner.start(document, run_id="order-7")) == done
    assert calls == [5]
    assert (await only_run(hub)).metadata["run"] == "order-7"


async def test_a_run_that_failed_is_not_started_again_under_its_id(runner):
    document = doc({"tool": "boom"})
    failed = (await runner.start(document, run_id="r")).failure()
    again = (await runner.start(document, run_id="r")).failure()
    assert isinstance(again, FlowError)
    assert (again.message, again.step, again.tool) == (failed.message, failed.step, failed.tool)


async def test_a_run_under_way_is_busy_for_a_second_start(runner):
    document = doc({"tool": "held"})
    task = asyncio.create_task(runner.start(document, run_id="r"))
    while not calls:
        await asyncio.sleep(0)
    assert isinstance((await runner.start(document, run_id="r")).failure(), SuspensionBusy)
    gates[0].set()
    assert isinstance(await task, Success)


# -------------------------------------------------------------------------------------------- several at the same time


async def test_an_answer_to_a_run_under_way_is_accepted_and_taken_by_its_holder(runner, hub):
    steps = {"id": "p", "parallel": [ask("a"), [ask("b"), {"tool": "held", "args": {"value": "b"}}]]}
    keys = waits_of(or_raise(await runner.start(doc(steps))))
    holder = asyncio.create_task(runner.resume(keys["p[1].b"], answer="B"))
    while not calls:
        await asyncio.sleep(0)
    accepted = or_raise(await FlowRunner(hub, TOOLS).resume(keys["p[0].a"], answer="A", by="me"))
    assert isinstance(accepted, Accepted)
    assert (accepted.receipt.wait, accepted.receipt.by) == ("p[0].a", "me")
    gates[0].set()
    assert or_raise(await holder).result == ["A", "b"]
    assert calls == ["b"]


async def test_a_second_answer_to_the_same_wait_is_told_so_while_the_run_is_under_way(runner):
    steps = {"id": "p", "parallel": [ask("a"), [ask("b"), {"tool": "held", "args": {"value": "b"}}]]}
    keys = waits_of(or_raise(await runner.start(doc(steps))))
    holder = asyncio.create_task(runner.resume(keys["p[1].b"], answer="B"))
    while not calls:
        await asyncio.sleep(0)
    assert isinstance(await runner.resume(keys["p[1].b"], answer="other"), Failure)
    assert isinstance((await runner.resume(keys["p[0].a"])).failure(), SuspensionBusy)
    gates[0].set()
    await holder


@pytest.mark.parametrize("count", [2, 12])
async def test_of_many_who_answer_at_once_one_completes_and_every_tool_runs_once(hub, count):
    items = list(range(count))
    each = {"id": "each", "map": items, "parallel": True, "with": [ask(), spoken(["$item", "$q"])]}
    runners = [FlowRunner(hub, TOOLS) for _ in items]
    keys = waits_of(or_raise(await runners[0].start(doc(each, spoken("end")))))
    outcomes = await asyncio.gather(*(runners[n].resume(keys[f"each[{n}].q"], answer=n * 10) for n in items))
    completed = [o.unwrap() for o in outcomes if isinstance(o.unwrap(), Completed)]
    assert len(completed) == 1
    assert completed[0].outputs["each"] == [[n, n * 10] for n in items]
    assert sorted(map(str, calls)) == sorted([*(str([n, n * 10]) for n in items), "end"])


async def test_who_pauses_just_before_an_answer_is_recorded_leaves_it_to_the_answerer(runner, hub, monkeypatch):
    keys = waits_of(or_raise(await runner.start(TWO)))
    claim, freed = hub.claim, []

    async def busy_once(key, *args, **more):
        if not freed:
            freed.append(key)
            return Failure(SuspensionBusy("held by one who pauses right now"))
        return await claim(key, *args, **more)

    monkeypatch.setattr(hub, "claim", busy_once)
    middle = or_raise(await runner.resume(keys["p[0].a"], answer="A"))
    assert set(waits_of(middle)) == {"p[1].b"}


async def test_who_finds_that_another_was_quicker_tells_what_it_left(runner, hub, monkeypatch):
    steps = {"id": "p", "parallel": [ask("a"), ask("c"), [ask("b"), {"tool": "held", "args": {"value": "b"}}]]}
    for error, gives in ((SuspensionBusy("by another"), Suspended), (BackendUnavailable("gone"), Failure)):
        calls.clear()
        gates[:] = [asyncio.Event()]
        keys = waits_of(or_raise(await runner.start(doc(steps))))
        holder = asyncio.create_task(runner.resume(keys["p[2].b"], answer="B"))
        while not calls:
            await asyncio.sleep(0)
        or_raise(await hub.answer(keys["p[0].a"], "A"))

        async def quicker(*_, error=error, **__):
            return Failure(error)

        with monkeypatch.context() as patched:
            patched.setattr(legs, "claim_partly", quicker)
            gates[0].set()
            outcome = await holder
        assert isinstance(outcome if gives is Failure else outcome.unwrap(), gives)


async def test_a_pause_that_can_not_be_stored_gives_the_run_back(runner, hub, monkeypatch):
    async def gone(*_, **__):
        return Failure(BackendUnavailable("gone"))

    with monkeypatch.context() as patched:
        patched.setattr(hub, "suspend_next", gone)
        assert isinstance((await runner.start(doc(spoken(1), ask()))).failure(), BackendUnavailable)
    found = await only_run(hub)
    assert found.status is Status.ANSWERED
    assert isinstance(or_raise(await runner.resume(found.id)), Suspended)
    assert calls == [1, 1]


async def test_there_is_one_key_only_where_there_is_one_wait(runner):
    with pytest.raises(ValueError, match="2 open waits"):
        _ = or_raise(await runner.start(TWO)).key


# --------------------------------------------------------------------------------------------- deadlines, cancellation


async def test_a_wait_with_a_default_is_answered_by_it(runner, hub):
    outcome = or_raise(await runner.start(doc(ask(default="later", timeout=60), spoken("$q"))))
    hub.backend.clock_offset += timedelta(hours=1)
    assert or_raise(await runner.resume((await only_run(hub)).id)).result == "later"
    assert isinstance(outcome, Suspended)


async def test_a_wait_that_expires_fails_its_step_or_is_handled(runner, hub):
    steps = {**ask(), "timeout": 60_000, "onError": spoken("nobody came")}
    or_raise(await runner.start(doc(steps)))
    hub.backend.clock_offset += timedelta(hours=1)
    assert or_raise(await runner.resume((await only_run(hub)).id)).result == "nobody came"


async def test_a_cancelled_runner_gives_its_run_back(runner, hub):
    task = asyncio.create_task(runner.start(doc({"tool": "held"})))
    while not calls:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    found = await only_run(hub)
    assert found.status is Status.ANSWERED
    gates[0].set()
    assert isinstance(or_raise(await runner.resume(found.id)), Completed)


async def test_a_run_that_was_cancelled_is_refused_and_one_under_way_ends_at_its_pause(runner, hub):
    key = or_raise(await runner.start(doc(ask()))).key
    or_raise(await hub.cancel(key))
    assert isinstance((await runner.resume(key, answer=1)).failure(), SuspensionCancelled)
    task = asyncio.create_task(runner.start(doc({"tool": "held"}, ask()), run_id="r"))
    while not calls:
        await asyncio.sleep(0)
    (running,) = or_raise(await hub.query(Criteria(run="r"))).items
    or_raise(await hub.cancel(running.id))
    gates[0].set()
    assert isinstance((await task).failure(), SuspensionCancelled)


# ---------------------------------------------------------------------------------------------------------- migrations


async def test_another_document_needs_a_migration(runner, hub):
    old, new = doc(ask(), spoken("old")), doc(ask(), spoken("new"))
    hashes = [compile_flow(one).unwrap().hash for one in (old, new)]
    key = or_raise(await runner.start(old)).key
    error = (await runner.resume(key, answer=1, document=new)).failure()
    assert isinstance(error, FlowError)
    assert hashes[0] in error.message
    assert isinstance((await runner.resume(key, answer=1, document={"flow": []})).failure(), FlowError)
    assert (await only_run(hub)).status is Status.WAITING
    seen = []
    migrating = FlowRunner(hub, TOOLS, migrations=[Migration(*hashes, lambda state: seen.append(state) or state)])
    assert or_raise(await migrating.resume(key, answer=1, document=new)).result == "new"
    assert len(seen) == 1


async def test_the_same_document_needs_none(runner):
    key = or_raise(await runner.start(TWO)).keys["p[0].a"]
    assert isinstance(or_raise(await runner.resume(key, answer=1, document=TWO)), Suspended)


@pytest.mark.parametrize(
    "transform", [lambda state: state["no"], lambda _state: 7, lambda state: {**state, "format": 99}]
)
async def test_a_migration_that_fails_gives_the_run_back(runner, hub, transform):
    old, new = doc(ask(), spoken("old")), doc(ask(), spoken("new"))
    pair = [compile_flow(one).unwrap().hash for one in (old, new)]
    key = or_raise(await runner.start(old)).key
    migrating = FlowRunner(hub, TOOLS, migrations=[Migration(*pair, transform)])
    assert isinstance((await migrating.resume(key, answer=1, document=new)).failure(), FlowError)
    assert (await only_run(hub)).status is Status.ANSWERED
    assert or_raise(await runner.resume(key)).result == "old"


# ------------------------------------------------------------------------------------------------------------- workers


async def worked(runner, hub, until, **more):
    """Work until the hub's only run is in that status."""
    working = asyncio.create_task(runner.work(poll=timedelta(milliseconds=5), **more))
    try:
        async with asyncio.timeout(5):
            while (await only_run(hub)).status is not until:
                await asyncio.sleep(0.005)
    finally:
        working.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await working


async def test_a_worker_goes_on_with_what_was_answered(runner, hub):
    key = or_raise(await runner.start(doc(ask(), spoken("$q")))).key
    or_raise(await hub.answer(key, "from a form"))
    await worked(runner, hub, Status.COMPLETED)
    assert calls == ["from a form"]


async def test_a_worker_pauses_again_and_fails_what_fails(runner, hub):
    keys = waits_of(
        or_raise(await runner.start(doc({"id": "p", "parallel": [ask("a"), [ask("b"), {"tool": "boom"}]]})))
    )
    or_raise(await hub.answer(keys["p[0].a"], 1))
    await worked(runner, hub, Status.WAITING)
    or_raise(await hub.answer(keys["p[1].b"], 1))
    await worked(runner, hub, Status.FAILED)


async def test_a_worker_begins_what_its_starter_never_claimed(runner, hub, monkeypatch):
    with monkeypatch.context() as patched:

        async def dies(*_, **__):
            raise KeyboardInterrupt

        patched.setattr(hub, "claim", dies)
        with pytest.raises(KeyboardInterrupt):
            await runner.start(doc(spoken("begun")))
    assert (await only_run(hub)).status is Status.WAITING
    hub.backend.clock_offset += timedelta(minutes=1)
    await worked(runner, hub, Status.COMPLETED)
    assert calls == ["begun"]


async def test_a_worker_leaves_runs_to_others_whose_tools_it_lacks(runner, hub):
    key = or_raise(await runner.start(doc(ask(), spoken(1)))).key
    or_raise(await hub.answer(key, 1))
    poor = asyncio.create_task(FlowRunner(hub).work(poll=timedelta(milliseconds=1)))
    await asyncio.sleep(0.05)
    poor.cancel()
    found = await only_run(hub)
    assert (found.status, found.attempt) == (Status.ANSWERED, 0)
    await worked(runner, hub, Status.COMPLETED)


async def test_a_worker_leaves_other_suspensions_alone(runner, hub):
    other = or_raise(await hub.suspend({"any": "state"}, awaiting=AwaitInput(id="x", prompt="?")))
    or_raise(await hub.answer(other.key, 1))
    working = asyncio.create_task(runner.work(poll=timedelta(milliseconds=1)))
    await asyncio.sleep(0.05)
    working.cancel()
    assert (await only_run(hub)).attempt == 0


# ------------------------------------------------------------------------------------------------------------- streams


async def test_a_stream_tells_a_run_from_begin_to_pause_and_on(runner):
    events = [event async for event in runner.stream(doc(spoken(1, id="s"), ask()))]
    assert [event.type for event in events] == [
        *("flow-start", "node-start", "tool-start", "tool-output", "node-complete", "flow-progress", "node-start"),
        "flow-suspended",
    ]
    assert "flow-suspended" in repr(events[-1])
    (wait,) = events[-1].data["waits"]
    assert wait["step"] == "q"
    assert wait["key"] not in repr(events[-1])
    events = [event async for event in runner.stream_resume(wait["key"], answer=5)]
    assert [event.type for event in events] == ["flow-resumed", "node-complete", "flow-progress", "flow-complete"]
    assert events[-1].data["result"] == 5
    assert events[0].data["answered"] == ["q"]


async def test_a_stream_tells_errors_and_ends(runner):
    events = [event async for event in runner.stream(doc({"id": "b", "tool": "boom"}))]
    assert [event.type for event in events][-3:] == ["tool-error", "node-error", "flow-error"]
    assert events[-1].data["error"]["step"] == "b"
    assert [event.type async for event in runner.stream({"flow": []})] == ["flow-error"]
    assert [event.type async for event in runner.stream_resume("no key", answer=1)] == ["flow-error"]


async def test_a_stream_tells_that_the_answer_was_accepted(runner):
    steps = {"id": "p", "parallel": [ask("a"), [ask("b"), {"tool": "held", "args": {"value": "b"}}]]}
    keys = waits_of(or_raise(await runner.start(doc(steps))))
    holder = asyncio.create_task(runner.resume(keys["p[1].b"], answer="B"))
    while not calls:
        await asyncio.sleep(0)
    (event,) = [event async for event in runner.stream_resume(keys["p[0].a"], answer="A")]
    assert (event.type, event.data["accepted"]) == ("flow-suspended", True)
    gates[0].set()
    await holder


async def test_closing_a_stream_cancels_the_run_and_gives_it_back(runner, hub):
    stream = runner.stream(doc({"tool": "held"}))
    async for event in stream:
        if event.type == "tool-start":
            break
    await stream.aclose()
    assert (await only_run(hub)).status is Status.ANSWERED
    assert {task.get_name() for task in asyncio.all_tasks()} & {"flow"} == set()


class Wordless(Exception):
    def __str__(self):
        raise ValueError("no words")


class Formless:
    def model_dump(self, **options):
        raise KeyError("no form")


def cyclic():
    value = []
    value.append(value)
    return value


def nested(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


def wordless():
    raise Wordless


@pytest.mark.parametrize("make", [cyclic, lambda: nested(100_000), Formless, wordless])
async def test_whatever_a_tool_gives_or_raises_fails_its_step_and_no_more(make):
    @tool(id="odd", input_schema={}, output_schema={})
    async def odd():
        return make()

    async with open_hub("memory://", keyring=None) as plain:
        runner = FlowRunner(plain, tools=[odd])
        failed = await runner.start({"flow": [{"id": "a", "tool": "odd"}]})
        assert isinstance(failed.failure(), FlowError)
        assert failed.failure().step == "a"
        assert [one.status for one in or_raise(await plain.query()).items] == [Status.FAILED]
