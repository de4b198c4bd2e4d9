"""The general store keeps its promises on every backend: keys, revisions, times, pages, races, watching, refusals."""

from __future__ import annotations

import asyncio
import os
import sys
from collections import Counter
from contextlib import aclosing
from datetime import timedelta

import attrs
import pytest

from canaries import forms
from flowpersist import (
    Codec,
    ConfigurationError,
    InputValidationError,
    KeyRing,
    Limits,
    Maintenance,
    RaisingHub,
    StorageBackend,
    or_raise,
)
from flowpersist.backends.base import Capability, RecordChange, Where
from flowpersist.backends.kit import DelegatingBackend
from flowpersist.backends.registry import backend_from_url
from flowpersist.errors import (
    BackendUnavailable,
    IntegrityError,
    PersistenceError,
    RevisionConflict,
    StateTooLarge,
    UnexpectedType,
    UnknownKey,
    UnknownType,
    UnsupportedType,
    UnsupportedVersion,
    ValueNotFound,
)
from flowpersist.sealed.drafts import record_context
from flowpersist.stores import Stores, open_stores
from flowpersist.testing import open_test_hub, travel
from flowpersist.testing.faults import FaultyBackend
from flowpersist.testing.proxy import Proxy, address_of, rerouted

BACKENDS = ("memory", "sqlite", "filesystem", "postgres", "redis", "redis_cluster", "mongodb", "neo4j")
LONG = os.environ.get("FLOWPERSIST_LONG") == "1"
SECOND = timedelta(seconds=1)
HOUR = timedelta(hours=1)
RING = KeyRing.generate()
SOON = timedelta(milliseconds=50)
#: Keys of every odd kind, and what begins them.
ODD = [
    "",
    " ",
    "a",
    "a/b",
    "a\x00",
    "a\x00b",
    "\x00",
    "\x01",
    "\x02",
    "\x02\x01",
    "\x7f",
    "a\ud800",
    "a\ufffd",
    "\udfff",
    "ä",
    "a\u0308",
    "\U0010ffff",
    "\U0010ffff\U0010ffff",
    "%_*?[]{}'\"\\;--",
    "$where",
    "../../etc/passwd",
    "CON",
    "a" * 479,
    "a" * 480,
    "a" * 481,
    "a" * 5000,
    "a" * 4999 + "b",
]


@attrs.frozen
class Order:
    number: int


@pytest.fixture(params=BACKENDS)
def backend(request):
    return request.param


@pytest.fixture
async def stores(url):
    async with open_test_hub(url, keyring=RING, types=[Order]) as hub:
        yield Stores(hub)


async def walked(page, **asked):
    """All that is on the pages, in their order."""
    found, after = [], None
    while True:
        one = await page(after=after, **asked)
        found += one.items
        after = one.next
        if after is None:
            return found


async def test_a_value_is_saved_loaded_replaced_and_deleted(stores):
    orders = stores.values("orders", Order)
    assert await orders.load("a") is None
    assert await orders.delete("a") is False
    first = await orders.save("a", Order(1), attributes={"state": "new", "n": 1, "share": 0.5, "live": True})
    loaded = await orders.load("a")
    assert (loaded.key, loaded.value, loaded.revision) == ("a", Order(1), first.revision)
    assert loaded.attributes == {"state": "new", "n": 1, "share": 0.5, "live": True}
    assert loaded.created_at == loaded.updated_at == first.at
    assert loaded.expires_at is None
    second = await orders.save("a", Order(2))
    again = await orders.load("a")
    assert (again.value, again.attributes) == (Order(2), {})
    assert again.revision == second.revision > first.revision
    assert again.created_at == first.at <= again.updated_at == second.at
    assert await orders.delete("a") is True
    assert await orders.load("a") is None
    assert (await orders.save("a", Order(3))).revision > second.revision


async def test_a_revision_is_replaced_once(stores):
    values = stores.values("v", int)
    first = await values.save("a", 1, if_revision=0)
    with pytest.raises(RevisionConflict):
        await values.save("a", 2, if_revision=0)
    second = await values.save("a", 2, if_revision=first.revision)
    for stale in (0, first.revision, second.revision + 1):
        with pytest.raises(RevisionConflict):
            await values.save("a", 3, if_revision=stale)
    with pytest.raises(RevisionConflict):
        await values.delete("a", if_revision=first.revision)
    assert (await values.load("a")).value == 2
    assert await values.delete("a", if_revision=second.revision) is True
    with pytest.raises(RevisionConflict):
        await values.save("a", 3, if_revision=second.revision)


async def test_one_of_many_creates_and_no_update_is_lost(stores):
    values = stores.values("v", list)

    async def create(number):
        try:
            await values.save("first", [number], if_revision=0)
        except RevisionConflict:
            return False
        return True

    assert Counter(await asyncio.gather(*map(create, range(8)))) == {True: 1, False: 7}

    async def add(number):
        await asyncio.sleep(0)
        await values.update("all", lambda before: [*before, number], default=[])

    await asyncio.gather(*map(add, range(12)))
    assert sorted((await values.load("all")).value) == list(range(12))


PROGRAM = """
import asyncio, sys
from flowpersist import KeyRing
from flowpersist.stores import open_stores

async def main():
    url, ring, who, count = sys.argv[1:]
    async with open_stores(url, keyring=KeyRing.parse(ring)) as stores:
        values = stores.values("v", list)
        for number in range(int(count)):
            await values.update("all", lambda before: [*before, (who, number)], default=[])

asyncio.run(main())
"""


async def test_processes_lose_no_update(backend, url, stores):
    if backend == "memory":
        pytest.skip("one process has it")
    count = 100 if LONG else 5
    arguments = [sys.executable, "-c", PROGRAM, url, RING.export()]
    running = [await asyncio.create_subprocess_exec(*arguments, who, str(count)) for who in "abc"]
    assert [await one.wait() for one in running] == [0, 0, 0]
    found = (await stores.values("v", list).load("all")).value
    assert sorted(found) == [(who, number) for who in "abc" for number in range(count)]


async def test_what_has_expired_is_not_there_whether_or_not_it_was_cleaned_up(stores):
    values = stores.values("v", int)
    # Far longer than a busy server takes for the calls between.
    saved = await values.save("a", 1, ttl=1000 * SECOND, attributes={"x": 1})
    await values.save("b", 2)
    assert (await values.load("a")).expires_at - saved.at == pytest.approx(1000 * SECOND, abs=100 * SECOND)
    travel(stores.hub, 800 * SECOND)
    assert (await values.load("a")).value == 1
    travel(stores.hub, 201 * SECOND)
    assert await values.load("a") is None
    assert await values.delete("a") is False
    for again in ("c", "d"):
        short = await values.save(again, 1, ttl=SECOND)
        travel(stores.hub, 2 * SECOND)
        with pytest.raises(RevisionConflict):
            await values.save(again, 2, if_revision=short.revision)
        with pytest.raises(ValueNotFound):
            await values.update(again, lambda value: value + 1)
        assert (await values.keys()).items == ("b",)
        assert [item.key for item in (await values.items(order="updated")).items] == ["b"]
    assert (await values.save("c", 3, if_revision=0)).revision > 0
    assert (await values.update("d", lambda value: value + 1, default=40)).value == 41
    await values.save("e", 5, ttl=SECOND)
    travel(stores.hub, 2 * SECOND)
    assert await values.cleanup() == 2
    assert sorted((await values.keys()).items) == ["b", "c", "d"]


async def test_maintenance_cleans_up_every_collection(stores):
    for name in ("one", "another"):
        values = stores.values(name, int)
        await values.save("short", 1, ttl=SECOND)
        await values.save("long", 1, ttl=HOUR)
        await values.save("ever", 1)
    travel(stores.hub, timedelta(minutes=1))
    # It needs no key that opens a value.
    stores.hub.use_keyring(RING.control_only())
    assert or_raise(await Maintenance(stores.hub).cleanup_stores()) == 2
    assert or_raise(await Maintenance(stores.hub).cleanup_stores()) == 0
    stores.hub.use_keyring(RING)
    assert set((await values.keys()).items) == {"long", "ever"}


async def test_a_time_to_live_begins_at_the_stores_present_and_an_update_keeps_it(stores):
    values = stores.values("v", int)
    await values.save("z", 0, ttl=SECOND)
    travel(stores.hub, HOUR)
    saved = await values.save("a", 1, ttl=1000 * SECOND)
    kept = await values.load("a")
    assert abs(kept.expires_at - saved.at - 1000 * SECOND) < 100 * SECOND
    updated = await values.update("a", lambda value: value + 1)
    assert updated == await values.load("a")
    assert updated.expires_at == kept.expires_at
    longer = await values.update("a", lambda value: value + 1, ttl=HOUR, attributes={"x": "y"})
    assert longer == await values.load("a")
    assert abs(longer.expires_at - longer.updated_at - HOUR) < 100 * SECOND
    assert (await values.save("b", 1, ttl=timedelta.max)).revision
    assert (await values.load("b")).expires_at is None


async def test_what_was_not_touched_is_cleaned_up(stores):
    values = stores.values("v", int)
    await values.save("old", 1)
    travel(stores.hub, HOUR)
    await values.save("new", 2)
    assert await values.cleanup() == 0
    for longer in (2 * HOUR, timedelta(days=700_000), timedelta.max):
        assert await values.cleanup(older_than=longer) == 0
    assert await values.cleanup(older_than=timedelta(minutes=30)) == 1
    assert (await values.keys()).items == ("new",)


@pytest.mark.parametrize("listed", [False, True], ids=["digests", "listed"])
async def test_odd_keys_are_keys_of_their_own(stores, listed):
    values = stores.values("odd", str, listed=listed)
    for key in ODD:
        await values.save(key, "text", if_revision=0)
        await values.save((key, 7), "part", if_revision=0)
    for key in ODD:
        assert (await values.load(key)).key == key
        assert (await values.load((key, 7))).value == "part"
        assert {*(await values.keys((key,))).items} == {key, (key, 7)}
    found = await walked(values.keys, limit=7)
    assert Counter(found) == Counter([*ODD, *((key, 7) for key in ODD)])
    assert await values.load("b") is None


async def test_prefixes_of_listed_keys_find_all_they_begin_and_nothing_else(stores):
    values = stores.values("odd", str, listed=True)
    for key in ODD:
        await values.save(key, key)
    for prefix in [*ODD, "a" * 300, "a" * 4999]:
        found = await walked(values.keys, prefix=prefix, limit=10)
        assert Counter(found) == Counter(key for key in ODD if key.startswith(prefix)), prefix[:20]
    short = [key for key in ODD if len(key) < 100 and not any(0xD800 <= ord(c) < 0xE000 for c in key)]
    in_order = [key for key in await walked(values.keys) if key in short]
    assert in_order == sorted(short, key=lambda key: key.encode())


@pytest.mark.parametrize("listed", [False, True], ids=["digests", "listed"])
async def test_integers_are_in_order_and_the_last_comes_in_one_query(stores, listed):
    values = stores.values("log", int, listed=listed)
    numbers = [-(2**200), -17, -16, -1, 0, 1, 9, 10, 255, 256, 2**64, 2**200]
    for number in [*numbers[::2], *numbers[1::2]]:
        await values.save(("agent", number), number)
        await values.save(("another", number), number)
    assert [key[1] for key in (await values.keys(("agent",))).items] == numbers
    last = await values.items(("agent",), descending=True, limit=1)
    assert [item.value for item in last.items] == [2**200]


async def test_a_walk_sees_each_key_once_while_others_come_and_go(stores):
    values = stores.values("many", int, listed=True)
    count = 100_000 if LONG else 120
    for start in range(0, count, 1000):
        await values.save_many({f"{number:06}": number for number in range(start, min(start + 1000, count))})
    found, after, rounds = [], None, 0
    while True:
        page = await values.items(limit=50, after=after)
        found += [item.value for item in page.items if item.value >= 0]
        await values.save(f"{rounds * 37 % count:06}+", -1)
        await values.delete(f"{(rounds - 1) * 37 % count:06}+")
        rounds, after = rounds + 1, page.next
        if after is None:
            break
    assert found == list(range(count))


async def test_pages_by_attribute_and_time(stores):
    values = stores.values("v", int)
    for number in range(6):
        await values.save(("thread", str(number)), number, attributes={"even": number % 2 == 0})
    await values.save(("other", "1"), 9, attributes={"even": True})
    found = await walked(values.items, where={"even": True}, order="created")
    assert [item.value for item in found] == [0, 2, 4, 9]
    await values.save(("thread", "0"), 10, attributes={"even": True})
    newest = await values.items(("thread",), order="updated", descending=True, limit=1)
    assert [item.value for item in newest.items] == [10]
    assert await values.delete_many(("thread",)) == 6
    assert [item.value async for item in values.iterate()] == [9]
    with pytest.raises(InputValidationError):
        await values.keys(after="no cursor")


async def test_sizes_from_nothing_to_the_limit(url):
    limit = 2**21
    most = limit - (len(Codec().encode(b"x" * 2**20).unwrap()) - 2**20)
    async with open_test_hub(url, keyring=RING, limits=Limits(max_bytes=limit), compression="none") as hub:
        values = Stores(hub).values("v", object)
        for size in (0, 1, 8180, 8192, 8193, 300_000, most):
            for key in ("k", "k" * 5000, "k" * 2**20) if size < 300_000 else ("k",):
                await values.save(key, b"x" * size)
                loaded = await values.load(key)
                assert (loaded.key, loaded.value) == (key, b"x" * size)
        for key, size in (("k", most + 1), ("k" * 5000, most)):
            with pytest.raises(StateTooLarge):
                await values.save(key, b"x" * size)
        assert len((await values.load("k")).value) == most
        with pytest.raises(StateTooLarge):
            await values.save("k" * (2**20 + 1), None)
        await values.save("nothing", None)
        assert (await values.load("nothing")).value is None
        assert {len(key) for key in (await values.keys()).items} == {1, 5000, 7, 2**20}


async def test_a_copy_is_resealed_as_it_is(stores):
    values = stores.values("v", object)
    for key, value in (("small", {"a": 1}), ("large", {"a": "x" * 100_000})):
        await values.save(key, value, ttl=HOUR, attributes={"n": 1})
        await values.copy(key, (key, "copy" * 3000))
        one, other = await values.load(key), await values.load((key, "copy" * 3000))
        assert (one.value, one.expires_at, one.attributes) == (other.value, other.expires_at, other.attributes)
    with pytest.raises(RevisionConflict):
        await values.copy("small", "large", if_revision=0)
    with pytest.raises(ValueNotFound):
        await values.copy("missing", "small")


async def test_many_are_saved_and_loaded(stores):
    values = stores.values("v", int)
    saved = await values.save_many({"a": 1, ("b", 2): 2}, ttl=HOUR)
    assert set(saved) == {"a", ("b", 2)}
    loaded = await values.load_many(["a", ("b", 2), "c"])
    assert {key: one and one.value for key, one in loaded.items()} == {"a": 1, ("b", 2): 2, "c": None}


async def told(changes, count):
    async with asyncio.timeout(20):
        return [await anext(changes) for _ in range(count)]


@pytest.mark.parametrize("notified", [False, True], ids=["polled", "notified"])
async def test_changes_are_told(backend, url, notified):
    if notified and backend in {"postgres", "redis", "redis_cluster"}:
        url += "&notify=on"
    async with open_test_hub(url, keyring=RING) as hub:
        if notified and Capability.NOTIFICATIONS not in hub.backend.capabilities:
            pytest.skip("this backend does not tell")
        values = Stores(hub).values("v", int)
        poll = HOUR if notified else SOON
        async with aclosing(values.watch("a", poll=poll)) as one, aclosing(values.watch(poll=poll)) as all_of_them:
            first = asyncio.ensure_future(told(all_of_them, 1))
            await asyncio.sleep(0.3)
            await values.save("a", 1)
            assert [change.loaded.value for change in await first] == [1]
            assert [change.loaded.value for change in await told(one, 1)] == [1]
            await values.save("a", 2)
            await values.save("b", 3)
            assert [change.loaded.value for change in await told(one, 1)] == [2]
            seen = {change.key: change.loaded.value for change in await told(all_of_them, 2)}
            assert seen == {"a": 2, "b": 3}
            await values.delete("a")
            assert [(change.key, change.loaded) for change in await told(one, 1)] == [("a", None)]
            await values.save("a", 4, ttl=2 * SECOND)
            assert [change.loaded.value for change in await told(one, 1)] == [4]
            assert [(change.key, change.loaded) for change in await told(one, 1)] == [("a", None)]


@pytest.mark.parametrize("notified", [False, True], ids=["polled", "notified"])
async def test_after_a_lost_connection_the_values_are_told_again(backend, url, notified):
    at = address_of(url)
    if at is None or backend == "redis_cluster":
        pytest.skip("it has no connection, or several")
    if notified and backend in {"mongodb", "neo4j"}:
        pytest.skip("this backend does not tell")
    url += "&notify=on" if notified else ""
    async with open_test_hub(url, keyring=RING) as direct, Proxy(*at) as proxy:
        values = Stores(direct).values("v", int)
        await values.save("a", 1)
        await values.save("b", 1)
        async with (
            open_test_hub(rerouted(url, proxy.address), keyring=RING) as hub,
            aclosing(Stores(hub).values("v", int).watch(poll=SOON)) as changes,
        ):
            assert {change.key for change in await told(changes, 2)} == {"a", "b"}
            waiting = asyncio.ensure_future(told(changes, 1))
            await asyncio.sleep(0.3)
            async with proxy.away():
                await values.save("a", 2)
                await asyncio.sleep(0.3)
            seen = {change.key: change.loaded.value for change in await waiting}
            # A driver that polls may have connected again unnoticed; a subscription that was lost is always noticed.
            expected = {"a": 2, "b": 1} if notified else {"a": 2}
            async with asyncio.timeout(20):
                while not expected.items() <= seen.items():
                    change = await anext(changes)
                    seen[change.key] = change.loaded.value


async def test_what_lasts_ends_a_watch():
    async with open_test_hub(keyring=RING) as hub:
        values = Stores(hub).values("v", int)
        await values.save("a", 1)
        hub.use_keyring(KeyRing.generate())
        with pytest.raises(UnknownKey):
            await anext(values.watch())
        faulty = FaultyBackend(hub.backend)
        faulty.fail("query", BackendUnavailable("for good", "memory"))
    async with open_test_hub(faulty, keyring=RING) as hub:
        with pytest.raises(BackendUnavailable):
            await anext(Stores(hub).values("v", int).watch())


async def test_what_can_not_be_opened_is_raised_and_named_and_never_passed_over(stores):
    values = stores.values("v", int)
    await values.save("ours", 1)
    stores.hub.use_keyring(RING.add("k2", b"2" * 32).promote("k2"))
    await values.save("theirs", 2)
    assert (await values.load("ours")).value == 1
    stores.hub.use_keyring(RING)
    for refused in (values.load("theirs"), values.items(), values.keys(), values.update("theirs", lambda value: value)):
        with pytest.raises(UnknownKey, match=r"record \S+ of default\.values\.v: .*'k2'"):
            await refused
    page = await values.items(unreadable="skip")
    assert [item.value for item in page.items] == [1]
    assert [(type(one.error), one.ref.namespace) for one in page.unreadable] == [(UnknownKey, "default.values.v")]
    assert (await values.load("ours")).value == 1
    await values.save("theirs", 3)
    assert (await values.load("theirs")).value == 3


@pytest.mark.parametrize("fresh", [False, True], ids=["the same store", "a store of its own"])
async def test_a_collection_outlives_the_key_that_it_was_made_with(stores, fresh):
    values = stores.values("v", int)
    await values.save("a", 1, ttl=HOUR, attributes={"n": 1})
    await values.save(("b", 2), 2)
    (old,) = RING.kids
    ring = RING.add("k2", b"2" * 32).promote("k2")
    stores.hub.use_keyring(ring)
    values = Stores(stores.hub).values("v", int) if fresh else values
    kept = [item async for item in values.iterate()]
    for item in kept:
        await values.update(item.key, lambda value: value)
    stores.hub.use_keyring(ring.retire(old))
    for again in (values, Stores(stores.hub).values("v", int)):
        found = [item async for item in again.iterate()]
        shown = [(one.key, one.value, one.attributes, one.expires_at) for one in found]
        assert shown == [(one.key, one.value, one.attributes, one.expires_at) for one in kept]


async def test_a_damaged_record_is_raised(stores):
    values = stores.values("v", int)
    await values.save("a", 1)
    backend = stores.hub.backend
    (record,) = (await backend.query("default.values.v", Where(), limit=5)).items
    damaged = record.head[:-5] + b"12345"
    await backend.put(record.ref, RecordChange("w", head=damaged), if_revision=record.revision)
    for refused in (values.load("a"), values.items(), values.keys()):
        with pytest.raises(IntegrityError, match="record "):
            await refused
    assert len((await values.keys(unreadable="skip")).unreadable) == 1


async def test_a_value_of_a_later_release_and_a_damaged_catalogue_are_raised(stores):
    values = stores.values("v", int)
    await values.save("a", 1)
    backend, sealer = stores.hub.backend, stores.hub.suspensions.records.sealer
    for namespace, purpose in (("default.values.v", "value"), ("default.collections", "collection")):
        (record,) = (await backend.query(namespace, Where(), limit=5)).items
        later = sealer.seal_bytes(b"\x02" + bytes(40), context=record_context(record.ref, None), purpose=purpose)
        await backend.put(record.ref, RecordChange("w", head=later.unwrap()), if_revision=record.revision)
        for refused in (Stores(stores.hub).values("v", int).load("a"), Stores(stores.hub).values("v", int).items()):
            with pytest.raises(UnsupportedVersion, match=rf"record \S+ of {namespace}: .*upgrade flowpersist"):
                await refused


async def test_a_record_that_was_moved_is_not_another_keys_value(stores):
    values = stores.values("v", int)
    await values.save("a", 1)
    await values.save("b", 2)
    backend = stores.hub.backend
    first, second = (await backend.query("default.values.v", Where(), limit=5)).items
    await backend.put(second.ref, RecordChange("w", head=first.head), if_revision=second.revision)
    with pytest.raises(IntegrityError):
        await values.items()


async def test_classes_that_are_not_known(url, stores):
    await stores.values("v", Order).save("a", Order(1))
    with pytest.raises(UnexpectedType, match="not dict"):
        await stores.values("v", dict).load("a")
    async with open_test_hub(url if "memory" not in url else stores.hub.backend, keyring=RING) as hub:
        values = Stores(hub).values("v")
        with pytest.raises(UnknownType, match=r"record \S+ of"):
            await values.load("a")
        assert len((await values.items(unreadable="skip")).unreadable) == 1
        with pytest.raises(UnsupportedType, match="Order, which is not registered"):
            await values.save("b", Order(2))
        assert await values.load("b") is None


async def test_tenants_see_nothing_of_each_other(stores):
    ours, theirs = (Stores(stores.hub, tenant=tenant).values("v", int) for tenant in ("ann", "ben"))
    nobody = stores.values("v", int)
    await ours.save("a", 1)
    assert await theirs.load("a") is None
    assert await nobody.load("a") is None
    await theirs.save("a", 2)
    assert [item.value for item in (await ours.items()).items] == [1]
    assert await ours.delete_many(()) == 1
    assert (await theirs.load("a")).value == 2


PERSON = "canary-person-4Rt9Xq2Lm8Vb"


async def test_no_key_stands_in_clear_unless_it_is_asked_for(backend, url, stored, caplog):
    if backend == "memory":
        pytest.skip("nobody else reads it")
    async with open_test_hub(url, keyring=RING) as hub:
        values = Stores(hub).values("v", str)
        for key in (PERSON, (PERSON, "x"), PERSON * 2000):
            await values.save(key, f"value of {PERSON}")
            await values.update(key, lambda value: value)
            with pytest.raises(PersistenceError) as refused:
                await values.save(key, "again", if_revision=0)
            assert PERSON not in str(refused.value)
        hub.use_keyring(KeyRing.generate())
        with pytest.raises(PersistenceError) as refused:
            await values.load(PERSON)
        assert PERSON not in str(refused.value)
        hub.use_keyring(RING)
        found = await stored()
        assert [name for name, form in forms(PERSON).items() if form in found] == []
        await Stores(hub).values("listed", str, listed=True).save(PERSON, "x")
    assert PERSON.encode() in await stored()
    assert PERSON not in caplog.text


class Counting(DelegatingBackend):
    """Counts the operations."""

    def __init__(self, inner: StorageBackend) -> None:
        super().__init__(inner)
        self.counts: Counter[str] = Counter()

    async def around(self, operation, call):
        self.counts[operation] += 1
        return await call()


async def test_what_calls_cost(url):
    counting = Counting(backend_from_url(url))
    async with open_test_hub(counting, keyring=RING) as hub:
        values = Stores(hub).values("v", object, listed=True)
        await values.save("first", 1)

        async def cost(call):
            counting.counts.clear()
            await call
            return dict(counting.counts)

        for value in (b"x" * 1000, b"x" * 1_000_000):
            assert await cost(values.save("k1", value)) == {"put": 1}
            assert await cost(values.save("k1", value)) == {"put": 1}
            assert await cost(values.save("k1", value, ttl=HOUR)) == {"put": 1}
            assert await cost(values.load("k1")) == {"get": 1}
        await values.save_many({f"k{number}": number for number in range(20)})
        assert await cost(values.items("k", descending=True, limit=1)) == {"query": 1}
        assert await cost(values.items("k", descending=True, limit=10)) == {"query": 1}
        assert await cost(values.keys("k")) == {"query": 1}
        assert await cost(values.load_many([f"k{number}" for number in range(10)])) == {"get_many": 1}
        await values.save("k9", b"x" * 1_000_000)
        assert await cost(values.items("k", descending=True, limit=1)) == {"query": 1}
        assert await cost(values.load_many([f"k{number}" for number in range(10)])) == {"get_many": 1}
        assert await cost(values.update("k1", lambda value: value)) == {"get": 1, "put": 1}


REFUSED = {
    "a key that is no text": (lambda values: values.save(5, 1), TypeError),
    "a key of no parts": (lambda values: values.save((), 1), ConfigurationError),
    "a part that is no text": (lambda values: values.load(("a", 1.5)), TypeError),
    "a part that is a bool": (lambda values: values.load(("a", True)), TypeError),
    "a huge integer": (lambda values: values.load((2**256,)), ConfigurationError),
    "a value of another class": (lambda values: values.save("a", "1"), TypeError),
    "a change to another class": (lambda values: values.update("a", str, default=1), TypeError),
    "a change that is none": (lambda values: values.update("a", 1, default=1), TypeError),
    "a revision below zero": (lambda values: values.save("a", 1, if_revision=-1), ConfigurationError),
    "a revision that is a text": (lambda values: values.save("a", 1, if_revision="1"), TypeError),
    "no time to live": (lambda values: values.save("a", 1, ttl=timedelta(0)), ConfigurationError),
    "a time to live in seconds": (lambda values: values.save("a", 1, ttl=5), TypeError),
    "a negative age": (lambda values: values.cleanup(older_than=timedelta(-1)), ConfigurationError),
    "attributes with NUL": (lambda values: values.save("a", 1, attributes={"x": "\0"}), ConfigurationError),
    "attributes of lists": (lambda values: values.save("a", 1, attributes={"x": []}), ConfigurationError),
    "too many attributes": (lambda v: v.save("a", 1, attributes={str(n): n for n in range(65)}), ConfigurationError),
    "a prefix of text among digests": (lambda values: values.keys("a"), ConfigurationError),
    "an order that is none": (lambda values: values.keys(order="size"), ConfigurationError),
    "a limit of nothing": (lambda values: values.items(limit=0), ConfigurationError),
    "another word for the unreadable": (lambda values: values.items(unreadable="ignore"), ConfigurationError),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_what_makes_no_sense_is_refused_before_anything_is_done(case):
    call, error = REFUSED[case]
    async with open_test_hub() as hub:
        values = Stores(hub).values("v", int)
        await values.save("first", 1)
        with pytest.raises(error):
            await call(values)
        assert (await values.keys()).items == ("first",)


async def test_a_collection_is_not_opened_in_another_way_than_it_was_made(stores):
    await stores.values("v", int).save("a", 1)
    other = stores.values("v", int, listed=True)
    for refused in (other.load("a"), other.save("a", 1), other.keys("a")):
        with pytest.raises(ConfigurationError, match="expected False"):
            await refused
    for name in ("", "ä", "a/b", "x" * 65, ".a"):
        with pytest.raises(ConfigurationError):
            stores.values(name)
    for hub in (None, stores):
        with pytest.raises(TypeError):
            Stores(hub)


async def test_the_same_data_by_either_door(url, stores):
    await stores.values("v", int).save("a", 1)
    backend = stores.hub.backend if "memory" in url else url
    async with open_stores(backend, keyring=RING) as others:
        assert (await others.values("v", int).load("a")).value == 1
        assert (await Stores(RaisingHub(others.hub)).values("v", int).load("a")).value == 1


async def test_reading_a_collection_that_nobody_made_writes_nothing(stores):
    values = stores.values("v", int)
    assert await values.load("a") is None
    assert (await values.items()).items == ()
    assert await values.delete("a") is False
    assert await values.delete_many(()) == 0
    with pytest.raises(ValueNotFound):
        await values.update("a", lambda value: value)
    assert (await stores.hub.backend.query("default.collections", Where(), limit=5)).items == ()
