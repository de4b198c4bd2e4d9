"""A backend that fails on request: the same protocol round another one.

::

    faulty = FaultyBackend(backend)
    faulty.lose("put")                          # the next put is done, and its acknowledgement is lost
    faulty.fail("get", times=2)                 # the next two gets are not done
    faulty.delay("query", timedelta(seconds=1))
    assert faulty.calls["put"] == 1
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final, TypeVar

from attrs import define, field

from flowpersist.backends.base import (
    BackendHealth,
    Capability,
    NamespaceSchema,
    Order,
    Page,
    Read,
    Record,
    RecordChange,
    RecordRef,
    StorageBackend,
    Where,
    Written,
)
from flowpersist.errors import BackendUnavailable, PersistenceError, UnknownOutcome

__all__ = ["FaultyBackend"]

T = TypeVar("T")
OPERATIONS: Final = frozenset({"open", "close", "get", "put", "delete", "query", "purge", "ping"})


@define
class _Plan:
    #: For each call to come: the error, and whether the call is done before it is raised.
    faults: deque[tuple[PersistenceError, bool]] = field(factory=deque)
    delay: timedelta = timedelta(0)


class FaultyBackend:
    """Passes every call on to ``inner``, counts it in ``calls``, and lets it go wrong as was asked for.

    Faults are used up in the order in which they were asked for, one for each call of that operation.
    """

    def __init__(self, inner: StorageBackend) -> None:
        self.inner = inner
        self.name = inner.name
        # What is not passed on is none of this one's powers.
        self.capabilities = inner.capabilities & {Capability.DURABLE, Capability.MULTI_PROCESS}
        self.calls: Counter[str] = Counter()
        self._plans = {operation: _Plan() for operation in OPERATIONS}

    if TYPE_CHECKING:
        # A property is no attribute to a type checker, and the protocol asks for one.
        clock_offset: timedelta
    else:

        @property
        def clock_offset(self) -> timedelta:
            """The inner backend's."""
            return self.inner.clock_offset

        @clock_offset.setter
        def clock_offset(self, offset: timedelta) -> None:
            self.inner.clock_offset = offset

    def lose(self, operation: str, *, times: int = 1) -> None:
        """Let the next calls be done and their acknowledgements be lost (``UnknownOutcome``)."""
        error = UnknownOutcome(f"the acknowledgement of {operation} was lost", self.name, True)
        self._plan(operation).faults.extend([(error, True)] * times)

    def fail(self, operation: str, error: PersistenceError | None = None, *, times: int = 1) -> None:
        """Let the next calls fail with nothing done; without an error by a ``BackendUnavailable`` that is retryable."""
        unavailable = BackendUnavailable(f"{operation} was made to fail", self.name, True)
        self._plan(operation).faults.extend([(error or unavailable, False)] * times)

    def delay(self, operation: str, by: timedelta) -> None:
        """Let all calls from now on begin later."""
        self._plan(operation).delay = by

    def _plan(self, operation: str) -> _Plan:
        if operation not in OPERATIONS:
            raise ValueError(f"an operation is one of {', '.join(sorted(OPERATIONS))}")
        return self._plans[operation]

    async def _through(self, operation: str, call: Callable[[], Awaitable[T]]) -> T:
        self.calls[operation] += 1
        plan = self._plans[operation]
        if plan.delay:
            await asyncio.sleep(plan.delay.total_seconds())
        error, done = plan.faults.popleft() if plan.faults else (None, True)
        if error is not None and not done:
            raise error
        result = await call()
        if error is not None:
            raise error
        return result

    async def open(self, schema: Sequence[NamespaceSchema]) -> None:
        """See ``StorageBackend``."""
        await self._through("open", lambda: self.inner.open(schema))

    async def close(self) -> None:
        """See ``StorageBackend``."""
        await self._through("close", self.inner.close)

    async def get(self, ref: RecordRef, *, body: bool = True) -> Read:
        """See ``StorageBackend``."""
        return await self._through("get", lambda: self.inner.get(ref, body=body))

    async def put(
        self, ref: RecordRef, change: RecordChange, *, if_revision: int, not_after: datetime | None = None
    ) -> Written:
        """See ``StorageBackend``."""
        return await self._through(
            "put", lambda: self.inner.put(ref, change, if_revision=if_revision, not_after=not_after)
        )

    async def delete(self, ref: RecordRef, *, if_revision: int) -> bool:
        """See ``StorageBackend``."""
        return await self._through("delete", lambda: self.inner.delete(ref, if_revision=if_revision))

    async def query(
        self,
        namespace: str,
        where: Where,
        *,
        order: Order = "key",
        limit: int,
        after: str | None = None,
        descending: bool = False,
    ) -> Page[Record]:
        """See ``StorageBackend``."""
        return await self._through(
            "query",
            lambda: self.inner.query(namespace, where, order=order, limit=limit, after=after, descending=descending),
        )

    async def purge(self, namespace: str, where: Where, *, limit: int) -> int:
        """See ``StorageBackend``."""
        return await self._through("purge", lambda: self.inner.purge(namespace, where, limit=limit))

    async def ping(self) -> BackendHealth:
        """See ``StorageBackend``."""
        return await self._through("ping", self.inner.ping)
