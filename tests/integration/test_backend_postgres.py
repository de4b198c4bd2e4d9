"""The postgres backend passes the conformance suite."""

import pytest

from flowpersist.testing.conformance import BackendConformance


class TestPostgres(BackendConformance):
    @pytest.fixture
    def url(self, server, prefix):
        return f"{server('postgres')}?prefix={prefix}"
