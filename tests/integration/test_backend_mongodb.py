"""The mongodb backend passes the conformance suite."""

import pytest

from damages_servers import mongodb_damages
from flowpersist.testing.conformance import BackendConformance

# PyMongo leaves a socket to the garbage collector where it is closed while it connects.
pytestmark = pytest.mark.filterwarnings("ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning")


class TestMongodb(BackendConformance):
    # After each connection that is cut the driver waits for up to half a second.
    lost = 8

    @pytest.fixture
    def url(self, server, prefix):
        return f"{server('mongodb')}?prefix={prefix}"

    @pytest.fixture
    def damages(self, server, prefix):
        return mongodb_damages(server("mongodb"), prefix)
