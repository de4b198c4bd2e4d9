"""What the postgres backend has beyond the primitive: the user's pool and transactions, notification, a pooler."""

import asyncio
import shutil
import subprocess
import tempfile
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from flowpersist.backends.base import (
    BodyLimited,
    Capability,
    Joining,
    Migrating,
    NamespaceSchema,
    Notifying,
    RecordChange,
    RecordRef,
    StorageBackend,
    Where,
)
from flowpersist.backends.postgres import PostgresBackend
from flowpersist.backends.registry import backend_from_url
from flowpersist.errors import (
    BackendUnavailable,
    ConfigurationError,
    DeadlinePassed,
    IntegrityError,
    RevisionConflict,
    StorageError,
    TransactionAborted,
    UnknownOutcome,
)
from flowpersist.testing.proxy import Proxy, address_of, rerouted
from machine import free_port, program

SCHEMA = [NamespaceSchema("n", {"status": str})]


@pytest.fixture
async def admin(server, prefix):
    connection = await asyncpg.connect(server("postgres"))
    yield connection
    await connection.execute(f"drop table if exists {prefix}_meta, {prefix}_records, {prefix}_bodies, {prefix}_orders")
    await connection.execute(f"drop sequence if exists {prefix}_revisions")
    await connection.close()


@pytest.fixture
def url(server, prefix, admin):
    return f"{server('postgres')}?prefix={prefix}"


@pytest.fixture
async def backend(url):
    made = backend_from_url(f"{url}&notify=on&pool_size=4")
    await made.open(SCHEMA)
    yield made
    await made.close()


def ref(key="k"):
    return RecordRef("n", key)


def change(write_id="w", **parts):
    return RecordChange(write_id, **parts)


def test_capabilities_are_what_is_there():
    plain, telling = PostgresBackend("postgresql://h/d"), PostgresBackend("postgresql://h/d", notify=True)
    assert telling.capabilities - plain.capabilities == {Capability.NOTIFICATIONS}
    for power in (StorageBackend, Notifying, Joining, Migrating, BodyLimited):
        assert isinstance(telling, power)


def test_nothing_of_the_url_shows():
    backend = backend_from_url("postgresql://someone:s3cr3t@there/db?application_name=mine")
    assert "s3cr3t" not in repr(backend) + repr(vars(backend))


async def test_a_pool_of_the_user_s(server, prefix, admin):
    async with asyncpg.create_pool(server("postgres"), min_size=1, max_size=3) as pool:
        backend = PostgresBackend(pool, prefix=prefix)
        await backend.open(SCHEMA)
        await asyncio.gather(*(backend.put(ref(f"k{number}"), change(), if_revision=0) for number in range(30)))
        await backend.close()
        # It is not ours to close, and nothing was left in it.
        assert await pool.fetchval(f"select count(*) from {prefix}_records") == 30  # noqa: S608
        assert pool.get_idle_size() == pool.get_size()
        await backend.open(SCHEMA)
        assert len((await backend.query("n", Where(), limit=50)).items) == 30
        await backend.close()


async def test_a_pool_with_codecs_of_its_own(server, prefix, admin):
    async def codecs(connection):
        await connection.set_type_codec("jsonb", schema="pg_catalog", encoder=repr, decoder=list)

    async with asyncpg.create_pool(server("postgres"), min_size=0, max_size=1, init=codecs) as pool:
        backend = PostgresBackend(pool, prefix=prefix)
        await backend.open(SCHEMA)
        await backend.put(ref(), change(attributes={"status": "x", "free": 1}), if_revision=0)
        (found,) = (await backend.query("n", Where({"status": "x", "free": 1}), limit=5)).items
        assert found.attributes == {"status": "x", "free": 1}
        await backend.close()


async def test_a_pool_of_the_user_s_outlives_what_it_has_lent(server, prefix, admin):
    async with asyncpg.create_pool(server("postgres"), min_size=0, max_size=1) as pool:
        backend = PostgresBackend(pool, prefix=prefix)
        await backend.open(SCHEMA)
        revision = (await backend.put(ref(), change(), if_revision=0)).revision
        async with admin.transaction():
            await admin.execute(f"select from {prefix}_records for update")
            waiting = asyncio.ensure_future(backend.put(ref(), change(), if_revision=revision))
            mine = "not granted and transactionid = pg_current_xact_id()::xid"
            while not await admin.fetch(f"select pg_terminate_backend(pid) from pg_locks where {mine}"):  # noqa: S608
                await asyncio.sleep(0.01)
            with pytest.raises(UnknownOutcome):
                await waiting
        await backend.put(ref(), change(), if_revision=revision)
        async with asyncio.timeout(10):
            await backend.close()


async def test_what_is_joined_is_there_when_the_user_commits(backend, admin, prefix):
    await admin.execute(f"create table {prefix}_orders (id int)")
    with pytest.raises(ZeroDivisionError):  # noqa: PT012 - the block is a transaction that fails
        async with admin.transaction():
            await admin.execute(f"insert into {prefix}_orders values (1)")  # noqa: S608
            await backend.within(admin).put(ref(), change(body=b"b"), if_revision=0)
            raise ZeroDivisionError
    assert (await backend.get(ref())).record is None
    async with admin.transaction():
        await admin.execute(f"insert into {prefix}_orders values (2)")  # noqa: S608
        joined = backend.within(admin)
        assert isinstance(joined, StorageBackend)
        await joined.open(SCHEMA)
        written = await joined.put(ref(), change(body=b"b", attributes={"status": "x"}), if_revision=0)
        with pytest.raises(RevisionConflict):
            await joined.put(ref(), change(), if_revision=0)
        late = written.now - timedelta(seconds=1)
        with pytest.raises(DeadlinePassed):
            await joined.put(ref(), change(), if_revision=written.revision, not_after=late)
        # Neither has spoilt the transaction; within it the record is there, outside it is not.
        assert (await joined.get(ref())).record.body == b"b"
        assert len((await joined.query("n", Where({"status": "x"}), limit=5)).items) == 1
        assert (await backend.get(ref())).record is None
        await joined.close()
    assert (await backend.get(ref())).record.revision == written.revision
    assert [row["id"] for row in await admin.fetch(f"select id from {prefix}_orders")] == [2]  # noqa: S608


async def test_what_is_joined_holds_others_up_and_one_wins(backend, admin):
    revision = (await backend.put(ref(), change(), if_revision=0)).revision
    async with admin.transaction():
        await backend.within(admin).put(ref(), change("joined"), if_revision=revision)
        other = asyncio.ensure_future(backend.put(ref(), change("other"), if_revision=revision))
        await asyncio.sleep(0.1)
        assert not other.done()
    with pytest.raises(RevisionConflict):
        await other
    assert (await backend.get(ref())).record.write_id == "joined"


async def test_a_writer_who_had_to_wait_past_its_deadline_loses(backend, admin):
    written = await backend.put(ref(), change(), if_revision=0)
    deadline = written.now + timedelta(seconds=0.2)
    with pytest.raises(ZeroDivisionError):  # noqa: PT012 - the block is a transaction that fails
        async with admin.transaction():
            await backend.within(admin).put(ref(), change(), if_revision=written.revision)
            late = asyncio.ensure_future(backend.put(ref(), change(), if_revision=written.revision, not_after=deadline))
            await asyncio.sleep(0.4)
            raise ZeroDivisionError
    with pytest.raises(DeadlinePassed):
        await late
    assert (await backend.get(ref())).record.revision == written.revision


async def test_a_new_record_that_had_to_wait_past_its_deadline_is_not_made(backend, admin):
    deadline = (await backend.ping()).now + timedelta(seconds=0.2)
    with pytest.raises(ZeroDivisionError):  # noqa: PT012 - the block is a transaction that fails
        async with admin.transaction():
            await backend.within(admin).put(ref(), change(), if_revision=0)
            late = asyncio.ensure_future(backend.put(ref(), change(body=b"b"), if_revision=0, not_after=deadline))
            await asyncio.sleep(0.4)
            raise ZeroDivisionError
    with pytest.raises(DeadlinePassed):
        await late
    assert (await backend.get(ref())).record is None


async def test_a_joined_write_that_had_to_wait_past_its_deadline_spoils_nothing(backend, admin, server):
    written = await backend.put(ref(), change(), if_revision=0)
    deadline = written.now + timedelta(seconds=0.2)
    other = await asyncpg.connect(server("postgres"))
    async with admin.transaction():
        blocking = other.transaction()
        await blocking.start()
        await backend.within(other).put(ref(), change(), if_revision=written.revision)
        late = asyncio.ensure_future(
            backend.within(admin).put(ref(), change(), if_revision=written.revision, not_after=deadline)
        )
        await asyncio.sleep(0.4)
        await blocking.rollback()
        with pytest.raises(DeadlinePassed):
            await late
        await backend.within(admin).put(ref(), change("in time"), if_revision=written.revision)
    assert (await backend.get(ref())).record.write_id == "in time"
    await other.close()


async def test_an_error_in_a_joined_transaction_is_never_retryable(backend, server):
    connection = await asyncpg.connect(server("postgres"))
    transaction = connection.transaction()
    await transaction.start()
    with pytest.raises(asyncpg.PostgresError):
        await connection.execute("select 1/0")
    with pytest.raises(TransactionAborted) as refused:
        await backend.within(connection).put(ref(), change(), if_revision=0)
    assert not refused.value.retryable
    await transaction.rollback()
    connection.terminate()
    with pytest.raises(TransactionAborted) as refused:
        await backend.within(connection).put(ref(), change(), if_revision=0)
    assert not refused.value.retryable


async def test_changes_are_told_as_they_come(backend, url):
    other = backend_from_url(f"{url}&notify=on")
    await other.open(SCHEMA)
    async with backend.changes("n") as changes, asyncio.timeout(10):
        revision = (await other.put(ref("a'\"\\é"), change(body=b"b"), if_revision=0)).revision
        await other.put(RecordRef("elsewhere", "b"), change(), if_revision=0)
        revision = (await other.put(ref("a'\"\\é"), change(), if_revision=revision)).revision
        with pytest.raises(RevisionConflict):
            await other.put(ref("a'\"\\é"), change(), if_revision=revision + 1)
        await other.delete(ref("a'\"\\é"), if_revision=revision)
        await other.put(ref("k" * 512), change(), if_revision=0)
        await other.purge("n", Where(), limit=5)
        told = [await anext(changes) for _ in range(5)]
    assert told == ["a'\"\\é"] * 3 + ["k" * 512] * 2
    await other.close()


async def test_what_is_joined_is_told_at_its_commit(backend, admin):
    async with backend.changes("n") as changes, asyncio.timeout(10):
        async with admin.transaction():
            await backend.within(admin).put(ref("later"), change(), if_revision=0)
            await backend.put(ref("sooner"), change(), if_revision=0)
            assert await anext(changes) == "sooner"
        assert await anext(changes) == "later"


async def test_a_listener_learns_that_its_connection_is_lost(backend, admin):
    with pytest.raises(BackendUnavailable, match="listen again") as lost:  # noqa: PT012 - the loss comes while listening
        async with backend.changes("n") as changes:
            await admin.fetch("select pg_terminate_backend(pid) from pg_stat_activity where query like 'LISTEN%'")
            async with asyncio.timeout(10):
                await anext(changes)
    assert lost.value.retryable
    async with backend.changes("n") as changes, asyncio.timeout(10):
        await backend.put(ref(), change(), if_revision=0)
        assert await anext(changes) == "k"


async def test_listeners_neither_take_what_operations_need_nor_hold_up_the_end(url):
    backend = backend_from_url(f"{url}&notify=on&pool_size=1&acquire_timeout=2")
    await backend.open(SCHEMA)
    async with backend.changes("n"), backend.changes("n") as changes:
        await backend.put(ref(), change(), if_revision=0)
        async with asyncio.timeout(10):
            assert await anext(changes) == "k"
            await backend.close()
            with pytest.raises(BackendUnavailable):
                await anext(changes)


async def test_a_listener_that_falls_behind_is_told_so(server, prefix, admin, monkeypatch):
    monkeypatch.setattr("flowpersist.backends._postgres.listening.WAITING", 5)
    backend = PostgresBackend(server("postgres"), prefix=prefix, notify=True)
    await backend.open([])
    try:
        async with backend.changes("n") as keys:
            for number in range(20):
                await backend.put(RecordRef("n", f"k{number}"), RecordChange("w"))
            # The notifications come on another connection.
            await asyncio.sleep(0.2)
            with pytest.raises(BackendUnavailable, match="busy; listen again") as behind:
                async for _ in keys:
                    pass
            assert behind.value.retryable
    finally:
        await backend.close()


async def test_listening_on_a_pool_of_the_user_s(server, prefix, admin):
    async with asyncpg.create_pool(server("postgres"), min_size=0, max_size=2) as pool:
        backend = PostgresBackend(pool, prefix=prefix, notify=True)
        await backend.open(SCHEMA)
        async with backend.changes("n") as changes, asyncio.timeout(10):
            await backend.put(ref(), change(), if_revision=0)
            assert await anext(changes) == "k"
        await backend.close()
        assert pool.get_idle_size() == pool.get_size() == 2


async def test_listeners_leave_a_pool_of_the_user_s_one_connection(server, prefix, admin):
    async with asyncpg.create_pool(server("postgres"), min_size=0, max_size=2) as pool:
        backend = PostgresBackend(pool, prefix=prefix, notify=True)
        await backend.open(SCHEMA)
        async with backend.changes("n") as changes, asyncio.timeout(10):
            with pytest.raises(ConfigurationError, match="max_size"):
                async with backend.changes("n"):
                    pass
            await backend.put(ref(), change(), if_revision=0)
            assert await anext(changes) == "k"
        # What was refused and what has ended takes nothing.
        async with backend.changes("n"):
            pass
        await backend.close()


async def test_who_is_about_to_listen_as_the_store_closes_does_not(url, server):
    async with Proxy(*address_of(server("postgres"))) as proxy:
        backend = backend_from_url(f"{rerouted(url, proxy.address)}&notify=on")
        await backend.open(SCHEMA)

        async def listen():
            async with backend.changes("n") as changes:
                await anext(changes)

        listening = asyncio.ensure_future(listen())
        connected = proxy.accepted
        proxy.stall()
        while proxy.accepted == connected:
            await asyncio.sleep(0.001)
        closing = asyncio.ensure_future(backend.close())
        await asyncio.sleep(0.01)
        proxy.resume()
        async with asyncio.timeout(10):
            await closing
            with pytest.raises(BackendUnavailable, match="not open"):
                await listening
        while proxy.connections:
            await asyncio.sleep(0.01)


async def test_a_listener_on_a_pool_of_the_user_s_learns_that_its_connection_is_lost(server, prefix, admin):
    async with asyncpg.create_pool(server("postgres"), min_size=0, max_size=2) as pool:
        backend = PostgresBackend(pool, prefix=prefix, notify=True)
        await backend.open(SCHEMA)
        with pytest.raises(BackendUnavailable, match="listen again"):  # noqa: PT012 - the loss comes while listening
            async with backend.changes("n") as changes, asyncio.timeout(10):
                channel = backend._layout.channel(backend._known.schema, "n")
                statement = "select pg_terminate_backend(pid) from pg_stat_activity where query = $1"
                assert await admin.fetch(statement, f'LISTEN "{channel}"')
                await anext(changes)
        async with asyncio.timeout(10):
            await backend.close()


async def test_a_listener_whose_server_is_silent_can_be_cancelled(url, monkeypatch):
    monkeypatch.setattr("flowpersist.backends._postgres.listening.PATIENCE", 0.2)
    async with Proxy(*address_of(url)) as proxy:
        backend = backend_from_url(f"{rerouted(url, proxy.address)}&notify=on&command_timeout=2")
        await backend.open(SCHEMA)
        listening = asyncio.Event()

        async def listen():
            async with backend.changes("n") as changes:
                listening.set()
                await anext(changes)

        task = asyncio.ensure_future(listen())
        await listening.wait()
        proxy.stall()
        task.cancel()
        await asyncio.wait([task], timeout=10)
        assert task.cancelled()
        proxy.resume()
        await backend.close()


async def test_one_wins_at_every_isolation_level(url):
    for level in ("read%20committed", "repeatable%20read", "serializable"):
        backend = backend_from_url(f"{url}&default_transaction_isolation={level}")
        await backend.open(SCHEMA)
        for number in range(10):
            revision = (await backend.put(ref(f"{level}-{number}"), change(), if_revision=0)).revision
            racing = [backend.put(ref(f"{level}-{number}"), change(), if_revision=revision) for _ in range(10)]
            done = await asyncio.gather(*racing, return_exceptions=True)
            lost = [one for one in done if isinstance(one, StorageError)]
            assert len(lost) == 9
            assert all(isinstance(one, RevisionConflict) or one.retryable for one in lost), lost
        await backend.close()


async def test_connections_that_nobody_needs_are_closed(url, admin, prefix, monkeypatch):
    monkeypatch.setattr("flowpersist.backends._postgres.pool.KEPT", 0.1)
    backend = backend_from_url(f"{url}&application_name={prefix}")
    await backend.open(SCHEMA)
    await asyncio.gather(*(backend.get(ref()) for _ in range(20)))
    count = "select count(*) from pg_stat_activity where application_name = $1"
    assert await admin.fetchval(count, prefix) > 1
    async with asyncio.timeout(10):
        while await admin.fetchval(count, prefix):
            await asyncio.sleep(0.05)
    await backend.get(ref())
    await backend.close()


async def test_without_notify_nobody_can_listen(url):
    backend = backend_from_url(url)
    await backend.open(SCHEMA)
    with pytest.raises(ConfigurationError, match="notify=on"):
        async with backend.changes("n"):
            pass
    await backend.close()


async def test_what_a_crash_of_the_server_may_lose_is_a_warning(url):
    backend = backend_from_url(f"{url}&synchronous_commit=off")
    await backend.open(SCHEMA)
    assert [warning for warning in (await backend.ping()).warnings if "synchronous_commit" in warning]
    await backend.close()


@pytest.mark.parametrize(
    "damage",
    [
        "update {}_records set attributes = '[]'",
        """update {}_records set attributes = '{{"a": "x1"}}'""",
        "update {}_records set created_at = 9223372036854775807",
    ],
)
async def test_a_record_of_another_s_making_is_an_integrity_error(backend, admin, prefix, damage):
    await backend.put(ref(), change(attributes={"a": 1}, body=b"b"), if_revision=0)
    await admin.execute(damage.format(prefix))
    with pytest.raises(IntegrityError, match="can't be read"):
        await backend.get(ref())
    assert [one.ref for one in (await backend.query("n", Where(), limit=1)).unreadable] == [ref()]


@pytest.mark.parametrize("damage", ["delete from {}_bodies", "update {}_bodies set data = 'short'"])
async def test_a_body_that_is_gone_or_cut_is_an_integrity_error(backend, admin, prefix, damage):
    await backend.put(ref(), change(head=b"h", body=b"longer than that"), if_revision=0)
    await admin.execute(damage.format(prefix))
    with pytest.raises(IntegrityError, match="body"):
        await backend.get(ref())
    assert (await backend.get(ref(), body=False)).record.head == b"h"


async def test_no_body_stays_without_its_record(backend, admin, prefix):
    count = f"select count(*) from {prefix}_bodies"  # noqa: S608
    for number in range(20):
        await backend.put(ref(f"k{number}"), change(body=b"b" * 5000), if_revision=0)
    assert await admin.fetchval(count) == 20
    for number in range(5):
        record = (await backend.get(ref(f"k{number}"))).record
        await backend.put(record.ref, change(body=None), if_revision=record.revision)
    assert await admin.fetchval(count) == 15
    record = (await backend.get(ref("k10"))).record
    await backend.delete(record.ref, if_revision=record.revision)
    assert await admin.fetchval(count) == 14
    assert await backend.purge("n", Where(), limit=100) == 19
    assert await admin.fetchval(count) == 0


async def test_bodies_are_stored_as_they_are(backend, admin, prefix):
    stored = await admin.fetch(
        "select attname::text, attstorage::text from pg_attribute "
        "where attrelid in ($1::text::regclass, $2::text::regclass) and attname in ('head', 'data')",
        f"{prefix}_records",
        f"{prefix}_bodies",
    )
    assert {tuple(row) for row in stored} == {("head", "e"), ("data", "e")}


async def test_a_body_over_the_limit_is_refused_before_it_is_sent(backend, monkeypatch):
    monkeypatch.setattr(backend, "largest_body", 1000)
    await backend.put(ref(), change(body=bytes(1000)), if_revision=0)
    with pytest.raises(StorageError, match="1001"):
        await backend.put(ref("l"), change(body=bytes(1001)), if_revision=0)
    assert (await backend.get(ref("l"))).record is None


@pytest.fixture
def pooler(server):
    """A pgbouncer that gives each transaction another connection."""
    pgbouncer = program("pgbouncer", "pgbouncer")
    directory = Path(tempfile.mkdtemp(prefix="flowpersist-pgbouncer-"))
    target = urlsplit(server("postgres"))
    password = f" password={target.password}" if target.password else ""
    own = free_port()
    (directory / "ini").write_text(
        f"[databases]\n* = host={target.hostname} port={target.port} user={target.username}{password}\n[pgbouncer]\n"
        f"listen_addr = 127.0.0.1\nlisten_port = {own}\nunix_socket_dir =\nauth_type = any\n"
        f"pool_mode = transaction\ndefault_pool_size = 3\nlogfile = {directory}/log\n"
    )
    user = ["runuser", "-u", "postgres", "--"] if shutil.which("runuser") else []
    if user:
        shutil.chown(directory, "postgres")
    process = subprocess.Popen([*user, pgbouncer, "-q", directory / "ini"])
    yield f"postgresql://anybody@127.0.0.1:{own}{target.path}"
    process.terminate()
    process.wait(10)
    shutil.rmtree(directory)


async def test_behind_a_pooler_of_transactions(pooler, prefix, admin):
    backend = backend_from_url(f"{pooler}?prefix={prefix}&statement_cache=off&pool_size=10")
    async with asyncio.timeout(60):
        while True:
            try:
                await backend.open(SCHEMA)
                break
            except BackendUnavailable:
                # It has only just been started.
                await asyncio.sleep(0.1)

        async def life(key):
            revision = (await backend.put(ref(key), change(body=b"b"), if_revision=0)).revision
            revision = (await backend.put(ref(key), change(attributes={"status": "x"}), if_revision=revision)).revision
            assert (await backend.get(ref(key))).record.body == b"b"

        await asyncio.gather(*(life(f"k{number}") for number in range(40)))
        assert len((await backend.query("n", Where({"status": "x"}), limit=50)).items) == 40
        assert await backend.purge("n", Where(), limit=100) == 40
        await backend.close()
