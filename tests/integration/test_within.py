"""An application's own rows and a suspension are committed together or not at all."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from flowpersist import AwaitInput, KeyRing, Maintenance, RaisingHub, Status, open_hub, or_raise
from flowpersist.backends.base import Capability
from flowpersist.backends.registry import backend_from_url
from flowpersist.errors import (
    AlreadyResumed,
    ConfigurationError,
    KeyDestroyed,
    SuspensionExpired,
    SuspensionNotFound,
    TransactionAborted,
)
from flowpersist.keys import LocalKeyService, TenantKeys, WrappedKeyFile
from flowpersist.testing.hubs import travel
from own_data import DRIVERS, KINDS

PROGRAM = Path(__file__).with_name("within_program.py")
WORD = AwaitInput(id="word", prompt="A word?", schema=str)
LARGE = "x" * 600_000


@pytest.fixture(params=DRIVERS)
def driver(request):
    return request.param


@pytest.fixture
def url(driver, request, tmp_path):
    backend = DRIVERS[driver]
    if backend == "sqlite":
        return f"sqlite:///{tmp_path}/flows.db"
    if backend == "neo4j":
        return request.getfixturevalue("wiped_neo4j")
    return f"{request.getfixturevalue('server')(backend)}?prefix={request.getfixturevalue('prefix')}"


@pytest.fixture
async def hub(url):
    async with open_hub(url, keyring=None) as opened:
        yield opened


@pytest.fixture
async def data(driver, url, hub):
    """The application's own data, in the same database."""
    made = KINDS[driver](url, f"t{uuid4().hex[:12]}")
    await made.prepare()
    yield made
    await made.drop()


async def test_what_is_committed_is_there_and_what_is_rolled_back_is_not(hub, data):
    new = or_raise(await hub.suspend({"n": 1}, awaiting=WORD))
    run = or_raise(await hub.claim(new.key, "yes", by="ann"))
    async with data.connected() as connection:
        transaction = await data.begin(connection)
        await data.insert(transaction, "rolled back")
        or_raise(await hub.within(transaction).complete(run, "first"))
        assert or_raise(await hub.inspect(new.key)).status is Status.RUNNING
        await data.rollback(transaction)
        assert or_raise(await hub.inspect(new.key)).status is Status.RUNNING
        transaction = await data.begin(connection)
        await data.insert(transaction, "committed")
        or_raise(await hub.within(transaction).complete(run, "second"))
        await data.commit(transaction)
    assert or_raise(await hub.inspect(new.key)).status is Status.COMPLETED
    assert or_raise(await hub.outcome(new.key)) == "second"
    assert await data.orders() == ["committed"]
    assert "complete" in [entry.verb for entry in or_raise(await hub.history(new.id))]


async def test_a_suspension_exists_once_the_transaction_is_committed(hub, data):
    async with data.connected() as connection:
        transaction = await data.begin(connection)
        lost = or_raise(await hub.within(transaction).suspend({"n": 1}, awaiting=WORD))
        assert or_raise(await hub.within(transaction).inspect(lost.key)).status is Status.WAITING
        assert isinstance((await hub.inspect(lost.key)).failure(), SuspensionNotFound)
        await data.rollback(transaction)
        assert isinstance((await hub.inspect(lost.key)).failure(), SuspensionNotFound)
        transaction = await data.begin(connection)
        await data.insert(transaction, "asked")
        kept = or_raise(await hub.within(transaction).suspend({"text": LARGE}, awaiting=WORD, idempotency_key="k"))
        await data.commit(transaction)
    assert or_raise(await hub.resume(kept.key, "yes")).state == {"text": LARGE}
    assert await data.orders() == ["asked"]


async def test_an_answer_counts_once_the_transaction_is_committed(hub, data):
    new = or_raise(await hub.suspend({"n": 1}, awaiting=WORD))
    async with data.connected() as connection:
        transaction = await data.begin(connection)
        or_raise(await hub.within(transaction).answer(new.key, LARGE, by="ann"))
        await data.rollback(transaction)
        assert or_raise(await hub.inspect(new.key)).status is Status.WAITING
        transaction = await data.begin(connection)
        or_raise(await hub.within(transaction).answer(new.key, LARGE, by="bob"))
        await data.commit(transaction)
    run = or_raise(await hub.claim(new.key))
    assert (run.answer, run.answered_by) == (LARGE, "bob")


async def test_a_refusal_leaves_the_transaction_as_it_was(hub, data):
    new = or_raise(await hub.suspend({"n": 1}, awaiting=WORD, timeout=timedelta(hours=1)))
    ended = or_raise(await hub.suspend({"n": 2}, awaiting=WORD))
    or_raise(await hub.resume(ended.key, "yes"))
    async with data.connected() as connection:
        transaction = await data.begin(connection)
        bound = hub.within(transaction)
        await data.insert(transaction, "one")
        assert isinstance((await bound.resume(ended.key, "no")).failure(), AlreadyResumed)
        travel(hub, timedelta(hours=2))
        late = hub.within(transaction)
        assert isinstance((await late.answer(new.key, "late")).failure(), SuspensionExpired)
        await data.insert(transaction, "two")
        await data.commit(transaction)
    assert await data.orders() == ["one", "two"]


async def test_whoever_writes_the_run_meanwhile_waits_and_one_wins(hub, data, driver):
    new = or_raise(await hub.suspend({"n": 1}, awaiting=WORD))
    async with data.connected() as connection:
        transaction = await data.begin(connection)
        or_raise(await hub.within(transaction).resume(new.key, "mine"))
        other = asyncio.create_task(hub.resume(new.key, "theirs"))
        await asyncio.sleep(0.2)
        assert not other.done()
        await data.commit(transaction)
        assert isinstance((await other).failure(), AlreadyResumed)


async def test_no_observer_is_told_of_what_may_be_undone(url, driver):
    seen = []
    async with open_hub(url, keyring=None, on_event=seen.append) as hub:
        data = KINDS[driver](url, "t1")
        async with data.connected() as connection:
            transaction = await data.begin(connection)
            or_raise(await hub.within(transaction).suspend({"n": 1}, awaiting=WORD))
            await data.commit(transaction)
        or_raise(await hub.suspend({"n": 1}, awaiting=WORD))
    assert [event.verb for event in seen] == ["suspend"]


async def test_a_run_that_is_completed_in_a_transaction_needs_no_second_completion(hub, data):
    new = or_raise(await hub.suspend({"n": 1}, awaiting=WORD))
    async with data.connected() as connection, hub.running(new.key, "yes") as outcome:
        transaction = await data.begin(connection)
        await data.insert(transaction, "paid")
        or_raise(await hub.within(transaction).complete(or_raise(outcome), "in the transaction"))
        await data.commit(transaction)
    assert or_raise(await hub.outcome(new.key)) == "in the transaction"


async def test_a_transaction_that_has_not_begun_or_has_ended_is_told(hub, data):
    async with data.connected() as connection:
        transaction = await data.begin(connection)
        bound = hub.within(transaction)
        await data.commit(transaction)
        error = (await bound.suspend({"n": 1}, awaiting=WORD)).failure()
        assert isinstance(error, ConfigurationError)
        assert "transaction" in str(error)
        with pytest.raises(ConfigurationError):
            hub.within(transaction)


async def test_what_is_no_transaction_is_a_type_error(hub):
    with pytest.raises(TypeError):
        hub.within(object())


async def test_many_tasks_may_use_one_transaction(hub, data):
    async with data.connected() as connection:
        transaction = await data.begin(connection)
        bound = hub.within(transaction)
        made = await asyncio.gather(*(bound.suspend({"n": n}, awaiting=WORD) for n in range(10)))
        await data.commit(transaction)
    assert {or_raise(await hub.inspect(or_raise(one).key)).status for one in made} == {Status.WAITING}


async def test_a_raising_hub_has_it_too(hub, data):
    async with data.connected() as connection:
        transaction = await data.begin(connection)
        new = await RaisingHub(hub).within(transaction).suspend({"n": 1}, awaiting=WORD)
        await data.commit(transaction)
    assert or_raise(await hub.inspect(new.key)).status is Status.WAITING


@pytest.mark.parametrize("where", ["before", "after"])
async def test_of_a_process_that_is_killed_both_are_there_or_neither(hub, data, driver, url, where):
    new = or_raise(await hub.suspend({"n": 1}, awaiting=WORD))
    command = [sys.executable, PROGRAM, driver, url, data.name, str(new.key), where]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=PROGRAM.parent) as process:
        assert await asyncio.to_thread(process.stdout.readline) == "there\n"
        process.kill()
    # The server ends the transaction when it sees that the connection is gone.
    async with asyncio.timeout(20):
        status = or_raise(await hub.inspect(new.key)).status
    assert status is (Status.COMPLETED if where == "after" else Status.RUNNING)
    assert await data.orders() == (["paid"] if where == "after" else [])
    if where == "before":
        travel(hub, timedelta(minutes=1))
        async with asyncio.timeout(30):
            assert or_raise(await hub.claim(new.id)).attempt == 2


@pytest.mark.parametrize("cancelled_after", range(4))
async def test_a_cancelled_verb_is_undone_with_the_transaction(hub, data, cancelled_after):
    async with data.connected() as connection:
        transaction = await data.begin(connection)
        suspending = asyncio.create_task(hub.within(transaction).suspend({"n": 1}, awaiting=WORD, idempotency_key="k"))
        for _ in range(cancelled_after):
            await asyncio.sleep(0)
        suspending.cancel()
        await asyncio.wait([suspending])
    # Whoever leaves the block without a commit has rolled it back.
    assert len(or_raise(await hub.query()).items) == 0


@pytest.mark.parametrize("driver", ["asyncpg"], indirect=True)
async def test_a_serialization_failure_is_an_error_of_its_own_and_nothing_is_tried_again(hub, data):
    new = or_raise(await hub.suspend({"n": 1}, awaiting=WORD))
    async with data.connected() as connection:
        transaction = await data.begin(connection, isolation="repeatable_read")
        await data.insert(transaction, "lost")
        or_raise(await hub.answer(new.key, "theirs"))
        error = (await hub.within(transaction).cancel(new.key, "mine")).failure()
        assert isinstance(error, TransactionAborted)
        assert not error.retryable
        await data.rollback(transaction)
    assert or_raise(await hub.inspect(new.key)).status is Status.ANSWERED
    assert await data.orders() == []


@pytest.mark.parametrize("driver", ["asyncpg"], indirect=True)
async def test_a_transaction_may_be_begun_by_sql_and_have_savepoints(hub, data):
    new = or_raise(await hub.suspend({"n": 1}, awaiting=WORD, timeout=timedelta(hours=1)))
    async with data.connected() as connection:
        await connection.execute("begin")
        await connection.execute("savepoint mine")
        undone = or_raise(await hub.within(connection).suspend({"n": 2}, awaiting=WORD))
        await connection.execute("rollback to savepoint mine")
        or_raise(await hub.within(connection).answer(new.key, "yes"))
        await connection.execute("commit")
    assert or_raise(await hub.inspect(new.key)).status is Status.ANSWERED
    assert isinstance((await hub.inspect(undone.key)).failure(), SuspensionNotFound)


@pytest.mark.parametrize("driver", ["asyncpg", "neo4j"], indirect=True)
async def test_a_lost_connection_is_no_open_outcome(hub, data, driver):
    async with data.connected() as connection:
        transaction = await data.begin(connection)
        bound = hub.within(transaction)
        if driver == "asyncpg":
            connection.terminate()
        else:
            await connection.close()
        error = (await bound.suspend({"n": 1}, awaiting=WORD)).failure()
    assert isinstance(error, TransactionAborted | ConfigurationError)
    assert len(or_raise(await hub.query()).items) == 0


@pytest.mark.parametrize("driver", ["sqlite3", "aiosqlite"], indirect=True)
async def test_a_connection_to_another_file_is_refused(hub, data, driver, tmp_path):
    elsewhere = KINDS[driver](f"sqlite:///{tmp_path}/other.db", "t1")
    async with elsewhere.connected() as connection:
        transaction = await elsewhere.begin(connection)
        error = (await hub.within(transaction).suspend({"n": 1}, awaiting=WORD)).failure()
    assert isinstance(error, ConfigurationError)
    assert "another" in str(error)


@pytest.mark.parametrize("driver", ["sqlite3"], indirect=True)
async def test_a_connection_may_have_factories_and_a_lock_is_waited_for_beside_the_event_loop(hub, data):
    async with data.connected() as connection, data.connected() as other:
        connection.row_factory, connection.text_factory = sqlite3.Row, bytes
        other.execute("begin immediate")
        connection.execute("begin")
        waiting = asyncio.create_task(hub.within(connection).suspend({"n": 1}, awaiting=WORD))
        for _ in range(5):
            await asyncio.sleep(0.01)
        assert not waiting.done()
        other.execute("rollback")
        new = or_raise(await waiting)
        connection.execute("commit")
        assert (connection.row_factory, connection.text_factory) == (sqlite3.Row, bytes)
        assert connection.execute("pragma busy_timeout").fetchone()[0] == 5000
    assert or_raise(await hub.inspect(new.key)).status is Status.WAITING


@pytest.mark.parametrize("driver", ["sqlite3"], indirect=True)
async def test_a_connection_of_another_thread_is_refused(hub, data):
    async def begun():
        async with data.connected() as connection:
            connection.execute("begin immediate")
            return hub.within(connection)

    def elsewhere():
        connection = sqlite3.connect(data.path, isolation_level=None)
        connection.execute("begin")
        return connection

    foreign = await asyncio.to_thread(elsewhere)
    for bound in (await begun(), hub.within(foreign)):
        error = (await bound.suspend({"n": 1}, awaiting=WORD)).failure()
        assert isinstance(error, ConfigurationError)
        assert "thread" in str(error)


@pytest.mark.parametrize("driver", ["sqlite3"], indirect=True)
async def test_a_connection_that_begins_by_itself_at_the_first_change(hub, data):
    connection = sqlite3.connect(data.path)
    with pytest.raises(ConfigurationError, match="begin immediate"):
        hub.within(connection)
    for ends in (connection.rollback, connection.commit):
        connection.execute(f"insert into {data.name}_orders values ('paid')")
        new = or_raise(await hub.within(connection).suspend({"n": 1}, awaiting=WORD))
        ends()
    assert [one.id for one in or_raise(await hub.query()).items] == [new.id]
    assert await data.orders() == ["paid"]
    connection.close()


@pytest.mark.parametrize("driver", ["sqlite3"], indirect=True)
async def test_what_a_transaction_has_read_may_be_out_of_date(hub, data):
    new = or_raise(await hub.suspend({"n": 1}, awaiting=WORD))
    async with data.connected() as connection:
        connection.execute("begin")
        assert connection.execute(f"select count(*) from {data.name}_orders").fetchone() == (0,)
        or_raise(await hub.answer(new.key, "theirs"))
        error = (await hub.within(connection).cancel(new.key)).failure()
        assert isinstance(error, TransactionAborted)
        connection.execute("rollback")
    assert or_raise(await hub.inspect(new.key)).status is Status.ANSWERED


@pytest.mark.parametrize("driver", ["sqlite3"], indirect=True)
async def test_a_lock_that_is_never_given_up_ends_the_wait(hub, data):
    async with data.connected() as connection, data.connected() as other:
        connection.execute("pragma busy_timeout = 50")
        other.execute("begin immediate")
        connection.execute("begin")
        error = (await hub.within(connection).suspend({"n": 1}, awaiting=WORD)).failure()
        assert isinstance(error, TransactionAborted)


@pytest.mark.parametrize("scheme", ["memory", "file"])
async def test_other_stores_say_that_they_have_no_transactions(scheme, tmp_path):
    url = f"memory://{tmp_path.name}" if scheme == "memory" else f"file://{tmp_path}/flows"
    async with open_hub(url, keyring=None) as hub:
        with pytest.raises(ConfigurationError, match="PostgreSQL, SQLite or Neo4j"):
            hub.within(object())
        with pytest.raises(ConfigurationError, match="PostgreSQL, SQLite or Neo4j"):
            hub.backend.within(object())


@pytest.mark.parametrize("url", ["redis://localhost", "mongodb://localhost"])
def test_so_do_backends_of_servers_without_them(url):
    backend = backend_from_url(url)
    assert Capability.TRANSACTIONS not in backend.capabilities
    with pytest.raises(ConfigurationError, match="PostgreSQL, SQLite or Neo4j"):
        backend.within(object())


async def test_a_store_with_blobs_apart_has_no_transactions(tmp_path):
    url, blobs = f"sqlite:///{tmp_path}/flows.db", f"file://{tmp_path}/blobs"
    async with open_hub(url, keyring=None, blobs=blobs) as hub:
        with pytest.raises(ConfigurationError, match="without blobs apart"):
            hub.within(sqlite3.connect(":memory:"))


async def test_a_tenants_key_seals_in_a_transaction_too(url, driver, tmp_path):
    service, store = LocalKeyService(KeyRing.generate("master")), WrappedKeyFile(tmp_path / "wrapped.json")
    base = KeyRing.generate("base")
    async with open_hub(url, keyring=TenantKeys(base, service, store)) as hub:
        data = KINDS[driver](url, f"t{uuid4().hex[:12]}")
        await data.prepare()
        async with data.connected() as connection:
            transaction = await data.begin(connection)
            # The tenant's first key is made, and used, within the transaction.
            bound = hub.within(transaction)
            new = or_raise(await bound.suspend({"text": LARGE}, awaiting=WORD, tenant="acme", by="ann"))
            or_raise(await bound.answer(new.key, LARGE, by="ann"))
            await data.insert(transaction, "asked")
            await data.commit(transaction)
    # Another process has to fetch the key within its transaction.
    async with open_hub(url, keyring=TenantKeys(base, service, store)) as other:
        async with data.connected() as connection:
            transaction = await data.begin(connection)
            run = or_raise(await other.within(transaction).claim(new.key))
            assert (run.state, run.answer) == ({"text": LARGE}, LARGE)
            or_raise(await other.within(transaction).complete(run, "done"))
            await data.commit(transaction)
        assert or_raise(await other.outcome(new.id)) == "done"
        assert [entry.verb for entry in or_raise(await other.history(new.id))] == [
            "suspend", "answer", "claim", "complete",
        ]  # fmt: skip
        assert or_raise(await Maintenance(other).shred("acme")).trails == 1
        async with data.connected() as connection:
            transaction = await data.begin(connection)
            refused = (await other.within(transaction).inspect(new.id)).failure()
            assert isinstance(refused, KeyDestroyed)
            await data.rollback(transaction)
    await data.drop()
