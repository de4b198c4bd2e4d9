"""Connections to one server, each used by one task at a time.

The driver's own pools wait for locks when a connection is returned, and a task that is cancelled there loses it for
good. Here returning one never waits. A connection with any error, a cancellation included, is closed before another
caller gets it: the reply to a cancelled command must not reach the next caller (CVE-2023-28859).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

import hiredis
from attrs import define, field, frozen
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ResponseError

from flowpersist.backends._redis.errors import NAME, is_lost
from flowpersist.backends._url import SETTING
from flowpersist.errors import ConfigurationError, PoolTimeout, UnknownOutcome

__all__ = ["Command", "ConnectionLimits", "ConnectionPool", "connection_factory"]

#: A command and its arguments.
Command: TypeAlias = tuple[bytes | str | int, ...]
ConnectionFactory: TypeAlias = Callable[[], AbstractConnection]
#: A larger body is written separately, which saves a copy.
LARGE_BYTES: Final = 256 * 1024
#: The most bytes of one read: as much as asyncio reads from a socket at a time.
READ_BYTES: Final = 256 * 1024


@frozen
class ConnectionLimits:
    """The number of connections to a server, and the seconds to wait for one of them, for connecting, and for an
    exchange (None: no limit).
    """

    size: int
    pool: float
    connect: float | None
    exchange: float | None


def connection_factory(
    kind: type[AbstractConnection], kwargs: Mapping[str, Any], limits: ConnectionLimits
) -> ConnectionFactory:
    """Make connections as a client of the driver does, with this backend's rules.

    Replies are bytes, of the second protocol (which has no push messages). The driver repeats nothing, since it cannot
    know whether a write was made. A time limit covers a whole exchange, because one for each read costs more.
    """
    theirs = {name: value for name, value in kwargs.items() if name not in _NOT_THEIRS}
    ours = {
        "decode_responses": False,
        "protocol": 2,
        "socket_timeout": None,
        "socket_connect_timeout": limits.connect,
        "socket_read_size": READ_BYTES,
    }

    def make() -> AbstractConnection:
        return kind(**{**theirs, **ours})

    try:
        make()
    except TypeError as error:
        raise ConfigurationError(
            "the redis URL has an option that the driver does not know; correct or remove it", SETTING
        ) from error
    return make


_NOT_THEIRS: Final = frozenset(
    {
        "retry",
        "retry_on_error",
        "retry_on_timeout",
        "health_check_interval",
        "legacy_responses",
        "response_callbacks",
        "maint_notifications_config",
        "maint_notifications_pool_handler",
        "oss_cluster_maint_notifications_handler",
    }
)


@define(eq=False)
class ConnectionPool:
    """At most ``limits.size`` connections to one server."""

    make: ConnectionFactory
    limits: ConnectionLimits
    _free: list[AbstractConnection] = field(factory=list, init=False)
    _turns: asyncio.Semaphore = field(init=False)
    #: Connections that are in use, and callers that wait for one.
    used: int = field(default=0, init=False)
    waiting: int = field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        self._turns = asyncio.Semaphore(self.limits.size)

    async def exchange(self, commands: Sequence[Command], *, writing: bool) -> list[Any]:
        """Send commands together and give their replies; an error in reply to one command is its reply.

        Raises the driver's errors, and ``UnknownOutcome`` if the replies to a write were lost.
        """
        await self._turn()
        self.used += 1
        try:
            connection = self._free.pop() if self._free else self.make()
            replies = await self._talk(connection, commands, writing=writing)
            self._free.append(connection)
            return replies
        finally:
            self.used -= 1
            self._turns.release()

    async def _turn(self) -> None:
        if not self._turns.locked():
            # Does not wait.
            await self._turns.acquire()
            return
        self.waiting += 1
        try:
            async with asyncio.timeout(self.limits.pool):
                await self._turns.acquire()
        except TimeoutError as error:
            message = (
                f"none of the {self.limits.size} connections to the {NAME} server became free in "
                f"{self.limits.pool:g} s; raise pool_size in the URL, or run fewer operations at a time"
            )
            raise PoolTimeout(message, NAME, True) from error
        finally:
            self.waiting -= 1

    async def _talk(self, connection: AbstractConnection, commands: Sequence[Command], *, writing: bool) -> list[Any]:
        sent = False
        try:
            async with asyncio.timeout(self.limits.exchange):
                await ready(connection)
                sent = True
                await _send(connection, commands)
                return [await _reply(connection) for _ in commands]
        except BaseException as error:
            # Closed without waiting, because this must not be interrupted and the data in the socket is not needed.
            await connection.disconnect(nowait=True)
            if sent and writing and is_lost(error):
                message = (
                    f"the connection to the {NAME} server was lost before it acknowledged the write; read "
                    "the record and decide again"
                )
                raise UnknownOutcome(message, NAME) from error
            raise

    async def lone(self) -> AbstractConnection:
        """Open a connection for one caller, not counted in the pool; the caller closes it."""
        connection = self.make()
        try:
            async with asyncio.timeout(self.limits.exchange):
                await _connect(connection)
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        return connection

    async def close(self) -> None:
        """Close the idle connections; the caller has waited for the busy ones."""
        while self._free:
            await self._free.pop().disconnect()


async def ready(connection: AbstractConnection) -> None:
    """Connect, or reconnect if the server has closed the connection or unread data is left in it."""
    if connection.is_connected and await _is_stale(connection):
        await connection.disconnect(nowait=True)
    if not connection.is_connected:
        await _connect(connection)


async def _connect(connection: AbstractConnection) -> None:
    await connection.connect()  # type: ignore[no-untyped-call]


def _is_stale(connection: AbstractConnection) -> Awaitable[bool]:
    # Its older name is deprecated since version 8 of the driver.
    look: Callable[[], Awaitable[bool]] = getattr(connection, "can_read", None) or connection.can_read_destructive
    return look()


async def _send(connection: AbstractConnection, commands: Sequence[Command]) -> None:
    # Piece by piece, since asyncio would join them into one copy.
    for piece in packed(commands):
        await connection.send_packed_command(piece, check_health=False)


def packed(commands: Sequence[Command]) -> Iterator[bytes]:
    """Encode commands as one piece, apart from large values, which are not copied."""
    piece = b""
    for command in commands:
        if not any(isinstance(value, bytes) and len(value) > LARGE_BYTES for value in command):
            # The driver's own encoding takes five times as long.
            piece += hiredis.pack_command(command)  # type: ignore[arg-type]
            continue
        piece += b"*%d\r\n" % len(command)
        for value in command:
            data = value if isinstance(value, bytes) else str(value).encode()
            piece += b"$%d\r\n" % len(data)
            if len(data) > LARGE_BYTES:
                yield piece
                yield data
                piece = b"\r\n"
            else:
                piece += data + b"\r\n"
    yield piece


async def _reply(connection: AbstractConnection) -> Any:  # noqa: ANN401 - whatever the command gives
    try:
        return await connection.read_response(disconnect_on_error=False)
    except ResponseError as error:
        return error
