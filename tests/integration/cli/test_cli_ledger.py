"""The replay ledger from the command: a store that was restored is refused, and accepted knowingly."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing

from flowpersist.cli.exits import Exit


def copied(source, target):
    with closing(sqlite3.connect(source)) as old, closing(sqlite3.connect(target)) as new:
        old.backup(new)


def test_a_restored_backup_is_refused_until_it_is_accepted(cli, place, started, monkeypatch):
    monkeypatch.setenv("FLOWPERSIST_LEDGER_URL", "sqlite:///ledger.db")
    started()
    (row,) = json.loads(cli("list", "--json").stdout)["items"]
    copied("flows.db", "backup.db")
    assert cli("cancel", row["id"], "--reason", "too dear").exit_code == 0
    copied("backup.db", "flows.db")
    refused = cli("show", row["id"])
    assert refused.exit_code == Exit.UNREADABLE
    assert "accept-restored" in refused.stderr
    assert cli("verify").exit_code == Exit.UNREADABLE
    accepted = cli("accept-restored", "--json")
    assert json.loads(accepted.stdout) == {"accepted": 1}
    assert cli("accept-restored", row["id"]).stdout == "0 suspensions accepted\n"
    assert cli("show", row["id"]).exit_code == 0
    assert cli("verify").exit_code == 0


def test_accepting_takes_a_ledger(cli, started):
    started()
    refused = cli("accept-restored")
    assert refused.exit_code == Exit.CONFIGURATION
    assert "FLOWPERSIST_LEDGER_URL" in refused.stderr
