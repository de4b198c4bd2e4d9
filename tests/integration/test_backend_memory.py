"""The memory backend passes the conformance suite."""

from functools import partial
from uuid import uuid4

import pytest

from flowpersist.backends.registry import backend_from_url
from flowpersist.testing.conformance import BackendConformance


class TestMemory(BackendConformance):
    @pytest.fixture
    def make_backend(self):
        return partial(backend_from_url, f"memory://{uuid4().hex}")
