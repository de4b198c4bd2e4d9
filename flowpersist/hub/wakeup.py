"""Waking up when a record changes, if the store sends notifications, and after a while in any case."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final

from flowpersist.backends.base import Capability, Notifying
from flowpersist.errors import PersistenceError
from flowpersist.sealed.records import SealedRecords
from flowpersist.sealed.retrying import Runtime

__all__ = ["Alarm", "hear_changes", "rung_within"]

#: Of the time between two looks, how much is kept between them at least when much is changed.
SHARE: Final = 20
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
