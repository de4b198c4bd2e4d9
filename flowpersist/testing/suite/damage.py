"""Damaged records: each costs itself alone. The rest of a page comes, cursors go on, and nothing spins.

A backend's test gives the fixture ``damages``: ways to spoil a record that is stored, by the server's own client and
not by the backend. Each is a ``Damage`` with a name and a coroutine function that takes the record's reference. The
suite makes records round the spoilt ones and looks at what becomes of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from datetime import timedelta
from typing import Final

import pytest
from attrs import frozen

from flowpersist.backends.base import (
    KEEP,
    Order,
    Range,
    Record,
    RecordChange,
    RecordRef,
    StorageBackend,
    Unreadable,
    Where,
)
from flowpersist.errors import IntegrityError, PersistenceError, RevisionConflict
from flowpersist.testing.suite.ground import NAMESPACE, SOON, Ground, change, later, make, ref

__all__ = ["Damage", "Damaged", "Refused"]

#: Seconds in which an operation ends, whatever stands in a row.
BRIEF: Final = 20
#: Of the records of one damage, those that are spoilt: two side by side, so that a page may hold nothing else.
KEYS: Final = range(6)
SPOILT: Final = (2, 3)
ORDERS: Final[tuple[Order, ...]] = ("key", "created", "updated", "due")
LAST: Final = 2**63 - 1


class Refused(Exception):
    """The store itself does not take this damage."""


@frozen
class Damage:
    """A way to spoil a record. ``readable``: it may still be read, by key and in pages. ``listed``: pages in the order
    of keys name it; not where its very key, or its place in an index, is what was spoilt.
    """

    name: str
    apply: Callable[[RecordRef], Awaitable[object]]
    readable: bool = False
    listed: bool = True


class Damaged(Ground):
    """By its key a damaged record is an ``IntegrityError``; pages leave it out, and name it."""

    @pytest.fixture
    def damages(self) -> Iterable[Damage]:
        """What can befall a stored record. None: nothing but the primitive leads to the store."""
        return ()

    @pytest.fixture
    def spoiling(self, damages: Iterable[Damage]) -> Sequence[Damage]:
        """The same; tests of it are skipped where there are none."""
        found = tuple(damages)
        if not found:
            pytest.skip("nothing says how a stored record can be damaged: give the fixture damages")
        return found

    async def test_a_damaged_record_costs_itself_alone(
        self, backend: StorageBackend, spoiling: Sequence[Damage]
    ) -> None:
        good: list[str] = []
        async for damage, made in _spoilt(backend, spoiling):
            keys = list(made)
            good += [key for number, key in enumerate(keys) if number not in SPOILT]
            await _check_by_key(backend, damage, keys)
            await _check_several(backend, damage, keys)
            await _check_pages(backend, damage, keys)
            for order in ("created", "due"):
                # The first page of all, where what can't be ordered may come first.
                async with asyncio.timeout(BRIEF):
                    page = await backend.query(NAMESPACE, Where({"status": "x"}), order=order, limit=3)
                seen = [record.ref.key for record in page.items if record.ref.key in good]
                assert seen == good[: len(seen)], f"{damage.name}, by {order}"
                assert seen or page.next is not None, f"{damage.name}, by {order}"
        await _check_orders(backend, good)

    async def test_writes_to_a_damaged_record_end(self, backend: StorageBackend, spoiling: Sequence[Damage]) -> None:
        async for damage, made in _spoilt(backend, spoiling):
            keys = list(made)
            first, second = _bad(keys)
            for expected in (0, made[first], made[first] + 1, 2**62, LAST, None):
                for whole in (True, False):
                    await _write(backend, damage, first, expected, whole=whole)
            for expected in (made[second] + 1, 2**62, LAST, made[second], None):
                await _typed(backend.delete(ref(second), if_revision=expected), damage, f"delete at {expected}")
            # What was done to it, the rest can still be changed, and goes.
            for key in (keys[0], keys[-1]):
                record = (await backend.get(ref(key))).record
                assert record is not None
                await backend.put(ref(key), change(head=b"new"), if_revision=record.revision)

    async def test_purges_go_past_damaged_records(
        self, backend: StorageBackend, spoiling: Sequence[Damage], caplog: pytest.LogCaptureFixture
    ) -> None:
        async for damage, made in _spoilt(backend, spoiling):
            keys = list(made)
            caplog.clear()
            bad = _bad(keys)
            async with asyncio.timeout(BRIEF):
                purged = await backend.purge(NAMESPACE, _window(keys), limit=100)
                assert len(keys) - len(bad) <= purged <= len(keys), damage.name
                for key in keys:
                    if key not in bad:
                        assert (await backend.get(ref(key))).record is None, f"{damage.name}: {key} is still there"
            if damage.listed and not damage.readable:
                for key in bad:
                    if await _stands(backend, key):
                        assert key in caplog.text, f"{damage.name}: the purge does not say what it passed over"


async def _spoilt(backend: StorageBackend, damages: Sequence[Damage]) -> AsyncIterator[tuple[Damage, dict[str, int]]]:
    """For each damage some records with their revisions, in one order by everything; it has befallen some of them."""
    befallen = 0
    for number, damage in enumerate(damages):
        made: dict[str, int] = {}
        for one in KEYS:
            key = f"{number:03}-{one}"
            backend.clock_offset += timedelta(seconds=1)
            due = SOON + later(100 * number + one)
            attributes = {"status": "x", "count": one, "share": 0.5, "live": True, "free": "text"}
            put = make(backend, key, attributes=attributes, head=b"head", body=b"body", due_at=due)
            made[key] = (await put).revision
        try:
            for key in _bad(list(made)):
                await damage.apply(ref(key))
        except Refused:
            # They are as they were: of no use to this test, and in nobody's way.
            for key, revision in made.items():
                await backend.delete(ref(key), if_revision=revision)
            continue
        befallen += 1
        yield damage, made
    assert 2 * befallen > len(damages), "the store has refused most of the damages: they test nothing"


def _bad(keys: Sequence[str]) -> list[str]:
    return [keys[number] for number in SPOILT]


def _window(keys: Sequence[str]) -> Where:
    """The records of one damage."""
    return Where({}, Range("key", since=keys[0], before=keys[0][:-1] + "~"))


async def _check_by_key(backend: StorageBackend, damage: Damage, keys: Sequence[str]) -> None:
    for key in _bad(keys):
        for body in (True, False):
            try:
                async with asyncio.timeout(BRIEF):
                    read = await backend.get(ref(key), body=body)
            except IntegrityError as error:
                assert key in str(error), f"{damage.name}: the error does not name the record"
                assert "restore" in str(error), f"{damage.name}: the error names no remedy"
            else:
                # Where the key itself is what was damaged, nothing is there.
                gone = read.record is None and not damage.listed
                assert damage.readable or gone, f"{damage.name}: read as {read.record}"


async def _check_pages(backend: StorageBackend, damage: Damage, keys: Sequence[str]) -> None:
    bad = set(_bad(keys))
    rest = [key for key in keys if key not in bad]
    for limit in (1, 100):
        for descending in (False, True):
            name = f"{damage.name}, {limit} a page"
            seen, named = await _walk(backend, _window(keys), name, limit=limit, descending=descending)
            assert [key for key in seen if key not in bad] == (rest[::-1] if descending else rest), name
            assert named <= bad, f"{name}: sound ones are called unreadable"
            assert named == bad or damage.readable or not damage.listed, f"{name}: not named in unreadable"


async def _check_several(backend: StorageBackend, damage: Damage, keys: Sequence[str]) -> None:
    """Reads of many, and pages with bodies: what is sound comes whole."""
    bad = set(_bad(keys))
    for body in (True, False):
        async with asyncio.timeout(BRIEF):
            reads = await backend.get_many([ref(key) for key in keys], body=body)
        for key, one in zip(keys, reads.records, strict=True):
            if key in bad:
                gone = one is None and not damage.listed
                assert damage.readable or gone or isinstance(one, Unreadable), f"{damage.name}: read as {one}"
            else:
                assert isinstance(one, Record), f"{damage.name}: {key} comes as {one}"
                assert one.body == (b"body" if body else None)
    for limit in (1, 100):
        name = f"{damage.name}, {limit} a page with bodies"
        seen: dict[str, bytes | None] = {}
        after: str | None = None
        while True:
            async with asyncio.timeout(BRIEF):
                page = await backend.query(NAMESPACE, _window(keys), limit=limit, after=after, bodies=True)
            seen.update({record.ref.key: record.body for record in page.items})
            assert page.next is None or page.next != after, name
            after = page.next
            if after is None:
                break
        assert {key: body for key, body in seen.items() if key not in bad} == {
            key: b"body" for key in keys if key not in bad
        }, name


async def _check_orders(backend: StorageBackend, good: Sequence[str]) -> None:
    """With all that is damaged standing there at once."""
    for order in ORDERS:
        for descending in (False, True):
            for limit in (10, 100):
                name = f"by {order}, {limit} a page"
                seen, _ = await _walk(backend, Where(), name, order=order, limit=limit, descending=descending)
                assert [key for key in seen if key in good] == list(reversed(good) if descending else good), name


async def _walk(
    backend: StorageBackend,
    where: Where,
    name: str,
    *,
    order: Order = "key",
    limit: int,
    descending: bool = False,
) -> tuple[list[str], set[str]]:
    """The keys of a walk, and of those that were left out."""
    seen: list[str] = []
    named: set[str] = set()
    after: str | None = None
    cursors: set[str] = set()
    while True:
        async with asyncio.timeout(BRIEF):
            page = await backend.query(NAMESPACE, where, order=order, limit=limit, after=after, descending=descending)
        assert len(page.items) <= limit, name
        seen += [record.ref.key for record in page.items]
        named |= {one.ref.key for one in page.unreadable if one.ref is not None}
        assert all(isinstance(one.error, IntegrityError) for one in page.unreadable), name
        if page.next is None:
            return seen, named
        assert page.next not in cursors, f"{name}: the walk by {order} comes to the same place again"
        cursors.add(page.next)
        after = page.next


async def _typed(operation: Awaitable[object], damage: Damage, what: str) -> object:
    """What an operation gives, or None where it is refused as the contract says."""
    try:
        async with asyncio.timeout(BRIEF):
            return await operation
    except TimeoutError:
        raise AssertionError(f"{damage.name}: {what} does not end") from None
    except PersistenceError:
        return None


async def _write(backend: StorageBackend, damage: Damage, key: str, expected: int | None, *, whole: bool) -> None:
    parts = {"attributes": {"status": "y"}, "head": b"new", "body": b"new", "due_at": SOON} if whole else {}
    changed = change(**parts) if whole else RecordChange("kept", KEEP, KEEP, KEEP, KEEP)
    written = await _typed(backend.put(ref(key), changed, if_revision=expected), damage, f"put at {expected}")
    if written is not None and expected == 0:
        # Only where none was live: then it is whole, and nobody else can make it again.
        assert (await backend.get(ref(key))).record is not None, damage.name
        with pytest.raises(RevisionConflict):
            await backend.put(ref(key), change(), if_revision=0)


async def _stands(backend: StorageBackend, key: str) -> bool:
    try:
        return (await backend.get(ref(key))).record is not None
    except IntegrityError:
        return True
