"""The sqlite backend passes the conformance suite."""

import pytest

from damages_local import sqlite_damages
from flowpersist.testing.conformance import BackendConformance


class TestSqlite(BackendConformance):
    @pytest.fixture
    def url(self, tmp_path):
        return f"sqlite:///{tmp_path}/store.db"

    @pytest.fixture
    def damages(self, tmp_path):
        return sqlite_damages(tmp_path / "store.db")
