"""Whatever was acknowledged before a ``kill -9`` is there afterwards, whole, indexed, and with nothing left over."""

import asyncio
import os
import random
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from crashing import NAMESPACE, SCHEMA, content
from flowpersist.backends.base import RecordChange, RecordRef, Where
from flowpersist.backends.registry import backend_from_url
from forked import forked

WRITER = Path(__file__).with_name("crashing.py")
KILLS = 30 if os.environ.get("FLOWPERSIST_LONG") else 12


def run_until_killed(url, life, pause):
    """Start a writer, kill it so many seconds after it has opened the store, and give the last state it was told of."""
    with forked(WRITER, url, life, 4) as process:
        assert process.stdout.readline() == "open 0\n"
        with suppress(subprocess.TimeoutExpired):
            process.wait(pause)
        process.kill()
        output, _ = process.communicate()
    assert process.returncode == -signal.SIGKILL
    # A line that was cut short was not said.
    lines = output[: output.rfind("\n") + 1].splitlines()
    return {key: int(step) for key, step in (line.split() for line in lines)}


async def assert_all_there(backend, acknowledged):
    for key, step in acknowledged.items():
        record = (await backend.get(RecordRef(NAMESPACE, key))).record
        if step == 0:
            assert record is None, f"{key} was deleted, and is back"
            continue
        # One step may have been under way when the process died: after the fourth that is a deletion.
        if record is None:
            assert step == 4
            continue
        reached = int(record.head.rpartition(b"@")[2].rstrip(b";"))
        assert reached in {step, step + 1}, f"{key} was acknowledged at {step} and stands at {reached}"
        assert (record.head, record.body) == content(key, reached)
        assert record.attributes == {"status": f"s{reached - 1}"}


async def assert_indexed(backend):
    for status in ("s0", "s1", "s2", "s3"):
        after = None
        while True:
            page = await backend.query(NAMESPACE, Where({"status": status}), limit=500, after=after)
            assert all(record.attributes == {"status": status} for record in page.items)
            after = page.next
            if after is None:
                break


async def listed(backend):
    keys, after = set(), None
    while True:
        page = await backend.query(NAMESPACE, Where(), limit=500, after=after)
        keys |= {record.ref.key for record in page.items}
        after = page.next
        if after is None:
            return keys


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sqlite:///{}/store.db", "file:{}/store"])
def test_nothing_acknowledged_is_lost(kind, tmp_path):
    url, chance = kind.format(tmp_path), random.Random(7)
    acknowledged = {}

    async def check(fresh):
        backend = backend_from_url(url)
        await backend.open(SCHEMA)
        await assert_all_there(backend, fresh)
        await assert_indexed(backend)
        keys = await listed(backend)
        assert {key for key, step in acknowledged.items() if step not in {0, 4}} <= keys
        written = await backend.put(RecordRef(NAMESPACE, "probe"), RecordChange("w"), if_revision=0)
        await backend.delete(RecordRef(NAMESPACE, "probe"), if_revision=written.revision)
        await backend.close()

    for life in range(KILLS):
        fresh = run_until_killed(url, life, chance.uniform(0.0, 0.12))
        acknowledged.update(fresh)
        asyncio.run(check(fresh))
    asyncio.run(check(acknowledged))
    assert len(acknowledged) > KILLS
    left = [path.name for path in tmp_path.rglob("*") if path.suffix == ".new"]
    assert left == []


@pytest.mark.slow
def test_no_body_is_left_without_its_record(tmp_path):
    """Of files, each body is named by its record once the store was opened again."""
    url = f"file:{tmp_path}/store"
    for life in range(4):
        run_until_killed(url, life, 0.1)

    async def bodies_of_records():
        backend = backend_from_url(url)
        await backend.open(SCHEMA)
        found, after = 0, None
        while True:
            page = await backend.query(NAMESPACE, Where(), limit=500, after=after)
            found += sum((record.body_size or 0) > 32 * 1024 for record in page.items)
            after = page.next
            if after is None:
                break
        await backend.close()
        return found

    expected = asyncio.run(bodies_of_records())
    assert len(list(tmp_path.rglob("*.body"))) == expected
