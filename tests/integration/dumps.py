"""All that a server stores under a prefix, as bytes, read by its own driver and not by us."""

from __future__ import annotations

import asyncpg
import neo4j
from pymongo import AsyncMongoClient
from redis.asyncio import Redis


async def _postgres(url, prefix):
    """Rows in PostgreSQL's binary form, in which values stand as they are."""
    connection = await asyncpg.connect(url)
    try:
        tables = await connection.fetch("SELECT tablename FROM pg_tables WHERE starts_with(tablename, $1)", prefix)
        for table in tables:
            parts = []

            async def keep(data, parts=parts):
                parts.append(bytes(data))

            await connection.copy_from_table(table["tablename"], output=keep, format="binary")
            yield b"".join(parts)
    finally:
        await connection.close()


async def _parts(client, key):
    """What a key holds, by its kind."""
    match await client.type(key):
        case b"string":
            return [await client.get(key)]
        case b"hash":
            return [part for pair in (await client.hgetall(key)).items() for part in pair]
        case b"zset":
            return await client.zrange(key, 0, -1)
        case kind:
            raise AssertionError(f"nobody reads a {kind}")


async def _redis(url, prefix):
    async with Redis.from_url(url) as client:
        async for key in client.scan_iter(match=f"*{prefix}*", count=1000):
            yield b"\0".join([key, *await _parts(client, key)])


def _flat(value):
    """A value of a graph as bytes, with all that is in it."""
    if isinstance(value, dict):
        return b"\0".join(_flat(part) for pair in value.items() for part in pair)
    if isinstance(value, list | tuple | set | frozenset):
        return b"\0".join(_flat(part) for part in value)
    return bytes(value) if isinstance(value, bytes | bytearray) else str(value).encode()


async def _neo4j(url, prefix):
    ours = f"any(label IN labels(n) WHERE label STARTS WITH '{prefix.capitalize()}')"
    async with neo4j.AsyncGraphDatabase.driver(url) as driver, driver.session() as session:
        async for node in await session.run(f"MATCH (n) WHERE {ours} RETURN labels(n), properties(n)"):
            yield _flat(node.values())
        edges = f"MATCH (n)-[r]-() WHERE {ours} RETURN type(r), properties(r)"
        async for edge in await session.run(edges):
            yield _flat(edge.values())


async def _mongodb(url, prefix):
    async with AsyncMongoClient(url) as client:
        database = client.get_default_database("flowpersist")
        for name in await database.list_collection_names():
            if name.startswith(prefix):
                async for batch in database[name].find_raw_batches():
                    yield batch


_READERS = {"postgres": _postgres, "redis": _redis, "redis_cluster": _redis, "neo4j": _neo4j, "mongodb": _mongodb}


async def dump_of_server(name, url, prefix):
    """What a server stores under a prefix."""
    return b"\0".join([part async for part in _READERS[name](url, prefix)])
