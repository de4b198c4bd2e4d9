"""Programs that a test starts, and that are killed at its end where they still run."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager


@contextmanager
def started_programs(program, *arguments):
    """Gives a function that starts the program with these arguments, further ones, and variables of the environment."""
    started: list[subprocess.Popen[str]] = []

    def start(*further, **environment):
        command = [sys.executable, str(program), *arguments, *further]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **environment})
        started.append(process)
        return process

    try:
        yield start
    finally:
        for process in started:
            process.kill()
            process.wait()
            process.stdout.close()
