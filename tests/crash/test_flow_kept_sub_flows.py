"""A process that is killed within a sub-flow: another one goes on at the step where it was."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("flow_program.py")


def noted(value, **more):
    return {"tool": "note", "args": {"value": value}, **more}


INNERMOST = {"nodes": [noted(3, id="c"), noted(4, id="d")], "edges": [{"from": "c", "to": "d"}]}
INNER = {"flow": [noted("$input", id="b"), {"id": "deeper", "flow": INNERMOST}, noted("$deeper", id="e")]}
STEPS = [noted(1, id="a"), {"id": "s", "flow": INNER, "input": 2}, noted(["$s"], id="f")]
PATHS = {1: "a", 2: "s.b", 3: "s.deeper.c", 4: "s.deeper.d"}


@pytest.fixture
def program(tmp_path):
    """Starts a process with a store and a log of its own."""

    def start(*arguments, **environment):
        command = [
            sys.executable,
            str(PROGRAM),
            f"sqlite:///{tmp_path / 'flows.db'}",
            str(tmp_path / "log"),
            *arguments,
        ]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **environment})

    return start


def test_after_a_kill_within_a_sub_flow_the_run_goes_on_there(program, tmp_path):
    killed = 4
    first = program("start", json.dumps({"flow": STEPS, "durability": "step"}), KILL_AT=str(killed))
    first.communicate(timeout=60)
    assert first.returncode == -signal.SIGKILL
    worker = program("work")
    try:
        while "[4] f" not in (tmp_path / "log").read_text():
            assert worker.poll() is None
            time.sleep(0.05)
    finally:
        worker.kill()
        worker.communicate()
    calls = [line.rsplit(" ", 1)[0] for line in (tmp_path / "log").read_text().splitlines()]
    once = [f"{value} {path}" for value, path in PATHS.items()]
    assert calls == [*once[:killed], *once[killed - 1 :], "4 s.e", "[4] f"]
