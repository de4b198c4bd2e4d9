"""With ``verify`` a state that would not come back is refused before anything is stored."""

from __future__ import annotations

from typing import Any

import pytest

from flowpersist import AwaitInput, Criteria, PersistenceHub, open_hub, or_raise
from flowpersist.codec import Codec, TypeRegistry
from flowpersist.errors import UnsupportedType
from flowpersist.stores import Stores

CONFIRM = AwaitInput(id="confirm", prompt="Ship it?", schema=bool)


class Forgetful:
    """Its functions lose what it holds, or can't take it."""

    def __init__(self, value: Any) -> None:
        self.value = value


def load(value: Any) -> Forgetful:
    if value == "raises":
        raise ValueError
    return Forgetful(0)


def types() -> TypeRegistry:
    registry = TypeRegistry()
    registry.register(Forgetful, encode=lambda one: one.value, decode=load)
    return registry


LOST: dict[str, Any] = {
    "alone": Forgetful(1),
    "within": [{"a": Forgetful(1)}] * 3,
    "raises": Forgetful("raises"),
    "among many": [Forgetful(0) for _ in range(500)] + [Forgetful(1)],
}


async def stored(hub: PersistenceHub) -> int:
    return len(or_raise(await hub.query(Criteria())).items)


@pytest.mark.parametrize("name", LOST)
async def test_nothing_is_stored_of_a_state_that_would_not_come_back(name):
    async with open_hub("memory://", keyring=None, types=types()) as hub:
        error = (await hub.suspend(LOST[name], awaiting=CONFIRM, verify=True)).failure()
        assert isinstance(error, UnsupportedType)
        assert "Forgetful" in str(error)
        assert error.path is not None
        assert await stored(hub) == 0
        reserved = or_raise(await hub.reserve(CONFIRM))
        assert isinstance((await hub.suspend(LOST[name], key=reserved.key, verify=True)).failure(), UnsupportedType)
        run = or_raise(await hub.claim(or_raise(await hub.suspend("state")).key))
        assert isinstance((await hub.suspend_next(run, LOST[name], verify=True)).failure(), UnsupportedType)
        assert or_raise(await hub.suspend_next(run, "next", verify=True)).id == run.suspension.id


@pytest.mark.parametrize("name", LOST)
async def test_a_hub_that_verifies_does_so_at_every_call(name):
    async with open_hub("memory://", keyring=None, types=types(), verify=True) as hub:
        assert isinstance((await hub.suspend(LOST[name])).failure(), UnsupportedType)
        assert await stored(hub) == 0


@pytest.mark.parametrize(
    "state",
    [None, {"a": [1, 2]}, [Forgetful(0)], [{"id": at} for at in range(2000)], {frozenset({1, (2, 3)})}],
    ids=["nothing", "small", "registered", "large", "set"],
)
async def test_what_comes_back_is_stored(state):
    async with open_hub("memory://", keyring=None, types=types(), verify=True) as hub:
        run = or_raise(await hub.resume(or_raise(await hub.suspend(state)).key))
        assert type(run.state) is type(state)
        assert await stored(hub) == 1


async def test_without_it_a_faulty_function_is_found_when_it_is_too_late():
    async with open_hub("memory://", keyring=None, types=types()) as hub:
        new = or_raise(await hub.suspend(Forgetful(1)))
        assert or_raise(await hub.resume(new.key)).state.value == 0


@pytest.mark.parametrize("verify", [None, 1, "yes"])
async def test_verify_is_a_flag(verify):
    with pytest.raises(TypeError):
        Codec(verify=verify)
    async with open_hub("memory://", keyring=None) as hub:
        with pytest.raises(TypeError):
            await hub.suspend(1, verify=verify)


async def test_what_a_store_of_a_verifying_hub_keeps_is_verified_too():
    async with open_hub("memory://", keyring=None, types=types(), verify=True) as hub:
        store = Stores(hub).values("kept")
        with pytest.raises(UnsupportedType, match="Forgetful"):
            await store.save("name", Forgetful(1))
        assert await store.load("name") is None
        await store.save("name", Forgetful(0))
