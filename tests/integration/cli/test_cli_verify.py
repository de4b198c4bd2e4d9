"""``verify``: findings as lines, and a code that a timer can test."""

from __future__ import annotations

import json
import sqlite3

from flowpersist.cli.exits import Exit


def altered(place):
    with sqlite3.connect(place / "flows.db") as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        changed = 0
        for table in tables:
            columns = {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}
            if {"due_at", "head"} <= columns:
                sql = f"UPDATE {table} SET due_at = 1 WHERE namespace = 'default'"  # noqa: S608 - our own table
                changed += connection.execute(sql).rowcount
    connection.close()
    assert changed


def test_a_clean_store_and_one_that_was_altered_and_is_mended(cli, started, place):
    started()
    clean = cli("verify")
    assert (clean.exit_code, clean.stdout.endswith("records read, nothing found\n")) == (0, True)
    altered(place)
    found = cli("verify", "--json")
    assert found.exit_code == Exit.UNREADABLE
    finding, summary = [json.loads(line) for line in found.stdout.splitlines()]
    assert (finding["problem"], finding["kind"], finding["repaired"]) == ("columns", "suspension", False)
    assert (summary["clean"], summary["found"], summary["repaired"]) == (False, {"columns": 1}, {})
    mended = cli("verify", "--repair")
    assert mended.exit_code == 0
    assert "(repaired)" in mended.stdout
    assert "1 found, 1 repaired" in mended.stdout
    assert cli("verify", "--no-data").exit_code == 0


def test_without_the_keys_checksums_are_compared(cli, started, monkeypatch):
    started()
    monkeypatch.delenv("FLOWPERSIST_KEYS_FILE")
    result = cli("verify")
    assert result.exit_code == 0
    assert "only the checksums, for want of a key" in result.stdout
