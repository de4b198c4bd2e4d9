"""The limits of a strict form, and what is reported of a form."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

from attrs import frozen

from flowpersist.inputs.forms.dialects import Dialect

__all__ = ["Narrowing", "Node", "over"]

Node: TypeAlias = dict[str, Any]


@frozen
class Narrowing:
    """One thing that a form does not carry as it was.

    - ``pointer``: the JSON pointer in the schema as it was written.
    - ``keyword``: of which keyword.
    - ``what``: what became of it.
    - ``loosens``: whether a value may fit the form and break the schema.
    """

    pointer: str
    keyword: str
    what: str
    loosens: bool = False


def over(schema: Node, dialect: Dialect) -> Iterator[Narrowing]:
    """The limits of a dialect that a schema is over."""
    nodes = list(_nodes(schema))
    names = [name for node, _ in nodes for group in ("properties", "$defs") for name in node.get(group, ())]
    values = [value for node, _ in nodes for value in node.get("enum", ())]
    found = {
        "levels": max(depth for _, depth in nodes),
        "properties": sum(len(node.get("properties", ())) for node, _ in nodes),
        "characters": sum(map(len, names)) + sum(len(str(value)) for value in values),
        "literals": len(values),
    }
    for name, count in found.items():
        most = getattr(dialect, name)
        if most is not None and count > most:
            yield Narrowing("", name, f"{dialect.name}'s strict form takes {most} {name}, and the schema has {count}")


def _nodes(schema: Node) -> Iterator[tuple[Node, int]]:
    """All nodes of a narrowed schema, and how many objects and arrays each stands in, itself included."""
    pending: list[tuple[Node, int]] = [(schema, 0)]
    while pending:
        node, depth = pending.pop()
        inner = depth + (node.get("type") in ("object", "array"))
        yield node, inner
        below = [*node.get("properties", {}).values(), *node.get("$defs", {}).values(), *node.get("anyOf", [])]
        below += [node[name] for name in ("items", "additionalProperties") if isinstance(node.get(name), dict)]
        pending += [(one, inner) for one in below]
