"""Documents in graph form: their nodes and edges are checked, then refused, since this release runs step form only."""

from __future__ import annotations

from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter
from typing import Final, NoReturn

from flowpersist.dynamicflow.document import Document
from flowpersist.errors import FlowError

__all__ = ["START", "refuse"]

#: The sources of an edge besides nodes.
START: Final = "START"


def refuse(document: Document) -> NoReturn:
    """Report what is wrong with the graph, or else that graph form is not supported yet. Raises ``FlowError``."""
    ids = _ids(document)
    _check_cycles(_predecessors(document, ids), document)
    _refuse(
        "graph form (nodes and edges) is not supported in this release: write the steps as a list in 'flow'", document
    )


def _ids(document: Document) -> set[str]:
    nodes = document.data.get("nodes")
    if not isinstance(nodes, list):
        _refuse("Invalid graph: expected a list of nodes in 'nodes'", document)
    ids: set[str] = set()
    for index, node in enumerate(nodes):
        given = node.get("id") if isinstance(node, Mapping) else None
        if not isinstance(given, str) or not given:
            _refuse(f"nodes[{index}] must be an object with an 'id'", document, f"nodes[{index}]")
        if given in ids:
            _refuse(f"two nodes have the id {given!r}: give one of them another", document, given)
        ids.add(given)
    return ids


def _predecessors(document: Document, ids: set[str]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {name: set() for name in ids}
    edges = document.data.get("edges", [])
    if not isinstance(edges, list):
        _refuse("'edges' must be a list", document)
    for index, edge in enumerate(edges):
        if not isinstance(edge, Mapping):
            _refuse(f"edges[{index}] must be an object with 'from' and 'to'", document)
        sources = [end for end in _ends(edge, "from", index, document) if end != START]
        targets = _ends(edge, "to", index, document)
        for name in (*sources, *targets):
            if name not in ids:
                _refuse(f"edges[{index}] names {name!r}, which is not a node", document, name)
        for target in targets:
            found[target].update(sources)
    return found


def _ends(edge: Mapping[str, object], side: str, index: int, document: Document) -> list[str]:
    value = edge.get(side)
    ends = [value] if isinstance(value, str) else value
    if not isinstance(ends, list) or not ends or not all(isinstance(end, str) for end in ends):
        _refuse(f"edges[{index}] needs {side!r}: the id of a node, or a list of ids", document)
    return ends


def _check_cycles(predecessors: dict[str, set[str]], document: Document) -> None:
    try:
        TopologicalSorter(predecessors).prepare()
    except CycleError as error:
        circle: list[str] = error.args[1]
        _refuse(
            f"the steps {' -> '.join(circle)} are a cycle, which would never end: remove an edge, or use a loop step",
            document,
            circle[0],
        )


def _refuse(message: str, document: Document, step: str | None = None) -> NoReturn:
    raise FlowError(message, document.name, step)
