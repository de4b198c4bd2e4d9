"""What goes wrong with PostgreSQL becomes a typed error that names the remedy, and is over when its cause is."""

import asyncio
import logging
import os
import shutil
import socket
import subprocess
import time
import traceback

import asyncpg
import pytest

from flowpersist.backends._postgres.schema import OLDEST, check_version
from flowpersist.backends.base import NamespaceSchema, RecordChange, RecordRef, Where
from flowpersist.backends.registry import backend_from_url
from flowpersist.errors import (
    BackendUnavailable,
    ConfigurationError,
    PoolTimeout,
    RevisionConflict,
    StorageError,
    StorageFull,
    UnknownOutcome,
)
from flowpersist.testing.proxy import Proxy, rerouted
from machine import free_port
from postgres_cluster import Cluster

SCHEMA = [NamespaceSchema("n", {"status": str})]
SECRET = "s3cr3t-of-the-test"


@pytest.fixture(scope="module")
def cluster():
    made = Cluster()
    yield made
    made.remove()


@pytest.fixture
async def admin(cluster):
    connection = await asyncpg.connect(cluster.url())
    yield connection
    await connection.close()


@pytest.fixture
async def backend(cluster, prefix):
    made = backend_from_url(cluster.url(prefix=prefix, command_timeout=5, acquire_timeout=5))
    await made.open(SCHEMA)
    yield made
    await made.close()


def ref(key="k"):
    return RecordRef("n", key)


def change(write_id="w", **parts):
    return RecordChange(write_id, **parts)


async def refused(url, *, error=BackendUnavailable, retryable=False):
    backend = backend_from_url(url)
    with pytest.raises(error) as raised:
        await backend.open(SCHEMA)
    if retryable is not None:
        assert raised.value.retryable is retryable
    # Nothing stays open.
    await backend.close()
    return raised.value


def transient(error):
    return error.retryable or isinstance(error, UnknownOutcome)


async def eventually(action, patience=15):
    """What an operation gives once the server is back."""
    ends = time.monotonic() + patience
    while True:
        try:
            return await action()
        except StorageError as error:
            if not transient(error) or time.monotonic() > ends:
                raise
        await asyncio.sleep(0.05)


async def test_down_at_the_start():
    error = await refused(f"postgresql://u:{SECRET}@127.0.0.1:{free_port()}/d", retryable=True)
    assert "check that it runs" in error.message


async def test_a_host_that_is_none():
    assert "host" in (await refused("postgresql://u@no-such-host.invalid/d", retryable=None)).message


async def test_a_host_that_never_answers():
    with socket.create_server(("127.0.0.1", 0)) as mute:
        port = mute.getsockname()[1]
        error = await refused(f"postgresql://u@127.0.0.1:{port}/d?connect_timeout=0.2", retryable=True)
    assert "did not answer in time" in error.message


async def test_a_wrong_password(cluster, admin, caplog):
    caplog.set_level(logging.DEBUG)
    await admin.execute("drop role if exists someone; create role someone login password 'right'")
    error = await refused(cluster.url(user="someone", password=SECRET))
    assert "password" in error.message
    assert "pg_hba.conf" in error.message
    assert SECRET not in "".join(traceback.format_exception(error)) + repr(error) + caplog.text


async def test_a_wrong_database(cluster):
    assert "create it" in (await refused(cluster.url("nowhere"))).message


async def test_a_right_that_is_missing(cluster, admin, prefix):
    await admin.execute("drop role if exists reader; create role reader login password 'right'")
    error = await refused(cluster.url(user="reader", password="right", prefix=prefix))
    assert "migrate --plan" in error.message


async def test_what_an_owner_has_made_needs_few_rights(cluster, admin, prefix):
    await admin.execute("drop role if exists clerk; create role clerk login password 'right'")
    for statement in await backend_from_url(cluster.url(prefix=prefix)).plan(SCHEMA):
        await admin.execute(statement)
    for name in ("meta", "records", "bodies"):
        await admin.execute(f"grant select, insert, update, delete on {prefix}_{name} to clerk")
    await admin.execute(f"grant usage on sequence {prefix}_revisions to clerk")
    backend = backend_from_url(cluster.url(user="clerk", password="right", prefix=prefix))
    await backend.open(SCHEMA)
    written = await backend.put(ref(), change(body=b"b", attributes={"status": "x"}), if_revision=0)
    assert len((await backend.query("n", Where({"status": "x"}), limit=1)).items) == 1
    assert await backend.delete(ref(), if_revision=written.revision)
    await backend.close()
    await admin.execute("drop owned by clerk")


async def test_tls_that_the_server_does_not_speak(cluster):
    error = await refused(cluster.url(sslmode="require"))
    assert "sslmode" in error.message


@pytest.mark.parametrize("option", ["sslmode=perhaps", "no_such_option=1", "ssl_min_protocol_version=9"])
async def test_options_that_nobody_knows(cluster, option):
    error = await refused(f"{cluster.url(password=SECRET)}?{option}", error=ConfigurationError, retryable=None)
    assert SECRET not in "".join(traceback.format_exception(error))


def test_a_password_that_is_not_escaped_stays_secret():
    with pytest.raises(ConfigurationError) as raised:
        backend_from_url(f"postgresql://user:pass/{SECRET}@host/db")
    assert SECRET not in "".join(traceback.format_exception(raised.value))


@pytest.mark.parametrize("option", ["pool_size=0", "prefix=A-b", "notify=maybe", "acquire_timeout=soon"])
def test_options_that_make_no_sense(option):
    with pytest.raises(ConfigurationError, match=option.partition("=")[0]):
        backend_from_url(f"postgresql://host/db?{option}")


async def test_an_encoding_that_can_not_hold_all_characters(cluster, admin):
    await admin.execute("drop database if exists latin")
    await admin.execute("create database latin encoding 'LATIN1' template template0 locale 'C'")
    assert "UTF8" in (await refused(cluster.url("latin"), error=ConfigurationError, retryable=None)).message


async def test_no_schema_to_write_to(cluster):
    error = await refused(cluster.url(search_path="nowhere"), error=ConfigurationError, retryable=None)
    assert "search_path" in error.message


def test_a_server_that_is_too_old():
    check_version(OLDEST)
    check_version(OLDEST + 5)
    with pytest.raises(BackendUnavailable, match="upgrade") as refusal:
        check_version(OLDEST - 1)
    assert not refusal.value.retryable


async def test_read_only(cluster, admin, backend, prefix):
    revision = (await backend.put(ref(), change(head=b"old"), if_revision=0)).revision
    await admin.execute("drop role if exists watcher; create role watcher login superuser password 'right'")
    await admin.execute("alter role watcher set default_transaction_read_only = on")
    assert "read-only" in (await refused(cluster.url(user="watcher", password="right", prefix=prefix))).message
    # It becomes so while the store is open.
    await admin.execute("alter database postgres set default_transaction_read_only = on")
    try:
        await admin.fetch(
            "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'flowpersist'"
        )
        await asyncio.sleep(0.2)
        with pytest.raises(BackendUnavailable, match="read-only") as refusal:
            await backend.put(ref(), change(head=b"new"), if_revision=revision)
        assert not refusal.value.retryable
        assert any("read-only" in warning for warning in (await backend.ping()).warnings)
    finally:
        await admin.execute("set default_transaction_read_only = off")
        await admin.execute("alter database postgres reset default_transaction_read_only")
    await admin.fetch("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'flowpersist'")
    await eventually(lambda: backend.put(ref(), change(head=b"new"), if_revision=revision))


async def crowd(cluster, held):
    while True:
        held.append(await asyncpg.connect(cluster.url(user="crowd", password="right")))


async def test_out_of_connections(cluster, backend):
    held = []
    role = await asyncpg.connect(cluster.url())
    await role.execute(
        "drop role if exists crowd; create role crowd login superuser password 'right'; alter role crowd nosuperuser"
    )
    await role.close()
    with pytest.raises(asyncpg.PostgresError):
        await crowd(cluster, held)
    error = await refused(cluster.url(user="crowd", password="right"), retryable=True)
    assert "max_connections" in error.message
    # Who has a connection goes on.
    await backend.get(ref())
    for connection in held:
        await connection.close()


async def test_a_pool_that_is_too_small(cluster, admin, prefix):
    backend = backend_from_url(cluster.url(prefix=prefix, pool_size=1, acquire_timeout=0.2))
    await backend.open(SCHEMA)
    revision = (await backend.put(ref(), change(), if_revision=0)).revision
    async with admin.transaction():
        await admin.execute(f"select from {prefix}_records for update")
        waiting = asyncio.ensure_future(backend.put(ref(), change(), if_revision=revision))
        await asyncio.sleep(0.05)
        with pytest.raises(PoolTimeout, match="pool_size") as refusal:
            await backend.get(ref())
        assert refusal.value.retryable
    await waiting
    await backend.get(ref())
    await backend.close()


async def test_many_share_two_connections(cluster, prefix):
    backend = backend_from_url(cluster.url(prefix=prefix, pool_size=2, acquire_timeout=120))
    await backend.open(SCHEMA)
    await asyncio.gather(*(backend.put(ref(f"k{number}"), change(), if_revision=0) for number in range(500)))
    assert len((await backend.query("n", Where(), limit=1000)).items) == 500
    await backend.close()


async def test_a_lock_that_takes_too_long(cluster, admin, prefix):
    backend = backend_from_url(cluster.url(prefix=prefix, command_timeout=0.3))
    await backend.open(SCHEMA)
    revision = (await backend.put(ref(), change(head=b"old"), if_revision=0)).revision
    async with admin.transaction():
        await admin.execute(f"select from {prefix}_records for update")
        with pytest.raises(UnknownOutcome, match="command_timeout"):
            await backend.put(ref(), change(head=b"new"), if_revision=revision)
        await asyncio.sleep(0.2)
    # The statement was cancelled, and its connection serves the next.
    assert (await backend.get(ref())).record.head == b"old"
    await backend.close()


async def test_killed_and_started_again(cluster, backend):
    revision = (await backend.put(ref(), change(head=b"acknowledged"), if_revision=0)).revision
    cluster.kill()
    for _ in range(3):
        with pytest.raises(StorageError) as refusal:
            await backend.put(ref(), change(), if_revision=revision)
        assert refusal.value.retryable or isinstance(refusal.value, UnknownOutcome)
    await asyncio.to_thread(cluster.start)
    record = (await eventually(lambda: backend.get(ref()))).record
    assert (record.head, record.revision) == (b"acknowledged", revision)
    await eventually(lambda: backend.put(ref(), change(), if_revision=revision))


async def test_killed_in_the_middle_of_writes(cluster, backend):
    acknowledged = {}

    async def write(key):
        for number in range(10_000):
            try:
                made = await backend.put(
                    ref(key), change(head=b"%d" % number), if_revision=acknowledged.get(key, (0,))[0]
                )
            except StorageError as error:
                if not transient(error):
                    raise
                return
            acknowledged[key] = made.revision, b"%d" % number

    writers = [asyncio.ensure_future(write(f"k{number}")) for number in range(8)]
    await asyncio.sleep(0.5)
    cluster.kill()
    await asyncio.gather(*writers)
    await asyncio.to_thread(cluster.start)
    assert len(acknowledged) == 8
    for key, (revision, head) in acknowledged.items():
        record = (await eventually(lambda key=key: backend.get(ref(key)))).record
        # One more may have been written without having been acknowledged.
        assert record.revision >= revision
        assert int(record.head) in {int(head), int(head) + 1}


async def test_connections_that_died_while_idle_are_replaced_unseen(cluster, admin, backend):
    revision = (await backend.put(ref(), change(), if_revision=0)).revision
    await asyncio.gather(*(backend.get(ref()) for _ in range(5)))
    await admin.fetch("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'flowpersist'")
    # The loop has no turn in which it could see them go.
    time.sleep(0.3)
    await backend.put(ref(), change(), if_revision=revision)


async def test_connections_that_hang_are_replaced(cluster, prefix, monkeypatch):
    monkeypatch.setattr("flowpersist.backends._postgres.connections.ASLEEP", 0.2)
    monkeypatch.setattr("flowpersist.backends._postgres.connections.PATIENCE", 0.2)
    async with Proxy("127.0.0.1", cluster.port) as proxy:
        backend = backend_from_url(rerouted(cluster.url(prefix=prefix), proxy.address))
        await backend.open(SCHEMA)
        revision = (await backend.put(ref(), change(), if_revision=0)).revision
        await asyncio.sleep(0.3)
        proxy.stall()
        put = asyncio.ensure_future(backend.put(ref(), change(), if_revision=revision))
        await asyncio.sleep(0.6)
        proxy.resume()
        await put
        await backend.close()


async def test_a_lost_acknowledgement_is_of_unknown_outcome(cluster, prefix):
    async with Proxy("127.0.0.1", cluster.port) as proxy:
        backend = backend_from_url(rerouted(cluster.url(prefix=prefix, pool_size=1), proxy.address))
        await backend.open(SCHEMA)
        # From here on the statement is prepared, and the next request is the write itself.
        revision = (await backend.put(ref(), change("w0"), if_revision=0)).revision
        revision = (await backend.put(ref(), change("w1"), if_revision=revision)).revision
        for number in range(10):
            mine = change(f"mine-{number}", head=b"%d" % number)
            proxy.lose()
            with pytest.raises(UnknownOutcome):
                await backend.put(ref(), mine, if_revision=revision)
            with pytest.raises(RevisionConflict):
                await backend.put(ref(), mine, if_revision=revision)
            record = (await backend.get(ref())).record
            assert (record.write_id, record.head) == (mine.write_id, mine.head)
            revision = (await backend.put(ref(), change(), if_revision=record.revision)).revision
        await backend.close()


async def test_a_reply_that_is_cut_short(cluster, prefix):
    async with Proxy("127.0.0.1", cluster.port) as proxy:
        backend = backend_from_url(rerouted(cluster.url(prefix=prefix, pool_size=1), proxy.address))
        await backend.open(SCHEMA)
        await backend.put(ref(), change(body=bytes(2_000_000)), if_revision=0)
        await backend.get(ref())
        proxy.cut_after(100_000)
        with pytest.raises(BackendUnavailable) as refusal:
            await backend.get(ref())
        assert refusal.value.retryable
        assert len((await backend.get(ref())).record.body) == 2_000_000
        await backend.close()


async def test_cancelled_at_every_moment(cluster, prefix):
    async with Proxy("127.0.0.1", cluster.port) as proxy:
        # With one connection, a read waits until what was cancelled has ended on the server.
        backend = backend_from_url(rerouted(cluster.url(prefix=prefix, pool_size=1), proxy.address))
        await backend.open(SCHEMA)
        revision = 0
        for turns in range(60):
            mark = b"%d" % turns
            task = asyncio.ensure_future(
                backend.put(ref(), change(f"w{turns}", head=mark, body=mark * 20_000), if_revision=revision)
            )
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            done = (await asyncio.gather(task, return_exceptions=True))[0]
            assert not isinstance(done, Exception), done
            # Nobody gets another's reply, and what there is, is whole.
            record = (await backend.get(ref())).record
            if record is not None:
                assert record.body == record.head * 20_000
                revision = record.revision
            await backend.purge("n", Where({"status": "never"}), limit=1)
        await backend.close()
        assert proxy.connections <= 1


async def test_no_connection_is_lost_to_cancellation(cluster, admin, prefix):
    backend = backend_from_url(cluster.url(prefix=prefix, pool_size=2, acquire_timeout=5))
    await backend.open(SCHEMA)
    await backend.put(ref(), change(), if_revision=0)
    async with admin.transaction():
        await admin.execute(f"select from {prefix}_records for update")
        for _ in range(10):
            tasks = [asyncio.ensure_future(backend.delete(ref(), if_revision=number)) for number in range(1, 6)]
            await asyncio.sleep(0.02)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.gather(*(backend.get(ref()) for _ in range(20)))
    count = "select count(*) from pg_stat_activity where application_name = 'flowpersist' and state = 'active'"
    assert await admin.fetchval(count) == 0
    await backend.close()


@pytest.fixture
def small_disk(cluster):
    """A disk of 24 MB, where mounting is allowed, that the server may write to."""
    path = cluster.directory / "small"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(path)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    shutil.chown(path, "postgres")
    yield path
    subprocess.run(["umount", "-l", path], check=True)


async def test_a_full_disk(cluster, small_disk, admin, prefix):
    await admin.execute(f"create tablespace small location '{small_disk}'")
    backend = backend_from_url(cluster.url(prefix=prefix, default_tablespace="small"))
    await backend.open(SCHEMA)
    revision = (await backend.put(ref(), change(head=b"old", body=b"o" * 100_000), if_revision=0)).revision
    filler = small_disk / "filler"
    free = os.statvfs(small_disk)
    filler.write_bytes(bytes(free.f_bavail * free.f_frsize - 2_000_000))
    for _ in range(3):
        with pytest.raises(StorageFull) as refusal:
            await backend.put(ref(), change(head=b"new", body=b"n" * 3_000_000), if_revision=revision)
        assert not refusal.value.retryable
        record = (await backend.get(ref())).record
        assert (record.revision, record.head, record.body) == (revision, b"old", b"o" * 100_000)
    filler.unlink()
    await backend.put(ref(), change(head=b"new", body=b"n" * 3_000_000), if_revision=revision)
    assert (await backend.get(ref())).record.body == b"n" * 3_000_000
    await backend.close()
    for name in ("records", "bodies", "meta"):
        await admin.execute(f"drop table {prefix}_{name}")
    await admin.execute("drop tablespace small")
