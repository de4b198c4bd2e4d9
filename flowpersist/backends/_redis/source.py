"""Where a store is, and what is open of it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, TypeAlias

from attrs import define, field, frozen
from redis.asyncio import Redis, RedisCluster
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import RedisClusterException, RedisError

from flowpersist.backends._redis.connections import ConnectionLimits
from flowpersist.backends._redis.layout import Layout
from flowpersist.backends._redis.wire import ClusterWire, ServerWire, Wire
from flowpersist.backends._url import SETTING
from flowpersist.errors import ConfigurationError
from flowpersist.errors.arguments import check_instance

__all__ = ["Client", "OpenStore", "Source"]

Client: TypeAlias = Redis | RedisCluster
#: Where the URL does not say: seconds for a whole exchange, bodies included, and for connecting.
_DEFAULTS: Final[Mapping[str, Any]] = {"socket_timeout": 30, "socket_connect_timeout": 5}


@frozen
class Source:
    """Where the store is: a URL, or a client that is the caller's."""

    source: str | Client = field(repr=False)
    cluster: bool
    pool_size: int
    pool_timeout: float

    def __attrs_post_init__(self) -> None:
        check_instance(self.source, "source", (str, Redis, RedisCluster), "a URL, or a client of redis.asyncio")

    @property
    def clustered(self) -> bool:
        """Whether it is a cluster."""
        return self.cluster or isinstance(self.source, RedisCluster)

    def wire(self) -> Wire:
        """A way there, not yet connected."""
        try:
            return self._wire()
        except (TypeError, ValueError, RedisError, RedisClusterException) as error:
            # The driver's own words may repeat what stands in the URL.
            refused = "the redis URL has an option that the driver does not take, or one of a wrong kind"
            raise ConfigurationError(refused, SETTING) from (error if isinstance(error, TypeError) else None)

    def _wire(self) -> Wire:
        owned = isinstance(self.source, str)
        if not isinstance(self.source, str):
            client: Client = self.source
        elif self.cluster:
            client = RedisCluster.from_url(self.source, **_DEFAULTS)
        else:
            client = Redis.from_url(self.source, **_DEFAULTS)
        if isinstance(client, RedisCluster):
            return ClusterWire(client, self._limits(client.connection_kwargs), owned)
        return ServerWire(client, self._limits(client.connection_pool.connection_kwargs), owned)

    def _limits(self, kwargs: Mapping[str, Any]) -> ConnectionLimits:
        exchange = kwargs.get("socket_timeout")
        connect = kwargs.get("socket_connect_timeout")
        return ConnectionLimits(self.pool_size, self.pool_timeout, exchange if connect is None else connect, exchange)


@define(eq=False)
class OpenStore:
    """The way to an open store, how it names things, and how many operations are under way."""

    wire: Wire
    layout: Layout
    under_way: int = 0
    idle: asyncio.Event = field(factory=asyncio.Event)
    #: Connections on which somebody waits for changes.
    listening: set[AbstractConnection] = field(factory=set)

    @contextmanager
    def operation(self) -> Iterator[OpenStore]:
        """While one operation is under way."""
        self.under_way += 1
        try:
            yield self
        finally:
            self.under_way -= 1
            if self.under_way == 0:
                self.idle.set()

    async def settled(self) -> None:
        """Wait for what is under way; nothing more begins."""
        while self.under_way:
            self.idle.clear()
            await self.idle.wait()
