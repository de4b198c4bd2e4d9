"""What stands in Redis and how it is reached: schema, indexes, given clients, notifications."""

import asyncio
import os
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest
from redis import Redis
from redis import asyncio as aio

from flowpersist.backends._redis.layout import Layout
from flowpersist.backends.base import (
    BodyLimited,
    Capability,
    Migrating,
    NamespaceSchema,
    Notifying,
    RecordChange,
    RecordRef,
    Where,
)
from flowpersist.backends.redis import RedisBackend
from flowpersist.backends.registry import backend_from_url
from flowpersist.errors import BackendUnavailable, RevisionConflict

DECLARED = [NamespaceSchema("n", {"status": str})]
EVER = datetime(2001, 2, 3, tzinfo=UTC)


@asynccontextmanager
async def opened(backend, schema=DECLARED):
    await backend.open(schema)
    try:
        yield backend
    finally:
        await backend.close()


@pytest.fixture
def url(server, prefix):
    return f"{server('redis')}?prefix={prefix}"


@pytest.fixture
def admin(server):
    client = Redis.from_url(server("redis"))
    yield client
    client.close()


def change(**parts):
    return RecordChange(os.urandom(8).hex(), **parts)


async def make(backend, key, **parts):
    return await backend.put(RecordRef("n", key), change(**parts), if_revision=0)


async def keys_of(backend, where, **how):
    return [record.ref.key for record in (await backend.query("n", where, limit=500, **how)).items]


async def test_a_plan_is_what_open_writes(url, prefix, admin):
    backend = backend_from_url(url)
    assert isinstance(backend, Migrating)
    assert isinstance(backend, BodyLimited)
    planned = await backend.plan(DECLARED)
    assert planned == (
        f"HSET {{{prefix}}}:schema version 1 shards 1",
        f"HSET {{{prefix}:n:00}}declared status ready",
    )
    assert admin.keys(f"{{{prefix}*") == []
    async with opened(backend):
        assert await backend.plan(DECLARED) == ()
    assert admin.hgetall(f"{{{prefix}}}:schema") == {b"version": b"1", b"shards": b"1"}
    assert admin.hgetall(f"{{{prefix}:n:00}}declared") == {b"status": b"ready"}


async def test_the_number_of_shards_is_that_of_the_first_open(url, prefix, admin):
    async with opened(backend_from_url(f"{url}&shards=5")) as first:
        for number in range(50):
            await make(first, f"k{number:02}", attributes={"status": "x"}, due_at=EVER + timedelta(minutes=50 - number))
    assert len({key.partition(b"}")[0] for key in admin.keys(f"{{{prefix}:*")}) == 5
    async with opened(backend_from_url(f"{url}&shards=3")) as later:
        everything = [f"k{number:02}" for number in range(50)]
        assert await keys_of(later, Where({"status": "x"})) == everything
        assert await keys_of(later, Where(), order="due") == everything[::-1]
        assert await keys_of(later, Where(), order="due", descending=True) == everything
        assert await later.purge("n", Where(), limit=20) == 20
        assert await keys_of(later, Where()) == everything[20:]


async def test_records_from_before_a_declaration_are_found(url, prefix, admin):
    async with opened(backend_from_url(url), [NamespaceSchema("n")]) as backend:
        for number in range(450):
            await make(backend, f"k{number:03}", attributes={"status": "xy"[number % 2]}, due_at=EVER)
        (_, *rest) = await backend.plan(DECLARED)
        assert len(rest) == 2
        assert "450 records" in rest[0]
        declared = backend_from_url(url)
        # As if the process had been killed in the middle: attributes stay "building", queries filter.
        admin.hset(f"{{{prefix}:n:00}}declared", "status", "building")
        half = [f"k{number:03}" for number in range(0, 450, 2)]
        assert await keys_of(backend, Where({"status": "x"})) == half
        async with opened(declared):
            assert admin.hget(f"{{{prefix}:n:00}}declared", "status") == b"ready"
            assert admin.zcard(f"{{{prefix}:n:00}}due:status=sx") == 225
            assert await keys_of(declared, Where({"status": "x"})) == half
            # A process of the time before writes index entries too.
            await make(backend, "late", attributes={"status": "x"})
            assert (await keys_of(declared, Where({"status": "x"})))[-1] == "late"


async def test_many_open_and_declare_at_once(url):
    backends = [backend_from_url(url) for _ in range(20)]
    await asyncio.gather(*(backend.open(DECLARED) for backend in backends))
    await make(backends[0], "a", attributes={"status": "x"})
    assert await keys_of(backends[-1], Where({"status": "x"})) == ["a"]
    for backend in backends:
        await backend.close()


async def test_what_a_page_costs_does_not_grow(url, admin):
    async with opened(backend_from_url(url), [NamespaceSchema("n", {"status": str, "live": bool})]) as backend:

        async def fill(first, count):
            for start in range(first, first + count, 50):
                some = range(start, start + 50)
                await asyncio.gather(
                    *(
                        make(
                            backend,
                            f"k{number:05}",
                            attributes={"status": "rare" if number % 100 == 0 else "usual", "live": True},
                            due_at=EVER + timedelta(seconds=number),
                        )
                        for number in some
                    )
                )

        async def entries_looked_at(where, order):
            before = admin.info("commandstats")["cmdstat_hmget"]["calls"]
            page = await backend.query("n", where, order=order, limit=10)
            assert len(page.items) == 10
            return admin.info("commandstats")["cmdstat_hmget"]["calls"] - before

        asked = [
            (where, order)
            for where in (Where(), Where({"status": "usual"}), Where({"live": True}))
            for order in ("key", "created", "updated", "due")
        ]
        asked += [(Where({"status": "rare", "live": True}), order) for order in ("key", "due")]
        await fill(0, 1000)
        few = [await entries_looked_at(*one) for one in asked]
        await fill(1000, 3000)
        many = [await entries_looked_at(*one) for one in asked]
        # Others may use the server meanwhile.
        assert max(few) <= 15
        assert max(many) <= 15


async def test_a_rare_match_without_an_index_comes_in_short_pages(url):
    async with opened(backend_from_url(url)) as backend:
        for first in range(0, 9000, 500):
            numbers = range(first, first + 500)
            await asyncio.gather(*(make(backend, f"k{number:05}", attributes={"free": number}) for number in numbers))
        found, after, pages = [], None, 0
        while True:
            page = await backend.query("n", Where({"free": 8990}), limit=5, after=after)
            found += [record.ref.key for record in page.items]
            pages, after = pages + 1, page.next
            if after is None:
                break
        assert found == ["k08990"]
        assert 1 < pages < 4
        assert await backend.purge("n", Where({"free": 8999}), limit=5) == 1


async def test_a_record_that_others_took_away_is_not_listed(url, prefix, admin):
    async with opened(backend_from_url(url)) as backend:
        for key in "abc":
            await make(backend, key, attributes={"status": "x"}, due_at=EVER)
        admin.delete(f"{{{prefix}:n:00}}r:b")
        for order in ("key", "due"):
            assert await keys_of(backend, Where({"status": "x"}), order=order) == ["a", "c"]
        assert await backend.delete(RecordRef("n", "b"), if_revision=1) is False
        assert await backend.purge("n", Where(), limit=10) == 2


async def test_namespaces_and_keys_that_look_like_keys_of_ours(url):
    names = ["a", "a:00}r:b", "{", "}", "}{", "a}", "%7D", "é", "a b", "a\nb"]
    keys = ["k", "k:00}r:k", "}", "{x}", "declared", "key"]
    async with opened(backend_from_url(url), [NamespaceSchema(name, {"status": str}) for name in names]) as backend:
        for name in names:
            for key in keys:
                mark = change(head=f"{name}/{key}".encode(), body=b"b", attributes={"status": name})
                await backend.put(RecordRef(name, key), mark, if_revision=0)
        for name in names:
            page = await backend.query(name, Where({"status": name}), limit=50)
            assert [record.ref.key for record in page.items] == sorted(keys, key=str.encode)
            assert [record.head for record in page.items] == [f"{name}/{key}".encode() for key in sorted(keys)]
            assert await backend.purge(name, Where(), limit=50) == len(keys)


async def test_a_killed_writer_leaves_a_body_that_vanishes(url, prefix, admin):
    async with opened(backend_from_url(url)) as backend:
        written = await make(backend, "a", body=b"old")
        # What a put sends first; its writer dies before the script.
        from flowpersist.backends._redis.records import upload_of  # noqa: PLC0415

        upload = upload_of(Layout(prefix, 1).tag(RecordRef("n", "a")), RecordRef("n", "a"), change(body=b"new"))
        admin.execute_command(*upload.commands[0])
        assert 3500 < admin.ttl(upload.key) <= 3600
        record = (await backend.get(RecordRef("n", "a"))).record
        assert (record.revision, record.body) == (written.revision, b"old")
        # A loser's body goes at once.
        with pytest.raises(RevisionConflict):
            await backend.put(RecordRef("n", "a"), change(body=b"lost"), if_revision=written.revision + 1)
        assert admin.keys(f"{{{prefix}*u:*") == [upload.key]


@pytest.mark.parametrize("decode", [False, True])
async def test_a_given_client_stays_open_and_may_decode(server, prefix, decode):
    client = aio.Redis.from_url(server("redis"), decode_responses=decode, protocol=3)
    async with opened(RedisBackend(client, prefix=prefix)) as backend:
        await make(backend, "a", head=b"\xff\xfe", body=bytes(range(256)), attributes={"status": "é"})
        record = (await backend.get(RecordRef("n", "a"))).record
        assert (record.head, record.body) == (b"\xff\xfe", bytes(range(256)))
    assert await client.ping()
    await client.aclose()


async def test_a_given_cluster_client(server, prefix):
    client = aio.RedisCluster.from_url(server("redis_cluster"), decode_responses=True)
    async with opened(RedisBackend(client, prefix=prefix)) as backend:
        for number in range(40):
            await make(backend, f"k{number:02}", body=b"\xff", attributes={"status": "x"})
        assert len(await keys_of(backend, Where({"status": "x"}))) == 40
        assert len({await client.cluster_keyslot(tag.keys) for tag in _tags(prefix)}) > 10
    assert await client.ping()
    await client.aclose()


def _tags(prefix):
    return Layout(prefix, 16).tags("n")


async def test_a_pool_option_bounds_the_connections(url, admin):
    name = f"own-{os.urandom(4).hex()}"
    async with opened(backend_from_url(f"{url}&pool_size=3&client_name={name}")) as backend:
        await asyncio.gather(*(make(backend, f"k{number}", body=b"b" * 5000) for number in range(100)))
        assert 1 <= sum(one["name"] == name for one in admin.client_list()) <= 3
    await asyncio.sleep(0.05)
    assert not [one for one in admin.client_list() if one["name"] == name]


async def test_changes_are_told(url):
    async with opened(backend_from_url(url)) as backend, opened(backend_from_url(url)) as other:
        assert isinstance(backend, Notifying)
        assert Capability.NOTIFICATIONS in backend.capabilities
        async with backend.changes("n") as changes:
            written = await make(other, "é")
            await other.put(RecordRef("n", "é"), change(), if_revision=written.revision)
            with pytest.raises(RevisionConflict):
                await make(other, "é")
            await other.put(RecordRef("elsewhere", "x"), change(), if_revision=0)
            await make(other, "b")
            await other.delete(RecordRef("n", "b"), if_revision=1)
            await other.purge("n", Where(), limit=5)
            async with asyncio.timeout(5):
                assert [await anext(changes) for _ in range(5)] == ["é", "é", "b", "b", "é"]


async def test_changes_are_not_told_where_that_is_off(url):
    quiet = backend_from_url(f"{url}&notify=off")
    async with opened(quiet), opened(backend_from_url(url)) as backend, backend.changes("n") as changes:
        assert Capability.NOTIFICATIONS not in quiet.capabilities
        await make(quiet, "a")
        await make(backend, "b")
        async with asyncio.timeout(5):
            assert await anext(changes) == "b"


async def test_a_lost_subscription_is_an_error(url, admin):
    async with opened(backend_from_url(url)) as backend, backend.changes("n") as changes:
        waiting = asyncio.ensure_future(anext(changes))
        await asyncio.sleep(0.05)
        for one in admin.client_list(_type="pubsub"):
            admin.client_kill_filter(_id=one["id"])
        with pytest.raises(BackendUnavailable) as lost:
            async with asyncio.timeout(5):
                await waiting
        assert lost.value.retryable


async def test_waiting_for_changes_may_be_cancelled(url):
    async with opened(backend_from_url(url)) as backend:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05), backend.changes("n") as changes:
                await anext(changes)
        assert await keys_of(backend, Where()) == []


@pytest.mark.parametrize("pause", [0, 0.05])
async def test_closing_ends_a_subscription(url, pause):
    """Also one that is only about to begin."""
    backend = backend_from_url(url)
    await backend.open([])

    async def listen():
        async with backend.changes("n") as changes:
            await anext(changes)

    waiting = asyncio.ensure_future(listen())
    await asyncio.sleep(pause)
    async with asyncio.timeout(5):
        await backend.close()
        with pytest.raises(BackendUnavailable):
            await waiting
