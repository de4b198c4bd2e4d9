"""The command in processes of its own: killed, answered from several others at once, and given bad stores."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time

import pytest

COMMAND = [sys.executable, "-m", "flowpersist"]
DOCUMENT = {
    "metadata": {"name": "votes"},
    "flow": [
        {
            "id": "votes",
            "map": "$input.voters",
            "as": "voter",
            "parallel": True,
            "with": [
                {
                    "id": "vote",
                    "tool": "await_input",
                    "args": {"id": "vote", "prompt": "$voter, yes or no?", "schema": {"enum": ["yes", "no", "void"]}},
                }
            ],
        },
        {"id": "counted", "tool": "count", "args": {"votes": "$votes"}},
    ],
}
TOOLS = """
from flowpersist.dynamicflow import tool

@tool(id="count")
async def count(votes: list) -> str:
    if "void" in votes:
        raise ValueError("a void vote")
    return f"{votes.count('yes')} of {len(votes)}"

tools = [count]
"""
VOTERS = ["ana", "ben", "chen", "dora"]


@pytest.fixture
def surroundings(tmp_path):
    """The environment of the processes: a store and a keyring in a directory of their own, and nothing else of ours."""
    (tmp_path / "votes.json").write_text(json.dumps(DOCUMENT))
    (tmp_path / "tools.py").write_text(TOOLS)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FLOWPERSIST_")}
    environment = {
        **kept,
        "FLOWPERSIST_URL": f"sqlite:///{tmp_path / 'flows.db'}",
        "FLOWPERSIST_KEYS_FILE": str(tmp_path / "keys"),
    }
    made = subprocess.run([*COMMAND, "keygen", "--output", "keys"], cwd=tmp_path, env=environment, check=False)
    assert made.returncode == 0
    return {"cwd": tmp_path, "env": environment}


@pytest.fixture
def run(surroundings):
    """``run("list")`` runs the command to its end."""

    def call(*arguments, **changed):
        where = {**surroundings, "env": {**surroundings["env"], **changed}}
        done = subprocess.run([*COMMAND, *arguments], **where, capture_output=True, text=True, timeout=60, check=False)
        assert "Traceback" not in done.stderr
        return done

    return call


@pytest.fixture
def waiting(surroundings):
    """A process that has announced the keys of four votes and stays: the process, and the keys."""
    started = subprocess.Popen(
        [*COMMAND, "run", "votes.json", "--tools", "tools.py", "--input", f"voters={json.dumps(VOTERS)}", "--wait"],
        **surroundings,
        stdout=subprocess.PIPE,
        text=True,
    )
    keys = []
    while len(keys) < len(VOTERS):
        line = started.stdout.readline()
        assert line, "the process has ended too early"
        if "df_susp_" in line:
            keys.append(line.strip())
    yield started, keys
    started.kill()
    started.wait()
    started.stdout.close()


@pytest.mark.slow
def test_killed_flow_is_ended_by_processes_that_answer_at_once(run, surroundings, waiting):
    process, keys = waiting
    process.kill()
    process.wait()
    voters = [
        subprocess.Popen(
            [*COMMAND, "resume", key, "--tools", "tools.py", "--value", '"yes"', "--by", voter, "--json"],
            **surroundings,
            stdout=subprocess.PIPE,
            text=True,
        )
        for key, voter in zip(keys, VOTERS, strict=True)
    ]
    said = [json.loads(voter.communicate(timeout=60)[0]) for voter in voters]
    assert [voter.returncode for voter in voters] == [0, 0, 0, 0]
    results = [one["result"] for one in said if one["outcome"] == "completed"]
    assert results == ["4 of 4"]
    assert run("answer", keys[0], "--value", '"no"').returncode == 6


@pytest.mark.slow
def test_process_that_stays_goes_on_with_answers_of_others(run, waiting):
    process, keys = waiting
    for key in keys:
        assert run("answer", key, "--value", '"no"').returncode == 0
    assert process.wait(timeout=30) == 0
    assert process.stdout.read() == "0 of 4\n"


@pytest.mark.slow
def test_process_that_stays_tells_the_result_of_another(run, waiting):
    process, keys = waiting
    for key in keys[:-1]:
        run("answer", key, "--value", '"no"')
    ended = run("resume", keys[-1], "--tools", "tools.py", "--value", '"yes"', "--wait")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.endswith("1 of 4\n")
    assert process.wait(timeout=30) == 0
    assert process.stdout.read() == "1 of 4\n"


@pytest.mark.slow
def test_process_that_stays_is_told_of_a_cancellation(run, waiting):
    process, keys = waiting
    assert run("cancel", keys[0], "--reason", "no quorum").returncode == 0
    assert process.wait(timeout=30) == 6


@pytest.mark.slow
def test_process_that_stays_fails_with_the_flow(run, waiting):
    process, keys = waiting
    for key in keys:
        run("answer", key, "--value", '"void"')
    assert process.wait(timeout=30) == 1


@pytest.mark.slow
def test_no_output_but_the_wanted_holds_a_key(run, waiting):
    _, keys = waiting
    heard = [
        run("list"),
        run("list", "--json"),
        run("show", keys[0]),
        run("answer", keys[0], "--value", '"perhaps"'),
        run("answer", keys[0], "--value", '"yes"', "--json"),
        run("answer", keys[0], "--value", '"no"'),
        run("answer", keys[1][:-2], "--value", '"no"'),
    ]
    said = "".join(one.stdout + one.stderr for one in heard)
    assert [one.returncode for one in heard] == [0, 0, 0, 4, 0, 6, 5]
    assert [key for key in keys if key[8:-6] in said] == []


def test_database_of_another_kind_is_a_storage_failure(run, surroundings):
    (surroundings["cwd"] / "flows.db").write_bytes(os.urandom(8192))
    done = run("list")
    assert done.returncode == 8, done.stderr
    assert "flows.db" in done.stderr


def test_database_in_a_directory_that_is_not_there_is_told(run, surroundings):
    done = run("list", FLOWPERSIST_URL=f"sqlite:///{surroundings['cwd'] / 'nowhere' / 'flows.db'}")
    assert done.returncode in {0, 7, 8}
    assert done.returncode == 0 or "nowhere" in done.stderr


@pytest.mark.slow
def test_locked_database_is_a_storage_failure_and_changes_nothing(run, surroundings):
    started = run("run", "votes.json", "--tools", "tools.py", "--input", 'voters=["ana"]', "--json")
    key = json.loads(started.stdout)["waits"][0]["key"]
    lock = sqlite3.connect(surroundings["cwd"] / "flows.db", isolation_level=None)
    lock.execute("BEGIN EXCLUSIVE")
    try:
        impatient = f"sqlite:///{surroundings['cwd'] / 'flows.db'}?busy_timeout=0.2"
        locked = run("answer", key, "--value", '"yes"', FLOWPERSIST_URL=impatient)
    finally:
        lock.execute("ROLLBACK")
        lock.close()
    assert locked.returncode == 8, locked.stderr
    assert run("answer", key, "--value", '"yes"').returncode == 0


@pytest.mark.slow
def test_read_only_database_is_a_storage_failure(run, surroundings):
    if os.geteuid() == 0:
        pytest.skip("root writes where nobody may")
    started = run("run", "votes.json", "--tools", "tools.py", "--input", 'voters=["ana"]', "--json")
    key = json.loads(started.stdout)["waits"][0]["key"]
    for file in surroundings["cwd"].glob("flows.db*"):
        file.chmod(0o400)
    surroundings["cwd"].chmod(0o500)
    try:
        assert run("answer", key, "--value", '"yes"').returncode == 8
    finally:
        surroundings["cwd"].chmod(0o700)


def test_closed_pipe_ends_quietly(surroundings):
    listing = subprocess.Popen(
        [*COMMAND, "--help"], **surroundings, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    listing.stdout.close()
    assert "Traceback" not in listing.stderr.read()
    listing.stderr.close()
    listing.wait()


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_process_that_waits_says_for_what_and_leaves_the_run_waiting(run, surroundings, number, code):
    process = subprocess.Popen(
        [*COMMAND, "run", "votes.json", "--tools", "tools.py", "--input", 'voters=["ana"]', "--run-id", "r1", "--wait"],
        **surroundings,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            said = process.stderr.readline()
            assert (
                said == "flowpersist: waiting for votes[0].vote; Ctrl-C stops this command, and the run keeps waiting\n"
            )
            process.send_signal(number)
            assert process.wait(timeout=30) == code
            assert "Traceback" not in process.stderr.read()
        finally:
            # The end of the block waits for the process.
            process.kill()
    assert json.loads(run("show", "r1", "--json").stdout)["status"] == "waiting"


SLOW_DOCUMENT = {"metadata": {"name": "slow"}, "flow": [{"id": "slow", "tool": "slow", "args": {}}]}
SLOW_TOOLS = """
import asyncio
from pathlib import Path
from flowpersist.dynamicflow import tool

@tool(id="slow")
async def slow() -> str:
    if Path("begun").exists():
        return "done"
    Path("begun").touch()
    await asyncio.sleep(60)

tools = [slow]
"""


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_gives_the_run_back_before_the_process_ends(run, surroundings, number, code):
    (surroundings["cwd"] / "slow.json").write_text(json.dumps(SLOW_DOCUMENT))
    (surroundings["cwd"] / "tools.py").write_text(SLOW_TOOLS)
    line = ["run", "slow.json", "--tools", "tools.py", "--run-id", "r1"]
    process = subprocess.Popen([*COMMAND, *line], **surroundings, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    with process:
        while not (surroundings["cwd"] / "begun").exists():
            time.sleep(0.02)
        process.send_signal(number)
        assert process.wait(timeout=30) == code
    # Under the lease of the first, which is 30 s, nobody could go on by now.
    assert json.loads(run("show", "r1", "--json").stdout)["status"] == "answered"
    done = run(*line)
    assert (done.returncode, done.stdout) == (0, "done\n")


QUICK_TOOLS = """
import asyncio
from pathlib import Path
from flowpersist.dynamicflow import tool

@tool(id="slow")
async def slow() -> str:
    Path("begun").touch()
    while not Path("go-on").exists():
        await asyncio.sleep(0.01)
    return "done"

tools = [slow]
"""
ASKING = {
    "metadata": {"name": "asking"},
    "flow": [
        {"id": "ask", "tool": "await_input", "args": {"id": "ask", "prompt": "Go on?", "schema": {"type": "boolean"}}},
        {"id": "slow", "tool": "slow", "args": {}},
    ],
}


@pytest.mark.slow
@pytest.mark.parametrize(("grace", "status"), [("20s", "completed"), ("0.1s", "answered")])
def test_a_worker_that_is_terminated_ends_what_it_can_within_its_grace(run, surroundings, grace, status):
    (surroundings["cwd"] / "asking.json").write_text(json.dumps(ASKING))
    (surroundings["cwd"] / "tools.py").write_text(QUICK_TOOLS)
    started = run("run", "asking.json", "--tools", "tools.py", "--run-id", "r1", "--json")
    assert run("answer", json.loads(started.stdout)["waits"][0]["key"], "--value", "true").returncode == 0
    worker = subprocess.Popen(
        [*COMMAND, "worker", "--tools", "tools.py", "--grace", grace],
        **surroundings,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    with worker:
        assert worker.stderr.readline().startswith("flowpersist: working with 1 tool;")
        while not (surroundings["cwd"] / "begun").exists():
            time.sleep(0.02)
        worker.send_signal(signal.SIGTERM)
        if status == "completed":
            time.sleep(0.5)
            (surroundings["cwd"] / "go-on").touch()
        assert worker.wait(timeout=30) == 143
        assert "Traceback" not in worker.stderr.read()
    assert json.loads(run("show", "r1", "--json").stdout)["status"] == status


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_second_signal_ends_the_grace_and_gives_runs_back(run, surroundings, number, code):
    (surroundings["cwd"] / "asking.json").write_text(json.dumps(ASKING))
    (surroundings["cwd"] / "tools.py").write_text(QUICK_TOOLS)
    started = json.loads(run("run", "asking.json", "--tools", "tools.py", "--run-id", "r1", "--json").stdout)
    assert run("answer", started["waits"][0]["key"], "--value", "true").returncode == 0
    line = ["worker", "--tools", "tools.py", "--grace", "60s"]
    worker = subprocess.Popen([*COMMAND, *line], **surroundings, stderr=subprocess.PIPE, text=True)
    with worker:
        while not (surroundings["cwd"] / "begun").exists():
            time.sleep(0.02)
        worker.send_signal(number)
        time.sleep(0.5)
        worker.send_signal(number)
        assert worker.wait(timeout=30) == code
        assert "could not be released" not in worker.stderr.read()
    assert json.loads(run("show", "r1", "--json").stdout)["status"] == "answered"


def test_a_worker_refuses_a_store_that_is_not_there(run):
    assert run("worker", "--tools", "tools.py").returncode == 7
