"""SQLite files that are foreign, damaged, locked, read-only, of a later release; plans of queries; forks."""

import asyncio
import os
import sqlite3
import stat
import threading
from datetime import UTC, datetime, timedelta

import pytest

from flowpersist.backends._matching import selection
from flowpersist.backends._sql import select
from flowpersist.backends.base import NamespaceSchema, Range, RecordChange, RecordRef, Where
from flowpersist.backends.registry import backend_from_url
from flowpersist.backends.sqlite import SqliteBackend
from flowpersist.errors import (
    BackendUnavailable,
    IntegrityError,
    RevisionConflict,
    StorageFull,
    UnknownOutcome,
    UnsupportedVersion,
)

INDEXED = {"status": str, "live": bool, "tool": str}
SCHEMA = [NamespaceSchema("n", INDEXED)]
REF = RecordRef("n", "k")
MOMENT = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "store.db"


@pytest.fixture
async def backend(path):
    backend = SqliteBackend(path, busy_timeout=timedelta(seconds=0.05))
    await backend.open(SCHEMA)
    yield backend
    await backend.close()


@pytest.mark.parametrize("content", [b"no database at all" * 100, b"SQLite format 3\0" + b"\xff" * 4096])
async def test_a_file_that_is_no_database(path, content):
    path.write_bytes(content)
    with pytest.raises((BackendUnavailable, IntegrityError)):
        await SqliteBackend(path).open(SCHEMA)
    assert path.read_bytes() == content


async def test_a_missing_directory_and_a_directory_in_place_of_a_file(path, tmp_path):
    for place in (path / "no" / "such.db", tmp_path):
        with pytest.raises(BackendUnavailable) as refused:
            await SqliteBackend(place).open(SCHEMA)
        assert not refused.value.retryable
        assert refused.value.backend == "sqlite"


async def test_a_schema_of_a_later_release(path, backend):
    await backend.close()
    with sqlite3.connect(path) as connection:
        connection.execute("update flowpersist_meta set value = 99 where name = 'version'")
    connection.close()
    with pytest.raises(UnsupportedVersion, match="schema 99"):
        await backend.open(SCHEMA)


async def test_a_database_that_another_program_locks(path, backend):
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("begin immediate")
    with pytest.raises(BackendUnavailable, match="locked") as refused:
        await backend.put(REF, RecordChange("w"), if_revision=0)
    assert refused.value.retryable
    assert (await backend.get(REF)).record is None
    other.execute("rollback")
    other.close()
    assert (await backend.put(REF, RecordChange("w"), if_revision=0)).revision == 1


async def test_tables_of_the_user_s_own_stay(path):
    with sqlite3.connect(path) as connection:
        connection.execute("create table mine (x)")
    connection.close()
    backend = SqliteBackend(path)
    await backend.open(SCHEMA)
    await backend.close()
    with sqlite3.connect(path) as connection:
        assert connection.execute("select count(*) from mine").fetchone() == (0,)
    connection.close()


async def test_the_files_are_for_their_owner_alone(path, backend):
    await backend.put(REF, RecordChange("w"), if_revision=0)
    assert {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()} == {0o600}


async def test_the_settings_hold(path, backend):
    def settings(connection):
        return [
            connection.execute(f"pragma {name}").fetchone()[0]
            for name in ("journal_mode", "synchronous", "page_size", "secure_delete")
        ]

    assert await backend._writing(settings) == ["wal", 2, 8192, 0]


async def test_a_weaker_setting_is_a_warning(path):
    backend = backend_from_url(f"sqlite:///{path}?synchronous=normal")
    await backend.open(SCHEMA)
    assert "power failure" in (await backend.ping()).warnings[0]
    await backend.close()


async def _alter(path, backend, statement, *values):
    await backend.put(REF, RecordChange("w", body=bytes(100_000), attributes={"status": "x"}), if_revision=0)
    await backend.put(RecordRef("n", "small"), RecordChange("w", body=b"abc"), if_revision=0)
    connection = sqlite3.connect(path)
    connection.execute(statement, values)
    connection.commit()
    connection.close()


@pytest.mark.parametrize(
    "statement",
    [
        "delete from flowpersist_bodies",
        "update flowpersist_bodies set data = substr(data, 2)",
        "update flowpersist_bodies set data = 7",
        "update flowpersist_bodies set data = 'text'",
    ],
)
async def test_a_body_that_is_missing_or_altered(path, backend, statement):
    await _alter(path, backend, statement)
    for ref in (REF, RecordRef("n", "small")):
        with pytest.raises(IntegrityError, match="body"):
            await backend.get(ref)
        assert (await backend.get(ref, body=False)).record is not None


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("revision", "x"), ("write_id", b"x"), ("head", "text"), ("created_at", "x"), ("updated_at", 2**62),
        ("due_at", b"x"),
        ("body_size", "x"), ("attributes", '{"status":1}'), ("attributes", "[]"),
    ],
)  # fmt: skip
async def test_a_row_of_wrong_types(path, backend, column, value):
    await _alter(path, backend, f"update flowpersist_records set {column} = ?", value)  # noqa: S608
    with pytest.raises(IntegrityError, match="can't be read"):
        await backend.get(REF, body=False)
    page = await backend.query("n", Where(), limit=5)
    assert {one.ref for one in page.unreadable} >= {REF}


SELECTIONS = [
    ({}, None, "key", "by_key"),
    ({}, None, "created", "by_created"),
    ({}, None, "updated", "by_updated"),
    ({}, None, "due", "by_due"),
    ({}, Range("due", before=MOMENT), "key", "by_due"),
    ({}, Range("created", MOMENT, MOMENT), "key", "by_created"),
    *[
        ({name: value}, None, "key", f"{name}_by_key")
        for name, value in (("status", "x"), ("live", True), ("tool", "x"))
    ],
    *[
        ({name: value}, None, "due", f"{name}_by_due")
        for name, value in (("status", "x"), ("live", True), ("tool", "x"))
    ],
    ({"live": True, "status": "x"}, None, "key", "status_by_key"),
    ({"free": "x", "tool": "x"}, Range("due", before=MOMENT), "key", "tool_by_due"),
    ({"free": "x"}, None, "key", "by_key"),
]


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize(("equals", "span", "order", "index"), SELECTIONS)
async def test_every_query_has_an_index(backend, equals, span, order, index, descending):
    asked = selection("n", Where(equals, span), order, 10, None, descending)
    for one in (asked, selection("n", Where(equals, span), order, 10, asked.cursor((5, "k")), descending)):
        statement, values = select("*", "flowpersist_records", one, INDEXED)
        plan = await backend._writing(
            lambda it, s=statement, v=values: it.execute(f"explain query plan {s}", v).fetchall()
        )
        (step,) = [row[3] for row in plan]
        assert f"USING INDEX flowpersist_records_{index} " in step
        assert "namespace=?" in step


async def test_attributes_that_differ_in_case_alone(backend):
    schema = [NamespaceSchema("n", {"run": str, "Run": str, "rUN": str})]
    await backend.open(schema)
    assert await backend.plan(schema) == ()
    change = RecordChange("w", attributes={"run": "a", "Run": "b", "rUN": "c"}, due_at=MOMENT)
    await backend.put(RecordRef("n", "cases"), change, if_revision=0)
    for name, value in change.attributes.items():
        for order in ("key", "due"):
            (found,) = (await backend.query("n", Where({name: value}), order=order, limit=5)).items
            assert found.ref.key == "cases"


async def test_no_use_after_a_fork(backend):
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            asyncio.new_event_loop()
            coroutine = backend.get(REF)
            coroutine.send(None)
        except BackendUnavailable as error:
            os.write(write, str(error).encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    os.close(write)
    assert b"before a fork" in os.read(read, 1000)
    os.close(read)


async def test_a_group_keeps_each_operation_apart(backend):
    """Queued behind one another they share a transaction; one that is refused takes nothing back of the others."""
    keys = [RecordRef("n", f"k{number}") for number in range(150)]
    done = await asyncio.gather(
        *(backend.put(ref, RecordChange("w", body=b"x"), if_revision=number % 2) for number, ref in enumerate(keys)),
        return_exceptions=True,
    )
    assert [isinstance(one, RevisionConflict) for one in done] == [bool(number % 2) for number in range(150)]
    assert len((await backend.query("n", Where(), limit=200)).items) == 75


async def test_what_is_too_large_for_the_disk_fails_alone(backend):
    def limit(connection):
        (pages,) = connection.execute("pragma page_count").fetchone()
        connection.execute(f"pragma max_page_count = {pages + 20}")

    await backend._writing(limit)
    small = [
        backend.put(RecordRef("n", f"k{number}"), RecordChange("w", body=b"x"), if_revision=0) for number in range(5)
    ]
    large = backend.put(REF, RecordChange("w", body=bytes(2_000_000)), if_revision=0)
    *written, refused = await asyncio.gather(*small, large, return_exceptions=True)
    assert [one.revision for one in written] == [1] * 5
    assert isinstance(refused, StorageFull)
    assert (await backend.get(REF)).record is None
    assert (await backend.put(REF, RecordChange("w", body=b"fits"), if_revision=0)).revision == 1


class FailingCommit:
    """A connection whose commit fails."""

    def __init__(self, connection, code):
        self._connection, self._code = connection, code

    def __getattr__(self, name):
        return getattr(self._connection, name)

    def execute(self, statement, *values):
        if statement == "commit":
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode, error.sqlite_errorname = self._code, "SQLITE_TEST"
            raise error
        return self._connection.execute(statement, *values)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (sqlite3.SQLITE_IOERR_FSYNC, UnknownOutcome),
        (sqlite3.SQLITE_FULL, StorageFull),
        (sqlite3.SQLITE_CORRUPT, IntegrityError),
        (sqlite3.SQLITE_READONLY, BackendUnavailable),
    ],
)
async def test_a_commit_that_fails_is_not_acknowledged(backend, code, expected):
    writer = backend._threads.threads[0]
    connection = writer.connection
    writer.connection = FailingCommit(connection, code)
    with pytest.raises(expected):
        await backend.put(REF, RecordChange("w"), if_revision=0)
    writer.connection = connection
    assert (await backend.put(REF, RecordChange("w"), if_revision=0)).revision == 1


async def test_no_thread_outlives_closing(path):
    for _ in range(5):
        backend = SqliteBackend(path)
        await backend.open(SCHEMA)
        await backend.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("flowpersist")]


async def test_a_caller_that_is_cancelled_while_opening_leaks_nothing(path):
    backend = SqliteBackend(path)
    opening = asyncio.ensure_future(backend.open(SCHEMA))
    await asyncio.sleep(0)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    await backend.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("flowpersist")]


async def test_results_of_a_loop_that_is_gone_are_dropped(path):
    backend = SqliteBackend(path)
    await backend.open(SCHEMA)

    def elsewhere():
        loop = asyncio.new_event_loop()
        loop.call_soon(lambda: asyncio.ensure_future(backend.put(REF, RecordChange("w"), if_revision=0), loop=loop))
        loop.run_until_complete(asyncio.sleep(0))
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()

    gate = threading.Event()
    blocked = asyncio.ensure_future(backend._writing(lambda connection: gate.wait(5)))
    await asyncio.sleep(0.02)
    await asyncio.to_thread(elsewhere)
    gate.set()
    await blocked
    assert (await backend.ping()).backend == "sqlite"
    await backend.close()
