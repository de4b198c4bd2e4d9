"""Conditions and choices of a document that a tool makes: by a prompt, or by a call of its own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from attrs import evolve
from returns.result import Failure

from flowpersist.dynamicflow import expressions
from flowpersist.dynamicflow.expressions import Expression
from flowpersist.dynamicflow.fields import TRUE, Fields
from flowpersist.dynamicflow.ir import BOOLEANS, Decision
from flowpersist.dynamicflow.problems import shown
from flowpersist.dynamicflow.tools import CHOOSER
from flowpersist.errors import FlowCode
from flowpersist.inputs.json_pointers import escaped

__all__ = ["condition_of", "selector_of"]

_ARGUMENTS: Final = ("args", "input", "inputs", "with")
#: What a condition or selector given as an object takes, by its type.
_KINDS: Final[Mapping[str, tuple[str, ...]]] = {
    "expression": ("expression",),
    "tool": ("tool", "toolId", *_ARGUMENTS),
    "llm": ("prompt",),
}
#: Stands where a decision could not be read.
_NONE: Final = Decision("", None, None, BOOLEANS)
_NO_OPTIONS: Final[tuple[Mapping[str, object], ...]] = ()
#: How an expression begins, and hardly a sentence.
_EXPRESSION: Final = re.compile(r"\s*(?:[$(!'\"\d+-]|(?:not|true|false|null)\b|\w+\()")


def condition_of(building: Fields, name: str = "condition") -> Expression | Decision:
    """The condition of a step."""
    value = building.draft.fields.get(name)
    if isinstance(value, Mapping) and value.get("type", "expression") != "expression":
        return building.tried(lambda: _decision(building, value, name, BOOLEANS, ()), _NONE)
    return building.condition(name)


def selector_of(building: Fields, cases: frozenset[str]) -> Expression | Decision:
    """What chooses a branch of a ``switch``: an expression, or a prompt."""
    value = building.draft.fields.get("switch")
    options = building.tried(lambda: _options(building, cases), _NO_OPTIONS)
    names = tuple(str(option["id"]) for option in options)
    if isinstance(value, str) and isinstance(expressions.parse(value), Failure) and not _EXPRESSION.match(value):
        value = {"type": "llm", "prompt": value}
    if isinstance(value, Mapping) and value.get("type", "expression") != "expression":
        given = value
        _check_branches(building, names, cases)
        decision = building.tried(lambda: _decision(building, given, "switch", names, options), _NONE)
        return decision if given is building.draft.fields["switch"] else evolve(decision, written="")
    return building.expression(value, "switch") if "switch" in building.draft.fields else TRUE


def _options(building: Fields, cases: frozenset[str]) -> tuple[Mapping[str, object], ...]:
    """The options that the document names, or else the branches."""
    options = building.draft.fields.get("options")
    if options is None:
        return tuple({"id": name} for name in building.cases)
    expected = "a list of ids, or of objects with an 'id'"
    if not isinstance(options, list):
        building.refuse("options", f"'options' must be {expected}", expected, "wrong-type")
    found = tuple(option if isinstance(option, Mapping) else {"id": option} for option in options)
    for index, option in enumerate(found):
        if not isinstance(option.get("id"), str):
            building.refuse(f"options/{index}", f"'options' must be {expected}", expected, "wrong-type")
    ids = {str(option["id"]) for option in found}
    for strange in sorted(cases - ids)[:1]:
        known = ", ".join(sorted(ids))
        near = building.document.problems.hint([strange], ids)
        message = f"the branch {shown(strange)} is not one of the options {known}{near}"
        building.refuse(f"branches/{escaped(strange)}", message, f"one of {known}", "unreachable")
    return found


def _check_branches(building: Fields, options: tuple[str, ...], cases: frozenset[str]) -> None:
    if not options:
        building.report("options", "needs 'options' or branches to choose from", "a list of ids, or of objects")
    for option in options:
        if option not in cases and "default" not in building.draft.fields:
            building.report("options", f"the option {shown(option)} has no branch, and there is no 'default': add one")


def _decision(
    building: Fields,
    value: Mapping[str, object],
    name: str,
    options: tuple[str, ...],
    offered: tuple[Mapping[str, object], ...],
) -> Decision:
    kind = value.get("type")
    if not isinstance(kind, str) or kind not in _KINDS:
        expected = "'expression', 'tool' or 'llm'"
        building.refuse(f"{name}/type", f"{name!r} has the type {shown(kind)}: expected {expected}", expected)
    for strange in sorted(set(value) - {"type", *_KINDS[kind]}):
        known = ", ".join(_KINDS[kind])
        message = f"{name!r} of type {kind} has the unknown field {shown(strange)}: it takes {known}"
        building.report(f"{name}/{escaped(strange)}", message, f"one of {known}", "unknown-field")
    if kind == "tool":
        return _by_tool(building, value, name, options)
    prompt = value.get("prompt")
    if not isinstance(prompt, str) or not prompt:
        code: FlowCode = "invalid-value" if "prompt" in value else "missing-field"
        field = f"{name}/prompt" if "prompt" in value else name
        building.refuse(field, f"{name!r} of type llm needs a 'prompt', a text", "a text", code)
    offered = offered or tuple({"id": option} for option in options)
    return Decision(CHOOSER, None, prompt, options, offered, "prompt")


def _by_tool(building: Fields, value: Mapping[str, object], name: str, options: tuple[str, ...]) -> Decision:
    tool = building.tool_id(value.get("tool", value.get("toolId")), name)
    given = [field for field in _ARGUMENTS if field in value]
    arguments = building.arguments(value[given[0]], f"{name}/{given[0]}") if given else None
    return Decision(tool, arguments, None, options, written=given[0] if given else "")
