"""The agent with calls that need approval: one process for each command, killed between and within all of them."""

from __future__ import annotations

import json
import os
import random
import time
from pathlib import Path

import pytest

from forked import forked

EXAMPLE = Path(__file__).parents[2] / "examples" / "agent_approval.py"
EDIT = json.dumps({"decision": "edit", "arguments": {"amount": 20}})
REJECT = json.dumps({"decision": "reject", "comment": "too early"})


@pytest.fixture(params=["sqlite", "postgres"])
def backend(request):
    return request.param


@pytest.fixture
def agent(url, tmp_path):
    environment = {
        **os.environ,
        "FLOWPERSIST_URL": url,
        "AGENT_LEDGER": str(tmp_path / "ledger.jsonl"),
        "AGENT_LEASE": "1",
    }
    environment.pop("FLOWPERSIST_KEYS", None)

    def run(*arguments, kill_after=None):
        with forked(EXAMPLE, *arguments, environment=environment, directory=tmp_path, errors=True) as process:
            if kill_after is not None:
                time.sleep(kill_after)
                process.kill()
            out, err = process.communicate(timeout=60)
            return process.returncode, out, err

    return run


def done(agent, *arguments):
    """A command that is repeated until it has ended by itself: a run that was killed is busy for its lease."""
    for _ in range(60):
        code, out, err = agent(*arguments)
        if code == 0:
            return out
        assert "SuspensionBusy" in err, err
        time.sleep(0.2)
    raise AssertionError(err)


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
def test_an_agent_is_killed_everywhere_and_ends_right(agent, tmp_path, provider):
    chance = random.Random(provider)
    steps = [
        ("start", "order-7", "--provider", provider),
        ("decide", "order-7", "call_refund", EDIT),
        ("decide", "order-7", "call_mail", REJECT),
        ("go-on", "order-7"),
    ]
    for step in steps:
        agent(*step, kill_after=chance.uniform(0.0, 0.3))
        done(agent, *step)
        if step[0] == "start":
            listed = [json.loads(line) for line in done(agent, "list").splitlines()]
            assert {(one["run"], one["call"]) for one in listed} == {
                ("order-7", "call_refund"),
                ("order-7", "call_mail"),
            }
            assert all(one["digest"].startswith("sha256:") for one in listed)
    assert done(agent, "list") == ""
    ended = done(agent, "go-on", "order-7")
    assert "Done after" in ended
    assert "refund done with" in ended
    assert "a person refused this call: too early" in ended
    ledger = [json.loads(line) for line in (tmp_path / "ledger.jsonl").read_text().splitlines()]
    effects = sorted((one["key"], one["tool"], one["arguments"].get("amount")) for one in ledger)
    assert effects == [("order-7:call_order", "look_up", None), ("order-7:call_refund", "refund", 20)]


def test_a_decision_that_breaks_the_tool_is_refused_and_the_question_stays(agent):
    done(agent, "start", "order-8")
    too_much = json.dumps({"decision": "edit", "arguments": {"amount": 2000}})
    code, _, err = agent("decide", "order-8", "call_refund", too_much)
    assert code != 0
    assert "InputValidationError" in err
    assert len(done(agent, "list").splitlines()) == 2
    code, _, err = agent("go-on", "order-8")
    assert code != 0
    assert "StillWaiting" in err
