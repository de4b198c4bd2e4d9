"""The pieces of the command that no whole run reaches easily."""

from __future__ import annotations

import asyncio
import json
import sys
from datetime import UTC, datetime

import click
import pytest
from click.testing import CliRunner

from flowpersist import ConfigurationError, RaisingHub, SuspensionId
from flowpersist.cli import flows, inputs
from flowpersist.cli.session import Command, Store, described, store_options
from flowpersist.cli.session import place as shown_place
from flowpersist.dynamicflow import Accepted
from flowpersist.errors import BackendUnavailable
from flowpersist.lifecycle import Receipt

MODULE = """
from flowpersist.dynamicflow import tool

@tool(id="one")
async def one() -> int:
    return 1

tools = (one,)
"""


@pytest.fixture
def directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "modules", {**sys.modules})
    (tmp_path / "few_tools.py").write_text(MODULE)


@pytest.mark.parametrize("name", ["few_tools", "few_tools:tools", "few_tools:one", "few_tools.py", "few_tools.py:one"])
def test_tools_come_from_modules_and_files_one_or_several(directory, name):
    assert [tool.id for tool in inputs.load_tools([name])] == ["one"]


def test_tools_of_several_places_are_joined(directory):
    assert len(inputs.load_tools(["few_tools:one", "few_tools:tools"])) == 2


def test_answer_that_another_process_goes_on_with_is_a_receipt():
    known = SuspensionId.new(now=datetime(2026, 1, 1, tzinfo=UTC))
    accepted = Accepted(Receipt("accepted", known, "ok", datetime(2026, 1, 2, tzinfo=UTC), "ana", None))
    assert flows._lines(accepted) == [f"accepted: ok of {known}; another process continues the run"]
    assert flows._data(accepted)["receipt"]["by"] == "ana"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("sqlite:///flows.db?busy_timeout=1", "sqlite:///flows.db"),
        ("file:///var/flows", "file:///var/flows"),
        ("postgresql://ana:secret@host/db", "postgresql:…"),
        ("postgresql://ana:sec/ret@host/db", "postgresql:…"),
    ],
)
def test_store_is_shown_without_what_may_be_secret(url, shown):
    assert shown_place(url) == shown


def test_storage_failure_names_the_store():
    lines = described(BackendUnavailable("it is locked", "sqlite", retryable=True), Store(url="sqlite:///flows.db"))
    assert lines == ["flowpersist: it is locked", "  the store is sqlite:///flows.db"]


def test_wrong_setting_that_the_message_names_is_named_once():
    assert described(ConfigurationError("X is wrong", "X"), Store()) == ["flowpersist: X is wrong"]
    assert described(ConfigurationError("wrong", "X"), Store()) == ["flowpersist: X: wrong"]
    assert described(ConfigurationError("wrong"), Store()) == ["flowpersist: wrong"]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (FileNotFoundError(2, "No such file or directory", "there"), "flowpersist: there: No such file or directory\n"),
        (OSError(28, "No space left on device"), "flowpersist: input or output: No space left on device\n"),
    ],
)
def test_failing_files_are_told_in_a_line(error, said):
    @click.command(cls=Command)
    @store_options
    def failing(*, store):
        raise error

    result = CliRunner().invoke(failing, [])
    assert (result.exit_code, result.stderr) == (7, said)


def test_output_that_nobody_reads_is_no_error_of_ours():
    @click.command(cls=Command)
    @store_options
    def unread(*, store):
        raise BrokenPipeError(32, "Broken pipe")

    result = CliRunner().invoke(unread, [])
    assert result.exit_code == 1
    assert "flowpersist" not in result.stderr


async def suspended_without_a_question(url):
    async with RaisingHub.open(url) as hub:
        return str((await hub.suspend({"step": 1})).id)


def test_suspension_that_awaits_nothing_is_shown(cli, place):
    found = asyncio.run(suspended_without_a_question(f"sqlite:///{place / 'flows.db'}"))
    assert json.loads(cli("show", found, "--json").stdout)["waits"][0]["awaiting"] is None
    assert "df_susp_" in cli("keys", found).stdout
