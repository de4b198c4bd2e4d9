"""Pools of connections: our own, and the user's behind the same three methods.

asyncpg's own pool starts a task, two timers and four turns of the event loop for each loan, a third of what a small
read takes. Ours lends what is idle at once. Whoever has to wait is served in the order of coming: a connection that
comes back is handed over, and never put where a newcomer could take it.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

from asyncpg import Connection, Pool
from attrs import field, mutable

from flowpersist.backends._postgres.layout import Link
from flowpersist.backends._postgres.liveness import cut, is_gone
from flowpersist.backends.base import PoolUse

__all__ = ["GivenPool", "OwnPool", "Source", "closed"]

#: Seconds after which a connection that nobody needs is closed.
KEPT: Final = 300.0
#: Seconds that closing a connection may take until it is cut.
PATIENCE: Final = 5.0


class Source(Protocol):
    """What lends connections."""

    async def acquire(self, timeout: float) -> tuple[Link, float]:
        """A connection, and for how many seconds nobody has used it. ``TimeoutError`` where none becomes free."""
        ...

    async def release(self, link: Link) -> None:
        """Take a connection back; one that is closed makes room for another."""
        ...

    async def close(self) -> None:
        """Close what was made here. Nothing is lent any more."""
        ...

    def use(self) -> PoolUse:
        """How many connections are in use."""
        ...


@mutable(eq=False)
class OwnPool:
    """At most ``size`` connections, made when they are needed. The one that was used last is lent first."""

    connect: Callable[[], Awaitable[Connection]]
    size: int
    _idle: list[tuple[Connection, float]] = field(factory=list)
    _made: int = 0
    #: Those who wait; what they get is a connection, or None for leave to make one.
    _waiting: deque[asyncio.Future[Connection | None]] = field(factory=deque)
    _sweeper: asyncio.TimerHandle | None = None
    _closing: set[asyncio.Task[Any]] = field(factory=set)

    async def acquire(self, timeout: float) -> tuple[Link, float]:
        """See ``Source``."""
        if self._idle:
            connection, since = self._idle.pop()
            return connection, time.monotonic() - since
        if self._made >= self.size:
            handed = await self._turn(timeout)
            if handed is not None:
                return handed, 0.0
        else:
            self._made += 1
        try:
            return await self.connect(), 0.0
        except BaseException:
            self._gone()
            raise

    async def _turn(self, timeout: float) -> Connection | None:
        turn: asyncio.Future[Connection | None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            async with asyncio.timeout(timeout):
                return await turn
        except BaseException:
            if turn.done() and not turn.cancelled():
                # It was handed over in the very moment in which its waiter gave up.
                self._back(turn.result())
            raise

    async def release(self, link: Link) -> None:
        """See ``Source``."""
        self._back(link)  # type: ignore[arg-type]  # what acquire gave

    def _back(self, connection: Connection | None) -> None:
        if connection is None or connection.is_closed():
            self._gone()
        elif not self._hand(connection):
            self._idle.append((connection, time.monotonic()))
            if self._sweeper is None:
                self._sweeper = asyncio.get_running_loop().call_later(KEPT, self._sweep)

    def _gone(self) -> None:
        # Whoever waits may make a connection in the place of this one.
        if not self._hand(None):
            self._made -= 1

    def _hand(self, connection: Connection | None) -> bool:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(connection)
                return True
        return False

    def _sweep(self) -> None:
        """Close what nobody has needed for long."""
        self._sweeper = None
        until = time.monotonic() - KEPT
        old = [connection for connection, since in self._idle if since <= until]
        self._idle = [(connection, since) for connection, since in self._idle if since > until]
        self._made -= len(old)
        for connection in old:
            task = asyncio.ensure_future(closed(connection))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
        if self._idle:
            delay = self._idle[0][1] - until
            self._sweeper = asyncio.get_running_loop().call_later(delay, self._sweep)

    def use(self) -> PoolUse:
        """See ``Source``."""
        waiting = sum(not turn.done() for turn in self._waiting)
        return PoolUse(self._made - len(self._idle), self.size, waiting)

    async def close(self) -> None:
        """See ``Source``."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        idle, self._idle = self._idle, []
        await asyncio.gather(*(closed(connection) for connection, _ in idle), *self._closing)


async def closed(connection: Link) -> None:
    """Close a connection, or cut it."""
    try:
        await connection.close(timeout=PATIENCE)
    except Exception:  # noqa: BLE001 - whatever a dying server does: the connection is to go
        cut(connection)


@mutable(eq=False)
class GivenPool:
    """A pool of the user's, which stays open."""

    pool: Pool
    _used: dict[int, float] = field(factory=dict)

    async def acquire(self, timeout: float) -> tuple[Link, float]:
        """See ``Source``."""
        link = await self.pool.acquire(timeout=timeout)
        used = self._used.pop(link.get_server_pid(), None)
        return link, 0.0 if used is None else time.monotonic() - used

    async def release(self, link: Link) -> None:
        """See ``Source``. The pool itself waits for a cancelled statement to end."""
        if not is_gone(link):
            if len(self._used) > self.pool.get_max_size():
                # Connections that the pool has closed in the meantime.
                self._used.clear()
            self._used[link.get_server_pid()] = time.monotonic()
        await self.pool.release(link, timeout=PATIENCE)  # type: ignore[arg-type]  # what acquire gave

    async def close(self) -> None:
        """See ``Source``."""

    def use(self) -> PoolUse:
        """See ``Source``. The driver does not tell who waits."""
        return PoolUse(self.pool.get_size() - self.pool.get_idle_size(), self.pool.get_max_size(), None)
