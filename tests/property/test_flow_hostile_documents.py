"""Documents that are written to take time or memory end with a result or a typed error, within bounded memory.

Each is compiled in a process whose address space and processor time are limited. What a document takes of time is
bounded by counts (of values, references and characters), so that no test measures it.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys

import pytest
from returns.result import Failure, Success

from flowpersist import or_raise
from flowpersist.dynamicflow import FlowRunner, tool
from flowpersist.dynamicflow import compile as compile_flow
from flowpersist.dynamicflow.compile import BRIEF_TEXT, _brief
from flowpersist.dynamicflow.document import MAX_REFERENCES
from flowpersist.dynamicflow.expressions import MAX_TOGETHER, Room, parse
from flowpersist.errors import FlowError
from flowpersist.testing.hubs import open_test_hub

#: The bound of one document; the interpreter and the libraries take more, so the process gets a generous one.
MEMORY = 64 * 1024 * 1024
ADDRESSES = 2 * 1024 * 1024 * 1024
PROCESSOR_SECONDS = 120


def say(number, **more):
    return {"id": f"s{number}", "tool": "say", **more}


def nested(levels):
    value = 1
    for _ in range(levels):
        value = [value]
    return value


def shared_tree(levels):
    step = {"tool": "say"}
    for _ in range(levels):
        step = {"parallel": [[step], [step]]}
    return step


def conditions(text, count):
    return {"flow": [{"id": f"c{n}", "condition": text, "then": {"tool": "say"}} for n in range(count)]}


def question(**fields):
    return {"tool": "await_input", "args": {"prompt": "?", **fields}}


DOUBLED = {f"d{n}": {"anyOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(20)}
DOCUMENTS = {
    "a chain of steps": lambda: {"flow": [say(0), *(say(n, args={"value": f"$s{n - 1}"}) for n in range(1, 1990))]},
    "steps that need each other": lambda: {"flow": [say(n, args={"value": f"$s{1989 - n}"}) for n in range(1990)]},
    "many references": lambda: {"flow": [say(n, args={"value": ["$input"] * 40}) for n in range(1990)]},
    "many references in texts": lambda: {"flow": [question(prompt="$input.a" * 10_000) for _ in range(10)]},
    "many operators": lambda: conditions("1" + "+1" * 2000, 240),
    "many signs": lambda: conditions("-" * 4000 + "1", 240),
    "many negations": lambda: conditions("!" * 4000 + "1", 240),
    "many groups": lambda: conditions("(" * 4000, 240),
    "names of hyphens": lambda: conditions("$a" + "-" * 4000, 240),
    "quotes without an end": lambda: {"flow": [question(prompt="$input" + "['" * 40_000) for _ in range(10)]},
    "long paths": lambda: {"flow": [question(prompt="$input" + ".a" * 40_000) for _ in range(10)]},
    "many values": lambda: {"flow": [say(n, args={"value": [1] * 9000}) for n in range(11)]},
    "more values than are allowed": lambda: {"flow": [say(0)], "metadata": {"x": [0] * 300_000}},
    "nested values": lambda: {"flow": [say(0, args={"value": nested(500)})]},
    "steps that are one object": lambda: {"flow": [shared_tree(40)]},
    "a tree of steps": lambda: {"flow": [shared_tree(9)]},
    "brackets": lambda: '{"flow":' + "[" * 1_000_000,
    "braces": lambda: '{"flow":' + '{"a":' * 170_000,
    "lists": lambda: '{"flow":[' + "[]," * 340_000 + "[]]}",
    "objects": lambda: '{"flow":[' + "{}," * 340_000 + "{}]}",
    "keys": lambda: json.dumps({"flow": [say(0)], **{f"k{n}": 1 for n in range(60_000)}}),
    "fields of a step": lambda: {"flow": [say(0, **{f"k{n}": 1 for n in range(60_000)})]},
    "steps that are none": lambda: {"flow": [1] * 99_000},
    "steps without a type": lambda: {"flow": [{"x": 1} for _ in range(40_000)]},
    "equal ids": lambda: {"flow": [say(0)] * 1990},
    "many tools": lambda: {"flow": [{"tool": f"t{n}"} for n in range(1990)]},
    "repetitions in patterns": lambda: {
        "flow": [question(schema={"type": "string", "pattern": "(a{1,500}){1,500}"}) for _ in range(300)]
    },
    "a schema that doubles": lambda: {
        "flow": [question(schema={"$defs": {**DOUBLED, "d20": {}}, "$ref": "#/$defs/d0"}) for _ in range(50)]
    },
    "a wide switch": lambda: {
        "flow": [{"switch": "$input.a", "branches": {f"b{n}": [{"tool": "say"}] for n in range(1900)}}]
    },
    "edges to nodes that are none": lambda: {
        "nodes": [{"id": f"n{n}", "tool": "say"} for n in range(1000)],
        "edges": [{"from": f"n{n}", "to": f"n{n * 7 + 1}"} for n in range(5000)],
    },
    "a circle of nodes": lambda: {
        "nodes": [{"id": f"n{n}", "tool": "say"} for n in range(1990)],
        "edges": [{"from": f"n{n}", "to": f"n{(n + 1) % 1990}"} for n in range(1990)],
    },
    "each node to each": lambda: {
        "nodes": [{"id": f"n{n}", "tool": "say"} for n in range(1990)],
        "edges": [{"from": [f"n{n}" for n in range(990)], "to": [f"n{n}" for n in range(990, 1990)]}] * 10,
    },
}


def ended(document):
    """How compiling a document ends."""
    result = compile_flow(document)
    if isinstance(result, Success):
        return "flow", 0
    error = result.failure()
    return type(error).__name__, len(error.message)


def memory():
    """The most memory that this process has had, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def told():
    """How compiling each document ends, and the memory that it took to make and compile the largest one."""
    before = memory()
    ends = {name: ended(make()) for name, make in DOCUMENTS.items()}
    return {"ends": ends, "memory": memory() - before}


def test_compiling_takes_bounded_memory_and_ends():
    limited = subprocess.run(
        [sys.executable, __file__],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=limit,
    )
    assert limited.returncode == 0, limited.stderr[-2000:]
    found = json.loads(limited.stdout)
    assert set(found["ends"]) == set(DOCUMENTS)
    for name, (end, length) in found["ends"].items():
        assert end in {"flow", "FlowError"}, name
        assert length <= 4000, name
    # The documents themselves are in it too.
    assert found["memory"] <= 2 * MEMORY


def limit():
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESSES, ADDRESSES))
    resource.setrlimit(resource.RLIMIT_CPU, (PROCESSOR_SECONDS, PROCESSOR_SECONDS))


def test_all_expressions_of_a_document_have_one_bound():
    room = Room()
    text = "1" + "+1" * 2000
    for _ in range(MAX_TOGETHER // len(text)):
        assert isinstance(parse(text, room), Success)
    told = parse(text, room).failure()
    assert str(MAX_TOGETHER) in told.message
    refused = compile_flow(conditions(text, 240)).failure()
    assert isinstance(refused, FlowError)
    assert str(MAX_TOGETHER) in refused.message
    assert isinstance(compile_flow(conditions("$input.a > 1 && $input.b < 2", 1000)), Success)


def test_all_references_of_a_document_have_one_bound():
    step = say(0, args={"value": ["$input"] * (MAX_REFERENCES // 2)})
    assert isinstance(compile_flow({"flow": [step, {**step, "id": "s1"}]}), Success)
    refused = compile_flow({"flow": [step, {**step, "id": "s1"}, say(2, args={"value": "$input"})]}).failure()
    assert f"more than {MAX_REFERENCES} references" in refused.message


@pytest.mark.parametrize(
    ("document", "brief"),
    [
        ({"flow": [say(n, args={"value": f"$input.{n}"}) for n in range(20)]}, True),
        (conditions("1" + "+1" * 2000, 2), False),
        (conditions("1" + "+1" * 2000, 1), True),
        ({"flow": [say(n) for n in range(200)]}, False),
        ("x" * (BRIEF_TEXT + 1), False),
    ],
    ids=["a few steps", "two long expressions", "one long expression", "many steps", "a long text"],
)
def test_what_takes_more_than_a_few_milliseconds_is_compiled_in_a_thread(document, brief):
    assert _brief(document) is brief


async def test_loops_within_loops_end(monkeypatch):
    monkeypatch.setattr(sys.modules["flowpersist.dynamicflow.engine"], "MAX_BEGUN", 2000)
    once_more = {"tool": "once", "args": {"value": 1}}
    step = once_more
    for level in range(4):
        step = {"id": f"l{level}", "loop": "for", "over": [1] * 10, "body": step}
    handled = {"id": "m", "map": [1] * 500, "continueOnError": True, "with": {**step, "onError": once_more}}
    for document in ({"flow": [step]}, {"flow": [handled, {"id": "last", **once_more}]}):
        async with open_test_hub(keyring=None) as hub:
            told = (await FlowRunner(hub, [once], backoff=lambda _: 0).start(document)).failure()
            assert isinstance(told, FlowError)
            assert "more than 2000 steps ran without a pause" in told.message


NUMBERS = {"huge": 10**300_000}
COMPUTED = ["$huge / 3", "$huge % 7", "$huge * $huge", "$huge + 1", "1 - $huge", "'a' + $huge", "$huge + $input.text"]


@tool(output_schema={})
async def number() -> int:
    return NUMBERS["huge"]


@tool()
async def once(value: object = None) -> object:
    return value


@pytest.mark.parametrize("text", COMPUTED)
async def test_numbers_of_any_length_are_refused_before_they_are_computed_with(text):
    async with open_test_hub(keyring=None) as hub:
        steps = [{"id": "huge", "tool": "number"}, {"id": "c", "condition": f"{text} == 1", "then": {"tool": "once"}}]
        outcome = await FlowRunner(hub, [number, once]).start({"flow": steps}, input={"text": "a"})
        told = outcome.failure() if isinstance(outcome, Failure) else None
        assert isinstance(told, FlowError)
        assert told.step == "c"


async def test_a_number_of_any_length_is_compared_and_passed_on():
    async with open_test_hub(keyring=None) as hub:
        steps = [{"id": "huge", "tool": "number"}, {"id": "c", "condition": "$huge > 1", "then": {"tool": "once"}}]
        assert or_raise(await FlowRunner(hub, [number, once]).start({"flow": steps})).result == NUMBERS["huge"]


if __name__ == "__main__":
    sys.stdout.write(json.dumps(told()))
