"""Documents in graph form: nodes, and edges that say which node runs after which.

A node is a step; its blocks may hold steps, or name other nodes, which then run within it and have no edges.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from heapq import heapify, heappop, heappush
from itertools import count
from typing import Final, Literal

from attrs import define
from returns.result import Failure

from flowpersist.dynamicflow import expressions
from flowpersist.dynamicflow.by_id import StepsById, steps_in
from flowpersist.dynamicflow.decisions import condition_of
from flowpersist.dynamicflow.document import Document
from flowpersist.dynamicflow.expressions import Expression
from flowpersist.dynamicflow.fields import Fields
from flowpersist.dynamicflow.forms import Draft, bounded
from flowpersist.dynamicflow.ir import START, Block, Decision, Edge, Graph, Link, Node, Place, blocks_of
from flowpersist.dynamicflow.problems import shown
from flowpersist.errors import FlowCode
from flowpersist.inputs.json_pointers import escaped

__all__ = ["edge_texts", "edges_of", "graph_drafts", "graph_of", "is_sound"]

#: The most pairs of nodes that the edges connect.
MAX_LINKS: Final = 10_000
_EDGE_FIELDS: Final = frozenset({"from", "to", "condition", "id", "name", "description", "metadata"})


def graph_drafts(document: Document) -> tuple[list[Draft], tuple[Link, ...]]:
    """Draft the outermost nodes, each after those that it follows, and read the edges.

    What can't be read is a problem of the document, and is left out.
    """
    nodes = steps_in(document, "nodes", "node")
    if START in nodes:
        message = f"{nodes[START].where} has the id {START!r}, which means the beginning: give it another"
        document.problems.add(f"{nodes.pop(START).pointer}/id", "invalid-name", message, step=START)
    steps = StepsById(document, nodes, "node")
    for name in nodes:
        steps.draft(name)
    outermost = [name for name in nodes if name not in steps.held]
    if nodes and not outermost:
        document.problems.add("/nodes", "cycle", "every node is within another one: take one out of its block")
    links = _entered(_links(steps), outermost, steps)
    return bounded(steps.outermost(_ordered(outermost, links, document)), "/nodes", document), links


class _EdgeFields(Fields):
    """Reads the condition of an edge."""

    def report(self, field: str, message: str, expected: str | None = None, code: FlowCode = "invalid-value") -> None:
        """See ``Fields``."""
        text = f"{self.draft.where}: {message}"
        self.document.problems.add(self._pointer(field), code, text, expected=expected)


@define
class _Edge:
    """One edge as the document has it, with its problems."""

    raw: Mapping[str, object]
    index: int
    steps: StepsById

    @property
    def where(self) -> str:
        return f"edges[{self.index}]"

    def note(self, field: str, code: FlowCode, message: str, step: str | None = None) -> None:
        pointer = f"/edges/{self.index}{field}"
        self.steps.document.problems.add(pointer, code, f"{self.where} {message}", step=step)

    def check_fields(self) -> None:
        for name in sorted(set(self.raw) - _EDGE_FIELDS):
            known = ", ".join(sorted(_EDGE_FIELDS))
            near = self.steps.document.problems.hint([name], _EDGE_FIELDS)
            self.note(
                f"/{escaped(name)}", "unknown-field", f"has the unknown field {shown(name)}{near}: it takes {known}"
            )

    def ends(self, side: Literal["from", "to"]) -> list[str]:
        """The nodes on one side, without those that can't be there."""
        value = self.raw.get(side)
        ends = [value] if isinstance(value, str) else value
        if not isinstance(ends, list) or not ends or not all(isinstance(end, str) for end in ends):
            code: FlowCode = "wrong-type" if side in self.raw else "missing-field"
            field = f"/{side}" if side in self.raw else ""
            self.note(field, code, f"needs {side!r}: the id of a node, or a list of ids")
            return []
        return [name for name in dict.fromkeys(ends) if self.is_end(name, side)]

    def is_end(self, name: str, side: Literal["from", "to"]) -> bool:
        field = f"/{side}"
        if name == START:
            if side == "to":
                self.note(field, "invalid-value", f"leads to {START!r}, where edges only begin: remove it", name)
            return side == "from"
        if name not in self.steps.steps:
            near = self.steps.document.problems.hint([name], self.steps.steps)
            self.note(field, "unknown-name", f"names {shown(name)}, which is not a node{near}", name)
            return False
        if name in self.steps.held:
            within = self.steps.held[name]
            message = f"names {name!r}, which runs within {within}: connect the outermost node instead"
            self.note(field, "invalid-value", message, name)
            return False
        return True

    def condition(self) -> Expression | Decision | None:
        value = self.raw.get("condition")
        if isinstance(value, Mapping) and value.get("type", "expression") == "expression":
            value = value.get("expression")
        elif isinstance(value, Mapping):
            place = Place(f"/edges/{self.index}")
            draft = Draft("conditional", self.where, {"condition": value}, {}, id=self.where, place=place)
            return condition_of(_EdgeFields(draft, self.steps.document))
        if isinstance(value, bool):
            value = "true" if value else "false"
        if value is None or value == "":
            return None
        if not isinstance(value, str):
            self.note("/condition", "wrong-type", "has a condition that is neither an expression nor an object")
            return None
        parsed = expressions.parse(value, self.steps.document.room)
        if isinstance(parsed, Failure):
            self.note("/condition", "invalid-expression", f"has a condition that can't be read: {parsed.failure()}")
            return None
        return parsed.unwrap()


def _links(steps: StepsById) -> tuple[Link, ...]:
    problems = steps.document.problems
    edges = steps.document.data.get("edges", [])
    if not isinstance(edges, list):
        message = "Invalid graph: expected a list of edges in 'edges'"
        problems.add("/edges", "wrong-type", message, expected="a list of edges")
        return ()
    found: list[Link] = []
    names: set[str] = set()
    for index, raw in enumerate(edges):
        if not isinstance(raw, Mapping):
            message = f"edges[{index}] must be an object with 'from' and 'to'"
            problems.add(f"/edges/{index}", "wrong-type", message, expected="an edge")
            continue
        edge = _Edge(raw, index, steps)
        edge.check_fields()
        sources, targets, condition = edge.ends("from"), edge.ends("to"), edge.condition()
        if len(found) + len(sources) * len(targets) > MAX_LINKS:
            problems.add("/edges", "limit", f"the edges connect more than {MAX_LINKS} pairs of nodes: connect fewer")
            return ()
        at = f"/edges/{index}/condition"
        for source in sources:
            asked = _asked(names, source, targets) if isinstance(condition, Decision) else ""
            found.extend(Link(source, target, condition, asked, at) for target in targets)
    return tuple(found)


def _asked(names: set[str], source: str, targets: Sequence[str]) -> str:
    """A new name for what a tool decides of the edges from a node; no step has such a one."""
    first = f"{source}>{targets[0] if targets else ''}"
    number = next(number for number in count(1) if (first if number == 1 else f"{first}>{number}") not in names)
    names.add(first if number == 1 else f"{first}>{number}")
    return first if number == 1 else f"{first}>{number}"


def _entered(links: Sequence[Link], outermost: Sequence[str], steps: StepsById) -> tuple[Link, ...]:
    """The edges with those from ``START``, which may be left out: then each node without predecessors is first."""
    if not any(link.source == START for link in links):
        led_to = {link.target for link in links}
        return (*(Link(START, name) for name in outermost if name not in led_to), *links)
    following = _following(links)
    reached, pending = {START}, [START]
    while pending:
        for target in following.get(pending.pop(), ()):
            if target not in reached:
                reached.add(target)
                pending.append(target)
    for name in outermost:
        if name not in reached:
            message = f"node {name!r} can't be reached from {START!r}: add an edge to it, or remove it"
            steps.document.problems.add(steps.steps[name].pointer, "unreachable", message, step=name)
    return tuple(links)


def _following(links: Iterable[Link]) -> dict[str, list[str]]:
    following: dict[str, list[str]] = {}
    for link in links:
        following.setdefault(link.source, []).append(link.target)
    return following


def _ordered(outermost: Sequence[str], links: Sequence[Link], document: Document) -> list[str]:
    """Each node after those that it follows, otherwise in the order of the document."""
    ranks = {name: rank for rank, name in enumerate(outermost)}
    following = _following(link for link in links if link.source != START)
    left = Counter(target for targets in following.values() for target in targets)
    ready = [rank for name, rank in ranks.items() if not left[name]]
    heapify(ready)
    ordered: list[str] = []
    while ready:
        ordered.append(outermost[heappop(ready)])
        for target in following.get(ordered[-1], ()):
            left[target] -= 1
            if not left[target]:
                heappush(ready, ranks[target])
    rest = [name for name in outermost if left[name]]
    if rest:
        circle = " -> ".join(_circle(rest, following))
        message = f"the steps {circle} are a cycle, which would never end: remove an edge, or use a loop step"
        document.problems.add("/edges", "cycle", message, step=circle.split(" -> ", 1)[0])
    return [*ordered, *rest]


def _circle(names: Sequence[str], following: Mapping[str, Sequence[str]]) -> list[str]:
    """Nodes of a cycle among these, of which each one follows another, the first one at the end again."""
    before = {target: name for name in names for target in following.get(name, ())}
    path = [names[0]]
    while before[path[-1]] not in path:
        path.append(before[path[-1]])
    return [before[path[-1]], *reversed(path[path.index(before[path[-1]]) :])]


def is_sound(graph: Graph, steps: Block, document: Document) -> bool:
    """Whether all edges could be read, and each leads from a node to a later one."""
    ranks = {START: -1, **{name: rank for rank, name in enumerate(steps)}}
    broken = any(problem.pointer.startswith("/edges") for problem in document.problems.found)
    return not broken and all(ranks.get(link.source, len(ranks)) < ranks.get(link.target, -1) for link in graph.links)


def edge_texts(document: Document) -> Iterator[Mapping[str, object]]:
    """The edges as they are written, of which a description changes nothing."""
    edges = document.data.get("edges")
    return (edge for edge in (edges if isinstance(edges, list) else ()) if isinstance(edge, Mapping))


def graph_of(links: tuple[Link, ...], steps: Block, nodes: Mapping[str, Node]) -> Graph:
    """The graph of the outermost nodes, with the variables that more than one of them sets."""
    setters = Counter(name for step in steps for name in {*_variables(step, nodes)})
    return Graph(links, frozenset(name for name, count in setters.items() if count > 1))


def _variables(name: str, nodes: Mapping[str, Node]) -> Iterator[str]:
    """The variables that a step, or one within it, may set."""
    node = nodes[name]
    if node.output is not None:
        yield node.output
    for _, block in blocks_of(node):
        for inner in block:
            yield from _variables(inner, nodes)


def edges_of(graph: Graph) -> Iterator[Edge]:
    """The edges between the outermost nodes, labelled with their conditions."""
    for link in graph.links:
        if link.source != START:
            yield Edge(link.source, link.target, _label(link.condition))


def _label(condition: Expression | Decision | None) -> str:
    if isinstance(condition, Decision):
        return condition.tool if condition.prompt is None else condition.prompt
    return "next" if condition is None else condition.text
