"""What is written is found at once, though it is entered into the index later: by whom it may be, and whatever was cut
short.
"""

import asyncio
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

from flowpersist.backends._filesystem import index as file_index
from flowpersist.backends._filesystem.index_log import ID_BYTES
from flowpersist.backends._home import Home
from flowpersist.backends.base import NamespaceSchema, RecordChange, RecordRef, Where
from flowpersist.backends.filesystem import FilesystemBackend
from flowpersist.errors import BackendUnavailable, StorageFull

SCHEMA = [NamespaceSchema("n", {"status": str})]


@pytest.fixture
def root(tmp_path):
    return tmp_path / "store"


@pytest.fixture
async def backend(root):
    backend = FilesystemBackend(root)
    await backend.open(SCHEMA)
    yield backend
    await backend.close()


async def put(backend, key, status, revision=0):
    change = RecordChange("w", attributes={"status": status})
    return (await backend.put(RecordRef("n", key), change, if_revision=revision)).revision


async def keys(backend, status=None):
    where = Where() if status is None else Where({"status": status})
    return [record.ref.key for record in (await backend.query("n", where, limit=1000)).items]


def entries(backend):
    """What is in the index as it stands."""
    index = backend._opened.shards.index
    return index._reader.execute("select key, revision from entries order by key, revision").fetchall()


async def test_an_entry_is_made_when_a_query_asks(backend):
    revision = await put(backend, "a", "x")
    await put(backend, "a", "y", revision)
    await put(backend, "b", "x")
    assert entries(backend) == []
    assert (await keys(backend, "x"), await keys(backend, "y")) == (["b"], ["a"])
    assert entries(backend) == [("a", 2), ("b", 1)]
    await backend.delete(RecordRef("n", "a"), if_revision=2)
    assert await keys(backend) == ["b"]
    assert entries(backend) == [("b", 1)]


async def test_another_finds_what_was_written_here(backend, root):
    other = FilesystemBackend(root)
    await other.open(SCHEMA)
    for n in range(3):
        await put(backend, f"a{n}", "x")
        assert len(await keys(other, "x")) == n + 1
    await other.close()


async def test_much_is_entered_before_anybody_asks(backend, monkeypatch):
    monkeypatch.setattr(file_index, "OVERDUE", 5)
    for n in range(5):
        await put(backend, f"a{n}", "x")
    # What is outdated counts too, so that it may be time before the last of them is put.
    for _ in range(500):
        if len(entries(backend)) >= 4:
            break
        await asyncio.sleep(0.01)
    assert len(entries(backend)) >= 4


async def test_a_background_entry_that_fails_is_told_and_tried_again(backend, monkeypatch, caplog):
    def fail(*_, **__):
        raise BackendUnavailable("locked", "filesystem", True)

    monkeypatch.setattr(file_index, "OVERDUE", 1)
    with monkeypatch.context() as failing:
        failing.setattr(file_index.FileIndex, "_transaction", fail)
        await put(backend, "a", "x")
        for _ in range(500):
            if "brought up to date" in caplog.text:
                break
            await asyncio.sleep(0.01)
    assert "brought up to date" in caplog.text
    assert await keys(backend) == ["a"]


async def test_a_log_that_is_long_is_emptied_while_others_write(backend, root, monkeypatch):
    monkeypatch.setattr(file_index, "LONG", 2_000)
    monkeypatch.setattr(file_index, "OVERDUE", 7)
    other = FilesystemBackend(root)
    await other.open(SCHEMA)

    async def write(store, name):
        for n in range(40):
            await put(store, f"{name}{n:02}", "x")
            assert f"{name}{n:02}" in await keys(store if n % 2 else backend, "x")

    await asyncio.gather(*(write(store, name) for name, store in zip("abcd", (backend, other) * 2, strict=True)))
    assert len(await keys(other)) == len(await keys(backend, "x")) == 160
    await put(backend, "last", "x")
    await keys(backend)
    await keys(backend)
    assert (root / "index.log").stat().st_size < 40_000
    await other.close()


async def test_a_line_that_was_cut_short_harms_none_after_it(backend, root):
    await put(backend, "a", "x")
    with (root / "index.log").open("ab") as file:
        file.write(b'\n["00ff",1,{"names')
    assert await keys(backend) == ["a"]
    await put(backend, "b", "x")
    assert await keys(backend) == ["a", "b"]


@pytest.mark.parametrize("killed", ["before it is cut", "with nothing in it"])
async def test_a_log_whose_emptying_was_cut_short(backend, root, killed):
    await put(backend, "a", "x")
    await put(backend, "a", "y", 1)
    assert await keys(backend, "y") == ["a"]
    with (root / "index.log").open("r+b") as file:
        file.write(b"0" * ID_BYTES)
        if killed != "before it is cut":
            file.truncate(ID_BYTES)
    await put(backend, "b", "x")
    assert (await keys(backend, "x"), await keys(backend, "y")) == (["b"], ["a"])
    await backend.close()
    await backend.open(SCHEMA)
    assert entries(backend) == [("a", 2), ("b", 1)]


async def test_without_its_log_the_index_is_not_trusted(backend, root):
    await put(backend, "a", "x")
    await backend.close()
    (root / "index.log").unlink()
    await backend.open(SCHEMA)
    assert await keys(backend, "x") == ["a"]


async def test_what_a_killed_process_has_noted_is_found(backend, root):
    """Nothing is entered, and nothing is said at the end: only the files are left."""
    await put(backend, "a", "x")
    await put(backend, "a", "y", 1)
    await put(backend, "b", "x")
    opened, backend._opened = backend._opened, None
    backend._home = Home(backend.name)
    await backend.open(SCHEMA)
    assert (await keys(backend, "x"), await keys(backend, "y")) == (["b"], ["a"])
    assert entries(backend) == [("a", 2), ("b", 1)]
    await asyncio.to_thread(opened.stop)


async def test_a_query_is_answered_where_nothing_can_be_entered(backend, monkeypatch):
    real = file_index.FileIndex._transaction

    def full(self, *, keep=True):
        if keep:
            raise StorageFull("no room", "filesystem")
        return real(self, keep=keep)

    revision = await put(backend, "a", "x")
    await put(backend, "a", "y", revision)
    with monkeypatch.context() as failing:
        failing.setattr(file_index.FileIndex, "_transaction", full)
        assert (await keys(backend, "x"), await keys(backend, "y")) == ([], ["a"])
    assert entries(backend) == []
    assert await keys(backend, "y") == ["a"]


async def test_a_log_that_has_no_room_refuses_the_write(backend, root, monkeypatch):
    real, limit = os.write, [10]

    def write(handle, data):
        if limit and Path(f"/proc/self/fd/{handle}").readlink().name == "index.log":
            size = limit.pop()
            if size == 0:
                raise OSError(28, "no room")
            limit.append(0)
            return real(handle, data[:size])
        return real(handle, data)

    with monkeypatch.context() as failing:
        failing.setattr(os, "write", write)
        with pytest.raises(StorageFull):
            await put(backend, "a", "x")
    assert await keys(backend) == []
    assert not list(root.rglob("*.new"))
    assert await put(backend, "a", "y") == 1
    assert await keys(backend, "y") == ["a"]


@pytest.fixture
def switching():
    """Threads that take turns after every few instructions."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def test_threads_of_a_pool_note_and_remove_entries_at_once(root, switching):
    """Each notes what it writes, with the removals of all; none is lost, and none finds them gone."""
    root.mkdir()
    index = file_index.FileIndex(root / "index.db", timedelta(seconds=10))
    header = b'{"namespace":"n","key":"a","created":1,"updated":1,"due":null,"nonce":null,"attributes":"{}"}'
    try:
        with index._log.still(timedelta(seconds=1)) as handle:
            file_index.begin_anew(handle)

        def write(number):
            for revision in range(1, 1501):
                with index.noting() as note:
                    note(f"{number:064}", revision, header)
                index.remove_below(f"{number:064}", revision)

        with ThreadPoolExecutor(8) as pool:
            for done in [pool.submit(write, number) for number in range(8)]:
                done.result()
        assert index._noted == 12000
        index.enter()
        found = index._reader.execute("select digest, revision from entries order by digest").fetchall()
        assert found == [(f"{number:064}", 1500) for number in range(8)]
    finally:
        index.close()
