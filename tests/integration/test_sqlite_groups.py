"""What is written together in one transaction: each operation has its own outcome, and its own error."""

import asyncio
import sqlite3
import threading
from datetime import UTC, datetime, timedelta

import pytest

from flowpersist.backends._sqlite.inserts import BRIEF_BYTES
from flowpersist.backends.base import NamespaceSchema, RecordChange, RecordRef, Where
from flowpersist.backends.sqlite import SqliteBackend
from flowpersist.errors import BackendUnavailable, DeadlinePassed, RevisionConflict

SCHEMA = [NamespaceSchema("n", {"status": str})]


@pytest.fixture
async def backend(tmp_path):
    backend = SqliteBackend(tmp_path / "store.db")
    await backend.open(SCHEMA)
    yield backend
    await backend.close()


@pytest.fixture
def groups(backend):
    """How many operations each transaction had."""
    writer = backend._threads.threads[0]
    sizes = []
    committed = writer._committed

    def counting(settled):
        if not isinstance(settled[0].job.run, Gate):
            sizes.append(len(settled))
        return committed(settled)

    writer._committed = counting
    return sizes


def ref(number):
    return RecordRef("n", f"k{number:03}")


def insert(backend, number, body=b"x", **options):
    change = RecordChange(f"w{number}", attributes={"status": str(number)}, body=body)
    return backend.put(ref(number), change, if_revision=0, **options)


async def written(backend, action):
    return await backend._writing(action)


class Gate:
    """A job that holds the writer up, so that what is sent meanwhile comes together."""

    def __init__(self):
        self.reached, self.opened = threading.Event(), threading.Event()

    def __call__(self, connection):
        self.reached.set()
        self.opened.wait(5)


async def gathered(backend, *operations):
    gate = Gate()
    held = asyncio.ensure_future(backend._writing(gate))
    await asyncio.to_thread(gate.reached.wait, 5)
    tasks = [asyncio.ensure_future(operation) for operation in operations]
    await asyncio.sleep(0)
    gate.opened.set()
    await held
    return await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.parametrize("count", [1, 2, 3, 50, 64])
async def test_new_records_of_one_turn_share_a_transaction(backend, groups, count):
    done = await gathered(backend, *(insert(backend, number, b"%d" % number) for number in range(count)))
    assert [one.revision for one in done] == [1] * count
    assert groups == [count]
    for number in range(count):
        record = (await backend.get(ref(number))).record
        assert (record.body, record.attributes, record.write_id) == (
            b"%d" % number,
            {"status": str(number)},
            f"w{number}",
        )


async def test_large_heads_go_one_by_one_so_that_no_statement_keeps_many(backend, groups):
    statements = []
    await backend._writing(lambda connection: connection.set_trace_callback(statements.append))
    heads = [b"h" * size for size in (1, BRIEF_BYTES, BRIEF_BYTES + 1, 100_000, 3)]
    change = [RecordChange("w", head=head, body=b"b") for head in heads]
    done = await gathered(backend, *(backend.put(ref(n), one, if_revision=0) for n, one in enumerate(change)))
    await backend._writing(lambda connection: connection.set_trace_callback(None))
    inserts = [len(one) for one in statements if "into flowpersist_records" in one]
    assert len(inserts) == 3
    assert inserts[0] < 4 * BRIEF_BYTES
    assert [one.revision for one in done] == [1] * 5
    records = [(await backend.get(ref(number))).record for number in range(5)]
    assert [(record.head, record.body) for record in records] == [(head, b"b") for head in heads]


async def test_of_one_key_in_a_group_the_first_wins(backend, groups):
    done = await gathered(backend, insert(backend, 1, b"first"), insert(backend, 2), insert(backend, 1, b"second"))
    assert [type(one).__name__ for one in done] == ["Written", "Written", "RevisionConflict"]
    assert groups == [3]
    assert (await backend.get(ref(1))).record.body == b"first"


async def test_one_that_stands_and_one_that_is_late_fail_alone(backend, groups):
    await insert(backend, 1, b"old")
    late = datetime.now(UTC) - timedelta(seconds=1)
    done = await gathered(
        backend,
        insert(backend, 0),
        insert(backend, 1, b"new"),
        insert(backend, 2, not_after=late),
        insert(backend, 1, b"new", not_after=late),
        insert(backend, 3, None),
    )
    assert [type(one) for one in done[1:4]] == [RevisionConflict, DeadlinePassed, RevisionConflict]
    assert [done[0].revision, done[4].revision] == [1, 1]
    assert groups == [1, 5]
    assert (await backend.get(ref(1))).record.body == b"old"
    assert (await backend.get(ref(2))).record is None
    assert (await backend.get(ref(3))).record.body_size is None


async def test_new_records_begin_above_what_a_group_has_deleted(backend, groups):
    await insert(backend, 1)
    for revision in range(1, 4):
        await backend.put(ref(1), RecordChange("w"), if_revision=revision)
    done = await gathered(backend, insert(backend, 2), backend.delete(ref(1), if_revision=4), insert(backend, 1))
    assert [done[0].revision, done[1], done[2].revision] == [1, True, 5]
    assert groups[-1] == 3


async def test_what_fails_after_it_has_written_takes_nothing_of_the_others(backend, groups):
    def half(connection):
        connection.execute("update flowpersist_records set head = x'ff'")
        raise BackendUnavailable("half-way", "sqlite")

    def refused(connection):
        connection.execute("insert into flowpersist_bodies (record, data) values (1, null)")

    await insert(backend, 1)
    done = await gathered(
        backend, insert(backend, 2), written(backend, half), written(backend, refused), insert(backend, 3, b"kept")
    )
    assert [type(one).__name__ for one in done] == ["Written", "BackendUnavailable", "StorageError", "Written"]
    assert groups == [1, 4]
    items = (await backend.query("n", Where(), limit=9)).items
    assert [(item.ref, item.head) for item in items] == [(ref(number), b"") for number in (1, 2, 3)]
    assert (await backend.get(ref(3))).record.body == b"kept"


async def test_an_insert_that_the_driver_refuses_fails_alone(backend):
    connection = sqlite3.connect(backend._database.path)
    connection.execute(
        "create trigger refuse before insert on flowpersist_bodies when new.data = x'bad0' "
        "begin select raise(abort, 'no'); end"
    )
    connection.close()
    done = await gathered(
        backend, *(insert(backend, number, b"\xba\xd0" if number == 7 else b"x") for number in range(20))
    )
    assert [type(one).__name__ for one in done if not hasattr(one, "revision")] == ["StorageError"]
    assert len((await backend.query("n", Where(), limit=99)).items) == 19
    assert (await backend.get(ref(7))).record is None


async def test_an_insert_that_fails_otherwise_leaves_the_writer_alive(backend):
    backend.clock_offset = timedelta.max
    async with asyncio.timeout(10):
        done = await gathered(backend, *(insert(backend, number) for number in range(3)))
    assert [type(one) for one in done] == [OverflowError] * 3
    backend.clock_offset = timedelta(0)
    async with asyncio.timeout(10):
        assert (await insert(backend, 0)).revision == 1


async def test_more_than_a_group_at_once(backend, groups):
    done = await gathered(backend, *(insert(backend, number) for number in range(200)))
    assert [one.revision for one in done] == [1] * 200
    assert sum(groups) == 200
    assert max(groups) <= 64


async def test_what_was_asked_in_the_turn_of_closing_is_done(backend):
    writing = [asyncio.ensure_future(insert(backend, number)) for number in range(3)]
    await asyncio.sleep(0)
    await backend.close()
    assert [one.revision for one in await asyncio.gather(*writing)] == [1] * 3
