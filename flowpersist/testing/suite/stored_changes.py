"""Watching a store: changes as they come, and all values again after a lost connection."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from datetime import timedelta
from typing import Any, cast

import pytest

from flowpersist.backends.base import Capability
from flowpersist.sealed.retrying import Runtime
from flowpersist.stores import Change, Stores
from flowpersist.testing.hubs import open_test_hub, travel
from flowpersist.testing.proxy import Proxy
from flowpersist.testing.suite.ground import PATIENCE, BackendFactory
from flowpersist.testing.suite.store_ground import HOUR, RING, SECOND, SOON, StoreGround

__all__ = ["StoredChanges"]

#: What is logged when a watch has noticed that the store is away.
NOTICED = re.compile("can't be read, trying again|changes are not heard of")


def watched(changes: AsyncIterator[Change[Any]]) -> aclosing[AsyncGenerator[Change[Any], None]]:
    """A watch that ends with its block."""
    return aclosing(cast("AsyncGenerator[Change[Any], None]", changes))


async def told(changes: AsyncIterator[Change[Any]], count: int) -> list[tuple[Any, Any]]:
    """The next changes: key and value, None where it is gone."""
    async with asyncio.timeout(PATIENCE):
        news = [await anext(changes) for _ in range(count)]
    return [(change.key, None if change.loaded is None else change.loaded.value) for change in news]


class StoredChanges(StoreGround):
    """The last state of every key is told."""

    @pytest.mark.parametrize("poll", [SOON, HOUR], ids=["polled", "notified"])
    async def test_changes_are_told(self, stores: Stores, poll: timedelta) -> None:
        """Within an hour where the backend tells of them."""
        if poll == HOUR and Capability.NOTIFICATIONS not in stores.hub.backend.capabilities:
            pytest.skip("this backend does not tell")
        values = stores.values("v", int)
        async with watched(values.watch("a", poll=poll)) as one, watched(values.watch(poll=poll)) as all_of_them:
            first = asyncio.ensure_future(told(all_of_them, 1))
            await asyncio.sleep(0.3)
            await values.save("a", 1)
            assert await first == [("a", 1)]
            assert await told(one, 1) == [("a", 1)]
            await values.save("a", 2)
            await values.save("b", 3)
            assert await told(one, 1) == [("a", 2)]
            assert set(await told(all_of_them, 2)) == {("a", 2), ("b", 3)}
            await values.delete("a")
            assert await told(one, 1) == [("a", None)]
            await values.save("a", 4, ttl=2 * SECOND)
            assert await told(one, 1) == [("a", 4)]
            if poll == SOON:
                # The next look finds it; where nobody looks, the watch knows when it expires.
                travel(stores.hub, 3 * SECOND)
            assert await told(one, 1) == [("a", None)]

    async def test_after_a_lost_connection_the_values_are_told_again(
        self, stores: Stores, proxy: Proxy, make_proxied: BackendFactory, caplog: pytest.LogCaptureFixture
    ) -> None:
        """What has changed meanwhile among them."""
        values = stores.values("v", int)
        await values.save("a", 1)
        await values.save("b", 1)
        # One attempt, so that the watch notices as soon as the driver does that the server is away.
        async with (
            open_test_hub(make_proxied(), keyring=RING, runtime=Runtime(attempts=1)) as hub,
            watched(Stores(hub).values("v", int).watch(poll=SOON)) as changes,
        ):
            assert set(await told(changes, 2)) == {("a", 1), ("b", 1)}
            waiting = asyncio.ensure_future(told(changes, 1))
            async with proxy.away(), asyncio.timeout(PATIENCE):
                await values.save("a", 2)
                while not NOTICED.search(caplog.text):  # noqa: ASYNC110 - a log has no event
                    await asyncio.sleep(0.01)
            seen = dict(await waiting)
            while seen != {"a": 2, "b": 1}:
                seen |= dict(await told(changes, 1))
