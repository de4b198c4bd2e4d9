"""A backend, called with patience: what is transient is tried again, a lost acknowledgement is cleared up by the id of
the write, and what was slow is reported.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from attrs import field, frozen
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception

from flowpersist.backends.base import Order, Page, Read, Record, RecordChange, RecordRef, StorageBackend, Where, Written
from flowpersist.errors import DeadlinePassed, RevisionConflict, StorageError, UnknownOutcome
from flowpersist.errors.arguments import check_callable, check_instance, check_pause, check_whole

__all__ = ["Pace", "PatientStore"]

T = TypeVar("T")
#: Records are what the operations are on, for whoever reads the log.
log = logging.getLogger("flowpersist.sealed")


@frozen
class Pace:
    """Waiting, chance and time, as parameters.

    A transient failure is tried ``attempts`` times in all, and not again once ``patience`` has gone by. ``slow`` is
    from when on an operation is reported as slow.
    """

    attempts: int = 5
    patience: timedelta = timedelta(seconds=5)
    base: timedelta = timedelta(milliseconds=20)
    cap: timedelta = timedelta(seconds=2)
    slow: timedelta = timedelta(milliseconds=200)
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    chance: random.Random = field(factory=random.SystemRandom)
    monotonic: Callable[[], float] = time.monotonic
    entropy: Callable[[int], bytes] = os.urandom
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    def __attrs_post_init__(self) -> None:
        check_whole(self.attempts, "attempts")
        for name in ("patience", "base", "cap", "slow"):
            check_pause(getattr(self, name), name)
        check_instance(self.chance, "chance", random.Random, "a random.Random")
        for name in ("sleep", "monotonic", "entropy", "now"):
            check_callable(getattr(self, name), name)

    def jitter(self, attempt: int) -> float:
        """Seconds to wait after the attempt of that number (from 1): full jitter under an exponential bound."""
        check_whole(attempt, "attempt")
        factor = 2 ** min(attempt, 16)
        bound = self.cap if self.base > self.cap / factor else self.base * factor
        return self.chance.uniform(0, bound.total_seconds())


@frozen
class PatientStore:
    """The backend's own operations on records, and their errors once patience is at its end."""

    backend: StorageBackend
    pace: Pace

    async def get(self, ref: RecordRef, *, body: bool) -> Read:
        """See ``StorageBackend``."""
        async with self._timed("load"):
            return await self._retried(lambda: self.backend.get(ref, body=body))

    async def put(
        self, ref: RecordRef, change: RecordChange, *, if_revision: int, not_after: datetime | None
    ) -> Written:
        """See ``StorageBackend``."""
        async with self._timed("save"):
            return await self._written(ref, change, if_revision, not_after)

    async def delete(self, ref: RecordRef, *, if_revision: int) -> bool:
        """See ``StorageBackend``."""
        return await self._retried(lambda: self.backend.delete(ref, if_revision=if_revision))

    async def purge(self, namespace: str, where: Where, *, limit: int) -> int:
        """See ``StorageBackend``."""
        return await self._retried(lambda: self.backend.purge(namespace, where, limit=limit))

    async def query(
        self, namespace: str, where: Where, *, order: Order, limit: int, after: str | None, descending: bool
    ) -> Page[Record]:
        """See ``StorageBackend``."""
        async with self._timed("query"):
            return await self._retried(
                lambda: self.backend.query(
                    namespace, where, order=order, limit=limit, after=after, descending=descending
                )
            )

    async def _written(
        self, ref: RecordRef, change: RecordChange, revision: int, not_after: datetime | None
    ) -> Written:
        doubtful = False
        unknown: UnknownOutcome | None = None

        async def attempt() -> Written:
            nonlocal doubtful, unknown
            try:
                return await self.backend.put(ref, change, if_revision=revision, not_after=not_after)
            except RevisionConflict:
                mine = await self._mine(ref, change.write_id) if doubtful else None
                if mine is None:
                    raise
                return mine
            except StorageError as error:
                doubtful = doubtful or _transient(error)
                unknown = error if isinstance(error, UnknownOutcome) else unknown
                raise

        try:
            return await self._retried(attempt)
        except StorageError as error:
            # A later attempt that failed says nothing of an earlier one that may have been done.
            if unknown is None or isinstance(error, RevisionConflict | DeadlinePassed):
                raise
            raise unknown from error

    async def _mine(self, ref: RecordRef, write_id: str) -> Written | None:
        read = await self._retried(lambda: self.backend.get(ref, body=False))
        if read.record is None or read.record.write_id != write_id:
            return None
        return Written(read.record.revision, read.now)

    async def _retried(self, operation: Callable[[], Awaitable[T]]) -> T:
        # Nearly all succeed at once, and are spared what retrying costs.
        ends = self.pace.monotonic() + self.pace.patience.total_seconds()
        try:
            return await operation()
        except StorageError as error:
            if self.pace.attempts <= 1 or self.pace.monotonic() > ends or not _transient(error):
                raise
        await self.pace.sleep(self.pace.jitter(1))
        return await self._again(operation, ends)

    async def _again(self, operation: Callable[[], Awaitable[T]], ends: float) -> T:
        def wait(state: RetryCallState) -> float:
            return self.pace.jitter(state.attempt_number + 1)

        def stop(state: RetryCallState) -> bool:
            return state.attempt_number >= self.pace.attempts - 1 or self.pace.monotonic() > ends

        async def attempt() -> T:
            return await operation()

        retrying = AsyncRetrying(
            retry=retry_if_exception(_transient),
            stop=stop,
            wait=wait,
            sleep=self.pace.sleep,
            reraise=True,
        )
        return await retrying(attempt)

    @asynccontextmanager
    async def _timed(self, what: str) -> AsyncIterator[None]:
        started = self.pace.monotonic()
        try:
            yield
        finally:
            took = timedelta(seconds=self.pace.monotonic() - started)
            if took > self.pace.slow:
                log.warning(
                    "slow %s on %s: %.0f ms (the limit is %.0f ms)",
                    what,
                    self.backend.name,
                    took.total_seconds() * 1000,
                    self.pace.slow.total_seconds() * 1000,
                )


def _transient(error: BaseException) -> bool:
    return isinstance(error, StorageError) and (error.retryable or isinstance(error, UnknownOutcome))
