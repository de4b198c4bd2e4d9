"""Whatever a document holds, compiling it gives a flow or an error; and a walk gives one result however it is cut."""

from __future__ import annotations

import asyncio
import copy
import random

from hypothesis import example, given, settings
from hypothesis import strategies as st
from returns.result import Failure, Success

from flowpersist.dynamicflow import compile as compile_flow
from flowpersist.dynamicflow import tool
from flowpersist.dynamicflow.engine import Engine
from flowpersist.dynamicflow.outcomes import PENDING, Done
from flowpersist.dynamicflow.tools import Toolbox
from flowpersist.errors import FlowError

WORDS = [
    "a",
    "b",
    "input",
    "$a",
    "$input.x",
    "$item",
    "$acc",
    "$",
    "$$",
    "1 < 2",
    "$a > 1",
    "exists($b)",
    "[1]",
    "",
    "tool",
]
FIELDS = [
    *(
        "id",
        "type",
        "tool",
        "args",
        "with",
        "condition",
        "then",
        "else",
        "switch",
        "branches",
        "default",
        "filter",
        "map",
    ),
    *("over", "as", "concurrency", "parallel", "reduce", "initial", "accumulator", "loop", "body", "sequence", "steps"),
    *(
        "delay",
        "seconds",
        "until",
        "concurrency",
        "output",
        "timeout",
        "retry",
        "onError",
        "maxIterations",
        "nodes",
        "edges",
    ),
]
TYPES = [
    "delay",
    "tool",
    "conditional",
    "if-then",
    "switch",
    "filter",
    "map",
    "reduce",
    "loop",
    "parallel",
    "sequence",
    "x",
]

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(WORDS) | st.text(max_size=5)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=5)
        | st.fixed_dictionaries({"type": st.sampled_from(TYPES)}, optional=dict.fromkeys(FIELDS[2:18], inner))
    ),
    max_leaves=25,
)


@settings(max_examples=300, deadline=None)
@given(
    flow=st.lists(values, max_size=4) | values,
    more=st.dictionaries(st.sampled_from(["version", "metadata", "nodes"]), values),
)
@example(flow=[{"loop": []}], more={})
def test_compiling_never_raises(flow, more):
    result = compile_flow({**more, "flow": flow})
    assert isinstance(result, Success) or isinstance(result.failure(), FlowError)


@settings(max_examples=100, deadline=None)
@given(text=st.text(max_size=50) | st.binary(max_size=50))
def test_reading_text_never_raises(text):
    result = compile_flow(text)
    assert isinstance(result, Failure)
    assert isinstance(result.failure(), FlowError)


# ----------------------------------------------------------------------------------------- walks that are cut anywhere

called: list[str] = []


@tool()
async def say(value: object) -> object:
    called.append(str(value))
    return value


def step(number, value):
    return {"id": f"s{number}", "tool": "say", "args": {"value": value}}


def ask(number):
    return {"id": f"q{number}", "tool": "await_input", "args": {"prompt": "?"}}


CONTAINERS = {
    "m": lambda draw, block: {"map": [1, 2], "with": block(), "concurrency": draw(st.integers(1, 3))},
    "p": lambda _draw, block: {"parallel": [block(), block()]},
    "c": lambda _draw, block: {"sequence": block()},
    "i": lambda _draw, block: {"condition": "$input.yes", "then": block(), "else": block()},
    "r": lambda _draw, block: {"reduce": [1, 2], "initial": 0, "with": block()},
    "l": lambda _draw, block: {"loop": "for", "over": [1, 2], "body": block()},
}


@st.composite
def flows(draw):
    """A list of steps; ids are counted, so that each is its own."""
    counter = iter(range(10_000))

    def block(depth):
        return [one(depth) for _ in range(draw(st.integers(1, 3)))]

    def one(depth):
        number = next(counter)
        kind = draw(st.sampled_from(["say", "ask", *(CONTAINERS if depth else ())]))
        if kind in CONTAINERS:
            return {"id": f"{kind}{number}", **CONTAINERS[kind](draw, lambda: block(depth - 1))}
        return ask(number) if kind == "ask" else step(number, [number, "$previousOutput"])

    return block(2)


async def walked(steps, seed):
    """Answer what waits in an order of the seed's, some at a time, until it is done; with the calls that it took."""
    called.clear()
    chance = random.Random(seed)
    flow = compile_flow({"flow": steps}).unwrap()
    frame: dict[str, object] = {}
    answers: dict[str, object] = {}
    opened: set[str] = set()
    while True:
        frame = copy.deepcopy(frame)
        given = {"yes": True}
        before = dict.fromkeys(opened, 0)
        engine = Engine(flow, Toolbox.of([say], []), "r", given, answers, open=before, backoff=lambda _: 0)
        outcome = await engine.run(frame)
        if isinstance(outcome, Done):
            return outcome.value, engine.outputs, sorted(called)
        assert outcome is PENDING
        assert engine.waiting
        opened = set(engine.waiting)
        taken = chance.sample(sorted(opened), chance.randint(1, len(opened)))
        answers = {path: f"answer to {path}" for path in taken}
        opened -= set(taken)


@settings(max_examples=60, deadline=None)
@given(steps=flows(), seed=st.integers(0, 1000))
def test_results_and_calls_are_the_same_in_whatever_order_answers_come(steps, seed):
    first = asyncio.run(walked(steps, seed))
    assert asyncio.run(walked(steps, seed + 1)) == first
