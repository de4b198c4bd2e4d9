"""Looking at a store makes nothing, and a URL is refused that its scheme would read otherwise than it was meant."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from canaries import dumped
from flowpersist import AwaitInput, KeyRing, Maintenance, RaisingHub, open_hub, or_raise
from flowpersist.backends.blobs import blob_store_from_url
from flowpersist.backends.registry import backend_from_url
from flowpersist.errors import ConfigurationError

ASK = AwaitInput(id="ask", prompt="Go on?", schema=bool)
#: One of its own for each scheme, as its error shows it.
EXAMPLES = {
    "memory": "memory://",
    "sqlite": "sqlite:///flows.db",
    "file": "file:flows",
    "postgresql": "postgresql://user:password@host:5432/database",
    "postgres": "postgresql://user:password@host:5432/database",
    "redis": "redis://:password@host:6379/0",
    "rediss": "rediss://:password@host:6379/0",
    "mongodb": "mongodb://user:password@host/database",
    "neo4j": "neo4j://user:password@host:7687/database",
    "neo4j+s": "neo4j+s://user:password@host:7687/database",
    "bolt": "bolt://user:password@host:7687/database",
    "bolt+ssc": "bolt+ssc://user:password@host:7687/database",
}
FOREIGN = {
    "memory": ["memory:", "memory:flows", "memory:///flows", "memory://a/b"],
    "sqlite": ["sqlite:", "sqlite:flows.db", "sqlite:/var/flows.db", "sqlite://flows.db", "sqlite:///", "sqlite://a/b"],
    "file": ["file:", "file:/", "file://flows", "file://flows/records"],
    **{
        scheme: [
            f"{scheme}:flows",
            f"{scheme}:/flows",
            f"{scheme}://h:0/0",
            f"{scheme}://h:65536/0",
            f"{scheme}://h:x/0",
        ]
        for scheme in EXAMPLES
        if scheme not in {"memory", "sqlite", "file"}
    },
}
for scheme in ("redis", "rediss"):
    FOREIGN[scheme] += [f"{scheme}://h/flows", f"{scheme}://", f"{scheme}://:secret@/0"]
REFUSED = [(scheme, url) for scheme, urls in FOREIGN.items() for url in urls]


@pytest.mark.parametrize(("scheme", "url"), REFUSED)
def test_a_form_that_the_scheme_does_not_take_is_refused_with_one_that_it_takes(scheme, url):
    with pytest.raises(ConfigurationError) as refused:
        backend_from_url(url)
    assert f"Invalid {scheme} URL: expected " in str(refused.value)
    assert EXAMPLES[scheme] in str(refused.value)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("scheme", EXAMPLES)
def test_the_form_that_an_error_shows_is_taken(scheme):
    assert backend_from_url(EXAMPLES[scheme]).capabilities


@pytest.mark.parametrize("url", ["file:", "file://blobs", "s3:", "s3:///blobs"])
def test_blob_stores_refuse_foreign_forms_too(url):
    with pytest.raises(ConfigurationError, match=r"Invalid (file|s3) URL: expected (file:flows|s3://bucket)"):
        blob_store_from_url(url)


async def test_a_hub_that_only_looks_refuses_a_store_that_is_not_there_and_makes_nothing(url, stored):
    before = await stored()
    for _ in range(2):
        with pytest.raises(ConfigurationError, match="not there"):
            async with open_hub(url, keyring=None, create=False):
                pytest.fail("it was opened")
    assert await stored() == before


async def test_the_raising_door_refuses_it_too(tmp_path):
    with pytest.raises(ConfigurationError, match="not there"):
        async with RaisingHub.open(f"sqlite:///{tmp_path}/none.db", keyring=None, create=False):
            pytest.fail("it was opened")
    assert list(tmp_path.iterdir()) == []


async def test_a_hub_that_only_looks_reads_a_store_that_is_there(url):
    ring = KeyRing.generate()
    async with RaisingHub.open(url, keyring=ring) as hub:
        new = await hub.suspend({"a": 1}, awaiting=ASK)
    async with RaisingHub.open(url, keyring=ring, create=False) as hub:
        assert (await hub.inspect(new.key)).id == new.id


async def test_a_directory_of_blobs_that_is_not_there_is_not_made(tmp_path):
    store = f"sqlite:///{tmp_path}/flows.db"
    async with RaisingHub.open(store, keyring=None, blobs=f"file://{tmp_path}/blobs"):
        pass
    with pytest.raises(ConfigurationError, match="not there"):
        async with open_hub(store, keyring=None, blobs=f"file://{tmp_path}/mistyped", create=False):
            pytest.fail("it was opened")
    assert not (tmp_path / "mistyped").exists()


async def test_looking_at_a_store_with_blobs_writes_no_record(tmp_path):
    """A store drew its own name, as a record, when it was opened: also for a hub that only looks."""
    store = f"sqlite:///{tmp_path}/flows.db"
    async with RaisingHub.open(store, keyring=None) as hub:
        new = await hub.suspend({"a": 1}, awaiting=ASK)
    (tmp_path / "blobs").mkdir()
    before = _rows(tmp_path / "flows.db")
    async with RaisingHub.open(store, keyring=None, blobs=f"file://{tmp_path}/blobs", create=False) as hub:
        assert (await hub.inspect(new.key)).id == new.id
        assert [one.id for one in (await hub.query()).items] == [new.id]
        assert or_raise(await Maintenance(hub.hub).health()).sealed == {"plain": 1}
    assert _rows(tmp_path / "flows.db") == before
    assert list((tmp_path / "blobs").iterdir()) == []


def _rows(path):
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT namespace, key, revision FROM flowpersist_records ORDER BY 1, 2").fetchall()


async def test_a_path_through_a_directory_that_is_not_there_is_refused_by_its_name(tmp_path):
    for url in (f"sqlite:///{tmp_path}/no/flows.db", f"file://{tmp_path}/no/flows"):
        with pytest.raises(ConfigurationError, match="not there"):
            async with open_hub(url, keyring=None, create=False):
                pytest.fail("it was opened")
    assert dumped(tmp_path) == b"" or not any(tmp_path.iterdir())


async def test_health_tells_encryption_by_what_is_stored(url):
    """A hub's own keyring says nothing of it: with one, what another process has stored in plain text is told."""
    ring = KeyRing.generate()
    async with RaisingHub.open(url, keyring=None) as hub:
        await hub.suspend({"a": 1}, awaiting=ASK)
        plain = or_raise(await Maintenance(hub.hub).health())
        assert (plain.encrypted, plain.sealed) == (False, {"plain": 1})
        assert any("plain text" in warning for warning in plain.warnings)
    async with RaisingHub.open(url, keyring=ring) as hub:
        await hub.suspend({"a": 1}, awaiting=ASK)
        mixed = or_raise(await Maintenance(hub.hub).health())
        assert (mixed.encrypted, mixed.sealed) == (False, {"plain": 1, "encrypted": 1})
    async with RaisingHub.open(url, keyring=None, create=False) as hub:
        assert or_raise(await Maintenance(hub.hub).health()).sealed == mixed.sealed
