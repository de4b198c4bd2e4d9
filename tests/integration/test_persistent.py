"""``@persistent``: the state of functions, methods and generators is loaded before and saved after, as they end."""

from __future__ import annotations

import asyncio
import inspect
import os
import signal
import sys
import traceback
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from datetime import timedelta

import attrs
import pytest
import stamina

from flowpersist import ConfigurationError, InputValidationError, KeyRing, blocking
from flowpersist.backends.memory import MemoryBackend
from flowpersist.blocking.portal import _close_all
from flowpersist.errors import RevisionConflict
from flowpersist.hub import Runtime
from flowpersist.stores import StateManager, Stores, persistent
from flowpersist.testing import open_test_hub
from flowpersist.testing.faults import FaultyBackend

RING = KeyRing.generate()
QUICK = {"wait_initial": 0, "wait_jitter": 0}


@attrs.define
class Tally:
    count: int = 0
    words: list[str] = attrs.field(factory=list)


class Boom(Exception):
    """What a function of these tests raises."""


@pytest.fixture(autouse=True)
def _closed():
    yield
    # What a function has opened by itself stays open until the process ends.
    _close_all()


@pytest.fixture
async def stores():
    async with open_test_hub(keyring=RING) as hub:
        yield Stores(hub)


async def kept(stores, key="k"):
    return await stores.state(key, Tally).load()


# --------------------------------------------------------------------------------------------------- functions, methods


async def test_a_function_gets_its_state_first_and_it_is_saved(stores):
    @persistent(key="k", store=stores, cls=Tally)
    async def add(tally: Tally, word: str, *, times: int = 1) -> int:
        """Add a word."""
        tally.words += [word] * times
        tally.count += times
        return tally.count

    assert await add("a") == 1
    assert await add("b", times=2) == 3
    assert await kept(stores) == Tally(3, ["a", "b", "b"])
    assert str(inspect.signature(add)) == "(word: 'str', *, times: 'int' = 1) -> 'int'"
    assert (add.__name__, add.__doc__, inspect.iscoroutinefunction(add)) == ("add", "Add a word.", True)
    assert sorted(await asyncio.gather(*(add(str(number)) for number in range(10)))) == list(range(4, 14))


async def test_a_method_gets_its_state_as_an_argument_or_as_an_attribute(stores):
    class Agent:
        def __init__(self, name):
            self.name = name
            self.tally = Tally(100)

        @persistent(key=lambda self, *_: ("agents", self.name), store=stores, cls=Tally)
        async def given(self, tally, word):
            tally.words.append(f"{self.name}:{word}")
            return tally

        @persistent(key=lambda self: ("tallies", self.name), store=stores, cls=Tally, attribute="tally")
        async def held(self):
            self.tally = Tally(self.tally.count + 1)

    ana, ben = Agent("ana"), Agent("ben")
    await ana.given("a")
    await ana.given("b")
    await ben.given("c")
    assert (await kept(stores, ("agents", "ana"))).words == ["ana:a", "ana:b"]
    assert (await kept(stores, ("agents", "ben"))).words == ["ben:c"]
    await ana.held()
    again = Agent("ana")
    await again.held()
    assert (again.tally.count, (await kept(stores, ("tallies", "ana"))).count) == (102, 102)
    assert ben.tally.count == 100


async def test_the_state_of_a_function_that_raises_is_saved_unless_it_is_not_to_be(stores):
    for save, count in ((True, 1), (False, 1)):

        @persistent(key="k", store=stores, cls=Tally, save_on_error=save)
        async def fail(tally):
            tally.count += 1
            raise Boom

        with pytest.raises(Boom):
            await fail()
        assert (await kept(stores)).count == count


async def test_an_invalid_state_of_a_function_that_raises_gives_way_to_its_error(stores, caplog):
    @persistent(key="k", store=stores, cls=Tally)
    async def spoil(tally, error):
        tally.count = "none"
        if error:
            raise Boom

    with pytest.raises(Boom):
        await spoil(True)
    assert "a state was not saved after a failure (invalid-input)" in caplog.text
    with pytest.raises(InputValidationError):
        await spoil(False)
    assert await kept(stores) is None


async def test_a_cancelled_function_saves_what_it_has(stores):
    begun = asyncio.Event()

    @persistent(key="k", store=stores, cls=Tally)
    async def wait(tally):
        tally.count = 5
        begun.set()
        await asyncio.sleep(60)

    task = asyncio.create_task(wait())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await kept(stores)).count == 5


async def test_another_who_was_first_is_told_or_merged(stores):
    for merge in (None, lambda base, ours, theirs: Tally(ours.count + theirs.count - base.count)):
        await StateManager(stores, "m", cls=Tally, merge=lambda _b, ours, _t: ours).save(Tally(1))

        @persistent(key="m", store=stores, cls=Tally, merge=merge)
        async def add(tally):
            async with stores.state("m", Tally).edit() as other:
                other.count += 10
            tally.count += 1

        if merge is None:
            with pytest.raises(RevisionConflict):
                await add()
        else:
            await add()
            assert (await kept(stores, "m")).count == 12


def our_locals(error):
    """What the frames of ours hold, of an error and of what is chained to it."""
    texts = []
    while error is not None:
        frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
        texts += [repr(one.f_locals) for one in frames if os.sep + "flowpersist" + os.sep in one.f_code.co_filename]
        error = error.__cause__ or error.__context__
    return "".join(texts)


def spoiled(tally, words):
    tally.words += words
    tally.count = {words[0]: 1}


async def through_a_function(stores, words, error):
    @persistent(key="k", store=stores, cls=Tally, checkpoint_every=timedelta(milliseconds=1))
    async def function(tally, words):
        spoiled(tally, words)
        await asyncio.sleep(0.05)
        raise error

    await function(words)


async def through_a_generator(stores, words, error):
    @persistent(key="k", store=stores, cls=Tally, checkpoint_every=1)
    async def generator(tally, words):
        yield spoiled(tally, words)
        raise error

    async for _ in generator(words):
        pass


async def through_a_block(stores, words, error):
    async with stores.state("k", Tally).edit(save_on_error=True) as tally:
        spoiled(tally, words)
        raise error


async def through_the_end_of_a_block(stores, words, error):
    async with stores.state("k", Tally).edit() as tally:
        spoiled(tally, words)


@pytest.mark.parametrize(
    "way",
    [through_a_function, through_a_generator, through_a_block, through_the_end_of_a_block],
    ids=lambda one: one.__name__,
)
async def test_neither_frames_of_ours_nor_logs_hold_a_state(stores, caplog, way):
    canary = "canary-of-a-state"
    with pytest.raises((Boom, InputValidationError)) as raised:
        await way(stores, [canary], Boom())
    assert canary not in our_locals(raised.value)
    assert canary not in caplog.text


# -------------------------------------------------------------------------------------------------------------- retries


@pytest.mark.parametrize("save", [True, False], ids=["saved", "not saved"])
async def test_a_retry_loads_and_saves_again(stores, save, caplog):
    @persistent(key="k", store=stores, cls=Tally, save_on_error=save, retry={"on": Boom, "attempts": 3, **QUICK})
    async def add(tally, failing):
        tally.count += 1
        if failing:
            failing.pop()
            raise Boom

    await add([1, 1])
    assert (await kept(stores)).count == (3 if save else 1)
    with pytest.raises(Boom):
        await add(["canary-argument"] * 3)
    assert "canary-argument" not in str([vars(record) for record in caplog.records])


async def test_retries_after_a_class_or_as_a_function_says(stores):
    tried = []
    with stamina.set_testing(True, attempts=3):
        for retry in (Boom, (Boom, OSError), lambda error: isinstance(error, Boom)):

            @persistent(key="k", store=stores, cls=Tally, retry=retry)
            async def fail(tally):
                tried.append(1)
                raise Boom

            with pytest.raises(Boom):
                await fail()
    assert len(tried) == 9


def test_without_stamina_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "stamina", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'flowpersist\[retry\]'"):
        persistent(key="k", store="memory://", retry=Boom)


# ----------------------------------------------------------------------------------------------------------- generators


async def test_a_generator_saves_at_its_end_when_it_is_left_and_when_it_raises(stores):
    @persistent(key="k", store=stores, cls=Tally)
    async def words(tally, *given):
        try:
            for word in given:
                tally.words.append(word)
                yield word
        finally:
            tally.count += 1

    assert inspect.isasyncgenfunction(words)
    assert [word async for word in words("a", "b")] == ["a", "b"]
    assert await kept(stores) == Tally(1, ["a", "b"])
    async with aclosing(words("c", "d")) as left:
        assert await anext(left) == "c"
    assert await kept(stores) == Tally(2, ["a", "b", "c"])

    @persistent(key="k", store=stores, cls=Tally, save_on_error=False)
    async def fail(tally):
        tally.count = 50
        yield 1
        raise Boom

    with pytest.raises(Boom):
        assert [one async for one in fail()] == []
    assert (await kept(stores)).count == 2


async def test_checkpoints_after_so_many_items(stores):
    @persistent(key="k", store=stores, cls=Tally, checkpoint_every=2)
    async def numbers(tally):
        for number in range(5):
            tally.count = number
            yield number

    seen = []
    async for _ in numbers():
        found = await kept(stores)
        seen.append(None if found is None else found.count)
    assert seen == [None, None, 1, 1, 3]
    assert (await kept(stores)).count == 4


async def test_checkpoints_each_time_that_long(stores):
    @persistent(key="k", store=stores, cls=Tally, checkpoint_every=timedelta(milliseconds=5), save_on_error=False)
    async def work(tally):
        tally.count = 7
        async with asyncio.timeout(20):
            while await kept(stores) is None:
                await asyncio.sleep(0.01)
        raise Boom

    with pytest.raises(Boom):
        await work()
    assert (await kept(stores)).count == 7


async def test_a_generator_that_is_retried_begins_again(stores):
    @persistent(key="k", store=stores, cls=Tally, retry={"on": Boom, "attempts": 2, **QUICK})
    async def words(tally):
        tally.count += 1
        yield tally.count
        if tally.count == 1:
            raise Boom

    assert [one async for one in words()] == [1, 2]


# ----------------------------------------------------------------------------------------------------- stores that fail


async def test_a_function_works_on_while_its_store_is_down():
    async def briefly(seconds):
        await asyncio.sleep(min(seconds, 0.02))

    backend = FaultyBackend(MemoryBackend())
    runtime = Runtime(attempts=1, sleep=briefly)
    async with open_test_hub(backend, keyring=RING, runtime=runtime) as hub:
        stores = Stores(hub)

        @persistent(key="k", store=stores, cls=Tally)
        async def add(tally):
            tally.count += 1
            return tally.count

        assert await add() == 1
        backend.fail("get", times=1000)
        backend.fail("put", times=1000)
        assert [await add() for _ in range(3)] == [2, 3, 4]
        for operation in ("get", "put"):
            backend._plan(operation).faults.clear()
        async with asyncio.timeout(20):
            while (await kept(stores)).count < 4:
                await asyncio.sleep(0.01)
        assert await add() == 5


PROGRAM = """
import asyncio, os, sys
import attrs
from flowpersist import KeyRing
from flowpersist.stores import persistent

@attrs.define
class Tally:
    count: int = 0
    words: list[str] = attrs.field(factory=list)

url, ring, how = sys.argv[1:]
common = {"key": "k", "store": url, "cls": Tally, "keyring": KeyRing.parse(ring)}

@persistent(**common)
async def function(tally):
    tally.count += 1
    print("loaded", flush=True)
    await asyncio.sleep(60)

@persistent(**common, checkpoint_every=1)
async def generator(tally):
    while True:
        tally.count += 1
        yield tally.count

async def main():
    if how == "function":
        await function()
    async for count in generator():
        if count >= 12:
            print("loaded", flush=True)
            await asyncio.sleep(60)

asyncio.run(main())
"""


@pytest.mark.parametrize(("how", "expected"), [("function", 10), ("generator", 11)], ids=["function", "generator"])
@pytest.mark.parametrize("backend", ["sqlite", "filesystem", "postgres", "redis", "mongodb", "neo4j"])
async def test_a_process_that_is_killed_leaves_the_last_state_that_was_saved(backend, url, how, expected):
    async with open_test_hub(url, keyring=RING) as hub:
        stores = Stores(hub)
        await stores.state("k", Tally).save(Tally(10))
        arguments = [sys.executable, "-c", PROGRAM, url, RING.export(), how]
        running = await asyncio.create_subprocess_exec(*arguments, stdout=asyncio.subprocess.PIPE)
        assert await running.stdout.readline() == b"loaded\n"
        os.kill(running.pid, signal.SIGKILL)
        await running.wait()
        assert (await kept(stores)).count == expected


def test_a_function_runs_on_one_event_loop_after_another(tmp_path):
    @persistent(key="k", store=f"sqlite:///{tmp_path}/s.db", cls=Tally, keyring=None)
    async def add(tally):
        tally.count += 1
        return tally.count

    assert [asyncio.run(add()) for _ in range(3)] == [1, 2, 3]


# ------------------------------------------------------------------------------------------------------ plain functions


def test_plain_functions_methods_and_generators(tmp_path):
    common = {"key": "k", "store": f"sqlite:///{tmp_path}/s.db", "cls": Tally, "keyring": None}

    @blocking.persistent(**common)
    def add(tally: Tally, number: int) -> int:
        tally.count += number
        return tally.count

    @blocking.persistent(**common, checkpoint_every=1)
    def words(tally, *given):
        try:
            for word in given:
                tally.words.append(word)
                yield word
        finally:
            tally.count += 1

    @blocking.persistent(**common, save_on_error=True)
    def fail(tally):
        tally.count += 1
        raise Boom

    assert [add(1), add(2)] == [1, 3]
    assert str(inspect.signature(add)) == "(number: 'int') -> 'int'"
    assert not inspect.iscoroutinefunction(add)
    assert list(words("a", "b")) == ["a", "b"]
    left = words("c", "d")
    assert next(left) == "c"
    left.close()
    with pytest.raises(Boom):
        fail()
    with blocking.open_stores(common["store"], keyring=None) as stores:
        manager = stores.state("k", Tally)
        assert manager.load() == Tally(6, ["a", "b", "c"])
        assert (manager.degraded, manager.info.schema_version) == (False, 1)
        with manager.edit() as tally:
            tally.count = 7
        manager.close()

        @blocking.persistent(key="k", store=stores, cls=Tally)
        def last(tally):
            return tally.count, stores.state("other", Tally).load()

        assert last() == (7, None)


def test_plain_methods(tmp_path):
    common = {"key": "k", "store": f"sqlite:///{tmp_path}/s.db", "cls": Tally, "keyring": None}

    class Agent:
        tally = None

        @blocking.persistent(**common, attribute="tally")
        def held(self):
            self.tally.count += 1
            return self.tally.count

        @blocking.persistent(**common, retry={"on": Boom, "attempts": 2, **QUICK})
        def given(self, tally, failing):
            if failing:
                raise failing.pop()
            return tally.count

    assert Agent().held() == 1
    assert Agent().given([Boom()]) == 1


def test_threads_lose_no_call(tmp_path):
    @blocking.persistent(key="k", store=f"sqlite:///{tmp_path}/s.db", cls=Tally, keyring=None)
    def add(tally):
        tally.count += 1
        return tally.count

    with ThreadPoolExecutor(4) as threads:
        assert sorted(threads.map(lambda _: add(), range(12))) == list(range(1, 13))


REFUSED = {
    "a plain function": (lambda **k: persistent(**k)(print), TypeError, "flowpersist.blocking.persistent"),
    "an async function": (
        lambda **k: blocking.persistent(**k)(asyncio.sleep),
        TypeError,
        "flowpersist.stores.persistent",
    ),
    "items of a function": (lambda **k: persistent(**k, checkpoint_every=5)(asyncio.sleep), TypeError, "timedelta"),
    "time of a thread": (
        lambda **k: blocking.persistent(**k, checkpoint_every=timedelta(1)),
        ConfigurationError,
        "number of items",
    ),
    "no time": (
        lambda **k: persistent(**k, checkpoint_every=timedelta(0))(asyncio.sleep),
        ConfigurationError,
        "positive",
    ),
    "an attribute that is none": (lambda **k: persistent(**k, attribute=5), TypeError, "attribute"),
    "what is no flag": (lambda **k: persistent(**k, save_on_error=1), TypeError, "save_on_error"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_makes_no_sense_is_refused(case):
    call, error, told = REFUSED[case]
    with pytest.raises(error, match=told):
        call(key="k", store="memory://")


async def test_a_blocking_function_refuses_a_running_loop():
    @blocking.persistent(key="k", store="memory://", keyring=None)
    def add(state):
        return state

    with pytest.raises(RuntimeError, match="running event loop"):
        add()
