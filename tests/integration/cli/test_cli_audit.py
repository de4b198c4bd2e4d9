"""``audit`` and ``receipt``."""

from __future__ import annotations

import json
import os
import sqlite3

import pytest


@pytest.fixture
def signed(cli, place, monkeypatch):
    """The text of the public key; the environment has the private one."""
    made = cli("audit", "keygen", "--name", "example.com/pay", "--output", "audit.key")
    assert made.exit_code == 0
    assert (place / "audit.key").stat().st_mode & 0o777 == 0o600
    assert cli("audit", "keygen", "--name", "x", "--output", "audit.key").exit_code == 7
    monkeypatch.delenv("FLOWPERSIST_AUDIT_KEY", raising=False)
    monkeypatch.setenv("FLOWPERSIST_AUDIT_KEY_FILE", str(place / "audit.key"))
    return made.stdout.strip()


@pytest.fixture
def answered(cli, started, signed):
    """The id of a suspension of which one wait was answered."""
    cli("answer", started()["ok"], "--value", "true", "--by", "ann")
    return json.loads(cli("list", "--json").stdout)["items"][0]["id"]


def test_a_receipt_is_verified_with_the_public_key_alone(cli, answered, signed, place, monkeypatch):
    made = cli("receipt", answered)
    assert made.exit_code == 0
    (place / "receipt.json").write_text(made.stdout)
    for name in ("URL", "KEYS_FILE", "AUDIT_KEY_FILE"):
        monkeypatch.delenv(f"FLOWPERSIST_{name}")
    (place / "audit.pub").write_text(signed + "\n")
    for public in (signed, "audit.pub"):
        told = cli("receipt", "--verify", "receipt.json", "--public-key", public)
        assert (told.exit_code, answered in told.stdout, "ann" in told.stdout) == (0, True, True)
        assert "was shown sha256:" in told.stdout
    data = json.loads(cli("audit", "verify", "receipt.json", "--public-key", signed, "--json").stdout)
    assert (data["verified"], data["decisions"][0]["decision"]) == ("receipt", "approve")
    (place / "receipt.json").write_text(made.stdout.replace("ann", "eve"))
    refused = cli("receipt", "--verify", "receipt.json", "--public-key", signed)
    assert (refused.exit_code, refused.stdout) == (9, "")
    assert cli("receipt", "--verify", "receipt.json").exit_code == 7
    assert "--public-key" in cli("receipt", "--verify", "receipt.json").stderr


def test_an_export_is_verified_against_a_checkpoint_that_was_kept(cli, answered, signed, place):
    note = cli("audit", "checkpoint")
    (place / "kept").write_text(note.stdout)
    (place / "export").write_text(cli("audit", "export").stdout)
    told = cli("audit", "verify", "export", "--public-key", signed, "--checkpoint", "kept")
    assert (told.exit_code, "verified: example.com/pay/default: 1 leaves" in told.stdout) == (0, True)
    assert json.loads(cli("audit", "verify", "export", "--json").stdout)["verified"] == "export"
    # Without a file it is the store itself.
    assert cli("audit", "verify", "--checkpoint", "kept").exit_code == 0
    (place / "export").write_text((place / "export").read_text().replace('"ann"', '"eve"'))
    wrong = cli("audit", "verify", "export")
    assert (wrong.exit_code, "says something else than its link" in wrong.stdout) == (9, True)
    with sqlite3.connect(place / "flows.db") as database:
        database.execute("DELETE FROM flowpersist_records WHERE namespace = 'default'")
    missed = cli("audit", "verify", "--checkpoint", "kept", "--json")
    assert missed.exit_code == 9
    assert answered in json.loads(missed.stdout)["problems"][0]


def test_proofs_are_verified(cli, answered, signed, place):
    (place / "kept").write_text(cli("audit", "checkpoint").stdout)
    cli("cancel", answered)
    (place / "leaf").write_text(cli("audit", "prove", answered).stdout)
    told = cli("audit", "verify", "leaf", "--public-key", signed)
    assert (told.exit_code, told.stdout.startswith("verified: leaf 1 of example.com/pay/default has ")) == (0, True)
    (place / "since").write_text(cli("audit", "prove", "--since", "kept").stdout)
    told = cli("audit", "verify", "since", "--checkpoint", "kept", "--public-key", signed)
    assert told.stdout == "verified: the log of 2 leaves begins with the one of 1\n"
    # A checkpoint could not be compared with a leaf, so it is not passed over in silence.
    assert cli("audit", "verify", "leaf", "--checkpoint", "kept").exit_code == 2
    (place / "later").write_text(cli("audit", "checkpoint").stdout)
    assert cli("audit", "verify", "since", "--checkpoint", "later").exit_code == 9


@pytest.mark.parametrize("text", ["", "{}", "[]", "no document\n", '{"type": "log"}\n', "\n\n", "{" * 100_000])
def test_what_is_no_evidence_is_refused(cli, signed, place, text):
    (place / "file").write_text(text)
    refused = cli("audit", "verify", "file", "--public-key", signed)
    assert refused.exit_code == 9
    assert "Traceback" not in refused.output


@pytest.mark.parametrize("line", [("audit", "prove"), ("receipt",), ("receipt", "x", "--verify", "flow.json")])
def test_what_names_nothing_or_two_things_is_wrong_usage(cli, signed, line):
    assert cli(*line).exit_code == 2


def test_without_a_signing_key_nothing_is_signed(cli, started, monkeypatch):
    started()
    for name in ("", "_FILE"):
        monkeypatch.delenv(f"FLOWPERSIST_AUDIT_KEY{name}", raising=False)
    refused = cli("audit", "checkpoint")
    assert (refused.exit_code, "flowpersist audit keygen" in refused.stderr) == (7, True)


def test_what_is_no_evidence_is_refused_by_its_name(cli, answered, signed, place):
    (place / "bytes").write_bytes(b"\xff\xfe\x00")
    (place / "export").write_text(cli("audit", "export").stdout)
    (place / "huge").touch()
    os.truncate(place / "huge", 2**32)
    for name in ("bytes", "huge"):
        for words in (["verify", "export", "--checkpoint", name], ["prove", "--since", name]):
            refused = cli("audit", *words)
            assert (refused.exit_code, f"Invalid checkpoint {name}: expected text" in refused.stderr) == (9, True)
        refused = cli("audit", "verify", "export", "--public-key", name)
        assert (refused.exit_code, f"Invalid public key {name}: expected the text" in refused.stderr) == (7, True)
    refused = cli("receipt", "--verify", "bytes", "--public-key", signed)
    assert (refused.exit_code, "the document can't be read: expected JSON" in refused.stderr) == (9, True)
