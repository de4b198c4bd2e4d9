"""A claim reads and opens what it takes, however much is suspended beside it; and the store's clock decides."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta

import asyncpg
import neo4j
import pytest

from flowpersist import AwaitInput, KeyRing, Maintenance, RaisingHub, or_raise
from flowpersist.backends._matching import selection
from flowpersist.backends._postgres import selections
from flowpersist.backends._postgres.layout import Layout
from flowpersist.backends._sql import select
from flowpersist.backends.base import Range, Where
from flowpersist.backends.registry import backend_from_url
from flowpersist.lifecycle.indexing import schema
from flowpersist.sealed.retrying import Runtime
from flowpersist.testing.faults import FaultyBackend
from flowpersist.testing.hubs import open_test_hub, travel
from machine import WITH_MEMORY

HOUR = timedelta(hours=1)
CONFIRM = AwaitInput(id="confirm", prompt="Ship it?", schema=bool)
DEFAULT = AwaitInput(id="confirm", prompt="Ship it?", schema=bool, default=False)
#: Of each, how many statuses a claim looks at.
STATUSES = 3


@pytest.fixture(params=WITH_MEMORY)
def backend(request):
    return request.param


class Watched(FaultyBackend):
    """Counts the rows of all pages, and keeps what was asked for."""

    def __init__(self, inner):
        super().__init__(inner)
        self.rows, self.asked = 0, []

    async def query(self, namespace, where, **options):
        page = await super().query(namespace, where, **options)
        self.rows += len(page.items)
        self.asked.append((namespace, where, options))
        return page

    def reset(self):
        self.rows, self.asked = 0, []
        self.calls.clear()


class Opened:
    """How many heads a hub has opened."""

    def __init__(self, hub):
        self.count = 0
        heads = hub.suspensions.records._heads
        decoded = heads.decoded

        def counted(data):
            self.count += 1
            return decoded(data)

        heads.decoded = counted


async def suspended(hub, count):
    """So many that wait, each with a deadline to come."""
    for start in range(0, count, 25):
        some = range(start, min(count, start + 25))
        await asyncio.gather(*(hub.suspend(number, awaiting=CONFIRM, timeout=HOUR) for number in some))


async def answered(hub, count):
    made = [or_raise(await hub.suspend(number, awaiting=CONFIRM)) for number in range(count)]
    for new in made:
        or_raise(await hub.answer(new.key, True))
    return made


async def test_a_claim_reads_and_opens_what_it_takes(url):
    """Beside 200 that wait and 20 that are answered: the one that is taken, and a look at each status."""
    watched = Watched(backend_from_url(url))
    async with open_test_hub(watched) as hub:
        await suspended(hub, 200)
        made = await answered(hub, 20)
        opened = Opened(hub)
        for new in made[:3]:
            begun = time.monotonic()
            watched.reset()
            opened.count = 0
            (run,) = or_raise(await hub.claim_due())
            assert run.suspension.id == new.id
            assert watched.rows <= 2
            # Listed, and read again by the put that takes it.
            assert opened.count == 2
            # Once a second, of which a slow server takes several, it looks whether claims are halted.
            assert watched.calls.pop("get_many", 0) <= 1 + time.monotonic() - begun
            assert watched.calls == {"query": STATUSES, "get": 1, "put": 1}
        watched.reset()
        opened.count = 0
        runs = await RaisingHub(hub).claim_due(limit=5)
        assert [run.suspension.id for run in runs] == [new.id for new in made[3:8]]
        assert (watched.rows, opened.count) == (5, 10)


async def test_what_waits_costs_a_claim_nothing(url):
    """No row of 300 that wait is read, by whatever asks for what is due; the store is asked for no more than that."""
    watched = Watched(backend_from_url(url))
    async with open_test_hub(watched) as hub:
        await suspended(hub, 300)
        opened = Opened(hub)
        watched.reset()
        assert or_raise(await hub.claim_due(limit=100)) == ()
        assert or_raise(await Maintenance(hub).tick()).updated == 0
        assert or_raise(await Maintenance(hub).cleanup()).deleted == 0
        assert (watched.rows, opened.count) == (0, 0)
        now = (await watched.ping()).now
        assert watched.asked
        for _, where, options in watched.asked:
            assert options["order"] == "due"
            assert abs(where.range.before - now) < timedelta(seconds=30)


async def test_many_that_are_due_are_read_in_bounded_pages(url):
    watched = Watched(backend_from_url(url))
    async with open_test_hub(watched) as hub:
        await suspended(hub, 130)
        travel(hub, 2 * HOUR)
        watched.reset()
        assert or_raise(await hub.claim_due()) == ()
        assert max(options["limit"] for _, _, options in watched.asked) <= 100
        assert watched.calls["put"] == 130
        watched.reset()
        assert or_raise(await hub.claim_due()) == ()
        assert watched.rows == 0


@pytest.mark.parametrize("ahead", [-HOUR, timedelta(0), HOUR])
async def test_the_stores_clock_decides_what_is_due(url, ahead):
    """Also for a process that has no reply of the store yet, and whose own clock is an hour from it."""
    ring = KeyRing.generate()
    async with open_test_hub(url, keyring=ring) as hub:
        (due,) = await answered(hub, 1)
        later = or_raise(await hub.suspend(0, awaiting=DEFAULT, timeout=HOUR / 2))
        runtime = Runtime(now=lambda: datetime.now(UTC) + ahead)
        async with open_test_hub(url, keyring=ring, runtime=runtime) as other:
            runs = or_raise(await other.claim_due(limit=5))
            assert [run.suspension.id for run in runs] == [due.id]
            travel(other, HOUR)
            runs = or_raise(await other.claim_due(limit=5))
            assert [run.suspension.id for run in runs] == [due.id, later.id]


async def test_a_cursor_holds_where_the_ranges_end_moves(url):
    """A claim goes on behind what it has passed over, and the store's present has gone on meanwhile."""
    async with open_test_hub(url) as hub:
        made = await answered(hub, 5)
        records = hub.suspensions.records
        ends = [datetime.now(UTC) + timedelta(minutes=number) for number in (1, 2)]
        asked = [Where({"status": "answered"}, Range("due", before=end)) for end in ends]
        first = or_raise(await records.listed(asked[0], order="due", limit=2))
        second = or_raise(await records.listed(asked[1], order="due", limit=9, after=first.next))
        assert [one.ref.key for one in (*first.items, *second.items)] == [str(new.id) for new in made]


# What each server says of the statements.


@pytest.fixture
def claimable():
    end = datetime.now(UTC)
    return selection("default", Where({"status": "waiting"}, Range("due", before=end)), "due", 2, None, False)


@pytest.mark.parametrize("backend", ["sqlite"])
async def test_sqlite_walks_through_what_is_due(url, claimable):
    async with open_test_hub(url) as hub:
        indexed = schema("default").indexed
        statement, values = select("*", "flowpersist_records", claimable, indexed)
        plan = await hub.backend._reading(lambda it: it.execute(f"explain query plan {statement}", values).fetchall())
        (step,) = [row[3] for row in plan]
        assert (
            "USING INDEX flowpersist_records_status_by_due (namespace=? AND <expr>=? AND due_at>? AND due_at<?)" in step
        )


@pytest.mark.parametrize("backend", ["postgres"])
async def test_postgres_walks_through_what_is_due(url, claimable, server, prefix):
    async with open_test_hub(url) as hub:
        await suspended(hub, 300)
        connection = await asyncpg.connect(server("postgres"))
        try:
            await connection.execute(f"analyze {prefix}_records")
            statement = selections.page(Layout(prefix), claimable, schema("default").indexed, 0)
            rows = await connection.fetch(f"explain (analyze, costs off) {statement.text}", *statement.arguments)
        finally:
            await connection.close()
        plan = "\n".join(row[0] for row in rows)
        assert f"{prefix}_records_status_by_due" in plan
        assert "Rows Removed" not in plan
        assert "due_at <" in plan


@pytest.mark.parametrize("backend", ["neo4j"])
async def test_neo4j_walks_through_what_is_due(url, server):
    async with open_test_hub(url) as hub:
        await suspended(hub, 100)
        link, said = hub.backend._link, []
        run = link.run

        async def heard(text, parameters, *, writes):
            said.append((text, parameters))
            return await run(text, parameters, writes=writes)

        link.run = heard
        assert or_raise(await hub.claim_due()) == ()
        # One statement, or several on a slow server, asks for the record of halts.
        assert len([parameters for _, parameters in said if "refs" not in parameters]) == STATUSES
        async with neo4j.AsyncGraphDatabase.driver(server("neo4j")) as driver, driver.session() as session:
            for text, parameters in said:
                result = await session.run(f"PROFILE {text}", parameters)
                assert hits((await result.consume()).profile) <= 5


def hits(plan):
    return int(plan["args"].get("DbHits", 0)) + sum(hits(child) for child in plan.get("children", ()))
