"""The memory backend passes the conformance suite."""

from uuid import uuid4

import pytest

from damages_local import memory_damages
from flowpersist.testing.conformance import BackendConformance


class TestMemory(BackendConformance):
    @pytest.fixture
    def url(self):
        return f"memory://{uuid4().hex}"

    @pytest.fixture
    def damages(self, backend):
        return memory_damages(backend)
