"""What stands beside a head is the head's own: an older body, outcome, receipt or dictionary that somebody writes back
under a newer head is refused, on every backend and by both hubs.

Whoever can write the database writes it back here: through the primitive, which sees the bytes alone, and for what
stands apart through the files themselves.
"""

from __future__ import annotations

import os
import shutil
from datetime import timedelta

import pytest

from flowpersist import AwaitInput, KeyRing, Maintenance, RaisingHub, or_raise
from flowpersist.backends.base import RecordChange, RecordRef, Where
from flowpersist.backends.blob_files import FileBlobStore
from flowpersist.backends.claim_check import ClaimCheckBackend
from flowpersist.backends.sqlite import SqliteBackend
from flowpersist.errors import IntegrityError, PersistenceError, TamperedEnvelope
from flowpersist.testing.hubs import open_test_hub, travel

CONFIRM = AwaitInput(id="confirm", prompt="Ship it?", schema=bool)
RECEIPTS = "default.receipts"
RINGS = {"sealed": KeyRing.generate(), "plain": None}


@pytest.fixture(params=RINGS)
async def hub(request, url):
    async with open_test_hub(url, keyring=RINGS[request.param]) as opened:
        yield opened


async def body_of(hub, key, namespace="default"):
    record = (await hub.backend.get(RecordRef(namespace, str(key)))).record
    return record.body


async def written_back(hub, key, body, namespace="default"):
    """Another body under the head that stands there."""
    ref = RecordRef(namespace, str(key))
    record = (await hub.backend.get(ref, body=False)).record
    await hub.backend.put(ref, RecordChange(os.urandom(8).hex(), body=body), if_revision=record.revision)


async def errors_of(hub, verb, *arguments):
    """What either hub says."""
    try:
        await getattr(RaisingHub(hub), verb)(*arguments)
    except PersistenceError as error:
        return {type((await getattr(hub, verb)(*arguments)).failure()), type(error)}
    return set()


async def paused_twice(hub):
    """A run in its second pause, and the body of the first."""
    first = or_raise(await hub.suspend({"pause": 1}, awaiting=CONFIRM))
    older = await body_of(hub, first.id)
    run = or_raise(await hub.claim(first.key, True))
    return or_raise(await hub.suspend_next(run, {"pause": 2}, awaiting=CONFIRM)), older


@pytest.mark.parametrize("verb", ["resume", "claim"])
async def test_a_state_of_an_earlier_pause_is_no_later_one(hub, verb):
    new, older = await paused_twice(hub)
    newer = await body_of(hub, new.id)
    await written_back(hub, new.id, older)
    assert await errors_of(hub, verb, new.key, True) == {TamperedEnvelope}
    # Nor after a put that keeps the body, and so the mark in the head.
    or_raise(await hub.answer(new.key, True))
    assert await errors_of(hub, verb, new.key) == {TamperedEnvelope}
    assert or_raise(await hub.claim_due()) == ()
    with pytest.raises(TamperedEnvelope):
        async with RaisingHub(hub).running(new.key):
            pass
    # What is its own opens it again: nothing was taken.
    await written_back(hub, new.id, newer)
    run = or_raise(await getattr(hub, verb)(new.key))
    assert (run.state, run.sequence, run.attempt) == ({"pause": 2}, 2, 1)


async def test_a_state_that_is_gone_is_told_as_that(hub):
    new, _ = await paused_twice(hub)
    await written_back(hub, new.id, None)
    assert await errors_of(hub, "resume", new.key, True) == {IntegrityError}


async def completed(hub, outcome):
    """A run under one id again and again, completed; and the body that it has then."""
    new = or_raise(await hub.suspend("state", idempotency_key="order-1"))
    or_raise(await hub.complete(or_raise(await hub.claim(new.id)), outcome))
    return new, await body_of(hub, new.id)


async def forgotten(hub):
    travel(hub, timedelta(days=8))
    assert or_raise(await Maintenance(hub).cleanup()).deleted == 1


@pytest.mark.parametrize("outcome", ["second", None])
async def test_an_outcome_of_an_earlier_run_is_no_later_one(hub, outcome):
    _, older = await completed(hub, "first")
    await forgotten(hub)
    new, _ = await completed(hub, outcome)
    assert or_raise(await hub.outcome(new.id)) == outcome
    await written_back(hub, new.id, older)
    assert await errors_of(hub, "outcome", new.id) == {TamperedEnvelope}


async def test_an_outcome_that_is_gone_is_told_as_that(hub):
    new, _ = await completed(hub, "first")
    await written_back(hub, new.id, None)
    assert await errors_of(hub, "outcome", new.id) == {IntegrityError}


async def pauses(hub, number):
    """The keys of a run that has paused so often, under one id again and again."""
    new = or_raise(await hub.suspend("state", awaiting=CONFIRM, idempotency_key="order-1"))
    keys = []
    for _ in range(number):
        keys.append(new.key)
        run = or_raise(await hub.claim(new.key, True))
        new = or_raise(await hub.suspend_next(run, "state", awaiting=CONFIRM))
    return keys, new


async def receipts(hub):
    page = await hub.backend.query(RECEIPTS, Where(), limit=100)
    return list(page.items)


async def test_a_receipt_of_an_earlier_run_is_no_later_one(hub, monkeypatch):
    monkeypatch.setattr("flowpersist.hub.side_records.MAX_RECEIPTS", 1)
    keys, last = await pauses(hub, 4)
    older = await receipts(hub)
    assert len(older) == 3
    assert or_raise(await hub.answer(keys[0], True)).outcome == "replayed"
    or_raise(await hub.cancel(last.key))
    await forgotten(hub)
    await pauses(hub, 4)
    for record in older:
        change = RecordChange(os.urandom(8).hex(), record.attributes, record.head)
        await hub.backend.put(record.ref, change, if_revision=0)
    assert await errors_of(hub, "answer", keys[0], True) == {TamperedEnvelope}
    assert await errors_of(hub, "inspect", keys[0]) == {TamperedEnvelope}


async def test_a_receipt_of_another_key_opens_nothing(url, monkeypatch):
    monkeypatch.setattr("flowpersist.hub.side_records.MAX_RECEIPTS", 1)
    async with open_test_hub(url) as hub:
        keys, _ = await pauses(hub, 4)
        one, other, _ = await receipts(hub)
        for record, head in ((one, other.head), (other, one.head)):
            await hub.backend.put(record.ref, RecordChange("w", head=head), if_revision=record.revision)
        told = [await errors_of(hub, "answer", key, True) for key in keys[:3]]
        assert sorted(map(len, told)) == [0, 1, 1]
        assert set().union(*told) == {TamperedEnvelope}


async def test_a_dictionary_is_its_own_records(url):
    """Plain, where no context says which record the bytes are of."""
    note = "A state of the same kind as {} others, whose text is long enough for a dictionary to be worth it."
    async with open_test_hub(url, keyring=None, dictionaries=True) as hub:
        for number in range(60):
            or_raise(await hub.suspend({"order": number, "note": note.format(number)}))
        one, other = [or_raise(await Maintenance(hub).train_dictionary(size=1024)) for _ in range(2)]
        new = or_raise(await hub.suspend({"order": 61, "note": note.format(61)}))
        keys = [f"{trained.id:08x}" for trained in (one, other)]
        older = await body_of(hub, keys[0], "default.dictionaries")
        await written_back(hub, keys[1], older, "default.dictionaries")
    async with open_test_hub(url, keyring=None) as hub:
        assert await errors_of(hub, "resume", new.id) == {TamperedEnvelope}


async def test_a_blob_of_an_earlier_pause_is_no_later_one(tmp_path):
    """The claim in the record and the blob that it names are both of the earlier pause, and fit each other."""
    inner, blobs = SqliteBackend(str(tmp_path / "flows.db")), tmp_path / "blobs"
    store = ClaimCheckBackend(inner, FileBlobStore(blobs), from_bytes=0)
    async with open_test_hub(store) as hub:
        first = or_raise(await hub.suspend({"pause": 1}, awaiting=CONFIRM))
        ref = RecordRef("default", str(first.id))
        claim = (await inner.get(ref)).record.body
        assert len(claim) == 64
        shutil.copytree(blobs, tmp_path / "copy")
        run = or_raise(await hub.claim(first.key, True))
        new = or_raise(await hub.suspend_next(run, {"pause": 2}, awaiting=CONFIRM))
        shutil.copytree(tmp_path / "copy", blobs, dirs_exist_ok=True)
        await inner.put(
            ref, RecordChange("w", body=claim), if_revision=(await inner.get(ref, body=False)).record.revision
        )
        assert (await hub.backend.get(ref)).record.body is not None
        assert await errors_of(hub, "resume", new.key, True) == {TamperedEnvelope}
