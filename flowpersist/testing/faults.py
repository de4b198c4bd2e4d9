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
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import ClassVar, Final, TypeVar

from attrs import define, field

from flowpersist.backends.base import StorageBackend
from flowpersist.backends.kit import DelegatingBackend
from flowpersist.errors import BackendUnavailable, PersistenceError, UnknownOutcome

__all__ = ["FaultyBackend"]

T = TypeVar("T")
OPERATIONS: Final = frozenset(
    {"open", "close", "get", "get_many", "put", "put_many", "delete", "query", "purge", "ping"}
)


@define
class _Plan:
    #: For each call to come: the error, and whether the call is done before it is raised.
    faults: deque[tuple[PersistenceError, bool]] = field(factory=deque)
    delay: timedelta = timedelta(0)


class FaultyBackend(DelegatingBackend):
    """Passes every call on to ``inner``, counts it in ``calls``, and lets it go wrong as was asked for.

    Faults are used up in the order in which they were asked for, one for each call of that operation.
    """

    #: Faults are for the operations of ``StorageBackend`` alone.
    forwarded: ClassVar[frozenset[type]] = frozenset()

    def __init__(self, inner: StorageBackend) -> None:
        super().__init__(inner)
        self.calls: Counter[str] = Counter()
        self._plans = {operation: _Plan() for operation in OPERATIONS}

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
            raise ValueError(f"Invalid operation: expected one of {', '.join(sorted(OPERATIONS))}")
        return self._plans[operation]

    async def around(self, operation: str, call: Callable[[], Awaitable[T]]) -> T:
        """Count the call, and let it go wrong as was asked for."""
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
