"""How a step calls its tool: the arguments, the checks of input and output, and the wait of a tool that awaits an
answer.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

from attrs import evolve
from returns.result import Failure

from flowpersist.dynamicflow.answered import given_by
from flowpersist.dynamicflow.asking import Asker, Pausing
from flowpersist.dynamicflow.declared import fields_of
from flowpersist.dynamicflow.keeping import kept
from flowpersist.dynamicflow.outcomes import PENDING, RAISED, Done, Failed, Pending, StepOutcome
from flowpersist.dynamicflow.plain import PLAIN
from flowpersist.dynamicflow.prompts import spell_out
from flowpersist.dynamicflow.tools import AWAIT_INPUT, Tool, takes_of
from flowpersist.dynamicflow.values import resolve
from flowpersist.hub.cancellation import is_fault
from flowpersist.hub.telemetry import failed, span
from flowpersist.inputs.await_input import AwaitInput
from flowpersist.inputs.tool_context import ToolContext

if TYPE_CHECKING:
    from flowpersist.dynamicflow.context import Context, StepPosition
    from flowpersist.dynamicflow.ir import Node, ToolCall

__all__ = ["arguments_of", "call", "come", "invoke"]

log = logging.getLogger("flowpersist.dynamicflow")


async def call(context: Context, node: Node, operation: ToolCall, place: StepPosition, attempt: int) -> StepOutcome:
    """Call the tool, or await an answer if it is one that awaits."""
    tool = context.toolbox.get(operation.tool)
    if isinstance(tool, Tool):
        arguments = await arguments_of(context, node, operation, place, tool.takes)
        return (
            arguments if isinstance(arguments, Failed) else await invoke(context, node, tool, place, arguments, attempt)
        )
    found = come(context, node, place)
    if found is not None and (found is not PENDING or place.path not in context.asked):
        return found
    if tool is None and operation.tool != AWAIT_INPUT:
        return context.failed(node, f"the tool {operation.tool!r} is not registered with this runner", operation.tool)
    awaited = await _awaited(context, node, operation, place, tool)
    if isinstance(awaited, Failed):
        return awaited
    if found is PENDING:
        if not context.asks_otherwise(place.path, awaited):
            return found
        context.give_up(place.path)
    return context.register(node, place, awaited)


def come(context: Context, node: Node, place: StepPosition) -> StepOutcome | None:
    """The result of the wait, if it is open already or has ended. A wait is identified by its path."""
    if place.path in context.answers:
        by, _, at = context.givers.get(place.path, (None, None, None))
        return Done(context.take(place.path), given=given_by(by, at))
    if place.path in context.expired:
        context.expired.discard(place.path)
        message = "no answer came before the deadline, and there is no default"
        return context.failed(node, message, cause=TimeoutError(message))
    if place.path in context.open:
        context.wait(place)
        return PENDING
    return None


async def _awaited(
    context: Context, node: Node, operation: ToolCall, place: StepPosition, registered: AwaitInput[object] | None
) -> AwaitInput[object] | Failed:
    if registered is None:
        made = spell_out(operation.arguments, node.id, context.resolver(node, place))
    else:
        arguments = await arguments_of(context, node, operation, place, takes_of(registered))
        if isinstance(arguments, Failed):
            return arguments
        made = registered.fill(cast("Mapping[str, object]", (await context.walked(arguments, PLAIN)).value))
    if isinstance(made, Failure):
        return context.blamed(node, made.failure(), operation.tool)
    return _with_deadline(made.unwrap(), node.timeout)


def _with_deadline(awaiting: AwaitInput[object], seconds: float | None) -> AwaitInput[object]:
    """Use a step's timeout for the wait, unless the AwaitInput has a deadline of its own."""
    if seconds is None or awaiting.timeout is not None or awaiting.deadline is not None:
        return awaiting
    return evolve(cast("Any", awaiting), timeout=timedelta(seconds=seconds))


async def arguments_of(
    context: Context, node: Node, operation: ToolCall, place: StepPosition, takes: tuple[str, ...] | None
) -> Mapping[str, object] | Failed:
    """The tool's input: the step's arguments, or else the previous step's result."""
    if operation.arguments is None:
        arguments = _passed_on(context, node, operation.tool, place.previous, takes)
    else:
        arguments = _given(context, node, operation, place)
    if isinstance(arguments, Failed):
        return arguments
    return await context.bounded(node, arguments, "its input", operation.tool) or arguments


def _given(context: Context, node: Node, operation: ToolCall, place: StepPosition) -> Mapping[str, object] | Failed:
    resolved = resolve(context, node, operation.arguments, place)
    if isinstance(resolved, Failed):
        return resolved
    fields = _fields(resolved.value)
    if fields is not None:
        return fields
    return context.failed(node, f"its arguments must be an object, not {type(resolved.value).__name__}", operation.tool)


def _passed_on(
    context: Context, node: Node, tool: str, previous: Done, takes: tuple[str, ...] | None
) -> Mapping[str, object] | Failed:
    """Pass no arguments to a tool without fields; pass a value other than an object as a tool's only field."""
    if takes == ():
        return {}
    joined = _joined(context, node, tool, previous)
    if isinstance(joined, Failed):
        return joined
    if joined.value is None:
        return {}
    only = takes[0] if takes is not None and len(takes) == 1 else None
    fields = None if only is not None and _takes(context, tool, only, joined.value) else _fields(joined.value)
    if fields is not None:
        return fields
    if only is not None:
        return {only: joined.value}
    return context.failed(
        node,
        f"the tool {tool!r} takes an object, but the step before returned {type(joined.value).__name__}: add args",
        tool,
    )


def _takes(context: Context, name: str, only: str, value: object) -> bool:
    """Whether an object is what a tool's field is annotated with, so that it is not split into its fields."""
    tool = context.toolbox.get(name)
    return not isinstance(value, Mapping) and isinstance(tool, Tool) and tool.signature.takes_as_is(only, value)


def _fields(value: object) -> Mapping[str, object] | None:
    """The fields of an object, as of a dict; None for a value without fields."""
    return cast("Mapping[str, object]", value) if isinstance(value, Mapping) else fields_of(value, private=False)


def _joined(context: Context, node: Node, tool: str, previous: Done) -> Done | Failed:
    join = context.toolbox.join(previous.tool, tool)
    if join is None:
        return previous
    try:
        return Done(join.transform(previous.value))
    except RAISED as error:  # a join is the user's code: whatever it raises fails the step
        names = (previous.tool, tool, node.id, context.run_id)
        context.tracebacks.log(log, error, "the join from %s to %s failed in step %s of run %s", *names)
        return context.failed(node, f"the join from {join.from_tool!r} to {tool!r} failed: {_said(error)}", tool, error)


async def invoke(
    context: Context, node: Node, tool: Tool, place: StepPosition, arguments: Mapping[str, object], attempt: int
) -> StepOutcome:
    """Call a tool with these arguments, once they are checked."""
    checked = tool.check_input(arguments)
    if isinstance(checked, Failure):
        return context.blamed(node, checked.failure(), tool.id)
    told = {"tool": tool.id, "node": node.id, "path": place.path}
    asker = None if tool.is_plain else Asker(context, node, place)
    key = f"{context.run_id}/{place.trail}/{attempt}"
    given = ToolContext(context.run_id, node.id, place.path, attempt, key=key, asker=asker)
    async with context.turn(place):
        context.emit("tool-start", {**told, "attempt": attempt})
        # As the semantic conventions of generative AI call it.
        named: dict[str, str | int] = {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": tool.id,
            "flowpersist.attempt": attempt,
        }
        with span(f"execute_tool {tool.id}", named) as current:
            outcome = await _run(context, node, tool, checked.unwrap(), given, asker)
            if isinstance(outcome, Failed):
                failed(current, outcome.error.__cause__ or outcome.error)
    if isinstance(outcome, Done):
        context.emit("tool-output", {**told, "output": outcome.value})
    elif isinstance(outcome, Failed):
        context.emit("tool-error", {**told, "attempt": attempt, "error": outcome.error.message})
    return outcome


async def _run(
    context: Context,
    node: Node,
    tool: Tool,
    arguments: Mapping[str, object],
    given: ToolContext,
    asker: Asker | None,
) -> Done | Failed | Pending:
    failed: Failed | None = None
    value: object = None
    try:
        value = await tool.call(arguments, given, context.toolbox.executors)
    except BaseException as error:  # a tool is the user's code: whatever it raises fails the attempt
        if not _is_own(context, given, asker, error):
            raise
        failed = _failed(context, node, tool, given, error)
    finally:
        if asker is not None:
            asker.ended = True
    if asker is not None and asker.paused is not None:
        # Whatever the tool made of it.
        return asker.pending(*asker.paused)
    if failed is not None:
        return failed
    if asker is not None:
        asker.close()
    return await kept(context, node, tool, value)


def _is_own(context: Context, given: ToolContext, asker: Asker | None, error: BaseException) -> bool:
    """Whether it is the tool's own error, or ends an attempt that awaits an answer; else the call was ended from
    outside.
    """
    if asker is not None and asker.paused is not None and _only_paused(error):
        return True
    cancelled = context.is_cancelled()
    if cancelled and not is_fault(error, cancelled=True):
        given.cancellation.request()
    return is_fault(error, cancelled=cancelled)


def _failed(context: Context, node: Node, tool: Tool, given: ToolContext, error: BaseException) -> Failed:
    if not _only_paused(error):
        message = "tool %s failed in step %s of run %s, attempt %d"
        context.tracebacks.log(given.logger, error, message, tool.id, given.path, given.run_id, given.attempt)
    return context.failed(node, f"the tool {tool.id!r} failed: {_said(error)}", tool.id, error)


def _only_paused(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return all(_only_paused(one) for one in error.exceptions)
    return isinstance(error, Pausing)


def _said(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {error}"[:500]
    except RAISED:  # The text comes from the user's class, and making it may fail.
        return type(error).__name__
