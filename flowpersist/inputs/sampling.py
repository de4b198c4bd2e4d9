"""The smallest value that a JSON Schema allows, for whoever needs some value of it: constants, enums, defaults and
examples first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias
from urllib.parse import unquote

from attrs import define, field
from returns.result import Failure, Result, Success

from flowpersist.errors import ConfigurationError, InputValidationError, PersistenceError, Problem
from flowpersist.inputs.json_pointers import unescaped
from flowpersist.inputs.json_schema import JsonSchema

__all__ = ["sample"]

_Schema: TypeAlias = Mapping[str, Any]

#: The most values of a sample, levels of its schema, and characters of one text.
MAX_VALUES: Final = 2_000
MAX_DEPTH: Final = 40
MAX_LENGTH: Final = 10_000
#: How many characters more than the least a text for a pattern may have.
_LONGER: Final = 16
_FORMATS: Final[Mapping[str, str]] = {
    "date": "2000-01-01",
    "date-time": "2000-01-01T00:00:00Z",
    "duration": "PT0S",
    "email": "a@example.com",
    "hostname": "example.com",
    "idn-email": "a@example.com",
    "idn-hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::",
    "iri": "https://example.com",
    "time": "00:00:00Z",
    "uri": "https://example.com",
    "uuid": "00000000-0000-0000-0000-000000000000",
}
#: The type that a keyword implies where none is given.
_IMPLIED: Final[Mapping[str, tuple[str, ...]]] = {
    "object": ("properties", "required", "additionalProperties", "minProperties", "patternProperties"),
    "array": ("items", "prefixItems", "minItems", "contains", "uniqueItems"),
    "string": ("minLength", "maxLength", "pattern", "format"),
    "number": ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum", "multipleOf"),
}
_LARGER: Final = frozenset({"minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties", "minContains"})
_SMALLER: Final = frozenset({"maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties"})


class _NoValueError(Exception):
    """No value was found for a part of the schema."""


def sample(schema: Mapping[str, object], *, what: str) -> Result[object, PersistenceError]:
    """A small value that fits the schema, the same for the same schema: the required properties only, the fewest items.

    ``what`` names the schema in errors. Failure: ``InputValidationError`` where no value is found, as for most
    patterns, ``ConfigurationError`` for a schema that can't be used.
    """
    try:
        checked = JsonSchema.of(schema, what=what)
    except ConfigurationError as error:
        return Failure(error)
    for suggested in (True, False):
        try:
            made = _Maker(schema, suggested).value(schema)
        # The others: of a reference to an anchor, and of numbers beyond a float's.
        except (_NoValueError, LookupError, TypeError, ValueError, ArithmeticError):
            continue
        if checked.fits(made):
            return Success(made)
    message = f"no value was found that fits {what}: give one"
    return Failure(InputValidationError(message, [Problem("", "is a schema for which no value was found")]))


@define
class _Maker:
    """Makes one value. ``suggested``: by the defaults and examples that the schema suggests."""

    root: _Schema
    suggested: bool
    left: int = MAX_VALUES
    #: The references that are being followed, so that none is followed within itself.
    trail: list[str] = field(factory=list)
    depth: int = 0

    def value(self, schema: object) -> Any:  # noqa: ANN401 - any JSON value
        """A value of a schema or of a part of one."""
        self.left -= 1
        if schema is False or self.left < 0 or self.depth > MAX_DEPTH:
            raise _NoValueError
        if not isinstance(schema, Mapping):
            return None
        self.depth += 1
        try:
            return self._value(schema)
        finally:
            self.depth -= 1

    def _value(self, schema: _Schema) -> Any:  # noqa: ANN401 - as above
        if "$ref" in schema:
            return self._referred(schema)
        if schema.get("allOf"):
            rest = {name: part for name, part in schema.items() if name != "allOf"}
            return self.value(self._merged([rest, *schema["allOf"]]))
        given = next(self._given(schema), None)
        if given is not None:
            return given[0]
        for name in ("anyOf", "oneOf"):
            if schema.get(name):
                rest = {key: part for key, part in schema.items() if key != name}
                return self._first([self._merged([rest, one]) for one in schema[name]], self.value)
        return self._first(_types(schema), lambda kind: _MAKERS[kind](self, schema))

    def _given(self, schema: _Schema) -> Iterator[tuple[object]]:
        """What the schema names itself."""
        if "const" in schema:
            yield (schema["const"],)
        if self.suggested and "default" in schema:
            yield (schema["default"],)
        if self.suggested and isinstance(schema.get("examples"), list):
            yield from ((one,) for one in schema["examples"])
        yield from ((one,) for one in schema.get("enum", ()))

    def _referred(self, schema: _Schema) -> Any:  # noqa: ANN401 - as above
        name = str(schema["$ref"])
        if name in self.trail:
            raise _NoValueError
        rest = {key: part for key, part in schema.items() if key != "$ref"}
        self.trail.append(name)
        try:
            return self.value(self._merged([rest, self._found(name)]))
        finally:
            self.trail.pop()

    def _found(self, name: str) -> object:
        found: Any = self.root
        for token in unquote(name).split("/")[1:]:
            found = found[int(token)] if isinstance(found, list) else found[unescaped(token)]
        return found

    def _first(self, choices: Sequence[Any], make: Callable[[Any], Any]) -> Any:  # noqa: ANN401 - as above
        for choice in choices:
            try:
                return make(choice)
            except _NoValueError:
                continue
        raise _NoValueError

    def _merged(self, schemas: Sequence[object]) -> object:
        """One schema that asks for what all of these do."""
        made: dict[str, Any] = {}
        for schema in schemas:
            if schema is False:
                return False
            for name, part in schema.items() if isinstance(schema, Mapping) else ():
                made[name] = _both(name, made[name], part) if name in made else part
        return made

    def text(self, schema: _Schema) -> str:
        """A text."""
        least = int(schema.get("minLength", 0))
        if least > MAX_LENGTH:
            raise _NoValueError
        if "pattern" in schema:
            return _matching(schema, least)
        return _FORMATS.get(str(schema.get("format")), "a" * least)

    def number(self, schema: _Schema) -> float:
        """A number: 0, or the nearest to it."""
        return _number(schema, whole=False)

    def whole(self, schema: _Schema) -> float:
        """The same of whole numbers."""
        return _number(schema, whole=True)

    def items(self, schema: _Schema) -> list[Any]:
        """A list."""
        least = max(int(schema.get("minItems", 0)), int(schema.get("minContains", 1)) if "contains" in schema else 0)
        if least > self.left:
            raise _NoValueError
        first = schema.get("prefixItems", ())
        rest = schema.get("items", schema.get("contains", True))
        if "contains" in schema:
            rest = self._merged([rest, schema["contains"]])
        parts = [first[index] if index < len(first) else rest for index in range(least)]
        made = [self.value(part) for part in parts]
        if schema.get("uniqueItems"):
            made = [_another(parts[index], one, index) for index, one in enumerate(made)]
        return made

    def members(self, schema: _Schema) -> dict[str, Any]:
        """An object."""
        known = schema.get("properties", {})
        named = list(schema.get("required", ()))
        least = int(schema.get("minProperties", 0))
        if least > self.left:
            raise _NoValueError
        others = [*known, *(f"a{number}" for number in range(least))]
        named += [name for name in others if name not in named][: max(0, least - len(named))]
        further = schema.get("additionalProperties", True)
        return {name: self.value(known.get(name, further)) for name in named}


_MAKERS: Final[Mapping[str, Callable[[_Maker, _Schema], Any]]] = {
    "null": lambda _maker, _schema: None,
    "boolean": lambda _maker, _schema: False,
    "string": _Maker.text,
    "number": _Maker.number,
    "integer": _Maker.whole,
    "array": _Maker.items,
    "object": _Maker.members,
}


def _types(schema: _Schema) -> list[str]:
    kinds = schema.get("type")
    if kinds is None:
        kinds = next((kind for kind, names in _IMPLIED.items() if not schema.keys().isdisjoint(names)), "null")
    return [kind for kind in ([kinds] if isinstance(kinds, str) else kinds) if kind in _MAKERS]


def _both(name: str, one: Any, other: Any) -> Any:  # noqa: ANN401 - values of keywords
    """What a keyword has to be for two of its values to hold."""
    return _TOGETHER[name](one, other) if name in _TOGETHER else other


def _all_properties(one: _Schema, other: _Schema) -> _Schema:
    shared = {key: {"allOf": [one[key], other[key]]} for key in one if key in other}
    return {**one, **other, **shared}


def _both_types(one: Any, other: Any) -> list[str]:  # noqa: ANN401 - a text or a list of them
    kinds, others = ([given] if isinstance(given, str) else given for given in (one, other))
    made = [kind for kind in kinds if kind in others or (kind == "integer" and "number" in others)]
    return made or (["integer"] if "number" in kinds and "integer" in others else [])


_TOGETHER: Final[Mapping[str, Callable[[Any, Any], Any]]] = {
    **dict.fromkeys(_LARGER, max),
    **dict.fromkeys(_SMALLER, min),
    "required": lambda one, other: list(dict.fromkeys([*one, *other])),
    "properties": _all_properties,
    "enum": lambda one, other: [each for each in one if each in other],
    "type": _both_types,
    "allOf": lambda one, other: [*one, *other],
}


def _matching(schema: _Schema, least: int) -> str:
    """A text of one character, repeated, for a pattern. Few patterns have one."""
    checked = JsonSchema.of({name: schema[name] for name in ("pattern", "maxLength") if name in schema})
    for length in range(least, least + _LONGER):
        for character in "a0A-":
            if checked.fits(character * length):
                return character * length
    raise _NoValueError


def _number(schema: _Schema, *, whole: bool) -> float:
    low, high = schema.get("minimum", -math.inf), schema.get("maximum", math.inf)
    above, below = schema.get("exclusiveMinimum", -math.inf), schema.get("exclusiveMaximum", math.inf)
    step = schema.get("multipleOf", 1 if whole else None)

    def fits(number: float) -> bool:
        return bool(low <= number <= high and above < number < below)

    lowest, highest = max(low, above), min(high, below)
    found = [0, lowest, highest]
    if math.isfinite(lowest):
        found.append(lowest + 1)
    if math.isfinite(highest):
        found.append(highest - 1)
    if math.isfinite(lowest) and math.isfinite(highest):
        found.append((lowest + highest) / 2)
    if step is not None:
        found = [step * (math.floor(one / step) + more) for one in found if math.isfinite(one) for more in (0, 1, -1)]
    for one in found:
        if math.isfinite(one) and fits(one):
            return int(one) if whole else one
    raise _NoValueError


def _another(schema: object, value: Any, index: int) -> Any:  # noqa: ANN401 - any JSON value
    """A value that differs from those before it, where that is easy."""
    if isinstance(schema, Mapping) and index < len(schema.get("enum", ())):
        return schema["enum"][index]
    if isinstance(value, int | float) and not isinstance(value, bool):
        step = schema.get("multipleOf", 1) if isinstance(schema, Mapping) else 1
        return value + index * step
    return value + str(index) if isinstance(value, str) else value
