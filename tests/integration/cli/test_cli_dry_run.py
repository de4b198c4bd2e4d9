"""``flow dry-run``: what a document would call and ask, shown without a store."""

from __future__ import annotations

import json

import pytest

TOOLS = """
from pathlib import Path
from flowpersist.dynamicflow import tool

@tool(id="ship")
async def ship(article: str, amount: dict, ok: bool) -> str:
    Path("shipped").touch()
    return "shipped"

tools = [ship]
"""


@pytest.fixture
def dry(cli, place):
    """Runs ``flow dry-run`` with a recording; gives its result."""
    (place / "dry.py").write_text(TOOLS)

    def invoke(*options, recording=None):
        if recording is not None:
            (place / "recorded.json").write_text(json.dumps(recording))
            options = (*options, "--recording", "recorded.json")
        return cli("flow", "dry-run", "flow.json", "--tools", "dry.py", "--input", "article=lamps", *options)

    return invoke


def test_calls_and_questions_are_shown_and_nothing_is_done(dry, place):
    data = json.loads(dry("--json").stdout)
    assert [(one["path"], one["prompt"], one["answer"], one["from"]) for one in data["questions"]] == [
        ("asked[0].amount", "How many of lamps?", {"count": 1}, "schema"),
        ("asked[1].ok", "Ship it?", False, "schema"),
    ]
    (call,) = data["calls"]
    assert call == {
        "path": "shipped",
        "step": "shipped",
        "tool": "ship",
        "attempt": 1,
        "arguments": {"article": "lamps", "amount": {"count": 1}, "ok": False},
        "output": "",
        "from": "schema",
    }
    assert (data["result"], data["error"], data["unused"]) == ("", None, [])
    assert not (place / "shipped").exists()
    assert not (place / "flows.db").exists()


def test_a_recording_comes_first_and_the_text_says_where_values_are_from(dry):
    recording = {"answers": {"asked[0].amount": {"count": 5}, "ok": True}, "tools": {"ship": "sent"}}
    result = dry(recording=recording)
    assert result.exit_code == 0
    words = " ".join(result.stdout.split())
    assert 'shipped ship { "amount": { "count": 5 }, "article": "lamps"' in words
    assert "sent tool" in words
    assert "amount the flow How many of lamps?" in words
    assert result.stdout.endswith("result: sent\n")
    more = dry(recording={**recording, "steps": {"shipped": "by step"}})
    assert "unused in the recording: /tools/ship" in more.stdout


def test_a_flow_that_fails_is_shown_and_exits_with_1(cli, place):
    (place / "fails.json").write_text(json.dumps({"flow": [{"id": "a", "tool": "t", "args": {"x": "$input.none"}}]}))
    result = cli("flow", "dry-run", "fails.json", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["error"]["step"] == "a"
    assert "error: step 'a'" in cli("flow", "dry-run", "fails.json").stdout


@pytest.mark.parametrize(
    ("recording", "said", "code"),
    [
        ({"steps": {"nothing": 1}}, "/steps/nothing", 4),
        ({"steps": {"shipped": 1}}, "/steps/shipped", 4),
        ({"answers": {"amount": {"count": 0}}}, "/answers/amount/count", 4),
        ([], "JSON object", 2),
    ],
)
def test_a_recording_that_does_not_fit_is_refused_by_its_place(dry, recording, said, code):
    result = dry(recording=recording)
    assert result.exit_code == code
    assert said in result.stderr


def test_a_question_that_a_tool_may_ask_is_told_with_the_tool(cli, place):
    (place / "asks.py").write_text(
        "from flowpersist import AwaitInput\n"
        "from flowpersist.dynamicflow import tool\n"
        'SURE = AwaitInput(id="sure", prompt="Sure?", schema=bool)\n'
        "@tool(asks=[SURE])\n"
        "async def pay() -> int:\n"
        "    raise AssertionError\n"
        "tools = [pay]\n"
    )
    (place / "pays.json").write_text(json.dumps({"flow": [{"id": "p", "tool": "pay"}]}))
    shown = cli("flow", "dry-run", "pays.json", "--tools", "asks.py")
    assert "p.sure pay (may) Sure? false schema" in " ".join(shown.stdout.split())
    data = json.loads(cli("flow", "dry-run", "pays.json", "--tools", "asks.py", "--json").stdout)
    assert data["questions"] == [
        {"path": "p.sure", "tool": "pay", "prompt": "Sure?", "answer": False, "from": "schema"}
    ]
