"""Bodies in MongoDB: what a crash leaves is swept, what is in use is spared, what is damaged is told."""

import asyncio
import os
from datetime import timedelta

import pytest
from pymongo import AsyncMongoClient
from pymongo.errors import OperationFailure
from pymongo.monitoring import CommandListener

from flowpersist.backends._mongodb import bodies, watching
from flowpersist.backends._mongodb.documents import identity, moment_text
from flowpersist.backends.base import RecordChange, RecordRef, Where
from flowpersist.backends.mongodb import MongodbBackend
from flowpersist.backends.registry import backend_from_url
from flowpersist.errors import IntegrityError, RevisionConflict

BODY = os.urandom(100_000)
#: In place of a larger one.
CHUNK_BYTES = 1024 * 1024
LARGE = os.urandom(3 * CHUNK_BYTES + 7)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(bodies, "CHUNK_BYTES", CHUNK_BYTES)


def a(key="a"):
    return RecordRef("n", key)


def change(**parts):
    return RecordChange(os.urandom(8).hex(), **parts)


@pytest.fixture
async def database(server):
    async with AsyncMongoClient(server("mongodb")) as client:
        yield client.get_default_database()


@pytest.fixture
def make_backend(server, prefix):
    return lambda: backend_from_url(f"{server('mongodb')}?prefix={prefix}")


@pytest.fixture
async def backend(make_backend):
    backend = make_backend()
    await backend.open([])
    yield backend
    await backend.close()


@pytest.fixture
def chunks(database, prefix):
    return database[f"{prefix}_bodies"]


@pytest.fixture
def records(database, prefix):
    return database[f"{prefix}_records"]


async def soon(count, wanted):
    """What goes on beside the work has come to its end."""
    for _ in range(200):
        if (found := await count()) == wanted:
            return
        await asyncio.sleep(0.01)
    assert found == wanted


async def orphan(backend, chunks, age, record="nobody"):
    """A body whose writer died before its record was written."""
    name = moment_text((await backend.ping()).now - age) + os.urandom(8).hex()
    await chunks.insert_many([{"_id": f"{name}.{number:05}", "r": record, "b": b"x"} for number in range(2)])
    return name


async def test_small_bodies_lie_inside_and_large_ones_in_chunks(backend, records, chunks):
    await backend.put(a("small"), change(body=bytes(bodies.INLINE_BYTES)), if_revision=0)
    assert await chunks.count_documents({}) == 0
    await backend.put(a("one"), change(body=bytes(bodies.INLINE_BYTES + 1)), if_revision=0)
    assert await chunks.count_documents({}) == 1
    await backend.put(a("large"), change(body=LARGE), if_revision=0)
    assert await chunks.count_documents({}) == 5
    assert (await backend.get(a("large"))).record.body == LARGE
    assert "i" not in await records.find_one({"_id": identity(a("large"))})


async def test_a_body_whose_chunks_are_of_another_size(backend, monkeypatch):
    """Another release may cut it otherwise."""
    for size in (50_000, len(LARGE)):
        with monkeypatch.context() as other:
            other.setattr(bodies, "CHUNK_BYTES", size)
            await backend.put(a(str(size)), change(body=LARGE), if_revision=0)
        assert (await backend.get(a(str(size)))).record.body == LARGE


async def test_what_no_record_names_any_more_goes(backend, chunks):
    """Replaced, dropped, deleted, purged, and the bodies of those who lost."""
    revision = 0
    for body in (BODY, LARGE, BODY, b"small", LARGE, None, BODY):
        revision = (await backend.put(a(), change(body=body), if_revision=revision)).revision
    await soon(lambda: chunks.count_documents({}), 1)
    for wrong in (0, revision + 1):
        for body in (BODY, LARGE):
            with pytest.raises(RevisionConflict):
                await backend.put(a(), change(body=body), if_revision=wrong)
    await soon(lambda: chunks.count_documents({}), 1)
    await backend.delete(a(), if_revision=revision)
    await backend.put(a("b"), change(body=LARGE), if_revision=0)
    assert await backend.purge("n", Where(), limit=5) == 1
    await soon(lambda: chunks.count_documents({}), 0)


async def test_orphans_are_swept_after_their_grace(make_backend, backend, chunks):
    await backend.put(a(), change(body=LARGE), if_revision=0)
    old = await orphan(backend, chunks, bodies.GRACE + timedelta(seconds=5), identity(a()))
    young = await orphan(backend, chunks, bodies.GRACE - timedelta(minutes=5))
    await backend.purge("nothing", Where(), limit=1)
    assert await chunks.count_documents({"_id": {"$regex": f"^{old}"}}) == 2, "swept a minute ago, when it was opened"
    backend.clock_offset += timedelta(minutes=2)
    await backend.purge("nothing", Where(), limit=1)
    assert await chunks.count_documents({"_id": {"$regex": f"^{old}."}}) == 0
    assert await chunks.count_documents({"_id": old}) == 1, "its tombstone stays"
    assert await chunks.count_documents({"_id": {"$regex": f"^{young}"}}) == 2
    # At any age, what a record names is spared. Another process's opening sweeps as well.
    other = make_backend()
    other.clock_offset += timedelta(days=2)
    await other.open([])
    assert await chunks.count_documents({"_id": {"$regex": f"^{young}."}}) == 0
    assert (await other.get(a())).record.body == LARGE
    other.clock_offset += timedelta(days=40)
    await other.purge("nothing", Where(), limit=1)
    assert await chunks.count_documents({}) == 4, "tombstones are kept for a month"
    await other.close()


async def test_all_bodies_have_their_turn(backend, chunks, monkeypatch):
    monkeypatch.setattr(bodies, "BATCH", 3)
    for number in range(4):
        await backend.put(a(f"k{number}"), change(body=BODY), if_revision=0)
    for _ in range(3):
        await orphan(backend, chunks, timedelta(0))
    backend.clock_offset += timedelta(hours=2)
    for _ in range(6):
        backend.clock_offset += timedelta(minutes=2)
        await backend.purge("nothing", Where(), limit=1)
    assert await chunks.count_documents({"r": "nobody"}) == 0
    assert await chunks.count_documents({"b": {"$exists": True}}) == 4


@pytest.mark.parametrize("body", [BODY, LARGE])
@pytest.mark.parametrize("if_new", [True, False])
@pytest.mark.parametrize("noticed", [True, False])
async def test_a_writer_that_was_stopped_for_longer_than_the_grace(
    make_backend, backend, chunks, monkeypatch, body, if_new, noticed
):
    """Its body was swept between its upload and its commit: it finds the tombstone, and puts the body up again. Where
    its clocks tell that it was stopped, the body is there before anybody hears of the record.
    """
    if noticed:
        monkeypatch.setattr(bodies, "PROMPT", 0)
    revision = 0 if if_new else (await backend.put(a(), change(body=b"old"), if_revision=0)).revision
    upload, stopped = bodies.upload, []

    async def then_swept(store, stored, record, data):
        await upload(store, stored, record, data)
        if not stopped:
            stopped.append(stored)
            await bodies.sweep(store, (await backend.ping()).now + timedelta(hours=3))
            assert await chunks.count_documents({"r": record}) == 0, "it was to be swept"

    monkeypatch.setattr("flowpersist.backends._mongodb.records.upload", then_swept)
    await backend.put(a(), change(body=body), if_revision=revision)
    assert stopped
    if noticed:
        assert (await backend.get(a())).record.body == body
    # It waits for what goes on.
    await backend.close()
    again = make_backend()
    await again.open([])
    assert (await again.get(a())).record.body == body
    await again.close()


class Commands(CommandListener):
    """The names of the commands that were sent."""

    def __init__(self):
        self.names = []

    def started(self, event):
        self.names.append(event.command_name)

    def succeeded(self, event):
        pass

    def failed(self, event):
        pass


async def test_a_record_comes_with_its_body_in_one_round_trip(server, prefix):
    commands = Commands()
    async with AsyncMongoClient(server("mongodb"), event_listeners=[commands]) as client:
        backend = MongodbBackend(client, prefix=prefix)
        await backend.open([])
        for key, body in {"none": None, "small": b"x", "one": BODY, "large": LARGE}.items():
            await backend.put(a(key), change(body=body), if_revision=0)
            # Nothing goes on beside it.
            await backend._underway.drained()
            commands.names.clear()
            assert (await backend.get(a(key))).record.body == body
            assert commands.names == ["aggregate", *(["find"] * 3 if key == "large" else [])]
        await backend.close()


async def test_bodies_are_looked_at_together(server, prefix, monkeypatch):
    """Unless too many bytes are kept for it."""
    commands = Commands()
    # On a busy machine the puts may take longer than it waits for more bodies; close ends the wait.
    monkeypatch.setattr(watching, "PAUSE", 60)
    async with AsyncMongoClient(server("mongodb"), event_listeners=[commands]) as client:
        for most, looks in ((watching.MOST_BYTES, 1), (0, 4)):
            monkeypatch.setattr(watching, "MOST_BYTES", most)
            backend = MongodbBackend(client, prefix=prefix)
            await backend.open([])
            commands.names.clear()
            for number in range(4):
                await backend.put(a(f"{most}-{number}"), change(body=BODY), if_revision=0)
            await backend.close()
            assert commands.names.count("find") == looks


async def test_a_server_that_looks_nothing_up(backend, monkeypatch):
    """As FerretDB, and MongoDB before 5.1 where the bodies are sharded."""
    await backend.put(a(), change(body=LARGE), if_revision=0)
    asked = []

    async def refused(*_, **__):
        asked.append(1)
        raise OperationFailure("not implemented", 238)

    monkeypatch.setattr(type(backend._opened.context.store.records), "aggregate", refused)
    for _ in range(2):
        assert (await backend.get(a())).record.body == LARGE
    assert asked == [1], "it is asked once"


@pytest.mark.parametrize("damage", [{"$unset": {"b": ""}}, {"$set": {"b": b"short"}}, {"$set": {"b": "text"}}, None])
async def test_a_body_that_is_damaged(backend, chunks, damage):
    await backend.put(a(), change(body=LARGE), if_revision=0)
    if damage is None:
        await chunks.delete_one({"_id": {"$regex": "00001$"}})
    else:
        await chunks.update_one({"_id": {"$regex": "00001$"}}, damage)
    with pytest.raises(IntegrityError, match="body"):
        await backend.get(a())
    assert (await backend.get(a(), body=False)).record.body_size == len(LARGE)


@pytest.mark.parametrize(
    "damage",
    [
        {"v": "x"},
        {"w": 1},
        {"c": "yesterday"},
        {"a": ["x"]},
        {"h": "text"},
        {"d": 5},
        {"s": "many"},
        {"a": 1},
        {"s": 3, "x": 5, "m": "y"},
    ],
)
async def test_a_record_that_is_damaged(backend, records, damage):
    await backend.put(a(), change(), if_revision=0)
    await records.update_one({}, {"$set": damage})
    with pytest.raises(IntegrityError):
        await backend.get(a())


async def test_a_write_that_the_driver_sends_twice(backend, records, monkeypatch):
    """After a failover it may. A server that carries it out twice says that the second did not match."""
    revision = (await backend.put(a(), change(), if_revision=0)).revision
    context = backend._opened.context
    twice = type(context.store.records).update_one

    async def sent_twice(collection, *arguments, **options):
        await twice(collection, *arguments, **options)
        return await twice(collection, *arguments, **options)

    monkeypatch.setattr(type(context.store.records), "update_one", sent_twice)
    mine = change(head=b"mine")
    written = await backend.put(a(), mine, if_revision=revision)
    monkeypatch.undo()
    record = (await backend.get(a())).record
    assert (record.revision, record.write_id) == (written.revision, mine.write_id)
    with pytest.raises(RevisionConflict):
        await backend.put(a(), mine, if_revision=revision)


async def test_a_body_of_a_write_that_was_sent_twice_is_spared_while_it_is_named(backend, chunks, monkeypatch):
    """Between the two somebody changes the record and keeps its body."""
    revision = (await backend.put(a(), change(), if_revision=0)).revision
    kind = type(backend._opened.context.store.records)
    once = kind.find_one_and_update

    async def sent_twice(collection, *arguments, **options):
        monkeypatch.undo()
        await once(collection, *arguments, **options)
        await backend.put(a(), change(head=b"theirs"), if_revision=revision + 1)
        return await once(collection, *arguments, **options)

    monkeypatch.setattr(kind, "find_one_and_update", sent_twice)
    with pytest.raises(RevisionConflict):
        await backend.put(a(), change(body=BODY), if_revision=revision)
    await backend.close()
    assert await chunks.count_documents({}) == 1


async def test_lives_of_one_reference_never_share_a_revision(make_backend, backend):
    """By several backends that make and delete it as they can."""
    others = [backend, make_backend(), make_backend()]
    for other in others[1:]:
        await other.open([])
    seen = []

    async def live(one):
        for _ in range(30):
            try:
                revision = (await one.put(a(), change(), if_revision=0)).revision
                seen.append(revision)
                seen.append((await one.put(a(), change(), if_revision=revision)).revision)
                await one.delete(a(), if_revision=revision + 1)
            except RevisionConflict:
                await asyncio.sleep(0)

    await asyncio.gather(*(live(one) for one in others for _ in range(4)))
    assert len(seen) == len(set(seen)) > 10
    for other in others[1:]:
        await other.close()
