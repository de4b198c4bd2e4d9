"""``cleanup``, ``health``, ``migrate``, ``keygen``, and the command as a whole."""

from __future__ import annotations

import builtins
import json
import sqlite3
import stat
import sys

import pytest

from flowpersist import cli as package
from flowpersist.cli.exits import EXITS, Exit, exit_of
from flowpersist.errors import AlreadyResumed, PersistenceError, RevisionConflict, StateTooLarge


def test_health_tells_backend_and_encryption(cli, started):
    started()
    assert "stored records are encrypted" in cli("health").stdout
    data = json.loads(cli("health", "--json").stdout)
    assert data["encrypted"] is True
    assert data["latencyMs"] >= 0


def test_health_counts_the_values_of_each_store(cli, started):
    started()
    cli("signal", "set", "A")
    cli("observe", "add", "seen", "--agent", "ana")
    counts = json.loads(cli("health", "--json").stdout)["stores"]
    assert counts["signals"] == 1
    assert f"values: {', '.join(f'{name} {count}' for name, count in sorted(counts.items()))}" in cli("health").stdout


def test_a_probe_asks_the_store_and_counts_nothing(cli, place):
    refused = cli("health", "--ping")
    assert refused.exit_code == Exit.CONFIGURATION
    cli("migrate")
    assert cli("health", "--ping").stdout.startswith("sqlite: answered in ")
    assert set(json.loads(cli("health", "--ping", "--json").stdout)) == {"backend", "latencyMs"}


def test_health_says_what_is_in_plain_text(cli, started, monkeypatch):
    monkeypatch.delenv("FLOWPERSIST_KEYS_FILE")
    started()
    monkeypatch.setenv("FLOWPERSIST_KEYS_FILE", "keys")
    said = cli("health").stdout
    assert "not all encrypted" in said
    assert "plain text" in said


def test_cleanup_keeps_what_is_alive_or_in_its_retention(cli, started):
    key = started()["ok"]
    cli("cancel", key)
    assert json.loads(cli("cleanup", "--json").stdout) == {"deleted": 0, "dryRun": False, "trails": 0}
    assert cli("cleanup", "--dry-run").stdout == "would delete 0\n"


def test_cleanup_deletes_what_has_served_its_time(cli, started, monkeypatch):
    monkeypatch.setenv("FLOWPERSIST_RETENTION", "0.001s")
    key = started()["ok"]
    cli("cancel", key)
    assert cli("cleanup").stdout == "deleted 1\n"
    assert cli("list").stdout == "nothing found\n"


def test_train_dictionary_learns_from_the_states_that_wait(cli, made, started):
    too_few = cli("train-dictionary")
    assert too_few.exit_code == Exit.UNREADABLE
    assert "too few" in too_few.stderr
    for _ in range(12):
        started()
    made = json.loads(cli("train-dictionary", "--size", "1024", "--samples", "10", "--json").stdout)
    assert (made["version"], made["samples"]) == (1, 10)
    assert cli("train-dictionary", "--size", "1024").stdout.startswith("version 2: dictionary ")


def test_keygen_prints_a_keyring_for_the_environment(cli, started, monkeypatch):
    result = cli("keygen", "--kid", "k7")
    monkeypatch.delenv("FLOWPERSIST_KEYS_FILE")
    monkeypatch.setenv("FLOWPERSIST_KEYS", result.stdout.strip())
    assert result.stdout.startswith("k7:")
    started()
    assert json.loads(cli("health", "--json").stdout)["encrypted"] is True


def test_keygen_makes_another_key_each_time(cli):
    assert json.loads(cli("keygen", "--json").stdout) != json.loads(cli("keygen", "--json").stdout)


def test_keygen_file_is_for_its_owner_alone(cli, place):
    result = cli("keygen", "--output", "more")
    assert stat.S_IMODE((place / "more").stat().st_mode) == 0o600
    assert (place / "more").read_text().strip() not in result.output


def test_help_and_version(cli):
    assert "Exits with 0 done" in cli("--help").stdout
    assert cli("--version").stdout.startswith("flowpersist")


def test_missing_click_names_the_extra(monkeypatch, capsys):
    genuine = builtins.__import__

    def lacking(name, *rest):
        if name == "flowpersist.cli.commands":
            message = "No module named 'click'"
            raise ModuleNotFoundError(message, name="click")
        return genuine(name, *rest)

    monkeypatch.setattr(builtins, "__import__", lacking)
    with pytest.raises(SystemExit) as left:
        package.main()
    assert left.value.code == Exit.CONFIGURATION
    assert "pip install 'flowpersist[cli]'" in capsys.readouterr().err


def test_another_missing_module_is_not_taken_for_click(monkeypatch):
    monkeypatch.setitem(sys.modules, "flowpersist.cli.commands", None)
    with pytest.raises(ModuleNotFoundError):
        package.main()


def test_main_runs_the_command_line_of_the_process(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["flowpersist", "--version"])
    with pytest.raises(SystemExit) as left:
        package.main()
    assert left.value.code == 0
    assert "flowpersist" in capsys.readouterr().out


def test_every_error_has_an_exit_code_of_its_nearest_class():
    assert exit_of(AlreadyResumed("gone")) is Exit.CLOSED
    assert exit_of(RevisionConflict("busy")) is Exit.STORAGE
    assert exit_of(StateTooLarge("big")) is Exit.UNREADABLE
    assert exit_of(PersistenceError("what")) is Exit.FAILED
    assert {kind for kind in PersistenceError.__subclasses__() if kind not in EXITS} == set()


def test_migrate_prints_what_it_would_do_does_it_and_has_nothing_more_to_do(cli, place):
    planned = cli("migrate", "--plan").stdout
    assert "create table if not exists flowpersist_records (" in planned
    assert not (place / "flows.db").exists()
    data = json.loads(cli("migrate", "--plan", "--json").stdout)
    assert (data["backend"], data["applied"]) == ("sqlite", False)
    assert planned == "\n".join(data["statements"]) + "\n"
    assert cli("migrate").stdout == f"sqlite: migrated by {len(data['statements'])} statements\n"
    assert cli("migrate").stdout == "sqlite: nothing to migrate\n"
    assert json.loads(cli("migrate", "--json").stdout) == {"backend": "sqlite", "statements": [], "applied": True}


def test_migrate_works_for_stores_without_a_schema(cli):
    assert cli("migrate", "--plan", "--url", "memory://").stdout == "memory: nothing to migrate\n"


def test_migrate_needs_no_keyring_and_speaks_of_none(cli, monkeypatch):
    monkeypatch.delenv("FLOWPERSIST_KEYS_FILE")
    done = cli("migrate", "--namespace", "billing")
    assert (done.exit_code, done.stderr) == (0, "")


def test_migrate_tells_what_it_can_not_do_by_its_exit_code(cli, place, monkeypatch):
    cli("migrate")
    connection = sqlite3.connect(place / "flows.db")
    connection.execute("update flowpersist_meta set value = 99 where name = 'version'")
    connection.commit()
    connection.close()
    for arguments in (["migrate"], ["migrate", "--plan"]):
        assert cli(*arguments).exit_code == Exit.UNREADABLE
    (place / "flows.db").write_bytes(b"no database at all" * 100)
    assert cli("migrate", "--plan").exit_code == Exit.STORAGE
    monkeypatch.delenv("FLOWPERSIST_URL")
    assert cli("migrate").exit_code == Exit.CONFIGURATION
    assert cli("migrate", "--namespace", "", "--url", "memory://").exit_code == Exit.CONFIGURATION


def test_the_environment_s_blob_store_is_used_by_every_command(cli, started, place, monkeypatch):
    monkeypatch.setenv("FLOWPERSIST_BLOBS_URL", "file:blobs")
    monkeypatch.setenv("FLOWPERSIST_BLOBS_FROM", "100")
    key = started()["ok"]
    kept = [path for path in (place / "blobs").rglob("*") if path.is_file()]
    assert len(kept) == 1
    assert cli("resume", key, "--value", "true", "--tools", "tools.py").exit_code == 0
    monkeypatch.setenv("FLOWPERSIST_BLOBS_URL", "s3://key:canary@flows")
    refused = cli("health")
    assert refused.exit_code == Exit.CONFIGURATION
    assert "canary" not in refused.output
