"""Connections: a pool of our own or the user's, from which one is lent for one operation at a time, alive as far as can
be told.

None is held between operations, so that a suspended flow holds none, and a pooler between us and the server may give
each operation another one.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import asyncpg
from asyncpg import Connection
from asyncpg.pool import PoolConnectionProxy
from attrs import field, frozen, mutable

from flowpersist.backends._postgres.errors import connecting, lost
from flowpersist.backends._postgres.layout import NAME, Link
from flowpersist.errors import BackendUnavailable

__all__ = ["Connections", "Options", "connect"]

#: After so many seconds without use a connection may have been closed without the event loop having had a turn to see.
RESTED: Final = 0.1
#: After so many it is asked whether it lives: firewalls forget connections silently.
ASLEEP: Final = 30.0
#: Seconds that such a question, and a cancelled statement, may take until the connection is given up.
PATIENCE: Final = 5.0
#: Turns of the event loop after which it has seen all that has arrived.
_TURNS: Final = 3


@frozen
class Options:
    """How connections of our own are made. ``dsn`` is what the driver gets of the URL."""

    dsn: str = field(repr=False)
    pool_size: int = 10
    acquire_timeout: timedelta = timedelta(seconds=30)
    connect_timeout: timedelta = timedelta(seconds=10)
    command_timeout: timedelta = timedelta(seconds=60)
    statement_cache: bool = True

    def arguments(self) -> dict[str, Any]:
        """For the driver."""
        given: dict[str, Any] = {
            "dsn": self.dsn,
            "timeout": self.connect_timeout.total_seconds(),
            "command_timeout": self.command_timeout.total_seconds(),
        }
        if not self.statement_cache:
            given["statement_cache_size"] = 0
        named = parse_qs(urlsplit(self.dsn).query)
        if "target_session_attrs" not in named:
            # A standby is behind its primary: nothing is decided by what it says.
            given["target_session_attrs"] = "primary"
        if "application_name" not in named:
            given["server_settings"] = {"application_name": "flowpersist"}
        return given


async def connect(*arguments: Any, **named: Any) -> Connection:  # noqa: ANN401 - the driver's
    """A new connection. Its own time limit must not be taken for that of waiting for a free one."""
    try:
        return await asyncpg.connect(*arguments, **named)
    except TimeoutError as error:
        message = f"the {NAME} server did not answer in time; look whether it runs, and at host and port in the URL"
        raise BackendUnavailable(message, NAME, True) from error


async def _leave(_connection: Connection) -> None:
    """What becomes of a connection that comes back. Operations leave nothing behind, so it costs no round trip."""


@mutable(eq=False)
class Connections:
    """Lends connections of one pool. ``given`` is the user's, which stays open."""

    options: Options
    given: asyncpg.Pool | None = None
    _pool: asyncpg.Pool | None = None
    _used: dict[int, float] = field(factory=dict)
    _lent: int = 0
    _idle: asyncio.Event = field(factory=asyncio.Event)

    async def start(self) -> None:
        """Make the pool; connections come when they are needed."""
        if self.given is not None:
            self._pool = self.given
            return
        arguments = self.options.arguments()
        self._pool = asyncpg.create_pool(
            arguments.pop("dsn"),
            min_size=0,
            max_size=self.options.pool_size,
            connect=connect,
            reset=_leave,
            **arguments,
        )
        _ = await self._pool

    async def stop(self) -> None:
        """Wait for what is under way, and close the pool if it is ours."""
        pool, self._pool = self._pool, None
        while self._lent:
            self._idle.clear()
            await self._idle.wait()
        if pool is not None and pool is not self.given:
            with contextlib.suppress(TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                await asyncio.wait_for(pool.close(), PATIENCE)

    @asynccontextmanager
    async def lent(self) -> AsyncIterator[Link]:
        """A connection for one operation."""
        pool = self._pool
        if pool is None:
            raise BackendUnavailable(f"the {NAME} store is not open", NAME)
        self._lent += 1
        try:
            with connecting():
                connection = await self._alive(pool)
            try:
                yield connection
            except BaseException as error:
                if lost(error.__cause__ or error):
                    connection.terminate()
                raise
            finally:
                await self._give_back(pool, connection)
        finally:
            self._lent -= 1
            if not self._lent:
                self._idle.set()

    async def _alive(self, pool: asyncpg.Pool) -> PoolConnectionProxy:
        timeout = self.options.acquire_timeout.total_seconds()
        ends = time.monotonic() + timeout
        while True:
            connection = await pool.acquire(timeout=max(ends - time.monotonic(), 0.001))
            try:
                alive = await self._answers(connection)
            except BaseException:
                await self._give_back(pool, connection)
                raise
            if alive:
                return connection
            connection.terminate()
            await self._give_back(pool, connection)

    async def _answers(self, connection: PoolConnectionProxy) -> bool:
        """Whether a connection that comes from the pool lives. One that was in use just now is taken at its word."""
        used = self._used.get(connection.get_server_pid())
        rested = 0.0 if used is None else time.monotonic() - used
        if rested > RESTED:
            for _ in range(_TURNS):
                await asyncio.sleep(0)
        if connection.is_closed():
            return False
        if rested > ASLEEP:
            try:
                await connection.fetchval("select 1", timeout=PATIENCE)
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError):
                return False
        return True

    async def _give_back(self, pool: asyncpg.Pool, connection: PoolConnectionProxy) -> None:
        if not connection.is_closed():
            self._note(connection.get_server_pid())
        # What went wrong has been told already, and a connection that can't be used again, the pool drops.
        with contextlib.suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError):
            await pool.release(connection, timeout=PATIENCE)

    def _note(self, server: int) -> None:
        if len(self._used) > 1000:  # noqa: PLR2004 - servers' processes that are long gone
            self._used.clear()
        self._used[server] = time.monotonic()
