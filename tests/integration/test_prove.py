"""scripts/prove.py tells a proof that fails from one that holds, and from one whose time was over."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "prove.py"
TESTS = """
import os, time
def test_holds(record_property):
    record_property("attempts", 7 if os.environ.get("FLOWPERSIST_LONG") else 3)
def test_fails(): assert False
def test_takes_long():
    open(r"{began}", "w").close()
    time.sleep(60)
"""
PROOFS = """
[backends]
[[figure]]
name = "figure"
claim = "It holds"
tests = ["{tests}"]
[[threat]]
name = "other"
claim = "It holds too"
command = ["true"]
"""


@pytest.fixture
def start(tmp_path):
    """Start the script on one test, with arguments, and give its process."""
    began = tmp_path / "began"
    # A warning is an error here as it is in the project.
    (tmp_path / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    (tmp_path / "test_it.py").write_text(TESTS.format(began=began))
    running = []

    def run(test, *arguments):
        (tmp_path / "proofs.toml").write_text(PROOFS.format(tests=f"{tmp_path}/test_it.py::{test}"))
        code = f"import sys; sys.path.insert(0, {str(SCRIPT.parent)!r}); import pathlib, prove; prove.GRACE = 60; "
        code += f"prove.PROOFS = pathlib.Path({str(tmp_path / 'proofs.toml')!r}); sys.exit(prove.main())"
        # As a shell starts what it puts into the background.
        command = [
            "env",
            "--ignore-signal=INT",
            sys.executable,
            "-c",
            code,
            "--output",
            str(tmp_path / "lines"),
            *arguments,
        ]
        # Plugins take longer to import than these tests to run.
        environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        running.append(
            subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True, env=environment)
        )
        return running[-1]

    yield run
    for process in running:
        process.kill()
        process.wait()
        process.stdout.close()


def lines(tmp_path):
    return [json.loads(line) for line in (tmp_path / "lines").read_text().splitlines()]


@pytest.mark.parametrize(("form", "attempts"), [((), 7), (("--short",), 3)])
def test_what_holds_is_a_line_for_each_figure_and_a_table(start, tmp_path, form, attempts):
    process = start("test_holds", *form)
    said, _ = process.communicate()
    assert process.returncode == 0
    first, second = lines(tmp_path)
    assert (first["figure"], first["tests"], first["attempts"], first["failures"]) == ("figure", 1, attempts, 0)
    assert first["form"] == ("short" if form else "long")
    assert first["versions"]["python"]
    assert len(first["commit"].rstrip("+")) == 40
    assert second["figure"] == "other"
    assert f"figure  1     1      {attempts}" in said


@pytest.mark.parametrize(("test", "why"), [("test_fails", "test_fails"), ("test_nowhere", "pytest ended with 4")])
def test_what_fails_or_runs_nothing_fails_the_whole_and_the_others_are_run(start, tmp_path, test, why):
    process = start(test)
    said, _ = process.communicate()
    assert process.returncode == 1
    first, second = lines(tmp_path)
    assert (first["failures"], second["failures"]) == (1, 0)
    assert why in first["failed"][0]
    assert f"FAILED: {first['failed'][0]}" in said


def test_the_time_is_kept(start, tmp_path):
    process = start("test_takes_long", str(3 / 3600))
    process.communicate(timeout=30)
    assert process.returncode == 0
    (only,) = lines(tmp_path)
    assert only["cut"]
    assert only["seconds"] < 20


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_ends_what_was_started_and_tells_what_there_is(start, tmp_path, sent):
    process = start("test_takes_long")
    while not (tmp_path / "began").exists():
        assert process.poll() is None
        time.sleep(0.05)
    os.kill(process.pid, sent)
    said, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    (only,) = lines(tmp_path)
    assert only["cut"]
    assert "figure" in said
