"""How many connections are in use, and who waits for one, where the backend has a pool of them."""

from __future__ import annotations

import asyncio

import pytest

from flowpersist import Maintenance, or_raise
from flowpersist.backends.base import PoolUse
from flowpersist.hub.health import health_data
from flowpersist.testing.hubs import open_test_hub

SIZES = {
    "postgres": ("pool_size", 2),
    "redis": ("pool_size", 2),
    "redis_cluster": ("pool_size", 2),
    "mongodb": ("maxPoolSize", 2),
    "neo4j": ("pool_size", 2),
}


def narrowed(url, backend):
    """The same store, with two connections."""
    name, size = SIZES[backend]
    return f"{url}{'&' if '?' in url else '?'}{name}={size}"


async def test_a_store_at_rest_uses_none_and_one_without_a_pool_says_so(url, backend):
    async with open_test_hub(url) as hub:
        seen = or_raise(await Maintenance(hub).health())
    if backend not in SIZES:
        assert (seen.pool, health_data(seen)["pool"]) == (None, None)
        return
    assert (seen.pool.in_use, seen.pool.waiting) == (0, 0)
    assert seen.pool.size > 0
    assert health_data(seen)["pool"] == {"inUse": 0, "size": seen.pool.size, "waiting": 0}


@pytest.mark.parametrize("backend", SIZES)
async def test_a_store_in_use_tells_how_many_and_who_waits(url, backend):
    async with open_test_hub(narrowed(url, backend)) as hub:
        seen = []

        async def asked():
            seen.extend([(await hub.backend.ping()).pool for _ in range(6)])

        async with asyncio.timeout(120):
            await asyncio.gather(*(asked() for _ in range(12)))
        assert {one.size for one in seen} == {2}
        # A cluster has as many to each of its nodes.
        assert 0 < max(one.in_use for one in seen) <= (2 if backend != "redis_cluster" else 20)
        assert max(one.waiting for one in seen) > 0
        rest = (await hub.backend.ping()).pool
        assert rest == PoolUse(0, 2, 0)
