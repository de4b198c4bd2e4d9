"""The JSON Schema of documents and the compiler agree: what the one takes the other takes, with stated exceptions."""

from __future__ import annotations

import copy
import json
import os
import random
import tracemalloc
from importlib import resources

import jsonschema_rs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from returns.result import Success

from flowpersist.dynamicflow import check, document_schema
from flowpersist.dynamicflow import compile as compile_flow
from flowpersist.dynamicflow.flat import _ALIASES
from flowpersist.dynamicflow.forms import _COMMON, _FIELDS, _TYPE_NAMES

EXAMPLES = int(os.environ.get("FLOWPERSIST_TEST_SCHEMA_EXAMPLES", "150"))
SCHEMA = document_schema()
VALIDATOR = jsonschema_rs.validator_for(SCHEMA)
#: What the compiler finds in documents that match the schema: it knows names, and reads expressions and questions.
ALONE = {
    *(
        "invalid-expression",
        "invalid-reference",
        "unknown-name",
        "not-visible",
        "cycle",
        "duplicate-name",
        "unreachable",
    ),
    *("invalid-question", "duplicate-field", "limit", "unsupported", "unknown-field", "invalid-value", "wrong-type"),
    *("missing-field",),
}
#: Aliases whose field is no block in these types.
NO_BLOCKS = {("tool", "withId"), ("map", "parallelIds"), ("filter", "parallelIds")}


def test_it_is_a_schema_and_ships_with_the_package():
    jsonschema_rs.meta.validate(SCHEMA)
    text = resources.files("flowpersist.dynamicflow").joinpath("schema.json").read_text(encoding="utf-8")
    assert json.loads(text) == SCHEMA
    changed = document_schema()
    changed.clear()
    assert document_schema() == SCHEMA


def test_it_has_the_types_of_the_compiler():
    assert set(SCHEMA["$defs"]["step"]["else"]["then"]["properties"]["type"]["enum"]) == set(_TYPE_NAMES)


@pytest.mark.parametrize("kind", sorted(_FIELDS))
def test_it_has_the_fields_of_the_compiler(kind):
    taken = {alias for group in _FIELDS[kind].values() for alias in group}
    by_id = {alias for alias, name in _ALIASES.items() if name in taken and (kind, alias) not in NO_BLOCKS}
    given = set(SCHEMA["$defs"][kind]["properties"]) - _COMMON
    assert taken | by_id <= given
    assert set(SCHEMA["$defs"][kind]["properties"]) >= _COMMON


def optional(**fields):
    return st.fixed_dictionaries({}, optional=fields)


def merged(*parts):
    return st.tuples(*parts).map(lambda found: {name: value for part in found for name, value in part.items()})


def named(names, values):
    """One field, under one of its names."""
    return st.tuples(st.sampled_from(names), values).map(lambda pair: {pair[0]: pair[1]})


COMMON = optional(
    output=st.sampled_from(["v", "w"]),
    timeout=st.integers(1, 10**6),
    retry=st.integers(0, 100) | st.fixed_dictionaries({"attempts": st.integers(0, 3)}, optional={"delay": st.just(5)}),
    description=st.text(max_size=5),
    name=st.text(max_size=5),
    metadata=st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)
CONDITIONS = st.sampled_from(["$input.a > 1", "exists($input)", True, {"type": "expression", "expression": "$input"}])
OVER = st.sampled_from(["$input", "[1, 2]", [1, "$input.x"], {"a": 1}])
LEAF = st.one_of(
    merged(named(["tool", "toolId"], st.sampled_from(["x", "y"])), COMMON),
    merged(
        st.just({"type": "tool", "tool": "x"}),
        named(["args", "input", "inputs", "with"], st.sampled_from(["$input", {}, {"a": ["$input.b", 1]}, None])),
        COMMON,
    ),
    st.just({"tool": "await_input", "args": {"prompt": "Go on?", "schema": {"type": "boolean"}}}),
    merged(st.just({"condition": "$item", "filter": [1]}), COMMON),
    st.sampled_from([{"delay": {"seconds": 3}}, {"type": "delay", "delay": {"until": "2030-01-01T00:00:00Z"}}]),
)


def containers(step):
    blocks = st.lists(step, min_size=1, max_size=2) | step
    return st.one_of(
        merged(
            st.fixed_dictionaries(
                {"condition": CONDITIONS}, optional={"type": st.sampled_from(["conditional", "if-then"])}
            ),
            st.one_of(st.just({}), named(["then", "if_true"], blocks)),
            st.one_of(st.just({}), named(["else", "if_false"], blocks | st.none())),
            COMMON,
        ),
        merged(
            st.just({"switch": "$input.kind"}),
            named(["cases", "branches"], st.dictionaries(st.sampled_from("abc"), blocks, min_size=1)),
            optional(default=blocks, options=st.just(["a", {"id": "b"}, "c"])),
        ),
        merged(
            named(["map", "over"], OVER),
            named(["with", "body"], blocks),
            st.just({"type": "map"}),
            optional(parallel=st.booleans(), concurrency=st.integers(1, 99), continueOnError=st.booleans()),
        ),
        merged(
            st.just({"reduce": "$input", "initial": 0, "accumulator": "sum", "as": "one"}),
            named(["with", "body"], blocks),
        ),
        merged(st.just({"loop": "for"}), st.builds(lambda over: {"over": over}, OVER), named(["body", "with"], blocks)),
        merged(st.just({"loop": "while", "condition": "$index < 3", "maxIterations": 9}), named(["body"], blocks)),
        merged(
            named(["parallel"], st.lists(blocks, min_size=2, max_size=3)),
            optional(until=st.sampled_from(["all", "any", {"count": 2}])),
        ),
        merged(named(["sequence"], blocks), optional(onError=blocks)),
    )


STEPS = st.recursive(LEAF, containers, max_leaves=8)
FLOWS = st.fixed_dictionaries(
    {"flow": st.lists(STEPS, min_size=1, max_size=3)},
    optional={
        "version": st.just("1.0"),
        "metadata": st.fixed_dictionaries({}, optional={"name": st.text(max_size=5), "author": st.integers()}),
        "timeout": st.integers(1, 10**6),
        "concurrency": st.integers(1, 99),
    },
)


def as_graph(flow):
    """The same steps as a chain of nodes."""
    nodes = [{**step, "id": f"n{number}"} for number, step in enumerate(flow["flow"])]
    edges = [{"from": "START", "to": "n0"}]
    edges += [{"from": [f"n{number}"], "to": f"n{number + 1}"} for number in range(len(nodes) - 1)]
    rest = {name: value for name, value in flow.items() if name != "flow"}
    return {**rest, "nodes": nodes, "edges": edges}


DOCUMENTS = FLOWS | FLOWS.map(as_graph)
JUNK = [None, True, -1, 1.5, "", "$", "x", [], {}, [3], {"x": 1}, 10**20]


@settings(max_examples=EXAMPLES, deadline=None)
@given(document=DOCUMENTS)
def test_sound_documents_pass_both(document):
    assert VALIDATOR.is_valid(document), next(VALIDATOR.iter_errors(document)).message
    compiled = compile_flow(document)
    assert isinstance(compiled, Success), compiled


def places(value, found=()):
    """Every container of a document."""
    if isinstance(value, dict | list):
        yield value
        for inner in value.values() if isinstance(value, dict) else value:
            yield from places(inner)


def mutated(document, chance):
    changed = copy.deepcopy(document)
    place = chance.choice([place for place in places(changed) if place])
    key = chance.choice(list(place) if isinstance(place, dict) else range(len(place)))
    match chance.randrange(3):
        case 0 if isinstance(place, dict):
            del place[key]
        case 1 if isinstance(place, dict):
            place[f"{key}x"] = place.pop(key)
        case _:
            place[key] = chance.choice(JUNK)
    return changed


@settings(max_examples=2 * EXAMPLES, deadline=None)
@given(document=DOCUMENTS, seed=st.integers(0, 2**32))
def test_changed_documents_are_refused_by_both_or_by_the_compiler_with_a_reason(document, seed):
    changed = mutated(document, random.Random(seed))
    valid = VALIDATOR.is_valid(changed)
    problems = [one for one in check(changed) if one.severity == "error"]
    if not valid:
        assert problems, changed
    for one in problems:
        assert one.message
        assert not valid or one.code in ALONE, (changed, one)


def nested(levels):
    step = {"tool": "x", "descripton": "x" * 20_000}
    for _ in range(levels):
        step = {"sequence": [step], "x" * 100: 1}
    return step


def question(number, **fields):
    return {"tool": "await_input", "args": {"prompt": f"{number}?", **fields}}


HOSTILE = {
    "unknown fields": [{"tool": "x", **{f"k{number}_{n}": 1 for n in range(30)}} for number in range(1900)],
    "steps without types": [{f"k{number}_{n}": 1 for n in range(30)} for number in range(1900)],
    "no steps": list(range(99_000)),
    "nested": [nested(45) for _ in range(40)],
    "references": [{"tool": "x", "args": {"a": [f"$q{n}" for n in range(45)]}} for _ in range(1900)],
    "questions": [question(n, schema={"properties": {f"a{n}": {"type": "x"}}}, timeout="q") for n in range(1900)],
    "patterns": [{"condition": f"matches($input, '(a{{1,90}}b{n}){{1,90}}')"} for n in range(1900)],
    "patterns of schemas": [question(n, schema={"pattern": f"(a{{1,90}}b{n}){{1,90}}"}) for n in range(1900)],
    "types": [{"type": {"a": ["x" * 1000] * 900}}],
}


@pytest.mark.parametrize("flow", HOSTILE.values(), ids=HOSTILE)
def test_hostile_documents_take_bounded_memory(flow):
    text = json.dumps({"flow": flow})
    assert len(text) <= 1024 * 1024
    tracemalloc.start()
    try:
        problems = check(text)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(problems) <= 100
    assert peak < 64 * 1024 * 1024
