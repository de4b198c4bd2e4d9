"""Large results of finished steps and large inputs: what stands apart in a state, what is read of it, and when."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import pytest_asyncio
from attrs import define

from flowpersist import or_raise
from flowpersist.codec import Codec
from flowpersist.dynamicflow import FlowRunner, apart, tool
from flowpersist.dynamicflow.apart import Parts, set_apart, whole
from flowpersist.errors import FlowError
from flowpersist.testing import open_test_hub

MANY = 300
MEBIBYTE = 2**20
ASK = {"id": "ok", "tool": "await_input", "args": {"id": "ok", "prompt": "On?", "schema": {"type": "boolean"}}}


@tool(id="many", description="Returns many dicts.")
async def many() -> list[dict[str, int]]:
    return [{"at": number} for number in range(MANY)]


@tool(id="told", description="Returns what it was given.")
async def told(value: Any) -> dict[str, Any]:
    return {"told": value}


@tool(id="count", description="Counts the items that the step before has returned.")
async def count(value: Any) -> int:
    return len(value)


@tool(id="same", description="Whether two values are one object.")
async def same(one: Any, other: Any) -> bool:
    return one is other


def state(frames=None, given=None, **more):
    return {
        "format": 1,
        "flow": {"name": "f", "version": "1", "hash": "h"},
        "document": {},
        "input": given,
        "frame": {"sub": frames} if frames else {},
        **more,
    }


def done(result, **more):
    return {"result": result, "began": 1, "ended": 2, **more}


@pytest_asyncio.fixture(loop_scope="module")
async def hub():
    async with open_test_hub() as hub:
        yield hub


@pytest.fixture
def read(monkeypatch):
    """How often something that stands apart was decoded."""
    times = []
    decoded = apart._decoded
    monkeypatch.setattr(apart, "_decoded", lambda data: times.append(data) or decoded(data))
    return times


async def stored(value, most=MEBIBYTE):
    """The state as it comes back from the store."""
    return or_raise(Codec().decode(or_raise(Codec().encode(await set_apart(value, most)))))


async def test_what_is_large_stands_apart_and_comes_back():
    numbers, named = list(range(MANY)), {f"k{n}": n for n in range(MANY)}
    made = state(
        {
            "large": done(numbers, steps={"inner": [named]}, given=[None] * MANY, tool="t"),
            "nested": done({"data": numbers * 2}),
            "small": done([1, 2]),
            "open": {"waiting": True, "results": list(range(MANY))},
        },
        given={"items": numbers * 3, "rounds": 4},
    )
    kept = await stored(made)
    frames = kept["frame"]["sub"]
    assert frames["large"] == {
        "began": 1,
        "ended": 2,
        "tool": "t",
        "apart": "0",
        "exports": [["result"], ["given"], ["steps", "inner"]],
    }
    assert (frames["nested"]["apart"], kept["input"], kept["input_apart"]) == (
        "1",
        {"items": None, "rounds": 4},
        {"items": "2"},
    )
    assert frames["small"] == done([1, 2])
    assert frames["open"]["results"] == list(range(MANY))
    assert sorted(kept["apart"]) == ["0", "1", "2"]
    assert or_raise(await whole(kept)) == made
    assert "apart" in kept, "another reader changes nothing"


@pytest.mark.parametrize("given", [list(range(MANY)), {f"k{n}": n for n in range(MANY)}], ids=["list", "dict"])
async def test_a_large_input_stands_apart_as_a_whole(given):
    kept = await stored(state(given=given))
    assert (kept["input"], kept["whole_apart"]) == (None, "0")
    assert Parts(kept).input.get() == given
    assert or_raise(await whole(await stored(state(given=given)))) == state(given=given)


async def test_what_is_apart_stays_so_and_more_comes_to_it():
    kept = await stored(state({"a": done(list(range(MANY)))}))
    data = kept["apart"]["0"]
    kept["frame"]["sub"]["b"] = done(list(range(MANY, 2 * MANY)))
    more = await stored(kept)
    assert (more["apart"]["0"], sorted(more["apart"])) == (data, ["0", "1"])
    Parts(more).open("0")
    again = await stored(more)
    assert again["frame"]["sub"]["a"]["apart"] == "2", "a key is never given to other bytes while some have it"


async def test_values_that_share_a_part_stand_together():
    shared = [{"n": n} for n in range(MANY)]
    kept = await stored(state({"a": done(shared), "b": done([*shared])}, given={"items": shared, "other": [0] * MANY}))
    assert {kept["frame"]["sub"][name]["apart"] for name in "ab"} == {kept["input_apart"]["items"]}
    assert len(kept["apart"]) == 2
    found = or_raise(await whole(kept))
    frames = found["frame"]["sub"]
    assert frames["a"]["result"] is found["input"]["items"]
    assert all(one is other for one, other in zip(frames["a"]["result"], frames["b"]["result"], strict=True))


@define
class Holder:
    items: list


@pytest.mark.parametrize(
    "rest",
    [
        lambda shared: {"small": done({"first": shared[0]})},
        lambda shared: {"open": {"sub": {"[0]": {"result": shared}}}},
        lambda shared: {"object": done(Holder(shared))},
        lambda shared: {"large": done([shared[1], *range(MANY)]), "object": done(Holder(shared))},
    ],
    ids=["a small result", "an open step", "an object", "another large one"],
)
async def test_what_shares_a_part_with_the_rest_stays_there(rest):
    shared = [{"n": n} for n in range(MANY)]
    made = state({"a": done(shared)} | rest(shared))
    assert await set_apart(made, MEBIBYTE) is made


@pytest.mark.parametrize(
    "value",
    [Holder([]), (1, 2), {1: 2}, bytearray(b"x"), {3}, type("Sub", (dict,), {})()],
    ids=["object", "tuple", "key", "bytearray", "set", "subclass"],
)
async def test_only_plain_data_stands_apart(value):
    made = state({"a": done([value, *range(MANY)])}, given={"items": [[value], *range(MANY)]})
    assert await set_apart(made, MEBIBYTE) is made


async def test_bytes_stand_apart_too():
    made = await set_apart(state({"a": done([b"x", *range(MANY)])}), MEBIBYTE)
    assert "apart" in made
    assert or_raise(await whole(made))["frame"]["sub"]["a"]["result"][0] == b"x"


async def test_what_changes_meanwhile_stays_where_it_is(monkeypatch):
    def changed(*_):
        raise RuntimeError("dictionary changed size during iteration")

    monkeypatch.setattr(apart, "unshared", changed)
    made = state({"a": done(list(range(MANY)))})
    assert await set_apart(made, MEBIBYTE) is made


async def test_what_stands_apart_has_a_bound():
    made = state({name: done([0] * MANY) for name in "abc"})
    kept = await stored(made, most=500)
    assert len(kept["apart"]) == 1, "each takes some 320 bytes before it is compressed"
    assert or_raise(await whole(kept)) == made


async def test_damaged_bytes_are_an_error():
    kept = await stored(state({"a": done(list(range(MANY)))}))
    kept["apart"]["0"] = kept["apart"]["0"][:-1]
    refused = await whole(kept)
    assert isinstance(refused.failure(), FlowError)
    assert "migration" in str(refused.failure())


async def rest_of(hub, step, *, before=(), given=None, form="steps"):
    """The outputs of a run that has paused after a large result, and goes on with a step."""
    steps = [{"id": "many", "tool": "many"}, *before, ASK, {"id": "last", **step}]
    document = {"flow": steps} if form == "steps" else graph(steps)
    runner = FlowRunner(hub, [many, told, count, same])
    paused = or_raise(await runner.start(document, input=given))
    return or_raise(await runner.resume(paused.waits[0].key, answer=True))


def graph(steps):
    names = [step["id"] for step in steps]
    return {"nodes": steps, "edges": [{"from": one, "to": other} for one, other in pairwise(names)]}


REFERENCES = {
    "$many": [{"at": number} for number in range(MANY)],
    "$many[3].at": 3,
    "$many.output[4]": {"at": 4},
    "$input.items[2]": 2,
    "$input.small": "s",
    "$input": {"items": list(range(MANY)), "small": "s"},
}


@pytest.mark.parametrize("form", ["steps", "graph"])
@pytest.mark.parametrize("reference", REFERENCES)
async def test_a_reference_reads_what_stands_apart(hub, reference, form):
    given = {"items": list(range(MANY)), "small": "s"}
    ended = await rest_of(hub, {"tool": "told", "args": {"value": reference}}, given=given, form=form)
    assert ended.outputs["last"] == {"told": REFERENCES[reference]}
    assert ended.outputs["many"] == REFERENCES["$many"]


@pytest.mark.parametrize(
    ("step", "result"),
    [
        ({"map": "$many", "with": [{"id": "one", "tool": "told", "args": {"value": "$item.at"}}]}, MANY),
        ({"sequence": [{"id": "one", "tool": "count", "args": {"value": "$input"}}]}, MANY),
        (
            {"condition": "$many[5].at == 5", "then": [{"id": "one", "tool": "count", "args": {"value": "$many"}}]},
            MANY,
        ),
    ],
    ids=["map", "sequence", "condition"],
)
async def test_steps_within_steps_read_it_too(hub, step, result):
    ended = await rest_of(hub, step, given=list(range(MANY)))
    found = ended.outputs["last"]
    assert (len(found) if isinstance(found, list) else found) == result


async def test_the_result_of_the_step_before_is_passed_on(hub):
    document = {
        "flow": [
            {"id": "both", "parallel": [[{"id": "many", "tool": "many"}], [ASK]]},
            {"id": "then", "tool": "told", "args": {"value": "$previousOutput[0][7].at"}},
        ]
    }
    runner = FlowRunner(hub, [many, told])
    paused = or_raise(await runner.start(document))
    assert or_raise(await runner.resume(paused.waits[0].key, answer=True)).outputs["then"] == {"told": 7}


async def test_the_facts_of_many_answers_are_read_with_them(hub, monkeypatch):
    monkeypatch.setattr(apart, "_LARGE", 3)
    document = {
        "flow": [
            {"id": "each", "map": "$input", "with": [{**ASK, "output": "said"}]},
            {"id": "more", "tool": "await_input", "args": ASK["args"]},
            {"id": "who", "tool": "told", "args": {"value": "$each[2].by"}},
        ]
    }
    runner = FlowRunner(hub, [told])
    outcome = or_raise(await runner.start(document, input=[1, 2, 3]))
    while not hasattr(outcome, "outputs"):
        outcome = or_raise(await runner.resume(outcome.waits[0].key, answer=True, by="ann"))
    assert outcome.outputs["who"] == {"told": "ann"}


async def test_nothing_is_decoded_that_no_step_refers_to(hub, read):
    document = {
        "flow": [
            {"id": "many", "tool": "many"},
            {"id": "rounds", "loop": "for", "over": "$input.rounds", "body": [ASK]},
            {"id": "last", "tool": "told", "args": {"value": "$many[0]"}},
        ]
    }
    runner = FlowRunner(hub, [many, told])
    outcome = or_raise(await runner.start(document, input={"rounds": [1, 2, 3], "items": list(range(MANY))}))
    for _ in range(3):
        assert not read
        outcome = or_raise(await runner.resume(outcome.waits[0].key, answer=True))
    assert outcome.outputs["last"] == {"told": {"at": 0}}
    assert len(read) == 2, "the result when it was referred to, the input at the end"


async def test_what_is_read_is_shared_as_before(hub):
    before = [{"id": "again", "tool": "told", "args": {"value": "$many"}}]
    ended = await rest_of(
        hub, {"tool": "same", "args": {"one": "$many", "other": "$again.told"}}, before=before, given=None
    )
    assert ended.outputs["last"] is True


async def test_inspections_and_retries_see_all_of_it(hub):
    @tool(id="fails", description="Fails once.")
    async def fails(value: list[dict[str, int]]) -> int:
        failed.append(len(value))
        if len(failed) == 1:
            raise ValueError
        return len(value)

    failed = []
    document = {
        "failed": "park",
        "flow": [{"id": "many", "tool": "many"}, ASK, {"id": "last", "tool": "fails", "args": {"value": "$many"}}],
    }
    runner = FlowRunner(hub, [many, fails])
    paused = or_raise(await runner.start(document, input=list(range(MANY))))
    seen = or_raise(await runner.inspect(paused.run_id))
    assert seen.steps["many"].output == REFERENCES["$many"]
    parked = await runner.resume(paused.waits[0].key, answer=True)
    assert isinstance(parked.failure(), FlowError)
    assert or_raise(await runner.inspect(paused.run_id)).steps["many"].output == REFERENCES["$many"]
    ended = or_raise(await runner.retry(paused.run_id, edit={"many": [{"at": 1}]}))
    assert (ended.outputs["last"], failed) == (1, [MANY, 1])
