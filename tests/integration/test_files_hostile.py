"""What somebody has put in place of the files of a store: pipes, links, sockets, devices, directories, enormous files.
Nothing waits or is read without end, nothing is made or read outside of the store, and one record's damage is its own.
"""

import asyncio
import json
import os
import resource
import shutil
import socket
import sqlite3
import struct
import zlib
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from flowpersist.backends._filesystem import index_log
from flowpersist.backends._filesystem.record_file import digest_of
from flowpersist.backends._wal import files_of
from flowpersist.backends.base import NamespaceSchema, RecordChange, RecordRef, Where
from flowpersist.backends.blob_files import FileBlobStore
from flowpersist.backends.claim_check import ClaimCheckBackend
from flowpersist.backends.filesystem import FilesystemBackend
from flowpersist.backends.memory import MemoryBackend
from flowpersist.backends.sqlite import SqliteBackend
from flowpersist.errors import BackendUnavailable, IntegrityError, PersistenceError, StorageError

SCHEMA = [NamespaceSchema("n", {"status": str})]
REF = RecordRef("n", "k")
DIGEST = digest_of(REF)
TERABYTE = 2**40
LARGE = b"x" * 100_000
PATIENCE = 10


def pipe(path, outside):
    os.mkfifo(path)


def link(path, outside):
    path.symlink_to(outside)


def link_to_nothing(path, outside):
    path.symlink_to(outside.with_name("made outside"))


def link_to_device(path, outside):
    path.symlink_to("/dev/zero")


def directory(path, outside):
    path.mkdir()


def unix_socket(path, outside):
    here = Path.cwd()
    os.chdir(path.parent)
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(path.name)
    os.chdir(here)


def sparse(path, outside):
    with path.open("wb") as file:
        file.truncate(TERABYTE)


IRREGULAR = (pipe, link, link_to_nothing, link_to_device, directory, unix_socket)
HOSTILE = (*IRREGULAR, sparse)


@pytest.fixture
def root(tmp_path):
    return tmp_path / "store"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A store with one record. To copy it takes less than to make one, which flushes what it makes."""
    path = tmp_path_factory.mktemp("made") / "store"

    async def make():
        backend = FilesystemBackend(path)
        await backend.open(SCHEMA)
        revision = (await write(backend)).revision
        await backend.close()
        return revision

    return path, asyncio.run(make())


@pytest.fixture
def filled(made, root):
    """A copy of it, and its record's revision."""
    path, revision = made
    shutil.copytree(path, root)
    return revision


@pytest.fixture
def outside(tmp_path):
    """A file that nobody of the store's may touch."""
    path = tmp_path / "elsewhere" / "file"
    path.parent.mkdir()
    path.write_bytes(b"nothing of ours")
    yield path
    assert path.read_bytes() == b"nothing of ours"
    assert list(path.parent.iterdir()) == [path]


@pytest.fixture
async def backend(root):
    backend = FilesystemBackend(root)
    await backend.open(SCHEMA)
    yield backend
    await asyncio.wait_for(backend.close(), PATIENCE)


def replaced(path, hostile, outside):
    if path.is_dir() and not path.is_symlink():
        path.rename(path.with_name(f"{path.name} that was"))
    else:
        path.unlink(missing_ok=True)
    hostile(path, outside)


def write(backend, key="k", revision=0, body=b"small"):
    change = RecordChange("w", attributes={"status": "x"}, head=b"h", body=body)
    return backend.put(RecordRef("n", key), change, if_revision=revision)


async def keys(backend):
    return [record.ref.key for record in (await backend.query("n", Where(), limit=100)).items]


@contextmanager
def little_memory():
    """What is read may not take more memory than half a gigabyte beside what the process has."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**29, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


async def soon(work):
    with little_memory():
        return await asyncio.wait_for(work, PATIENCE)


def shard_of(root):
    return root / "records" / DIGEST[:2]


# --- a record


@pytest.mark.parametrize("hostile", HOSTILE)
async def test_a_record_that_is_none_is_that_records_damage(root, backend, outside, hostile):
    revision = (await write(backend)).revision
    await write(backend, "other")
    replaced(shard_of(root) / f"{DIGEST}.record", hostile, outside)
    for work in (
        lambda: backend.get(REF),
        lambda: backend.get(REF, body=False),
        lambda: write(backend, revision=revision),
        lambda: backend.delete(REF, if_revision=revision),
    ):
        with pytest.raises(IntegrityError):
            await soon(work())
    assert await soon(keys(backend)) == ["other"]
    assert await soon(backend.purge("n", Where(), limit=10)) == 1


@pytest.mark.parametrize("hostile", HOSTILE)
async def test_a_body_that_is_none_is_that_records_damage(root, backend, outside, hostile):
    revision = (await write(backend, body=LARGE)).revision
    # A file of its own, for the record no longer holds it.
    revision = (await backend.put(REF, RecordChange("w", head=b"new"), if_revision=revision)).revision
    (body,) = shard_of(root).glob("*.body")
    replaced(body, hostile, outside)
    with pytest.raises(IntegrityError):
        await soon(backend.get(REF))
    assert (await soon(backend.get(REF, body=False))).record.head == b"new"
    assert await soon(keys(backend)) == ["k"]
    assert (await soon(write(backend, revision=revision, body=b"mended"))).revision == revision + 1
    assert (await soon(backend.get(REF))).record.body == b"mended"


@pytest.mark.parametrize("hostile", HOSTILE)
async def test_rests_that_are_none_hold_up_nothing(root, filled, outside, hostile):
    for name in (f"{DIGEST}.aaaa.new", f"{DIGEST}.aaaa.body", f"{DIGEST}.new", "floor.new"):
        hostile(shard_of(root) / name, outside)
    again = FilesystemBackend(root)
    await soon(again.open(SCHEMA))
    assert await soon(keys(again)) == ["k"]
    assert (await soon(write(again, revision=filled))).revision == filled + 1
    await again.close()


def forged(body_size):
    """A record's file whose checksums are right, and which says that it holds a body of such a size."""
    header = json.dumps(
        {
            "namespace": "n",
            "key": "k",
            "write_id": "w",
            "created": 0,
            "updated": 0,
            "due": None,
            "attributes": "{}",
            "body": body_size,
            "nonce": None,
            "offset": 0,
        }
    ).encode()
    fixed = struct.pack(">4sIIq32s", b"FPR2", len(header), 1, 1, bytes.fromhex(DIGEST))
    return fixed + struct.pack(">I", zlib.crc32(b"h", zlib.crc32(header, zlib.crc32(fixed)))) + header + b"h"


@pytest.mark.parametrize("content", [forged(TERABYTE), forged(2**70), b"FPR1"])
async def test_a_size_that_a_file_claims_is_not_believed(root, backend, content):
    path = shard_of(root) / f"{DIGEST}.record"
    path.write_bytes(content)
    os.truncate(path, TERABYTE)
    with pytest.raises(IntegrityError):
        await soon(backend.get(REF))


# --- what the store keeps beside its records


@pytest.mark.parametrize("hostile", IRREGULAR)
async def test_a_lock_that_is_none_holds_up_nobody_for_good(root, backend, outside, hostile):
    await write(backend, "other")
    replaced(shard_of(root) / "lock", hostile, outside)
    with pytest.raises(IntegrityError, match="'lock' is not a regular file; remove it"):
        await soon(write(backend))
    assert not list(shard_of(root).glob("*.new"))
    assert await soon(keys(backend)) == ["other"]
    path = shard_of(root) / "lock"
    path.rmdir() if hostile is directory else path.unlink()
    assert (await soon(write(backend))).revision > 0


@pytest.mark.parametrize("hostile", HOSTILE)
async def test_a_counter_that_is_none_is_told(root, backend, outside, hostile):
    replaced(shard_of(root) / "floor", hostile, outside)
    with pytest.raises(IntegrityError):
        await soon(write(backend))


AT_ROOT = ("format.json", "lock", "index.log", "records", f"records/{DIGEST[:2]}")


@pytest.mark.parametrize("hostile", HOSTILE)
@pytest.mark.parametrize("name", [*AT_ROOT, *(path.name for path in files_of(Path("index.sqlite"))), "format.json.new"])
async def test_a_store_with_something_else_in_it_opens_whole_or_not_at_all(root, filled, outside, hostile, name):
    replaced(root / name, hostile, outside)
    again = FilesystemBackend(root)
    try:
        await soon(again.open(SCHEMA))
    except PersistenceError:
        return
    # What is no record can be made anew.
    assert await soon(keys(again)) == (["k"] if not name.startswith("records") else [])
    assert (await soon(again.get(REF))).record is not None or name.startswith("records")
    await soon(write(again, revision=filled if not name.startswith("records") else 0))
    await again.close()


@pytest.mark.parametrize("hostile", HOSTILE)
@pytest.mark.parametrize("name", ["lock", "records", "index.log", "index.sqlite", f"records/{DIGEST[:2]}/lock"])
async def test_a_directory_that_was_prepared_for_a_new_store_leads_nowhere(root, outside, hostile, name):
    (root / name).parent.mkdir(parents=True)
    hostile(root / name, outside)
    backend = FilesystemBackend(root)
    try:
        await soon(backend.open(SCHEMA))
    except PersistenceError:
        return
    await soon(write(backend))
    assert await soon(keys(backend)) == ["k"]
    await backend.close()


async def test_a_directory_that_leads_elsewhere_is_refused(root, filled, outside):
    """Also where it holds all that a shard holds."""
    target = outside.parent.with_name("moved")
    shard_of(root).rename(target)
    shard_of(root).symlink_to(target)
    with pytest.raises(IntegrityError, match="is not a regular directory"):
        await FilesystemBackend(root).open(SCHEMA)
    # Of the root its owner decides.
    shard_of(root).unlink()
    target.rename(shard_of(root))
    other = root.with_name("by another name")
    other.symlink_to(root)
    again = FilesystemBackend(other)
    await again.open(SCHEMA)
    await again.close()


# --- the index's log


def line(value):
    text = json.dumps(value).encode()
    return b"%08x%b\n" % (zlib.crc32(text), text)


HEADER = {
    "namespace": "n",
    "key": "k",
    "write_id": "w",
    "created": 0,
    "updated": 0,
    "due": None,
    "attributes": "{}",
    "body": None,
    "nonce": None,
    "offset": 0,
}
LINES = [
    [],
    {},
    [1, 2],
    ["d", "1"],
    ["d", 2**80],
    ["d", 1, {}],
    ["d", 1, []],
    ["d", 1, {**HEADER, "key": {}}],
    ["d", 1, {**HEADER, "created": 2**80}],
    ["d", 1, {**HEADER, "key": "\ud800"}],
    ["d", True, HEADER],
    "x" * 100,
]


@pytest.mark.parametrize("value", LINES, ids=range(len(LINES)))
async def test_a_line_that_says_what_no_record_says_costs_that_line(root, backend, value):
    await write(backend, "before")
    with (root / "index.log").open("ab") as log:
        log.write(line(value))
        log.write(b"%08x%b\n" % (zlib.crc32(b"[" * 100_000), b"[" * 100_000))
    await write(backend, "after")
    assert await soon(keys(backend)) == ["after", "before"]


async def test_a_log_without_end_costs_no_more_memory_than_a_part_of_it(root, backend):
    await write(backend, "before")
    with (root / "index.log").open("ab") as log:
        log.truncate(TERABYTE)
    assert await soon(keys(backend)) in (["before"], [])
    await backend.close()
    await soon(backend.open(SCHEMA))
    assert await soon(keys(backend)) == ["before"]


async def test_a_long_log_is_read_in_parts(backend, monkeypatch):
    monkeypatch.setattr(index_log, "CHUNK_BYTES", 1000)
    for number in range(50):
        await write(backend, f"{number:02}")
    assert len(await keys(backend)) == 50


# --- large bodies apart


@pytest.mark.parametrize("hostile", HOSTILE)
async def test_a_blob_that_is_none_is_that_records_damage(root, outside, hostile):
    backend = ClaimCheckBackend(MemoryBackend(), FileBlobStore(root), from_bytes=100)
    await backend.open(SCHEMA)
    revision = (await write(backend, body=LARGE)).revision
    (blob,) = (path for path in root.rglob("*") if path.is_file())
    replaced(blob, hostile, outside)
    with pytest.raises(IntegrityError):
        await soon(backend.get(REF))
    assert await soon(backend.sweep()) == 0
    assert (await soon(write(backend, revision=revision, body=LARGE))).revision > revision
    assert (await soon(backend.get(REF))).record.body == LARGE
    await backend.close()


async def test_blobs_are_not_written_where_a_link_leads(root, outside):
    backend = ClaimCheckBackend(MemoryBackend(), FileBlobStore(root), from_bytes=100)
    await backend.open(SCHEMA)
    await write(backend, body=LARGE)
    (place,) = (path for path in root.glob("*/*") if path.is_dir())
    place.rename(place.with_name("that was"))
    place.symlink_to(outside.parent)
    with pytest.raises(IntegrityError):
        await write(backend, "other", body=LARGE)
    await backend.close()


# --- SQLite's files


@pytest.mark.parametrize("hostile", IRREGULAR)
@pytest.mark.parametrize("suffix", ["", "-wal", "-shm", "-journal"])
async def test_a_sqlite_store_with_something_else_beside_it_is_refused(tmp_path, outside, hostile, suffix):
    if suffix == "" and hostile in {link, link_to_nothing}:
        pytest.skip("whoever runs the store may link it")
    path = tmp_path / "flows.db"
    first = SqliteBackend(path)
    await first.open(SCHEMA)
    await write(first)
    await first.close()
    replaced(path.with_name(path.name + suffix), hostile, outside)
    again = SqliteBackend(path)
    with pytest.raises(BackendUnavailable, match="is not a regular file; remove it"):
        await soon(again.open(SCHEMA))
    with pytest.raises(BackendUnavailable, match="is not a regular file; remove it"):
        await soon(again.plan(SCHEMA))


async def test_a_sqlite_store_may_be_a_link_of_its_owners(tmp_path):
    for path in (tmp_path / "elsewhere.db", tmp_path / "flows.db"):
        backend = SqliteBackend(path)
        await backend.open(SCHEMA)
        assert (await write(backend, path.name)).revision > 0
        await backend.close()
        if not path.is_symlink():
            (tmp_path / "flows.db").symlink_to(path)


# --- a body, a counter that some record or other program has left in the tables


async def damaged_by(path, *statements):
    backend = SqliteBackend(path)
    await backend.open(SCHEMA)
    await write(backend, "first")
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)
    return backend


ORPHANS = "insert into flowpersist_bodies select value, zeroblob(5) from generate"
NEXT = "with recursive generate (value) as (select 2 union all select value + 1 from generate where value < 200)"
LEFTOVERS = {
    "a body for each record to come": f"{NEXT} {ORPHANS}",
    "a body of no record that can be": "insert into flowpersist_bodies values (9223372036854775807, x'00')",
    "a body below all records": "insert into flowpersist_bodies values (-5, x'00')",
    "a record with the highest id": "update flowpersist_records set id = 9223372036854775807",
    "a record with a negative id": "update flowpersist_records set id = -7",
}


@pytest.mark.parametrize("body", [b"small", LARGE, None])
@pytest.mark.parametrize("left", LEFTOVERS)
async def test_what_was_left_in_the_tables_holds_up_no_new_record(tmp_path, left, body):
    backend = await damaged_by(tmp_path / "s.db", LEFTOVERS[left])
    # Alone, and many together.
    written = [await write(backend, "alone", body=body)]
    written += await asyncio.gather(*(write(backend, f"{number:03}", body=body) for number in range(100)))
    assert all(one.revision > 0 for one in written)
    for key in ("alone", "000", "099"):
        assert (await backend.get(RecordRef("n", key))).record.body == body
    assert await backend.delete(RecordRef("n", "alone"), if_revision=written[0].revision)
    again = await write(backend, "alone", body=b"again")
    assert again.revision > written[0].revision
    assert (await backend.get(RecordRef("n", "alone"))).record.body == b"again"
    await backend.close()


@pytest.mark.parametrize("value", ["'x'", "x'00'", "9223372036854775807", "-5", "1.5", None])
async def test_a_counter_that_is_damaged_is_named(tmp_path, value):
    change = "delete from flowpersist_meta" if value is None else f"update flowpersist_meta set value = {value}"  # noqa: S608
    backend = await damaged_by(tmp_path / "s.db", f"{change} where name = 'floor'")
    alone = await asyncio.gather(write(backend, "new"), return_exceptions=True)
    together = await asyncio.gather(*(write(backend, f"{number}") for number in range(50)), return_exceptions=True)
    for told in alone + together:
        assert isinstance(told, IntegrityError | StorageError)
        assert "counter" in str(told) or "can have no revision above" in str(told)
    assert (await backend.get(RecordRef("n", "first"))).record is not None
    await backend.close()
