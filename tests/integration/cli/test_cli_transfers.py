"""``export`` and ``import``: a run goes to another store by a file."""

from __future__ import annotations

import json

from flowpersist.cli.exits import Exit


def test_a_run_goes_to_another_store_and_on(cli, started, place):
    keys = started("--tenant", "acme")
    by_key = cli("export", "one.jsonl", "--suspension", keys["ok"], "--json")
    assert json.loads(by_key.stdout)["records"] >= 1
    listed = json.loads(cli("list", "--json").stdout)["items"]
    assert cli("export", "again.jsonl", "--suspension", listed[0]["id"]).exit_code == 0
    assert cli("export", "acme.jsonl", "--tenant", "acme").stdout.startswith("wrote ")
    elsewhere = ("--url", f"sqlite:///{place / 'elsewhere.db'}")
    assert cli("import", "acme.jsonl", "--dry-run", *elsewhere).exit_code == Exit.CONFIGURATION
    done = json.loads(cli("import", "one.jsonl", "--json", *elsewhere).stdout)
    assert (done["created"], done["present"], done["dryRun"]) == (1, 0, False)
    assert cli("import", "acme.jsonl", "--dry-run", *elsewhere).stdout.startswith("would create 0")
    assert cli("answer", keys["ok"], "--value", "true", *elsewhere).exit_code == 0
    refused = cli("import", "acme.jsonl", *elsewhere)
    assert (refused.exit_code, "stands in the store already" in refused.stderr) == (Exit.CLOSED, True)


def test_wrong_usage_and_a_file_that_is_no_export(cli, started, place):
    keys = started()
    assert cli("export", "x.jsonl").exit_code == Exit.USAGE
    assert cli("export", "x.jsonl", "--tenant", "t", "--suspension", keys["ok"]).exit_code == Exit.USAGE
    (place / "x.jsonl").write_text("{}\n")
    assert cli("import", "x.jsonl").exit_code == Exit.UNREADABLE
    assert cli("import", "missing.jsonl").exit_code == Exit.CONFIGURATION


def test_everything_moves_to_another_store_and_a_held_run_later(cli, started, place):
    keys = started()
    url = f"sqlite:///{place / 'elsewhere.db'}"
    done = json.loads(cli("copy", url, "--name", "elsewhere", "--json").stdout)
    assert (done["moved"], done["complete"]) == (1, True)
    refused = cli("answer", keys["ok"], "--value", "true")
    assert (refused.exit_code, "'elsewhere'" in refused.stderr) == (Exit.CLOSED, True)
    assert cli("answer", keys["ok"], "--value", "true", "--url", url).exit_code == 0
    assert cli("list").stdout == "nothing found\n"
    assert cli("copy", url).stdout.startswith("moved 0, ")
