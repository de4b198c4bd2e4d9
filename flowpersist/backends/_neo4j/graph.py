"""The attributes that become nodes of their own, and the parts of statements that maintain these nodes."""

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
    """How an attribute appears in the graph: ``(:…Record)-[:type]->(:label {property: value})``.

    A label that exists already may be named, to link records to existing nodes: a node that has other properties or
    relationships is never removed.
    """

    type: str
    label: str
    property: str = "id"

    def __attrs_post_init__(self) -> None:
        for name in (self.type, self.label, self.property):
            if not _NAME.fullmatch(name):
                message = (
                    "Invalid relation: expected type, label and property of a letter and up to 62 letters, "
                    "digits and '_'"
                )
                raise ConfigurationError(message, "graph")


def default_graph(names: Names) -> Mapping[str, Relation]:
    """Map runs, tools and tenants to labels with the prefix, which keeps them apart from other data in the graph."""
    label = names.prefix.capitalize()
    return MappingProxyType(
        {
            "run": Relation("OF_RUN", f"{label}Run"),
            "tool": Relation("AWAITS_TOOL", f"{label}Tool", "name"),
            "tenant": Relation("FOR_TENANT", f"{label}Tenant"),
        }
    )


class Graph:
    """The mapping, in the form that statements are filled with."""

    def __init__(self, relations: Mapping[str, Relation], names: Names) -> None:
        for attribute in relations:
            if not plain(attribute):
                message = "Invalid graph: expected attribute names of letters, digits, '_', '.' and '-'"
                raise ConfigurationError(message, "graph")
        self.relations = dict(relations)
        self._names = names

    def parts(self) -> dict[str, str]:
        """Give the text for all attributes for each part of graph.cypher; it is empty where no attribute is mapped."""
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
