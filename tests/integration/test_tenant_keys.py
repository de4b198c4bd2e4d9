"""Data keys of tenants: everything of a tenant is sealed with its own, and shredding it leaves nothing readable."""

from __future__ import annotations

import asyncio
import shutil
from datetime import timedelta

import pytest
from returns.result import Failure

from flowpersist import AwaitInput, Criteria, KeyRing, Maintenance, Principal, or_raise
from flowpersist.backends.base import RecordChange, Where
from flowpersist.errors import (
    BackendUnavailable,
    ConfigurationError,
    KeyDestroyed,
    PersistenceError,
    TamperedEnvelope,
    UnknownKey,
)
from flowpersist.keys import LocalKeyService, TenantKeys, WrappedKey, WrappedKeyFile
from flowpersist.keys.key_file import alone
from flowpersist.stages.header import kid_of
from flowpersist.stores import Stores
from flowpersist.testing.hubs import open_test_hub
from machine import WITH_MEMORY

CONFIRM = AwaitInput(id="confirm", prompt="Ship it?", schema=bool)
TEXT = AwaitInput(id="text", prompt="What?", schema=str)
BASE, MASTER = KeyRing.generate("base"), KeyRing.generate("master")
ANN = Principal("ann", name="Ann Lee")


class Service(LocalKeyService):
    """Counts requests, and can be down or slow."""

    def __init__(self):
        super().__init__(MASTER)
        self.asked, self.down, self.slow = 0, False, None

    async def unwrap(self, wrapped, *, context):
        self.asked += 1
        if self.slow is not None:
            await self.slow.wait()
        if self.down:
            raise OSError("secret words")
        return await super().unwrap(wrapped, context=context)


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def service():
    return Service()


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def opened(tmp_path, service, clock):
    """Hubs of one store and one file of wrapped keys, each with keys of its own."""

    def opening(**options):
        store = WrappedKeyFile(tmp_path / "wrapped.json")
        keys = TenantKeys(BASE, service, store, **{"monotonic": clock} | options)
        return open_test_hub(f"sqlite:///{tmp_path}/flows.db", keyring=keys), keys

    return opening


async def made_for(hub, tenant):
    """Something of every kind that a tenant has."""
    new = or_raise(await hub.suspend({"of": tenant}, awaiting=CONFIRM, tenant=tenant, idempotency_key="once", by=ANN))
    large = or_raise(await hub.suspend("s" * 40_000, awaiting=TEXT, tenant=tenant))
    or_raise(await hub.answer(large.key, "y" * 9000, by=ANN))
    long = or_raise(await hub.suspend(0, awaiting=CONFIRM, tenant=tenant))
    for pause in range(7):
        or_raise(await hub.answer(long.key, True, by=ANN))
        run = or_raise(await hub.claim(long.key))
        long = or_raise(await hub.suspend_next(run, pause, awaiting=CONFIRM))
    stores = Stores(hub, tenant=tenant)
    for scoped in (stores, stores.project("p")):
        await scoped.values("v").save_many({"small": tenant, "large": tenant * 20_000})
        await scoped.run_state.save_state("subject", "state")
        await scoped.artifacts.write("a", b"bytes")
        await scoped.signals.set("s", 1)
    return new, large, long


async def check(hub, made, tenant):
    new, large, long = made
    again = await hub.suspend({"of": tenant}, awaiting=CONFIRM, tenant=tenant, idempotency_key="once", by=ANN)
    assert or_raise(again).id == new.id
    assert or_raise(await hub.resume(new.key, True)).state == {"of": tenant}
    assert len(or_raise(await hub.resume(large.key)).answer) == 9000
    assert len(or_raise(await hub.history(long.key))) == 22
    stores = Stores(hub, tenant=tenant)
    for scoped in (stores, stores.project("p")):
        assert (await scoped.values("v").load("small")).value == tenant
        assert (await scoped.values("v").load("large")).value == tenant * 20_000
        assert await scoped.run_state.load_state("subject") == "state"
        assert b"".join([piece async for piece in scoped.artifacts.open("a")]) == b"bytes"


async def sealed_with(hub):
    """How many heads and bodies each key has sealed."""
    counts = {}
    catalog = (await hub.backend.query("default.collections", Where(), limit=500)).items
    names = ["default", *(f"default.{one}" for one in ("answers", "audit", "collections", "audit-keys", "log"))]
    for name in [*names, *(f"default.values.{record.ref.key}" for record in catalog)]:
        for record in (await hub.backend.query(name, Where(), limit=500, bodies=True)).items:
            for part in (record.head, record.body):
                if part:
                    counts.setdefault(kid_of(part), []).append((name, record.ref.key))
    return counts


async def test_each_tenant_has_a_key_of_its_own(opened, service):
    opening, keys = opened()
    async with opening as hub:
        made = {tenant: await made_for(hub, tenant) for tenant in ("acme", "bolt")}
        none = or_raise(await hub.suspend("nobody's", awaiting=CONFIRM))
        counts = await sealed_with(hub)
        acme, bolt = keys.kid_of("acme"), keys.kid_of("bolt")
        assert set(counts) == {"base", acme, bolt}
        assert len(counts[acme]) == len(counts[bolt]) > 20
        # The base key has sealed what is of no tenant, and the collections that a project's are derived from.
        assert {name for name, _ in counts["base"]} <= {"default", "default.collections"}
        assert len([one for one in counts["base"] if one[0] == "default"]) == 2
        assert service.asked == 2
    opening, keys = opened()
    async with opening as hub:
        for tenant, one in made.items():
            await check(hub, one, tenant)
        assert or_raise(await hub.resume(none.key, True)).state == "nobody's"
        assert len(or_raise(await hub.query(Criteria(tenant="acme"))).items) == 3


async def refusals(hub, made, tenant):
    """The errors of everything that would show something of a tenant."""
    new, large, long = made
    errors = [await hub.inspect(new.id), await hub.resume(large.key), await hub.claim(long.key, True)]
    stores = Stores(hub, tenant=tenant)
    for scoped in (stores, stores.project("p")):
        for load in (scoped.values("v").load("small"), scoped.run_state.load_state("subject"), scoped.signals.all()):
            try:
                errors.append(await load)
            except PersistenceError as error:
                errors.append(Failure(error))
    return {type(one.failure()) if isinstance(one, Failure) else one for one in errors}


async def test_a_shredded_tenant_is_unreadable_also_from_a_backup(opened, tmp_path):
    opening, _ = opened()
    async with opening as hub:
        made = {tenant: await made_for(hub, tenant) for tenant in ("acme", "bolt")}
    for suffix in ("", "-wal"):
        if (tmp_path / f"flows.db{suffix}").exists():
            shutil.copy(tmp_path / f"flows.db{suffix}", tmp_path / f"backup.db{suffix}")
    opening, _ = opened()
    async with opening as hub:
        done = or_raise(await Maintenance(hub).shred("acme"))
        assert (done.keys, done.trails) == (1, 3)
        assert await refusals(hub, made["acme"], "acme") == {KeyDestroyed}
        await check(hub, made["bolt"], "bolt")
        # The trail is there, and verifies, without what is personal.
        entries = or_raise(await hub.history(made["acme"][2].id))
        assert [one.verb for one in entries][:4] == ["suspend", "answer", "claim", "suspend_next"]
        assert (len(entries), {one.removed for one in entries if one.verb == "answer"}) == (22, {True})
        assert "Ann" not in repr(entries)
        assert or_raise(await Maintenance(hub).shred("acme")).keys == 0
        # A new beginning has a new key.
        fresh = or_raise(await hub.suspend(1, awaiting=CONFIRM, tenant="acme"))
        assert or_raise(await hub.resume(fresh.key, True)).state == 1
        assert await refusals(hub, made["acme"], "acme") == {KeyDestroyed}
    service, store = LocalKeyService(MASTER), WrappedKeyFile(tmp_path / "wrapped.json")
    async with open_test_hub(f"sqlite:///{tmp_path}/backup.db", keyring=TenantKeys(BASE, service, store)) as backup:
        assert await refusals(backup, made["acme"], "acme") == {KeyDestroyed}
        assert isinstance((await backup.history(made["acme"][2].id)).failure(), KeyDestroyed)
        await check(backup, made["bolt"], "bolt")


async def test_other_processes_forget_a_shredded_key_in_time(opened, clock):
    (first, keys), (second, _) = opened(), opened(cache=timedelta(seconds=60))
    async with first as hub, second as other:
        new = or_raise(await hub.suspend(1, awaiting=CONFIRM, tenant="acme"))
        or_raise(await other.inspect(new.id))
        await keys.shred("acme")
        or_raise(await other.inspect(new.id))
        clock.now += 61
        assert isinstance((await other.inspect(new.id)).failure(), KeyDestroyed)
        # Worked with or listed, it costs the others nothing.
        mine = or_raise(await other.suspend(2, awaiting=CONFIRM, tenant="bolt"))
        assert [one.id for one in or_raise(await other.query()).items] == [mine.id]


async def test_an_outage_of_the_service_is_an_error_that_can_be_retried(opened, service, clock):
    opening, _ = opened(cache=timedelta(seconds=60))
    async with opening as hub:
        new = or_raise(await hub.suspend(1, awaiting=CONFIRM, tenant="acme"))
        service.down = True
        # What is in use goes on while it is cached.
        or_raise(await hub.answer(new.key, True))
        clock.now += 61
        for outcome in (
            await hub.claim(new.key),
            await hub.suspend(1, awaiting=CONFIRM, tenant="acme"),
            await hub.suspend(1, awaiting=CONFIRM, tenant="bolt"),
            await hub.query(),
        ):
            error = outcome.failure()
            assert (type(error), error.retryable, error.backend) == (BackendUnavailable, True, "key service")
            assert "secret words" not in str(error)
        or_raise(await hub.suspend("nobody's", awaiting=CONFIRM))
        service.down = False
        assert or_raise(await hub.resume(new.key)).state == 1


async def test_a_slow_service_blocks_nobody_else_and_is_given_up(opened, service, clock):
    opening, _ = opened()
    async with opening as hub:
        new = or_raise(await hub.suspend(1, awaiting=CONFIRM, tenant="acme"))
    opening, _ = opened(timeout=timedelta(seconds=1))
    async with opening as hub:
        service.slow = asyncio.Event()
        asked = service.asked
        waiting = [asyncio.create_task(hub.inspect(new.id)) for _ in range(20)]
        or_raise(await hub.suspend("nobody's", awaiting=CONFIRM))
        assert not any(task.done() for task in waiting)
        waiting[0].cancel()
        done = await asyncio.gather(*waiting[1:])
        assert {type(one.failure()) for one in done} == {BackendUnavailable}
        service.slow.set()
        or_raise(await hub.inspect(new.id))
        # Those who need the same key share one request, also in the retries.
        assert service.asked - asked < 20


@pytest.mark.parametrize("verb", ["shred", "rotate"])
async def test_a_change_that_was_given_up_may_still_be_made_and_the_error_says_so(verb, opened, tmp_path):
    opening, keys = opened()
    async with opening as hub:
        or_raise(await hub.suspend(1, awaiting=CONFIRM, tenant="acme"))
        before = await WrappedKeyFile(tmp_path / "wrapped.json").of_tenant("acme")
    _, keys = opened(timeout=timedelta(seconds=0.1))
    with alone(tmp_path):
        with pytest.raises(BackendUnavailable, match="the request may still be carried out there: do it again"):
            await getattr(keys, verb)("acme")
        assert await WrappedKeyFile(tmp_path / "wrapped.json").of_tenant("acme") == before
    # The thread that waited for its turn has it now.
    for _ in range(200):
        if await WrappedKeyFile(tmp_path / "wrapped.json").of_tenant("acme") != before:
            break
        await asyncio.sleep(0.01)
    assert await keys.shred("acme") == {"shred": 0, "rotate": 2}[verb]


async def test_two_who_make_the_first_key_of_a_tenant_agree(opened):
    (first, one), (second, two) = opened(), opened()
    async with first as hub, second as other:
        new, later = await asyncio.gather(
            hub.suspend(1, awaiting=CONFIRM, tenant="acme"), other.suspend(2, awaiting=CONFIRM, tenant="acme")
        )
        assert one.kid_of("acme") == two.kid_of("acme")
        assert or_raise(await other.resume(or_raise(new).key, True)).state == 1
        assert or_raise(await hub.resume(or_raise(later).key, True)).state == 2


async def test_a_data_key_is_rotated_and_records_of_before_are_taken_over(opened, tmp_path):
    async with open_test_hub(f"sqlite:///{tmp_path}/flows.db", keyring=BASE) as hub:
        made = await made_for(hub, "acme")
    opening, keys = opened()
    async with opening as hub:
        done = or_raise(await Maintenance(hub).rekey())
        first = keys.kid_of("acme")
        assert done.problems == {}
        assert set(await sealed_with(hub)) == {first}
        second = await keys.rotate("acme")
        assert second != first
        or_raise(await Maintenance(hub).rekey())
        counts = await sealed_with(hub)
        assert set(counts) == {second}
        use = or_raise(await Maintenance(hub).key_use())
        assert set(use.records) == {second}
        await check(hub, made, "acme")
    assert (tmp_path / "wrapped.json").stat().st_mode & 0o077 == 0


@pytest.fixture(params=WITH_MEMORY)
def backend(request):
    return request.param


async def test_a_tenant_is_shredded_on_each_backend(url, tmp_path):
    store = WrappedKeyFile(tmp_path / "wrapped.json")
    async with open_test_hub(url, keyring=TenantKeys(BASE, LocalKeyService(MASTER), store)) as hub:
        new = or_raise(await hub.suspend("s" * 40_000, awaiting=CONFIRM, tenant="acme", by=ANN))
        other = or_raise(await hub.suspend("o", awaiting=CONFIRM, tenant="bolt"))
        await Stores(hub, tenant="acme").values("v").save("k", 1)
        done = or_raise(await Maintenance(hub).shred("acme"))
        assert (done.keys, done.trails) == (1, 1)
        for outcome in (await hub.inspect(new.id), await hub.resume(new.key, True), await hub.history(new.key)):
            assert isinstance(outcome.failure(), KeyDestroyed)
        with pytest.raises(KeyDestroyed):
            await Stores(hub, tenant="acme").values("v").load("k")
        (entry,) = or_raise(await hub.history(new.id))
        assert (entry.verb, entry.removed, entry.by) == ("suspend", True, None)
        assert or_raise(await hub.resume(other.key, True)).state == "o"
        # A worker that meets it goes on with the others.
        assert [one.id for one in or_raise(await hub.query()).items] == [other.id]
        done = or_raise(await Maintenance(hub).rekey())
        assert set(done.problems) == {"key-destroyed"}


async def test_only_tenants_with_keys_are_shredded():
    async with open_test_hub() as hub:
        assert isinstance((await Maintenance(hub).shred("acme")).failure(), ConfigurationError)
    keys = TenantKeys(BASE, LocalKeyService(MASTER), WrappedKeyFile("nowhere.json"))
    async with open_test_hub(keyring=keys) as hub:
        assert isinstance((await Maintenance(hub).train_dictionary()).failure(), ConfigurationError)
        with pytest.raises(ValueError, match="tenant"):
            await Maintenance(hub).shred("\0")


async def test_wrapped_keys_open_for_their_own_tenant_alone(tmp_path):
    service = LocalKeyService(MASTER)
    wrapped = await service.wrap(b"k" * 32, context=b"a")
    assert await service.unwrap(wrapped, context=b"a") == b"k" * 32
    assert b"k" * 32 not in wrapped
    for bad, context in ((wrapped, b"b"), (wrapped[:-1], b"a"), (wrapped[:20], b"a"), (b"", b"a")):
        with pytest.raises((TamperedEnvelope, UnknownKey)):
            await service.unwrap(bad, context=context)
    rotated = LocalKeyService(MASTER.add("next", b"n" * 32).promote("next"))
    assert await rotated.unwrap(wrapped, context=b"a") == b"k" * 32
    with pytest.raises(UnknownKey):
        await LocalKeyService(KeyRing.generate("x")).unwrap(wrapped, context=b"a")
    assert "k" * 32 not in repr(service)
    path = tmp_path / "wrapped.json"
    for text in ("garbage", "{}", '{"flowpersist wrapped keys 1": [1]}'):
        path.write_text(text)
        with pytest.raises(ConfigurationError):
            await WrappedKeyFile(path).of_tenant("a")
        assert path.read_text() == text
    path.unlink()
    store = WrappedKeyFile(path)
    key, late = WrappedKey("t.1", "a", b"1"), WrappedKey("t.2", "a", b"2")
    added = [await store.add(one, after=after) for one, after in ((key, None), (late, None), (late, "t.1"))]
    assert added == [True, False, True]
    assert [one.kid for one in await store.of_tenant("a")] == ["t.2", "t.1"]
    assert [await store.tenant_of(kid) for kid in ("t.1", "t.9")] == ["a", None]
    assert [await store.destroy("a") for _ in range(2)] == [2, 0]


async def test_a_repair_seals_with_the_key_of_the_tenant(opened):
    opening, keys = opened()
    async with opening as hub:
        await Stores(hub, tenant="acme").values("v").save("k", 1, attributes={"a": 1})
        (collection,) = (await hub.backend.query("default.collections", Where(), limit=5)).items
        (record,) = (await hub.backend.query(f"default.values.{collection.ref.key}", Where(), limit=5)).items
        change = RecordChange("w", attributes={"a": 2})
        await hub.backend.put(record.ref, change, if_revision=record.revision)
        done = or_raise(await Maintenance(hub).verify(repair=True))
        assert sum(done.repaired.values()) == 1
        mended = (await hub.backend.get(record.ref)).record
        assert (dict(mended.attributes), kid_of(mended.head)) == ({"a": 1}, keys.kid_of("acme"))
