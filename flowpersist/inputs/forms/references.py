"""Where the references of a schema lead: definitions of its own, and no others."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from flowpersist.inputs.json_pointers import unescaped

__all__ = ["defined", "definition_name", "resolved"]

_DEFINITION: Final = re.compile(r"#/\$defs/([^/]+)")
#: References of references; a schema that was compiled has none that go round for ever with a value.
_MOST: Final = 64


def definition_name(reference: object) -> str | None:
    """The name of the definition that a ``$ref`` leads to; None for another reference, or none."""
    found = _DEFINITION.fullmatch(reference) if isinstance(reference, str) else None
    return None if found is None else unescaped(found.group(1))


def defined(reference: object, root: Mapping[str, Any]) -> Any:  # noqa: ANN401 - a schema
    """The definition that a ``$ref`` leads to; None where there is none."""
    name = definition_name(reference)
    return None if name is None else root.get("$defs", {}).get(name)


def resolved(given: object, root: Mapping[str, Any]) -> Mapping[str, Any]:
    """A schema without a reference, or a composition of one member, at its root."""
    node = given if isinstance(given, Mapping) else {}
    for _ in range(_MOST):
        members = node.get("allOf")
        if definition_name(node.get("$ref")) is not None:
            found = defined(node["$ref"], root)
            beside = {key: one for key, one in node.items() if key != "$ref"}
            node = {**found, **beside} if isinstance(found, Mapping) else beside
        elif isinstance(members, list) and len(members) == 1 and isinstance(members[0], Mapping):
            node = {**members[0], **{key: one for key, one in node.items() if key != "allOf"}}
        else:
            break
    return node
