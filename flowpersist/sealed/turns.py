"""Turns of the tasks of one process that change one record, which would otherwise make each other begin again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final, TypeVar
from weakref import WeakValueDictionary

from attrs import define, field

from flowpersist.sealed.retrying import Runtime

__all__ = ["MAX_CONFLICTS", "Turns"]

T = TypeVar("T")
#: How often a change is tried at most.
MAX_CONFLICTS: Final = 64
#: From this conflict on the pauses grow no longer: those who have lost often would lose even more often.
PATIENT: Final = 3
#: How long a task waits for its turn, in seconds. Then it goes on without one: the compare-and-set decides in any case.
LONGEST: Final = 1.0


@define(eq=False)
class Turns:
    """A line for each key that is contended, as long as somebody stands in it; who comes first is served first."""

    runtime: Runtime
    _locks: WeakValueDictionary[str, asyncio.Lock] = field(factory=WeakValueDictionary, init=False)

    async def changed(self, key: str, attempt: Callable[[], Awaitable[T | None]]) -> T | None:
        """Change a record: attempt it until that gives something. None where others came first each time.

        The first attempt is made at once, unless tasks stand in line for the key already.
        """
        done = None if key in self._locks else await attempt()
        if done is not None:
            return done
        async with self._turn(key):
            for conflict in range(MAX_CONFLICTS - 1):
                await self.runtime.sleep(self.runtime.jitter(min(conflict, PATIENT)) if conflict else 0)
                done = await attempt()
                if done is not None:
                    return done
        return None

    @asynccontextmanager
    async def _turn(self, key: str) -> AsyncIterator[None]:
        """Wait until those who came before have had their turn, at most ``LONGEST``."""
        lock = self._locks.setdefault(key, asyncio.Lock())
        has_turn = False
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(LONGEST):
                    has_turn = await lock.acquire()
            yield
        finally:
            if has_turn:
                lock.release()
