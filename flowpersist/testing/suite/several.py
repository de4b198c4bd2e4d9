"""Several records at once: pages with bodies, and reads of many references."""

from __future__ import annotations

import asyncio
from typing import Final

import pytest

from flowpersist.backends.base import (
    MAX_BODIES_BYTES,
    MAX_REFS,
    Order,
    Range,
    Record,
    RecordRef,
    StorageBackend,
    Where,
)
from flowpersist.testing.suite.ground import (
    MEBIBYTE,
    NAMESPACE,
    SOON,
    Ground,
    change,
    largest,
    later,
    make,
    ref,
    stored,
)

__all__ = ["Several"]

#: Of several ways in which stores keep them.
SIZES: Final = (None, 0, 1, 4096, 16 * 1024 + 1, 70_000, 300_000)
_ALL: Final = Where()
ORDERS: Final[tuple[Order, ...]] = ("key", "created", "updated", "due")


def _body(number: int, size: int | None) -> bytes | None:
    return None if size is None else bytes([number + 1]) * size


async def _walk(
    backend: StorageBackend,
    where: Where = _ALL,
    *,
    order: Order = "key",
    limit: int,
    descending: bool = False,
) -> list[tuple[Record, ...]]:
    """The records of each page."""
    pages: list[tuple[Record, ...]] = []
    after: str | None = None
    while True:
        page = await backend.query(
            NAMESPACE, where, order=order, limit=limit, after=after, descending=descending, bodies=True
        )
        assert page.unreadable == ()
        pages.append(page.items)
        after = page.next
        if after is None:
            return pages


class Several(Ground):
    """Each record comes as if it had been read alone."""

    async def _sized(self, backend: StorageBackend) -> dict[str, Record]:
        for number, size in enumerate(SIZES):
            key = f"k{number}"
            due = SOON + later(number)
            await make(backend, key, attributes={"status": "x"}, head=b"h", body=_body(number, size), due_at=due)
            backend.clock_offset += later(1)
        return {f"k{number}": await stored(backend, f"k{number}") for number in range(len(SIZES))}

    async def test_a_page_brings_bodies_if_asked(self, backend: StorageBackend) -> None:
        made = await self._sized(backend)
        for order in ORDERS:
            for descending in (False, True):
                expected = list(made.values())[:: -1 if descending else 1]
                for limit in (1, 3, 100):
                    for where in (Where(), Where({"status": "x"})):
                        walk = await _walk(backend, where, order=order, limit=limit, descending=descending)
                        assert [record for page in walk for record in page] == expected, (order, descending, limit)
                        assert all(len(page) <= limit for page in walk)
        page = await backend.query(NAMESPACE, Where(), limit=100)
        assert [record.body for record in page.items] == [None] * len(SIZES)
        assert [record.body_size for record in page.items] == list(SIZES)

    async def test_the_last_of_a_prefix_with_its_body(self, backend: StorageBackend) -> None:
        made = await self._sized(backend)
        where = Where(range=Range("key", prefix="k"))
        page = await backend.query(NAMESPACE, where, limit=1, descending=True, bodies=True)
        assert page.items == (made[f"k{len(SIZES) - 1}"],)

    async def test_a_page_ends_before_its_bodies_take_too_much(self, backend: StorageBackend) -> None:
        size = largest(backend, 6 * MEBIBYTE)
        count = MAX_BODIES_BYTES // size + 2 if size > MEBIBYTE else 3
        for number in range(count):
            await make(backend, f"k{number:03}", body=_body(number % 200, size))
        for descending in (False, True):
            walk = await _walk(backend, limit=100, descending=descending)
            assert max(sum(len(record.body or b"") for record in page) for page in walk) <= MAX_BODIES_BYTES
            keys = [record.ref.key for page in walk for record in page]
            assert keys == sorted((f"k{number:03}" for number in range(count)), reverse=descending)
            for record in (record for page in walk for record in page):
                assert record.body == _body(int(record.ref.key[1:]) % 200, size)
        plain = await backend.query(NAMESPACE, Where(), limit=100)
        assert len(plain.items) == count

    async def test_a_body_that_is_too_large_for_a_page_comes_alone(self, backend: StorageBackend) -> None:
        size = largest(backend, MAX_BODIES_BYTES + 1)
        await make(backend, "a", body=b"a")
        await make(backend, "b", body=bytes(size))
        await make(backend, "c", body=b"c")
        walk = await _walk(backend, limit=100)
        assert [record.ref.key for page in walk for record in page] == ["a", "b", "c"]
        if size > MAX_BODIES_BYTES:
            assert [len(page) for page in walk] == [1, 1, 1]
        (large,) = [record for page in walk for record in page if record.ref.key == "b"]
        assert large.body == bytes(size)

    async def test_many_are_read_each_for_itself(self, backend: StorageBackend) -> None:
        made = await self._sized(backend)
        other = RecordRef("conformance.other", "k0")
        await backend.put(other, change(head=b"other", body=b"other"), if_revision=0)
        refs = [ref("k3"), ref("nobody"), other, *(ref(key) for key in made), ref("k3")]
        reads = await backend.get_many(refs)
        assert reads.now.utcoffset() is not None
        first, nobody, apart, *rest, last = reads.records
        assert (first, nobody, last) == (made["k3"], None, made["k3"])
        assert isinstance(apart, Record)
        assert (apart.ref, apart.body) == (other, b"other")
        assert rest == list(made.values())
        plain = await backend.get_many(refs, body=False)
        for whole, without in zip(reads.records, plain.records, strict=True):
            read = None if whole is None else (await backend.get(whole.ref, body=False)).record  # type: ignore[arg-type]
            assert without == read

    async def test_none_and_too_many(self, backend: StorageBackend) -> None:
        reads = await backend.get_many([])
        assert reads.records == ()
        assert abs((reads.now - (await backend.ping()).now).total_seconds()) < 60
        with pytest.raises(ValueError, match=str(MAX_REFS)):
            await backend.get_many([ref("a")] * (MAX_REFS + 1))

    async def test_as_many_as_may_be(self, backend: StorageBackend) -> None:
        await make(backend, "k500", head=b"here", body=b"b")
        reads = await backend.get_many([ref(f"k{number}") for number in range(MAX_REFS)])
        found = {number: one for number, one in enumerate(reads.records) if one is not None}
        assert list(found) == [500]

    async def test_record_and_body_are_of_one_revision_here_too(self, backend: StorageBackend) -> None:
        writing = True

        async def read() -> int:
            looks = 0
            while writing:
                page = await backend.query(NAMESPACE, Where(), limit=5, bodies=True)
                reads = await backend.get_many([ref("a"), ref("b")])
                for record in (*page.items, *reads.records):
                    assert isinstance(record, Record)
                    assert record.body == record.head * (50_000 if record.ref.key == "a" else 10)
                looks += 1
                await asyncio.sleep(0)
            return looks

        async def write(key: str, mark: bytes) -> None:
            await backend.put(ref(key), change(head=mark, body=mark * (50_000 if key == "a" else 10)))

        await write("a", b"0")
        await write("b", b"0")
        readers = [asyncio.ensure_future(read()) for _ in range(2)]
        for number in range(30):
            for key in "ab":
                await write(key, b"%d" % (number % 10))
            await asyncio.sleep(0)
        writing = False
        assert all(await asyncio.gather(*readers))
