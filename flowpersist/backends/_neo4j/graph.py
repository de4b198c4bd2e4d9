"""Which attributes become nodes of their own, and the parts of statements that keep them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from attrs import frozen

from flowpersist.backends._neo4j.naming import Names, loaded, plain
from flowpersist.errors import ConfigurationError

__all__ = ["Graph", "Relation", "default_graph"]

_PARTS: Final = loaded("graph.cypher")
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,62}")


@frozen
class Relation:
    """How an attribute stands in the graph: ``(:…Record)-[:type]->(:label {property: value})``.

    A label of your own may be named, to link records to nodes that are there already: nodes that hold or relate to
    anything else are never removed.
    """

    type: str
    label: str
    property: str = "id"

    def __attrs_post_init__(self) -> None:
        for name in (self.type, self.label, self.property):
            if not _NAME.fullmatch(name):
                message = "a relation's type, label and property are a letter, then up to 62 letters, digits and _"
                raise ConfigurationError(message, "graph")


def default_graph(names: Names) -> Mapping[str, Relation]:
    """Runs, tools and tenants, under labels of the prefix, so that they are apart from what else is there."""
    label = names.prefix.capitalize()
    return MappingProxyType(
        {
            "run": Relation("OF_RUN", f"{label}Run"),
            "tool": Relation("AWAITS_TOOL", f"{label}Tool", "name"),
            "tenant": Relation("FOR_TENANT", f"{label}Tenant"),
        }
    )


class Graph:
    """The mapping, as what statements are filled with."""

    def __init__(self, relations: Mapping[str, Relation], names: Names) -> None:
        for attribute in relations:
            if not plain(attribute):
                message = "a graph maps attributes of plain names: letters, digits, _, . and -"
                raise ConfigurationError(message, "graph")
        self.relations = dict(relations)
        self._names = names

    def parts(self) -> dict[str, str]:
        """For each part of graph.cypher the text for all attributes, empty where none is mapped."""
        return {name: self._part(name) for name in _PARTS}

    def _part(self, name: str) -> str:
        filled = (
            self._names.fill(
                _PARTS[name],
                number=str(number),
                attribute=attribute,
                label=relation.label,
                type=relation.type,
                property=relation.property,
                same=_PARTS["same"],
            )
            for number, (attribute, relation) in enumerate(self.relations.items())
        )
        return "\n".join(filled)
