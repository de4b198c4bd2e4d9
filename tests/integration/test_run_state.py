"""Run states: one interface, every store behind it, and turns of which none is lost."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import sys
from datetime import timedelta
from pathlib import Path
from types import ModuleType

import asyncpg
import pytest
from redis.asyncio import Redis

from canaries import forms
from flowpersist import ConfigurationError, KeyRing
from flowpersist.errors import BackendUnavailable, RevisionConflict
from flowpersist.sealed.retrying import Runtime
from flowpersist.stores import (
    ConversationManager,
    FileStateStore,
    MemoryStateStore,
    PostgresStateStore,
    RedisStateStore,
    RunStateStore,
    SqliteStateStore,
    Stores,
    VersionedRunStateStore,
    run_state_store,
    run_state_store_from_env,
)
from flowpersist.testing import open_test_hub
from machine import WITH_MEMORY

ROOT = Path(__file__).parents[2]
LONG = os.environ.get("FLOWPERSIST_LONG") == "1"
RING = KeyRing.generate()
ODD = ["", "ana", "a\0b", "\ud800", "ä" * 100, "../../etc", "x" * 2**20]
BY_HAND = "by hand"


@pytest.fixture(params=WITH_MEMORY)
def backend(request):
    return request.param


def by_hand(url, prefix):
    """The adapter of the how-to, of that very text."""
    page = (ROOT / "docs" / "how-to" / "add-a-run-state-adapter.md").read_text(encoding="utf-8")
    code = next(one for one in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "class PlainRedisStore" in one)
    module = ModuleType("adapter")
    exec(compile(code, "adapter", "exec"), vars(module))  # noqa: S102 - our own documentation
    assert len(code[code.index("class") :].split("def field")[0].strip().splitlines()) < 40
    return module.PlainRedisStore(url, prefix)


@pytest.fixture
async def store(backend, url):
    async with run_state_store(url, keyring=RING) as opened:
        yield opened


@pytest.fixture(params=[*WITH_MEMORY, BY_HAND])
async def any_store(request, prefix):
    if request.param == BY_HAND:
        made = by_hand(request.getfixturevalue("server")("redis"), prefix)
        await made.init()
        yield made
        await made.redis.aclose()
        return
    async with run_state_store(url_of(request, request.param, prefix), keyring=RING) as opened:
        yield opened


def url_of(request, backend, prefix):
    """As the fixture ``url`` does for a backend that is a parameter of its own."""
    place = request.getfixturevalue("tmp_path")
    local = {"memory": "memory://", "sqlite": f"sqlite:///{place}/s.db", "filesystem": f"file://{place}/s"}
    if backend in local:
        return local[backend]
    if backend == "neo4j":
        return request.getfixturevalue("wiped_neo4j")
    options = "cluster=on&" if backend == "redis_cluster" else ""
    return f"{request.getfixturevalue('server')(backend)}?{options}prefix={prefix}"


async def test_states_are_kept(any_store):
    assert isinstance(any_store, RunStateStore)
    await any_store.init()
    for subject in ODD:
        assert await any_store.load_state(subject) is None
        await any_store.delete_state(subject)
        await any_store.save_state(subject, "first")
        for state in ("", "ä\0\ud800", "x" * 1_000_000):
            await any_store.save_state(subject, state)
            assert await any_store.load_state(subject) == state
    await any_store.delete_state("ana")
    assert await any_store.load_state("ana") is None
    assert await any_store.load_state("") is not None
    assert await any_store.cleanup_old_states() == 0
    assert await any_store.cleanup_old_states(timedelta(days=1)) == 0
    assert await any_store.cleanup_old_states(timedelta(0)) == len(ODD) - 1
    assert await any_store.load_state("") is None


async def test_turns_of_one_process_wait_for_each_other(any_store):
    manager = ConversationManager(any_store)
    running = 0

    async def handler(state):
        nonlocal running
        running += 1
        assert running == 1
        await asyncio.sleep(0.001)
        running -= 1
        return (state or "") + "."

    results = await asyncio.gather(*(manager.turn("ana", handler) for _ in range(10)))
    assert sorted(map(len, results)) == list(range(1, 11))
    assert await any_store.load_state("ana") == "." * 10


PROGRAM = """
import asyncio, json, sys
from flowpersist import KeyRing
from flowpersist.stores import ConversationManager, run_state_store

async def main():
    url, ring, who, count = sys.argv[1:]
    async with run_state_store(url, keyring=KeyRing.parse(ring)) as store:
        manager = ConversationManager(store)
        for number in range(int(count)):
            await manager.turn("ana", lambda state: json.dumps([*json.loads(state or "[]"), f"{who}{number}"]))

asyncio.run(main())
"""


async def test_two_processes_lose_no_turn(backend, url, store):
    if backend == "memory":
        pytest.skip("one process has it")
    count = 100 if LONG or backend in {"sqlite", "postgres", "redis"} else 20
    arguments = [sys.executable, "-c", PROGRAM, url, RING.export()]
    running = [await asyncio.create_subprocess_exec(*arguments, who, str(count)) for who in "ab"]
    assert [await one.wait() for one in running] == [0, 0]
    turns = json.loads(await store.load_state("ana"))
    for who in "ab":
        assert [turn for turn in turns if turn[0] == who] == [f"{who}{number}" for number in range(count)]


async def test_a_revision_is_replaced_once(store):
    assert isinstance(store, VersionedRunStateStore)
    assert await store.load_versioned("ana") == (None, 0)
    await store.save_versioned("ana", "a", 0)
    state, revision = await store.load_versioned("ana")
    assert state == "a"
    await store.save_versioned("ana", "b", revision)
    for stale in (0, revision):
        with pytest.raises(RevisionConflict):
            await store.save_versioned("ana", "c", stale)
    assert await store.load_state("ana") == "b"


async def test_no_subject_stands_in_clear(backend, store, stored):
    if backend == "memory":
        pytest.skip("nobody else reads it")
    await store.save_state("canary-subject-5Tq8", "canary-subject-5Tq8")
    found = await stored()
    assert [name for name, form in forms("canary-subject-5Tq8").items() if form in found] == []


async def test_the_same_states_stand_in_a_hubs_stores():
    async with open_test_hub() as hub:
        states = Stores(hub).run_state
        await states.init()
        await ConversationManager(states).turn("ana", lambda _: "first")
        assert (await Stores(hub).values("run_state", str).load("ana")).value == "first"
        assert states.name == "memory"


async def test_clients_and_pools_of_the_users_stay_open(server, prefix):
    async with asyncpg.create_pool(server("postgres"), min_size=1, max_size=2) as pool:
        async with PostgresStateStore(pool, keyring=RING, namespace=prefix) as store:
            await store.save_state("ana", "x")
        assert await pool.fetchval("select 1") == 1
    async with Redis.from_url(server("redis")) as client:
        async with RedisStateStore(client, keyring=RING, namespace=prefix) as store:
            await store.save_state("ana", "x")
            assert await store.cleanup_old_states(timedelta(0)) == 1
        assert await client.ping()


class Recording:
    """A store that somebody else wrote: it records its calls."""

    def __init__(self):
        self.calls = []
        self.states = {}

    async def init(self):
        self.calls.append(("init",))

    async def save_state(self, subject_id, run_state):
        self.calls.append(("save_state", subject_id, run_state))
        self.states[subject_id] = run_state

    async def load_state(self, subject_id):
        self.calls.append(("load_state", subject_id))
        return self.states.get(subject_id)

    async def delete_state(self, subject_id):
        self.calls.append(("delete_state", subject_id))

    async def cleanup_old_states(self, max_age=None):
        self.calls.append(("cleanup_old_states", max_age))
        return 0


async def test_a_turn_is_one_load_and_one_save():
    store = Recording()
    manager = ConversationManager(store)
    assert await manager.turn("ana", lambda state: f"{state}!") == "None!"

    async def failing(state):
        assert state == "None!"
        raise LookupError

    with pytest.raises(LookupError):
        await manager.turn("ana", failing)
    with pytest.raises(TypeError, match="result of the handler"):
        await manager.turn("ana", lambda _: None)
    assert store.calls == [
        ("init",),
        ("load_state", "ana"),
        ("save_state", "ana", "None!"),
        ("load_state", "ana"),
        ("load_state", "ana"),
    ]


class Overtaken(Recording):
    """A store in which another process is always first."""

    async def load_versioned(self, subject_id):
        self.calls.append(("load_versioned", subject_id))
        return None, 0

    async def save_versioned(self, subject_id, run_state, revision):
        raise RevisionConflict(f"another was first with {revision}", "recording", True)


async def test_a_turn_ends_that_others_always_overtake():
    store = Overtaken()
    manager = ConversationManager(store, runtime=Runtime(base=timedelta(0)))
    with pytest.raises(RevisionConflict, match="64 times"):
        await manager.turn("ana", lambda _: "x")
    assert len(store.calls) == 65


async def test_what_is_slow_is_told_once_and_without_the_subject(caplog):
    ticks = iter(range(100))
    runtime = Runtime(monotonic=lambda: float(next(ticks)))
    manager = ConversationManager(Recording(), runtime=runtime, slow=timedelta(milliseconds=999))
    with caplog.at_level(logging.WARNING):
        await manager.turn("canary-subject", lambda _: "x")
    assert [record.getMessage() for record in caplog.records] == [
        "slow load on Recording: 1000 ms",
        "slow save on Recording: 1000 ms",
    ]


@pytest.mark.parametrize(
    ("environ", "name"),
    [
        ({"PERSISTENCE_ADAPTER": "memory"}, "memory"),
        ({"PERSISTENCE_ADAPTER": "file", "PERSISTENCE_DIR": "states"}, "filesystem"),
        ({"PERSISTENCE_ADAPTER": " FILE "}, "filesystem"),
        ({}, "filesystem"),
        ({"PERSISTENCE_ADAPTER": "sqlite"}, "sqlite"),
        ({"PERSISTENCE_ADAPTER": "sqlite", "PERSISTENCE_URL": "sqlite:///a.db"}, "sqlite"),
        ({"PERSISTENCE_ADAPTER": "postgres", "DATABASE_URL": "postgres://h/d"}, "postgres"),
        ({"PERSISTENCE_ADAPTER": "redis", "REDIS_URL": "redis://h/0"}, "redis"),
        ({"PERSISTENCE_ADAPTER": "redis", "REDIS_URL": "nonsense", "PERSISTENCE_URL": "redis://h/0"}, "redis"),
        ({"PERSISTENCE_ADAPTER": "mongodb", "PERSISTENCE_URL": "mongodb://h/d"}, "mongodb"),
        ({"PERSISTENCE_ADAPTER": "neo4j", "PERSISTENCE_URL": "neo4j://h/d"}, "neo4j"),
        ({"PERSISTENCE_URL": "sqlite:///a.db"}, "sqlite"),
    ],
    ids=str,
)
def test_the_environment_names_a_store(environ, name):
    assert run_state_store_from_env(environ).name == name


@pytest.mark.parametrize(
    ("environ", "told"),
    [
        ({"PERSISTENCE_ADAPTER": "oracle"}, "file, memory, mongodb, neo4j, postgres, redis, sqlite"),
        ({"PERSISTENCE_ADAPTER": "redis"}, "PERSISTENCE_URL.*REDIS_URL"),
        ({"PERSISTENCE_ADAPTER": "postgres", "DATABASE_URL": "mysql://u:secret@h/d"}, "DATABASE_URL.*postgresql"),
        ({"PERSISTENCE_ADAPTER": "redis", "PERSISTENCE_URL": "sqlite:///secret.db"}, "PERSISTENCE_URL.*redis"),
        ({"PERSISTENCE_URL": "oracle://u:secret@h"}, "oracle"),
        ({"PERSISTENCE_URL": "secret"}, "URL"),
    ],
    ids=str,
)
def test_what_names_no_store_is_refused_with_the_remedy(environ, told):
    with pytest.raises(ConfigurationError) as refused:
        run_state_store_from_env(environ)
    assert re.search(told, str(refused.value))
    assert "secret" not in str(refused.value)


async def test_bad_arguments_are_refused(tmp_path):
    async with FileStateStore(tmp_path / "states", keyring=None) as store:
        for call in (
            lambda: store.save_state(1, "x"),
            lambda: store.save_state("a", b"x"),
            lambda: store.load_state(None),
            lambda: store.cleanup_old_states(5),
        ):
            with pytest.raises(TypeError):
                await call()
        with pytest.raises(ConfigurationError):
            await store.cleanup_old_states(timedelta(-1))
    for wrong in (5, "redis", object()):
        with pytest.raises(TypeError):
            ConversationManager(wrong)
    for made in (RedisStateStore, PostgresStateStore):
        with pytest.raises(ConfigurationError):
            made("sqlite:///a.db")
        with pytest.raises(TypeError):
            made(5)


async def test_a_store_opens_itself_closes_twice_and_opens_again(tmp_path):
    store = SqliteStateStore(tmp_path / "s.db", keyring=None)
    await store.close()
    await asyncio.gather(store.save_state("a", "1"), store.save_state("b", "2"))
    await store.close()
    await store.close()
    assert await store.load_state("a") == "1"
    await store.close()
    one, other = MemoryStateStore("shared", keyring=None), MemoryStateStore("shared", keyring=None)
    async with one, other:
        await one.save_state("a", "1")
        assert await other.load_state("a") == "1"
    with pytest.raises(BackendUnavailable):
        async with SqliteStateStore(tmp_path / "no" / "such" / "s.db", keyring=None) as store:
            await store.load_state("a")


async def test_the_example_changes_its_store_by_the_environment_alone(server, prefix, tmp_path):
    program = str(ROOT / "examples" / "conversation.py")
    bare = {name: value for name, value in os.environ.items() if not name.startswith(("PERSISTENCE_", "FLOWPERSIST_"))}
    for chosen in (
        {},
        {"PERSISTENCE_ADAPTER": "redis", "REDIS_URL": f"{server('redis')}?prefix={prefix}"},
        {"PERSISTENCE_ADAPTER": "postgres", "DATABASE_URL": f"{server('postgres')}?prefix={prefix}"},
    ):
        for said, expected in (("Hello", 1), ("Again", 2)):
            running = await asyncio.create_subprocess_exec(
                *(sys.executable, program, "ana", said),
                cwd=tmp_path,
                env={**bare, "FLOWPERSIST_KEYS": RING.export(), **chosen},
                stdout=asyncio.subprocess.PIPE,
            )
            out, _ = await running.communicate()
            assert running.returncode == 0
            assert out.decode().splitlines()[-1] == f"you have told me {expected} things"
    assert (tmp_path / ".flowpersist").is_dir()
