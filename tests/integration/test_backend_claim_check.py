"""The claim-check passes the conformance suite round other backends: with all bodies apart, and with the large ones."""

from functools import partial
from uuid import uuid4

import pytest

from flowpersist.backends.blobs import blob_store_from_url
from flowpersist.backends.claim_check import ClaimCheckBackend
from flowpersist.backends.registry import backend_from_url
from flowpersist.testing.conformance import BackendConformance


def checked(url, blobs, from_bytes):
    return ClaimCheckBackend(backend_from_url(url), blob_store_from_url(blobs), from_bytes=from_bytes)


class TestMemoryWithBlobs(BackendConformance):
    @pytest.fixture
    def url(self):
        return f"memory://{uuid4().hex}"

    @pytest.fixture
    def make_backend(self, url, tmp_path):
        return partial(checked, url, f"file:{tmp_path}/blobs", 0)


class TestSqliteWithBlobs(BackendConformance):
    @pytest.fixture
    def url(self, tmp_path):
        return f"sqlite:///{tmp_path}/store.db"

    @pytest.fixture
    def make_backend(self, url, tmp_path):
        return partial(checked, url, f"file:{tmp_path}/blobs", 32 * 1024)
