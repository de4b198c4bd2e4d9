"""``run --follow``: the events of a run on standard error, and its result on standard output."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

TOOLS = """
import asyncio, os
from flowpersist.dynamicflow import tool

@tool()
async def say(value: object) -> object:
    if value == os.environ.get("STUCK"):
        await asyncio.sleep(600)
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
