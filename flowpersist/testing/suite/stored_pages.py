"""Pages of a store: every odd key, prefixes, orders, and walks beside writers."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable

import pytest

from flowpersist.errors import InputValidationError
from flowpersist.stores import Stores
from flowpersist.testing.suite.ground import LONG
from flowpersist.testing.suite.store_ground import StoreGround, there, walked

__all__ = ["StoredPages"]

#: Keys of every odd kind, and what begins them.
ODD = [
    "",
    " ",
    "a",
    "a/b",
    "a\x00",
    "a\x00b",
    "\x00",
    "\x01",
    "\x02",
    "\x02\x01",
    "\x7f",
    "a\ud800",
    "a\ufffd",
    "\udfff",
    "ä",
    "a\u0308",
    "\U0010ffff",
    "\U0010ffff\U0010ffff",
    "%_*?[]{}'\"\\;--",
    "$where",
    "../../etc/passwd",
    "CON",
    "a" * 479,
    "a" * 480,
    "a" * 481,
    "a" * 5000,
    "a" * 4999 + "b",
]


async def at_once(call: Callable[[str], Awaitable[None]], keys: Iterable[str]) -> None:
    """One call for each key, few at a time."""
    limiter = asyncio.Semaphore(8)

    async def limited(key: str) -> None:
        async with limiter:
            await call(key)

    await asyncio.gather(*map(limited, keys))


class StoredPages(StoreGround):
    """What is there throughout a walk is seen exactly once, and prefixes find all that they begin."""

    @pytest.mark.parametrize("listed", [False, True], ids=["digests", "listed"])
    async def test_odd_keys_are_keys_of_their_own(self, stores: Stores, *, listed: bool) -> None:
        values = stores.values("odd", str, listed=listed)

        async def saved(key: str) -> None:
            await values.save(key, "text", if_revision=0)
            await values.save((key, 7), "part", if_revision=0)

        async def looked(key: str) -> None:
            assert there(await values.load(key)).key == key
            assert there(await values.load((key, 7))).value == "part"
            assert {*(await values.keys((key,))).items} == {key, (key, 7)}

        await at_once(saved, ODD)
        await at_once(looked, ODD)
        found = await walked(values.keys, limit=7)
        assert Counter(found) == Counter([*ODD, *((key, 7) for key in ODD)])
        assert await values.load("b") is None

    async def test_prefixes_of_listed_keys_find_all_they_begin_and_nothing_else(self, stores: Stores) -> None:
        values = stores.values("odd", str, listed=True)
        await values.save_many({key: key for key in ODD})

        async def looked(prefix: str) -> None:
            found = await walked(values.keys, prefix=prefix, limit=10)
            assert Counter(found) == Counter(key for key in ODD if key.startswith(prefix)), prefix[:20]

        await at_once(looked, [*ODD, "a" * 300, "a" * 4999])
        short = [key for key in ODD if len(key) < 100 and not any(0xD800 <= ord(c) < 0xE000 for c in key)]
        in_order = [key for key in await walked(values.keys) if key in short]
        assert in_order == sorted(short, key=lambda key: key.encode())

    @pytest.mark.parametrize("listed", [False, True], ids=["digests", "listed"])
    async def test_integers_are_in_order_and_the_last_comes_in_one_query(self, stores: Stores, *, listed: bool) -> None:
        values = stores.values("log", int, listed=listed)
        numbers = [-(2**200), -17, -16, -1, 0, 1, 9, 10, 255, 256, 2**64, 2**200]
        agents = ("agent", "another")
        await values.save_many({(who, number): number for who in agents for number in [*numbers[::2], *numbers[1::2]]})
        assert [key[1] for key in (await values.keys(("agent",))).items] == numbers
        last = await values.items(("agent",), descending=True, limit=1)
        assert [item.value for item in last.items] == [2**200]

    async def test_a_walk_sees_each_key_once_while_others_come_and_go(self, stores: Stores) -> None:
        values = stores.values("many", int, listed=True)
        count = 100_000 if LONG else 120
        for start in range(0, count, 1000):
            await values.save_many({f"{number:06}": number for number in range(start, min(start + 1000, count))})
        found, after, rounds = [], None, 0
        while True:
            page = await values.items(limit=50, after=after)
            found += [item.value for item in page.items if item.value >= 0]
            await values.save(f"{rounds * 37 % count:06}+", -1)
            await values.delete(f"{(rounds - 1) * 37 % count:06}+")
            rounds, after = rounds + 1, page.next
            if after is None:
                break
        assert found == list(range(count))

    async def test_pages_by_attribute_and_time(self, stores: Stores) -> None:
        values = stores.values("v", int)
        for number in range(6):
            await values.save(("thread", str(number)), number, attributes={"even": number % 2 == 0})
        await values.save(("other", "1"), 9, attributes={"even": True})
        found = await walked(values.items, where={"even": True}, order="created")
        assert [item.value for item in found] == [0, 2, 4, 9]
        await values.save(("thread", "0"), 10, attributes={"even": True})
        newest = await values.items(("thread",), order="updated", descending=True, limit=1)
        assert [item.value for item in newest.items] == [10]
        assert await values.delete_many(("thread",)) == 6
        assert [item.value async for item in values.iterate()] == [9]
        with pytest.raises(InputValidationError):
            await values.keys(after="no cursor")
