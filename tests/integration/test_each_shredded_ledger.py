"""Shredding a tenant in a store with a replay ledger and kept trails, on every backend: nothing of the tenant can be
read, its trails verify without names, its rows may be deleted, and the other tenants notice nothing.
"""

from __future__ import annotations

from datetime import timedelta

import pytest

from flowpersist import AwaitInput, KeyRing, Maintenance, or_raise
from flowpersist.backends.base import Where
from flowpersist.backends.kit import DelegatingBackend
from flowpersist.backends.memory import MemoryBackend
from flowpersist.blocking import Maintenance as BlockingMaintenance
from flowpersist.blocking import open_hub as open_blocking
from flowpersist.errors import BackendUnavailable, KeyDestroyed, RollbackDetected
from flowpersist.keys import LocalKeyService, TenantKeys, WrappedKeyFile
from flowpersist.testing.hubs import open_test_hub, travel
from machine import WITH_MEMORY

ASK = AwaitInput("pay", "Pay?", schema=bool)
WEEK = timedelta(days=8)


@pytest.fixture(params=WITH_MEMORY)
def backend(request):
    return request.param


@pytest.fixture
def keys(tmp_path):
    wrapped = WrappedKeyFile(tmp_path / "wrapped.json")
    return TenantKeys(KeyRing.generate("base"), LocalKeyService(KeyRing.generate("master")), wrapped)


@pytest.fixture
def ledger(tmp_path):
    return f"sqlite:///{tmp_path}/ledger.db"


async def asked(hub, tenant, name):
    return or_raise(await hub.suspend("s", awaiting=ASK, tenant=tenant, by=f"{name} of {tenant}", idempotency_key=name))


async def trail(hub, id_):
    return [(one.number, one.verb, one.mac) for one in or_raise(await hub.history(id_))]


async def purge(hub, tenant):
    """Delete the rows of a tenant, as its how-to says."""
    return await hub.backend.purge("default", Where({"tenant": tenant}), limit=100)


async def test_nothing_of_a_shredded_tenant_is_readable_and_the_ledger_lets_its_rows_go(url, keys, ledger):
    async with open_test_hub(url, keyring=keys, ledger=ledger) as hub:
        maintenance = Maintenance(hub)
        every = {}
        for tenant in ("acme", "bolt"):
            purged, running, waiting = [await asked(hub, tenant, name) for name in ("purged", "running", "waiting")]
            or_raise(await hub.resume(purged.key, True, by="ann"))
            or_raise(await hub.answer(running.key, True, by="ann"))
            every[tenant] = (purged, running, waiting)
        travel(hub, WEEK)
        assert or_raise(await maintenance.cleanup()).deleted == 2
        whole = [await trail(hub, one.id) for one in every["acme"]]
        done = or_raise(await maintenance.shred("acme"))
        assert (done.keys, done.trails) == (1, 3)
        assert [await trail(hub, one.id) for one in every["acme"]] == whole
        for one in every["acme"]:
            entries = or_raise(await hub.history(one.id))
            assert {entry.by for entry in entries} == {None}
        for one in every["acme"][1:]:
            refused = [await hub.resume(one.key, True)]
            refused += [await verb(one.id) for verb in (hub.inspect, hub.cancel, hub.peek)]
            for failed in refused:
                assert isinstance(failed.failure(), KeyDestroyed)

        assert await purge(hub, "acme") == 2
        assert [await trail(hub, one.id) for one in every["acme"]] == whole
        findings = or_raise(await maintenance.verify()).findings
        # What is left is the trail of the purged one, sealed with the destroyed key.
        assert {(one.kind, one.code) for one in findings} == {("trail", "key-destroyed")}
        assert or_raise(await maintenance.accept_restored()) == 0
        again = await asked(hub, "acme", "running")
        assert again.id == every["acme"][1].id
        assert or_raise(await hub.resume(again.key, True)).state == "s"

        _, running, waiting = every["bolt"]
        assert or_raise(await hub.claim(running.key)).state == "s"
        assert or_raise(await hub.resume(waiting.key, True)).answer is True
        assert or_raise(await hub.history(every["bolt"][0].key))[0].by.subject == "purged of bolt"


async def test_the_ledger_protects_the_others_as_before(url, keys, ledger):
    async with open_test_hub(url, keyring=keys, ledger=ledger) as hub:
        await asked(hub, "acme", "one")
        bolt = await asked(hub, "bolt", "one")
        or_raise(await hub.answer(bolt.key, True))
        or_raise(await Maintenance(hub).shred("acme"))
        await purge(hub, "bolt")
        assert isinstance((await hub.inspect(bolt.id)).failure(), RollbackDetected)


async def test_a_shredding_that_failed_lets_no_row_go(url, keys, ledger, monkeypatch):
    async with open_test_hub(url, keyring=keys, ledger=ledger) as hub:
        acme = await asked(hub, "acme", "one")
        or_raise(await hub.answer(acme.key, True))

        async def down(_):
            raise BackendUnavailable("the place of the wrapped keys is down", "wrapped keys", True)

        with monkeypatch.context() as patched:
            patched.setattr(WrappedKeyFile, "destroy", lambda _, tenant: down(tenant))
            assert isinstance((await Maintenance(hub).shred("acme")).failure(), BackendUnavailable)
        assert or_raise(await hub.inspect(acme.key)).tenant == "acme"
        await purge(hub, "acme")
        assert isinstance((await hub.inspect(acme.id)).failure(), RollbackDetected)


async def test_a_ledger_that_is_down_at_the_end_is_told_of_in_the_log(keys, caplog):
    class Down(DelegatingBackend):
        down = False

        async def put(self, ref, change, *, if_revision, not_after=None):
            if self.down and ref.namespace == "default.ledger":
                raise BackendUnavailable("down", "memory", False)
            return await super().put(ref, change, if_revision=if_revision, not_after=not_after)

    ledger = Down(MemoryBackend())
    async with open_test_hub(keyring=keys, ledger=ledger) as hub:
        acme = [await asked(hub, "acme", name) for name in ("one", "two")]
        for one in acme:
            or_raise(await hub.answer(one.key, True))
        ledger.down = True
        assert or_raise(await Maintenance(hub).shred("acme")).keys == 1
        assert "the replay ledger refuses that 2 rows of it are deleted" in caplog.text
        ledger.down = False
        await purge(hub, "acme")
        assert or_raise(await Maintenance(hub).accept_restored()) == 2
        assert or_raise(await hub.history(acme[0].id))


def test_without_asyncio(keys, ledger, tmp_path):
    with open_blocking(f"sqlite:///{tmp_path}/flows.db", keyring=keys, ledger=ledger) as hub:
        acme = hub.suspend(1, awaiting=ASK, tenant="acme")
        hub.answer(acme.key, True)
        assert BlockingMaintenance(hub).shred("acme").trails == 1
        with pytest.raises(KeyDestroyed):
            hub.inspect(acme.id)
        assert len(hub.history(acme.id)) == 2
