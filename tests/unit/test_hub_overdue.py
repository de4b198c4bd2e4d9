"""Users' code that does not return: what a call or a process waits for is said, and again, for as long as it waits."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from flowpersist import AwaitInput, KeyRing, Maintenance, open_hub, or_raise
from flowpersist.blocking import open_hub as open_blocking
from flowpersist.hub import overdue
from flowpersist.testing.hubs import open_test_hub, travel

ASK = AwaitInput("ok", "OK?", schema=bool)


@pytest.fixture(autouse=True)
def _soon(monkeypatch):
    monkeypatch.setattr(overdue, "FIRST", 0.02)


async def said(caplog, text, times):
    """The call of this test hangs until then; without a warning the test's own time runs out."""
    while caplog.text.count(text) < times:
        await asyncio.sleep(0)


class Held:
    """Code that hangs until it is let go."""

    def __init__(self):
        self.go = asyncio.Event()

    async def __call__(self, *_):
        await self.go.wait()
        return True

    async def keyring(self):
        await self.go.wait()
        return KeyRing.generate()


async def test_an_observer_that_hangs_is_named_again_and_again(caplog):
    held = Held()
    async with open_test_hub(on_event=held) as hub:
        call = asyncio.create_task(hub.suspend("canary", awaiting=ASK))
        await said(caplog, "on_event for suspend on suspension", 3)
        held.go.set()
        new = or_raise(await call)
    assert f"on_event for suspend on suspension {new.id} has not returned for 0.02 s" in caplog.text
    assert "has not returned for 0.06 s" in caplog.text
    assert "canary" not in caplog.text


async def test_maintenance_that_waits_for_a_delivery_says_so(caplog):
    held = Held()
    hour = timedelta(hours=1)
    ask = AwaitInput("ok", "OK?", schema=bool, reminders=[hour], timeout=9 * hour)

    async def notify(event):
        if event.delivery is not None:
            await held()

    async with open_test_hub(on_event=notify) as hub:
        or_raise(await hub.suspend(1, awaiting=ask))
        travel(hub, 8.5 * hour)
        call = asyncio.create_task(Maintenance(hub).tick())
        await said(caplog, "on_event for remind on suspension", 1)
        held.go.set()
        or_raise(await call)


async def test_an_authorizer_that_hangs_is_named(caplog):
    held = Held()
    async with open_test_hub(authorizer=held) as hub:
        call = asyncio.create_task(hub.suspend(1, awaiting=ASK))
        await said(caplog, "the authorizer for suspend on suspension", 1)
        held.go.set()
        or_raise(await call)


async def test_a_key_provider_that_hangs_is_named(caplog):
    held = Held()

    async def opened():
        async with open_hub("memory://", keyring=held) as hub:
            return or_raise(await hub.suspend(1, awaiting=ASK))

    call = asyncio.create_task(opened())
    await said(caplog, "the provider of the keyring, Held, has not returned", 1)
    held.go.set()
    await call


def test_without_asyncio_they_are_named_too(caplog):
    class Slow:
        async def keyring(self):
            while "the provider of the keyring, Slow, has not returned" not in caplog.text:
                await asyncio.sleep(0)
            return KeyRing.generate()

    async def observed(_):
        while "on_event for suspend on suspension" not in caplog.text:
            await asyncio.sleep(0)

    with open_blocking("memory://", keyring=Slow(), on_event=observed) as hub:
        hub.suspend(1, awaiting=ASK)


async def test_a_worker_that_waits_for_a_handler_that_goes_on_says_so(caplog):
    started, go = asyncio.Event(), asyncio.Event()

    async def handler(_):
        started.set()
        while not go.is_set():
            try:
                await go.wait()
            except asyncio.CancelledError:
                continue

    async with open_test_hub() as hub:
        new = or_raise(await hub.suspend(1, awaiting=ASK))
        or_raise(await hub.answer(new.key, True))
        worker = asyncio.create_task(hub.work(handler))
        await started.wait()
        assert "has not returned" not in caplog.text
        worker.cancel()
        await said(caplog, "a handler that was cancelled, since its worker stops, has not returned", 1)
        go.set()
        await asyncio.wait({worker})
    assert worker.cancelled()


async def test_what_returns_is_not_named(caplog):
    async def quick(*_):
        return True

    async with open_test_hub(on_event=quick, authorizer=quick) as hub:
        or_raise(await hub.suspend(1, awaiting=ASK))
        await asyncio.sleep(0.1)
    assert "has not returned" not in caplog.text


async def test_a_call_that_is_cancelled_says_no_more(caplog):
    async with open_test_hub(authorizer=Held()) as hub:
        call = asyncio.create_task(hub.suspend(1, awaiting=ASK))
        await said(caplog, "the authorizer for suspend on suspension", 1)
        call.cancel()
        await asyncio.wait({call})
        caplog.clear()
        await asyncio.sleep(0.2)
    assert "has not returned" not in caplog.text
