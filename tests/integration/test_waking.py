"""A worker is woken by what changes where the store tells, and looks from time to time where it does not."""

import asyncio
import logging
import threading
import time
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from flowpersist import AwaitInput, or_raise
from flowpersist.backends.base import Capability, Notifying, RecordChange, RecordRef, Where
from flowpersist.backends.blob_files import FileBlobStore
from flowpersist.backends.claim_check import ClaimCheckBackend
from flowpersist.backends.memory import MemoryBackend
from flowpersist.errors import BackendUnavailable
from flowpersist.testing import open_test_hub
from flowpersist.testing.faults import FaultyBackend

CONFIRM = AwaitInput(id="confirm", prompt="Ship it?", schema=bool)
SOON = timedelta(milliseconds=20)


@pytest.fixture
async def memory():
    backend = MemoryBackend()
    await backend.open([])
    yield backend
    await backend.close()


async def put(backend, key, namespace="n", revision=0):
    return await backend.put(RecordRef(namespace, key), RecordChange("w"), if_revision=revision)


async def heard(keys, count):
    async with asyncio.timeout(5):
        return [await anext(keys) for _ in range(count)]


async def test_puts_deletes_and_purges_are_heard_of(memory):
    assert isinstance(memory, Notifying)
    assert Capability.NOTIFICATIONS in memory.capabilities
    await put(memory, "before")
    async with memory.changes("n") as keys:
        revision = (await put(memory, "a")).revision
        await put(memory, "elsewhere", "other")
        assert await heard(keys, 1) == ["a"]
        await memory.delete(RecordRef("n", "a"), if_revision=revision)
        assert await heard(keys, 1) == ["a"]
        await memory.purge("n", Where(), limit=5)
        assert await heard(keys, 1) == ["before"]


async def test_many_hear_the_same_and_a_key_comes_once_however_often_it_changed(memory):
    async with memory.changes("n") as first, memory.changes("n") as second:
        revision = 0
        for _ in range(5):
            revision = (await put(memory, "a", revision=revision)).revision
        await put(memory, "b")
        assert await heard(first, 2) == await heard(second, 2) == ["a", "b"]
    await put(memory, "c")


async def test_other_threads_are_heard_of():
    here, there = MemoryBackend("waking"), MemoryBackend("waking")
    await here.open([])

    async def write():
        await there.open([])
        await put(there, "from another thread")

    async with here.changes("n") as keys:
        thread = threading.Thread(target=asyncio.run, args=(write(),))
        thread.start()
        assert await heard(keys, 1) == ["from another thread"]
        thread.join()
    await here.close()


async def test_who_listens_is_told_when_the_backend_is_closed(memory):
    async with memory.changes("n") as keys:
        waiting = asyncio.ensure_future(anext(keys))
        await asyncio.sleep(0)
        await memory.close()
        with pytest.raises(BackendUnavailable):
            await waiting
    with pytest.raises(BackendUnavailable):
        await memory.changes("n").__aenter__()


async def test_the_claim_check_passes_changes_on(tmp_path):
    backend = ClaimCheckBackend(MemoryBackend(), FileBlobStore(tmp_path))
    await backend.open([])
    async with backend.changes("n") as keys:
        await put(backend, "a")
        assert await heard(keys, 1) == ["a"]
    await backend.close()
    mute = ClaimCheckBackend(FaultyBackend(MemoryBackend()), FileBlobStore(tmp_path))
    assert Capability.NOTIFICATIONS not in mute.capabilities


async def answered(hub, state):
    new = or_raise(await hub.suspend(state, awaiting=CONFIRM))
    or_raise(await hub.answer(new.key, True))


@asynccontextmanager
async def working(hub, poll):
    """A worker in the background; gives what it was handed."""
    done = asyncio.Queue()
    worker = asyncio.ensure_future(hub.work(lambda run: done.put(run.state), poll=poll))
    # It has looked once, and found nothing.
    await asyncio.sleep(0.01)
    yield done
    worker.cancel()
    with pytest.raises(asyncio.CancelledError):
        await worker


async def next_of(done):
    async with asyncio.timeout(5):
        return await done.get()


async def test_a_worker_wakes_at_what_is_put():
    async with open_test_hub() as hub, working(hub, timedelta(seconds=1)) as done:
        for number in range(2):
            began = asyncio.get_running_loop().time()
            await answered(hub, number)
            assert await next_of(done) == number
            assert asyncio.get_running_loop().time() - began < 0.5
            await asyncio.sleep(0.06)


async def test_without_notifications_a_worker_looks_from_time_to_time():
    async with open_test_hub(FaultyBackend(MemoryBackend())) as hub, working(hub, SOON) as done:
        await answered(hub, "polled")
        assert await next_of(done) == "polled"


class Broken(MemoryBackend):
    """Says that it tells of changes, and does not."""

    @asynccontextmanager
    async def changes(self, _namespace):
        raise BackendUnavailable("nobody is listening", "memory", True)
        yield


async def test_a_worker_whose_store_stops_telling_looks_from_time_to_time(caplog):
    caplog.set_level(logging.WARNING)
    async with open_test_hub(Broken()) as hub, working(hub, SOON) as done:
        await answered(hub, "polled")
        assert await next_of(done) == "polled"
        await asyncio.sleep(0.1)
    (told,) = [record for record in caplog.records if "changes are not heard of" in record.message]
    assert told.name == "flowpersist.worker"


async def test_a_worker_does_not_look_at_every_change_of_others():
    backend = MemoryBackend()
    looks = 0
    query = backend.query

    async def counted(*arguments, **options):
        nonlocal looks
        looks += 1
        return await query(*arguments, **options)

    backend.query = counted
    async with open_test_hub(backend) as hub, working(hub, timedelta(seconds=1)):
        looks, begun = 0, time.monotonic()
        for number in range(100):
            await put(backend, f"k{number}", "default")
            await asyncio.sleep(0.001)
        # Three queries for each look, a look for each twentieth of a second, however long a busy machine takes.
        assert looks <= 3 * (10 + (time.monotonic() - begun) / 0.05)
        assert looks < 3 * 100
