"""Change notification: the keys that the scripts publish, on a connection of its own."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator

from redis.asyncio.connection import AbstractConnection

from flowpersist.backends._redis.errors import mapped
from flowpersist.backends._redis.wire import Wire

__all__ = ["keys", "subscribed"]


async def subscribed(wire: Wire, channel: bytes) -> AbstractConnection:
    """A connection on which the keys come that are published from now on; whoever takes it closes it."""
    with mapped():
        connection = await wire.lone()
        try:
            await connection.send_command("SUBSCRIBE", channel, check_health=False)
            # The subscription stands once the server has said so.
            await connection.read_response()
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
    return connection


async def keys(connection: AbstractConnection) -> AsyncIterator[str]:
    """As they come."""
    while True:
        with mapped():
            message = await connection.read_response(timeout=math.inf)
        if message and message[0] == b"message":
            yield message[2].decode()
