"""``flow inspect`` and ``flow retry``: runs that have failed, seen and gone on with from the command line."""

from __future__ import annotations

import json

TOOLS = """
from pathlib import Path
from flowpersist.dynamicflow import tool

@tool()
async def say(value: object) -> object:
    return value
tools = [say]
"""
FAILING = {
    "failed": "park",
    "flow": [
        {"id": "first", "tool": "say", "args": {"value": {"net": 5}}},
        {"id": "second", "tool": "say", "args": {"value": "$first.total"}},
    ],
}


def test_a_parked_run_is_inspected_and_retried(cli, place):
    (place / "say.py").write_text(TOOLS)
    (place / "failing.json").write_text(json.dumps(FAILING))
    failed = cli("run", "failing.json", "--tools", "say.py", "--run-id", "mine", "--json")
    assert failed.exit_code == 1
    assert json.loads(failed.stderr[failed.stderr.index("{") :])["run"] == "mine"
    seen = json.loads(cli("flow", "inspect", "mine", "--json").stdout)
    assert (seen["status"], seen["position"]) == ("parked", ["second"])
    assert [(one["path"], one["status"], one["output"]) for one in seen["steps"]] == [
        ("first", "done", {"net": 5}),
        ("second", "failed", None),
    ]
    again = cli("flow", "retry", "mine", "--tools", "say.py")
    assert again.exit_code == 1
    refused = cli("flow", "retry", "mine", "--tools", "say.py", "--edit", "nothing=1")
    assert refused.exit_code == 1
    assert "nothing" in refused.stderr
    done = cli("flow", "retry", "mine", "--tools", "say.py", "--edit", 'first={"total": 6}', "--from", "second")
    assert (done.exit_code, done.stdout) == (0, "6\n")
    text = cli("flow", "inspect", "mine").stdout
    assert "run mine is completed" in text
    closed = cli("flow", "retry", "mine", "--tools", "say.py")
    assert closed.exit_code == 6


def test_a_run_that_is_not_there_is_no_key(cli):
    cli("run", "flow.json", "--tools", "tools.py")
    assert cli("flow", "inspect", "nobody").exit_code in {2, 5}
    assert cli("flow", "retry", "nobody", "--tools", "tools.py").exit_code in {2, 5}
