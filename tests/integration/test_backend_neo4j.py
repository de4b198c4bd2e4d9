"""The neo4j backend passes the conformance suite."""

from contextlib import asynccontextmanager

import neo4j
import pytest

from damages_servers import neo4j_damages
from flowpersist.testing.conformance import BackendConformance


class TestNeo4j(BackendConformance):
    @pytest.fixture
    def url(self, wiped_neo4j):
        return wiped_neo4j

    @pytest.fixture
    def transactions(self, server):
        @asynccontextmanager
        async def begin():
            async with (
                neo4j.AsyncGraphDatabase.driver(server("neo4j")) as driver,
                driver.session() as session,
                await session.begin_transaction() as transaction,
            ):
                yield transaction
                await transaction.commit()

        return begin

    @pytest.fixture
    async def damages(self, server, neo4j_prefix):
        async with neo4j.AsyncGraphDatabase.driver(server("neo4j")) as driver:
            yield neo4j_damages(driver, neo4j_prefix)
