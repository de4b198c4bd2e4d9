"""Long JSON texts: they are read as json does, by code that lets other threads run, and the event loop with them."""

from __future__ import annotations

import asyncio
import enum
import json
import threading
import time
from collections import UserDict

import pytest

from flowpersist import or_raise
from flowpersist.dynamicflow import FlowRunner, compile, tool  # noqa: A004 - the word for it
from flowpersist.dynamicflow import json_texts as reading
from flowpersist.dynamicflow.json_texts import BRIEF, TooManyValuesError, canonical, parsed
from flowpersist.errors import FlowError
from flowpersist.testing import open_test_hub

#: Values of which json's C functions read as many as they can before another thread runs.
MANY = 150_000


def long(text):
    """The same value in a text that is not read at once."""
    return f"[{text},{','.join('0' * BRIEF)}]"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32-le"])
def test_bytes_are_read_as_json_reads_them(encoding):
    text = long('"Köln"')
    assert parsed(text.encode(encoding), MANY) == json.loads(text)


@pytest.mark.parametrize("text", ["", "[1,", '{"a":1,}', "[1]]", "NaN1", '{"a" 1}', "nul", '"\n"'])
def test_what_is_not_json_is_refused_in_long_texts_too(text):
    for one in (text, long(text)):
        with pytest.raises(ValueError, match=r"."):
            parsed(one, MANY)


def test_a_key_that_stands_twice_is_refused_where_it_is_to_be():
    for text in ('{"a":1,"a":2}', long('{"a":1,"a":2}')):
        with pytest.raises(ValueError, match="'a' twice"):
            parsed(text, MANY)
    assert parsed(long('{"a":1,"a":2}'), MANY, unique=False)[0] == {"a": 2}


def test_the_values_of_a_long_text_are_counted_while_it_is_read():
    text = f"[{','.join(['[{},[]]'] * BRIEF)}]"
    assert len(parsed(text, 1 + 3 * BRIEF)) == BRIEF
    with pytest.raises(TooManyValuesError):
        parsed(text, 3 * BRIEF)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"flow": [' + ",".join(["null"] * 150_000) + "]}", "more than 100000 values"),
        ('{"flow": ' + "[" * 900 + "]" * 900 + ',"x":[' + ",".join("0" * BRIEF) + "]}", "deeper than 100 levels"),
        ('{"flow": ' + "[" * 90_000 + "]" * 90_000 + "}", "deeper than 100 levels"),
    ],
)
def test_documents_over_the_limits_end_typed(text, told):
    error = compile(text).failure()
    assert isinstance(error, FlowError)
    assert told in error.message


class Level(enum.IntEnum):
    HIGH = 3


class Name(str):
    __slots__ = ()

    def __str__(self):
        return "another"


def test_what_a_run_keeps_of_a_document_is_a_copy_of_plain_json():
    args = UserDict({"z": Name("x"), Name("a"): (Level.HIGH, True, 1.5, None)})
    given_ = {"flow": [{"id": "s", "tool": "t", "args": args}]}
    kept = or_raise(compile(given_)).document
    args["z"] = "changed"
    copy = kept["flow"][0]["args"]
    assert list(copy.items()) == [("a", [3, True, 1.5, None]), ("z", "x")]
    assert [type(one) for one in copy["a"]] == [int, bool, float, type(None)]
    assert {type(copy), *map(type, copy)} == {dict, str}


def turns_during(work):
    """How often another thread, which asks for a turn each millisecond, gets one while the work is done."""
    count, over = 0, threading.Event()

    def other():
        nonlocal count
        while not over.is_set():
            time.sleep(0.001)
            count += 1

    thread = threading.Thread(target=other)
    thread.start()
    try:
        before = count
        work()
        return count - before
    finally:
        over.set()
        thread.join()


#: json's C functions give other threads one turn or two: at their beginning and end.
FEW = 3


@pytest.mark.parametrize("item", ["null", "[]", '""', "{}", "1"])
def test_other_threads_run_while_a_long_text_is_read(item):
    text = f"[{','.join([item] * MANY)}]"
    assert turns_during(lambda: parsed(text, MANY + 1)) > FEW


def test_other_threads_run_while_a_long_text_is_written():
    value = [{"a": 1}] * MANY
    assert turns_during(lambda: canonical(value, 2 * MANY)) > FEW


async def test_the_loop_goes_on_while_a_run_reads_a_list_from_text(monkeypatch):
    loop_thread, readers = threading.get_ident(), []

    def noted(*args, **options):
        readers.append(threading.get_ident())
        return parsed(*args, **options)

    monkeypatch.setattr("flowpersist.dynamicflow.values.parsed", noted)

    @tool()
    async def count(items: list[int]) -> int:
        return len(items)

    document = {"flow": [{"id": "kept", "filter": "$input", "condition": "$item == 7"}, {"tool": "count"}]}
    async with open_test_hub(keyring=None) as hub:
        outcome = or_raise(await FlowRunner(hub, [count]).start(document, input=json.dumps([7, 8] * BRIEF)))
    assert outcome.result == BRIEF
    assert readers
    assert loop_thread not in readers
    await asyncio.sleep(0)


def test_short_texts_are_read_by_the_fast_functions(monkeypatch):
    monkeypatch.setattr(reading, "_let_others_run", lambda *_: pytest.fail("it is short"))
    assert parsed(json.dumps(list(range(BRIEF - 1))), 1) == list(range(BRIEF - 1))
