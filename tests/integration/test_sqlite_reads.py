"""A large body is read apart from its record: both are of one moment whatever is written between."""

import sqlite3

import pytest

from flowpersist.backends._sqlite import rows
from flowpersist.backends.base import NamespaceSchema, RecordChange, RecordRef
from flowpersist.backends.sqlite import SqliteBackend
from flowpersist.errors import IntegrityError

SCHEMA = [NamespaceSchema("n", {})]
REF = RecordRef("n", "k")
OLD, NEW = b"o" * 100_000, b"n" * 100_000


@pytest.fixture
async def backend(tmp_path):
    backend = SqliteBackend(tmp_path / "store.db")
    await backend.open(SCHEMA)
    await backend.put(REF, RecordChange("old", body=OLD), if_revision=0)
    yield backend
    await backend.close()


@pytest.fixture
def between(backend, monkeypatch):
    """Statements that another program runs, once, after the record was read and before its body is."""
    statements = []
    large = rows._large

    def interrupted(connection, tables, identity):
        other = sqlite3.connect(backend._database.path)
        with other:
            while statements:
                other.execute(*statements.pop(0))
        other.close()
        return large(connection, tables, identity)

    monkeypatch.setattr(rows, "_large", interrupted)
    return statements


async def test_a_change(backend, between):
    between += [
        ("update flowpersist_records set revision = 2, write_id = 'new'",),
        ("update flowpersist_bodies set data = ?", (NEW,)),
    ]
    record = (await backend.get(REF)).record
    assert (record.revision, record.write_id, record.body) == (2, "new", NEW)


async def test_a_change_to_a_small_body(backend, between):
    between += [
        ("update flowpersist_records set revision = 2, body_size = 3",),
        ("update flowpersist_bodies set data = x'010203'",),
    ]
    record = (await backend.get(REF)).record
    assert (record.revision, record.body) == (2, b"\1\2\3")


async def test_a_body_that_is_dropped(backend, between):
    between += [
        ("update flowpersist_records set revision = 2, body_size = null",),
        ("delete from flowpersist_bodies",),
    ]
    record = (await backend.get(REF)).record
    assert (record.revision, record.body, record.body_size) == (2, None, None)


async def test_a_deletion(backend, between):
    between += [("delete from flowpersist_bodies",), ("delete from flowpersist_records",)]
    assert (await backend.get(REF)).record is None


async def test_a_body_that_another_program_took(backend, between):
    between += [("delete from flowpersist_bodies",)]
    with pytest.raises(IntegrityError, match="body"):
        await backend.get(REF)
