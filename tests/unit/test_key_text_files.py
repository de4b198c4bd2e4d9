"""Files of keys that are none: each is refused by its name, and no more of it is read than a file of keys can have."""

from __future__ import annotations

import os
import tracemalloc

import pytest

from flowpersist import AwaitInput, ConfigurationError, KeyRing
from flowpersist.keys import LocalKeyService, NoteSigner, TenantKeys, WrappedKeyFile
from flowpersist.testing.hubs import open_test_hub

HUGE = 2**32


@pytest.mark.parametrize("read", [KeyRing.from_file, NoteSigner.from_file], ids=["keyring", "audit key"])
def test_a_file_that_is_too_large_is_refused_and_not_read_whole(read, tmp_path):
    path = tmp_path / "huge"
    path.touch(0o600)
    os.truncate(path, HUGE)
    tracemalloc.start()
    try:
        with pytest.raises(ConfigurationError, match=r"huge' .*can't be read \(TooLarge\)"):
            read(path)
        assert tracemalloc.get_traced_memory()[1] < HUGE // 64
    finally:
        tracemalloc.stop()


def test_a_keys_file_with_the_ends_of_lines_of_windows_is_read(tmp_path):
    ring = KeyRing.generate("a").add("b", b"b" * 32)
    (tmp_path / "keys").write_bytes(ring.export().replace(",", "\r\n").encode() + b"\r\n")
    assert KeyRing.from_file(tmp_path / "keys").kids == ("a", "b")


def directory(path):
    path.mkdir()


@pytest.mark.parametrize(
    "make",
    [
        lambda path: path.write_bytes(b"\xff\xfe"),
        lambda path: path.write_text("[" * 200_000),
        lambda path: path.write_text("{}"),
        directory,
    ],
    ids=["bytes", "deep", "other", "directory"],
)
async def test_a_damaged_file_of_wrapped_keys_is_named(make, tmp_path):
    make(tmp_path / "wrapped.json")
    keys = TenantKeys(
        KeyRing.generate(), LocalKeyService(KeyRing.generate()), WrappedKeyFile(tmp_path / "wrapped.json")
    )
    async with open_test_hub(keyring=keys) as hub:
        failed = await hub.suspend(1, awaiting=AwaitInput("ok", "OK?", schema=bool), tenant="acme")
    error = failed.failure()
    assert isinstance(error, ConfigurationError)
    assert "wrapped.json' can't be read; restore it from a backup" in str(error)
