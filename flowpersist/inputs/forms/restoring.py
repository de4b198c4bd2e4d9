"""What fits a strict form, as the schema means it.

A form whose properties are all required has null where a property may be left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from flowpersist.errors import InputValidationError, Problem
from flowpersist.inputs.forms.references import resolved
from flowpersist.inputs.json_schema import JsonSchema

__all__ = ["restored"]

MAX_STEPS: Final = 50_000
_ANY: Final[Mapping[str, Any]] = {}


def restored(value: object, schema: Mapping[str, Any]) -> object:
    """The value without null for properties that may be left out and don't take null.

    Raises ``InputValidationError`` where that takes over 50,000 steps: unions within unions.
    """
    return _Restorer(schema).value(value, schema)


class _Restorer:
    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root
        self._left = MAX_STEPS

    def value(self, value: object, schema: object) -> object:
        self._left -= 1
        if self._left < 0:
            problem = Problem("", "takes too many steps to be read: its schema has unions within unions")
            raise InputValidationError(f"the answer {problem.message}", [problem])
        node = resolved(schema, self._root)
        if not isinstance(value, dict | list):
            return value
        members = node.get("anyOf") or node.get("oneOf")
        if isinstance(members, list) and "properties" not in node:
            return self._one_of(value, members)
        if isinstance(value, list):
            return [self.value(one, node.get("items", _ANY)) for one in value]
        properties = node.get("properties", _ANY)
        required = node.get("required", ())
        return {
            name: self.value(one, properties.get(name, _ANY))
            for name, one in value.items()
            if one is not None or name in required or name not in properties or self._fits(None, properties[name])
        }

    def _one_of(self, value: object, members: list[Any]) -> object:
        for member in members:
            candidate = self.value(value, member)
            if self._fits(candidate, member):
                return candidate
        return value

    def _fits(self, value: object, schema: object) -> bool:
        if isinstance(schema, bool):
            return schema
        node = dict(schema) if isinstance(schema, Mapping) else {}
        if "$defs" in self._root:
            node["$defs"] = self._root["$defs"]
        return JsonSchema.of(node).fits(value)
