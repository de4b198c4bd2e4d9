"""The redis backend passes the conformance suite."""

import pytest

from damages_servers import redis_damages
from flowpersist.testing.conformance import BackendConformance


class TestRedis(BackendConformance):
    @pytest.fixture
    def url(self, server, prefix):
        return f"{server('redis')}?prefix={prefix}"

    @pytest.fixture
    def damages(self, server, prefix):
        return redis_damages(server("redis"), prefix)
