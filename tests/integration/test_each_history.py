"""The audit trail on every backend: an entry exists if and only if its change does, and what is done to the stored
entries is detected.
"""

from __future__ import annotations

import asyncio
import os
from datetime import timedelta

import pytest
from returns.result import Failure

from flowpersist import AwaitInput, KeyRing, Maintenance, Principal, RaisingHub, or_raise
from flowpersist.backends.base import RecordChange, Where
from flowpersist.backends.kit import DelegatingBackend
from flowpersist.backends.registry import backend_from_url
from flowpersist.errors import (
    BackendUnavailable,
    EncryptionError,
    IntegrityError,
    PersistenceError,
    SerializationError,
    UnknownOutcome,
)
from flowpersist.hub import audit_trail
from flowpersist.testing.hubs import open_test_hub, travel

CONFIRM = AwaitInput(id="confirm", prompt="Ship it?", schema=bool)
ENTRIES = "default.audit"
ANN = Principal("ann", name="Ann Lee", issuer="idp", roles=("lead",), method="passkey")
RINGS = {"sealed": KeyRing.generate(), "plain": None}


@pytest.fixture(params=RINGS)
async def hub(request, url):
    async with open_test_hub(url, keyring=RINGS[request.param]) as opened:
        yield opened


async def long_run(hub, pauses=20):
    """A run of that many answered pauses: of its entries, most have left the head."""
    new = or_raise(await hub.suspend(0, awaiting=CONFIRM, by="asker"))
    for pause in range(pauses):
        or_raise(await hub.answer(new.key, pause % 2 == 0, by=ANN, answer_id=f"a{pause}"))
        run = or_raise(await hub.claim(new.key))
        new = or_raise(await hub.suspend_next(run, pause, awaiting=CONFIRM))
    return new


async def stored(hub):
    return list((await hub.backend.query(ENTRIES, Where(), limit=100)).items)


async def written(hub, record, head):
    change = RecordChange(os.urandom(8).hex(), head=head, attributes=record.attributes)
    current = (await hub.backend.get(record.ref)).record
    await hub.backend.put(record.ref, change, if_revision=0 if current is None else current.revision)


async def test_a_run_keeps_the_answers_of_all_its_pauses(hub):
    new = await long_run(hub)
    entries = or_raise(await hub.history(new.key))
    assert [one.number for one in entries] == [*range(1, 62)]
    assert [one.verb for one in entries] == ["suspend", *["answer", "claim", "suspend_next"] * 20]
    assert [one.sequence for one in entries if one.verb == "answer"] == [*range(1, 21)]
    (first, *_) = entries
    assert (first.by, first.status, first.waits[0].change) == (Principal("asker"), "waiting", "opened")
    told = [(one.by, one.waits[0].decision, one.waits[0].answer) for one in entries if one.verb == "answer"]
    assert {who for who, _, _ in told} == {ANN}
    assert [(decision, answer.value, answer.answer_id) for _, decision, answer in told] == [
        ("approve" if pause % 2 == 0 else "reject", pause % 2 == 0, f"a{pause}") for pause in range(20)
    ]
    assert {one.waits[0].shown for one in entries if one.waits} == {new.waits[0].digest}
    assert [one.previous for one in entries[1:]] == [one.mac for one in entries[:-1]]
    assert await RaisingHub(hub).history(new.id) == entries
    assert len(await stored(hub)) > 1
    # Nothing of it stays beside a suspension that is removed: it is kept apart.
    or_raise(await hub.cancel(new.key, "enough", by=ANN))
    whole = or_raise(await hub.history(new.key))
    last = whole[-1]
    assert (last.verb, last.status, last.reason, last.waits[0].change) == ("cancel", "cancelled", "enough", "closed")
    travel(hub, timedelta(days=8))
    assert or_raise(await Maintenance(hub).cleanup()).deleted == 1
    assert await stored(hub) == []
    assert or_raise(await hub.history(new.id)) == whole


async def test_what_time_does_has_entries_of_the_system(hub):
    default = AwaitInput(id="d", prompt="?", schema=bool, default=False)
    new = or_raise(
        await hub.suspend(0, awaiting={"a": CONFIRM, "b": default}, until="each", timeout=timedelta(minutes=1))
    )
    travel(hub, timedelta(minutes=2))
    or_raise(await Maintenance(hub).tick())
    run = or_raise(await hub.claim(new.id, lease=timedelta(minutes=1)))
    travel(hub, timedelta(minutes=2))
    again = or_raise(await hub.claim(new.id))
    assert again.fence == run.fence + 1
    entries = or_raise(await hub.history(new.id))
    assert [(one.verb, str(one.status), one.by and one.by.kind) for one in entries] == [
        ("suspend", "waiting", None),
        ("tick", "answered", "system"),
        ("claim", "running", None),
        ("tick", "answered", "system"),
        ("claim", "running", None),
    ]
    assert [(one.name, one.change, one.answer and one.answer.value) for one in entries[1].waits] == [
        ("a", "expired", None),
        ("b", "answered", False),
    ]
    assert {one.at - entries[0].at for one in entries[1].waits} == {timedelta(minutes=1)}


async def test_whatever_is_done_to_the_stored_entries_is_detected(hub):
    new = await long_run(hub)
    whole = or_raise(await hub.history(new.key))
    records = await stored(hub)

    async def detected():
        told = await hub.history(new.key)
        assert isinstance(told, Failure)
        # A plain record whose bytes are altered can be refused by its checksum, or for its form.
        assert isinstance(told.failure(), IntegrityError | EncryptionError | SerializationError)
        with pytest.raises(PersistenceError):
            await RaisingHub(hub).history(new.key)

    for record in records:
        for bit in range(0, len(record.head) * 8, 1009):
            flipped = bytearray(record.head)
            flipped[bit // 8] ^= 1 << bit % 8
            await written(hub, record, bytes(flipped))
            await detected()
        await written(hub, record, record.head[:-1])
        await detected()
        current = (await hub.backend.get(record.ref)).record
        await hub.backend.delete(record.ref, if_revision=current.revision)
        await detected()
        await written(hub, record, record.head)
    for one, other in zip(records, [*records[1:], records[0]], strict=True):
        await written(hub, one, other.head)
        await detected()
        await written(hub, one, one.head)
    assert or_raise(await hub.history(new.key)) == whole


class Ending(DelegatingBackend):
    """Lets the next put of a head end: before it is done, or before anybody hears of it."""

    forwarded = frozenset()
    fault = None

    async def put(self, ref, change, *, if_revision, not_after=None):
        fault, self.fault = (self.fault, None) if ref.namespace == "default" else (None, self.fault)
        if fault == "hang":
            await asyncio.Event().wait()
        if fault == "fail":
            raise BackendUnavailable("gone", "test", False)
        written = await super().put(ref, change, if_revision=if_revision, not_after=not_after)
        if fault == "lose":
            raise UnknownOutcome("no reply", "test", True)
        return written


@pytest.mark.parametrize("fault", ["fail", "lose"])
async def test_a_writer_that_ends_between_the_entries_and_the_head_loses_nothing(url, fault):
    """The put of the entries is done, and that of the head is not, or nobody hears of it."""
    ending = Ending(backend_from_url(url))
    async with open_test_hub(ending, keyring=RINGS["sealed"]) as hub:
        new = or_raise(await hub.suspend(0, awaiting=CONFIRM))
        run = or_raise(await hub.claim(new.key, True))
        for number in range(14):
            run = or_raise(await hub.checkpoint(run, number))
        before = or_raise(await hub.history(new.key))
        assert (len(before), await stored(hub)) == (16, [])
        ending.fault = fault
        told = await hub.checkpoint(run, "next")
        assert isinstance(told, Failure) is (fault == "fail")
        # The copy is there, and where the head was not put nobody needs it.
        assert len(await stored(hub)) == 1
        entries = or_raise(await hub.history(new.key))
        assert entries[:16] == before
        assert len(entries) == (16 if fault == "fail" else 17)
        run = or_raise(await hub.checkpoint(run, "next"))
        assert [one.number for one in or_raise(await hub.history(new.key))] == [*range(1, 18)]
        or_raise(await hub.complete(run))
        last = or_raise(await hub.history(new.key))[-1]
        assert (last.number, last.verb, str(last.status)) == (18, "complete", "completed")
        assert len(await stored(hub)) == 1


def refusals(entries):
    return [(one.verb, one.refusal, one.by and one.by.subject, one.waits[0].name) for one in entries if one.refusal]


@pytest.fixture
def bounds(monkeypatch):
    """Refusals have few entries, and all the time that a busy machine needs for them."""
    monkeypatch.setattr(audit_trail, "PATIENCE", 60.0)
    monkeypatch.setattr(audit_trail, "MOST_REFUSALS", 6)
    monkeypatch.setattr(audit_trail, "BETWEEN_REFUSALS", timedelta(hours=1))


@pytest.mark.usefixtures("bounds")
async def test_a_refused_verb_has_an_entry_and_many_have_few(hub):
    new = or_raise(await hub.suspend(0, awaiting=CONFIRM))
    assert (await hub.answer(new.key, "no bool", by=ANN)).failure().code == "invalid-input"
    # Too soon after that.
    assert (await hub.answer(new.key, "no bool", by="bob")).failure().code == "invalid-input"
    travel(hub, timedelta(hours=1))
    assert (await hub.answer(new.key, True, by="bob", shown_digest="sha256:other")).failure().code
    or_raise(await hub.resume(new.key, True, by=ANN))
    travel(hub, timedelta(hours=1))
    assert isinstance(await hub.answer(new.key, False, by="eve"), Failure)
    entries = or_raise(await hub.history(new.key))
    assert refusals(entries) == [
        ("answer", "invalid-input", "ann", "confirm"),
        ("answer", "question-changed", "bob", "confirm"),
        ("answer", "already-resumed", "eve", "confirm"),
    ]
    assert [one.verb for one in entries if one.refusal is None] == ["suspend", "resume"]
    assert str(entries[1].status) == "waiting"
    for _ in range(5):
        travel(hub, timedelta(hours=1))
        assert isinstance(await hub.cancel(new.key, by="eve"), Failure)
    assert len(refusals(or_raise(await hub.history(new.key)))) == 6
    assert or_raise(await hub.inspect(new.key)).closed_at == entries[3].at


@pytest.mark.usefixtures("bounds")
async def test_what_the_authorizer_refuses_has_an_entry_and_reading_has_none(url):
    async with open_test_hub(url, keyring=RINGS["sealed"]) as hub:
        new = or_raise(await hub.suspend(0, awaiting=CONFIRM))

        def allowed(verb, _suspension, _by):
            return verb == "history"

        async with open_test_hub(hub.backend, keyring=RINGS["sealed"], authorizer=allowed) as strict:
            assert isinstance(await strict.inspect(new.key, by="eve"), Failure)
            assert isinstance(await strict.answer(new.key, True, by="eve"), Failure)
            told = refusals(or_raise(await strict.history(new.id)))
            assert told == [("answer", "permission-denied", "eve", "confirm")]


@pytest.mark.parametrize("fault", ["fail", "lose", "hang"])
async def test_a_refusal_is_the_same_where_its_entry_cannot_be_stored(url, fault, monkeypatch):
    monkeypatch.setattr(audit_trail, "PATIENCE", 0.01 if fault == "hang" else 60.0)
    ending = Ending(backend_from_url(url))
    async with open_test_hub(ending, keyring=RINGS["sealed"]) as hub:
        new = or_raise(await hub.suspend(0, awaiting=CONFIRM))
        ending.fault = fault
        assert (await hub.answer(new.key, "no bool")).failure().code == "invalid-input"
        assert len(refusals(or_raise(await hub.history(new.key)))) == (fault == "lose")
        assert or_raise(await hub.answer(new.key, True)).outcome == "accepted"


@pytest.mark.usefixtures("bounds")
async def test_a_refusal_leaves_what_time_has_changed_to_the_next_verb(hub):
    """Its put must not take an expiry along, of which no observer would be told then."""
    events = []
    async with open_test_hub(
        hub.backend, keyring=hub.suspensions.records.sealer.keyring, on_event=events.append
    ) as one:
        new = or_raise(await one.suspend(0, awaiting=CONFIRM, timeout=timedelta(minutes=1)))
        travel(one, timedelta(minutes=2))
        assert (await one.answer(new.key, True)).failure().code == "expired"
        assert [event.verb for event in events] == ["suspend"]
        or_raise(await Maintenance(one).tick())
        assert [event.verb for event in events] == ["suspend", "expire"]
        entries = or_raise(await one.history(new.key))
        assert [(entry.verb, entry.refusal) for entry in entries] == [
            ("suspend", None),
            ("answer", "expired"),
            ("tick", None),
        ]


async def test_a_hub_without_a_trail_leaves_what_is_there(url):
    ring = RINGS["sealed"]
    async with open_test_hub(url, keyring=ring) as hub:
        new = or_raise(await hub.suspend(0, awaiting=CONFIRM))
        async with open_test_hub(hub.backend, keyring=ring.control_only(), audit=False) as other:
            or_raise(await other.answer(new.key, True))
            assert [one.verb for one in or_raise(await other.history(new.key))] == ["suspend"]
