"""Servers that tests need, as the environment names them; scripts/test-setup.sh starts them."""

import os
from uuid import uuid4

import pytest


@pytest.fixture(scope="session")
def server():
    """The URL of a test server by its name: postgres, redis, redis_cluster, mongodb, ferretdb or neo4j.

    Without it a test is skipped, in CI it fails: a part of the tests that nobody sees missing is worth nothing.
    """

    def url(name):
        variable = f"FLOWPERSIST_TEST_{name.upper()}_URL"
        found = os.environ.get(variable)
        if found is None:
            refuse = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
            refuse(f"{variable} is not set: scripts/test-setup.sh start, and eval what its env prints")
        return found

    return url


@pytest.fixture
def prefix():
    """What the names of tables, collections, labels and keys begin with in this test alone."""
    return f"t{uuid4().hex[:16]}"
