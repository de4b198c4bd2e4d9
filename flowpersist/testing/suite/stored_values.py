"""One value at a time in a store: revisions, times, sizes, races, costs."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, TypeVar

import pytest

from flowpersist import Codec, KeyRing, Limits, Maintenance, or_raise
from flowpersist.backends.base import StorageBackend
from flowpersist.backends.kit import DelegatingBackend
from flowpersist.errors import RevisionConflict, SerializationError, StateTooLarge, ValueNotFound
from flowpersist.sealed.naming import Key
from flowpersist.stores import Stores, open_stores
from flowpersist.testing.hubs import open_test_hub, travel
from flowpersist.testing.suite.ground import LONG, BackendFactory
from flowpersist.testing.suite.processes import need_processes, run_processes
from flowpersist.testing.suite.store_ground import HOUR, RING, SECOND, Order, StoreGround, there

__all__ = ["StoredValues"]

T = TypeVar("T")


class Counting(DelegatingBackend):
    """Counts the operations."""

    def __init__(self, inner: StorageBackend) -> None:
        super().__init__(inner)
        self.counts: Counter[str] = Counter()

    async def around(self, operation: str, call: Callable[[], Awaitable[T]]) -> T:
        """See ``DelegatingBackend``."""
        self.counts[operation] += 1
        return await call()


def append(make_backend: BackendFactory, ring: str, who: str, count: int, results: Any) -> None:  # noqa: ANN401
    """In a process: append to one list by updates."""

    async def main() -> None:
        async with open_stores(make_backend(), keyring=KeyRing.parse(ring)) as stores:
            values = stores.values("v", list)
            for number in range(count):
                await values.update("all", lambda before: [*before, (who, number)], default=[])  # noqa: B023

    asyncio.run(main())
    results.put(who)


class StoredValues(StoreGround):
    """Values by their keys keep every promise of ``ValueStore``."""

    async def test_a_value_is_saved_loaded_replaced_and_deleted(self, stores: Stores) -> None:
        orders = stores.values("orders", Order)
        assert await orders.load("a") is None
        assert await orders.delete("a") is False
        first = await orders.save("a", Order(1), attributes={"state": "new", "n": 1, "share": 0.5, "live": True})
        loaded = there(await orders.load("a"))
        assert (loaded.key, loaded.value, loaded.revision) == ("a", Order(1), first.revision)
        assert loaded.attributes == {"state": "new", "n": 1, "share": 0.5, "live": True}
        assert loaded.created_at == loaded.updated_at == first.at
        assert loaded.expires_at is None
        second = await orders.save("a", Order(2))
        again = there(await orders.load("a"))
        assert (again.value, again.attributes) == (Order(2), {})
        assert again.revision == second.revision > first.revision
        assert again.created_at == first.at <= again.updated_at == second.at
        assert await orders.delete("a") is True
        assert await orders.load("a") is None
        assert (await orders.save("a", Order(3))).revision > second.revision

    async def test_a_revision_is_replaced_once(self, stores: Stores) -> None:
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
        assert there(await values.load("a")).value == 2
        assert await values.delete("a", if_revision=second.revision) is True
        with pytest.raises(RevisionConflict):
            await values.save("a", 3, if_revision=second.revision)

    async def test_one_of_many_creates_and_no_update_is_lost(self, stores: Stores) -> None:
        values = stores.values("v", list)

        async def create(number: int) -> bool:
            try:
                await values.save("first", [number], if_revision=0)
            except RevisionConflict:
                return False
            return True

        assert Counter(await asyncio.gather(*map(create, range(8)))) == {True: 1, False: 7}

        async def add(number: int) -> None:
            await asyncio.sleep(0)
            await values.update("all", lambda before: [*before, number], default=[])

        await asyncio.gather(*map(add, range(12)))
        assert sorted(there(await values.load("all")).value) == list(range(12))

    async def test_processes_lose_no_update(self, stores: Stores, make_backend: BackendFactory) -> None:
        need_processes(stores.hub.backend)
        count = 100 if LONG else 5
        ended = await run_processes(append, [(make_backend, RING.export(), who, count) for who in "abc"])
        assert sorted(ended) == ["a", "b", "c"]
        found = there(await stores.values("v", list).load("all")).value
        assert sorted(found) == [(who, number) for who in "abc" for number in range(count)]

    async def test_what_has_expired_is_not_there_whether_or_not_it_was_cleaned_up(self, stores: Stores) -> None:
        values = stores.values("v", int)
        # Far longer than a busy server takes for the calls between.
        saved = await values.save("a", 1, ttl=1000 * SECOND, attributes={"x": 1})
        await values.save("b", 2)
        assert there(await values.load("a")).expires_at - saved.at == pytest.approx(1000 * SECOND, abs=100 * SECOND)
        travel(stores.hub, 800 * SECOND)
        assert there(await values.load("a")).value == 1
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

    async def test_maintenance_cleans_up_every_collection(self, stores: Stores) -> None:
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
        assert set((await stores.values("another", int).keys()).items) == {"long", "ever"}

    async def test_a_time_to_live_begins_at_the_stores_present_and_an_update_keeps_it(self, stores: Stores) -> None:
        values = stores.values("v", int)
        await values.save("z", 0, ttl=SECOND)
        travel(stores.hub, HOUR)
        saved = await values.save("a", 1, ttl=1000 * SECOND)
        kept = there(await values.load("a"))
        assert abs(kept.expires_at - saved.at - 1000 * SECOND) < 100 * SECOND
        updated = await values.update("a", lambda value: value + 1)
        assert updated == await values.load("a")
        assert updated.expires_at == kept.expires_at
        longer: Any = await values.update("a", lambda value: value + 1, ttl=HOUR, attributes={"x": "y"})
        assert longer == await values.load("a")
        assert abs(longer.expires_at - longer.updated_at - HOUR) < 100 * SECOND
        assert (await values.save("b", 1, ttl=timedelta.max)).revision
        assert there(await values.load("b")).expires_at is None

    async def test_what_was_not_touched_is_cleaned_up(self, stores: Stores) -> None:
        values = stores.values("v", int)
        await values.save("old", 1)
        travel(stores.hub, HOUR)
        await values.save("new", 2)
        assert await values.cleanup() == 0
        for longer in (2 * HOUR, timedelta(days=700_000), timedelta.max):
            assert await values.cleanup(older_than=longer) == 0
        assert await values.cleanup(older_than=timedelta(minutes=30)) == 1
        assert (await values.keys()).items == ("new",)

    async def test_sizes_from_nothing_to_the_limit(self, make_backend: BackendFactory) -> None:
        limit = 2**21
        most = limit - (len(Codec().encode(b"x" * 2**20).unwrap()) - 2**20)
        async with open_test_hub(
            make_backend(), keyring=RING, limits=Limits(max_bytes=limit), compression="none"
        ) as hub:
            values = Stores(hub).values("v", object)
            for size in (0, 1, 8180, 8192, 8193, 300_000, most):
                for key in ("k", "k" * 5000, "k" * 2**20) if size < 300_000 else ("k",):
                    await values.save(key, b"x" * size)
                    loaded = there(await values.load(key))
                    assert (loaded.key, loaded.value) == (key, b"x" * size)
            for key, size in (("k", most + 1), ("k" * 5000, most)):
                with pytest.raises(StateTooLarge):
                    await values.save(key, b"x" * size)
            assert len(there(await values.load("k")).value) == most
            with pytest.raises(StateTooLarge):
                await values.save("k" * (2**20 + 1), None)
            await values.save("nothing", None)
            assert there(await values.load("nothing")).value is None
            assert {len(key) for key in (await values.keys()).items} == {1, 5000, 7, 2**20}

    async def test_a_copy_is_resealed_as_it_is(self, stores: Stores) -> None:
        values = stores.values("v", object)
        for key, value in (("small", {"a": 1}), ("large", {"a": "x" * 100_000})):
            await values.save(key, value, ttl=HOUR, attributes={"n": 1})
            await values.copy(key, (key, "copy" * 3000))
            one, other = there(await values.load(key)), there(await values.load((key, "copy" * 3000)))
            assert (one.value, one.expires_at, one.attributes) == (other.value, other.expires_at, other.attributes)
        with pytest.raises(RevisionConflict):
            await values.copy("small", "large", if_revision=0)
        with pytest.raises(ValueNotFound):
            await values.copy("missing", "small")

    async def test_many_are_saved_and_loaded(self, stores: Stores) -> None:
        values = stores.values("v", int)
        saved = await values.save_many({"a": 1, ("b", 2): 2}, ttl=HOUR)
        assert set(saved) == {"a", ("b", 2)}
        loaded = await values.load_many(["a", ("b", 2), "c"])
        assert {key: one and one.value for key, one in loaded.items()} == {"a": 1, ("b", 2): 2, "c": None}
        expires = there(loaded["a"]).expires_at
        assert expires is not None
        assert abs(expires - saved["a"].at - HOUR) < 60 * SECOND
        assert await values.save_many({}) == {}
        # Of two names of one key the later one is there.
        await values.save_many({"a": 3, ("a",): 4, "d": 5})
        loaded = await values.load_many(["a", "d"])
        assert [one and (one.value, one.expires_at) for one in loaded.values()] == [(4, None), (5, None)]

    async def test_of_many_one_that_can_not_be_saved_costs_the_others_nothing(self, stores: Stores) -> None:
        values = stores.values("v", object)
        with pytest.raises(SerializationError):
            await values.save_many({"a": 1, "bad": lambda: None, "b": 2})
        loaded = await values.load_many(["a", "bad", "b"])
        assert [one and one.value for one in loaded.values()] == [1, None, 2]

    async def test_what_calls_cost(self, make_backend: BackendFactory) -> None:
        counting = Counting(make_backend())
        async with open_test_hub(counting, keyring=RING) as hub:
            values = Stores(hub).values("v", object, listed=True)
            await values.save("first", 1)

            async def cost(call: Awaitable[object]) -> dict[str, int]:
                counting.counts.clear()
                await call
                # A time to live is reckoned from the last reply; where that took long, the clock is asked first.
                counting.counts.pop("ping", None)
                return dict(counting.counts)

            for value in (b"x" * 1000, b"x" * 1_000_000):
                assert await cost(values.save("k1", value)) == {"put": 1}
                assert await cost(values.save("k1", value)) == {"put": 1}
                assert await cost(values.save("k1", value, ttl=HOUR)) == {"put": 1}
                assert await cost(values.load("k1")) == {"get": 1}
            for ttl in (HOUR, None):
                assert await cost(values.save_many({f"k{n}": n for n in range(20)}, ttl=ttl)) == {"put_many": 1}
            # Bodies of more than 16 MiB are put in steps.
            large: dict[Key, object] = {
                f"large{number}": random.Random(number).randbytes(1_000_000) for number in range(20)
            }
            assert await cost(values.save_many(large)) == {"put_many": 2}
            loaded = await values.load_many(large)
            assert {key: one and one.value for key, one in loaded.items()} == large
            assert await cost(values.items("k", descending=True, limit=1)) == {"query": 1}
            assert await cost(values.items("k", descending=True, limit=10)) == {"query": 1}
            assert await cost(values.keys("k")) == {"query": 1}
            assert await cost(values.load_many([f"k{number}" for number in range(10)])) == {"get_many": 1}
            await values.save("k9", b"x" * 1_000_000)
            assert await cost(values.items("k", descending=True, limit=1)) == {"query": 1}
            assert await cost(values.load_many([f"k{number}" for number in range(10)])) == {"get_many": 1}
            assert await cost(values.update("k1", lambda value: value)) == {"get": 1, "put": 1}
