"""A common interface to a server and to a cluster: it sends commands to a key's node and gives the replies."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import chain, islice
from typing import Any, Final, Protocol

from attrs import define, field
from redis.asyncio import Redis, RedisCluster
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import (
    MovedError,
    NoScriptError,
    RedisClusterException,
    RedisError,
    ResponseError,
)

from flowpersist.backends._redis.connections import Command, ConnectionLimits, ConnectionPool, connection_factory
from flowpersist.backends._redis.errors import NAME, is_elsewhere
from flowpersist.backends._redis.scripts import Call
from flowpersist.backends.base import PoolUse
from flowpersist.errors import BackendUnavailable, PersistenceError, UnknownOutcome

__all__ = ["ClusterWire", "ServerWire", "Wire", "raised", "run", "run_all"]

#: How often a cluster is asked while a slot is being moved, and the second wait in seconds; each further wait is longer
#: by as much.
REDIRECTIONS: Final = 8
PAUSE: Final = 0.02


class Wire(Protocol):
    """The connection layer of the store."""

    async def start(self) -> None:
        """Learn what the first exchange requires."""
        ...

    async def exchange(self, key: bytes, commands: Sequence[Command], *, writing: bool) -> list[Any]:
        """Send commands whose keys share a key's tag; see ``ConnectionPool.exchange``."""
        ...

    async def exchange_each(self, key: bytes, units: Sequence[Sequence[Command]], *, writing: bool) -> list[list[Any]]:
        """The same for units of commands, each for itself: its replies."""
        ...

    async def lone(self) -> AbstractConnection:
        """Open a separate connection, to any node."""
        ...

    async def close(self) -> None:
        """Close all connections."""
        ...

    def groups(self, keys: Sequence[bytes]) -> list[list[int]]:
        """Group keys by the exchange that may serve them together; gives positions."""
        ...

    def use(self) -> PoolUse:
        """How many connections are in use."""
        ...


@define(eq=False)
class ServerWire:
    """One server, or the primary that sentinels name."""

    client: Redis
    limits: ConnectionLimits
    owned: bool
    _pool: ConnectionPool = field(init=False)

    def __attrs_post_init__(self) -> None:
        theirs = self.client.connection_pool
        make = connection_factory(theirs.connection_class, theirs.connection_kwargs, self.limits)
        self._pool = ConnectionPool(make, self.limits)

    async def start(self) -> None:
        """See ``Wire``."""

    async def exchange(self, key: bytes, commands: Sequence[Command], *, writing: bool) -> list[Any]:  # noqa: ARG002
        """See ``Wire``."""
        return await self._pool.exchange(commands, writing=writing)

    async def exchange_each(self, key: bytes, units: Sequence[Sequence[Command]], *, writing: bool) -> list[list[Any]]:
        """See ``Wire``."""
        return _split(units, await self.exchange(key, list(chain.from_iterable(units)), writing=writing))

    async def lone(self) -> AbstractConnection:
        """See ``Wire``."""
        return await self._pool.lone()

    async def close(self) -> None:
        """See ``Wire``."""
        await self._pool.close()
        if self.owned:
            await self.client.aclose()

    def groups(self, keys: Sequence[bytes]) -> list[list[int]]:
        """See ``Wire``."""
        return [list(range(len(keys)))]

    def use(self) -> PoolUse:
        """See ``Wire``."""
        return PoolUse(self._pool.used, self.limits.size, self._pool.waiting)


@define(eq=False)
class ClusterWire:
    """A cluster: the driver's client knows the nodes and their slots, the connections are this backend's."""

    client: RedisCluster
    limits: ConnectionLimits
    owned: bool
    _pools: dict[str, ConnectionPool] = field(factory=dict, init=False)
    _stale: bool = field(default=True, init=False)
    #: The nodes to which slots have moved, as their former nodes reported.
    _moved: dict[int, dict[str, Any]] = field(factory=dict, init=False)

    async def start(self) -> None:
        """See ``Wire``."""
        await self._refreshed()

    async def exchange(self, key: bytes, commands: Sequence[Command], *, writing: bool) -> list[Any]:
        """See ``Wire``. Follows slots that have moved, and waits for slots that are being moved."""
        (replies,) = await self._served(key, [commands], writing=writing)
        if isinstance(replies, PersistenceError):
            raise replies
        return replies

    async def exchange_each(self, key: bytes, units: Sequence[Sequence[Command]], *, writing: bool) -> list[list[Any]]:
        """See ``Wire``. While a slot is being moved some keys are here and some there: what was served is not sent
        again.
        """
        served = await self._served(key, units, writing=writing)
        return [
            [mine] * len(unit) if isinstance(mine, PersistenceError) else mine
            for unit, mine in zip(units, served, strict=True)
        ]

    async def _served(
        self, key: bytes, units: Sequence[Sequence[Command]], *, writing: bool
    ) -> list[list[Any] | PersistenceError]:
        served: dict[int, list[Any]] = {}
        for attempt in range(REDIRECTIONS):
            left = [at for at in range(len(units)) if at not in served]
            tried = [units[at] for at in left]
            replies = _split(tried, await self._tried(key, list(chain.from_iterable(tried)), writing=writing))
            elsewhere = {at: it for at, mine in zip(left, replies, strict=True) for it in mine if is_elsewhere(it)}
            served.update({at: mine for at, mine in zip(left, replies, strict=True) if at not in elsewhere})
            if not elsewhere:
                break
            self._learn(next(iter(elsewhere.values())))
            await asyncio.sleep(PAUSE * attempt)
        message = f"the {NAME} cluster is still moving these records to another node; try again"
        return [served.get(at) or BackendUnavailable(message, NAME, True) for at in range(len(units))]

    async def _tried(self, key: bytes, commands: Sequence[Command], *, writing: bool) -> list[Any]:
        await self._refreshed()
        try:
            return await self._node(key).exchange(commands, writing=writing)
        except (RedisError, RedisClusterException, OSError, UnknownOutcome):
            # Another node may have taken over.
            self._stale = True
            raise

    async def _refreshed(self) -> None:
        if self._stale:
            async with asyncio.timeout(self.limits.exchange):
                _ = await self.client.initialize()
                await self.client.nodes_manager.initialize()
            self._stale = False
            self._moved.clear()

    def _learn(self, elsewhere: ResponseError) -> None:
        if isinstance(elsewhere, MovedError) and elsewhere.host:
            # This is newer than what other nodes, which a refresh may ask, know yet.
            self._moved[elsewhere.slot_id] = {"host": elsewhere.host, "port": elsewhere.port}
        else:
            self._stale = True

    def _node(self, key: bytes) -> ConnectionPool:
        slot = self.client.keyslot(key)
        node = self.client.nodes_manager.get_node_from_slot(slot)
        address = {"host": node.host, "port": node.port, **self._moved.get(slot, {})}
        name = "{host}:{port}".format(**address)
        pool = self._pools.get(name)
        if pool is None:
            make = connection_factory(node.connection_class, {**node.connection_kwargs, **address}, self.limits)
            pool = self._pools[name] = ConnectionPool(make, self.limits)
        return pool

    async def lone(self) -> AbstractConnection:
        """See ``Wire``."""
        await self._refreshed()
        return await self._node(b"any").lone()

    def use(self) -> PoolUse:
        """See ``Wire``."""
        pools = self._pools.values()
        return PoolUse(sum(one.used for one in pools), self.limits.size, sum(one.waiting for one in pools))

    async def close(self) -> None:
        """See ``Wire``."""
        for pool in self._pools.values():
            await pool.close()
        self._pools.clear()
        if self.owned:
            await self.client.aclose()

    def groups(self, keys: Sequence[bytes]) -> list[list[int]]:
        """See ``Wire``: one by one, since any slot may move."""
        return [[place] for place in range(len(keys))]


def _split(units: Sequence[Sequence[Command]], replies: Sequence[Any]) -> list[list[Any]]:
    left = iter(replies)
    return [list(islice(left, len(unit))) for unit in units]


def raised(reply: Any) -> Any:  # noqa: ANN401 - whatever the command gives
    """Give a reply, or raise it if it is an error."""
    if isinstance(reply, ResponseError | PersistenceError):
        raise reply
    return reply


async def run(wire: Wire, call: Call, *, writing: bool, before: Sequence[Command] = ()) -> Any:  # noqa: ANN401
    """Run a script, in one exchange with the commands that precede it."""
    *first, reply = await wire.exchange(call.key, (*before, call.by_digest), writing=writing)
    if isinstance(reply, NoScriptError):
        # The commands before it have been executed.
        (reply,) = await wire.exchange(call.key, (call.by_text,), writing=writing)
    for other in first:
        raised(other)
    return raised(reply)


async def run_all(wire: Wire, calls: Sequence[Call]) -> list[Any]:
    """Run scripts that may be repeated, in as few exchanges as the nodes allow."""
    replies: dict[int, Any] = {}

    async def exchange(places: list[int]) -> None:
        found = await wire.exchange(calls[places[0]].key, [calls[place].by_digest for place in places], writing=False)
        replies.update(zip(places, found, strict=True))
        unknown = [place for place in places if isinstance(replies[place], NoScriptError)]
        for place in unknown:
            (replies[place],) = await wire.exchange(calls[place].key, [calls[place].by_text], writing=False)

    # All run to their end even if one fails: none may be running when the store is closed.
    exchanges = (exchange(places) for places in wire.groups([call.key for call in calls]))
    for failed in await asyncio.gather(*exchanges, return_exceptions=True):
        if failed is not None:
            raise failed
    return [raised(replies[place]) for place in range(len(calls))]
