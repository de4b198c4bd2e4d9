"""``Maintenance.check_upgrade``: what of a store this code could not read or continue, as data."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from uuid import uuid4

import attrs
import pytest
import pytest_asyncio

from flowpersist import AwaitInput, KeyRing, Maintenance, TypeRegistry, or_raise
from flowpersist.backends.base import Where
from flowpersist.backends.memory import MemoryBackend
from flowpersist.dynamicflow import FlowRunner, Migration, compile, tool  # noqa: A004 - the word for it
from flowpersist.errors import BackendUnavailable, ConfigurationError, FlowError, MalformedPayload
from flowpersist.stores import Stores
from flowpersist.testing.hubs import open_test_hub

CONFIRM = AwaitInput(id="confirm", prompt="Ship it?", schema=bool)
RING = KeyRing.generate()


@attrs.define
class Order:
    number: int


@attrs.define
class Parcel:
    weight: int


def first_release():
    types = TypeRegistry()
    types.register(Order, name="Order", version=1)
    types.register(Parcel, name="Parcel")
    return types


def second_release(*, upgrades):
    types = TypeRegistry()
    types.register(Order, name="Order", version=2, upgrades=upgrades)
    types.register(Parcel, name="Parcel")
    return types


async def everything(hub):
    """Two states and an outcome of an Order, a value of one, and a state of a Parcel."""
    for state in (Order(1), [Order(2)], Parcel(3)):
        or_raise(await hub.suspend(state, awaiting=CONFIRM))
    done = or_raise(await hub.suspend("begun"))
    run = or_raise(await hub.claim(done.key))
    or_raise(await hub.complete(run, Order(4)))
    await Stores(hub).values("orders", Order).save("a", Order(5))
    await Stores(hub).values("large").save("b", "x" * 20_000)


async def stored_in(backend):
    page = await backend.query("default", Where(), limit=100, bodies=True)
    return page.items


@pytest_asyncio.fixture(loop_scope="module")
async def backend():
    """A store in which an earlier release has kept something of each kind."""
    kept = MemoryBackend()
    async with open_test_hub(kept, keyring=RING, types=first_release()) as hub:
        await everything(hub)
    return kept


async def test_the_same_code_reads_everything(backend):
    async with open_test_hub(backend, keyring=RING, types=first_release()) as hub:
        before = await stored_in(hub.backend)
        made = or_raise(await Maintenance(hub).check_upgrade())
        assert made.passes
        assert made.records["suspension"] == 4
        assert made.records["value"] == 2
        assert made.records["collection"] == 2
        assert await stored_in(hub.backend) == before


async def test_a_class_that_is_gone_is_named_with_how_many_need_it(backend):
    types = TypeRegistry()
    types.register(Parcel, name="Parcel")
    async with open_test_hub(backend, keyring=RING, types=types) as hub:
        made = or_raise(await Maintenance(hub).check_upgrade())
    assert not made.passes
    found = {(one.kind, one.code, one.subject, one.flow): one.count for one in made.breaks}
    assert found == {
        ("suspension", "unknown-type", "Order", None): 3,
        ("value", "unknown-type", "Order", None): 1,
    }
    assert all("register" in one.message for one in made.breaks)
    assert {one.first.namespace for one in made.breaks} == {"default", "default.values.orders"}


async def test_a_version_without_an_upgrade_breaks_and_with_one_it_does_not(backend):
    async with open_test_hub(backend, keyring=RING, types=second_release(upgrades={})) as hub:
        made = or_raise(await Maintenance(hub).check_upgrade())
    assert {one.subject for one in made.breaks} == {"Order"}
    whole = second_release(upgrades={1: lambda fields: fields})
    async with open_test_hub(backend, keyring=RING, types=whole) as hub:
        assert or_raise(await Maintenance(hub).check_upgrade()).passes


async def test_an_upgrade_that_raises_is_its_own_break(backend):
    def raising(fields):
        raise KeyError(fields)

    async with open_test_hub(backend, keyring=RING, types=second_release(upgrades={1: raising})) as hub:
        made = or_raise(await Maintenance(hub).check_upgrade())
    assert {(one.code, one.subject) for one in made.breaks} == {("serialization", "Order")}
    assert sum(one.count for one in made.breaks) == 4


async def test_a_key_that_is_gone_breaks_what_it_sealed(backend):
    async with open_test_hub(backend, types=first_release()) as hub:
        made = or_raise(await Maintenance(hub).check_upgrade())
    assert {one.code for one in made.breaks} == {"unknown-key"}
    assert sum(one.count for one in made.breaks) == sum(made.records.values())


async def test_of_many_kinds_of_breaks_some_are_listed_and_that_is_said(backend):
    async with open_test_hub(backend, keyring=RING) as hub:
        made = or_raise(await Maintenance(hub).check_upgrade(most=1))
    assert len(made.breaks) == 1
    assert not made.complete


async def test_a_store_that_fails_is_a_failure(backend):
    async with open_test_hub(backend, keyring=RING) as hub:
        await hub.backend.close()
        assert isinstance((await Maintenance(hub).check_upgrade()).failure(), BackendUnavailable)


def document(*tools, name="shipping"):
    steps = [{"id": f"call{n}", "tool": one, "args": {}} for n, one in enumerate(tools)]
    asks = {"id": "asks", "tool": "await_input", "args": {"id": "ok", "prompt": "Ship?", "schema": {"type": "boolean"}}}
    return {"version": "1.0", "metadata": {"name": name}, "flow": [asks, *steps]}


@tool(id="pack")
async def pack() -> str:
    return "packed"


@tool(id="send")
async def send() -> str:
    return "sent"


@pytest_asyncio.fixture(loop_scope="module")
async def hub():
    """A hub with a paused run that will call pack."""
    async with open_test_hub() as opened:
        or_raise(await FlowRunner(opened, [pack]).start(document("pack")))
        yield opened


async def test_a_run_that_lacks_a_tool_is_named_with_the_flow_and_the_tool(hub):
    assert or_raise(await Maintenance(hub).check_upgrade()).passes
    assert or_raise(await Maintenance(hub).check_upgrade(FlowRunner(hub, [pack]))).passes
    made = or_raise(await Maintenance(hub).check_upgrade(FlowRunner(hub)))
    assert [(one.code, one.subject, one.flow, one.count) for one in made.breaks] == [("flow", "pack", "shipping", 1)]


async def test_a_new_document_needs_a_migration_that_works(hub):
    new = document("pack", "send")
    old_hash, new_hash = (or_raise(compile(one)).hash for one in (document("pack"), new))
    tools = [pack, send]
    without = or_raise(await Maintenance(hub).check_upgrade(FlowRunner(hub, tools), [new]))
    assert ["migration" in one.message for one in without.breaks] == [True]

    def damaging(state):
        return {**state, "frame": None}

    for transform, passes in ((lambda state: state, True), (damaging, False)):
        runner = FlowRunner(hub, tools, migrations=[Migration(old_hash, new_hash, transform)])
        assert or_raise(await Maintenance(hub).check_upgrade(runner, [new])).passes is passes
    # A document of another flow is none of this run's business.
    other = document("send", name="billing")
    assert or_raise(await Maintenance(hub).check_upgrade(FlowRunner(hub, tools), [other])).passes


async def test_a_document_that_can_not_run_is_refused_and_two_of_one_flow_are_a_mistake(hub):
    runner = FlowRunner(hub, [pack])
    refused = await Maintenance(hub).check_upgrade(runner, [document("send")])
    assert isinstance(refused.failure(), FlowError)
    with pytest.raises(ConfigurationError, match="two documents"):
        await Maintenance(hub).check_upgrade(runner, [document("pack"), document("pack")])
    with pytest.raises(ConfigurationError, match="runner"):
        await Maintenance(hub).check_upgrade(documents=[document("pack")])


async def test_a_run_that_has_ended_needs_no_tools(hub):
    waiting = or_raise(await hub.query()).items[0]
    key = or_raise(await hub.keys(waiting.id))["asks"]
    or_raise(await FlowRunner(hub, [pack]).resume(key, answer=True))
    assert or_raise(await Maintenance(hub).check_upgrade(FlowRunner(hub))).passes


def kept_document(*tools):
    steps = [{"id": name, "tool": name, "args": {}} for name in tools]
    return {"version": "1.0", "metadata": {"name": "kept"}, "durability": "step", "flow": steps}


@tool(id="order")
async def order() -> object:
    return Order(1)


@tool(id="stop")
async def stop() -> None:
    await asyncio.Event().wait()


@asynccontextmanager
async def with_a_kept_step(url):
    """A run in its second step. What its first one has given, an Order, stands in a record beside its state alone."""
    async with open_test_hub(url, keyring=RING, types=first_release()) as hub:
        run = asyncio.create_task(FlowRunner(hub, [order, stop]).start(kept_document("order", "stop")))
        async with asyncio.timeout(60):
            while not or_raise(await Maintenance(hub).check_upgrade()).records.get("step"):
                await asyncio.sleep(0)
        yield
        run.cancel()
        await asyncio.wait({run})


async def test_a_step_that_was_kept_is_decoded():
    url = f"memory://{uuid4().hex}"
    async with with_a_kept_step(url):
        async with open_test_hub(url, keyring=RING, types=first_release()) as same:
            assert or_raise(await Maintenance(same).check_upgrade(FlowRunner(same, [order, stop]))).passes
        async with open_test_hub(url, keyring=RING) as lacking:
            made = or_raise(await Maintenance(lacking).check_upgrade(FlowRunner(lacking, [order, stop])))
    found = [(one.kind, one.code, one.subject, one.flow, one.count) for one in made.breaks]
    assert found == [("step", "unknown-type", "Order", "kept", 1)]


async def test_a_migration_is_given_the_steps_that_were_kept():
    url, new = f"memory://{uuid4().hex}", kept_document("order", "stop", "pack")
    old_hash, new_hash = (or_raise(compile(one)).hash for one in (kept_document("order", "stop"), new))
    seen = []

    def strict(state):
        seen.append(repr(state["frame"]))
        raise ValueError("no step may have an output yet")

    async with with_a_kept_step(url), open_test_hub(url, keyring=RING, types=first_release()) as hub:
        runner = FlowRunner(hub, [order, stop, pack], migrations=[Migration(old_hash, new_hash, strict)])
        made = or_raise(await Maintenance(hub).check_upgrade(runner, [new]))
    assert ["Order(number=1)" in frame for frame in seen] == [True]
    assert [(one.kind, one.code, one.flow) for one in made.breaks] == [("suspension", "flow", "kept")]


@pytest.mark.parametrize("kept", [[None], [[("order", None, True)]], [7], [[("order", {})]]])
async def test_steps_that_can_not_be_put_into_the_state_break_the_run(hub, kept):
    waiting = or_raise(await hub.suspend("no state of a run"))
    state = or_raise(
        await hub.peek(or_raise(await FlowRunner(hub, [pack]).start(document("pack"))).suspension_id)
    ).state
    problem = or_raise(await FlowRunner(hub, [pack]).run_check())
    assert await problem(waiting.metadata, state, []) is None
    assert (await problem(waiting.metadata, state, kept)).code == MalformedPayload.code
