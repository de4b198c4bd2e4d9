"""The neo4j backend passes the conformance suite."""

from contextlib import asynccontextmanager

import neo4j
import pytest

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
