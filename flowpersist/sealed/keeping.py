"""A value that is kept in memory while its store is down, and saved when that is back."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from returns.result import Failure, Result, Success

from flowpersist.errors import PersistenceError, RevisionConflict, StorageError, UnknownOutcome
from flowpersist.sealed.marked import Held, MarkedValue
from flowpersist.sealed.retrying import Runtime

__all__ = ["KeptValue"]

log = logging.getLogger("flowpersist.stores")
#: Seconds between two looks whether the store is back.
POLL: Final = 1.0


class KeptValue:
    """One value for the tasks of an event loop. ``strict``: it is never kept in memory, and what failed is an error."""

    def __init__(self, value: MarkedValue, *, strict: bool, runtime: Callable[[], Runtime]) -> None:
        self._value, self._strict, self._runtime = value, strict, runtime
        self._lock = asyncio.Lock()
        #: What was last read or saved.
        self.held = Held()
        self._watch: asyncio.Task[None] | None = None
        self._failure: Exception | None = None

    @property
    def degraded(self) -> bool:
        """Whether the store is down, and the value is in memory."""
        return self._watch is not None

    async def current(self) -> Result[Held, PersistenceError]:
        """What stands in the store, or in memory while that is down."""
        async with self._lock:
            self._raise()
            if self.degraded:
                return Success(self.held)
            found = await self._settled(self.held)
            if isinstance(found, Success):
                self.held = found.unwrap()
            elif not self._goes_on(found.failure()):
                return found
        return Success(self.held)

    async def save(self, data: bytes, base: Held) -> Result[Held, PersistenceError]:
        """Save in the place of ``base``, in the store or in memory."""
        async with self._lock:
            self._raise()
            while not self.degraded or base is not self.held:
                if not self.degraded:
                    put = await self._value.put(data, base)
                    if isinstance(put, Success):
                        self.held = put.unwrap()
                        return put
                    if not self._goes_on(put.failure()):
                        return put
                theirs = self.held
                merged = await self._value.merged(base, data, theirs)
                if not isinstance(merged, Success):
                    return Failure(merged.failure())
                data, base = merged.unwrap(), theirs
            self.held = Held(data, self._value.schema, base.revision, base.marks, base.info, base.origin or base)
            return Success(self.held)

    async def close(self) -> Result[Held, PersistenceError]:
        """Save what is in memory."""
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.cancel()
            await asyncio.wait({watch})
        self._raise()
        if self.held.origin is None:
            return Success(self.held)
        settled = await self._settled(self.held)
        self.held = settled.value_or(self.held)
        return settled

    async def _settled(self, held: Held) -> Result[Held, PersistenceError]:
        """What stands in the store, with what was in memory alone."""
        if held.data is None or held.origin is None:
            return await self._value.read()
        return await self._value.put(held.data, held.origin)

    def _raise(self) -> None:
        """What was saved in memory could not be saved in the store: who calls next is told, once."""
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def _goes_on(self, error: PersistenceError) -> bool:
        if self._strict or not _is_down(error):
            return False
        log.warning("the store of a state can't be reached; the state is kept in memory until it can be: %s", error)
        self._watch = asyncio.create_task(self._come_back())
        return True

    async def _come_back(self) -> None:
        """Until the store is back: look, and save what is in memory."""
        try:
            await self._runtime().sleep(POLL)
            while not await self._saved():
                await self._runtime().sleep(POLL)
        except asyncio.CancelledError:
            if self._watch is not None and self.held.origin is not None:
                log.error("a state is in memory only: its event loop has ended before the store was back")  # noqa: TRY400
            raise
        except Exception as error:  # noqa: BLE001 - a merge is the user's code; raised where the next verb is called
            if self.held.origin is not None:
                log.error("a state in memory can't be saved (%s)", type(error).__name__)  # noqa: TRY400
                self._failure, self.held = error, self.held.origin
        finally:
            self._watch = None

    async def _saved(self) -> bool:
        """Whether the store could be reached, and nothing is in memory alone."""
        held = self.held
        done = await self._settled(held)
        if not isinstance(done, Success):
            if _is_down(done.failure()):
                return False
            raise done.failure()
        found, later = done.unwrap(), self.held
        if found.data == held.data:
            # The same object, from which a later one may have been made.
            held.revision, held.marks, held.info, held.origin = found.revision, found.marks, found.info, None
            found = held
        if later is held:
            self.held = found
            return True
        later.origin, later.revision = held, held.revision
        return False


def _is_down(error: PersistenceError) -> bool:
    if isinstance(error, RevisionConflict) or not isinstance(error, StorageError):
        return False
    return error.retryable or isinstance(error, UnknownOutcome)
