"""What goes wrong with a Redis server, done for real to servers of the tests' own, and how the backend recovers."""

import asyncio
import os
import random
import socket
import subprocess
import time
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
from attrs import evolve
from redis import Redis

from flowpersist.backends._redis.health import Server
from flowpersist.backends.base import (
    Capability,
    NamespaceSchema,
    RecordChange,
    RecordRef,
    Where,
)
from flowpersist.backends.registry import backend_from_url
from flowpersist.errors import (
    BackendUnavailable,
    ConfigurationError,
    PoolTimeout,
    RevisionConflict,
    StorageError,
    StorageFull,
    UnknownOutcome,
    UnsupportedVersion,
)
from flowpersist.testing.proxy import Proxy, Side, rerouted
from machine import free_port, program

SCHEMA = [NamespaceSchema("n", {"status": str, "live": bool})]
PASSWORD = "s3cret-pass"
#: What docs/reference/backend-redis.md says that a user must be allowed.
COMMANDS = (
    *("set", "get", "strlen", "exists", "rename", "persist", "unlink"),
    *("hset", "hsetnx", "hget", "hmget", "hkeys"),
    *("zadd", "zrem", "zcard", "zrangebylex", "zrevrangebylex"),
    *("eval", "evalsha", "time"),
)


class OwnServer:
    """A server on a port and in a directory of its own, which may be killed and started again."""

    def __init__(self, directory, *options):
        self.port = free_port()
        self.directory = directory
        self.options = options
        self.process = None
        self.url = f"redis://127.0.0.1:{self.port}/0"

    def start(self):
        fixed = ("--port", self.port, "--bind", "127.0.0.1", "--dir", self.directory, "--save", "", *self.options)
        command = ["redis-server", *map(str, fixed)]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.wait()
        return self

    def wait(self):
        for _ in range(200):
            try:
                with socket.create_connection(("127.0.0.1", self.port), 1) as connection:
                    connection.sendall(b"PING\r\n")
                    if connection.recv(64).startswith((b"+PONG", b"-NOAUTH")):
                        return
            except OSError:
                pass
            time.sleep(0.02)
        pytest.fail("redis-server did not start")

    def kill(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def client(self, **options):
        return Redis(port=self.port, **options)


@pytest.fixture
def own_server(tmp_path):
    program("redis-server", "redis-server")
    servers = []

    def make(*options):
        directory = tmp_path / f"server-{len(servers)}"
        directory.mkdir()
        servers.append(OwnServer(directory, *options))
        return servers[-1]

    yield make
    for one in servers:
        one.kill()


@asynccontextmanager
async def opened(url, schema=SCHEMA):
    backend = backend_from_url(url)
    await backend.open(schema)
    try:
        yield backend
    finally:
        await backend.close()


def change(**parts):
    return RecordChange(os.urandom(8).hex(), **parts)


async def make(backend, key, **parts):
    return await backend.put(RecordRef("n", key), change(**parts), if_revision=0)


async def got(backend, key):
    return (await backend.get(RecordRef("n", key))).record


def audit(client, prefix="flowpersist"):
    """What contradicts itself in the store: bodies of no record, index entries too many or too few."""
    keys = {key for key in client.keys("*") if key.startswith(b"{" + prefix.encode() + b":")}
    records = {}
    for key in keys:
        tag, rest = _parts(key)
        if rest.startswith(b"r:"):
            records[tag, rest[2:]] = client.hgetall(key)
    return [*_wrong_bodies(client, keys, records), *_wrong_indexes(client, keys, records)]


def _parts(key):
    tag, brace, rest = key.partition(b"}")
    return tag + brace, rest


def _wrong_bodies(client, keys, records):
    for key in keys:
        tag, rest = _parts(key)
        if rest.startswith(b"b:"):
            size = records.get((tag, rest[2:]), {}).get(b"s")
            if not size or client.strlen(key) != int(size) or client.ttl(key) != -1:
                yield f"{key!r} is not the lasting body of a record"
        if rest.startswith(b"u:") and not 0 < client.ttl(key) <= 3600:
            yield f"{key!r} never vanishes"
    for (tag, key), fields in records.items():
        if fields.get(b"s") and tag + b"b:" + key not in keys:
            yield f"{key!r} has no body"


def _wrong_indexes(client, keys, records):
    expected = {}
    for (tag, key), fields in records.items():
        for index, member in _entries(key, fields):
            expected.setdefault(tag + index, set()).add(member)
    there = {key for key in keys if client.type(key) == b"zset"}
    for key in there | expected.keys():
        if set(client.zrange(key, 0, -1)) != expected.get(key):
            yield f"{key!r} does not hold what the records say"


def _entries(key, fields):
    status = [part for part in (b"swaiting", b"srunning") if b'"status":"' + part in fields.get(b"a", b"")]
    yield b"key", key
    yield b"created", fields[b"c"] + key
    yield b"updated", fields[b"u"] + key
    if fields.get(b"d"):
        yield b"due", fields[b"d"] + key
    for part in status:
        yield b"key:status=" + part, key
        if fields.get(b"d"):
            yield b"due:status=" + part, fields[b"d"] + key


ALWAYS = ("--appendonly", "yes", "--appendfsync", "always")


async def test_down_at_the_start_and_there_later(own_server):
    server = own_server()
    backend = backend_from_url(server.url)
    with pytest.raises(BackendUnavailable, match="can't be reached") as refused:
        await backend.open(SCHEMA)
    assert refused.value.retryable
    server.start()
    await backend.open(SCHEMA)
    await make(backend, "a")
    await backend.close()


async def test_killed_in_the_middle_and_back(own_server):
    server = own_server(*ALWAYS).start()
    async with opened(server.url) as backend:
        written = await make(backend, "a", body=b"b" * 1000, attributes={"status": "waiting"})
        server.kill()
        for operation in (
            lambda: backend.get(RecordRef("n", "a")),
            lambda: backend.put(RecordRef("n", "a"), change(), if_revision=written.revision),
            backend.ping,
        ):
            with pytest.raises(StorageError) as failed:
                await operation()
            assert isinstance(failed.value, UnknownOutcome) or failed.value.retryable
        server.start()
        # The server has forgotten the scripts too.
        await backend.put(RecordRef("n", "a"), change(), if_revision=written.revision)
        assert (await got(backend, "a")).body == b"b" * 1000
        assert not audit(server.client())


async def test_nothing_acknowledged_is_lost_where_each_write_is_flushed(own_server):
    server = own_server(*ALWAYS).start()
    async with opened(server.url) as backend:
        assert Capability.DURABLE in backend.capabilities
        acknowledged = {}

        async def writer(name):
            for number in range(10_000):
                key, body = f"{name}-{number}", os.urandom(2000)
                try:
                    await make(backend, key, body=body, attributes={"status": "waiting"}, due_at=now)
                except StorageError:
                    return
                acknowledged[key] = body

        for _ in range(3):
            now = (await backend.ping()).now
            writers = [asyncio.ensure_future(writer(os.urandom(4).hex())) for _ in range(8)]
            await asyncio.sleep(0.2)
            server.kill()
            await asyncio.gather(*writers)
            server.start()
        assert len(acknowledged) > 50
        for key, body in acknowledged.items():
            assert (await got(backend, key)).body == body
        assert not audit(server.client())


async def test_full_refuses_puts_and_lets_deletes_through(own_server):
    server = own_server().start()
    admin = server.client()
    async with opened(server.url) as backend:
        first = await make(backend, "a", head=b"old", body=b"b" * 50_000, attributes={"status": "waiting"})
        second = await make(backend, "b", body=b"b" * 50_000, attributes={"status": "waiting"})
        admin.config_set("maxmemory", 1)
        for parts in ({"body": b"n" * 100_000}, {"head": b"new"}, {"attributes": {"status": "running"}}):
            with pytest.raises(StorageFull, match="maxmemory") as full:
                await backend.put(RecordRef("n", "a"), change(**parts), if_revision=first.revision)
            assert not full.value.retryable
        with pytest.raises(StorageFull):
            await make(backend, "c", body=b"n")
        record = await got(backend, "a")
        assert (record.revision, record.head, record.body) == (first.revision, b"old", b"b" * 50_000)
        assert await backend.delete(RecordRef("n", "b"), if_revision=second.revision)
        assert await backend.purge("n", Where({"status": "waiting"}), limit=10) == 1
        assert not audit(admin)
        admin.config_set("maxmemory", 0)
        assert (await make(backend, "a")).revision > first.revision


async def test_a_warning_before_it_is_full(own_server):
    server = own_server().start()
    admin = server.client()
    async with opened(server.url) as backend:
        assert not [text for text in (await backend.ping()).warnings if "90 %" in text]
        admin.config_set("maxmemory", int(admin.info("memory")["used_memory"] * 1.05))
        assert [text for text in (await backend.ping()).warnings if "90 %" in text]


async def test_warnings_tell_what_may_be_lost(own_server):
    server = own_server().start()
    admin = server.client()
    async with opened(server.url) as backend:
        assert Capability.DURABLE not in backend.capabilities
        assert [text.partition("=")[0] for text in (await backend.ping()).warnings] == ["appendonly"]
        admin.config_set("maxmemory-policy", "allkeys-lru")
        admin.config_set("appendonly", "yes")
        assert [text.partition(":")[0] for text in (await backend.ping()).warnings] == [
            "maxmemory-policy=allkeys-lru",
            "appendfsync=everysec",
        ]
        admin.config_set("maxmemory-policy", "noeviction")
        admin.config_set("appendfsync", "always")
        assert (await backend.ping()).warnings == ()


async def test_out_of_connections_on_the_server(own_server):
    server = own_server("--maxclients", 3).start()
    taken = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(3)]
    backend = backend_from_url(server.url)
    # The server's own words may be lost: it closes the connection at once.
    with pytest.raises(BackendUnavailable, match="connection") as refused:
        await backend.open(SCHEMA)
    assert refused.value.retryable
    for one in taken:
        one.close()
    await asyncio.sleep(0.05)
    await backend.open(SCHEMA)
    await backend.close()


async def test_a_replica_is_refused(own_server):
    primary = own_server().start()
    replica = own_server("--replicaof", f"127.0.0.1 {primary.port}").start()
    with pytest.raises(BackendUnavailable, match="use the primary's address") as refused:
        await backend_from_url(replica.url).open(SCHEMA)
    assert not refused.value.retryable


async def test_a_primary_that_becomes_a_replica_and_a_primary_again(own_server):
    server = own_server().start()
    admin = server.client()
    async with opened(server.url) as backend:
        written = await make(backend, "a")
        admin.replicaof("127.0.0.1", 1)
        with pytest.raises(BackendUnavailable, match="read-only replica") as refused:
            await backend.put(RecordRef("n", "a"), change(body=b"b"), if_revision=written.revision)
        assert not refused.value.retryable
        admin.replicaof("NO", "ONE")
        await backend.put(RecordRef("n", "a"), change(body=b"b"), if_revision=written.revision)


async def test_a_server_that_can_not_save(own_server, tmp_path):
    server = own_server("--enable-protected-configs", "yes").start()
    admin = server.client()
    async with opened(server.url) as backend:
        (tmp_path / "gone").mkdir()
        admin.config_set("save", "900 1")
        admin.config_set("dir", str(tmp_path / "gone"))
        (tmp_path / "gone").rmdir()
        admin.bgsave()
        while admin.info("persistence")["rdb_bgsave_in_progress"]:
            await asyncio.sleep(0.01)
        with pytest.raises(BackendUnavailable, match="can't save") as refused:
            await make(backend, "a", body=b"b")
        assert not refused.value.retryable
        assert await got(backend, "a") is None
        admin.config_set("stop-writes-on-bgsave-error", "no")
        await make(backend, "a", body=b"b")


@pytest.mark.parametrize("credentials", ["", ":wrong-Pass@", "nobody:wrong-Pass@"])
async def test_a_wrong_password_is_named_and_not_shown(own_server, credentials):
    server = own_server("--requirepass", PASSWORD).start()
    backend = backend_from_url(f"redis://{credentials}127.0.0.1:{server.port}/0")
    with pytest.raises(BackendUnavailable, match="rejected the user name or password") as refused:
        await backend.open(SCHEMA)
    assert not refused.value.retryable
    error = refused.value
    while error is not None:
        assert "wrong-Pass" not in f"{error} {error!r}"
        error = error.__cause__ or error.__context__
    assert "wrong-Pass" not in repr(vars(backend))


async def test_what_a_user_must_be_allowed(own_server):
    server = own_server().start()
    admin = server.client()
    needed = [f"+{command}" for command in COMMANDS]
    admin.acl_setuser("bare", enabled=True, passwords=["+p"], keys=["{flowpersist*"], commands=["+ping"])
    with pytest.raises(BackendUnavailable, match="denied") as refused:
        await backend_from_url(f"redis://bare:p@127.0.0.1:{server.port}").open(SCHEMA)
    assert not refused.value.retryable
    # Neither INFO nor CONFIG nor the channel: they are optional.
    admin.acl_setuser("app", enabled=True, passwords=["+p"], keys=["{flowpersist*"], commands=needed)
    async with opened(f"redis://app:p@127.0.0.1:{server.port}") as backend:
        written = await make(backend, "a", body=b"b", attributes={"status": "waiting"})
        await backend.query("n", Where({"status": "waiting"}), limit=1, descending=True)
        assert (await got(backend, "a")).body == b"b"
        assert (await backend.ping()).warnings == ()
        assert await backend.delete(RecordRef("n", "a"), if_revision=written.revision)
    elsewhere = backend_from_url(f"redis://app:p@127.0.0.1:{server.port}?prefix=other")
    with pytest.raises(BackendUnavailable, match="denied"):
        await elsewhere.open(SCHEMA)


async def test_a_database_that_is_not_there(own_server):
    server = own_server().start()
    with pytest.raises(BackendUnavailable, match="no database of that number") as refused:
        await backend_from_url(server.url.replace("/0", "/99")).open(SCHEMA)
    assert not refused.value.retryable


@pytest.mark.parametrize(("version", "fits"), [("5.0.14", False), ("6.0.20", False), ("6.2.0", True), ("10.0.1", True)])
async def test_a_server_that_is_too_old(version, fits):
    server = Server(None, {"redis_version": version})
    if fits:
        server.check_version()
    else:
        with pytest.raises(BackendUnavailable, match=r"6\.2 or later"):
            server.check_version()


async def test_the_schema_of_a_later_release(own_server):
    server = own_server().start()
    async with opened(server.url):
        server.client().hset("{flowpersist}:schema", "version", 2)
    backend = backend_from_url(server.url)
    for operation in (lambda: backend.open(SCHEMA), lambda: backend.plan(SCHEMA)):
        with pytest.raises(UnsupportedVersion, match="schema 2"):
            await operation()


@pytest.fixture
async def proxied(own_server):
    """A server, a proxy before it, and a backend through the proxy."""
    server = own_server().start()
    async with Proxy("127.0.0.1", server.port) as proxy:
        url = rerouted(server.url, proxy.address)
        async with opened(f"{url}?socket_timeout=0.4&pool_size=2&pool_timeout=0.2") as backend:
            yield server, proxy, backend


async def test_a_lost_acknowledgement_is_an_unknown_outcome(proxied):
    server, proxy, backend = proxied
    # A server that does not know the script yet would have to be asked twice.
    await make(backend, "first")
    for number in range(10):
        mine = change(body=os.urandom(3000))
        proxy.lose()
        with pytest.raises(UnknownOutcome):
            await backend.put(RecordRef("n", f"k{number}"), mine, if_revision=0)
        with pytest.raises(RevisionConflict):
            await backend.put(RecordRef("n", f"k{number}"), mine, if_revision=0)
        record = await got(backend, f"k{number}")
        assert (record.write_id, record.revision, record.body) == (mine.write_id, 1, mine.body)
    assert not audit(server.client())


async def test_slow_is_a_time_out_and_the_next_ones_work(proxied):
    _, proxy, backend = proxied
    written = await make(backend, "a", body=b"b")
    await asyncio.gather(got(backend, "a"), got(backend, "a"))
    proxy.stall()
    with pytest.raises(BackendUnavailable) as slow:
        await backend.get(RecordRef("n", "a"))
    assert slow.value.retryable
    with pytest.raises(UnknownOutcome):
        await backend.put(RecordRef("n", "a"), change(), if_revision=written.revision)
    waiting = [asyncio.ensure_future(backend.get(RecordRef("n", "a"))) for _ in range(4)]
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert {type(one) for one in outcomes} == {BackendUnavailable, PoolTimeout}
    assert all(one.retryable for one in outcomes)
    proxy.resume()
    assert (await got(backend, "a")).body == b"b"


async def test_cut_anywhere_in_a_put_leaves_all_or_nothing(proxied):
    server, proxy, backend = proxied
    chance = random.Random(7)
    revision, body = 0, None
    for _ in range(60):
        fresh = os.urandom(3000)
        proxy.cut_after(chance.randrange(4200), chance.choice(list(Side)))
        try:
            parts = {"body": fresh, "attributes": {"status": "waiting"}}
            await backend.put(RecordRef("n", "a"), change(**parts), if_revision=revision)
        except StorageError as error:
            assert isinstance(error, UnknownOutcome) or error.retryable  # noqa: PT017
        proxy.disarm()
        record = await got(backend, "a")
        assert record is None or record.body in {fresh, body}
        revision, body = (0, None) if record is None else (record.revision, record.body)
    assert revision > 5
    assert not audit(server.client())


async def test_a_cancelled_operation_leaves_its_reply_to_nobody(proxied):
    server, proxy, backend = proxied
    for number in range(20):
        await make(backend, f"k{number}", head=b"%d" % number, body=b"%d" % number * 500)
    proxy.delay = timedelta(milliseconds=1)
    chance = random.Random(11)

    async def look(number):
        record = await got(backend, f"k{number}")
        assert (record.ref.key, record.head, record.body) == (f"k{number}", b"%d" % number, b"%d" % number * 500)

    async def cancelled(number):
        work = look(number) if chance.random() < 0.5 else backend.query("n", Where(), limit=3)
        task = asyncio.ensure_future(work)
        await asyncio.sleep(chance.random() * 0.008)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    for _ in range(25):
        numbers = chance.sample(range(20), 8)
        some = await asyncio.gather(
            *(cancelled(number) for number in numbers[:4]),
            *(look(number) for number in numbers[4:]),
            return_exceptions=True,
        )
        assert not [one for one in some if one is not None and not isinstance(one, PoolTimeout)], some
    assert server.client().info("clients")["connected_clients"] <= 2 + 3


@pytest.mark.parametrize("size", [10, 3_000_000])
async def test_cancelled_at_every_step(own_server, size):
    server = own_server().start()
    async with opened(f"{server.url}?pool_size=1") as backend:
        body, revision, steps = b"b" * size, 0, 0
        finished = False
        while not finished:
            task = asyncio.ensure_future(
                backend.put(
                    RecordRef("n", "a"), change(body=body, attributes={"status": "waiting"}), if_revision=revision
                )
            )
            for _ in range(steps):
                await asyncio.sleep(0)
            finished = task.done()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            # A write that was under way may come to its end a moment later.
            await asyncio.sleep(0.01 if size > 1000 else 0)
            for _ in range(100):
                record = await got(backend, "a")
                assert record is None or record.body == body
                revision = 0 if record is None else record.revision
                if (await backend.query("n", Where(), limit=1)).items == (
                    () if record is None else (evolve(record, body=None),)
                ):
                    break
            steps += 1 if size < 1000 else 3
        assert steps > 2
        await asyncio.sleep(0.1)
        assert not audit(server.client())


async def test_many_tasks_on_few_connections_all_end(own_server):
    server = own_server().start()
    async with opened(f"{server.url}?pool_size=2&pool_timeout=20") as backend:
        await asyncio.gather(*(make(backend, f"k{number}", body=b"b" * 1000) for number in range(500)))
        assert server.client().info("clients")["connected_clients"] <= 2 + 1
        found = await asyncio.gather(*(got(backend, f"k{number}") for number in range(500)))
        assert {record.body for record in found} == {b"b" * 1000}


async def test_scripts_are_loaded_again(own_server):
    server = own_server().start()
    async with opened(server.url) as backend:
        written = await make(backend, "a", body=b"one")
        admin = server.client()
        for _ in range(3):
            admin.script_flush()
            written = await backend.put(RecordRef("n", "a"), change(body=b"two"), if_revision=written.revision)
            admin.script_flush()
            assert len((await backend.query("n", Where(), limit=5)).items) == 1
        admin.script_flush()
        assert await backend.purge("n", Where(), limit=5) == 1
        assert not audit(admin)


async def test_a_body_that_was_taken_away_is_reported(own_server):
    server = own_server().start()
    async with opened(server.url) as backend:
        await make(backend, "a", body=b"body")
        admin = server.client()
        (body,) = admin.keys("*b:a")
        for damage in (lambda: admin.set(body, b"bo"), lambda: admin.delete(body)):
            damage()
            with pytest.raises(Exception, match="body of record a") as missing:
                await backend.get(RecordRef("n", "a"))
            assert type(missing.value).__name__ == "IntegrityError"
        (record,) = admin.keys("*r:a")
        admin.hset(record, "a", "nonsense")
        with pytest.raises(Exception, match=r"record a .* can't be read"):
            await backend.get(RecordRef("n", "a"), body=False)


@pytest.mark.parametrize(
    "options",
    ["nonsense=1", "pool_size=0", "shards=0", "shards=1000", "cluster=maybe", "prefix=UP", "socket_timeout=soon"],
)
def test_options_that_make_no_sense_are_refused(options):
    with pytest.raises(ConfigurationError):
        backend_from_url(f"redis://user:{PASSWORD}@127.0.0.1:1/0?{options}")


def test_a_url_without_a_host_is_refused():
    with pytest.raises(ConfigurationError, match="expected redis://:password@host:6379/0"):
        backend_from_url("redis:nowhere")


async def test_a_server_that_is_no_cluster_is_refused_as_one(own_server):
    server = own_server().start()
    with pytest.raises(ConfigurationError, match="cluster=on"):
        await backend_from_url(f"{server.url}?cluster=on").open(SCHEMA)


async def test_nobody_listens_where_the_url_names_a_cluster(own_server):
    server = own_server()
    with pytest.raises(BackendUnavailable) as refused:
        await backend_from_url(f"{server.url}?cluster=on").open(SCHEMA)
    assert refused.value.retryable


def test_the_audit_finds_what_it_looks_for(own_server):
    server = own_server().start()
    client = server.client()
    client.set("{flowpersist:n:00}b:a", "orphan")
    client.set("{flowpersist:n:00}u:1", "for ever")
    client.zadd("{flowpersist:n:00}key", {"ghost": 0})
    assert len(audit(client)) == 3
