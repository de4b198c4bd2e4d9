"""Runs that were lost: by a CancelledError that nobody meant, under another document, by a repeated key or start."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from attrs import field, frozen
from returns.result import Failure, Success

from flowpersist import AwaitInput, Criteria, RaisingHub, Status, or_raise
from flowpersist.dynamicflow import Completed, FlowRunner, Join, Migration, Suspended, ToolContext, tool
from flowpersist.dynamicflow import compile as compile_flow
from flowpersist.dynamicflow.facts import needs
from flowpersist.errors import FlowError, StillWaiting, SuspensionBusy, SuspensionCancelled
from flowpersist.hub.worker import Backoff
from flowpersist.testing.hubs import open_test_hub, travel

ASK = AwaitInput(id="ok", prompt="?")
LEASE = timedelta(seconds=30)
seen: list[tuple[str, str]] = []


@pytest.fixture(autouse=True)
def _fresh():
    seen.clear()


@pytest.fixture
async def hub():
    async with open_test_hub(keyring=None) as opened:
        yield opened


def document(*steps):
    return {"metadata": {"name": "doc"}, "flow": list(steps)}


def ask(name, **more):
    return {"id": name, "tool": "await_input", "args": {"prompt": "?"}, **more}


async def the_run(hub):
    (found,) = or_raise(await hub.query()).items
    return found


# ------------------------------------------------------------------------- a CancelledError that cancels nobody's task


@tool()
async def say(value: object = None) -> object:
    return value


@tool()
async def raises() -> None:
    raise asyncio.CancelledError


@tool()
async def raises_a_group() -> None:
    message = "what gather has returned"
    raise BaseExceptionGroup(message, [ValueError(), asyncio.CancelledError()])


@tool()
async def awaits_what_is_cancelled() -> None:
    other = asyncio.get_running_loop().create_task(asyncio.sleep(60))
    other.cancel()
    await other


@tool()
async def awaits_a_cancelled_future() -> None:
    future = asyncio.get_running_loop().create_future()
    future.cancel()
    await future


@tool()
async def second_time(context: ToolContext) -> int:
    if context.attempt == 1:
        raise asyncio.CancelledError
    return context.attempt


@frozen
class Odd:
    value: int = field()

    @value.validator
    def _check(self, _attribute, value):
        if value < 0:
            raise KeyError(value)
        if value == 0:
            raise asyncio.CancelledError


@tool()
async def takes_odd(odd: Odd) -> int:
    return odd.value


class Unreadable(dict):
    def values(self):
        raise asyncio.CancelledError


@tool(output_schema={})
async def gives_unreadable() -> object:
    return Unreadable(a=1)


class Unspeakable(Exception):
    def __str__(self):
        raise asyncio.CancelledError


@tool()
async def raises_unspeakable() -> None:
    raise Unspeakable


def cancelling(_value):
    raise asyncio.CancelledError


TOOLS = [
    *(say, raises, awaits_what_is_cancelled, awaits_a_cancelled_future, second_time),
    *(takes_odd, gives_unreadable, raises_unspeakable, raises_a_group),
]
JOINS = [Join("say", "takes_odd", cancelling)]
FAILING = {
    "raised": {"tool": "raises"},
    "in a group": {"tool": "raises_a_group"},
    "of a task": {"tool": "awaits_what_is_cancelled"},
    "of a future": {"tool": "awaits_a_cancelled_future"},
    "a class of the input": {"tool": "takes_odd", "args": {"odd": {"value": 0}}},
    "a class of the input, otherwise": {"tool": "takes_odd", "args": {"odd": {"value": -1}}},
    "a class of the output": {"tool": "gives_unreadable"},
    "the text of an error": {"tool": "raises_unspeakable"},
    "a join": {"sequence": [{"tool": "say", "args": {"value": 1}}, {"tool": "takes_odd"}]},
}
AROUND = {
    "alone": lambda step: step,
    "parallel": lambda step: {"parallel": [step, {"tool": "say"}]},
    "map": lambda step: {"map": [1, 2], "with": step, "concurrency": 2},
    "a timeout": lambda step: {"sequence": [step], "timeout": 60_000},
    "a handler": lambda step: {"tool": "raises", "onError": step},
}


@pytest.mark.parametrize("around", AROUND.values(), ids=AROUND)
@pytest.mark.parametrize("step", FAILING.values(), ids=FAILING)
async def test_a_cancelled_error_of_the_users_code_fails_its_attempt(hub, step, around):
    runner = FlowRunner(hub, TOOLS, JOINS)
    outcome = await runner.start(document({**around({**step, "id": "s"}), "id": "o"}))
    assert isinstance(outcome, Failure)
    assert isinstance(outcome.failure(), FlowError)
    assert (await the_run(hub)).status is Status.FAILED
    # It is a failure as any other: it can be handled, and is tried again.
    handled = document({**around({**step, "id": "s"}), "id": "o"}, {"tool": "say", "args": {"value": "went on"}})
    handled["flow"][0] = {"id": "h", "sequence": [handled["flow"][0]], "onError": {"tool": "say"}}
    assert or_raise(await runner.start(handled)).result == "went on"


async def test_a_further_attempt_may_succeed(hub):
    runner = FlowRunner(hub, TOOLS, backoff=lambda _: 0)
    assert or_raise(await runner.start(document({"tool": "second_time", "retry": 1}))).result == 2


async def test_a_task_that_was_cancelled_and_went_on_is_not_being_cancelled(hub):
    """Its count stays up when it swallows a cancellation: what comes later is not that one again."""

    async def swallows():
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            return await FlowRunner(hub, TOOLS).start(document({"tool": "raises"}))

    task = asyncio.create_task(swallows())
    await asyncio.sleep(0)
    task.cancel()
    assert isinstance(await task, Failure)


async def test_a_cancellation_of_the_task_is_still_one(hub):
    entered = asyncio.Event()

    @tool()
    async def waits() -> None:
        entered.set()
        await asyncio.Event().wait()

    runner = FlowRunner(hub, [waits])
    for steps in ({"tool": "waits"}, {"parallel": [{"tool": "waits"}, {"tool": "waits"}]}):
        entered.clear()
        task = asyncio.create_task(runner.start(document(steps)))
        await asyncio.wait_for(entered.wait(), 5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert {run.status for run in or_raise(await hub.query()).items} == {Status.ANSWERED}


@pytest.mark.parametrize("backoff", [cancelling, lambda _: "soon", lambda _: 1 / 0, lambda _: None])
async def test_a_backoff_that_fails_costs_the_further_attempts_alone(hub, backoff):
    runner = FlowRunner(hub, TOOLS, backoff=backoff)
    steps = [{"id": "s", "tool": "raises", "retry": 3, "onError": {"tool": "say", "args": {"value": "$error.message"}}}]
    assert "backoff" in or_raise(await runner.start(document(*steps))).result


async def test_a_migration_that_raises_it_refuses_the_document(hub):
    old, new = document(ask("q")), document(ask("q"), {"tool": "say"})
    hashes = [compile_flow(one).unwrap().hash for one in (old, new)]
    runner = FlowRunner(hub, TOOLS, migrations=[Migration(*hashes, cancelling)])
    outcome = or_raise(await runner.start(old))
    assert isinstance((await runner.resume(outcome.key, answer=1, document=new)).failure(), FlowError)
    assert (await the_run(hub)).status is Status.ANSWERED


async def test_whatever_ends_a_leg_gives_its_run_back(hub, monkeypatch):
    """A fault of our own too: the lease must not keep others from the run."""
    monkeypatch.setattr("flowpersist.dynamicflow.engine.Engine.run", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        await FlowRunner(hub, TOOLS).start(document({"tool": "say"}))
    assert (await the_run(hub)).status is Status.ANSWERED


async def until(condition, tries=2000):
    for _ in range(tries):
        if await condition():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("it never came about")


GROUP = BaseExceptionGroup("what gather has returned", [asyncio.CancelledError()])


@pytest.mark.parametrize(
    ("door", "raised"),
    [
        *(("hub", asyncio.CancelledError), ("hub", GROUP)),
        *(("raising", asyncio.CancelledError), ("raising", GROUP)),
        ("runner", None),
    ],
    ids=["hub", "hub, group", "raising", "raising, group", "runner"],
)
async def test_a_workers_run_is_tried_again_with_backoff_and_failed_in_the_end(hub, door, raised):
    attempts = []

    async def handler(run):
        attempts.append(run.attempt)
        raise raised

    if door == "runner":
        runner = FlowRunner(hub, TOOLS)
        waiting = or_raise(await runner.start(document(ask("q"), {"tool": "raises"})))
        or_raise(await hub.answer(waiting.key, 1))
        work = runner.work(poll=timedelta(milliseconds=1))
    else:
        or_raise(await hub.answer(or_raise(await hub.suspend("state", awaiting=ASK)).key, 1))
        verbs = hub if door == "hub" else RaisingHub(hub)
        none = timedelta(0)
        work = verbs.work(handler, poll=timedelta(milliseconds=1), max_attempts=3, backoff=Backoff(none, none))
    task = asyncio.create_task(work)

    async def failed():
        return (await the_run(hub)).status is Status.FAILED

    await until(failed)
    assert not task.done()
    assert attempts == ([] if door == "runner" else [1, 2, 3])
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_observer_that_raises_it_undoes_nothing():
    async with open_test_hub(keyring=None, on_event=cancelling) as hub:
        assert isinstance(await hub.suspend(1), Success)


# ---------------------------------------------------------------------------------------------------------- migrations


@pytest.mark.parametrize("goes_on", ["waits again", "completes", "fails"])
async def test_the_put_after_a_migration_carries_the_new_hash_and_tools(hub, goes_on):
    @tool()
    async def fresh(value: object = None) -> object:
        if value == "fail":
            raise RuntimeError("it broke")
        return value

    @tool()
    async def stale() -> None:
        """Called by the old document alone."""

    last = {"waits again": [ask("again")], "completes": [], "fails": [{"tool": "fresh", "args": {"value": "fail"}}]}
    old = document(ask("q"), {"tool": "stale"})
    new = document(ask("q"), *last[goes_on], {"id": "f", "tool": "fresh", "args": {"value": "$q"}})
    hashes = [compile_flow(one).unwrap().hash for one in (old, new)]
    before, after = (
        FlowRunner(hub, [stale]),
        FlowRunner(hub, [fresh], migrations=[Migration(*hashes, lambda state: state)]),
    )
    first = or_raise(await before.start(old, run_id="r"))
    outcome = await after.resume(first.key, answer="x", document=new)
    found = await the_run(hub)
    assert found.metadata["hash"] == hashes[1]
    assert needs(found.metadata) == {"fresh"} | ({"await_input"})
    assert found.metadata["run"] == "r"
    if goes_on != "waits again":
        assert isinstance(outcome, Success) is (goes_on == "completes")
        return
    # Workers with the new tools take it; those with the old leave it alone.
    or_raise(await hub.answer(or_raise(outcome).key, 1))
    works = [
        asyncio.create_task(runner.work(poll=timedelta(milliseconds=1)))
        for runner in (before, FlowRunner(hub, [fresh]))
    ]

    async def completed():
        return (await the_run(hub)).status is Status.COMPLETED

    await until(completed)
    for work in works:
        work.cancel()
    await asyncio.wait(works)
    assert or_raise(await hub.outcome(found.id))["result"] == "x"


async def test_the_metadata_of_a_pause_and_of_an_end_is_what_the_verb_says(hub):
    for verbs in (hub, RaisingHub(hub)):
        new = or_raise(await hub.suspend(1, metadata={"a": 1, "b": "x"}))
        run = or_raise(await hub.claim(new.key))
        given = await verbs.suspend_next(run, 2, metadata={"b": "y"})
        assert (or_raise(given) if isinstance(given, Success) else given).metadata == {"b": "y"}
        assert [one.id for one in or_raise(await hub.query(Criteria(metadata={"b": "y"}))).items][-1] == new.id
        assert new.id not in {one.id for one in or_raise(await hub.query(Criteria(metadata={"a": 1}))).items}
        run = or_raise(await hub.claim(new.id))
        await verbs.complete(run, metadata={"b": "z"})
        assert or_raise(await hub.inspect(new.id)).metadata == {"b": "z"}


# ----------------------------------------------------------------------------------------------- the key of an attempt


@tool()
async def charge(context: ToolContext, amount: int = 1) -> int:
    seen.append((context.key, context.path))
    return amount


@tool()
async def must(value: object) -> object:
    if value == "no":
        raise RuntimeError("refused")
    return value


CHARGING = {
    "sequence": {"sequence": [{"id": "c", "tool": "charge"}, {"tool": "raises"}]},
    "parallel": {"parallel": [[{"id": "c", "tool": "charge"}, {"tool": "raises"}]]},
    "map": {"map": [1, 2], "with": [{"id": "c", "tool": "charge"}, {"tool": "raises"}]},
    "loop": {"loop": "for", "over": [1, 2], "body": [{"id": "c", "tool": "charge"}, {"tool": "raises"}]},
    "conditional": {"condition": "true", "then": [{"id": "c", "tool": "charge"}, {"tool": "raises"}]},
}


@pytest.mark.parametrize("holder", CHARGING.values(), ids=CHARGING)
async def test_each_attempt_of_whatever_holds_a_step_has_a_key_of_its_own(hub, holder):
    runner = FlowRunner(hub, [*TOOLS, charge], backoff=lambda _: 0)
    inner = {"id": "i", **holder, "retry": 1}
    await runner.start(document({"id": "o", "sequence": [inner], "retry": 2}), run_id="r")
    keys = [key for key, _ in seen]
    assert len(keys) == 6
    assert len(set(keys)) == 6
    assert len({path for _, path in seen}) == 1


async def test_a_first_attempt_has_the_key_that_it_always_had(hub):
    await FlowRunner(hub, [charge]).start(
        document({"id": "m", "map": [1, 2], "with": {"id": "c", "tool": "charge"}}), run_id="r"
    )
    assert [key for key, _ in seen] == ["r/m[0].c/1", "r/m[1].c/1"]


async def test_an_attempt_that_a_crash_repeats_has_its_key_again(hub):
    """Stored after its first attempt has failed, and claimed twice more by processes that die half-way."""
    dies = [True, True]
    pays = {"id": "c", "tool": "charge", "args": {"amount": 1}}

    @tool()
    async def crash() -> None:
        if dies.pop():
            raise KeyboardInterrupt

    steps = [ask("q"), {"tool": "must", "args": {"value": "$q"}}, pays, {"tool": "crash"}]
    runner = FlowRunner(hub, [*TOOLS, charge, must, crash], lease=LEASE, backoff=lambda _: 0)
    first = or_raise(await runner.start(document({"id": "o", "sequence": steps, "retry": 2}), run_id="r"))
    second = or_raise(await runner.resume(first.key, answer="no"))
    or_raise(await hub.answer(second.key, "yes"))
    for _ in range(2):
        claimed = or_raise(await hub.claim(second.key, lease=LEASE))
        with pytest.raises(KeyboardInterrupt):
            await runner._legs._leg(claimed, lambda *_: None, None)
        travel(hub, 2 * LEASE)
    dies.append(False)
    assert isinstance(or_raise(await runner.resume(second.key)), Completed)
    assert [key for key, _ in seen] == ["r/o#2.c/1"] * 3


# ------------------------------------------------------------------------------------------------------ the same start


@tool()
async def refuses() -> None:
    raise RuntimeError("the card of ann was refused")


def same(one, other):
    """Whether two outcomes say the same."""
    if isinstance(one, Failure):
        first, second = one.failure(), other.failure()
        fields = ("message", "document", "step", "reference", "tool")
        return type(first) is type(second) and [getattr(first, n) for n in fields] == [
            getattr(second, n) for n in fields
        ]
    return one.unwrap() == other.unwrap()


RUNS = {
    "completed": document({"id": "s", "tool": "say", "args": {"value": {"a": [1, 2.5, None]}}}),
    "completed with nothing": document({"tool": "say"}),
    "suspended": document(ask("q"), ask("z")),
    "suspended at two": document({"parallel": [ask("q"), ask("z")]}),
    "failed": document({"id": "pay", "tool": "refuses"}),
    "failed by a reference": document({"tool": "say", "args": {"value": "$input.missing"}}),
}


@pytest.mark.parametrize("encrypted", [True, False], ids=["sealed", "plain"])
@pytest.mark.parametrize("name", RUNS)
async def test_the_same_start_gives_the_same_outcome(tmp_path, name, encrypted):
    options = {} if encrypted else {"keyring": None}
    async with open_test_hub(f"sqlite:///{tmp_path}/flows.db", **options) as hub:
        runner = FlowRunner(hub, [say, refuses])
        first = await runner.start(RUNS[name], input={}, run_id="r")
        for again in (runner, FlowRunner(RaisingHub(hub), [say, refuses])):
            assert same(first, await again.start(RUNS[name], input={}, run_id="r"))
        if name == "failed":
            assert "the card of ann was refused" in first.failure().message
        assert len(or_raise(await hub.query()).items) == 1


async def test_the_same_start_after_the_run_has_gone_on(hub):
    runner = FlowRunner(hub, [say, refuses, must])
    steps = document(ask("q"), {"tool": "must", "args": {"value": "$q"}}, ask("z"))
    first = or_raise(await runner.start(steps, run_id="r"))
    second = await runner.resume(first.key, answer="yes")
    assert same(second, await runner.start(steps, run_id="r"))
    third = await runner.resume(or_raise(second).key, answer="end")
    assert same(third, await runner.start(steps, run_id="r"))
    refused = or_raise(await runner.start(steps, run_id="other"))
    failed = await runner.resume(refused.key, answer="no")
    assert "refused" in failed.failure().message
    assert same(failed, await runner.start(steps, run_id="other"))


async def test_the_same_start_of_a_run_that_its_worker_gave_up_says_so(hub):
    runner = FlowRunner(hub, [say])
    first = or_raise(await runner.start(document(ask("q")), run_id="r"))
    run = or_raise(await hub.claim(first.key, 1))
    or_raise(await hub.fail(run, "given up after 5 attempts"))
    told = (await runner.start(document(ask("q")), run_id="r")).failure()
    assert isinstance(told, FlowError)
    assert "given up after 5 attempts" in told.message


async def test_the_same_start_of_a_run_that_is_held_or_cancelled(hub):
    runner = FlowRunner(hub, [say])
    first = or_raise(await runner.start(document(ask("q")), run_id="r"))
    assert isinstance(first, Suspended)
    held = or_raise(await hub.claim(first.key, 1))
    assert isinstance((await runner.start(document(ask("q")), run_id="r")).failure(), SuspensionBusy)
    or_raise(await hub.release(held))
    or_raise(await hub.cancel(first.key))
    assert isinstance((await runner.start(document(ask("q")), run_id="r")).failure(), SuspensionCancelled)


@pytest.mark.parametrize("why", [None, {"because": ["of", 1]}, "text"])
async def test_why_a_run_has_failed_is_kept_sealed(hub, why):
    new = or_raise(await hub.suspend("state", awaiting=ASK))
    assert isinstance((await hub.failure(new.key)).failure(), StillWaiting)
    run = or_raise(await hub.claim(new.key, 1))
    or_raise(await hub.fail(run, "broken", why=why))
    assert or_raise(await hub.failure(new.key)) == why
    assert or_raise(await hub.inspect(new.key)).error == "broken"
