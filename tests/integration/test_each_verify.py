"""``Maintenance.verify``: what somebody has altered beside a seal hides a run, is found, and is mended, on every
backend; what is damaged is told and left alone.
"""

from __future__ import annotations

import os
from datetime import timedelta

import pytest
import redis.asyncio
from returns.result import Failure

from filling import TEXT, answered, filled
from flowpersist import KeyRing, Maintenance, Status, or_raise
from flowpersist.backends.base import RecordChange, RecordRef, Where
from flowpersist.hub.large_answers import GRACE
from flowpersist.keys.suspension_key import SuspensionId
from flowpersist.lifecycle.criteria import Criteria
from flowpersist.testing.hubs import open_test_hub, travel
from machine import WITH_MEMORY

WEEKS = timedelta(days=15)
#: What no backend has a part in.
LOGIC = pytest.mark.parametrize("backend", ["memory", "sqlite"])


@pytest.fixture(params=WITH_MEMORY)
def backend(request):
    """The name of each backend, memory too."""
    return request.param


@pytest.fixture
def store(backend, request):
    """The URL of the store."""
    return "memory://" if backend == "memory" else request.getfixturevalue("url")


@pytest.fixture
async def hub(store):
    async with open_test_hub(store, keyring=KeyRing.generate()) as opened:
        yield opened


async def verified(hub, **options):
    return or_raise(await Maintenance(hub).verify(**options))


def problems(made):
    return sorted((one.problem, one.kind) for one in made.findings)


async def altered(hub, namespace, key, **change):
    """Write through the primitive, as whoever can write the database may."""
    ref = RecordRef(namespace, str(key))
    record = (await hub.backend.get(ref)).record
    made = RecordChange(os.urandom(8).hex(), **{name: change[name](record) for name in change})
    await hub.backend.put(ref, made, if_revision=record.revision)


async def test_a_store_that_nobody_has_touched_is_clean_and_stays_as_it_is(hub):
    await filled(hub)
    or_raise(await Maintenance(hub).append_log())
    before = (await hub.backend.query("default", Where(), limit=100, bodies=True)).items
    made = await verified(hub)
    assert (made.findings, made.clean, dict(made.unopened)) == ((), True, {})
    assert made.records["suspension"] == 3
    assert {"answer", "audit", "collection", "log", "value"} <= made.records.keys()
    assert (await hub.backend.query("default", Where(), limit=100, bodies=True)).items == before
    assert (await verified(hub, read_data=False)).clean
    # Of another process that has no key, checksums alone.
    hub.use_keyring(None)
    blind = await verified(hub)
    assert blind.clean
    assert blind.unopened["suspension"] == 3


async def test_an_altered_column_hides_a_run_until_verify_mends_it(hub):
    new = await answered(hub)
    await altered(
        hub,
        "default",
        new.id,
        attributes=lambda record: {**record.attributes, "status": "completed", "live": False, "run": "forged"},
        due_at=lambda _: None,
    )
    # Hidden from lists, workers and maintenance; its own key still finds it.
    assert or_raise(await hub.query(Criteria(status=Status.ANSWERED))).items == ()
    assert or_raise(await hub.claim_due()) == ()
    assert or_raise(await Maintenance(hub).tick()).updated == 0
    assert or_raise(await hub.inspect(new.id)).status is Status.ANSWERED
    found = await verified(hub)
    assert problems(found) == [("columns", "suspension")]
    (finding,) = found.findings
    assert finding.ref == RecordRef("default", str(new.id))
    assert all(name in finding.message for name in ("status", "live", "run", "due"))
    assert not found.clean
    assert or_raise(await hub.claim_due()) == ()
    mended = await verified(hub, repair=True)
    assert (problems(mended), mended.clean, dict(mended.repaired)) == (problems(found), True, {"columns": 1})
    assert (await verified(hub)).findings == ()
    assert [one.id for one in or_raise(await hub.query(Criteria(status=Status.ANSWERED))).items] == [new.id]
    (run,) = or_raise(await hub.claim_due())
    assert (run.suspension.id, run.answer, run.state) == (new.id, "done", {"pause": 1})


@pytest.mark.parametrize("backend", ["redis"])
async def test_an_index_entry_that_is_gone_hides_a_run_until_verify_mends_it(hub, server, prefix):
    new = await answered(hub)
    removed = 0
    async with redis.asyncio.Redis.from_url(server("redis")) as client:
        async for name in client.scan_iter(f"{{{prefix}:default:*}}*:status=sanswered"):
            removed += sum([await client.zrem(name, one) for one in await client.zrange(name, 0, -1)])
    assert removed
    assert or_raise(await hub.claim_due()) == ()
    assert problems(await verified(hub)) == [("index", "suspension")]
    assert (await verified(hub, repair=True)).clean
    assert (await verified(hub)).findings == ()
    assert [run.suspension.id for run in or_raise(await hub.claim_due())] == [new.id]


@LOGIC
async def test_columns_of_all_other_kinds_are_held_against_their_seals_too(hub):
    await filled(hub)
    kinds = {"audit": "default.audit", "answer": "default.answers", "collection": "default.collections"}
    kinds["value"] = "default.values.small"
    for namespace in kinds.values():
        record = (await hub.backend.query(namespace, Where(), limit=1)).items[0]
        await altered(hub, namespace, record.ref.key, attributes=lambda record: {**record.attributes, "extra": 1})
    await altered(hub, "default.values.small", record.ref.key, due_at=lambda _: None)
    assert problems(await verified(hub)) == [("columns", kind) for kind in sorted(kinds)]
    assert (await verified(hub, repair=True)).clean
    assert (await verified(hub)).findings == ()


@LOGIC
async def test_damage_is_told_and_left_to_a_backup(hub):
    first, second, third = [await answered(hub) for _ in range(3)]
    await altered(hub, "default", first.id, head=lambda record: record.head[:-9] + b"x" + record.head[-8:])
    await altered(hub, "default", second.id, body=lambda record: record.body[:-9] + b"x" + record.body[-8:])
    await altered(hub, "default", third.id, attributes=lambda record: {**record.attributes, "tenant": "other"})
    made = await verified(hub, repair=True)
    assert sorted((one.problem, one.code) for one in made.findings) == [
        ("body", "tampered"),
        ("head", "corrupted"),
        ("head", "tampered"),
    ]
    assert not made.clean
    assert dict(made.repaired) == {}
    assert problems(await verified(hub, read_data=False)) == [("head", "suspension")] * 2
    # A checksum needs no key: of the body, whose end is the mark, and of the first head.
    hub.use_keyring(None)
    assert [one.code for one in (await verified(hub)).findings] == ["corrupted", "corrupted"]


@LOGIC
async def test_what_a_suspension_has_lost_is_missing_and_what_it_left_is_an_orphan(hub):
    new = await filled(hub)
    for namespace in ("default.answers", "default.audit"):
        for record in (await hub.backend.query(namespace, Where(), limit=100)).items:
            await hub.backend.delete(record.ref)
    made = await verified(hub, repair=True)
    assert problems(made) == [("missing", "suspension"), ("trail", "suspension")]
    assert not made.clean
    other = await answered(hub, pauses=8, text="large " * 3000)
    for id_ in (new.id, other.id):
        await hub.backend.delete(RecordRef("default", str(id_)))
    found = await verified(hub)
    assert set(problems(found)) == {("orphan", "answer"), ("orphan", "audit")}
    assert (await verified(hub, repair=True)).clean
    assert (await verified(hub)).findings == ()
    assert (await hub.backend.query("default.audit", Where(), limit=10)).items == ()


@LOGIC
async def test_an_answer_that_nobody_names_and_no_sweep_finds_is_left_to_the_next_sweep(hub):
    new = await answered(hub)
    named = or_raise(await hub.suspend(1, awaiting=TEXT))
    or_raise(await hub.answer(named.key, "large " * 3000))
    head = or_raise(await hub.suspensions.look("inspect", new.id)).head
    or_raise(await hub.suspensions.side_records.answers.store(head, "never named", 20, new.created_at))
    (stray,) = (
        record.ref.key
        for record in (await hub.backend.query("default.answers", Where(), limit=10)).items
        if record.ref.key.startswith(str(new.id))
    )
    await altered(hub, "default.answers", stray, due_at=lambda _: None)
    assert (await verified(hub)).findings == ()
    travel(hub, 2 * GRACE)
    assert problems(await verified(hub)) == [("orphan", "answer")]
    assert (await verified(hub, repair=True)).clean
    travel(hub, 2 * GRACE)
    assert (await verified(hub, repair=True)).swept == 1
    assert len((await hub.backend.query("default.answers", Where(), limit=10)).items) == 1


@LOGIC
async def test_with_the_control_key_heads_are_opened_and_bodies_checked_by_their_marks(hub):
    ring = KeyRing.generate()
    hub.use_keyring(ring)
    new = await answered(hub)
    hub.use_keyring(ring.control_only())
    made = await verified(hub)
    assert (made.clean, dict(made.unopened)) == (True, {"suspension": 1})
    await altered(hub, "default", new.id, attributes=lambda record: {**record.attributes, "live": False})
    assert (await verified(hub, repair=True)).clean
    # A key that the ring does not have is a finding: this process should be able to read it.
    hub.use_keyring(KeyRing.generate())
    assert {(one.problem, one.code) for one in (await verified(hub)).findings} == {("head", "unknown-key")}


@pytest.mark.parametrize("backend", ["memory"])
async def test_a_halt_is_a_record_like_the_others(hub):
    or_raise(await Maintenance(hub).halt(Criteria(tenant="other"), "a drill", "ana"))
    made = await verified(hub)
    assert (made.findings, made.records["halt"]) == ((), 1)
    await altered(hub, "default.halts", "halts", head=lambda record: record.head[:-1] + b"?")
    assert problems(await verified(hub)) == [("head", "halt")]


@LOGIC
async def test_findings_are_told_as_they_come_and_all_are_counted(hub):
    for _ in range(3):
        new = await answered(hub)
        await altered(hub, "default", new.id, due_at=lambda _: None)
    told = []
    made = await verified(hub, most=1, tell=told.append)
    assert (len(told), len(made.findings), dict(made.found)) == (3, 1, {"columns": 3})


@LOGIC
async def test_a_suspension_that_is_closed_and_cleaned_up_leaves_nothing_to_find(hub):
    new = await filled(hub)
    or_raise(await hub.cancel(new.id))
    travel(hub, WEEKS)
    or_raise(await Maintenance(hub).cleanup())
    made = await verified(hub)
    assert made.findings == ()
    assert isinstance(await hub.inspect(SuspensionId.parse(str(new.id)).unwrap()), Failure)
