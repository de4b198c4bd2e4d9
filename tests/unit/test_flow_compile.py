"""What compiles to what, and which error a document gets that is wrong."""

from __future__ import annotations

import json

import pytest
from returns.result import Failure, Success

from flowpersist.dynamicflow import compile as compile_flow
from flowpersist.dynamicflow.ir import (
    Conditional,
    Edge,
    Filter,
    Loop,
    Map,
    Parallel,
    Reduce,
    Sequence,
    Switch,
    ToolCall,
)
from flowpersist.errors import FlowError


def document(*steps, **more):
    return {"version": "1.0", "metadata": {"name": "doc"}, "flow": list(steps), **more}


def compiled(*steps):
    result = compile_flow(document(*steps))
    assert isinstance(result, Success), result
    return result.unwrap()


def refused(given):
    result = compile_flow(given)
    assert isinstance(result, Failure), result
    error = result.failure()
    assert isinstance(error, FlowError)
    return error


TOOL = {"id": "t", "tool": "x"}


@pytest.mark.parametrize(
    ("step", "kind"),
    [
        ({"tool": "x"}, ToolCall),
        ({"toolId": "x", "input": {}}, ToolCall),
        ({"type": "tool", "tool": "x", "inputs": {"a": 1}}, ToolCall),
        ({"tool": "x", "with": {"a": 1}}, ToolCall),
        ({"condition": "true", "if_true": [TOOL]}, Conditional),
        ({"type": "if-then", "condition": "true", "then": TOOL, "else": []}, Conditional),
        ({"condition": {"type": "expression", "expression": "1 < 2"}, "then": TOOL}, Conditional),
        ({"condition": True}, Conditional),
        ({"switch": "$input.kind", "branches": {"a": TOOL}, "default": []}, Switch),
        ({"switch": "$input.kind", "cases": {"a": [TOOL]}, "options": [{"id": "a"}, "b"]}, Switch),
        ({"filter": "$input", "condition": "$item > 1"}, Filter),
        ({"type": "filter", "over": "[1, 2]", "condition": "$item > 1"}, Filter),
        ({"map": "$input", "with": TOOL}, Map),
        ({"type": "map", "over": "$input", "body": [TOOL], "parallel": True}, Map),
        ({"reduce": "$input", "initial": 0, "with": TOOL}, Reduce),
        ({"loop": "for", "over": "$input", "body": TOOL}, Loop),
        ({"loop": "while", "condition": "false", "body": TOOL}, Loop),
        ({"parallel": [TOOL, [{"tool": "y"}]]}, Parallel),
        ({"type": "parallel", "branches": [TOOL]}, Parallel),
        ({"sequence": [TOOL]}, Sequence),
    ],
)
def test_every_form_of_a_step_is_read(step, kind):
    flow = compiled(step)
    assert isinstance(flow.nodes[flow.entry].operation, kind)


@pytest.mark.parametrize(
    ("given", "step", "says"),
    [
        ("{", None, "not JSON"),
        ("[]", None, "JSON object"),
        ({}, None, "a list of steps in 'flow'"),
        ({"flow": []}, None, "no steps"),
        ({"flow": [TOOL], "version": "2.0"}, None, "version '2.0'"),
        ({"flow": [{"tool": float("nan")}]}, None, "NaN"),
        ({"flow": [{"tool": {1, 2}}]}, None, "type set"),
        ({"flow": [{1: "x"}]}, None, "not a string"),
        (document("x"), "flow[0]", "an object, not str"),
        (document({"id": "a"}), "a", "has no 'type'"),
        (document({"id": "a", "type": "dance"}), "a", "unknown type 'dance'"),
        (document({**TOOL, "argz": {}}), "t", "unknown field 'argz'"),
        (document({**TOOL, "args": {}, "input": {}}), "t", "twice"),
        (document({"id": "a", "tool": ""}), "a", "'tool'"),
        (document({"id": "a", "tool": "x\n"}), "a", "'tool'"),
        (document({"id": "a", "type": "tool"}), "a", "needs 'tool'"),
        (document({**TOOL, "args": [1]}), "t", "'args'"),
        (document(TOOL, TOOL), "t", "two steps"),
        (document({"tool": "x", "id": "a.b"}), "a.b", "Invalid id"),
        (document({"tool": "x", "id": "input"}), "input", "Invalid id"),
        (document({"tool": "x", "id": 7}), "flow[0]", "Invalid id"),
        (document({**TOOL, "output": "input"}), "t", "'output'"),
        (document({**TOOL, "output": "1st"}), "t", "'output'"),
        (document(TOOL, {"id": "u", "tool": "x", "output": "t"}), "u", "another step's id"),
        (document({**TOOL, "timeout": 0}), "t", "'timeout'"),
        (document({**TOOL, "timeout": True}), "t", "'timeout'"),
        (document({**TOOL, "timeout": 1e300}), "t", "'timeout'"),
        (document({**TOOL, "timeout": 10**400}), "t", "'timeout'"),
        (document({**TOOL, "retry": -1}), "t", "'retry'"),
        (document({**TOOL, "retry": 1.5}), "t", "'retry'"),
        (document({**TOOL, "onError": "x"}), "flow[0].onError", "a step or a list"),
        (document({"id": "c", "condition": "1 <"}), "c", "can't be read"),
        (document({"id": "c", "condition": 3}), "c", "must be an expression"),
        (document({"id": "c", "condition": {"type": "vote", "prompt": "?"}}), "c", "'vote'"),
        (document({"id": "c", "condition": "true", "then": 3}), "flow[0].if_true", "a step or a list"),
        (document({"id": "f", "filter": "$input"}), "f", "needs 'condition'"),
        (document({"id": "m", "map": "$input"}), "m", "needs 'with'"),
        (document({"id": "m", "map": "$input", "with": TOOL, "concurrency": 0}), "m", "'concurrency'"),
        (document({"id": "m", "map": "$input", "with": TOOL, "parallel": 3}), "m", "'parallel'"),
        (document({"id": "m", "type": "map", "with": TOOL}), "m", "needs 'map'"),
        (document({"id": "m", "map": "$input", "with": TOOL, "as": "$x"}), "m", "'as'"),
        (document({"id": "r", "reduce": "$input", "with": TOOL}), "r", "needs 'initial'"),
        (document({"id": "l", "loop": "until", "body": TOOL}), "l", "'for' or 'while'"),
        (document({"id": "l", "loop": "for", "body": TOOL}), "l", "needs 'over'"),
        (document({"id": "p", "parallel": []}), "p", "needs 'parallel'"),
        (document({"id": "p", "parallel": "x"}), "p", "needs 'parallel'"),
        (document({"id": "s", "sequence": []}), "s", "needs 'sequence'"),
        (document({"id": "w", "switch": "$input"}), "w", "needs 'branches'"),
        (document({"id": "w", "switch": "Which is it?", "branches": {}}), "w", "to choose from"),
        (
            document({"id": "w", "switch": "$input", "branches": {"a": TOOL}, "options": ["b"]}),
            "w",
            "not one of the options",
        ),
        (document({"id": "w", "switch": "$input", "branches": {"a": TOOL}, "options": "b"}), "w", "'options'"),
    ],
)
def test_a_wrong_document_is_refused_with_what_is_wrong_where(given, step, says):
    error = refused(given)
    assert says in error.message
    assert error.step == step


@pytest.mark.parametrize(
    ("steps", "step", "reference", "says"),
    [
        (
            [{"id": "a", "tool": "x", "args": {"v": "$nobody.name"}}],
            "a",
            "$nobody.name",
            "neither a variable nor a step",
        ),
        ([{"id": "a", "tool": "x", "args": {"v": "$a"}}], "a", "$a", "cycle of steps"),
        (
            [{"id": "a", "tool": "x", "args": {"v": "$b"}}, {"id": "b", "tool": "x", "args": {"v": ["$a.output"]}}],
            "a",
            "$b",
            "cycle of steps",
        ),
        ([{"id": "a", "tool": "x", "args": {"v": "$b"}}, {"id": "b", "tool": "x"}], "a", "$b", "runs later"),
        ([{"id": "c", "condition": "$nobody > 1"}], "c", "$nobody", "neither"),
        ([{"id": "f", "filter": "$input", "condition": "$thing"}], "f", "$thing", "neither"),
        ([{"id": "f", "filter": "$item", "condition": "true"}], "f", "$item", "neither"),
        (
            [{"id": "m", "map": "$input", "with": TOOL}, {"id": "b", "tool": "x", "args": {"v": "$t"}}],
            "b",
            "$t",
            "inside a branch or iteration",
        ),
        (
            [{"parallel": [{**TOOL, "output": "v"}]}, {"id": "b", "tool": "x", "args": {"v": "$v"}}],
            "b",
            "$v",
            "inside a branch or iteration",
        ),
        (
            [{"parallel": [TOOL, {"id": "b", "tool": "x", "args": {"v": "$t"}}]}],
            "b",
            "$t",
            "inside a branch or iteration",
        ),
        ([{"id": "a", "tool": "await_input", "args": {"prompt": "Ship $order.id?"}}], "a", "$order.id", "neither"),
        ([{"id": "a", "tool": "x", "args": {"v": "$5.00"}}], "a", None, "$5.00"),
    ],
)
def test_a_reference_that_can_not_resolve_is_refused_with_its_step(steps, step, reference, says):
    error = refused(document(*steps))
    assert says in error.message
    assert error.step == step
    assert error.document == "doc"
    if reference is not None:
        assert error.reference == reference


@pytest.mark.parametrize(
    "steps",
    [
        [TOOL, {"tool": "y", "args": {"v": "$t", "w": "$t.output.name", "p": "$previousOutput", "i": "$input.a"}}],
        [{**TOOL, "output": "v"}, {"tool": "y", "args": {"v": "$v.name"}}],
        [{**TOOL, "output": "t"}, {"tool": "y", "args": {"v": "$t"}}],
        [{"condition": "true", "then": [{**TOOL, "output": "v"}]}, {"tool": "y", "args": {"v": "$v", "w": "$t"}}],
        [{"sequence": [{**TOOL, "output": "v"}]}, {"tool": "y", "args": {"v": "$v"}}],
        [{"parallel": [TOOL, {"id": "u", "tool": "y"}]}, {"tool": "y", "args": {"v": "$t", "w": "$u"}}],
        [{"map": "$input", "with": [TOOL, {"tool": "y", "args": {"v": "$item", "w": "$t"}}]}],
        [
            {
                "map": "$input",
                "as": "row",
                "with": {"map": "$row", "with": {"tool": "y", "args": {"v": ["$row", "$item"]}}},
            }
        ],
        [{"reduce": "$input", "initial": 0, "with": {"tool": "y", "args": {"a": "$acc", "b": "$item"}}}],
        [{"reduce": "$input", "initial": "$input", "accumulator": "s", "with": {"tool": "y", "args": {"a": "$s"}}}],
        [
            {"loop": "while", "condition": "$n < 3", "body": {"tool": "y", "output": "n"}},
            {"tool": "y", "args": {"v": "$n"}},
        ],
        [
            {**TOOL, "onError": {"id": "u", "tool": "y", "args": {"e": "$error.message"}}},
            {"tool": "y", "args": {"v": "$u"}},
        ],
        [
            {"switch": "$input", "branches": {"a": TOOL}, "default": [{"id": "u", "tool": "y"}]},
            {"tool": "z", "args": {"v": "$u"}},
        ],
        [{"tool": "x", "args": {"price": "$$5", "deep": [{"v": "$input"}]}}],
        [{"tool": "x", "args": "$input"}],
        [{"tool": "await_input", "args": {"prompt": "Ship $input.id for $$5?", "schema": {"type": "boolean"}}}],
    ],
)
def test_names_that_may_be_there_pass(steps):
    assert compiled(*steps).name == "doc"


def test_generated_ids_are_the_same_for_the_same_document_and_avoid_given_ones():
    steps = [{"tool": "x"}, {"id": "step_1", "tool": "x"}, {"condition": "true", "then": [{"tool": "x"}]}]
    flow = compiled(*steps)
    assert flow.steps == ("step_1_", "step_1", "step_3")
    assert list(flow.nodes) == ["step_1_", "step_1", "step_3", "step_3_1"]
    assert compiled(*steps) == flow


def test_the_flow_names_what_it_needs():
    flow = compiled(TOOL, {"id": "u", "tool": "y"}, {"id": "v", "tool": "y", "args": {}})
    assert flow.tools == {"x", "y"}
    assert flow.joins == {("x", "y")}
    assert flow.entry == "t"
    assert flow.edges == (Edge("t", "u", "next"), Edge("u", "v", "next"))


def test_edges_lead_into_blocks():
    flow = compiled(
        {"id": "c", "condition": "true", "then": [TOOL, {"id": "u", "tool": "x"}], "onError": {"id": "e", "tool": "x"}}
    )
    assert set(flow.edges) == {Edge("c", "t", "if_true"), Edge("t", "u", "next"), Edge("c", "e", "onError")}


def test_the_hash_is_of_the_content_and_not_of_its_order():
    one = document(TOOL)
    assert compiled(TOOL).hash == compile_flow(json.dumps(dict(reversed(one.items())))).unwrap().hash
    assert compiled({**TOOL, "retry": 1}).hash != compiled(TOOL).hash
    assert compiled(TOOL).hash.startswith("sha256:")


def test_a_document_may_be_json_text_and_may_leave_its_version_out():
    flow = compile_flow(json.dumps({"flow": [TOOL]}).encode()).unwrap()
    assert (flow.version, flow.name) == ("1.0", "(unnamed document)")


def test_what_is_compiled_is_the_callers_no_more():
    given = document({**TOOL, "args": {"a": [1]}})
    flow = compile_flow(given).unwrap()
    given["flow"][0]["args"]["a"].append(2)
    assert flow.document["flow"][0]["args"] == {"a": [1]}


def test_deep_large_and_self_containing_documents_are_refused():
    deep: list[object] = []
    for _ in range(5_000):
        deep = [deep]
    endless = document(TOOL)
    endless["flow"].append(endless)
    assert "deeper" in refused({"flow": deep}).message
    assert "contains itself" in refused(endless).message
    assert "deeper" in refused("[" * 5_000 + "]" * 5_000).message or "JSON" in refused("[" * 200_000).message
    assert "bytes" in refused(document({**TOOL, "args": {"a": "x" * 2_000_000}})).message
    assert "bytes" in refused(" " * 2_000_000).message
    assert "values" in refused(document({**TOOL, "args": {"a": [0] * 200_000}})).message
    assert "steps" in refused(document(*({"tool": "x"} for _ in range(2_001)))).message
    assert "different tools" in refused(document(*({"tool": f"x{n}"} for n in range(200)))).message
    assert "JSON" in refused(document({**TOOL, "args": {"a": 10**5_000}})).message
