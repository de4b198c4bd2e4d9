"""Connections: a pool of our own or the user's, from which one is lent for one operation at a time, alive as far as can
be told.

None is held between operations, so that a suspended flow holds none, and a pooler between us and the server may give
each operation another one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from typing import Any, Final, TypeVar
from urllib.parse import parse_qs, urlsplit

import asyncpg
from asyncpg import Connection
from attrs import field, frozen, mutable

from flowpersist.backends._postgres.errors import DRIVER, connecting, lost, mapped
from flowpersist.backends._postgres.layout import NAME, Link
from flowpersist.backends._postgres.liveness import cut, is_gone
from flowpersist.backends._postgres.pool import PATIENCE, GivenPool, OwnPool, Source, closed
from flowpersist.backends.base import PoolUse
from flowpersist.errors import BackendUnavailable, ConfigurationError, StorageError

__all__ = ["Connections", "Options"]

T = TypeVar("T")
#: After so many seconds without use a connection may have been closed without the event loop having had a turn to see.
RESTED: Final = 0.1
#: After so many it is asked whether it lives: firewalls forget connections silently.
ASLEEP: Final = 30.0
#: Turns of the event loop after which it has seen all that has arrived: a last message, the end, and what follows.
_TURNS: Final = 8


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


async def connect(options: Options) -> Connection:
    """A new connection. Its own time limit must not be taken for that of waiting for a free one."""
    try:
        return await asyncpg.connect(**options.arguments())
    except TimeoutError as error:
        message = f"the {NAME} server did not answer in time; check that it runs, and host and port in the URL"
        raise BackendUnavailable(message, NAME, True) from error


@mutable(eq=False)
class Connections:
    """Lends connections of one pool. ``given`` is the user's."""

    options: Options
    given: asyncpg.Pool | None = None
    _source: Source | None = None
    _lent: int = 0
    _apart: set[Link] = field(factory=set)
    #: How many are apart, or to be.
    _spared: int = 0
    _settling: set[asyncio.Task[None]] = field(factory=set)
    _idle: asyncio.Event = field(factory=asyncio.Event)

    def start(self) -> None:
        """From here on connections are lent; they are made when they are needed."""
        options = self.options
        own = OwnPool(partial(connect, options), options.pool_size)
        self._source = own if self.given is None else GivenPool(self.given)

    def use(self) -> PoolUse | None:
        """How many connections are in use; None while it is closed."""
        return None if self._source is None else self._source.use()

    async def stop(self) -> None:
        """Wait for what is under way, and close what is ours."""
        source, self._source = self._source, None
        for link in tuple(self._apart):
            cut(link)
        while self._lent:
            self._idle.clear()
            await self._idle.wait()
        if source is not None:
            await source.close()

    @asynccontextmanager
    async def lent(self) -> AsyncIterator[Link]:
        """A connection for as long as it takes."""
        source, link = await self._take()
        error: BaseException | None = None
        try:
            yield link
        except BaseException as raised:
            error = raised
            raise
        finally:
            await self._give_back(source, link, error)

    @asynccontextmanager
    async def apart(self) -> AsyncIterator[Link]:
        """A connection that operations do not have to do without, however long it is kept; ``stop`` cuts it."""
        self._spared += 1
        try:
            link = await self._set_apart()
            try:
                yield link
            finally:
                self._apart.discard(link)
                await self._rejoined(link)
        finally:
            self._spared -= 1

    async def _set_apart(self) -> Link:
        source = self._opened()
        # As long as it takes to connect, stop waits: what comes to stand after it would be nobody's to close.
        self._lent += 1
        try:
            with connecting():
                link = await self._another()
            if self._source is source:
                self._apart.add(link)
                return link
            await self._rejoined(link)
        finally:
            self._returned()
        raise _not_open()

    async def _another(self) -> Link:
        if self.given is None:
            return await connect(self.options)
        if self._spared >= self.given.get_max_size():
            message = (
                "the pool that was given has no connection to spare: raise its max_size, since who listens keeps one, "
                "and operations need another"
            )
            raise ConfigurationError(message, "notify")
        return await self.given.acquire(timeout=self.options.acquire_timeout.total_seconds())

    async def _rejoined(self, link: Link) -> None:
        await (closed(link) if self.given is None else _let_go(GivenPool(self.given), link))

    async def run(self, action: Callable[[Link], Awaitable[T]], *, writes: bool) -> T:
        """One operation on a connection."""
        source, link = await self._take()
        error: BaseException | None = None
        try:
            with mapped(link, writes=writes):
                return await action(link)
        except BaseException as raised:
            error = raised
            raise
        finally:
            await self._give_back(source, link, error)

    async def _take(self) -> tuple[Source, Link]:
        source = self._opened()
        self._lent += 1
        try:
            with connecting():
                return source, await self._alive(source)
        except BaseException:
            self._returned()
            raise

    def _opened(self) -> Source:
        if self._source is None:
            raise _not_open()
        return self._source

    def _returned(self) -> None:
        self._lent -= 1
        if not self._lent:
            self._idle.set()

    async def _alive(self, source: Source) -> Link:
        timeout = self.options.acquire_timeout.total_seconds()
        while True:
            link, rested = await source.acquire(timeout)
            try:
                if rested < RESTED or await _answers(link, rested):
                    return link
            except BaseException:
                cut(link)
                await source.release(link)
                raise
            cut(link)
            await source.release(link)

    async def _give_back(self, source: Source, link: Link, error: BaseException | None) -> None:
        """What has ended in time goes back at once. Where the server may still be at work on a statement for which
        nobody waits any more, the connection is nobody's until that has ended.
        """
        cause = None if error is None else error.__cause__ or error
        if cause is None or (isinstance(cause, asyncpg.PostgresError | StorageError) and not lost(cause)):
            await self._released(source, link)
        elif isinstance(cause, TimeoutError | asyncio.CancelledError):
            task = asyncio.ensure_future(self._settled(source, link))
            self._settling.add(task)
            task.add_done_callback(self._settling.discard)
        else:
            cut(link)
            await self._released(source, link)

    async def _settled(self, source: Source, link: Link) -> None:
        if not await _answers(link, ASLEEP):
            cut(link)
        await self._released(source, link)

    async def _released(self, source: Source, link: Link) -> None:
        try:
            if not is_gone(link) and link.is_in_transaction():
                cut(link)
            await _let_go(source, link)
        finally:
            self._returned()


def _not_open() -> BackendUnavailable:
    return BackendUnavailable(f"the {NAME} store is not open", NAME)


async def _let_go(source: Source, link: Link) -> None:
    try:
        await source.release(link)
    except DRIVER:
        # The user's pool could not make it fit for use, and has dropped it.
        cut(link)


async def _answers(link: Link, rested: float) -> bool:
    """Whether a connection that has rested lives."""
    for _ in range(_TURNS):
        await asyncio.sleep(0)
        if is_gone(link):
            return False
    if rested >= ASLEEP:
        try:
            await link.fetchval("select 1", timeout=PATIENCE)
        except DRIVER:
            return False
    return True
