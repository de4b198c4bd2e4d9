"""flowpersist.blocking: the verbs of the async classes, interrupted, closed, and refused where they would block."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import os
import signal
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, closing, suppress
from datetime import timedelta

import pytest

from flowpersist import AwaitInput, Criteria, KeyRing, RaisingHub, Status, dynamicflow, stores
from flowpersist import Maintenance as AsyncMaintenance
from flowpersist.backends.memory import MemoryBackend
from flowpersist.blocking import (
    Artifacts,
    ConversationManager,
    Features,
    FlowRunner,
    Hub,
    Locks,
    Maintenance,
    Observations,
    RunStates,
    Sessions,
    Signals,
    StateManager,
    Stores,
    ValueStore,
    open_hub,
    open_stores,
    threaded,
    tool,
)
from flowpersist.blocking.blocks import Items
from flowpersist.blocking.portal import Portal
from flowpersist.errors import (
    AlreadyResumed,
    BackendUnavailable,
    ConfigurationError,
    InputValidationError,
    LeaseLost,
    RevisionConflict,
    SuspensionNotFound,
)
from flowpersist.keys.suspension_key import generate_key
from flowpersist.testing.hubs import travel

CONFIRM = AwaitInput(id="confirm", prompt="Ship it?", schema=bool)
PAIRS = {
    Hub: RaisingHub,
    Maintenance: AsyncMaintenance,
    FlowRunner: dynamicflow.FlowRunner,
    Stores: stores.Stores,
    ValueStore: stores.ValueStore,
    RunStates: stores.run_state.RunStates,
    Sessions: stores.Sessions,
    Observations: stores.Observations,
    Features: stores.Features,
    Artifacts: stores.Artifacts,
    StateManager: stores.StateManager,
    ConversationManager: stores.ConversationManager,
    Locks: stores.Locks,
    Signals: stores.Signals,
}
#: What opens and closes the async objects. A blocking hub does it for all that is made of it. A transaction of an async
#: driver, and a connection of the caller's thread, can't be used in the thread that a blocking hub works in.
LIFE = {"open", "close", "within"}
FLOW = {
    "name": "f",
    "flow": [
        {"id": "doubled", "tool": "double", "args": {"n": "$input.n"}},
        {"id": "ask", "tool": "await_input", "args": {"prompt": "Right?", "schema": {"type": "boolean"}}},
    ],
}


@pytest.fixture
def hub():
    before = set(threading.enumerate())
    with open_hub("memory://", keyring=KeyRing.generate()) as opened:
        yield opened
    left = [one for one in threading.enumerate() if one not in before and "flowpersist" in one.name]
    # A handler's thread hands over its result before it ends.
    for one in left:
        one.join(10)
    assert [one.name for one in left if one.is_alive()] == []


def answered(hub, state):
    """The id of a run that a worker claims."""
    new = hub.suspend(state, awaiting=CONFIRM)
    hub.answer(new.key, value=True)
    return new.id


def public(kind):
    return {name for name, _ in inspect.getmembers(kind, callable) if not name.startswith("_")}


def properties(kind):
    return {name for name, _ in inspect.getmembers(kind, lambda one: isinstance(one, property))}


# ------------------------------------------------------------------------------------------------ one source of truth


@pytest.mark.parametrize(("blocking", "wrapped"), PAIRS.items(), ids=[kind.__name__ for kind in PAIRS])
def test_every_method_is_forwarded_with_its_signature(blocking, wrapped):
    missing = public(wrapped) - public(blocking) - LIFE
    assert not missing, f"forward them by one line each in flowpersist.blocking: {missing}"
    assert public(blocking) - public(wrapped) - LIFE == set()
    assert properties(blocking) == properties(wrapped)
    for name in public(wrapped) - LIFE:
        assert inspect.signature(getattr(blocking, name)) == inspect.signature(getattr(wrapped, name))
        doc = inspect.getdoc(getattr(blocking, name))
        assert doc
        assert [word for word in ("async with", "async for", "await ") if word in doc] == []


@pytest.mark.parametrize("blocking", [Maintenance, FlowRunner, Stores])
def test_what_is_made_of_a_hub_takes_the_same_arguments(blocking):
    def arguments(kind):
        return [(p.name, p.kind, p.default) for p in inspect.signature(kind).parameters.values()]

    assert arguments(blocking) == arguments(PAIRS[blocking])


def test_a_blocking_runner_is_asked_what_runs_would_break(hub):
    runner = FlowRunner(hub, [double])
    assert Maintenance(hub).check_upgrade(runner, [FLOW]).passes


# ------------------------------------------------------------------------------------------------------------- verbs


def test_values_come_back_and_errors_are_raised(hub):
    new = hub.suspend({"n": 1}, awaiting=CONFIRM, metadata={"run": "r"})
    assert hub.inspect(new.key).status is Status.WAITING
    with pytest.raises(InputValidationError):
        hub.answer(new.key, "no")
    assert hub.answer(new.key, value=True, by="ann").outcome == "accepted"
    run = hub.resume(str(new.key), expect=dict)
    assert (run.state, run.answer, run.answered_by) == ({"n": 1}, True, "ann")
    with pytest.raises(AlreadyResumed):
        hub.resume(new.key, value=False)
    with pytest.raises(SuspensionNotFound):
        hub.inspect(generate_key())
    with pytest.raises(TypeError, match="unexpected keyword"):
        hub.inspect(new.key, bye="ann")


def test_options_are_those_of_open_hub():
    with pytest.raises(ConfigurationError):
        open_hub("nosuch://", keyring=None)
    with pytest.raises(TypeError, match="retention"):
        open_hub("memory://", keyring=None, retention=1)
    assert [one for one in threading.enumerate() if one.name == "flowpersist hub"] == []


def test_iterate_gives_all_pages_and_may_be_left_early(hub):
    for number in range(120):
        hub.suspend(number)
    assert len({one.id for one in hub.iterate()}) == 120
    some = hub.iterate(Criteria(status=Status.WAITING))
    assert next(some).status is Status.WAITING
    some.close()
    assert list(some) == []


def test_an_iterator_that_is_dropped_in_any_thread_ends(hub):
    hub.suspend(1)
    closed = threading.Event()

    async def items():
        try:
            while True:
                yield 1
        finally:
            closed.set()

    dropped = []

    async def drop():
        dropped.clear()

    for clear in (lambda: hub._portal.call(drop), dropped.clear):
        closed.clear()
        dropped.append(Items(hub._portal, items()))
        assert next(dropped[0]) == 1
        clear()
        assert closed.wait(10)
    assert hub.query().items


# ------------------------------------------------------------------------------------------------------------ blocks


def test_running_completes_and_releases(hub):
    new = hub.suspend("s", awaiting=CONFIRM)
    boom = ValueError("boom")

    def block():
        with hub.running(new.key, value=True) as run:
            assert run.answer is True
            raise boom

    with pytest.raises(ValueError, match="boom") as raised:
        block()
    assert raised.value is boom
    assert [entry.name for entry in traceback.extract_tb(boom.__traceback__)][-2:] == [
        "test_running_completes_and_releases",
        "block",
    ]
    assert hub.inspect(new.id).status is Status.ANSWERED
    with hub.running(new.id):
        assert hub.inspect(new.id).status is Status.RUNNING
    assert hub.inspect(new.id).status is Status.COMPLETED
    with pytest.raises(AlreadyResumed), hub.running(new.key):
        pytest.fail("the block of a refused claim ran")


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_exit_from_a_running_block_releases_the_run_and_leaves_the_hub_usable(hub, error):
    new = hub.suspend("s")
    with pytest.raises(error), hub.running(new.id):
        raise error
    assert hub.inspect(new.id).status is Status.ANSWERED


def test_a_lost_lease_is_raised_at_the_end_of_the_block(hub):
    new = hub.suspend("s")
    others = []

    def block():
        with hub.running(new.id, lease=timedelta(seconds=0.3)):
            travel(hub, timedelta(minutes=1))
            others.extend(hub.claim_due(lease=timedelta(hours=1)))
            while any(task.get_name().startswith("renew") for task in tasks_of(hub)):
                threading.Event().wait(0.01)

    with pytest.raises(LeaseLost):
        block()
    assert hub.complete(others[0]).status is Status.COMPLETED


def tasks_of(hub):
    async def names():
        return asyncio.all_tasks()

    return hub._portal.call(names)


def test_the_error_of_a_block_goes_before_its_lost_lease(hub):
    new = hub.suspend("s")

    def block():
        with hub.running(new.id, lease=timedelta(seconds=0.3)) as run:
            hub.cancel(new.id)
            while any(task.get_name().startswith("renew") for task in tasks_of(hub)):
                threading.Event().wait(0.01)
            _ = run.attempt / 0

    with pytest.raises(ZeroDivisionError):
        block()
    assert hub.inspect(new.id).status is Status.CANCELLED


# ----------------------------------------------------------------------------------------------------------- workers


def test_a_plain_handler_uses_the_hub_until_it_is_interrupted(hub):
    """Twelve handlers at once, more than the loop has threads; one of them sends this process Ctrl-C."""
    names = [answered(hub, number) for number in range(12)]
    meeting, unsent = threading.Barrier(12), threading.Semaphore(1)
    handled = []

    def handle(run):
        assert threading.current_thread() is not threading.main_thread()
        first = True
        try:
            meeting.wait(60)
            handled.append(hub.inspect(run.suspension.id).status)
            hub.complete(run, run.state * 2)
            first = meeting.wait(60) == 0
        finally:
            # Also where not all have come in time, since the worker would go on without end. A second one ends pytest.
            if first and unsent.acquire(blocking=False):
                os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        hub.work(handle, concurrency=12)
    assert handled == [Status.RUNNING] * 12
    assert [hub.outcome(one) for one in names] == [number * 2 for number in range(12)]


def test_handlers_may_be_async_and_of_expiries(hub):
    new = hub.suspend("late", awaiting=CONFIRM, timeout=timedelta(seconds=1))
    answered(hub, "now")
    travel(hub, timedelta(seconds=2))
    seen = []

    done = threading.Event()

    def lapse(run):
        seen.append(("lapsed", run.suspension.id))
        done.wait(10)
        os.kill(os.getpid(), signal.SIGINT)

    async def handle(run):
        seen.append((run.state, threading.current_thread().name))
        done.set()

    with pytest.raises(KeyboardInterrupt):
        hub.work(handle, expired=lapse)
    assert {one[0] for one in seen} == {"lapsed", "now"}
    assert ("lapsed", new.id) in seen
    assert ("now", "flowpersist hub") in seen


def test_what_is_no_function_is_refused_as_a_handler(hub):
    with pytest.raises(TypeError, match="handler"):
        hub.work(3)
    with pytest.raises(TypeError, match="handler"):
        hub.work(handler=int)


def test_a_handler_that_exits_fails_its_attempt_alone(hub):
    name = answered(hub, "s")

    def handle(run):
        os.kill(os.getpid(), signal.SIGINT)
        raise SystemExit(run.state)

    with pytest.raises(KeyboardInterrupt):
        hub.work(handle)
    assert hub.inspect(name).status is Status.ANSWERED


# ------------------------------------------------------------------------------------------------------------- flows


@tool(id="double")
def double(n: int, context: dynamicflow.ToolContext) -> object:
    """Double a number."""
    return {"twice": 2 * n, "thread": threading.current_thread().name, "step": context.step_id}


def test_flows_run_with_plain_tools(hub):
    assert double.description == "Double a number."
    assert double.takes == ("n",)
    runner = FlowRunner(hub, [double])
    waiting = runner.start(FLOW, input={"n": 4}, run_id="r")
    done = runner.resume(waiting.key, answer=True)
    assert done.result is True
    assert done.outputs["doubled"]["twice"] == 8
    assert done.outputs["doubled"]["step"] == "doubled"
    assert done.outputs["doubled"]["thread"] != "flowpersist hub"


def test_events_of_a_flow_come_one_by_one(hub):
    runner = FlowRunner(hub, [double])
    kinds = [event.type for event in runner.stream(FLOW, input={"n": 1})]
    assert (kinds[0], kinds[-1]) == ("flow-start", "flow-suspended")
    (waiting,) = hub.query().items
    key = hub.keys(waiting.id)["ask"]
    assert [event.type for event in runner.stream_resume(key, answer=True)][-1] == "flow-complete"


def test_the_stored_events_of_a_run_come_one_by_one(hub):
    runner = FlowRunner(hub, [double], events=True)
    waiting = runner.start(FLOW, input={"n": 1}, run_id="r")
    events = runner.events("r", follow=True)
    assert next(events).type == "flow-start"
    runner.resume(waiting.key, answer=True)
    kinds = [(event.sequence, event.type) for event in events]
    assert (kinds[0][0], kinds[-1][1]) == (2, "flow-complete")
    assert next(runner.events("r", after=3)).sequence == 4


def test_a_stream_that_is_closed_releases_its_run(hub):
    events = FlowRunner(hub, [double]).stream(FLOW, input={"n": 1})
    assert next(events).type == "flow-start"
    events.close()
    (run,) = hub.query().items
    assert run.status in {Status.ANSWERED, Status.WAITING}
    assert [task for task in tasks_of(hub) if task.get_name() == "flow"] == []


def test_maintenance_gives_values(hub):
    maintenance = Maintenance(hub)
    hub.suspend("s", awaiting=CONFIRM, timeout=timedelta(seconds=1))
    travel(hub, timedelta(seconds=2))
    assert maintenance.tick().updated == 1
    assert maintenance.health().encrypted is True
    with pytest.raises(TypeError, match=r"a Hub of flowpersist\.blocking"):
        Maintenance(object())


# ------------------------------------------------------------------------------------------------------------ stores


def test_values_are_kept_by_key(hub):
    orders = Stores(hub, tenant="t").values("orders", dict)
    assert orders.load("a") is None
    first = orders.save("a", {"n": 1})
    with pytest.raises(RevisionConflict):
        orders.save("a", {"n": 2}, if_revision=0)
    assert orders.update("a", lambda order: {"n": order["n"] + 1}, default={"n": 0}).value == {"n": 2}
    assert orders.load("a").revision > first.revision
    assert [one.value for one in orders.iterate()] == [{"n": 2}]
    changes = orders.watch("a")
    assert next(changes).loaded.value == {"n": 2}
    changes.close()
    assert orders.delete("a") is True


def test_a_change_of_a_value_may_use_the_hub(hub):
    counts = Stores(hub).values("counts", int)
    counts.save("other", 20)
    assert counts.update("a", lambda count: count + counts.load("other").value, default=1).value == 21
    with pytest.raises(ZeroDivisionError):
        counts.update("a", lambda count: count / 0)


def test_turns_of_a_conversation_run_one_after_another():
    with open_stores("memory://", keyring=None) as opened:
        manager = ConversationManager(opened.run_state)
        handlers = set()

        def turn(state):
            handlers.add(threading.current_thread().name)
            return f"{state or ''}{opened.run_state.load_state('other') or '.'}"

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda _: manager.turn("s", turn), range(20)))
        assert opened.run_state.load_state("s") == "." * 20
        assert opened.run_state.name == "memory"
        assert "flowpersist hub" not in handlers
    with pytest.raises(TypeError, match="Invalid store"):
        ConversationManager("file")


class PlainStore:
    """A run-state store that somebody wrote by hand, which records what it was asked."""

    def __init__(self):
        self.states, self.calls, self.loops = {}, [], set()

    async def init(self):
        self.calls.append("init")

    async def save_state(self, subject_id, run_state):
        self.loops.add(asyncio.get_running_loop())
        self.states[subject_id] = run_state

    async def load_state(self, subject_id):
        await asyncio.sleep(0)
        return self.states.get(subject_id)

    async def delete_state(self, subject_id):
        self.states.pop(subject_id, None)

    async def cleanup_old_states(self, max_age=None):
        return 0


class ClosingStore(PlainStore):
    async def close(self):
        self.calls.append("close")


@pytest.mark.parametrize("kind", [PlainStore, ClosingStore])
def test_turns_run_on_any_store_on_a_loop_of_the_managers_own(kind):
    store = kind()
    with ConversationManager(store) as manager, ThreadPoolExecutor(4) as pool:
        assert store.calls == ["init"]
        list(pool.map(lambda _: manager.turn("s", lambda state: f"{state or ''}."), range(10)))
        assert manager.turn("t", str) == "None"
    assert store.states == {"s": "." * 10, "t": "None"}
    assert len(store.loops) == 1
    assert store.calls == ["init", "close"][: 1 + (kind is ClosingStore)]
    manager.close()
    with pytest.raises(RuntimeError, match="the manager is closed"):
        manager.turn("s", lambda state: state)


def test_a_manager_without_a_store_takes_the_one_of_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("PERSISTENCE_ADAPTER", "file")
    monkeypatch.setenv("PERSISTENCE_DIR", str(tmp_path / "states"))
    # On a busy machine, threads of earlier tests may still be ending.
    before = set(threading.enumerate())
    for expected in (".", ".."):
        with ConversationManager() as manager:
            assert manager.turn("s", lambda state: f"{state or ''}.") == expected
    shared = stores.MemoryStateStore("turns of two managers", keyring=None)
    with ConversationManager(shared) as manager:
        assert manager.turn("s", lambda _: "kept") == "kept"
    ends = time.monotonic() + 30
    while left := [one for one in set(threading.enumerate()) - before if "flowpersist" in one.name]:
        assert time.monotonic() < ends, left
        time.sleep(0.01)


def test_a_manager_whose_store_does_not_open_leaves_nothing_open(tmp_path):
    missing = stores.SqliteStateStore(tmp_path / "no" / "such" / "s.db", keyring=None)
    with pytest.raises(BackendUnavailable), ConversationManager(missing):
        pass
    assert not [one for one in threading.enumerate() if one.name == "flowpersist hub"]


def test_a_manager_that_is_dropped_without_being_closed_is_told():
    with pytest.warns(ResourceWarning, match="ConversationManager was not closed"):
        ConversationManager(PlainStore())


# ----------------------------------------------------------------------------------------------- threads and contexts


def test_many_threads_at_once_have_one_winner_for_each_run(hub):
    keys = [hub.suspend(number, awaiting=CONFIRM).key for number in range(10)]

    def race(_):
        won = 0
        for key in keys:
            with suppress(AlreadyResumed):
                won += hub.resume(key, value=True).answer
        return won

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(race, range(8))) == len(keys)


def test_the_context_of_the_caller_reaches_verbs_and_handlers():
    request = contextvars.ContextVar("request", default=None)
    seen = []

    def handle(run):
        seen.append(("handler", request.get()))
        os.kill(os.getpid(), signal.SIGINT)

    with open_hub("memory://", keyring=None, on_event=lambda event: seen.append((event.verb, request.get()))) as hub:
        request.set("r-1")
        new = hub.suspend(1)
        with hub.running(new.id):
            request.set("r-2")
        answered(hub, 2)
        with pytest.raises(KeyboardInterrupt):
            hub.work(handle)
    assert ("suspend", "r-1") in seen
    assert ("suspend", "r-2") in seen
    assert ("handler", "r-2") in seen
    assert ("complete", "r-1") in seen


# -------------------------------------------------------------------------------------------------- ends and refusals


class Gate(MemoryBackend):
    """A store whose puts wait, where that is asked for."""

    def __init__(self):
        super().__init__()
        self.shut = False
        self.waiting = threading.Event()
        self.ended = []

    async def put(self, *args, **options):
        if self.shut:
            self.waiting.set()
            try:
                await asyncio.Event().wait()
            finally:
                self.ended.append("cancelled")
        return await super().put(*args, **options)

    async def close(self):
        self.ended.append("closed")
        await super().close()


def when_it_waits(gate, act):
    """Act in another thread as soon as a verb waits."""

    def watch():
        gate.waiting.wait(10)
        act()

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


def test_an_interrupted_verb_is_cancelled_before_the_interrupt_goes_on():
    gate = Gate()
    with open_hub(gate, keyring=None) as hub:
        gate.shut = True
        sender = when_it_waits(gate, lambda: os.kill(os.getpid(), signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            hub.suspend("s")
        assert gate.ended == ["cancelled"]
        sender.join()
        gate.shut = False
        assert hub.suspend("s").status is Status.WAITING
    assert gate.ended == ["cancelled", "closed"]


def test_what_a_signal_handler_raises_interrupts_too():
    class SoftTimeLimit(Exception):
        pass

    def limit(*_):
        raise SoftTimeLimit

    gate = Gate()
    before = signal.signal(signal.SIGUSR1, limit)
    try:
        with open_hub(gate, keyring=None) as hub:
            new = hub.suspend("s")
            gate.shut = True
            when_it_waits(gate, lambda: os.kill(os.getpid(), signal.SIGUSR1))
            with pytest.raises(SoftTimeLimit), hub.running(new.id):
                pytest.fail("the block ran")
            gate.shut = False
            assert hub.claim(new.id).attempt == 1
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_closing_ends_the_verbs_of_other_threads():
    gate = Gate()
    hub = open_hub(gate, keyring=None)
    gate.shut = True
    closer = when_it_waits(gate, hub.close)
    with pytest.raises(RuntimeError, match="closed before the verb ended"):
        hub.suspend("s")
    closer.join()
    assert gate.ended == ["cancelled", "closed"]
    hub.close()
    with pytest.raises(RuntimeError, match="the hub is closed"):
        hub.suspend("s")


def test_closing_ends_workers_in_peace():
    hub = open_hub("memory://", keyring=None)
    name = answered(hub, 1)
    begun, go = threading.Event(), threading.Event()

    def handle(run):
        begun.set()
        go.wait(10)
        return run.state

    runs = [
        lambda: hub.work(handle),
        Maintenance(hub).run_forever,
        FlowRunner(hub).work,
    ]
    with ThreadPoolExecutor(3) as pool:
        working = [pool.submit(run) for run in runs]
        begun.wait(10)
        # One that begins later is refused, since the hub is closed.
        while len(hub._portal._calls) < len(runs):
            time.sleep(0.001)
        hub._portal._on_loop(lambda: hub._portal._loop.call_later(0.05, go.set))
        assert hub.inspect(name).status is Status.RUNNING
        hub.close()
        assert [one.result(10) for one in working] == [None] * 3


def test_a_handler_may_close_the_hub():
    hub = open_hub("memory://", keyring=None)
    answered(hub, 1)
    told = []

    def handle(run):
        hub.close()
        with pytest.raises(RuntimeError, match="closed"):
            hub.query()
        told.append(run.state)

    hub.work(handle)
    hub.close()
    assert told == [1]
    assert not hub._portal._thread.is_alive()


def test_an_interrupt_right_after_a_block_was_entered_leaves_it(hub, monkeypatch):
    new = hub.suspend("s")
    call = hub._portal.call

    def interrupted(function, context=None):
        result = call(function, context)
        monkeypatch.undo()
        raise KeyboardInterrupt(result)

    monkeypatch.setattr(hub._portal, "call", interrupted)
    with pytest.raises(KeyboardInterrupt), hub.running(new.id):
        pytest.fail("the block ran")
    assert hub.inspect(new.id).status is Status.ANSWERED


def test_closing_in_a_block_releases_its_run():
    told = []
    with open_hub("memory://", keyring=None, on_event=lambda event: told.append(event.verb)) as hub:
        new = hub.suspend("s")
        with pytest.raises(RuntimeError, match="closed"), hub.running(new.id):
            hub.close()
    assert told == ["suspend", "claim", "release"]


def test_an_unclosed_hub_warns_and_ends():
    hub = open_hub("memory://", keyring=None)
    thread = hub._portal._thread
    left = [hub]
    del hub
    with pytest.warns(ResourceWarning, match="was not closed"):
        left.clear()
    thread.join(10)
    assert not thread.is_alive()


async def test_a_running_event_loop_is_refused(hub):
    before = threading.active_count()
    for call in (hub.query, lambda: open_hub("memory://"), lambda: next(hub.iterate()), hub.close):
        with pytest.raises(RuntimeError, match="running event loop"):
            call()
    assert threading.active_count() == before
    assert (await asyncio.to_thread(hub.query)).items == ()


def test_callbacks_on_the_loop_can_not_wait_for_it(caplog):
    refused = []

    def on_event(event):
        try:
            hub.query()
        except RuntimeError as error:
            refused.append(str(error))

    with open_hub("memory://", keyring=None, on_event=on_event) as hub:
        hub.suspend(1)
    assert ["running event loop" in one for one in refused] == [True]


def test_the_end_of_the_loop_by_a_callback_leaves_nobody_waiting():
    def exits(*_):
        raise SystemExit(3)

    hub = open_hub("memory://", keyring=None, authorizer=exits)
    with pytest.raises((RuntimeError, SystemExit)):
        hub.suspend(1)
    with pytest.raises(RuntimeError, match="closed"):
        hub.suspend(1)
    with suppress(SystemExit):
        hub.close()


def test_no_frame_of_ours_holds_the_state(hub):
    canary = "canary-of-the-state"
    new = hub.suspend(canary, awaiting=CONFIRM)
    calls = [
        lambda: hub.answer(new.key, canary),
        lambda: hub.suspend_next("no run", canary),
        lambda: hub.running(new.key, canary).__enter__(),
        lambda: FlowRunner(hub).start({"name": "f", "flow": canary}),
    ]
    for call in calls:
        with pytest.raises(Exception) as raised:
            call()
        frames = [frame.f_locals for frame, _ in traceback.walk_tb(raised.value.__traceback__) if is_ours(frame)]
        assert frames
        assert canary not in repr(frames)


def is_ours(frame):
    return frame.f_globals.get("__name__", "").startswith("flowpersist")


async def test_a_threaded_function_ends_before_its_cancellation_goes_on():
    begun, go, ended = threading.Event(), threading.Event(), []

    @threaded
    def slow(name: str) -> str:
        """Wait."""
        begun.set()
        go.wait(10)
        ended.append(name)
        return name

    assert (slow.__name__, slow.__doc__) == ("slow", "Wait.")
    task = asyncio.create_task(slow("x"))
    await asyncio.to_thread(begun.wait, 10)
    task.cancel()
    await asyncio.sleep(0)
    assert not task.done()
    go.set()
    await asyncio.wait({task})
    assert task.cancelled()
    assert ended == ["x"]


def test_a_call_that_is_interrupted_before_the_loop_knows_of_it_ends(monkeypatch):
    """A signal handler, or another thread's exception, may come between any two lines."""

    @asynccontextmanager
    async def nothing():
        yield

    portal = Portal(nothing)
    loop = portal._loop
    hand_over = loop.call_soon_threadsafe

    def interrupted(*_):
        monkeypatch.setattr(loop, "call_soon_threadsafe", hand_over)
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "call_soon_threadsafe", interrupted)
    with pytest.raises(KeyboardInterrupt):
        portal.call(lambda: asyncio.sleep(0))
    assert portal.call(lambda: asyncio.sleep(0, "done")) == "done"
    portal.close()


def test_observations_features_and_artifacts_of_a_project(hub):
    project = Stores(hub).project("p")
    project.observations.keeping(days=1).add("a", 1)
    project.observations.add("a", 2)
    assert [one.content for one in project.observations.recent("a")] == [2, 1]
    project.features.save([1], clear=True)
    assert (project.features.load(), project.features.history()[0].revision) == ([1], 1)
    assert project.features.namespace.endswith(".features")
    project.artifacts.write("log", b"x" * 2_000_000)
    assert [len(piece) for piece in project.artifacts.open("log")] == [2**20, 2_000_000 - 2**20]
    assert [one.size for one in project.artifacts.list()] == [2_000_000]
    assert Stores(hub).artifacts.list() == ()
    assert set(project.cleanup().values()) == {0}
    assert Stores(hub).delete_project("p") == 6


def test_a_lock_is_held_and_a_signal_waited_for(hub):
    stores_ = Stores(hub)
    with stores_.locks.held("a", "ann") as lease:
        assert stores_.locks.holders("a") == (lease,)
    assert stores_.locks.holders("a") == ()
    assert stores_.signals.wait_for("DONE", timeout=timedelta(0)) is None
    set_ = stores_.signals.set("DONE", 1)
    assert stores_.signals.wait_for("DONE", timeout=timedelta(seconds=5)) == set_
    with closing(stores_.signals.watch()) as states:
        assert next(states) == {"DONE": set_}
