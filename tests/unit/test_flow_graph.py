"""Documents in graph form: what compiles, and which node runs when, with which input."""

from __future__ import annotations

import asyncio
import copy

import pytest
from returns.result import Failure, Success

from flowpersist.dynamicflow import Join, check, tool
from flowpersist.dynamicflow import compile as compile_flow
from flowpersist.dynamicflow.engine import Engine
from flowpersist.dynamicflow.ir import Edge, Parallel
from flowpersist.dynamicflow.outcomes import PENDING, Done, Failed
from flowpersist.dynamicflow.tools import Toolbox
from flowpersist.errors import FlowError

calls: list[object] = []
running = {"now": 0, "most": 0}


@tool()
async def say(value: object = None) -> object:
    calls.append(value)
    return value


@tool()
async def meet(value: object = None) -> object:
    """Counts how many run at once."""
    running["now"] += 1
    running["most"] = max(running["most"], running["now"])
    for _ in range(3):
        await asyncio.sleep(0)
    running["now"] -= 1
    return value


@tool()
async def boom() -> object:
    raise RuntimeError("it broke")


@pytest.fixture(autouse=True)
def _fresh():
    calls.clear()
    running.update(now=0, most=0)


def compiled(nodes, edges=(), **more):
    result = compile_flow({"metadata": {"name": "g"}, "nodes": nodes, "edges": list(edges), **more})
    assert isinstance(result, Success), result
    return result.unwrap()


def refused(given):
    result = compile_flow({"metadata": {"name": "g"}, **given})
    assert isinstance(result, Failure), result
    error = result.failure()
    assert isinstance(error, FlowError)
    assert error.document == "g"
    return error


class Run:
    """Walks a graph again and again, as the runner does."""

    def __init__(self, nodes, edges=(), input=None, joins=()):
        self.flow, self.input, self.frame = compiled(nodes, edges), input, {}
        self.toolbox = Toolbox.of([say, meet, boom], joins)
        self.open: set[str] = set()

    async def walk(self, answers=None):
        self.frame = copy.deepcopy(self.frame)
        self.open -= set(answers or {})
        self.engine = Engine(
            flow=self.flow,
            toolbox=self.toolbox,
            run_id="run",
            input=self.input,
            answers=dict(answers or {}),
            open=dict.fromkeys(self.open, 0),
            backoff=lambda _failures: 0.0,
        )
        outcome = await self.engine.run(self.frame)
        self.open = set(self.engine.open)
        return outcome


async def result(nodes, edges=(), **more):
    run = Run(nodes, edges, **more)
    outcome = await run.walk()
    assert isinstance(outcome, Done), outcome
    return outcome.value, run.engine.outputs


def node(name, value=None, **more):
    return {"id": name, "tool": "say", "args": {"value": name if value is None else value}, **more}


def ask(name, **more):
    return {"id": name, "tool": "await_input", "args": {"prompt": "?"}, **more}


def edge(source, target, condition=None):
    return {"from": source, "to": target, **({} if condition is None else {"condition": condition})}


LOOSE = [node("a"), node("b"), node("c")]


@pytest.mark.parametrize(
    ("graph", "step", "says"),
    [
        ({"nodes": LOOSE, "edges": [edge("a", "b"), edge("b", "a")]}, "a", "a -> b -> a are a cycle"),
        ({"nodes": LOOSE, "edges": [edge("a", "a")]}, "a", "a -> a are a cycle"),
        ({"nodes": LOOSE, "edges": [edge("a", "z")]}, "z", "is not a node"),
        ({"nodes": LOOSE, "edges": [edge("a", "START")]}, "START", "leads to 'START'"),
        ({"nodes": LOOSE, "edges": [edge("START", "a"), edge("a", "b")]}, "c", "can't be reached from 'START'"),
        ({"nodes": LOOSE, "edges": [{**edge("a", "b"), "when": "1 > 0"}]}, None, "unknown field 'when'"),
        ({"nodes": LOOSE, "edges": [edge("a", "b", "1 >")]}, None, "edges[0] has a condition that can't be read"),
        ({"nodes": LOOSE, "edges": [edge("a", "b", {"type": "tool"})]}, None, "edges[0]: Invalid 'condition'"),
        ({"nodes": LOOSE, "edges": [edge("a", "b", "$c == 1")]}, "a", "$c is not visible here: 'c' does not always"),
        ({"nodes": [node("a", "$b"), node("b")]}, "a", "add an edge from 'b'"),
        ({"nodes": [node("a", "$b"), node("b", "$a")]}, "a", "a cycle of steps"),
        ({"nodes": [{"id": "a"}]}, "a", "no 'type'"),
        ({"nodes": [node("a"), node("a")]}, "a", "two nodes have the id 'a'"),
        ({"nodes": [node("START")]}, "START", "means the beginning"),
        ({"nodes": [{"tool": "say"}]}, "nodes[0]", "with an 'id'"),
        ({"nodes": {}}, None, "a list of nodes in 'nodes'"),
        ({"nodes": []}, None, "the document has no steps"),
        ({"edges": []}, None, "a list of nodes in 'nodes'"),
        ({"nodes": LOOSE, "edges": 3}, None, "a list of edges"),
        ({"nodes": LOOSE, "edges": [3]}, None, "edges[0] must be an object"),
        ({"nodes": LOOSE, "edges": [{"from": []}]}, None, "edges[0] needs 'from'"),
        ({"nodes": [*LOOSE, {"id": "s", "sequence": ["x"]}]}, "s", "names 'x', which is not a node"),
        ({"nodes": [*LOOSE, {"id": "s", "sequence": ["a", "a"]}]}, "a", "in two blocks"),
        ({"nodes": [*LOOSE, {"id": "s", "sequence": ["s"]}]}, "s", "s -> s contain each other"),
        ({"nodes": [*LOOSE, {"id": "s", "sequence": ["a"]}], "edges": [edge("a", "b")]}, "a", "runs within"),
        (
            {"nodes": [{"id": "s", "sequence": ["t"]}, {"id": "t", "sequence": ["s"]}]},
            "s",
            "s -> t -> s contain each other",
        ),
    ],
)
def test_a_wrong_graph_is_refused(graph, step, says):
    error = refused(graph)
    assert says in error.message
    assert error.step == step


def test_all_problems_of_a_graph_are_found_at_once():
    nodes = [node("a"), {"id": "b", "tool": "say", "retry": -1}, {"tool": "say"}, {"id": "c", "sequence": ["x"]}]
    edges = [{"from": "a", "too": "b"}, edge("a", ["c", "z"]), edge("b", "c", "1 >")]
    found = [(one.pointer, one.code) for one in check({"nodes": nodes, "edges": edges})]
    assert found == [
        ("/nodes/2", "missing-field"),
        ("/nodes/3/sequence/0", "unknown-name"),
        ("/edges/0/too", "unknown-field"),
        ("/edges/0", "missing-field"),
        ("/edges/1/to", "unknown-name"),
        ("/edges/2/condition", "invalid-expression"),
        ("/nodes/1/retry", "invalid-value"),
    ]
    unseen = [edge("a", "b", "$c == 1 && $d > 1")]
    nodes = [node("a", ["$b"]), node("b", "$a"), {"id": "d", "sequence": ["c"]}, node("c", "$e")]
    assert [(one.pointer, one.code) for one in check({"nodes": nodes, "edges": unseen})] == [
        ("/nodes/0/args/value/0", "cycle"),
        ("/edges/0/condition", "not-visible"),
        ("/edges/0/condition", "not-visible"),
        ("/nodes/3/args/value", "unknown-name"),
    ]


def test_graphs_are_bounded():
    names = [f"n{number}" for number in range(110)]
    assert "10000 pairs" in refused({"nodes": [node(name) for name in names], "edges": [edge(names, names)]}).message
    nested = [{"id": "n0", "tool": "say"}, *({"id": f"n{n}", "sequence": [f"n{n - 1}"]} for n in range(1, 1500))]
    for order in (nested, nested[::-1]):
        assert "nested deeper than 50" in refused({"nodes": order}).message
    deep: dict[str, object] = {}
    for number in range(30):
        inner: dict[str, object] = {"id": f"i{number}", "sequence": [f"o{number + 1}"]} if number < 29 else node("end")
        for _ in range(40):
            inner = {"sequence": inner}
        deep[f"o{number}"] = {**inner, "id": f"o{number}"}
    assert "nested deeper than 50" in refused({"nodes": list(deep.values())}).message


def test_edges_and_joins_of_a_graph():
    flow = compiled(
        [
            {"id": "b", "tool": "y"},
            {"id": "a", "tool": "x"},
            {"id": "c", "tool": "z"},
            {"id": "p", "parallel": ["d"]},
            node("d"),
        ],
        [edge("a", ["b", "p"]), edge("b", "c", "$b > 1"), edge("a", "c")],
    )
    assert flow.steps == ("a", "b", "c", "p")
    assert flow.entry == "a"
    assert set(flow.edges) == {
        Edge("a", "b", "next"),
        Edge("a", "p", "next"),
        Edge("b", "c", "$b > 1"),
        Edge("a", "c", "next"),
        Edge("p", "d", "[0]"),
    }
    assert flow.joins == {("x", "y")}
    assert flow.nodes["p"].operation == Parallel((("d",),))
    described = compiled(LOOSE, [{**edge("a", "b"), "description": "first"}, edge("b", "c")])
    assert described.hash == compiled(LOOSE, [edge("a", "b"), edge("b", "c")]).hash
    assert described.hash != compiled(LOOSE, [edge("a", "b"), edge("a", "c")]).hash


@pytest.mark.parametrize(
    ("edges", "expected"),
    [
        # Without START, every node that nothing leads to runs.
        ([], {"a": "a", "b": "b", "c": "c"}),
        ([edge("a", "b"), edge("b", "c")], "c"),
        ([edge("START", ["a", "c"]), edge("c", "b")], {"a": "a", "b": "b"}),
        ([edge(["a", "b"], "c")], "c"),
        # One that is left out is not in the result.
        ([edge("a", "b", "false"), edge("a", "c", "true")], {"c": "c"}),
        ([edge("a", "b", "false"), edge("b", "c")], None),
        ([edge("START", "a"), edge("START", "b", "$input.n > 1"), edge("b", "c")], {"a": "a"}),
        ([edge("START", "a"), edge("START", "b", "$input.n == 1"), edge("b", "c")], {"a": "a", "c": "c"}),
        # A branch that is not taken blocks nothing.
        ([edge("a", "b", "$a != 'a'"), edge(["a", "b"], "c")], "c"),
        ([edge("a", "b", {"type": "expression", "expression": "1 > 2"}), edge("b", "c"), edge("a", "c")], "c"),
        ([edge("a", "b", False), edge("a", "b", True), edge("b", "c")], "c"),
    ],
)
async def test_which_nodes_run_and_what_the_result_is(edges, expected):
    assert (await result(LOOSE, edges, input={"n": 1}))[0] == expected


@pytest.mark.parametrize(
    ("edges", "expected"),
    [
        ([], {"n": 1}),
        ([edge("START", ["a", "b", "z"])], {"n": 1}),
        ([edge("a", "z"), edge("b", "z", "false")], {"a": {"of": "a"}}),
        ([edge(["b", "a"], "z")], {"b": {"of": "b"}, "a": {"of": "a"}}),
        ([edge("a", "z")], {"of": "a"}),
        ([edge("START", ["a", "b", "z"]), edge("a", "z")], {"of": "a"}),
        ([edge("START", ["a", "b", "z"]), edge("a", "z", "false")], {"n": 1}),
    ],
)
async def test_what_a_node_gets(edges, expected):
    nodes = [node("a", {"of": "a"}), node("b", {"of": "b"}), node("z", "$previousOutput")]
    assert (await result(nodes, edges, input={"n": 1}))[1]["z"] == expected


async def test_a_tool_without_arguments_gets_its_predecessors_through_a_join():
    joins = [Join("meet", "say", lambda value: {"value": f"joined {value}"})]
    nodes = [{"id": "a", "tool": "meet", "args": {"value": 1}}, {"id": "z", "tool": "say"}]
    assert (await result(nodes, [edge("a", "z")], joins=joins))[0] == "joined 1"
    assert (await result(nodes, [edge("a", "z", "$a == 1")], joins=joins))[0] == "joined 1"


async def test_nodes_run_as_soon_as_they_can_all_at_once():
    nodes = [{"id": f"m{n}", "tool": "meet"} for n in range(5)] + [node("z")]
    await result(nodes, [edge([f"m{n}" for n in range(5)], "z")])
    assert running["most"] == 5


async def test_a_variable_is_the_value_of_the_last_node_before():
    nodes = [
        node("a", 1, output="x"),
        node("b", 2, output="x"),
        node("c", 3, output="x"),
        node("after_b", "$x"),
        node("after_c", "$x"),
        node("after_both", "$x"),
        node("after_a", "$x"),
    ]
    edges = [
        edge("a", ["b", "c", "after_a"]),
        edge("b", "after_b", "$x == 2"),
        edge("c", "after_c", "$x == 3"),
        edge(["b", "c"], "after_both"),
    ]
    for given in (nodes, [nodes[0], nodes[2], nodes[1], *nodes[3:]]):
        outputs = (await result(given, edges))[1]
        assert {outputs[name] for name in ("after_a", "after_b", "after_c")} == {1, 2, 3}
        assert (outputs["after_a"], outputs["after_b"], outputs["after_c"]) == (1, 2, 3)
        assert outputs["after_both"] == given[2]["args"]["value"]


async def test_a_variable_of_a_node_that_did_not_run_is_missing():
    nodes = [node("a"), node("b", 1, output="x"), node("c", 2, output="x"), node("z", "$x")]
    edges = [edge("a", "b", "false"), edge("a", "c"), edge("a", "z"), edge("b", "z")]
    outcome = await Run(nodes, edges).walk()
    assert isinstance(outcome, Failed)
    assert outcome.error.reference == "$x"


async def test_nodes_that_others_name_run_within_them():
    nodes = [
        node("a"),
        {"id": "i", "type": "if-then", "condition": "$a == 'a'", "then": ["t1", "t2"], "else": ["e"]},
        {"id": "p", "type": "parallel", "branches": [["p1", "p2"], ["p3"], [node("p4")]]},
        {"id": "s", "type": "sequence", "sequence": ["s1", node("s2")]},
        {"id": "w", "switch": "$a", "branches": {"a": ["w1"]}, "onError": "w2"},
        {"id": "m", "map": [1, 2], "with": "m1"},
        *(node(name) for name in ("t1", "t2", "e", "p1", "p2", "p3", "s1", "w1", "w2")),
        node("m1", "$item"),
    ]
    edges = [edge("a", "i"), edge("i", "p"), edge("p", "s"), edge("s", "w"), edge("w", "m")]
    value, outputs = await result(nodes, edges)
    assert value == [1, 2]
    assert outputs["i"] == "t2"
    assert outputs["p"] == ["p2", "p3", "p4"]
    assert outputs["s"] == "s2"
    assert outputs["w"] == "w1"
    assert (calls[:3], calls[7:]) == (["a", "t1", "t2"], ["s1", "s2", "w1", 1, 2])
    assert set(calls[3:7]) == {"p1", "p2", "p3", "p4"}


FLAT = [
    node("a"),
    {"id": "c", "type": "conditional", "condition": "$a == 'a'", "ifTrueIds": ["c1"], "ifFalseIds": ["c2"]},
    {"id": "m", "type": "map", "map": "[1, 2]", "withId": "m1"},
    {"id": "l", "type": "loop", "loop": "for", "over": "$m", "bodyIds": ["l1", "l2"]},
    {"id": "r", "type": "reduce", "reduce": "$m", "initial": 0, "withId": "r1", "onError": ["r2"]},
    {"id": "p", "type": "parallel", "parallelIds": ["p1", "s"]},
    {"id": "s", "type": "switch", "switch": "$a", "options": [{"id": "a"}], "branchIds": {"a": ["s1"]}},
    node("m1", "$item"),
    node("l2", "$previousOutput"),
    node("r1", ["$acc", "$item"]),
    *(node(name) for name in ("c1", "c2", "l1", "r2", "p1", "s1")),
]


def test_flat_form_is_the_step_form_of_its_ids():
    flat = compile_flow({"steps": FLAT, "rootIds": ["a", "c", "m", "l", "r", "p"]}).unwrap()
    by_id = {step["id"]: step for step in FLAT}
    nested = [
        by_id["a"],
        {**by_id["c"], "if_true": [by_id["c1"]], "if_false": [by_id["c2"]]},
        {**by_id["m"], "with": by_id["m1"]},
        {**by_id["l"], "body": [by_id["l1"], by_id["l2"]]},
        {**by_id["r"], "with": by_id["r1"], "onError": [by_id["r2"]]},
        {**by_id["p"], "parallel": [by_id["p1"], {**by_id["s"], "branches": {"a": [by_id["s1"]]}}]},
    ]

    def bare(step):
        """A step without its ids of others."""
        if isinstance(step, dict):
            return {name: bare(value) for name, value in step.items() if not name.endswith(("Id", "Ids"))}
        return [bare(item) for item in step] if isinstance(step, list) else step

    steps = compile_flow({"flow": bare(nested)}).unwrap()
    assert (flat.nodes, flat.steps, set(flat.edges)) == (steps.nodes, steps.steps, set(steps.edges))
    described = [{**step, "description": "new"} for step in FLAT]
    assert compile_flow({"steps": described, "rootIds": list(flat.steps)}).unwrap().hash == flat.hash


@pytest.mark.parametrize(
    ("given", "pointer", "code"),
    [
        ({"steps": FLAT}, "", "missing-field"),
        ({"steps": FLAT, "rootIds": "a"}, "/rootIds", "wrong-type"),
        ({"steps": FLAT, "rootIds": []}, "/rootIds", "invalid-value"),
        ({"rootIds": ["a"]}, "", "missing-field"),
        ({"steps": LOOSE, "rootIds": ["a", 1, "b", "c"]}, "/rootIds/1", "wrong-type"),
        ({"steps": LOOSE, "rootIds": ["a", "z", "b", "c"]}, "/rootIds/1", "unknown-name"),
        ({"steps": LOOSE, "rootIds": ["a", "b", "a", "c"]}, "/rootIds/2", "duplicate-name"),
        ({"steps": LOOSE, "rootIds": ["a", "b"]}, "/steps/2", "unreachable"),
        ({"steps": [*LOOSE, LOOSE[0]], "rootIds": ["a", "b", "c"]}, "/steps/3/id", "duplicate-name"),
        (
            {"steps": [{"id": "p", "type": "parallel", "parallelIds": ["a", "x"]}, LOOSE[0]], "rootIds": ["p"]},
            "/steps/0/parallelIds/1",
            "unknown-name",
        ),
        (
            {"steps": [{"id": "p", "type": "parallel", "parallelIds": ["a"]}, LOOSE[0]], "rootIds": ["p", "a"]},
            "/rootIds/1",
            "duplicate-name",
        ),
        (
            {"steps": [{"id": "p", "type": "sequence", "bodyIds": ["a"]}, LOOSE[0]], "rootIds": ["p", "a"]},
            "/steps/0/bodyIds",
            "unknown-field",
        ),
        ({"flow": LOOSE, "rootIds": ["a"]}, "/rootIds", "invalid-value"),
        ({"flow": LOOSE, "edges": []}, "/edges", "invalid-value"),
        ({"nodes": LOOSE, "steps": LOOSE}, "/steps", "invalid-value"),
        ({"flow": [{"id": "p", "type": "parallel", "parallelIds": ["a"]}]}, "/flow/0/parallelIds", "unknown-field"),
        ({"flow": [{"id": "p", "type": "sequence", "steps": ["a"]}]}, "/flow/0/steps/0", "wrong-type"),
    ],
)
def test_a_wrong_flat_form_is_refused(given, pointer, code):
    assert (pointer, code) in [(one.pointer, one.code) for one in check(given)]


async def test_what_waits_holds_up_only_what_follows_it():
    nodes = [node("a"), ask("q"), ask("r"), node("after_q", "$q"), node("beside"), node("z", ["$q", "$r"])]
    run = Run(nodes, [edge("a", ["q", "r", "beside"]), edge("q", "after_q"), edge(["after_q", "r"], "z")])
    assert await run.walk() is PENDING
    assert (run.open, calls) == ({"q", "r"}, ["a", "beside"])
    assert await run.walk({"q": 1}) is PENDING
    assert (run.open, calls) == ({"r"}, ["a", "beside", 1])
    assert await run.walk({"r": 2}) == Done({"beside": "beside", "z": [1, 2]})
    assert calls == ["a", "beside", 1, [1, 2]]


async def test_a_condition_is_not_decided_again_once_its_node_has_finished():
    nodes = [node("a"), node("b"), ask("q")]
    run = Run(nodes, [edge("a", "b", "$a == 'a'"), edge("b", "q")])
    assert await run.walk() is PENDING
    run.flow = compiled(nodes, [edge("a", "b", "$a == 'other'"), edge("b", "q")])
    assert await run.walk({"q": "yes"}) == Done("yes")


async def test_a_failure_ends_the_graph_and_is_caught_by_its_node():
    nodes = [{"id": "b", "tool": "boom"}, {"id": "s", "tool": "meet"}, node("z")]
    outcome = await Run(nodes, [edge(["b", "s"], "z")]).walk()
    assert isinstance(outcome, Failed)
    assert outcome.error.step == "b"
    caught = [{**nodes[0], "retry": 1, "onError": [node("e", "$error.message")]}, *nodes[1:]]
    assert "it broke" in str((await result(caught, [edge(["b", "s"], "z")]))[1]["b"])


async def test_a_condition_that_fails_names_its_edge():
    outcome = await Run(LOOSE, [edge("a", "b", "$a > 1")]).walk()
    assert isinstance(outcome, Failed)
    assert outcome.error.message.startswith("the edge from 'a' to 'b': step 'a': ")


async def test_results_that_are_too_large_together_are_an_error():
    doubled = [node(f"d{n}", ["$input", "$input"]) for n in range(20)]
    outcome = await Run(doubled, input=[0] * 30_000).walk()
    assert isinstance(outcome, Failed)
    assert "the results of the nodes without a successor together" in outcome.error.message
