"""Checkpoints beside the writer: the log stays small, nobody waits for them, and where they fail nothing is lost."""

import asyncio
import os
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from flowpersist.backends._sqlite import checkpoints
from flowpersist.backends.base import NamespaceSchema, RecordChange, RecordRef, Where
from flowpersist.backends.sqlite import SqliteBackend

SCHEMA = [NamespaceSchema("n", {"status": str})]
BODY = os.urandom(50_000)
MEGABYTE = 1024 * 1024


@pytest.fixture
def path(tmp_path):
    return tmp_path / "store.db"


@pytest.fixture
async def backend(path, monkeypatch):
    monkeypatch.setattr(checkpoints, "CHECKPOINT_BYTES", MEGABYTE)
    backend = SqliteBackend(path)
    await backend.open(SCHEMA)
    yield backend
    await backend.close()


def log_size(path):
    return path.with_name(f"{path.name}-wal").stat().st_size


async def write(backend, count, *, name="k", tasks=4):
    numbers = iter(range(count))

    async def task():
        for number in numbers:
            ref = RecordRef("n", f"{name}{number:05}")
            await backend.put(ref, RecordChange("w", attributes={"status": "x"}, body=BODY), if_revision=0)

    await asyncio.gather(*(task() for _ in range(tasks)))


async def until(condition):
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.01)


class Beside:
    """The connection of the checkpointer, in whose place something else happens."""

    def __init__(self, connection, action):
        self._connection, self._action = connection, action

    def execute(self, statement):
        self._action()
        return self._connection.execute(statement)

    def close(self):
        self._connection.close()


def instead(backend, action):
    owner = backend._threads.checkpoints
    owner.connection = Beside(owner.connection, action)


async def test_the_log_is_used_again(path, backend):
    """40 MB are written, each megabyte goes to the database, and the log never gets the half of it."""
    for number in range(20):
        await write(backend, 40, name=f"k{number}-")
        await asyncio.sleep(0.01)
    assert path.stat().st_size > 30 * MEGABYTE
    assert log_size(path) < 20 * MEGABYTE
    assert len((await backend.query("n", Where(), limit=1000)).items) == 800


async def test_the_writer_waits_for_no_checkpoint(backend):
    begun, over = threading.Event(), threading.Event()
    instead(backend, lambda: (begun.set(), over.wait(20)))
    await write(backend, 60)
    await until(begun.is_set)
    async with asyncio.timeout(10):
        await write(backend, 60, name="meanwhile")
    over.set()


async def test_a_checkpoint_that_fails_is_tried_again_later(path, backend):
    tried = []

    def fail():
        tried.append(1)
        if len(tried) <= 2:
            raise sqlite3.OperationalError("disk I/O error")

    instead(backend, fail)
    for number in range(20):
        await write(backend, 30, name=f"round{number}-")
        if len(tried) > 2:
            break
    await until(lambda: len(tried) > 2)
    assert (await backend.get(RecordRef("n", "round0-00000"))).record.body == BODY


async def test_a_snapshot_that_is_read_for_long_holds_nothing_up(path, backend):
    await write(backend, 10, name="before")
    reader = sqlite3.connect(path, isolation_level=None)
    reader.execute("begin")
    assert reader.execute("select count(*) from flowpersist_records").fetchone() == (10,)
    await write(backend, 300)
    assert log_size(path) > 14 * MEGABYTE
    assert reader.execute("select count(*) from flowpersist_records").fetchone() == (10,)
    reader.execute("rollback")
    reader.close()
    await write(backend, 100, name="after")
    before = log_size(path)
    await write(backend, 300, name="later")
    assert log_size(path) < before + 5 * MEGABYTE


async def test_several_processes_share_a_log(path, backend):
    """Two more processes write beside this one; all of it is there, and the log is bounded."""
    program = f"""
import asyncio, sys
from pathlib import Path
sys.path.insert(0, {os.fspath(Path(__file__).parent)!r})
import test_sqlite_checkpoints as it

async def main(name):
    it.checkpoints.CHECKPOINT_BYTES = it.MEGABYTE
    backend = it.SqliteBackend(Path({os.fspath(path)!r}))
    await backend.open(it.SCHEMA)
    await it.write(backend, 100, name=name)
    await backend.close()

asyncio.run(main(sys.argv[1]))
"""
    others = [subprocess.Popen([sys.executable, "-c", program, f"p{number}-"]) for number in range(2)]
    await write(backend, 100, name="own-")
    for other in others:
        assert await asyncio.to_thread(other.wait, 30) == 0
    assert len((await backend.query("n", Where(), limit=1000)).items) == 300
    assert log_size(path) < 64 * MEGABYTE


async def test_closing_ends_in_the_middle_of_a_checkpoint(path, backend):
    begun = threading.Event()
    instead(backend, lambda: (begun.set(), time.sleep(0.2)))
    await write(backend, 60)
    await until(begun.is_set)
    await backend.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("flowpersist")]
    assert not path.with_name(f"{path.name}-wal").exists()
    await backend.open(SCHEMA)
    assert len((await backend.query("n", Where(), limit=100)).items) == 60
