"""What runs statements: sessions of a driver, or a transaction of the user's own."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping
from contextlib import suppress
from itertools import count
from typing import Any, Final, Protocol, TypeAlias

from attrs import field, frozen
from neo4j import AsyncDriver, AsyncTransaction, NotificationMinimumSeverity, Query
from neo4j.exceptions import Neo4jError

from flowpersist.backends._neo4j.errors import in_the_way, mapped, rolled_back, too_many
from flowpersist.backends._neo4j.target import ConnectionLimits

__all__ = ["Link", "Rows", "Sessions", "Within"]

#: Each row in the order of the statement's RETURN.
Rows: TypeAlias = list[list[Any]]
#: How often a statement is run that others came in the way of, where that may also be for good.
_ATTEMPTS: Final = 12
_FIRST_WAIT: Final = 0.001
_DOUBLINGS: Final = 8
#: How long those who send the same statement wait for the first of them, whose plan they will share.
_PLANNING_SECONDS: Final = 3.0


class Link(Protocol):
    """Runs a statement as one transaction, or, where it is not ``alone``, as part of one. Raises our errors."""

    alone: bool

    async def run(self, text: str, parameters: Mapping[str, Any], *, writes: bool) -> Rows:
        """The rows that a statement returns."""
        ...


@frozen
class Known:
    """A statement that has been sent, and whether the server has planned it."""

    query: Query
    planned: asyncio.Event = field(factory=asyncio.Event)

    async def wait(self) -> None:
        """Until it is planned; not for ever, since the first of those who sent it may wait for a lock."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_PLANNING_SECONDS):
                await self.planned.wait()


class Sessions:
    """Each statement is an auto-commit transaction of its own, in a session of its own.

    Who finds no connection free waits in line here: the driver's own pool wakes everybody for each that becomes free.
    """

    alone = True

    def __init__(self, driver: AsyncDriver, database: str | None, limits: ConnectionLimits) -> None:
        self.driver = driver
        self._database = database
        self._limits = limits
        self._free = asyncio.Semaphore(limits.pool_size)
        self._known: dict[str, Known] = {}
        self._tasks: set[asyncio.Task[Rows]] = set()

    async def run(self, text: str, parameters: Mapping[str, Any], *, writes: bool) -> Rows:
        """See ``Link``. Cancelled: the statement goes on for ``grace``, longer than connecting takes. The driver leaks
        its socket where it is cancelled while it connects.
        """
        task = asyncio.ensure_future(self._patiently(text, parameters, writes=writes))
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.get_loop().call_later(self._limits.grace, task.cancel)
            raise

    def _ended(self, task: asyncio.Task[Rows]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            # What failed after its caller has gone is nobody's to retrieve.
            task.exception()

    async def ended(self) -> None:
        """Wait for the statements that callers have left."""
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _patiently(self, text: str, parameters: Mapping[str, Any], *, writes: bool) -> Rows:
        """Whom the server rolled back for others' sake is run again."""
        until = time.monotonic() + self._limits.operation.total_seconds()
        for attempt in count(1):
            with mapped(writes=writes):
                try:
                    return await self._once(text, parameters)
                except Neo4jError as error:
                    passes = rolled_back(error) or (in_the_way(error) and attempt < _ATTEMPTS)
                    if not passes or time.monotonic() > until:
                        raise
            await asyncio.sleep(random.uniform(0, _FIRST_WAIT * 2 ** min(attempt, _DOUBLINGS)))  # noqa: S311 - to keep rivals apart
        raise AssertionError("attempts are not counted to an end")

    async def _once(self, text: str, parameters: Mapping[str, Any]) -> Rows:
        known = self._known.get(text)
        if known is not None:
            if not known.planned.is_set():
                await known.wait()
            return await self._sent(known.query, parameters)
        # The server plans a statement that is new to it for each who sends it meanwhile: slow where fifty do.
        # It gives up, too, where the connection breaks without its noticing: else locks would stay. The driver asks for
        # literals, against injection: ours are of files, with names filled in.
        query = Query(text, timeout=self._limits.operation.total_seconds())  # pyright: ignore[reportArgumentType]
        known = self._known[text] = Known(query)
        try:
            return await self._sent(query, parameters)
        finally:
            known.planned.set()

    async def _sent(self, query: Query, parameters: Mapping[str, Any]) -> Rows:
        await self._turn()
        try:
            # Cancelled or out of time: the driver kills the connection, which would have half a reply in it.
            async with (
                asyncio.timeout(self._limits.operation.total_seconds()),
                self.driver.session(
                    database=self._database,
                    # They quote the statement and go to a log.
                    notifications_min_severity=NotificationMinimumSeverity.OFF,
                ) as session,
            ):
                result = await session.run(query, dict(parameters))
                return await result.values()
        finally:
            self._free.release()

    async def _turn(self) -> None:
        if not self._free.locked():
            await self._free.acquire()
            return
        try:
            async with asyncio.timeout(self._limits.pool.total_seconds()):
                await self._free.acquire()
        except TimeoutError:
            raise too_many() from None


class Within:
    """Statements are part of a transaction that the caller has begun; what fails ends it."""

    alone = False

    def __init__(self, transaction: AsyncTransaction) -> None:
        self._transaction = transaction

    async def run(self, text: str, parameters: Mapping[str, Any], *, writes: bool) -> Rows:
        """See ``Link``. Nothing is tried again: the server has rolled back the whole."""
        with mapped(writes=writes):
            result = await self._transaction.run(text, dict(parameters))  # pyright: ignore[reportArgumentType] - as above
            return await result.values()
