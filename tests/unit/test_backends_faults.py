"""Faults happen as often as was asked for, in that order, and everything else passes through."""

from datetime import timedelta

import pytest
import pytest_asyncio

from flowpersist.backends.base import RecordChange, RecordRef, StorageBackend, Where
from flowpersist.backends.memory import MemoryBackend
from flowpersist.errors import BackendUnavailable, StorageFull, UnknownOutcome
from flowpersist.testing.faults import FaultyBackend

REF = RecordRef("n", "k")


@pytest_asyncio.fixture(loop_scope="module")
async def faulty():
    backend = FaultyBackend(MemoryBackend())
    await backend.open([])
    yield backend
    await backend.close()


async def test_every_operation_passes_through_and_is_counted(faulty):
    assert isinstance(faulty, StorageBackend)
    written = await faulty.put(REF, RecordChange("w"), if_revision=0)
    assert (await faulty.get(REF)).record.revision == written.revision
    assert len((await faulty.query("n", Where(), limit=1)).items) == 1
    assert await faulty.delete(REF, if_revision=written.revision)
    assert await faulty.purge("n", Where(), limit=1) == 0
    faulty.clock_offset += timedelta(hours=1)
    assert faulty.inner.clock_offset == timedelta(hours=1)
    assert (await faulty.ping()).backend == faulty.name == "memory"
    assert faulty.calls == dict.fromkeys(("open", "put", "get", "query", "delete", "purge", "ping"), 1)


async def test_faults_come_in_their_order(faulty):
    faulty.fail("put")
    faulty.lose("put")
    faulty.fail("put", StorageFull("no room", "memory"))
    change = RecordChange("w")
    for error, there in ((BackendUnavailable, False), (UnknownOutcome, True), (StorageFull, True)):
        with pytest.raises(error):
            await faulty.put(REF, change, if_revision=0)
        assert ((await faulty.get(REF)).record is not None) is there
    await faulty.put(REF, change, if_revision=1)


async def test_a_delay_is_waited_for(faulty, monkeypatch):
    slept = []

    async def sleep(seconds):
        slept.append(seconds)

    monkeypatch.setattr("flowpersist.testing.faults.asyncio.sleep", sleep)
    faulty.delay("get", timedelta(seconds=2))
    await faulty.get(REF)
    await faulty.ping()
    assert slept == [2]


def test_an_unknown_operation_is_refused():
    with pytest.raises(ValueError, match="operation"):
        FaultyBackend(MemoryBackend()).fail("fetch")
