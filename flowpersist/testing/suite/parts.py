"""Put, get and delete: each part of a record, revisions, conflicts, deadlines, write ids."""

from __future__ import annotations

from datetime import timedelta

import pytest

from flowpersist.backends.base import KEEP, RecordRef, StorageBackend, Where
from flowpersist.errors import DeadlinePassed, RevisionConflict, UnknownOutcome
from flowpersist.testing.faults import FaultyBackend
from flowpersist.testing.suite.ground import SOON, Ground, change, later, make, ref, stored

__all__ = ["Parts"]


class Parts(Ground):
    """One record at a time."""

    async def test_a_missing_record_is_none(self, backend: StorageBackend) -> None:
        read = await backend.get(ref("nobody"))
        assert read.record is None
        assert read.now.utcoffset() == timedelta(0)

    async def test_what_is_put_is_got(self, backend: StorageBackend) -> None:
        attributes = {"status": "waiting", "count": 3, "share": 0.1, "live": True, "free": "x"}
        written = await make(
            backend, "a", write_id="w-1", attributes={**attributes, "gone": None}, head=b"h", body=b"b", due_at=SOON
        )
        record = await stored(backend, "a")
        assert (record.ref, record.revision, record.write_id) == (ref("a"), written.revision, "w-1")
        assert record.attributes == attributes
        assert {name: type(value) for name, value in record.attributes.items()} == {
            name: type(value) for name, value in attributes.items()
        }
        assert (record.head, record.body, record.body_size, record.due_at) == (b"h", b"b", 1, SOON)
        assert record.created_at == record.updated_at == written.now

    async def test_a_new_record_starts_empty(self, backend: StorageBackend) -> None:
        await make(backend, "a")
        record = await stored(backend, "a")
        assert (record.attributes, record.head, record.due_at) == ({}, b"", None)
        assert (record.body, record.body_size) == (None, None)

    async def test_parts_are_kept_unless_named(self, backend: StorageBackend) -> None:
        first = await make(backend, "a", attributes={"status": "x"}, head=b"h", body=b"body", due_at=SOON)
        second = await backend.put(ref("a"), change(), if_revision=first.revision)
        record = await stored(backend, "a")
        assert (record.attributes, record.head, record.body, record.due_at) == ({"status": "x"}, b"h", b"body", SOON)
        assert (record.created_at, record.updated_at) == (first.now, second.now)

    @pytest.mark.parametrize(
        ("part", "value", "empty"),
        [
            ("attributes", {"count": 1}, {}),
            ("head", b"new", b""),
            ("body", b"new", None),
            ("body", bytes(100_000), None),
            ("due_at", SOON + timedelta(microseconds=1), None),
        ],
    )
    async def test_each_part_is_set_and_dropped_alone(
        self, backend: StorageBackend, part: str, value: object, empty: object
    ) -> None:
        before = {"attributes": {"status": "x"}, "head": b"h", "body": b"b", "due_at": SOON}
        revision = (await make(backend, "a", **before)).revision
        for given, expected in ((value, value), (KEEP, value), (None, empty), (KEEP, empty), (value, value)):
            revision = (await backend.put(ref("a"), change(**{part: given}), if_revision=revision)).revision
            record = await stored(backend, "a")
            assert getattr(record, part) == expected
            assert {name: getattr(record, name) for name in before if name != part} == {
                name: was for name, was in before.items() if name != part
            }

    async def test_an_empty_body_is_a_body(self, backend: StorageBackend) -> None:
        await make(backend, "a", body=b"")
        record = await stored(backend, "a")
        assert (record.body, record.body_size) == (b"", 0)

    async def test_a_body_is_read_on_request_only(self, backend: StorageBackend) -> None:
        await make(backend, "a", body=b"12345")
        record = (await backend.get(ref("a"), body=False)).record
        assert record is not None
        assert (record.body, record.body_size) == (None, 5)
        (listed,) = (await backend.query(ref("a").namespace, Where(), limit=1)).items
        assert (listed.body, listed.body_size) == (None, 5)

    @pytest.mark.parametrize("size", [1, 4096, 32 * 1024, 32 * 1024 + 1, 64 * 1024, 300_000])
    async def test_bodies_of_many_sizes(self, backend: StorageBackend, size: int) -> None:
        body = bytes(range(256)) * (size // 256 + 1)
        revision = 0
        for content in (body[:size], body[1 : size + 1]):
            revision = (await backend.put(ref("a"), change(body=content), if_revision=revision)).revision
            record = await stored(backend, "a")
            assert record.body == content
            assert record.body_size == size

    async def test_a_write_at_another_revision_changes_nothing(self, backend: StorageBackend) -> None:
        revision = (await make(backend, "a", head=b"old")).revision
        for wrong in (0, revision + 1, revision + 1000):
            with pytest.raises(RevisionConflict) as refused:
                await backend.put(ref("a"), change(head=b"new"), if_revision=wrong)
            assert refused.value.backend
        with pytest.raises(RevisionConflict):
            await backend.put(ref("nobody"), change(), if_revision=1)
        assert (await stored(backend, "a")).head == b"old"
        assert (await backend.get(ref("nobody"))).record is None

    async def test_records_of_other_keys_and_namespaces_are_apart(self, backend: StorageBackend) -> None:
        others = [
            ref("a"),
            ref("A"),
            ref("a "),
            RecordRef("conformance.other", "a"),
            RecordRef("conformance.", "othera"),
        ]
        for number, one in enumerate(others):
            await backend.put(one, change(head=b"%d" % number), if_revision=0)
        for number, one in enumerate(others):
            record = (await backend.get(one)).record
            assert record is not None
            assert record.head == b"%d" % number

    async def test_delete(self, backend: StorageBackend) -> None:
        assert await backend.delete(ref("a"), if_revision=1) is False
        revision = (await make(backend, "a", body=bytes(100_000), attributes={"status": "x"}, due_at=SOON)).revision
        with pytest.raises(RevisionConflict):
            await backend.delete(ref("a"), if_revision=revision + 1)
        assert await backend.delete(ref("a"), if_revision=revision) is True
        assert (await backend.get(ref("a"))).record is None
        assert await backend.delete(ref("a"), if_revision=revision) is False
        assert (await backend.query(ref("a").namespace, Where(), limit=5)).items == ()

    async def test_revisions_are_never_used_twice(self, backend: StorageBackend) -> None:
        seen: list[int] = []
        for _ in range(4):
            revision = 0
            for _ in range(3):
                revision = (await backend.put(ref("a"), change(), if_revision=revision)).revision
                seen.append(revision)
            await backend.delete(ref("a"), if_revision=revision)
        assert seen == sorted(set(seen))
        assert seen[0] > 0

    async def test_a_writer_who_read_the_deleted_record_loses(self, backend: StorageBackend) -> None:
        stale = (await make(backend, "a")).revision
        await backend.delete(ref("a"), if_revision=stale)
        with pytest.raises(RevisionConflict):
            await backend.put(ref("a"), change(), if_revision=stale)
        await make(backend, "a", head=b"second life")
        with pytest.raises(RevisionConflict):
            await backend.put(ref("a"), change(), if_revision=stale)
        with pytest.raises(RevisionConflict):
            await backend.delete(ref("a"), if_revision=stale)
        assert (await stored(backend, "a")).head == b"second life"

    async def test_deadlines_are_of_the_store_s_clock(self, backend: StorageBackend) -> None:
        written = await make(backend, "a", head=b"old")
        deadline = written.now + later(10)
        revision = (await backend.put(ref("a"), change(), if_revision=written.revision, not_after=deadline)).revision
        backend.clock_offset += later(11)
        assert (await backend.get(ref("a"))).now > deadline
        with pytest.raises(DeadlinePassed):
            await backend.put(ref("a"), change(head=b"new"), if_revision=revision, not_after=deadline)
        with pytest.raises(DeadlinePassed):
            await backend.put(ref("b"), change(), if_revision=0, not_after=deadline)
        with pytest.raises(RevisionConflict):
            await backend.put(ref("a"), change(), if_revision=revision + 1, not_after=deadline)
        assert (await stored(backend, "a")).head == b"old"
        assert (await backend.get(ref("b"))).record is None

    async def test_times_are_of_the_store_s_clock(self, backend: StorageBackend) -> None:
        first = await make(backend, "a")
        backend.clock_offset += timedelta(days=400)
        second = await backend.put(ref("a"), change(), if_revision=first.revision)
        record = await stored(backend, "a")
        assert timedelta(days=400) <= record.updated_at - record.created_at < timedelta(days=401)
        assert record.updated_at == second.now
        assert (await backend.ping()).now >= second.now

    async def test_a_lost_acknowledgement_is_cleared_up_by_the_write_id(self, backend: StorageBackend) -> None:
        faulty = FaultyBackend(backend)
        mine = change(head=b"mine")
        faulty.lose("put")
        with pytest.raises(UnknownOutcome):
            await faulty.put(ref("a"), mine, if_revision=0)
        with pytest.raises(RevisionConflict):
            await faulty.put(ref("a"), mine, if_revision=0)
        assert (await stored(faulty, "a")).write_id == mine.write_id

    @pytest.mark.parametrize("revision", [-1, True, 1.0, "1"])
    async def test_a_revision_that_can_not_be_is_refused(self, backend: StorageBackend, revision: int) -> None:
        with pytest.raises(ValueError, match="if_revision"):
            await backend.put(ref("a"), change(), if_revision=revision)
        with pytest.raises(ValueError, match="if_revision"):
            await backend.delete(ref("a"), if_revision=revision)

    async def test_a_deadline_without_a_time_zone_is_refused(self, backend: StorageBackend) -> None:
        with pytest.raises(ValueError, match="aware"):
            await backend.put(ref("a"), change(), if_revision=0, not_after=SOON.replace(tzinfo=None))
