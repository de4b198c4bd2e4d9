"""What an AwaitInput holds, and what is made of it, is bounded: by every way in, before anything large is made."""

from __future__ import annotations

import time
import tracemalloc
from typing import Any, Literal

import pytest
from returns.result import Success

from flowpersist import AwaitInput, ConfigurationError, InputValidationError, or_raise
from flowpersist.errors import MalformedPayload
from flowpersist.inputs.await_input import MAX_SIZE
from flowpersist.inputs.details import MAX_PROMPT, MAX_TITLE
from flowpersist.inputs.json_types import schema_of
from flowpersist.testing.hubs import open_test_hub

LONG = "x" * 60_000
NAMES = {f"k{n}": n for n in range(3_000)}


def bounded(make: Any) -> Any:
    """What comes of a call that may take little time and memory only."""
    tracemalloc.start()
    started = time.thread_time()
    made = make()
    taken = time.thread_time() - started
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 48 * 1024 * 1024
    assert taken < 2
    return made


#: A prompt or title, and arguments by which it would become too long, or that are too many or too large themselves.
FILLS: list[tuple[dict[str, Any], Any]] = [
    ({"prompt": "$a" * 16_000}, {"a": "x" * 250_000}),
    ({"prompt": "$a " * 16_000}, {"a": [["y" * 100] * 90] * 20}),
    ({"prompt": "$a$b" * 8_000}, {"a": "x", "b": LONG}),
    ({"prompt": "?", "title": "$a" * 2_000}, {"a": LONG}),
    ({"prompt": "?", "title": "$a"}, {"a": "x" * (MAX_TITLE + 1)}),
    ({"prompt": "$a"}, {"a": "x" * (MAX_PROMPT + 1)}),
    ({"prompt": "$a"}, '{"a": "' + "x" * 2_000_000 + '"}'),
    ({"prompt": "$a"}, '{"a": [' + "1," * 500_000 + "1]}"),
    ({"prompt": "$a"}, {"a": "x" * 300_000}),
    ({"prompt": "$a"}, {f"k{n}": n for n in range(20_000)}),
    ({"prompt": "".join(f"$n{n} " for n in range(9_000))}, {}),
    ({"prompt": "$" + "n" * 60_000}, {}),
]


@pytest.mark.parametrize(("fields", "arguments"), FILLS, ids=range(len(FILLS)))
def test_fill_refuses_what_would_become_too_large_before_it_is_made(fields, arguments):
    ask = AwaitInput(id="x", **fields)
    error = bounded(lambda: ask.fill(arguments)).failure()
    assert isinstance(error, InputValidationError)
    assert len(str(error)) < 70_000
    assert "xxxxxxxxxx" not in str(error)


def test_fill_goes_up_to_the_limits():
    ask = AwaitInput(id="x", prompt="$a" * 1_000 + "$$", title="$a")
    filled = ask.fill({"a": "y" * 64}).unwrap()
    assert filled.prompt == "y" * 64_000 + "$"
    assert filled.title == "y" * 64
    assert len(AwaitInput(id="x", prompt="$a").fill({"a": "y" * MAX_PROMPT}).unwrap().prompt) == MAX_PROMPT


#: Fields that are too large, or together.
TOO_LARGE: list[dict[str, Any]] = [
    {"id": "i" * 600},
    {"prompt": "x" * (MAX_PROMPT + 1)},
    {"title": "x" * (MAX_TITLE + 1)},
    {"prompt": "\ud800"},
    {"title": "\ud800"},
    {"shown": {"a": "x" * 300_000}},
    {"shown": {"a": [0] * 20_000}},
    {"shown": {"a": 10**5_000}},
    {"parameters": {"description": "x" * 300_000}},
    {"parameters": {"properties": {f"k{n}": {"type": "string"} for n in range(6_000)}}},
    {"schema": {"description": "x" * 300_000}},
    {"schema": {"enum": list(range(20_000))}},
    {"schema": Literal[tuple(f"option {n}" * 20 for n in range(3_000))]},
    {"default": "x" * 300_000},
    {"default": [0] * 20_000},
    {name: {"description": "\0" * 250_000} for name in ("shown", "parameters", "schema")},
]


@pytest.mark.parametrize("fields", TOO_LARGE, ids=range(len(TOO_LARGE)))
def test_what_is_too_large_is_refused_when_it_is_made_and_when_it_is_read(fields):
    def make() -> AwaitInput[Any]:
        with pytest.raises(ConfigurationError) as raised:
            AwaitInput(**({"id": "x", "prompt": "?"} | fields))
        assert len(str(raised.value)) < 5_000
        return raised.value

    bounded(make)
    if isinstance(fields.get("schema", {}), dict):
        data = {"id": "x", "prompt": "?"} | fields
        assert isinstance(bounded(lambda: AwaitInput.from_data(data)).failure(), MalformedPayload)


def test_its_size_is_that_of_its_data_and_within_the_limit():
    ask = AwaitInput(id="x", prompt="?", schema=bool, shown={"a": "y" * 250_000})
    assert 250_000 < ask.size < 250_200 < MAX_SIZE
    assert AwaitInput.from_data(ask.to_data()).unwrap().size == ask.size


def test_what_was_checked_is_what_is_kept():
    """Whoever changes a mapping afterwards would store a schema that nobody has checked, or that can't be opened."""
    schema, shown, parameters = {"type": "integer"}, {"lines": [1]}, {"properties": {"a": {"type": "string"}}}
    default = 3
    ask = AwaitInput(id="x", prompt="$a", schema=schema, shown=shown, parameters=parameters, default=default)
    before = ask.to_data()
    schema["type"] = "nonsense"
    shown["lines"].append(b"no JSON")
    parameters["properties"]["a"]["type"] = 7
    assert ask.to_data() == before
    assert ask.check(3) == Success(3)


async def test_a_pause_awaits_so_much_in_all():
    large = AwaitInput(id="x", prompt="?", shown={"a": "y" * 250_000})
    async with open_test_hub() as hub:
        for verb in (lambda waits: hub.suspend("s", awaiting=waits), hub.reserve):
            with pytest.raises(ValueError, match="awaiting"):
                await verb({f"w{n}": large for n in range(100)})
        run = or_raise(await hub.claim(or_raise(await hub.suspend("s")).key))
        with pytest.raises(ValueError, match="awaiting"):
            await hub.suspend_next(run, "s", awaiting={f"w{n}": large for n in range(100)})


def test_a_type_without_a_schema_is_named_in_a_few_words():
    class Rude:
        def __repr__(self) -> str:
            return "r" * 1_000_000

    with pytest.raises(ConfigurationError) as raised:
        schema_of(Rude())
    assert len(str(raised.value)) < 300
