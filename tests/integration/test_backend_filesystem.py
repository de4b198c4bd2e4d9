"""The filesystem backend passes the conformance suite."""

import pytest

from flowpersist.testing.conformance import BackendConformance


class TestFilesystem(BackendConformance):
    @pytest.fixture
    def url(self, tmp_path):
        return f"file:{tmp_path}/store"
