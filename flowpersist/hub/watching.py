"""Watching a sealed collection: the values as they are, and then what changes.

A backend's notifications are hints, and polling sees states: so the last state of every key is told, and not each one
in between. What was told is remembered, a revision for each key that is there.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Final, TypeAlias

from attrs import evolve, frozen

from flowpersist.errors import StorageError
from flowpersist.hub.outcome import or_raise
from flowpersist.hub.wakeup import SELDOM, hear_changes, rung_within
from flowpersist.sealed.cards import live
from flowpersist.sealed.collection import SealedCollection, Stored
from flowpersist.sealed.listing import Asked, listing
from flowpersist.sealed.naming import Naming, Parts, Prefix
from flowpersist.sealed.walking import Pages

__all__ = ["News", "Watch"]

#: The parts of a key, and what is stored under it now; None where it was deleted or has expired.
News: TypeAlias = tuple[Parts, Stored | None]
log = logging.getLogger("flowpersist.stores")
#: Of records that were touched; where there are more, all are looked at.
MOST: Final = 10_000
PAGE: Final = 200
#: Seconds between two looks at least.
NAP: Final = 0.01


@frozen
class _Told:
    """What was told of a record."""

    parts: Parts
    revision: int
    expires_at: datetime | None


class Watch:
    """One caller's watch on the keys with a prefix."""

    def __init__(self, collection: SealedCollection, prefix: Prefix, poll: timedelta) -> None:
        self._collection = collection
        self._prefix = prefix
        self._poll = poll
        self._told: dict[str, _Told] = {}
        self._touched: set[str] = set()
        #: Whether to look at all, and to tell all again.
        self._all = True
        self._again = True
        self._hearing = False
        self._rung = asyncio.Event()

    async def changes(self) -> AsyncGenerator[News, None]:
        """See ``ValueStore.watch``."""
        listening = asyncio.ensure_future(self._listen())
        try:
            while True:
                try:
                    async for change in self._news():
                        yield change
                except StorageError as error:
                    if not error.retryable:
                        raise
                    log.warning("a watched collection can't be read, trying again in %s: %s", self._poll, error)
                    self._all = self._again = True
                    await self._collection.records.runtime.sleep(self._poll.total_seconds())
                    continue
                await self._pause()
        finally:
            listening.cancel()
            with suppress(asyncio.CancelledError):
                await listening

    async def _news(self) -> AsyncIterator[News]:
        naming = or_raise(await self._collection.naming())
        if naming is None:
            return
        if self._all:
            again, self._all, self._again = self._again, False, False
            self._touched.clear()
            async for change in self._everything(naming, again=again):
                yield change
        touched, self._touched = self._touched, set()
        start = naming.span(self._prefix).start
        for name in touched:
            if name.startswith(start) and (news := await self._one(name)) is not None:
                yield news

    async def _everything(self, naming: Naming, *, again: bool) -> AsyncIterator[News]:
        gone = set(self._told)
        asked = Asked(self._prefix, {}, "key", PAGE, None, descending=False, values=again, skip=False)
        async for listed in Pages(lambda after: listing(self._collection, naming, evolve(asked, after=after))):
            for item in or_raise(listed).items:
                name = item.record.ref.key
                gone.discard(name)
                told = self._told.get(name)
                if again or told is None or told.revision != item.record.revision:
                    change = await self._one(name) if item.stored is None else self._of(item.stored)
                    if change is not None:
                        yield change
        for name in gone:
            if (left := self._gone(name)) is not None:
                yield left

    async def _one(self, name: str) -> News | None:
        """What is to be told of one record: None where that was told already."""
        collection = self._collection
        record = live(or_raise(collection.named(name, await collection.records.read(name, body=True))))
        if record is None:
            return self._gone(name)
        told = self._told.get(name)
        if told is not None and told.revision == record.revision:
            return None
        stored = or_raise(collection.named(name, await collection.opened(record)))
        return self._of(stored) if self._prefix.holds(stored.parts) else None

    def _of(self, stored: Stored) -> News:
        record = stored.record
        self._told[record.ref.key] = _Told(stored.parts, record.revision, record.head.expires_at)
        return stored.parts, stored

    def _gone(self, name: str) -> News | None:
        told = self._told.pop(name, None)
        return None if told is None else (told.parts, None)

    async def _pause(self) -> None:
        """Until something was touched, has expired, or it is time to look."""
        runtime = self._collection.records.runtime
        poll = self._poll.total_seconds() * (SELDOM if self._hearing else 1)
        ends = min((one.expires_at for one in self._told.values() if one.expires_at is not None), default=None)
        left = poll if ends is None else (ends - self._collection.records.reckoned()).total_seconds()
        await rung_within(self._rung, max(NAP, min(poll, left)), runtime)
        if self._rung.is_set():
            self._rung.clear()
            return
        now = self._collection.records.reckoned()
        expired = {name for name, one in self._told.items() if one.expires_at is not None and one.expires_at <= now}
        self._touched |= expired
        self._all = self._all or not expired

    async def _listen(self) -> None:
        """Until cancelled: hear what changes, if the backend tells; after a lost connection all is told again."""
        records = self._collection.records
        await hear_changes(records, self._poll, log, begun=self._heard, changed=self._ring, lost=self._unheard)

    def _heard(self) -> None:
        self._hearing = True
        # What has changed before anybody listened.
        self._ring_all()

    def _unheard(self) -> None:
        self._hearing = False
        self._again = True
        self._ring_all()

    def _ring(self, name: str) -> None:
        self._touched.add(name)
        if len(self._touched) > MOST:
            self._all = True
        self._rung.set()

    def _ring_all(self) -> None:
        self._all = True
        self._rung.set()
