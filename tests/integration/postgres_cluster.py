"""PostgreSQL servers of a test's own: to be killed, filled, starved and locked."""

import os
import shutil
import signal
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path

from machine import free_port, program

#: Debian keeps them out of the PATH.
PLACES = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
SETTINGS = (
    "fsync = off\nlisten_addresses = '127.0.0.1'\nmax_connections = 20\nsuperuser_reserved_connections = 3\n"
    "shared_buffers = 16MB\nmax_wal_size = 64MB\nautovacuum = off\n"
)
ACCESS = "host all postgres 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n"


def _program(name):
    return program(name, "postgresql", PLACES)


def _command(*arguments):
    # The server refuses to run as root.
    prefix = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    return [*prefix, *map(str, arguments)]


class Cluster:
    """A server with a directory of its own, whose superuser is postgres and whose roles need a password.

    ``files`` are put beside its data, for ``settings`` to name.
    """

    def __init__(self, settings="", access=ACCESS, files=None):
        self.directory = Path(tempfile.mkdtemp(prefix="flowpersist-postgres-"))
        self.data = self.directory / "data"
        self.port = free_port()
        if os.geteuid() == 0:
            shutil.chown(self.directory, "postgres", "postgres")
        subprocess.run(
            _command(_program("initdb"), "-D", self.data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync",
                     "--locale", "C"), check=True, stdout=subprocess.DEVNULL, cwd=self.directory,
        )  # fmt: skip
        configuration = self.data / "postgresql.conf"
        configuration.write_text(
            f"{configuration.read_text()}\n{SETTINGS}port = {self.port}\nunix_socket_directories = ''\n{settings}\n"
        )
        (self.data / "pg_hba.conf").write_text(access)
        for name, content in (files or {}).items():
            self._put(name, content)
        self.start()

    def _put(self, name, content):
        file = self.data / name
        file.touch(0o600)
        file.write_bytes(content)
        if os.geteuid() == 0:
            shutil.chown(file, "postgres", "postgres")

    def start(self):
        subprocess.run(
            _command(_program("pg_ctl"), "-D", self.data, "-w", "-s", "-l", self.directory / "log", "start"), check=True
        )

    def stop(self, mode="immediate"):
        subprocess.run(_command(_program("pg_ctl"), "-D", self.data, "-w", "-s", "-m", mode, "stop"), check=False)

    def kill(self):
        """As when the power fails."""
        first = int((self.data / "postmaster.pid").read_text().split()[0])
        children = [
            int(status.parent.name)
            for status in Path("/proc").glob("[0-9]*/stat")
            if status.read_text().rpartition(")")[2].split()[1] == str(first)
        ]
        for process in (first, *children):
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        # Where nobody reaps it, the process seems to live, and the server would not start anew.
        (self.data / "postmaster.pid").unlink()

    def remove(self):
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    def url(self, database="postgres", user="postgres", password=None, **options):
        secret = "" if password is None else f":{password}"
        query = "&".join(f"{name}={value}" for name, value in options.items())
        return f"postgresql://{user}{secret}@127.0.0.1:{self.port}/{database}{'?' if query else ''}{query}"
