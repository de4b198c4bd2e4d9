"""Writes, deletions, new lives and purges of the same records, all at once."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from flowpersist.backends.base import StorageBackend, Where
from flowpersist.errors import RevisionConflict
from flowpersist.testing.suite.ground import (
    NAMESPACE,
    SCHEMA,
    BackendFactory,
    Ground,
    all_pages,
    change,
    fill,
    later,
    make,
    opened,
    ref,
    stored,
)
from flowpersist.testing.suite.histories import contend, contend_in_process, explain
from flowpersist.testing.suite.processes import need_processes, run_processes

__all__ = ["Contention"]

KEYS = ["a", "b", "c"]


class Contention(Ground):
    """Whatever races, what was acknowledged can be put into one order for each record."""

    async def test_tasks_that_contend_can_be_put_in_order(
        self, backend: StorageBackend, make_backend: BackendFactory
    ) -> None:
        async with opened(make_backend) as second, opened(make_backend) as third:
            histories = await asyncio.gather(
                *(
                    contend(one, KEYS, self.race_rounds * 4, seed)
                    for seed, one in enumerate([backend, second, third] * 4)
                )
            )
        explain(histories, {key: (await backend.get(ref(key))).record for key in KEYS})

    async def test_processes_that_contend_can_be_put_in_order(
        self, backend: StorageBackend, make_backend: BackendFactory
    ) -> None:
        need_processes(backend)
        given = [(make_backend, KEYS, self.race_rounds * 2, seed) for seed in range(self.processes)]
        results = await run_processes(contend_in_process, given)
        histories = [history for result in results for history in result]
        explain(histories, {key: (await backend.get(ref(key))).record for key in KEYS})

    async def test_a_stale_writer_never_wins_over_a_new_life(self, make_backend: BackendFactory) -> None:
        async with opened(make_backend) as stale, opened(make_backend) as other:
            for number in range(self.race_rounds):
                key = f"k{number:03}"
                old = (await make(other, key, head=b"first")).revision
                seen = (await stored(stale, key)).revision

                async def renew(key: str, old: int) -> int:
                    if not await other.delete(ref(key), if_revision=old):
                        return 0
                    return (await make(other, key, head=b"second")).revision

                async def lag(key: str, seen: int, pause: int) -> int:
                    for _ in range(pause):
                        await asyncio.sleep(0)
                    return (await stale.put(ref(key), change(head=b"stale"), if_revision=seen)).revision

                # Some begin before the new life and some after it.
                writes = [lag(key, seen, number * step) for step in range(4)]
                first, second, renewed, *rest = await asyncio.gather(
                    *writes[:2], renew(key, old), *writes[2:], return_exceptions=True
                )
                late = (first, second, *rest)
                done = [one for one in (renewed, *late) if not isinstance(one, RevisionConflict)]
                assert len(done) == 1, f"{len(done)} believe that they have taken revision {old}: {done}"
                record = await stored(other, key)
                assert record.revision == done[0]
                assert record.head == (b"second" if done[0] is renewed else b"stale")
                assert record.revision > old

    async def test_several_purges_and_writers(self, backend: StorageBackend, make_backend: BackendFactory) -> None:
        keys = [f"k{number:03}" for number in range(self.few)]
        await fill(backend, keys, attributes={"status": "old"}, body=bytes(40_000))

        async def rescue(key: str) -> int:
            record = (await backend.get(ref(key), body=False)).record
            if record is None:
                return 0
            try:
                await backend.put(ref(key), change(attributes={"status": "kept"}), if_revision=record.revision)
            except RevisionConflict:
                return 0
            return 1

        async def renew(key: str) -> int:
            """A record of the same key that a purge must not take for the one it has found."""
            record = (await backend.get(ref(key), body=False)).record
            try:
                if record is None or not await backend.delete(ref(key), if_revision=record.revision):
                    return 0
                await make(backend, key, attributes={"status": "kept"}, body=b"second life")
            except RevisionConflict:
                return 0
            return 1

        async with AsyncExitStack() as stack:
            others = [await stack.enter_async_context(opened(make_backend)) for _ in range(2)]
            old = Where({"status": "old"})
            purges = [one.purge(NAMESPACE, old, limit=self.few) for one in (backend, *others)]
            saves = [rescue(key) if number % 4 else renew(key) for number, key in enumerate(keys) if number % 2 == 0]
            done = await asyncio.gather(*purges, *saves)
        purged, saved = sum(done[:3]), sum(done[3:])
        assert purged + saved == len(keys)
        assert await all_pages(backend, old) == []
        kept = await all_pages(backend, Where({"status": "kept"}), limit=100)
        assert len(kept) == saved
        for key in kept:
            assert (await stored(backend, key)).attributes == {"status": "kept"}

    async def test_opening_while_others_write(self, backend: StorageBackend, make_backend: BackendFactory) -> None:
        writing = True

        async def write(worker: int) -> int:
            number = 0
            while writing:
                await make(backend, f"{worker}-{number}", attributes={"status": "x"})
                number += 1
                await asyncio.sleep(0)
            return number

        writers = [asyncio.ensure_future(write(worker)) for worker in range(4)]
        for _ in range(4):
            async with opened(make_backend) as another:
                await backend.open(SCHEMA)
                await another.query(NAMESPACE, Where({"status": "x"}), limit=5)
        writing = False
        written = sum(await asyncio.gather(*writers))
        assert len(await all_pages(backend, Where({"status": "x"}), limit=100)) == written

    async def test_a_deadline_and_a_conflict_race(self, backend: StorageBackend) -> None:
        """A write in time that loses, and one that is late, are told apart; nothing is written by either."""
        made = await make(backend, "a", head=b"0")
        backend.clock_offset += later(2)
        ended = await asyncio.gather(
            *(
                backend.put(
                    ref("a"), change(head=b"%d" % number), if_revision=made.revision, not_after=made.now + later(number)
                )
                for number in range(5)
            ),
            return_exceptions=True,
        )
        names = [type(one).__name__ for one in ended]
        assert names.count("Written") == 1, names
        assert set(names[:2]) <= {"DeadlinePassed", "RevisionConflict"}, names
        assert set(names[2:]) <= {"Written", "RevisionConflict", "DeadlinePassed"}
        assert (await stored(backend, "a")).head == b"%d" % names.index("Written")
