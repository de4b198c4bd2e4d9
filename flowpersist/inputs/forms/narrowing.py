"""A JSON Schema within what a provider's strict form takes, with a report of what was changed for that.

What a form can't say is left out and described in words, since the answer is checked against the original schema in any
case. What can't be left out without a change of meaning is an obstacle: then the form is not strict, and has the
schema as it was.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from attrs import field, frozen

from flowpersist.inputs.forms.dialects import Dialect
from flowpersist.inputs.forms.limits import Narrowing, Node, over
from flowpersist.inputs.forms.references import defined, definition_name
from flowpersist.inputs.forms.restoring import restored
from flowpersist.inputs.json_pointers import escaped
from flowpersist.inputs.json_schema import JsonSchema

__all__ = ["Narrowed", "Narrowing", "narrow"]

#: Which keywords say something of values of a type.
_OF_TYPE: Final = {
    "string": frozenset({"minLength", "maxLength", "pattern", "format"}),
    "number": frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"}),
    "integer": frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"}),
    "array": frozenset(
        {"items", "prefixItems", "minItems", "maxItems", "uniqueItems", "contains", "minContains", "maxContains"}
    ),
    "object": frozenset(
        {"properties", "required", "additionalProperties", "minProperties", "maxProperties", "propertyNames"}
    ),
    "boolean": frozenset(),
    "null": frozenset(),
}
#: These change what is meant, and nothing in a strict form can stand for them.
_OBSTACLES: Final = ("patternProperties", "prefixItems", "$dynamicRef", "$dynamicAnchor", "$anchor")
#: Rules that only refuse: without them the form takes more.
_RULES: Final = frozenset(
    {"not", "if", "then", "else", "dependentRequired", "dependentSchemas", "dependencies", "unevaluatedProperties"}
    | {"unevaluatedItems"}
).union(*_OF_TYPE.values())
_ANNOTATIONS: Final = frozenset({"$schema", "$id", "$comment", "examples", "readOnly", "writeOnly", "deprecated"})
_STRUCTURE: Final = frozenset(
    {"type", "enum", "const", "anyOf", "oneOf", "allOf", "$ref", "$defs", "title", "description"}
)
_TEXTS: Final = frozenset({"title", "description"})
#: These decide how a node is made, whatever its type.
_FIRST: Final = ("$ref", "allOf", "enum", "const")
_LOOK_AROUND: Final = ("(?=", "(?!", "(?<=", "(?<!")
_SAID_UP_TO: Final = 200


@frozen
class Narrowed:
    """A schema in the form of a provider.

    - ``schema``: within what the strict form takes, or as it was where ``strict`` is false.
    - ``strict``: whether it could be made strict.
    - ``changes``: what was changed for that.
    - ``obstacles``: why it is not strict.
    """

    schema: Mapping[str, Any]
    strict: bool
    changes: tuple[Narrowing, ...]
    obstacles: tuple[Narrowing, ...]
    _original: Mapping[str, Any] = field(repr=False)

    def restore(self, value: object) -> object:
        """A value that fits the form, as the schema means it: null for a property that may be left out is left out.

        Raises ``InputValidationError`` where that takes too many steps.
        """
        return restored(value, self._original) if self.strict else value


def narrow(schema: Mapping[str, Any], dialect: Dialect) -> Narrowed:
    """The schema in a dialect. It must be one that ``JsonSchema`` takes: its size and depth are bounded there.

    - ``schema``: of an object.
    - ``dialect``: what the form takes.
    """
    narrower = _Narrower(dialect, schema)
    made = narrower.root()
    obstacles = tuple(narrower.obstacles) or tuple(over(made, dialect))
    if obstacles:
        return Narrowed(copy.deepcopy(dict(schema)), False, (), obstacles, schema)
    return Narrowed(made, True, tuple(narrower.changes), (), schema)


class _Narrower:
    def __init__(self, dialect: Dialect, root: Mapping[str, Any]) -> None:
        self._dialect = dialect
        self._root = root
        self._definitions: Mapping[str, Any] = root.get("$defs", {})
        self.changes: list[Narrowing] = []
        self.obstacles: list[Narrowing] = []

    def root(self) -> Node:
        node = dict(self._root)
        found = defined(node.get("$ref"), self._root)
        if isinstance(found, Mapping):
            # A strict form has an object at its root, not a reference.
            node = {**node, **found}
            del node["$ref"]
        if node.get("type", "object") != "object" or {"anyOf", "oneOf", "allOf", "enum", "const", "$ref"} & set(node):
            self._blocks("", "type", "the root must be an object, and no union")
            return {}
        made = self._object(node, "", root=True)
        if self._definitions:
            if not self._dialect.recursive and self._is_recursive():
                self._blocks("/$defs", "$ref", "a definition must not refer to itself")
            made["$defs"] = {
                name: self._node(one, f"/$defs/{escaped(name)}") for name, one in self._definitions.items()
            }
        return made

    def _is_recursive(self) -> bool:
        reached = {name: set(_references(one)) for name, one in self._definitions.items()}
        for _ in reached:
            reached = {name: ones.union(*(reached.get(one, set()) for one in ones)) for name, ones in reached.items()}
        return any(name in ones for name, ones in reached.items())

    def _node(self, node: object, pointer: str) -> Node:
        if not isinstance(node, Mapping) or not (_STRUCTURE - _TEXTS - {"$defs"}) & set(node):
            return self._untyped(node, pointer)
        for keyword in _OBSTACLES:
            if keyword in node:
                self._blocks(pointer, keyword, "has no counterpart")
        for keyword, made in self._composed.items():
            if keyword in node and (keyword in _FIRST or "type" not in node):
                return made(node, pointer)
        return self._typed(node, pointer)

    @property
    def _composed(self) -> dict[str, Callable[[Mapping[str, Any], str], Node]]:
        """How a node with a keyword is made; the first keyword decides."""
        return {
            "$ref": self._reference,
            "allOf": self._all_of,
            "anyOf": self._any_of,
            "oneOf": self._one_of,
            "enum": self._literals,
            "const": self._literals,
        }

    def _typed(self, node: Mapping[str, Any], pointer: str) -> Node:
        kinds = node.get("type")
        if isinstance(kinds, list) and len(kinds) != 1:
            return self._several(node, kinds, pointer)
        kind = kinds[0] if isinstance(kinds, list) else kinds
        if kind == "object":
            return self._object(node, pointer)
        if kind == "array":
            return self._array(node, pointer)
        return self._described(node, pointer, {"type": kind}, _OF_TYPE.get(str(kind), frozenset()))

    def _untyped(self, node: object, pointer: str) -> Node:
        if node is False:
            self._blocks(pointer, "false", "takes no value")
        elif not self._dialect.untyped:
            self._blocks(pointer, "type", "must have a type")
        return self._described(node if isinstance(node, Mapping) else {}, pointer, {}, frozenset())

    def _reference(self, node: Mapping[str, Any], pointer: str) -> Node:
        if defined(node["$ref"], self._root) is None:
            self._blocks(pointer, "$ref", "must refer to a definition of $defs")
        if (_RULES | _STRUCTURE - _TEXTS - {"$ref", "$defs"}) & set(node):
            self._blocks(pointer, "$ref", "must stand alone")
        reference = {"$ref": node["$ref"]}
        if not (_TEXTS | {"default"}) & set(node):
            return reference
        made = {"anyOf": [reference]} if self._dialect.lone_references else dict(reference)
        return self._described(node, pointer, made, frozenset())

    def _all_of(self, node: Mapping[str, Any], pointer: str) -> Node:
        made = self._single(node, "allOf", pointer)
        if made is None:
            self._blocks(pointer, "allOf", "has no counterpart")
        return made or {}

    def _single(self, node: Mapping[str, Any], keyword: str, pointer: str) -> Node | None:
        """The only member of a composition that stands alone; None where it is not that."""
        members = node[keyword]
        rest = {name: value for name, value in node.items() if name != keyword}
        if (_RULES | _STRUCTURE) & set(rest) - _TEXTS or len(members) != 1 or not isinstance(members[0], Mapping):
            return None
        return self._node({**members[0], **rest}, f"{pointer}/{keyword}/0")

    def _any_of(self, node: Mapping[str, Any], pointer: str) -> Node:
        return self._union(node, "anyOf", pointer)

    def _one_of(self, node: Mapping[str, Any], pointer: str) -> Node:
        kinds = [one.get("type") if isinstance(one, Mapping) else None for one in node["oneOf"]]
        apart = all(isinstance(kind, str) for kind in kinds) and len(set(kinds)) == len(kinds)
        if len(kinds) > 1:
            self._changes(pointer, "oneOf", "is anyOf", loosens=not apart or {"integer", "number"} <= set(kinds))
        return self._union(node, "oneOf", pointer)

    def _union(self, node: Mapping[str, Any], keyword: str, pointer: str) -> Node:
        single = self._single(node, keyword, pointer)
        if single is not None:
            return single
        members = enumerate(node[keyword])
        made = {"anyOf": [self._node(one, f"{pointer}/{keyword}/{at}") for at, one in members]}
        return self._described(node, pointer, made, frozenset(), own=frozenset({keyword}))

    def _several(self, node: Mapping[str, Any], kinds: list[str], pointer: str) -> Node:
        """A list of types, as a union: not every form takes the list."""
        annotations = {name: node[name] for name in ("title", "description", "default") if name in node}
        parts = []
        for kind in kinds:
            own = _OF_TYPE.get(kind, frozenset())
            part = {name: value for name, value in node.items() if name in own}
            parts.append(self._node({"type": kind, **part}, pointer))
        beside = {name: value for name, value in node.items() if name in _RULES and name not in _every(kinds)}
        return self._described({**annotations, **beside}, pointer, {"anyOf": parts}, frozenset())

    def _literals(self, node: Mapping[str, Any], pointer: str) -> Node:
        rules = JsonSchema.of({name: value for name, value in self._root.items() if name == "$defs"} | dict(node))
        values = [value for value in (node["enum"] if "enum" in node else [node["const"]]) if rules.fits(value)]
        if not values:
            self._blocks(pointer, "enum", "takes no value")
        if not all(value is None or isinstance(value, str | int | float) for value in values):
            self._blocks(pointer, "enum", "must have only texts, numbers, booleans and null")
        made: Node = {}
        kinds = {_kind(value) for value in values}
        if self._dialect.typed_literals and len(kinds) == 1:
            made["type"] = kinds.pop()
        if "enum" in node or not self._dialect.const:
            made["enum"] = values
        else:
            made["const"] = node["const"]
        # The other rules have chosen among the values.
        return self._described({name: node[name] for name in (*_TEXTS, "default") if name in node}, pointer, made)

    def _object(self, node: Mapping[str, Any], pointer: str, *, root: bool = False) -> Node:
        properties: Mapping[str, Any] = node.get("properties", {})
        required = [name for name in node.get("required", []) if isinstance(name, str)]
        if not set(required) <= set(properties):
            self._blocks(pointer, "required", "must name properties only")
        made: Node = {"type": "object", "properties": {}}
        for name, one in properties.items():
            place = f"{pointer}/properties/{escaped(name)}"
            value = self._node(one, place)
            optional = name not in required and not self._dialect.optional
            made["properties"][name] = self._nullable(value, place) if optional else value
        made |= self._others(node, pointer, root=root)
        if not self._dialect.optional:
            made["required"] = list(properties)
        elif "required" in node:
            made["required"] = required
        own = frozenset({"properties", "required", "additionalProperties"})
        return self._described(node, pointer, made, _OF_TYPE["object"], own=own)

    def _others(self, node: Mapping[str, Any], pointer: str, *, root: bool) -> Node:
        """What is said of properties without a name."""
        given = node.get("additionalProperties", True)
        if not self._dialect.closed:
            kept = given if isinstance(given, bool) else self._node(given, f"{pointer}/additionalProperties")
            return {"additionalProperties": kept} if "additionalProperties" in node else {}
        nameless = not node.get("properties") and given is not False
        # A root without properties says that there are no arguments.
        if nameless and not (root and given is True):
            self._blocks(pointer, "additionalProperties", "an object must name its properties")
        elif given is not False and "additionalProperties" in node:
            self._changes(pointer, "additionalProperties", "is false: only named properties are taken")
        return {"additionalProperties": False}

    def _nullable(self, value: Node, pointer: str) -> Node:
        self._changes(pointer, "required", "is required, and null where it is left out")
        null = {"type": "null"}
        if "anyOf" in value:
            return value if null in value["anyOf"] else {**value, "anyOf": [*value["anyOf"], null]}
        return value if value == null else {"anyOf": [value, null]}

    def _array(self, node: Mapping[str, Any], pointer: str) -> Node:
        made: Node = {"type": "array"}
        if "items" in node or not self._dialect.untyped:
            made["items"] = self._node(node.get("items", True), f"{pointer}/items")
        return self._described(node, pointer, made, _OF_TYPE["array"], own=frozenset({"items"}))

    def _described(
        self,
        node: Mapping[str, Any],
        pointer: str,
        made: Node,
        applying: frozenset[str] = frozenset(),
        own: frozenset[str] = frozenset(),
    ) -> Node:
        """The node with what is kept of its keywords, and the others in words."""
        words = [str(node["description"])] if node.get("description") else []
        done = own | set(made) | {"type", "description", "$defs", "$ref"}
        for keyword, value in node.items():
            if keyword not in done and (said := self._kept(keyword, value, pointer, made, applying)):
                words.append(said)
        if words:
            made["description"] = " ".join(words)
        return made

    def _kept(self, keyword: str, value: object, pointer: str, made: Node, applying: frozenset[str]) -> str | None:
        """Keep one keyword, or give what is said of it instead."""
        if (keyword == "title" and self._dialect.titles) or (keyword in applying and self._keeps(keyword, value)):
            made[keyword] = value
            return None
        if keyword in _RULES | {"default", "anyOf", "oneOf", "enum", "const"}:
            # A rule for values of another type refuses nothing, and neither does a default.
            idle = keyword == "default" or (keyword in _every(_OF_TYPE) and "type" in made and keyword not in applying)
            self._changes(pointer, keyword, "stands in the description only", loosens=not idle)
            return _said(keyword, value)
        if keyword not in _ANNOTATIONS and keyword != "title":
            self._changes(pointer, keyword, "is left out")
        return None

    def _keeps(self, keyword: str, value: object) -> bool:
        if keyword == "format":
            return value in self._dialect.formats
        if keyword == "minItems" and self._dialect.min_items is not None:
            return isinstance(value, int) and value <= self._dialect.min_items
        if keyword == "pattern" and any(token in str(value) for token in _LOOK_AROUND):
            return False
        return keyword in self._dialect.keywords

    def _changes(self, pointer: str, keyword: str, what: str, *, loosens: bool = False) -> None:
        self.changes.append(Narrowing(pointer, keyword, what, loosens))

    def _blocks(self, pointer: str, keyword: str, what: str) -> None:
        self.obstacles.append(Narrowing(pointer, keyword, f"{self._dialect.name}'s strict form: {what}"))


def _every(kinds: Any) -> frozenset[str]:  # noqa: ANN401 - names of types
    return frozenset().union(*(_OF_TYPE.get(kind, frozenset()) for kind in kinds))


def _kind(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    return "string" if isinstance(value, str) else "integer" if isinstance(value, int) else "number"


def _said(keyword: str, value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return f"({keyword}: {text if len(text) <= _SAID_UP_TO else text[:_SAID_UP_TO] + '…'})"


def _references(node: object) -> Iterator[str]:
    if isinstance(node, Mapping):
        name = definition_name(node.get("$ref"))
        if name is not None:
            yield name
        for one in node.values():
            yield from _references(one)
    elif isinstance(node, list):
        for one in node:
            yield from _references(one)
