"""``shred``, and other commands on a store whose tenants have keys of their own."""

from __future__ import annotations

import asyncio
import json

import pytest

from flowpersist import AwaitInput, KeyRing, open_hub, or_raise
from flowpersist.errors import KeyDestroyed
from flowpersist.keys import LocalKeyService, TenantKeys, WrappedKeyFile

ASK = AwaitInput(id="ok", prompt="Ship it?", schema=bool)
KEYS = """
from flowpersist import KeyRing
from flowpersist.keys import LocalKeyService, TenantKeys, WrappedKeyFile

def tenant_keys():
    service = LocalKeyService(KeyRing.parse({master!r}))
    return TenantKeys(KeyRing.parse({ring!r}), service, WrappedKeyFile("wrapped.json"))

nothing = 7
"""


@pytest.fixture
def tenants(place, monkeypatch):
    """``keys.py`` with the keys of a store that has a suspension of acme and one of bolt; gives their ids."""
    monkeypatch.delenv("FLOWPERSIST_KEYS_FILE")
    ring, master = KeyRing.generate("base"), KeyRing.generate("master")
    (place / "keys.py").write_text(KEYS.format(ring=ring.export(), master=master.export()))
    keys = TenantKeys(ring, LocalKeyService(master), WrappedKeyFile(place / "wrapped.json"))

    async def made():
        async with open_hub(keyring=keys) as hub:
            return [or_raise(await hub.suspend(1, awaiting=ASK, tenant=one, by="ann")).id for one in ("acme", "bolt")]

    return [str(one) for one in asyncio.run(made())]


def test_a_tenant_is_shredded_once_its_name_was_said_again(cli, tenants):
    acme, bolt = tenants
    with_keys = ("--tenant-keys", "keys.py")
    assert cli("shred", "acme", *with_keys, stdin="").exit_code == 130
    for said in ("\n", "acm\n", "y\n"):
        refused = cli("shred", "acme", *with_keys, stdin=said)
        assert (refused.exit_code, refused.stdout) == (2, "")
        assert "nothing was destroyed" in refused.stderr
    assert cli("show", acme, *with_keys).exit_code == 0
    done = cli("shred", "acme", *with_keys, "--json", stdin="acme\n")
    assert done.exit_code == 0
    assert json.loads(done.stdout) == {"tenant": "acme", "keys": 1, "trails": 1, "unreadable": 0}
    gone = cli("show", acme, *with_keys, "--json")
    assert (gone.exit_code, json.loads(gone.stderr)["title"]) == (7, KeyDestroyed.__name__)
    assert cli("show", bolt, *with_keys).exit_code == 0
    (entry,) = json.loads(cli("history", acme, *with_keys, "--json").stdout)
    assert (entry["verb"], entry["removed"], entry["by"]) == ("suspend", True, None)
    assert cli("shred", "acme", "--yes", *with_keys).stdout.startswith("destroyed 0 keys of acme")


def test_what_is_no_key_is_refused_before_anything_is_asked(cli, tenants):
    for given in ((), ("--tenant-keys", "keys.py:nothing"), ("--tenant-keys", "keys.py:missing")):
        refused = cli("shred", "acme", *given)
        assert (refused.exit_code, "Its name again" in refused.stderr) == (7, False)
        assert "--tenant-keys" in refused.stderr
    both = cli("shred", "acme", "--tenant-keys", "keys.py", "--keys-file", "keys")
    assert (both.exit_code, "exclude" in both.stderr) == (2, True)


def test_every_command_takes_the_keys(cli, tenants):
    acme, _ = tenants
    key = json.loads(cli("keys", "--tenant-keys", "keys.py", acme, "--json").stdout)["ok"]
    assert cli("--tenant-keys", "keys.py", "answer", key, "--value", "true").exit_code == 0
    assert cli("verify", "--tenant-keys", "keys.py").exit_code == 0
    assert cli("show", acme).exit_code != 0
