"""Nodes with an operation: each is the step that it stands for."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from flowpersist.dynamicflow import check, tool
from flowpersist.dynamicflow import compile as compile_flow
from flowpersist.dynamicflow.engine import Engine
from flowpersist.dynamicflow.outcomes import Done
from flowpersist.dynamicflow.tools import Toolbox

calls: list[Any] = []


@tool()
async def double(value: int) -> int:
    calls.append(value)
    return value * 2


@tool()
async def is_even(value: int) -> bool:
    return value % 2 == 0


@tool()
async def twice(value: int) -> list[int]:
    return [value, value]


@tool()
async def add(item: int, acc: int) -> int:
    return item + acc


@tool(id="choose")
async def choose(prompt: str, input: object, options: list[dict[str, str]]) -> object:
    return "keep" in prompt if options else f"{prompt} {input}"


def node(kind, given, over="$input", **more):
    return {"id": "n", "type": kind, "operation": {"over": over, "operation": given, **more}}


def by(name, **more):
    return {"type": "tool", "tool": name, **more}


def value(text, **more):
    return {"type": "expression", "expression": text, **more}


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (node("map", by("double")), [2, 4, 6]),
        (node("map", by("double", args={"value": "$index"}), concurrency=3), [0, 2, 4]),
        (node("map", value("$item + 1")), [2, 3, 4]),
        (node("map", value("item * 10 + index")), [10, 21, 32]),
        (node("map", value("'item' + item + \"acc\" + $input[1]")), ["item1acc2", "item2acc2", "item3acc2"]),
        (node("flatMap", by("twice")), [1, 1, 2, 2, 3, 3]),
        (node("flatMap", value("$item")), [1, 2, 3]),
        (node("forEach", by("double")), [2, 4, 6]),
        (node("filter", value("item > 1")), [2, 3]),
        (node("filter", by("is_even")), [2]),
        (node("filter", {"type": "llm", "prompt": "keep $item"}), [1, 2, 3]),
        (node("map", {"type": "llm", "prompt": "Name $item:"}), ["Name 1: 1", "Name 2: 2", "Name 3: 3"]),
        (node("forEach", {"type": "llm", "prompt": "$$ $index"}, over=[7]), ["$ 0 7"]),
        (
            node("reduce", {"type": "llm", "prompt": "$acc+$item", "initialValue": "0"}, over=[5]),
            "0+5 {'item': 5, 'acc': '0'}",
        ),
        ({"type": "llm", "prompt": "Sum $input[0]"}, "Sum 1 [1, 2, 3]"),
        ({"prompt": "Sum", "input": {"of": "$input[1]"}}, "Sum {'of': 2}"),
        (node("reduce", by("add", initialValue=10)), 16),
        (node("reduce", value("acc * 10 + item", initialValue=0)), 123),
        ({"type": "expression", "expression": "length($input) + 1"}, 4),
        ({"expression": "$input[0] == 1"}, True),
    ],
)
async def test_what_an_operation_gives(step, expected):
    flow = compile_flow({"flow": [step]}).unwrap()
    assert compile_flow({"nodes": [{**step, "id": "n"}]}).unwrap().nodes.keys() >= {"n"}
    toolbox = Toolbox.of([double, is_even, twice, add, choose], [])
    engine = Engine(flow, toolbox, "run", [1, 2, 3])
    outcome = await engine.run(copy.deepcopy({}))
    assert isinstance(outcome, Done), outcome
    assert outcome.value == expected


@pytest.mark.parametrize(
    ("step", "pointer", "code"),
    [
        (node("loop", by("double")), "/type", "unknown-type"),
        ({"id": "n", "type": "map", "operation": 3}, "/operation", "wrong-type"),
        ({"id": "n", "type": "map", "operation": {"over": [1]}}, "/operation/operation", "wrong-type"),
        (node("map", {"type": "x"}), "/operation/operation/type", "invalid-value"),
        (node("map", {"type": "llm"}), "/operation/operation", "missing-field"),
        (node("map", {"type": "llm", "prompt": 3}), "/operation/operation/prompt", "wrong-type"),
        (node("map", {"type": "llm", "prompt": "$items"}), "/operation/operation/prompt", "unknown-name"),
        (node("reduce", {"type": "llm", "prompt": "?"}), "", "missing-field"),
        ({"type": "llm"}, "", "missing-field"),
        ({"type": "llm", "prompt": "?", "input": "$nope"}, "/input", "unknown-name"),
        (node("map", by("")), "/operation/operation/tool", "invalid-value"),
        (node("map", by("double", prompt="?")), "/operation/operation/prompt", "unknown-field"),
        (node("map", by("double"), limit=3), "/operation/limit", "unknown-field"),
        (node("map", by("double"), concurrency=0), "/operation/concurrency", "invalid-value"),
        (node("map", value("item >")), "/operation/operation/expression", "invalid-expression"),
        (node("map", value("$other + 1")), "/operation/operation/expression", "unknown-name"),
        (node("map", by("double"), over="$nope"), "/operation/over", "unknown-name"),
        (node("filter", {"type": "llm"}), "/operation/operation", "missing-field"),
        (node("reduce", by("add")), "", "missing-field"),
        ({"id": "n", "type": "expression"}, "", "missing-field"),
    ],
)
def test_what_is_wrong_with_an_operation(step, pointer, code):
    assert (f"/flow/0{pointer}", code) in [(one.pointer, one.code) for one in check({"flow": [step]})]
