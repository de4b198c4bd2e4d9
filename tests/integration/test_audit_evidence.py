"""Exports, proofs and receipts: whatever is done to them, or to the store that they were made of, is detected with the
public key alone.

With FLOWPERSIST_LONG=1 it is done to each of 1,000 entries.
"""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import os
from datetime import timedelta

import pytest
from returns.result import Failure, Success

from flowpersist import AwaitInput, ConfigurationError, KeyRing, Maintenance, Principal, RaisingHub, or_raise
from flowpersist.backends.base import RecordChange, RecordRef, Where
from flowpersist.errors import IntegrityError, MalformedPayload, PermissionDenied, TamperedEnvelope
from flowpersist.hub import Audit
from flowpersist.inputs import Action
from flowpersist.keys import NoteSigner
from flowpersist.lifecycle.exports import check_export
from flowpersist.lifecycle.proving import verify_consistency, verify_inclusion, verify_receipt
from flowpersist.sealed.chain import without_private
from flowpersist.sealed.checkpoints import export_text, opened_checkpoint
from flowpersist.testing.hubs import open_test_hub, travel

LONG = os.environ.get("FLOWPERSIST_LONG") == "1"
#: Suspensions of a log, and the entries of each; and logs.
SUSPENSIONS, EACH = 4, 10
LOGS = 25 if LONG else 1
SIGNER = NoteSigner.generate("example.com/pay")
OTHER = NoteSigner.generate("example.com/pay")
ANN = Principal("ann", name="Ann Lee", roles=("lead",))
ACTION = Action("pay", {"eur": 40}, version="3", policy="limits-2")
ASK = AwaitInput(id="confirm", prompt="Pay?", schema=bool, action=ACTION)
RING = KeyRing.generate()


@pytest.fixture
async def hub():
    async with open_test_hub("memory://", keyring=RING) as opened:
        yield opened


async def filled(hub, suspensions=SUSPENSIONS, each=EACH):
    """Suspensions, each with that many entries."""
    made = [or_raise(await hub.suspend(number, awaiting=ASK, by="asker")) for number in range(suspensions)]
    for one in made:
        for _ in range(each - 2):
            or_raise(await hub.extend(one.id, timeout=timedelta(days=1), by="ben"))
        or_raise(await hub.answer(one.key, True, by=ANN))
    return made


async def exported(hub, signer=SIGNER):
    return [or_raise(line) async for line in Audit(hub, signer).export()]


def signed_again(lines):
    """The lines with the signature of an exporter who has found them so: what the log says must tell."""
    *before, last = lines
    data = hashlib.sha256("".join(line + "\n" for line in before).encode()).digest()
    end = json.loads(last)
    end["entries"] = sum(json.loads(line)["type"] == "entry" for line in before)
    end["trails"] = sum(json.loads(line)["type"] == "trail" for line in before)
    end["signature"] = SIGNER.signed(export_text("example.com/pay/default", data))
    return [*before, json.dumps(end)]


def checked(lines, kept=()):
    return check_export(lines, SIGNER.verifier, kept)


def first_problem(report):
    """What is said first; nothing where all is sound."""
    return str(next(iter(report.problems), ""))


def altered(line):
    """An entry with one bit of its facts flipped, and what it then says left out."""
    data = json.loads(line)
    link = bytearray(base64.b64decode(data["link"]))
    link[len(without_private(bytes(link))) - 1] ^= 1
    data["link"] = base64.b64encode(link).decode()
    return json.dumps(data)


def retold(line):
    """An entry that says that somebody else did it."""
    return line.replace('"ann"', '"eve"').replace('"ben"', '"eve"').replace('"asker"', '"eve"')


def counted(lines, place, by):
    """The lines with the trail before that place said to have so many more entries."""
    begin = max(at for at in range(place) if '"type":"trail"' in lines[at])
    data = json.loads(lines[begin])
    data["entries"] += by
    return [*lines[:begin], json.dumps(data), *lines[begin + 1 :]]


@pytest.mark.parametrize("_number", range(LOGS))
async def test_whatever_is_done_to_any_entry_of_an_export_is_detected(hub, _number):
    await filled(hub)
    lines = await exported(hub)
    whole = checked(lines)
    assert (whole.sound, whole.entries, whole.trails, whole.uncovered) == (True, SUSPENSIONS * EACH, SUSPENSIONS, 0)
    places = [at for at, line in enumerate(lines) if '"type":"entry"' in line]
    assert len(places) == SUSPENSIONS * EACH
    for at in places:
        line, rest = lines[at], lines[at + 1 :]
        following = next(other for other in range(at + 1, len(lines)) if '"type":"entry"' not in lines[other])
        done = {
            "altered": [*lines[:at], altered(line), *rest],
            "retold": [*lines[:at], retold(line), *rest],
            "deleted": counted([*lines[:at], *rest], at, -1),
            "repeated": counted([*lines[:at], line, line, *rest], at, 1),
            "moved": [*lines[:at], rest[0], line, *rest[1:]],
            "cut off": counted([*lines[:at], *lines[following:]], at, at - following),
        }
        for what, wrong in done.items():
            assert wrong != lines, what
            assert not checked(wrong).sound, (what, at)
            assert not checked(signed_again(wrong)).sound, (what, at)


async def test_whatever_is_done_to_any_line_that_is_no_entry_is_detected(hub):
    await filled(hub, 3, 2)
    lines = await exported(hub)
    for at, line in enumerate(lines):
        removed = [*lines[:at], *lines[at + 1 :]]
        flipped = [*lines[:at], line.replace("1", "2", 1), *lines[at + 1 :]]
        cut = lines[:at]
        for wrong in (removed, flipped, cut, [*lines[:at], line, *lines[at:]], [*lines[:at], "{}", *lines[at:]]):
            assert wrong == lines or not checked(wrong).sound
    for garbage in ("", "[]", "null", "{", "[" * 100_000, '{"type":"leaf"}', '{"type":{}}', "x" * 600_000, "\ud800"):
        assert not checked([garbage]).sound
        assert not checked([*lines, garbage]).sound
        assert not checked([lines[0], garbage, *lines[1:]]).sound
    assert checked([line + "\n" for line in lines]).sound


async def test_another_key_of_the_same_name_verifies_nothing(hub):
    new, *_ = await filled(hub, 1, 2)
    assert not check_export(await exported(hub), OTHER.verifier).sound
    receipt = or_raise(await Audit(hub, SIGNER).receipt(new.key))
    assert isinstance(verify_receipt(receipt, OTHER.verifier).failure(), TamperedEnvelope)


async def test_a_suspension_that_was_deleted_is_missed_and_one_that_was_removed_legally_is_not(hub):
    gone, legal, stays = await filled(hub, 3, 2)
    or_raise(await hub.cancel(legal.id))
    await exported(hub)
    travel(hub, timedelta(days=8))
    assert or_raise(await Maintenance(hub).cleanup()).deleted == 1
    report = checked(await exported(hub))
    # The trail of what was removed is kept.
    assert (report.sound, report.purged, report.trails) == (True, 1, 3)
    await hub.backend.delete(RecordRef("default", str(gone.id)))
    report = checked(await exported(hub))
    assert len(report.problems) == 1
    (problem,) = report.problems
    assert (report.sound, type(problem)) == (False, IntegrityError)
    assert f"suspension {gone.id} is in the log and has no trail" in str(problem)
    assert str(stays.id) not in str(problem)


async def test_a_suspension_that_was_put_back_and_written_on_is_detected(hub):
    (new,) = await filled(hub, 1, 3)
    ref = RecordRef("default", str(new.id))
    old = (await hub.backend.get(ref)).record
    or_raise(await hub.cancel(new.id))
    or_raise(await Maintenance(hub).append_log())
    current = (await hub.backend.get(ref)).record
    back = RecordChange("back", attributes=old.attributes, head=old.head)
    await hub.backend.put(ref, back, if_revision=current.revision)
    assert "ends after entry 3" in first_problem(checked(await exported(hub)))
    or_raise(await hub.claim(new.id, by="eve"))
    assert len(or_raise(await hub.history(new.id))) == 4
    report = checked(await exported(hub))
    assert "is not the one that the log has" in first_problem(report)


async def test_a_log_that_was_begun_anew_does_not_begin_with_the_checkpoint_that_was_kept(hub):
    await filled(hub, 5, 2)
    evidence = Audit(hub, SIGNER)
    assert or_raise(await evidence.append()) == 5
    note = or_raise(await evidence.checkpoint())
    kept = or_raise(opened_checkpoint(note, SIGNER.verifier))
    assert (kept.origin, kept.size) == ("example.com/pay/default", 5)
    await filled(hub, 2, 2)
    assert checked(await exported(hub), [kept]).sound
    document = or_raise(await evidence.consistency(note))
    assert or_raise(verify_consistency(document, SIGNER.verifier, kept))[1].size == 7
    for namespace in ("default.log", "default.log-tiles", "default.log-places"):
        await hub.backend.purge(namespace, Where(), limit=100)
    await filled(hub, 1, 2)
    report = checked(await exported(hub), [kept])
    assert "not those of the signed checkpoint" in first_problem(report)
    assert isinstance((await evidence.consistency(note)).failure(), TamperedEnvelope)
    assert isinstance((await evidence.consistency(OTHER.signed("x\n"))).failure(), TamperedEnvelope)


async def test_a_log_that_is_shorter_than_the_checkpoint_that_was_kept_is_detected(hub):
    await filled(hub, 2, 2)
    evidence = Audit(hub, SIGNER)
    or_raise(await evidence.append())
    note = or_raise(await evidence.checkpoint())
    kept = or_raise(opened_checkpoint(note, SIGNER.verifier))
    async with open_test_hub("memory://") as fresh:
        report = checked(await exported(fresh), [kept])
        assert "it was cut off" in first_problem(report)
        assert "was cut" in str((await Audit(fresh, SIGNER).consistency(note)).failure())


async def test_what_changes_and_goes_during_an_export_is_no_damage(hub):
    first, _, third = await filled(hub, 3, 2)
    or_raise(await hub.cancel(third.id))
    evidence = Audit(hub, SIGNER)
    lines = []
    async for line in evidence.export():
        lines.append(or_raise(line))
        if len(lines) == 2:
            travel(hub, timedelta(days=8))
            or_raise(await hub.extend(first.id, timeout=timedelta(days=2)))
            or_raise(await hub.suspend("new"))
            or_raise(await evidence.append())
            assert or_raise(await Maintenance(hub).cleanup()).deleted == 1
    report = checked(lines)
    assert (report.sound, report.purged, report.trails) == (True, 1, 4)
    assert report.problems == ()


async def test_a_receipt_says_who_decided_what_when_and_under_which_policy(hub):
    (new,) = await filled(hub, 1, 4)
    await filled(hub, 7, 2)
    receipt = json.loads(json.dumps(or_raise(await Audit(hub, SIGNER).receipt(new.key))))
    proven = or_raise(verify_receipt(receipt, SIGNER.verifier))
    assert proven.entries == or_raise(await hub.history(new.id))
    (decided,) = proven.decisions
    assert decided["by"]["name"] == "Ann Lee"
    assert (decided["decision"], decided["tool"], decided["version"], decided["policy"]) == (
        "approve",
        "pay",
        "3",
        "limits-2",
    )
    assert decided["shown"] == new.waits[0].digest
    assert decided["answer"]["value"] is True
    assert decided["at"] == proven.entries[-1].at.isoformat()


def places(data, path=()):
    """The places of all values in JSON data that are no containers."""
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for name, value in items:
        yield from places(value, (*path, name)) if isinstance(value, dict | list) else [(*path, name)]


def with_other(document, path):
    wrong = copy.deepcopy(document)
    *to, last = path
    inner = wrong
    for name in to:
        inner = inner[name]
    value = inner[last]
    inner[last] = value + 1 if type(value) is int else f"{value}x" if isinstance(value, str) else "other"
    return wrong


@pytest.mark.parametrize("kind", ["receipt", "inclusion", "consistency"])
async def test_each_member_of_a_document_that_is_altered_is_detected(hub, kind):
    evidence = Audit(hub, SIGNER)
    (new,) = await filled(hub, 1, 3)
    or_raise(await evidence.append())
    note = or_raise(await evidence.checkpoint())
    await filled(hub, 4, 2)
    made = {"receipt": evidence.receipt, "inclusion": evidence.prove, "consistency": evidence.consistency}[kind]
    document = or_raise(await made(note if kind == "consistency" else new.key))
    verify = {"receipt": verify_receipt, "inclusion": verify_inclusion, "consistency": verify_consistency}[kind]
    assert isinstance(verify(document, SIGNER.verifier), Success)
    passed = []
    for path in places(document):
        verified = verify(with_other(document, path), SIGNER.verifier)
        if isinstance(verified, Success):
            passed.append(path)
        else:
            assert isinstance(verified.failure(), TamperedEnvelope | MalformedPayload)
    assert passed == []
    for name in document:
        left = {other: value for other, value in document.items() if other != name}
        assert isinstance(verify(left, SIGNER.verifier), Failure)


async def test_a_receipt_with_an_entry_less_or_more_is_refused(hub):
    (new,) = await filled(hub, 1, 5)
    receipt = or_raise(await Audit(hub, SIGNER).receipt(new.key))
    for at in range(5):
        less, more, moved = (copy.deepcopy(receipt) for _ in range(3))
        del less["entries"][at]
        more["entries"].insert(at, more["entries"][at])
        moved["entries"][at], moved["entries"][at - 1] = moved["entries"][at - 1], moved["entries"][at]
        for wrong in (less, more, moved):
            assert isinstance(verify_receipt(wrong, SIGNER.verifier).failure(), TamperedEnvelope)


@pytest.mark.parametrize("garbage", [{}, {"type": "receipt", "formatVersion": 1}, {"type": "receipt"}])
def test_what_is_no_document_is_refused(garbage):
    for verify in (verify_receipt, verify_inclusion, verify_consistency):
        assert isinstance(verify(garbage, SIGNER.verifier).failure(), MalformedPayload)


async def test_a_later_suspension_under_the_same_id_is_told_from_one_that_was_deleted(hub):
    new = or_raise(await hub.suspend(1, idempotency_key="k"))
    or_raise(await hub.cancel(new.id))
    or_raise(await Maintenance(hub).append_log())
    travel(hub, timedelta(days=8))
    or_raise(await Maintenance(hub).cleanup())
    again = or_raise(await hub.suspend(2, idempotency_key="k"))
    assert again.id == new.id
    assert checked(await exported(hub)).sound
    await hub.backend.delete(RecordRef("default", str(new.id)))
    travel(hub, timedelta(seconds=1))
    or_raise(await hub.suspend(3, idempotency_key="k"))
    assert "another one was made under its id" in first_problem(checked(await exported(hub)))


async def test_the_authorizer_is_asked_for_a_receipt(hub):
    def nobody(*_):
        return False

    (new,) = await filled(hub, 1, 2)
    async with open_test_hub(hub.backend, keyring=RING, authorizer=nobody) as refusing:
        assert isinstance((await Audit(refusing, SIGNER).receipt(new.key)).failure(), PermissionDenied)
        assert isinstance((await Audit(refusing, SIGNER).prove(new.key)).failure(), PermissionDenied)


async def test_what_has_no_entries_has_no_receipt(hub):
    async with open_test_hub("memory://", audit=False) as silent:
        new = or_raise(await silent.suspend(1))
        assert isinstance((await Audit(silent, SIGNER).receipt(new.id)).failure(), ConfigurationError)


async def test_without_a_signing_key_nothing_is_signed(hub, monkeypatch, tmp_path):
    for name in ("", "_FILE"):
        monkeypatch.delenv(f"FLOWPERSIST_AUDIT_KEY{name}", raising=False)
    with pytest.raises(ConfigurationError, match="no key signs"):
        Audit(hub)
    with pytest.raises(TypeError, match="hub"):
        Audit(RaisingHub(hub), SIGNER)
    (tmp_path / "key").write_text(SIGNER.export())
    monkeypatch.setenv("FLOWPERSIST_AUDIT_KEY_FILE", str(tmp_path / "key"))
    note = or_raise(await Audit(hub).checkpoint())
    assert or_raise(opened_checkpoint(note, SIGNER.verifier)).size == 0
    monkeypatch.setenv("FLOWPERSIST_AUDIT_KEY", SIGNER.export())
    assert or_raise(await Audit(hub).checkpoint()) == note


async def test_evidence_stays_where_names_are_removed_and_keys_are_rotated(hub):
    (new,) = await filled(hub, 1, 6)
    assert or_raise(await Audit(hub, SIGNER).append()) == 1
    before = or_raise(await Audit(hub, SIGNER).prove(new.key))
    assert or_raise(await Maintenance(hub).strip_audit(subject="ann", by="dpo")).entries == 1
    old = RING.primary
    hub.use_keyring(RING.add("new", bytes(range(32))).promote("new"))
    or_raise(await Maintenance(hub).rekey())
    or_raise(await Maintenance(hub).retire(old, wait=timedelta(0)))
    report = checked(await exported(hub))
    assert (report.problems, report.uncovered) == ((), 0)
    proven = or_raise(verify_receipt(or_raise(await Audit(hub, SIGNER).receipt(new.key)), SIGNER.verifier))
    (decided,) = proven.decisions
    assert (decided["by"], decided["answer"], decided["decision"]) == (None, None, "approve")
    assert [entry.removed for entry in proven.entries] == [*[False] * 5, True, False]
    # What was proven before stays proven.
    assert or_raise(verify_inclusion(before, SIGNER.verifier))[0].count == 6


def flipped(text, place):
    """Base64 of the same bytes with one bit flipped."""
    data = bytearray(base64.b64decode(text))
    data[place] ^= 1
    return base64.b64encode(data).decode()


async def test_a_receipt_whose_members_fit_each_other_must_also_fit_the_log(hub):
    (new,) = await filled(hub, 1, 3)
    await filled(hub, 2, 2)
    receipt = or_raise(await Audit(hub, SIGNER).receipt(new.key))
    forged = copy.deepcopy(receipt)
    last = forged["entries"][-1]
    # The MAC of the last entry stands in no other one.
    last["link"] = flipped(last["link"], 0)
    last["entry"]["mac"] = base64.b64decode(last["link"])[:32].hex()
    assert "has another digest" in str(verify_receipt(forged, SIGNER.verifier).failure())
    forged = copy.deepcopy(receipt)
    # When the leaf was made: nothing else says it.
    forged["leaf"]["data"] = flipped(forged["leaf"]["data"], 41)
    assert "does not lead" in str(verify_receipt(forged, SIGNER.verifier).failure())


async def test_an_export_that_begins_at_an_older_checkpoint_hides_no_deletion(hub):
    older = or_raise(await Audit(hub, SIGNER).checkpoint())
    gone, _ = await filled(hub, 2, 2)
    log, *rest = await exported(hub)
    leaves = [line for line in rest if '"type":"leaf"' in line]
    trails = [line for line in rest[:-1] if line not in leaves and str(gone.id) not in line]
    # The links of the entries that are left, whose lines do not name their suspension beside them.
    assert [json.loads(line)["type"] for line in trails] == ["trail", "entry", "entry"]
    end = {**json.loads(rest[-1]), "trails": 1, "entries": 2}
    begin = {**json.loads(log), "checkpoint": older}
    report = checked([json.dumps(begin), *trails, *leaves, json.dumps(end)])
    assert "a line of the export is not as it was made" in first_problem(report)
