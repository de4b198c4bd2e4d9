"""What a Neo4j that fails makes of an operation: a typed error that says what to do, no secret, and recovery."""

import asyncio
import logging
import os
import socket
import subprocess
from itertools import islice
from pathlib import Path

import neo4j
import pytest
from attrs import evolve
from neo4j.exceptions import Neo4jError

from flowpersist.backends._neo4j.errors import translated
from flowpersist.backends._neo4j.store import Store
from flowpersist.backends._neo4j.target import target_of
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
from flowpersist.testing.proxy import Proxy, address_of, rerouted
from machine import free_port

SCHEMA = [NamespaceSchema("flows", {"status": str})]
BUILDS = Path(__file__).parents[2] / ".cache" / "builds" / "neo4j"
WITH_PASSWORDS = Path(__file__).parents[1] / "fixtures" / "neo4j-auth" / "AuthServer.java"
OPENINGS = ("java.base/java.nio", "java.base/java.io", "java.base/sun.nio.ch", "java.base/java.util.concurrent")


def ref(key):
    return RecordRef("flows", key)


def change(write_id=None, **parts):
    return RecordChange(write_id or os.urandom(8).hex(), **parts)


def with_options(url, **options):
    return url + ("&" if "?" in url else "?") + "&".join(f"{name}={value}" for name, value in options.items())


# ------------------------------------------------------------------------------------------- what the server can say


@pytest.mark.parametrize(
    ("code", "message", "error", "retryable"),
    [
        ("Neo.ClientError.Security.Unauthorized", "user name or password", BackendUnavailable, False),
        ("Neo.ClientError.Security.AuthenticationRateLimit", "too many wrong passwords", BackendUnavailable, False),
        ("Neo.ClientError.Security.CredentialsExpired", "new password", BackendUnavailable, False),
        ("Neo.ClientError.Security.Forbidden", "grant", BackendUnavailable, False),
        ("Neo.ClientError.Database.DatabaseNotFound", "no such database", BackendUnavailable, False),
        ("Neo.ClientError.General.ForbiddenOnReadOnlyDatabase", "read-only", BackendUnavailable, False),
        ("Neo.ClientError.General.ReadOnly", "read-only", BackendUnavailable, False),
        ("Neo.TransientError.General.DatabaseUnavailable", "try again", BackendUnavailable, True),
        ("Neo.TransientError.Transaction.DeadlockDetected", "try again", BackendUnavailable, True),
        ("Neo.TransientError.General.MemoryPoolOutOfMemoryError", "try again", BackendUnavailable, True),
        ("Neo.ClientError.Statement.SyntaxError", "rejected the operation", StorageError, False),
    ],
)
def test_what_the_server_says_is_told_with_its_remedy(code, message, error, retryable):
    said = Neo4jError._hydrate_neo4j(code=code, message="canary: the values of a node")
    found = translated(said, writes=True)
    assert type(found) is error
    assert message in str(found)
    assert found.retryable is retryable
    assert "canary" not in repr(found)


def test_a_full_disk():
    said = Neo4jError._hydrate_neo4j(
        code="Neo.DatabaseError.Transaction.TransactionCommitFailed", message="x: No space left on device"
    )
    assert type(translated(said, writes=True)) is StorageFull


# -------------------------------------------------------------------------------------------------------------- URLs


def test_a_url_is_taken_apart_for_the_driver():
    target = target_of("neo4j+s://us%40er:pa%3Ass@Host:7777/data?region=eu")
    assert (target.uri, target.user, target.password) == ("neo4j+s://Host:7777?region=eu", "us@er", "pa:ss")
    assert target.database == "data"
    assert target_of("bolt://[::1]:7688").uri == "bolt://[::1]:7688"
    assert (target_of("bolt://host").user, target_of("bolt://host/").database) == (None, None)
    assert "pa:ss" not in repr(target)


@pytest.mark.parametrize(
    "url",
    [
        "bolt://",
        "bolt://:secret@",
        "neo4j://user:secret@host:port",
        "neo4j://user:secret@host/two/databases",
        "bolt://user:secret@host?colour=secret",
        "bolt://user:secret@host?pool_size=0",
        "bolt://user:secret@host?timeout=secret",
        "bolt://user:secret@host?graph=secret",
        "bolt://user:secret@host?largest_body=0",
        "bolt://user:secret@host?prefix=Se-cret",
        "bolt://user:99/secret@host",
        "bolt://user:99?secret@host",
        "neo4j://user:99?secret@host",
        "neo4j://user:99#secret@host",
    ],
)
def test_a_url_that_makes_no_sense_is_refused_without_its_secret(url):
    with pytest.raises(ConfigurationError) as refused:
        backend_from_url(url)
    assert "secret" not in repr(refused.value)
    assert refused.value.__cause__ is None


async def test_a_database_that_is_not_there(server):
    backend = backend_from_url(f"{server('neo4j')}/nosuchdatabase")
    with pytest.raises(BackendUnavailable, match="no such database") as refused:
        await backend.open(SCHEMA)
    assert not refused.value.retryable


# ------------------------------------------------------------------------------------------------------- connections


@pytest.fixture
async def proxy(server):
    async with Proxy(*address_of(server("neo4j"))) as proxy:
        yield proxy


async def test_a_server_that_stalls_is_not_waited_for(proxy, wiped_neo4j):
    backend = backend_from_url(with_options(rerouted(wiped_neo4j, proxy.address), timeout=3))
    await backend.open(SCHEMA)
    made = await backend.put(ref("a"), change(head=b"old"), if_revision=0)
    proxy.stall()
    with pytest.raises(UnknownOutcome):
        await backend.put(ref("a"), change(head=b"new"), if_revision=made.revision)
    with pytest.raises(BackendUnavailable) as refused:
        await backend.get(ref("a"))
    assert refused.value.retryable
    proxy.resume()
    # What was given up may or may not have been done; it is not torn.
    assert (await backend.get(ref("a"))).record.head in {b"old", b"new"}
    await backend.close()


async def test_a_pool_that_has_no_connection_left(proxy, wiped_neo4j):
    backend = backend_from_url(with_options(rerouted(wiped_neo4j, proxy.address), pool_size=1, pool_timeout=0.3))
    await backend.open(SCHEMA)
    proxy.stall()
    held = asyncio.ensure_future(backend.get(ref("a")))
    await asyncio.sleep(0.1)
    with pytest.raises(PoolTimeout, match="pool_size"):
        await backend.put(ref("a"), change(), if_revision=0)
    proxy.resume()
    assert (await held).record is None
    await backend.put(ref("a"), change(), if_revision=0)
    await backend.close()


async def test_nobody_gives_up_where_many_tasks_come_at_once(wiped_neo4j):
    backend = backend_from_url(with_options(wiped_neo4j, pool_size=2, pool_timeout=120))
    await backend.open(SCHEMA)
    made = await asyncio.gather(*(backend.put(ref(f"k{number}"), change(), if_revision=0) for number in range(400)))
    assert len(made) == 400
    await backend.close()


#: Each takes 2 MiB at its first row, and keeps them until its last.
ROWS = "UNWIND range(1, 9) AS one WITH collect(one) AS all UNWIND all AS one RETURN one"


async def refused(sessions, count):
    """Begin further transactions that keep memory; whether the server has refused one of them."""

    async def hold(session):
        await anext(aiter(await session.run(ROWS)))

    some = list(islice(sessions, count))
    if len(some) < count:
        pytest.skip("the server has memory for more transactions than a test should make")
    results = await asyncio.gather(*map(hold, some), return_exceptions=True)
    failures = [one for one in results if one is not None]
    for failure in failures:
        if not isinstance(failure, neo4j.exceptions.TransientError):
            raise failure
    return bool(failures)


async def test_a_server_that_has_no_memory_for_another_transaction_is_waited_for(own_server):
    """On a server of its own: what others end there gives memory back, and what they begin is refused."""
    backend = backend_from_url(own_server.url)
    await _patiently(lambda: backend.open(SCHEMA))
    async with neo4j.AsyncGraphDatabase.driver(
        f"bolt://127.0.0.1:{own_server.port}", max_connection_pool_size=400
    ) as driver:
        sessions = [driver.session(fetch_size=1) for _ in range(400)]
        unused = iter(sessions)
        try:
            # Of several at once, those that were refused give back what they had taken.
            for count in (40, 1):
                while not await refused(unused, count):
                    pass
            waiting = asyncio.ensure_future(backend.put(ref("a"), change(head=b"h"), if_revision=0))
            await asyncio.sleep(0.3)
            assert not waiting.done()
        finally:
            await asyncio.gather(*(session.close() for session in sessions))
        await waiting
    assert (await backend.get(ref("a"))).record.head == b"h"
    await backend.close()


async def test_something_that_is_no_neo4j():
    async def greet(reader, writer):
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as other:
        port = other.sockets[0].getsockname()[1]
        with pytest.raises(StorageError) as refused:
            await backend_from_url(f"bolt://user:secret@127.0.0.1:{port}").open(SCHEMA)
    assert "secret" not in str(refused.value)


async def test_a_purge_looks_again_at_what_was_deleted_while_it_was_read(wiped_neo4j, monkeypatch, caplog):
    """Neo4j reads without locks: of a node that others delete meanwhile it may give a part."""
    find, texts = Store._find, iter([""])

    async def partly(*arguments, **options):
        now, rows = await find(*arguments, **options)
        return now, [evolve(row, snapshot=next(texts, row.snapshot)) for row in rows]

    monkeypatch.setattr(Store, "_find", partly)
    backend = backend_from_url(wiped_neo4j)
    await backend.open(SCHEMA)
    for key in "ab":
        await backend.put(ref(key), change(), if_revision=0)
    assert await backend.purge("flows", Where(), limit=10) == 2
    assert caplog.messages == []
    await backend.close()


async def test_nothing_reaches_the_logs(wiped_neo4j, caplog):
    caplog.set_level(logging.INFO)
    backend = backend_from_url(wiped_neo4j)
    await backend.open(SCHEMA)
    made = await backend.put(ref("canary"), change(attributes={"status": "canary", "run": "canary"}), if_revision=0)
    with pytest.raises(RevisionConflict):
        await backend.put(ref("canary"), change(), if_revision=0)
    await backend.query("flows", Where({"status": "canary", "undeclared": "canary"}), limit=3)
    await backend.delete(ref("canary"), if_revision=made.revision)
    await backend.close()
    assert [record for record in caplog.records if record.name.startswith("neo4j")] == []
    assert "canary" not in caplog.text


# ---------------------------------------------------------------------------------------------------- a server killed


class _Server:
    """A server of the test's own, on a port of its own."""

    def __init__(self, directory, program="TestServer"):
        self.port = free_port()
        self.url = f"bolt://127.0.0.1:{self.port}?connect_timeout=1"
        self._directory = directory
        self._program = program
        self._process = None

    def start(self):
        opened = [f"--add-opens={package}=ALL-UNNAMED" for package in OPENINGS]
        classes = f"{BUILDS}/lib/*:{BUILDS}/classes"
        # It starts in half the time for one that does not live long enough to gain by more.
        quick = ("-Xmx384m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")
        command = ["java", *quick, *opened, "-cp", classes, self._program, str(self.port), str(self._directory)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def kill(self):
        self._process.kill()
        self._process.wait()


@pytest.fixture
def own_server(server, tmp_path, request):
    server("neo4j")
    if not (BUILDS / "classes").is_dir():
        pytest.skip("the server runs in a container: scripts/test-setup.sh has not built one that a test may kill")
    own = _Server(tmp_path / "data", *getattr(request, "param", ()))
    own.start()
    yield own
    own.kill()


def _must_be_transient(error):
    assert error.retryable or isinstance(error, UnknownOutcome), repr(error)


async def _patiently(operation, seconds=240):
    """Repeat what fails for now."""
    async with asyncio.timeout(seconds):
        while True:
            try:
                return await operation()
            except StorageError as error:
                _must_be_transient(error)
            await asyncio.sleep(0.1)


# ----------------------------------------------------------------------------------------------------------- passwords


async def _refused(url):
    backend = backend_from_url(url)
    with pytest.raises(BackendUnavailable) as refused:
        await backend.open([NamespaceSchema("flows")])
    told = f"{refused.value!r} {refused.value.__cause__!r} {refused.value.__cause__} {backend!r}"
    assert not refused.value.retryable
    assert "s3cret" not in told
    return str(refused.value)


@pytest.mark.parametrize("own_server", [(str(WITH_PASSWORDS),)], indirect=True)
async def test_a_server_that_wants_a_password(own_server):
    address = f"127.0.0.1:{own_server.port}"
    # As a server begins: with a password that is to be replaced before anything else.
    async with asyncio.timeout(60):
        while not _answers(own_server.port):
            await asyncio.sleep(0.1)
    assert "requires a new password" in await _refused(f"bolt://neo4j:neo4j@{address}")
    async with neo4j.AsyncGraphDatabase.driver(f"bolt://{address}", auth=("neo4j", "neo4j")) as driver:
        change_it = "ALTER CURRENT USER SET PASSWORD FROM 'neo4j' TO 's3cret/p@ss:w?rd#'"
        await driver.execute_query(change_it, database_="system")
    right = f"neo4j:s3cret%2Fp%40ss%3Aw%3Frd%23@{address}/neo4j?graph=off"
    backend = backend_from_url(f"bolt://{right}")
    await backend.open([NamespaceSchema("flows")])
    made = await backend.put(ref("a"), change(head=b"h"), if_revision=0)
    await backend.close()
    routed = backend_from_url(f"neo4j://{right}")
    await routed.open([NamespaceSchema("flows")])
    assert (await routed.get(ref("a"), body=False)).record.revision == made.revision
    await routed.close()
    for wrong in (f"bolt://{address}", f"bolt://neo4j:s3cret@{address}", f"neo4j://neo4j:s3cret@{address}"):
        assert "rejected the user name or password" in await _refused(wrong)
    async with asyncio.timeout(10):
        while "too many wrong passwords" not in await _refused(f"bolt://neo4j:s3cret@{address}"):
            continue


def _answers(port):
    with socket.socket() as found:
        return found.connect_ex(("127.0.0.1", port)) == 0
