"""A page of a prefix reads the entries of that prefix in the index of the keys, and nothing of the rest."""

import contextlib
import sqlite3

import pytest

from flowpersist.backends._matching import selection
from flowpersist.backends._redis.pages import _bounds as bounds
from flowpersist.backends._sql import select
from flowpersist.backends.base import NamespaceSchema, Range, RecordChange, RecordRef, Where
from flowpersist.backends.registry import backend_from_url

SCHEMA = [NamespaceSchema("n", {"status": str})]
PREFIX = Where(range=Range("key", prefix="b/"))


@pytest.fixture
async def opened(url):
    opened = backend_from_url(url)
    await opened.open(SCHEMA)
    for group in ("a", "b", "c"):
        for number in range(3 if group == "b" else 100):
            await opened.put(RecordRef("n", f"{group}/{number:03}"), RecordChange("w", attributes={"status": "x"}))
    yield opened
    await opened.close()


@pytest.mark.parametrize("backend", ["sqlite"])
@pytest.mark.parametrize("descending", [False, True])
async def test_sqlite_walks_through_the_prefix(opened, descending):
    asked = selection("n", PREFIX, "key", 2, None, descending)
    statement, values = select("*", "flowpersist_records", asked, SCHEMA[0].indexed)
    plan = await opened._reading(lambda it: it.execute(f"explain query plan {statement}", values).fetchall())
    (step,) = [row[3] for row in plan]
    assert "USING INDEX flowpersist_records_by_key (namespace=? AND key>? AND key<?)" in step


@pytest.mark.parametrize("backend", ["filesystem"])
async def test_the_directory_s_index_walks_through_the_prefix(opened, tmp_path):
    asked = selection("n", PREFIX, "key", 2, None, True)
    page = await opened.query("n", PREFIX, limit=2, descending=True)
    assert [record.ref.key for record in page.items] == ["b/002", "b/001"]
    statement, values = select("*", "entries", asked, SCHEMA[0].indexed)
    with contextlib.closing(sqlite3.connect(tmp_path / "flows" / "index.sqlite")) as index:
        (step,) = [row[3] for row in index.execute(f"explain query plan {statement}", values)]
    assert "USING INDEX entries_by_key (namespace=? AND key>? AND key<?)" in step


@pytest.mark.parametrize("backend", ["redis"])
@pytest.mark.parametrize("descending", [False, True])
async def test_redis_reads_the_entries_of_the_prefix(opened, descending):
    """ZRANGEBYLEX is given the prefix's bounds, which are all that it reads."""
    assert bounds(selection("n", PREFIX, "key", 2, None, descending), None) == (b"[b/", b"(b0")
    page = await opened.query("n", PREFIX, limit=2, descending=descending)
    assert [record.ref.key for record in page.items] == (["b/002", "b/001"] if descending else ["b/000", "b/001"])


@pytest.mark.parametrize("backend", ["memory"])
async def test_memory_looks_at_the_prefix_alone(opened):
    shelf = opened._store.namespaces["n"]
    seen = []
    meant = shelf._is_meant
    type(shelf)._is_meant = lambda _, place, asked: seen.append(place[1]) or meant(place, asked)
    try:
        page = await opened.query("n", PREFIX, limit=1, descending=True)
    finally:
        type(shelf)._is_meant = meant.__func__
    assert [record.ref.key for record in page.items] == ["b/002"]
    assert seen == ["b/002", "b/001"]
