"""The neo4j backend passes the conformance suite."""

import pytest

from flowpersist.testing.conformance import BackendConformance


class TestNeo4j(BackendConformance):
    @pytest.fixture
    def url(self, wiped_neo4j):
        return wiped_neo4j
