"""Which floor each store has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from floor_local import FileFloor, MemoryFloor, SqliteFloor
from floor_servers import MongoFloor, Neo4jFloor, PostgresFloor, RedisFloor
from places import Place
from records import Store

__all__ = ["floor"]

FLOORS: Mapping[str, Any] = {
    "memory": MemoryFloor,
    "sqlite": SqliteFloor,
    "file": FileFloor,
    "postgres": PostgresFloor,
    "redis": RedisFloor,
    "mongodb": MongoFloor,
    "ferretdb": MongoFloor,
    "neo4j": Neo4jFloor,
}


async def floor(place: Place, prefix: str, *, join: bool = False) -> Store:
    """The raw driver on the same server. ``join``: another process has made its tables."""
    opened: Store = await FLOORS[place.name].opened(place, prefix, join=join)
    return opened
