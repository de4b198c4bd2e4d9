"""What all chapters of the suite stand on: fixtures, and short ways to say what is done."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final, TypeAlias

import pytest
import pytest_asyncio

from flowpersist.backends.base import (
    BodyLimited,
    NamespaceSchema,
    Order,
    Page,
    Record,
    RecordChange,
    RecordRef,
    StorageBackend,
    Where,
    Written,
)
from flowpersist.backends.registry import backend_from_url
from flowpersist.testing.proxy import Proxy, address_of, rerouted

__all__ = [
    "LONG",
    "MEBIBYTE",
    "NAMESPACE",
    "PATIENCE",
    "SCHEMA",
    "SOON",
    "BackendFactory",
    "Ground",
    "Reached",
    "all_pages",
    "change",
    "fill",
    "largest",
    "later",
    "make",
    "opened",
    "ref",
    "stored",
]

BackendFactory: TypeAlias = Callable[[], StorageBackend]
NAMESPACE: Final = "conformance"
SCHEMA: Final = (
    NamespaceSchema(NAMESPACE, {"status": str, "count": int, "share": float, "live": bool}),
    NamespaceSchema("conformance.other", {"status": str}),
)
SOON: Final = datetime(2040, 1, 1, tzinfo=UTC)
#: Seconds after which something will not come any more.
PATIENCE: Final = 60
#: ``FLOWPERSIST_LONG=1`` in the environment.
LONG: Final = os.environ.get("FLOWPERSIST_LONG", "") not in {"", "0"}
MEBIBYTE: Final = 1024 * 1024


class Reached:
    """How a test reaches the store: by the fixture ``url`` or ``make_backend``, and through a proxy."""

    pytestmark = pytest.mark.asyncio

    @pytest.fixture
    def url(self) -> str:
        """The URL of a store that is new for each test."""
        raise NotImplementedError("a conformance test gives the fixture url, or make_backend")

    @pytest.fixture
    def make_backend(self, url: str) -> BackendFactory:
        """What makes a backend, not yet open. Each call gives another one on the same store, new for each test. Must
        pickle where the backend works with several processes.
        """
        return partial(backend_from_url, url)

    @pytest.fixture
    def address(self, request: pytest.FixtureRequest) -> tuple[str, int]:
        """Host and port of the server, as the URL names them. Tests that need a network are skipped without them."""
        try:
            url: str = request.getfixturevalue("url")
        except NotImplementedError:
            pytest.skip("no URL names a server: give the fixtures address and make_proxied beside make_backend")
        found = address_of(url)
        if found is None:
            pytest.skip("no network leads to the store, or several addresses do: nothing can be put between")
        return found

    @pytest_asyncio.fixture
    async def proxy(self, address: tuple[str, int]) -> AsyncIterator[Proxy]:
        """A proxy in front of the server."""
        async with Proxy(*address) as proxy:
            yield proxy

    @pytest.fixture
    def make_proxied(self, proxy: Proxy, request: pytest.FixtureRequest) -> BackendFactory:
        """As ``make_backend``, by way of the proxy."""
        # Asked for once it is known that there is one.
        url: str = request.getfixturevalue("url")
        return partial(backend_from_url, rerouted(url, proxy.address))


class Ground(Reached):
    """A test class derives from ``BackendConformance`` and gives ``url`` or ``make_backend``; sizes may be changed."""

    #: Rounds of each race, tasks that race, processes that race, processes that open the store at once.
    race_rounds = 500 if LONG else 10
    racers = 32
    processes = 8 if LONG else 3
    openers = 20 if LONG else 4
    #: Records that are walked through while others write, and in a walk of all.
    few = 120
    many = 100_000 if LONG else 2_000
    #: In bytes; less where the backend takes less.
    largest_body = (100 if LONG else 17) * MEBIBYTE
    #: Acknowledgements that are lost, and processes that are killed.
    lost = 300 if LONG else 30
    kills = 1_000 if LONG else 20

    @pytest_asyncio.fixture
    async def proxied(self, make_proxied: BackendFactory) -> AsyncIterator[StorageBackend]:
        """An open backend behind the proxy."""
        backend = make_proxied()
        await backend.open(SCHEMA)
        yield backend
        await backend.close()

    @pytest_asyncio.fixture
    async def backend(self, make_backend: BackendFactory) -> AsyncIterator[StorageBackend]:
        """An open backend."""
        backend = make_backend()
        await backend.open(SCHEMA)
        yield backend
        await backend.close()


def ref(key: str) -> RecordRef:
    """A record of the suite's namespace."""
    return RecordRef(NAMESPACE, key)


def change(**parts: Any) -> RecordChange:  # noqa: ANN401 - the parts of RecordChange
    """A change under a new write id."""
    return RecordChange(parts.pop("write_id", os.urandom(8).hex()), **parts)


async def make(backend: StorageBackend, key: str, **parts: Any) -> Written:  # noqa: ANN401
    """A new record."""
    return await backend.put(ref(key), change(**parts), if_revision=0)


async def stored(backend: StorageBackend, key: str) -> Record:
    """A record that must be there, with its body."""
    record = (await backend.get(ref(key))).record
    assert record is not None, f"record {key} is gone"
    return record


async def all_pages(
    backend: StorageBackend,
    where: Where = Where(),  # noqa: B008 - frozen
    *,
    order: Order = "key",
    limit: int = 7,
    descending: bool = False,
    between: Callable[[Page[Record]], Any] | None = None,
) -> list[str]:
    """The keys of a walk over all pages; ``between`` is awaited after each."""
    keys: list[str] = []
    after: str | None = None
    while True:
        page = await backend.query(NAMESPACE, where, order=order, limit=limit, after=after, descending=descending)
        assert len(page.items) <= limit
        keys += [record.ref.key for record in page.items]
        after = page.next
        if between is not None:
            await between(page)
        if after is None:
            return keys


@asynccontextmanager
async def opened(make_backend: BackendFactory) -> AsyncIterator[StorageBackend]:
    """One more backend, open until it is left."""
    backend = make_backend()
    await backend.open(SCHEMA)
    try:
        yield backend
    finally:
        await backend.close()


async def fill(backend: StorageBackend, keys: Iterable[str], *, tasks: int = 50, **parts: Any) -> None:  # noqa: ANN401
    """Many new records, by so many tasks."""
    waiting = iter(keys)

    async def work() -> None:
        for key in waiting:
            await make(backend, key, **parts)

    await asyncio.gather(*(work() for _ in range(tasks)))


def largest(backend: StorageBackend, wanted: int) -> int:
    """A size of body that the backend takes."""
    return min(wanted, backend.largest_body) if isinstance(backend, BodyLimited) else wanted


def later(minutes: float) -> timedelta:
    """Some minutes."""
    return timedelta(minutes=minutes)
