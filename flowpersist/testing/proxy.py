"""A TCP proxy that lets the network fail on request, between any client and any server.

::

    async with Proxy("127.0.0.1", 6379) as proxy:
        backend = backend_from_url(rerouted("redis://127.0.0.1:6379/0", proxy.address))
        proxy.lose()                 # the next request is done by the server, and its reply never comes
        proxy.cut_after(100_000)     # so many bytes of the server's pass, then the connection is cut
        proxy.cut()                  # all connections, now
        async with proxy.away():     # nobody listens
            ...
        proxy.stall()                # connections stay, nothing passes
        proxy.resume()
        proxy.delay = timedelta(milliseconds=20)
        proxy.bytes_per_second = 1_000_000

It knows no protocol. A reply is what a server sends after a client has sent something, up to the client's next bytes.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from enum import Enum
from typing import Final, Self
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from attrs import define

__all__ = ["Proxy", "Side", "address_of", "rerouted"]

HOST: Final = "127.0.0.1"
CHUNK: Final = 64 * 1024
#: Where a URL names no port.
_PORTS: Final = {
    "postgresql": 5432,
    "postgres": 5432,
    "redis": 6379,
    "rediss": 6379,
    "mongodb": 27017,
    "neo4j": 7687,
    "bolt": 7687,
}
#: Closing a connection that lingers for no time sends a reset.
_RESET: Final = struct.pack("ii", 1, 0)


class Side(Enum):
    """Who sends."""

    CLIENT = "client"
    SERVER = "server"


@define(eq=False)
class _Link:
    """One connection of a client, and ours to the server for it."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    #: Who has sent last.
    turn: Side | None = None

    def cut(self, *, reset: bool) -> None:
        for writer in (self.client, self.server):
            if reset:
                connection: socket.socket = writer.get_extra_info("socket")
                # The other side may have closed it already.
                with suppress(OSError):
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            writer.transport.abort()


class Proxy:
    """Listens on ``port`` of this machine while it is entered, and passes every connection on to a server.

    ``delay`` is waited for before each piece of data is passed on, ``bytes_per_second`` bounds what each direction of a
    connection passes. ``reset`` tells how connections are cut: by a reset, or by an end of the stream. ``accepted``
    counts the connections that came, ``round_trips`` the replies.
    """

    def __init__(self, host: str, port: int) -> None:
        self.host = HOST
        self.port = 0
        self.delay = timedelta(0)
        self.bytes_per_second: float | None = None
        self.reset = False
        self.accepted = 0
        self.round_trips = 0
        self._target = (host, port)
        self._links: set[_Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._listener: asyncio.Server | None = None
        self._reserved: socket.socket | None = None
        self._flowing = asyncio.Event()
        self._flowing.set()
        #: Replies until one is lost, and bytes until a connection is cut; None: none is.
        self._replies: int | None = None
        self._bytes: dict[Side, int] = {}

    @property
    def address(self) -> str:
        """Host and port, as they stand in a URL."""
        return f"{self.host}:{self.port}"

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._links)

    @property
    def armed(self) -> bool:
        """Whether a fault that was asked for by ``lose`` or ``cut_after`` has not come yet."""
        return self._replies is not None or bool(self._bytes)

    def lose(self, replies: int = 1) -> None:
        """Let requests through, and cut the connection in place of the reply of that number from now on (from 1)."""
        if replies < 1:
            raise ValueError("replies are counted from 1")
        self._replies = replies
        for link in self._links:
            # What is still to come for earlier requests is no reply to those from now on.
            link.turn = Side.SERVER

    def cut_after(self, size: int, side: Side = Side.SERVER) -> None:
        """Let so many bytes of one side through, counted over all connections, and cut the one that brings more."""
        if size < 0:
            raise ValueError("a size is an int from 0 on")
        self._bytes[side] = size

    def disarm(self) -> None:
        """Forget ``lose`` and ``cut_after``."""
        self._replies = None
        self._bytes.clear()

    def cut(self) -> int:
        """Cut all connections; gives how many."""
        links = list(self._links)
        for link in links:
            self._cut(link)
        return len(links)

    def stall(self) -> None:
        """Let nothing pass until ``resume``; connections stay, and new ones are accepted."""
        self._flowing.clear()

    def resume(self) -> None:
        """Pass on what has come, and what comes."""
        self._flowing.set()

    def refuse(self) -> None:
        """Refuse new connections until ``listen``. The port stays ours."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    async def listen(self) -> None:
        """Take connections again."""
        if self._listener is None:
            self._listener = await asyncio.start_server(self._accept, self.host, self.port, reuse_port=True)

    @asynccontextmanager
    async def away(self) -> AsyncIterator[None]:
        """As if the server had gone: connections are cut and refused until this is left."""
        self.refuse()
        self.cut()
        try:
            yield
        finally:
            await self.listen()

    async def __aenter__(self) -> Self:
        # Bound and never listened on: nobody gets the port while we refuse connections.
        self._reserved = socket.socket()
        self._reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._reserved.bind((self.host, 0))
        self.port = self._reserved.getsockname()[1]
        await self.listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.refuse()
        self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._reserved is not None:
            self._reserved.close()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        task = asyncio.ensure_future(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            server_reader, server_writer = await asyncio.open_connection(*self._target)
        except OSError:
            writer.transport.abort()
            return
        link = _Link(writer, server_writer)
        self._links.add(link)
        try:
            await asyncio.gather(
                self._pump(link, Side.CLIENT, reader, server_writer),
                self._pump(link, Side.SERVER, server_reader, writer),
            )
        except OSError:
            # One side has gone; the other hears of it.
            pass
        finally:
            self._cut(link)

    async def _pump(self, link: _Link, side: Side, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(CHUNK):
            await self._flowing.wait()
            await self._slow(len(data))
            passed = self._allowed(link, side, data)
            writer.write(passed)
            await writer.drain()
            if len(passed) < len(data):
                self._cut(link)
                return
        if writer.can_write_eof():
            writer.write_eof()

    async def _slow(self, size: int) -> None:
        pause = self.delay.total_seconds()
        if self.bytes_per_second is not None:
            pause += size / self.bytes_per_second
        if pause:
            await asyncio.sleep(pause)

    def _allowed(self, link: _Link, side: Side, data: bytes) -> bytes:
        """As much of it as passes before a fault."""
        replies = side is Side.SERVER and link.turn is Side.CLIENT
        link.turn = side
        self.round_trips += replies
        if replies and self._replies is not None:
            if self._replies == 1:
                self._replies = None
                return b""
            self._replies -= 1
        if side in self._bytes:
            left = self._bytes[side] - len(data)
            if left < 0:
                return data[: self._bytes.pop(side)]
            self._bytes[side] = left
        return data

    def _cut(self, link: _Link) -> None:
        self._links.discard(link)
        link.cut(reset=self.reset)


def address_of(url: str) -> tuple[str, int] | None:
    """The one host and port that a URL names; None where none or several stand, or a cluster."""
    parts = urlsplit(url)
    _, _, place = parts.netloc.rpartition("@")
    scheme, _, kind = parts.scheme.partition("+")
    if not place or "," in place or kind == "srv" or ("cluster", "on") in parse_qsl(parts.query):
        return None
    port = parts.port or _PORTS.get(scheme)
    return None if parts.hostname is None or port is None else (parts.hostname, port)


def rerouted(url: str, address: str) -> str:
    """The same URL with another host and port. Drivers that would ask the server for its addresses, and so go past a
    proxy, are told not to.
    """
    parts = urlsplit(url)
    user, at, _ = parts.netloc.rpartition("@")
    scheme, query = parts.scheme, parts.query
    if scheme.startswith("neo4j"):
        scheme = scheme.replace("neo4j", "bolt", 1)
    if scheme == "mongodb":
        options = [pair for pair in parse_qsl(query, keep_blank_values=True) if pair[0].lower() != "directconnection"]
        query = urlencode([*options, ("directConnection", "true")])
    return urlunsplit((scheme, f"{user}{at}{address}", parts.path, query, parts.fragment))
