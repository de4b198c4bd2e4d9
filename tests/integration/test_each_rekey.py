"""Rotating keys on every backend: after a rekey nothing needs an old key, whatever a hub and its stores have written,
and nobody who works meanwhile is disturbed.
"""

from __future__ import annotations

import asyncio
import os
from datetime import timedelta

import pytest
from returns.result import Success

from flowpersist import AwaitInput, Criteria, KeyRing, Maintenance, Principal, or_raise
from flowpersist.backends.base import RecordChange, RecordRef, Where
from flowpersist.backends.kit import DelegatingBackend
from flowpersist.backends.registry import backend_from_url
from flowpersist.dynamicflow import Completed, FlowRunner, tool
from flowpersist.errors import BackendUnavailable, ConfigurationError, EncryptionRequired, KeyInUse, UnknownKey
from flowpersist.hub.opening import hub_schema
from flowpersist.sealed import pieces
from flowpersist.stages.header import kid_of
from flowpersist.stores import Stores, UserRecord
from flowpersist.testing.hubs import open_test_hub
from machine import WITH_MEMORY

AT_ONCE = timedelta(0)
LONG = bool(os.environ.get("FLOWPERSIST_LONG"))
ROTATIONS = 50 if LONG else 5
OLD = KeyRing.generate("old")
BOTH = OLD.add("new", os.urandom(32)).promote("new")
NEW = BOTH.retire("old")
CONFIRM = AwaitInput(id="confirm", prompt="Ship it?", schema=bool)
TEXT = AwaitInput(id="text", prompt="What?", schema=str)
ANN = Principal("ann", name="Ann Lee", roles=("lead",))
FLOW = {
    "metadata": {"name": "doc"},
    "flow": [
        {"tool": "note", "args": {"value": 1}},
        {"id": "go", "tool": "await_input", "args": {"prompt": "Go on?"}},
        {"tool": "note", "args": {"value": 2}},
    ],
}
SUSPENSIONS = 6


@tool()
async def note(value: object) -> object:
    return value


@pytest.fixture(params=WITH_MEMORY)
def backend(request):
    return request.param


def runner_on(hub):
    return FlowRunner(hub, [note], events=True, durability="step")


async def fill(hub, tenant=None):
    """Something of every kind that a hub and its stores keep."""
    plain = or_raise(await hub.suspend({"n": 1}, awaiting=CONFIRM, tenant=tenant, idempotency_key="once", by=ANN))
    large = or_raise(await hub.suspend(os.urandom(70_000), awaiting=TEXT, tenant=tenant))
    or_raise(await hub.answer(large.key, "y" * 9000, by=ANN))
    done = or_raise(await hub.suspend(["done"], awaiting=CONFIRM, tenant=tenant))
    run = or_raise(await hub.claim(done.key, True))
    or_raise(await hub.complete(run, {"paid": 7}))
    long = or_raise(await hub.suspend(0, awaiting=CONFIRM, tenant=tenant))
    for pause in range(7):
        or_raise(await hub.answer(long.key, True, by=ANN))
        run = or_raise(await hub.claim(long.key))
        long = or_raise(await hub.suspend_next(run, pause, awaiting=CONFIRM))
    logged = or_raise(await hub.suspend("logged", awaiting=CONFIRM, tenant=tenant))
    run = or_raise(await hub.claim(logged.key, True, lease=timedelta(hours=1)))
    or_raise(await hub.suspensions.side_records.steps.append(run, 1, {"step": 1}))
    started = or_raise(await runner_on(hub).start(FLOW))
    await in_stores(Stores(hub, tenant=tenant))
    if tenant is not None:
        await in_stores(Stores(hub, tenant=tenant).project("p"))
    return plain, large, done, long, run, started


async def in_stores(stores):
    await stores.values("v").save("small", "s")
    await stores.values("v").save(("large", 1), "L" * 40_000)
    await stores.values("listed", listed=True).save("k", 1, attributes={"a": 1}, ttl=timedelta(hours=1))
    await stores.run_state.save_state("subject", "state")
    await stores.observations.add("agent", {"n": 1})
    await stores.features.save(["f"], clear=True)
    await stores.artifacts.write("artifact", b"bytes" * 1000)
    await stores.signals.set("signal", 1, critical=True)
    await stores.locks.acquire("path", "agent")


async def check(hub, made, tenant=None):
    """All of it is there, and goes on."""
    plain, large, done, long, run, started = made
    again = await hub.suspend({"n": 1}, awaiting=CONFIRM, tenant=tenant, idempotency_key="once", by=ANN)
    assert or_raise(again).id == plain.id
    assert or_raise(await hub.outcome(done.key)) == {"paid": 7}
    for new, entries in ((plain, 1), (large, 2), (long, 22)):
        assert len(or_raise(await hub.history(new.id))) == entries
    assert len(or_raise(await hub.resume(large.key)).answer) == 9000
    assert or_raise(await hub.resume(long.key, False)).state == 6
    assert or_raise(await hub.suspensions.side_records.steps.read(run.suspension)) == [{"step": 1}]
    or_raise(await hub.complete(run))
    resumed = or_raise(await runner_on(hub).resume(started.waits[0].key, answer="yes"))
    assert isinstance(resumed, Completed)
    events = [one async for one in runner_on(hub).events(started.run_id)]
    assert len(events) > 3
    of = Stores(hub, tenant=tenant)
    for stores in (of,) if tenant is None else (of, of.project("p")):
        assert (await stores.values("v").load("small")).value == "s"
        assert (await stores.values("v").load(("large", 1))).value == "L" * 40_000
        kept = await stores.values("listed", listed=True).load("k")
        assert (kept.value, kept.attributes, kept.expires_at is None) == (1, {"a": 1}, False)
        assert await stores.run_state.load_state("subject") == "state"
        assert [one.content for one in await stores.observations.recent()] == [{"n": 1}]
        assert await stores.features.load() == ["f"]
        assert b"".join([piece async for piece in stores.artifacts.open("artifact")]) == b"bytes" * 1000
        assert list(await stores.signals.all()) == ["signal"]
        assert [lease.agent_id for lease in await stores.locks.holders("path")] == ["agent"]


async def namespaces(hub):
    keys = [one.ref.key for one in (await hub.backend.query("default.collections", Where(), limit=500)).items]
    side = [schema.name.removeprefix("default.") for schema in hub_schema("default")[1:]]
    side += ["collections", "halts", "halt-entries"]
    return ["default", *(f"default.{name}" for name in side), *(f"default.values.{key}" for key in keys)]


async def kids_in_store(hub):
    """The keys that envelopes of heads and bodies name, as whoever reads the store sees them."""
    kids, counted = set(), 0
    for namespace in await namespaces(hub):
        page = await hub.backend.query(namespace, Where(), limit=500, bodies=True)
        for record in page.items:
            counted += 1
            kids |= {kid_of(record.head), kid_of(record.body or b"")}
    return kids - {""}, counted


async def test_after_a_rekey_nothing_needs_the_old_key(backend, url):
    async with open_test_hub(url, keyring=OLD) as hub:
        made, work = await fill(hub), Maintenance(hub)
        hub.use_keyring(BOTH)
        refused = (await work.retire("old", wait=AT_ONCE)).failure()
        assert (type(refused), refused.kid) == (KeyInUse, "old")
        done = or_raise(await work.rekey())
        # What verifies the entries of the old key is sealed with the new one from the start.
        assert (done.primary, done.looked_at, done.problems) == ("new", refused.records + 1, {})
        assert done.resealed == refused.records
        assert await kids_in_store(hub) == ({"new"}, done.looked_at)
        assert or_raise(await work.retire("old", wait=AT_ONCE)) == NEW
        await check(hub, made)
        # Who has an old key alone opens nothing, and nothing needs it.
        hub.use_keyring(OLD)
        assert isinstance((await hub.inspect(made[0].id)).failure(), UnknownKey)
        with pytest.raises(UnknownKey):
            await Stores(hub).values("v").load("small")


@pytest.mark.parametrize("backend", ["memory"])
async def test_every_namespace_of_tenants_and_projects_is_rekeyed(url):
    async with open_test_hub(url, keyring=OLD) as hub:
        made, seen = [(tenant, await fill(hub, tenant)) for tenant in (None, "t")], []
        or_raise(await Maintenance(hub).halt(Criteria(tool="none"), "to see", by="ann"))
        assert or_raise(await hub.suspensions.side_records.log.append(hub.suspensions.records)) > 5
        hub.use_keyring(BOTH)
        use = or_raise(await Maintenance(hub).key_use())
        assert (set(use.records), use.plain, use.unknown) == ({"old"}, 0, 0)
        done = or_raise(await Maintenance(hub).rekey(on_progress=seen.append))
        assert [seen[-1].looked_at, seen[-1].resealed] == [done.looked_at, done.resealed]
        assert {one.walk for one in seen} == {1, 2}
        assert await kids_in_store(hub) == ({"new"}, done.looked_at)
        stood = {name for name, shelf in hub.backend._store.namespaces.items() if shelf.records}
        assert stood <= set(await namespaces(hub))
        assert len(stood) > 30
        assert or_raise(await Maintenance(hub).key_use()).records == {"new": done.looked_at}
        or_raise(await Maintenance(hub).retire("old", wait=AT_ONCE))
        for tenant, one in made:
            await check(hub, one, tenant)
        assert len(or_raise(await Maintenance(hub).halt_history())) == 1


@pytest.mark.parametrize("backend", ["memory", "sqlite"])
async def test_receipts_and_dictionaries_are_rekeyed(url):
    async with open_test_hub(url, keyring=OLD, dictionaries=True) as hub:
        states = [
            {"customer": f"customer number {n}", "status": "waiting", "steps": ["made", "checked"]} for n in range(12)
        ]
        made = [or_raise(await hub.suspend(state, awaiting=CONFIRM)) for state in states]
        or_raise(await Maintenance(hub).train_dictionary(size=256))
        made[0] = or_raise(await hub.suspend(states[0], awaiting=CONFIRM))
        first = new = or_raise(await hub.suspend(0, awaiting={f"w{n}": CONFIRM for n in range(101)}, until="any"))
        or_raise(await hub.answer(new.keys["w0"], True))
        run = or_raise(await hub.claim(new.id))
        or_raise(await hub.suspend_next(run, 1, awaiting=CONFIRM))
        or_raise(await hub.extend(new.id, timeout=timedelta(hours=1)))
        assert (await hub.backend.query("default.receipts", Where(), limit=5)).items
        hub.use_keyring(BOTH)
        or_raise(await Maintenance(hub).rekey())
        assert (await kids_in_store(hub))[0] == {"new"}
        or_raise(await Maintenance(hub).retire("old", wait=AT_ONCE))
        for state, one in zip(states, made, strict=True):
            assert or_raise(await hub.resume(one.key, True)).state == state
        assert or_raise(await hub.inspect(first.keys["w7"])).id == first.id


@pytest.mark.parametrize("backend", ["memory", "postgres"])
async def test_plain_text_is_sealed_where_that_is_said(backend, url):
    async with open_test_hub(url, keyring=None) as hub:
        made = await fill(hub)
        hub.use_keyring(NEW)
        work = Maintenance(hub)
        assert isinstance((await hub.inspect(made[0].id)).failure(), EncryptionRequired)
        refused = or_raise(await work.rekey())
        use = or_raise(await work.key_use())
        assert (refused.resealed, dict(refused.problems)) == (0, {"encryption-required": use.plain})
        assert len(refused.unreadable) == min(100, use.plain)
        done = or_raise(await work.rekey(accept_plain=True))
        assert (done.resealed, done.problems) == (use.plain, {})
        after = or_raise(await work.key_use())
        assert (set(after.records), after.plain, after.unknown) == ({"new"}, 0, 0)
        await check(hub, made)


@pytest.mark.parametrize("backend", ["memory"])
async def test_what_cannot_be_opened_is_counted_and_left(url):
    async with open_test_hub(url, keyring=OLD) as hub:
        new = or_raise(await hub.suspend(1, awaiting=CONFIRM))
        bad = or_raise(await hub.suspend(2, awaiting=CONFIRM))
        lost = or_raise(await hub.suspend(3, awaiting=CONFIRM))
        stranger = KeyRing.generate("stranger")
        record = (await hub.backend.get(RecordRef("default", str(bad.id)))).record
        broken = record.head[:-1] + bytes([record.head[-1] ^ 1])
        await hub.backend.put(record.ref, RecordChange("w", head=broken), if_revision=record.revision)
        hub.use_keyring(stranger)
        or_raise(await hub.suspend(4, awaiting=CONFIRM, key=None))
        hub.use_keyring(BOTH)
        # A body of another moment stands beside the head.
        swapped = (await hub.backend.get(RecordRef("default", str(lost.id)))).record
        await hub.backend.put(swapped.ref, RecordChange("x", body=record.body), if_revision=swapped.revision)
        done = or_raise(await Maintenance(hub).rekey())
        assert done.problems == {"corrupted": 1, "unknown-key": 1, "tampered": 1}
        assert {one.key for one in done.unreadable} >= {str(bad.id), str(lost.id)}
        use = or_raise(await Maintenance(hub).key_use())
        assert use.records["old"] == 2
        assert use.records["stranger"] == 1
        assert isinstance((await Maintenance(hub).retire("old", wait=AT_ONCE)).failure(), KeyInUse)
        assert or_raise(await hub.resume(new.key, True)).state == 1


@pytest.mark.parametrize("backend", ["memory"])
async def test_retiring_refuses_what_makes_no_sense(url):
    async with open_test_hub(url, keyring=BOTH) as hub:
        work = Maintenance(hub)
        for kid in ("new", "none"):
            assert isinstance((await work.retire(kid, wait=AT_ONCE)).failure(), ConfigurationError)
        assert hub.suspensions.records.sealer.keyring == BOTH
        # A key that nothing was ever sealed with.
        assert or_raise(await work.retire("old", wait=AT_ONCE)) == NEW
        hub.use_keyring(None)
        for outcome in (await work.rekey(), await work.retire("new", wait=AT_ONCE)):
            assert isinstance(outcome.failure(), ConfigurationError)


async def test_a_head_that_was_answered_still_names_the_key_of_its_state(url):
    async with open_test_hub(url, keyring=OLD) as hub:
        new = or_raise(await hub.suspend("x" * 50_000, awaiting=CONFIRM))
        hub.use_keyring(BOTH)
        or_raise(await hub.answer(new.key, True))
        assert or_raise(await Maintenance(hub).key_use()).records == {"new": 1, "old": 1}
        assert isinstance((await Maintenance(hub).retire("old", wait=AT_ONCE)).failure(), KeyInUse)
        or_raise(await Maintenance(hub).rekey())
        or_raise(await Maintenance(hub).retire("old", wait=AT_ONCE))
        assert or_raise(await hub.resume(new.key)).state == "x" * 50_000


class Rounds(list):
    """How often each worker has begun anew, and whether it is over."""

    over = False

    def begun(self, number):
        self[number] += 1
        return not self.over

    async def ended(self):
        """All that was under way has ended."""
        before = tuple(self)
        while not all(now > then for now, then in zip(self, before, strict=True)):
            await asyncio.sleep(0.001)


async def hold(hub, rounds, number):
    """Claim, renew and pause one run again and again."""
    new, count = or_raise(await hub.suspend(0, awaiting=CONFIRM)), 0
    while rounds.begun(number):
        run = or_raise(await hub.claim(new.key, True))
        assert run.state == count
        await asyncio.sleep(0)
        or_raise(await hub.renew(run))
        count += 1
        new = or_raise(await hub.suspend_next(run, count, awaiting=CONFIRM))
    assert len(or_raise(await hub.history(new.key))) == 1 + 2 * count
    return count


async def save(hub, rounds, number):
    """Write artifacts, values, locks and signals, and forget a person, again and again."""
    stores, count = Stores(hub), 0

    async def content():
        for _ in range(3):
            yield b"p" * 700_000
            await asyncio.sleep(0.01)

    while rounds.begun(number):
        await stores.artifacts.write("a", content())
        await stores.values("n").update("k", lambda value: value + 1, default=0)
        async with stores.locks.held("path", "agent"):
            await stores.signals.set("s", count)
        await stores.sessions.save_user(UserRecord("u", {"n": count}))
        assert await stores.sessions.forget("u")
        assert await stores.sessions.get_user("u") is None
        count += 1
    assert (await stores.values("n").load("k")).value == count
    return count


async def rotated(hub, ring, kid, rounds):
    """The ring once a fresh key has taken the place of the only one."""
    (before,) = ring.kids
    ring = ring.add(kid, os.urandom(32))
    hub.use_keyring(ring)
    hub.use_keyring(ring.promote(kid))
    await rounds.ended()
    assert or_raise(await Maintenance(hub).rekey()).problems == {}
    return or_raise(await Maintenance(hub).retire(before, wait=AT_ONCE))


@pytest.mark.parametrize("backend", WITH_MEMORY if LONG else ["memory", "sqlite", "postgres"])
async def test_a_rekey_is_no_lost_lease_and_no_conflict(backend, url, monkeypatch):
    # Artifacts renew their claims at every piece.
    monkeypatch.setattr(pieces, "RENEWED_AFTER", -1)
    ring = OLD
    async with open_test_hub(url, keyring=ring) as hub:
        workers = (hold, hold, save)
        rounds = Rounds([0] * len(workers))
        tasks = [asyncio.create_task(work(hub, rounds, number)) for number, work in enumerate(workers)]
        try:
            for number in range(ROTATIONS):
                ring = await asyncio.wait_for(rotated(hub, ring, f"k{number}", rounds), 30)
        finally:
            rounds.over = True
            done = await asyncio.gather(*tasks)
        assert min(done) >= ROTATIONS
        assert (await kids_in_store(hub))[0] == {f"k{ROTATIONS - 1}"}


class Failing(DelegatingBackend):
    """Fails from the n-th write on, or loses its reply."""

    def __init__(self, inner):
        super().__init__(inner)
        self.left = None

    async def around(self, operation, call):
        if operation in {"put", "put_many"} and self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise BackendUnavailable("cut", self.name, retryable=False)
        return await call()


@pytest.mark.parametrize("backend", ["sqlite"])
async def test_a_rekey_that_ends_anywhere_is_taken_up_again(backend, url):
    failing = Failing(backend_from_url(url))
    async with open_test_hub(failing, keyring=OLD) as hub:
        made = await fill(hub)
        hub.use_keyring(BOTH)
        before = or_raise(await Maintenance(hub).key_use()).records["old"]
        rounds = 0
        while True:
            failing.left = 2
            done = await Maintenance(hub).rekey()
            failing.left = None
            rounds += 1
            assert isinstance(done, Success) or isinstance(done.failure(), BackendUnavailable)
            left = or_raise(await Maintenance(hub).key_use()).records.get("old", 0)
            assert left <= before
            before = left
            if isinstance(done, Success):
                break
        assert (left, rounds > 5) == (0, True)
        or_raise(await Maintenance(hub).retire("old", wait=AT_ONCE))
        await check(hub, made)


@pytest.mark.parametrize("backend", ["memory"])
async def test_a_rekey_can_be_cancelled_at_any_await(url):
    async with open_test_hub(url, keyring=OLD) as hub:
        new = or_raise(await hub.suspend("s", awaiting=CONFIRM))
        await Stores(hub).values("v").save("k", "v" * 40_000)
        hub.use_keyring(BOTH)
        for steps in range(60):
            task = asyncio.create_task(Maintenance(hub).rekey())
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait({task})
            if not task.cancelled():
                break
        assert or_raise(await Maintenance(hub).rekey()).problems == {}
        or_raise(await Maintenance(hub).retire("old", wait=AT_ONCE))
        assert or_raise(await hub.resume(new.key, True)).state == "s"
        assert (await Stores(hub).values("v").load("k")).value == "v" * 40_000


@pytest.mark.parametrize("backend", ["memory"])
async def test_entries_of_a_retired_key_are_still_refused_where_they_are_altered(url):
    async with open_test_hub(url, keyring=OLD) as hub:
        new = or_raise(await hub.suspend(1, awaiting=CONFIRM))
        hub.use_keyring(BOTH)
        or_raise(await Maintenance(hub).rekey())
        or_raise(await Maintenance(hub).retire("old", wait=AT_ONCE))
        assert [one.verb for one in or_raise(await hub.history(new.id))] == ["suspend"]
        or_raise(await hub.answer(new.key, True))
        assert [one.verb for one in or_raise(await hub.history(new.id))] == ["suspend", "answer"]
        # Without what verifies them they are refused.
        kept = (await hub.backend.query("default.audit-keys", Where(), limit=9)).items
        for record in kept:
            await hub.backend.delete(record.ref)
        hub.use_keyring(KeyRing(dict(NEW.keys)))
        assert isinstance((await hub.history(new.id)).failure(), UnknownKey)
