"""A document that can be written as steps and as a graph gives the same results, calls and open questions in both."""

from __future__ import annotations

import asyncio
import copy
import random
from itertools import pairwise

from attrs import define, field
from hypothesis import given, settings
from hypothesis import strategies as st

from flowpersist.dynamicflow import compile as compile_flow
from flowpersist.dynamicflow import tool
from flowpersist.dynamicflow.engine import Engine
from flowpersist.dynamicflow.outcomes import PENDING, Done, Failed
from flowpersist.dynamicflow.tools import Toolbox

START = "START"
#: Steps of the one form that the other one doesn't have: what stands for edges there.
PLUMBING = ("par", "if")
PLAIN = ("say", "say", "fragile", "ask", "each")
CONDITIONS = ("$input.yes", "$input.no", "length($words.a) > 1", "length($words.b) > 1")

called: list[str] = []
failed: dict[str, int] = {}


@tool()
async def say(value: object = None) -> object:
    called.append(str(value))
    return value


@tool()
async def fragile(value: object = None) -> object:
    """Fails on its first call with each value."""
    called.append(str(value))
    failed[str(value)] = failed.get(str(value), 0) + 1
    if failed[str(value)] == 1:
        raise RuntimeError("not yet")
    return value


@define
class Drawn:
    """A part of a program: a step, branches that all run, or branches of which a condition chooses one or none."""

    kind: str
    id: str
    step: dict[str, object] = field(factory=dict)
    branches: list[list[Drawn]] = field(factory=list)
    condition: str = ""


@st.composite
def programs(draw):
    """A block of parts that refer to what has run before them for certain; ids are counted, so that each is its own."""
    numbers = iter(range(10_000))

    def block(depth, sure):
        sure = list(sure)
        return [part(depth, sure) for _ in range(draw(st.integers(1, 3)))], sure

    def part(depth, sure):
        kind = draw(st.sampled_from([*PLAIN, *(("par", "if", "if_else") if depth else ())]))
        made = f"{kind}{next(numbers)}"
        if kind == "par":
            drawn = [block(depth - 1, sure) for _ in range(draw(st.integers(1, 3)))]
            sure.extend(name for _, seen in drawn for name in seen if name not in sure)
            return Drawn(kind, made, branches=[parts for parts, _ in drawn])
        if kind in ("if", "if_else"):
            count = 1 if kind == "if" else 2
            condition = draw(st.sampled_from(CONDITIONS))
            return Drawn("if", made, branches=[block(depth - 1, sure)[0] for _ in range(count)], condition=condition)
        values = [made, *(f"${name}" for name in draw(st.lists(st.sampled_from(sure), max_size=2)))] if sure else [made]
        sure.append(made)
        return Drawn("step", made, _step(kind, made, values, draw))

    parts, sure = block(2, [])
    words = Drawn("step", "words", {"id": "words", "tool": "say", "args": {"value": {"a": "x", "b": "xy"}}})
    last = {"id": "last", "tool": "say", "args": {"value": [f"${name}" for name in ("words", *sure)]}}
    return [words, *parts, Drawn("step", "last", last)]


def _step(kind, made, values, draw):
    if kind == "ask":
        return {"id": made, "tool": "await_input", "args": {"prompt": f"{made}?", "shown": {"values": values}}}
    if kind == "each":
        inner = {"id": f"{made}_in", "tool": "say", "args": {"value": ["$item", *values]}}
        more = [{"id": f"{made}_ask", "tool": "await_input", "args": {"prompt": "?"}}] if draw(st.booleans()) else []
        return {"id": made, "map": [1, 2], "with": [inner, *more], "concurrency": draw(st.integers(1, 2))}
    return {"id": made, "tool": kind, "args": {"value": values}, **({"retry": 1} if kind == "fragile" else {})}


def as_steps(parts):
    found = []
    for part in parts:
        if part.kind == "step":
            found.append(part.step)
        elif part.kind == "par":
            found.append({"id": part.id, "parallel": [as_steps(branch) for branch in part.branches]})
        else:
            names = zip(("then", "else"), part.branches, strict=False)
            branches = {name: as_steps(branch) for name, branch in names}
            found.append({"id": part.id, "condition": part.condition, **branches})
    return found


@define
class Graphing:
    """Parts as nodes and edges; what is within an iteration is held by id or in its place."""

    chance: random.Random
    nodes: list[dict[str, object]] = field(factory=list)
    edges: list[dict[str, object]] = field(factory=list)

    def block(self, parts, ends, condition):
        """The nodes that end the parts, which follow these nodes where the condition holds."""
        for part in parts:
            ends = self.part(part, ends, condition)
            condition = None
        return ends

    def part(self, part, ends, condition):
        if part.kind == "step":
            self.nodes.extend(_held(part.step, self.chance))
            return self.linked(part.id, ends, condition)
        if part.kind == "par":
            return [end for branch in part.branches for end in self.block(branch, ends, condition)]
        # A branch begins with the edges that lead into the part, so each has the condition of both.
        around = "" if condition is None else f"{condition} && "
        after = self.block(part.branches[0], ends, f"{around}{part.condition}")
        opposite = f"{around}!({part.condition})"
        if len(part.branches) > 1:
            return [*after, *self.block(part.branches[1], ends, opposite)]
        if condition is None and self.chance.random() < 0.7:
            # What follows also comes after what was before, since the branch may not be taken.
            return [*after, *(end for end in ends if end not in after)]
        self.nodes.append({"id": f"{part.id}_skip", "tool": "say", "args": {"value": "skip"}})
        return [*after, *self.linked(f"{part.id}_skip", ends, opposite)]

    def linked(self, name, ends, condition):
        given = {} if condition is None else {"condition": condition}
        if self.chance.random() < 0.5:
            self.edges.append({"from": list(ends), "to": name, **given})
        else:
            self.edges.extend({"from": end, "to": [name], **given} for end in ends)
        return [name]


def as_graph(parts, chance):
    """The parts as a graph, its nodes and edges in a random order."""
    graphing = Graphing(chance)
    graphing.block(parts, [START], None)
    chance.shuffle(graphing.nodes)
    chance.shuffle(graphing.edges)
    return {"nodes": graphing.nodes, "edges": graphing.edges}


def _held(step, chance):
    body = step.get("with")
    if not isinstance(body, list) or chance.random() < 0.5:
        return [step]
    return [{**step, "with": [inner["id"] for inner in body]}, *body]


async def ran(document, seed):
    """Answer what waits in an order of the seed's, some at a time; with the calls and what was open each time."""
    called.clear()
    failed.clear()
    chance = random.Random(seed)
    flow = compile_flow(document).unwrap()
    frame: dict[str, object] = {}
    answers: dict[str, object] = {}
    opened: set[str] = set()
    asked = []
    while True:
        frame = copy.deepcopy(frame)
        given = {"yes": True, "no": False}
        tools = Toolbox.of([say, fragile], [])
        before = dict.fromkeys(opened, 0)
        engine = Engine(flow, tools, "r", given, answers, open=before, backoff=lambda _: 0)
        outcome = await engine.run(frame)
        assert not isinstance(outcome, Failed), outcome
        if isinstance(outcome, Done):
            outputs = {name: value for name, value in engine.outputs.items() if not _is_plumbing(name)}
            return outcome.value, outputs, sorted(one for one in called if one != "skip"), asked
        assert outcome is PENDING
        opened = set(engine.waiting)
        # By the step and its iteration, since the path also has the steps of one form around it.
        names = {_own(path): path for path in opened}
        asked.append(sorted(names))
        taken = chance.sample(sorted(names), chance.randint(1, len(names)))
        answers = {names[name]: f"answer to {name}" for name in taken}
        opened -= set(answers)


def _is_plumbing(name):
    return name.startswith(PLUMBING)


def _own(path):
    parts = path.split(".")
    first = next(index for index, part in enumerate(parts) if not _is_plumbing(part))
    return ".".join(parts[first:])


@settings(max_examples=60, deadline=None)
@given(program=programs(), seed=st.integers(0, 1000))
def test_steps_and_a_graph_of_the_same_program_run_alike(program, seed):
    steps = asyncio.run(ran({"flow": as_steps(program)}, seed))
    graph = asyncio.run(ran(as_graph(program, random.Random(seed)), seed))
    assert graph == steps


@settings(max_examples=40, deadline=None)
@given(program=programs(), seed=st.integers(0, 1000))
def test_a_chain_of_edges_is_the_list_of_its_steps(program, seed):
    steps = as_steps(program)
    names = [step["id"] for step in steps]
    edges = [{"from": one, "to": other} for one, other in pairwise(names)]
    assert asyncio.run(ran({"nodes": steps, "edges": edges}, seed)) == asyncio.run(ran({"flow": steps}, seed))
