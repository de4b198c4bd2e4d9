"""The answers' schemas of the ready questions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

from flowpersist.errors import ConfigurationError
from flowpersist.errors.arguments import check_choice, check_items
from flowpersist.inputs.action import DECISIONS, Decision

__all__ = ["Schema", "array", "decision", "options", "record", "rows", "without_none"]

Schema: TypeAlias = dict[str, Any]
_DEFINITIONS: Final = ("$defs", "definitions")
_REFERS: Final = ("$ref", "$dynamicRef", "$id", "$anchor")
_COMMENT: Final = {"type": "string", "title": "Comment", "maxLength": 10_000}


def without_none(**keywords: object) -> Schema:
    """Keywords of a schema, without those that were not given."""
    return {name: value for name, value in keywords.items() if value is not None}


def record(properties: Mapping[str, object], required: Sequence[str] = ()) -> Schema:
    """An object with named properties and no others."""
    made: Schema = {"type": "object", "properties": dict(properties), "additionalProperties": False}
    return {**made, "required": list(required)} if required else made


def array(items: Mapping[str, object], at_least: int | None, at_most: int | None) -> Schema:
    """A list of different items."""
    bounds = without_none(minItems=at_least, maxItems=at_most)
    return {"type": "array", "items": dict(items), "uniqueItems": True, **bounds}


def options(given: Mapping[str, str] | Iterable[str], what: str = "options") -> Schema:
    """One of several texts; a mapping gives each its label."""
    check_items(given, what, "texts")
    values: list[Any] = list(given)
    if not values or len(set(values)) != len(values) or not all(isinstance(one, str) and one for one in values):
        raise ConfigurationError(f"Invalid {what}: expected different texts that are not empty", what)
    if not isinstance(given, Mapping):
        return {"type": "string", "enum": values}
    return {"type": "string", "oneOf": [{"const": value, "title": str(label)} for value, label in given.items()]}


def decision(allowed: Iterable[Decision], arguments: Mapping[str, object] | None, *, explained: bool) -> Schema:
    """A decision on a call.

    - ``allowed``: which decisions.
    - ``arguments``: the schema of the tool's arguments, for an edit.
    - ``explained``: whether a rejection needs a comment.
    """
    chosen = list(allowed)
    for one in chosen:
        check_choice(one, "allow", DECISIONS)
    if not chosen:
        raise ConfigurationError(f"Invalid allow: expected at least one of {', '.join(DECISIONS)}", "allow")
    properties: Schema = {"decision": {"type": "string", "enum": chosen}, "comment": _COMMENT}
    definitions: Schema = {}
    if "edit" in chosen:
        properties["arguments"], definitions = _embedded(arguments)
        properties["patch"] = {"type": "array", "maxItems": 100, "items": {"type": "object"}}
    needing = [one for one in ("reject", "respond") if one in chosen and (explained or one == "respond")]
    made = {**record(properties, ["decision"]), **definitions}
    if needing:
        made["if"] = {"properties": {"decision": {"enum": needing}}}
        made["then"] = {"required": ["comment"], "properties": {"comment": {"minLength": 1}}}
    return made


def _embedded(arguments: Mapping[str, object] | None) -> tuple[Schema, Schema]:
    """A schema of arguments as part of another one, and its definitions, which stand at the root of that.

    One that refers to another part of itself would refer to the wrong one: any object is taken in its place, since an
    edit is checked against the tool's schema too.
    """
    if arguments is None:
        return {"type": "object"}, {}
    inner = {name: value for name, value in arguments.items() if name not in _DEFINITIONS}
    definitions = {name: arguments[name] for name in _DEFINITIONS if name in arguments}
    places = tuple(f"#/{name}/" for name in definitions)
    if all(isinstance(one, str) and one.startswith(places) for one in _references([inner, definitions])):
        return inner, definitions
    return {"type": "object"}, {}


def _references(value: object) -> Iterator[object]:
    pending = [value]
    while pending:
        part = pending.pop()
        if isinstance(part, Mapping):
            yield from (part[name] for name in _REFERS if name in part)
            pending += part.values()
        elif isinstance(part, list):
            pending += part


def rows(keys: Sequence[str], allowed: Sequence[str]) -> Schema:
    """A decision on each row of a table, by the row's key."""
    one = record({"decision": {"type": "string", "enum": list(allowed)}, "comment": _COMMENT}, ["decision"])
    return record(dict.fromkeys(keys, one), list(keys))
