"""Who waits for changes in this process, and what they have not heard of yet."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator

from attrs import define, field

from flowpersist.errors import BackendUnavailable

__all__ = ["Listener"]


@define(eq=False)
class Listener:
    """The keys that have changed, each once however often it did, for one task of one event loop."""

    _loop: asyncio.AbstractEventLoop = field(factory=asyncio.get_running_loop)
    _keys: dict[str, None] = field(factory=dict)
    _told: asyncio.Event = field(factory=asyncio.Event)
    _over: bool = False

    def tell(self, key: str) -> None:
        """Something has changed; called in any thread."""
        # Nobody waits in a loop that is closed.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._add, key)

    def _add(self, key: str) -> None:
        self._keys[key] = None
        self._told.set()

    def end(self) -> None:
        """The backend is closed."""
        self._over = True
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._told.set)

    async def keys(self) -> AsyncGenerator[str, None]:
        """The keys as they come, until the backend is closed."""
        while not self._over:
            await self._told.wait()
            self._told.clear()
            keys, self._keys = self._keys, {}
            for key in keys:
                yield key
        raise BackendUnavailable("the memory store was closed", "memory")
