"""What the verbs of stores are inferred as. Read by type checkers, never run."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, assert_never, assert_type

from attrs import evolve, frozen
from returns.result import Failure, Success

from flowpersist import Outcome, PersistenceError, RaisingHub, Suspension
from flowpersist.backends.base import Page
from flowpersist.hub import attempt
from flowpersist.stores import (
    Artifact,
    Artifacts,
    Change,
    ContextRecord,
    ConversationManager,
    DatabaseType,
    Features,
    FeatureVersion,
    Key,
    Lease,
    Loaded,
    Locks,
    Observation,
    Observations,
    RunStateStore,
    Saved,
    Session,
    SessionDatabase,
    Sessions,
    Signal,
    Signals,
    StateInfo,
    StateManager,
    StateRecord,
    Stores,
    UserRecord,
    ValueStore,
    VersionedRunStateStore,
    create_database,
    open_stores,
    persistent,
    run_state_store,
)


@frozen
class Order:
    """A value."""

    euros: int


async def values() -> None:
    """A store gives its own class; without one, Any."""
    async with open_stores("sqlite:///agents.db", types=[Order]) as stores:
        assert_type(stores, Stores)
        orders = stores.values("orders", Order)
        assert_type(orders, ValueStore[Order])
        assert_type(stores.values("anything"), ValueStore[Any])
        assert_type(await orders.save("A-7", Order(40)), Saved)
        assert_type(await orders.load(("A", 7)), Loaded[Order] | None)
        assert_type(await orders.update("A-7", lambda order: evolve(order, euros=1), default=Order(0)), Loaded[Order])
        assert_type(await orders.delete("A-7"), bool)
        assert_type(await orders.load_many(["A-7"]), dict[Key, Loaded[Order] | None])
        assert_type(await orders.keys(), Page[Key])
        assert_type(await orders.items(("A",), order="updated", unreadable="skip"), Page[Loaded[Order]])
        async for change in orders.watch():
            assert_type(change, Change[Order])


async def attempts(hub: RaisingHub, orders: ValueStore[Order]) -> str:
    """A call that raises as an outcome, whose cases are exhaustive."""
    assert_type(await attempt(hub.cancel("key")), Outcome[Suspension])
    outcome = await attempt(orders.load("A-7"))
    match outcome:
        case Success(loaded):
            assert_type(loaded, Loaded[Order] | None)
            return ""
        case Failure(error):
            assert_type(error, PersistenceError)
            return error.code
        case _:
            assert_never(outcome)


async def run_states() -> str:
    """Our stores are of both protocols, and a handler may be plain or async."""
    store: RunStateStore = run_state_store("sqlite:///agents.db")
    versioned: VersionedRunStateStore = run_state_store("sqlite:///agents.db")

    async def handler(state: str | None) -> str:
        return state or ""

    await ConversationManager(store).turn("ana", handler)
    return await ConversationManager(versioned).turn("ana", lambda state: state or "")


async def coordination(stores: Stores) -> None:
    """Locks give leases, signals themselves."""
    assert_type(stores.locks, Locks)
    lease = await stores.locks.acquire("src/app.py", "coder", lock_type="shared")
    assert_type(lease, Lease)
    assert_type(await attempt(stores.locks.renew(lease)), Outcome[Lease])
    assert_type(await stores.locks.release(lease), bool)
    assert_type(await stores.locks.holders("src/app.py"), tuple[Lease, ...])
    async with stores.locks.held("src/app.py", "coder") as held:
        assert_type(held, Lease)
    assert_type(stores.signals, Signals)
    assert_type(await stores.signals.set("DONE", 1, critical=True), Signal)
    assert_type(await stores.signals.get("DONE"), Signal | None)
    assert_type(await stores.signals.apply({"REJECTED": 1}, clear=("DONE",)), dict[str, Signal])
    assert_type(await stores.signals.clear("DONE"), bool)
    async for state in stores.signals.watch():
        assert_type(state, dict[str, Signal])


async def projects(stores: Stores) -> None:
    """What agents share, and the stores of one project."""
    project = stores.project("shop")
    assert_type(project, Stores)
    assert_type(await stores.delete_project("shop"), int)
    assert_type(await project.cleanup(), dict[str, int])
    assert_type(project.observations, Observations)
    assert_type(await project.observations.add("coder-1", {"tests": 12}), str)
    assert_type(await project.observations.keeping(days=30).recent("coder-1", 5), tuple[Observation, ...])
    assert_type(await project.observations.count(), int)
    assert_type(project.features, Features)
    assert_type(await project.features.save([{"name": "login"}], clear=True), Saved)
    assert_type(await project.features.history(3), tuple[FeatureVersion, ...])
    assert_type(project.artifacts, Artifacts)
    assert_type(await project.artifacts.write("report.html", b"<p>", media_type="text/html"), Artifact)
    async for piece in project.artifacts.open("report.html"):
        assert_type(piece, bytes)
    assert_type(await project.artifacts.list(), tuple[Artifact, ...])
    assert_type(await project.artifacts.delete("report.html"), bool)


async def states(stores: Stores) -> None:
    """A manager gives the class of its state, and a decorated function lacks its state."""
    manager = StateManager("sqlite:///agents.db", "k", cls=Order, merge=lambda base, ours, theirs: base or theirs)
    assert_type(manager, StateManager[Order])
    assert_type(await manager.load(), Order | None)
    assert_type(manager.info, StateInfo | None)
    async with manager.edit(save_on_error=True) as order:
        assert_type(order, Order)
    assert_type(stores.state("k", Order, strict=True), StateManager[Order])
    assert_type(stores.state("k"), StateManager[Any])

    @persistent(key="k", store=stores, cls=Order)
    async def add(order: Order, euros: int) -> str:
        return str(order.euros + euros)

    assert_type(await add(5), str)

    @persistent(key="k", store="sqlite:///agents.db", checkpoint_every=5, retry=OSError, by="ana")
    async def count(seen: list[int], most: int) -> AsyncIterator[int]:
        for number in range(most):
            seen.append(number)
            yield number

    async for one in count(5):
        assert_type(one, int)


class Till:
    """Whose attribute is the state."""

    order: Order

    @persistent(key=lambda self: "k", store="sqlite:///agents.db", attribute="order")
    async def pay(self, euros: int) -> int:
        """A method."""
        return self.order.euros - euros


async def methods(till: Till) -> None:
    """A method of an attribute's state stays as it is."""
    assert_type(await till.pay(5), int)


async def sessions(stores: Stores) -> None:
    """Each kind has its class, and a database is opened by both keywords."""
    assert_type(stores.sessions, Sessions)
    db = await create_database(DatabaseType.SQLITE, connection_string="sessions.db")
    _ = assert_type(db, SessionDatabase)
    async with create_database("memory") as other:
        _ = assert_type(other, SessionDatabase)
    state = await db.save_state(StateRecord("ana", "s", "asked"))
    assert_type(state, StateRecord)
    assert_type(await db.get_state("ana", "s"), StateRecord | None)
    assert_type(await db.list_users(limit=5), Page[UserRecord])
    session = await db.resume_session("ana")
    assert_type(session, Session)
    assert_type(session.context, ContextRecord | None)
    assert_type(await db.get_session(user_id="ana", session_id="s"), Session | None)
    async for line in db.export("ana"):
        assert_type(line, str)
    assert_type(await db.import_(db.export("ana")), int)
    assert_type(await db.forget("ana"), bool)
