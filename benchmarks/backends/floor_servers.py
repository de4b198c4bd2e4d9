"""The floors of the servers: one statement, script or pipeline of the raw driver for each thing that is done."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import urlsplit

from places import Place
from records import HEAD

__all__ = ["MongoFloor", "Neo4jFloor", "PostgresFloor", "RedisFloor"]


class PostgresFloor:
    """asyncpg with a pool: one CTE for a record and its body."""

    def __init__(self, pool: Any, prefix: str) -> None:  # noqa: ANN401 - the driver's
        self._pool = pool
        self._tables = f"{prefix}_records", f"{prefix}_bodies"

    @classmethod
    async def opened(cls, place: Place, prefix: str, *, join: bool = False) -> PostgresFloor:
        """Ready for use."""
        import asyncpg

        floor = cls(await asyncpg.create_pool(place.url, min_size=1, max_size=10), f"floor_{prefix}")
        if not join:
            records, bodies = floor._tables
            await floor._pool.execute(
                f"create table {records} (id bigint generated always as identity primary key, key text unique, "
                f"revision bigint, head bytea); create table {bodies} (id bigint primary key, data bytea); "
                f"alter table {bodies} alter column data set storage external"
            )
        return floor

    async def insert(self, key: str, body: bytes) -> int:
        """See ``Store``."""
        records, bodies = self._tables
        await self._pool.execute(
            f"with made as (insert into {records} (key, revision, head) values ($1, 1, $2) returning id) "
            f"insert into {bodies} (id, data) select id, $3 from made",
            *(key, HEAD, body),
        )
        return 1

    async def claim(self, key: str, revision: int) -> bool:
        """See ``Store``."""
        records, _ = self._tables
        sql = f"update {records} set revision = $2 + 1, head = $3 where key = $1 and revision = $2 returning revision"
        return await self._pool.fetchval(sql, key, revision, HEAD) is not None

    async def load(self, key: str) -> bytes:
        """See ``Store``."""
        records, bodies = self._tables
        sql = f"select r.revision, r.head, b.data from {records} r join {bodies} b on b.id = r.id where r.key = $1"
        return (await self._pool.fetchrow(sql, key))["data"]

    async def close(self) -> None:
        """See ``Store``."""
        await self._pool.execute(f"drop table if exists {', '.join(self._tables)}")
        await self._pool.close()


class RedisFloor:
    """One MULTI pipeline for a record and its body, one script for a claim."""

    CLAIM = (
        "if redis.call('HGET', KEYS[1], 'revision') ~= ARGV[1] then return 0 end "
        "redis.call('HSET', KEYS[1], 'revision', ARGV[1] + 1, 'head', ARGV[2]) return 1"
    )

    def __init__(self, client: Any, prefix: str) -> None:  # noqa: ANN401 - the driver's
        self._client = client
        self._prefix = prefix
        self._claim = client.register_script(self.CLAIM)

    @classmethod
    async def opened(cls, place: Place, prefix: str, *, join: bool = False) -> RedisFloor:
        """Ready for use."""
        import redis.asyncio

        del join
        return cls(redis.asyncio.Redis.from_url(place.url), f"floor:{prefix}:")

    async def insert(self, key: str, body: bytes) -> int:
        """See ``Store``."""
        async with self._client.pipeline(transaction=True) as pipe:
            pipe.hset(self._prefix + key, mapping={"revision": 1, "head": HEAD})
            pipe.set(f"{self._prefix}{key}:body", body)
            await pipe.execute()
        return 1

    async def claim(self, key: str, revision: int) -> bool:
        """See ``Store``."""
        return bool(await self._claim(keys=[self._prefix + key], args=[revision, HEAD]))

    async def load(self, key: str) -> bytes:
        """See ``Store``."""
        async with self._client.pipeline(transaction=True) as pipe:
            pipe.hmget(self._prefix + key, "revision", "head")
            pipe.get(f"{self._prefix}{key}:body")
            return (await pipe.execute())[1]

    async def close(self) -> None:
        """See ``Store``."""
        doomed = [key async for key in self._client.scan_iter(match=f"{self._prefix}*", count=1000)]
        for start in range(0, len(doomed), 500):
            await self._client.unlink(*doomed[start : start + 500])
        await self._client.aclose()


class MongoFloor:
    """A document for the record and one for its body, or several where it is larger than a document may be."""

    CHUNK = 15_000_000

    def __init__(self, client: Any, database: str, prefix: str) -> None:  # noqa: ANN401 - the driver's
        self._client = client
        self._records = client[database][f"floor_{prefix}_records"]
        self._bodies = client[database][f"floor_{prefix}_bodies"]

    @classmethod
    async def opened(cls, place: Place, prefix: str, *, join: bool = False) -> MongoFloor:
        """Ready for use."""
        import pymongo

        del join
        database = urlsplit(place.url).path.strip("/") or "flowpersist"
        return cls(pymongo.AsyncMongoClient(place.url), database, prefix)

    async def insert(self, key: str, body: bytes) -> int:
        """See ``Store``."""
        chunks = range(0, max(1, len(body)), self.CHUNK)
        await self._bodies.insert_many(
            [
                {"_id": f"{key}:{number}", "data": body[start : start + self.CHUNK]}
                for number, start in enumerate(chunks)
            ]
        )
        await self._records.insert_one({"_id": key, "revision": 1, "head": HEAD, "chunks": len(chunks)})
        return 1

    async def claim(self, key: str, revision: int) -> bool:
        """See ``Store``."""
        change = {"$set": {"revision": revision + 1, "head": HEAD}}
        return (await self._records.update_one({"_id": key, "revision": revision}, change)).modified_count == 1

    async def load(self, key: str) -> bytes:
        """See ``Store``."""
        record = await self._records.find_one({"_id": key})
        names = (f"{key}:{number}" for number in range(record["chunks"]))
        return b"".join([(await self._bodies.find_one({"_id": name}))["data"] for name in names])

    async def close(self) -> None:
        """See ``Store``."""
        await asyncio.gather(self._records.drop(), self._bodies.drop())
        await self._client.close()


class Neo4jFloor:
    """``session.run``: a node for the record and one for its body."""

    def __init__(self, driver: Any, label: str) -> None:  # noqa: ANN401 - the driver's
        self._driver = driver
        self._label = label

    @classmethod
    async def opened(cls, place: Place, prefix: str, *, join: bool = False) -> Neo4jFloor:
        """Ready for use."""
        import neo4j

        parts = urlsplit(place.url)
        auth = (parts.username, parts.password or "") if parts.username else None
        url = f"{parts.scheme}://{parts.hostname}:{parts.port or 7687}"
        floor = cls(neo4j.AsyncGraphDatabase.driver(url, auth=auth), f"Floor_{prefix}")
        if not join:
            constraint = f"CREATE CONSTRAINT {floor._label} FOR (r:{floor._label}) REQUIRE r.key IS UNIQUE"
            await floor._run(constraint)
        return floor

    async def _run(self, statement: str, **values: object) -> Any:  # noqa: ANN401 - the driver's
        async with self._driver.session() as session:
            return await (await session.run(statement, values)).single()

    async def insert(self, key: str, body: bytes) -> int:
        """See ``Store``."""
        statement = f"CREATE (:{self._label} {{key: $key, revision: 1, head: $head}})-[:BODY]->(:Body {{data: $body}})"
        await self._run(statement, key=key, head=HEAD, body=body)
        return 1

    async def claim(self, key: str, revision: int) -> bool:
        """See ``Store``."""
        statement = (
            f"MATCH (r:{self._label} {{key: $key}}) SET r.lock = true WITH r WHERE r.revision = $revision "
            "SET r.revision = r.revision + 1, r.head = $head RETURN r.revision"
        )
        return await self._run(statement, key=key, revision=revision, head=HEAD) is not None

    async def load(self, key: str) -> bytes:
        """See ``Store``."""
        statement = f"MATCH (r:{self._label} {{key: $key}})-[:BODY]->(b) RETURN r.revision, r.head, b.data"
        return (await self._run(statement, key=key))[2]

    async def close(self) -> None:
        """See ``Store``."""
        remove = (
            f"MATCH (r:{self._label}) OPTIONAL MATCH (r)-->(b) "
            "WITH r, b LIMIT 1000 DETACH DELETE r, b RETURN count(r) AS n"
        )
        while (await self._run(remove))[0]:
            continue
        await self._run(f"DROP CONSTRAINT {self._label} IF EXISTS")
        await self._driver.close()
