"""Trained dictionaries: made of states, kept in the store, found by whoever opens one."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
from datetime import timedelta

import pytest

from flowpersist import AwaitInput, Criteria, KeyRing, Maintenance, or_raise
from flowpersist.backends.base import RecordChange, RecordRef, Where
from flowpersist.errors import CompressionError, UnknownDictionary, UnknownKey
from flowpersist.stages import Dictionaries
from flowpersist.testing.hubs import open_test_hub, travel

KEPT = "default.dictionaries"
RING = KeyRing.generate("k1")


def state(number: int, extra: int = 0) -> dict[str, object]:
    """Small ones of a kind: the same words, other values."""
    rng = random.Random(number)
    order = {"customer": f"customer number {rng.random()}", "status": "waiting for approval", "amount": rng.random()}
    return {"order": order, "history": ["created", "checked by accounting", "sent"], "more": rng.randbytes(extra)}


async def suspended(hub, count: int, **options):
    return [or_raise(await hub.suspend(state(number), **options)) for number in range(count)]


async def size_of(hub, new) -> int:
    read = await hub.backend.get(RecordRef("default", str(new.id)))
    return read.record.body_size


async def kept(hub):
    return (await hub.backend.query(KEPT, Where(), limit=100)).items


def learned(hub) -> Dictionaries:
    return hub.suspensions.records.sealer.dictionaries


@pytest.fixture
async def hub():
    async with open_test_hub(keyring=RING, dictionaries=True) as opened:
        yield opened


@pytest.fixture
def files(tmp_path):
    """Hubs on one store, each as another process would open it."""

    def opening(**options):
        return open_test_hub(f"sqlite:///{tmp_path / 'flows.db'}", **{"keyring": RING} | options)

    return opening


async def test_states_shrink_once_a_dictionary_was_trained_of_others(hub):
    before = (await suspended(hub, 60))[0]
    trained = or_raise(await Maintenance(hub).train_dictionary(size=4096))
    assert (trained.version, trained.samples) == (1, 60)
    assert trained.size <= 4096
    after = or_raise(await hub.suspend(state(0)))
    assert await size_of(hub, after) < 0.8 * await size_of(hub, before)
    for new in (before, after):
        assert or_raise(await hub.resume(new.key)).state == state(0)


async def test_nothing_changes_for_who_did_not_ask_for_it():
    async with open_test_hub(keyring=RING) as hub:
        before = (await suspended(hub, 60))[0]
        or_raise(await Maintenance(hub).train_dictionary(size=4096))
        assert learned(hub).current is None
        assert await size_of(hub, or_raise(await hub.suspend(state(0)))) == await size_of(hub, before)


async def test_a_process_that_meets_an_unknown_dictionary_looks_it_up_once(files):
    async with files() as reader, files(dictionaries=True) as writer:
        await suspended(writer, 60)
        trained = or_raise(await Maintenance(writer).train_dictionary(size=4096))
        first, second = [or_raise(await writer.suspend(state(number))) for number in (100, 101)]
        assert not learned(reader).known
        assert or_raise(await reader.resume(first.key)).state == state(100)
        assert list(learned(reader).known) == [trained.id]
        assert learned(reader).current is None
        record = (await kept(reader))[0]
        await reader.backend.delete(record.ref, if_revision=record.revision)
        assert or_raise(await reader.resume(second.key)).state == state(101)


RESUME = """
import asyncio, sys
from flowpersist import RaisingHub

async def main():
    async with RaisingHub.open() as hub:
        print((await hub.resume(sys.argv[1])).state["order"]["customer"])

asyncio.run(main())
"""


async def test_another_process_that_was_told_nothing_opens_the_state(files, tmp_path):
    async with files(dictionaries=True) as writer:
        await suspended(writer, 60)
        or_raise(await Maintenance(writer).train_dictionary(size=4096))
        new = or_raise(await writer.suspend(state(100)))
    environment = {"FLOWPERSIST_URL": f"sqlite:///{tmp_path / 'flows.db'}", "FLOWPERSIST_KEYS": RING.export()}
    other = subprocess.run(
        [sys.executable, "-c", RESUME, str(new.key)],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert (other.stdout.strip(), other.stderr) == (state(100)["order"]["customer"], "")


async def test_a_dictionary_that_is_gone_is_named_and_the_run_stays(files):
    async with files() as reader, files(dictionaries=True) as writer:
        await suspended(writer, 60)
        trained = or_raise(await Maintenance(writer).train_dictionary(size=4096))
        new = or_raise(await writer.suspend(state(100)))
        record = (await kept(writer))[0]
        await writer.backend.delete(record.ref, if_revision=record.revision)
        error = (await reader.resume(new.key)).failure()
        assert isinstance(error, UnknownDictionary)
        assert error.id == trained.id
        assert "restore" in str(error)
        # Who still has it in memory can open it: nothing was taken.
        assert or_raise(await writer.resume(new.key)).state == state(100)


async def test_the_newest_is_used_and_the_older_ones_stay(files):
    async with files(dictionaries=True) as writer:
        await suspended(writer, 60)
        old = or_raise(await Maintenance(writer).train_dictionary(size=4096))
        with_old = or_raise(await writer.suspend(state(100)))
        travel(writer, timedelta(seconds=1))
        new = or_raise(await Maintenance(writer).train_dictionary(size=2048))
        assert (old.version, new.version) == (1, 2)
        travel(writer, timedelta(days=400))
        or_raise(await Maintenance(writer).cleanup())
        assert {record.ref.key for record in await kept(writer)} == {f"{one.id:08x}" for one in (old, new)}
    async with files(dictionaries=True) as later:
        assert learned(later).current.id == new.id
        assert or_raise(await later.resume(with_old.key)).state == state(100)
        assert set(learned(later).known) == {old.id, new.id}


async def test_it_is_sealed_with_the_state_subkey_and_holds_nothing_in_clear(files):
    async with files() as hub:
        await suspended(hub, 60)
        or_raise(await Maintenance(hub).train_dictionary(size=4096))
        read = await hub.backend.get((await kept(hub))[0].ref)
        assert not read.record.attributes
        assert b"accounting" not in read.record.head + read.record.body
    async with files(keyring=RING.control_only()) as web:
        assert isinstance((await Maintenance(web).train_dictionary()).failure(), UnknownKey)


async def test_a_control_ring_opens_a_hub_that_asks_for_dictionaries_and_answers(files, caplog):
    async with files() as hub:
        await suspended(hub, 60)
        or_raise(await Maintenance(hub).train_dictionary(size=4096))
        new = or_raise(await hub.suspend(state(1), awaiting=AwaitInput(id="ok", prompt="?", schema=bool)))
    async with files(keyring=RING.control_only(), dictionaries=True) as web:
        or_raise(await web.answer(new.key, value=True))
    assert "without a dictionary" in caplog.text


async def test_a_damaged_dictionary_hinders_nobody_who_does_not_need_it(files, caplog):
    async with files() as hub:
        await suspended(hub, 60)
        or_raise(await Maintenance(hub).train_dictionary(size=4096))
        record = (await kept(hub))[0]
        change = RecordChange("damage", body=b"rubbish")
        await hub.backend.put(record.ref, change, if_revision=record.revision)
    async with files(dictionaries=True) as later:
        assert learned(later).current is None
        or_raise(await later.suspend(state(1)))
    assert "without a dictionary" in caplog.text


async def test_training_needs_enough_states(hub):
    await suspended(hub, 2)
    assert isinstance((await Maintenance(hub).train_dictionary()).failure(), CompressionError)
    assert await kept(hub) == ()


async def test_samples_are_small_states_of_live_suspensions_that_the_criteria_name(hub):
    await suspended(hub, 30, tenant="acme")
    await suspended(hub, 30, tenant="other")
    or_raise(await hub.suspend(state(1, extra=70_000), tenant="acme"))
    or_raise(await hub.suspend(state(1, extra=200_000), tenant="acme"))
    or_raise(await hub.reserve(tenant="acme"))
    ended = or_raise(await hub.suspend(state(2), tenant="acme"))
    or_raise(await hub.resume(ended.key))
    trained = or_raise(await Maintenance(hub).train_dictionary(Criteria(tenant="acme"), size=2048))
    assert trained.samples == 30
    trained = or_raise(await Maintenance(hub).train_dictionary(size=2048, samples=40))
    assert trained.samples == 40
    for number in range(40):
        or_raise(await hub.suspend(state(number, extra=5000)))
    # The newest first, and no more than teach it something.
    trained = or_raise(await Maintenance(hub).train_dictionary(size=1024))
    assert 100 * 1024 <= trained.sample_bytes < 100 * 1024 + 6000


async def test_the_heads_say_what_is_live_and_what_it_is_and_not_their_copies(hub, caplog):
    async def altered(id, **attributes):
        record = (await hub.backend.get(RecordRef("default", str(id)))).record
        change = RecordChange("altered", attributes={**record.attributes, **attributes})
        await hub.backend.put(record.ref, change, if_revision=record.revision)

    await suspended(hub, 30, metadata={"kind": "order"})
    or_raise(await hub.suspend(state(40), timeout=timedelta(hours=1), metadata={"kind": "order"}))
    run = or_raise(await hub.claim(or_raise(await hub.suspend(state(41), metadata={"kind": "order"})).key))
    or_raise(await hub.complete(run, "an outcome"))
    await altered(run.suspension.id, live=True)
    await altered(or_raise(await hub.suspend(state(42), metadata={"kind": "else"})).id, **{"m.kind": "order"})
    travel(hub, timedelta(hours=2))
    orders = Criteria(metadata={"kind": "order"})
    assert or_raise(await Maintenance(hub).train_dictionary(orders, size=2048)).samples == 30
    assert not caplog.records


async def test_a_damaged_state_is_left_out_of_the_samples(hub, caplog):
    damaged = (await suspended(hub, 31))[5]
    read = await hub.backend.get(RecordRef("default", str(damaged.id)))
    change = RecordChange("damage", body=b"rubbish")
    await hub.backend.put(read.record.ref, change, if_revision=read.record.revision)
    assert or_raise(await Maintenance(hub).train_dictionary(size=2048)).samples == 30
    assert str(damaged.id) in caplog.text


async def test_two_trainers_at_once_both_keep_theirs(files):
    async with files(dictionaries=True) as one, files(dictionaries=True) as other:
        await suspended(one, 60)
        both = await asyncio.gather(*(Maintenance(hub).train_dictionary(size=2048) for hub in (one, other)))
        ids = {or_raise(trained).id for trained in both}
        assert len(ids) == len(await kept(one)) == 2
        for number, writer, reader in ((100, one, other), (101, other, one)):
            new = or_raise(await writer.suspend(state(number)))
            assert or_raise(await reader.resume(new.key)).state == state(number)


async def test_another_keyring_seals_the_next_dictionary(files):
    other = KeyRing.generate("k2")
    async with files() as hub:
        await suspended(hub, 60)
        hub.use_keyring(RING.add("k2", bytes(32)).promote("k2"))
        or_raise(await Maintenance(hub).train_dictionary(size=2048))
        read = await hub.backend.get((await kept(hub))[0].ref)
        assert b"k2" in read.record.body[:20]
        assert other.primary == "k2"
