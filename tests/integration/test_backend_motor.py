"""The mongodb backend passes the conformance suite on motor's client, too."""

from functools import partial

import pytest

from flowpersist.backends.mongodb import MongodbBackend
from flowpersist.testing.conformance import BackendConformance


class TestMotor(BackendConformance):
    @pytest.fixture
    def make_backend(self, server, prefix):
        motor = pytest.importorskip("motor.motor_asyncio")
        return partial(MongodbBackend, server("mongodb"), prefix=prefix, client_class=motor.AsyncIOMotorClient)
