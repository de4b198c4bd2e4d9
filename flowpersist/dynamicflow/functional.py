"""Nodes with an ``operation``, another way to write ``map``, ``filter`` and ``reduce``.

What is done with each item is a tool, an expression or a prompt.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from attrs import frozen

from flowpersist.dynamicflow.ir import Kind
from flowpersist.dynamicflow.problems import Problems, shown
from flowpersist.errors import FlowCode
from flowpersist.inputs.json_pointers import escaped

__all__ = ["Spread", "spread"]

#: The step types that such a node may have, and the types of steps that they are.
_TYPES: Final[Mapping[str, Kind]] = {
    "map": "map",
    "flatMap": "map",
    "filter": "filter",
    "reduce": "reduce",
    "forEach": "map",
}
_OUTER: Final = ("over", "operation", "concurrency")
_INNER: Final[Mapping[str, tuple[str, ...]]] = {
    "tool": ("tool", "args"),
    "expression": ("expression",),
    "llm": ("prompt",),
}
#: Names that such an expression may have without the dollar, outside of texts in quotes and of longer names.
_BARE: Final = re.compile(r"\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'|(?<![\w.$\]])(?P<name>item|acc|index)(?![\w(-])")


@frozen
class Spread:
    """Such a node as a step: its type, its fields by their canonical names, and where these are written."""

    kind: Kind
    fields: Mapping[str, object]
    written: Mapping[str, str]


@frozen
class _Reading:
    raw: Mapping[str, object]
    label: str
    pointer: str
    problems: Problems

    def note(self, field: str, message: str, code: FlowCode = "invalid-value", expected: str | None = None) -> None:
        text = f"step {self.label!r}: {message}"
        self.problems.add(f"{self.pointer}{field}", code, text, expected=expected, step=self.label)

    def check_fields(self, given: Mapping[str, object], at: str, known: tuple[str, ...]) -> None:
        for strange in sorted(set(given) - set(known)):
            message = f"{at[1:]!r} has the unknown field {shown(strange)}: it takes {', '.join(known)}"
            self.note(f"{at}/{escaped(strange)}", message, "unknown-field", f"one of {', '.join(known)}")

    def object(self, given: object, at: str) -> Mapping[str, object] | None:
        if isinstance(given, Mapping):
            return given
        self.note(at, f"{at[1:]!r} must be an object, not {type(given).__name__}", "wrong-type", "an object")
        return None


def spread(raw: Mapping[str, object], label: str, pointer: str, problems: Problems) -> Spread | None:
    """The step that such a node is. None: it can't be read, which is a problem of the document."""
    reading = _Reading(raw, label, pointer, problems)
    given = raw.get("type")
    if not isinstance(given, str) or given not in _TYPES:
        known = ", ".join(_TYPES)
        reading.note(
            "/type", f"a step with an 'operation' has one of the types {known}", "unknown-type", f"one of {known}"
        )
        return None
    outer = reading.object(raw["operation"], "/operation")
    inner = None if outer is None else reading.object(outer.get("operation"), "/operation/operation")
    if outer is None or inner is None:
        return None
    reading.check_fields(outer, "/operation", _OUTER)
    kind = inner.get("type")
    if not isinstance(kind, str) or kind not in _INNER:
        expected = "'tool', 'expression' or 'llm'"
        reading.note("/operation/operation/type", f"its operation has the type {shown(kind)}: expected {expected}")
        return None
    extra = ("initialValue",) if given == "reduce" else ()
    reading.check_fields(inner, "/operation/operation", ("type", *_INNER[kind], *extra))
    fields: dict[str, object] = {name: outer[name] for name in ("over", "concurrency") if name in outer}
    fields |= _work(given, kind, inner)
    if given == "reduce" and "initialValue" in inner:
        fields["initial"] = inner["initialValue"]
    return Spread(_TYPES[given], fields, {name: _WRITTEN[name] for name in fields if name in _WRITTEN})


#: Where the fields stand within the node.
_WRITTEN: Final = {
    "over": "operation/over",
    "concurrency": "operation/concurrency",
    "body": "operation/operation",
    "condition": "operation/operation",
    "initial": "operation/operation/initialValue",
}


def _work(given: str, kind: str, inner: Mapping[str, object]) -> dict[str, object]:
    """What is done with each item: the condition of a filter, and the body of the others."""
    if given == "filter":
        return {"condition": _dollars(inner.get("expression")) if kind == "expression" else inner}
    if kind == "expression":
        return {"body": {"type": "expression", "expression": _dollars(inner.get("expression"))}}
    both: dict[str, object] = {"item": "$item", "acc": "$acc"}
    if kind == "llm":
        prompt = {"prompt": inner["prompt"]} if "prompt" in inner else {}
        return {"body": {"type": "llm", **prompt, **({"input": both} if given == "reduce" else {})}}
    named = {"args": inner["args"]} if "args" in inner else {}
    return {
        "body": {"type": "tool", "tool": inner.get("tool"), **({"args": both} if given == "reduce" else {}), **named}
    }


def _dollars(text: object) -> object:
    """An expression in which the names of an iteration are references, also without the dollar."""
    if not isinstance(text, str):
        return text
    return _BARE.sub(lambda found: f"${found['name']}" if found["name"] else found[0], text)
