"""Whether what one tool returns can be what another one takes, by their JSON Schemas.

Only what is certain is said: a schema that can't be followed is taken to fit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias

__all__ = ["ANYTHING", "below", "misfit", "types_of"]

#: A JSON Schema, and the definitions that its references lead to.
Schema: TypeAlias = Mapping[str, object]
ANYTHING: Final = frozenset({"null", "boolean", "number", "string", "array", "object"})
#: How deep schemas are followed.
MAX_DEPTH: Final = 8
#: The keywords that only describe a value, or only narrow one of one type: without others, the type decides.
_COMBINING: Final = frozenset({"allOf", "anyOf", "oneOf", "not", "if", "$ref", "$dynamicRef", "dependentSchemas"})


def _resolved(schema: object, root: Schema) -> Schema:
    """The schema that a reference within the document leads to; an empty one where it can't be followed."""
    for _ in range(MAX_DEPTH):
        if not isinstance(schema, Mapping):
            return {} if schema is not False else {"enum": []}
        target = schema.get("$ref")
        if target is None:
            return schema
        if not isinstance(target, str) or not target.startswith("#/$defs/") or len(schema) > 1 + ("$defs" in schema):
            return {}
        definitions = root.get("$defs")
        schema = definitions.get(target.removeprefix("#/$defs/")) if isinstance(definitions, Mapping) else None
    return {}


def types_of(schema: object, root: Schema, depth: int = 0) -> frozenset[str]:
    """The JSON types of the values that are valid, integers as numbers; all of them where it is not certain."""
    found = _resolved(schema, root)
    if depth > MAX_DEPTH:
        return ANYTHING
    kinds = ANYTHING
    given = found.get("type")
    if isinstance(given, str):
        kinds = frozenset({_wide(given)})
    elif isinstance(given, list):
        kinds = frozenset(_wide(str(one)) for one in given)
    if isinstance(values := _values(found), list):
        kinds &= frozenset(_type_of(value) for value in values)
    for keyword in ("anyOf", "oneOf"):
        parts = found.get(keyword)
        if isinstance(parts, list):
            kinds &= frozenset[str]().union(*(types_of(part, root, depth + 1) for part in parts))
    return kinds


def _wide(kind: str) -> str:
    return "number" if kind == "integer" else kind


def _values(schema: Schema) -> list[object] | None:
    if "const" in schema:
        return [schema["const"]]
    values = schema.get("enum")
    return values if isinstance(values, list) else None


def _type_of(value: object) -> str:
    if value is None:
        return "null"
    kinds = {bool: "boolean", int: "number", float: "number", str: "string", dict: "object", list: "array"}
    return kinds.get(type(value), "object")


def below(schema: object, root: Schema, path: Sequence[str | int]) -> tuple[object, str | int | None]:
    """The schema of what stands at a path, and the first part of the path that no valid value has; else None."""
    for part in path:
        found = _resolved(schema, root)
        if not _COMBINING.isdisjoint(found):
            return {}, None
        kinds = types_of(found, root)
        if kinds == {"array"} and isinstance(part, int) and "prefixItems" not in found:
            schema = found.get("items", {})
            continue
        if kinds != {"object"}:
            return {}, None
        properties = found.get("properties")
        known = properties if isinstance(properties, Mapping) else {}
        if str(part) in known:
            schema = known[str(part)]
        elif found.get("additionalProperties") is False and not found.get("patternProperties"):
            return {}, part
        else:
            return {}, None
    return schema, None


def misfit(given: object, root: Schema, taken: object, taken_root: Schema, depth: int = 0) -> str | None:
    """Why no value that is valid for the one schema is valid for the other one; None if there may be one."""
    if depth > MAX_DEPTH:
        return None
    kinds, wanted = types_of(given, root), types_of(taken, taken_root)
    if kinds.isdisjoint(wanted):
        return f"it is {_named(kinds)}, and {_named(wanted)} is expected" if kinds and wanted else None
    source, target = _resolved(given, root), _resolved(taken, taken_root)
    if isinstance(values := _values(source), list) and isinstance(others := _values(target), list):
        return None if any(value in others for value in values) else "none of its values is among those expected"
    if kinds == {"object"} and _COMBINING.isdisjoint(source) and _COMBINING.isdisjoint(target):
        return _object_misfit(source, root, target, taken_root, depth)
    return None


def _named(kinds: frozenset[str]) -> str:
    return " or ".join(sorted(kinds)) if kinds else "nothing"


def _object_misfit(source: Schema, root: Schema, target: Schema, taken_root: Schema, depth: int) -> str | None:
    given, taken = _properties(source), _properties(target)
    given_always, needed = _required(source), _required(target)
    if _is_closed(source):
        for name in sorted(needed - given.keys()):
            return f"it has no {name!r}, which is required"
    if _is_closed(target):
        for name in sorted(given_always - taken.keys()):
            return f"it has {name!r}, which is not taken"
    for name in sorted((given_always | needed) & given.keys() & taken.keys()):
        why = misfit(given[name], root, taken[name], taken_root, depth + 1)
        if why is not None:
            return f"of its {name!r}, {why}"
    return None


def _properties(schema: Schema) -> Mapping[str, object]:
    found = schema.get("properties")
    return found if isinstance(found, Mapping) else {}


def _required(schema: Schema) -> frozenset[str]:
    found = schema.get("required")
    return frozenset(name for name in found if isinstance(name, str)) if isinstance(found, list) else frozenset()


def _is_closed(schema: Schema) -> bool:
    return schema.get("additionalProperties") is False and not schema.get("patternProperties")
