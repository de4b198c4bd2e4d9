"""A disk that is full or read-only: a typed error, the old record intact, and work again once there is room."""

import os
import subprocess
from contextlib import contextmanager

import pytest

from flowpersist.backends.base import NamespaceSchema, RecordChange, RecordRef, Where
from flowpersist.backends.registry import backend_from_url
from flowpersist.errors import BackendUnavailable, StorageFull

SCHEMA = [NamespaceSchema("n", {"status": str})]
REF = RecordRef("n", "k")
KINDS = ["sqlite:///{}/store.db", "file:{}/store"]


def mount(*arguments):
    return subprocess.run(["mount", *arguments], check=False, capture_output=True).returncode == 0


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 4 MB, where mounting is allowed."""
    if os.geteuid() != 0 or not mount("-t", "tmpfs", "-o", "size=4m", "tmpfs", str(tmp_path)):
        pytest.skip("mounting is not allowed here")
    yield tmp_path
    subprocess.run(["umount", "-l", tmp_path], check=True)


@contextmanager
def read_only(path):
    assert mount("-o", "remount,ro", str(path))
    try:
        yield
    finally:
        assert mount("-o", "remount,rw", str(path))


@pytest.mark.parametrize("kind", KINDS)
async def test_a_full_disk(kind, small_disk):
    backend = backend_from_url(kind.format(small_disk))
    await backend.open(SCHEMA)
    revision = (await backend.put(REF, RecordChange("w", head=b"old", body=b"o" * 100_000), if_revision=0)).revision
    filler = small_disk / "filler"
    free = os.statvfs(small_disk)
    filler.write_bytes(bytes(free.f_bavail * free.f_frsize - 600_000))
    for _ in range(3):
        with pytest.raises(StorageFull) as refused:
            await backend.put(REF, RecordChange("w2", body=b"n" * 2_000_000), if_revision=revision)
        assert not refused.value.retryable
    record = (await backend.get(REF)).record
    assert (record.revision, record.head, record.body) == (revision, b"old", b"o" * 100_000)
    assert len((await backend.query("n", Where(), limit=5)).items) == 1
    assert not list(small_disk.rglob("*.new"))
    filler.unlink()
    await backend.put(REF, RecordChange("w3", body=b"n" * 1_000_000), if_revision=revision)
    assert (await backend.get(REF)).record.body == b"n" * 1_000_000
    await backend.close()


async def test_a_log_that_fills_the_disk_begins_anew(small_disk):
    """What is changed 40 times needs room for its history only while there is some."""
    backend = backend_from_url(KINDS[0].format(small_disk))
    for revision in range(40):
        await backend.open(SCHEMA)
        await backend.put(REF, RecordChange("w", body=b"%d" % (revision % 10) * 300_000), if_revision=revision)
        if revision < 2:
            # The log goes to the database, which has its size from now on.
            await backend.close()
    assert (await backend.get(REF)).record.body == b"9" * 300_000
    await backend.close()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_read_only_disk(kind, small_disk):
    backend = backend_from_url(kind.format(small_disk))
    with read_only(small_disk), pytest.raises(BackendUnavailable) as refused:
        await backend.open(SCHEMA)
    assert not refused.value.retryable
    await backend.open(SCHEMA)
    await backend.put(REF, RecordChange("w"), if_revision=0)
    await backend.close()
    with read_only(small_disk), pytest.raises(BackendUnavailable) as refused:
        await backend.open(SCHEMA)
    assert not refused.value.retryable
