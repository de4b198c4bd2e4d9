"""``/healthz`` for probes and ``/health`` for whoever runs the store, as an ASGI application."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, MutableMapping
from datetime import timedelta
from typing import Any, Final, TypeAlias

from returns.result import Success

from flowpersist.errors import PersistenceError
from flowpersist.errors.arguments import check_duration, check_instance, check_pause
from flowpersist.hub.health import health_data
from flowpersist.hub.maintenance import Maintenance
from flowpersist.hub.raising import RaisingHub
from flowpersist.hub.verbs import PersistenceHub

__all__ = ["HealthApp"]

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]
#: A status and a document.
Reply: TypeAlias = tuple[int, dict[str, Any]]

METHODS: Final = ("GET", "HEAD")
HEADERS: Final = [
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"x-content-type-options", b"nosniff"),
]


class HealthApp:
    """``GET /healthz`` answers 200 if the store answers within ``patience``, else 503: for probes of a process.
    ``GET /health`` answers with what ``Maintenance.health`` gives, which counts what is stored: for monitors.

    - ``hub``: an open hub, whose event loop serves the requests; who opened it closes it.
    - ``patience``: how long a request waits for the store.
    - ``fresh``: for how long an answer of ``/health`` serves later requests. At any time the store is asked once.

    No key, state, name or id of a person is in an answer. Neither route is authenticated: serve them where only probes
    and operators come.
    """

    def __init__(
        self,
        hub: PersistenceHub | RaisingHub,
        *,
        patience: timedelta = timedelta(seconds=5),
        fresh: timedelta = timedelta(seconds=10),
    ) -> None:
        check_instance(hub, "hub", (PersistenceHub, RaisingHub), "a PersistenceHub or a RaisingHub")
        check_duration(patience, "patience")
        check_pause(fresh, "fresh")
        self._hub = hub.hub if isinstance(hub, RaisingHub) else hub
        self._patience = patience.total_seconds()
        self._fresh = fresh.total_seconds()
        self._asking: dict[str, asyncio.Task[Reply]] = {}
        self._known: tuple[float, Reply] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection, as ASGI 3 says."""
        if scope["type"] == "lifespan":
            await _live(receive, send)
            return
        if scope["type"] != "http":
            raise ValueError(f"HealthApp serves http, not {scope['type']}")
        status, data = await self._reply(_path(scope), scope["method"])
        body = json.dumps(data, separators=(",", ":")).encode()
        headers = [*HEADERS, (b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        headers += [(b"allow", b"GET, HEAD")] if status == 405 else []  # noqa: PLR2004 - an HTTP status
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    async def _reply(self, path: str, method: str) -> Reply:
        routes = {"/healthz": self._probed, "/health": self._told}
        if path not in routes:
            return 404, {"status": "not found"}
        if method not in METHODS:
            return 405, {"status": "method not allowed"}
        return await self._shared(path, routes[path])

    async def _shared(self, path: str, ask: Callable[[], Awaitable[Reply]]) -> Reply:
        """What the store is asked by one task, however many requests wait for it."""
        task = self._asking.get(path)
        if task is None:
            task = self._asking[path] = asyncio.ensure_future(self._asked(ask))
            task.add_done_callback(lambda _: self._asking.pop(path, None))
        # A client that goes away does not end it for the others.
        return await asyncio.shield(task)

    async def _asked(self, ask: Callable[[], Awaitable[Reply]]) -> Reply:
        try:
            async with asyncio.timeout(self._patience):
                return await ask()
        except TimeoutError:
            return 503, {"status": "unavailable", "code": "timeout"}

    async def _probed(self) -> Reply:
        seen = await self._hub.suspensions.records.health()
        return (200, {"status": "ok"}) if isinstance(seen, Success) else _unavailable(seen.failure())

    async def _told(self) -> Reply:
        now = self._hub.runtime.monotonic()
        if self._known is not None and now < self._known[0] + self._fresh:
            return self._known[1]
        seen = await Maintenance(self._hub).health()
        if not isinstance(seen, Success):
            return _unavailable(seen.failure())
        found = seen.unwrap()
        reply = 200, {"status": "warning" if found.warnings else "ok", **health_data(found)}
        self._known = (now, reply)
        return reply


def _unavailable(error: PersistenceError) -> Reply:
    # A driver's message may name hosts and users.
    return 503, {"status": "unavailable", "code": error.code}


def _path(scope: Scope) -> str:
    """The path behind that at which the application is mounted."""
    path, root = str(scope["path"]), str(scope.get("root_path", ""))
    return path.removeprefix(root) if root and path.startswith(root) else path


async def _live(receive: Receive, send: Send) -> None:
    """The hub is open before the application is, so there is nothing to start or to stop."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
