"""Health as data, and as an ASGI application: what it says, how often it asks the store, and what it keeps back."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta

import pytest
import pytest_asyncio

from flowpersist import AwaitInput, KeyRing, Maintenance, RaisingHub, or_raise
from flowpersist.backends.base import BackendHealth, RecordChange, RecordRef
from flowpersist.backends.kit import DelegatingBackend
from flowpersist.backends.memory import MemoryBackend
from flowpersist.backends.sqlite import SqliteBackend
from flowpersist.errors import BackendUnavailable
from flowpersist.stores import Stores
from flowpersist.testing.hubs import open_test_hub, travel
from flowpersist.web import HealthApp

CONFIRM = AwaitInput(id="confirm", prompt="Ship it?", schema=bool)
HOUR = timedelta(hours=1)


class Asked(DelegatingBackend):
    """Counts its pings, and fails or waits where that is asked for."""

    def __init__(self):
        super().__init__(MemoryBackend())
        self.pings = 0
        self.fails = False
        self.waits = 0.0

    async def ping(self) -> BackendHealth:
        self.pings += 1
        await asyncio.sleep(self.waits)
        if self.fails:
            raise BackendUnavailable("no route to db.example for user canary-user", "memory", True)
        return await self.inner.ping()


@pytest_asyncio.fixture(loop_scope="module")
async def hub():
    async with open_test_hub(Asked()) as opened:
        yield opened


async def called(app, path, method="GET", **scope):
    sent = []

    async def send(message):
        sent.append(message)

    async def receive():
        return {"type": "http.request"}

    await app({"type": "http", "path": path, "method": method, **scope}, receive, send)
    start, end = sent
    return start["status"], dict(start["headers"]), end["body"]


async def test_health_counts_statuses_ages_and_sizes(hub):
    or_raise(await hub.suspend({"n": 1}, awaiting=CONFIRM))
    travel(hub, HOUR)
    or_raise(await hub.suspend({"n": 2}, awaiting=CONFIRM))
    answered = or_raise(await hub.suspend({"n": 3}, awaiting=CONFIRM))
    or_raise(await hub.answer(answered.key, True))
    travel(hub, HOUR)
    made = or_raise(await Maintenance(hub).health())
    assert dict(made.statuses) == {"waiting": 2, "answered": 1}
    assert 2 * HOUR <= made.oldest_waiting < 2 * HOUR + timedelta(minutes=1)
    assert HOUR <= made.oldest_answered < HOUR + timedelta(minutes=1)
    assert made.sizes["heads"] > made.sizes["bodies"] > 0
    # The memory's clock was moved, and that is said.
    assert abs(made.clock_offset - 2 * HOUR) < timedelta(minutes=1)
    assert any("clock differs by +7" in one for one in made.warnings)
    assert made.migrations is None


async def test_an_empty_store_has_no_oldest_and_a_forged_status_is_unknown(hub):
    empty = or_raise(await Maintenance(hub).health())
    assert (dict(empty.statuses), empty.oldest_waiting, empty.oldest_answered) == ({}, None, None)
    new = or_raise(await hub.suspend(1))
    ref = RecordRef("default", str(new.id))
    await hub.backend.put(ref, RecordChange("w", attributes={"status": "canary-status"}), if_revision=1)
    assert dict(or_raise(await Maintenance(hub).health()).statuses) == {"unknown": 1}


async def test_a_schema_that_is_up_to_date_lacks_nothing(tmp_path):
    async with open_test_hub(SqliteBackend(tmp_path / "flows.db")) as hub:
        assert or_raise(await Maintenance(hub).health()).migrations == 0


async def test_the_routes_and_what_they_refuse(hub):
    app = HealthApp(RaisingHub(hub))
    or_raise(await hub.suspend(1, awaiting=CONFIRM))
    status, headers, body = await called(app, "/healthz")
    assert (status, json.loads(body)) == (200, {"status": "ok"})
    assert headers[b"cache-control"] == b"no-store"
    status, _, body = await called(app, "/health")
    assert status == 200
    told = json.loads(body)
    assert (told["status"], told["statuses"], told["backend"]) == ("warning", {"waiting": 1}, "memory")
    assert (await called(app, "/ops/healthz", root_path="/ops"))[0] == 200
    status, headers, body = await called(app, "/health", "HEAD")
    assert (status, body, int(headers[b"content-length"]) > 2) == (200, b"", True)
    status, headers, _ = await called(app, "/health", "POST")
    assert (status, headers[b"allow"]) == (405, b"GET, HEAD")
    for path in ("/", "/healthz/", "/health/../healthz", "/other"):
        assert (await called(app, path))[0] == 404
    with pytest.raises(ValueError, match="websocket"):
        await app({"type": "websocket"}, None, None)


async def test_a_store_that_fails_or_is_slow_is_503_and_says_nothing_of_hosts(hub):
    hub.backend.fails = True
    for path in ("/healthz", "/health"):
        status, _, body = await called(HealthApp(hub), path)
        assert (status, json.loads(body)) == (503, {"status": "unavailable", "code": "backend-unavailable"})
    hub.backend.fails, hub.backend.waits = False, 5
    app = HealthApp(hub, patience=timedelta(milliseconds=20))
    status, _, body = await called(app, "/healthz")
    assert (status, json.loads(body)["code"]) == (503, "timeout")
    hub.backend.waits = 0
    assert (await called(app, "/healthz"))[0] == 200


async def test_many_requests_ask_the_store_once_and_an_answer_serves_for_a_while(hub):
    app = HealthApp(hub, fresh=timedelta(minutes=1))
    hub.backend.waits = 0.02
    replies = await asyncio.gather(*(called(app, "/health") for _ in range(50)))
    assert {status for status, _, _ in replies} == {200}
    await called(app, "/health")
    assert hub.backend.pings == 1
    # A probe is told of now, and one that goes away leaves the others theirs.
    waiting = [asyncio.create_task(called(app, "/healthz")) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    assert [status for status, _, _ in await asyncio.gather(*waiting[1:])] == [200, 200]
    assert hub.backend.pings == 2


async def test_nothing_secret_is_in_an_answer():
    ring = KeyRing.generate("canary-kid")
    async with open_test_hub(keyring=ring) as hub:
        new = or_raise(
            await hub.suspend("canary-state", awaiting=CONFIRM, tenant="canary-tenant", metadata={"who": "canary"})
        )
        await Stores(hub, tenant="canary-tenant").values("orders").save("canary-key", "canary-value")
        _, _, body = await called(HealthApp(hub), "/health")
        assert json.loads(body)["stores"] == {"orders": 1}
        assert b"canary" not in body
        assert str(new.key).encode() not in body
        assert str(new.id).encode() not in body


async def test_lifespan_is_answered(hub):
    messages = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])
    sent = []

    async def receive():
        return next(messages)

    async def send(message):
        sent.append(message["type"])

    await HealthApp(hub)({"type": "lifespan"}, receive, send)
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
