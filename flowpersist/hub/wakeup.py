"""Waking up when a record changes, if the store sends notifications, and after a while in any case."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from itertools import islice
from typing import Any, Final, TypeVar

from returns.result import Result, Success

from flowpersist.backends.base import Capability, Notifying
from flowpersist.errors import PersistenceError, StorageError
from flowpersist.sealed.records import SealedRecords
from flowpersist.sealed.retrying import Runtime

__all__ = ["SELDOM", "Alarm", "Bell", "hear_changes", "hearing", "rung_within"]

T = TypeVar("T")

#: Of the time between two looks, how much is kept between them at least when much is changed.
SHARE: Final = 20
#: Where the store tells of changes, it is looked so many times more seldom.
SELDOM: Final = 10
#: How soon it listens again after a failure.
LISTEN_AGAIN: Final = timedelta(seconds=1)
log = logging.getLogger("flowpersist.worker")


async def rung_within(rung: asyncio.Event, seconds: float, runtime: Runtime) -> None:
    """Wait until the event is set, or the time is over."""
    ringing = asyncio.ensure_future(rung.wait())
    sleeping = asyncio.ensure_future(runtime.sleep(seconds))
    try:
        await asyncio.wait({ringing, sleeping}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        ringing.cancel()
        sleeping.cancel()


async def hear_changes(
    records: SealedRecords[Any],
    pause: timedelta,
    log: logging.Logger,
    *,
    begun: Callable[[], object],
    changed: Callable[[str], object],
    lost: Callable[[], object],
) -> None:
    """Listen for changes until cancelled, if the store sends notifications; again after a failure.

    ``begun`` is called when it listens, since there may be changes from before, ``changed`` with the key of each
    record, and ``lost`` when it listens no more. A failure is logged once, until listening succeeds again.
    """
    backend = records.backend
    if Capability.NOTIFICATIONS not in backend.capabilities or not isinstance(backend, Notifying):
        return
    level = logging.WARNING
    while True:
        try:
            async with backend.changes(records.namespace) as keys:
                level = logging.WARNING
                begun()
                async for key in keys:
                    changed(key)
        except PersistenceError as error:
            log.log(level, "changes are not heard of, looking every %s meanwhile: %s", pause, error)
            level = logging.DEBUG
        lost()
        await records.runtime.sleep(pause.total_seconds())


@asynccontextmanager
async def hearing(
    records: SealedRecords[Any],
    *,
    begun: Callable[[], object],
    changed: Callable[[str], object],
    lost: Callable[[], object],
) -> AsyncIterator[None]:
    """Listen in the background for the length of an ``async with`` block, with the arguments of ``hear_changes``."""
    hear = hear_changes(records, LISTEN_AGAIN, log, begun=begun, changed=changed, lost=lost)
    listening = asyncio.create_task(hear, name="listen to changes of records")
    try:
        yield
    finally:
        listening.cancel()
        await asyncio.wait({listening})


class Alarm:
    """Ends a pause early when a record of a namespace has changed. A notification is a hint: one that is lost costs a
    pause, and one too many a look.
    """

    def __init__(self, records: SealedRecords[Any], pause: timedelta) -> None:
        self._records = records
        self._pause = pause
        self._rung = asyncio.Event()

    def reset(self) -> None:
        """Forget earlier changes: the caller is about to read them all."""
        self._rung.clear()

    async def pause(self) -> None:
        """Wait for a change since the last reset, or until the pause is over."""
        nap, runtime = self._pause / SHARE, self._records.runtime
        await runtime.sleep(nap.total_seconds())
        if not self._rung.is_set():
            await rung_within(self._rung, (self._pause - nap).total_seconds(), runtime)

    async def listen(self) -> None:
        """Listen for changes until cancelled, if the store sends notifications; again after a failure."""

        def ring(_: str = "") -> None:
            self._rung.set()

        await hear_changes(self._records, self._pause, log, begun=ring, changed=ring, lost=lambda: None)


class Bell:
    """Wakes those of a process who wait for a record of a collection to change. They listen together, over one
    connection, and only while anybody waits.

    ``records`` gives the records, ``key`` the one that is waited for (None: any). ``at_once``: how many of those who
    wait for one are woken by a change, the first that came; None: all. ``of`` gives what is waited for by the key of
    the record that has changed.
    """

    def __init__(
        self,
        records: Callable[[], SealedRecords[Any]],
        at_once: int | None = None,
        *,
        of: Callable[[str], str] = str,
    ) -> None:
        self._records = records
        self._at_once = at_once
        self._of = of
        self._waiting: dict[str | None, dict[asyncio.Event, None]] = {}
        self._listener: asyncio.Task[None] | None = None
        self._hearing = False

    async def looks(
        self,
        key: str | None,
        look: Callable[[], Awaitable[Result[T, PersistenceError]]],
        poll: Callable[[T | None], timedelta],
        within: timedelta,
    ) -> AsyncGenerator[T]:
        """What a look gives, at first and after whatever may have changed it, until the time is over.

        ``poll`` is how long to wait for the next look, by the last one, where nothing is heard of changes; elsewhere
        ten times as long. A store that fails for a while is looked at again; another failure is raised.
        """
        runtime = self._records().runtime
        ends = runtime.monotonic() + within.total_seconds()
        found: T | None = None
        rung = asyncio.Event()
        async with self.listening(key, rung):
            while True:
                rung.clear()
                result = await look()
                if isinstance(result, Success):
                    found = result.unwrap()
                    yield found
                elif not isinstance(error := result.failure(), StorageError) or not error.retryable:
                    raise error
                left = ends - runtime.monotonic()
                if left <= 0:
                    return
                seconds = poll(found).total_seconds() * (SELDOM if self.hears else 1)
                await rung_within(rung, min(seconds, left), runtime)

    @property
    def hears(self) -> bool:
        """Whether changes are heard of now."""
        return self._hearing

    @asynccontextmanager
    async def listening(self, key: str | None, rung: asyncio.Event) -> AsyncIterator[None]:
        """Set the event at each change, for the length of an ``async with`` block."""
        self._waiting.setdefault(key, {})[rung] = None
        if self._listener is None:
            self._listener = asyncio.create_task(self._listen(), name="listen to changes of records")
        try:
            yield
        finally:
            del self._waiting[key][rung]
            if not self._waiting[key]:
                del self._waiting[key]
            if not self._waiting:
                listener, self._listener, self._hearing = self._listener, None, False
                listener.cancel()
                await asyncio.wait({listener})

    async def _listen(self) -> None:
        await hear_changes(
            self._records(), LISTEN_AGAIN, log, begun=self._begun, changed=self._changed, lost=self._unheard
        )

    def _begun(self) -> None:
        # What has changed before anybody listened.
        self._hearing = True
        self._ring_all()

    def _unheard(self) -> None:
        self._hearing = False
        self._ring_all()

    def _changed(self, key: str) -> None:
        self._ring(self._of(key))

    def _ring(self, key: str | None) -> None:
        for one in {key, None}:
            for rung in islice(self._waiting.get(one, ()), self._at_once):
                rung.set()

    def _ring_all(self) -> None:
        for key in self._waiting:
            self._ring(key)
