"""Damaged records: each costs itself alone. The rest of a page comes, cursors go on, and nothing spins.

A backend's test gives the fixture ``damages``: ways to spoil a record that is stored, by the server's own client and
not by the backend. Each is a ``Damage`` with a name and a coroutine function that takes the record's reference. The
suite makes records round the spoilt ones and looks at what becomes of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
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

# What can be tried in two ways takes turns by the damages: a server would take a minute for both.

#: Seconds in which an operation ends, whatever stands in a row.
BRIEF: Final = 20
#: Damages that are looked at together: to walk round each alone would take a server minutes.
TOGETHER: Final = 8
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


@frozen
class Befallen:
    """Records with their revisions, in one order by everything. Those that a damage has befallen stand between sound
    ones, two of each damage side by side, so that a page may hold nothing else.
    """

    made: Mapping[str, int]
    damages: Mapping[str, Damage]

    @property
    def good(self) -> list[str]:
        return [key for key in self.made if key not in self.damages]

    @property
    def pairs(self) -> Iterable[tuple[Damage, str, str]]:
        """Each damage and the two records that it has befallen."""
        keys = list(self.damages)
        for first, second in zip(keys[::2], keys[1::2], strict=True):
            yield self.damages[first], first, second

    @property
    def window(self) -> Where:
        first, *_, last = self.made
        return Where({}, Range("key", since=first, before=f"{last}~"))

    def __str__(self) -> str:
        return ", ".join(damage.name for damage, _, _ in self.pairs)


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
        turn = False
        async for befallen in _spoilt(backend, spoiling):
            turn = not turn
            good += befallen.good
            await _check_by_key(backend, befallen)
            await _check_several(backend, befallen, limit=1 if turn else 100)
            await _check_pages(backend, befallen, backwards=turn)
            for order in ("created", "due"):
                # The first page of all, where what can't be ordered may come first.
                async with asyncio.timeout(BRIEF):
                    page = await backend.query(NAMESPACE, Where({"status": "x"}), order=order, limit=3)
                seen = [record.ref.key for record in page.items if record.ref.key in good]
                assert seen == good[: len(seen)], f"{befallen}, by {order}"
                assert seen or page.next is not None, f"{befallen}, by {order}"
        await _check_orders(backend, good)

    async def test_writes_to_a_damaged_record_end(self, backend: StorageBackend, spoiling: Sequence[Damage]) -> None:
        number = 0
        async for befallen in _spoilt(backend, spoiling):
            for damage, first, second in befallen.pairs:
                number += 1
                made = befallen.made[first]
                far = (made + 1, 2**62, LAST)
                for turn, expected in enumerate((0, made, far[number % 3], None), number):
                    await _write(backend, damage, first, expected, whole=turn % 2 == 0)
                for expected in (far[(number + 1) % 3], befallen.made[second], None):
                    await _typed(backend.delete(ref(second), if_revision=expected), damage, f"delete at {expected}")
            # What was done to them, the rest can still be changed, and goes.
            for key in befallen.good:
                record = (await backend.get(ref(key))).record
                assert record is not None
                await backend.put(ref(key), change(head=b"new"), if_revision=record.revision)

    async def test_purges_go_past_damaged_records(
        self, backend: StorageBackend, spoiling: Sequence[Damage], caplog: pytest.LogCaptureFixture
    ) -> None:
        async for befallen in _spoilt(backend, spoiling):
            caplog.clear()
            async with asyncio.timeout(BRIEF):
                purged = await backend.purge(NAMESPACE, befallen.window, limit=100)
                assert len(befallen.good) <= purged <= len(befallen.made), str(befallen)
            for key in befallen.good:
                assert (await backend.get(ref(key))).record is None, f"{befallen}: {key} is still there"
            for key, damage in befallen.damages.items():
                if damage.listed and not damage.readable and await _stands(backend, key):
                    assert key in caplog.text, f"{damage.name}: the purge does not say what it passed over"


async def _spoilt(backend: StorageBackend, damages: Sequence[Damage]) -> AsyncIterator[Befallen]:
    """Records that some damages at a time have befallen. What the store refuses is left out."""
    count = 0
    for start in range(0, len(damages), TOGETHER):
        made: dict[str, int] = {}
        befallen: dict[str, Damage] = {}
        last = start
        for number, damage in enumerate(damages[start : start + TOGETHER], start):
            keys = [f"{number:03}-{one}" for one in range(3)]
            made.update([await _made(backend, key, number, one) for one, key in enumerate(keys)])
            try:
                for key in keys[1:]:
                    await damage.apply(ref(key))
            except Refused:
                # They are as they were: of no use to this test, and in nobody's way.
                for key in keys:
                    await backend.delete(ref(key), if_revision=made.pop(key))
                continue
            befallen.update(dict.fromkeys(keys[1:], damage))
            last = number
        if befallen:
            key, revision = await _made(backend, f"{last:03}-3", last, 3)
            made[key] = revision
            count += len(befallen) // 2
            yield Befallen(made, befallen)
    assert 2 * count > len(damages), "the store has refused most of the damages: they test nothing"


async def _made(backend: StorageBackend, key: str, number: int, one: int) -> tuple[str, int]:
    """A record that comes after all before it by whatever they are ordered."""
    backend.clock_offset += timedelta(seconds=1)
    due = SOON + later(100 * number + one)
    attributes = {"status": "x", "count": one, "share": 0.5, "live": True, "free": "text"}
    put = make(backend, key, attributes=attributes, head=b"head", body=b"body", due_at=due)
    return key, (await put).revision


async def _check_by_key(backend: StorageBackend, befallen: Befallen) -> None:
    for number, (key, damage) in enumerate(befallen.damages.items()):
        # Of two that the same has befallen, one is read with its body.
        try:
            async with asyncio.timeout(BRIEF):
                read = await backend.get(ref(key), body=number % 2 == 0)
        except IntegrityError as error:
            assert key in str(error), f"{damage.name}: the error does not name the record"
            assert "restore" in str(error), f"{damage.name}: the error names no remedy"
        else:
            # Where the key itself is what was damaged, nothing is there.
            gone = read.record is None and not damage.listed
            assert damage.readable or gone, f"{damage.name}: read as {read.record}"


async def _check_pages(backend: StorageBackend, befallen: Befallen, *, backwards: bool) -> None:
    rest = befallen.good
    for limit, descending in ((1, backwards), (100, not backwards)):
        name = f"{befallen}, {limit} a page"
        seen, named = await _walk(backend, befallen.window, name, limit=limit, descending=descending)
        assert [key for key in seen if key not in befallen.damages] == (rest[::-1] if descending else rest), name
        assert named <= set(befallen.damages), f"{name}: sound ones are called unreadable"
        for key, damage in befallen.damages.items():
            assert key in named or damage.readable or not damage.listed, f"{damage.name}: not named in unreadable"


async def _check_several(backend: StorageBackend, befallen: Befallen, *, limit: int) -> None:
    """Reads of many, and pages with bodies: what is sound comes whole."""
    for body in (True, False):
        async with asyncio.timeout(BRIEF):
            reads = await backend.get_many([ref(key) for key in befallen.made], body=body)
        for key, one in zip(befallen.made, reads.records, strict=True):
            damage = befallen.damages.get(key)
            if damage is not None:
                gone = one is None and not damage.listed
                assert damage.readable or gone or isinstance(one, Unreadable), f"{damage.name}: read as {one}"
            else:
                assert isinstance(one, Record), f"{befallen}: {key} comes as {one}"
                assert one.body == (b"body" if body else None)
    name = f"{befallen}, {limit} a page with bodies"
    seen: dict[str, bytes | None] = {}
    after: str | None = None
    while True:
        async with asyncio.timeout(BRIEF):
            page = await backend.query(NAMESPACE, befallen.window, limit=limit, after=after, bodies=True)
        seen.update({record.ref.key: record.body for record in page.items})
        assert page.next is None or page.next != after, name
        after = page.next
        if after is None:
            break
    assert {key: body for key, body in seen.items() if key not in befallen.damages} == dict.fromkeys(
        befallen.good, b"body"
    ), name


async def _check_orders(backend: StorageBackend, good: Sequence[str]) -> None:
    """With all that is damaged standing there at once."""
    for order in ORDERS:
        for limit, descending in ((10, False), (100, True)):
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
