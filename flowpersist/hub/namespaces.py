"""The namespaces of a hub: those of its suspensions and of all that stands beside them."""

from __future__ import annotations

from flowpersist.backends.base import NamespaceSchema
from flowpersist.hub.audit_keys import audit_keys_schema
from flowpersist.hub.shredding import shredded_schema
from flowpersist.hub.side_records import side_schemas
from flowpersist.lifecycle.indexing import schema
from flowpersist.sealed.dictionaries import dictionary_schema

__all__ = ["hub_schema"]


def hub_schema(namespace: str) -> list[NamespaceSchema]:
    """The namespaces that a hub keeps its records in, with what it asks for."""
    return [
        schema(namespace),
        *side_schemas(namespace),
        dictionary_schema(namespace),
        audit_keys_schema(namespace),
        shredded_schema(namespace),
    ]
