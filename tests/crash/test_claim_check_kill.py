"""A writer that is killed anywhere between blob and record loses nothing, and what it leaves behind is swept."""

import asyncio
import os
import random
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest

from flowpersist.backends.base import NamespaceSchema, RecordChange, RecordRef, Where
from flowpersist.backends.blobs import blob_store_from_url
from flowpersist.backends.claim_check import ClaimCheckBackend
from flowpersist.backends.registry import backend_from_url
from forked import forked

NAMESPACE = "killed"
SCHEMA = [NamespaceSchema(NAMESPACE)]
KILLS = 6
KEYS = 4


def content(key, mark):
    return f"{key}:{mark};".encode() * 4000


def checked(url, blobs):
    return ClaimCheckBackend(backend_from_url(url), blob_store_from_url(blobs), from_bytes=1000)


async def write(backend, key, life):
    """Put, replace, shrink and delete for ever; each acknowledged state is a line: key, what it holds now."""
    step = 0
    while True:
        step += 1
        mark = f"{life}-{step}"
        record = (await backend.get(RecordRef(NAMESPACE, key), body=False)).record
        revision = 0 if record is None else record.revision
        if step % 7 == 0 and record is not None:
            await backend.delete(record.ref, if_revision=revision)
            mark = "gone"
        else:
            body = content(key, mark) if step % 3 else mark.encode()
            await backend.put(
                RecordRef(NAMESPACE, key), RecordChange(os.urandom(8).hex(), body=body), if_revision=revision
            )
        os.write(1, f"{key} {mark}\n".encode())


async def main(url, blobs, life):
    backend = checked(url, blobs)
    await backend.open(SCHEMA)
    os.write(1, b"open\n")
    await asyncio.gather(*(write(backend, f"k{number}", life) for number in range(KEYS)))


def run_until_killed(url, blobs, life, pause):
    with forked(Path(__file__), url, blobs, life) as process:
        assert process.stdout.readline() == "open\n"
        time.sleep(pause)
        process.kill()
        output, _ = process.communicate()
    return dict(line.split() for line in output[: output.rfind("\n") + 1].splitlines())


async def readable(backend, key):
    """What a record holds, which must be whole; None where it is gone."""
    record = (await backend.get(RecordRef(NAMESPACE, key))).record
    if record is None:
        return None
    mark = record.body.partition(b";")[0].decode().removeprefix(f"{key}:")
    assert record.body in {content(key, mark), mark.encode()}
    assert record.body_size == len(record.body)
    return mark


def follows(found, said):
    """Whether a record holds what was acknowledged, or what the killed process had under way after that."""
    if said == "gone" or found is None:
        # A deletion has no number: it is every seventh step, and what follows it is a put.
        return said == "gone" or int(said.split("-")[1]) % 7 == 6
    (life, step), (of, last) = (mark.split("-") for mark in (found, said))
    return life == of and int(step) - int(last) in {0, 1}


@pytest.mark.slow
def test_nothing_acknowledged_is_lost_and_nothing_is_left(tmp_path):
    url, directory, chance = f"sqlite:///{tmp_path}/store.db", tmp_path / "blobs", random.Random(3)
    for life in range(KILLS):
        said = run_until_killed(url, f"file:{directory}", life, 0.05 + chance.random() * 0.15)

        async def check(said=said):
            backend = checked(url, f"file:{directory}")
            await backend.open(SCHEMA)
            for key, mark in said.items():
                assert follows(await readable(backend, key), mark), f"{key} was acknowledged at {mark}"
            await backend.close()

        asyncio.run(check())
    asyncio.run(assert_swept(url, directory))


async def assert_swept(url, directory):
    backend = checked(url, f"file:{directory}")
    await backend.open(SCHEMA)
    for path in directory.rglob("*"):
        if path.is_file():
            os.utime(path, (0, 0))
    backend.clock_offset += timedelta(hours=2)
    await backend.sweep()
    page = await backend.query(NAMESPACE, Where(), limit=100)
    large = [record for record in page.items if record.body_size > 1000]
    assert len([path for path in directory.rglob("*") if path.is_file()]) == len(large)
    for record in page.items:
        await readable(backend, record.ref.key)
    await backend.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
