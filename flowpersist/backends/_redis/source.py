"""Where a store is, and what an open store holds."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final, Self, TypeAlias

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
#: The defaults if the URL has none, in seconds: for a whole exchange with its bodies, and for connecting.
_DEFAULTS: Final[Mapping[str, Any]] = {"socket_timeout": 30, "socket_connect_timeout": 5}


@frozen
class Source:
    """Where the store is: a URL, or a client of the caller's."""

    source: str | Client = field(repr=False)
    cluster: bool
    pool_size: int
    pool_timeout: float

    def __attrs_post_init__(self) -> None:
        check_instance(self.source, "source", (str, Redis, RedisCluster), "a URL, or a client of redis.asyncio")

    @property
    def clustered(self) -> bool:
        """Whether the store is on a cluster."""
        return self.cluster or isinstance(self.source, RedisCluster)

    def wire(self) -> Wire:
        """Make the wire to the store, not yet connected."""
        try:
            return self._wire()
        except (TypeError, ValueError, RedisError, RedisClusterException) as error:
            # Not chained: the driver's text may quote the URL.
            refused = (
                "the redis URL has an option that the driver does not accept, or a value of a wrong type; correct it"
            )
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
    """The wire to an open store, its key names, and the number of running operations."""

    wire: Wire
    layout: Layout
    under_way: int = 0
    idle: asyncio.Event = field(factory=asyncio.Event)
    #: The connections on which callers wait for changes.
    listening: set[AbstractConnection] = field(factory=set)

    def __enter__(self) -> Self:
        """Count one operation while it runs."""
        self.under_way += 1
        return self

    def __exit__(self, *_: object) -> None:
        self.under_way -= 1
        if self.under_way == 0:
            self.idle.set()

    async def settled(self) -> None:
        """Wait until the running operations have ended; no new one starts."""
        while self.under_way:
            self.idle.clear()
            await self.idle.wait()
