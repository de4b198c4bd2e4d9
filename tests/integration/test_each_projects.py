"""Projects share a store and nothing else, and upkeep reaches the stores of every tenant and project."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from datetime import timedelta

import pytest

from canaries import forms
from flowpersist import ConfigurationError, KeyRing, Maintenance, or_raise
from flowpersist.backends.base import Where
from flowpersist.backends.registry import backend_from_url
from flowpersist.sealed.catalogue import beside, collection_key, name_in, project_scope
from flowpersist.stores import Stores
from flowpersist.testing import open_test_hub, travel
from forked import forked
from machine import WITH_MEMORY

RING = KeyRing.generate()
SECOND = timedelta(seconds=1)
HOUR = timedelta(hours=1)
PROJECT = "canary-project-9Gk3Tz7Qw1Lp"


@pytest.fixture(params=WITH_MEMORY)
def backend(request):
    return request.param


@pytest.fixture
async def stores(url):
    async with open_test_hub(url, keyring=RING) as hub:
        yield Stores(hub)


async def test_projects_see_nothing_of_each_other(stores):
    of = {name: stores.project(name) for name in ("a", "b", "\ud800", "a" * 5000)}
    of["no project"] = stores
    of["another tenant"] = Stores(stores.hub, tenant="t").project("a")
    for name, scoped in of.items():
        await scoped.values("v", str).save("k", name)
        await scoped.run_state.save_state("s", name)
    for name, scoped in of.items():
        assert (await scoped.values("v", str).load("k")).value == name
        assert await scoped.run_state.load_state("s") == name
        assert [item.value for item in (await scoped.values("v", str).items(order="created")).items] == [name]
    # Whoever opens it anew finds the same.
    assert (await Stores(stores.hub).project("b").values("v", str).load("k")).value == "b"
    assert (await stores.project("a").project("b").values("v", str).load("k")).value == "b"


async def fill(stores, text):
    """Something in every store."""
    for name in ("v", "w"):
        await stores.values(name, str).save((text, 2), text * 1000)
    await stores.values("listed", str, listed=True).save("k", text)
    await stores.run_state.save_state(text, text)
    await stores.observations.add(text, {"n": text})
    await stores.features.save([text])
    await stores.artifacts.write(text, text.encode(), media_type=text)
    await stores.signals.set(text, text, critical=True)
    await stores.locks.acquire(text, text)


async def found_in(stores, text):
    """What of it is there."""
    return [
        *[(await stores.values(name, str).load((text, 2))).value[: len(text)] for name in ("v", "w")],
        *[item.value for item in (await stores.values("listed", str, listed=True).items("k")).items],
        await stores.run_state.load_state(text),
        *[one.content["n"] for one in await stores.observations.recent()],
        *(await stores.features.load()),
        *[piece.decode() async for piece in stores.artifacts.open(text)],
        *(await stores.signals.all()),
        *[lease.agent_id for lease in await stores.locks.holders(text)],
    ]


async def test_a_deleted_project_leaves_nothing_and_takes_nothing_along(backend, url, stored):
    async with open_test_hub(url, keyring=RING) as hub:
        stores = Stores(hub)
        others = {"other": stores.project("other"), "none": stores, "t": Stores(hub, tenant="t").project(PROJECT)}
        for text, scoped in {PROJECT: stores.project(PROJECT), **others}.items():
            await fill(scoped, text)
            assert await found_in(scoped, text) == [text] * 9
        assert await stores.delete_project(PROJECT) >= 10
        assert await stores.delete_project(PROJECT) == 0
        assert await stores.delete_project("never saved to") == 0
        for text, scoped in others.items():
            assert await found_in(scoped, text) == [text] * 9
        scope = project_scope(None, PROJECT)
        left = (await hub.backend.query("default.collections", Where(), limit=500)).items
        assert [record.ref.key for record in left if scope in record.ref.key] == []
        names = {name_in(record.ref.key) for record in left}
        assert len(names) >= 11
        for name in names:
            namespace = f"default.values.{collection_key(name, None, scope)}"
            assert (await hub.backend.query(namespace, Where(), limit=9)).items == ()
        ours = stores.project(PROJECT)
        assert (await ours.observations.recent(), await ours.features.load(), await ours.artifacts.list()) == (
            (),
            None,
            (),
        )
        if backend != "memory":
            found = await stored()
            assert [name for name, form in forms(PROJECT).items() if form in found] == []


async def test_what_is_saved_after_a_project_was_deleted_is_there_for_all(stores):
    values = stores.project("p").values("v", int)
    await values.save("k", 1)
    await Stores(stores.hub).delete_project("p")
    # It does not know that the project was deleted.
    await values.save("k", 2)
    fresh = Stores(stores.hub).project("p").values("v", int)
    assert (await fresh.load("k")).value == 2
    assert [item.value for item in (await fresh.items()).items] == [2]
    await fresh.save("k2", 3)
    assert await Stores(stores.hub).delete_project("p") == 2


async def test_a_project_outlives_the_key_that_it_was_made_with(stores):
    values = stores.project("p").values("v", int)
    await values.save("a", 1)
    (old,) = RING.kids
    ring = RING.add("k2", b"2" * 32).promote("k2")
    stores.hub.use_keyring(ring)
    await values.update("a", lambda value: value + 1)
    stores.hub.use_keyring(ring.retire(old))
    for again in (values, Stores(stores.hub).project("p").values("v", int)):
        assert (await again.load("a")).value == 2
        await again.save("b", 3)
    assert await Stores(stores.hub).delete_project("p") == 2


async def test_reading_in_a_project_writes_nothing(stores):
    scoped = stores.project("p")
    assert await scoped.values("v", int).load("k") is None
    assert await scoped.values("v", int).delete("k") is False
    assert await scoped.cleanup() == {}
    assert (await stores.hub.backend.query("default.collections", Where(), limit=5)).items == ()


async def test_cleanup_counts_by_store_and_sees_to_its_own_alone(stores):
    scoped = stores.project("p")
    theirs = Stores(stores.hub, tenant="t")
    for of in (stores, scoped, theirs):
        for number in range(3):
            await of.values("v", int).save(("short", number), 1, ttl=SECOND)
        await of.values("w", int).save("short", 1, ttl=SECOND)
        await of.values("w", int).save("long", 1, ttl=HOUR)
    travel(stores.hub, timedelta(minutes=1))
    assert await scoped.cleanup() == {"v": 3, "w": 1}
    assert await scoped.cleanup() == {"v": 0, "w": 0}
    assert or_raise(await Maintenance(stores.hub).cleanup_stores()) == 8
    assert await stores.cleanup() == {"v": 0, "w": 0}
    health = or_raise(await Maintenance(stores.hub).health())
    assert health.stores == {"v": 0, "w": 3}


async def test_health_counts_what_is_there(stores):
    for of in (stores, stores.project("p")):
        await of.values("v", int).save_many({str(number): number for number in range(7)})
        await of.values("w", int).save("short", 1, ttl=SECOND)
    travel(stores.hub, timedelta(minutes=1))
    assert or_raise(await Maintenance(stores.hub).health()).stores == {"v": 14, "w": 0}


PROGRAM = """
import asyncio, sys
from datetime import timedelta
from flowpersist import KeyRing, Maintenance, open_hub

async def main():
    async with open_hub(sys.argv[1], keyring=KeyRing.parse(sys.argv[2]), create=False) as hub:
        print("open", flush=True)
        await Maintenance(hub).run_forever(timedelta(milliseconds=50))

asyncio.run(main())
"""


async def test_maintenance_of_several_processes_removes_what_is_due_and_nothing_else(backend, url, stores):
    if backend == "memory":
        pytest.skip("one process has it")
    # What a writer that was killed hours ago has left.
    async with open_test_hub(backend_from_url(url, clock_offset=-3 * HOUR), keyring=RING) as hub:
        for of in everywhere(hub):
            contents = of.artifacts._contents
            or_raise(await contents._claimed("killed", "of an artifact"))
            or_raise(await contents._pieces.save(("killed", 0), b"piece", None, None, {}))
    every = everywhere(stores.hub)
    for of in every:
        for number in range(20):
            await of.values("v", int).save(("short", number), 1, ttl=timedelta(milliseconds=1))
            await of.observations.keeping(max_entries=7).add("a", number)
        await of.values("v", int).save("long", 1, ttl=HOUR)
        await of.artifacts.write("a", b"content")
    with ExitStack() as stack:
        running = [stack.enter_context(forked(PROGRAM, url, RING.export(), errors=True)) for _ in range(3)]
        assert [await asyncio.to_thread(one.stdout.readline) for one in running] == ["open\n"] * 3
        kept = {"v": 1, "observations": 7, "artifacts": 1, "artifacts.pieces": 1, "artifacts.claims": 0}
        keys = {collection_key(name, *of): count for name, count in kept.items() for of in _scopes()}
        while await stored_now(stores, keys) != keys:
            await asyncio.sleep(0.05)
        for one in running:
            one.kill()
        errors = [(await asyncio.to_thread(one.communicate))[1] for one in running]
    # A busy server may be slow.
    told = [line for text in errors for line in text.splitlines() if not line.startswith("slow ")]
    assert told == []
    for of in every:
        assert (await of.values("v", int).load("long")).value == 1
        assert [one.content for one in await of.observations.recent()] == [*range(13, 20)][::-1]
        assert [piece async for piece in of.artifacts.open("a")] == [b"content"]


def everywhere(hub):
    return Stores(hub), Stores(hub).project("p"), Stores(hub, tenant="t").project("q")


async def stored_now(stores, keys):
    pages = {key: await stores.hub.backend.query(f"default.values.{key}", Where(), limit=99) for key in keys}
    return {key: len(page.items) for key, page in pages.items()}


def _scopes():
    return [(None, None), (None, project_scope(None, "p")), ("t", project_scope("t", "q"))]


@pytest.mark.parametrize("name", ["v", "a", "a.b", "x-1_2.3"])
@pytest.mark.parametrize("tenant", [None, "t"])
@pytest.mark.parametrize("project", [None, "p"])
def test_the_keys_of_the_catalogue_tell_the_name_and_the_neighbours(name, tenant, project):
    scope = None if project is None else project_scope(tenant, project)
    key = collection_key(name, tenant, scope)
    assert name_in(key) == name
    assert beside(key, "other.one") == collection_key("other.one", tenant, scope)


@pytest.mark.parametrize(("name", "error"), [("", ConfigurationError), (5, TypeError)], ids=["empty", "no text"])
async def test_a_project_without_a_name_is_refused(name, error):
    async with open_test_hub() as hub:
        with pytest.raises(error):
            Stores(hub).project(name)
        with pytest.raises(error):
            await Stores(hub).delete_project(name)
