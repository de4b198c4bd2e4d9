"""A backend that retries transient failures of another one, clears up lost acknowledgements by the write id, and logs
slow operations.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, TypeVar

from attrs import define, field, frozen
from returns.result import Failure, Result, Success
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception

from flowpersist.backends.base import Put, Read, RecordChange, RecordRef, StorageBackend, Written
from flowpersist.backends.kit import DelegatingBackend
from flowpersist.errors import DeadlinePassed, PersistenceError, RevisionConflict, StorageError, UnknownOutcome
from flowpersist.errors.arguments import check_callable, check_instance, check_pause, check_whole
from flowpersist.sealed.measured import measured

__all__ = ["RetryingBackend", "Runtime", "tried"]

T = TypeVar("T")
#: Records are what the operations are on, for whoever reads the log.
log = logging.getLogger("flowpersist.sealed")
_ONCE: Final = frozenset({"open", "close", "ping"})
#: The operations whose slowness is logged, by the log's words.
_TIMED: Final = {"get": "load", "get_many": "load", "put": "save", "put_many": "save", "query": "query"}


@frozen
class Runtime:
    """The retry policy, the clock and the randomness of a hub.

    - ``attempts``: how often an operation is tried in all when it fails transiently.
    - ``patience``: after this time it is not tried again.
    - ``base``, ``cap``: the bound of the wait before a retry, at first and at most; it doubles with each retry.
    - ``slow``: an operation that takes longer is logged as slow.
    - ``sleep``, ``chance``, ``monotonic``, ``entropy``, ``now``: how to wait, the source of the waits' jitter, seconds
      of a monotonic clock, random bytes, and this process's time.

    Usage::

        async with open_hub(url, runtime=Runtime(attempts=3, patience=timedelta(seconds=2))) as hub: ...
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


class RetryingBackend(DelegatingBackend):
    """Forwards to ``inner`` and retries transient failures of reads and writes; the last error is raised."""

    def __init__(self, inner: StorageBackend, runtime: Runtime) -> None:
        super().__init__(measured(inner))
        self.runtime = runtime
        self._slow = runtime.slow.total_seconds()

    async def around(self, operation: str, call: Callable[[], Awaitable[T]]) -> T:
        """Retry an operation on records. ``open``, ``close`` and ``ping`` are run once."""
        if operation in _ONCE:
            return await call()
        started = self.runtime.monotonic()
        try:
            return await self._retried(call)
        finally:
            self._log_if_slow(operation, started)

    async def get(self, ref: RecordRef, *, body: bool = True) -> Read:
        """See ``StorageBackend``."""
        started = self.runtime.monotonic()
        try:
            try:
                return await self.inner.get(ref, body=body)
            except StorageError as error:
                failed = error
            return await self._tried_again(failed, lambda: self.inner.get(ref, body=body), started)
        finally:
            self._log_if_slow("get", started)

    async def put(
        self,
        ref: RecordRef,
        change: RecordChange,
        *,
        if_revision: int | None = None,
        not_after: datetime | None = None,
    ) -> Written:
        """See ``StorageBackend``. A lost acknowledgement is cleared up by the change's write id."""
        started = self.runtime.monotonic()
        try:
            try:
                return await self.inner.put(ref, change, if_revision=if_revision, not_after=not_after)
            except StorageError as error:
                failed = error
            return await self._written(failed, ref, change, if_revision, not_after, started)
        finally:
            self._log_if_slow("put", started)

    async def _written(
        self,
        first: StorageError,
        ref: RecordRef,
        change: RecordChange,
        revision: int | None,
        not_after: datetime | None,
        started: float,
    ) -> Written:
        """What the attempts after the first one make."""
        doubtful = _transient(first) and not isinstance(first, RevisionConflict)
        unknown = first if isinstance(first, UnknownOutcome) else None

        async def attempt() -> Written:
            nonlocal doubtful, unknown
            try:
                return await self.inner.put(ref, change, if_revision=revision, not_after=not_after)
            except RevisionConflict:
                mine = await self.mine(ref, change.write_id) if doubtful else None
                if mine is None:
                    raise
                return mine
            except StorageError as error:
                doubtful = doubtful or _transient(error)
                unknown = error if isinstance(error, UnknownOutcome) else unknown
                raise

        try:
            return await self._tried_again(first, attempt, started)
        except StorageError as error:
            # That a later attempt failed does not tell whether an earlier one was done.
            if unknown is None or unknown is error or isinstance(error, RevisionConflict | DeadlinePassed):
                raise
            raise unknown from error

    async def put_many(self, puts: Sequence[Put]) -> tuple[Written | PersistenceError, ...]:
        """See ``StorageBackend``. Those that failed transiently are put again together; lost acknowledgements are
        cleared up as by ``put``.
        """
        started = self.runtime.monotonic()
        several = _Several(tuple(puts), self)
        try:
            await self._retried(several.attempt)
        except StorageError as error:
            return several.given_up(error)
        finally:
            self._log_if_slow("put_many", started)
        return several.results()

    async def mine(self, ref: RecordRef, write_id: str) -> Written | None:
        """What an earlier attempt of that write has made, if it is what stands there."""
        read = await self._retried(lambda: self.inner.get(ref, body=False))
        if read.record is None or read.record.write_id != write_id:
            return None
        return Written(read.record.revision, read.now)

    async def _retried(self, operation: Callable[[], Awaitable[T]]) -> T:
        # The first attempt goes without tenacity, whose set-up costs more than most operations.
        started = self.runtime.monotonic()
        try:
            return await operation()
        except StorageError as error:
            failed = error
        return await self._tried_again(failed, operation, started)

    async def _tried_again(self, error: StorageError, operation: Callable[[], Awaitable[T]], started: float) -> T:
        """What comes after a first attempt that began at ``started`` and failed with ``error``."""
        ends = started + self.runtime.patience.total_seconds()
        if self.runtime.attempts <= 1 or self.runtime.monotonic() > ends or not _transient(error):
            raise error
        await self.runtime.sleep(self.runtime.jitter(1))
        return await self._again(operation, ends)

    async def _again(self, operation: Callable[[], Awaitable[T]], ends: float) -> T:
        def wait(state: RetryCallState) -> float:
            return self.runtime.jitter(state.attempt_number + 1)

        def stop(state: RetryCallState) -> bool:
            return state.attempt_number >= self.runtime.attempts - 1 or self.runtime.monotonic() > ends

        async def attempt() -> T:
            return await operation()

        retrying = AsyncRetrying(
            retry=retry_if_exception(_transient),
            stop=stop,
            wait=wait,
            sleep=self.runtime.sleep,
            reraise=True,
        )
        return await retrying(attempt)

    def _log_if_slow(self, operation: str, started: float) -> None:
        took, limit = self.runtime.monotonic() - started, self._slow
        if took > limit and operation in _TIMED:
            log.warning(
                "slow %s on %s: %.0f ms (the limit is %.0f ms)",
                _TIMED[operation],
                self.inner.name,
                took * 1000,
                limit * 1000,
            )


@define(eq=False)
class _Several:
    """Several puts that are tried until each has come to its end."""

    puts: tuple[Put, ...]
    backend: RetryingBackend
    ended: dict[int, Written | PersistenceError] = field(factory=dict)
    #: Those whose earlier attempt may have been done, and what last left an outcome open.
    doubtful: set[int] = field(factory=set)
    unknown: dict[int, UnknownOutcome] = field(factory=dict)

    async def attempt(self) -> None:
        """Put what has not come to its end; raises a transient error where something is left."""
        places = [place for place in range(len(self.puts)) if place not in self.ended]
        several = [self.puts[place] for place in places]
        try:
            results = await self.backend.inner.put_many(several)
        except StorageError as error:
            results = (error,) * len(places)
        left = [await self._left(*it) for it in zip(places, results, strict=True)]
        transient = next((error for error in left if error is not None), None)
        if transient is not None:
            raise transient

    async def _left(self, place: int, result: Written | PersistenceError) -> PersistenceError | None:
        """The transient error of a put that is to be tried again; what has ended is entered."""
        if isinstance(result, PersistenceError) and _transient(result):
            self.doubtful.add(place)
            if isinstance(result, UnknownOutcome):
                self.unknown[place] = result
            return result
        if isinstance(result, RevisionConflict) and place in self.doubtful:
            put = self.puts[place]
            try:
                result = await self.backend.mine(put.ref, put.change.write_id) or result
            except StorageError as error:
                result = self.unknown.get(place, error)
        elif place in self.unknown and isinstance(result, PersistenceError) and not isinstance(result, DeadlinePassed):
            # That a later attempt failed does not tell whether an earlier one was done.
            result = self.unknown[place]
        self.ended[place] = result
        return None

    def given_up(self, error: StorageError) -> tuple[Written | PersistenceError, ...]:
        """The results, where the last attempt failed with an error."""
        for place in range(len(self.puts)):
            self.ended.setdefault(place, self.unknown.get(place, error))
        return self.results()

    def results(self) -> tuple[Written | PersistenceError, ...]:
        """In the order of the puts."""
        return tuple(self.ended[place] for place in range(len(self.puts)))


def _transient(error: BaseException) -> bool:
    return isinstance(error, StorageError) and (error.retryable or isinstance(error, UnknownOutcome))


async def tried(operation: Awaitable[T]) -> Result[T, PersistenceError]:
    """What an operation gives or raises."""
    try:
        return Success(await operation)
    except PersistenceError as error:
        return Failure(error)
