"""A page costs the same wherever it stands in a collection, on every backend."""

from __future__ import annotations

import os
import statistics
import sys
import time

import pytest

from flowpersist import KeyRing
from flowpersist.stores import Stores
from flowpersist.testing import open_test_hub
from machine import WITH_MEMORY

LONG = os.environ.get("FLOWPERSIST_LONG") == "1"
KEYS = 100_000 if LONG else 400
PAGE = 100 if LONG else 50
RING = KeyRing.generate()


@pytest.fixture(params=WITH_MEMORY)
def backend(request):
    return request.param


@pytest.mark.slow
async def test_every_key_is_on_one_page_and_the_last_page_takes_no_longer_than_the_second(backend, url, capsys):
    """With FLOWPERSIST_LONG=1 of 100,000 keys, and timed, in turns."""
    async with open_test_hub(url, keyring=RING) as hub:
        values = Stores(hub).values("many", int, listed=True)
        for start in range(0, KEYS, 1000):
            await values.save_many({f"{number:06}": number for number in range(start, min(start + 1000, KEYS))})
        found, cursors = [], [None]
        while True:
            page = await values.items(limit=PAGE, after=cursors[-1])
            found += [item.value for item in page.items]
            if page.next is None:
                break
            cursors.append(page.next)
        assert found == list(range(KEYS))
        assert len(cursors) == KEYS // PAGE
        assert len({len(cursor) for cursor in cursors[1:]}) == 1
        if LONG:
            took = {cursor: [] for cursor in (cursors[1], cursors[-1])}
            for after in [*took] * 40:
                began = time.perf_counter()
                await values.items(limit=PAGE, after=after)
                took[after].append((time.perf_counter() - began) * 1000)
            second, last = (statistics.median(times) for times in took.values())
            with capsys.disabled():
                sys.stdout.write(
                    f"\n{backend}: the second of {KEYS // PAGE:,} pages {second:.1f} ms, the last {last:.1f}\n"
                )
            assert min(took[cursors[-1]]) < 2 * min(took[cursors[1]])
