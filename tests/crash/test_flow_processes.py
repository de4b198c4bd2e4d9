"""Flows over processes that die: what one suspended another goes on with, and who answers at the same time shares the
work.
"""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest

from programs import started_programs

PROGRAM = Path(__file__).with_name("flow_program.py")


@pytest.fixture
def program(tmp_path):
    """Starts the program on one database and one log; what is still running at the end is killed."""
    with started_programs(PROGRAM, f"sqlite:///{tmp_path}/flows.db", str(tmp_path / "log")) as start:
        yield start


def said(process):
    text, _ = process.communicate(timeout=60)
    return json.loads(text.splitlines()[-1])


def logged(tmp_path):
    return sorted((tmp_path / "log").read_text(encoding="utf-8").splitlines())


def document(*steps):
    return json.dumps({"metadata": {"name": "doc"}, "flow": list(steps)})


def noted(value):
    return {"tool": "note", "args": {"value": value}}


ASK = {"id": "q", "tool": "await_input", "args": {"prompt": "q?"}}


def test_what_a_killed_process_suspended_another_goes_on_with(program, tmp_path):
    first = program("start", document(noted("begin"), ASK, noted(["$q"])))
    keys = said(first)["suspended"]
    assert first.returncode == -signal.SIGKILL
    assert said(program("resume", keys["q"], '"yes"')) == {"completed": ["yes"]}
    assert logged(tmp_path) == ['"begin" step_1 1', '["yes"] step_3 1']


def test_of_several_processes_that_answer_at_once_one_completes(program, tmp_path):
    count = 5
    each = {"id": "each", "map": list(range(count)), "parallel": True, "with": [ASK, noted(["$item", "$q"])]}
    keys = said(program("start", document(each, noted("end"))))["suspended"]
    answers = [program("resume", keys[f"each[{n}].q"], str(n)) for n in range(count)]
    outcomes = [said(answer) for answer in answers]
    assert [answer.returncode for answer in answers] == [0] * count
    assert sum("completed" in outcome for outcome in outcomes) == 1
    assert logged(tmp_path) == sorted(['"end" step_2 1', *(f"[{n}, {n}] each[{n}].each_2 1" for n in range(count))])


def finished(program, tmp_path):
    """A worker goes on with the run until its last step has been called."""
    worker = program("work")
    deadline = time.monotonic() + 30
    while not any(line.startswith('"after"') for line in logged(tmp_path)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    worker.terminate()


def test_a_worker_goes_on_with_a_run_whose_process_was_killed_in_a_tool(program, tmp_path):
    first = program(
        "start", document(noted("before"), {"tool": "hang", "args": {"value": 1}}, noted("after")), HANG="1"
    )
    assert first.stdout.readline() == "hanging\n"
    first.kill()
    finished(program, tmp_path)
    # Nothing was stored since the run began, so the first tool runs again, under the same path and attempt.
    assert logged(tmp_path) == ['"after" step_3 1', '"before" step_1 1', '"before" step_1 1']


def test_an_answer_is_not_lost_with_the_process_that_took_it(program, tmp_path):
    steps = [noted("before"), ASK, noted(["$q"]), {"tool": "hang", "args": {"value": 1}}, noted("after")]
    keys = said(program("start", document(*steps)))["suspended"]
    second = program("resume", keys["q"], '"yes"', HANG="1")
    assert second.stdout.readline() == "hanging\n"
    second.kill()
    finished(program, tmp_path)
    # What was done before the pause stays done; what ran after it runs again, with the same answer.
    assert logged(tmp_path) == ['"after" step_5 1', '"before" step_1 1', '["yes"] step_3 1', '["yes"] step_3 1']
