"""Running statements: in sessions of a driver, or in a transaction of the caller's."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping
from contextlib import suppress
from itertools import count
from typing import Any, Final, Protocol, TypeAlias

from attrs import field, frozen
from neo4j import AsyncDriver, AsyncManagedTransaction, AsyncTransaction, NotificationMinimumSeverity, Query
from neo4j.exceptions import Neo4jError

from flowpersist.backends._joining import aborted, not_begun
from flowpersist.backends._neo4j.errors import in_the_way, mapped, rolled_back, too_many
from flowpersist.backends._neo4j.rows import NAME
from flowpersist.backends._neo4j.target import ConnectionLimits
from flowpersist.backends.base import PoolUse
from flowpersist.errors import StorageError

__all__ = ["Link", "Rows", "Sessions", "Within", "again"]

#: The rows; each has its values in the order of the statement's RETURN.
Rows: TypeAlias = list[list[Any]]
#: How often a statement is run that failed because of concurrent changes, where the cause may also be permanent.
_ATTEMPTS: Final = 12
_FIRST_WAIT: Final = 0.001
_DOUBLINGS: Final = 8
#: How long callers of the same statement wait for the first one to be planned, to share its plan.
_PLANNING_SECONDS: Final = 3.0


async def again(attempt: int) -> None:
    """Wait before an attempt is repeated that failed because of concurrent changes; no wait before the first (0)."""
    if attempt:
        await asyncio.sleep(random.uniform(0, _FIRST_WAIT * 2 ** min(attempt, _DOUBLINGS)))  # noqa: S311 - to keep rivals apart


class Link(Protocol):
    """Runs a statement as one transaction, or as part of one if it is not ``alone``. Raises flowpersist's errors."""

    alone: bool

    async def run(self, text: str, parameters: Mapping[str, Any], *, writes: bool) -> Rows:
        """Run a statement and give its rows."""
        ...


@frozen
class Known:
    """A statement that has been sent, and whether the server has planned it."""

    query: Query
    planned: asyncio.Event = field(factory=asyncio.Event)

    async def wait(self) -> None:
        """Wait until the statement is planned; bounded, because the first caller may itself wait for a lock."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_PLANNING_SECONDS):
                await self.planned.wait()


class Sessions:
    """Runs each statement as an auto-commit transaction in a session of its own.

    Callers for whom no connection is free wait in a queue here, because the driver's pool wakes all of its waiters for
    each connection that becomes free.
    """

    alone = True

    def __init__(self, driver: AsyncDriver, database: str | None, limits: ConnectionLimits) -> None:
        self.driver = driver
        self._database = database
        self._limits = limits
        self._free = asyncio.Semaphore(limits.pool_size)
        self._used = self._waiting = 0
        self._known: dict[str, Known] = {}
        self._tasks: set[asyncio.Task[Rows]] = set()

    async def run(self, text: str, parameters: Mapping[str, Any], *, writes: bool) -> Rows:
        """See ``Link``. If cancelled, the statement goes on for ``grace``, which is longer than connecting takes: the
        driver leaks its socket when it is cancelled while it connects.
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
            # Retrieve the exception of a statement whose caller has gone.
            task.exception()

    async def ended(self) -> None:
        """Wait for the statements whose callers were cancelled."""
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _patiently(self, text: str, parameters: Mapping[str, Any], *, writes: bool) -> Rows:
        """Run a statement, and again if the server rolled it back in favour of other transactions."""
        until = time.monotonic() + self._limits.operation.total_seconds()
        for attempt in count(1):
            with mapped(writes=writes):
                try:
                    return await self._once(text, parameters)
                except Neo4jError as error:
                    passes = rolled_back(error) or (in_the_way(error) and attempt < _ATTEMPTS)
                    if not passes or time.monotonic() > until:
                        raise
            await again(attempt)
        raise AssertionError("unreachable: the loop has no end")

    async def _once(self, text: str, parameters: Mapping[str, Any]) -> Rows:
        known = self._known.get(text)
        if known is not None:
            if not known.planned.is_set():
                await known.wait()
            return await self._sent(known.query, parameters)
        # The server plans a new statement once for each caller that sends it at the same time, which is slow with fifty
        # callers. It must end the statement too if the connection breaks unnoticed, else the locks stay. The driver
        # requires literal texts, against injection: ours come from files, with checked names filled in.
        query = Query(text, timeout=self._limits.operation.total_seconds())  # pyright: ignore[reportArgumentType]
        known = self._known[text] = Known(query)
        try:
            return await self._sent(query, parameters)
        finally:
            known.planned.set()

    async def _sent(self, query: Query, parameters: Mapping[str, Any]) -> Rows:
        await self._turn()
        self._used += 1
        try:
            # When it is cancelled or out of time, the driver closes the connection, which would hold half a reply.
            async with (
                asyncio.timeout(self._limits.operation.total_seconds()),
                self.driver.session(
                    database=self._database,
                    # The notifications quote the statement and would be logged.
                    notifications_min_severity=NotificationMinimumSeverity.OFF,
                ) as session,
            ):
                result = await session.run(query, dict(parameters))
                return await result.values()
        finally:
            self._used -= 1
            self._free.release()

    async def _turn(self) -> None:
        if not self._free.locked():
            await self._free.acquire()
            return
        self._waiting += 1
        try:
            async with asyncio.timeout(self._limits.pool.total_seconds()):
                await self._free.acquire()
        except TimeoutError:
            raise too_many() from None
        finally:
            self._waiting -= 1

    def use(self) -> PoolUse:
        """How many connections are in use."""
        return PoolUse(self._used, self._limits.pool_size, self._waiting)


class Within:
    """Runs statements in a transaction that the caller has begun; a failing statement ends that transaction."""

    alone = False

    def __init__(self, transaction: AsyncTransaction | AsyncManagedTransaction) -> None:
        self._transaction = transaction
        # A transaction does one thing at a time.
        self._turn = asyncio.Lock()
        self._check_begun()

    def _check_begun(self) -> None:
        # A managed one can't be used after its function has returned, which the driver sees to.
        if isinstance(self._transaction, AsyncTransaction) and self._transaction.closed():
            raise not_begun(NAME, "begin one with session.begin_transaction()")

    async def run(self, text: str, parameters: Mapping[str, Any], *, writes: bool) -> Rows:
        """See ``Link``. Nothing is retried, since the server has rolled back the whole transaction."""
        self._check_begun()
        try:
            async with self._turn:
                with mapped(writes=writes):
                    result = await self._transaction.run(text, dict(parameters))  # pyright: ignore[reportArgumentType] - as above
                    return await result.values()
        except StorageError as error:
            found = aborted(error)
            if found is error:
                raise
            raise found from error
