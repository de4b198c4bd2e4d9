"""A store belongs to the event loop and process that opened it: elsewhere each operation is refused by name, before its
driver is touched, and closing breaks nothing.
"""

import asyncio
import gc
import os
import threading
from contextlib import asynccontextmanager

import asyncpg
import pytest
from pymongo import AsyncMongoClient
from returns.result import Failure

from flowpersist import AwaitInput, KeyRing, RaisingHub
from flowpersist.backends.base import Capability, NamespaceSchema, RecordChange, RecordRef, Where
from flowpersist.backends.blob_files import FileBlobStore
from flowpersist.backends.blob_s3 import S3BlobStore
from flowpersist.backends.claim_check import ClaimCheckBackend
from flowpersist.backends.kit import Home
from flowpersist.backends.memory import MemoryBackend
from flowpersist.backends.mongodb import MongodbBackend
from flowpersist.backends.postgres import PostgresBackend
from flowpersist.backends.registry import backend_from_url
from flowpersist.backends.sqlite import SqliteBackend
from flowpersist.errors import BackendUnavailable
from flowpersist.hub.opening import open_hub
from machine import BACKENDS

SCHEMA = [NamespaceSchema("n", {"status": str})]
REF = RecordRef("n", "k")
BODY = b"x" * 5000
LOOP, FORK = "opened in another event loop; open one of its own", "opened before a fork; open one of its own"
ALL = ("memory", "claim_check", *BACKENDS)


def put(backend, key="k", revision=0):
    change = RecordChange("w", attributes={"status": "x"}, body=BODY)
    return backend.put(RecordRef("n", key), change, if_revision=revision)


async def first_change(backend):
    async with backend.changes("n"):
        pass


async def joined(backend):
    backend.within(object())


OPERATIONS = {
    "get": lambda backend: backend.get(REF),
    "put": put,
    "delete": lambda backend: backend.delete(REF, if_revision=1),
    "query": lambda backend: backend.query("n", Where(), limit=1),
    "purge": lambda backend: backend.purge("n", Where(), limit=1),
    "ping": lambda backend: backend.ping(),
    "open": lambda backend: backend.open(SCHEMA),
}
POWERS = {
    Capability.NOTIFICATIONS: first_change,
    Capability.TRANSACTIONS: joined,
}


def operations(backend):
    return [*OPERATIONS.values(), *(use for power, use in POWERS.items() if power in backend.capabilities)]


def elsewhere(work):
    """Run a coroutine in the event loop of another thread; what it raised is raised here."""
    ended = []

    def run():
        try:
            ended.append((asyncio.run(asyncio.wait_for(work, 20)), None))
        except BaseException as error:  # noqa: BLE001 - raised below
            ended.append((None, error))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(30)
    assert not thread.is_alive()
    result, error = ended[0]
    if error is not None:
        raise error
    return result


async def refused(backend, why):
    for use in operations(backend):
        with pytest.raises(BackendUnavailable, match=why) as caught:
            await use(backend)
        assert caught.value.retryable is False


@pytest.fixture(params=ALL)
def backend(request):
    return request.param


@pytest.fixture
def make(backend, request, tmp_path):
    if backend == "memory":
        return lambda: MemoryBackend(f"store of {tmp_path}")
    if backend == "claim_check":
        return lambda: ClaimCheckBackend(
            SqliteBackend(tmp_path / "s.db"), FileBlobStore(tmp_path / "b"), from_bytes=100
        )
    url = request.getfixturevalue("url")
    if backend in {"postgres", "redis"}:
        url += "&notify=on"
    return lambda: backend_from_url(url)


async def test_another_loop_is_refused_while_its_own_goes_on(make):
    store = make()
    await store.open(SCHEMA)
    revision = (await put(store)).revision
    await asyncio.to_thread(elsewhere, refused(store, LOOP))

    async def closed():
        with pytest.raises(BackendUnavailable, match=LOOP):
            await store.close()

    await asyncio.to_thread(elsewhere, closed())
    # Nothing of it has reached the store, which goes on.
    read = await store.get(REF)
    assert (read.record.revision, read.record.body) == (revision, BODY)
    await put(store, revision=revision)
    await store.close()


@pytest.mark.filterwarnings("ignore")  # of what a loop that is closed first leaves open
def test_a_loop_that_is_over_is_refused_until_the_store_is_closed_and_opened_anew(make):
    store = make()

    async def begin():
        await store.open(SCHEMA)
        await put(store)

    async def end():
        await refused(store, LOOP)
        await store.close()
        await store.close()
        with pytest.raises(BackendUnavailable, match="not open"):
            await store.get(REF)
        await store.open(SCHEMA)
        assert (await store.get(REF)).record.body == BODY
        await store.close()

    asyncio.run(begin())
    asyncio.run(end())
    gc.collect()


@pytest.mark.filterwarnings("ignore")  # of a fork beside threads
async def test_a_forked_child_is_refused_and_closes_nothing_of_the_parents(make):
    store = make()
    await store.open(SCHEMA)
    await put(store)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:

        async def use():
            await refused(store, FORK)
            await store.close()
            with pytest.raises(BackendUnavailable, match="not open"):
                await store.get(REF)

        try:
            asyncio.run(asyncio.wait_for(use(), 20))
            os.write(write, b"done")
        except BaseException as error:  # noqa: BLE001 - told to the parent
            os.write(write, repr(error).encode()[:4000])
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as told:
        assert await asyncio.to_thread(told.read) == b"done"
    os.waitpid(child, 0)
    assert (await store.get(REF)).record.body == BODY
    await store.close()


def test_a_store_goes_from_loop_to_loop_where_each_closes_it(make):
    """Also where tasks have waited for each other in both: to open, to close, and for what was under way."""
    store = make()

    async def use(turn):
        await asyncio.gather(*(store.open(SCHEMA) for _ in range(3)))
        writing = [asyncio.ensure_future(put(store, f"{turn}-{number}")) for number in range(5)]
        await asyncio.sleep(0)
        await asyncio.gather(*(store.close() for _ in range(3)))
        assert all(isinstance(one, BackendUnavailable) or one.revision for one in await gathered(writing))

    for turn in range(3):
        asyncio.run(asyncio.wait_for(use(turn), 30))


async def gathered(tasks):
    return await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_pool_of_the_user_s_of_another_loop_is_refused(server, prefix):
    pool = await asyncpg.create_pool(server("postgres"), min_size=1, max_size=1)

    async def use():
        with pytest.raises(BackendUnavailable, match="given a client of another event loop"):
            await PostgresBackend(pool, prefix=prefix).open(SCHEMA)

    await asyncio.to_thread(elsewhere, use())
    # Its one connection is whole.
    assert await pool.fetchval("select 1") == 1
    await pool.close()


async def test_a_client_of_the_user_s_of_another_loop_is_refused(server, prefix):
    client = AsyncMongoClient(server("mongodb"))
    await client.admin.command("ping")

    async def use():
        with pytest.raises(BackendUnavailable, match="given a client of another event loop"):
            await MongodbBackend(client, prefix=prefix).open(SCHEMA)

    await asyncio.to_thread(elsewhere, use())
    await client.admin.command("ping")
    await client.close()


# --- a hub, by both doors


QUESTION = AwaitInput(id="a", prompt="?", schema=bool)
VERBS = {
    "suspend": lambda hub, key: hub.suspend({}, awaiting=QUESTION),
    "suspend again": lambda hub, key: hub.suspend({}, awaiting=QUESTION, idempotency_key="i"),
    "reserve": lambda hub, key: hub.reserve(awaiting=QUESTION),
    "inspect": lambda hub, key: hub.inspect(key),
    "answer": lambda hub, key: hub.answer(key, True),
    "resume": lambda hub, key: hub.resume(key, True),
    "claim": lambda hub, key: hub.claim(key, True),
    "claim_due": lambda hub, key: hub.claim_due(),
    "cancel": lambda hub, key: hub.cancel(key),
    "query": lambda hub, key: hub.query(),
}


@asynccontextmanager
async def raising(url, **options):
    async with RaisingHub.open(url, **options) as hub:
        yield hub


@pytest.mark.parametrize("backend", ["memory", *BACKENDS])
async def test_a_hub_tells_it_by_both_doors(backend, make):
    ring = KeyRing.generate()
    async with open_hub(make(), keyring=ring) as hub, raising(make(), keyring=ring) as other:
        key = (await other.suspend({"n": 1}, awaiting=QUESTION)).key

        async def use():
            for verb in VERBS.values():
                outcome = await verb(hub, key)
                assert isinstance(outcome, Failure)
                assert isinstance(outcome.failure(), BackendUnavailable)
                with pytest.raises(BackendUnavailable, match=LOOP):
                    await verb(other, key)

        await asyncio.to_thread(elsewhere, use())
        assert (await other.resume(key, True)).state == {"n": 1}


# --- stores of large bodies


class Untouched:
    """In place of a driver: whoever touches it is told."""

    def __getattr__(self, name):
        raise AssertionError(name)


NAME = "0" * 32
BLOBS = {
    "put": lambda blobs: blobs.put(NAME, b"x"),
    "get": lambda blobs: blobs.get(NAME, 1),
    "delete": lambda blobs: blobs.delete(NAME),
    "walk": lambda blobs: anext(blobs.walk(NAME)),
    "now": lambda blobs: blobs.now(),
    "ping": lambda blobs: blobs.ping(),
    "open": lambda blobs: blobs.open(),
}


@pytest.mark.parametrize("operation", BLOBS)
@pytest.mark.parametrize("kind", ["file", "s3"])
async def test_a_store_of_large_bodies_is_refused_too(tmp_path, kind, operation):
    blobs = FileBlobStore(tmp_path) if kind == "file" else S3BlobStore(Untouched())
    async with blobs._home.opening():
        pass

    async def use():
        with pytest.raises(BackendUnavailable, match=LOOP):
            await BLOBS[operation](blobs)
        with pytest.raises(BackendUnavailable, match=LOOP):
            await blobs.close()

    await asyncio.to_thread(elsewhere, use())
    await blobs.close()


# --- what remembers it


async def test_a_store_that_could_not_be_opened_belongs_to_nobody():
    home = Home("toy")
    with pytest.raises(ZeroDivisionError):
        async with home.opening():
            _ = 1 / 0

    async def use():
        async with home.opening() as first:
            assert first
        home.check()
        async with home.closing():
            pass

    await asyncio.to_thread(elsewhere, use())
    assert not home.is_open


async def test_while_one_loop_opens_it_another_may_not():
    home = Home("toy")

    async def use():
        with pytest.raises(BackendUnavailable, match=LOOP):
            async with home.opening():
                pass

    async with home.opening() as first:
        assert first
        await asyncio.to_thread(elsewhere, use())
    home.check()


def test_without_any_loop_it_is_refused():
    home = Home("toy")

    async def begin():
        async with home.opening():
            pass

    asyncio.run(begin())
    with pytest.raises(BackendUnavailable, match=LOOP):
        home.check()
