"""What the synchronous verbs are inferred as. Read by type checkers, never run."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, assert_type

from attrs import frozen

from flowpersist import AwaitInput, NewSuspension, Page, Receipt, Resumption, Suspension, SuspensionKey, blocking
from flowpersist.dynamicflow import FlowEvent, FlowOutcome, StoredEvent, Tool
from flowpersist.hub import Cleanup, Health, Tick
from flowpersist.lifecycle import Checkpoint
from flowpersist.stores import Change, FeatureVersion, Lease, Loaded, Observation, Saved, Signal, StateInfo

APPROVAL = AwaitInput(id="approval", prompt="Ship it?", schema=bool)


@frozen
class Order:
    """A state of the user's own."""

    article: str


def verbs(key: str) -> None:
    """Values, with the type of the state and of the answer where they are named."""
    with blocking.open_hub("sqlite:///flows.db", types=[Order], retention=timedelta(days=1)) as hub:
        assert_type(hub, blocking.Hub)
        new = hub.suspend(Order("lamp"), awaiting=APPROVAL, timeout=timedelta(days=2))
        assert_type(new, NewSuspension)
        assert_type(hub.reserve(APPROVAL), NewSuspension)
        assert_type(hub.inspect(key), Suspension)
        assert_type(hub.keys(new.id), Mapping[str, SuspensionKey])
        assert_type(hub.answer(key, value=True), Receipt)
        run = hub.resume(key, value=True, expect=Order)
        assert_type(run, Resumption[Order])
        assert_type(run.state.article, str)
        assert_type(hub.resume(key), Resumption[Any])
        assert_type(hub.resume(key, awaiting=APPROVAL).answer, bool)
        claimed = hub.claim(key, lease=timedelta(seconds=5), expect=Order)
        assert_type(claimed, Resumption[Order])
        assert_type(hub.claim_due(limit=5, expect=Order), tuple[Resumption[Order], ...])
        assert_type(hub.renew(claimed), datetime)
        assert_type(hub.complete(claimed), Suspension)
        assert_type(hub.checkpoint(claimed, Order("bulb")), Checkpoint[Order])
        assert_type(hub.suspend_next(claimed, Order("bulb"), awaiting=APPROVAL), NewSuspension)
        assert_type(hub.query(limit=3), Page[Suspension])
        for found in hub.iterate():
            assert_type(found, Suspension)
        assert_type(hub.outcome(key), object)
        with hub.running(key, expect=Order) as held:
            assert_type(held, Resumption[Order])


def handle(run: Resumption[Any, Any]) -> int:
    """A handler, which runs in a thread."""
    return run.attempt


def lapse(run: Resumption[Any]) -> None:
    """A handler of expiries."""


@blocking.tool(id="double")
def double(n: int) -> int:
    """A tool, which runs in a thread."""
    return 2 * n


def runners(hub: blocking.Hub) -> None:
    """What is made of a hub."""
    hub.work(handle, concurrency=2, expired=blocking.threaded(lapse))
    maintenance = blocking.Maintenance(hub)
    assert_type(maintenance.tick(), Tick)
    assert_type(maintenance.cleanup(dry_run=True), Cleanup)
    assert_type(maintenance.health(), Health)
    assert_type(double, Tool)
    runner = blocking.FlowRunner(hub, [double], lease=timedelta(seconds=5))
    assert_type(runner.start({}, input={"n": 1}), FlowOutcome)
    assert_type(runner.resume("key", answer=True), FlowOutcome)
    for event in runner.stream({}):
        assert_type(event, FlowEvent)
    for event in runner.stream_resume("key", answer=True):
        assert_type(event, FlowEvent)
    for stored in runner.events("run", after=3, follow=True):
        assert_type(stored, StoredEvent)


def stores(hub: blocking.Hub) -> None:
    """The class of a collection's values is that of what it gives."""
    with blocking.open_stores("sqlite:///flows.db", types=[Order]) as opened:
        assert_type(opened, blocking.Stores)
    orders = blocking.Stores(hub, tenant="t").values("orders", Order)
    assert_type(orders, blocking.ValueStore[Order])
    assert_type(orders.save("a", Order("lamp"), ttl=timedelta(days=1)), Saved)
    assert_type(orders.load("a"), Loaded[Order] | None)
    assert_type(orders.update("a", lambda order: Order(order.article + "!")).value, Order)
    assert_type(orders.items(limit=3), Page[Loaded[Order]])
    for loaded in orders.iterate():
        assert_type(loaded, Loaded[Order])
    for change in orders.watch():
        assert_type(change, Change[Order])
    project = blocking.Stores(hub).project("shop")
    assert_type(project, blocking.Stores)
    assert_type(project.observations, blocking.Observations)
    assert_type(project.observations.keeping(days=1).add("coder-1", "done"), str)
    assert_type(project.observations.recent("coder-1"), tuple[Observation, ...])
    assert_type(project.artifacts, blocking.Artifacts)
    for piece in project.artifacts.open("report.html"):
        assert_type(piece, bytes)
    assert_type(project.features, blocking.Features)
    assert_type(project.features.history(), tuple[FeatureVersion, ...])
    assert_type(blocking.Stores(hub).delete_project("shop"), int)
    states = blocking.Stores(hub).run_state
    assert_type(states, blocking.RunStates)
    assert_type(states.load_state("s"), str | None)
    assert_type(blocking.ConversationManager(states).turn("s", lambda state: (state or "") + "."), str)


def coordination(hub: blocking.Hub) -> None:
    """Locks and signals."""
    stores = blocking.Stores(hub)
    assert_type(stores.locks, blocking.Locks)
    lease = stores.locks.acquire("src/app.py", "coder", lock_type="shared", wait=timedelta(seconds=1))
    assert_type(lease, Lease)
    assert_type(stores.locks.renew(lease), Lease)
    assert_type(stores.locks.release(lease), bool)
    with stores.locks.held("src/app.py", "coder") as held:
        assert_type(held, Lease)
    assert_type(stores.signals, blocking.Signals)
    assert_type(stores.signals.wait_for("DONE", timeout=timedelta(seconds=1)), Signal | None)
    for state in stores.signals.watch():
        assert_type(state, dict[str, Signal])


def kept(hub: blocking.Hub) -> None:
    """A state, and a function that has one."""
    manager = blocking.Stores(hub).state("k", Order)
    assert_type(manager, blocking.StateManager[Order])
    assert_type(manager.load(), Order | None)
    assert_type(manager.info, StateInfo | None)
    with manager.edit() as order:
        assert_type(order, Order)


@blocking.persistent(key="k", store="sqlite:///flows.db")
def add(order: Order, article: str) -> str:
    """A function whose state is loaded and saved."""
    return order.article + article


assert_type(add("!"), str)
