"""What runs statements: sessions of a driver, or a transaction of the user's own."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final, Protocol, TypeAlias

from neo4j import AsyncDriver, AsyncTransaction, NotificationMinimumSeverity, Query
from neo4j.exceptions import Neo4jError

from flowpersist.backends._neo4j.errors import again_at_once, mapped

__all__ = ["Link", "Rows", "Sessions", "Within"]

#: Each row in the order of the statement's RETURN.
Rows: TypeAlias = list[list[Any]]
#: How often a statement is run that others came in the way of.
_ATTEMPTS: Final = 12
_FIRST_WAIT: Final = 0.001
_LONGEST_WAIT: Final = 0.2


class Link(Protocol):
    """Runs a statement as one transaction, or, where it is not ``alone``, as part of one. Raises our errors."""

    alone: bool

    async def run(self, text: str, parameters: Mapping[str, Any], *, writes: bool) -> Rows:
        """The rows that a statement returns."""
        ...


class Sessions:
    """Each statement is an auto-commit transaction of its own, in a session of its own."""

    alone = True

    def __init__(self, driver: AsyncDriver, database: str | None, timeout: timedelta, grace: timedelta) -> None:
        self.driver = driver
        self._grace = grace.total_seconds()
        self._database = database
        self._timeout = timeout.total_seconds()
        self._queries: dict[str, Query] = {}
        self._first: dict[str, asyncio.Lock] = {}
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
            task.get_loop().call_later(self._grace, task.cancel)
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
        """Whom the server rolled back for another's sake is run again."""
        for attempt in range(_ATTEMPTS):
            with mapped(writes=writes):
                try:
                    return await self._once(text, parameters)
                except Neo4jError as error:
                    if attempt == _ATTEMPTS - 1 or not again_at_once(error):
                        raise
            await asyncio.sleep(random.uniform(0, min(_LONGEST_WAIT, _FIRST_WAIT * 2**attempt)))  # noqa: S311 - to keep rivals apart
        raise AssertionError("the last attempt returns or raises")

    async def _once(self, text: str, parameters: Mapping[str, Any]) -> Rows:
        query = self._queries.get(text)
        if query is not None:
            return await self._sent(query, parameters)
        # The server plans a statement that is new to it for each who sends it meanwhile: slow where fifty do.
        async with self._first.setdefault(text, asyncio.Lock()):
            query = self._queries.get(text)
            if query is None:
                # The server gives up, too, where the connection breaks without its noticing: else locks would stay.
                # The driver asks for literals, against injection: ours are of files, with names filled in.
                query = Query(text, timeout=self._timeout)  # pyright: ignore[reportArgumentType]
                rows = await self._sent(query, parameters)
                self._queries[text] = query
                return rows
        return await self._sent(query, parameters)

    async def _sent(self, query: Query, parameters: Mapping[str, Any]) -> Rows:
        # Cancelled or out of time: the driver kills the connection, which would have half a reply in it.
        async with (
            asyncio.timeout(self._timeout),
            self.driver.session(
                database=self._database,
                # They quote the statement and go to a log.
                notifications_min_severity=NotificationMinimumSeverity.OFF,
            ) as session,
        ):
            result = await session.run(query, dict(parameters))
            return await result.values()


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
