"""Queries and purges: equality of every type, ranges, orders, pages, cursors."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Final

import pytest

from flowpersist.backends.base import Order, Page, Range, Record, RecordRef, Scalar, StorageBackend, Where
from flowpersist.testing.suite.ground import NAMESPACE, SOON, Ground, all_pages, change, later, make, ref, stored

__all__ = ["Queries"]

ORDERS: Final[tuple[Order, ...]] = ("key", "created", "updated", "due")
#: Each is another value; a store that mixes up types or rounds numbers finds too many or too few.
DISTINCT: Final[tuple[Scalar, ...]] = (
    True, False, 1, 0, 1.0, 0.0, "1", "0", "1.0", "true", "True", "false", "",
    2**63 - 1, 2**63 - 2, -(2**63), -(2**63) + 1, 2**53, 2**53 + 1, float(2**53),
    0.1, 0.1 + 2**-54, 5e-324, 1.7976931348623157e308, -1, -1.0, "-1",
)  # fmt: skip

#: Keys that begin alike; between and round them the characters after which the order, or a text's end, is hard to tell.
_ODD: Final = "\x01 %_*?[\\'\"~\x7f\x80\u07ff\u0800\ud7ff\ue000\ue001\uffff\U00010000\U0010ffff"
_PREFIXED: Final = (
    "a", "b", "A", *(f"a{odd}" for odd in _ODD), *(f"a{odd}{odd}" for odd in _ODD), *(f"{odd}a" for odd in _ODD),
    *_ODD, "a" * 512, "a" * 511 + "\x7f", "a" * 510 + "\u07ff", "a" * 509 + "\uffff", "a" * 508 + "\U0010ffff",
)  # fmt: skip


async def _keys(backend: StorageBackend, where: Where, order: Order = "key") -> list[str]:
    return await all_pages(backend, where, order=order, limit=50)


class Queries(Ground):
    """What is there throughout a walk is seen exactly once."""

    async def test_equality_is_of_type_and_value(self, backend: StorageBackend) -> None:
        for number, value in enumerate(DISTINCT):
            await make(backend, f"k{number:02}", attributes={"free": value})
        for number, value in enumerate(DISTINCT):
            assert await _keys(backend, Where({"free": value})) == [f"k{number:02}"], repr(value)
            assert (await stored(backend, f"k{number:02}")).attributes == {"free": value}
        assert await _keys(backend, Where({"free": -0.0})) == [f"k{DISTINCT.index(0.0, 4):02}"]

    @pytest.mark.parametrize(
        ("name", "values"),
        [
            ("status", ["waiting", "Waiting", "waiting ", "wäiting", "", "w'\"\\%_*"]),
            ("count", [0, 1, -1, 2**63 - 1, -(2**63)]),
            ("share", [0.0, 0.5, -0.5, 1e300]),
            ("live", [True, False]),
        ],
    )
    async def test_indexed_attributes(self, backend: StorageBackend, name: str, values: list[Scalar]) -> None:
        for number, value in enumerate(values):
            for twin in "ab":
                await make(backend, f"{twin}{number}", attributes={name: value, "tag": twin}, due_at=SOON)
        await make(backend, "without", due_at=SOON)
        for number, value in enumerate(values):
            for order in ORDERS:
                assert await _keys(backend, Where({name: value}), order) == [f"a{number}", f"b{number}"]
            assert await _keys(backend, Where({name: value, "tag": "b"})) == [f"b{number}"]

    async def test_all_conditions_must_hold(self, backend: StorageBackend) -> None:
        await make(backend, "a", attributes={"status": "x", "live": True, "count": 1})
        await make(backend, "b", attributes={"status": "x", "live": False, "count": 1})
        await make(backend, "c", attributes={"status": "y", "live": True})
        assert await _keys(backend, Where({"status": "x", "live": True, "count": 1})) == ["a"]
        assert await _keys(backend, Where({"status": "x", "count": 1})) == ["a", "b"]
        assert await _keys(backend, Where({"status": "x", "count": 2})) == []
        assert await _keys(backend, Where({"never": "x"})) == []

    async def test_an_index_follows_its_record(self, backend: StorageBackend) -> None:
        revision = (await make(backend, "a", attributes={"status": "x"}, due_at=SOON)).revision
        revision = (await backend.put(ref("a"), change(attributes={"status": "y"}), if_revision=revision)).revision
        assert await _keys(backend, Where({"status": "x"})) == []
        assert await _keys(backend, Where({"status": "y"}), "due") == ["a"]
        revision = (await backend.put(ref("a"), change(due_at=None), if_revision=revision)).revision
        assert await _keys(backend, Where({"status": "y"}), "due") == []
        await backend.delete(ref("a"), if_revision=revision)
        assert await _keys(backend, Where({"status": "y"})) == []

    async def test_namespaces_are_apart(self, backend: StorageBackend) -> None:
        await make(backend, "a", attributes={"status": "x"})
        await backend.put(RecordRef("conformance.other", "b"), change(attributes={"status": "x"}), if_revision=0)
        assert await _keys(backend, Where({"status": "x"})) == ["a"]
        assert (await backend.query("conformance.undeclared", Where({"status": "x"}), limit=5)).items == ()

    async def test_keys_are_ordered_by_bytes(self, backend: StorageBackend) -> None:
        keys = [*"AZaz~éß語😀%_\ue000\uffff\x01\x7f", "a ", "a!", "aa", "a'b"]
        for key in keys:
            await make(backend, key)
        ordered = sorted(keys, key=str.encode)
        assert await all_pages(backend, limit=4) == ordered
        assert await all_pages(backend, limit=4, descending=True) == ordered[::-1]

    async def _spread(self, backend: StorageBackend) -> None:
        """Ten records whose four orders differ, a minute apart in each; the last two are never due."""
        now = (await backend.ping()).now
        for number in range(10):
            due = now + later(100 - number) if number < 8 else None
            await make(backend, f"k{(number * 7) % 10}", attributes={"status": "x"}, due_at=due)
            backend.clock_offset += later(1)
        for number in range(10):
            key = f"k{(number * 3) % 10}"
            await backend.put(ref(key), change(), if_revision=(await stored(backend, key)).revision)
            backend.clock_offset += later(1)

    async def test_orders_and_pages(self, backend: StorageBackend) -> None:
        await self._spread(backend)
        created = [f"k{(number * 7) % 10}" for number in range(10)]
        expected: dict[Order, list[str]] = {
            "key": sorted(created),
            "created": created,
            "updated": [f"k{(number * 3) % 10}" for number in range(10)],
            "due": created[:8][::-1],
        }
        for order in ORDERS:
            for limit in (1, 3, 10, 11):
                for where in (Where(), Where({"status": "x"})):
                    walk = await all_pages(backend, where, order=order, limit=limit)
                    assert walk == expected[order]
                    walk = await all_pages(backend, where, order=order, limit=limit, descending=True)
                    assert walk == expected[order][::-1]

    @pytest.mark.parametrize("order", ORDERS)
    async def test_ranges_begin_at_since_and_end_before(self, backend: StorageBackend, order: Order) -> None:
        await self._spread(backend)
        walk = await all_pages(backend, order=order, limit=50)
        records = [await stored(backend, key) for key in walk]
        bounds = [record.ref.key if order == "key" else getattr(record, f"{order}_at") for record in records]
        assert await _keys(backend, Where(range=Range(order, bounds[2], bounds[6]))) == walk[2:6]
        assert await _keys(backend, Where(range=Range(order, bounds[3])), order) == walk[3:]
        assert await _keys(backend, Where({"status": "x"}, Range(order, before=bounds[3]))) == walk[:3]
        assert await _keys(backend, Where(range=Range(order, bounds[4], bounds[4]))) == []
        last = await all_pages(backend, Where(range=Range(order, bounds[1], bounds[5])), limit=2, descending=True)
        assert last == walk[1:5][::-1]

    async def test_a_prefix_is_a_range_of_keys(self, backend: StorageBackend) -> None:
        """Every odd character at the prefix's end, and keys of which it is no beginning on both sides."""
        for key in _PREFIXED:
            await make(backend, key, attributes={"status": "x"}, due_at=SOON)
        ordered = sorted(_PREFIXED, key=str.encode)
        for prefix in ("", *{key[:size] for key in _PREFIXED for size in (1, 2, len(key) - 1, len(key))}, "nothing"):
            expected = [key for key in ordered if key.startswith(prefix)]
            where = Where(range=Range("key", prefix=prefix))
            assert await _keys(backend, where) == expected, ascii(prefix[:20])
            if len(expected) < len(ordered):
                walk = await all_pages(backend, where, limit=2, descending=True)
                assert walk == expected[::-1], ascii(prefix[:20])
        both = Where({"status": "x"}, Range("key", prefix="a"))
        assert await all_pages(backend, both, limit=2) == [key for key in ordered if key.startswith("a")]
        assert await _keys(backend, Where({"status": "y"}, Range("key", prefix="a"))) == []

    async def test_the_last_of_a_prefix(self, backend: StorageBackend) -> None:
        for key in ("a/1", "a/10", "a/2", "a0", "b/1"):
            await make(backend, key)
        page = await backend.query(NAMESPACE, Where(range=Range("key", prefix="a/")), limit=1, descending=True)
        assert [record.ref.key for record in page.items] == ["a/2"]
        rest = await backend.query(
            NAMESPACE, Where(range=Range("key", prefix="a/")), limit=5, descending=True, after=page.next
        )
        assert ([record.ref.key for record in rest.items], rest.next) == (["a/10", "a/1"], None)

    async def test_purge_by_prefix(self, backend: StorageBackend) -> None:
        for key in _PREFIXED:
            await make(backend, key, body=b"b")
        wanted = Where(range=Range("key", prefix="a"))
        begun = [key for key in _PREFIXED if key.startswith("a")]
        assert await backend.purge(NAMESPACE, wanted, limit=2) == 2
        assert await _keys(backend, wanted) == sorted(begun, key=str.encode)[2:]
        assert await backend.purge(NAMESPACE, wanted, limit=100) == len(begun) - 2
        left = [key for key in _PREFIXED if key not in begun]
        assert await all_pages(backend, limit=50) == sorted(left, key=str.encode)

    async def test_a_senseless_prefix_is_refused(self, backend: StorageBackend) -> None:
        for prefix in ("a\0", "\ud800", "x" * 513):
            with pytest.raises(ValueError, match="prefix"):
                Range("key", prefix=prefix)
        with pytest.raises(ValueError, match="prefix"):
            Range("created", prefix="a")
        for bounds in ({"since": "a"}, {"before": "b"}):
            with pytest.raises(ValueError, match="prefix"):
                Range("key", **bounds, prefix="a")
        with pytest.raises(ValueError, match="order"):
            await backend.query(NAMESPACE, Where(range=Range("key", prefix="a")), order="due", limit=1)

    async def test_what_is_not_due_is_not_listed_by_due(self, backend: StorageBackend) -> None:
        await make(backend, "never")
        await make(backend, "once", due_at=SOON)
        await make(backend, "a microsecond later", due_at=SOON + timedelta(microseconds=1))
        assert await _keys(backend, Where(), "due") == ["once", "a microsecond later"]
        assert await _keys(backend, Where(range=Range("due", before=SOON + timedelta(microseconds=1)))) == ["once"]

    async def test_ties_are_ordered_by_key(self, backend: StorageBackend) -> None:
        keys = [f"k{number}" for number in (5, 3, 9, 1, 7)]
        for key in keys:
            await make(backend, key, due_at=SOON)
        assert await all_pages(backend, order="due", limit=2) == sorted(keys)
        assert await all_pages(backend, order="due", limit=2, descending=True) == sorted(keys, reverse=True)

    @pytest.mark.parametrize("descending", [False, True])
    async def test_a_walk_sees_what_stays_once_while_others_write(
        self,
        backend: StorageBackend,
        descending: bool,  # noqa: FBT001 - a parameter of the test
    ) -> None:
        stays = [f"k{number:03}" for number in range(0, self.few, 2)]
        await asyncio.gather(*(make(backend, key, attributes={"status": "x"}) for key in stays))
        fresh = iter(range(1, self.few, 2))

        async def disturb(page: Page[Record]) -> None:
            await make(backend, f"k{next(fresh):03}", attributes={"status": "x"})
            for record in page.items[:1]:
                # Another revision at the same place is the same record.
                await backend.put(record.ref, change(head=b"new"), if_revision=record.revision)

        walk = await all_pages(backend, Where({"status": "x"}), limit=7, descending=descending, between=disturb)
        assert len(walk) == len(set(walk))
        assert [key for key in walk if key in set(stays)] == sorted(stays, reverse=descending)

    async def test_a_page_of_what_is_rewritten_all_the_time(self, backend: StorageBackend) -> None:
        revision = (await make(backend, "busy", attributes={"status": "x"})).revision
        writing = True

        async def look() -> int:
            looks = 0
            while writing:
                assert await _keys(backend, Where({"status": "x"})) == ["busy"]
                looks += 1
                await asyncio.sleep(0)
            return looks

        looking = asyncio.ensure_future(look())
        for _ in range(40):
            revision = (await backend.put(ref("busy"), change(), if_revision=revision)).revision
            await asyncio.sleep(0)
        writing = False
        assert await looking > 0

    @pytest.mark.parametrize(
        "cursor", ["", "x", "!", "bm9uc2Vuc2U", "W10", "é", "WyJkdWUiLGZhbHNlLDEsImsiXQ", "W" * 5000]
    )
    async def test_a_foreign_cursor_is_refused(self, backend: StorageBackend, cursor: str) -> None:
        with pytest.raises(ValueError, match="cursor"):
            await backend.query(NAMESPACE, Where(), limit=1, after=cursor)

    async def test_a_cursor_belongs_to_its_order_and_direction(self, backend: StorageBackend) -> None:
        for key in "abc":
            await make(backend, key, due_at=SOON)
        after = (await backend.query(NAMESPACE, Where(), limit=1)).next
        assert after is not None
        others: list[tuple[Order, bool]] = [("key", True), ("due", False), ("created", False)]
        for order, descending in others:
            with pytest.raises(ValueError, match="cursor"):
                await backend.query(NAMESPACE, Where(), order=order, limit=1, after=after, descending=descending)

    async def test_senseless_queries_are_refused(self, backend: StorageBackend) -> None:
        for limit in (0, -1, True):
            with pytest.raises(ValueError, match="limit"):
                await backend.query(NAMESPACE, Where(), limit=limit)
            with pytest.raises(ValueError, match="limit"):
                await backend.purge(NAMESPACE, Where(), limit=limit)
        with pytest.raises(ValueError, match="order"):
            await backend.query(NAMESPACE, Where(range=Range("due")), order="created", limit=1)

    async def test_purge_takes_what_matches_up_to_its_limit(self, backend: StorageBackend) -> None:
        for number in range(12):
            status = "old" if number % 2 else "new"
            await make(backend, f"k{number:02}", attributes={"status": status}, body=bytes(40_000), due_at=SOON)
        assert await backend.purge(NAMESPACE, Where({"status": "old"}), limit=4) == 4
        assert await _keys(backend, Where({"status": "old"})) == ["k09", "k11"]
        assert await backend.purge(NAMESPACE, Where({"status": "old"}), limit=100) == 2
        assert await backend.purge(NAMESPACE, Where({"status": "old"}), limit=100) == 0
        assert await backend.purge(NAMESPACE, Where(range=Range("due", before=SOON)), limit=100) == 0
        assert len(await _keys(backend, Where())) == 6
        assert await backend.purge(NAMESPACE, Where(range=Range("due", since=SOON)), limit=100) == 6
        assert await _keys(backend, Where()) == []

    async def test_purged_revisions_are_not_used_again(self, backend: StorageBackend) -> None:
        revision = (await make(backend, "a")).revision
        revision = (await backend.put(ref("a"), change(), if_revision=revision)).revision
        await backend.purge(NAMESPACE, Where(), limit=1)
        assert (await make(backend, "a")).revision > revision

    async def test_purging_while_others_write(self, backend: StorageBackend) -> None:
        keys = [f"k{number:03}" for number in range(self.few)]
        made = await asyncio.gather(*(make(backend, key, attributes={"status": "old"}) for key in keys))

        async def rescue(key: str, revision: int) -> bool:
            try:
                await backend.put(ref(key), change(attributes={"status": "kept"}), if_revision=revision)
            except Exception as error:  # noqa: BLE001 - the assertion names what is not expected
                assert type(error).__name__ == "RevisionConflict"
                return False
            return True

        rescues = (rescue(key, one.revision) for key, one in zip(keys[::3], made[::3], strict=True))
        purged, *rescued = await asyncio.gather(
            backend.purge(NAMESPACE, Where({"status": "old"}), limit=1000), *rescues
        )
        assert purged + sum(rescued) == len(keys)
        assert len(await _keys(backend, Where({"status": "kept"}))) == sum(rescued)
        assert await _keys(backend, Where({"status": "old"})) == []
