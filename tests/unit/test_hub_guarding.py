"""Authorizer, events, keyrings: who may do what, who is told, and what a hub without the state's key can do."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
import pytest_asyncio

from flowpersist import AwaitInput, KeyRing, Maintenance, RaisingHub, Status, or_raise
from flowpersist.errors import EncryptionRequired, PermissionDenied, UnknownKey
from flowpersist.testing.hubs import open_test_hub, travel

CONFIRM = AwaitInput(id="confirm", prompt="Ship it?", schema=bool)
HOUR = timedelta(hours=1)
CANARY = "canary-in-the-state"


@pytest_asyncio.fixture(loop_scope="module")
async def hub():
    async with open_test_hub() as opened:
        yield opened


# ---------------------------------------------------------------------------------------------------------- authorizer


async def test_the_authorizer_sees_verb_suspension_and_person_and_can_refuse():
    asked = []

    def authorizer(verb, suspension, by):
        asked.append((verb, suspension.status, by))
        return by == "ann"

    async with open_test_hub(authorizer=authorizer) as hub:
        new = or_raise(await hub.suspend(1, awaiting=CONFIRM, by="ann"))
        for refused in (
            await hub.inspect(new.key, by="bob"),
            await hub.answer(new.key, True, by="bob"),
            await hub.resume(new.key, True, by="bob"),
            await hub.claim(new.key, True, by="bob"),
            await hub.cancel(new.key, by="bob"),
            await hub.extend(new.key, timeout=HOUR, by="bob"),
            await hub.outcome(new.key, by="bob"),
            await hub.suspend(1, by="bob"),
            await hub.reserve(by="bob"),
        ):
            assert isinstance(refused.failure(), PermissionDenied)
        assert [item.id for item in or_raise(await hub.query(by="ann")).items] == [new.id]
        assert or_raise(await hub.inspect(new.key, by="ann")).status is Status.WAITING
        or_raise(await hub.resume(new.key, True, by="ann"))
    assert ("suspend", Status.WAITING, "ann") in asked
    assert ("answer", Status.WAITING, "bob") in asked
    assert {verb for verb, _, _ in asked} == {
        "suspend", "reserve", "inspect", "answer", "resume", "claim", "cancel", "extend", "outcome", "query",
    }  # fmt: skip


async def test_an_authorizer_may_be_asynchronous():
    async def authorizer(verb, _suspension, _by):
        return verb != "cancel"

    async with open_test_hub(authorizer=authorizer) as hub:
        new = or_raise(await hub.suspend(1, awaiting=CONFIRM))
        assert isinstance((await hub.cancel(new.key)).failure(), PermissionDenied)
        assert or_raise(await hub.inspect(new.key)).status is Status.WAITING


async def failed(call):
    """The error of a verb of either door."""
    try:
        return (await call()).failure()
    except PermissionDenied as error:
        return error


@pytest.mark.parametrize("raised", [LookupError, asyncio.CancelledError, ExceptionGroup("all", [ValueError()])])
@pytest.mark.parametrize("door", [lambda hub: hub, RaisingHub])
async def test_an_authorizer_that_raises_refuses(door, raised, caplog):
    def broken(verb, _suspension, _by):
        raise raised

    async def broken_later(verb, suspension, by):
        broken(verb, suspension, by)

    async with open_test_hub() as hub:
        new = or_raise(await hub.suspend(CANARY, awaiting=CONFIRM))
        for hub.suspensions._authorizer in (broken, broken_later):
            for call in (
                lambda: door(hub).suspend(1),
                lambda: door(hub).inspect(new.key),
                lambda: door(hub).answer(new.key, True),
                lambda: door(hub).claim(new.key, True),
                lambda: door(hub).keys(new.id),
            ):
                assert isinstance(await failed(call), PermissionDenied)
            assert or_raise(await hub.query()).items == ()
        hub.suspensions._authorizer = None
        assert or_raise(await hub.inspect(new.key)).status is Status.WAITING
    assert "the authorizer raised for answer on suspension" in caplog.text
    assert CANARY not in caplog.text


async def test_an_authorizer_that_raises_ends_no_worker():
    asked, ran = asyncio.Event(), asyncio.Event()

    def authorizer(verb, _suspension, _by):
        if verb == "claim" and not asked.is_set():
            asked.set()
            raise LookupError
        return True

    async def handler(_run):
        ran.set()

    async with open_test_hub(authorizer=authorizer) as hub:
        for _ in range(2):
            new = or_raise(await hub.suspend(1, awaiting=CONFIRM))
            or_raise(await hub.answer(new.key, True))
        worker = asyncio.create_task(hub.work(handler, poll=timedelta(milliseconds=1)))
        await asyncio.wait({worker, asyncio.create_task(ran.wait())}, return_when=asyncio.FIRST_COMPLETED, timeout=5)
        assert (asked.is_set(), ran.is_set(), worker.done()) == (True, True, False)
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)


async def test_a_caller_who_is_cancelled_while_an_authorizer_is_asked_is_cancelled():
    asked = asyncio.Event()

    async def authorizer(_verb, _suspension, _by):
        asked.set()
        await asyncio.Event().wait()

    async with open_test_hub(authorizer=authorizer) as hub:
        task = asyncio.create_task(hub.suspend(1))
        await asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_a_repeat_by_idempotency_key_is_asked_for_too():
    """Else whoever guesses an order's number would be handed its keys."""
    async with open_test_hub(authorizer=lambda _verb, _suspension, by: by == "ann") as hub:
        or_raise(await hub.suspend(1, awaiting=CONFIRM, idempotency_key="k", by="ann"))
        or_raise(await hub.reserve(CONFIRM, idempotency_key="r", by="ann"))
        for refused in (
            await hub.suspend(1, awaiting=CONFIRM, idempotency_key="k", by="bob"),
            await hub.reserve(CONFIRM, idempotency_key="r", by="bob"),
        ):
            assert isinstance(refused.failure(), PermissionDenied)


# -------------------------------------------------------------------------------------------------------------- events


async def test_events_tell_what_became_durable_and_nothing_else():
    events = []
    async with open_test_hub(on_event=events.append) as hub:
        new = or_raise(await hub.suspend(1, awaiting=CONFIRM, by="system"))
        await hub.answer(new.key, "invalid", by="ann")
        await hub.inspect(new.key)
        or_raise(await hub.answer(new.key, True, by="ann"))
        or_raise(await hub.answer(new.key, True, by="ann"))
        await hub.answer(new.key, False, by="bob")
        run = or_raise(await hub.claim(new.key, by="cleo"))
        or_raise(await hub.complete(run))
    assert [(event.verb, event.suspension.status, event.by) for event in events] == [
        ("suspend", "waiting", "system"),
        ("answer", "answered", "ann"),
        ("claim", "running", "cleo"),
        ("complete", "completed", None),
    ]
    assert all(event.at >= new.created_at for event in events)
    assert str(new.key) not in repr(events)


async def test_an_answer_that_was_kept_by_a_refused_claim_is_an_event():
    events = []
    async with open_test_hub(on_event=events.append) as hub:
        pair = or_raise(await hub.suspend(1, awaiting=dict.fromkeys("ab", CONFIRM)))
        await hub.claim(pair.keys["a"], True)
    assert [event.verb for event in events] == ["suspend", "claim"]


async def test_a_tick_reports_the_expiry_it_puts():
    events = []
    async with open_test_hub(on_event=events.append) as hub:
        or_raise(await hub.suspend(1, awaiting=CONFIRM, timeout=HOUR))
        travel(hub, 2 * HOUR)
        or_raise(await Maintenance(hub).tick())
    reported = [(event.verb, event.suspension.status, event.by) for event in events]
    assert reported[1:] == [("expire", "expired", "system")]


async def test_an_observers_mistake_does_not_undo_the_write(caplog):
    def broken(_event):
        raise RuntimeError

    async with open_test_hub(on_event=broken) as hub:
        new = or_raise(await hub.suspend(1, awaiting=CONFIRM))
        assert or_raise(await hub.inspect(new.key)).status is Status.WAITING
    assert "on_event raised for suspend" in caplog.text
    assert "RuntimeError" in caplog.text


# ------------------------------------------------------------------------------------------------------------ keyrings


async def test_a_hub_with_control_keys_only_can_answer_cancel_extend_and_tick():
    ring = KeyRing.generate()
    async with open_test_hub(keyring=ring) as hub, open_test_hub(hub.backend, keyring=ring.control_only()) as web:
        new = or_raise(await hub.suspend({"secret": 1}, awaiting=CONFIRM, timeout=HOUR))
        other = or_raise(await hub.suspend({"secret": 2}, awaiting=CONFIRM, timeout=HOUR))
        third = or_raise(await hub.suspend({"secret": 3}, awaiting=CONFIRM, timeout=HOUR))
        assert or_raise(await web.inspect(new.key)).waits[0].awaiting.prompt == "Ship it?"
        assert len(or_raise(await web.query()).items) == 3
        or_raise(await web.extend(new.key, timeout=9 * HOUR))
        or_raise(await web.cancel(other.key))
        travel(hub, 2 * HOUR)
        assert or_raise(await Maintenance(web).tick()).updated == 1
        assert or_raise(await web.inspect(third.key)).status is Status.EXPIRED
        assert or_raise(await web.answer(new.key, True, by="ann")).outcome == "accepted"
        assert or_raise(await hub.resume(new.key)).state == {"secret": 1}


async def test_a_hub_with_control_keys_only_opens_no_state_and_changes_nothing_by_trying():
    ring = KeyRing.generate()
    async with open_test_hub(keyring=ring) as hub, open_test_hub(hub.backend, keyring=ring.control_only()) as web:
        new = or_raise(await hub.suspend({"secret": 1}, awaiting=CONFIRM))
        assert isinstance((await web.resume(new.key, True)).failure(), UnknownKey)
        assert isinstance((await web.claim(new.key, True)).failure(), UnknownKey)
        assert or_raise(await hub.inspect(new.key)).status is Status.WAITING
        assert isinstance((await web.suspend(1)).failure(), UnknownKey)
        run = or_raise(await hub.claim(new.key, True))
        assert isinstance((await web.suspend_next(run, 2)).failure(), UnknownKey)
        assert isinstance((await web.complete(run, 1)).failure(), UnknownKey)
        or_raise(await hub.complete(run, {"out": 1}))
        assert isinstance((await web.outcome(new.key)).failure(), UnknownKey)


async def test_a_keyring_can_be_exchanged_in_a_live_hub(hub):
    old = hub.suspensions.records.sealer.keyring
    before = or_raise(await hub.suspend("before", awaiting=CONFIRM))
    fresh = KeyRing.generate()
    hub.use_keyring(fresh)
    assert isinstance((await hub.inspect(before.key)).failure(), UnknownKey)
    after = or_raise(await hub.suspend("after", awaiting=CONFIRM))
    RaisingHub(hub).use_keyring(old)
    assert or_raise(await hub.resume(before.key, True)).state == "before"
    assert isinstance((await hub.resume(after.key, True)).failure(), UnknownKey)


async def test_after_a_rotation_old_and_new_ones_open():
    first = KeyRing.generate()
    async with open_test_hub(keyring=first) as hub:
        before = or_raise(await hub.suspend("before", awaiting=CONFIRM))
        run = or_raise(await hub.claim(before.key, True))
        hub.use_keyring(rotated(first))
        after = or_raise(await hub.suspend("after", awaiting=CONFIRM))
        paused = or_raise(await hub.suspend_next(run, "paused", awaiting=CONFIRM))
        assert or_raise(await hub.resume(after.key, True)).state == "after"
        assert or_raise(await hub.resume(paused.key, True)).state == "paused"
        hub.use_keyring(first)
        assert isinstance((await hub.inspect(paused.key)).failure(), UnknownKey)


def rotated(ring):
    return ring.add("next", bytes(range(32))).promote("next")


async def test_plaintext_is_refused_once_a_keyring_is_set():
    async with open_test_hub(keyring=None) as plain:
        new = or_raise(await plain.suspend(1, awaiting=CONFIRM))
        async with open_test_hub(plain.backend) as sealed:
            assert isinstance((await sealed.inspect(new.key)).failure(), EncryptionRequired)
            assert isinstance((await sealed.resume(new.key, True)).failure(), EncryptionRequired)
        assert or_raise(await open_again(plain.backend, new)) == 1


async def open_again(backend, new):
    async with open_test_hub(backend, keyring=None) as again:
        return (await again.resume(new.key, True)).map(lambda run: run.state)


async def test_a_record_that_cannot_be_opened_is_left_out_of_lists_and_reported(hub, caplog):
    theirs = or_raise(await hub.suspend(1, awaiting=CONFIRM))
    hub.use_keyring(KeyRing.generate())
    mine = or_raise(await hub.suspend(2, awaiting=CONFIRM))
    page = or_raise(await hub.query())
    assert [item.id for item in page.items] == [mine.id]
    assert [(it.ref.key, type(it.error)) for it in page.unreadable] == [(str(theirs.id), UnknownKey)]
    assert "left out" in caplog.text


async def test_a_test_hub_does_not_look_at_the_environment(monkeypatch):
    for name in ("KEY_PREFIX", "RETENTION", "DEFAULT_TIMEOUT", "KEYS", "URL"):
        monkeypatch.setenv(f"FLOWPERSIST_{name}", "makes no sense!")
    async with open_test_hub() as hub:
        new = or_raise(await hub.suspend(1, awaiting=CONFIRM))
        assert str(new.key).startswith("df_susp_")
        assert new.deadline is None


async def test_a_query_leaves_out_what_the_authorizer_refuses():
    def allowed(verb, suspension, by):
        return verb != "query" or suspension.metadata["team"] == "a"

    async with open_test_hub(authorizer=allowed) as hub:
        for team in ("a", "b", "a"):
            or_raise(await hub.suspend(0, metadata={"team": team}))
        page = or_raise(await hub.query())
        assert [suspension.metadata["team"] for suspension in page.items] == ["a", "a"]


async def test_a_handlers_exception_leaves_its_class_in_the_log_and_nothing_of_its_text(caplog):
    async with open_test_hub() as hub:
        new = or_raise(await hub.suspend({"secret": "canary"}, awaiting=CONFIRM))
        or_raise(await hub.answer(new.key, True))

        async def handler(run):
            raise ValueError(run.state["secret"])

        worker = asyncio.create_task(hub.work(handler, max_attempts=1))
        while or_raise(await hub.inspect(new.id)).status is not Status.FAILED:
            await asyncio.sleep(0.01)
        worker.cancel()
        await asyncio.wait({worker})
    assert "ValueError" in caplog.text
    assert "canary" not in caplog.text
