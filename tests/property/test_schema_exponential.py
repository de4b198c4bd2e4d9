"""No schema makes more work of an instance than was counted before: for forms by hand, and for schemas at random.

How often a validator asks the parts of a schema is counted by a keyword of our own that stands in each of them. That no
answer takes long is measured in a process of its own, which is ended where it does.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import jsonschema_rs
import pytest

from flowpersist.errors import ConfigurationError
from flowpersist.inputs import schema_graph
from flowpersist.inputs.json_schema import JsonSchema
from flowpersist.inputs.schema_costs import MAX_WORK, SchemaCostError, costs_of
from flowpersist.inputs.schema_problems import measured

AGAIN = {"$ref": "#"}
LEAF = {"type": ["object", "array", "integer", "string"]}


def both(name: str, *more: Any) -> dict[str, Any]:
    """A schema that a keyword applies to a child twice."""
    return {name: {"a": AGAIN}, **dict(more)}


#: Forms that ask about one child more than once, or about one value again and again. ``#`` is the schema itself.
RECURSIVE: dict[str, dict[str, Any]] = {
    "allOf below items": {"items": {"allOf": [AGAIN, AGAIN]}},
    "allOf of items": {"allOf": [{"items": AGAIN}, {"items": AGAIN}]},
    "allOf of properties": {"allOf": [both("properties"), both("properties")]},
    "anyOf of properties": {"anyOf": [both("properties"), both("properties")]},
    "oneOf of properties": {"oneOf": [both("properties"), both("properties")]},
    "not": {"not": both("properties"), "properties": {"a": AGAIN}},
    "if, then, else": {"if": both("properties"), "then": both("properties"), "else": both("properties")},
    "properties with patternProperties": {**both("properties"), "patternProperties": {"^a": AGAIN}},
    "two patterns": {"patternProperties": {"^a": AGAIN, "a$": AGAIN}},
    "dependentSchemas": {**both("properties"), "dependentSchemas": {"a": both("properties")}},
    "dependentSchemas twice": {"dependentSchemas": {"a": both("properties"), "b": both("properties")}},
    "dependencies": {
        "$schema": "http://json-schema.org/draft-07/schema#",
        **both("properties"),
        "dependencies": {"a": both("properties")},
    },
    "items with contains": {"items": AGAIN, "contains": AGAIN},
    "items of a list with additionalItems": {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "items": [AGAIN],
        "allOf": [{"additionalItems": AGAIN}, {"items": AGAIN}],
    },
    "prefixItems with contains": {"prefixItems": [AGAIN], "contains": AGAIN},
    "additionalProperties": {"additionalProperties": AGAIN, "allOf": [{"additionalProperties": AGAIN}]},
    "unevaluatedItems": {"anyOf": [{"items": AGAIN}, {"contains": AGAIN}], "unevaluatedItems": AGAIN},
    "unevaluatedProperties": {"anyOf": [both("properties"), both("patternProperties")], "unevaluatedProperties": AGAIN},
    "propertyNames": {"propertyNames": AGAIN, "properties": {"a": AGAIN}, "patternProperties": {"": AGAIN}},
    "a reference beside keywords": {"$ref": "#/$defs/d", "items": AGAIN, "$defs": {"d": {"items": AGAIN}}},
    "an escaped reference": {
        "items": {"allOf": [{"$ref": "#/%24defs/d%64"}, {"$ref": "#/%24defs/d~0"}]},
        "$defs": {"dd": AGAIN, "d~": AGAIN},
    },
    "a reference into a list": {"items": {"allOf": [{"$ref": "#/items/allOf/1"}, AGAIN]}},
    "a reference into what is no schema": {"x": {"y": [AGAIN]}, "items": {"allOf": [{"$ref": "#/x/y/0"}, AGAIN]}},
    "a root of another name": {"$id": "urn:x", "items": {"allOf": [AGAIN, AGAIN]}},
}
#: Forms whose meaning, and so whose work, is not what they seem to say, or that can't be bounded.
REFUSED: dict[str, dict[str, Any]] = {
    "embedded $id": {"items": {"$id": "urn:b", "allOf": [AGAIN, AGAIN]}},
    "embedded $id that a reference passes": {
        "x": {"$id": "urn:b", "y": {"items": AGAIN}},
        "allOf": [{"$ref": "#/x/y"}],
    },
    "embedded id of draft 4": {
        "$schema": "http://json-schema.org/draft-04/schema#",
        "items": {"id": "urn:b", "allOf": [AGAIN, AGAIN]},
    },
    "embedded $schema": {"items": {"$schema": "http://json-schema.org/draft-07/schema#", "items": [AGAIN]}},
    "$dynamicRef": {"$dynamicAnchor": "x", "items": {"$dynamicRef": "#x"}},
    "$recursiveRef": {
        "$schema": "https://json-schema.org/draft/2019-09/schema",
        "$recursiveAnchor": True,
        "items": {"$recursiveRef": "#"},
    },
    "an anchor": {"$anchor": "x", "items": {"$ref": "#x"}},
    "another document": {"items": {"$ref": "urn:other"}},
    "its own name": {"$id": "urn:x", "items": {"$ref": "urn:x"}},
    "no place": {"items": {"$ref": "#/$defs/none"}},
    "a place of no schema": {"required": ["a"], "items": {"$ref": "#/required"}},
    "no UTF-8": {"items": {"$ref": "#/%ff"}},
    "itself": AGAIN,
    "itself by two": {"allOf": [{"anyOf": [AGAIN]}]},
    "itself by dependentSchemas": {"dependentSchemas": {"a": AGAIN}},
    "a long way about one value": {
        "$ref": "#/$defs/d0",
        "$defs": {**{f"d{n}": {"$ref": f"#/$defs/d{n + 1}"} for n in range(2_500)}, "d2500": {}},
    },
    "doubling about one value": {
        "$ref": "#/$defs/d0",
        "$defs": {**{f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(40)}, "d40": {}},
    },
    "a chain of unevaluatedProperties": {
        "$ref": "#/$defs/d0",
        "$defs": {
            **{f"d{n}": {"anyOf": [{"$ref": f"#/$defs/d{n + 1}"}], "unevaluatedProperties": False} for n in range(20)},
            "d20": {"properties": {"a": {}}},
        },
    },
    "large patterns": {"allOf": [{"pattern": f"(a{{900}}){{20}}{n}"} for n in range(40)]},
    "many patterns": {"patternProperties": {f"^a{n}": {} for n in range(600)}},
    "many integers of over 64 bits": {
        "$schema": "http://json-schema.org/draft-04/schema#",
        "enum": [2**63 + n for n in range(5_000)],
    },
}


def nested(depth: int, inner: object, wrap: Callable[[object], object]) -> object:
    for _ in range(depth):
        inner = wrap(inner)
    return inner


def deep() -> list[object]:
    """Small instances that reach deep: each form finds one that it walks down."""
    ways: list[Callable[[object], object]] = [
        lambda inner: [inner],
        lambda inner: {"a": inner},
        lambda inner: {"a": inner, "b": 1},
        lambda inner: [1, inner],
    ]
    return [nested(depth, leaf, way) for way in ways for depth in (12, 22, 40, 60) for leaf in (1, None)]


@pytest.mark.parametrize("schema", REFUSED.values(), ids=REFUSED.keys())
def test_what_can_not_be_bounded_is_refused(schema):
    with pytest.raises(ConfigurationError, match="not usable"):
        JsonSchema.of(schema)


#: Wide answers to schemas that nothing is wrong with: 9,000 of something that is slow to compare.
WIDE: list[tuple[dict[str, Any], Any]] = [
    ({"uniqueItems": True}, [2**63 + n for n in range(9_000)]),
    ({"uniqueItems": True}, [10**400 + n for n in range(3_000)]),
    ({"uniqueItems": True}, [5e-324 * n for n in range(9_000)]),
    ({"uniqueItems": True, "items": {"uniqueItems": True}}, [[n + 0.5 for n in range(600)]] * 15),
    ({"items": {"enum": [n + 0.5 for n in range(2_000)]}}, [0.25] * 9_000),
    ({"items": {"enum": [{"a": n} for n in range(2_000)]}}, [{"a": -1}] * 4_500),
    ({"items": {"anyOf": [{"const": n + 0.5} for n in range(900)]}}, [0.25] * 9_000),
    ({"items": {"multipleOf": 0.1}}, [10**1200 + n for n in range(9_000)]),
    ({"items": {"multipleOf": 1e-300}}, [1e308] * 9_000),
    ({"items": {"minimum": 10**1200}}, [10**1200 + n for n in range(9_000)]),
    ({"items": {"required": [f"k{n}" for n in range(5_000)]}}, [{}] * 9_000),
    ({"required": [f"k{n}" for n in range(5_000)]}, {f"x{n}": n for n in range(4_900)}),
    ({"items": {"enum": [f"x{n}" for n in range(2_000)]}}, ["nope"] * 9_000),
    ({"anyOf": [{"items": {"enum": [f"x{n}" for n in range(2_000)]}}, {"type": "null"}]}, ["nope"] * 9_000),
    ({"patternProperties": {f"k{n}$": {} for n in range(450)}}, {f"k{n}": n for n in range(9_000)}),
    ({"additionalProperties": {"allOf": [{"minimum": n} for n in range(900)]}}, {f"k{n}": 0 for n in range(9_000)}),
    ({"pattern": "a[abcd]{1000}e|[abcd]{1000}$"}, "abcd" * 60_000),
    ({"pattern": "(a|b|c|d|ab|abc){1200}e"}, "ab" * 120_000),
    ({"items": {"pattern": "([ab].{0,40}c.{0,40}d){3}zz|x$"}}, ["abcd" * 60] * 1_000),
    ({"propertyNames": {"pattern": "a[ab]{300}e|[ab]{300}$"}}, {"ab" * 120_000: 1}),
    ({"format": "idn-hostname"}, "é" * 200_000),
    ({"format": "regex"}, "(" * 200_000),
    ({"items": False}, [1] * 9_000),
    ({"additionalProperties": False}, {f"k{n}": n for n in range(9_000)}),
    ({"items": {"not": {"enum": list(range(5_000))}}}, [1] * 5_000),
    ({"type": "object"}, [{"a": [1] * 90}] * 100),
]
MEASURE = """
import json, pathlib, sys, time
from flowpersist.errors import ConfigurationError
from flowpersist.inputs.json_schema import JsonSchema
for line in sys.stdin:
    schema, value = json.loads(line)
    try:
        compiled = JsonSchema.of(schema)
    except ConfigurationError:
        print("refused", flush=True)
        continue
    taken = []
    for _ in range(2):
        started = time.thread_time()
        compiled.check(value)
        taken.append(time.thread_time() - started)
    print(min(taken), flush=True)
# Not ru_maxrss, which begins with what the parent had.
status = pathlib.Path("/proc/self/status")
print(int(status.read_text().split("VmHWM:")[1].split()[0]) // 1024 if status.exists() else 0, flush=True)
"""


def test_no_answer_takes_long_to_check():
    """In a process of its own, by its own time: an answer that never ends must not take the tests with it."""
    cases = [(schema | LEAF, value) for schema in RECURSIVE.values() for value in deep()]
    cases += [(schema, value) for schema, value in WIDE]
    lines = "".join(json.dumps(case) + "\n" for case in cases)
    done = subprocess.run(
        [sys.executable, "-c", MEASURE], input=lines, capture_output=True, text=True, timeout=60, check=True
    )
    *taken, megabytes = done.stdout.split()
    # The largest answers are 9,000 values; imports take some 60 MB. Without the bound one of them takes 1.8 GB.
    assert int(megabytes) < 200
    assert len(taken) == len(cases)
    assert "refused" not in taken
    slow = [(cases[n][0], float(time)) for n, time in enumerate(taken) if float(time) > 0.2]
    assert slow == []


class Counting:
    """A keyword that counts how often it is asked."""

    asked = 0

    def __init__(self, parent: object, value: object, path: object) -> None:
        del parent, value, path

    def validate(self, instance: object) -> None:
        del instance
        type(self).asked += 1


def asked(schema: dict[str, Any], value: object, *, errors: bool) -> int:
    """How often the parts of a schema are asked about an instance."""
    validator = jsonschema_rs.validator_for(schema, keywords={"counted": Counting})
    Counting.asked = 0
    _ = list(validator.iter_errors(value)) if errors else validator.is_valid(value)
    return Counting.asked


KEYWORDS = [
    *("allOf", "anyOf", "oneOf", "not", "if", "properties", "patternProperties", "additionalProperties", "items"),
    *("contains", "propertyNames", "$ref"),
]
OF_2020 = ["dependentSchemas", "prefixItems", "unevaluatedItems", "unevaluatedProperties"]
OF_DRAFT_7 = ["dependencies", "additionalItems"]


class Generator:
    """Schemas of some parts that refer to each other at random, by any keyword; instances that go down their ways."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.names = [f"d{n}" for n in range(self.random.randint(1, 4))]
        self.old = self.random.random() < 0.25
        self.keywords = KEYWORDS + (OF_DRAFT_7 if self.old else OF_2020)

    def schema(self) -> dict[str, Any]:
        parts = {name: self.part(2) for name in self.names}
        draft = {"$schema": "http://json-schema.org/draft-07/schema#"} if self.old else {}
        return {**draft, "allOf": [{"$ref": "#/$defs/d0"}], "$defs": parts}

    def part(self, room: int) -> dict[str, Any]:
        made: dict[str, Any] = {"counted": True}
        if self.random.random() < 0.4:
            made["type"] = self.random.sample(["object", "array", "integer", "string"], self.random.randint(1, 4))
        for _ in range(self.random.randint(0, 3)):
            made.update(self.keyword(room))
        return made

    def keyword(self, room: int) -> dict[str, Any]:
        name = self.random.choice(self.keywords)
        if name == "$ref":
            return {name: f"#/$defs/{self.random.choice(self.names)}"}
        if name == "if":
            return {one: self.inner(room) for one in ("if", "then", "else")}
        if name in {"allOf", "anyOf", "oneOf", "prefixItems"}:
            return {name: [self.inner(room) for _ in range(self.random.randint(1, 2))]}
        if name in {"dependentSchemas", "dependencies", "properties"}:
            return {name: {key: self.inner(room) for key in self.random.sample("ab", self.random.randint(1, 2))}}
        if name == "patternProperties":
            return {name: {key: self.inner(room) for key in self.random.sample(["a", "b", "", "^a"], 3)}}
        beside = {"items": [self.inner(room)]} if name == "additionalItems" else {}
        return {**beside, name: self.inner(room)}

    def inner(self, room: int) -> Any:
        if room == 0 or self.random.random() < 0.5:
            return {"$ref": f"#/$defs/{self.random.choice(self.names)}", "counted": True}
        return self.random.random() < 0.5 if self.random.random() < 0.1 else self.part(room - 1)

    def instance(self, depth: int) -> Any:
        if depth == 0:
            return self.random.choice([1, "x", None])
        if self.random.random() < 0.5:
            return [self.instance(depth - 1) for _ in range(self.random.randint(1, 2))]
        return {key: self.instance(depth - 1) for key in self.random.sample("aab", self.random.randint(1, 2))}


@pytest.mark.parametrize("block", range(8))
def test_a_validator_asks_no_more_than_was_counted(block, monkeypatch):
    """The bound that answers are held to is one, also where errors are made."""
    # Each part counts as one step, whatever keywords it has, so that nothing makes up for one that was forgotten.
    monkeypatch.setattr(schema_graph, "_steps", lambda _: 0.0)
    bounded = 0
    for seed in range(block * 100, block * 100 + 100):
        made = Generator(seed)
        schema = made.schema()
        try:
            costs = costs_of(schema, 64, lambda _: 1.0)
        except SchemaCostError:
            continue
        for depth in (1, 3, 5):
            value = made.instance(depth)
            measure = measured(value)
            if measure.depth > costs.max_depth or costs.work(measure) > MAX_WORK:
                continue
            bounded += 1
            assert asked(schema, value, errors=False) <= costs.work(measure), (seed, depth)
            if costs.error_work(measure) <= MAX_WORK:
                assert asked(schema, value, errors=True) <= costs.error_work(measure), (seed, depth)
    assert bounded > 50


@pytest.mark.parametrize(
    "schema",
    [
        {"anyOf": [{"properties": {"left": AGAIN}}, {"properties": {"right": AGAIN}}, {"type": "integer"}]},
        {
            "oneOf": [
                {"items": AGAIN},
                {"additionalProperties": AGAIN},
                {"type": ["string", "number", "null", "boolean"]},
            ]
        },
        {"properties": {f"p{n}": AGAIN for n in range(50)}},
        {"type": "array", "prefixItems": [AGAIN, AGAIN], "items": False},
        {"properties": {"$id": {"type": "string"}, "$ref": {"type": "string"}, "child": AGAIN}},
        {"const": {"$id": "x", "$ref": "nowhere"}, "default": {"$dynamicRef": "y"}},
    ],
)
def test_schemas_that_ask_about_each_child_once_are_not_held_back(schema):
    costs = costs_of(schema, 64, lambda _: 1.0)
    assert costs.max_depth == 64
    assert costs.work(measured([[1] * 100] * 90)) < MAX_WORK
