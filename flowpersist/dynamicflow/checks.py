"""Whether every reference of a document can resolve, as far as that is known before it runs.

Names follow the scopes of ``scope``: each step adds its names, a container that runs its steps once exports their
names, and an iteration keeps them. A name that may exist, such as one set in a branch, is accepted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import Final

from attrs import define, field

from flowpersist.dynamicflow.cycles import components
from flowpersist.dynamicflow.ir import (
    START,
    Block,
    Conditional,
    Delay,
    Evaluate,
    Filter,
    Flow,
    Graph,
    Link,
    Loop,
    Map,
    Node,
    Operation,
    Parallel,
    Reduce,
    Sequence,
    SubFlow,
    Switch,
    ToolCall,
    blocks_of,
)
from flowpersist.dynamicflow.located import Located, inner_of, of_condition, outer_of
from flowpersist.dynamicflow.naming import INDEX, RESERVED, RUN, RUN_PARTS
from flowpersist.dynamicflow.problems import Problems
from flowpersist.dynamicflow.references import Reference
from flowpersist.errors import FlowCode, FlowError

__all__ = ["check_names"]

_Names = frozenset[str]
_NONE: Final[_Names] = frozenset()


def check_names(flow: Flow, unread: frozenset[str], problems: Problems) -> None:
    """Note every reference that can't resolve, and ambiguous names. ``unread`` are names that may exist too."""
    for node in flow.nodes.values():
        if node.output is not None and node.output != node.id and node.output in flow.nodes:
            message = f"step {node.id!r}: its output {node.output!r} is another step's id: rename one of them"
            at = node.place.at("output")
            problems.add(at, "duplicate-name", message, step=node.id, reference=f"${node.output}")
    checker = _Checker(flow, unread, problems)
    if flow.graph is None:
        checker.block(flow.steps, _NONE)
    else:
        checker.graph(flow.graph)


@define(slots=False)
class _Checker:
    """Visits the steps in the order in which they run, with the names that each may use."""

    flow: Flow
    unread: frozenset[str]
    problems: Problems
    _made: dict[str, str] = field(init=False)

    def __attrs_post_init__(self) -> None:
        nodes = self.flow.nodes.values()
        self._made = {node.output: node.id for node in nodes if node.output} | {node.id: node.id for node in nodes}

    def block(self, block: Block, visible: _Names) -> _Names:
        """The names that a block exports."""
        made = _NONE
        for name in block:
            made |= self.node(self.flow.nodes[name], visible | made)
        return made

    def graph(self, graph: Graph) -> None:
        """Each outermost node may use the names of those before it, and a condition those of the edge's source too."""
        into: dict[str, list[Link]] = {name: [] for name in self.flow.steps}
        for link in graph.links:
            into[link.target].append(link)
        known: dict[str, _Names] = {START: _NONE}
        for name in self.flow.steps:
            for link in into[name]:
                for located in () if link.condition is None else of_condition(link.condition, link.pointer):
                    blamed = self.flow.nodes[name if link.source == START else link.source]
                    self.check(located, blamed, known[link.source])
            visible = _NONE.union(*{link.source: known[link.source] for link in into[name]}.values())
            known[name] = visible | self.node(self.flow.nodes[name], visible)

    def node(self, node: Node, visible: _Names) -> _Names:
        """The names that a step exports."""
        for located in outer_of(node):
            self.check(located, node, visible)
        made = self.operation(node, node.operation, visible)
        made |= self.block(node.on_error, visible | {"error"})
        return made | {node.id} | ({node.output} if node.output else _NONE)

    def operation(self, node: Node, operation: Operation, visible: _Names) -> _Names:
        blocks = [block for label, block in blocks_of(node) if label != "onError"]
        match operation:
            case Conditional() | Switch() | Sequence():
                return _NONE.union(*(self.block(block, visible) for block in blocks))
            case Parallel():
                return self.results(self.block(block, visible) for block in blocks)
            case Reduce():
                named = visible | {operation.name, operation.accumulator, INDEX}
                return self.results(self.block(block, named) for block in blocks)
            case Loop():
                return self.loop(node, operation, visible)
            case Map():
                self.block(operation.body, visible | {operation.name, INDEX})
            case Filter():
                self.iterated(node, visible | {operation.name, INDEX})
            case ToolCall() | Delay() | SubFlow() | Evaluate():
                pass
        return _NONE

    def results(self, made: Iterable[_Names]) -> _Names:
        """The names that branches export: the steps', but not their variables."""
        return _NONE.union(*made) & frozenset(self.flow.nodes)

    def loop(self, node: Node, operation: Loop, visible: _Names) -> _Names:
        """A loop's iteration can use what the previous one has set, later steps included."""
        seen = visible | self.names_within(operation.body) | {INDEX}
        if operation.condition is None:
            seen |= {operation.name}
        else:
            self.iterated(node, seen)
        return self.block(operation.body, seen)

    def names_within(self, block: Block) -> _Names:
        found: set[str] = set()
        for name in block:
            node = self.flow.nodes[name]
            found |= {name, node.output or name}
            found |= _NONE.union(*(self.names_within(inner) for _, inner in blocks_of(node)))
        return frozenset(found)

    def iterated(self, node: Node, visible: _Names) -> None:
        for located in inner_of(node):
            self.check(located, node, visible)

    def check(self, located: Located, node: Node, visible: _Names) -> None:
        reference = located.found
        if self.problems.full:
            return
        if isinstance(reference, FlowError):
            message = f"step {node.id!r}: {reference}"
            expected = "a value, or a reference such as $name.path"
            self.note(located, node, message, "invalid-reference", reference.reference, expected)
            return
        unresolved = self.unresolved(reference, node, visible)
        if unresolved is not None:
            code, why = unresolved
            near = self.problems.hint([reference.root], visible | RESERVED) if code == "unknown-name" else ""
            self.note(located, node, f"step {node.id!r}: {reference} {why}{near}", code, str(reference))

    def note(
        self,
        located: Located,
        node: Node,
        message: str,
        code: FlowCode,
        reference: str | None,
        expected: str | None = "a reference to a name that is visible here",
    ) -> None:
        self.problems.add(located.pointer, code, message, expected=expected, step=node.id, reference=reference)

    def unresolved(self, reference: Reference, node: Node, visible: _Names) -> tuple[FlowCode, str] | None:
        """Why a reference can't resolve; None if it may."""
        root = reference.root
        if root == RUN and reference.path and (reference.path[0] not in RUN_PARTS or len(reference.path) > 1):
            known = ", ".join(f"${RUN}.{part}" for part in RUN_PARTS)
            return ("unknown-name", f"is not a fact of the run: expected one of {known}")
        if root in visible or root in self.unread or (root in RESERVED and root != INDEX):
            return None
        if root == INDEX:
            return ("not-visible", "is the number of an iteration, and this step is in none")
        if root not in self._made:
            return ("unknown-name", "is neither a variable nor a step of the document: check its spelling")
        maker = self._made[root]
        return self.unseen(maker, node)

    def unseen(self, maker: str, node: Node) -> tuple[FlowCode, str]:
        """Why a step can't see the result of another one, or its own."""
        if maker == node.id:
            return ("cycle", "is the result of this step itself, a cycle of steps: refer to an earlier step")
        if self.circles[maker] == self.circles[node.id]:
            return ("cycle", f"is the result of step {maker!r}, which needs {node.id!r}: a cycle of steps")
        if self.flow.graph is not None and maker in self.flow.steps:
            why = f"is not visible here: {maker!r} does not always run before it"
            return ("not-visible", f"{why}; add an edge from {maker!r}, or refer to an earlier node")
        why = f"is not visible here: step {maker!r} runs later, or inside a branch or iteration; "
        return ("not-visible", f"{why}move it, or refer to the result of the step that contains it")

    @cached_property
    def circles(self) -> Mapping[str, int]:
        """Steps that need each other's results, directly or indirectly, have the same number."""
        return components({node.id: frozenset(self.makers(node)) for node in self.flow.nodes.values()})

    def makers(self, node: Node) -> Iterator[str]:
        """The steps whose results a step refers to."""
        for located in (*outer_of(node), *inner_of(node)):
            if isinstance(located.found, Reference) and located.found.root in self._made:
                yield self._made[located.found.root]
