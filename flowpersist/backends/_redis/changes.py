"""Change notification: the keys that the scripts publish, read on a separate connection."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator

from redis.asyncio.connection import AbstractConnection

from flowpersist.backends._redis.errors import mapped
from flowpersist.backends._redis.wire import Wire

__all__ = ["keys", "subscribed"]


async def subscribed(wire: Wire, channel: bytes) -> AbstractConnection:
    """Subscribe on a new connection to the keys that are published from now on; the caller closes it."""
    with mapped():
        connection = await wire.lone()
        try:
            await connection.send_command("SUBSCRIBE", channel, check_health=False)
            # The subscription is active once the server has confirmed it.
            await connection.read_response()
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
    return connection


async def keys(connection: AbstractConnection) -> AsyncIterator[str]:
    """Yield the keys as they arrive."""
    while True:
        with mapped():
            message = await connection.read_response(timeout=math.inf)
        if message and message[0] == b"message":
            yield message[2].decode()
