"""A server of a test's own, that it may kill, started by scripts/test-setup.sh without a container."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from contextlib import contextmanager
from pathlib import Path

from machine import missing

SETUP = Path(__file__).parents[2] / "scripts" / "test-setup.sh"


class OwnServer:
    """One server, by its name in test-setup.sh."""

    def __init__(self, name, directory):
        self.name = name
        self.directory = directory / "servers"
        self.environment = {
            **{name: value for name, value in os.environ.items() if name not in {"CI", "PYTHONPATH"}},
            "FLOWPERSIST_TEST_SERVERS": str(self.directory),
            "FLOWPERSIST_TEST_NATIVE": "1",
        }

    def run(self, command):
        """What test-setup.sh prints on a command for this server."""
        done = subprocess.run(
            [SETUP, command, self.name], env=self.environment, capture_output=True, text=True, check=True, timeout=240
        )
        if done.stderr:
            missing(done.stderr)
        return done.stdout

    def start(self):
        self.run("start")

    @property
    def url(self):
        return re.search("='(.*)'", self.run("env"))[1]

    def kill(self):
        """As the machine would end it that loses a process: without a word to anybody."""
        os.kill(int((self.directory / self.name / "pid").read_text()), signal.SIGKILL)


@contextmanager
def own_server(name, directory):
    server = OwnServer(name, directory)
    try:
        server.start()
        yield server
    finally:
        server.run("stop")
