"""The redis backend passes the conformance suite on a cluster."""

import pytest

from flowpersist.testing.conformance import BackendConformance


class TestRedisCluster(BackendConformance):
    @pytest.fixture
    def url(self, server, prefix):
        return f"{server('redis_cluster')}?cluster=on&prefix={prefix}"
