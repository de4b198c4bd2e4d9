"""What a store does not open: other keys, damaged and moved records, other classes, tenants and collections."""

from __future__ import annotations

import pytest

from flowpersist import ConfigurationError
from flowpersist.backends.base import RecordChange, Where
from flowpersist.errors import (
    IntegrityError,
    UnexpectedType,
    UnknownKey,
    UnknownType,
    UnsupportedType,
    UnsupportedVersion,
    ValueNotFound,
)
from flowpersist.sealed.drafts import record_context
from flowpersist.stores import Stores
from flowpersist.testing.hubs import open_test_hub
from flowpersist.testing.suite.ground import BackendFactory
from flowpersist.testing.suite.store_ground import HOUR, RING, Order, StoreGround, there

__all__ = ["StoredRefusals"]


class StoredRefusals(StoreGround):
    """What can't be opened is raised and named, and never passed over."""

    async def test_what_can_not_be_opened_is_raised_and_named_and_never_passed_over(self, stores: Stores) -> None:
        values = stores.values("v", int)
        await values.save("ours", 1)
        stores.hub.use_keyring(RING.add("k2", b"2" * 32).promote("k2"))
        await values.save("theirs", 2)
        assert there(await values.load("ours")).value == 1
        stores.hub.use_keyring(RING)
        for refused in (
            values.load("theirs"),
            values.items(),
            values.keys(),
            values.update("theirs", lambda value: value),
        ):
            with pytest.raises(UnknownKey, match=r"record \S+ of default\.values\.v: .*'k2'"):
                await refused
        page = await values.items(unreadable="skip")
        assert [item.value for item in page.items] == [1]
        assert [(type(one.error), one.ref and one.ref.namespace) for one in page.unreadable] == [
            (UnknownKey, "default.values.v")
        ]
        assert there(await values.load("ours")).value == 1
        await values.save("theirs", 3)
        assert there(await values.load("theirs")).value == 3

    @pytest.mark.parametrize("fresh", [False, True], ids=["the same store", "a store of its own"])
    async def test_a_collection_outlives_the_key_that_it_was_made_with(self, stores: Stores, *, fresh: bool) -> None:
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

    async def test_a_damaged_record_is_raised(self, stores: Stores) -> None:
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

    async def test_a_value_of_a_later_release_and_a_damaged_catalogue_are_raised(self, stores: Stores) -> None:
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

    async def test_a_record_that_was_moved_is_not_another_keys_value(self, stores: Stores) -> None:
        values = stores.values("v", int)
        await values.save("a", 1)
        await values.save("b", 2)
        backend = stores.hub.backend
        first, second = (await backend.query("default.values.v", Where(), limit=5)).items
        await backend.put(second.ref, RecordChange("w", head=first.head), if_revision=second.revision)
        with pytest.raises(IntegrityError):
            await values.items()

    async def test_classes_that_are_not_known(self, make_backend: BackendFactory, stores: Stores) -> None:
        await stores.values("v", Order).save("a", Order(1))
        with pytest.raises(UnexpectedType, match="not dict"):
            await stores.values("v", dict).load("a")
        async with open_test_hub(make_backend(), keyring=RING) as hub:
            values = Stores(hub).values("v")
            with pytest.raises(UnknownType, match=r"record \S+ of"):
                await values.load("a")
            assert len((await values.items(unreadable="skip")).unreadable) == 1
            with pytest.raises(UnsupportedType, match="Order, which is not registered"):
                await values.save("b", Order(2))
            assert await values.load("b") is None

    async def test_tenants_see_nothing_of_each_other(self, stores: Stores) -> None:
        ours, theirs = (Stores(stores.hub, tenant=tenant).values("v", int) for tenant in ("ann", "ben"))
        nobody = stores.values("v", int)
        await ours.save("a", 1)
        assert await theirs.load("a") is None
        assert await nobody.load("a") is None
        await theirs.save("a", 2)
        assert [item.value for item in (await ours.items()).items] == [1]
        assert await ours.delete_many(()) == 1
        assert there(await theirs.load("a")).value == 2

    async def test_a_collection_is_not_opened_in_another_way_than_it_was_made(self, stores: Stores) -> None:
        await stores.values("v", int).save("a", 1)
        other = stores.values("v", int, listed=True)
        for refused in (other.load("a"), other.save("a", 1), other.keys("a")):
            with pytest.raises(ConfigurationError, match="expected False"):
                await refused
        for name in ("", "ä", "a/b", "x" * 65, ".a"):
            with pytest.raises(ConfigurationError):
                stores.values(name)

    async def test_reading_a_collection_that_nobody_made_writes_nothing(self, stores: Stores) -> None:
        values = stores.values("v", int)
        assert await values.load("a") is None
        assert (await values.items()).items == ()
        assert await values.delete("a") is False
        assert await values.delete_many(()) == 0
        with pytest.raises(ValueNotFound):
            await values.update("a", lambda value: value)
        assert (await stores.hub.backend.query("default.collections", Where(), limit=5)).items == ()
