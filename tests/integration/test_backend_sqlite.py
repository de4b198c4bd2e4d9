"""The sqlite backend passes the conformance suite."""

import pytest

from flowpersist.testing.conformance import BackendConformance


class TestSqlite(BackendConformance):
    @pytest.fixture
    def url(self, tmp_path):
        return f"sqlite:///{tmp_path}/store.db"
