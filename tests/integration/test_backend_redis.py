"""The redis backend passes the conformance suite."""

import pytest

from flowpersist.testing.conformance import BackendConformance


class TestRedis(BackendConformance):
    @pytest.fixture
    def url(self, server, prefix):
        return f"{server('redis')}?prefix={prefix}"
