"""Many at once: tasks and processes that race, cancellation at any moment, the life of a connection."""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from typing import Any

import pytest

from flowpersist.backends.base import Put, StorageBackend, Where, Written
from flowpersist.errors import BackendUnavailable, RevisionConflict
from flowpersist.testing.suite.ground import (
    NAMESPACE,
    PATIENCE,
    SCHEMA,
    BackendFactory,
    Ground,
    change,
    make,
    ref,
    stored,
)
from flowpersist.testing.suite.processes import CONTEXT, need_processes, run_processes

__all__ = ["Races"]


async def _attempt(backend: StorageBackend, key: str, revision: int) -> Written | None:
    try:
        return await backend.put(ref(key), change(body=os.urandom(8)), if_revision=revision)
    except RevisionConflict:
        return None


async def _race(backend: StorageBackend, key: str, revision: int, racers: int) -> list[Written]:
    written = await asyncio.gather(*(_attempt(backend, key, revision) for _ in range(racers)))
    return [one for one in written if one is not None]


async def _process_rounds(make_backend: BackendFactory, rounds: int, racers: int, barrier: Any) -> list[int]:  # noqa: ANN401
    backend = make_backend()
    await backend.open(SCHEMA)
    won = []
    for number in range(rounds):
        await asyncio.to_thread(barrier.wait, PATIENCE)
        won.append(len(await _race(backend, f"round-{number:03}", 0, racers)))
    await backend.close()
    return won


def _process(make_backend: BackendFactory, rounds: int, racers: int, barrier: Any, results: Any) -> None:  # noqa: ANN401
    results.put(asyncio.run(_process_rounds(make_backend, rounds, racers, barrier)))


def _open_and_write(make_backend: BackendFactory, key: str, results: Any) -> None:  # noqa: ANN401
    async def write() -> None:
        backend = make_backend()
        await backend.open(SCHEMA)
        await make(backend, key)
        await backend.close()

    asyncio.run(write())
    results.put(key)


class Races(Ground):
    """Of any number of concurrent writes at one revision exactly one wins."""

    async def test_one_of_many_tasks_wins(self, backend: StorageBackend) -> None:
        revision = 0
        for _ in range(self.race_rounds):
            wins = await _race(backend, "raced", revision, self.racers)
            assert len(wins) == 1, f"{len(wins)} of {self.racers} writers believe that they won"
            assert wins[0].revision > revision
            revision = wins[0].revision
        assert (await stored(backend, "raced")).revision == revision

    async def test_one_of_many_connections_wins(self, make_backend: BackendFactory) -> None:
        backends = [make_backend() for _ in range(4)]
        for backend in backends:
            await backend.open(SCHEMA)
        for number in range(self.race_rounds):
            races = (_race(backend, f"raced-{number}", 0, self.racers // 4) for backend in backends)
            assert sum([len(wins) for wins in await asyncio.gather(*races)]) == 1
        for backend in backends:
            await backend.close()

    async def test_one_of_many_processes_wins(self, make_backend: BackendFactory) -> None:
        need_processes(make_backend())
        barrier = CONTEXT.Barrier(self.processes)
        given = (make_backend, self.race_rounds, self.racers // 4, barrier)
        won = await run_processes(_process, [given] * self.processes)
        assert [sum(wins) for wins in zip(*won, strict=True)] == [1] * self.race_rounds

    async def test_many_processes_open_at_once(self, make_backend: BackendFactory) -> None:
        need_processes(make_backend())
        keys = [f"process-{number:02}" for number in range(self.openers)]
        assert sorted(await run_processes(_open_and_write, [(make_backend, key) for key in keys])) == keys
        backend = make_backend()
        await backend.open(SCHEMA)
        page = await backend.query(NAMESPACE, Where(), limit=100)
        assert [record.ref.key for record in page.items] == keys
        await backend.close()

    async def test_a_race_of_deletes_and_writes_has_one_winner(self, backend: StorageBackend) -> None:
        for number in range(self.race_rounds):
            revision = (await make(backend, f"k{number}")).revision
            writes = [_attempt(backend, f"k{number}", revision) for _ in range(4)]
            deletes = [_delete(backend, f"k{number}", revision) for _ in range(4)]
            done = await asyncio.gather(*writes, *deletes)
            assert Counter(map(bool, done))[True] == 1

    async def test_increments_are_not_lost(self, backend: StorageBackend) -> None:
        await make(backend, "counter", attributes={"count": 0})

        async def increment() -> None:
            while True:
                record = await stored(backend, "counter")
                raised = {"count": int(record.attributes["count"]) + 1}
                try:
                    await backend.put(ref("counter"), change(attributes=raised), if_revision=record.revision)
                except RevisionConflict:
                    continue
                return

        await asyncio.gather(*(increment() for _ in range(8)))
        assert (await stored(backend, "counter")).attributes == {"count": 8}

    async def test_record_and_body_are_of_one_revision(self, backend: StorageBackend) -> None:
        revision = (await make(backend, "a", head=b"0", body=b"0" * 50_000)).revision
        writing = True

        async def read() -> int:
            seen = set()
            while writing:
                record = await stored(backend, "a")
                assert record.body == record.head * 50_000
                seen.add(record.revision)
                await asyncio.sleep(0)
            return len(seen)

        readers = [asyncio.ensure_future(read()) for _ in range(3)]
        for number in range(30):
            mark = b"%d" % (number % 10)
            made = await backend.put(ref("a"), change(head=mark, body=mark * 50_000), if_revision=revision)
            revision = made.revision
            await asyncio.sleep(0)
        writing = False
        assert all(await asyncio.gather(*readers))

    async def test_cancelled_operations_leave_everything_usable(self, backend: StorageBackend) -> None:
        chance = random.Random(1)
        keys = [f"k{number:02}" for number in range(20)]
        for key in keys:
            tasks = [asyncio.ensure_future(_busy(backend, key)) for _ in range(3)]
            await asyncio.sleep(chance.random() * 0.004)
            for task in tasks:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(one is None or isinstance(one, asyncio.CancelledError) for one in ended), ended
        for key in keys:
            record = (await backend.get(ref(key))).record
            revision = 0 if record is None else record.revision
            if record is not None:
                assert record.body == record.head * 1000
            assert len(await _race(backend, key, revision, 4)) == 1
        assert await backend.purge(NAMESPACE, Where(), limit=1000) == len(keys)

    async def test_open_and_close_may_be_repeated(self, make_backend: BackendFactory) -> None:
        backend = make_backend()
        await backend.close()
        await asyncio.gather(*(backend.open(SCHEMA) for _ in range(4)))
        await backend.open([])
        await make(backend, "a")
        await asyncio.gather(*(backend.close() for _ in range(4)))
        await backend.open(SCHEMA)
        await stored(backend, "a")
        await backend.close()
        await backend.close()

    async def test_closing_waits_for_what_is_under_way(self, make_backend: BackendFactory) -> None:
        backend = make_backend()
        await backend.open(SCHEMA)
        writes = [asyncio.ensure_future(make(backend, f"k{number}")) for number in range(20)]
        await asyncio.sleep(0)
        await backend.close()
        await asyncio.gather(*writes)

    async def test_nothing_works_before_open_and_after_close(self, make_backend: BackendFactory) -> None:
        backend = make_backend()
        for _ in range(2):
            for operation in (
                backend.get(ref("a")),
                backend.get_many([ref("a")]),
                backend.put(ref("a"), change(), if_revision=0),
                backend.put_many([Put(ref("a"), change())]),
                backend.delete(ref("a"), if_revision=1),
                backend.query(NAMESPACE, Where(), limit=1),
                backend.purge(NAMESPACE, Where(), limit=1),
                backend.ping(),
            ):
                with pytest.raises(BackendUnavailable) as refused:
                    await operation
                assert not refused.value.retryable
            await backend.open(SCHEMA)
            await backend.close()

    async def test_ping(self, backend: StorageBackend) -> None:
        health = await backend.ping()
        assert health.backend == backend.name
        assert health.latency.total_seconds() >= 0
        assert abs((health.now - (await backend.get(ref("a"))).now).total_seconds()) < PATIENCE


async def _delete(backend: StorageBackend, key: str, revision: int) -> bool:
    try:
        return await backend.delete(ref(key), if_revision=revision)
    except RevisionConflict:
        return False


async def _busy(backend: StorageBackend, key: str) -> None:
    """Write, read and delete until cancelled."""
    while True:
        # A store in memory never waits by itself, and could not be cancelled.
        await asyncio.sleep(0)
        record = (await backend.get(ref(key))).record
        mark = os.urandom(40)
        try:
            await backend.put(
                ref(key), change(head=mark, body=mark * 1000), if_revision=0 if record is None else record.revision
            )
            await backend.query(NAMESPACE, Where(), limit=3)
        except RevisionConflict:
            continue
