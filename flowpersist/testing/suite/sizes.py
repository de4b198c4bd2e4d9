"""Sizes: bodies from nothing to the largest, many records, many tasks on few connections."""

from __future__ import annotations

import asyncio
import time
from typing import Final

import pytest

from flowpersist.backends.base import (
    MAX_HEAD_BYTES,
    BodyLimited,
    Capability,
    Order,
    Record,
    StorageBackend,
    Where,
)
from flowpersist.errors import StorageError
from flowpersist.testing.suite.ground import (
    MEBIBYTE,
    NAMESPACE,
    PATIENCE,
    SOON,
    Ground,
    all_pages,
    change,
    fill,
    largest,
    make,
    ref,
    stored,
)

__all__ = ["Sizes"]

ORDERS: Final[tuple[Order, ...]] = ("key", "created", "updated", "due")
#: Round the borders at which stores begin to keep a body otherwise.
BORDERS: Final = (0, 1, 255 * 1024, 256 * 1024, 512 * 1024 + 1, MEBIBYTE, 4 * MEBIBYTE + 1, 16 * MEBIBYTE)


class Sizes(Ground):
    """Nothing is cut short, and nothing is slower than it must be for being one of many."""

    async def test_bodies_up_to_the_largest(self, backend: StorageBackend) -> None:
        most = largest(backend, self.largest_body)
        pattern = bytes(range(256)) * (most // 256 + 1)
        revision = 0
        for size in sorted({*(border for border in BORDERS if border < most), most}, reverse=True):
            body = pattern[size % 7 : size % 7 + size]
            revision = (await backend.put(ref("a"), change(body=body), if_revision=revision)).revision
            record = await stored(backend, "a")
            assert record.body_size == len(body) == size
            assert record.body == body, f"a body of {size} bytes came back otherwise"

    async def test_the_largest_body_and_head(self, backend: StorageBackend) -> None:
        body, head = b"\x00\xff" * (largest(backend, self.largest_body) // 2), b"h" * MAX_HEAD_BYTES
        revision = (await make(backend, "a", body=body, head=head)).revision
        # What changes beside it leaves it as it is.
        revision = (await backend.put(ref("a"), change(attributes={"status": "x"}), if_revision=revision)).revision
        record = await stored(backend, "a")
        assert record.body == body
        assert record.head == head
        assert await backend.delete(ref("a"), if_revision=revision)
        assert (await make(backend, "a", body=None)).revision > revision
        assert (await stored(backend, "a")).body is None

    async def test_a_body_above_the_limit_is_refused(self, backend: StorageBackend) -> None:
        assert isinstance(backend, BodyLimited) == (Capability.BODY_LIMIT in backend.capabilities)
        if not isinstance(backend, BodyLimited):
            pytest.skip(f"{backend.name} has no largest body")
        if backend.largest_body > self.largest_body:
            pytest.skip("a body above the limit would be larger than this test's bodies")
        revision = (await make(backend, "a", head=b"h", body=b"b")).revision
        with pytest.raises(StorageError) as refused:
            await backend.put(ref("a"), change(body=bytes(backend.largest_body + 1)), if_revision=revision)
        assert not refused.value.retryable
        record = await stored(backend, "a")
        assert (record.head, record.body, record.revision) == (b"h", b"b", revision)

    async def test_many_records_are_walked_and_purged(self, backend: StorageBackend) -> None:
        keys = [f"k{number:06}" for number in range(self.many)]
        await fill(backend, keys, attributes={"status": "x"}, due_at=SOON, head=b"head", body=b"body")
        for order in ORDERS:
            walk = await all_pages(backend, Where({"status": "x"}), order=order, limit=500)
            assert len(walk) == len(keys)
            assert sorted(walk) == keys, f"a walk by {order} lost records, or saw some twice"
        assert await all_pages(backend, limit=501, descending=True) == keys[::-1]
        third = len(keys) // 3
        assert await backend.purge(NAMESPACE, Where({"status": "x"}), limit=third) == third
        assert await all_pages(backend, limit=500) == keys[third:]
        assert await backend.purge(NAMESPACE, Where(), limit=len(keys)) == len(keys) - third
        assert await all_pages(backend) == []

    @pytest.mark.parametrize("order", ["key", "due"])
    async def test_a_walk_while_several_tasks_insert(self, backend: StorageBackend, order: Order) -> None:
        stays = [f"k{number:04}-stays" for number in range(0, self.few * 10, 10)]
        await fill(backend, stays, attributes={"status": "x"}, due_at=SOON)
        walking = True

        async def disturb(worker: int) -> None:
            # So many at most, or the walk would never come to its end.
            for number in range(worker, worker + 97 * self.few, 97):
                if not walking:
                    return
                key = f"k{number % (self.few * 10):04}-{worker}-{number}"
                made = await make(backend, key, attributes={"status": "x"}, due_at=SOON)
                if number % 3 == 0:
                    await backend.delete(ref(key), if_revision=made.revision)
                await asyncio.sleep(0.001)

        async def pause(_: object) -> None:
            await asyncio.sleep(0.001)

        disturbing = [asyncio.ensure_future(disturb(worker)) for worker in range(4)]
        try:
            for descending in (False, True):
                walk = await all_pages(
                    backend, Where({"status": "x"}), order=order, limit=9, descending=descending, between=pause
                )
                assert len(walk) == len(set(walk)), "a record was seen twice"
                seen = [key for key in walk if key.endswith("stays")]
                assert seen == sorted(stays, reverse=descending)
        finally:
            walking = False
            await asyncio.gather(*disturbing)

    async def test_more_tasks_than_connections(self, backend: StorageBackend) -> None:
        """All of 200 operations at once come to an end, each with its own answer."""

        async def cycle(number: int) -> Record:
            await make(backend, f"k{number}", head=b"%d" % number, body=b"%d" % number * 1000)
            return await stored(backend, f"k{number}")

        began = time.monotonic()
        records = await asyncio.gather(*(cycle(number) for number in range(100)))
        assert time.monotonic() - began < PATIENCE
        for number, record in enumerate(records):
            assert (record.head, record.body) == (b"%d" % number, b"%d" % number * 1000)
