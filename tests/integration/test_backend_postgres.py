"""The postgres backend passes the conformance suite."""

import asyncpg
import pytest

from flowpersist.testing.conformance import BackendConformance


class TestPostgres(BackendConformance):
    @pytest.fixture
    async def url(self, server, prefix):
        yield f"{server('postgres')}?prefix={prefix}"
        connection = await asyncpg.connect(server("postgres"))
        await connection.execute(f"drop table if exists {prefix}_meta, {prefix}_records, {prefix}_bodies")
        await connection.execute(f"drop sequence if exists {prefix}_revisions")
        await connection.close()
