"""One row that a backend can't parse, among ten: by its key it is an IntegrityError, and the nine others go on."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta

import neo4j
import pytest
from returns.result import Failure

from damages_local import filesystem_damages, memory_damages, sqlite_damages
from damages_servers import mongodb_damages, neo4j_damages, postgres_damages, redis_damages
from flowpersist import AwaitInput, KeyRing, Maintenance, RaisingHub, Status, or_raise
from flowpersist.backends.base import RecordRef
from flowpersist.errors import IntegrityError
from flowpersist.lifecycle.criteria import Criteria
from flowpersist.testing.hubs import open_test_hub, travel

CONFIRM = AwaitInput(id="confirm", prompt="Ship it?", schema=bool)
SECOND = timedelta(seconds=1)
#: What befalls the row, by the beginning of the damage's name: what issue 10 found on each.
CHOSEN = {
    "memory": "write_id 7",
    "filesystem": "half in the file",
    "sqlite": "write_id no UTF-8",
    "postgres": "created_at 9223372036854775807",
    "redis": "v 'nan'",
    "redis_cluster": "v '1.5'",
    "mongodb": "v 1.5",
    "neo4j": "snapshot 7",
}


@pytest.fixture(params=sorted(CHOSEN))
def backend(request):
    """The name of each backend, memory too."""
    return request.param


@pytest.fixture
def spoil(backend, request, tmp_path):
    """Damages the row of a suspension."""

    def damages(hub, driver):
        local = {
            "memory": lambda: memory_damages(hub.backend),
            "filesystem": lambda: filesystem_damages(tmp_path / "flows", hub.backend),
            "sqlite": lambda: sqlite_damages(tmp_path / "flows.db"),
            "neo4j": lambda: neo4j_damages(driver, request.getfixturevalue("neo4j_prefix")),
        }
        if backend in local:
            return local[backend]()
        made = {"postgres": postgres_damages, "mongodb": mongodb_damages}.get(backend, redis_damages)
        return made(request.getfixturevalue("server")(backend), request.getfixturevalue("prefix"))

    async def spoiled(hub, new):
        server = request.getfixturevalue("server")("neo4j") if backend == "neo4j" else "bolt://127.0.0.1:1"
        async with neo4j.AsyncGraphDatabase.driver(server) as driver:
            damage = next(it for it in damages(hub, driver) if it.name == CHOSEN[backend])
            await damage.apply(RecordRef("default", str(new.id)))

    return spoiled


@pytest.fixture
def store(backend, request):
    """The URL of the store."""
    return "memory://" if backend == "memory" else request.getfixturevalue("url")


@pytest.fixture
async def ten(store, spoil):
    """A hub on ten answered runs, a second apart, and the one of them that is damaged."""
    async with open_test_hub(store, keyring=KeyRing.generate()) as hub:
        made = []
        for number in range(10):
            new = or_raise(await hub.suspend(number, awaiting=CONFIRM))
            or_raise(await hub.answer(new.key, True))
            made.append(new)
            travel(hub, SECOND)
        bad = made.pop(4)
        await spoil(hub, bad)
        yield hub, made, bad


async def test_by_key_it_is_an_integrity_error_through_both_doors(ten):
    hub, made, bad = ten
    for outcome in (
        await hub.inspect(bad.key),
        await hub.answer(bad.key, True),
        await hub.resume(bad.key, True),
        await hub.claim(bad.key, True),
        await hub.cancel(bad.key),
        await hub.extend(bad.key, timeout=SECOND),
    ):
        assert isinstance(outcome, Failure)
        assert type(outcome.failure()) is IntegrityError
        assert str(bad.id) in str(outcome.failure())
        assert "restore" in str(outcome.failure())
    raising = RaisingHub(hub)
    with pytest.raises(IntegrityError, match=str(bad.id)):
        await raising.inspect(bad.key)
    assert or_raise(await hub.inspect(made[0].key)).status is Status.ANSWERED


async def test_lists_name_it_and_give_the_others_in_order(ten):
    hub, made, bad = ten
    ids = [new.id for new in made]
    for criteria in (
        Criteria(),
        Criteria(status=Status.ANSWERED),
        Criteria(due_before=made[-1].created_at + 60 * SECOND),
    ):
        page = or_raise(await hub.query(criteria))
        assert [item.id for item in page.items] == ids, criteria
        assert {one.ref.key for one in page.unreadable} <= {str(bad.id)}
    assert {one.ref.key for one in or_raise(await hub.query()).unreadable} == {str(bad.id)}
    walked, after = [], None
    while True:
        page = or_raise(await hub.query(limit=1, after=after))
        walked += [item.id for item in page.items]
        after = page.next
        if after is None:
            break
    assert walked == ids
    assert [item.id async for item in RaisingHub(hub).iterate()] == ids


async def test_workers_and_maintenance_go_on_and_say_so_once(ten, caplog):
    hub, made, bad = ten
    with caplog.at_level(logging.WARNING):
        runs = or_raise(await hub.claim_due(limit=20))
        assert [run.suspension.id for run in runs] == [new.id for new in made]
        for run in runs:
            or_raise(await hub.release(run))
        done = asyncio.Queue()

        async def handle(run):
            await done.put(run.state)

        worker = asyncio.create_task(hub.work(handle))
        try:
            async with asyncio.timeout(60):
                states = sorted([await done.get() for _ in made])
                while [item.status for item in or_raise(await hub.query()).items] != [Status.COMPLETED] * 9:
                    await asyncio.sleep(0)
        finally:
            worker.cancel()
            await asyncio.gather(worker, return_exceptions=True)
        assert states == [0, 1, 2, 3, 5, 6, 7, 8, 9]
        upkeep = Maintenance(hub)
        or_raise(await upkeep.tick())
        health = or_raise(await upkeep.health())
        assert sum(health.unreadable.values()) == 1
        travel(hub, timedelta(days=8))
        assert or_raise(await upkeep.cleanup()).deleted == 9
        or_raise(await upkeep.tick())
    told = [record for record in caplog.records if str(bad.id) in record.getMessage()]
    assert len(told) == 1, [record.getMessage() for record in told]
    assert "restore it from a backup" in told[0].getMessage()
    assert isinstance((await hub.inspect(bad.key)).failure(), IntegrityError)
    assert or_raise(await hub.query()).items == ()


async def test_the_same_suspension_again_finds_it_damaged(store, spoil):
    async with open_test_hub(store, keyring=KeyRing.generate()) as hub:
        new = or_raise(await hub.suspend(1, awaiting=CONFIRM, idempotency_key="order-17"))
        await spoil(hub, new)
        again = await hub.suspend(1, awaiting=CONFIRM, idempotency_key="order-17")
        assert isinstance(again.failure(), IntegrityError)
