"""Flows within flows: their waits are the run's, their names and results their own, and a run keeps its documents."""

from __future__ import annotations

import asyncio

import pytest

from flow_steps import ask, said
from flowpersist.dynamicflow import Completed, FlowRunner, Migration, Suspended, check, tool
from flowpersist.dynamicflow import compile as compile_flow
from flowpersist.errors import ConfigurationError, FlowError
from flowpersist.hub.opening import open_hub
from flowpersist.hub.outcome import or_raise

calls: list[object] = []
running = {"now": 0, "most": 0}


@tool()
async def say(value: object = None) -> object:
    calls.append(value)
    return value


@tool()
async def slow(value: object = None) -> object:
    running["now"] += 1
    running["most"] = max(running["most"], running["now"])
    for _ in range(5):
        await asyncio.sleep(0)
    running["now"] -= 1
    return value


@tool()
async def flaky(value: object = None) -> object:
    calls.append(value)
    if len(calls) < 2:
        raise RuntimeError("not yet")
    return value


TOOLS = [say, slow, flaky]


@pytest.fixture(autouse=True)
def _fresh():
    calls.clear()
    running.update(now=0, most=0)


@pytest.fixture
async def hub():
    async with open_hub("memory://", keyring=None) as opened:
        yield opened


def sub(flow, name="sub", **more):
    return {"id": name, "flow": flow, **more}


INNER = {"flow": [ask("ask"), said(["$input", "$ask", "$ask.by", "$run.by"], output="mine")]}
OUTER = {"flow": [said(1, output="x"), sub(INNER, input={"a": "$x"}), said(["$sub", "$sub[1]"], id="last")]}
FLOWS = {"inner": INNER, "twice": {"flow": [sub("inner", "one", input=1), sub("inner", "two", input="$one")]}}


@pytest.mark.parametrize("flow", [INNER, "inner"], ids=["inline", "registered"])
async def test_its_waits_are_the_runs_and_its_result_is_the_steps(hub, flow):
    runner = FlowRunner(hub, TOOLS, flows=FLOWS)
    document = {"flow": [OUTER["flow"][0], sub(flow, input={"a": "$x"}), OUTER["flow"][2]]}
    outcome = or_raise(await runner.start(document, by="ann"))
    assert list(outcome.keys) == ["sub.ask"]
    # Another process, which does not know the registered flow.
    done = or_raise(await FlowRunner(hub, TOOLS).resume(outcome.key, answer="yes", by="bob"))
    result = [{"a": 1}, "yes", "bob", "ann"]
    assert done == Completed([result, "yes"], {"step_1": 1, "sub": result, "last": [result, "yes"]})


async def test_names_stay_on_their_side(hub):
    for step in (said("$mine"), said("$ask"), said("$inner_step")):
        problem = compile_flow({"flow": [sub(INNER), step]}).failure().problems[0]
        assert (problem.code, problem.pointer) == ("unknown-name", "/flow/1/args/value")
    inner = compile_flow({"flow": [said(1, output="x"), sub({"flow": [said("$x")]})]}).failure().problems[0]
    assert (inner.code, inner.pointer) == ("unknown-name", "/flow/1/flow/flow/0/args/value")
    same = {"flow": [said(1, id="a"), sub({"flow": [said(2, id="a"), said("$a")]}), said(["$a", "$sub"])]}
    assert or_raise(await FlowRunner(hub, TOOLS).start(same)).result == [1, 2]


async def test_the_first_step_gets_the_input_and_an_answer_at_the_end_keeps_its_facts(hub):
    runner = FlowRunner(hub, TOOLS)
    first = {"flow": [sub({"flow": [said("$previousOutput")]}, input="$input.n")]}
    assert or_raise(await runner.start(first, input={"n": 5})).result == 5
    assert or_raise(await runner.start({"flow": [sub({"flow": [said("$input")]})]})).result == {}
    last = or_raise(await runner.start({"flow": [sub({"flow": [ask("ask")]}, output="x"), said(["$sub.by", "$x.by"])]}))
    assert or_raise(await runner.resume(last.key, answer=1, by="bob")).result == ["bob", "bob"]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
async def test_iterations_have_one_each_and_answers_come_in_any_order(hub, order):
    runner = FlowRunner(hub, TOOLS)
    document = {"flow": [{"id": "m", "map": [1, 2], "parallel": True, "with": sub(INNER, input="$item")}]}
    outcome = or_raise(await runner.start(document))
    keys = [outcome.keys[f"m[{n}].sub.ask"] for n in (0, 1)]
    for at in order:
        outcome = or_raise(await runner.resume(keys[at], answer=at))
    assert [one[:2] for one in outcome.result] == [[1, 0], [2, 1]]


async def test_registered_flows_run_others_and_each_use_has_waits_of_its_own(hub):
    runner = FlowRunner(hub, TOOLS, flows=FLOWS)
    outcome = or_raise(await runner.start({"flow": [sub("twice", input=0)]}))
    assert list(outcome.keys) == ["sub.one.ask"]
    outcome = or_raise(await FlowRunner(hub, TOOLS).resume(outcome.key, answer="a"))
    assert list(outcome.keys) == ["sub.two.ask"]
    done = or_raise(await FlowRunner(hub, TOOLS).resume(outcome.key, answer="b"))
    assert done.result[:2] == [[1, "a", None, None], "b"]


async def test_it_may_have_graph_form_and_be_tried_again_or_handled(hub):
    runner = FlowRunner(hub, TOOLS)
    nodes = [said("$input.n", id="a"), said("$a", id="b")]
    graph = {"nodes": nodes, "edges": [{"from": "a", "to": "b"}]}
    assert or_raise(await runner.start({"flow": [sub(graph, input={"n": 4})]})).result == 4
    calls.clear()
    again = {"flow": [sub({"flow": [{"tool": "flaky", "args": {"value": 1}}]}, retry=1)]}
    assert or_raise(await runner.start(again)).result == 1
    calls.clear()
    handled = {"flow": [sub({"flow": [{"tool": "flaky"}]}, onError=said("$error.step"))]}
    assert or_raise(await runner.start(handled)).result == "step_1"


async def test_tools_within_count_for_the_run_as_a_whole(hub):
    each = sub({"flow": [{"tool": "slow", "args": {"value": "$input"}}]}, input="$item")
    document = {"concurrency": 2, "flow": [{"map": list(range(6)), "parallel": True, "with": each}]}
    assert or_raise(await FlowRunner(hub, TOOLS).start(document)).result == list(range(6))
    assert running["most"] == 2
    missing = (await FlowRunner(hub, []).start(document)).failure()
    assert [(one.code, one.pointer) for one in missing.problems] == [("unknown-tool", "/flow/0/with/flow/flow/0/tool")]


async def test_a_runner_without_the_tool_of_a_sub_flow_leaves_the_run(hub):
    outcome = or_raise(await FlowRunner(hub, TOOLS).start({"flow": [sub(INNER)]}))
    error = (await FlowRunner(hub, []).resume(outcome.key, answer=1)).failure()
    assert isinstance(error, FlowError)
    assert error.tool == "say"


async def test_an_inspection_shows_the_steps_within(hub):
    runner = FlowRunner(hub, TOOLS, flows=FLOWS)
    outcome = or_raise(await runner.start({"flow": [sub("inner")]}))
    seen = or_raise(await FlowRunner(hub, TOOLS).inspect(outcome.suspension_id))
    assert {path: one.status for path, one in seen.steps.items()} == {
        "sub": "waiting",
        "sub.ask": "waiting",
        "sub.step_2": "pending",
    }
    assert seen.waits == ("sub.ask",)


async def test_a_parked_run_is_retried_within_its_sub_flow(hub):
    inner = {"flow": [said("$input", id="a", output="x"), {"id": "b", "tool": "flaky", "args": {"value": "$a"}}]}
    document = {"failed": "park", "flow": [said(0, id="b", output="x"), sub(inner, input="$b"), said(["$x", "$sub"])]}
    runner = FlowRunner(hub, [say, later := tool(id="flaky")(_later)])
    assert later.id == "flaky"
    for from_step, edit, result in (
        (None, {}, [0, 0]),
        ("sub.b", {}, [0, 0]),
        ("sub.a", {}, [0, 0]),
        ("sub", {"x": 7}, [7, 7]),
        (None, {"sub.a": 5}, [0, 5]),
    ):
        broken.clear()
        failed = (await runner.start(document)).failure()
        broken.append("mended")
        assert or_raise(await runner.retry(failed.run, from_step=from_step, edit=edit)).result == result


broken: list[str] = []


async def _later(value: object = None) -> object:
    if not broken:
        raise RuntimeError("not yet")
    return value


# ----------------------------------------------------------------------------------------------------- what a run keeps


async def test_a_registered_flow_that_has_changed_needs_a_migration(hub):
    document = {"flow": [sub("inner")]}
    changed = {"inner": {"flow": [ask("ask"), said("new")]}}
    old, new = (compile_flow(document, flows).unwrap().hash for flows in (FLOWS, changed))
    assert old != new
    outcome = or_raise(await FlowRunner(hub, TOOLS, flows=FLOWS).start(document))
    refused = (await FlowRunner(hub, TOOLS, flows=changed).resume(outcome.key, answer=1, document=document)).failure()
    assert "without a migration" in refused.message
    migrating = FlowRunner(hub, TOOLS, migrations=[Migration(old, new, lambda state: state)], flows=changed)
    assert or_raise(await migrating.resume(outcome.key, answer=1, document=document)).result == "new"


async def test_without_a_document_the_run_keeps_the_flow_that_it_began_with(hub):
    outcome = or_raise(await FlowRunner(hub, TOOLS, flows=FLOWS).start({"flow": [sub("inner", input=3)]}))
    changed = FlowRunner(hub, TOOLS, flows={"inner": {"flow": [said("new")]}})
    assert or_raise(await changed.resume(outcome.key, answer=1)).result[:2] == [3, 1]


def test_the_hash_is_of_what_sub_flows_do():
    described = {"metadata": {"name": "n"}, "flow": [{**ask("ask"), "description": "d"}, INNER["flow"][1]]}
    assert hash_of({"flow": [sub(INNER)]}) == hash_of({"flow": [sub(described)]})
    assert hash_of({"flow": [sub(INNER)]}) != hash_of({"flow": [sub({"flow": [ask("ask")]})]})
    assert hash_of({"flow": [sub("twice")]}) != hash_of({"flow": [sub("inner")]})
    deep = {**FLOWS, "inner": {"flow": [ask("other")]}}
    assert compile_flow({"flow": [sub("twice")]}, deep).unwrap().hash != hash_of({"flow": [sub("twice")]})


def hash_of(document):
    return compile_flow(document, FLOWS).unwrap().hash


# ------------------------------------------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    ("document", "pointer", "text"),
    [
        ({"flow": [sub("nobody")]}, "/flow/0/flow", "'nobody' is not registered"),
        ({"flow": [sub(7)]}, "/flow/0/flow", "a document, or the id of a registered flow"),
        ({"flow": [sub([said(1)])]}, "/flow/0/flow", "a document, or the id of a registered flow"),
        ({"flow": [sub({"flow": []})]}, "/flow/0/flow/flow", "needs at least one"),
        ({"flow": [sub({"flow": [{"tool": ""}]})]}, "/flow/0/flow/flow/0/tool", "Invalid 'tool'"),
        ({"flow": [sub({**INNER, "timeout": 5})]}, "/flow/0/flow/timeout", "for the run as a whole"),
        ({"flow": [sub({**INNER, "concurrency": 5})]}, "/flow/0/flow/concurrency", "for the run as a whole"),
        ({"flow": [sub(INNER, input="$nothing")]}, "/flow/0/input", "$nothing"),
    ],
)
def test_what_is_wrong_within_has_its_place_in_the_document(document, pointer, text):
    problems = check(document, flows=FLOWS)
    assert [one.pointer for one in problems] == [pointer]
    assert text in problems[0].message


def test_flows_that_contain_themselves_are_refused():
    circle = {"a": {"flow": [sub("b")]}, "b": {"flow": [{"map": [1], "with": sub("a")}]}}
    with pytest.raises(ConfigurationError, match=r"contains itself \(a -> b -> a\)"):
        compile_flow({"flow": [sub("a")]}, circle)


async def test_steps_may_be_nested_so_deep_and_no_deeper(hub):
    def nested(levels):
        flows = {"f0": {"flow": [ask("ask")]}}
        for at in range(1, levels):
            flows[f"f{at}"] = {"flow": [sub(f"f{at - 1}", "s")]}
        return flows

    runner = FlowRunner(hub, TOOLS, flows=nested(47))
    outcome = or_raise(await runner.start({"flow": [sub("f46", "s")]}))
    assert isinstance(outcome, Suspended)
    assert or_raise(await runner.resume(outcome.key, answer=1)).result == 1
    with pytest.raises(ConfigurationError, match="nested deeper than 48 levels"):
        FlowRunner(hub, TOOLS, flows=nested(49))


@pytest.mark.parametrize("flows", [[INNER], {"\0": INNER}, {7: INNER}, {"a": 7}, {"a": {"flow": [{}]}}])
async def test_flows_that_can_not_be_registered_are_refused(hub, flows):
    with pytest.raises((TypeError, ValueError), match=r"flow"):
        FlowRunner(hub, TOOLS, flows=flows)
