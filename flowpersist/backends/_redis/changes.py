"""Change notification: the keys that the scripts publish, on a connection of its own."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from redis.asyncio.connection import AbstractConnection

from flowpersist.backends._redis.errors import mapped
from flowpersist.backends._redis.wire import Wire

__all__ = ["subscription"]


@asynccontextmanager
async def subscription(wire: Wire, channel: bytes) -> AsyncIterator[AsyncIterator[str]]:
    """The keys that are published from now on."""
    with mapped():
        connection = await wire.lone()
    try:
        with mapped():
            await connection.send_command("SUBSCRIBE", channel, check_health=False)
            # The subscription stands once the server has said so.
            await connection.read_response()
        yield _keys(connection)
    finally:
        await connection.disconnect(nowait=True)


async def _keys(connection: AbstractConnection) -> AsyncIterator[str]:
    while True:
        with mapped():
            message = await connection.read_response(timeout=math.inf)
        if message and message[0] == b"message":
            yield message[2].decode()
