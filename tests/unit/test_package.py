"""What the package says of itself: its licence, its version, and where its smaller promises are kept."""

from __future__ import annotations

import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import pytest
from attrs import frozen

import flowpersist
from flowpersist import AwaitInput, InputValidationError, RaisingHub, or_raise
from flowpersist.errors import UnexpectedType
from flowpersist.testing import open_test_hub

ROOT = Path(__file__).parents[2]


@frozen
class Decision:
    approve: bool
    reason: str = ""


DECIDE = AwaitInput(id="decide", prompt="Approve?", schema=Decision)


@pytest.fixture
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
