"""How a step calls a guarded tool: its run waits for the approval, and then the approved call is made."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

from attrs import evolve
from returns.result import Failure

from flowpersist.dynamicflow.asking import goes_on
from flowpersist.dynamicflow.calls import arguments_of, call, come, invoke
from flowpersist.dynamicflow.outcomes import PENDING, Done, Failed, StepOutcome
from flowpersist.dynamicflow.plain import PLAIN
from flowpersist.dynamicflow.tools import Tool
from flowpersist.inputs.guarding import Approved, Asking, Refused, Responded, ToolGuard

if TYPE_CHECKING:
    from flowpersist.dynamicflow.context import Context, StepPosition
    from flowpersist.dynamicflow.ir import Node, ToolCall

__all__ = ["call_tool"]


async def call_tool(
    context: Context, node: Node, operation: ToolCall, place: StepPosition, attempt: int
) -> StepOutcome:
    """Call a tool, which may wait for an approval or be a question itself."""
    tool = context.toolbox.get(operation.tool)
    if isinstance(tool, Tool) and "asks" in place.frame:
        waits = goes_on(context, node, place)
        if waits is not None:
            return waits
    if isinstance(tool, Tool) and tool.guard is not None:
        return await call_guarded(context, node, operation, tool, tool.guard, place, attempt)
    return await call(context, node, operation, place, attempt)


async def call_guarded(
    context: Context, node: Node, operation: ToolCall, tool: Tool, guard: ToolGuard, place: StepPosition, attempt: int
) -> StepOutcome:
    """Call the tool, or wait for an approval of the call."""
    frame = place.frame
    for begun_with in ("approved", "begun"):
        if begun_with in frame:
            return await invoke(context, node, tool, place, frame[begun_with], attempt)
    if place.path in context.answers and "asked" in frame:
        return await _settled(context, node, tool, guard, place, attempt)
    # What was asked is not known any more, so that its answer approves nothing.
    context.answers.pop(place.path, None)
    found = come(context, node, place)
    if found is not None and (found is not PENDING or place.path not in context.asked):
        return found
    begun = await _begun(context, node, operation, tool, guard, place)
    if isinstance(begun, Asking) and found is PENDING and not context.asks_otherwise(place.path, begun.question):
        return found
    if not isinstance(begun, Failed):
        context.give_up(place.path)
    return await _followed(context, node, tool, place, attempt, begun)


async def _followed(
    context: Context,
    node: Node,
    tool: Tool,
    place: StepPosition,
    attempt: int,
    begun: Mapping[str, object] | Asking | Failed,
) -> StepOutcome:
    match begun:
        case Asking():
            return _asked(context, node, place, begun)
        case Failed():
            return begun
    # If it asks, it is called again with the answer, and nobody is asked again whether it may be.
    place.frame["begun"] = dict(begun)
    return await invoke(context, node, tool, place, begun, attempt)


async def _begun(
    context: Context, node: Node, operation: ToolCall, tool: Tool, guard: ToolGuard, place: StepPosition
) -> Mapping[str, object] | Asking | Failed:
    """The arguments of the call, or what is to be asked about it."""
    found = await arguments_of(context, node, operation, place, tool.takes)
    if isinstance(found, Failed):
        return found
    # What a person is shown and what is approved is plain data.
    arguments = cast("Mapping[str, object]", (await context.walked(found, PLAIN)).value)
    checked = tool.check_input(arguments)
    if isinstance(checked, Failure):
        return context.blamed(node, checked.failure(), tool.id)
    begun = await guard.begin(arguments, scope=context.run_id)
    if isinstance(begun, Failure):
        return context.blamed(node, begun.failure(), tool.id)
    return begun.unwrap() or arguments


def _asked(context: Context, node: Node, place: StepPosition, asking: Asking) -> StepOutcome:
    # Copied, since a tool may change what it shares with other values.
    place.frame["asked"] = copy.deepcopy(dict(asking.content))
    return context.register(node, place, asking.question)


async def _settled(
    context: Context, node: Node, tool: Tool, guard: ToolGuard, place: StepPosition, attempt: int
) -> StepOutcome:
    by, digest, _ = context.givers.get(place.path, (None, None, None))
    settled = await guard.settle(place.frame["asked"], context.take(place.path), by=by, digest=digest)
    if isinstance(settled, Failure):
        return context.blamed(node, settled.failure(), tool.id)
    del place.frame["asked"]
    match settled.unwrap():
        case Asking() as asking:
            context.renewed.add(place.path)
            context.settled(place.path)
            return _asked(context, node, place, asking)
        case Approved(arguments):
            # Further attempts of this step make the same call.
            place.frame["approved"] = dict(arguments)
            return await invoke(context, node, tool, place, place.frame["approved"], attempt)
        case Responded(text):
            return Done(text, tool.id)
        case Refused(comment):
            said = f": {comment}" if comment else ""
            # To try again would ask the person again.
            failed = context.failed(node, f"a person has rejected the call of {tool.id!r}{said}"[:2000], tool.id)
            return evolve(failed, final=True)
