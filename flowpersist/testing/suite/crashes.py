"""Writers that are killed at any moment: what was acknowledged is there, and nothing is torn."""

from __future__ import annotations

import asyncio
import os
import random
from multiprocessing.connection import Connection

from flowpersist.backends.base import Record, StorageBackend, Where
from flowpersist.testing.suite.ground import (
    NAMESPACE,
    PATIENCE,
    BackendFactory,
    Ground,
    all_pages,
    change,
    opened,
    ref,
    stored,
)
from flowpersist.testing.suite.processes import CONTEXT, need_processes

__all__ = ["Crashes"]

STEPS = 4
#: A writer is killed after so many acknowledgements at most, and so many seconds more.
ACKNOWLEDGED = 24
PAUSE = 0.01


def content(key: str, step: int) -> tuple[bytes, bytes]:
    """Head and body of one step; every other body is large enough to stand apart."""
    mark = f"{key}@{step};".encode()
    return mark, mark * (4000 if step % 2 else 10)


async def _write(backend: StorageBackend, life: int, worker: int, said: Connection) -> None:
    number = 0
    while True:
        key, revision = f"{life}-{worker}-{number}", 0
        for step in range(1, STEPS + 1):
            head, body = content(key, step)
            parts = change(attributes={"status": f"s{step}"}, head=head, body=body)
            revision = (await backend.put(ref(key), parts, if_revision=revision)).revision
            _say(said, key, step)
        if number % 2:
            await backend.delete(ref(key), if_revision=revision)
            _say(said, key, 0)
        number += 1
        await asyncio.sleep(0)


def _say(said: Connection, key: str, step: int) -> None:
    # One write of so few bytes is passed whole or not at all.
    os.write(said.fileno(), f"{key} {step}\n".encode())


def _writer(make_backend: BackendFactory, life: int, said: Connection) -> None:
    async def work() -> None:
        async with opened(make_backend) as backend:
            _say(said, "open", 0)
            await asyncio.gather(*(_write(backend, life, worker, said) for worker in range(3)))

    asyncio.run(work())


def _hear(hears: Connection, lines: int) -> bytes:
    """What the writer says until it has said so many lines, which are acknowledgements but for the first."""
    said = b""
    while said.count(b"\n") < lines:
        assert hears.poll(PATIENCE), "the writer neither opens the store nor writes"
        said += (more := os.read(hears.fileno(), 65536))
        assert more, "the writer has ended by itself"
    return said


def _rest(hears: Connection) -> bytes:
    """What it said until it died."""
    said = b""
    while more := os.read(hears.fileno(), 65536):
        said += more
    return said


async def _killed(make_backend: BackendFactory, life: int, lines: int, pause: float) -> dict[str, int]:
    """The last acknowledged step of each key of a writer that dies somewhat after so many lines."""
    hears, says = CONTEXT.Pipe(duplex=False)
    process = CONTEXT.Process(target=_writer, args=(make_backend, life, says))
    process.start()
    says.close()
    try:
        said = await asyncio.to_thread(_hear, hears, lines)
        await asyncio.sleep(pause)
    finally:
        process.kill()
        await asyncio.to_thread(process.join, PATIENCE)
        process.close()
    said += _rest(hears)
    hears.close()
    told = {key: int(step) for key, step in (line.split() for line in said.decode().splitlines())}
    assert told.pop("open") == 0
    return told


def _check(key: str, step: int, record: Record | None) -> None:
    """One more step may have been under way: after the last that is a deletion."""
    if record is None:
        assert step in {0, STEPS}, f"{key} was acknowledged at step {step}, and is gone"
        return
    assert step, f"{key} was deleted, and is back"
    reached = int(record.head.rpartition(b"@")[2].rstrip(b";"))
    assert reached in {step, step + 1}, f"{key} was acknowledged at step {step} and stands at {reached}"


class Crashes(Ground):
    """A process may die anywhere."""

    async def test_what_killed_writers_were_told_is_there(
        self, backend: StorageBackend, make_backend: BackendFactory
    ) -> None:
        need_processes(backend)
        chance = random.Random(5)
        told: dict[str, int] = {}
        for life in range(self.kills):
            lines = 1 + chance.randrange(ACKNOWLEDGED)
            told.update(await _killed(make_backend, life, lines, chance.uniform(0, PAUSE)))
        assert told, "nothing was written: the test says nothing"
        for key, step in told.items():
            _check(key, step, (await backend.get(ref(key))).record)
        listed = await all_pages(backend, limit=200)
        for key in listed:
            await self._assert_whole(backend, key)
        indexed = [
            key for step in range(1, STEPS + 1) for key in await all_pages(backend, Where({"status": f"s{step}"}))
        ]
        assert sorted(indexed) == sorted(listed), "index and records differ"
        assert sorted(await all_pages(backend, order="updated", limit=200)) == sorted(listed)
        assert await backend.purge(NAMESPACE, Where(), limit=len(listed) + 1) == len(listed)

    async def _assert_whole(self, backend: StorageBackend, key: str) -> None:
        record = await stored(backend, key)
        step = int(record.head.rpartition(b"@")[2].rstrip(b";"))
        assert (record.head, record.body) == content(key, step), f"{key} is torn"
        assert record.attributes == {"status": f"s{step}"}
        # Nobody who died has locked it.
        kept = await backend.put(ref(key), change(), if_revision=record.revision)
        assert kept.revision > record.revision
