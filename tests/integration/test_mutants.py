"""scripts/mutants.py tells a mutant that a test kills from one that survives and from one that breaks otherwise, in a
copy of the checkout.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "mutants.py"
PACKAGE = """
def allowed(who):
    return who == "ann"
"""
TESTS = """
import time
from pathlib import Path
import flowpersist
from flowpersist import allowed
from returns.result import Success
def test_refuses(): assert not allowed("eve")
def test_refuses_as_a_result(): Success(allowed("eve")).failure() if allowed("eve") else None
def test_raises():
    if allowed("eve"): raise LookupError
def test_looks_at_nothing(): assert allowed("ann")
def test_fails(): assert allowed("bob")
def test_takes_long():
    if allowed("eve"):
        Path(r"{began}").touch()
        time.sleep(60)
"""
TABLE = """
[[defence]]
name = "who"
claim = "Ann alone is allowed"
[[defence.mutant]]
name = "all"
what = "everybody is allowed"
file = "flowpersist/__init__.py"
old = {old!r}
new = {new!r}
tests = {tests}
[[defence]]
name = "rest"
claim = "The rest"
none = "it is for others"
"""
SETTINGS = """
[pytest]
filterwarnings = error
asyncio_default_fixture_loop_scope = function
"""
OLD, NEW = 'who == "ann"', "True"


@pytest.fixture
def start(tmp_path):
    """Start the script on a project with one mutant, and give its process."""
    root, began = tmp_path / "project", tmp_path / "began"
    (root / "flowpersist").mkdir(parents=True)
    (root / "tests").mkdir()
    (root / "flowpersist" / "__init__.py").write_text(PACKAGE)
    (root / "tests" / "test_it.py").write_text(TESTS.format(began=began))
    (root / "pytest.ini").write_text(SETTINGS)
    running = []

    def run(*tests, old=OLD, new=NEW, arguments=()):
        named = [f"tests/test_it.py::{test}" for test in tests]
        (tmp_path / "mutants.toml").write_text(TABLE.format(old=old, new=new, tests=named))
        code = f"import sys; sys.path.insert(0, {str(SCRIPT.parent)!r}); import pathlib, mutants; "
        code += f"mutants.ROOT = pathlib.Path({str(root)!r}); "
        code += f"mutants.TABLE = pathlib.Path({str(tmp_path / 'mutants.toml')!r}); sys.exit(mutants.main())"
        # Plugins take longer to import than these tests to run. Where copies are left over is looked at.
        (tmp_path / "scratch").mkdir(exist_ok=True)
        environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "TMPDIR": str(tmp_path / "scratch")}
        command = [sys.executable, "-c", code, "--jobs", "1", *arguments]
        running.append(
            subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True)
        )
        return running[-1]

    yield run
    for process in running:
        process.kill()
        process.wait()
        process.stdout.close()
    assert list((tmp_path / "scratch").iterdir()) == []
    assert (root / "flowpersist" / "__init__.py").read_text() == PACKAGE


def test_a_mutant_that_each_test_notices_is_killed(start):
    process = start("test_refuses", "test_refuses_as_a_result")
    said, _ = process.communicate()
    assert process.returncode == 0
    assert "who/all: killed\n" in said
    assert "1 of 1 mutants killed" in said
    assert "no mutant of rest: it is for others" in said


@pytest.mark.parametrize(
    ("tests", "change", "why"),
    [
        (
            ["test_refuses", "test_looks_at_nothing"],
            {},
            "SURVIVES: tests/test_it.py::test_looks_at_nothing stays green",
        ),
        (
            ["test_refuses", "test_raises"],
            {},
            "BROKEN: tests/test_it.py::test_raises fails by no assertion: LookupError",
        ),
        (["test_refuses"], {"new": "who =="}, "BROKEN: pytest fails by no assertion"),
        (["test_refuses"], {"old": "nowhere"}, "BROKEN: the text to replace stands 0 times in flowpersist/__init__.py"),
        (["test_fails"], {}, "tests/test_it.py::test_fails is red without a mutant"),
        (["test_refuses", "test_nowhere"], {}, "the tests did not run"),
    ],
)
def test_what_is_not_killed_fails_the_whole(start, tests, change, why):
    process = start(*tests, **change)
    said, _ = process.communicate()
    assert process.returncode == 1
    assert why in said


def test_only_what_is_asked_for_is_tried(start):
    process = start("test_fails", arguments=("--only", "rest"))
    said, _ = process.communicate()
    assert process.returncode == 0
    assert "0 of 0 mutants killed" in said


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_ends_what_was_started_and_leaves_nothing(start, tmp_path, sent):
    process = start("test_takes_long")
    while not (tmp_path / "began").exists():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(sent)
    process.communicate(timeout=30)
    assert process.returncode == 130
