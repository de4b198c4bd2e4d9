"""A store is moved to another one while both are in use: no answer is lost, nobody wins twice, and whoever comes for
what was moved is told where it went.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from datetime import timedelta
from uuid import uuid4

import pytest
from returns.result import Failure, Success

from filling import CONFIRM, TEXT, answered, filled
from flowpersist import KeyRing, Maintenance, RaisingHub, Status, or_raise
from flowpersist.backends.base import RecordChange, RecordRef, Where
from flowpersist.backends.kit import DelegatingBackend
from flowpersist.backends.memory import MemoryBackend
from flowpersist.errors import BackendUnavailable, PersistenceError, RecordMoved, SuspensionNotFound
from flowpersist.stores import Stores
from flowpersist.testing.hubs import open_test_hub, travel
from forked import forked_async
from machine import WITH_MEMORY

RING = KeyRing.generate("ring")
LOGIC = pytest.mark.parametrize("backend", ["memory"])


@pytest.fixture(params=WITH_MEMORY)
def backend(request):
    """The name of each backend, memory too."""
    return request.param


@pytest.fixture
def store(backend, request):
    """The URL of the store."""
    return f"memory://{uuid4().hex}" if backend == "memory" else request.getfixturevalue("url")


@pytest.fixture
async def hub(store):
    async with open_test_hub(store, keyring=RING) as opened:
        yield opened


@pytest.fixture
def other(tmp_path):
    """The URL of the other store."""
    return f"sqlite:///{tmp_path}/other.db"


async def copied(hub, to, **options):
    return or_raise(await Maintenance(hub).copy(to, **options))


@pytest.mark.parametrize("backend", sorted({*WITH_MEMORY} - {"neo4j"}))
async def test_everything_goes_from_each_backend_to_sqlite(hub, other):
    new = await filled(hub)
    waiting = or_raise(await hub.suspend({"n": 1}, awaiting=CONFIRM))
    before = [one.id for one in or_raise(await hub.query()).items]
    done = await copied(hub, other, name="the new one")
    assert (done.complete, done.moved > 4, done.copied > 0) == (True, True, True)
    # Here each verb says where it went; lists, claims and scrubs are empty.
    for outcome in (
        await hub.inspect(waiting.key),
        await hub.answer(waiting.key, True),
        await hub.claim(new.key),
        await hub.cancel(new.id),
    ):
        assert (type(outcome.failure()), outcome.failure().to) == (RecordMoved, "the new one")
    with pytest.raises(RecordMoved):
        await Stores(hub).values("small").load("a")
    assert or_raise(await hub.query()).items == or_raise(await hub.claim_due()) == ()
    assert or_raise(await Maintenance(hub).verify()).findings == ()
    assert or_raise(await Maintenance(hub).health()).sealed == {}
    again = await copied(hub, other)
    assert (again.moved, again.complete) == (0, True)
    async with open_test_hub(other, keyring=RING) as there:
        assert [one.id for one in or_raise(await there.query()).items] == before
        assert or_raise(await Maintenance(there).verify()).findings == ()
        assert or_raise(await there.history(new.id))
        assert (await Stores(there, tenant="t").values("large").load("b")).value == "x" * 50_000
        assert or_raise(await there.resume(waiting.key, True)).state == {"n": 1}
        run = or_raise(await there.claim(new.key))
        assert (run.state, len(run.answer)) == ({"pause": 8}, 18_000)
        or_raise(await there.release(run))


async def test_a_small_store_goes_to_each_backend_and_on_from_there(store):
    async with open_test_hub(keyring=RING) as source:
        new = await answered(source)
        await Stores(source).signals.set("READY", True)
        assert (await copied(source, store)).complete
    last = MemoryBackend()
    async with open_test_hub(store, keyring=RING) as there:
        assert (await copied(there, last)).complete
        assert isinstance((await there.resume(new.key)).failure(), RecordMoved)
    async with open_test_hub(last, keyring=RING) as there:
        assert or_raise(await there.resume(new.key)).state == {"pause": 1}
        assert (await Stores(there).signals.get("READY")).value is True


@LOGIC
async def test_a_run_that_is_held_is_moved_once_it_pauses(hub, other):
    new = or_raise(await hub.suspend({"n": 1}, awaiting=TEXT))
    run = or_raise(await hub.claim(new.key, "go"))
    assert ((await copied(hub, other)).busy, or_raise(await hub.inspect(new.id)).status) == (1, Status.RUNNING)
    paused = or_raise(await hub.suspend_next(run, {"n": 2}, awaiting=TEXT))
    done = await copied(hub, other)
    assert (done.moved, done.busy) == (1, 0)
    assert isinstance((await hub.answer(paused.key, "x")).failure(), RecordMoved)
    # One whose lease has ended is held by nobody.
    lapsed = or_raise(await hub.suspend({"n": 3}))
    held = or_raise(await hub.claim(lapsed.key))
    travel(hub, timedelta(hours=1))
    assert (await copied(hub, other)).moved == 1
    assert isinstance((await hub.complete(held)).failure(), RecordMoved)


class Cut(DelegatingBackend):
    """Is gone from its put of that number on."""

    def __init__(self, inner, after):
        super().__init__(inner)
        self.left = after

    async def put(self, ref, change, *, if_revision=None, not_after=None):
        self.left -= 1
        if self.left < 0:
            raise BackendUnavailable("gone", self.name, False)
        return await self.inner.put(ref, change, if_revision=if_revision, not_after=not_after)


@LOGIC
@pytest.mark.parametrize("cut", ["old", "new"])
async def test_a_copy_that_was_cut_at_any_put_is_finished_by_the_next_one(cut, backend):
    for after in range(40):
        old, new = MemoryBackend(), MemoryBackend()
        async with open_test_hub(old, keyring=RING) as hub:
            one = await answered(hub, pauses=2)
            await Stores(hub).signals.set("READY", True)
        source = Cut(old, after) if cut == "old" else old
        async with open_test_hub(source, keyring=RING) as hub:
            failed = await Maintenance(hub).copy(Cut(new, after) if cut == "new" else new)
        places = []
        for store in (old, new):
            async with open_test_hub(store, keyring=RING) as hub:
                looked = await hub.inspect(one.id)
                places.append(isinstance(looked, Success))
                assert places[-1] or isinstance(looked.failure(), RecordMoved | SuspensionNotFound)
        # In one store, or in none until the copy is repeated: never in both.
        assert sum(places) <= 1
        async with open_test_hub(old, keyring=RING) as hub:
            assert (await copied(hub, new)).complete
        async with open_test_hub(new, keyring=RING) as hub:
            assert or_raise(await hub.claim(one.key)).state == {"pause": 2}
            assert or_raise(await Maintenance(hub).verify()).findings == ()
        if isinstance(failed, Success):
            return
    raise AssertionError("a copy takes fewer puts")


@LOGIC
async def test_what_is_used_there_before_a_cut_copy_is_repeated_is_no_conflict(backend):
    used = 0
    for after in range(40):
        old, new = MemoryBackend(), MemoryBackend()
        async with open_test_hub(old, keyring=RING) as hub:
            one = await answered(hub, pauses=2)
        async with open_test_hub(Cut(old, after), keyring=RING) as hub:
            failed = await Maintenance(hub).copy(new)
        async with open_test_hub(new, keyring=RING) as hub:
            claimed = await hub.claim(one.key)
        used += isinstance(failed, Failure) and isinstance(claimed, Success)
        async with open_test_hub(old, keyring=RING) as hub:
            done = await copied(hub, new)
            assert (done.complete, done.conflicts) == (True, 0)
            assert (await copied(hub, new)).moved == 0
        async with open_test_hub(new, keyring=RING) as hub:
            run = or_raise(claimed) if isinstance(claimed, Success) else or_raise(await hub.claim(one.key))
            or_raise(await hub.complete(run))
        if isinstance(failed, Success):
            assert used
            return
    raise AssertionError("a copy takes fewer puts")


@LOGIC
async def test_another_suspension_of_the_same_id_there_is_a_conflict(backend):
    old, new = MemoryBackend(), MemoryBackend()
    async with open_test_hub(old, keyring=RING) as hub:
        or_raise(await hub.suspend(1, awaiting=TEXT, idempotency_key="order-1"))
    source = Cut(old, 1)
    async with open_test_hub(source, keyring=RING) as hub:
        failed = await Maintenance(hub).copy(Cut(new, 0))
        assert isinstance(failed.failure(), PersistenceError)
    async with open_test_hub(new, keyring=RING) as hub:
        other = or_raise(await hub.suspend(1, awaiting=TEXT, idempotency_key="order-1"))
        or_raise(await hub.answer(other.key, "there"))
    async with open_test_hub(old, keyring=RING) as hub:
        assert (await copied(hub, new)).conflicts == 1


@LOGIC
async def test_what_is_written_in_both_stores_afterwards_is_a_conflict_and_stays_in_both(hub, other):
    values = Stores(hub).values("small")
    await values.save("a", 1)
    await copied(hub, other)
    # A put without a revision does not read, so it writes over the mark; the next pass takes it along.
    await values.save("a", 2)
    assert (await copied(hub, other)).moved == 1
    async with open_test_hub(other, keyring=RING) as there:
        assert (await Stores(there).values("small").load("a")).value == 2
        await Stores(there).values("small").save("a", 3)
        await values.save("a", 4)
        done = await copied(hub, other)
        assert (done.conflicts, done.complete) == (1, False)
        assert (await Stores(there).values("small").load("a")).value == 3
    assert (await values.load("a")).value == 4


@LOGIC
async def test_a_mark_that_somebody_has_spoiled_is_told_and_changes_nothing(hub, other):
    new = await answered(hub)
    await copied(hub, other)
    ref = RecordRef("default", str(new.id))
    record = (await hub.backend.get(ref)).record
    await hub.backend.put(ref, RecordChange("w", head=b"FPM1\0\0\0\xffno"), if_revision=record.revision)
    assert isinstance((await hub.inspect(new.id)).failure(), RecordMoved)
    assert "can't be read" in str((await Maintenance(hub).copy(other)).failure())


COPY = """
import asyncio, sys
from flowpersist import Maintenance, open_hub, or_raise

async def main(old, new):
    async with open_hub(old) as hub:
        print("ready", flush=True)
        done = or_raise(await Maintenance(hub).copy(new))
        print("complete" if done.complete else done, flush=True)

asyncio.run(main(*sys.argv[1:]))
"""
#: Seconds after which a copy is killed.
DELAYS = (0.03, 0.06, 0.1, 0.15) * (10 if os.environ.get("FLOWPERSIST_LONG") else 1)


@pytest.mark.parametrize("pair", [("sqlite", "postgres"), ("redis", "sqlite")], ids="-".join)
async def test_a_copy_that_is_killed_again_and_again_while_answers_arrive_loses_none(pair, server, prefix, tmp_path):
    urls = {
        "sqlite": f"sqlite:///{tmp_path}/flows.db",
        "postgres": lambda: f"{server('postgres')}?prefix={prefix}",
        "redis": lambda: f"{server('redis')}?prefix={prefix}",
    }
    old, new = (one if isinstance(one := urls[name], str) else one() for name in pair)
    environment = {**os.environ, "FLOWPERSIST_KEYS": RING.export()}
    count = 300 if os.environ.get("FLOWPERSIST_LONG") else 40
    async with RaisingHub.open(old, keyring=RING) as here, RaisingHub.open(new, keyring=RING) as there:
        keys = [(await here.suspend({"n": n}, awaiting=TEXT)).key for n in range(count)]
        accepted = {}

        async def answer():
            """Each key once, where it is; a little time between, so that the copy meets answers everywhere."""
            for n, key in enumerate(reversed(keys)):
                while key not in accepted:
                    for hub in (here, there):
                        with contextlib.suppress(RecordMoved, SuspensionNotFound):
                            receipt = await hub.answer(key, f"answer {n}")
                            assert receipt.outcome == "accepted"
                            accepted[key] = f"answer {n}"
                            break
                    await asyncio.sleep(0.02)

        answering = asyncio.create_task(answer())
        killed = 0
        for seconds in (*DELAYS, None, None):
            async with forked_async(COPY, old, new, environment=environment) as process:
                assert await process.stdout.readline() == b"ready\n"
                if seconds is None:
                    # The last one comes after all answers.
                    await answering
                else:
                    await asyncio.sleep(seconds)
                    killed += process.returncode is None
                    process.kill()
                out = await process.communicate()
        assert out == b"complete\n"
        await answering
        assert killed
        won = [run async for run in _claimed(there)]
        assert {run.suspension.id: run.answer for run in won} == {key.id: text for key, text in accepted.items()}
        assert await here.claim_due(limit=10) == ()
        assert (await Maintenance(there.hub).verify()).unwrap().findings == ()
        assert sorted(run.state["n"] for run in won) == list(range(count))


async def _claimed(hub):
    while runs := await hub.claim_due(limit=50):
        for run in runs:
            yield run


@LOGIC
async def test_wrong_arguments_and_a_store_that_is_not_there(hub, tmp_path):
    with pytest.raises(TypeError):
        await Maintenance(hub).copy(7)
    failed = await Maintenance(hub).copy("postgresql://nobody@127.0.0.1:1/none")
    assert isinstance(failed.failure(), PersistenceError)
    assert (await hub.backend.query("default", Where(), limit=1)).items == ()
