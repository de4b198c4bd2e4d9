"""Stores whose tenants have keys of their own: copied, exported and imported, verified and sealed again, on every
backend.
"""

from __future__ import annotations

import pytest

from flowpersist import AwaitInput, KeyRing, Maintenance, Principal, or_raise
from flowpersist.errors import KeyDestroyed
from flowpersist.keys import LocalKeyService, TenantKeys, WrappedKeyFile
from flowpersist.stores import Stores
from flowpersist.testing.hubs import open_test_hub
from machine import WITH_MEMORY

CONFIRM = AwaitInput(id="confirm", prompt="Ship it?", schema=bool)
BASE, MASTER = KeyRing.generate("base"), KeyRing.generate("master")
ANN = Principal("ann", name="Ann Lee")


@pytest.fixture(params=WITH_MEMORY)
def backend(request):
    return request.param


@pytest.fixture
def keys(tmp_path):
    """Keys of a new process each time; the wrapped ones stand in one file."""
    return lambda: TenantKeys(BASE, LocalKeyService(MASTER), WrappedKeyFile(tmp_path / "wrapped.json"))


@pytest.fixture
def other(tmp_path):
    return f"sqlite:///{tmp_path}/other.db"


async def made_for(hub, tenant):
    """A suspension with a large state, one with entries beside its head, and values, of one tenant."""
    new = or_raise(await hub.suspend("s" * 40_000 + tenant, awaiting=CONFIRM, tenant=tenant, by=ANN))
    long = or_raise(await hub.suspend(0, awaiting=CONFIRM, tenant=tenant))
    for pause in range(7):
        or_raise(await hub.answer(long.key, True, by=ANN))
        long = or_raise(await hub.suspend_next(or_raise(await hub.claim(long.key)), pause, awaiting=CONFIRM))
    await Stores(hub, tenant=tenant).values("v").save_many({"small": tenant, "large": tenant * 20_000})
    return new, long


async def check(hub, made, tenant):
    new, long = made
    assert len(or_raise(await hub.history(long.key))) == 22
    values = Stores(hub, tenant=tenant).values("v")
    assert [(await values.load(name)).value for name in ("small", "large")] == [tenant, tenant * 20_000]
    assert or_raise(await hub.resume(new.key, True)).state == "s" * 40_000 + tenant


async def test_a_copy_is_readable_with_the_tenants_keys_and_shreddable(url, keys, other):
    async with open_test_hub(url, keyring=keys()) as hub:
        made = {tenant: await made_for(hub, tenant) for tenant in ("acme", "bolt")}
        done = or_raise(await Maintenance(hub).copy(other))
        assert done.complete
    async with open_test_hub(other, keyring=keys()) as moved:
        assert or_raise(await Maintenance(moved).verify()).clean
        await check(moved, made["acme"], "acme")
        assert or_raise(await Maintenance(moved).shred("acme")).keys == 1
        assert isinstance((await moved.inspect(made["acme"][1].id)).failure(), KeyDestroyed)
        await check(moved, made["bolt"], "bolt")


async def test_a_tenant_is_exported_and_imported_with_its_keys(url, keys, other, tmp_path):
    file = tmp_path / "acme.export"
    async with open_test_hub(other, keyring=keys()) as hub:
        made = {tenant: await made_for(hub, tenant) for tenant in ("acme", "bolt")}
        or_raise(await Maintenance(hub).export(file, tenant="acme"))
    async with open_test_hub(url, keyring=keys()) as target:
        or_raise(await Maintenance(target).import_(file, dry_run=True))
        or_raise(await Maintenance(target).import_(file))
        assert or_raise(await Maintenance(target).verify()).clean
        await check(target, made["acme"], "acme")
        assert "bolt" not in {one.tenant for one in or_raise(await target.query()).items}


async def test_a_store_is_verified_and_sealed_again_with_new_tenants_keys(url, keys):
    own = keys()
    async with open_test_hub(url, keyring=own) as hub:
        made = {tenant: await made_for(hub, tenant) for tenant in ("acme", "bolt")}
        first = own.kid_of("acme")
        second = await own.rotate("acme")
        done = or_raise(await Maintenance(hub).rekey())
        assert done.problems == {}
        use = or_raise(await Maintenance(hub).key_use()).records
        assert (first in use, second in use, own.kid_of("bolt") in use) == (False, True, True)
    async with open_test_hub(url, keyring=keys()) as again:
        assert or_raise(await Maintenance(again).verify()).clean
        for tenant in ("acme", "bolt"):
            await check(again, made[tenant], tenant)


async def test_a_shredded_tenant_is_told_apart_from_damage(url, keys, other, tmp_path):
    async with open_test_hub(url, keyring=keys()) as hub:
        made = {tenant: await made_for(hub, tenant) for tenant in ("acme", "bolt")}
        or_raise(await Maintenance(hub).shred("acme"))
        found = or_raise(await Maintenance(hub).verify())
        assert {one.code for one in found.findings} == {KeyDestroyed.code}
        done = or_raise(await Maintenance(hub).rekey())
        assert set(done.problems) == {KeyDestroyed.code}
        await check(hub, made["bolt"], "bolt")
