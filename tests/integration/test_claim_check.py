"""Large bodies apart: what is told of them, what becomes of their blobs, and that no crash or race loses one."""

import asyncio
import os
import random
import time
from datetime import timedelta

import pytest

from flowpersist import ConfigurationError, Maintenance, RaisingHub, or_raise
from flowpersist.backends._claim_check.claims import CLAIM_BYTES, Claim
from flowpersist.backends._claim_check.own import drawn_identity
from flowpersist.backends.base import KEEP, BodyLimited, Capability, NamespaceSchema, RecordRef, Where
from flowpersist.backends.blob_files import FileBlobStore
from flowpersist.backends.claim_check import DEFAULT_FROM_BYTES, ClaimCheckBackend
from flowpersist.backends.memory import MemoryBackend
from flowpersist.backends.sqlite import SqliteBackend
from flowpersist.errors import (
    BackendUnavailable,
    DeadlinePassed,
    IntegrityError,
    RevisionConflict,
    StorageError,
    UnknownOutcome,
)
from flowpersist.settings import Settings
from flowpersist.testing import open_test_hub, travel
from flowpersist.testing.faults import FaultyBackend
from flowpersist.testing.suite.ground import NAMESPACE, SCHEMA, change, later, make, ref, stored

BODY = b"0123456789" * 500
OTHER = b"9876543210" * 400
DAY = timedelta(days=1)


class Gate(FileBlobStore):
    """Blobs whose next writes wait, before or after the write, or move the store's clock meanwhile."""

    def __init__(self, directory):
        super().__init__(directory)
        self.meanwhile = None

    async def put(self, name, data):
        await super().put(name, data)
        if self.meanwhile is not None:
            await self.meanwhile()


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "blobs"


@pytest.fixture
def inner(tmp_path):
    return SqliteBackend(tmp_path / "store.db")


@pytest.fixture
def gate(directory):
    return Gate(directory)


@pytest.fixture
async def backend(inner, gate):
    backend = ClaimCheckBackend(inner, gate, from_bytes=1000)
    await backend.open(SCHEMA)
    yield backend
    await backend.close()


@pytest.fixture
def files(directory):
    """The files of the blob store."""
    return lambda: [path for path in directory.rglob("*") if path.is_file()]


def aged(paths, by=2 * DAY):
    for path in paths:
        os.utime(path, (time.time() - by.total_seconds(),) * 2)


async def test_sizes_are_those_of_the_bodies(backend, inner):
    await make(backend, "large", body=BODY)
    await make(backend, "small", body=b"x" * 1000)
    await make(backend, "none")
    page = await backend.query(NAMESPACE, Where(), limit=10)
    assert {one.ref.key: one.body_size for one in page.items} == {"large": 5000, "small": 1000, "none": None}
    fresh = ClaimCheckBackend(inner, backend.blobs, from_bytes=1000)
    await fresh.open(SCHEMA)
    assert (await fresh.get(ref("large"), body=False)).record.body_size == 5000
    assert (await inner.get(ref("large"), body=False)).record.body_size == CLAIM_BYTES
    assert (await inner.get(ref("small"))).record.body == b"x" * 1000


async def test_a_blob_stays_as_long_as_its_record_names_it(backend, files):
    revision = (await make(backend, "a", body=BODY, head=b"h")).revision
    (kept,) = files()
    revision = (await backend.put(ref("a"), change(head=b"new", body=KEEP), if_revision=revision)).revision
    assert files() == [kept]
    revision = (await backend.put(ref("a"), change(body=OTHER), if_revision=revision)).revision
    (replaced,) = files()
    assert (replaced != kept, (await stored(backend, "a")).body == OTHER) == (True, True)
    revision = (await backend.put(ref("a"), change(body=b"small"), if_revision=revision)).revision
    assert files() == []
    revision = (await backend.put(ref("a"), change(body=OTHER), if_revision=revision)).revision
    revision = (await backend.put(ref("a"), change(body=None), if_revision=revision)).revision
    assert files() == []
    assert (await stored(backend, "a")).body_size is None


async def test_delete_and_purge_remove_blobs(backend, inner, files):
    await make(backend, "a", body=BODY)
    for number in range(5):
        await make(backend, f"k{number}", body=BODY, attributes={"status": "old"})
    await make(backend, "plain", body=b"x", attributes={"status": "old"})
    fresh = ClaimCheckBackend(inner, backend.blobs, from_bytes=1000)
    await fresh.open(SCHEMA)
    assert await fresh.delete(ref("a"), if_revision=(await stored(backend, "a")).revision) is True
    assert len(files()) == 5
    assert await fresh.purge(NAMESPACE, Where({"status": "old"}), limit=2) == 2
    assert len(files()) == 3
    assert await fresh.purge(NAMESPACE, Where({"status": "old"}), limit=100) == 4
    assert files() == []


async def test_losers_leave_no_blob(backend, files):
    async def attempt(number, revision):
        try:
            return await backend.put(ref("a"), change(body=b"%d" % number * 2000), if_revision=revision)
        except RevisionConflict:
            return None

    revision = 0
    for _ in range(5):
        won = [one for one in await asyncio.gather(*(attempt(n, revision) for n in range(8))) if one is not None]
        assert len(won) == 1
        assert len(files()) == 1
        revision = won[0].revision
    assert (await stored(backend, "a")).body_size == 2000


async def test_a_body_of_a_claim_s_length_is_none(backend, inner, files):
    await make(backend, "victim", body=BODY)
    forged = (await inner.get(ref("victim"))).record.body
    assert len(forged) == CLAIM_BYTES
    await make(backend, "thief", body=forged)
    assert (await stored(backend, "thief")).body == forged
    assert (await backend.query(NAMESPACE, Where(), limit=1)).items[0].body_size == CLAIM_BYTES
    assert len(files()) == 2
    # What was there before the claim-check came.
    await inner.put(ref("before"), change(body=b"x" * CLAIM_BYTES), if_revision=0)
    record = await stored(backend, "before")
    assert (record.body, record.body_size) == (b"x" * CLAIM_BYTES, CLAIM_BYTES)
    assert (await backend.get(ref("before"), body=False)).record.body_size == CLAIM_BYTES


async def test_a_claim_of_another_namespace_opens_nothing(backend, inner):
    await make(backend, "victim", body=BODY)
    claim = (await inner.get(ref("victim"))).record.body
    other = RecordRef("conformance.other", "thief")
    await inner.put(other, change(body=claim), if_revision=0)
    with pytest.raises(IntegrityError):
        await backend.get(other)


async def test_a_missing_or_damaged_blob_is_an_integrity_error(backend, files):
    revision = (await make(backend, "a", body=BODY)).revision
    (path,) = files()
    for damaged in (BODY[:-1], BODY + b"x", b"1" + BODY[1:], b"", None):
        path.unlink()
        if damaged is not None:
            path.write_bytes(damaged)
        with pytest.raises(IntegrityError, match="body of record a"):
            await backend.get(ref("a"))
    assert (await backend.get(ref("a"), body=False)).record.body_size == 5000
    await backend.put(ref("a"), change(body=OTHER), if_revision=revision)
    assert (await stored(backend, "a")).body == OTHER


async def test_a_reader_whose_blob_goes_meanwhile_reads_again(backend):
    revision = (await make(backend, "a", body=BODY)).revision
    reading = True

    async def read():
        while reading:
            record = await stored(backend, "a")
            assert record.body == record.head * 2000 or record.body == BODY

    readers = [asyncio.ensure_future(read()) for _ in range(3)]
    for number in range(20):
        mark = b"%d" % (number % 10)
        revision = (await backend.put(ref("a"), change(head=mark, body=mark * 2000), if_revision=revision)).revision
    reading = False
    await asyncio.gather(*readers)


async def test_a_lost_acknowledgement_loses_no_blob(tmp_path, gate, files):
    faulty = FaultyBackend(SqliteBackend(tmp_path / "store.db"))
    backend = ClaimCheckBackend(faulty, gate, from_bytes=1000)
    await backend.open(SCHEMA)
    # The store's own name is drawn by a put of its own, before the first body.
    await drawn_identity(faulty, os.urandom)
    mine = change(body=BODY)
    faulty.lose("put")
    with pytest.raises(UnknownOutcome):
        await backend.put(ref("a"), mine, if_revision=0)
    with pytest.raises(RevisionConflict):
        await backend.put(ref("a"), mine, if_revision=0)
    record = await stored(backend, "a")
    assert (record.write_id, record.body) == (mine.write_id, BODY)
    assert len(files()) == 1
    # A driver that tries again by itself may be refused by its own first try.
    faulty.fail("put", RevisionConflict("not at this revision", "sqlite"))
    with pytest.raises(RevisionConflict):
        await backend.put(ref("a"), change(body=OTHER), if_revision=record.revision)
    assert len(files()) == 1

    async def first_try_was_done():
        claim = Claim.of(max(files(), key=os.path.getmtime).name, OTHER)
        await faulty.inner.put(ref("a"), change(body=claim.written()), if_revision=record.revision)

    gate.meanwhile = first_try_was_done
    with pytest.raises(RevisionConflict):
        await backend.put(ref("a"), change(body=OTHER), if_revision=record.revision)
    assert (await stored(backend, "a")).body == OTHER
    await backend.close()


async def test_a_cancelled_put_leaves_the_old_body_or_the_new(backend, files):
    revision = (await make(backend, "a", body=BODY)).revision
    chance = random.Random(1)
    for number in range(40):
        body = b"%d" % (number % 10) * 3000
        put = asyncio.ensure_future(backend.put(ref("a"), change(body=body), if_revision=revision))
        await asyncio.sleep(chance.random() * 0.006)
        put.cancel()
        await asyncio.gather(put, return_exceptions=True)
        # A write that was cut off from its caller may still be done.
        await asyncio.sleep(0.005)
        record = await stored(backend, "a")
        assert record.body is not None
        revision = record.revision
    aged(files())
    backend.clock_offset += later(61)
    await backend.sweep()
    assert len(files()) == 1
    assert (await stored(backend, "a")).body == record.body


async def test_what_a_crash_has_left_is_swept_after_the_grace(backend, tmp_path, directory, files):
    await make(backend, "a", body=BODY)
    await make(backend, "b", body=OTHER)
    named = set(files())
    place = next(iter(named)).parent
    for name in ("c" * 32, "d" * 32 + ".new"):
        (place / name).write_bytes(b"left behind")
    other = ClaimCheckBackend(MemoryBackend(), FileBlobStore(directory), from_bytes=10)
    await other.open(SCHEMA)
    await make(other, "of another store", body=BODY)
    undeclared = RecordRef("undeclared", "a")
    await backend.put(undeclared, change(body=BODY), if_revision=0)
    backend.clock_offset += later(61)
    assert await backend.sweep() == 0
    aged(files())
    (place / ("e" * 32)).write_bytes(b"young")
    assert await backend.sweep() == 0, "once an hour is enough"
    backend.clock_offset += later(61)
    assert await backend.sweep() == 2
    assert {path.name for path in files() if path.parent == place} == {*(path.name for path in named), "e" * 32}
    assert (await stored(other, "of another store")).body == BODY
    assert (await backend.get(undeclared)).record.body == BODY
    await other.close()


async def test_of_many_processes_one_sweeps(tmp_path, directory, files):
    backends = [ClaimCheckBackend(SqliteBackend(tmp_path / "s.db"), FileBlobStore(directory)) for _ in range(4)]
    await asyncio.gather(*(backend.open(SCHEMA) for backend in backends))
    for backend in backends:
        backend.clock_offset += later(61)
    await make(backends[0], "a", body=b"x" * CLAIM_BYTES)
    (kept,) = files()
    orphan = kept.with_name("f" * 32)
    orphan.write_bytes(b"")
    aged([orphan, kept])
    assert sorted(await asyncio.gather(*(backend.sweep() for backend in backends))) == [0, 0, 0, 1]
    assert files() == [kept]
    for backend in backends:
        await backend.close()


async def test_each_namespace_is_swept_by_those_who_use_it(backend, inner, files):
    await make(backend, "a", body=BODY)
    undeclared = RecordRef("undeclared", "a")
    await backend.put(undeclared, change(body=BODY), if_revision=0)
    places = {path.parent for path in files()}
    assert len(places) == 2
    for place in places:
        (place / ("c" * 32)).write_bytes(b"left behind")
    aged(files())
    fresh = ClaimCheckBackend(inner, backend.blobs, from_bytes=1000)
    await fresh.open(SCHEMA)
    # It knows of one of them, and leaves the other's turn to who knows it.
    assert await fresh.sweep() == 1
    assert await backend.sweep() == 1
    assert len(files()) == 2
    assert (await backend.get(undeclared)).record.body == BODY


async def test_a_record_that_can_not_be_read_stops_no_sweep(directory, files):
    inner = MemoryBackend()
    backend = ClaimCheckBackend(inner, FileBlobStore(directory), from_bytes=1000)
    await backend.open(SCHEMA)
    backend.clock_offset = -2 * DAY
    await make(backend, "broken", body=BODY)
    (broken,) = files()
    whole = inner.get

    async def damaged(ref, *, body=True):
        if body and ref.key == "broken":
            raise IntegrityError("the body is missing")
        return await whole(ref, body=body)

    inner.get = damaged
    for number in range(3):
        (broken.parent / (str(number) * 32)).write_bytes(b"left behind")
    aged([path for path in files() if path != broken], by=10 * DAY)
    aged([broken])
    fresh = ClaimCheckBackend(inner, backend.blobs, from_bytes=1000)
    await fresh.open(SCHEMA)
    fresh.clock_offset = timedelta(0)
    assert await fresh.sweep() == 3
    # It may be what the record names.
    assert files() == [broken]
    await fresh.close()


async def test_closing_after_a_fork_waits_for_nothing(tmp_path, gate):
    backend = ClaimCheckBackend(SqliteBackend(tmp_path / "s.db"), gate, from_bytes=1000)
    await backend.open(SCHEMA)
    ended, child = asyncio.Event(), 0

    async def fork():
        nonlocal child
        child = os.fork()
        if child == 0:
            code = 1
            try:
                asyncio.run(asyncio.wait_for(backend.close(), 5))
                code = 0
            finally:
                os._exit(code)
        ended.set()

    gate.meanwhile = fork
    await make(backend, "a", body=BODY)
    assert ended.is_set()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert (await stored(backend, "a")).body == BODY
    await backend.close()


async def test_a_record_that_changes_while_it_is_swept_keeps_its_blob(backend, inner, files):
    revision = (await make(backend, "a", body=BODY)).revision
    fresh = ClaimCheckBackend(inner, backend.blobs, from_bytes=1000)
    await fresh.open(SCHEMA)
    aged(files())
    fresh.clock_offset += later(61)
    sweeping = asyncio.ensure_future(fresh.sweep())
    while not sweeping.done():
        revision = (await backend.put(ref("a"), change(), if_revision=revision)).revision
    assert await sweeping == 0
    assert (await stored(fresh, "a")).body == BODY


async def test_a_put_that_a_sweeper_could_have_overtaken_is_refused(backend, gate, files):
    async def hours_pass():
        backend.clock_offset += DAY

    revision = (await make(backend, "a", body=BODY)).revision
    gate.meanwhile = hours_pass
    with pytest.raises(BackendUnavailable, match="took too long") as refused:
        await backend.put(ref("a"), change(body=OTHER), if_revision=revision)
    assert refused.value.retryable
    assert len(files()) == 1
    now = (await backend.ping()).now
    with pytest.raises(DeadlinePassed):
        await backend.put(ref("a"), change(body=OTHER), if_revision=revision, not_after=now + later(5))
    assert len(files()) == 1
    gate.meanwhile = None
    assert (await stored(backend, "a")).body == BODY
    now = (await backend.ping()).now
    with pytest.raises(DeadlinePassed):
        await backend.put(ref("a"), change(body=OTHER), if_revision=revision, not_after=now - later(1))


async def test_closing_waits_for_an_upload(tmp_path, gate):
    backend = ClaimCheckBackend(SqliteBackend(tmp_path / "store.db"), gate, from_bytes=1000)
    await backend.open(SCHEMA)
    started, go_on = asyncio.Event(), asyncio.Event()

    async def wait():
        started.set()
        await go_on.wait()

    gate.meanwhile = wait
    put = asyncio.ensure_future(make(backend, "a", body=BODY))
    await started.wait()
    closing = asyncio.ensure_future(backend.close())
    await asyncio.sleep(0.02)
    with pytest.raises(BackendUnavailable):
        await backend.get(ref("a"))
    assert not closing.done()
    go_on.set()
    await asyncio.gather(put, closing)
    await backend.open(SCHEMA)
    assert (await stored(backend, "a")).body == BODY
    await backend.close()


async def test_a_blob_store_that_can_not_be_opened_leaves_nothing_open(tmp_path):
    (tmp_path / "blobs").write_text("")
    inner = MemoryBackend()
    backend = ClaimCheckBackend(inner, FileBlobStore(tmp_path / "blobs"))
    with pytest.raises(BackendUnavailable):
        await backend.open(SCHEMA)
    with pytest.raises(BackendUnavailable):
        await inner.ping()


async def test_a_process_without_the_blob_store_spoils_nothing(backend, inner, files):
    revision = (await make(backend, "a", body=BODY, attributes={"status": "x"})).revision
    await inner.put(ref("a"), change(attributes={"status": "y"}, head=b"new"), if_revision=revision)
    record = await stored(backend, "a")
    assert (record.body, record.head, record.attributes) == (BODY, b"new", {"status": "y"})
    assert len(files()) == 1


async def test_a_page_is_read_without_lookups_where_claims_are_known(tmp_path, gate):
    faulty = FaultyBackend(SqliteBackend(tmp_path / "store.db"))
    backend = ClaimCheckBackend(faulty, gate, from_bytes=1000)
    await backend.open(SCHEMA)
    for number in range(4):
        await make(backend, f"k{number}", body=BODY)
        await stored(backend, f"k{number}")
    before = faulty.calls["get"]
    await backend.query(NAMESPACE, Where(), limit=10)
    await backend.get(ref("k1"), body=False)
    assert faulty.calls["get"] == before + 1
    # The hub's way to change a record: read, then put. Nothing is asked for in between.
    read = await backend.get(ref("k2"), body=False)
    before = faulty.calls["get"]
    await backend.put(ref("k2"), change(body=b"small"), if_revision=read.record.revision)
    assert faulty.calls["get"] == before
    await backend.close()


async def test_no_name_of_ours_is_in_a_blob_s_name(backend, files, directory):
    await make(backend, "canary", body=BODY)
    (path,) = files()
    assert all(len(part) == 32 for part in path.relative_to(directory).parts)
    assert "canary" not in str(path)
    assert NAMESPACE not in str(path)


class Narrow(MemoryBackend):
    """Memory that takes small bodies only, as some servers do."""

    capabilities = frozenset({Capability.BODY_LIMIT, Capability.TRANSACTIONS, Capability.DURABLE})
    largest_body = 2000


def test_a_limit_of_the_inner_backend_is_the_threshold(directory):
    narrow = ClaimCheckBackend(Narrow(), FileBlobStore(directory))
    assert narrow.from_bytes == 2000
    assert narrow.capabilities == {Capability.DURABLE}
    assert not isinstance(narrow, BodyLimited)
    assert ClaimCheckBackend(Narrow(), FileBlobStore(directory), from_bytes=50).from_bytes == 50
    assert ClaimCheckBackend(MemoryBackend(), FileBlobStore(directory)).from_bytes == DEFAULT_FROM_BYTES


async def test_what_the_inner_backend_has_no_power_for_is_refused(directory):
    backend = ClaimCheckBackend(Narrow(), FileBlobStore(directory))
    with pytest.raises(StorageError, match="ask again"):
        backend.changes("n")


@pytest.mark.parametrize("wrong", [{"from_bytes": -1}, {"grace": timedelta(0)}])
def test_senseless_arguments(directory, wrong):
    with pytest.raises(ValueError, match="from_bytes"):
        ClaimCheckBackend(MemoryBackend(), FileBlobStore(directory), **wrong)


STATE = {"log": [os.urandom(100).hex() for _ in range(100)]}


async def test_a_hub_keeps_large_states_apart(tmp_path, directory, files):
    url = f"sqlite:///{tmp_path}/flows.db"
    async with open_test_hub(url, blobs=f"file:{directory}", blobs_from=2000, keyring=None) as hub:
        large = or_raise(await hub.suspend(STATE))
        small = or_raise(await hub.suspend({"n": 1}))
        assert len(files()) == 1
        assert or_raise(await hub.resume(large.key)).state == STATE
        assert or_raise(await hub.resume(small.key)).state == {"n": 1}
        again = or_raise(await hub.suspend(STATE))
        or_raise(await hub.cancel(again.key))
        left = files()[0].with_name("0" * 32)
        left.write_bytes(b"")
        aged([left])
        travel(hub, timedelta(days=8))
        assert or_raise(await Maintenance(hub).cleanup(dry_run=True)).deleted == 2 + 1
        assert left.exists()
        or_raise(await Maintenance(hub).cleanup())
        assert files() == []


async def test_settings_name_the_blob_store(tmp_path, directory, files):
    url = f"sqlite:///{tmp_path}/flows.db"
    variables = {"FLOWPERSIST_BLOBS_URL": f"file:{directory}", "FLOWPERSIST_BLOBS_FROM": "1KiB"}
    settings = Settings.from_environ(variables)
    assert str(directory) not in repr(settings)
    async with RaisingHub.open(url, keyring=None, settings=settings) as hub:
        kept = await hub.suspend(STATE)
        assert len(files()) == 1
        assert isinstance(hub.hub.backend, ClaimCheckBackend)
    async with RaisingHub.open(url, keyring=None, settings=settings, blobs=None) as hub:
        assert isinstance(hub.hub.backend, SqliteBackend)
        with pytest.raises(IntegrityError):
            await hub.resume(kept.key)
    store = FileBlobStore(directory)
    async with RaisingHub.open(url, keyring=None, settings=Settings.from_environ({}), blobs=store) as hub:
        assert (await hub.resume(kept.key)).state == STATE
    with pytest.raises(ConfigurationError) as refused:
        async with RaisingHub.open(url, keyring=None, blobs="ftp://x"):
            pass
    assert refused.value.setting == "FLOWPERSIST_BLOBS_URL"


async def test_sweeping_that_fails_does_not_undo_a_cleanup(tmp_path, directory, caplog):
    url = f"sqlite:///{tmp_path}/flows.db"
    # A trail that is kept would be a large body too.
    options = {"blobs": f"file:{directory}", "blobs_from": 10, "audit_retention": timedelta(0)}
    async with open_test_hub(url, **options, keyring=None) as hub:
        done = or_raise(await hub.suspend(STATE))
        or_raise(await hub.cancel(done.key))
        travel(hub, timedelta(days=8))
        for path in sorted(directory.rglob("*"), reverse=True):
            path.unlink() if path.is_file() else path.rmdir()
        directory.rmdir()
        assert or_raise(await Maintenance(hub).cleanup()).deleted == 1
    assert "could not be removed yet" in caplog.text


async def test_a_schema_needs_no_namespace_of_a_blob_store(backend):
    await backend.open([NamespaceSchema("more")])
    await backend.put(RecordRef("more", "a"), change(body=BODY), if_revision=0)
    assert (await backend.get(RecordRef("more", "a"))).record.body == BODY


class Late(Narrow):
    """A backend that knows what its server can do only when it is open."""

    capabilities = frozenset({Capability.BODY_LIMIT})

    async def open(self, schema):
        await super().open(schema)
        self.capabilities |= {Capability.DURABLE, Capability.TRANSACTIONS, Capability.NOTIFICATIONS}


async def test_powers_that_show_when_the_inner_backend_is_open(directory):
    backend = ClaimCheckBackend(Late(), FileBlobStore(directory))
    assert backend.capabilities == frozenset()
    await backend.open(SCHEMA)
    assert backend.capabilities == {Capability.DURABLE, Capability.NOTIFICATIONS}
    async with backend.changes(NAMESPACE):
        pass
    await backend.close()


@pytest.mark.parametrize("repair", ["delete", "purge", "put"])
async def test_a_record_that_lost_its_claim_can_be_removed_and_replaced(directory, repair):
    """The inner backend may keep 64 bytes apart from their record, too, and lose them."""
    inner = MemoryBackend()
    backend = ClaimCheckBackend(inner, FileBlobStore(directory), from_bytes=1000)
    await backend.open(SCHEMA)
    revision = (await make(backend, "a", body=BODY)).revision
    whole = inner.get

    async def damaged(ref, *, body=True):
        read = await whole(ref, body=body)
        if body and read.record is not None and read.record.body_size == CLAIM_BYTES:
            raise IntegrityError("the body is missing")
        return read

    inner.get = damaged
    backend = ClaimCheckBackend(inner, FileBlobStore(directory), from_bytes=1000)
    await backend.open(SCHEMA)
    with pytest.raises(IntegrityError):
        await backend.get(ref("a"))
    if repair == "delete":
        assert await backend.delete(ref("a"), if_revision=revision)
    elif repair == "purge":
        assert await backend.purge(NAMESPACE, Where(), limit=5) == 1
    else:
        await backend.put(ref("a"), change(body=b"new"), if_revision=revision)
        assert (await backend.get(ref("a"))).record.body == b"new"
    await backend.close()
