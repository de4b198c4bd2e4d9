"""From a document to its intermediate representation, or to the error that says what is wrong in it and where."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from typing import Final

from returns.result import Failure, Result, Success

from flowpersist.dynamicflow.building import build
from flowpersist.dynamicflow.checks import check_names
from flowpersist.dynamicflow.constants import check_expressions
from flowpersist.dynamicflow.deciders import deciders
from flowpersist.dynamicflow.document import Document, Source, check_source, load
from flowpersist.dynamicflow.flat import flat_drafts
from flowpersist.dynamicflow.forms import Draft, drafts, every, unread
from flowpersist.dynamicflow.graph import edge_texts, edges_of, graph_drafts, graph_of, is_sound
from flowpersist.dynamicflow.hashing import content_hash
from flowpersist.dynamicflow.ir import Block, Edge, Flow, Graph, Link, Node, ToolCall, blocks_of, passing, tools_of
from flowpersist.dynamicflow.limits import limits_of
from flowpersist.dynamicflow.naming import name_steps
from flowpersist.dynamicflow.nested import MAX_HEIGHT, Library, add_inner, flows_of, height_of, inner_flows
from flowpersist.dynamicflow.parking import failed_of
from flowpersist.dynamicflow.problems import raised, shown
from flowpersist.dynamicflow.questions import check_questions
from flowpersist.dynamicflow.schema import first_misfit, top_fields
from flowpersist.errors import FlowError, PersistenceError
from flowpersist.inputs.json_pointers import escaped

__all__ = ["MAX_TOOLS", "compile", "compile_document", "compile_soon"]

#: The most different tools in one document, since their ids are in the metadata of its runs.
MAX_TOOLS: Final = 128
#: The size of a document that compiles in a few milliseconds.
BRIEF_TEXT: Final = 4 * 1024
BRIEF_VALUES: Final = 200
#: The members that show which form a document has.
_FORMS: Final[Mapping[str, frozenset[str]]] = {
    "steps": frozenset({"flow"}),
    "graph": frozenset({"nodes", "edges"}),
    "flat": frozenset({"steps", "rootIds"}),
}


def compile(document: Source, flows: Mapping[str, Source] | None = None) -> Result[Flow, PersistenceError]:  # noqa: A001
    """Compile a document, given as an object or as its JSON text.

    The same document gives the same flow, with the same generated ids. Failure: ``FlowError``, whose ``problems`` name
    everything that is wrong, with the places in the document. What the tools take and return is not checked here:
    ``check`` does, and ``FlowRunner.start`` before it stores anything. ``flows`` are the registered flows by id that it
    may run as sub-flows. ``TypeError`` for anything but a document and documents by id.
    """
    check_source(document, "document")
    library = Library() if flows is None else Library.of(flows, compile_document)
    return load(document).bind(lambda read: compile_document(read, library))


async def compile_soon(document: Source, library: Library | None = None) -> Result[Flow, PersistenceError]:
    """The same, in a thread if the documents are long, so that the event loop stays free."""
    known = Library() if library is None else library

    def compiled() -> Result[Flow, PersistenceError]:
        return load(document).bind(lambda read: compile_document(read, known))

    if all(_brief(one) for one in (document, *known.sources.values())):
        return compiled()
    try:
        return await asyncio.to_thread(compiled)
    except RuntimeError as error:
        failure = FlowError(f"the document changed while it was read: {error}")
        failure.__cause__ = error
        return Failure(failure)


def _brief(document: Source) -> bool:
    """Whether a bounded check finds the document short."""
    if isinstance(document, str | bytes):
        return len(document) <= BRIEF_TEXT
    pending: list[object] = [document]
    text = 0
    for _ in range(BRIEF_VALUES):
        if not pending:
            return True
        value = pending.pop()
        text += len(value) if isinstance(value, str) else 0
        if text > BRIEF_TEXT:
            return False
        if isinstance(value, Mapping | list | tuple):
            if len(value) > BRIEF_VALUES:
                return False
            pending.extend(value.values() if isinstance(value, Mapping) else value)
    return False


def compile_document(document: Document, library: Library) -> Result[Flow, PersistenceError]:
    """Compile a loaded document."""
    misfit = first_misfit(document.data)
    _note_strange(document)
    try:
        flow = _compile(document, library)
    except FlowError as error:
        if not error.problems:
            step, reference, tool = error.step, error.reference, error.tool
            document.problems.add("", "invalid-value", error.message, step=step, reference=reference, tool=tool)
        return Failure(document.problems.error() or error)
    if misfit is None:
        return Success(flow)
    # Nothing else has read it, such as the description of a step.
    message = f"Invalid document: {misfit.pointer or 'its root'}: {misfit.message}"
    document.problems.add(misfit.pointer, "invalid-value", message)
    return Failure(raised(tuple(one for one in document.problems.found if one.severity == "error"), document.name))


def _note_strange(document: Document) -> None:
    """Warn of fields beside the steps that nothing reads, such as a misspelt 'timeout'."""
    known = top_fields()
    for name in sorted(set(document.data) - known):
        near = document.problems.hint([name], known)
        message = f"the document has the field {shown(name)}, which nothing reads{near}: move it into 'metadata'"
        at = f"/{escaped(name)}"
        document.problems.add(
            at, "unknown-field", message, expected=f"one of {', '.join(sorted(known))}", severity="warning"
        )


def _compile(document: Document, library: Library) -> Flow:
    found, links = _drafted(document)
    if not found:
        document.problems.refuse()
    name_steps(found, document)
    nodes = {draft.id: build(draft, document) for draft in every(found)}
    inline = add_inner(nodes, every(found), document, library, compile_document)
    inner = inner_flows(nodes.values())
    steps = tuple(draft.id for draft in found)
    graph = None if links is None else graph_of(links, steps, nodes)
    if graph is not None and not is_sound(graph, steps, document):
        # Which names a node may use is not known.
        document.problems.refuse()
    flow = Flow(
        name=document.name,
        version=document.version,
        hash=content_hash(
            document.data,
            (*(draft.raw for draft in every(found)), *edge_texts(document)),
            inline,
            {operation.name: flow.hash for _, operation, flow in inner if operation.name is not None},
            values=document.values,
        ),
        entry=steps[0],
        steps=steps,
        nodes=nodes,
        edges=tuple(_edges(steps, nodes, graph)),
        tools=frozenset(tool for node in (*nodes.values(), *deciders(graph)) for tool, _ in tools_of(node)).union(
            *(flow.tools for _, _, flow in inner)
        ),
        joins=frozenset(_joins(steps, nodes, graph)).union(*(flow.joins for _, _, flow in inner)),
        document=document.data,
        graph=graph,
        limits=limits_of(document),
        failed=failed_of(document),
        flows=flows_of(nodes.values()),
        height=height_of(steps, nodes),
    )
    if inner and flow.height > MAX_HEIGHT:
        msg = f"the steps of the document and of its sub-flows are nested deeper than {MAX_HEIGHT} levels: flatten them"
        document.problems.add("", "limit", msg)
    if len(flow.tools) > MAX_TOOLS:
        msg = f"the document calls {len(flow.tools)} different tools, and at most {MAX_TOOLS} are allowed: split it"
        document.problems.add("", "limit", msg)
    check_names(flow, unread(found), document.problems)
    check_expressions(flow, document.problems)
    check_questions(nodes.values(), document.problems)
    document.problems.refuse()
    return flow


def _drafted(document: Document) -> tuple[list[Draft], tuple[Link, ...] | None]:
    """The outermost steps of a document of any form, and the edges of one in graph form."""
    forms = [form for form, fields in _FORMS.items() if not fields.isdisjoint(document.data)]
    if len(forms) > 1:
        first, second = (next(name for name in document.data if name in _FORMS[form]) for form in forms[:2])
        message = f"the document has both {first!r} and {second!r}, which belong to different forms: keep one form"
        document.problems.add(f"/{second}", "invalid-value", message)
        return [], None
    if forms == ["graph"]:
        return graph_drafts(document)
    return (flat_drafts(document) if forms == ["flat"] else drafts(document)), None


def _edges(steps: Block, nodes: Mapping[str, Node], graph: Graph | None) -> Iterator[Edge]:
    yield from _chain(steps) if graph is None else edges_of(graph)
    for node in nodes.values():
        for label, block in blocks_of(node):
            if block:
                yield Edge(node.id, block[0], label)
            yield from _chain(block)


def _chain(block: Block) -> Iterable[Edge]:
    return (Edge(source, target, "next") for source, target in pairwise(block))


def _joins(steps: Block, nodes: Mapping[str, Node], graph: Graph | None) -> Iterator[tuple[str, str]]:
    """The pairs of tools of which the second one, without arguments, gets the first one's result."""
    for before, after in passing(steps, nodes, graph):
        source, target = nodes[before].operation, nodes[after].operation
        if isinstance(source, ToolCall) and isinstance(target, ToolCall) and target.arguments is None:
            yield (source.tool, target.tool)
