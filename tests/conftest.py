"""What all tests share: which are traced, how they are collected, threads that start while they are traced, and stores.

The servers of stores are those that the environment names; scripts/test-setup.sh starts them.
"""

from __future__ import annotations

import gc
import os
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from uuid import uuid4

import pytest

from machine import BACKENDS, SERVERS, missing

# As in scripts/common.sh: a first run compiles the tests and hypothesis for pytest; the next ones need not.
sys.dont_write_bytecode = False

TESTS = Path(__file__).parent
#: Folders whose files are named below.
FOLDERS = ("chaos", "crash", "integration", "race")
#: Files whose tests go over every backend. Those with a store in this process are traced.
EACH = "each_*"
#: Files whose tests start many processes, change the package, or go over what the other files cover.
APART = (
    "backend_claim_check",
    "backend_ferretdb",
    "backend_mutants",
    "benchmark_*",
    "*_kill*",
    "*_processes",
    "codec_node",
    "crash_disk",
    "docs",
    "docs_commands",
    "example_*",
    "hub_races",
    "image",
    "kubernetes",
    "mutants",
    "prove",
    "recorded_races",
    "servers_scripts",
    "soak",
    "stopped_holders",
    "system_calls",
    "token_secrecy",
    "torn_state",
)
#: Files of backends that are others with another driver, below or above them: what they have in common is traced there.
VARIANTS = ("backend_motor", "backend_naive", "backend_redis_cluster", "backend_toy")
#: Chapters of the conformance suite that do again and again, or in many processes, what the other chapters do once. As
#: they belong to the package, their own lines are traced where the store is in this process.
REPEATED = ("contention", "crashes", "histories", "processes", "races")

#: Files that take minutes. They begin first, so that no worker is left with one of them when the others are done.
LONG = (
    "cli_processes",
    "each_server_killed",
    "each_removals",
    "example_orchestrator",
    "each_replay_ledger",
    "each_kept_trails",
    "backend_neo4j",
    "backend_mongodb",
    "each_unreadable_runs",
    "each_values",
    "image",
)


def pytest_ignore_collect(collection_path, config):
    """A session with or without tracing alone need not collect the files of the other."""
    if collection_path.suffix != ".py" or not collection_path.name.startswith("test_"):
        return None
    part = config.option.markexpr
    apart = collection_path.is_relative_to(TESTS / "property") or _named(collection_path, APART)
    some = collection_path.match("integration/test_backend_*") or _named(collection_path, (EACH,))
    if (part == "not untraced" and apart) or (part == "untraced" and not apart and not some):
        return True
    return None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Mark the tests that go over what others have covered: scripts/test.sh runs them without tracing. Put long files
    first, as scripts/test.sh has them begun, and then those with many tests.
    """
    paths = {item.path for item in items}
    kinds = {path: _kind(path) for path in paths}
    sizes = Counter(item.path for item in items)
    long = {path: next((n for n, name in enumerate(LONG) if _named(path, (name,))), len(LONG)) for path in paths}
    items.sort(key=lambda item: (long[item.path], -sizes[item.path], str(item.path)))
    for item in items:
        kind = kinds[item.path]
        if kind == "apart" or (kind == "each" and not _near(item)):
            item.add_marker("untraced")
        elif kind in {"backend", "variant"}:
            suite, _, chapter = item.function.__module__.rpartition(".")
            here = _named(item.path, ("backend_memory", "backend_sqlite"))
            repeated = (chapter in REPEATED and not here) or kind == "variant"
            if suite == "flowpersist.testing.suite" and repeated and chapter not in {"parts", "values"}:
                item.add_marker("untraced")


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """What the collection of tests makes stays to the end: to look for garbage in it took a quarter of the time."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()


def _kind(path):
    if path.is_relative_to(TESTS / "property") or _named(path, APART):
        return "apart"
    if _named(path, (EACH,)):
        return "each"
    if _named(path, VARIANTS):
        return "variant"
    return "backend" if path.match("integration/test_backend_*") else None


def _named(path, names):
    return any(path.match(f"{folder}/test_{name}.py") for folder in FOLDERS for name in names)


def _near(item):
    """Whether a test of all backends has a store in this process this time."""
    values = item.callspec.params.values() if "callspec" in vars(item) else ()
    return not {"memory", "sqlite"}.isdisjoint(map(str, values))


class PatientSys:
    """``sys`` for ``threading``, with a ``settrace`` that waits for its turn.

    CPython before 3.12 refuses to install a trace function while another thread installs one. Coverage traces every
    thread, so a thread that starts at such a moment, as those of a store do, would end before it had begun.
    """

    def __getattr__(self, name):
        return getattr(sys, name)

    @staticmethod
    def settrace(hook):
        for _ in range(1000):
            try:
                sys.settrace(hook)
            except RuntimeError:
                time.sleep(0.001)
            else:
                return
        sys.settrace(hook)


if sys.version_info < (3, 12):
    threading._sys = PatientSys()


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
    from canaries import dumped
    from dumps import dump_of_server

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
    from neo4j_stores import driver_of, drop, wipe

    # Asked for before the tests: else the last one, whichever it is, would be skipped for want of a server to clean up.
    url = server("neo4j")
    found = f"t{uuid4().hex[:16]}"
    yield found
    drop(url, "CONSTRAINTS", found)
    drop(url, "INDEXES", found)
    wipe(url, found)
    driver_of(url).close()


@pytest.fixture
def wiped_neo4j(server, neo4j_prefix):
    """The URL of a store in Neo4j that holds nothing."""
    from neo4j_stores import wipe

    wipe(server("neo4j"), neo4j_prefix)
    return f"{server('neo4j')}?prefix={neo4j_prefix}"
