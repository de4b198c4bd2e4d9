"""What goes wrong with a MongoDB server, done for real to servers of the tests' own or behind a proxy."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import time
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from pymongo import AsyncMongoClient

from flowpersist.backends.base import Capability, RecordChange, RecordRef, Where
from flowpersist.backends.mongodb import MongodbBackend
from flowpersist.backends.registry import backend_from_url
from flowpersist.errors import (
    BackendUnavailable,
    ConfigurationError,
    DeadlinePassed,
    PoolTimeout,
    RevisionConflict,
    StorageError,
    UnknownOutcome,
    UnsupportedVersion,
)
from flowpersist.testing.proxy import Proxy, address_of, rerouted
from machine import free_port

# PyMongo leaves a socket to the garbage collector where it is closed while it connects.
pytestmark = pytest.mark.filterwarnings("ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning")
BUILD = Path(__file__).parents[2] / ".cache" / "builds" / "mongodb-java"
#: The server's library as it announces itself by default.
OLD_SERVER = """
public class OldServer {
  public static void main(String[] arguments) throws Exception {
    var server = new de.bwaldvogel.mongo.MongoServer(new de.bwaldvogel.mongo.backend.memory.MemoryBackend());
    server.bind("127.0.0.1", Integer.parseInt(arguments[0]));
    Thread.currentThread().join();
  }
}
"""
PASSWORD = "s3cret-pass"


def a(key="a"):
    return RecordRef("n", key)


def change(**parts):
    return RecordChange(os.urandom(8).hex(), **parts)


class OwnServer:
    """A server on a port of its own, which may be killed and started again."""

    def __init__(self, *command):
        self.port = free_port()
        self.command = [part if part != "PORT" else str(self.port) for part in command]
        self.process = None
        self.url = f"mongodb://127.0.0.1:{self.port}/?serverSelectionTimeoutMS=1500"

    def start(self):
        self.process = subprocess.Popen(self.command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        ends = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                assert self.process.poll() is None, "the server has ended"
                assert time.monotonic() < ends, "the server does not start"
                time.sleep(0.05)
            else:
                return self

    def kill(self, how=signal.SIGKILL):
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(how)
            self.process.wait(30)


@pytest.fixture
def java(server):
    """What runs Java with the server's libraries."""
    server("mongodb")
    if not (BUILD / "lib").is_dir():
        pytest.skip("the server runs in a container: there is none that a test could kill")
    return ("java", "-Xmx256m", "-cp", f"{BUILD}/lib/*:{BUILD}/classes")


@pytest.fixture
def own(java, tmp_path):
    found = OwnServer(*java, "TestServer", "PORT", str(tmp_path)).start()
    yield found
    found.kill()


@pytest.fixture
def url(server, prefix):
    return f"{server('mongodb')}?prefix={prefix}"


@asynccontextmanager
async def opened(url_or_backend):
    backend = backend_from_url(url_or_backend) if isinstance(url_or_backend, str) else url_or_backend
    await backend.open([])
    try:
        yield backend
    finally:
        await backend.close()


async def refused(url, kind):
    """The error of an open; the backend is as if it had never been opened, and nothing tells the password."""
    backend = backend_from_url(url)
    with pytest.raises(kind) as raised:
        await backend.open([])
    error = raised.value
    while error is not None:
        assert PASSWORD not in f"{error!s}{error!r}"
        error = error.__cause__
    with pytest.raises(BackendUnavailable, match="not open"):
        await backend.ping()
    await backend.close()
    return raised.value


async def test_a_server_that_is_down_at_the_start():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        started = time.monotonic()
        port = taken.getsockname()[1]
        error = await refused(
            f"mongodb://me:{PASSWORD}@127.0.0.1:{port}/?serverSelectionTimeoutMS=300", BackendUnavailable
        )
    assert error.retryable
    assert "check that it runs" in str(error)
    assert time.monotonic() - started < 5


async def test_ended_in_mid_load_and_back(own):
    """Whatever was acknowledged is there, and the backend goes on by itself.

    The server is told to end and not killed: this one writes to the disk once a second, whatever the write concern is.
    """
    async with opened(own.url) as backend:
        acknowledged = {}
        loading = True

        async def load(worker):
            number = 0
            while loading:
                number += 1
                body = os.urandom(20_000)
                with contextlib.suppress(BackendUnavailable, UnknownOutcome):
                    written = await backend.put(a(f"{worker}-{number}"), change(body=body), if_revision=0)
                    acknowledged[f"{worker}-{number}"] = (written.revision, body)
                    continue
                await asyncio.sleep(0.02)

        workers = [asyncio.ensure_future(load(worker)) for worker in range(8)]
        await asyncio.sleep(0.5)
        await asyncio.to_thread(own.kill, signal.SIGTERM)
        with pytest.raises(StorageError) as gone:
            await backend.get(a("0-1"))
        assert gone.value.retryable
        await asyncio.to_thread(own.start)
        before = len(acknowledged)
        assert before
        for _ in range(200):
            await asyncio.sleep(0.05)
            if len(acknowledged) > before + 8:
                break
        loading = False
        await asyncio.gather(*workers)
        assert len(acknowledged) > before, "no recovery"
        for key, (revision, body) in acknowledged.items():
            record = (await backend.get(a(key))).record
            assert record is not None
            assert (record.revision, record.body) == (revision, body)


async def test_a_server_that_stands_still(own):
    """Reads end in time as unavailable, writes as unknown; both are found out once the server goes on."""
    async with opened(f"{own.url}&socketTimeoutMS=400") as backend:
        revision = (await backend.put(a(), change(), if_revision=0)).revision
        own.process.send_signal(signal.SIGSTOP)
        # Until all of its threads stand still: on a busy machine one of them may answer once more.
        os.waitpid(own.process.pid, os.WUNTRACED)
        try:
            mine = change(head=b"mine")
            with pytest.raises(UnknownOutcome):
                await backend.put(a(), mine, if_revision=revision)
            with pytest.raises(BackendUnavailable) as error:
                await backend.get(a())
            assert error.value.retryable
        finally:
            own.process.send_signal(signal.SIGCONT)
        for _ in range(100):
            try:
                record = (await backend.get(a())).record
            except BackendUnavailable:
                continue
            if record.write_id == mine.write_id:
                break
            await asyncio.sleep(0.05)
        assert record.write_id == mine.write_id
        with pytest.raises(RevisionConflict):
            await backend.put(a(), mine, if_revision=revision)


async def test_a_server_that_is_too_old(java, tmp_path):
    source = tmp_path / "OldServer.java"
    source.write_text(OLD_SERVER)
    old = OwnServer(*java, str(source), "PORT").start()
    try:
        error = await refused(old.url, BackendUnavailable)
    finally:
        old.kill()
    assert not error.retryable
    assert "MongoDB 4.4 or later" in str(error)


async def test_a_schema_of_a_later_release(url, prefix, server):
    async with opened(url), AsyncMongoClient(server("mongodb")) as client:
        await client.get_default_database()[f"{prefix}_meta"].update_one({"_id": "schema"}, {"$set": {"version": 99}})
    error = await refused(url, UnsupportedVersion)
    assert "99" in str(error)
    assert "install the release" in str(error)


async def test_the_plan_is_what_open_would_run_and_changes_nothing(url, prefix, server):
    backend = backend_from_url(url)
    planned = await backend.plan([])
    assert planned == await backend.plan([])
    async with AsyncMongoClient(server("mongodb")) as client:
        database = client.get_default_database()
        assert not [name for name in await database.list_collection_names() if name.startswith(prefix)]
        for statement in planned:
            await database.command(json.loads(statement))
    assert await backend.plan([]) == ()
    async with opened(backend):
        assert await backend.plan([]) == ()
        await backend.put(a(), change(), if_revision=0)
    assert '"createIndexes"' in planned[0]


async def test_ferretdb_is_refused_unless_it_is_asked_for(server, prefix):
    error = await refused(f"{server('ferretdb')}?prefix={prefix}", BackendUnavailable)
    assert "allow_unsafe_ferretdb=on" in str(error)
    assert not error.retryable
    async with opened(f"{server('ferretdb')}?prefix={prefix}&allow_unsafe_ferretdb=on") as backend:
        assert "not atomic" in (await backend.ping()).warnings[0]


async def test_a_user_whom_the_server_does_not_know(server):
    """The server of the tests has no authentication; what it answers a user must still not tell the password."""
    place = ":".join(map(str, address_of(server("mongodb"))))
    error = await refused(f"mongodb://me:{PASSWORD}@{place}/flowpersist", StorageError)
    assert not error.retryable


@pytest.mark.parametrize(
    ("rest", "why"),
    [
        ("", "expected mongodb://user:password@host/database"),
        (f"me:{PASSWORD}:x@host", "rejected by the driver"),
        (f"me:{PASSWORD}@host/?nosuch={PASSWORD}", "rejected by the driver"),
        (f"me:{PASSWORD}@host/?socketTimeoutMS={PASSWORD}", "rejected by the driver"),
        (f"me:{PASSWORD}@host/?prefix=No", "prefix"),
        (f"me:{PASSWORD}@host/?allow_unsafe_ferretdb=perhaps", "on or off"),
        (f"me:{PASSWORD}@host/a%20b", "rejected by the driver"),
        (f"me:{PASSWORD}@host/a.b", "database"),
    ],
)
def test_a_url_that_makes_no_sense(rest, why):
    with pytest.raises(ConfigurationError) as raised:
        backend_from_url(f"mongodb://{rest}")
    assert why in repr(raised.value)
    assert PASSWORD not in f"{raised.value!r}{raised.value.__cause__!r}"


async def test_a_url_that_the_driver_can_not_take_apart():
    """A slash in a password, and the URL given to the class, which does not look at it."""
    with pytest.raises(ConfigurationError, match="malformed") as refused:
        await MongodbBackend("mongodb://user:s3cret/pass@127.0.0.1:1/db").open([])
    assert "s3cret" not in str(refused.value)
    assert (refused.value.__cause__, refused.value.__suppress_context__) == (None, True)


async def test_no_connection_becomes_free(url):
    async with Proxy(*address_of(url)) as proxy:
        few = f"{rerouted(url, proxy.address)}&maxPoolSize=1&waitQueueTimeoutMS=100"
        async with opened(few) as backend:
            proxy.stall()
            reading = [asyncio.ensure_future(backend.get(a())) for _ in range(5)]
            ended = await asyncio.gather(*reading[1:], return_exceptions=True)
            assert all(isinstance(error, PoolTimeout) and error.retryable for error in ended), ended
            proxy.resume()
            assert (await reading[0]).record is None


async def test_a_body_that_is_too_large(url):
    async with opened(url) as backend:
        assert Capability.BODY_LIMIT in backend.capabilities
        backend.largest_body = 1000
        with pytest.raises(StorageError, match="1001 bytes") as error:
            await backend.put(a(), change(body=bytes(1001)), if_revision=0)
        assert not error.value.retryable
        assert (await backend.get(a())).record is None
        await backend.put(a(), change(body=bytes(1000)), if_revision=0)


async def test_a_client_that_was_given_is_used_and_never_closed(server, prefix):
    async with AsyncMongoClient(server("mongodb"), document_class=dict, tz_aware=True, w=0) as client:
        backend = MongodbBackend(client, prefix=prefix)
        async with opened(backend):
            revision = (await backend.put(a(), change(body=bytes(50_000)), if_revision=0)).revision
            # Not the unacknowledged write that the client would do by itself.
            with pytest.raises(RevisionConflict):
                await backend.put(a(), change(), if_revision=revision + 1)
        assert await client.get_default_database()[f"{prefix}_records"].count_documents({}) == 1
        async with opened(MongodbBackend(client, prefix=prefix, database="flowpersist_other")) as other:
            assert (await other.get(a())).record is None
        await client.drop_database("flowpersist_other")


async def test_a_client_that_its_owner_closed(server, prefix):
    client = AsyncMongoClient(server("mongodb"))
    backend = MongodbBackend(client, prefix=prefix)
    await backend.open([])
    await client.close()
    with pytest.raises(BackendUnavailable) as error:
        await backend.get(a())
    assert not error.value.retryable
    await backend.close()


async def test_a_client_of_motor_that_was_given(server, prefix):
    motor = pytest.importorskip("motor.motor_asyncio")
    client = motor.AsyncIOMotorClient(server("mongodb"))
    try:
        async with opened(MongodbBackend(client, prefix=prefix)) as backend:
            await backend.put(a(), change(body=bytes(2_000_000)), if_revision=0)
            assert (await backend.get(a())).record.body == bytes(2_000_000)
    finally:
        client.close()


async def test_a_single_server_has_no_change_streams(url):
    async with opened(url) as backend:
        assert Capability.NOTIFICATIONS not in backend.capabilities
        with pytest.raises(BackendUnavailable, match="replica set"):
            backend.changes("n")
        assert "not a replica set" in (await backend.ping()).warnings[0]


async def test_a_put_that_comes_late_loses(url):
    """The body goes up slowly; the deadline passes meanwhile."""
    async with opened(url) as backend, Proxy(*address_of(url)) as proxy, opened(rerouted(url, proxy.address)) as slow:
        written = await backend.put(a(), change(head=b"old"), if_revision=0)
        proxy.bytes_per_second = 2_000_000
        deadline = (await slow.get(a())).now + timedelta(milliseconds=300)
        with pytest.raises(DeadlinePassed):
            await slow.put(
                a(), change(head=b"new", body=os.urandom(1_500_000)), if_revision=written.revision, not_after=deadline
            )
        assert (await backend.get(a())).record.head == b"old"
        assert (await backend.query("n", Where(), limit=5)).items[0].body_size is None


async def test_a_put_that_waited_for_a_connection_past_its_deadline_is_not_sent(url):
    """The only connection stalls with somebody else's command."""
    async with opened(url) as backend, Proxy(*address_of(url)) as proxy:
        written = await backend.put(a(), change(head=b"old"), if_revision=0)
        async with opened(f"{rerouted(url, proxy.address)}&maxPoolSize=1") as slow:
            deadline = (await slow.get(a())).now + timedelta(milliseconds=200)
            proxy.stall()
            ahead = asyncio.ensure_future(slow.get(a("other")))
            await asyncio.sleep(0.05)
            late = asyncio.ensure_future(
                slow.put(a(), change(head=b"late"), if_revision=written.revision, not_after=deadline)
            )
            new = asyncio.ensure_future(slow.put(a("new"), change(), if_revision=0, not_after=deadline))
            await asyncio.sleep(0.3)
            proxy.resume()
            for put in (late, new):
                with pytest.raises(DeadlinePassed):
                    await put
            await ahead
            assert (await slow.get(a("new"))).record is None
            # What was given up has not harmed the connections.
            in_time = (await slow.get(a())).now + timedelta(seconds=5)
            await slow.put(a(), change(head=b"new"), if_revision=written.revision, not_after=in_time)
        assert (await backend.get(a())).record.head == b"new"


async def test_a_put_that_waited_for_a_server_past_its_deadline_is_not_sent(url):
    async with opened(url) as backend, Proxy(*address_of(url)) as proxy:
        written = await backend.put(a(), change(head=b"old"), if_revision=0)
        async with opened(rerouted(url, proxy.address)) as slow:
            deadline = (await slow.get(a())).now + timedelta(milliseconds=300)
            async with proxy.away():
                # Finds out that there is none: whoever comes after it is not sent to where nobody is.
                reading = asyncio.ensure_future(slow.get(a()))
                await asyncio.sleep(0.1)
                late = asyncio.ensure_future(
                    slow.put(a(), change(head=b"late"), if_revision=written.revision, not_after=deadline)
                )
                await asyncio.sleep(0.4)
            with pytest.raises(DeadlinePassed):
                await late
            await reading
        assert (await backend.get(a())).record.head == b"old"


async def test_the_reply_may_come_after_the_deadline(url):
    """What was sent in time was written in time: its caller hears so, and of no unknown outcome."""
    async with opened(url) as backend, Proxy(*address_of(url)) as proxy, opened(rerouted(url, proxy.address)) as slow:
        written = await backend.put(a(), change(head=b"old"), if_revision=0)
        deadline = (await slow.get(a())).now + timedelta(milliseconds=100)
        proxy.delay = timedelta(milliseconds=150)
        again = await slow.put(a(), change(head=b"new"), if_revision=written.revision, not_after=deadline)
        assert (await backend.get(a())).record.revision == again.revision
