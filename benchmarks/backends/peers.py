"""Other stores of states, each on the stores that it knows, with the options under which it is durable.

LangGraph keeps objects by its own serializer. py-key-value and Burr keep JSON: what is no JSON their users must turn
into text themselves, here by pickle and base64, which is the quickest way. DBOS keeps a workflow's input: to put is to
start one that waits for a message, to get is to send it and to await the result. None of them seals; none but DBOS
claims.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import pickle
import warnings
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from importlib.util import find_spec
from typing import Any, Protocol, TypeAlias
from urllib.parse import urlsplit

from attrs import frozen
from places import Place

__all__ = ["APART", "PEERS", "Peer", "missing", "opened_peers"]

#: Rounds of their own for those that poll: each takes a second, and their threads would disturb the others. They are
#: not compared either: what waits stays in memory, so that to get it reads nothing.
APART: Mapping[str, int] = {"dbos": 5}

Types: TypeAlias = tuple[type, ...]


class Peer(Protocol):
    """A store of states."""

    async def put(self, key: str, state: object) -> object:
        """Make it durable, as far as the store does."""
        ...

    async def get(self, key: str) -> object:
        """The state again."""
        ...


def _text(state: object) -> str:
    return base64.b64encode(pickle.dumps(state, protocol=5)).decode()


def _state(text: str) -> object:
    return pickle.loads(base64.b64decode(text))


@frozen
class LangGraph:
    """A checkpointer, a thread for each state."""

    saver: Any

    async def put(self, key: str, state: object) -> object:
        """See ``Peer``."""
        from langgraph.checkpoint.base import empty_checkpoint

        checkpoint = empty_checkpoint()
        checkpoint["channel_values"] = {"state": state}
        checkpoint["channel_versions"] = {"state": 1}
        config = {"configurable": {"thread_id": key, "checkpoint_ns": ""}}
        return await self.saver.aput(config, checkpoint, {"source": "loop", "step": 0}, {"state": 1})

    async def get(self, key: str) -> object:
        """See ``Peer``."""
        found = await self.saver.aget_tuple({"configurable": {"thread_id": key, "checkpoint_ns": ""}})
        return found.checkpoint["channel_values"]["state"]


@asynccontextmanager
async def _langgraph(place: Place, types: Types, prefix: str) -> AsyncIterator[Peer]:
    from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

    serializer = JsonPlusSerializer(allowed_msgpack_modules=types or None)
    if place.name == "postgres":
        from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver

        async with AsyncPostgresSaver.from_conn_string(place.url, serde=serializer) as saver:
            await saver.setup()
            yield LangGraph(saver)
        return
    import aiosqlite
    from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

    async with aiosqlite.connect(f"{place.directory}/{prefix}-langgraph.db") as connection:
        saver = AsyncSqliteSaver(connection, serde=serializer)
        await saver.setup()
        yield LangGraph(saver)


@frozen
class KeyValue:
    """A store of py-key-value."""

    store: Any
    prefix: str

    async def put(self, key: str, state: object) -> object:
        """See ``Peer``."""
        return await self.store.put(key=key, value={"state": _text(state)}, collection=self.prefix)

    async def get(self, key: str) -> object:
        """See ``Peer``."""
        return _state((await self.store.get(key=key, collection=self.prefix))["state"])


@asynccontextmanager
async def _key_value(place: Place, _types: Types, prefix: str) -> AsyncIterator[Peer]:
    if place.name == "postgres":
        from key_value.aio.stores.postgresql import PostgreSQLStore

        store: Any = PostgreSQLStore(url=place.url, table_name=f"kv_{prefix}")
    elif place.name == "redis":
        from key_value.aio.stores.redis import RedisStore

        store = RedisStore(url=place.url)
    elif place.name == "mongodb":
        from key_value.aio.stores.mongodb import MongoDBStore

        store = MongoDBStore(url=place.url, coll_name=f"kv_{prefix}")
    else:
        from diskcache import Cache
        from key_value.aio.stores.disk import DiskStore

        # By default it does not flush what it commits; large values, in files of their own, it never does.
        full = {"sqlite_synchronous": 2, "eviction_policy": "none"}
        store = DiskStore(disk_cache=Cache(f"{place.directory}/{prefix}-kv", **full))
    warnings.filterwarnings("ignore", message="A configured store is unstable")
    async with store:
        yield KeyValue(store, prefix)


@frozen
class Burr:
    """A persister of Burr."""

    persister: Any

    async def put(self, key: str, state: object) -> object:
        """See ``Peer``."""
        from burr.core import State

        return await self.persister.save("bench", key, 0, "here", State({"state": _text(state)}), "completed")

    async def get(self, key: str) -> object:
        """See ``Peer``."""
        return _state((await self.persister.load("bench", key))["state"]["state"])


@asynccontextmanager
async def _burr(place: Place, _types: Types, prefix: str) -> AsyncIterator[Peer]:
    parts = urlsplit(place.url)
    if place.name == "postgres":
        from burr.integrations.persisters.b_asyncpg import AsyncPostgreSQLPersister

        opening = AsyncPostgreSQLPersister.from_values(
            db_name=parts.path.strip("/"),
            user=parts.username or "",
            password=parts.password or "",
            host=parts.hostname or "",
            port=parts.port or 5432,
            table_name=f"burr_{prefix}",
        )
    elif place.name == "redis":
        from burr.integrations.persisters.b_redis import AsyncRedisBasePersister

        database = int(parts.path.strip("/") or 0)
        opening = AsyncRedisBasePersister.from_values(
            parts.hostname or "", parts.port or 6379, database, namespace=prefix
        )
    else:
        from burr.integrations.persisters.b_aiosqlite import AsyncSQLitePersister

        opening = AsyncSQLitePersister.from_values(db_path=f"{place.directory}/{prefix}-burr.db")
    async with opening as persister:
        if place.name != "redis":
            await persister.initialize()
        yield Burr(persister)


@frozen
class Dbos:
    """Workflows of DBOS."""

    flow: Any

    async def put(self, key: str, state: object) -> object:
        """See ``Peer``."""
        from dbos import DBOS, SetWorkflowID

        with SetWorkflowID(key):
            return await DBOS.start_workflow_async(self.flow, state)

    async def get(self, key: str) -> object:
        """See ``Peer``."""
        from dbos import DBOS

        await DBOS.send_async(key, message=True, topic="go")
        handle: Any = await DBOS.retrieve_workflow_async(key)
        return await handle.get_result()


@asynccontextmanager
async def _dbos(place: Place, _types: Types, prefix: str) -> AsyncIterator[Peer]:
    from dbos import DBOS

    url = place.url if place.name == "postgres" else f"sqlite:///{place.directory}/{prefix}-dbos.db"
    DBOS(config={"name": "bench", "system_database_url": url, "log_level": "ERROR"})

    @DBOS.workflow()
    async def flow(state: object) -> bool:
        answered = await DBOS.recv_async(topic="go", timeout_seconds=60)
        return bool(answered) and state is not None

    DBOS.launch()
    logging.getLogger("dbos").setLevel(logging.ERROR)
    try:
        yield Dbos(flow)
    finally:
        DBOS.destroy(destroy_registry=True)
        # It has put its own executor in the event loop's place, and ended it.
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor())


@frozen
class _Kind:
    """What must be installed, on which stores it is compared, and how it is opened."""

    needs: Mapping[str, tuple[str, ...]]
    opened: Callable[[Place, Types, str], AbstractAsyncContextManager[Peer]]


#: By the name for ``--peers``.
PEERS: Mapping[str, _Kind] = {
    "langgraph": _Kind(
        {"sqlite": ("langgraph.checkpoint.sqlite", "aiosqlite"), "postgres": ("langgraph.checkpoint.postgres",)},
        _langgraph,
    ),
    "py-key-value": _Kind(
        {
            "sqlite": ("key_value.aio", "diskcache"),
            "file": ("key_value.aio", "diskcache"),
            "postgres": ("key_value.aio", "asyncpg"),
            "redis": ("key_value.aio", "redis"),
            "mongodb": ("key_value.aio", "pymongo"),
        },
        _key_value,
    ),
    "burr": _Kind(
        {"sqlite": ("burr", "aiosqlite"), "postgres": ("burr", "asyncpg"), "redis": ("burr", "redis")}, _burr
    ),
    "dbos": _Kind({"sqlite": ("dbos",), "postgres": ("dbos",)}, _dbos),
}


def _installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def missing(names: Iterable[str], store: str) -> list[str]:
    """Those of the named peers that know this store and can't be had."""
    return [name for name in names if not all(map(_installed, PEERS[name].needs.get(store, ())))]


@asynccontextmanager
async def opened_peers(place: Place, names: Iterable[str], types: Types) -> AsyncIterator[Mapping[str, Peer]]:
    """Those of the named that know this store and are installed."""
    wanted = list(names)
    absent = {*missing(wanted, place.name), *(name for name in wanted if place.name not in PEERS[name].needs)}
    async with AsyncExitStack() as stack:
        prefix = place.prefix()
        yield {
            name: await stack.enter_async_context(PEERS[name].opened(place, types, prefix))
            for name in wanted
            if name not in absent
        }
