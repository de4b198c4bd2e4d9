"""``list``, ``show``, ``answer`` and ``cancel``."""

from __future__ import annotations

import json
import subprocess
import sys

from flowpersist.hub import audit_trail


def test_list_shows_ids_and_open_waits_and_no_keys(cli, started):
    started()
    result = cli("list")
    assert "waiting" in result.stdout
    assert "amount" in result.stdout
    assert "df_susp_" not in result.output


def test_list_of_nothing_says_so(cli, made):
    assert cli("list").stdout == "nothing found\n"
    assert json.loads(cli("list", "--json").stdout) == {"items": [], "next": None}


def test_list_is_paged(cli, started):
    for _ in range(3):
        started()
    first = json.loads(cli("list", "--limit", "2", "--json").stdout)
    second = json.loads(cli("list", "--limit", "2", "--after", first["next"], "--json").stdout)
    assert (len(first["items"]), len(second["items"])) == (2, 1)
    assert f"more: --after {first['next']}" in cli("list", "--limit", "2").stdout


def test_list_filters_by_status_and_metadata(cli, started):
    started()
    assert cli("list", "--status", "completed").stdout == "nothing found\n"
    assert cli("list", "--metadata", "flow=other").stdout == "nothing found\n"
    assert (
        len(json.loads(cli("list", "--status", "waiting", "--metadata", "flow=shipping", "--json").stdout)["items"])
        == 1
    )


def test_options_may_stand_before_the_command(cli, started, place):
    started()
    before = cli("--json", "--url", f"sqlite:///{place / 'flows.db'}", "list")
    assert len(json.loads(before.stdout)["items"]) == 1


def test_namespaces_are_apart(cli, started):
    started()
    assert cli("list", "--namespace", "other").stdout == "nothing found\n"


def test_show_tells_what_is_awaited_without_a_key(cli, started):
    result = cli("show", started()["ok"])
    assert "How many of lamps?" in result.stdout
    assert '"minimum": 1' in result.stdout
    assert "df_susp_" not in result.stdout


def test_history_tells_who_answered_what_and_what_was_refused(cli, started, monkeypatch):
    monkeypatch.setattr(audit_trail, "PATIENCE", 60.0)
    key = started()["ok"]
    assert cli("answer", key, "--value", "7", "--by", "eve").exit_code == 4
    cli("answer", key, "--value", "true", "--by", "ann")
    told = cli("history", key)
    assert (told.exit_code, "df_susp_" in told.output) == (0, False)
    assert "answer refused: invalid-input" in told.stdout
    entries = json.loads(cli("history", key, "--json").stdout)
    assert [one["number"] for one in entries] == [*range(1, len(entries) + 1)]
    refused, answered = entries[-2:]
    assert (refused["refusal"], refused["by"]["subject"]) == ("invalid-input", "eve")
    assert (answered["verb"], answered["by"]["subject"], answered["refusal"]) == ("answer", "ann", None)
    assert (answered["waits"][0]["decision"], answered["waits"][0]["answer"]["value"]) == ("approve", True)
    assert answered["previous"] == refused["mac"]


def test_answers_tell_how_they_came(cli, started):
    keys = started()
    answer = ("--value", "true", "--via", "email:msg:17")
    assert cli("answer", keys["ok"], *answer).exit_code == 0
    amount = ("--set", "count=2", "--via", "slack")
    assert cli("resume", keys["amount"], *amount, "--tools", "tools.py").exit_code == 0
    entries = json.loads(cli("history", keys["ok"], "--json").stdout)
    answers = [wait["answer"] for one in entries for wait in one["waits"] if wait["answer"]]
    # Only the first colon divides: many ids of deliveries have colons of their own.
    assert {(one["channel"], one["delivery"]) for one in answers if one["channel"]} == {
        ("email", "msg:17"),
        ("slack", None),
    }


def test_a_wrong_channel_is_refused_before_the_store_is_opened(cli):
    for given in (":7", "email:", "x" * 513):
        for verb in ("answer", "resume"):
            refused = cli(verb, "key", "--value", "true", "--via", given)
            assert (refused.exit_code, "CHANNEL:DELIVERY" in refused.stderr) == (2, True)


def test_keys_gives_lost_keys_again(cli, started):
    keys = started()
    found = json.loads(cli("list", "--json").stdout)["items"][0]["id"]
    assert set(json.loads(cli("keys", found, "--json").stdout).values()) == set(keys.values())
    assert keys["ok"] in cli("keys", found).stdout


def test_show_tells_who_answered(cli, started):
    key = started()["ok"]
    cli("answer", key, "--value", "true", "--by", "ana")
    assert "answered by ana at " in cli("show", key).stdout
    wait = next(w for w in json.loads(cli("show", key, "--json").stdout)["waits"] if w["answeredBy"])
    assert (wait["status"], wait["answeredBy"]) == ("answered", "ana")


def test_show_of_a_cancelled_run_tells_why(cli, started):
    key = started()["ok"]
    cli("cancel", key, "--reason", "out of stock", "--by", "ana")
    shown = cli("show", key).stdout
    assert "cancelled" in shown
    assert "out of stock" in shown


def test_answer_prints_a_receipt(cli, started):
    key = started()["ok"]
    result = cli("answer", "-", "--value", "true", "--answer-id", "click-1", stdin=key)
    assert result.stdout.startswith("accepted: ")
    assert json.loads(cli("answer", key, "--value", "true", "--answer-id", "click-1", "--json").stdout) | {
        "outcome": "replayed",
        "answerId": "click-1",
    } == json.loads(cli("answer", key, "--value", "true", "--answer-id", "click-1", "--json").stdout)


def test_an_answer_to_another_digest_is_refused(cli, started):
    key = started()["ok"]
    waits = json.loads(cli("show", key, "--json").stdout)["waits"]
    (digest,) = {wait["digest"] for wait in waits if wait["awaiting"]["id"] == "ok"}
    refused = cli("answer", key, "--value", "true", "--shown-digest", "sha256:0")
    assert refused.exit_code == 4
    assert "show it again" in refused.stderr
    accepted = cli("answer", key, "--value", "true", "--shown-digest", digest, "--json")
    assert json.loads(accepted.stdout)["digest"] == digest


def test_value_is_read_from_standard_input(cli, started):
    assert cli("answer", started()["ok"], "--value", "-", stdin="true").exit_code == 0


def test_fields_are_json_or_text(cli, started):
    key = started()["amount"]
    assert cli("answer", key, "--set", "count=3", "--set", "note=by hand").exit_code == 0


def test_the_command_agentack_passes_on_a_trace_of_a_flow(cli, started, place):
    """The package's own command, on the file that the command has written."""
    keys = started()
    cli("answer", keys["ok"], "--value", "true", "--by", "ann")
    cli("resume", keys["amount"], "--value", '{"count": 3}', "--tools", "tools.py", "--by", "ben")
    worker = cli("resume", keys["ok"], "--tools", "tools.py")
    assert worker.exit_code in {0, 6}
    suspension = json.loads(cli("list", "--json").stdout)["items"][0]["id"]
    trace = place / "trace.jsonl"
    trace.write_text(cli("history", suspension, "--format", "agentack").stdout)
    checked = subprocess.run(
        [sys.executable, "-m", "agentack", "check", str(trace)], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_audit_strip_removes_a_name_and_keeps_the_trail(cli, started):
    keys = started()
    assert cli("answer", keys["ok"], "--value", "true", "--by", "ann").exit_code == 0
    suspension = json.loads(cli("list", "--json").stdout)["items"][0]["id"]
    assert cli("audit", "strip").exit_code == 7
    assert cli("audit", "strip", "--subject", "ann", "--dry-run").stdout == "would strip 1 entries of 1 suspensions\n"
    done = cli("audit", "strip", "--suspension", suspension, "--subject", "ann", "--by", "dpo", "--json")
    assert json.loads(done.stdout) == {"suspensions": 1, "entries": 1, "halts": 0, "dryRun": False}
    entries = json.loads(cli("history", suspension, "--json").stdout)
    assert [one["removed"] for one in entries if one["verb"] == "answer"] == [True]
    assert (entries[-1]["verb"], entries[-1]["by"]["subject"]) == ("strip", "dpo")
