"""The parts of a JSON Schema as a validator comes to them: which it asks about the same value, which about a child.

Every keyword of every draft that applies a schema is followed, and every reference. What the validator does not come
to (definitions that nothing refers to, data in ``const`` or ``default``) is not looked at.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final
from urllib.parse import unquote_to_bytes

from attrs import Factory, define, field

from flowpersist.inputs.json_pointers import unescaped

__all__ = ["ERROR", "Graph", "Part", "SchemaCostError"]

#: Parts, and references among them, that a schema may have.
MAX_PARTS: Final = 5_000
MAX_REFERENCES: Final = 1_000
#: Making one error.
ERROR: Final = 80
#: A fraction, or an integer of more than 64 bits, is compared as a decimal text.
SLOW_NUMBER: Final = 100
SLOW_DIVISION: Final = 200
SLOWEST_DIVISION: Final = 800
#: Formats look at each character once or twice.
FORMAT: Final = 2
#: ``unevaluated…`` asks again what each keyword that it looks through has asked already: 2.4 to 3.3 times the work at
#: each step of a chain, as measured.
UNEVALUATED_FACTOR: Final = 4
_UNEVALUATED: Final = ("unevaluatedProperties", "unevaluatedItems")
#: References that depend on where a schema was entered from, or on names given elsewhere in it.
_UNBOUNDED: Final = ("$dynamicRef", "$recursiveRef")
#: Asked about the same value; and whether twice where errors are made: whether it is valid, and why not.
_SAME: Final[Mapping[str, bool]] = {
    "allOf": False,
    "anyOf": True,
    "oneOf": True,
    "not": True,
    "if": True,
    "then": False,
    "else": False,
    "dependentSchemas": False,
    "dependencies": False,
}
#: Asked about children: of which kind, and whether twice where errors are made.
_BELOW: Final[Mapping[str, tuple[str, bool]]] = {
    "properties": ("property", False),
    "patternProperties": ("property", False),
    "additionalProperties": ("property", False),
    "unevaluatedProperties": ("property", True),
    "propertyNames": ("key", True),
    "items": ("item", False),
    "prefixItems": ("item", False),
    "additionalItems": ("item", False),
    "unevaluatedItems": ("item", True),
    "contains": ("item", True),
}
#: Where a keyword's value names single children: properties by name, items by place.
_BY_NAME: Final = frozenset({"properties"})
_MAPPINGS: Final = frozenset({"properties", "patternProperties", "dependentSchemas", "dependencies"})
#: Keywords by which what is found below a value depends on what stands beside it.
_NOT_LOCAL: Final = ("if", "dependentSchemas", "dependencies", *_UNEVALUATED)
_WITH_CONTEXT: Final = ("anyOf", "oneOf", "propertyNames")
_BY_PLACE: Final = ("prefixItems", "additionalItems")


class SchemaCostError(ValueError):
    """The schema refers to itself in a way that is not bounded here; the message says how."""


@define(eq=False)
class Part:
    """One schema within a schema, and what it costs to ask it about a value: steps, steps for a character, and what its
    own errors cost. ``height`` is the longest way through parts that are asked about the same value.
    """

    schema: Mapping[str, Any] = field(repr=False)
    same: list[tuple[Part, float, bool]] = Factory(list)
    below: list[tuple[Part, str, object, float, bool]] = Factory(list)
    steps: float = 1
    text_steps: float = 0
    error_steps: float = ERROR
    height: int = 1


@define(eq=False)
class Graph:
    """The parts of a schema, each before those that it asks about the same value."""

    root: Part
    places: Mapping[Part, int]
    #: Whether ``uniqueItems`` stands anywhere; whether errors below a value are its own, whatever stands beside it;
    #: whether one error holds no others; whether keys are asked about.
    unique: bool
    local: bool
    flat: bool
    named: bool

    @classmethod
    def of(cls, schema: Mapping[str, Any], weigh: Callable[[str], float]) -> Graph:
        """``SchemaCostError`` for what can't be bounded."""
        builder = _Builder(schema, weigh)
        root = builder.part(schema)
        while builder.pending:
            builder.expand(builder.pending.pop())
        parts = [builder.nothing, *builder.parts.values()]
        ordered = _ordered(parts)
        _spread_unevaluated(ordered)
        used = {name for part in parts for name in part.schema}
        local = used.isdisjoint(_NOT_LOCAL) and used.isdisjoint(_BY_PLACE)
        local = local and not any(isinstance(part.schema.get("items"), list) for part in parts)
        places = {part: place for place, part in enumerate(ordered)}
        return cls(root, places, "uniqueItems" in used, local, used.isdisjoint(_WITH_CONTEXT), "propertyNames" in used)

    def closure(self, part: Part) -> dict[Part, tuple[float, float, float]]:
        """All that a part asks about the same value, itself included: how often each is asked where the part is asked;
        and asked, and told, where the part is told why a value is not valid.
        """
        reached, pending = {part}, [part]
        while pending:
            for other, _, _ in pending.pop().same:
                if other not in reached:
                    reached.add(other)
                    pending.append(other)
        counts = dict.fromkeys(sorted(reached, key=self.places.__getitem__), (0.0, 0.0, 0.0))
        counts[part] = (1.0, 0.0, 1.0)
        for one, (asked, again, told) in counts.items():
            for other, times, twice in one.same:
                before = counts[other]
                further = again + (told if twice else 0)
                counts[other] = (before[0] + times * asked, before[1] + times * further, before[2] + times * told)
        return counts


@define
class _Builder:
    root: Mapping[str, Any]
    weigh: Callable[[str], float]
    parts: dict[int, Part] = Factory(dict)
    pending: list[Part] = Factory(list)
    #: Stands for true and false, which are schemas too.
    nothing: Part = Factory(lambda: Part({}))
    references: int = 0

    def part(self, schema: object) -> Part:
        """The part of a schema that is used in a place where one may stand."""
        if not isinstance(schema, Mapping):
            return self.nothing
        found = self.parts.get(id(schema))
        if found is None:
            if len(self.parts) >= MAX_PARTS:
                msg = f"it has more than {MAX_PARTS} parts"
                raise SchemaCostError(msg)
            found = self.parts[id(schema)] = Part(schema)
            self.pending.append(found)
        return found

    def expand(self, part: Part) -> None:
        """Find what a part asks, and what it costs by itself."""
        schema = part.schema
        self._refuse(schema)
        for name, value in schema.items():
            if name in _SAME:
                part.same.extend((self.part(one), 1.0, _SAME[name]) for _, one in _schemas(name, value))
            elif name in _BELOW:
                kind, twice = _BELOW[name]
                part.below.extend((self.part(one), kind, which, 1.0, twice) for which, one in _schemas(name, value))
        patterns = schema.get("patternProperties")
        if isinstance(patterns, Mapping):
            part.below.append((self._matcher(patterns), "key", None, 1.0, True))
        if isinstance(schema.get("$ref"), str):
            part.same.append((self.part(self._target(schema["$ref"])), 1.0, False))
        part.steps = 1 + _steps(schema)
        part.text_steps = self._text_steps(schema)
        part.error_steps = _error_steps(schema)

    def _matcher(self, patterns: Mapping[str, Any]) -> Part:
        """What each key is matched with, and again where the others are looked for."""
        matcher = self.parts.get(id(patterns))
        if matcher is None:
            text_steps = 2 * sum(self.weigh(pattern) for pattern in patterns)
            matcher = self.parts[id(patterns)] = Part({}, steps=2.0 * len(patterns), text_steps=text_steps)
        return matcher

    def _refuse(self, schema: Mapping[str, Any]) -> None:
        for name in _UNBOUNDED:
            if name in schema:
                msg = f"it has {name}, which can't be bounded: use $ref"
                raise SchemaCostError(msg)
        self.refuse_identity(schema)

    def refuse_identity(self, schema: Mapping[str, Any]) -> None:
        """Below such a name, references mean something else."""
        if schema is self.root:
            return
        names = ("$id", "id") if "draft-04" in str(self.root.get("$schema")) else ("$id",)
        name = next((name for name in names if isinstance(schema.get(name), str)), None)
        if name is not None:
            msg = f"it has {name} below its root, which gives references another meaning: leave it out"
            raise SchemaCostError(msg)
        if "$schema" in schema:
            msg = "it has $schema below its root, which gives keywords another meaning: leave it out"
            raise SchemaCostError(msg)

    def _text_steps(self, schema: Mapping[str, Any]) -> float:
        pattern = schema.get("pattern")
        steps = self.weigh(pattern) if isinstance(pattern, str) else 0.0
        if any(isinstance(schema.get(name), str) for name in ("format", "contentMediaType", "contentEncoding")):
            steps += FORMAT
        return steps

    def _target(self, reference: str) -> Mapping[str, Any] | bool:
        self.references += 1
        if self.references > MAX_REFERENCES:
            msg = f"it has more than {MAX_REFERENCES} references"
            raise SchemaCostError(msg)
        if reference != "#" and not reference.startswith("#/"):
            msg = f"it refers to {reference[:80]!r}: use a JSON pointer within the schema, as #/$defs/name"
            raise SchemaCostError(msg)
        found: object = self.root
        for token in _tokens(reference):
            if isinstance(found, Mapping):
                self.refuse_identity(found)
                found = found.get(token)
            elif isinstance(found, list) and re.fullmatch(r"0|[1-9]\d{0,5}", token) and int(token) < len(found):
                found = found[int(token)]
            else:
                found = None
        if isinstance(found, Mapping | bool):
            return found
        msg = f"it refers to {reference[:80]!r}, which is not a schema in it"
        raise SchemaCostError(msg)


def _tokens(reference: str) -> list[str]:
    if len(reference) < 2:  # noqa: PLR2004 - the root itself
        return []
    try:
        pointer = unquote_to_bytes(reference[2:]).decode()
    except UnicodeDecodeError:
        msg = f"it refers to {reference[:80]!r}, which is not a JSON pointer"
        raise SchemaCostError(msg) from None
    return [unescaped(token) for token in pointer.split("/")]


def _schemas(name: str, value: object) -> Iterator[tuple[object, object]]:
    """The schemas in a keyword's value, each with what it is about: a property, a place; None: any."""
    if name in _MAPPINGS and isinstance(value, Mapping):
        for key, one in value.items():
            if isinstance(one, Mapping | bool):
                yield (key if name in _BY_NAME else None), one
    elif isinstance(value, list):
        yield from ((place if name in _BELOW else None, one) for place, one in enumerate(value))
    elif isinstance(value, Mapping | bool):
        yield None, value


def _steps(schema: Mapping[str, Any]) -> float:
    """What a schema's own keywords cost, without the parts that they ask."""
    steps = float(len(schema))
    options = schema.get("enum")
    if isinstance(options, list):
        steps += _options(options)
    if "const" in schema:
        steps += _options([schema["const"]])
    divisor = schema.get("multipleOf", schema.get("divisibleBy"))
    if isinstance(divisor, float):
        steps += SLOW_DIVISION if 1e-20 < abs(divisor) < 1e20 else SLOWEST_DIVISION  # noqa: PLR2004
    for name in ("required", "dependentRequired", "dependencies"):
        steps += _entries(schema.get(name)) / 4
    return steps


def _options(options: list[Any]) -> float:
    """Texts and integers are looked up, everything else is compared one by one."""
    if all(isinstance(option, str | bool) or option is None or _is_small(option) for option in options):
        return 2
    return sum(SLOW_NUMBER if isinstance(part, int | float) and not _is_small(part) else 1 for part in _parts(options))


def _is_small(value: object) -> bool:
    return isinstance(value, int) and value.bit_length() < 64  # noqa: PLR2004 - what fits a register


def _error_steps(schema: Mapping[str, Any]) -> float:
    """What the errors of a schema's own keywords cost. Some hold a copy of the keyword's value."""
    steps = float(ERROR * (1 + sum(name not in _BELOW for name in schema)))
    for name in ("enum", "const", "not"):
        if name in schema:
            steps += 6 * sum(1 + (len(part) // 200 if isinstance(part, str) else 0) for part in _parts(schema[name]))
    for name in ("required", "dependentRequired", "dependencies"):
        steps += ERROR * _entries(schema.get(name))
    return steps


def _entries(value: object) -> int:
    if isinstance(value, Mapping):
        return len(value) + sum(len(item) for item in value.values() if isinstance(item, list))
    return len(value) if isinstance(value, list) else 0


def _parts(value: object) -> Iterator[object]:
    pending = [value]
    while pending:
        part = pending.pop()
        yield part
        if isinstance(part, Mapping):
            pending.extend(part.values())
        elif isinstance(part, list):
            pending.extend(part)


def _ordered(parts: list[Part]) -> list[Part]:
    """Each part before those that it asks about the same value; heights are set on the way."""
    entered: set[Part] = set()
    within: set[Part] = set()
    ordered: list[Part] = []
    for start in parts:
        pending = [(start, True)]
        while pending:
            part, entering = pending.pop()
            if not entering:
                within.discard(part)
                part.height = 1 + max((other.height for other, _, _ in part.same), default=0)
                ordered.append(part)
            elif part in within:
                msg = "it refers to itself for the same value"
                raise SchemaCostError(msg)
            elif part not in entered:
                entered.add(part)
                within.add(part)
                pending.append((part, False))
                # Those that are entered and left already are no circle.
                pending.extend((other, True) for other, _, _ in part.same if other not in entered or other in within)
    ordered.reverse()
    return ordered


def _spread_unevaluated(ordered: list[Part]) -> None:
    touched: set[Part] = {part for part in ordered if any(name in part.schema for name in _UNEVALUATED)}
    for part in ordered:
        if part in touched:
            part.same = [(other, times * UNEVALUATED_FACTOR, twice) for other, times, twice in part.same]
            part.below = [
                (other, kind, which, times * (UNEVALUATED_FACTOR if twice else 1), twice)
                for other, kind, which, times, twice in part.below
            ]
            touched.update(other for other, _, _ in part.same)
