"""The schema in PostgreSQL: made once by many at once, planned, versioned, and with an index for every query."""

import asyncio
import json
import sys
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from flowpersist.backends._matching import selection
from flowpersist.backends._postgres import selections
from flowpersist.backends._postgres.layout import Layout
from flowpersist.backends._scalars import attributes_to_text
from flowpersist.backends.base import NamespaceSchema, Range, RecordChange, RecordRef, Where
from flowpersist.backends.registry import backend_from_url
from flowpersist.errors import UnsupportedVersion
from flowpersist.lifecycle.indexing import schema as hub_schema

SCHEMA = [hub_schema("n"), NamespaceSchema("n.receipts", {"suspension": str})]
TABLES = ("meta", "records", "bodies")
#: Twenty processes that wait for each other, then open and write. They fork after the imports, which take the longest.
OPENING = """
import asyncio, os, sys
from flowpersist.backends.base import NamespaceSchema, RecordChange, RecordRef
from flowpersist.backends.registry import backend_from_url
import flowpersist.backends.postgres

async def main(url, key):
    backend = backend_from_url(url)
    await backend.open([NamespaceSchema("n", {"status": str, key: int})])
    await backend.put(RecordRef("n", key), RecordChange("w", attributes={key: 1}), if_revision=0)
    await backend.close()

reader, writer = os.pipe()
children = []
for number in range(20):
    child = os.fork()
    if not child:
        os.close(writer)
        os.read(reader, 1)
        asyncio.run(main(sys.argv[1], f"k{number}"))
        os._exit(0)
    children.append(child)
os.close(writer)
sys.exit(sum(os.waitpid(child, 0)[1] != 0 for child in children))
"""


@pytest.fixture
async def admin(server, prefix):
    connection = await asyncpg.connect(server("postgres"))
    yield connection
    for table in TABLES:
        await connection.execute(f"drop table if exists {prefix}_{table}")
    await connection.execute(f"drop sequence if exists {prefix}_revisions")
    await connection.close()


@pytest.fixture
def url(server, prefix):
    return f"{server('postgres')}?prefix={prefix}"


async def columns(admin, prefix):
    return await admin.fetch(
        "select table_name, column_name, data_type, collation_name, is_nullable from information_schema.columns "
        "where table_name like $1 order by 1, 2",
        f"{prefix}%",
    )


async def test_twenty_processes_that_start_at_once(url, admin, prefix):
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", OPENING, f"{url}&pool_size=1")
    assert await process.wait() == 0
    assert await admin.fetchval(f"select count(*) from {prefix}_records") == 20  # noqa: S608
    backend = backend_from_url(url)
    assert await backend.plan([NamespaceSchema("n", {f"k{number}": int for number in range(20)})]) == ()


async def test_thirty_connections_that_start_at_once(url):
    backends = [backend_from_url(f"{url}&pool_size=1") for _ in range(30)]
    await asyncio.gather(*(backend.open(SCHEMA) for backend in backends))
    assert await backends[0].plan(SCHEMA) == ()
    await asyncio.gather(*(backend.close() for backend in backends))


async def test_the_plan_is_what_open_runs(url, admin, prefix):
    planned = await backend_from_url(url).plan(SCHEMA)
    assert planned
    assert await columns(admin, prefix) == []
    for statement in planned:
        await admin.execute(statement)
    by_hand = await columns(admin, prefix)
    assert await backend_from_url(url).plan(SCHEMA) == ()
    for table in TABLES:
        await admin.execute(f"drop table {prefix}_{table}")
    await admin.execute(f"drop sequence {prefix}_revisions")
    backend = backend_from_url(url)
    await backend.open(SCHEMA)
    assert await columns(admin, prefix) == by_hand
    await backend.close()


async def test_a_new_attribute_gets_its_indexes_while_others_work(url):
    before, after = backend_from_url(url), backend_from_url(url)
    await before.open([NamespaceSchema("n", {})])
    written = await before.put(RecordRef("n", "a"), RecordChange("w", attributes={"late": 1}), if_revision=0)
    more = [NamespaceSchema("n", {"late": int})]
    assert len(await before.plan(more)) == 2
    await after.open(more)
    assert await before.plan(more) == ()
    assert (await before.get(RecordRef("n", "a"))).record.revision == written.revision
    assert len((await after.query("n", Where({"late": 1}), limit=5)).items) == 1
    await before.close()
    await after.close()


async def test_the_schema_of_a_later_release_is_refused(url, admin, prefix):
    backend = backend_from_url(url)
    await backend.open(SCHEMA)
    await backend.close()
    await admin.execute(f"update {prefix}_meta set value = 999 where name = 'version'")  # noqa: S608
    with pytest.raises(UnsupportedVersion, match="999"):
        await backend.open(SCHEMA)
    with pytest.raises(UnsupportedVersion, match="999"):
        await backend.plan(SCHEMA)


async def test_a_migration_that_fails_leaves_nothing(url, admin, prefix, monkeypatch):
    monkeypatch.setattr(
        "flowpersist.backends._postgres.schema.MIGRATIONS", (("create_meta", "create_revisions", "create_by_key"),)
    )
    with pytest.raises(Exception, match="no tables"):
        await backend_from_url(url).open(SCHEMA)
    assert await columns(admin, prefix) == []


def test_names_of_indexes_fit_and_differ():
    layout = Layout("p" * 32)
    names = ["a" * 63, "a" * 62 + "b", "a", "a.b", "a-b", "A"]
    made = [name for attribute in names for name in layout.indexes(attribute)]
    assert len(set(made)) == len(made)
    assert max(map(len, made)) <= 63


async def test_the_longest_values_of_all_fit_their_indexes(url):
    backend = backend_from_url(url)
    await backend.open([NamespaceSchema("é" * 256, {"a" * 63: str})])
    ref = RecordRef("é" * 256, "語" * 170)
    attributes = {"a" * 63: "\U0010ffff" * 128, "b" * 512: "c" * 512}
    due = datetime(9999, 12, 31, tzinfo=UTC)
    await backend.put(ref, RecordChange("w", attributes=attributes, due_at=due), if_revision=0)
    (found,) = (await backend.query(ref.namespace, Where(attributes), order="due", limit=1)).items
    assert found.ref == ref
    await backend.close()


@pytest.fixture
async def filled(url, admin, prefix):
    """6,000 records as the hub writes them, whose statistics the planner has."""
    backend = backend_from_url(url)
    await backend.open(SCHEMA)
    states = ["waiting"] * 8 + ["answered", "running"]
    now = datetime.now(UTC)
    rows = []
    for number in range(6000):
        live = number % 5 != 0
        attributes = {
            "status": states[number % 10] if live else "completed",
            "live": live,
            "tool": f"t{number % 7}",
            "run": f"r{number}",
            "tenant": f"x{number % 20}",
            "m.user": f"u{number % 500}",
        }
        at = int((now + timedelta(seconds=number)).timestamp() * 1_000_000)
        due = at if number % 10 else None
        key = f"k{number * 7919 % 6000:05}"
        rows.append(("n", key, number + 1, "w", at, at, due, attributes_to_text(attributes), b"h" * 300))
    columns = "namespace, key, revision, write_id, created_at, updated_at, due_at, attributes, head"
    await admin.executemany(
        f"insert into {prefix}_records ({columns}) values ($1, $2, $3, $4, $5, $6, $7, $8::text::jsonb, $9)",  # noqa: S608
        rows,
    )
    await admin.execute(f"analyze {prefix}_records")
    yield backend
    await backend.close()


def steps(plan):
    yield plan["Node Type"], plan.get("Index Name", "")
    for below in plan.get("Plans", ()):
        yield from steps(below)


def literal(value):
    return "null" if value is None else str(value) if isinstance(value, int) else f"'{value}'"


async def assert_uses(admin, text, arguments, index, name):
    await admin.execute(f"prepare asked as {text}")
    try:
        (row,) = await admin.fetch(f"explain (format json) execute asked({', '.join(map(literal, arguments))})")
    finally:
        await admin.execute("deallocate asked")
    plan = list(steps(json.loads(row[0])[0]["Plan"]))
    assert index in [used for _, used in plan], (name, plan)
    assert not [step for step, _ in plan if step == "Seq Scan"], (name, plan)


SOON = datetime.now(UTC) + timedelta(seconds=300)
#: What the hub, its maintenance and its workers ask for.
ASKED = {
    "all": (Where(), "key", False, "by_key"),
    "prefix": (Where(range=Range("key", prefix="k1")), "key", False, "by_key"),
    "last of a prefix": (Where(range=Range("key", prefix="k1")), "key", True, "by_key"),
    "newest": (Where(), "created", True, "by_created"),
    "due": (Where(range=Range("due", before=SOON)), "due", False, "by_due"),
    "created": (Where(range=Range("created", since=SOON)), "created", False, "by_created"),
    "updated": (Where(), "updated", False, "by_updated"),
    "status": (Where({"status": "waiting"}), "key", False, "status_by_key"),
    "claimable": (Where({"status": "answered"}), "due", False, "status_by_due"),
    "closed": (Where({"live": False}), "due", False, "live_by_due"),
    "tool": (Where({"tool": "t3"}), "key", False, "tool_by_key"),
    "run": (Where({"run": "r17"}), "key", False, "run_by_key"),
    "tenant": (Where({"tenant": "x3"}), "due", False, "tenant_by_due"),
    "run since": (Where({"run": "r17"}, Range("created", since=SOON)), "created", False, "run_by_key"),
    "metadata": (Where({"m.user": "u17"}), "key", False, "by_attributes"),
    "metadata and status": (Where({"m.user": "u17", "status": "waiting"}), "due", False, "by_attributes"),
}

UPSERTING = ("upsert_record", "upsert_record_and_body", "upsert_record_and_drop_body", "delete_any", "delete_moved")


async def test_every_query_is_answered_from_an_index(filled, admin, prefix):
    layout, indexed = Layout(prefix), SCHEMA[0].indexed
    for mode in ("force_custom_plan", "force_generic_plan"):
        await admin.execute(f"set plan_cache_mode = {mode}")
        for name, (where, order, descending, index) in ASKED.items():
            asked = selection("n", where, order, 51, None, descending)
            for statement in (
                selections.page(layout, asked, indexed, 0),
                selections.purge(layout, asked, indexed, None),
            ):
                await assert_uses(admin, statement.text, statement.arguments, f"{prefix}_records_{index}", name)
    for name in (
        "read_record",
        "read_record_and_body",
        "insert_record_and_body",
        "change_record",
        "delete_record",
        *UPSERTING,
    ):
        text = layout.sql[name]
        count = max(number for number in range(1, 15) if f"${number}" in text)
        await assert_uses(admin, text, [None] * count, f"{prefix}_records_by_key", name)
