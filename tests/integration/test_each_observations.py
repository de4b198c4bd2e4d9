"""Observations and features on every backend: order, retention, versions, costs, content in clear, refusals."""

from __future__ import annotations

import asyncio
import json
import os
from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import asyncpg
import pytest

from canaries import forms
from flowpersist import ConfigurationError, KeyRing, Limits, Maintenance, or_raise
from flowpersist.backends.base import RecordChange, Where
from flowpersist.backends.kit import DelegatingBackend
from flowpersist.backends.registry import backend_from_url
from flowpersist.errors import IntegrityError, PersistenceError, RevisionConflict, SerializationError, StateTooLarge
from flowpersist.sealed.numbered import first_kept
from flowpersist.stores import Stores
from flowpersist.testing import open_test_hub, travel
from forked import run_forked
from machine import WITH_MEMORY

LONG = os.environ.get("FLOWPERSIST_LONG") == "1"
RING = KeyRing.generate()
DAY = timedelta(days=1)
AGENT = "canary-agent-7Yp2Xs5Kd8Wn"


@pytest.fixture(params=WITH_MEMORY)
def backend(request):
    return request.param


@pytest.fixture
async def stores(url):
    async with open_test_hub(url, keyring=RING) as hub:
        yield Stores(hub)


async def test_observations_come_in_the_order_of_the_stores_clock(stores):
    noted = stores.observations
    assert (await noted.recent(), await noted.recent("a"), await noted.count()) == ((), (), 0)
    odd = ("a", "", "\x00\ud800", "a" * 5000)
    ids = [await noted.add(agent, {"n": number}) for number in range(3) for agent in odd]
    await noted.add("large", b"x" * 100_000)
    assert len({*ids}) == 12
    everything = await noted.recent()
    assert [one.id for one in everything[1:]] == ids[::-1]
    assert everything[0].content == b"x" * 100_000
    assert [one.agent_id for one in everything[-4:]] == [*odd[::-1]]
    assert [one.at for one in everything] == sorted((one.at for one in everything), reverse=True)
    for agent in odd:
        assert [one.content["n"] for one in await noted.recent(agent)] == [2, 1, 0]
        assert [one.content["n"] for one in await noted.recent(agent, 2)] == [2, 1]
        assert await noted.count(agent) == 3
    assert len(await noted.recent(n=5)) == 5
    assert (await noted.count(), await noted.count("nobody"), await noted.recent("nobody")) == (13, 0, ())


async def test_observations_between_two_moments(stores):
    for number in range(4):
        await stores.observations.add("a", number)
        await stores.observations.add("b", number)
        travel(stores.hub, DAY)
    found = (await stores.observations.recent())[::-1]
    start, end = found[2].at, found[6].at
    assert await stores.observations.between(start, end) == found[2:6]
    assert await stores.observations.between(end, start) == ()
    ever = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)
    assert await stores.observations.between(*ever) == found


PROGRAM = """
import asyncio, sys
from datetime import timedelta
from flowpersist import KeyRing
from flowpersist.hub import Runtime
from flowpersist.stores import open_stores

async def main():
    url, ring, who, count = sys.argv[1:]
    # A busy machine is no reason to give up.
    patient = Runtime(attempts=50, patience=timedelta(minutes=1), slow=timedelta(minutes=1))
    async with open_stores(url, keyring=KeyRing.parse(ring), runtime=patient) as stores:
        for number in range(int(count)):
            await asyncio.gather(*(stores.observations.add(agent, [who, number]) for agent in ("shared", who)))

asyncio.run(main())
"""


async def test_eight_processes_lose_no_observation(backend, url, stores):
    if backend == "memory":
        pytest.skip("one process has it")
    count = 100 if LONG else 4
    assert await run_forked(PROGRAM, *((url, RING.export(), who, count) for who in "abcdefgh")) == []
    shared = await stores.observations.recent("shared", 10_000)
    assert Counter((one.content[0], one.content[1]) for one in shared) == Counter(
        (w, n) for w in "abcdefgh" for n in range(count)
    )
    # Processes sample the server's clock on MongoDB, each for itself.
    apart = timedelta(seconds=1) if backend == "mongodb" else timedelta(0)
    assert all(newer.at >= older.at - apart for newer, older in pairwise(shared))
    for who in "abcdefgh":
        assert [one.content[1] for one in await stores.observations.recent(who, 10_000)] == [*range(count)][::-1]
    assert await stores.observations.count() == 16 * count


async def test_tasks_of_one_process_lose_none(stores):
    await asyncio.gather(*(stores.observations.add("a", number) for number in range(30)))
    other = Stores(stores.hub).observations
    await asyncio.gather(*(one.add("a", 30) for one in (stores.observations, other) for _ in range(5)))
    assert sorted(one.content for one in await other.recent("a", 100)) == [*range(30), *[30] * 10]


async def test_observations_are_kept_for_some_days(stores):
    for days in (1, 7):
        await stores.observations.keeping(days=days).add("a", days)
    await stores.observations.add("b", "default")
    travel(stores.hub, 2 * DAY)
    assert [one.content for one in await stores.observations.recent()] == ["default", 7]
    assert (await stores.observations.count(), await stores.observations.count("a")) == (2, 1)
    assert await stores.cleanup() == {"observations": 1}
    travel(stores.hub, 6 * DAY)
    assert await stores.observations.recent("a") == ()
    # What has expired is still there, and its number is not used again.
    await stores.observations.add("a", "again")
    assert [one.content for one in await stores.observations.recent()] == ["again"]
    assert await stores.cleanup() == {"observations": 2}
    assert [one.content for one in await stores.observations.recent()] == ["again"]


async def test_so_many_observations_of_each_agent_are_kept(stores):
    few = stores.observations.keeping(max_entries=3)
    for number in range(5):
        await few.add("a", number)
        await few.add("b", number)
        await stores.observations.add("c", number)
    assert await stores.observations.count("a") == 5
    assert await stores.cleanup() == {"observations": 4}
    assert await stores.cleanup() == {"observations": 0}
    for agent, kept in (("a", [4, 3, 2]), ("b", [4, 3, 2]), ("c", [4, 3, 2, 1, 0])):
        assert [one.content for one in await stores.observations.recent(agent)] == kept
    await few.add("a", 5)
    # It needs no key that opens a value, and finds those of every project.
    await stores.project("p").observations.keeping(max_entries=1).add("a", 1)
    await stores.project("p").observations.keeping(max_entries=1).add("a", 2)
    stores.hub.use_keyring(RING.control_only())
    assert or_raise(await Maintenance(stores.hub).cleanup_stores()) == 2
    stores.hub.use_keyring(RING)
    assert [one.content for one in await stores.project("p").observations.recent()] == [2]


async def test_retention_is_applied_at_every_hundredth_observation(stores):
    few = stores.observations.keeping(max_entries=5)
    for number in range(1, 101):
        await few.add("a", number)
        if number == 99:
            assert await few.count() == 99
    assert [one.content for one in await few.recent()] == [100, 99, 98, 97, 96]


@pytest.mark.parametrize(("last", "keep", "first"), [(0, 5, 1), (5, 5, 1), (6, 5, 2), (100, 1, 100), (7, 10**6, 1)])
def test_the_first_that_is_kept(last, keep, first):
    assert first_kept(last, keep) == first


class Counting(DelegatingBackend):
    """Counts the operations."""

    def __init__(self, inner):
        super().__init__(inner)
        self.counts: Counter[str] = Counter()

    async def around(self, operation, call):
        self.counts[operation] += 1
        return await call()


async def test_what_observations_and_features_cost(url):
    counting = Counting(backend_from_url(url))
    async with open_test_hub(counting, keyring=RING) as hub:
        stores = Stores(hub)

        async def cost(call):
            counting.counts.clear()
            await call
            return dict(counting.counts)

        await stores.observations.add("a", 1)
        await stores.features.save([1])
        for entries in (1, 60):
            for number in range(entries):
                await stores.observations.add("ab"[number % 2], number)
            assert await cost(stores.observations.recent("a", 5)) == {"query": 1}
            assert await cost(stores.observations.recent(n=5)) == {"query": 1}
            assert await cost(stores.observations.add("a", 1)) == {"query": 1, "put": 1}
            assert await cost(stores.features.save([2])) == {"query": 1, "put": 1}
            assert await cost(stores.features.load()) == {"query": 1}


async def test_a_damaged_observation_is_raised_and_stops_nobody_from_adding(stores):
    await stores.observations.add("a", 1)
    (record,) = (await stores.hub.backend.query("default.values.observations", Where(), limit=5)).items
    damaged = RecordChange("w", head=record.head[:-5] + b"12345")
    await stores.hub.backend.put(record.ref, damaged, if_revision=record.revision)
    await stores.observations.add("a", 2)
    for refused in (stores.observations.recent(), stores.observations.recent("a")):
        with pytest.raises(IntegrityError, match="record "):
            await refused
    assert [one.content for one in await stores.observations.recent("a", 1)] == [2]


async def test_no_agent_and_no_content_stands_in_clear(backend, url, stored, caplog):
    if backend == "memory":
        pytest.skip("nobody else reads it")
    async with open_test_hub(url, keyring=RING) as hub:
        stores = Stores(hub)
        await stores.observations.add(AGENT, f"noted by {AGENT}")
        await stores.features.save({"of": AGENT})
        hub.use_keyring(KeyRing.generate())
        for refused in (stores.observations.recent(AGENT), stores.features.load()):
            with pytest.raises(PersistenceError) as caught:
                await refused
            assert AGENT not in str(caught.value)
        hub.use_keyring(RING)
        found = await stored()
        assert [name for name, form in forms(AGENT).items() if form in found] == []
    assert AGENT not in caplog.text


async def test_features_have_versions(stores):
    features = stores.features
    assert (await features.load(), await features.history()) == (None, ())
    nothing = object()
    assert await features.load(nothing) is nothing
    first = await features.save({"name": "login", "passes": False})
    second = await features.save({"name": "login", "passes": True}, if_revision=first.revision)
    for stale in (0, first.revision, second.revision + 1):
        with pytest.raises(RevisionConflict):
            await features.save({}, if_revision=stale)
    assert await features.load() == {"name": "login", "passes": True}
    assert [(one.revision, one.content["passes"], one.at) for one in await features.history()] == [
        (2, True, second.at),
        (1, False, first.at),
    ]
    assert [one.revision for one in await features.history(1)] == [2]
    assert await stores.project("p").features.load() is None


async def test_the_history_of_features_is_bounded(stores):
    for number in range(1, 121):
        await stores.features.save(number)
    assert [one.content for one in await stores.features.history(100)] == [*range(21, 121)][::-1]
    namespace = stores.features.namespace
    assert len((await stores.hub.backend.query(namespace, Where(), limit=500)).items) == 100


JSON = {"features": [{"name": "größe \\u0000 \"'\n", "steps": ["a", 1, 2.5, -0.0, True, None, {}], "big": 10**30}]}


async def test_content_in_clear_comes_back_and_is_found(backend, stores, stored):
    features = stores.project("p").features
    await features.save({"sealed": 1})
    await features.save(JSON, clear=True)
    await features.save({"text": "x" * 100_000}, clear=True)
    assert [one.content for one in await features.history()] == [{"text": "x" * 100_000}, JSON, {"sealed": 1}]
    if backend != "memory":
        found = await stored()
        assert json.dumps(JSON, ensure_ascii=False, separators=(",", ":")).encode() in found


async def test_content_in_clear_that_was_changed_is_refused(stores):
    features = stores.features
    await features.save(JSON, clear=True)
    (record,) = (await stores.hub.backend.query(features.namespace, Where(), limit=5, bodies=True)).items
    change = RecordChange("w", body=record.body.replace(b"steps", b"stops"))
    await stores.hub.backend.put(record.ref, change, if_revision=record.revision)
    with pytest.raises(IntegrityError, match=r"record \S+ of .*in clear was changed"):
        await features.load()


async def test_postgresql_reads_content_in_clear_as_jsonb(server, prefix):
    url = server("postgres")
    async with open_test_hub(f"{url}?prefix={prefix}", keyring=RING) as hub:
        features = Stores(hub).features
        await features.save({"name": "old"}, clear=True)
        await features.save(JSON, clear=True)
        connection = await asyncpg.connect(url)
        try:
            query = (
                "select convert_from(data, 'UTF8')::jsonb -> 'features' -> 0 -> 'steps' from RECORDS"
                " join BODIES on record = id where namespace = $1 order by key desc limit 1"
            )
            query = query.replace("RECORDS", f"{prefix}_records").replace("BODIES", f"{prefix}_bodies")
            found = await connection.fetchval(query, features.namespace)
        finally:
            await connection.close()
    assert json.loads(found) == JSON["features"][0]["steps"]


REFUSED = {
    "an agent that is no text": (lambda s: s.observations.add(5, 1), TypeError),
    "an agent of over a megabyte": (lambda s: s.observations.add("a" * (2**20 + 1), 1), StateTooLarge),
    "content of no known class": (lambda s: s.observations.add("a", object()), SerializationError),
    "no days": (lambda s: s.observations.keeping(days=0), ConfigurationError),
    "negative days": (lambda s: s.observations.keeping(days=-1), ConfigurationError),
    "no entries": (lambda s: s.observations.keeping(max_entries=0), ConfigurationError),
    "recent of none": (lambda s: s.observations.recent("a", 0), ConfigurationError),
    "recent of too many": (lambda s: s.observations.recent("a", 10_001), ConfigurationError),
    "recent of another kind": (lambda s: s.observations.recent(7), TypeError),
    "a moment without a zone": (
        lambda s: s.observations.between(datetime.now(UTC).replace(tzinfo=None), datetime.now(UTC)),
        ConfigurationError,
    ),
    "a moment that is none": (lambda s: s.observations.between(datetime.now(UTC), 5), TypeError),
    "a history of none": (lambda s: s.features.history(0), ConfigurationError),
    "a history of too many": (lambda s: s.features.history(101), ConfigurationError),
    "a negative revision": (lambda s: s.features.save(1, if_revision=-1), ConfigurationError),
    "a tuple in clear": (lambda s: s.features.save((1,), clear=True), SerializationError),
    "a number as a name in clear": (lambda s: s.features.save({1: 1}, clear=True), SerializationError),
    "no finite number in clear": (lambda s: s.features.save([float("nan")], clear=True), SerializationError),
    "a NUL in clear": (lambda s: s.features.save(["\0"], clear=True), SerializationError),
    "a surrogate in clear": (lambda s: s.features.save(["\ud800"], clear=True), SerializationError),
    "bytes in clear": (lambda s: s.features.save(b"x", clear=True), SerializationError),
    "clear that is no bool": (lambda s: s.features.save([1], clear=1), TypeError),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_what_makes_no_sense_is_refused(case):
    call, error = REFUSED[case]
    async with open_test_hub() as hub:
        stores = Stores(hub)
        with pytest.raises(error):
            await call(stores)
        assert (await stores.observations.count(), await stores.features.load()) == (0, None)


async def test_content_in_clear_has_the_limit_of_a_state():
    nested: list[object] = []
    nested.append(nested)
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    async with open_test_hub(limits=Limits(max_bytes=1000)) as hub:
        features = Stores(hub).features
        await features.save("x" * 998, clear=True)
        for content, error in ((nested, SerializationError), (deep, SerializationError), ("x" * 999, StateTooLarge)):
            with pytest.raises(error):
                await features.save(content, clear=True)
        assert len(await features.history()) == 1
