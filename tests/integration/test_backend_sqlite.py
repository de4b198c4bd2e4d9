"""The sqlite backend passes the conformance suite."""

from contextlib import asynccontextmanager

import aiosqlite
import pytest

from damages_local import sqlite_damages
from flowpersist.testing.conformance import BackendConformance


class TestSqlite(BackendConformance):
    @pytest.fixture
    def url(self, tmp_path):
        return f"sqlite:///{tmp_path}/store.db"

    @pytest.fixture
    def transactions(self, tmp_path):
        @asynccontextmanager
        async def begun():
            async with aiosqlite.connect(tmp_path / "store.db", isolation_level=None) as connection:
                await connection.execute("begin immediate")
                yield connection
                await connection.commit()

        return begun

    @pytest.fixture
    def damages(self, tmp_path):
        return sqlite_damages(tmp_path / "store.db")
