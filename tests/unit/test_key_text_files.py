"""Files of keys that are none: each is refused by its name, and no more of it is read than a file of keys can have."""

from __future__ import annotations

import os
import tracemalloc

import pytest

from flowpersist import AwaitInput, ConfigurationError, KeyRing
from flowpersist.keys import LocalKeyService, NoteSigner, TenantKeys, WrappedKeyFile
from flowpersist.testing.hubs import open_test_hub

HUGE = 2**32


def huge(path):
    path.touch(0o600)
    os.truncate(path, HUGE)


READERS = pytest.mark.parametrize("read", [KeyRing.from_file, NoteSigner.from_file], ids=["keyring", "audit key"])
ODD = {
    "pipe": os.mkfifo,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "directory": lambda path: path.mkdir(),
    "missing": lambda path: None,
    "link to itself": lambda path: path.symlink_to(path.name),
    "bytes": lambda path: path.write_bytes(b"\xff\xfe"),
}


@pytest.mark.parametrize("kind", ODD)
@READERS
def test_what_is_no_file_of_keys_is_refused_at_once(read, kind, tmp_path):
    ODD[kind](tmp_path / "odd")
    with pytest.raises(ConfigurationError, match=r"odd.*can't be read.*; name a readable text file"):
        read(tmp_path / "odd")


@READERS
def test_a_file_that_is_too_large_is_refused_and_not_read_whole(read, tmp_path):
    path = tmp_path / "huge"
    huge(path)
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


@pytest.mark.parametrize(
    "make",
    [
        *(ODD[kind] for kind in ("bytes", "pipe", "device", "directory", "link to itself")),
        lambda path: path.write_text("[" * 200_000),
        lambda path: path.write_text("{}"),
        huge,
    ],
    ids=["bytes", "pipe", "device", "directory", "link to itself", "deep", "other", "huge"],
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
