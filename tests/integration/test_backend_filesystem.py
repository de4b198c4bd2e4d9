"""The filesystem backend passes the conformance suite."""

import pytest

from damages_local import filesystem_damages
from flowpersist.testing.conformance import BackendConformance


class TestFilesystem(BackendConformance):
    @pytest.fixture
    def url(self, tmp_path):
        return f"file:{tmp_path}/store"

    @pytest.fixture
    def damages(self, tmp_path, backend):
        return filesystem_damages(tmp_path / "store", backend)
