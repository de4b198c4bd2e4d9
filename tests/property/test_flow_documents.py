"""Whatever a document holds, compiling it gives a flow or an error."""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st
from returns.result import Failure, Success

from flowpersist.dynamicflow import compile as compile_flow
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
        "flow",
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
    "flow",
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
