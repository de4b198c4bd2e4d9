"""Cycles of a graph: which of its nodes reach each other."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

__all__ = ["components"]


def components(edges: Mapping[str, Collection[str]]) -> dict[str, int]:
    """The number of each node's strongly connected component: two nodes reach each other if theirs is the same.

    Every target must be a node. Tarjan's algorithm, without recursion: in time linear in the edges.
    """
    order: dict[str, int] = {}
    lowest: dict[str, int] = {}
    found: dict[str, int] = {}
    path: list[str] = []
    for start in edges:
        if start in order:
            continue
        work: list[tuple[str, Iterator[str]]] = [(start, iter(edges[start]))]
        order[start] = lowest[start] = len(order)
        path.append(start)
        while work:
            node, targets = work[-1]
            target = next(targets, None)
            if target is None:
                work.pop()
                _close(node, order, lowest, found, path)
                if work:
                    parent = work[-1][0]
                    lowest[parent] = min(lowest[parent], lowest[node])
            elif target not in order:
                order[target] = lowest[target] = len(order)
                path.append(target)
                work.append((target, iter(edges[target])))
            elif target not in found:
                lowest[node] = min(lowest[node], order[target])
    return found


def _close(
    node: str, order: Mapping[str, int], lowest: Mapping[str, int], found: dict[str, int], path: list[str]
) -> None:
    """Take the component that begins with this node off the path."""
    if lowest[node] < order[node]:
        return
    number = len(found)
    while True:
        last = path.pop()
        found[last] = number
        if last == node:
            return
