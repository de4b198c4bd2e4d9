"""However a document multiplies its values, each step ends: within a budget of values and characters, or with an error
that names the step and what to do. Work is counted here and not timed.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading

import attrs
import pytest
from returns.result import Failure, Success

from flowpersist import AwaitInput, or_raise
from flowpersist.dynamicflow import Completed, FlowRunner, Join, tool
from flowpersist.dynamicflow import compile as compile_flow
from flowpersist.dynamicflow.budgets import (
    MAX_COMPARED,
    MAX_FILLED,
    MAX_SEARCHED,
    MAX_VALUES,
    SLOW,
    Budget,
    OverBudgetError,
)
from flowpersist.dynamicflow.compile import compile_soon
from flowpersist.dynamicflow.expressions import evaluate, parse
from flowpersist.dynamicflow.plain import PLAIN, SIZE, SLICE, Known, finished, finished_soon, plain, walk
from flowpersist.dynamicflow.references import fill_text
from flowpersist.dynamicflow.texts import text_of
from flowpersist.errors import FlowError
from flowpersist.testing.hubs import open_test_hub

#: Doublings: a tree of a million million, of which two dozen would be walked in a minute.
LEVELS = 40


@attrs.frozen
class Pair:
    one: object
    other: object


@tool()
async def say(value: object = None) -> object:
    return value


@tool()
async def twice(value: object) -> object:
    return [value, value]


@tool(output_schema={})
async def pair(value: object) -> object:
    return Pair(value, value)


@tool(output_schema={})
async def made() -> object:
    return doubled(LEVELS)


@tool()
async def texts(value: str) -> str:
    return value + value


def doubled(levels, within=1):
    for _ in range(levels):
        within = [within, within]
    return within


TOOLS = [
    *(say, twice, pair, made, texts),
    AwaitInput(id="show", prompt="$text", parameters={"type": "object", "properties": {"text": {}}}),
]


@pytest.fixture
async def hub():
    async with open_test_hub(keyring=None) as opened:
        yield opened


def run(hub, *steps, input=None, joins=()):
    return FlowRunner(hub, TOOLS, joins, backoff=lambda _: 0).start({"flow": list(steps)}, input=input)


def doubling(levels, start="small", each=lambda before: {"tool": "say", "args": {"value": [before, before]}}):
    steps = [{"id": "s0", "tool": "say", "args": {"value": start}}]
    return [*steps, *({"id": f"s{n}", **each(f"$s{n - 1}")} for n in range(1, levels + 1))]


def refused(outcome, *words):
    assert isinstance(outcome, Failure), outcome
    error = outcome.failure()
    assert isinstance(error, FlowError), error
    assert error.step is not None
    for word in words:
        assert word in error.message
    assert len(error.message) < 1000
    return error


# ---------------------------------------------------------------------------------------- values that steps hand on

DOUBLING = {
    "a list of arguments": lambda before: {"tool": "say", "args": {"value": [before, before]}},
    "an object of arguments": lambda before: {"tool": "say", "args": {"value": {"a": before, "b": before}}},
    "what a tool returns": lambda before: {"tool": "twice", "args": {"value": before}},
    "objects that a tool returns": lambda before: {"tool": "pair", "args": {"value": before}},
    "branches": lambda before: {"parallel": [{"tool": "say", "args": {"value": before}}] * 2},
    "iterations": lambda before: {"map": [1, 2], "with": {"tool": "say", "args": {"value": before}}},
    "turns of a loop": lambda before: {
        "loop": "for",
        "over": [1, 2],
        "body": {"tool": "say", "args": {"value": before}},
    },
    "a filter": lambda before: {"filter": [before, before], "condition": "true"},
    "within a sequence": lambda before: {"sequence": [{"tool": "say", "args": {"value": [before, before]}}]},
}


@pytest.mark.parametrize("each", DOUBLING.values(), ids=DOUBLING)
async def test_a_value_that_steps_double_ends_with_an_error_that_names_the_step(hub, each):
    error = refused(await run(hub, *doubling(LEVELS, each=each)), str(MAX_VALUES), "keep large data outside the run")
    # A million is passed at the twentieth doubling: neither sooner nor later.
    assert error.step is not None
    assert 17 <= int(error.step.removeprefix("s").split("_")[0]) <= 20


async def test_texts_that_double_end_too(hub):
    steps = doubling(LEVELS, "x" * 4096, lambda before: {"tool": "texts", "args": {"value": before}})
    assert int(refused(await run(hub, *steps), "characters").step.removeprefix("s")) < 20


async def test_an_accumulator_that_doubles_ends(hub):
    steps = {
        "id": "r",
        "reduce": list(range(LEVELS)),
        "initial": 1,
        "with": {"tool": "say", "args": {"value": ["$acc", "$acc"]}},
    }
    refused(await run(hub, steps), str(MAX_VALUES))


async def test_a_variable_that_a_loop_doubles_ends(hub):
    body = {"id": "b", "tool": "say", "args": {"value": ["$previousOutput", "$previousOutput"]}}
    refused(await run(hub, {"id": "l", "loop": "for", "over": list(range(LEVELS)), "body": body}), str(MAX_VALUES))


async def test_what_a_tool_makes_by_itself_is_bounded_too(hub):
    assert refused(await run(hub, {"id": "m", "tool": "made"}), str(MAX_VALUES)).step == "m"


async def test_a_join_is_bounded_too(hub):
    join = Join("say", "twice", lambda _: {"value": doubled(LEVELS)})
    steps = [{"id": "a", "tool": "say", "args": {"value": 1}}, {"id": "b", "tool": "twice"}]
    assert refused(await run(hub, *steps, joins=[join]), str(MAX_VALUES)).step == "b"


async def test_the_input_is_bounded_too(hub):
    told = (await run(hub, {"id": "a", "tool": "say"}, input={"a": doubled(LEVELS)})).failure()
    assert isinstance(told, FlowError)
    assert (told.reference, "the run's input" in told.message) == ("$input", True)


async def test_an_error_for_what_is_too_large_can_be_handled(hub):
    steps = doubling(LEVELS)
    steps[19]["onError"] = {"tool": "say", "args": {"value": "$error.step"}}
    outcome = or_raise(await run(hub, *steps[:22]))
    assert isinstance(outcome, Completed)
    assert outcome.result == [["s19", "s19"], ["s19", "s19"]]


async def test_what_is_large_and_not_shared_is_handed_on(hub):
    rows = [{"a": number, "b": "text"} for number in range(20_000)]
    outcome = or_raise(await run(hub, *doubling(1, "$input.rows"), input={"rows": rows}))
    assert outcome.result == [rows, rows]


# ------------------------------------------------------------------------------------------ what looks into values

#: 14 doublings: 32,767 values, which steps hand on and a text, a condition or a question has no room for.
BIG = doubling(14)
SINKS = {
    "a prompt": {"tool": "await_input", "args": {"prompt": "Is $s14 right?"}},
    "many small parts of a prompt": {"tool": "await_input", "args": {"prompt": "$s7" * 2000}},
    "a title": {"tool": "await_input", "args": {"prompt": "?", "title": "$s14"}},
    "what is shown": {"tool": "await_input", "args": {"prompt": "?", "shown": {"a": "$s14"}}},
    "a schema": {"tool": "await_input", "args": {"prompt": "?", "schema": {"enum": "$s14"}}},
    "a default": {"tool": "await_input", "args": {"prompt": "?", "default": "$s14"}},
    "a switch": {"switch": "$s14", "branches": {"x": {"tool": "say"}}, "default": {"tool": "say"}},
    "equality": {"condition": "$s14 == $s14", "then": {"tool": "say"}},
    "inequality": {"condition": "!($s14 != $s14)", "then": {"tool": "say"}},
    "contains": {"filter": [1], "condition": "contains($s14, $s13)"},
    "a loop's condition": {"loop": "while", "condition": "$s14 == $s14", "body": {"tool": "say"}},
}


@pytest.mark.parametrize("sink", SINKS.values(), ids=SINKS)
async def test_what_has_no_room_for_a_value_says_so(hub, sink):
    error = refused(await run(hub, *BIG, {"id": "sink", **sink}))
    assert error.step == "sink"
    assert any(word in error.message for word in ("more than", "show less", "over the limits"))


async def test_a_question_of_ones_own_is_bounded_too(hub):
    told = (await run(hub, *BIG, {"id": "sink", "tool": "show", "args": {"text": "$s14"}})).failure()
    assert isinstance(told, FlowError)
    assert told.step == "sink"


async def test_what_fits_a_text_is_filled_in():
    values = {"a": doubled(3), "long": "x" * MAX_FILLED, "huge": 10**5000}

    def resolve(reference):
        return Success(values[reference.root])

    assert fill_text("$a!", resolve).unwrap() == f"{doubled(3)}!".replace(", ", ", ")
    assert fill_text("$long", resolve).unwrap() == values["long"]
    for text in ("$long$a", "$long$long", "x" * (MAX_FILLED + 1), "$huge"):
        assert isinstance(fill_text(text, resolve).failure(), FlowError), text[:10]


async def test_a_list_as_text_is_read_up_to_a_bound(hub):
    items = "[" + "1," * 1000 + "1]"
    assert len(or_raise(await run(hub, {"map": "$input", "with": {"tool": "say"}}, input=items)).result) == 1001
    refused(
        await run(hub, {"id": "m", "map": "$input", "with": {"tool": "say"}}, input="[" + "1," * 600_000 + "1]"), "text"
    )


# -------------------------------------------------------------------------------------------- one evaluation's budget


def spent(text, **values):
    """What an expression gives, and what it looked at."""
    budget = Budget()
    told = evaluate(parse(text).unwrap(), lambda reference: Success(values[reference.root]), budget)
    return told, MAX_COMPARED - budget.values, MAX_SEARCHED - budget.text


LISTS = [[number] * 10 for number in range(3000)]


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("contains($a, $b)", {"a": [[0] * 9000 for _ in range(3000)], "b": [0] * 8999 + [1]}),
        ("contains($a, $b)", {"a": [LISTS] * 3000, "b": [*LISTS[:-1], [0] * 10]}),
        ("$a == $b", {"a": LISTS, "b": [list(row) for row in LISTS]}),
        ("$a == $b", {"a": dict.fromkeys(map(str, range(20_000)), 1), "b": dict.fromkeys(map(str, range(20_000)), 1)}),
        (" && ".join(["$a == $b"] * 200), {"a": list(range(100)), "b": list(range(100))}),
        (" || ".join(["contains($a, 1)"] * 200), {"a": [0] * 100}),
        ("$a == $b", {"a": doubled(LEVELS), "b": doubled(LEVELS)}),
        ("exists($a) && !($a != $a)", {"a": doubled(LEVELS)}),
    ],
)
def test_all_comparisons_of_an_expression_share_one_budget(text, values):
    told, looked, _ = spent(text, **values)
    assert isinstance(told.failure(), FlowError)
    assert "a smaller part" in told.failure().message
    # What broke it is a step that was not taken: no more than the budget was looked at, but for the last container.
    assert MAX_COMPARED < looked <= MAX_COMPARED + 20_001


@pytest.mark.parametrize(
    "text", ["lower($a) == 'x'", "upper($a) == 'x'", "matches($a, 'x')", " || ".join(["contains($a, 'x')"] * 20)]
)
def test_all_searches_of_an_expression_share_one_budget(text):
    told, _, searched = spent(text, a="a" * (MAX_SEARCHED // SLOW + 10))
    assert isinstance(told.failure(), FlowError)
    assert searched > MAX_SEARCHED


@pytest.mark.parametrize(
    ("text", "values", "expected"),
    [
        ("contains($a, $b)", {"a": LISTS, "b": LISTS[700]}, True),
        ("contains($a, 'b')", {"a": "a" * 1_000_000 + "b"}, True),
        ("$a == $b", {"a": doubled(10), "b": doubled(10)}, True),
        ("length($a) == 1000000", {"a": [0] * 1_000_000}, True),
        ("$a == $b", {"a": [0] * 1_000_000, "b": [0] * 999_999}, False),
        ("$a == $b", {"a": "x" * 50_000_000, "b": "x"}, False),
    ],
)
def test_what_is_within_it_is_told(text, values, expected):
    assert spent(text, **values)[0] == Success(expected)


# ------------------------------------------------------------------------------------------------------------ walks


def steps_of(value, **options):
    """How often a walk lets go."""
    count, steps = 0, walk(value, **options)
    while True:
        try:
            next(steps)
        except StopIteration as done:
            return count, done.value
        count += 1


@pytest.mark.parametrize("form", [PLAIN, SIZE], ids=["plain", "size"])
@pytest.mark.parametrize(
    ("value", "values"),
    [
        (list(range(10_000)), 10_001),
        ({str(number): number for number in range(10_000)}, 10_001),
        ([[number] for number in range(5_000)], 10_001),
        ([{"a": [number]} for number in range(2_500)], 7_501),
    ],
    ids=["a list", "an object", "lists", "objects"],
)
def test_a_walk_lets_go_of_the_event_loop_every_so_many_values(value, values, form):
    count, flat = steps_of(value, form=form)
    assert flat.value is value
    assert flat.size.values == values
    assert count >= (values - 1) // (SLICE + 16)


def test_a_walk_looks_at_what_is_shared_once():
    count, flat = steps_of(doubled(18), form=PLAIN)
    assert (count, flat.size.values) == (0, 2**19 - 1)
    with pytest.raises(OverBudgetError):
        finished(walk(doubled(10_000 // 40), form=SIZE))


def test_a_walk_ends_where_it_is_over():
    half = [0] * 1000
    for value in ([0] * (MAX_VALUES + 1), [half] * 1001, [[half] * 501, [half] * 501]):
        with pytest.raises(OverBudgetError):
            finished(walk(value, form=SIZE))
    assert text_of([1, "a"], 10) == '[1, "a"]'
    with pytest.raises(OverBudgetError):
        text_of(list(range(100_000)), 100)


def test_what_is_known_is_not_walked_again():
    known, value = Known(), [list(range(100)) for _ in range(100)]
    assert finished(walk(value, known, form=PLAIN)).size.values == 10_101
    assert steps_of([value, value], known=known, form=PLAIN)[0] == 0
    # But what is known for its size alone is still made plain.
    odd = [[Pair(1, number)] for number in range(100)]
    finished(walk(odd, known, form=SIZE))
    assert finished(walk(odd, known, form=PLAIN)).value == plain(odd) == [[{"one": 1, "other": n}] for n in range(100)]


def test_what_is_known_is_forgotten_in_the_end():
    known = Known()
    shared = [0] * 100_000
    for _ in range(100):
        finished(walk([shared], known, form=SIZE))
    assert len(known._sizes) <= 2 * MAX_VALUES // 100_000


async def test_others_have_the_event_loop_while_a_walk_goes_on():
    turns = 0

    async def other():
        nonlocal turns
        turns += 1
        await asyncio.sleep(0)

    await finished_soon(walk([0] * 5_000, form=SIZE), other)
    assert turns >= 5_000 // SLICE - 1


# ---------------------------------------------------------------------------------------------------------- documents


@pytest.mark.parametrize("long", [True, False])
@pytest.mark.parametrize("form", ["object", "text"])
async def test_a_long_document_is_compiled_beside_the_event_loop(monkeypatch, long, form):
    document = {"flow": [{"id": f"s{n}", "tool": "say", "args": {"value": n}} for n in range(1000 if long else 5)]}
    source = document if form == "object" else json.dumps(document)
    threads = set()

    module = sys.modules["flowpersist.dynamicflow.compile"]
    compiled = module.compile_document

    def noted(*given):
        threads.add(threading.current_thread() is threading.main_thread())
        return compiled(*given)

    monkeypatch.setattr(module, "compile_document", noted)
    found = (await compile_soon(source)).unwrap()
    assert threads == {not long}
    assert found.hash == compile_flow(document).unwrap().hash


async def test_a_long_document_runs(hub):
    steps = [{"id": f"s{n}", "tool": "say", "args": {"value": n}} for n in range(300)]
    assert or_raise(await run(hub, *steps)).result == 299


def test_arguments_of_too_many_values_are_refused_when_the_document_is_compiled():
    told = compile_flow({"flow": [{"id": "s", "tool": "say", "args": {"value": [1] * 10_001}}]})
    refused(told, "limits")
