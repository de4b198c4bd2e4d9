"""The answer's schema as the fields of a flat form: what a person fills in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from attrs import field, frozen

from flowpersist.inputs.forms.references import resolved
from flowpersist.inputs.json_pointers import escaped

__all__ = ["ANSWER", "Field", "field_pointer", "fields_of", "is_flat", "rules_beyond"]

#: The name of the only field where the answer is not an object.
ANSWER: Final = "answer"
_RULES: Final = {
    "string": ("minLength", "maxLength", "pattern", "format"),
    "integer": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    "array": ("minItems", "maxItems", "uniqueItems"),
    "boolean": (),
}
_TEXTS: Final = ("title", "description", "default")
_FLAT: Final = frozenset(
    {"type", "properties", "required", "additionalProperties", "title", "description", "default", "$defs", "$schema"}
)
_IDLE: Final = frozenset({"type", "enum", "const", "oneOf", "anyOf", "items", "$schema", "examples", "$comment"})


@frozen
class Field:
    """One field of a form.

    - ``name``: of the property; ``ANSWER`` where the answer is not an object.
    - ``kind``: ``string``, ``integer``, ``number``, ``boolean``, ``choice``, ``choices`` or ``json``: what has no
      simpler field.
    - ``required``: whether it must be filled in.
    - ``label``, ``help``, ``default``: of the schema's ``title``, ``description`` and ``default``; None: none.
    - ``options``: of a choice, each a value and its label.
    - ``rules``: of the value, as JSON Schema names them.
    - ``lacks``: what of the schema the field can't say.
    """

    name: str
    kind: str
    required: bool
    label: str
    help: str | None = None
    default: object = None
    options: tuple[tuple[object, str], ...] = ()
    rules: Mapping[str, object] = field(factory=dict)
    lacks: tuple[str, ...] = ()


def fields_of(schema: Mapping[str, Any]) -> tuple[Field, ...]:
    """The fields of an answer's schema; a schema that is not one of an object is one field."""
    root = resolved(schema, schema)
    if not is_flat(schema):
        return (_field(ANSWER, schema, schema, required=True),)
    required = root.get("required", ())
    return tuple(_field(name, one, schema, required=name in required) for name, one in root["properties"].items())


def field_pointer(name: str, schema: Mapping[str, Any]) -> str:
    """The JSON pointer of a field's value within the answer."""
    # A property may have the name that stands for an answer which is no object.
    return "" if not is_flat(schema) else "/" + escaped(name)


def is_flat(schema: Mapping[str, Any]) -> bool:
    """Whether each property of the answer is a field."""
    root = resolved(schema, schema)
    return root.get("type") == "object" and isinstance(root.get("properties"), Mapping) and not _composed(root)


def rules_beyond(schema: Mapping[str, Any]) -> list[str]:
    """The rules of a flat schema over its properties together, which no field can say."""
    if not is_flat(schema):
        return []
    return sorted(set(resolved(schema, schema)) - _FLAT)


def _composed(schema: Mapping[str, Any]) -> bool:
    return bool({"anyOf", "oneOf", "allOf", "not", "if", "$ref", "patternProperties"} & set(schema))


def _field(name: str, given: object, root: Mapping[str, Any], *, required: bool) -> Field:
    node = dict(resolved(given, root))
    # What may be null is what need not be filled in.
    plain = _without_null(node, root)
    if plain is not None:
        node = {**{key: node[key] for key in _TEXTS if key in node}, **plain}
        required = False
    label = str(node.get("title", name.replace("_", " ")))
    texts: Any = {"help": node.get("description"), "default": node.get("default")}
    options = tuple(_options(node))
    if options:
        return Field(name, "choice", required, label, options=options, lacks=_lacks(node, ()), **texts)
    kind = node.get("type")
    if kind == "array":
        items = resolved(node.get("items", {}), root)
        options = tuple(_options(items))
        if options:
            rules = {key: node[key] for key in _RULES["array"] if key in node}
            lacks = _lacks(node, _RULES["array"])
            return Field(name, "choices", required, label, options=options, rules=rules, lacks=lacks, **texts)
    if not isinstance(kind, str) or kind not in _RULES or kind == "array":
        return Field(name, "json", required, label, lacks=("a nested value",), **texts)
    rules = {key: node[key] for key in _RULES[kind] if key in node}
    return Field(name, kind, required, label, rules=rules, lacks=_lacks(node, _RULES[kind]), **texts)


def _lacks(node: Mapping[str, Any], rules: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted(set(node) - set(rules) - set(_TEXTS) - _IDLE))


def _without_null(node: Mapping[str, Any], root: Mapping[str, Any]) -> Mapping[str, Any] | None:
    kinds = node.get("type")
    if isinstance(kinds, list) and "null" in kinds and len(kinds) == 2:  # noqa: PLR2004 - null and one other
        return {**node, "type": next(kind for kind in kinds if kind != "null")}
    members = node.get("anyOf")
    if isinstance(members, list) and {"type": "null"} in members and len(members) == 2:  # noqa: PLR2004 - as above
        return resolved(next(one for one in members if one != {"type": "null"}), root)
    return None


def _options(node: Mapping[str, Any]) -> Iterator[tuple[object, str]]:
    """The values of an enum, and those of constants with titles."""
    if "const" in node:
        yield node["const"], str(node.get("title", node["const"]))
    for value in node.get("enum", ()):
        yield value, str(value)
    members = node.get("oneOf", node.get("anyOf"))
    if isinstance(members, list) and all(isinstance(one, Mapping) and "const" in one for one in members):
        for one in members:
            yield one["const"], str(one.get("title", one["const"]))
