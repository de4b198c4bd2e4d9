"""The mongodb backend passes the conformance suite."""

import pytest

from flowpersist.testing.conformance import BackendConformance


class TestMongodb(BackendConformance):
    @pytest.fixture
    def url(self, server, prefix):
        return f"{server('mongodb')}?prefix={prefix}"
