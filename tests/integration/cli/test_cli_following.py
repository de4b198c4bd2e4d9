"""``--follow``: the events of a run on standard error, on a terminal with bars, and its result on standard output."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys

import pytest

TOOLS = """
import asyncio, os
from flowpersist.dynamicflow import tool

@tool()
async def say(value: object) -> object:
    if value == os.environ.get("STUCK"):
        await asyncio.sleep(600)
    if value == os.environ.get("REFUSED"):
        raise ValueError("no")
    return value
tools = [say]
"""
FLOW = {
    "metadata": {"name": "says"},
    "flow": [
        {"id": "each", "map": [1, 2], "with": [{"id": "one", "tool": "say", "args": {"value": "$item"}}]},
        {"id": "ok", "tool": "await_input", "args": {"prompt": "Ship it?"}},
        {"id": "last", "tool": "say", "args": {"value": "$ok"}},
    ],
}


def written(place, flow):
    (place / "say.py").write_text(TOOLS)
    (place / "says.json").write_text(json.dumps(flow))


def told(text):
    """The types of the events, and what is told of each; the first word of a line is the time."""
    return [tuple(line.split(" ", 2)[1:]) for line in text.splitlines() if line[2:3] == ":"]


def test_the_events_of_a_run_are_printed_up_to_its_pause(cli, place):
    written(place, FLOW)
    done = cli("run", "says.json", "--tools", "say.py", "--follow", "--json", "--run-id", "mine")
    outcome = json.loads(done.stdout)
    assert (outcome["outcome"], outcome["run"]) == ("suspended", "mine")
    events = told(done.stderr)
    assert (events[0], events[-1]) == (("flow-start", "says"), ("flow-suspended", "ok"))
    assert ("tool-output", "each[1].one") in events
    assert ("flow-progress", "step 1 of 3: each") in events
    assert outcome["waits"][0]["key"] not in done.stderr
    resumed = cli("resume", outcome["waits"][0]["key"], "--value", '"yes"', "--tools", "say.py")
    assert (resumed.exit_code, resumed.stdout, told(resumed.stderr)) == (0, "yes\n", [])


def test_the_events_of_a_run_without_a_name_are_printed_up_to_its_end(cli, place):
    written(place, {**FLOW, "flow": FLOW["flow"][:1]})
    done = cli("run", "says.json", "--tools", "say.py", "--follow")
    assert (done.exit_code, json.loads(done.stdout)) == (0, [1, 2])
    assert told(done.stderr)[-1][0] == "flow-complete"


def test_a_document_that_is_refused_has_no_events(cli, place):
    written(place, {"flow": [{"tool": "nobody"}]})
    done = cli("run", "says.json", "--tools", "say.py", "--follow")
    assert (done.exit_code, told(done.stderr)) == (1, [])
    assert "nobody" in done.stderr


def test_an_interrupted_run_is_released_and_goes_on(cli, place):
    written(place, {**FLOW, "flow": [*FLOW["flow"][:1], FLOW["flow"][2] | {"args": {"value": "end"}}]})
    command = [sys.executable, "-m", "flowpersist", "run", "says.json", "--tools", "say.py", "--follow"]
    going = subprocess.Popen(
        [*command, "--run-id", "mine"], stderr=subprocess.PIPE, text=True, env={**os.environ, "STUCK": "end"}
    )
    try:
        for line in going.stderr:
            if "tool-start last" in line:
                break
        going.send_signal(signal.SIGINT)
        going.communicate(timeout=60)
        assert going.returncode == 130
    finally:
        going.kill()
        going.wait()
    again = cli("run", "says.json", "--tools", "say.py", "--follow", "--run-id", "mine")
    assert (again.exit_code, again.stdout) == (0, "end\n")
    kinds = [event[0] for event in told(again.stderr)]
    assert (kinds.count("flow-start"), kinds.count("flow-resumed"), kinds[-1]) == (1, 1, "flow-complete")


def resumed(cli, outcome, *options):
    return cli("resume", outcome["waits"][0]["key"], "--value", '"yes"', "--tools", "say.py", *options)


def test_a_resumed_run_is_followed_from_its_answer_on(cli, place):
    written(place, FLOW)
    started = cli("run", "says.json", "--tools", "say.py", "--follow", "--json")
    done = resumed(cli, json.loads(started.stdout), "--follow")
    assert (done.exit_code, done.stdout) == (0, "yes\n")
    events = told(done.stderr)
    assert (events[0], events[-1][0]) == (("flow-resumed", "says ok"), "flow-complete")
    assert ("tool-output", "last") in events


def test_a_retried_run_is_followed_from_its_retry_on(cli, place, monkeypatch):
    written(
        place, {**FLOW, "failed": "park", "flow": [*FLOW["flow"][:1], FLOW["flow"][2] | {"args": {"value": "end"}}]}
    )
    monkeypatch.setenv("REFUSED", "end")
    failed = cli("run", "says.json", "--tools", "say.py", "--follow", "--run-id", "mine")
    assert failed.exit_code == 1
    assert told(failed.stderr)[-1][0] == "flow-error"
    monkeypatch.delenv("REFUSED")
    done = cli("flow", "retry", "mine", "--tools", "say.py", "--follow")
    assert (done.exit_code, done.stdout) == (0, "end\n")
    kinds = [event[0] for event in told(done.stderr)]
    assert (kinds[0], kinds[-1]) == ("flow-resumed", "flow-complete")


def test_a_run_without_stored_events_goes_on_and_says_so_once(cli, place):
    written(place, FLOW)
    started = cli("run", "says.json", "--tools", "say.py", "--json")
    done = resumed(cli, json.loads(started.stdout), "--follow")
    assert (done.exit_code, done.stdout, told(done.stderr)) == (0, "yes\n", [])
    assert done.stderr.count("can't be shown") == 1
    assert "FlowRunner(events=True)" in done.stderr


@pytest.mark.parametrize("command", [("resume", "df_susp_nobody"), ("flow", "retry", "nobody"), ("resume", "nobody")])
def test_what_can_not_be_resumed_is_refused_as_without_following(cli, place, command):
    written(place, FLOW)
    cli("run", "says.json", "--tools", "say.py")
    plain, followed = (cli(*command, "--tools", "say.py", *more) for more in ((), ("--follow",)))
    assert followed.exit_code == plain.exit_code != 0
    assert followed.stderr == plain.stderr


def test_a_run_waits_and_is_followed_over_its_pauses(cli, place):
    written(place, FLOW)
    command = [sys.executable, "-m", "flowpersist", "run", "says.json", "--tools", "say.py", "--follow", "--wait"]
    going = subprocess.Popen([*command, "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        text = ""
        for line in going.stdout:
            text += line
            if line == "}\n":
                break
        answered = cli("answer", json.loads(text)["waits"][0]["key"], "--value", '"yes"')
        assert answered.exit_code == 0
        rest, said = going.communicate(timeout=60)
        assert json.loads(rest)["result"] == "yes"
        kinds = [event[0] for event in told(said)]
        assert (kinds.count("flow-suspended"), kinds.count("flow-resumed"), kinds[-1]) == (1, 1, "flow-complete")
    finally:
        going.kill()
        going.wait()


def in_terminal(*arguments):
    """What is written to a terminal on standard error."""
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "flowpersist", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=follower,
        text=True,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "90"},
    )
    os.close(follower)
    heard = b""
    try:
        while chunk := os.read(leader, 65536):
            heard += chunk
    except OSError:
        # The terminal is closed once the process has ended.
        pass
    os.close(leader)
    printed, _ = process.communicate(timeout=60)
    return process.returncode, printed, heard.decode().replace("\r\n", "\n")


def test_on_a_terminal_a_map_has_a_bar(cli, place):
    written(place, {**FLOW, "flow": FLOW["flow"][:1]})
    code, printed, heard = in_terminal("run", "says.json", "--tools", "say.py", "--follow")
    assert (code, json.loads(printed)) == (0, [1, 2])
    lines = [line.rpartition("\x1b[K")[2] for line in heard.splitlines()]
    assert [line for line in lines if re.fullmatch(r"each  \[#+\]  2/2  100%", line)]
    assert ("node-complete", "each") in told("\n".join(lines))
    assert "each[1].one" not in heard
    assert [len(line) <= 90 for line in lines] == [True] * len(lines)


def test_a_pipe_gets_lines_and_no_bar(cli, place):
    written(place, {**FLOW, "flow": FLOW["flow"][:1]})
    done = cli("run", "says.json", "--tools", "say.py", "--follow")
    assert ("map-progress", "each: 2 of 2") in told(done.stderr)
    assert "\x1b" not in done.stderr
