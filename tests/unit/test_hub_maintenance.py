"""Maintenance: tick, cleanup, health and the loop over them."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
import pytest_asyncio
from returns.result import Success

from flowpersist import AwaitInput, Criteria, Maintenance, Status, or_raise
from flowpersist.backends.base import RecordChange, Where
from flowpersist.errors import BackendUnavailable, SuspensionNotFound
from flowpersist.testing.hubs import open_test_hub, travel

CONFIRM = AwaitInput(id="confirm", prompt="Ship it?", schema=bool)
HOUR = timedelta(hours=1)
WEEK = timedelta(days=7)


@pytest_asyncio.fixture(loop_scope="module")
async def hub():
    async with open_test_hub() as opened:
        yield opened


async def stored(hub):
    page = await hub.backend.query("default", Where(), limit=1000)
    return {record.ref.key: record for record in page.items}


async def test_tick_puts_what_time_has_changed_and_counts_it(hub):
    expiring = or_raise(await hub.suspend(1, awaiting=CONFIRM, timeout=HOUR))
    default = or_raise(await hub.suspend(1, awaiting=AwaitInput(id="c", prompt="?", default=1), timeout=HOUR))
    lapsing = or_raise(await hub.suspend(1))
    or_raise(await hub.claim(lapsing.key))
    reserved = or_raise(await hub.reserve(CONFIRM, timeout=HOUR))
    or_raise(await hub.suspend(1, awaiting=CONFIRM))
    travel(hub, 2 * HOUR)
    assert or_raise(await Maintenance(hub).tick()).updated == 4
    assert or_raise(await Maintenance(hub).tick()).updated == 0
    statuses = {key: record.attributes["status"] for key, record in (await stored(hub)).items()}
    # Of the one that has a state, a worker may still handle the expiry.
    assert (statuses[str(expiring.id)], statuses[str(reserved.id)]) == ("expiring", "expired")
    assert statuses[str(default.id)] == statuses[str(lapsing.id)] == "answered"


async def test_a_tick_with_nothing_to_do_writes_nothing(hub):
    or_raise(await hub.suspend(1, awaiting=CONFIRM, timeout=HOUR))
    before = await stored(hub)
    assert or_raise(await Maintenance(hub).tick()).updated == 0
    assert await stored(hub) == before


async def test_ticks_at_the_same_time_do_the_work_once(hub):
    for _ in range(10):
        or_raise(await hub.suspend(1, awaiting=CONFIRM, timeout=HOUR))
    travel(hub, 2 * HOUR)
    ticks = await asyncio.gather(*(Maintenance(hub).tick() for _ in range(4)))
    assert sum(or_raise(tick).updated for tick in ticks) == 10


async def test_copies_that_are_behind_their_head_are_mended(hub):
    """An attribute that somebody altered has no say: the head decides, and a tick puts the copy right."""
    new = or_raise(await hub.suspend(1, awaiting=CONFIRM, timeout=9 * HOUR))
    record = (await stored(hub))[str(new.id)]
    altered = RecordChange("w", attributes={**record.attributes, "run": "forged"}, due_at=new.created_at)
    await hub.backend.put(record.ref, altered, if_revision=record.revision)
    assert or_raise(await hub.inspect(new.key)).status is Status.WAITING
    assert or_raise(await Maintenance(hub).tick()).updated == 1
    mended = (await stored(hub))[str(new.id)]
    assert (dict(mended.attributes), mended.due_at) == (dict(record.attributes), record.due_at)


async def test_cleanup_deletes_closed_ones_after_their_retention_only(hub):
    done = or_raise(await hub.suspend(1, awaiting=CONFIRM))
    or_raise(await hub.resume(done.key, True))
    waiting = or_raise(await hub.suspend(1, awaiting=CONFIRM))
    travel(hub, WEEK - HOUR)
    assert or_raise(await Maintenance(hub).cleanup()).deleted == 0
    travel(hub, 2 * HOUR)
    cleaned = or_raise(await Maintenance(hub).cleanup())
    assert (cleaned.deleted, cleaned.dry_run) == (1, False)
    assert isinstance((await hub.inspect(done.key)).failure(), SuspensionNotFound)
    assert or_raise(await hub.inspect(waiting.key)).status is Status.WAITING


async def test_a_dry_run_counts_and_deletes_nothing(hub):
    done = or_raise(await hub.suspend(1, awaiting=CONFIRM))
    or_raise(await hub.resume(done.key, True))
    travel(hub, 2 * WEEK)
    assert or_raise(await Maintenance(hub).cleanup(dry_run=True)).deleted == 1
    assert or_raise(await hub.inspect(done.key)).status is Status.COMPLETED


async def test_the_retention_of_what_expired_unseen_counts_from_its_deadline(hub):
    or_raise(await hub.suspend(1, awaiting=CONFIRM, timeout=HOUR))
    travel(hub, HOUR + WEEK + HOUR)
    assert or_raise(await Maintenance(hub).cleanup()).deleted == 1


async def test_cleanup_by_criteria(hub):
    for tenant in ("a", "b"):
        new = or_raise(await hub.suspend(1, awaiting=CONFIRM, tenant=tenant))
        or_raise(await hub.cancel(new.key))
    travel(hub, 2 * WEEK)
    assert or_raise(await Maintenance(hub).cleanup(Criteria(tenant="a"))).deleted == 1
    assert or_raise(await Maintenance(hub).cleanup(Criteria(status="completed"))).deleted == 0
    assert [item.tenant for item in or_raise(await hub.query()).items] == ["b"]


async def test_altered_attributes_get_no_live_suspension_deleted(hub):
    new = or_raise(await hub.suspend(1, awaiting=CONFIRM))
    record = (await stored(hub))[str(new.id)]
    forged = {**record.attributes, "live": False, "status": "completed"}
    await hub.backend.put(
        record.ref, RecordChange("w", attributes=forged, due_at=new.created_at), if_revision=record.revision
    )
    assert or_raise(await Maintenance(hub).cleanup()).deleted == 0
    assert or_raise(await hub.resume(new.key, True)).state == 1


async def test_the_retention_is_a_setting():
    async with open_test_hub(retention=HOUR) as hub:
        new = or_raise(await hub.suspend(1))
        or_raise(await hub.resume(new.key))
        travel(hub, 2 * HOUR)
        assert or_raise(await Maintenance(hub).cleanup()).deleted == 1


async def test_health_says_which_store_and_how_its_records_are_stored(hub):
    health = or_raise(await Maintenance(hub).health())
    assert (health.backend, health.encrypted, health.sealed) == ("memory", None, {})
    assert timedelta(0) <= health.latency < timedelta(seconds=5)
    or_raise(await hub.suspend(1))
    health = or_raise(await Maintenance(hub).health())
    assert (health.encrypted, health.sealed) == (True, {"encrypted": 1})


async def test_health_of_a_closed_store_is_a_failure():
    async with open_test_hub() as hub:
        pass
    assert isinstance((await Maintenance(hub).health()).failure(), BackendUnavailable)


async def test_run_forever_goes_on_until_cancelled_and_survives_failures(hub, monkeypatch, caplog):
    new = or_raise(await hub.suspend(1, awaiting=CONFIRM, timeout=HOUR))
    true_query, failures = hub.backend.query, iter([BackendUnavailable("gone", "memory", retryable=False)])

    async def flaky(*args, **options):
        for error in failures:
            raise error
        return await true_query(*args, **options)

    monkeypatch.setattr(hub.backend, "query", flaky)
    task = asyncio.create_task(Maintenance(hub).run_forever(timedelta(milliseconds=1)))
    travel(hub, HOUR + 2 * WEEK)
    async with asyncio.timeout(2):
        while isinstance(await hub.inspect(new.key), Success):
            await asyncio.sleep(0.001)
    assert not task.done()
    assert "trying again" in caplog.text
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
