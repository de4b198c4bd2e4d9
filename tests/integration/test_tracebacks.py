"""What users' code raises is logged with a traceback: without values and messages, or whole where debugging is on."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta

import pytest
from attrs import evolve
from click.testing import CliRunner

from flowpersist import AwaitInput, Maintenance, Status, or_raise
from flowpersist.cli.commands import command
from flowpersist.dynamicflow import FlowRunner, Join, Migration, tool
from flowpersist.dynamicflow.compile import compile as compile_flow
from flowpersist.errors import ConfigurationError, StorageError
from flowpersist.errors.tracebacks import MOST_CHARACTERS, MOST_OF_WHOLE, Tracebacks
from flowpersist.hub.worker import Backoff
from flowpersist.settings import Settings
from flowpersist.testing.hubs import open_test_hub

CANARY = "canary-of-the-state"
CONFIRM = AwaitInput(id="confirm", prompt="Ship it?", schema=bool)


class Broken(Exception):
    """What the code of these tests raises."""


def burst(value):
    within = value
    raise Broken(within)


async def until(condition):
    async with asyncio.timeout(2):
        while not await condition():
            await asyncio.sleep(0.001)


async def stopped(task):
    task.cancel()
    await asyncio.wait({task})


# Where users' code runs, and what is done there that raises: each logs one traceback.


async def handlers(hub):
    new = or_raise(await hub.suspend(CANARY, awaiting=CONFIRM))
    or_raise(await hub.answer(new.key, True))

    async def handler(run):
        burst(run.state)

    worker = asyncio.create_task(hub.work(handler, max_attempts=1, backoff=Backoff(timedelta(0))))

    async def failed():
        return or_raise(await hub.inspect(new.id)).status is Status.FAILED

    await until(failed)
    await stopped(worker)


async def observers(hub):
    told = hub.suspensions.observer
    hub.suspensions.observer = evolve(told, on_event=lambda event: burst(CANARY + event.verb))
    or_raise(await hub.suspend(1))


@tool()
async def breaking(text: str) -> str:
    return burst(text)


@tool()
async def echo(text: str) -> str:
    return text


async def tools(hub):
    await FlowRunner(hub, [breaking]).start(
        {"name": "f", "flow": [{"id": "b", "tool": "breaking", "args": {"text": CANARY}}]}
    )


async def joins(hub):
    document = {
        "name": "f",
        "flow": [{"id": "a", "tool": "echo", "args": {"text": CANARY}}, {"id": "b", "tool": "breaking"}],
    }
    await FlowRunner(hub, [echo, breaking], [Join("echo", "breaking", burst)]).start(document)


async def migrations(hub):
    document = {
        "name": "f",
        "flow": [{"id": "a", "tool": "await_input", "args": {"prompt": CANARY, "schema": {"type": "boolean"}}}],
    }
    other = {**document, "name": "g"}
    hashes = [or_raise(compile_flow(one)).hash for one in (document, other)]
    migration = Migration(*hashes, lambda state: burst(str(state)))
    waiting = or_raise(await FlowRunner(hub).start(document))
    await FlowRunner(hub, migrations=[migration]).resume(waiting.waits[0].key, answer=True, document=other)


async def renewals(hub):
    """An authorizer that is asked by the task that renews in the background."""
    new = or_raise(await hub.suspend(CANARY))
    asked = asyncio.Event()

    def authorizer(verb, suspension, by):
        if verb == "renew" and not asked.is_set():
            asked.set()
            burst(CANARY)
        return True

    hub.suspensions._authorizer = authorizer
    async with hub.running(new.key, lease=timedelta(seconds=2)) as run:
        or_raise(run)
        await asyncio.wait_for(asked.wait(), 20)
        await asyncio.sleep(0)
    assert or_raise(await hub.inspect(new.id)).status is Status.COMPLETED


async def followers(hub):
    """A flow whose follower leaves before it has raised."""
    runner = FlowRunner(hub, [echo])
    started = asyncio.Event()

    async def start(*_):
        started.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            burst(CANARY)

    runner._start = start
    events = runner.stream({"name": "f", "flow": []})
    first = asyncio.create_task(anext(events))
    await asyncio.wait_for(started.wait(), 2)
    await stopped(first)
    await events.aclose()


PLACES = [handlers, observers, tools, joins, migrations, renewals, followers]


def raised(caplog):
    return [record for record in caplog.records if "Broken" in record.getMessage()]


@pytest.mark.parametrize("place", PLACES)
async def test_a_traceback_without_values_is_logged_as_an_error(place, caplog):
    async with open_test_hub() as hub:
        await place(hub)
    (record,) = raised(caplog)
    message = record.getMessage()
    assert record.levelno == logging.ERROR
    assert record.name.startswith("flowpersist.")
    assert f'File "{__file__}", line {burst.__code__.co_firstlineno + 2}, in burst' in message
    assert message.endswith("test_tracebacks.Broken")
    assert record.exc_info is None
    assert record.exc_text is None
    assert CANARY not in caplog.text
    assert "within" not in caplog.text


@pytest.mark.parametrize("place", PLACES)
async def test_with_debug_it_is_whole_and_opening_warns(place, caplog):
    async with open_test_hub(debug=True) as hub:
        (warning,) = [one for one in caplog.records if one.name == "flowpersist"]
        assert warning.levelno == logging.WARNING
        assert "may hold state" in warning.getMessage()
        await place(hub)
    (record,) = raised(caplog)
    assert CANARY in record.getMessage()
    assert "raise Broken(within)" in record.getMessage()


@pytest.mark.parametrize(("text", "whole"), [("on", True), ("1", True), ("off", False), ("0", False)])
async def test_the_environment_turns_it_on(text, whole):
    settings = Settings.from_environ({"FLOWPERSIST_DEBUG": text})
    async with open_test_hub(settings=settings) as hub:
        assert hub.suspensions.tracebacks.whole is whole
    async with open_test_hub(settings=settings, debug=False) as hub:
        assert hub.suspensions.tracebacks.whole is False


def test_another_word_in_the_environment_is_refused():
    with pytest.raises(ConfigurationError, match="FLOWPERSIST_DEBUG"):
        Settings.from_environ({"FLOWPERSIST_DEBUG": "perhaps"})


async def test_a_round_of_maintenance_that_fails_shows_where(caplog):
    class Down(StorageError):
        """A store's failure, with what it was caused by."""

    async def query(*_args, **_kwargs):
        try:
            burst(CANARY)
        except Broken as error:
            message = "the store is down"
            raise Down(message, "memory") from error

    async with open_test_hub() as hub:
        hub.backend.query = query
        maintenance = asyncio.create_task(Maintenance(hub).run_forever(timedelta(seconds=60)))

        async def told():
            return bool(raised(caplog))

        await until(told)
        await stopped(maintenance)
    message = raised(caplog)[0].getMessage()
    assert message.startswith("maintenance failed, trying again in 0:01:00: the store is down\n")
    assert message.index("in burst") < message.index("test_tracebacks.Broken") < message.index("direct cause")
    assert CANARY not in message


# ------------------------------------------------------------------------------------------------------------ the text


def fail(error, cause=None):
    raise error from cause


def caught(function, *args):
    try:
        function(*args)
    except Exception as error:  # noqa: BLE001 - any
        return error


def grouped():
    """A group with a chain in it, raised while another was handled."""
    made = [caught(fail, ValueError(CANARY), cause) for cause in (Broken(CANARY), None)]
    within = ExceptionGroup(CANARY, [KeyError(CANARY)])
    group = ExceptionGroup(CANARY, [*made, within])
    group.__context__ = caught(burst, CANARY)
    return group


def test_groups_causes_and_contexts_are_told():
    text = Tracebacks().text(grouped())
    assert text.count("Broken") == 2
    assert text.count("ValueError") == 2
    assert text.count("ExceptionGroup") == 2
    assert "KeyError" in text
    assert "During handling" in text
    assert "direct cause" in text
    assert "--- 3 of 3" in text
    assert CANARY not in text


def recursing(depth):
    return burst(CANARY) if not depth else recursing(depth - 1)


def chained(length):
    error = None
    for _ in range(length):
        later = Broken(CANARY)
        later.__cause__ = error
        error = later
    return error


def nested(depth):
    error = Broken(CANARY)
    for _ in range(depth):
        error = ExceptionGroup(CANARY, [error])
    return error


def circular():
    one, other = Broken(CANARY), ValueError(CANARY)
    one.__cause__, other.__cause__ = other, one
    return one


class Unspeakable(Exception):
    def __str__(self):
        raise Broken


EXTREMES = {
    "deep": lambda: caught(recursing, 800),
    "long": lambda: chained(1000),
    "wide": lambda: ExceptionGroup(CANARY, [Broken(CANARY)] * 5000),
    "nested": lambda: nested(200),
    "circular": circular,
    "large": lambda: Broken(CANARY * 100_000),
    "unspeakable": Unspeakable,
    "named": lambda: type("Na\nme" * 1000, (Exception,), {})(CANARY),
}


@pytest.mark.parametrize("name", EXTREMES)
def test_it_is_bounded_and_never_fails(name):
    error = EXTREMES[name]()
    plain, whole = Tracebacks().text(error), Tracebacks(whole=True).text(error)
    assert 0 < len(plain) < MOST_CHARACTERS + 100
    assert 0 < len(whole) < MOST_OF_WHOLE + 100
    assert CANARY not in plain
    assert "\nme" not in plain


def test_both_ends_of_a_long_traceback_are_told():
    text = Tracebacks().text(caught(recursing, 800))
    assert "in caught" in text
    assert "in burst" in text
    assert " frames more" in text


# --------------------------------------------------------------------------------------------------------- the command

TOOLS = f"""
def burst():
    raise LookupError("{CANARY}")

class Tools:
    def __iter__(self):
        burst()
        yield

tools = Tools()
"""


@pytest.mark.parametrize("debug", [(), ("--debug",)])
def test_the_command_tells_what_users_code_raises(tmp_path, debug):
    (tmp_path / "tools.py").write_text(TOOLS)
    (tmp_path / "flow.json").write_text('{"name": "f", "flow": []}')
    line = [*debug, "--url", "memory://", "run", str(tmp_path / "flow.json"), "--tools", str(tmp_path / "tools.py")]
    done = CliRunner().invoke(command, line)
    assert done.exit_code == 1
    assert "in burst" in done.stderr
    assert "LookupError" in done.stderr
    assert (CANARY in done.stderr) is bool(debug)


def test_the_command_tells_an_error_of_ours_by_a_line_and_with_debug_by_all():
    for debug in ((), ("--debug",)):
        done = CliRunner().invoke(command, [*debug, "--url", "memory://", "show", "no-key"])
        assert done.exit_code == 5
        assert ("Traceback" in done.stderr) is bool(debug)
        assert "flowpersist: " in done.stderr.splitlines()[-1]
