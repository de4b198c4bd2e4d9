"""``flow validate``, ``flow show`` and ``flow graph``: documents before they run, and pictures of stored runs."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import tracemalloc

import pytest

from flowpersist import KeyRing, open_hub, or_raise
from flowpersist.dynamicflow import FlowRunner

WRONG = {"flow": [{"id": "a", "tool": "t", "args": {"x": "$later"}}, {"id": "a", "tool": "t", "wrong": 1}]}


def test_a_document_without_problems_is_valid(cli):
    result = cli("flow", "validate", "flow.json", "--tools", "tools.py")
    assert (result.exit_code, result.stdout) == (0, "no problems found\n")
    assert json.loads(cli("flow", "validate", "flow.json", "--json").stdout) == {"valid": True, "problems": []}


def test_all_problems_are_listed_with_places_and_codes(cli, place):
    (place / "wrong.json").write_text(json.dumps(WRONG))
    result = cli("flow", "validate", "wrong.json", "--json")
    assert result.exit_code == 4
    data = json.loads(result.stdout)
    assert data["valid"] is False
    assert len(data["problems"]) >= 2
    assert all({"pointer", "code", "message", "severity"} <= set(one) for one in data["problems"])
    lines = cli("flow", "validate", "wrong.json").stdout
    assert all(
        f"{one['pointer'] or 'document'}: error {one['code']}" in " ".join(lines.split()) for one in data["problems"]
    )


def test_a_tool_that_is_not_given_is_a_problem(cli, place):
    (place / "none.py").write_text("tools = []\n")
    result = cli("flow", "validate", "flow.json", "--tools", "none.py")
    assert result.exit_code == 4
    assert "ship" in result.stdout


def test_what_is_no_json_is_a_problem_of_the_document(cli, place):
    (place / "no.json").write_text("{")
    result = cli("flow", "validate", "no.json", "--json")
    assert result.exit_code == 4
    assert json.loads(result.stdout)["problems"]


def test_show_lists_steps_with_what_they_call(cli):
    data = json.loads(cli("flow", "show", "flow.json", "--json").stdout)
    assert (data["name"], data["entry"], data["tools"]) == ("shipping", "asked", ["await_input", "ship"])
    assert [(one["id"], one["kind"]) for one in data["steps"]][-1] == ("shipped", "ship")
    lines = cli("flow", "show", "flow.json").stdout.splitlines()
    assert "asked (parallel)" in lines
    assert "  [0] amount (await_input)" in lines


def test_show_of_a_wrong_document_fails_as_run_does(cli, place):
    (place / "wrong.json").write_text(json.dumps(WRONG))
    assert cli("flow", "show", "wrong.json").exit_code == 1


@pytest.mark.parametrize(
    "words",
    [
        ["flow", "validate", "huge.json"],
        ["flow", "show", "huge.json"],
        ["flow", "graph", "huge.json"],
        ["flow", "dry-run", "huge.json"],
        ["run", "huge.json"],
        ["flow", "validate", "flow.json", "--flows", "other=huge.json"],
        ["check-upgrade", "--document", "huge.json"],
    ],
    ids=" ".join,
)
def test_a_file_that_is_too_large_for_a_document_is_not_read_whole(cli, made, place, words):
    size = 2**32
    (place / "huge.json").touch()
    os.truncate(place / "huge.json", size)
    tracemalloc.start()
    try:
        refused = cli(*words)
        assert (refused.exit_code != 0, "has more than 1048576 bytes" in refused.output) == (True, True)
        assert tracemalloc.get_traced_memory()[1] < size // 64
    finally:
        tracemalloc.stop()


def test_a_document_is_drawn(cli):
    assert cli("flow", "graph", "flow.json").stdout.startswith("flowchart TD\n")
    assert cli("flow", "graph", "flow.json", "--format", "dot").stdout.startswith('digraph "shipping" {\n')


def test_a_stored_run_is_drawn_with_what_waits(cli, started):
    keys = started("--run-id", "order-7")
    waiting = json.loads(cli("flow", "graph", "order-7", "--json").stdout)["progress"]
    assert (waiting["amount"], waiting["ok"]) == ("waiting", "waiting")
    cli("resume", keys["ok"], "--tools", "tools.py", "--value", "true")
    again = json.loads(cli("flow", "graph", "order-7", "--format", "dot", "--json").stdout)
    assert (again["progress"]["amount"], again["progress"]["ok"]) == ("waiting", "done")
    assert again["drawing"].count('fillcolor="#') == len(again["progress"])
    assert "class n" in cli("flow", "graph", "order-7").stdout


def test_a_run_with_a_registered_flow_is_drawn(cli, place):
    async def start():
        keys = KeyRing.from_file(place / "keys")
        async with open_hub(f"sqlite:///{place / 'flows.db'}", keyring=keys) as hub:
            asking = {"tool": "await_input", "id": "ask", "args": {"id": "ok", "prompt": "Now?"}}
            runner = FlowRunner(hub, flows={"inner": {"flow": [asking]}})
            or_raise(await runner.start({"flow": [{"id": "s", "flow": "inner"}]}, run_id="nested"))

    asyncio.run(start())
    result = cli("flow", "graph", "nested", "--json")
    assert json.loads(result.stdout)["progress"] == {"s": "running"}


def test_a_run_that_is_not_there_is_not_found(cli, made):
    assert cli("flow", "graph", "no-such-run").exit_code == 5


def test_a_drawing_is_written_to_a_file(cli, place):
    assert cli("flow", "graph", "flow.json", "--output", "flow.mmd").exit_code == 0
    assert (place / "flow.mmd").read_text().startswith("flowchart TD\n")


def test_svg_without_graphviz_names_what_to_install(cli, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda _: None)
    result = cli("flow", "graph", "flow.json", "--format", "svg")
    assert result.exit_code == 7
    assert "install graphviz" in " ".join(result.stderr.split())


@pytest.mark.skipif(shutil.which("dot") is None, reason="graphviz is not installed")
def test_svg_is_drawn_by_graphviz(cli):
    assert "<svg" in cli("flow", "graph", "flow.json", "--format", "svg").stdout


# ---- sub-flows of other files

INNER = {"metadata": {"name": "inner"}, "flow": [{"id": "said", "expression": "$input.n + 1"}]}
OUTER = {"flow": [{"id": "sub", "flow": "one more", "input": {"n": 4}}]}


@pytest.fixture
def outer(place):
    (place / "outer.json").write_text(json.dumps(OUTER))
    (place / "inner.json").write_text(json.dumps(INNER))
    return ("outer.json", "--flows", "one more=inner.json")


def test_a_document_whose_sub_flow_is_another_file_is_checked_shown_drawn_and_run(cli, outer):
    assert cli("flow", "validate", *outer).stdout == "no problems found\n"
    assert cli("flow", "show", *outer).exit_code == 0
    assert "sub" in cli("flow", "graph", *outer).stdout
    assert cli("flow", "dry-run", *outer).stdout == "result: 5\n"
    assert cli("run", *outer).stdout == "5\n"


def test_a_sub_flow_that_is_not_given_is_a_problem_that_says_how_to_give_it(cli, outer):
    result = cli("flow", "validate", "outer.json")
    assert result.exit_code == 4
    assert "/flow/0/flow" in result.stdout
    assert "--flows" in " ".join(result.stdout.split())


@pytest.mark.parametrize(
    ("flows", "told"),
    [
        (["inner.json"], "must be ID=FILE"),
        (["=inner.json"], "must be ID=FILE"),
        (["a=inner.json", "a=outer.json"], "a is given twice"),
        (["a=none.json"], "none.json: No such file"),
    ],
)
def test_what_names_no_sub_flow_is_wrong_usage(cli, outer, flows, told):
    result = cli("flow", "validate", "outer.json", *(part for one in flows for part in ("--flows", one)))
    assert result.exit_code == 2
    assert told in result.stderr


def test_a_sub_flow_that_can_not_run_is_refused(cli, outer, place):
    (place / "inner.json").write_text('{"flow": []}')
    result = cli("flow", "validate", *outer)
    assert result.exit_code not in {0, 2}
    assert "one more" in result.stdout + result.stderr
