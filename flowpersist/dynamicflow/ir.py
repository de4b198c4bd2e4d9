"""The intermediate representation that documents compile to: nodes by id, edges, an entry point, and the tools that it
needs.

A node does one operation. Operations with inner steps name them in blocks, tuples of node ids that run one after
another; the edges hold the same structure as a graph, for drawing and checking.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from attrs import field, frozen

from flowpersist.dynamicflow.kinds import (
    Block,
    Conditional,
    Decision,
    Delay,
    Evaluate,
    Filter,
    Kind,
    Loop,
    Map,
    Parallel,
    Reduce,
    Sequence,
    Switch,
    ToolCall,
)
from flowpersist.inputs.json_pointers import escaped

if TYPE_CHECKING:
    from flowpersist.dynamicflow.durability import Durability
    from flowpersist.dynamicflow.expressions import Expression

__all__ = [
    "BOOLEANS",
    "START",
    "Block",
    "Conditional",
    "Decision",
    "Delay",
    "Edge",
    "Evaluate",
    "Filter",
    "Flow",
    "Graph",
    "Kind",
    "Limits",
    "Link",
    "Loop",
    "Map",
    "Node",
    "Operation",
    "Parallel",
    "Place",
    "Reduce",
    "Retry",
    "Sequence",
    "SubFlow",
    "Switch",
    "ToolCall",
    "blocks_of",
    "decisions_of",
    "passing",
    "tools_of",
]

#: The source of the edges that begin a graph.
START: Final = "START"

#: The options of a condition.
BOOLEANS: Final = ("true", "false")


@frozen
class SubFlow:
    """Run a flow within the run, with an input of its own; ``name`` is its id where it is a registered one."""

    #: None only while the document is compiled.
    flow: Flow | None = field(repr=False)
    input: object
    name: str | None


Operation: TypeAlias = (
    ToolCall | Conditional | Switch | Filter | Map | Reduce | Loop | Parallel | Sequence | Delay | SubFlow | Evaluate
)


@frozen
class Retry:
    """Further attempts after a failed one: how many, and the pause before each.

    The pause before the first of them is ``delay`` seconds, and each further one ``factor`` times as long, up to
    ``longest``; None: as the runner has it. Only a failure by one of the classes that ``on`` names is tried again; an
    empty one names all.
    """

    attempts: int = 0
    delay: float | None = None
    factor: float = 2.0
    longest: float = 5.0
    on: frozenset[str] = frozenset()


@frozen
class Place:
    """Where a step stands in the document: its JSON pointer, and the names of its fields as they were written."""

    pointer: str = ""
    written: Mapping[str, str] = field(factory=dict)

    def at(self, name: str) -> str:
        """The pointer of a field, by its canonical name."""
        return f"{self.pointer}/{self.written[name] if name in self.written else escaped(name)}"


@frozen
class Node:
    """A step. ``timeout`` (seconds) bounds one attempt."""

    id: str
    operation: Operation
    output: str | None = None
    timeout: float | None = None
    retry: Retry = Retry()
    on_error: Block = ()
    description: str | None = None
    place: Place = field(default=Place(), repr=False, eq=False)


@frozen
class Edge:
    """From a step to one that follows or that it contains.

    ``label`` is ``next`` in a block, the name of an inner block, or the condition of an edge in graph form.
    """

    source: str
    target: str
    label: str


@frozen
class Link:
    """An edge: ``target`` runs after ``source``, a node or ``START``, if the condition holds (None: in any case).

    ``asked`` is the name under which what a tool decides is kept: it is asked once for all targets of a source.
    """

    source: str
    target: str
    condition: Expression | Decision | None = None
    asked: str = ""
    #: The place of the condition in the document.
    pointer: str = field(default="", repr=False, eq=False)


@frozen
class Graph:
    """How the outermost steps of a document in graph form follow each other.

    ``shared`` are the variables that several of them set: each step sees the value of the last one before it.
    """

    links: tuple[Link, ...]
    shared: frozenset[str]

    def single(self) -> Iterator[tuple[str, str]]:
        """The nodes with one predecessor, after that one."""
        predecessors: dict[str, set[str]] = {}
        for link in self.links:
            if link.source != START:
                predecessors.setdefault(link.target, set()).add(link.source)
        for target, sources in predecessors.items():
            if len(sources) == 1:
                yield (next(iter(sources)), target)


@frozen
class Limits:
    """What bounds a run as a whole: ``timeout`` in seconds from its start, its waits included, and ``concurrency``, how
    many tools run at once; None: no bound. ``durability`` is how often it is stored; None: as the runner says.
    """

    timeout: float | None = None
    concurrency: int | None = None
    durability: Durability | None = None


@frozen
class Flow:
    """A compiled document.

    ``steps`` are the outermost ones in order and ``entry`` the first of them; in graph form each stands after those
    that it follows, and ``graph`` has the edges. ``tools`` are the ids that it calls,
    ``joins`` the pairs of tools where one's output goes to the other unchanged. ``hash`` is the document's.
    ``failed`` is what becomes of a run that fails: ``end`` or ``park``; None: what its runner does.
    """

    name: str
    version: str
    hash: str
    entry: str
    steps: Block
    nodes: Mapping[str, Node] = field(repr=False)
    edges: tuple[Edge, ...] = field(repr=False)
    tools: frozenset[str]
    joins: frozenset[tuple[str, str]]
    document: Mapping[str, object] = field(repr=False)
    graph: Graph | None = field(default=None, repr=False)
    limits: Limits = field(default=Limits())
    failed: Literal["end", "park"] | None = None
    #: The documents of the registered flows that it runs, by id.
    flows: Mapping[str, Mapping[str, object]] = field(factory=dict, repr=False)
    #: How many levels of steps within steps it has, those of its sub-flows included.
    height: int = 0


def blocks_of(node: Node) -> tuple[tuple[str, Block], ...]:
    """The blocks of a node, by the names of their edges."""
    handlers: tuple[tuple[str, Block], ...] = (("onError", node.on_error),) if node.on_error else ()
    return _inner(node.operation) + handlers


def passing(steps: Block, nodes: Mapping[str, Node], graph: Graph | None) -> Iterator[tuple[str, str]]:
    """The pairs of steps of which the second one, if it has no arguments, gets the result of the first one."""
    yield from pairwise(steps) if graph is None else graph.single()
    for node in nodes.values():
        for _, block in blocks_of(node):
            yield from pairwise(block)


def tools_of(node: Node) -> Iterator[tuple[str, str]]:
    """The ids of the tools that a node calls, each with the field that names it."""
    operation = node.operation
    if isinstance(operation, ToolCall):
        yield operation.tool, "tool"
    field_name = "switch" if isinstance(operation, Switch) else "condition"
    yield from ((decision.tool, field_name) for decision in decisions_of(node))


def decisions_of(node: Node) -> Iterator[Decision]:
    """The choices that a node leaves to tools."""
    operation = node.operation
    if isinstance(operation, Switch) and isinstance(operation.selector, Decision):
        yield operation.selector
    elif isinstance(operation, Conditional | Filter | Loop) and isinstance(operation.condition, Decision):
        yield operation.condition


def _inner(operation: Operation) -> tuple[tuple[str, Block], ...]:
    match operation:
        case Conditional():
            return (("if_true", operation.if_true), ("if_false", operation.if_false))
        case Switch():
            return (*operation.cases.items(), ("default", operation.default or ()))
        case Map() | Reduce() | Loop():
            return (("body", operation.body),)
        case Parallel():
            return tuple((f"[{index}]", block) for index, block in enumerate(operation.branches))
        case Sequence():
            return (("steps", operation.steps),)
        case ToolCall() | Filter() | Delay() | SubFlow() | Evaluate():
            return ()
