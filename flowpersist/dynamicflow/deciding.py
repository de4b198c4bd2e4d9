"""Conditions and choices while a flow runs: by an expression, or by a tool that is called for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from attrs import evolve
from returns.result import Failure

from flowpersist.dynamicflow import references
from flowpersist.dynamicflow.guarded import call_tool
from flowpersist.dynamicflow.ir import Decision, ToolCall
from flowpersist.dynamicflow.outcomes import Done, Failed, Pending
from flowpersist.dynamicflow.state import sub_frame
from flowpersist.dynamicflow.tools import CHOOSER, takes_of
from flowpersist.dynamicflow.values import holds

if TYPE_CHECKING:
    from flowpersist.dynamicflow.context import Context, StepPosition
    from flowpersist.dynamicflow.expressions import Expression
    from flowpersist.dynamicflow.ir import Node

__all__ = ["chosen", "is_held", "option_of", "prompted"]

#: The frame of the call, among those of the steps within the step; no step has this id.
_CALL = "?"


async def is_held(
    context: Context, node: Node, condition: Expression | Decision, place: StepPosition, attempt: int
) -> bool | Failed | Pending:
    """Whether a condition holds."""
    if not isinstance(condition, Decision):
        return holds(context, node, condition, place)
    found = await chosen(context, node, condition, place, attempt)
    return found == "true" if isinstance(found, str) else found


async def chosen(
    context: Context, node: Node, decision: Decision, place: StepPosition, attempt: int
) -> str | Failed | Pending:
    """The option that the tool gives. What it awaits is asked under the path of the step itself."""
    operation = _call(context, node, decision, place)
    if isinstance(operation, Failed):
        return operation
    frame = sub_frame(place.frame, _CALL)
    outcome = await call_tool(context, node, operation, evolve(place, frame=frame), attempt)
    if not isinstance(outcome, Done):
        return outcome
    del place.frame["sub"][_CALL]
    option = option_of(outcome.value)
    if option in decision.options:
        return option
    shown = f"{option[:100]!r}" if isinstance(option, str) else f"a {type(outcome.value).__name__}"
    known = ", ".join(decision.options)
    tool = context.toolbox.name_of(decision.tool)
    return context.failed(node, f"the tool {tool!r} chose {shown}, and the options are {known}"[:1000], tool)


def _call(context: Context, node: Node, decision: Decision, place: StepPosition) -> ToolCall | Failed:
    if decision.prompt is None:
        return ToolCall(decision.tool, decision.arguments)
    return _asked(context, node, decision.prompt, decision.offered, "$previousOutput", place)


def prompted(context: Context, node: Node, operation: ToolCall, place: StepPosition) -> ToolCall | Failed:
    """The call of a step, with the chooser's arguments where it has a prompt: there are no options then."""
    if operation.prompt is None:
        return operation
    return _asked(context, node, operation.prompt, (), operation.arguments, place)


def _asked(
    context: Context, node: Node, prompt: str, options: Sequence[object], value: object, place: StepPosition
) -> ToolCall | Failed:
    """The call of the chooser, with those of the arguments that it takes."""
    filled = references.fill_text(prompt, context.resolver(node, place))
    if isinstance(filled, Failure):
        return context.blamed(node, filled.failure(), CHOOSER)
    offered = {"prompt": filled.unwrap(), "options": options}
    given = {name: _literal(one) for name, one in offered.items()} | {"input": value}
    takes = takes_of(context.toolbox.get(CHOOSER))
    return ToolCall(CHOOSER, {name: value for name, value in given.items() if takes is None or name in takes})


def _literal(value: object) -> object:
    """A value whose texts are no references."""
    if isinstance(value, str):
        return f"${value}" if value.startswith("$") else value
    if isinstance(value, Mapping):
        return {name: _literal(item) for name, item in value.items()}
    return [_literal(item) for item in value] if isinstance(value, list | tuple) else value


def option_of(value: object) -> str | None:
    """The option that a tool gives: its id, true or false, or an object with the ``choice``."""
    if isinstance(value, Mapping):
        value = value.get("choice")
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else None
