"""Connections of an application with a table of its own, beside a store of flowpersist: how each is opened, begun,
written and committed.
"""

from __future__ import annotations

import sqlite3
from contextlib import asynccontextmanager

import aiosqlite
import asyncpg
import neo4j

#: The drivers, and the backend whose store they reach.
DRIVERS = {"asyncpg": "postgres", "sqlite3": "sqlite", "aiosqlite": "sqlite", "neo4j": "neo4j"}


class Postgres:
    """Orders in a table."""

    def __init__(self, url, name):
        self.url, self.name = url.partition("?")[0], name

    @asynccontextmanager
    async def connected(self):
        connection = await asyncpg.connect(self.url)
        try:
            yield connection
        finally:
            await connection.close()

    async def prepare(self):
        async with self.connected() as connection:
            await connection.execute(f"create table if not exists {self.name}_orders (id text primary key)")

    async def drop(self):
        async with self.connected() as connection:
            await connection.execute(f"drop table if exists {self.name}_orders")

    async def begin(self, connection, **options):
        self.begun = connection.transaction(**options)
        await self.begun.start()
        return connection

    async def insert(self, transaction, order):
        await transaction.execute(f"insert into {self.name}_orders values ($1)", order)

    async def commit(self, transaction):
        await self.begun.commit()

    async def rollback(self, transaction):
        await self.begun.rollback()

    async def orders(self):
        async with self.connected() as connection:
            return [row["id"] for row in await connection.fetch(f"select id from {self.name}_orders order by id")]


class Sqlite:
    """Orders in a table of the store's own file."""

    def __init__(self, url, name):
        self.path, self.name = url.removeprefix("sqlite:///"), name

    @asynccontextmanager
    async def connected(self):
        connection = sqlite3.connect(self.path, isolation_level=None)
        try:
            yield connection
        finally:
            connection.close()

    async def prepare(self):
        async with self.connected() as connection:
            connection.execute(f"create table if not exists {self.name}_orders (id text primary key)")

    async def drop(self):
        pass

    async def begin(self, connection):
        connection.execute("begin immediate")
        return connection

    async def insert(self, transaction, order):
        transaction.execute(f"insert into {self.name}_orders values (?)", (order,))

    async def commit(self, transaction):
        transaction.execute("commit")

    async def rollback(self, transaction):
        transaction.execute("rollback")

    async def orders(self):
        async with self.connected() as connection:
            return [row[0] for row in connection.execute(f"select id from {self.name}_orders order by id")]


class AsyncSqlite(Sqlite):
    """The same by aiosqlite."""

    @asynccontextmanager
    async def connected(self):
        async with aiosqlite.connect(self.path, isolation_level=None) as connection:
            yield connection

    async def prepare(self):
        async with self.connected() as connection:
            await connection.execute(f"create table if not exists {self.name}_orders (id text primary key)")

    async def begin(self, connection):
        await connection.execute("begin immediate")
        return connection

    async def insert(self, transaction, order):
        await transaction.execute(f"insert into {self.name}_orders values (?)", (order,))

    async def commit(self, transaction):
        await transaction.execute("commit")

    async def rollback(self, transaction):
        await transaction.execute("rollback")

    async def orders(self):
        async with self.connected() as connection:
            rows = await connection.execute_fetchall(f"select id from {self.name}_orders order by id")
            return [row[0] for row in rows]


class Neo4j:
    """Orders as nodes."""

    def __init__(self, url, name):
        self.url, self.name = url.partition("?")[0], name

    @asynccontextmanager
    async def connected(self):
        async with neo4j.AsyncGraphDatabase.driver(self.url) as driver, driver.session() as session:
            yield session

    async def prepare(self):
        pass

    async def drop(self):
        async with self.connected() as session:
            await session.run(f"MATCH (o:{self.name}_Order) DELETE o")

    async def begin(self, connection):
        return await connection.begin_transaction()

    async def insert(self, transaction, order):
        await transaction.run(f"CREATE (:{self.name}_Order {{id: $id}})", id=order)

    async def commit(self, transaction):
        await transaction.commit()

    async def rollback(self, transaction):
        await transaction.rollback()

    async def orders(self):
        async with self.connected() as session:
            result = await session.run(f"MATCH (o:{self.name}_Order) RETURN o.id ORDER BY o.id")
            return [row[0] for row in await result.values()]


KINDS = {"asyncpg": Postgres, "sqlite3": Sqlite, "aiosqlite": AsyncSqlite, "neo4j": Neo4j}
