"""``run`` and ``resume``: a flow from its document to its result, by keys."""

from __future__ import annotations

import json

import pytest


def test_run_prints_what_is_awaited_and_its_keys(cli):
    result = cli("run", "flow.json", "--tools", "tools.py", "--input", "article=lamps")
    assert result.exit_code == 0
    assert "awaits 2 answers" in result.stdout
    assert "How many of lamps?" in result.stdout
    assert result.stdout.count("df_susp_") == 2


def test_answers_in_any_order_end_the_flow(cli, started):
    keys = started()
    first = cli("resume", keys["ok"], "--tools", "tools.py", "--value", "true", "--json")
    assert json.loads(first.stdout)["outcome"] == "suspended"
    last = cli("resume", keys["amount"], "--tools", "tools.py", "--set", "count=3", "--by", "ana")
    assert (last.exit_code, last.stdout) == (0, "3 lamps: shipped\n")


def test_completed_flow_gives_result_and_outputs_as_json(cli, started):
    keys = started()
    cli("answer", keys["ok"], "--value", "false")
    result = cli("resume", keys["amount"], "--tools", "tools.py", "--set", "count=3", "--json")
    data = json.loads(result.stdout)
    assert data["outcome"] == "completed"
    assert data["result"] == "3 lamps: kept"
    assert data["outputs"]["amount"] == {"count": 3}


def test_resume_without_an_answer_goes_on_with_recorded_ones(cli, started):
    keys = started()
    found = json.loads(cli("list", "--json").stdout)["items"][0]["id"]
    cli("answer", keys["ok"], "--value", "true")
    cli("answer", keys["amount"], "--value", '{"count": 1}')
    result = cli("resume", found, "--tools", "tools.py")
    assert result.stdout == "1 lamps: shipped\n"


def test_resume_of_what_still_waits_is_not_yet(cli, started):
    result = cli("resume", started()["ok"], "--tools", "tools.py")
    assert result.exit_code == 3


def test_key_is_read_from_standard_input(cli, started):
    key = started()["ok"]
    result = cli("resume", "-", "--tools", "tools.py", "--value", "true", "--json", stdin=f"{key}\n")
    assert json.loads(result.stdout)["outcome"] == "suspended"


def test_result_that_is_no_text_is_printed_as_json(cli, place):
    (place / "plain.json").write_text(
        json.dumps({"flow": [{"id": "all", "filter": "$input.items", "condition": "$item > 1"}]})
    )
    result = cli("run", "plain.json", "--input", "items=[1, 2, 3]")
    assert json.loads(result.stdout) == [2, 3]


@pytest.mark.parametrize(("file", "stdin"), [("input.json", None), ("-", '{"items": [5]}')])
def test_input_comes_from_a_file_or_standard_input(cli, place, file, stdin):
    (place / "plain.json").write_text(
        json.dumps({"flow": [{"id": "all", "filter": "$input.items", "condition": "$item > 1"}]})
    )
    (place / "input.json").write_text('{"items": [5]}')
    assert json.loads(cli("run", "plain.json", "--input-file", file, stdin=stdin).stdout) == [5]


def test_same_run_id_starts_nothing_twice(cli, started):
    assert started("--run-id", "order-7") == started("--run-id", "order-7")
    assert len(json.loads(cli("list", "--run", "order-7", "--json").stdout)["items"]) == 1


def test_wait_of_a_flow_that_awaits_nothing_ends_at_once(cli, place):
    (place / "plain.json").write_text(
        json.dumps({"flow": [{"id": "all", "filter": "$input.items", "condition": "$item > 1"}]})
    )
    result = cli("run", "plain.json", "--input", "items=[4]", "--wait")
    assert json.loads(result.stdout) == [4]


def test_resume_with_wait_goes_on_when_everything_is_answered(cli, started):
    keys = started()
    cli("answer", keys["ok"], "--value", "true")
    result = cli("resume", keys["amount"], "--tools", "tools.py", "--set", "count=2", "--wait")
    assert result.stdout == "2 lamps: shipped\n"


def test_a_run_takes_who_asks_whose_it_is_and_what_it_is_listed_with(cli, place):
    (place / "asks.json").write_text('{"flow": [{"tool": "await_input", "args": {"prompt": "For $run.by?"}}]}')
    options = ("--by", "ann", "--tenant", "acme", "--metadata", "team=ops", "--metadata", "priority=3")
    assert "For ann?" in cli("run", "asks.json", *options).stdout
    listed = json.loads(cli("list", "--tenant", "acme", "--metadata", "priority=3", "--json").stdout)["items"]
    assert [(one["tenant"], one["metadata"]["team"]) for one in listed] == [("acme", "ops")]


def test_metadata_of_a_run_is_plain(cli, place):
    (place / "asks.json").write_text('{"flow": [{"tool": "await_input", "args": {"prompt": "?"}}]}')
    refused = cli("run", "asks.json", "--metadata", "a=[1]")
    assert (refused.exit_code, "must be a text, a number, true or false" in refused.stderr) == (2, True)
    assert cli("run", "asks.json", "--metadata", "kind=x").exit_code == 7
