"""The audit trails of purged suspensions on every backend: kept whatever ends a removal, for as long as was said."""

from __future__ import annotations

import json
import os
from datetime import timedelta

import pytest
from returns.result import Failure

from flowpersist import AwaitInput, Criteria, KeyRing, Maintenance, Principal, or_raise
from flowpersist.backends.base import RecordChange, RecordRef, Where
from flowpersist.backends.kit import DelegatingBackend
from flowpersist.backends.registry import backend_from_url
from flowpersist.errors import IntegrityError, SuspensionNotFound, TamperedEnvelope
from flowpersist.hub import Audit, check_export
from flowpersist.hub.purged_trails import head_of
from flowpersist.keys import NoteSigner, SuspensionKey
from flowpersist.lifecycle.proving import verify_receipt
from flowpersist.testing.hubs import open_test_hub, travel

ASK = AwaitInput("pay", "Pay?", schema=bool)
ANN, BEN = Principal("ann", name="Ann Lee"), Principal("ben", name="Ben Ray")
RING = KeyRing.generate()
SIGNER = NoteSigner.generate("example.com/kept")
TRAILS, ENTRIES = "default.trails", "default.audit"
WEEK, YEARS = timedelta(days=8), timedelta(days=2558)


@pytest.fixture
async def hub(url):
    async with open_test_hub(url, keyring=RING) as opened:
        yield opened


async def closed(hub, pauses=1, **options):
    """A run of some pauses, each answered, that is complete; with the key of its first wait and that of its last."""
    new = first = or_raise(await hub.suspend("state", awaiting=ASK, by="asker", **options))
    for number in range(pauses):
        or_raise(await hub.answer(new.key, True, by=(ANN, BEN)[number % 2]))
        run = or_raise(await hub.claim(new.key))
        if number < pauses - 1:
            new = or_raise(await hub.suspend_next(run, number, awaiting=ASK))
    or_raise(await hub.complete(run))
    return first, new


async def purged(hub):
    travel(hub, WEEK)
    return or_raise(await Maintenance(hub).cleanup())


async def stored(hub, namespace):
    return (await hub.backend.query(namespace, Where(), limit=500, bodies=True)).items


async def export(hub):
    lines = [or_raise(line) async for line in Audit(hub, SIGNER).export()]
    return lines, check_export(lines, SIGNER.verifier)


async def test_the_history_of_a_purged_suspension_is_what_it_was(hub):
    # More entries than a head keeps, and more receipts.
    first, last = await closed(hub, 12)
    whole = or_raise(await hub.history(last.id))
    assert len(whole) > 16
    assert await stored(hub, ENTRIES)
    assert or_raise(await Maintenance(hub).health()).trails == 0
    assert (await purged(hub)).deleted == 1
    assert or_raise(await Maintenance(hub).health()).trails == 1
    for namespace in ("default", ENTRIES, "default.receipts"):
        assert not await stored(hub, namespace)
    for key in (first.key, last.key, str(last.key), last.id):
        assert or_raise(await hub.history(key)) == whole
    told = await hub.inspect(last.key)
    assert isinstance(told.failure(), SuspensionNotFound)


async def test_another_secret_and_an_authorizer_get_none(url, hub):
    _, last = await closed(hub)
    await purged(hub)
    forged = SuspensionKey(last.id, bytes(len(last.key.secret)), last.key.prefix)
    refused = await hub.history(forged)
    assert isinstance(refused.failure(), SuspensionNotFound)

    async def everybody(*_):
        return True

    async with open_test_hub(url, keyring=RING, authorizer=everybody) as judged:
        for key in (last.key, last.id):
            assert isinstance((await judged.history(key)).failure(), SuspensionNotFound)


async def test_control_keys_alone_keep_and_read_a_trail(url, hub):
    _, last = await closed(hub)
    whole = or_raise(await hub.history(last.id))
    async with open_test_hub(url, keyring=RING.control_only()) as control:
        assert (await purged(control)).deleted == 1
        assert or_raise(await control.history(last.key)) == whole
    assert or_raise(await hub.history(last.key)) == whole


class Killed(BaseException):
    """Ends a process: no handler runs."""


class Mortal(DelegatingBackend):
    """Ends the process before or after the write of that number."""

    forwarded = frozenset()
    left = None
    after = False

    async def around(self, operation, call):
        if self.left is None or operation not in {"put", "delete", "purge", "put_many"}:
            return await super().around(operation, call)
        self.left -= 1
        if self.left == 0 and not self.after:
            raise Killed
        done = await super().around(operation, call)
        if self.left == 0:
            raise Killed
        return done


async def test_a_removal_that_ends_at_any_write_loses_no_entry(url):
    """Before each one: what is stored then is also what is stored where it ends after the write before that."""
    mortal = Mortal(backend_from_url(url))
    async with open_test_hub(mortal, keyring=RING) as hub:
        kept = {}
        for number in range(1, 100):
            _, last = await closed(hub, 9)
            kept[last.id] = or_raise(await hub.history(last.id))
            or_raise(await Maintenance(hub).append_log())
            travel(hub, WEEK)
            mortal.left = number
            try:
                or_raise(await Maintenance(hub).cleanup())
            except Killed:
                ended = True
            else:
                ended = False
            mortal.left = None
            assert or_raise(await hub.history(last.id)) == kept[last.id]
            assert (await export(hub))[1].problems == ()
            or_raise(await Maintenance(hub).cleanup())
            assert or_raise(await hub.history(last.id)) == kept[last.id]
            if not ended:
                break
        for id_, whole in kept.items():
            assert or_raise(await hub.history(id_)) == whole
        # The trail, what stands beside the suspension, and itself.
        assert number > 5
        assert not await stored(hub, "default")
        assert not await stored(hub, ENTRIES)
        _, report = await export(hub)
        assert (report.problems, report.trails, report.purged) == ((), number, number)
        assert or_raise(await Maintenance(hub).verify()).clean


@pytest.mark.parametrize("writes", [1, 2])
async def test_what_is_refused_after_a_removal_has_ended_in_between_is_kept_too(url, writes):
    mortal = Mortal(backend_from_url(url))
    async with open_test_hub(mortal, keyring=RING) as hub:
        _, last = await closed(hub, 9)
        travel(hub, WEEK)
        before = or_raise(await hub.history(last.id))
        mortal.left, mortal.after = writes, True
        with pytest.raises(Killed):
            await Maintenance(hub).cleanup()
        mortal.left = None
        assert len(await stored(hub, TRAILS)) == 1
        refused = (await hub.answer(last.key, False, by=ANN)).failure()
        whole = or_raise(await hub.history(last.id))
        # After the second write it is gone for every verb, and so it gets no entry.
        assert isinstance(refused, SuspensionNotFound) is (writes == 2)
        assert len(whole) - len(before) == (writes == 1)
        assert (whole[-1].refusal is not None) is (writes == 1)
        assert or_raise(await Maintenance(hub).cleanup()).deleted == 1
        assert or_raise(await hub.history(last.key)) == whole


async def test_a_trail_goes_when_its_own_time_is_over(url, hub):
    _, last = await closed(hub)
    or_raise(await Maintenance(hub).append_log())
    assert (await purged(hub)).trails == 0
    travel(hub, YEARS)
    dry = or_raise(await Maintenance(hub).cleanup(dry_run=True))
    assert (dry.deleted, dry.trails) == (0, 1)
    assert or_raise(await hub.history(last.id))
    assert or_raise(await Maintenance(hub).cleanup(Criteria(tenant="another"))).trails == 0
    assert or_raise(await Maintenance(hub).cleanup()).trails == 1
    assert isinstance((await hub.history(last.id)).failure(), SuspensionNotFound)
    assert not await stored(hub, TRAILS)
    assert (await export(hub))[1].problems == ()


@pytest.mark.parametrize(("retention", "left"), [(None, 1), (timedelta.max, 1), (timedelta(0), 0)])
async def test_trails_are_kept_for_ever_or_not_at_all(url, retention, left):
    async with open_test_hub(url, keyring=RING, audit_retention=retention) as hub:
        await closed(hub)
        await purged(hub)
        travel(hub, YEARS * 10)
        or_raise(await Maintenance(hub).cleanup())
        assert len(await stored(hub, TRAILS)) == left


async def test_each_suspension_of_an_id_has_its_own_trail(hub):
    _, old = await closed(hub, idempotency_key="once")
    before = or_raise(await hub.history(old.id))
    or_raise(await Maintenance(hub).append_log())
    await purged(hub)
    _, new = await closed(hub, 2, idempotency_key="once")
    assert new.id == old.id
    after = or_raise(await hub.history(new.id))
    assert or_raise(await hub.history(old.key)) == before
    assert (await export(hub))[1].problems == ()
    await purged(hub)
    assert or_raise(await hub.history(new.id)) == or_raise(await hub.history(new.key)) == after
    assert or_raise(await hub.history(old.key)) == before
    _, report = await export(hub)
    assert (report.problems, report.trails, report.uncovered) == ((), 2, 0)


@pytest.mark.parametrize("logged", [True, False])
async def test_a_receipt_is_made_and_verified_after_the_purge(hub, logged):
    _, last = await closed(hub)
    if logged:
        or_raise(await Maintenance(hub).append_log())
    await purged(hub)
    for key in (last.key, last.id):
        document = json.loads(json.dumps(or_raise(await Audit(hub, SIGNER).receipt(key))))
        proven = or_raise(verify_receipt(document, SIGNER.verifier))
        assert (proven.suspension, len(proven.entries)) == (last.id, len(or_raise(await hub.history(last.id))))
        assert or_raise(await Audit(hub, SIGNER).prove(key))["leaf"] == document["leaf"]
    assert (await export(hub))[1].problems == ()
    travel(hub, YEARS)
    or_raise(await Maintenance(hub).cleanup())
    assert (await export(hub))[1].problems == ()


async def test_what_is_done_to_a_kept_trail_is_found(hub):
    _, last = await closed(hub, 9)
    or_raise(await Maintenance(hub).append_log())
    await purged(hub)
    (record,) = await stored(hub, TRAILS)

    async def found():
        told = await hub.history(last.id)
        assert isinstance(told, Failure)
        assert not or_raise(await Maintenance(hub).verify()).clean

    revision = record.revision
    for place in (0, len(record.body) // 2, len(record.body) - 1):
        altered = bytearray(record.body)
        altered[place] ^= 1
        change = RecordChange(f"altered{place}", body=bytes(altered))
        revision = (await hub.backend.put(record.ref, change, if_revision=revision)).revision
        await found()
    # An older trail of the same suspension, sealed as it should be, in its place.
    purged_trails = hub.suspensions.side_records.trail.purged
    whole = RecordChange("whole", body=record.body)
    await hub.backend.put(record.ref, whole, if_revision=revision)
    loaded = or_raise(await purged_trails.records.read(record.ref.key, body=True)).record
    links = or_raise(await purged_trails.links_in(loaded))
    altered = bytearray(links[1])
    altered[-1] ^= 1
    wrongs = {IntegrityError: (*links[:3], *links[4:]), TamperedEnvelope: (links[0], bytes(altered), *links[2:])}
    for kind, wrong in wrongs.items():
        draft = await purged_trails.draft(loaded, loaded.head.trail, wrong, None)
        or_raise(await purged_trails.records.put(record.ref.key, draft, revision=None))
        assert isinstance((await hub.history(last.id)).failure(), kind)
        assert not or_raise(await Maintenance(hub).verify()).clean


async def test_a_suspension_whose_trail_cant_be_read_stays(url, hub, caplog):
    _, last = await closed(hub, 12)
    _, other = await closed(hub)
    record = (await stored(hub, ENTRIES))[0]
    await hub.backend.put(record.ref, RecordChange("x", head=b"nothing"), if_revision=record.revision)
    assert (await purged(hub)).deleted == 1
    assert f"suspension {last.id} is not deleted" in caplog.text
    assert or_raise(await hub.inspect(last.id)).status == "completed"
    assert or_raise(await hub.history(other.id))
    async with open_test_hub(url, keyring=RING, audit_retention=timedelta(0)) as regardless:
        assert (await purged(regardless)).deleted == 1


async def told(hub, id_):
    return [(one.verb, one.by and one.by.subject, one.removed) for one in or_raise(await hub.history(id_))]


@pytest.mark.parametrize("way", ["tenant", "suspension", "subject"])
async def test_names_are_stripped_from_kept_trails(hub, way):
    _, mine = await closed(hub, 3, tenant="acme")
    _, other = await closed(hub, 3, tenant="other", idempotency_key="other")
    or_raise(await Maintenance(hub).append_log())
    await purged(hub)
    before = await told(hub, other.id)
    asked = {
        "tenant": {"criteria": Criteria(tenant="acme")},
        "suspension": {"suspension": mine.id},
        "subject": {"criteria": Criteria(tenant="acme"), "subject": "ann"},
    }[way]
    maintenance = Maintenance(hub)
    dry = or_raise(await maintenance.strip_audit(**asked, dry_run=True))
    done = or_raise(await maintenance.strip_audit(**asked, by="dpo", reason="asked to"))
    assert (dry.suspensions, dry.entries) == (done.suspensions, done.entries) == (1, 2 if way == "subject" else 4)
    after = await told(hub, mine.id)
    assert after[-1] == ("strip", "dpo", False)
    names = [who for _, who, _ in after[:-1] if who is not None]
    assert names == (["asker", "ben"] if way == "subject" else [])
    assert await told(hub, other.id) == before
    raw = or_raise(await hub.suspensions.side_records.trail.purged.find(mine.id))[0]
    links = b"".join(or_raise(await hub.suspensions.side_records.trail.purged.links(head_of(raw))))
    assert b"Ann Lee" not in links
    assert or_raise(await maintenance.strip_audit(**asked | {"subject": "ann"})).entries == 0
    assert or_raise(await maintenance.verify()).clean
    _, report = await export(hub)
    assert (report.problems, report.uncovered) == ((), 1)
    document = or_raise(await Audit(hub, SIGNER).receipt(mine.id))
    assert len(or_raise(verify_receipt(document, SIGNER.verifier)).entries) == len(after)
    assert (await export(hub))[1].uncovered == 0


async def test_stripping_reaches_both_where_a_removal_has_ended_in_between(url):
    mortal = Mortal(backend_from_url(url))
    async with open_test_hub(mortal, keyring=RING) as hub:
        _, last = await closed(hub, 9)
        travel(hub, WEEK)
        mortal.left, mortal.after = 1, True
        with pytest.raises(Killed):
            await Maintenance(hub).cleanup()
        mortal.left = None
        assert len(await stored(hub, TRAILS)) == 1
        done = or_raise(await Maintenance(hub).strip_audit(suspension=last.id, by="dpo"))
        assert done.suspensions == 1
        assert (await told(hub, last.id))[-1][0] == "strip"
        whole = or_raise(await hub.history(last.id))
        assert or_raise(await Maintenance(hub).cleanup()).deleted == 1
        assert or_raise(await hub.history(last.id)) == whole
        assert {who for _, who, _ in (await told(hub, last.id))[:-1]} == {None}


async def test_kept_trails_are_rekeyed_and_their_old_key_retired(hub):
    _, last = await closed(hub, 9)
    whole = or_raise(await hub.history(last.id))
    await purged(hub)
    maintenance = Maintenance(hub)
    old = RING.primary
    hub.use_keyring(RING.add("next", os.urandom(32)).promote("next"))
    assert or_raise(await maintenance.key_use()).records[old] >= 1
    or_raise(await maintenance.rekey())
    assert old not in or_raise(await maintenance.key_use()).records
    or_raise(await maintenance.retire(old, wait=timedelta(0)))
    assert or_raise(await hub.history(last.key)) == whole


async def test_kept_trails_are_exported_imported_and_copied(url, hub, tmp_path):
    _, last = await closed(hub, 9, tenant="acme")
    _, other = await closed(hub, tenant="other")
    whole = or_raise(await hub.history(last.id))
    await purged(hub)
    maintenance = Maintenance(hub)
    for name, asked in (("one", {"suspension": last.id}), ("all", {"tenant": "acme"})):
        or_raise(await maintenance.export(tmp_path / name, **asked))
        async with open_test_hub(keyring=RING) as there:
            assert or_raise(await Maintenance(there).import_(tmp_path / name)).created >= 1
            assert or_raise(await there.history(last.key)) == whole
            assert isinstance((await there.history(other.id)).failure(), SuspensionNotFound)
            assert or_raise(await Maintenance(there).import_(tmp_path / name)).created == 0
    to = f"sqlite:///{tmp_path}/copied.db"
    or_raise(await maintenance.copy(to))
    async with open_test_hub(to, keyring=RING) as there:
        assert or_raise(await there.history(last.key)) == whole
        assert or_raise(await Maintenance(there).verify()).clean


async def test_a_repair_mends_what_stands_beside_a_kept_trail(hub):
    await closed(hub, tenant="acme")
    await purged(hub)
    (record,) = await stored(hub, TRAILS)
    change = RecordChange("x", attributes={"suspension": "another", "tenant": "acme"}, due_at=None)
    await hub.backend.put(RecordRef(TRAILS, record.ref.key), change, if_revision=record.revision)
    found = or_raise(await Maintenance(hub).verify(repair=True))
    assert dict(found.found) == dict(found.repaired) == {"columns": 1}
    (mended,) = await stored(hub, TRAILS)
    assert (mended.attributes, mended.due_at) == (record.attributes, record.due_at)


async def test_what_has_no_entries_leaves_no_trail(url):
    async with open_test_hub(url, keyring=RING, audit=False) as hub:
        await closed(hub)
        await purged(hub)
        assert not await stored(hub, TRAILS)
