"""What the package says of itself: its licence, its version, and where its smaller promises are kept."""

from __future__ import annotations

import tomllib
from enum import Enum
from importlib.metadata import version
from pathlib import Path
from typing import Literal, NamedTuple

import pytest
import pytest_asyncio
from attrs import asdict, frozen

import flowpersist
from flowpersist import (
    AwaitInput,
    Codec,
    ConfigurationError,
    InputValidationError,
    KeyRing,
    RaisingHub,
    TypeRegistry,
    or_raise,
)
from flowpersist.backends.memory import MemoryBackend
from flowpersist.errors import KeyValidationError, SerializationError, UnexpectedType
from flowpersist.sealed.retrying import Runtime
from flowpersist.settings import Settings
from flowpersist.testing import open_test_hub
from flowpersist.testing.faults import FaultyBackend

ROOT = Path(__file__).parents[2]


@frozen
class Decision:
    approve: bool
    reason: str = ""


DECIDE = AwaitInput(id="decide", prompt="Approve?", schema=Decision)


@pytest_asyncio.fixture(loop_scope="module")
async def hub():
    async with open_test_hub() as opened:
        yield RaisingHub(opened)


def test_the_licence_is_told_in_the_metadata_the_file_and_the_readme():
    told = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert (told["license"], told["license-files"]) == ("Apache-2.0", ["LICENSE"])
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License\n" in text
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text
    assert "[Apache License 2.0](LICENSE)" in (ROOT / "README.md").read_text()


def test_the_version_is_that_of_the_metadata():
    told = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert flowpersist.__version__ == version("flowpersist") == told


# ------------------------------------------------------------------------------------- the class of an answer


async def test_an_answer_is_of_the_schema_s_class_where_what_was_asked_is_named(hub):
    for take in (hub.resume, hub.claim):
        new = await hub.suspend(1, awaiting=DECIDE)
        run = await take(new.key, {"approve": True}, awaiting=DECIDE)
        assert run.answer == run.answers["decide"] == Decision(approve=True)
    new = await hub.suspend(1, awaiting=DECIDE)
    async with hub.running(new.key, Decision(approve=False), awaiting=DECIDE) as run:
        assert run.answer == Decision(approve=False)
    new = await hub.suspend(1, awaiting=DECIDE)
    assert (await hub.resume(new.key, {"approve": True})).answer == {"approve": True}


async def test_what_was_asked_otherwise_leaves_the_run_as_it_was(hub):
    other = AwaitInput(id="other", prompt="", schema=bool)
    new = await hub.suspend(1, awaiting=DECIDE)
    with pytest.raises(UnexpectedType, match="'decide' is not to 'other'"):
        await hub.resume(new.key, {"approve": True}, awaiting=other)
    assert (await hub.inspect(new.key)).status == "waiting"
    await hub.answer(new.key, {"approve": True})
    narrower = AwaitInput(id="decide", prompt="", schema=Literal["yes"])
    with pytest.raises(InputValidationError):
        await hub.claim(new.key, awaiting=narrower)
    assert (await hub.inspect(new.key)).status == "answered"
    nothing = await hub.suspend(1)
    with pytest.raises(UnexpectedType, match="no answer to 'decide'"):
        await hub.resume(nothing.id, awaiting=DECIDE)
    assert (await hub.resume(nothing.id)).answer is None


@pytest.mark.parametrize(
    ("schema", "value", "wrong"),
    [(Literal["yes", "no"], "yes", "perhaps"), (int | None, None, "7"), (Decision | None, {"approve": True}, 7)],
)
async def test_literals_and_unions_are_schemas(hub, schema, value, wrong):
    ask = AwaitInput(id="a", prompt="", schema=schema)
    new = await hub.suspend(1, awaiting=ask)
    with pytest.raises(InputValidationError):
        await hub.answer(new.key, wrong)
    run = await hub.resume(new.key, value, awaiting=ask)
    assert run.answer == or_raise(ask.parse(value))


# ---------------------------------------------------------------------------------------------------------- links


@pytest.mark.parametrize("public_url", ["https://approve.example/answers", "https://approve.example/answers/"])
async def test_a_link_is_the_public_url_with_the_key_behind_it(public_url):
    async with open_test_hub(public_url=public_url) as hub:
        new = or_raise(await hub.suspend(1, awaiting=DECIDE))
        assert new.link == f"https://approve.example/answers/{new.key}"
        assert new.links == {"decide": new.link}
        assert str(new.key) not in repr(new)
        assert str(new.key) not in str(asdict(new))
        reserved = or_raise(await hub.reserve({"a": DECIDE, "b": DECIDE}))
        assert {name: link.rsplit("/", 1)[1] for name, link in reserved.links.items()} == {
            name: str(key) for name, key in reserved.keys.items()
        }
        with pytest.raises(ValueError, match="2 keys"):
            _ = reserved.link
        run = or_raise(await hub.claim(new.key, Decision(approve=True)))
        again = or_raise(await hub.suspend_next(run, 2, awaiting=DECIDE))
        assert again.link == f"https://approve.example/answers/{again.key}"


async def test_without_a_public_url_there_are_no_links(hub):
    new = await hub.suspend(1, awaiting=DECIDE)
    with pytest.raises(ConfigurationError, match="public_url"):
        _ = new.link


@pytest.mark.parametrize(
    "wrong", ["approve.example", "ftp://a", "https://", "https://a/?b", "https://a/#b", "https://a b"]
)
async def test_a_public_url_that_can_hold_no_key_is_refused(wrong):
    with pytest.raises(ConfigurationError, match="public_url"):
        async with open_test_hub(public_url=wrong):
            pass
    with pytest.raises(ConfigurationError, match="PUBLIC_URL"):
        Settings.from_environ({"FLOWPERSIST_PUBLIC_URL": wrong})


# -------------------------------------------------------------------------------------------- what is said of faults


async def broken_while_the_store_is_away(door, backend, key, runs):
    async with door.running(key, Decision(approve=True)) as run:
        runs.append(run)
        backend.fail("put", times=Runtime().attempts)
        _ = 1 / 0


async def test_a_release_that_fails_is_in_the_log_and_the_block_s_error_comes_out(caplog):
    backend = FaultyBackend(MemoryBackend())
    async with open_test_hub(backend) as opened:
        for door in (opened, RaisingHub(opened)):
            runs: list[object] = []
            new = or_raise(await opened.suspend(1, awaiting=DECIDE))
            caplog.clear()
            with pytest.raises(ZeroDivisionError):
                await broken_while_the_store_is_away(door, backend, new.key, runs)
            assert len(runs) == 1
            assert f"run {new.id} could not be released" in caplog.text
            assert or_raise(await opened.inspect(new.id)).status == "running"


def upgraded(cls: type, upgrades) -> Codec:
    types = TypeRegistry()
    types.register(cls, name="shop.Order", version=3, upgrades={1: lambda fields: fields, 2: upgrades})
    return Codec(types=types)


class Named(NamedTuple):
    article: str


class Colour(Enum):
    RED = 1


class Bag(dict):
    pass


class Stateful:
    def __init__(self) -> None:
        self.article = "lamp"

    def __getstate__(self):
        return {"article": self.article}

    def __setstate__(self, state):
        self.article = state["article"]


def bag() -> Bag:
    made = Bag(a=1)
    made.article = "lamp"
    return made


@pytest.mark.parametrize(
    ("cls", "value"),
    [
        (Decision, Decision(approve=True)),
        (Named, Named("lamp")),
        (Colour, Colour.RED),
        (Stateful, Stateful()),
        (Bag, bag()),
    ],
    ids=lambda value: getattr(value, "__name__", "value"),
)
@pytest.mark.parametrize("count", [1, 300])
def test_an_upgrade_that_raises_is_named_and_is_no_damage(cls, value, count):
    types = TypeRegistry()
    types.register(cls, name="shop.Order", version=2)
    data = Codec(types=types).encode([value, *range(count)]).unwrap()

    def broken(fields):
        raise LookupError(str(fields))

    error = upgraded(cls, broken).decode(data).failure()
    assert type(error) is SerializationError
    assert "upgrade of shop.Order from version 2 to 3 raised LookupError; fix upgrades[2]" in error.message
    assert "lamp" not in error.message


class Fragile(Stateful):
    def __setstate__(self, state):
        raise LookupError(str(state))


def fragile(value):
    raise LookupError(str(value))


@pytest.mark.parametrize("count", [1, 300])
@pytest.mark.parametrize("function", ["decode=", "__setstate__"])
def test_a_function_of_the_user_s_that_raises_is_named_and_is_no_damage(function, count):
    types = TypeRegistry()
    if function == "decode=":
        types.register(Stateful, name="shop.Order", encode=vars, decode=fragile)
        data = Codec(types=types).encode([Stateful(), *range(count)]).unwrap()
    else:
        types.register(Fragile, name="shop.Order")
        data = Codec(types=types).encode([Fragile(), *range(count)]).unwrap()
    error = Codec(types=types).decode(data).failure()
    assert type(error) is SerializationError
    assert f"the {function} of shop.Order raised LookupError; mend it" in error.message
    assert "lamp" not in error.message


def test_an_upgrade_that_gives_no_fields_is_named():
    types = TypeRegistry()
    types.register(Decision, name="shop.Order", version=2)
    data = Codec(types=types).encode(Decision(approve=True)).unwrap()
    error = upgraded(Decision, lambda fields: None).decode(data).failure()
    assert "upgrade of shop.Order from version 2 to 3 returned a NoneType" in error.message


async def test_a_run_whose_upgrade_is_faulty_stays_as_it_was():
    backend = MemoryBackend()
    before, after = TypeRegistry(), TypeRegistry()
    before.register(Decision, name="shop.Order")
    after.register(Decision, name="shop.Order", version=2, upgrades={1: lambda fields: fields["gone"]})
    ring = KeyRing.generate()
    async with open_test_hub(backend, types=before, keyring=ring) as hub:
        new = or_raise(await hub.suspend(Decision(approve=True), awaiting=AwaitInput(id="a", prompt="")))
    async with open_test_hub(backend, types=after, keyring=ring) as hub:
        refused = (await hub.resume(new.key, 1)).failure()
        assert "upgrade of shop.Order from version 1 to 2 raised KeyError" in refused.message
        assert or_raise(await hub.inspect(new.key)).status == "waiting"


async def test_an_id_given_as_text_for_a_key_is_told_to_be_one(hub):
    new = await hub.suspend(1, awaiting=DECIDE)
    for call in (hub.inspect, hub.resume, hub.claim, hub.cancel, hub.outcome):
        with pytest.raises(KeyValidationError, match=r"suspension's id as text.* SuspensionId.parse"):
            await call(str(new.id))
    assert (await hub.inspect(new.id)).status == "waiting"
    with pytest.raises(KeyValidationError, match="copy the whole key"):
        await hub.inspect(str(new.id)[:-1])
