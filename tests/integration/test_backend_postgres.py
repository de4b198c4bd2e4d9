"""The postgres backend passes the conformance suite."""

from contextlib import asynccontextmanager

import asyncpg
import pytest

from damages_servers import postgres_damages
from flowpersist.testing.conformance import BackendConformance


class TestPostgres(BackendConformance):
    @pytest.fixture
    async def connection(self, server):
        connection = await asyncpg.connect(server("postgres"))
        yield connection
        await connection.close()

    @pytest.fixture
    async def url(self, server, prefix, connection):
        yield f"{server('postgres')}?prefix={prefix}&notify=on"
        await connection.execute(f"drop table if exists {prefix}_meta, {prefix}_records, {prefix}_bodies")
        await connection.execute(f"drop sequence if exists {prefix}_revisions")

    @pytest.fixture
    def transactions(self, connection):
        @asynccontextmanager
        async def begun():
            async with connection.transaction():
                yield connection

        return begun

    @pytest.fixture
    def damages(self, server, prefix):
        return postgres_damages(server("postgres"), prefix)
