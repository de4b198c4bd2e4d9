"""The edges whose conditions tools decide, as nodes: what calls a tool is a node to whoever looks for calls."""

from __future__ import annotations

from collections.abc import Iterator

from flowpersist.dynamicflow.ir import Conditional, Decision, Graph, Node, Place

__all__ = ["deciders"]


def deciders(graph: Graph | None) -> Iterator[Node]:
    """A node for each decision of an edge, with the name under which it is kept as its id."""
    seen: set[str] = set()
    for link in () if graph is None else graph.links:
        if isinstance(link.condition, Decision) and link.asked not in seen:
            seen.add(link.asked)
            place = Place(link.pointer.removesuffix("/condition"))
            yield Node(link.asked, Conditional(link.condition, (), ()), place=place)
