"""Servers that tests need, as the environment names them; scripts/test-setup.sh starts them."""

import os
from functools import cache
from uuid import uuid4

import neo4j
import pytest

from canaries import dumped
from dumps import dump_of_server
from machine import BACKENDS, SERVERS, missing


@pytest.fixture(scope="session")
def server():
    """The URL of a test server by its name: postgres, redis, redis_cluster, mongodb, ferretdb or neo4j.

    Without it a test is skipped, in CI it fails.
    """

    def url(name):
        variable = f"FLOWPERSIST_TEST_{name.upper()}_URL"
        found = os.environ.get(variable)
        if found is None:
            missing(f"{variable} is not set: scripts/test-setup.sh start, and eval what its env prints")
        return found

    return url


@pytest.fixture(params=BACKENDS)
def backend(request):
    """The name of each backend, one after another."""
    return request.param


@pytest.fixture
def url(backend, request, tmp_path):
    """The URL of an empty store of that backend, of this test alone."""
    if backend == "memory":
        return f"memory://{tmp_path.name}"
    if backend == "sqlite":
        return f"sqlite:///{tmp_path}/flows.db"
    if backend == "filesystem":
        return f"file://{tmp_path}/flows"
    if backend == "neo4j":
        return request.getfixturevalue("wiped_neo4j")
    options = "cluster=on&" if backend == "redis_cluster" else ""
    return f"{request.getfixturevalue('server')(backend)}?{options}prefix={request.getfixturevalue('prefix')}"


@pytest.fixture
def stored(backend, request, tmp_path):
    """All that the store holds, as whoever has the disk or the server's password reads it."""

    async def dump():
        if backend not in SERVERS:
            return dumped(tmp_path)
        prefix = request.getfixturevalue("neo4j_prefix" if backend == "neo4j" else "prefix")
        return await dump_of_server(backend, request.getfixturevalue("server")(backend), prefix)

    return dump


@pytest.fixture
def prefix():
    """What the names of tables, collections, labels and keys begin with in this test alone."""
    return f"t{uuid4().hex[:16]}"


@pytest.fixture(scope="session")
def neo4j_prefix(server):
    """One prefix for all tests of a run: to make the constraints and indexes anew would take a second for each."""
    # Asked for before the tests: else the last one, whichever it is, would be skipped for want of a server to clean up.
    url = server("neo4j")
    found = f"t{uuid4().hex[:16]}"
    yield found
    neo4j_drop(url, "CONSTRAINTS", found)
    neo4j_drop(url, "INDEXES", found)
    neo4j_wipe(url, found)
    neo4j_driver(url).close()


@pytest.fixture
def wiped_neo4j(server, neo4j_prefix):
    """The URL of a store in Neo4j that holds nothing."""
    neo4j_wipe(server("neo4j"), neo4j_prefix)
    return f"{server('neo4j')}?prefix={neo4j_prefix}"


def neo4j_wipe(url, prefix):
    """Remove every node of a prefix."""
    labels = f"CALL db.labels() YIELD label WHERE label STARTS WITH '{prefix.capitalize()}' RETURN label"
    found = "|".join(f"`{label}`" for label in neo4j_run(url, labels))
    if found:
        neo4j_run(url, f"MATCH (n:{found}) CALL (n) {{ DETACH DELETE n }} IN TRANSACTIONS OF 1000 ROWS")


def neo4j_drop(url, kind, prefix):
    """Remove every index or constraint of a prefix."""
    for name in neo4j_run(url, f"SHOW {kind} YIELD name WHERE name STARTS WITH '{prefix}' RETURN name"):
        neo4j_run(url, f"DROP {kind.removesuffix('ES').removesuffix('S')} `{name}`")


def neo4j_run(url, cypher):
    """The first column of what a statement returns."""
    with neo4j_driver(url).session() as session:
        return [first for first, *_ in session.run(cypher).values()]


@cache
def neo4j_driver(url):
    """One for all tests: a connection takes as long as a test. ``neo4j_prefix`` closes it."""
    return neo4j.GraphDatabase.driver(url)
