"""Change notification by LISTEN and NOTIFY, on a connection of its own for as long as somebody listens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any, Final

from flowpersist.backends._postgres.errors import DRIVER, mapped
from flowpersist.backends._postgres.layout import NAME, Link
from flowpersist.backends._postgres.liveness import cut, is_gone
from flowpersist.backends._postgres.pool import PATIENCE
from flowpersist.errors import BackendUnavailable

__all__ = ["Listener"]

#: The keys that wait for a slow listener. If there are more, it has to read everything again.
WAITING: Final = 10_000


class Listener:
    """The keys that come on one channel, in their order, until the connection is gone."""

    def __init__(self, connection: Link, channel: str) -> None:
        self._connection = connection
        self._channel = channel
        self._keys: asyncio.Queue[str | None] = asyncio.Queue()
        self._behind = False

    async def start(self) -> None:
        """From here on nothing is missed."""
        with mapped(self._connection):
            self._connection.add_termination_listener(self._ended)
            await self._connection.add_listener(self._channel, self._heard)

    async def stop(self) -> None:
        """Free the connection of it. What can't be freed is cut off: an error would take the place of that, or of the
        cancellation, with which listening has ended.
        """
        if is_gone(self._connection):
            return
        self._connection.remove_termination_listener(self._ended)
        try:
            async with asyncio.timeout(PATIENCE):
                await self._connection.remove_listener(self._channel, self._heard)
        except DRIVER:
            cut(self._connection)

    def _heard(self, _connection: Any, _process: int, _channel: str, key: object) -> None:  # noqa: ANN401 - the driver's
        if self._keys.qsize() < WAITING:
            self._keys.put_nowait(str(key))
        else:
            self._behind = True

    def _ended(self, _connection: Any) -> None:  # noqa: ANN401 - the driver's
        self._keys.put_nowait(None)

    async def keys(self) -> AsyncGenerator[str, None]:
        """As they come. Raises ``BackendUnavailable`` once some may have been missed."""
        remedy = "listen again, and read what may have changed"
        while (key := await self._keys.get()) is not None:
            if self._behind:
                message = f"more than {WAITING} keys changed while a listener was busy; {remedy}"
                raise BackendUnavailable(message, NAME, True)
            yield key
        raise BackendUnavailable(f"the connection that listens to the {NAME} server was lost; {remedy}", NAME, True)
