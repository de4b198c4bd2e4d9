"""What a test finds on the machine that it runs on, or does without."""

import os
import shutil
import socket

import pytest

#: What tests of the whole go through, from a hub's verb down to the server's tables.
SERVERS = ("postgres", "redis", "redis_cluster", "mongodb", "neo4j")
BACKENDS = ("sqlite", "filesystem", *SERVERS)
WITH_MEMORY = ("memory", *BACKENDS)
#: Debian keeps what only an administrator runs out of many users' PATH.
ADMINISTRATOR = ("/usr/local/sbin", "/usr/sbin", "/sbin")


def missing(reason):
    """Skip a test for want of something. In CI it fails: a part that nobody sees missing is worth nothing."""
    refuse = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
    refuse(reason)


def program(name, package, places=ADMINISTRATOR):
    """The path of a program; ``missing`` where it is not installed."""
    found = shutil.which(name, path=os.pathsep.join([*map(str, places), os.environ.get("PATH", "")]))
    if found is None:
        missing(f"{name} is not here: install {package}")
    return found


def free_port():
    """A port that nobody has: for who can't take port 0 and tell what it got."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
