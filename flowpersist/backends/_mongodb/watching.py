"""Bodies whose records were just written, until it is known that the sweeper has marked none as an orphan (see
``bodies``).

All bodies of a quarter of a second are checked together, because one check each would cost up to a fifth of its put.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, TypeAlias

from attrs import define, field

from flowpersist.backends._mongodb.bodies import tombstoned
from flowpersist.backends._mongodb.client import Collections
from flowpersist.backends._mongodb.underway import Underway

__all__ = ["Watch"]

#: Seconds from a put to the check of its body.
PAUSE: Final = 0.25
#: The bytes of bodies that are kept for it, plus one body; beyond this, the check is made at once.
MOST_BYTES: Final = 32 * 1024 * 1024
#: Uploads a body again.
Repair: TypeAlias = Callable[[], Awaitable[None]]


@define(eq=False)
class Watch:
    """Checks the bodies. ``by_list``: a filter by several names uses the index instead of a scan."""

    store: Collections
    underway: Underway
    by_list: bool
    _repairs: dict[str, Repair] = field(factory=dict, init=False)
    _bytes: int = field(default=0, init=False)
    _hurry: asyncio.Event = field(factory=asyncio.Event, init=False)
    _closing: bool = field(default=False, init=False)

    def add(self, name: str, size: int, repair: Repair) -> None:
        """Check a body of that name soon."""
        if not self._repairs:
            _ = self.underway.background(self._look_soon())
        self._repairs[name] = repair
        self._bytes += size
        if self._bytes > MOST_BYTES:
            self._hurry.set()

    def close(self) -> None:
        """Check at once from now on."""
        self._closing = True
        self._hurry.set()

    async def _look_soon(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(PAUSE):
                await self._hurry.wait()
        repairs, self._repairs, self._bytes = self._repairs, {}, 0
        if not self._closing:
            self._hurry.clear()
        for names in [list(repairs)] if self.by_list else [[name] for name in repairs]:
            found = await tombstoned(self.store, names)
            await asyncio.gather(*(repairs[name]() for name in found), return_exceptions=True)
