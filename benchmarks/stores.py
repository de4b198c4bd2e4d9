"""The general store beside py-key-value's own stores: save and load of one value, in one run, on the same servers.

Run with ``python benchmarks/stores.py``, after ``eval "$(scripts/test-setup.sh env)"`` for the servers. Ours is sealed
with AES-256-GCM, theirs is plain. Both get the same JSON data, since theirs takes nothing else. Rounds are interleaved;
figures are medians, in milliseconds of time and of this process's CPU time.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import logging
import os
import platform
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from itertools import pairwise
from typing import Any, TypeAlias
from uuid import uuid4

from attrs import frozen

from flowpersist import KeyRing
from flowpersist.stores import open_stores

SMALL = 100_000
SIZES: Mapping[str, int] = {"1 KB": 1_000, "1 MB": 1_000_000}
PLACES = ("memory", "sqlite", "file", "redis", "postgres", "mongodb")
Value: TypeAlias = dict[str, Any]


@frozen
class Store:
    """How a store saves and loads."""

    save: Callable[[str, Value], Awaitable[object]]
    load: Callable[[str], Awaitable[Value]]


def value_of(size: int) -> Value:
    """JSON data of about that size: messages, as an agent keeps them."""
    words = ["the", "quick", "brown", "fox", "asks", "whether", "this", "order", "may", "be", "shipped", "today"]
    messages: list[Value] = []
    value = {"session": str(uuid4()), "messages": messages}
    written = len(json.dumps(value))
    while written < size:
        number = len(messages)
        text = " ".join(words[(number * 7 + place) % len(words)] for place in range(20 + number % 30))
        message = {"id": number, "role": ("user", "assistant")[number % 2], "text": text, "tokens": number * 1.5}
        messages.append(message)
        written += len(json.dumps(message)) + 2
    return value


def url_of(place: str, directory: str, prefix: str) -> str | None:
    """The URL of our store; None where the environment names no server."""
    local = {"memory": "memory://", "sqlite": f"sqlite:///{directory}/ours.db", "file": f"file://{directory}/ours"}
    if place in local:
        return local[place]
    server = os.environ.get(f"FLOWPERSIST_TEST_{place.upper()}_URL")
    return None if server is None else f"{server}?prefix={prefix}"


@asynccontextmanager
async def ours(url: str) -> AsyncIterator[Store]:
    """Our store, sealed."""
    async with open_stores(url, keyring=KeyRing.generate()) as stores:
        values = stores.values("bench", dict)

        async def load(key: str) -> Value:
            loaded = await values.load(key)
            return {} if loaded is None else loaded.value

        yield Store(values.save, load)


def their_store(place: str, directory: str, prefix: str) -> Any:  # noqa: ANN401 - one of several classes
    """The store of py-key-value for that place, as durable as ours where it can be."""
    server = os.environ.get(f"FLOWPERSIST_TEST_{place.upper()}_URL", "")
    if place == "memory":
        from key_value.aio.stores.memory import MemoryStore  # noqa: PLC0415 - need not be installed

        return MemoryStore()
    if place == "redis":
        from key_value.aio.stores.redis import RedisStore  # noqa: PLC0415

        return RedisStore(url=server)
    if place == "postgres":
        from key_value.aio.stores.postgresql import PostgreSQLStore  # noqa: PLC0415

        return PostgreSQLStore(url=server, table_name=f"kv_{prefix}")
    if place == "mongodb":
        from key_value.aio.stores.mongodb import MongoDBStore  # noqa: PLC0415

        return MongoDBStore(url=server, coll_name=f"kv_{prefix}")
    from diskcache import Cache  # noqa: PLC0415
    from key_value.aio.stores.disk import DiskStore  # noqa: PLC0415

    # By default it does not flush what it commits; large values, in files of their own, it never does.
    full = {"sqlite_synchronous": 2, "eviction_policy": "none"}
    return DiskStore(disk_cache=Cache(f"{directory}/{prefix}-theirs", **full))


@asynccontextmanager
async def theirs(place: str, directory: str, prefix: str) -> AsyncIterator[Store]:
    """Theirs, plain."""
    made = their_store(place, directory, prefix)
    async with made if hasattr(made, "__aenter__") else nullcontext(made) as store:

        async def save(key: str, value: Value) -> object:
            return await store.put(key=key, value=value, collection=prefix)

        async def load(key: str) -> Value:
            found: Value = await store.get(key=key, collection=prefix)
            return found

        yield Store(save, load)


async def timed(store: Store, keys: list[str], value: Value) -> tuple[float, ...]:
    """Milliseconds of time and CPU for each value that is saved, and for each that is loaded."""
    marks = [(time.perf_counter(), time.process_time())]
    for key in keys:
        await store.save(key, value)
    marks.append((time.perf_counter(), time.process_time()))
    found = [await store.load(key) for key in keys]
    marks.append((time.perf_counter(), time.process_time()))
    if found != [value] * len(keys):
        raise ValueError(keys)
    took = [
        (after - before) * 1000 / len(keys) for clock in (0, 1) for before, after in pairwise(m[clock] for m in marks)
    ]
    save, load, save_cpu, load_cpu = took
    return save, load, save_cpu, load_cpu


async def measure(stores: Mapping[str, Store], size: int, rounds: int) -> dict[str, list[float]]:
    """Medians for each store: save and load, each in time and CPU."""
    figures: dict[str, list[tuple[float, ...]]] = {name: [] for name in stores}
    value = value_of(size)
    # Of small ones some follow each other: one alone is lost in the noise of the clock and of the collector.
    count = 20 if size < SMALL else 1
    for number in range(rounds + 2):
        keys = [f"{size}-{number}-{one}" for one in range(count)]
        for name in sorted(stores, reverse=bool(number % 2)):
            gc.collect()
            took = await timed(stores[name], keys, value)
            # The first rounds warm caches, connections and files.
            if number >= 2:
                figures[name].append(took)
    return {name: [statistics.median(column) for column in zip(*rows, strict=True)] for name, rows in figures.items()}


def row(place: str, label: str, figures: Mapping[str, list[float]]) -> str:
    """A row of the table."""
    ours_, theirs_ = figures["ours"], figures["theirs"]
    shown = [f"{one:.2f} / {other:.2f}" for one, other in zip(ours_, theirs_, strict=True)]
    times = (ours_[0] + ours_[1]) / (theirs_[0] + theirs_[1])
    return f"| {place}, {label} | {' | '.join(shown)} | {times:.2f} |"


async def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--places", default=",".join(PLACES))
    parser.add_argument("--sizes", default=",".join(SIZES))
    arguments = parser.parse_args()
    logging.getLogger("key_value").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message="A configured store is unstable")
    print(f"CPython {platform.python_version()}, {sys.platform}, {arguments.rounds} rounds, ours / theirs\n")
    print("| store | save ms | load ms | save CPU ms | load CPU ms | save + load, to theirs |")
    print("|---|---|---|---|---|---|")
    for place in arguments.places.split(","):
        prefix = f"b{uuid4().hex[:12]}"
        with tempfile.TemporaryDirectory() as directory:
            url = url_of(place, directory, prefix)
            if url is None:
                print(f"{place}: FLOWPERSIST_TEST_{place.upper()}_URL is not set", file=sys.stderr)
                continue
            async with AsyncExitStack() as stack:
                stores = {
                    "ours": await stack.enter_async_context(ours(url)),
                    "theirs": await stack.enter_async_context(theirs(place, directory, prefix)),
                }
                for label in arguments.sizes.split(","):
                    print(row(place, label, await measure(stores, SIZES[label], arguments.rounds)), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
