"""Flows within flows: a step's document, or a registered one, is compiled as a flow of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Final, TypeAlias

from attrs import define, evolve, field
from returns.result import Failure, Result, Success

from flowpersist.backends.base import check_text
from flowpersist.dynamicflow.document import UNNAMED, Document, Source, check_source, load
from flowpersist.dynamicflow.ir import Flow, Node, SubFlow, blocks_of
from flowpersist.errors import ConfigurationError, FlowError, FlowProblem, PersistenceError
from flowpersist.errors.arguments import check_mapping

if TYPE_CHECKING:
    from flowpersist.dynamicflow.forms import Draft
    from flowpersist.dynamicflow.problems import Problems

__all__ = ["MAX_HEIGHT", "Library", "add_inner", "copied", "flow_within", "flows_of", "height_of", "inner_flows"]

#: The most levels of steps within steps, those of sub-flows included: each takes some of the interpreter's stack.
MAX_HEIGHT: Final = 48
#: What bounds a run as a whole stands in the outermost document.
_RUN_WIDE: Final = ("timeout", "concurrency", "durability", "failed")

_Compile: TypeAlias = Callable[[Document, "Library"], Result[Flow, PersistenceError]]


@define
class Library:
    """The registered flows by id, compiled once each."""

    sources: Mapping[str, Source] = field(factory=dict, repr=False)
    _flows: dict[str, Flow] = field(factory=dict, init=False, repr=False)
    #: Those that are being compiled, the outermost one first.
    _trail: list[str] = field(factory=list, init=False)

    @classmethod
    def of(cls, flows: Mapping[str, Source], compiled: _Compile) -> Library:
        """Check and compile the flows of a runner. Raises ``ConfigurationError``, which names the flow."""
        check_mapping(flows, "flows")
        made = cls(dict(flows))
        for name, source in made.sources.items():
            check_text(name, "an id in flows")
            check_source(source, f"flows[{name!r}]")
            found = made.flow(name, compiled)
            if isinstance(found, Failure):
                raise ConfigurationError(f"Invalid flows: the flow {name!r} can't run: {found.failure()}", "flows")
        return made

    def flow(self, name: str, compiled: _Compile) -> Result[Flow, PersistenceError]:
        """A registered flow. Failure: ``FlowError``, also for one that is not registered or contains itself."""
        if name in self._flows:
            return Success(self._flows[name])
        if name in self._trail:
            circle = " -> ".join([*self._trail[self._trail.index(name) :], name])
            return Failure(FlowError(f"the flow {name!r} contains itself ({circle}): use a loop"))
        if name not in self.sources:
            known = ", ".join(sorted(self.sources)) or "none"
            given = "FlowRunner(flows={…}), of the command --flows ID=FILE"
            message = f"the flow {name!r} is not registered: expected one of {given} ({known})"
            return Failure(FlowError(message[:2000]))
        self._trail.append(name)
        try:
            made = load(self.sources[name]).bind(lambda document: compiled(document, self))
        finally:
            self._trail.pop()
        if not isinstance(made, Failure):
            self._flows[name] = made.unwrap()
        return made


def add_inner(
    nodes: dict[str, Node], drafts: Iterable[Draft], document: Document, library: Library, compiled: _Compile
) -> dict[int, str]:
    """Give each step with a sub-flow its flow. What is wrong becomes a problem of the document.

    Gives the hashes of the documents that stand within this one, by their identity.
    """
    hashes: dict[int, str] = {}
    for draft in drafts:
        operation = nodes[draft.id].operation
        if not isinstance(operation, SubFlow):
            continue
        source = draft.fields["flow"]
        found = (
            library.flow(source, compiled) if isinstance(source, str) else _inline(draft, document, library, compiled)
        )
        if isinstance(found, Failure):
            _report(draft, document, found.failure(), inline=not isinstance(source, str))
            continue
        inner = found.unwrap()
        nodes[draft.id] = evolve(nodes[draft.id], operation=evolve(operation, flow=inner))
        if not isinstance(source, str):
            hashes[id(source)] = inner.hash
    return hashes


def _inline(draft: Draft, document: Document, library: Library, compiled: _Compile) -> Result[Flow, PersistenceError]:
    source = draft.fields["flow"]
    if not isinstance(source, Mapping):
        return Failure(FlowError("expected a document, or the id of a registered flow"))
    for name in _RUN_WIDE:
        if name in source:
            message = f"step {draft.id!r}: {name!r} is for the run as a whole: set it beside the outermost steps"
            document.problems.add(f"{draft.place.at('flow')}/{name}", "invalid-value", message, step=draft.id)
    loaded = load({name: value for name, value in source.items() if name not in _RUN_WIDE})
    return loaded.bind(lambda inner: compiled(_named(inner, f"{document.name}: {draft.id}"), library))


def _named(inner: Document, name: str) -> Document:
    return Document(name, inner.version, inner.data, inner.values) if inner.name == UNNAMED else inner


def _report(draft: Draft, document: Document, error: PersistenceError, *, inline: bool) -> None:
    at = draft.place.at("flow")
    problems = error.problems if inline and isinstance(error, FlowError) else ()
    copied(problems, at, document.problems)
    if not problems:
        document.problems.add(at, "invalid-value", f"step {draft.id!r}: {error}", step=draft.id)


def copied(problems: Iterable[FlowProblem], pointer: str, into: Problems) -> None:
    """Add problems of a document that stands within another one at a pointer."""
    for one in problems:
        into.keep(one._replace(pointer=pointer + one.pointer))


def inner_flows(nodes: Iterable[Node]) -> list[tuple[Node, SubFlow, Flow]]:
    """The steps with a sub-flow, and their flows."""
    found = [(node, node.operation) for node in nodes if isinstance(node.operation, SubFlow)]
    return [(node, operation, operation.flow) for node, operation in found if operation.flow is not None]


def flow_within(flow: Flow, node: Node) -> Flow:
    """The flow of the steps within a step: its own for a sub-flow, else the one that it belongs to."""
    operation = node.operation
    return flow if not isinstance(operation, SubFlow) or operation.flow is None else operation.flow


def flows_of(nodes: Iterable[Node]) -> dict[str, Mapping[str, object]]:
    """The documents of all registered flows that these steps need, by id."""
    needed: dict[str, Mapping[str, object]] = {}
    for _, operation, inner in inner_flows(nodes):
        needed |= inner.flows
        if operation.name is not None:
            needed[operation.name] = inner.document
    return needed


def height_of(steps: Iterable[str], nodes: Mapping[str, Node]) -> int:
    """How many levels of steps within steps there are."""
    return max((1 + _below(nodes[name], nodes) for name in steps), default=0)


def _below(node: Node, nodes: Mapping[str, Node]) -> int:
    operation = node.operation
    inner = operation.flow.height if isinstance(operation, SubFlow) and operation.flow is not None else 0
    return max([inner, *(height_of(block, nodes) for _, block in blocks_of(node))])
