"""Which arguments a rule means: a JSON Schema of them, or the values that some of them have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from attrs import field, frozen
from returns.result import Failure, Success

from flowpersist.errors import ConfigurationError
from flowpersist.errors.arguments import check_mapping
from flowpersist.inputs.json_schema import JsonSchema, check_json
from flowpersist.lifecycle.shown import canonical_json

__all__ = ["Pattern", "check_pattern", "fitting"]

#: Where schemas stand in a schema: as the value, in a list, by name.
_ONE: Final = frozenset(
    {
        "additionalProperties",
        "contains",
        "contentSchema",
        "else",
        "if",
        "items",
        "not",
        "propertyNames",
        "then",
        "unevaluatedItems",
        "unevaluatedProperties",
    }
)
_LISTED: Final = frozenset({"allOf", "anyOf", "oneOf", "prefixItems"})
_NAMED: Final = frozenset({"$defs", "definitions", "dependentSchemas", "patternProperties", "properties"})
_RULES: Final = frozenset(
    {
        "const",
        "dependentRequired",
        "enum",
        "exclusiveMaximum",
        "exclusiveMinimum",
        "format",
        "maxContains",
        "maxItems",
        "maxLength",
        "maxProperties",
        "maximum",
        "minContains",
        "minItems",
        "minLength",
        "minProperties",
        "minimum",
        "multipleOf",
        "pattern",
        "required",
        "type",
        "uniqueItems",
    }
)
_NOTES: Final = frozenset(
    {
        "$anchor",
        "$comment",
        "$id",
        "$ref",
        "$schema",
        "contentEncoding",
        "contentMediaType",
        "default",
        "deprecated",
        "description",
        "examples",
        "readOnly",
        "title",
        "writeOnly",
    }
)
_KNOWN: Final = _ONE | _LISTED | _NAMED | _RULES | _NOTES


def check_pattern(schema: object, name: str) -> Mapping[str, object]:
    """A JSON Schema of a call's arguments. ``ConfigurationError`` for an invalid one, and for an unknown keyword.

    JSON Schema itself passes over an unknown keyword, so that one that is misspelled would fit every call.
    """
    check_mapping(schema, name)
    given: Mapping[str, Any] = dict(schema)  # type: ignore[call-overload]
    JsonSchema.of(given, what=f"the {name}")
    for place, keyword in _unknown(given):
        message = (
            f"Invalid {name}: expected keywords of JSON Schema, not {keyword!r:.80} at {place or 'its root'}; "
            "rules for an argument stand below properties"
        )
        raise ConfigurationError(message, name)
    return given


def _unknown(schema: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The place and name of each unknown keyword. The schema is valid and of bounded depth."""
    pending: list[tuple[str, Any]] = [("", schema)]
    while pending:
        place, node = pending.pop()
        if not isinstance(node, Mapping):
            continue
        for keyword, value in node.items():
            below = f"{place}/{keyword}"
            if keyword not in _KNOWN:
                yield place[:200], keyword
            elif keyword in _ONE:
                pending.append((below, value))
            elif keyword in _LISTED:
                pending += [(f"{below}/{number}", part) for number, part in enumerate(value)]
            elif keyword in _NAMED:
                pending += [(f"{below}/{part}", inner) for part, inner in value.items()]


def fitting(schema: Mapping[str, object], arguments: Mapping[str, object]) -> bool | None:
    """Whether arguments fit a schema; None where they are too large to say."""
    compiled, given = JsonSchema.of(schema), dict(arguments)
    return compiled.fits(given) if isinstance(compiled.within(given, what="the arguments"), Success) else None


@frozen
class Pattern:
    """Arguments that fit: all of ``equal`` have these values, and the whole fits ``schema``."""

    equal: Mapping[str, object] | None = field(default=None, repr=False)
    schema: Mapping[str, object] | None = field(default=None, repr=False)

    @classmethod
    def of(cls, arguments: object, schema: object) -> Pattern:
        """Check what a caller gives. ``ConfigurationError`` unless it is one of both."""
        if (arguments is None) == (schema is None):
            message = "Invalid arguments: expected either arguments, a mapping of values, or schema, a JSON Schema"
            raise ConfigurationError(f"{message}; arguments={{}} means every call", "arguments")
        if schema is not None:
            return cls(None, check_pattern(schema, "schema"))
        check_mapping(arguments, "arguments")
        given: dict[str, object] = dict(arguments)  # type: ignore[call-overload]
        checked = check_json(given, what="arguments")
        if isinstance(checked, Failure):
            raise ConfigurationError(f"Invalid arguments: {checked.failure()}", "arguments")
        return cls(given, None)

    def fits(self, arguments: Mapping[str, object]) -> bool:
        """Whether a call's arguments fit."""
        equal = self.equal or {}
        if any(name not in arguments or not _same(arguments[name], value) for name, value in equal.items()):
            return False
        return self.schema is None or fitting(self.schema, arguments) is True


def _same(one: object, other: object) -> bool:
    # As JSON: 1 and 1.0 are the same number, and true is none.
    return canonical_json(one) == canonical_json(other)
