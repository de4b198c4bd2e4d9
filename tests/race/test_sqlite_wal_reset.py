"""SQLite's WAL-reset bug (https://www.sqlite.org/wal.html#walresetbug) finds no place, and all that was acknowledged
stays: while a checkpoint of ours is under way no commit begins the log anew, of whatever connection or process.
"""

import asyncio
import os
import sqlite3
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from flowpersist.backends import _wal
from flowpersist.backends import sqlite as backend_module
from flowpersist.backends._sqlite import checkpoints
from flowpersist.backends._wal import Done, checkpoint_alone, checkpoint_beside, has_reset_bug
from flowpersist.backends.base import NamespaceSchema, RecordChange, RecordRef
from flowpersist.backends.filesystem import FilesystemBackend
from flowpersist.backends.sqlite import SqliteBackend
from sqlite_window import in_the_window, library

SCHEMA = [NamespaceSchema("n", {"status": str})]
LONG = bool(os.environ.get("FLOWPERSIST_LONG"))
SECONDS = 60 if LONG else 2
#: So small that checkpoints are under way all the time.
STRESS_BYTES = 64 * 1024
AFFECTED = has_reset_bug(sqlite3.sqlite_version_info)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "store.db"


@pytest.fixture
def connect(path):
    opened = []

    def connected():
        connection = sqlite3.connect(path, isolation_level=None, timeout=0)
        connection.execute("pragma journal_mode = wal")
        connection.execute("pragma wal_autocheckpoint = 0")
        opened.append(connection)
        return connection

    yield connected
    for connection in opened:
        connection.close()


def generation(path):
    """The salts of the log, which change when it begins anew."""
    return path.with_name(f"{path.name}-wal").read_bytes()[16:24]


class During:
    """A connection whose statements come after something else has happened."""

    def __init__(self, connection, action):
        self._connection, self._action = connection, action

    def execute(self, statement):
        self._action()
        return self._connection.execute(statement)


# --- the two ways to make a checkpoint: the bug's own steps are taken in the midst of each


def test_no_commit_gets_in_while_a_checkpoint_holds_the_write_lock(connect):
    other, writer, copier = connect(), connect(), connect()
    other.execute("create table t (x)")
    refused = []

    def commit():
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            other.execute("insert into t values (1)")
        refused.append(1)

    assert checkpoint_alone(writer, During(copier, commit)).complete
    assert refused == [1]
    other.execute("insert into t values (2)")
    assert other.execute("select x from t").fetchall() == [(2,)]


def test_no_commit_begins_the_log_anew_while_a_checkpoint_reads_a_snapshot_of_it(connect, path):
    """Another process's checkpoint completes, and a commit comes that would begin the log anew."""
    other, snapshot, copier, third = (connect() for _ in range(4))
    other.execute("create table t (x)")
    before = generation(path)

    def complete_and_commit():
        assert Done(*third.execute("pragma wal_checkpoint(passive)").fetchone()).complete
        other.execute("insert into t values (1)")

    checkpoint_beside(snapshot, During(copier, complete_and_commit))
    assert generation(path) == before
    # Once the snapshot is given up, it may.
    third.execute("pragma wal_checkpoint(passive)")
    other.execute("insert into t values (2)")
    assert generation(path) != before


def test_a_checkpoint_beside_a_log_that_begins_anew_copies_nothing(connect, path):
    """The whole log is in the database, so the snapshot does not hold it."""
    other, snapshot, copier = (connect() for _ in range(3))
    other.execute("create table t (x)")
    assert checkpoint_beside(snapshot, copier).complete
    before = generation(path)
    done = checkpoint_beside(snapshot, During(copier, lambda: other.execute("insert into t values (1)")))
    assert generation(path) != before
    assert done.copied == 0 < done.log
    assert checkpoint_beside(snapshot, copier).complete


@pytest.mark.parametrize("way", [checkpoint_alone, checkpoint_beside])
def test_a_checkpoint_that_fails_holds_nothing(connect, way):
    holder, copier, other = (connect() for _ in range(3))
    other.execute("create table t (x)")

    def fail():
        raise sqlite3.OperationalError("disk I/O error")

    assert way(holder, During(copier, fail)) is None
    assert not holder.in_transaction
    other.execute("insert into t values (1)")


def test_a_checkpoint_waits_for_no_other_writer_than_its_patience(connect):
    other, writer, copier = (connect() for _ in range(3))
    other.execute("begin immediate")
    assert checkpoint_alone(writer, copier) is None
    assert not writer.in_transaction


def bare(_, copier):
    return Done(*copier.execute("pragma wal_checkpoint(passive)").fetchone())


def rows_lost(connect, way):
    """The bug's steps, with its own timing: a checkpoint has completed, a second one has begun, and while it is between
    its two looks at the log a commit begins the log anew. Then the new log gets longer than the old one.
    """
    other, holder, copier, third = (connect() for _ in range(4))
    other.execute("create table t (x)")
    acknowledged, tried = 0, []

    def insert():
        nonlocal acknowledged
        tried.append(1)
        # Refused while another connection holds the write lock.
        with suppress(sqlite3.OperationalError):
            other.execute("insert into t values (zeroblob(3000))")
            acknowledged += 1

    for _ in range(5):
        insert()
    assert Done(*third.execute("pragma wal_checkpoint(passive)").fetchone()).complete
    tried.clear()
    with in_the_window(copier, lambda: tried or insert()):
        way(holder, copier)
    assert tried
    for _ in range(40):
        insert()
        checkpoint_alone(holder, third)
    for connection in (other, holder, copier, third):
        connection.close()
    try:
        (there,) = connect().execute("select count(*) from t").fetchone()
    except sqlite3.DatabaseError:
        return acknowledged
    return acknowledged - there


@pytest.mark.skipif(library() is None, reason="Python's SQLite is no library of its own, so that nothing gets into it")
@pytest.mark.parametrize(("way", "safe"), [(bare, not AFFECTED), (checkpoint_alone, True), (checkpoint_beside, True)])
def test_the_bug_in_its_own_window(connect, way, safe):
    """A checkpoint that holds nothing loses rows, where SQLite has the bug: so the other two could."""
    assert (rows_lost(connect, way) == 0) is safe


# --- all who use SQLite do it so


async def seen_checkpoints(monkeypatch, use):
    """How each checkpoint of a store was made: with the write lock, beside a snapshot, or neither."""
    seen = []
    for name in ("checkpoint_alone", "checkpoint_beside"):
        made = getattr(_wal, name)
        for module in ("_sqlite.checkpoints", "_filesystem.index"):
            where = f"flowpersist.backends.{module}.{name}"

            def counted(*args, _made=made, _name=name):
                seen.append(_name)
                return _made(*args)

            monkeypatch.setattr(where, counted, raising=False)
    executed = []
    connect = sqlite3.connect

    def traced(*args, **kwargs):
        connection = connect(*args, **kwargs)
        connection.set_trace_callback(executed.append)
        return connection

    monkeypatch.setattr(sqlite3, "connect", traced)
    await use()
    return seen, executed


async def fill(backend, count, *, name="k", tasks=8, size=20_000):
    """Write so many records, and give the numbers of those that were acknowledged."""
    numbers, acknowledged = iter(range(count)), []

    async def task():
        for number in numbers:
            change = RecordChange("w", attributes={"status": "x"}, head=b"h" * 200, body=bytes([number % 256]) * size)
            await backend.put(RecordRef("n", f"{name}{number:07}"), change, if_revision=0)
            acknowledged.append(number)

    await asyncio.gather(*(task() for _ in range(tasks)))
    return acknowledged


@pytest.mark.parametrize("kind", ["sqlite", "file"])
async def test_every_checkpoint_of_a_store_is_one_of_the_two(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(checkpoints, "CHECKPOINT_BYTES", STRESS_BYTES)
    monkeypatch.setattr("flowpersist.backends._filesystem.index.WAL_BYTES", STRESS_BYTES)

    async def use():
        backend = SqliteBackend(tmp_path / "s.db") if kind == "sqlite" else FilesystemBackend(tmp_path / "files")
        await backend.open(SCHEMA)
        for turn in range(20):
            await fill(backend, 40, name=f"{turn}-", size=2_000)
            await backend.query("n", backend_module.Where(), limit=1)
            await asyncio.sleep(0.01)
        await backend.close()

    seen, executed = await seen_checkpoints(monkeypatch, use)
    made = [text for text in executed if "wal_checkpoint" in text]
    assert len(made) == len(seen) > 2
    assert set(seen) == ({"checkpoint_alone", "checkpoint_beside"} if kind == "sqlite" else {"checkpoint_alone"})


def test_no_connection_makes_checkpoints_by_itself(tmp_path, monkeypatch):
    connect, opened = sqlite3.connect, []

    def noted(*args, **kwargs):
        opened.append(connect(*args, **kwargs))
        return opened[-1]

    monkeypatch.setattr(sqlite3, "connect", noted)

    async def use():
        for backend in (SqliteBackend(tmp_path / "s.db"), FilesystemBackend(tmp_path / "files")):
            await backend.open(SCHEMA)
            for connection in opened:
                # One that has done its work is closed by now.
                with suppress(sqlite3.ProgrammingError):
                    assert connection.execute("pragma wal_autocheckpoint").fetchone() == (0,)
            assert len(opened) > 1
            await backend.close()
            opened.clear()

    asyncio.run(use())


async def test_a_log_that_others_left_is_taken_up(path, monkeypatch):
    """Processes that write little and end, while another one keeps the store open, never count enough themselves."""
    monkeypatch.setattr(checkpoints, "CHECKPOINT_BYTES", 1024 * 1024)
    keeper = SqliteBackend(path)
    await keeper.open(SCHEMA)
    log = path.with_name(f"{path.name}-wal")
    for number in range(30):
        brief = SqliteBackend(path)
        await brief.open(SCHEMA)
        await fill(brief, 5, name=f"{number}-")
        await asyncio.sleep(0.01)
        await fill(brief, 1, name=f"{number}-last")
        await brief.close()
    assert log.stat().st_size < 3 * 1024 * 1024
    await keeper.close()


# --- the stress: everything acknowledged is counted


PROGRAM = f"""
import sys
sys.path.insert(0, {os.fspath(Path(__file__).parent)!r})
import test_sqlite_wal_reset as it
it.stressed(*sys.argv[1:])
"""


def stressed(path, name, synchronous, seconds):
    """One process: as much as it can write, with a checkpoint under way all the time."""
    checkpoints.CHECKPOINT_BYTES = STRESS_BYTES
    checkpoints.NEARLY_PAGES = 1

    async def main():
        backend = SqliteBackend(Path(path), synchronous=synchronous)
        await backend.open(SCHEMA)
        turn, acknowledged, end = 0, 0, time.monotonic() + float(seconds)
        while time.monotonic() < end:
            acknowledged += len(await fill(backend, 50, name=f"{name}-{turn}-", size=200))
            turn += 1
        await backend.close()
        sys.stdout.write(str(acknowledged))

    asyncio.run(main())


def start(*args):
    return subprocess.Popen([sys.executable, "-c", PROGRAM, *map(str, args)], stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("synchronous", ["off", "full"])
@pytest.mark.parametrize("processes", [1, 3])
def test_every_acknowledged_record_is_there(path, processes, synchronous):
    others = [start(path, number, synchronous, SECONDS) for number in range(processes)]
    acknowledged = [int(other.communicate()[0]) for other in others]
    assert all(acknowledged)
    with sqlite3.connect(path) as connection:
        assert connection.execute("pragma integrity_check").fetchall() == [("ok",)]
        for table in ("records", "bodies"):
            there = connection.execute(f"select count(*) from flowpersist_{table} not indexed").fetchone()  # noqa: S608 - ours
            assert there == (sum(acknowledged),)
    connection.close()


HAMMER = """
import sqlite3, sys, time
path, seconds = sys.argv[1:]
sys.path.insert(0, {here!r})
from flowpersist.backends._wal import checkpoint_alone, checkpoint_beside
holder, copier = (sqlite3.connect(path, isolation_level=None, timeout=10) for _ in range(2))
end = time.monotonic() + float(seconds)
while time.monotonic() < end:
    for _ in range(100):
        checkpoint_beside(holder, copier)
        checkpoint_alone(holder, copier)
"""


def hammered(path, seconds):
    """Insert while two processes do nothing but checkpoints; how many were acknowledged, and what is there."""
    connection = sqlite3.connect(path, isolation_level=None, timeout=10)
    connection.executescript("pragma journal_mode = wal; pragma synchronous = off; pragma wal_autocheckpoint = 0")
    connection.execute("create table t (id integer primary key, x text)")
    connection.execute("create index i on t (x)")
    program = HAMMER.format(here=os.fspath(Path(_wal.__file__).parents[2]))
    others = [subprocess.Popen([sys.executable, "-c", program, path, str(seconds)]) for _ in range(2)]
    acknowledged = 0
    try:
        while any(other.poll() is None for other in others):
            connection.execute("insert into t (x) values (?)", (f"{acknowledged * 7919 % 1_000_003:032}",))
            acknowledged += 1
        whole = connection.execute("pragma integrity_check(1)").fetchone() == ("ok",)
        there = connection.execute("select count(*) from t not indexed").fetchone()[0]
    finally:
        for other in others:
            other.kill() if other.poll() is None else None
            other.wait()
        connection.close()
    return acknowledged, there, whole


def test_checkpoints_that_hold_a_lock_lose_nothing_however_fast_they_come(path):
    acknowledged, there, whole = hammered(path, SECONDS)
    assert acknowledged > 1000
    assert (there, whole) == (acknowledged, True)


# --- who is told


@pytest.mark.parametrize(
    ("version", "affected"),
    [
        ((3, 6, 23), False),
        ((3, 7, 0), True),
        ((3, 40, 1), True),
        ((3, 44, 5), True),
        ((3, 44, 6), False),
        ((3, 45, 0), True),
        ((3, 50, 6), True),
        ((3, 50, 7), False),
        ((3, 51, 0), True),
        ((3, 51, 2), True),
        ((3, 51, 3), False),
        ((3, 54, 1), False),
        ((4, 0, 0), False),
    ],
)
async def test_health_names_an_affected_version_and_the_remedy(path, monkeypatch, version, affected):
    monkeypatch.setattr(sqlite3, "sqlite_version_info", version)
    assert has_reset_bug(version) is affected
    backend = SqliteBackend(path)
    await backend.open(SCHEMA)
    warnings = (await backend.ping()).warnings
    await backend.close()
    assert any("WAL-reset bug" in warning and "3.51.3" in warning for warning in warnings) is affected
