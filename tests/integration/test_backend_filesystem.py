"""The filesystem backend passes the conformance suite."""

from functools import partial

import pytest

from flowpersist.backends.registry import backend_from_url
from flowpersist.testing.conformance import BackendConformance


class TestFilesystem(BackendConformance):
    @pytest.fixture
    def make_backend(self, tmp_path):
        return partial(backend_from_url, f"file:{tmp_path}/store")
