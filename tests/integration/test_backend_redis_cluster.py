"""The redis backend passes the conformance suite on a cluster."""

import pytest

from damages_servers import redis_damages
from flowpersist.testing.conformance import BackendConformance


class TestRedisCluster(BackendConformance):
    @pytest.fixture
    def url(self, server, prefix):
        return f"{server('redis_cluster')}?cluster=on&prefix={prefix}"

    @pytest.fixture
    def damages(self, server, prefix):
        # The same code goes through all of them elsewhere.
        return list(redis_damages(server("redis_cluster"), prefix))[::8]
