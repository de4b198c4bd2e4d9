"""``flowpersist keys``: a rotation by the command, which prints no key."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from flowpersist import KeyRing, RaisingHub
from flowpersist.backends.base import Where


def secrets_in(text):
    return [one for one in (entry.partition(":")[2].strip() for entry in text.split()) if len(one) > 20]


def test_a_rotation_by_the_command(cli, place, started):
    keys = started("--run-id", "r1")
    (old,) = KeyRing.from_file("keys").kids
    said = [cli("keys", "add", "--kid", "new")]
    assert KeyRing.from_file("keys").kids == (old, "new")
    said += [cli("keys", "promote", "new"), cli("keys", "status")]
    assert KeyRing.from_file("keys").kids == ("new", old)
    refused = cli("keys", "retire", old, "--wait", "1s")
    assert (refused.exit_code, "records still need key" in refused.stderr) == (3, True)
    said += [cli("keys", "rekey"), cli("keys", "retire", old, "--wait", "0.01s"), cli("keys", "status", "--json")]
    assert [one.exit_code for one in said] == [0] * len(said)
    assert KeyRing.from_file("keys").kids == ("new",)
    texts = "".join(one.stdout + one.stderr for one in (*said, refused))
    assert [one for one in secrets_in((place / "keys").read_text()) if one in texts] == []
    added, promoted, before, rekeyed, retired, after = (one.stdout for one in said)
    assert added == "added new: promote it once every process has the file\n"
    assert promoted == "new seals: rekey once every process has the file\n"
    assert before.splitlines()[0] == "new: 0 records, seals"
    assert before.splitlines()[1].startswith(f"{old}: ")
    assert "again with new" in rekeyed
    assert retired == f"retired {old}: remove it from every process\n"
    state = json.loads(after)
    assert (state["primary"], set(state["keys"]), state["missing"], state["plain"], state["unknown"]) == (
        "new",
        {"new"},
        {},
        0,
        0,
    )
    # Keys of waits as ever.
    assert set(json.loads(cli("keys", "r1", "--json").stdout).values()) == set(keys.values())
    assert cli("keys", "of", "r1").exit_code == 0


def test_options_may_stand_before_the_command_or_behind(cli, place, started):
    started("--run-id", "r1")
    for line in (("--json", "keys", "status"), ("keys", "--json", "status"), ("keys", "status", "--json")):
        assert "primary" in json.loads(cli(*line).stdout)
    for line in (("keys", "--keys-file", "keys", "r1"), ("keys", "r1", "--namespace", "default")):
        assert cli(*line).exit_code == 0
    for line in (("keys", "--help"), ("keys", "status", "--help"), ("keys",)):
        assert "Usage" in cli(*line).output
    assert cli("keys", "nothing").exit_code == 5


def test_without_a_keys_file_there_is_nothing_to_change(cli, place, monkeypatch):
    text = Path("keys").read_text().strip()
    monkeypatch.delenv("FLOWPERSIST_KEYS_FILE")
    assert cli("keys", "add").exit_code == 7
    monkeypatch.setenv("FLOWPERSIST_KEYS", text)
    for line in (("add",), ("promote", "x"), ("retire", "x")):
        refused = cli("keys", *line)
        assert (refused.exit_code, "there is no keys file" in refused.stderr) == (7, True)
    assert cli("keys", "add", "--keys-file", "keys", "--json", "--kid", "b").exit_code == 0
    assert KeyRing.from_file("keys").kids[1] == "b"


@pytest.mark.parametrize("line", [("promote", "x"), ("retire", "x")])
def test_an_unknown_key_is_refused(cli, place, started, line):
    started()
    before = Path("keys").read_bytes()
    assert cli("keys", *line).exit_code == 7
    assert Path("keys").read_bytes() == before


def test_plain_text_is_sealed_where_that_is_said(cli, place):
    async def suspended():
        async with RaisingHub.open(f"sqlite:///{place / 'flows.db'}", keyring=None) as hub:
            return str((await hub.suspend("plain")).id)

    async def sealed():
        async with RaisingHub.open(f"sqlite:///{place / 'flows.db'}", keyring=KeyRing.from_file("keys")) as hub:
            return (await hub.hub.backend.query("default", Where(), limit=5)).items

    found = asyncio.run(suspended())
    left = cli("keys", "rekey", "--json")
    assert json.loads(left.stdout)["problems"] == {"encryption-required": 1}
    assert [one["key"] for one in json.loads(left.stdout)["unreadable"]] == [found]
    assert "plain text: 1 records" in cli("keys", "status").stdout
    assert cli("keys", "rekey", "--accept-plain").exit_code == 0
    assert json.loads(cli("show", found, "--json").stdout)["status"] == "waiting"
    assert "plain" not in cli("keys", "status").stdout
    assert len(asyncio.run(sealed())) == 1
