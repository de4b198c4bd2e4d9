"""What opening would do to a store's schema can be read before, and is done then; a file holds stores side by side."""

import asyncio
import sqlite3

import pytest

from flowpersist import ConfigurationError, open_hub, or_raise
from flowpersist.backends.base import Capability, Migrating, NamespaceSchema, Where
from flowpersist.backends.blob_files import FileBlobStore
from flowpersist.backends.claim_check import ClaimCheckBackend
from flowpersist.backends.filesystem import FilesystemBackend
from flowpersist.backends.memory import MemoryBackend
from flowpersist.backends.registry import backend_from_url
from flowpersist.backends.sqlite import SqliteBackend
from flowpersist.errors import BackendUnavailable, UnsupportedVersion
from flowpersist.hub.opening import SchemaMigration, migrate
from flowpersist.settings import Settings
from flowpersist.testing.suite.ground import NAMESPACE, SCHEMA, make, stored

NONE = Settings.from_environ({})


@pytest.fixture(params=["sqlite", "file"])
def store(request, tmp_path):
    """A backend that has a schema, and where its database is."""
    if request.param == "sqlite":
        return SqliteBackend(tmp_path / "flows.db"), tmp_path / "flows.db"
    return FilesystemBackend(tmp_path / "flows"), tmp_path / "flows" / "index.sqlite"


def schema_of(path):
    connection = sqlite3.connect(path)
    try:
        return dict(connection.execute("select name, sql from sqlite_master where sql not null"))
    finally:
        connection.close()


def listing(directory):
    return sorted(path.relative_to(directory) for path in directory.rglob("*"))


async def test_the_plan_of_a_new_store_makes_its_schema(store, tmp_path):
    backend, path = store
    assert Capability.MIGRATIONS in backend.capabilities
    statements = await backend.plan(SCHEMA)
    assert listing(tmp_path) == []
    by_hand = tmp_path / "by-hand.db"
    connection = sqlite3.connect(by_hand)
    for statement in statements:
        assert sqlite3.complete_statement(statement)
        connection.execute(statement)
    connection.commit()
    connection.close()
    await backend.open(SCHEMA)
    await backend.close()
    assert schema_of(path) == schema_of(by_hand)


async def test_what_was_planned_is_done_once(store, tmp_path):
    backend, _ = store
    await backend.open(SCHEMA)
    assert await backend.plan(SCHEMA) == (), "while it is open too"
    await make(backend, "a", body=b"x")
    await backend.close()
    before = listing(tmp_path)
    added = await backend.plan([NamespaceSchema("more", {"color": str})])
    assert len(added) == 2
    assert all("color" in statement for statement in added)
    assert listing(tmp_path) == before
    assert await backend.plan(SCHEMA) == ()
    await backend.open(SCHEMA)
    assert (await stored(backend, "a")).body == b"x"
    await backend.close()


async def test_a_plan_made_by_hand_is_taken_for_done(tmp_path):
    backend = SqliteBackend(tmp_path / "flows.db")
    statements = await backend.plan(SCHEMA)
    connection = sqlite3.connect(tmp_path / "flows.db")
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()
    assert await backend.plan(SCHEMA) == ()
    await backend.open(SCHEMA)
    await make(backend, "a")
    await backend.close()


async def test_the_schema_of_a_later_release_has_no_plan(tmp_path):
    backend = SqliteBackend(tmp_path / "flows.db")
    await backend.open(SCHEMA)
    await backend.close()
    connection = sqlite3.connect(tmp_path / "flows.db")
    connection.execute("update flowpersist_meta set value = 99 where name = 'version'")
    connection.commit()
    connection.close()
    with pytest.raises(UnsupportedVersion):
        await backend.plan(SCHEMA)
    directory = FilesystemBackend(tmp_path / "flows")
    await directory.open(SCHEMA)
    await directory.close()
    (tmp_path / "flows" / "format.json").write_text('{"format": 99}')
    with pytest.raises(UnsupportedVersion):
        await directory.plan(SCHEMA)


@pytest.mark.parametrize("text", [b"", b"no database at all", b"SQLite format 3\0" + bytes(200)])
async def test_an_index_that_is_no_use_is_planned_anew(tmp_path, text):
    backend = FilesystemBackend(tmp_path / "flows")
    whole = await backend.plan(SCHEMA)
    await backend.open(SCHEMA)
    await backend.close()
    (tmp_path / "flows" / "index.sqlite").write_bytes(text)
    assert await backend.plan(SCHEMA) == whole
    await backend.open(SCHEMA)
    await backend.close()
    assert await backend.plan(SCHEMA) == ()


async def test_a_file_that_is_no_database_is_told(tmp_path):
    (tmp_path / "flows.db").write_bytes(b"no database at all" * 100)
    with pytest.raises(BackendUnavailable, match="not a SQLite database"):
        await SqliteBackend(tmp_path / "flows.db").plan(SCHEMA)


async def test_stores_of_two_prefixes_share_a_file(tmp_path):
    one = SqliteBackend(tmp_path / "flows.db")
    other = backend_from_url(f"sqlite:///{tmp_path}/flows.db?prefix=other")
    await asyncio.gather(one.open(SCHEMA), other.open(SCHEMA))
    await make(one, "a", body=b"one" * 30_000, attributes={"status": "x"})
    await make(other, "a", body=b"other" * 30_000, attributes={"status": "y"})
    assert (await stored(one, "a")).body == b"one" * 30_000
    assert (await stored(other, "a")).body == b"other" * 30_000
    assert (await other.query(NAMESPACE, Where({"status": "x"}), limit=5)).items == ()
    assert await other.purge(NAMESPACE, Where({"status": "y"}), limit=5) == 1
    assert (await stored(one, "a")).attributes == {"status": "x"}
    assert await other.plan(SCHEMA) == await one.plan(SCHEMA) == ()
    await asyncio.gather(one.close(), other.close())
    assert {name.split("_")[0] for name in schema_of(tmp_path / "flows.db")} == {"flowpersist", "other"}


@pytest.mark.parametrize("prefix", ["", "Other", "x-y", "1x", "x" * 33, 'x"; drop table y; --'])
def test_a_prefix_that_can_be_no_name_is_refused(tmp_path, prefix):
    with pytest.raises(ConfigurationError, match="prefix"):
        SqliteBackend(tmp_path / "flows.db", prefix=prefix)


async def test_what_a_hub_needs_is_planned_and_done(tmp_path):
    url = f"sqlite:///{tmp_path}/flows.db"
    planned = await migrate(url, plan=True, namespace="billing", settings=NONE)
    assert (planned.backend, planned.applied) == ("sqlite", False)
    assert listing(tmp_path) == []
    done = await migrate(url, namespace="billing", settings=NONE)
    assert done == SchemaMigration("sqlite", planned.statements, applied=True)
    async with open_hub(url, keyring=None, namespace="billing", settings=NONE) as hub:
        or_raise(await hub.suspend({"n": 1}))
    assert (await migrate(url, settings=NONE)).statements == ()


async def test_without_a_schema_there_is_nothing_to_do(tmp_path):
    memory = MemoryBackend()
    assert not isinstance(memory, Migrating)
    assert (await migrate(memory, settings=NONE)).statements == ()
    checked = ClaimCheckBackend(MemoryBackend(), FileBlobStore(tmp_path))
    assert (await migrate(checked, plan=True, settings=NONE)).statements == ()
    assert not (tmp_path / "blobs").exists()


async def test_the_claim_check_plans_for_the_store_within(tmp_path):
    inner = SqliteBackend(tmp_path / "flows.db")
    checked = ClaimCheckBackend(inner, FileBlobStore(tmp_path / "blobs"))
    assert Capability.MIGRATIONS in checked.capabilities
    assert await checked.plan(SCHEMA) == (*await inner.plan(SCHEMA), f"mkdir --parents {tmp_path / 'blobs'}")
    (tmp_path / "blobs").mkdir()
    assert await checked.plan(SCHEMA) == await inner.plan(SCHEMA)


async def test_no_store_is_a_configuration_error():
    with pytest.raises(ConfigurationError, match="FLOWPERSIST_URL"):
        await migrate(settings=NONE)
