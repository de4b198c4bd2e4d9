"""A server dies in the middle of the load and comes back: nothing acknowledged is lost, and no process starts anew.

With FLOWPERSIST_LONG=1 each server dies 100 times.
"""

from __future__ import annotations

import asyncio
import os

import pytest

from flowpersist.backends.base import NamespaceSchema, RecordChange, RecordRef, Where
from flowpersist.backends.registry import backend_from_url
from flowpersist.errors import BackendUnavailable, RevisionConflict, StorageError, UnknownOutcome
from own_servers import own_server

LONG = os.environ.get("FLOWPERSIST_LONG") == "1"
NAMESPACE = "killed"
SCHEMA = [NamespaceSchema(NAMESPACE, {"status": str})]
WRITERS = 6
#: Large enough to stand apart from its record on every server.
LARGE = b"body" * 50_000


class Load:
    """Writers that each put record after record, and keep what was acknowledged: key to revision and write id."""

    def __init__(self, backend):
        self.backend = backend
        self.acknowledged = {}
        self.failures = []
        self.stopped = False

    async def write(self, worker):
        number = 0
        while not self.stopped:
            key = f"{worker}-{number}"
            await self.put(key, LARGE if number % 5 == 0 else b"body")
            number += 1

    async def put(self, key, body):
        """Until it is acknowledged, by the same write id each time, as the hub does."""
        change = RecordChange(f"w-{key}", attributes={"status": "new"}, head=key.encode(), body=body)
        ref = RecordRef(NAMESPACE, key)
        while True:
            try:
                revision = (await self.backend.put(ref, change, if_revision=0)).revision
            except RevisionConflict:
                # Who is there has this write id, or another has taken the key, which nobody else knows.
                record = (await self.backend.get(ref, body=False)).record
                assert record.write_id == change.write_id
                revision = record.revision
            except StorageError as error:
                self.failures.append(error)
                if not (error.retryable or isinstance(error, UnknownOutcome)):
                    raise
                await asyncio.sleep(0.05)
                continue
            self.acknowledged[key] = revision
            return

    async def reaches(self, count):
        async with asyncio.timeout(300):
            while len(self.acknowledged) < count:
                await asyncio.sleep(0.01)


async def all_there(backend, acknowledged):
    found, after = {}, None
    while True:
        page = await backend.query(NAMESPACE, Where({"status": "new"}), limit=500, after=after)
        found.update({record.ref.key: record.revision for record in page.items})
        after = page.next
        if after is None:
            break
    assert acknowledged.items() <= found.items()
    for key in acknowledged:
        record = (await backend.get(RecordRef(NAMESPACE, key))).record
        number = int(key.partition("-")[2])
        assert (record.head, record.body) == (key.encode(), LARGE if number % 5 == 0 else b"body")


@pytest.mark.slow
@pytest.mark.parametrize(
    # Neo4j takes a quarter of a minute to come back on a small machine, and is slow until it is warm.
    ("name", "kills", "writes"),
    [
        ("postgres", 100 if LONG else 3, 60),
        ("redis_durable", 100 if LONG else 3, 60),
        ("neo4j", 100 if LONG else 1, 20),
    ],
    ids=["postgres", "redis", "neo4j"],
)
async def test_nothing_acknowledged_is_lost_and_the_process_goes_on(
    name, kills, writes, tmp_path, prefix, record_property
):
    record_property("attempts", kills)
    with own_server(name, tmp_path) as server:
        backend = backend_from_url(f"{server.url}?prefix={prefix}")
        await backend.open(SCHEMA)
        load = Load(backend)
        writers = [asyncio.create_task(load.write(worker)) for worker in range(WRITERS)]
        for kill in range(kills):
            await load.reaches(len(load.acknowledged) + writes)
            failures = len(load.failures)
            server.kill()
            with pytest.raises(BackendUnavailable) as refused:
                await backend.ping()
            assert refused.value.retryable
            await asyncio.to_thread(server.start)
            # The same backend, which nobody has opened again.
            await load.reaches(len(load.acknowledged) + writes)
            assert len(load.failures) > failures, f"kill {kill} was not noticed"
        load.stopped = True
        async with asyncio.timeout(60):
            await asyncio.gather(*writers)
        await all_there(backend, load.acknowledged)
        await backend.close()
