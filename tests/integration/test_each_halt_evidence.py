"""The trail of the halts on every backend: delivered to sinks, stripped of names, and in the log of heads."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from flowpersist import Criteria, KeyRing, Maintenance, Principal, or_raise
from flowpersist.backends.base import Where
from flowpersist.errors import TamperedEnvelope, ValueNotFound
from flowpersist.hub import HaltEntry, halt_trail, halting
from flowpersist.hub.audit import Audit
from flowpersist.keys.signed_note import NoteSigner
from flowpersist.lifecycle.evidence import HALTS_ID
from flowpersist.lifecycle.exports import check_export
from flowpersist.lifecycle.model import replace
from flowpersist.lifecycle.proving import verify_halts
from flowpersist.sealed.drafts import Draft
from flowpersist.testing.hubs import open_test_hub

RING = KeyRing.generate()
SIGNER = NoteSigner.generate("example.com/halts")
ANN = Principal("ann", name="Ann Lee")


@pytest.fixture(autouse=True)
def brief(monkeypatch):
    monkeypatch.setattr(halting, "BOUND", timedelta(milliseconds=20))
    monkeypatch.setattr(halt_trail, "MOST_LINKS", 4)


class Sink:
    def __init__(self, name="kept"):
        self.name, self.taken, self.failing = name, [], False

    async def deliver(self, entries):
        if self.failing:
            raise OSError("full")
        self.taken += entries

    @property
    def ids(self):
        return [one.id for one in self.taken]


async def halted_and_lifted(hub, times=1, tenant=None):
    for _ in range(times):
        halt = or_raise(await Maintenance(hub).halt(Criteria(tenant=tenant), "prices are wrong", ANN))
        or_raise(await Maintenance(hub).lift(halt, "mended", "ben"))


async def exported(hub):
    return [or_raise(line) async for line in Audit(hub, SIGNER).export()]


async def test_each_entry_of_the_halts_is_delivered_and_by_others_goes_on(url):
    sink, again = Sink(), Sink()
    async with open_test_hub(url, keyring=RING) as hub:
        await halted_and_lifted(hub, 3)
        known = [one.id for one in or_raise(await Maintenance(hub).halt_history())]
        maintenance = Maintenance(hub)
        sink.failing = True
        assert (await maintenance.deliver(sink)).failure().retryable
        sink.failing = False
        assert or_raise(await maintenance.deliver(sink)) == 6
        assert sink.ids == known
        assert {type(one) for one in sink.taken} == {HaltEntry}
        assert or_raise(await maintenance.deliver(sink)) == 0
        await halted_and_lifted(hub)
        assert or_raise(await maintenance.deliver(sink)) == 2
        await maintenance._deliveries.to(sink).release()
        assert or_raise(await Maintenance(hub).deliver(again)) == 0
        assert len(set(sink.ids)) == len(sink.ids) == 8


async def test_names_and_reasons_are_stripped_and_the_trail_verifies(url):
    async with open_test_hub(url, keyring=RING) as hub:
        await halted_and_lifted(hub, 3, tenant="acme")
        await halted_and_lifted(hub, 1, tenant="bolt")
        maintenance = Maintenance(hub)
        assert or_raise(await maintenance.strip_audit(Criteria(tenant="acme"), dry_run=True)).halts == 6
        done = or_raise(await maintenance.strip_audit(Criteria(tenant="acme"), subject="ann", by="dpo", reason="law"))
        assert (done.halts, done.entries, done.suspensions) == (3, 3, 0)
        past = or_raise(await maintenance.halt_history())
        assert [one.verb for one in past] == [*["halt", "lift"] * 4, "strip"]
        assert [one.removed for one in past] == [*[True, False] * 3, False, False, False]
        assert (past[-1].by, past[-1].reason) == (Principal("dpo"), "law")
        assert (past[0].by, past[0].reason, past[0].tenant) == (None, None, "acme")
        # Nothing is left to be stripped, and the trail goes on over it.
        assert or_raise(await maintenance.strip_audit(Criteria(tenant="acme"), subject="ann")).halts == 0
        await halted_and_lifted(hub, 3)
        assert len(or_raise(await maintenance.halt_history())) == 15
        assert or_raise(await maintenance.strip_audit(Criteria(tenant="acme", tool="x"))).halts == 0
        assert or_raise(await maintenance.strip_audit(subject="ben")).halts == 7


async def test_the_log_has_the_halts_and_an_export_and_a_receipt_prove_them(url):
    async with open_test_hub(url, keyring=RING) as hub:
        evidence, maintenance = Audit(hub, SIGNER), Maintenance(hub)
        assert isinstance((await evidence.halts()).failure(), ValueNotFound)
        await halted_and_lifted(hub, 3)
        assert or_raise(await maintenance.append_log()) == 1
        assert or_raise(await maintenance.append_log()) == 0
        await halted_and_lifted(hub)
        receipt = or_raise(await evidence.halts())
        proven = or_raise(verify_halts(json.loads(json.dumps(receipt)), SIGNER.verifier))
        assert proven.entries == or_raise(await maintenance.halt_history())
        report = check_export(await exported(hub), SIGNER.verifier)
        assert (report.sound, report.leaves, report.trails, report.entries) == (True, 2, 1, 8)
        # Stripping changes no link's digest.
        or_raise(await maintenance.strip_audit(subject="ann"))
        assert check_export(await exported(hub), SIGNER.verifier).sound


async def test_halts_that_were_removed_or_altered_are_found(url):
    async with open_test_hub(url, keyring=RING) as hub:
        await halted_and_lifted(hub, 3)
        evidence = Audit(hub, SIGNER)
        receipt = or_raise(await evidence.halts())
        for damage in (
            lambda data: data["entries"].pop(),
            lambda data: data["entries"].reverse(),
            lambda data: data["entries"][0]["entry"].update(reason="another"),
            lambda data: data["halts"].update(made=data["halts"]["made"] + 1),
            lambda data: data.update(namespace="other"),
        ):
            altered = json.loads(json.dumps(receipt))
            damage(altered)
            assert isinstance(verify_halts(altered, SIGNER.verifier).failure(), TamperedEnvelope)
        lines = await exported(hub)
        shorter = [line for line in lines if json.loads(line)["type"] not in {"halts", "entry"}]
        assert any("halts" in one.message for one in check_export(shorter, SIGNER.verifier).problems)
        # Whoever writes the store deletes the record of the halts, and with it who has halted what.
        (record,) = (await hub.backend.query("default.halts", Where(), limit=5)).items
        assert await hub.backend.delete(record.ref, if_revision=record.revision)
        report = check_export(await exported(hub), SIGNER.verifier)
        assert ["halts" in one.message for one in report.problems] == [True]


async def test_a_record_that_had_no_digest_gets_one(url):
    async with open_test_hub(url, keyring=RING) as hub:
        await halted_and_lifted(hub, 3)
        records = hub.suspensions.halts.records[0]
        record = or_raise(await records.read("halts")).record
        digest = record.head.trail.digest
        older = replace(record.head, trail=replace(record.head.trail, digest=b""))
        draft = Draft(older, {}, None)
        or_raise(await records.put("halts", draft, revision=record.revision, mark=record.mark))
        leaf = or_raise(await hub.suspensions.halts.trail.leaf())
        assert (leaf.id, leaf.digest, leaf.count) == (HALTS_ID, digest, 6)
        await halted_and_lifted(hub)
        assert verify_halts(or_raise(await Audit(hub, SIGNER).halts()), SIGNER.verifier).unwrap().index == 0
