"""Paths in URLs and settings that no store or keyring can have: an error of the package for each, at every door."""

from __future__ import annotations

import pytest

from flowpersist import ConfigurationError, KeyRing, Maintenance, RaisingHub, open_hub
from flowpersist.blocking import open_hub as open_blocking
from flowpersist.errors import BackendUnavailable, IntegrityError
from flowpersist.keys import KeyFile, LocalKeyService, TenantKeys, WrappedKeyFile


@pytest.fixture(params=["a link to itself", "a name that is too long", "below a file"])
def path(request, tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "file").touch()
    names = {"a link to itself": "loop", "a name that is too long": "x" * 300, "below a file": "file/flows.db"}
    return tmp_path / names[request.param]


@pytest.mark.parametrize("scheme", ["sqlite:///", "file://"])
async def test_a_store_can_not_be_there(path, scheme):
    url = f"{scheme}{path}"
    for options in ({}, {"create": False}, {"keyring": KeyRing.generate(), "ledger": url}):
        store = "memory://" if "ledger" in options else url
        for door in (open_hub, RaisingHub.open):
            with pytest.raises((BackendUnavailable, IntegrityError)):
                async with door(store, **{"keyring": None, **options}):
                    pass


@pytest.mark.parametrize("scheme", ["sqlite:///", "file://"])
def test_nor_without_asyncio(path, scheme):
    with pytest.raises((BackendUnavailable, IntegrityError)), open_blocking(f"{scheme}{path}", keyring=None):
        pass


def test_a_keys_file_can_not_be_there(path):
    with pytest.raises(ConfigurationError):
        KeyFile(path).add()


async def test_wrapped_keys_can_not_be_there(path):
    keys = TenantKeys(KeyRing.generate(), LocalKeyService(KeyRing.generate()), WrappedKeyFile(path))
    async with open_hub("memory://", keyring=keys) as hub:
        failed = (await Maintenance(hub).shred("acme")).failure()
    assert isinstance(failed, ConfigurationError)
    assert path.name in str(failed)
