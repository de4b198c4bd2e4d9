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
#: Seconds after which a writer is killed, at most.
LIFE = 0.06


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


def _heard(said: int) -> dict[str, int]:
    """The last step of each key that was said before the writer died."""
    with os.fdopen(said, encoding="utf-8") as lines:
        return {key: int(step) for key, step in (line.split() for line in lines)}


async def _killed(make_backend: BackendFactory, life: int, pause: float) -> dict[str, int]:
    hears, says = CONTEXT.Pipe(duplex=False)
    process = CONTEXT.Process(target=_writer, args=(make_backend, life, says))
    process.start()
    says.close()
    # It has opened the store, so that the moment of its death is one of writing.
    assert await asyncio.to_thread(hears.poll, PATIENCE)
    await asyncio.sleep(pause)
    process.kill()
    await asyncio.to_thread(process.join, PATIENCE)
    process.close()
    said = os.dup(hears.fileno())
    hears.close()
    heard = _heard(said)
    assert heard.pop("open", None) == 0, "the writer could not open the store"
    return heard


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
            told.update(await _killed(make_backend, life, chance.uniform(0, LIFE)))
        assert len(told) > self.kills // 2, "hardly anything was written: the test says nothing"
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
