"""The log of heads on every backend: each trail that has grown has one leaf, whoever appends and whatever ends."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from datetime import timedelta

import pytest
from returns.result import Failure

from flowpersist import KeyRing, Maintenance, or_raise
from flowpersist.backends.base import RecordChange, RecordRef
from flowpersist.backends.kit import DelegatingBackend
from flowpersist.backends.registry import backend_from_url
from flowpersist.errors import BackendUnavailable, IntegrityError, TamperedEnvelope, UnknownOutcome
from flowpersist.hub import audit_log
from flowpersist.lifecycle import log_records
from flowpersist.lifecycle.log_records import frontier_of, read_leaf
from flowpersist.sealed.merkle import Frontier, leaf_hash
from flowpersist.testing.hubs import open_test_hub, travel

HEAD = RecordRef("default.log", "log")
RING = KeyRing.generate()


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch):
    """Tiles of four, so that a few leaves make several levels."""
    monkeypatch.setattr(log_records, "TILE", 4)
    monkeypatch.setattr(log_records, "TILE_HEIGHT", 2)
    monkeypatch.setattr(audit_log, "TILE", 4)


@pytest.fixture
async def hub(url):
    async with open_test_hub(url, keyring=RING) as opened:
        yield opened


async def leaves_of(hub):
    """All leaves, out of tiles and head, whose tree is the one that the head has."""
    log = hub.suspensions.side_records.log
    head = or_raise(await log.head())
    leaves = []
    for number in range((head.size - len(head.leaves)) // 4):
        leaves += or_raise(await log.tile(0, number))
    leaves += head.leaves
    frontier = Frontier()
    for leaf in leaves:
        frontier.add(leaf_hash(leaf))
    assert (frontier.size, frontier.root()) == (head.size, frontier_of(head).root())
    return [read_leaf(leaf) for leaf in leaves]


async def suspended(hub, count):
    return [or_raise(await hub.suspend(number)) for number in range(count)]


async def appended(hub):
    return or_raise(await Maintenance(hub).append_log())


async def test_each_trail_that_has_grown_gets_one_leaf(hub):
    new = await suspended(hub, 11)
    assert await appended(hub) == 11
    assert await appended(hub) == 0
    or_raise(await hub.cancel(new[3].id))
    or_raise(await hub.cancel(new[7].id))
    assert await appended(hub) == 2
    leaves = await leaves_of(hub)
    assert Counter((leaf.id, leaf.count) for leaf in leaves) == Counter(
        [(one.id.value, 1) for one in new] + [(new[place].id.value, 2) for place in (3, 7)]
    )
    (last,) = [leaf for leaf in leaves[-2:] if leaf.id == new[7].id.value]
    assert last.mac.hex() == or_raise(await hub.history(new[7].id))[-1].mac


async def test_another_process_goes_on_where_the_first_has_stopped(url, hub):
    await suspended(hub, 6)
    assert await appended(hub) == 6
    async with open_test_hub(url, keyring=RING.control_only()) as other:
        assert await appended(other) == 0
        await suspended(hub, 3)
        assert await appended(other) == 3
        assert await appended(hub) == 0
    assert len(await leaves_of(hub)) == 9


async def test_many_that_append_at_once_lose_and_repeat_no_leaf(url, monkeypatch):
    monkeypatch.setattr(audit_log, "PAGE", 3)
    async with open_test_hub(url, keyring=RING) as hub, open_test_hub(url, keyring=RING) as other:
        new = await suspended(hub, 20)
        results = await asyncio.gather(*(Maintenance(one).append_log() for one in (hub, other) * 4))
        assert sum(or_raise(one) for one in results) == 20
        leaves = await leaves_of(hub)
        assert sorted(leaf.id for leaf in leaves) == sorted(one.id.value for one in new)


async def test_a_change_whose_time_lies_before_what_was_seen_is_found_by_the_walk(hub):
    await suspended(hub, 2)
    assert await appended(hub) == 2
    hub.backend.clock_offset -= timedelta(hours=1)
    await suspended(hub, 1)
    assert sum([await appended(hub) for _ in range(3)]) == 1


async def test_a_legal_removal_has_a_leaf_of_its_own_and_what_the_log_never_knew_has_none(hub):
    known, unknown = await suspended(hub, 2)
    or_raise(await hub.cancel(known.id))
    log = hub.suspensions.side_records.log
    record = or_raise(await hub.suspensions.records.read(str(known.id))).record
    assert or_raise(await log.add([record.head])) == 1
    or_raise(await hub.cancel(unknown.id))
    travel(hub, timedelta(days=8))
    assert or_raise(await Maintenance(hub).cleanup()).deleted == 2
    leaves = await leaves_of(hub)
    assert [(leaf.id, leaf.count, leaf.purged) for leaf in leaves] == [
        (known.id.value, 2, False),
        (known.id.value, 2, True),
    ]


async def test_a_removal_that_ends_after_its_leaf_goes_on_without_another(hub, monkeypatch):
    (one,) = await suspended(hub, 1)
    or_raise(await hub.cancel(one.id))
    assert await appended(hub) == 1
    travel(hub, timedelta(days=8))

    async def refuse(_):
        return Failure(BackendUnavailable("down", "test"))

    with monkeypatch.context() as patched:
        patched.setattr(hub.suspensions, "remove", refuse)
        assert isinstance(await Maintenance(hub).cleanup(), Failure)
    assert await appended(hub) == 0
    assert or_raise(await Maintenance(hub).cleanup()).deleted == 1
    assert [leaf.purged for leaf in await leaves_of(hub)] == [False, True]


class Losing(DelegatingBackend):
    """A backend that loses the reply of a put, or never does it, each at its turn."""

    turn = 0
    lost = 0

    async def put(self, ref, change, *, if_revision=None, not_after=None):
        Losing.turn += 1
        fails = ref.namespace.startswith("default.log") and Losing.turn % 3
        if fails == 1:
            Losing.lost += 1
            raise BackendUnavailable("cut before", "test")
        written = await super().put(ref, change, if_revision=if_revision, not_after=not_after)
        if fails:
            Losing.lost += 1
            raise UnknownOutcome("cut after", "test")
        return written


async def test_lost_replies_and_puts_leave_each_leaf_there_once(url):
    async with open_test_hub(Losing(backend_from_url(url)), keyring=RING) as hub:
        expected = 0
        for _ in range(6):
            expected += len(await suspended(hub, 3))
            await Maintenance(hub).append_log()
        for _ in range(30):
            if await Maintenance(hub).append_log() == 0:
                break
        assert Losing.lost
    async with open_test_hub(url, keyring=RING) as hub:
        await appended(hub)
        leaves = await leaves_of(hub)
    assert len(leaves) == len({leaf.id for leaf in leaves}) == expected


async def test_a_log_whose_head_was_put_back_or_deleted_takes_no_leaf(hub):
    await suspended(hub, 5)
    await appended(hub)
    old = (await hub.backend.get(HEAD)).record
    await suspended(hub, 9)
    await appended(hub)
    await suspended(hub, 1)
    await appended(hub)
    current = (await hub.backend.get(HEAD)).record
    change = RecordChange(os.urandom(8).hex(), head=old.head, attributes=old.attributes)
    await hub.backend.put(HEAD, change, if_revision=current.revision)
    await suspended(hub, 1)
    refused = (await Maintenance(hub).append_log()).failure()
    assert isinstance(refused, TamperedEnvelope)
    assert "older one, or deleted" in str(refused)
    await hub.backend.delete(HEAD)
    assert isinstance((await Maintenance(hub).append_log()).failure(), TamperedEnvelope)


async def test_a_missing_tile_is_named(hub):
    await suspended(hub, 6)
    await appended(hub)
    await suspended(hub, 1)
    await appended(hub)
    await hub.backend.delete(RecordRef("default.log-tiles", "0/000000000000"))
    missing = (await hub.suspensions.side_records.log.tile(0, 0)).failure()
    assert type(missing) is IntegrityError
    assert "tile 0/000000000000" in str(missing)


async def test_a_hub_without_audit_adds_nothing(url):
    async with open_test_hub(url, keyring=RING, audit=False) as hub:
        await suspended(hub, 2)
        assert await appended(hub) == 0


async def test_appending_that_is_cancelled_at_each_await_leaves_each_leaf_there_once(url, hub):
    new = await suspended(hub, 9)
    for steps in range(1, 40):
        task = asyncio.ensure_future(Maintenance(hub).append_log())
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    await appended(hub)
    assert sorted(leaf.id for leaf in await leaves_of(hub)) == sorted(one.id.value for one in new)
