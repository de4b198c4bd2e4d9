"""``halt``, ``lift`` and ``halts``."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from flowpersist.hub import halting


@pytest.fixture(autouse=True)
def brief(monkeypatch):
    monkeypatch.setattr(halting, "BOUND", timedelta(milliseconds=20))


def test_a_halt_stops_a_flow_until_it_is_lifted(cli, started):
    keys = started()
    halt = cli("halt", "--reason", "prices", "--by", "ann", "--json")
    assert halt.exit_code == 0
    made = json.loads(halt.stdout)
    assert (made["reason"], made["by"]["subject"], made["tool"]) == ("prices", "ann", None)
    assert cli("answer", keys["ok"], "--value", "true").exit_code == 0
    stopped = cli("resume", keys["ok"], "--tools", "tools.py", "--json")
    assert stopped.exit_code == 3
    problem = json.loads(stopped.stderr)
    assert (problem["title"], problem["halt"], problem["reason"]) == ("ClaimsHalted", made["id"], "prices")
    assert json.loads(cli("halts", "--json").stdout) == [made]
    assert cli("lift", made["id"], "--by", "bob").stdout == "lifted everything\n"
    assert cli("lift", made["id"]).exit_code == 5
    assert cli("halts").stdout == "nothing is halted\n"
    past = json.loads(cli("halts", "--history", "--json").stdout)
    assert [(one["verb"], one["by"]["subject"], one["halt"]) for one in past] == [
        ("halt", "ann", made["id"]),
        ("lift", "bob", made["id"]),
    ]


@pytest.mark.usefixtures("made")
def test_a_halt_of_a_tool_is_listed_with_it(cli):
    assert cli("halt", "--tool", "pay", "--tenant", "acme", "--reason", "x").stdout.startswith(
        "halted tool pay and tenant acme: lift it with flowpersist lift "
    )
    assert cli("halts").stdout.splitlines()[1].split()[2:] == ["pay", "acme", "-", "x"]
    assert [line.split()[0] for line in cli("halts", "--history").stdout.splitlines()] == ["NUMBER", "1"]


@pytest.mark.usefixtures("made")
def test_wrong_usage_is_refused(cli):
    assert cli("halt").exit_code == 2
    assert cli("halt", "--reason", " ").exit_code == 7


def test_a_receipt_of_the_halts_is_verified_with_the_public_key_alone(cli, started, place, monkeypatch):
    started()
    public = cli("audit", "keygen", "--name", "example.com/pay", "--output", "audit.key").stdout.strip()
    monkeypatch.setenv("FLOWPERSIST_AUDIT_KEY_FILE", str(place / "audit.key"))
    assert cli("receipt", "--halts").exit_code == 5
    made = json.loads(cli("halt", "--reason", "prices", "--by", "ann", "--json").stdout)
    assert cli("lift", made["id"], "--by", "bob", "--reason", "mended").exit_code == 0
    (place / "halts.json").write_text(cli("receipt", "--halts").stdout)
    assert cli("audit", "deliver", "--to", "file:audit.jsonl").exit_code == 0
    for name in ("URL", "KEYS_FILE", "AUDIT_KEY_FILE"):
        monkeypatch.delenv(f"FLOWPERSIST_{name}")
    told = cli("receipt", "--verify", "halts.json", "--public-key", public)
    assert (told.exit_code, told.stdout.startswith("verified: 2 entries of the halts")) == (0, True)
    proven = json.loads(cli("audit", "verify", "halts.json", "--public-key", public, "--json").stdout)
    assert [(one["verb"], one["by"]["subject"], one["reason"]) for one in proven["entries"]] == [
        ("halt", "ann", "prices"),
        ("lift", "bob", "mended"),
    ]
    delivered = [json.loads(line) for line in (place / "audit.jsonl").read_text().splitlines()]
    assert [one for one in delivered if one["id"] in {entry["id"] for entry in proven["entries"]}] == proven["entries"]
    (place / "halts.json").write_text((place / "halts.json").read_text().replace("mended", "forgot"))
    assert cli("receipt", "--verify", "halts.json", "--public-key", public).exit_code == 9
    assert cli("receipt", "--halts", "key").exit_code == 2
