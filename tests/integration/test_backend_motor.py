"""The mongodb backend passes the conformance suite on motor's client, too."""

from functools import partial

import pytest

from damages_servers import mongodb_damages
from flowpersist.backends.mongodb import MongodbBackend
from flowpersist.testing.conformance import BackendConformance
from flowpersist.testing.proxy import rerouted

# As in test_backend_mongodb: the driver below is the same.
pytestmark = pytest.mark.filterwarnings("ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning")


class TestMotor(BackendConformance):
    # After each connection that is cut the driver waits for up to half a second.
    lost = 8
    kills = 6

    @pytest.fixture
    def url(self, server):
        return server("mongodb")

    @pytest.fixture
    def make_backend(self, url, prefix):
        motor = pytest.importorskip("motor.motor_asyncio")
        return partial(MongodbBackend, url, prefix=prefix, client_class=motor.AsyncIOMotorClient)

    @pytest.fixture
    def make_proxied(self, make_backend, proxy):
        return partial(make_backend.func, rerouted(*make_backend.args, proxy.address), **make_backend.keywords)

    @pytest.fixture
    def damages(self, server, prefix):
        # The same code goes through all of them elsewhere.
        return list(mongodb_damages(server("mongodb"), prefix))[::8]
