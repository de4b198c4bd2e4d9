"""What the chapters on the stores stand on: an open store of values, and short ways to say what is done."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any, Final, TypeVar

import attrs
import pytest_asyncio

from flowpersist import KeyRing
from flowpersist.backends.base import Page
from flowpersist.stores import Loaded, Stores
from flowpersist.testing.hubs import open_test_hub
from flowpersist.testing.suite.ground import BackendFactory, Reached

__all__ = ["HOUR", "RING", "SECOND", "SOON", "Order", "StoreGround", "there", "walked"]

T = TypeVar("T")
SECOND: Final = timedelta(seconds=1)
HOUR: Final = timedelta(hours=1)
SOON: Final = timedelta(milliseconds=50)
RING: Final = KeyRing.generate()


@attrs.frozen
class Order:
    """A value of a class of the user's."""

    number: int


class StoreGround(Reached):
    """A test class derives from ``ValueConformance`` and gives ``url`` or ``make_backend``."""

    @pytest_asyncio.fixture
    async def stores(self, make_backend: BackendFactory) -> AsyncIterator[Stores]:
        """The stores on a hub that is open on the backend."""
        async with open_test_hub(make_backend(), keyring=RING, types=[Order]) as hub:
            yield Stores(hub)


def there(loaded: Loaded[Any] | None) -> Any:  # noqa: ANN401 - its parts are compared with whatever a test expects
    """A value that must be there."""
    assert loaded is not None, "a value is gone"
    return loaded


async def walked(page: Callable[..., Awaitable[Page[T]]], **asked: Any) -> list[T]:  # noqa: ANN401 - of items or keys
    """All that is on the pages, in their order."""
    found: list[T] = []
    after: str | None = None
    while True:
        one = await page(after=after, **asked)
        found += one.items
        after = one.next
        if after is None:
            return found
