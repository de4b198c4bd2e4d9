"""Writes and deletions without a revision: whatever stands there is replaced or removed, in one step."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from datetime import timedelta
from functools import partial
from typing import Final

import pytest

from flowpersist.backends.base import KEEP, Record, StorageBackend, Where, Written
from flowpersist.errors import DeadlinePassed, RevisionConflict, UnknownOutcome
from flowpersist.testing.faults import FaultyBackend
from flowpersist.testing.suite.ground import SOON, BackendFactory, Ground, all_pages, change, later, opened, ref, stored
from flowpersist.testing.suite.network import insisting

__all__ = ["Upserts"]

#: What a record has before it is replaced; None: it is not there.
BEFORE: Final[tuple[Mapping[str, object] | None, ...]] = (
    None,
    {},
    {"attributes": {"status": "x"}, "head": b"h", "body": b"b", "due_at": SOON},
    {"attributes": {"status": "x", "free": 1}, "head": b"h" * 5000, "body": b"b" * 70_000, "due_at": SOON},
)
EMPTY: Final[Mapping[str, object]] = {"attributes": {}, "head": b"", "body": None, "due_at": None}
#: For each part some values that it is set to.
SETS: Final = {
    "attributes": ({}, {"status": "y", "count": 2}),
    "head": (b"", b"new"),
    "body": (b"", b"new", b"new" * 30_000),
    "due_at": (SOON + timedelta(microseconds=1),),
}


def _parts(record: Record) -> dict[str, object]:
    return {name: getattr(record, name) for name in EMPTY}


class Upserts(Ground):
    """A write without a revision succeeds whatever stands there, and makes one of the record's revisions."""

    async def test_it_makes_a_record_and_replaces_one(self, backend: StorageBackend) -> None:
        parts = {"attributes": {"status": "x", "count": 3}, "head": b"h", "body": b"b", "due_at": SOON}
        first = await backend.put(ref("a"), change(write_id="w-1", **parts))
        record = await stored(backend, "a")
        assert (record.revision, record.write_id, record.created_at) == (first.revision, "w-1", first.now)
        assert _parts(record) == parts
        second = await backend.put(ref("a"), change(write_id="w-2", attributes={"status": "y"}, head=b"n", body=None))
        assert second.revision > first.revision
        record = await stored(backend, "a")
        assert (record.revision, record.write_id) == (second.revision, "w-2")
        assert (record.created_at, record.updated_at) == (first.now, second.now)
        assert _parts(record) == {"attributes": {"status": "y"}, "head": b"n", "body": None, "due_at": SOON}

    @pytest.mark.parametrize("before", BEFORE, ids=["nothing", "empty", "small", "large"])
    async def test_each_part_is_set_kept_or_dropped(
        self, backend: StorageBackend, before: Mapping[str, object] | None
    ) -> None:
        changes = [{part: value} for part, values in SETS.items() for value in (*values, None, KEEP)]
        changes += [dict.fromkeys(EMPTY), {part: values[-1] for part, values in SETS.items()}]
        for number, parts in enumerate(changes):
            key = f"k{number:02}"
            expected: dict[str, object] = dict(EMPTY)
            if before is not None:
                expected.update(before)
                await backend.put(ref(key), change(**before), if_revision=0)
            made = await backend.put(ref(key), change(**parts))
            expected.update({name: value for name, value in parts.items() if value is not KEEP})
            expected = {name: EMPTY[name] if value is None else value for name, value in expected.items()}
            record = await stored(backend, key)
            assert _parts(record) == expected, parts
            assert record.revision == made.revision
            size = None if expected["body"] is None else len(record.body or b"")
            assert record.body_size == size

    async def test_indexes_follow(self, backend: StorageBackend) -> None:
        for status, due in (("x", SOON), ("y", SOON), ("y", None), ("x", SOON)):
            await backend.put(ref("a"), change(attributes={"status": status}, due_at=due))
            for other in "xy":
                found = ["a"] if other == status else []
                assert await all_pages(backend, Where({"status": other})) == found
                assert await all_pages(backend, Where({"status": other}), order="due") == (found if due else [])
            for order in ("key", "created", "updated"):
                assert await all_pages(backend, order=order) == ["a"]

    async def test_a_deadline_holds_here_too(self, backend: StorageBackend) -> None:
        for head in (None, b"old"):
            now = (await backend.ping()).now if head is None else (await backend.put(ref("a"), change(head=head))).now
            backend.clock_offset += later(2)
            for body in (KEEP, None, b"b", b"b" * 70_000):
                with pytest.raises(DeadlinePassed):
                    await backend.put(ref("a"), change(head=b"late", body=body), not_after=now + later(1))
            record = (await backend.get(ref("a"))).record
            assert (None if record is None else record.head) == head
            await backend.put(ref("a"), change(head=b"in time"), not_after=now + later(4))
            assert (await stored(backend, "a")).head == b"in time"

    @pytest.mark.parametrize("body", [KEEP, None, b"b", b"b" * 70_000], ids=["kept", "none", "small", "large"])
    async def test_a_repeat_that_finds_itself_done_is_told_so(
        self, backend: StorageBackend, body: bytes | None
    ) -> None:
        mine = change(head=b"mine", body=body)
        for again in (mine, change(head=b"mine", body=body)):
            mine = again
            faulty = FaultyBackend(backend)
            faulty.lose("put")
            with pytest.raises(UnknownOutcome):
                await faulty.put(ref("a"), mine)
            before = await stored(backend, "a")
            with pytest.raises(RevisionConflict):
                await faulty.put(ref("a"), mine)
            assert await stored(backend, "a") == before, "done twice"
        await backend.put(ref("a"), change(head=b"another's"))
        renewed = await backend.put(ref("a"), mine)
        record = await stored(backend, "a")
        assert (record.head, record.revision) == (b"mine", renewed.revision)

    async def test_delete_whatever_its_revision(self, backend: StorageBackend) -> None:
        assert await backend.delete(ref("a")) is False
        parts = {"attributes": {"status": "x"}, "body": bytes(70_000), "due_at": SOON}
        first = await backend.put(ref("a"), change(**parts))
        assert await backend.delete(ref("a")) is True
        assert (await backend.get(ref("a"))).record is None
        assert await backend.delete(ref("a")) is False
        assert await all_pages(backend, Where({"status": "x"})) == []
        assert await all_pages(backend, order="due") == []
        assert (await backend.put(ref("a"), change())).revision > first.revision
        record = await stored(backend, "a")
        assert (record.body, record.attributes) == (None, {})

    async def test_revisions_rise_through_all_kinds_of_writes(self, backend: StorageBackend) -> None:
        seen: list[int] = []
        for number in range(12):
            seen.append((await backend.put(ref("a"), change())).revision)
            seen.append((await backend.put(ref("a"), change(), if_revision=seen[-1])).revision)
            if number % 3 == 1:
                await backend.delete(ref("a"))
            if number % 3 == 2:
                await backend.delete(ref("a"), if_revision=seen[-1])
                seen.append((await backend.put(ref("a"), change(), if_revision=0)).revision)
        assert seen == sorted(set(seen))

    async def test_who_read_before_loses_after_it(self, backend: StorageBackend) -> None:
        stale = (await backend.put(ref("a"), change())).revision
        await backend.put(ref("a"), change(head=b"new"))
        with pytest.raises(RevisionConflict):
            await backend.put(ref("a"), change(head=b"stale"), if_revision=stale)
        with pytest.raises(RevisionConflict):
            await backend.delete(ref("a"), if_revision=stale)
        with pytest.raises(RevisionConflict):
            await backend.put(ref("a"), change(head=b"stale"), if_revision=0)
        assert (await stored(backend, "a")).head == b"new"

    async def test_of_many_at_once_each_is_done(self, make_backend: BackendFactory) -> None:
        """And of those at one revision among them at most one."""
        async with opened(make_backend) as one, opened(make_backend) as other:
            for number in range(self.race_rounds):
                key = f"k{number:03}"
                revision = (await one.put(ref(key), change())).revision if number % 2 else 0
                writes = [_write(backend, key, body, None) for backend in (one, other) for body in _BODIES]
                rivals = [_write(backend, key, body, revision) for backend in (one, other) for body in _BODIES]
                done = await asyncio.gather(*writes, *rivals)
                assert all(done[: len(writes)]), "a write without a revision lost"
                assert sum(it is not None for it in done[len(writes) :]) <= 1
                revisions = [it.revision for it in done if it is not None]
                assert len(set(revisions)) == len(revisions), "a revision was given twice"
                record = await stored(one, key)
                assert record.revision == max(revisions) > revision
                _check_whole(record)

    async def test_writes_deletions_and_reads_of_one_record(self, make_backend: BackendFactory) -> None:
        async with opened(make_backend) as one, opened(make_backend) as other:
            made: list[int] = []

            async def work(backend: StorageBackend, seed: int) -> int:
                chance, deleted = random.Random(seed), 0
                for _ in range(self.race_rounds):
                    # A store in memory never waits by itself.
                    await asyncio.sleep(0)
                    if chance.random() < 0.25:
                        deleted += await insisting(lambda: backend.delete(ref("a")))
                        continue
                    written = await insisting(partial(_put, backend, "a", chance.choice(_BODIES)))
                    made.append(written.revision)
                    record = (await backend.get(ref("a"))).record
                    if record is not None:
                        _check_whole(record)
                return deleted

            deleted = sum(await asyncio.gather(*(work(it, seed) for seed, it in enumerate([one, other] * 4))))
            assert len(set(made)) == len(made), "a revision was given twice"
            record = (await one.get(ref("a"))).record
            assert deleted <= len(made)
            if record is not None:
                _check_whole(record)
                assert record.revision in made
            assert await all_pages(one) == ([] if record is None else ["a"])


#: Of several ways in which stores keep them.
_BODIES: Final = (None, b"", b"1" * 10, b"2" * 20_000, b"3" * 70_000)


async def _put(backend: StorageBackend, key: str, body: bytes | None, revision: int | None = None) -> Written:
    head = b"none" if body is None else b"%d" % len(body)
    return await backend.put(ref(key), change(head=head, body=body), if_revision=revision)


async def _write(backend: StorageBackend, key: str, body: bytes | None, revision: int | None) -> Written | None:
    try:
        return await _put(backend, key, body, revision)
    except RevisionConflict:
        return None


def _check_whole(record: Record) -> None:
    """Head and body are of one write."""
    told = b"none" if record.body is None else b"%d" % len(record.body)
    assert record.head in {told, b""}, f"head {record.head!r} stands beside the body of another write"
