"""Waking up when a record changes, if the store sends notifications, and after a while in any case."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from typing import Any, Final

from flowpersist.backends.base import Capability, Notifying
from flowpersist.errors import PersistenceError
from flowpersist.sealed.records import SealedRecords

__all__ = ["Alarm"]

#: Of the time between two looks, how much is kept between them at least when much is changed.
SHARE: Final = 20
log = logging.getLogger("flowpersist.worker")


class Alarm:
    """Ends a pause early when a record of a namespace has changed. A notification is a hint: one that is lost costs a
    pause, and one too many a look.
    """

    def __init__(self, records: SealedRecords[Any], pause: timedelta) -> None:
        self._backend = records.backend
        self._namespace = records.namespace
        self._runtime = records.runtime
        self._pause = pause
        self._rung = asyncio.Event()

    def reset(self) -> None:
        """Forget earlier changes: the caller is about to read them all."""
        self._rung.clear()

    async def pause(self) -> None:
        """Wait for a change since the last reset, or until the pause is over."""
        nap = self._pause / SHARE
        await self._runtime.sleep(nap.total_seconds())
        if self._rung.is_set():
            return
        ringing = asyncio.ensure_future(self._rung.wait())
        sleeping = asyncio.ensure_future(self._runtime.sleep((self._pause - nap).total_seconds()))
        try:
            await asyncio.wait({ringing, sleeping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ringing.cancel()
            sleeping.cancel()

    async def listen(self) -> None:
        """Listen for changes until cancelled, if the store sends notifications; again after a failure."""
        backend = self._backend
        if Capability.NOTIFICATIONS not in backend.capabilities or not isinstance(backend, Notifying):
            return
        level = logging.WARNING
        while True:
            try:
                async with backend.changes(self._namespace) as keys:
                    level = logging.WARNING
                    # Changes from before this process listened.
                    self._rung.set()
                    async for _ in keys:
                        self._rung.set()
            except PersistenceError as error:
                # Logged once, until listening succeeds again.
                log.log(level, "changes are not heard of, looking every %s meanwhile: %s", self._pause, error)
                level = logging.DEBUG
            await self._runtime.sleep(self._pause.total_seconds())
