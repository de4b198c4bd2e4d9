"""The operation ``filter``: by an expression in one go, by a tool with a call for each item."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from attrs import evolve

from flowpersist.dynamicflow.answered import listed, named
from flowpersist.dynamicflow.deciding import is_held
from flowpersist.dynamicflow.fan_out import FanOut
from flowpersist.dynamicflow.ir import Decision
from flowpersist.dynamicflow.naming import INDEX
from flowpersist.dynamicflow.outcomes import Done, Failed, Pending, StepOutcome
from flowpersist.dynamicflow.scope import Scope
from flowpersist.dynamicflow.state import sub_frame
from flowpersist.dynamicflow.values import collection, givers_of_items, holds

if TYPE_CHECKING:
    from flowpersist.dynamicflow.context import Context, StepPosition
    from flowpersist.dynamicflow.expressions import Expression
    from flowpersist.dynamicflow.ir import Filter, Node

__all__ = ["run_filter"]


async def run_filter(context: Context, node: Node, operation: Filter, place: StepPosition, attempt: int) -> StepOutcome:
    """Give the items for which the condition holds."""
    items = await collection(context, node, operation.over, place)
    if isinstance(items, Failed):
        return items
    givers = givers_of_items(context, node, operation.over, place, len(items))
    if isinstance(operation.condition, Decision):
        held = await _decided(context, node, operation, items, givers, place, attempt)
    else:
        held = await _by_expression(context, node, operation.condition, operation.name, items, givers, place)
    if not isinstance(held, list):
        return held
    kept = [index for index, holding in enumerate(held) if holding]
    return Done([items[index] for index in kept], given=listed([givers[index] for index in kept]))


async def _by_expression(
    context: Context,
    node: Node,
    condition: Expression,
    name: str,
    items: list[object],
    givers: Sequence[object],
    place: StepPosition,
) -> list[bool] | Failed:
    found: list[bool] = []
    for index, item in enumerate(items):
        await context.pace()
        within = evolve(place, scope=Scope(place.scope, {**named(name, item, givers[index]), INDEX: index}))
        held = holds(context, node, condition, within)
        if isinstance(held, Failed):
            return held
        found.append(held)
    return found


async def _decided(
    context: Context,
    node: Node,
    operation: Filter,
    items: list[object],
    givers: Sequence[object],
    place: StepPosition,
    attempt: int,
) -> list[bool] | Failed | Pending:
    """Keep what was decided of each item, so that no tool is called twice for it."""

    async def decide(index: int) -> StepOutcome:
        label = f"[{index}]"
        frame = sub_frame(place.frame, label)
        if "result" not in frame:
            scope = Scope(place.scope, {**named(operation.name, items[index], givers[index]), INDEX: index})
            path, trail, item = place.path + label, place.trail + label, Done(items[index], given=givers[index])
            within = evolve(place, path=path, trail=trail, frame=frame, scope=scope, previous=item)
            held = await is_held(context, node, operation.condition, within, attempt)
            if not isinstance(held, bool):
                return held
            frame.clear()
            frame["result"] = held
            context.settled(path)
        return Done(frame["result"])

    stopped = await FanOut(context, place, len(items), decide, operation.concurrency).all()
    if stopped is not None:
        return stopped
    return [place.frame["sub"][f"[{index}]"]["result"] for index in range(len(items))]
