"""A state keeps its promises on every backend: what is saved, checked, merged, kept in memory, upgraded and refused."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import os
import random
from datetime import date, timedelta
from typing import Annotated, TypedDict

import attrs
import msgspec
import pydantic
import pytest

from canaries import forms
from flowpersist import ConfigurationError, InputValidationError, KeyRing
from flowpersist.backends.registry import backend_from_url
from flowpersist.errors import (
    BackendUnavailable,
    PersistenceError,
    Problem,
    RevisionConflict,
    SerializationError,
    StateTooLarge,
    UnexpectedType,
    UnknownKey,
    UnknownType,
    UnsupportedType,
    UnsupportedVersion,
)
from flowpersist.hub import Runtime, attempt
from flowpersist.stores import StateManager, StoreConfig, Stores
from flowpersist.testing import open_test_hub
from flowpersist.testing.faults import FaultyBackend
from flowpersist.testing.proxy import Proxy, address_of, rerouted
from forked import run_forked
from machine import WITH_MEMORY
from own_servers import own_server

LONG = os.environ.get("FLOWPERSIST_LONG") == "1"
RING = KeyRing.generate()


@attrs.define
class Agent:
    step: int = attrs.field(default=0, validator=attrs.validators.ge(0))
    notes: list[str] = attrs.field(factory=list)


async def briefly(seconds):
    await asyncio.sleep(min(seconds, 0.02))


#: Which tries once, and looks again at once whether a store is back.
RUNTIME = Runtime(attempts=1, sleep=briefly, slow=timedelta(minutes=1))


@pytest.fixture(params=WITH_MEMORY)
def backend(request):
    return request.param


@pytest.fixture
async def stores(url):
    async with open_test_hub(url, keyring=RING) as hub:
        yield Stores(hub)


@pytest.fixture
async def faulty(url):
    """Stores on a backend that fails on request."""
    backend = FaultyBackend(backend_from_url(url))
    async with open_test_hub(backend, keyring=RING, runtime=RUNTIME) as hub:
        yield Stores(hub)


def both(base, ours, theirs):
    """Steps are counted, and notes are a set."""
    begun = Agent() if base is None else base
    return Agent(ours.step + theirs.step - begun.step, sorted({*ours.notes, *theirs.notes}))


async def until(holds):
    async with asyncio.timeout(240):
        while not holds():
            await asyncio.sleep(0.01)


# ------------------------------------------------------------------------------------------------------ load and save


async def test_a_state_is_saved_loaded_and_edited_and_tells_who_saved_it(stores):
    manager = stores.state(("agent", 7), Agent, by="ana", schema_version=1)
    assert (await manager.load(), manager.info, manager.degraded) == (None, None, False)
    async with manager.edit() as state:
        state.step = 1
        state.notes.append("began")
        assert await stores.state(("agent", 7), Agent).load() is None
    first = manager.info
    assert (first.by, first.schema_version, first.process.rpartition(":")[2]) == ("ana", 1, str(os.getpid()))
    another = stores.state(("agent", 7), Agent)
    assert await another.load() == Agent(1, ["began"])
    assert another.info == first
    await another.save(Agent(2))
    assert another.info.revision > first.revision
    assert another.info.at >= first.at
    assert another.info.by is None
    assert await manager.load() == Agent(2)
    assert await stores.state(("agent", 8), Agent).load() is None


async def test_a_block_that_raises_saves_nothing_unless_it_is_asked_to(stores):
    manager = stores.state("a", Agent)
    await manager.save(Agent(1))

    async def edit(**options):
        async with manager.edit(**options) as state:
            state.step += 1
            raise LookupError

    with pytest.raises(LookupError):
        await edit()
    assert await manager.load() == Agent(1)
    with pytest.raises(LookupError):
        await edit(save_on_error=True)
    assert await manager.load() == Agent(2)


async def test_a_save_within_an_edit_is_a_checkpoint(stores):
    manager = stores.state("a", Agent)
    other = stores.state("a", Agent)
    async with manager.edit() as state:
        state.step = 1
        await manager.save(state)
        assert await other.load() == Agent(1)
        state.step = 2
    assert await other.load() == Agent(2)


async def test_edits_of_one_manager_wait_for_each_other(stores):
    manager = stores.state("a", Agent)

    async def add():
        async with manager.edit() as state:
            before = state.step
            await asyncio.sleep(0)
            state.step = before + 1

    await asyncio.gather(*(add() for _ in range(10)))
    assert await manager.load() == Agent(10)


async def test_what_is_handed_out_may_be_replaced(stores):
    manager = stores.state("a", int, default=lambda: 40)
    held = {}
    for expected in (41, 42):
        async with manager.edit(current=lambda: held.get("now")) as state:
            held["now"] = state + 1
        assert await manager.load() == expected


@pytest.mark.parametrize(
    "odd", ["", "a\0b", "\ud800", "x" * 2**20, ("a", 7)], ids=["empty", "nul", "surrogate", "mb", "parts"]
)
async def test_keys_of_every_kind(stores, odd):
    await stores.state(odd, Agent).save(Agent(5))
    assert await stores.state(odd, Agent).load() == Agent(5)
    assert await stores.state("another", Agent).load() is None


async def test_neither_key_nor_author_stands_in_clear(backend, url, stored, caplog):
    if backend == "memory":
        pytest.skip("nobody else reads it")
    person = "canary-person-7Wq2Lm9Xz"
    async with open_test_hub(url, keyring=RING) as hub:
        manager = Stores(hub).state(person, dict, by=person)
        await manager.save({person: person})
        with pytest.raises(RevisionConflict) as refused:
            await Stores(hub).state(person, dict).save({})
        assert person not in f"{refused.value} {manager.info}"
        found = await stored()
    assert [name for name, form in forms(person).items() if form in found] == []
    assert person not in caplog.text


# -------------------------------------------------------------------------------------------------------- competition


async def test_who_comes_second_is_told_or_merges(stores):
    first, second = stores.state("a", Agent), stores.state("a", Agent)
    await first.save(Agent(1))
    with pytest.raises(RevisionConflict, match="load it and decide again"):
        await second.save(Agent(5))
    theirs = await second.load()
    theirs.step += 10
    await first.save(Agent(2))
    with pytest.raises(RevisionConflict):
        await second.save(theirs)
    assert await second.load() == Agent(2)

    async def slowly(base, ours, theirs):
        await asyncio.sleep(0)
        return both(base, ours, theirs)

    for merge in (both, slowly):
        merging = stores.state("a", Agent, merge=merge)
        before = (await first.load()).step
        async with merging.edit() as state:
            state.step += 10
            await first.save(Agent(before + 1, ["first"]))
        assert await first.load() == Agent(before + 11, ["first"])


async def test_what_was_not_changed_needs_no_merge(stores):
    first, second = stores.state("a", Agent), stores.state("a", Agent)
    await first.save(Agent(1))
    async with second.edit():
        await first.save(Agent(2))
    assert await second.load() == Agent(2)


async def test_a_merge_that_makes_an_invalid_state_saves_nothing(stores):
    first, second = stores.state("a", dict[str, int]), stores.state("a", dict[str, int], merge=lambda *_: {"a": "b"})
    await first.save({"a": 1})
    with pytest.raises(InputValidationError):
        await second.save({"a": 2})
    assert await first.load() == {"a": 1}


PROGRAM = """
import asyncio, sys
from flowpersist import KeyRing
from flowpersist.stores import StateManager

def merge(base, ours, theirs):
    return sorted({*ours, *theirs})

async def main():
    url, ring, who, count = sys.argv[1:]
    async with StateManager(url, "all", cls=list, merge=merge, by=who, keyring=KeyRing.parse(ring)) as manager:
        for number in range(int(count)):
            async with manager.edit() as state:
                state.append(f"{who}{number}")
                await asyncio.sleep(0.01)

asyncio.run(main())
"""


async def test_two_processes_that_merge_converge(backend, url, stores):
    if backend == "memory":
        pytest.skip("one process has it")
    count = 100 if LONG else 10
    assert await run_forked(PROGRAM, *((url, RING.export(), who, count) for who in "ab")) == []
    manager = stores.state("all", list)
    assert sorted(await manager.load()) == sorted(f"{who}{number}" for who in "ab" for number in range(count))
    assert manager.info.by in {"a", "b"}


# --------------------------------------------------------------------------------------------------- a store that fails


async def test_while_the_store_is_down_work_goes_on_in_memory(faulty, caplog):
    manager = faulty.state("a", Agent)
    await manager.save(Agent(1))
    backend = faulty.hub.backend
    backend.fail("get", times=1000)
    backend.fail("put", times=1000)
    with caplog.at_level(logging.WARNING, "flowpersist.stores"):
        for _ in range(3):
            async with manager.edit() as state:
                state.step += 1
        assert await manager.load() == Agent(4)
    assert manager.degraded
    assert len(caplog.records) == 1
    assert "is kept in memory until it can be" in caplog.text
    restore(backend)
    await until(lambda: not manager.degraded)
    assert await faulty.state("a", Agent).load() == Agent(4)
    assert manager.info == (await info_of(faulty, "a"))
    async with manager.edit() as state:
        state.step += 1
    assert await faulty.state("a", Agent).load() == Agent(5)


def restore(backend):
    for operation in ("get", "put"):
        backend._plan(operation).faults.clear()


async def info_of(stores, key):
    manager = stores.state(key, Agent)
    await manager.load()
    return manager.info


async def test_a_store_that_is_down_from_the_beginning(faulty):
    await faulty.state("there", Agent).save(Agent(1))
    backend = faulty.hub.backend
    backend.fail("get", times=1000)
    backend.fail("put", times=1000)
    new, known = faulty.state("new", Agent), faulty.state("there", Agent)
    for manager in (new, known):
        assert await manager.load() is None
        async with manager.edit() as state:
            state.step = 5
    restore(backend)
    await until(lambda: not new.degraded and not known.degraded)
    assert await faulty.state("new", Agent).load() == Agent(5)
    with pytest.raises(RevisionConflict):
        await known.load()
    assert await known.load() == Agent(1)


async def test_strict_raises_and_keeps_nothing_in_memory(faulty):
    manager = faulty.state("a", Agent, strict=True)
    await manager.save(Agent(1))
    faulty.hub.backend.fail("get")
    with pytest.raises(BackendUnavailable):
        await manager.load()
    faulty.hub.backend.fail("put")
    with pytest.raises(BackendUnavailable):
        await manager.save(Agent(2))
    assert not manager.degraded
    assert await manager.load() == Agent(1)


async def test_what_was_saved_meanwhile_is_merged_or_reported(faulty):
    backend = faulty.hub.backend
    for merge, expected in ((both, 12), (None, 2)):
        first, second = faulty.state("a", Agent), faulty.state("a", Agent, merge=merge)
        await first.load()
        await first.save(Agent(1))
        await second.load()
        backend.fail("put")
        await second.save(Agent(11))
        assert second.degraded
        await first.save(Agent(2))
        await until(lambda manager=second: not manager.degraded)
        if merge is None:
            with pytest.raises(RevisionConflict):
                await second.save(Agent(12))
        assert (await first.load()).step == expected
        assert (await second.load()).step == expected


async def test_a_lost_reply_is_no_conflict_with_oneself(faulty):
    """The put is done, and nobody knows; then another builds on it; then what is in memory is saved."""
    backend = faulty.hub.backend
    manager = faulty.state("a", Agent, merge=both)
    await manager.save(Agent(1, ["a"]))
    backend.lose("put")
    await manager.save(Agent(2, ["a", "b"]))
    assert manager.degraded
    other = faulty.state("a", Agent)
    async with other.edit() as state:
        assert state == Agent(2, ["a", "b"])
        state.step += 10
    await manager.save(Agent(3, ["a", "b", "c"]))
    await until(lambda: not manager.degraded)
    assert await other.load() == Agent(13, ["a", "b", "c"])
    alone = faulty.state("b", Agent)
    backend.lose("put")
    await alone.save(Agent(1))
    await alone.save(Agent(2))
    await until(lambda: not alone.degraded)
    assert await alone.load() == Agent(2)
    assert await alone.load() == await faulty.state("b", Agent).load()


async def test_a_save_that_was_cancelled_is_no_conflict_with_oneself(faulty):
    backend = faulty.hub.backend
    manager = faulty.state("a", Agent)
    await manager.save(Agent(1))
    backend.delay("put", timedelta(seconds=0.2))
    saving = asyncio.ensure_future(manager.save(Agent(2)))
    await asyncio.sleep(0.1)
    saving.cancel()
    await asyncio.wait({saving})
    backend.delay("put", timedelta(0))
    await manager.save(Agent(3))
    assert await manager.load() == Agent(3)


async def test_an_invalid_state_is_refused_while_the_store_is_down_too(faulty):
    manager = faulty.state("a", Agent)
    await manager.save(Agent(1))
    faulty.hub.backend.fail("get", times=1000)
    with pytest.raises(InputValidationError):
        async with manager.edit() as state:
            state.notes.append(5)
    assert manager.degraded
    assert await manager.load() == Agent(1)
    restore(faulty.hub.backend)


async def test_closing_saves_what_is_in_memory_or_says_that_it_could_not(faulty):
    backend = faulty.hub.backend
    backend.fail("put", times=1000)
    manager = faulty.state("a", Agent)
    await manager.save(Agent(1))
    with pytest.raises(BackendUnavailable):
        await manager.close()
    restore(backend)
    await manager.close()
    await manager.close()
    assert await faulty.state("a", Agent).load() == Agent(1)


@pytest.mark.parametrize("seed", range(200 if LONG else 20))
async def test_whatever_fails_nothing_that_was_saved_is_lost(seed):
    """Managers that merge add words of their own while puts and gets fail, replies are lost and saves are cancelled."""
    chance = random.Random(seed)
    backend = FaultyBackend(backend_from_url("memory://"))
    async with open_test_hub(backend, keyring=RING, runtime=RUNTIME) as hub:
        managers = [Stores(hub).state("a", set, merge=lambda _, ours, theirs: ours | theirs) for _ in range(3)]
        added = set()

        async def work(name, manager):
            for number in range(12):
                word = f"{name}-{number}"

                async def add(word=word):
                    async with manager.edit() as words:
                        words.add(word)
                        await asyncio.sleep(chance.choice([0, 0, 0.001]))

                task = asyncio.ensure_future(add())
                if chance.random() < 0.15:
                    await asyncio.sleep(chance.choice([0, 0.001]))
                    task.cancel()
                await asyncio.wait({task})
                if not task.cancelled():
                    task.result()
                    added.add(word)

        async def spoil():
            while True:
                operation = chance.choice(["get", "put"])
                (backend.lose if chance.random() < 0.5 else backend.fail)(operation, times=chance.choice([1, 1, 5]))
                await asyncio.sleep(0.002)

        spoiling = asyncio.ensure_future(spoil())
        await asyncio.gather(*(work(name, one) for name, one in zip("abc", managers, strict=True)))
        spoiling.cancel()
        restore(backend)
        await until(lambda: not any(one.degraded for one in managers))
        found = await managers[0].load()
        assert added <= found
        assert all([await one.load() == found for one in managers])


async def test_a_connection_that_is_cut(backend, url):
    at = address_of(url)
    if at is None or backend == "redis_cluster":
        pytest.skip("it has no connection, or several")
    async with open_test_hub(url, keyring=RING) as direct, Proxy(*at) as proxy:
        options = {"keyring": RING, "runtime": RUNTIME}
        async with StateManager(rerouted(url, proxy.address), "a", cls=Agent, **options) as manager:
            await manager.save(Agent(1))
            async with proxy.away():
                async with manager.edit() as state:
                    state.step += 1
                assert manager.degraded
                assert await manager.load() == Agent(2)
            await until(lambda: not manager.degraded)
            assert await Stores(direct).state("a", Agent).load() == Agent(2)


@pytest.mark.slow
# Neo4j takes minutes to come back on a busy machine.
@pytest.mark.parametrize("name", ["postgres", "redis_durable", *(["neo4j"] if LONG else [])])
async def test_a_server_that_is_killed_and_comes_back_loses_nothing(name, tmp_path, prefix):
    with own_server(name, tmp_path) as server:
        url = f"{server.url}?prefix={prefix}"
        async with StateManager(url, "a", cls=Agent, keyring=RING, runtime=RUNTIME) as manager:
            await manager.save(Agent(1))
            server.kill()
            for _ in range(3):
                async with manager.edit() as state:
                    state.step += 1
            assert manager.degraded
            await asyncio.to_thread(server.start)
            await until(lambda: not manager.degraded)
            async with manager.edit() as state:
                state.step += 1
        async with StateManager(url, "a", cls=Agent, keyring=RING) as manager:
            assert await manager.load() == Agent(5)


async def test_a_store_that_can_not_be_opened_yet(tmp_path, server, prefix):
    at = address_of(server("postgres"))
    async with Proxy(*at) as proxy:
        url = rerouted(f"{server('postgres')}?prefix={prefix}", proxy.address)
        async with StateManager(url, "a", cls=Agent, keyring=RING, runtime=RUNTIME) as manager:
            async with proxy.away(), manager.edit() as state:
                state.step = 1
            assert manager.degraded
            await until(lambda: not manager.degraded)
            assert await manager.load() == Agent(1)
        async with StateManager(url, "a", cls=Agent, keyring=RING, strict=True, runtime=RUNTIME) as manager:
            async with proxy.away():
                refused = await attempt(manager.load())
            assert isinstance(refused.failure(), BackendUnavailable)


# ---------------------------------------------------------------------------------------------------------- validation


class Model(pydantic.BaseModel):
    step: int = pydantic.Field(0, ge=0, validation_alias="in", serialization_alias="out")
    notes: list[str] = []


@dataclasses.dataclass
class Data:
    step: int = 0
    notes: list[str] = dataclasses.field(default_factory=list)
    day: date = date(2026, 1, 1)

    def __post_init__(self):
        if self.step == 13:
            raise ValueError("thirteen")


class Struct(msgspec.Struct):
    step: Annotated[int, msgspec.Meta(ge=0)] = 0
    notes: list[str] = []


@pydantic.dataclasses.dataclass
class PydanticData:
    step: Annotated[int, pydantic.Field(ge=0)] = 0
    notes: list[str] = dataclasses.field(default_factory=list)


class Fields(TypedDict):
    step: Annotated[int, msgspec.Meta(ge=0)]
    notes: list[str]


SCHEMA = {
    "type": "object",
    "properties": {"step": {"minimum": 0}, "notes": {"items": {"type": "string"}}},
    "required": ["step"],
}


def at_least(state):
    if state["step"] < 0:
        raise InputValidationError("no", [Problem("/step", "is below zero")])
    return not state.get("no")


#: A manager's arguments, a valid state, what makes it invalid, and the pointers of the problems.
RULES = {
    "attrs": ({"cls": Agent}, Agent(3), {"step": -1, "notes": ["a", 5]}, ["/step", "/notes/1"]),
    "pydantic": ({"cls": Model}, Model(), {"step": -1, "notes": ["a", 5]}, ["/step", "/notes/1"]),
    "dataclass": ({"cls": Data}, Data(3), {"step": "x", "notes": ["a", 5]}, ["/step", "/notes/1"]),
    "dataclass as a whole": ({"cls": Data}, Data(3), {"step": 13}, [""]),
    "msgspec": ({"cls": Struct}, Struct(3), {"step": -1, "notes": ["a", 5]}, ["/step", "/notes/1"]),
    "pydantic dataclass": ({"cls": PydanticData}, PydanticData(3), {"step": -1, "notes": [5]}, ["/step", "/notes/0"]),
    "TypedDict": ({"cls": Fields}, {"step": 1, "notes": []}, {"step": -1, "notes": [5]}, ["/step", "/notes/0"]),
    "generic": ({"cls": dict[str, int]}, {"a/b": 1}, {"a/b": "x", "c": None}, ["/a~1b", "/c"]),
    "JSON Schema": ({"validate": SCHEMA}, {"step": 1}, {"step": -1, "notes": ["a", 5]}, ["/step", "/notes/1"]),
    "another class": (
        {"validate": Fields},
        {"step": 1, "notes": []},
        {"step": -1, "notes": [5]},
        ["/step", "/notes/0"],
    ),
    "function": ({"validate": at_least}, {"step": 1}, {"step": -1}, ["/step"]),
    "function that returns": ({"validate": at_least}, {"step": 1}, {"no": True}, [""]),
}


@pytest.mark.parametrize("case", RULES)
async def test_what_its_rules_refuse_is_not_saved_and_each_place_is_told(case):
    options, good, bad, pointers = RULES[case]
    async with open_test_hub() as hub:
        manager = Stores(hub).state("a", **options, default=lambda: good)
        async with manager.edit():
            pass
        assert await manager.load() == good

        async def spoil():
            async with manager.edit() as state:
                for name, value in bad.items():
                    if isinstance(state, dict):
                        state[name] = value
                    else:
                        # Past the validators that run where a field is set.
                        (object.__setattr__ if attrs.has(type(state)) else setattr)(state, name, value)

        for _ in range(2):
            with pytest.raises(InputValidationError, match=r"the state is refused|no") as refused:
                await spoil()
            assert sorted(problem.pointer for problem in refused.value.problems) == sorted(pointers)
            assert await manager.load() == good


def raising(error):
    def validate(_state):
        raise error

    return validate


@pytest.mark.parametrize(
    "error", [ValueError("canary"), KeyError("canary"), AssertionError], ids=["value", "key", "assert"]
)
async def test_a_function_may_raise_whatever_it_likes(error):
    async with open_test_hub() as hub:
        manager = Stores(hub).state("a", validate=raising(error))
        with pytest.raises(InputValidationError) as refused:
            await manager.save({"canary": 1})
        assert "canary" not in f"{refused.value} {refused.value.__cause__} {refused.value.problems}"


async def test_states_that_json_can_not_tell_are_kept_where_no_rule_asks(stores):
    state = {(1, 2): {3, 4}, "self": None}
    state["self"] = state
    manager = stores.state("a")
    await manager.save(state)
    loaded = await manager.load()
    assert loaded["self"] is loaded
    assert loaded[1, 2] == {3, 4}
    with pytest.raises(InputValidationError):
        await stores.state("b", validate={"type": "object"}).save(state)


async def test_large_states_are_checked_and_saved(stores):
    manager = stores.state("a", validate={"properties": {"notes": {"items": {"type": "string"}}}})
    await manager.save({"notes": ["x" * 10] * 50_000})
    with pytest.raises(InputValidationError):
        await manager.save({"notes": [*["x" * 10] * 50_000, 5]})
    assert len((await manager.load())["notes"]) == 50_000


# -------------------------------------------------------------------------------------------------------------- schemas


@attrs.define
class Agent2:
    steps: int
    notes: list[str]
    mood: str


UPGRADES = {1: lambda fields: {"steps": fields["step"], "notes": fields["notes"], "mood": "calm"}}


async def test_a_state_of_an_older_schema_is_upgraded(stores):
    await stores.state("a", Agent).save(Agent(3, ["x"]))
    newer = stores.state("a", Agent2, schema_version=2, upgrades=UPGRADES)
    assert await newer.load() == Agent2(3, ["x"], "calm")
    assert newer.info.schema_version == 1
    async with newer.edit() as state:
        state.steps += 1
    assert newer.info.schema_version == 2
    newest = stores.state(
        "a", dict, schema_version=4, upgrades={**UPGRADES, 2: attrs.asdict, 3: lambda old: old | {"v": 4}}
    )
    with pytest.raises(UnknownType):
        await newest.load()
    await stores.state("b", dict).save({"n": 1})
    plain = stores.state(
        "b", dict, schema_version=3, upgrades={1: lambda old: old | {"n": 2}, 2: lambda old: old | {"v": 3}}
    )
    assert await plain.load() == {"n": 2, "v": 3}
    typed = stores.state("b", Agent2, schema_version=2, upgrades={1: lambda old: Agent2(old["n"], [], "new")})
    assert await typed.load() == Agent2(1, [], "new")


async def test_a_state_of_a_later_schema_is_refused_with_the_remedy(stores):
    newer = stores.state("a", Agent2, schema_version=2, upgrades=UPGRADES)
    await newer.save(Agent2(1, [], "calm"))
    older = stores.state("a", Agent, merge=both)
    for refused in (older.load(), older.save(Agent(5))):
        with pytest.raises(UnsupportedVersion, match=r"schema version 2.*version 1; update this program"):
            await refused
    assert await newer.load() == Agent2(1, [], "calm")


@pytest.mark.parametrize(
    ("upgrades", "error", "told"),
    [
        ({}, UnsupportedVersion, "a function for version 1"),
        (
            {1: lambda old: old["nothing"]},
            SerializationError,
            r"from version 1 to 2 raised KeyError; fix upgrades\[1\]",
        ),
        ({1: lambda _: []}, UnexpectedType, "of class list, not dict"),
    ],
    ids=["missing", "raising", "another class"],
)
async def test_an_upgrade_that_fails_leaves_the_state_as_it_is(upgrades, error, told):
    async with open_test_hub() as hub:
        stores = Stores(hub)
        await stores.state("a", dict).save({"n": 1})
        newer = stores.state("a", dict, schema_version=2, upgrades=upgrades)
        with pytest.raises(error, match=told):
            await newer.load()
        assert await stores.state("a", dict).load() == {"n": 1}


async def test_a_class_that_the_hub_knows_is_kept_by_the_managers_name(url):
    async with open_test_hub(url, keyring=RING, types=[Agent]) as hub:
        await Stores(hub).state("a", Agent).save(Agent(1))
        await Stores(hub).state("b", dict).save({"agent": Agent(2)})
        assert await Stores(hub).state("a", Agent2, schema_version=2, upgrades=UPGRADES).load() == Agent2(1, [], "calm")
        assert await Stores(hub).state("b", dict).load() == {"agent": Agent(2)}


# ------------------------------------------------------------------------------------------------------ what is refused


async def test_what_can_not_be_read_or_kept_is_named(backend, url, stores):
    await stores.state("a", Agent).save(Agent(1))
    stores.hub.use_keyring(KeyRing.generate())
    for refused in (stores.state("a", Agent).load(), stores.state("a", Agent).save(Agent(2))):
        with pytest.raises((UnknownKey, RevisionConflict)):
            await refused
    stores.hub.use_keyring(RING)
    manager = stores.state("b", dict)
    with pytest.raises(UnsupportedType, match="Agent, which is not registered"):
        await manager.save({"agent": Agent(1)})
    assert await manager.load() is None
    await stores.values("state").save("c", {"state": 1})
    with pytest.raises(UnexpectedType, match=r"Invalid record \S+ of \S+: expected a state"):
        await stores.state("c").load()
    with pytest.raises(UnexpectedType, match="class list"):
        await stores.state("d").save([]) or await stores.state("d", dict).load()
    with pytest.raises(StateTooLarge):
        await stores.state("x" * (2**20 + 1)).save({})
    assert await stores.state("a", Agent).load() == Agent(1)


REFUSED = {
    "a store that is none": (lambda s: StateManager(5, "a"), TypeError),
    "a dict as a store": (lambda s: StateManager({}, "a"), TypeError),
    "an unknown URL": (lambda s: StateManager("oracle://x", "a").load(), ConfigurationError),
    "options of a store that is open": (lambda s: StateManager(s, "a", namespace="x"), ConfigurationError),
    "an option that is none": (lambda s: StateManager("memory://", "a", namespace=5), TypeError),
    "a key that is none": (lambda s: s.state(5), TypeError),
    "no class": (lambda s: s.state("a", 5), TypeError),
    "a version below one": (lambda s: s.state("a", schema_version=0), ConfigurationError),
    "upgrades that are none": (lambda s: s.state("a", upgrades=5), TypeError),
    "rules that are none": (lambda s: s.state("a", validate=5), TypeError),
    "an async rule": (lambda s: s.state("a", validate=briefly), TypeError),
    "an invalid JSON Schema": (lambda s: s.state("a", validate={"type": "nothing"}), ConfigurationError),
    "a merge that is none": (lambda s: s.state("a", merge=5), TypeError),
    "strict that is no bool": (lambda s: s.state("a", strict=1), TypeError),
    "a default that is none": (lambda s: s.state("a", default=5), TypeError),
    "an author that is no text": (lambda s: s.state("a", by=5), TypeError),
    "a state of another class": (lambda s: s.state("a", Agent).save({}), TypeError),
    "no first state": (lambda s: s.state("a", Agent2).edit().__aenter__(), ConfigurationError),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_what_makes_no_sense_is_refused(case):
    call, error = REFUSED[case]
    async with open_test_hub() as hub:
        with pytest.raises(error):
            await call(Stores(hub))
        assert (await Stores(hub).values("state").keys()).items == ()


async def test_every_kind_of_store(tmp_path):
    url = f"sqlite:///{tmp_path}/s.db"
    async with StateManager(url, "a", cls=Agent, keyring=None) as manager:
        await manager.save(Agent(1))
    config = StoreConfig("sqlite", url)
    async with StateManager(config, "a", cls=Agent, keyring=None) as manager:
        assert await manager.load() == Agent(1)
    await manager.close()
    assert await manager.load() == Agent(1)
    await manager.close()
    async with open_test_hub(url, keyring=None) as hub:
        others = Stores(hub).values("others", int)
        await StateManager(others, "a", cls=Agent).save(Agent(2))
        assert await StateManager(others, "a", cls=Agent).load() == Agent(2)
        assert await Stores(hub).state("a", Agent).load() == Agent(1)
        with pytest.raises(PersistenceError):
            await others.load("a")


def test_what_a_manager_opens_is_closed_with_its_event_loop(tmp_path):
    manager = StateManager(f"sqlite:///{tmp_path}/s.db", "a", cls=Agent, keyring=None)

    async def add():
        async with manager.edit() as state:
            state.step += 1
        return state.step

    assert [asyncio.run(add()) for _ in range(3)] == [1, 2, 3]
