"""How much work a JSON Schema can make of a small instance, found before it is used.

A schema may name a part of itself several times for one value (``allOf`` of two references, each of which does so
again): work that doubles at each step. Here a schema's references are followed as a validator would for one value, with
a bound on the steps; and a schema that contains itself gets a bound on the depth of its instances, the lower the more
often it names itself for one value.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from attrs import define

__all__ = ["SchemaCostError", "depth_limit"]

#: Schemas that may be asked about one value, and that one may be asked about all in all.
MAX_STEPS: Final = 1_000
MAX_STEPS_IN_ALL: Final = 50_000
MAX_VISITS: Final = 100_000
#: Keywords whose schemas are asked about the very same value: their work adds up.
_SAME_VALUE: Final = ("allOf", "anyOf", "oneOf", "not", "if", "then", "else", "dependentSchemas")
#: References that depend on where a schema was entered from, or on names given elsewhere in it.
_UNBOUNDED: Final = ("$dynamicRef", "$recursiveRef")


class SchemaCostError(ValueError):
    """The schema refers to itself in a way that is not bounded here; the message says how."""


def depth_limit(schema: Mapping[str, object], most: int) -> int:
    """How deep instances may be; ``most`` where the schema does not contain itself."""
    costs = _Costs(schema)
    repeats = max((costs.repeats(part) for part in _parts(schema)), default=1)
    if repeats <= 1 or not costs.recursive():
        return most
    return min(most, max(2, int(math.log(MAX_VISITS, repeats))))


def _parts(schema: object) -> Iterator[Mapping[str, Any]]:
    """All mappings within a schema, itself included; those that are no schemas cost nothing."""
    pending = [schema]
    while pending:
        part = pending.pop()
        if isinstance(part, Mapping):
            yield part
            pending.extend(part.values())
        elif isinstance(part, list):
            pending.extend(part)


@define
class _Costs:
    root: Mapping[str, Any]
    _steps: int = 0

    def repeats(self, part: Mapping[str, Any]) -> int:
        """How many references are followed for one value that this part is asked about."""
        steps = references = 0
        pending = [(part, frozenset[int]())]
        while pending:
            schema, within = pending.pop()
            steps += 1
            self._steps += 1
            if steps > MAX_STEPS or self._steps > MAX_STEPS_IN_ALL:
                msg = f"it asks more than {MAX_STEPS} of its parts about one value"
                raise SchemaCostError(msg)
            if id(schema) in within:
                msg = "it refers to itself without going on to another value"
                raise SchemaCostError(msg)
            inner = within | {id(schema)}
            pending.extend((same, inner) for same in _same_value(schema))
            target = self._target(schema)
            if target is not None:
                references += 1
                pending.append((target, inner))
        return references

    def recursive(self) -> bool:
        """Whether the schema contains itself: a walk along parts and references comes back to where it is."""
        entered: set[int] = set()
        within: set[int] = set()
        pending: list[tuple[object, bool]] = [(self.root, True)]
        while pending:
            part, entering = pending.pop()
            if not entering:
                within.discard(id(part))
            elif id(part) in within:
                return True
            elif id(part) not in entered:
                entered.add(id(part))
                within.add(id(part))
                pending.append((part, False))
                pending.extend((inner, True) for inner in self._inner(part))
        return False

    def _inner(self, part: object) -> Iterator[object]:
        if isinstance(part, Mapping):
            yield from (value for value in part.values() if isinstance(value, Mapping | list))
            target = self._target(part)
            if target is not None:
                yield target
        elif isinstance(part, list):
            yield from (value for value in part if isinstance(value, Mapping | list))

    def _target(self, schema: Mapping[str, Any]) -> Mapping[str, Any] | None:
        for name in _UNBOUNDED:
            if name in schema:
                msg = f"it has {name}, which can't be bounded: use $ref"
                raise SchemaCostError(msg)
        reference = schema.get("$ref")
        if not isinstance(reference, str):
            return None
        target = self._at(reference)
        return target if isinstance(target, Mapping) else None

    def _at(self, reference: str) -> object:
        if reference != "#" and not reference.startswith("#/"):
            msg = f"it refers to {reference[:80]!r}: use a JSON pointer within the schema, as #/$defs/name"
            raise SchemaCostError(msg)
        found: object = self.root
        for token in reference[2:].split("/") if len(reference) > 1 else ():
            name = token.replace("~1", "/").replace("~0", "~")
            if isinstance(found, Mapping):
                found = found.get(name)
            elif isinstance(found, list) and re.fullmatch(r"\d{1,6}", name) and int(name) < len(found):
                found = found[int(name)]
            else:
                return None
        return found


def _same_value(schema: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for name in _SAME_VALUE:
        value = schema.get(name)
        if isinstance(value, list):
            yield from (part for part in value if isinstance(part, Mapping))
        elif name == "dependentSchemas" and isinstance(value, Mapping):
            yield from (part for part in value.values() if isinstance(part, Mapping))
        elif isinstance(value, Mapping):
            yield value
