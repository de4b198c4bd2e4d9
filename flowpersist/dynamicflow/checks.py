"""Whether every reference of a document can resolve, as far as that is known before it runs.

Names follow the scopes of ``scope``: each step adds its names, a container that runs its steps once exports their
names, and an iteration keeps them. A name that may exist, such as one set in a branch, is accepted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, NoReturn

from attrs import define, field
from returns.result import Failure, Result

from flowpersist.dynamicflow import expressions, references
from flowpersist.dynamicflow.ir import (
    Block,
    Conditional,
    Filter,
    Flow,
    Loop,
    Map,
    Node,
    Operation,
    Parallel,
    Reduce,
    Sequence,
    Switch,
    ToolCall,
    blocks_of,
)
from flowpersist.dynamicflow.naming import INDEX, RESERVED, RUN, RUN_PARTS
from flowpersist.dynamicflow.prompts import references_of_call
from flowpersist.dynamicflow.references import Reference
from flowpersist.errors import FlowError, PersistenceError

__all__ = ["check_names"]

_Names = frozenset[str]
_NONE: Final[_Names] = frozenset()


def check_names(flow: Flow) -> None:
    """Raise ``FlowError`` for the first reference that can't resolve, and for ambiguous names."""
    _check_outputs(flow)
    checker = _Checker(flow)
    checker.block(flow.steps, _NONE)


def _check_outputs(flow: Flow) -> None:
    for node in flow.nodes.values():
        if node.output is not None and node.output != node.id and node.output in flow.nodes:
            message = f"step {node.id!r}: its output {node.output!r} is another step's id: rename one of them"
            raise FlowError(message, flow.name, node.id, f"${node.output}")


@define
class _Checker:
    """Visits the steps in the order in which they run, with the names that each may use."""

    flow: Flow
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

    def node(self, node: Node, visible: _Names) -> _Names:
        """The names that a step exports."""
        for reference in _outer(node, self.flow):
            self.check(reference, node, visible)
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
                self.expression(operation.condition, node, visible | {operation.name, INDEX})
            case ToolCall():
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
            self.expression(operation.condition, node, seen)
        return self.block(operation.body, seen)

    def names_within(self, block: Block) -> _Names:
        found: set[str] = set()
        for name in block:
            node = self.flow.nodes[name]
            found |= {name, node.output or name}
            found |= _NONE.union(*(self.names_within(inner) for _, inner in blocks_of(node)))
        return frozenset(found)

    def expression(self, expression: expressions.Expression, node: Node, visible: _Names) -> None:
        for reference in expression.references:
            self.check(reference, node, visible)

    def check(self, reference: Reference, node: Node, visible: _Names) -> None:
        root = reference.root
        if root == RUN and reference.path and (reference.path[0] not in RUN_PARTS or len(reference.path) > 1):
            known = ", ".join(f"${RUN}.{part}" for part in RUN_PARTS)
            self.refuse(node, reference, f"is no fact of the run: it has {known}")
        if root in visible or (root in RESERVED and root != INDEX):
            return
        if root == INDEX:
            self.refuse(node, reference, "is the number of an iteration, and this step is in none")
        if root not in self._made:
            self.refuse(node, reference, "is neither a variable nor a step of the document: check its spelling")
        maker = self._made[root]
        if maker == node.id:
            self.refuse(
                node, reference, "is the result of this step itself, a cycle of steps: refer to an earlier step"
            )
        if self.depends(maker, node.id):
            self.refuse(node, reference, f"is the result of step {maker!r}, which needs {node.id!r}: a cycle of steps")
        self.refuse(
            node,
            reference,
            f"is not visible here: step {maker!r} runs later, or inside a branch or iteration; "
            "move it, or refer to the result of the step that contains "
            "it",
        )

    def depends(self, start: str, target: str) -> bool:
        """Whether a step needs another's result, directly or indirectly."""
        pending, seen = [start], {start}
        while pending:
            for name in self.makers(self.flow.nodes[pending.pop()]):
                if name == target:
                    return True
                if name not in seen:
                    seen.add(name)
                    pending.append(name)
        return False

    def makers(self, node: Node) -> Iterator[str]:
        roots = (reference.root for reference in (*_outer(node, self.flow), *_inner(node)))
        return (self._made[root] for root in roots if root in self._made)

    def refuse(self, node: Node, reference: Reference, why: str) -> NoReturn:
        raise FlowError(f"step {node.id!r}: {reference} {why}", self.flow.name, node.id, str(reference))


def _outer(node: Node, flow: Flow) -> list[Reference]:
    """The references that a step resolves in the enclosing scope."""
    operation = node.operation
    match operation:
        case ToolCall():
            return _found(references_of_call(operation), node, flow)
        case Conditional():
            return list(operation.condition.references)
        case Switch():
            return list(operation.selector.references)
        case Reduce():
            return _found(references.references_in([operation.over, operation.initial]), node, flow)
        case Filter() | Map() | Loop():
            return _found(references.references_in(operation.over), node, flow)
        case Parallel() | Sequence():
            return []


def _found(found: Result[Iterable[Reference], PersistenceError], node: Node, flow: Flow) -> list[Reference]:
    if isinstance(found, Failure):
        error = found.failure()
        reference = error.reference if isinstance(error, FlowError) else None
        raise FlowError(f"step {node.id!r}: {error}", flow.name, node.id, reference) from error
    return list(found.unwrap())


def _inner(node: Node) -> Iterable[Reference]:
    condition = getattr(node.operation, "condition", None)
    return condition.references if condition is not None else ()
