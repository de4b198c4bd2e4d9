"""Shredding a tenant whose suspensions were deleted: their trails stay without names, and nothing else can be read."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import timedelta

from returns.result import Failure

from flowpersist import AwaitInput, KeyRing, Maintenance, or_raise
from flowpersist.backends.base import Where
from flowpersist.errors import SuspensionNotFound
from flowpersist.keys import LocalKeyService, TenantKeys, WrappedKeyFile
from flowpersist.testing.hubs import open_test_hub, travel

ASK = AwaitInput("pay", "Pay?", schema=bool)


async def closed(hub, tenant):
    new = or_raise(
        await hub.suspend("state", awaiting=ASK, tenant=tenant, by="asker", idempotency_key=f"once {tenant}")
    )
    or_raise(await hub.answer(new.key, True, by="ann"))
    or_raise(await hub.complete(or_raise(await hub.claim(new.key))))
    return new


async def test_the_kept_trails_of_a_shredded_tenant_have_no_names(tmp_path):
    wrapped = WrappedKeyFile(tmp_path / "wrapped.json")
    keys = TenantKeys(KeyRing.generate("base"), LocalKeyService(KeyRing.generate("master")), wrapped)
    async with open_test_hub(f"sqlite:///{tmp_path}/flows.db", keyring=keys) as hub:
        maintenance = Maintenance(hub)
        acme, bolt = await closed(hub, "acme"), await closed(hub, "bolt")
        whole = [(one.number, one.verb, one.mac) for one in or_raise(await hub.history(acme.id))]
        travel(hub, timedelta(days=8))
        assert or_raise(await maintenance.cleanup()).deleted == 2
        # A later suspension of the same id.
        later = await closed(hub, "acme")
        assert later.id == acme.id
        done = or_raise(await maintenance.shred("acme"))
        assert done.trails == 2
        assert len((await hub.backend.query("default.shredded", Where(), limit=9)).items) == 2
        # The later one is found first, as before.
        assert len(or_raise(await hub.history(acme.id))) == 4
        assert or_raise(await hub.history(bolt.key))[1].by.subject == "ann"
        await hub.backend.purge("default", Where({"tenant": "acme"}), limit=9)
        entries = or_raise(await hub.history(acme.id))
        assert all(one.by is None and one.removed for one in entries if one.verb in {"suspend", "answer"})
        told = await hub.history(acme.key)
        assert isinstance(told, Failure)
        assert isinstance(told.failure(), SuspensionNotFound)
        assert len(whole) == 4


async def test_a_trail_that_was_kept_before_is_what_history_finds(tmp_path):
    wrapped = WrappedKeyFile(tmp_path / "wrapped.json")
    keys = TenantKeys(KeyRing.generate("base"), LocalKeyService(KeyRing.generate("master")), wrapped)
    async with open_test_hub(f"sqlite:///{tmp_path}/flows.db", keyring=keys) as hub:
        maintenance = Maintenance(hub)
        acme = await closed(hub, "acme")
        whole = [(one.number, one.verb, one.mac) for one in or_raise(await hub.history(acme.id))]
        travel(hub, timedelta(days=8))
        assert or_raise(await maintenance.cleanup()).deleted == 1
        assert (or_raise(await maintenance.shred("acme"))).trails == 1
        entries = or_raise(await hub.history(acme.id))
        assert [(one.number, one.verb, one.mac) for one in entries] == whole
        assert {one.by for one in entries} == {None}


async def test_suspensions_that_cannot_be_read_are_counted(tmp_path, caplog):
    wrapped = WrappedKeyFile(tmp_path / "wrapped.json")
    keys = TenantKeys(KeyRing.generate("base"), LocalKeyService(KeyRing.generate("master")), wrapped)
    async with open_test_hub(f"sqlite:///{tmp_path}/flows.db", keyring=keys) as hub:
        sound, damaged = [
            or_raise(await hub.suspend(number, awaiting=ASK, tenant="acme", by="ann")) for number in range(2)
        ]
        with closing(sqlite3.connect(tmp_path / "flows.db")) as rows, rows:
            changed = rows.execute(
                "update flowpersist_records set head = head || x'00' where key = ?",
                [str(damaged.id)],
            )
            assert changed.rowcount == 1
        done = or_raise(await Maintenance(hub).shred("acme"))
        assert (done.keys, done.trails, done.unreadable) == (1, 1, 1)
        assert "trails of 1 suspensions" in caplog.text
        assert len(or_raise(await hub.history(sound.id))) == 1
        assert isinstance(await hub.history(damaged.id), Failure)


async def test_what_is_removed_between_the_two_looks_keeps_its_trail(tmp_path, monkeypatch):
    wrapped = WrappedKeyFile(tmp_path / "wrapped.json")
    keys = TenantKeys(KeyRing.generate("base"), LocalKeyService(KeyRing.generate("master")), wrapped)
    async with open_test_hub(f"sqlite:///{tmp_path}/flows.db", keyring=keys) as hub:
        maintenance = Maintenance(hub)
        acme = await closed(hub, "acme")
        travel(hub, timedelta(days=8))
        looked, query = [], hub.backend.query

        async def removing(namespace, *args, **options):
            if namespace in {"default", "default.trails"} and namespace not in looked:
                looked.append(namespace)
                if len(looked) == 2:
                    assert or_raise(await maintenance.cleanup()).deleted == 1
            return await query(namespace, *args, **options)

        monkeypatch.setattr(hub.backend, "query", removing)
        done = or_raise(await maintenance.shred("acme"))
        assert (len(looked), done.trails) == (2, 1)
        assert [one.verb for one in or_raise(await hub.history(acme.id))] == ["suspend", "answer", "claim", "complete"]


async def test_a_repeat_tells_what_an_earlier_shredding_had_done(tmp_path, caplog):
    """As after a request to destroy the keys that was given up, and was carried out all the same."""
    wrapped = WrappedKeyFile(tmp_path / "wrapped.json")
    keys = TenantKeys(KeyRing.generate("base"), LocalKeyService(KeyRing.generate("master")), wrapped)
    ledger = f"sqlite:///{tmp_path}/ledger.db"
    async with open_test_hub(f"sqlite:///{tmp_path}/flows.db", keyring=keys, ledger=ledger) as hub:
        for number in range(2):
            or_raise(await hub.suspend(number, awaiting=ASK, tenant="acme", by="ann"))
        await keys.shred("acme")
        done = or_raise(await Maintenance(hub).shred("acme"))
        assert (done.keys, done.trails, done.unreadable) == (0, 0, 0)
        assert "were not kept" not in caplog.text
        assert "ledger refuses that 2 rows of it are deleted" in caplog.text
