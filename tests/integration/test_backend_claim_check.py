"""The claim-check passes the conformance suite round other backends: with all bodies apart, and with the large ones."""

from functools import partial
from uuid import uuid4

import pytest
from attrs import evolve

from damages_local import memory_damages
from flowpersist.backends.blobs import blob_store_from_url
from flowpersist.backends.claim_check import ClaimCheckBackend
from flowpersist.backends.registry import backend_from_url
from flowpersist.testing.conformance import BackendConformance
from flowpersist.testing.suite.damage import Damage

#: A claim is 64 bytes: marker, nonce, size, digest.
CLAIMS = {
    "without its marker": lambda claim: bytes(8) + claim[8:],
    "on another blob": lambda claim: claim[:8] + bytes(16) + claim[24:],
    "of another size": lambda claim: claim[:24] + b"\xff" * 8 + claim[32:],
    "of another digest": lambda claim: claim[:32] + bytes(32),
    "of nothing": lambda _: bytes(64),
    "that is cut": lambda claim: claim[:63],
    "that is empty": lambda _: b"",
}


async def spoil_claim(inner, how, ref):
    held = inner._store.namespaces[ref.namespace].records
    body = how(held[ref.key].body)
    held[ref.key] = evolve(held[ref.key], body=body, body_size=len(body))


def checked(url, blobs, from_bytes):
    return ClaimCheckBackend(backend_from_url(url), blob_store_from_url(blobs), from_bytes=from_bytes)


class TestMemoryWithBlobs(BackendConformance):
    @pytest.fixture
    def url(self):
        return f"memory://{uuid4().hex}"

    @pytest.fixture
    def make_backend(self, url, tmp_path):
        return partial(checked, url, f"file:{tmp_path}/blobs", 0)

    @pytest.fixture
    def damages(self, backend):
        claims = [
            Damage(f"a claim {name}", partial(spoil_claim, backend.inner, how), readable=True)
            for name, how in CLAIMS.items()
        ]
        return [*memory_damages(backend.inner), *claims]


class TestSqliteWithBlobs(BackendConformance):
    @pytest.fixture
    def url(self, tmp_path):
        return f"sqlite:///{tmp_path}/store.db"

    @pytest.fixture
    def make_backend(self, url, tmp_path):
        return partial(checked, url, f"file:{tmp_path}/blobs", 32 * 1024)
