"""The operations that run their steps several times or at once: map, parallel, reduce and loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from attrs import evolve

from flowpersist.dynamicflow.answered import bring, listed, named
from flowpersist.dynamicflow.deciding import is_held
from flowpersist.dynamicflow.fan_out import FanOut, first_of, settle_failure
from flowpersist.dynamicflow.ir import Decision
from flowpersist.dynamicflow.naming import INDEX
from flowpersist.dynamicflow.outcomes import Done, Failed, Pending, StepOutcome
from flowpersist.dynamicflow.plain import SLICE
from flowpersist.dynamicflow.progress import Progress
from flowpersist.dynamicflow.scope import Scope
from flowpersist.dynamicflow.state import sub_frame
from flowpersist.dynamicflow.values import collection, givers_of_items, resolve

if TYPE_CHECKING:
    from flowpersist.dynamicflow.context import Context, StepPosition
    from flowpersist.dynamicflow.ir import Loop, Map, Node, Parallel, Reduce
    from flowpersist.dynamicflow.state import Frame

__all__ = ["run_loop", "run_map", "run_parallel", "run_reduce"]


async def run_map(context: Context, node: Node, operation: Map, place: StepPosition) -> StepOutcome:
    """Run one iteration for each item; gives a list in the order of the items."""
    known = await _items(context, node, operation, place)
    if isinstance(known, Failed):
        return known
    count, item_of = known

    async def iterate(index: int) -> StepOutcome:
        value, giver = item_of(index)
        names = {**named(operation.name, value, giver), INDEX: index}
        item = Done(value, given=giver)
        outcome = await context.iteration(operation.body, place, f"[{index}]", names, item)
        if isinstance(outcome, Failed) and operation.keep_errors:
            return settle_failure(context, place, f"[{index}]", outcome)
        return outcome

    progress = Progress(context.emit, node.id, place.path, count)
    stopped = await FanOut(context, place, count, iterate, operation.concurrency, progress=progress, item=item_of).all()
    if stopped is not None:
        return stopped
    frames = _frames(place.frame, count)
    if operation.flatten:
        return Done(_flat(await _gathered(context, place, frames)))
    return Done(await _gathered(context, place, frames), given=listed([frame.get("given") for frame in frames]))


async def _items(
    context: Context, node: Node, operation: Map, place: StepPosition
) -> tuple[int, Callable[[int], tuple[object, object]]] | Failed:
    """How many items there are, and each with its giver."""
    fan = context.dormant.fans.get(place.path)
    if fan is not None and fan.whole:
        return fan.count, fan.items.__getitem__
    items = await collection(context, node, operation.over, place)
    if isinstance(items, Failed):
        return items
    givers = givers_of_items(context, node, operation.over, place, len(items))
    return len(items), lambda index: (items[index], givers[index])


def _flat(results: list[object]) -> list[object]:
    """The results, with the items of those that are lists in their places."""
    return [item for result in results for item in (result if isinstance(result, list | tuple) else (result,))]


async def _gathered(context: Context, place: StepPosition, frames: list[Frame]) -> list[object]:
    """The results of all iterations, and those of each step within them as a list by iteration."""
    results: list[object] = []
    within: dict[str, list[object]] = {}
    for index, frame in enumerate(frames):
        if index % SLICE == 0:
            await context.pace()
        results.append(frame["result"])
        for name, value in frame.get("steps", {}).items():
            within.setdefault(name, [None] * len(frames))[index] = value
    bring(place.scope.steps, within)
    return results


async def run_parallel(context: Context, operation: Parallel, place: StepPosition) -> StepOutcome:
    """Run all branches at once; gives a list in the order of the document, with None for what was given up."""
    count = len(operation.branches)
    needed = count if operation.needed is None else operation.needed

    async def run(index: int) -> StepOutcome:
        return await context.iteration(operation.branches[index], place, f"[{index}]", {}, place.previous)

    if needed < count:
        outcome = await first_of(context, place, count, needed, run)
    else:
        stopped = await FanOut(context, place, count, run, count).all()
        outcome = Done([frame["result"] for frame in _frames(place.frame, count)]) if stopped is None else stopped
    if isinstance(outcome, Done):
        within = place.frame["sub"]
        given = [within.get(f"[{index}]", {}).get("given") for index in range(count)]
        outcome = evolve(outcome, given=listed(given))
        for frame in within.values():
            bring(place.scope.steps, frame.get("steps", {}))
    return outcome


def _frames(frame: Frame, count: int) -> list[Frame]:
    within = frame.get("sub", {})
    return [within[f"[{index}]"] for index in range(count)]


async def run_reduce(context: Context, node: Node, operation: Reduce, place: StepPosition) -> StepOutcome:
    """Run one iteration after another, each with the accumulator of the previous one."""
    items = await collection(context, node, operation.over, place)
    if isinstance(items, Failed):
        return items
    frame = place.frame
    if "next" not in frame:
        initial = resolve(context, node, operation.initial, place)
        if isinstance(initial, Failed):
            return initial
        frame.update(next=0, value=initial.value)
    givers = givers_of_items(context, node, operation.over, place, len(items))
    while frame["next"] < len(items):
        index = frame["next"]
        item = Done(items[index], given=givers[index])
        variables = {
            **named(operation.name, item.value, item.given),
            **named(operation.accumulator, frame["value"], frame.get("giver")),
            INDEX: index,
        }
        outcome = await context.iteration(operation.body, place, f"[{index}]", variables, item)
        if not isinstance(outcome, Done):
            return outcome
        # Only the last iteration's results are kept: all accumulators together grow with the square of their number.
        frame["steps"] = frame["sub"].pop(f"[{index}]").get("steps", {})
        frame.update(next=index + 1, value=outcome.value, giver=outcome.given)
    bring(place.scope.steps, frame.get("steps", {}))
    return Done(frame["value"], given=frame.get("giver"))


async def run_loop(context: Context, node: Node, operation: Loop, place: StepPosition, attempt: int) -> StepOutcome:
    """Run one iteration after another. Variables that one sets are visible to the next, and to the steps after the
    loop.
    """
    items = [] if operation.condition is not None else await collection(context, node, operation.over, place)
    if isinstance(items, Failed):
        return items
    results: list[object] = place.frame.setdefault("results", [])
    givers = givers_of_items(context, node, operation.over, place, len(items))
    _bring_in(place, place.frame)
    while True:
        goes_on = await _goes_on(context, node, operation, _after(place, results), len(items), attempt)
        if not isinstance(goes_on, bool):
            return goes_on
        if not goes_on:
            return Done(results, given=place.frame.get("givers"))
        turn = len(results)
        variables: dict[str, object] = {INDEX: turn}
        if operation.condition is None:
            variables |= named(operation.name, items[turn], givers[turn])
        outcome = await _turn(context, operation, _after(place, results), variables)
        if not isinstance(outcome, Done):
            return outcome


async def _goes_on(
    context: Context, node: Node, operation: Loop, place: StepPosition, count: int, attempt: int
) -> bool | Failed | Pending:
    """Whether there is one more iteration. One that has begun is not checked again, since its steps may have changed
    the condition.
    """
    turns = len(place.frame["results"])
    if f"[{turns}]" in place.frame.get("sub", {}):
        return True
    if operation.condition is None:
        more: bool | Failed | Pending = turns < count
    else:
        label, scope = f"[{turns}]", Scope(place.scope, {INDEX: turns})
        around = evolve(place, path=place.path + label, trail=place.trail + label, scope=scope)
        more = await is_held(context, node, operation.condition, around, attempt)
        if more is True and turns < operation.limit and isinstance(operation.condition, Decision):
            sub_frame(place.frame, label)  # So that the tool is not called again for this iteration.
            context.settled(around.path)
    if more is True and turns >= operation.limit:
        return context.failed(
            node, f"has not ended after {operation.limit} iterations: raise 'maxIterations', or correct its condition"
        )
    return more


async def _turn(context: Context, operation: Loop, place: StepPosition, variables: dict[str, object]) -> StepOutcome:
    frame, results = place.frame, place.frame["results"]
    await context.pace()
    label = f"[{len(results)}]"
    outcome = await context.iteration(operation.body, place, label, variables, place.previous, leaks=True)
    if isinstance(outcome, Done):
        _bring_in(place, frame["sub"].pop(label))
        frame.update(variables=dict(place.scope.variables), steps=dict(place.scope.steps))
        results.append(outcome.value)
        _note_giver(frame, outcome.given)
    return outcome


def _note_giver(frame: Frame, given: object) -> None:
    """Note who gave the last result of a loop; as long as none is an answer, nothing is."""
    if given is not None or "givers" in frame:
        givers = frame.setdefault("givers", [])
        givers.extend([None] * (len(frame["results"]) - 1 - len(givers)))
        givers.append(given)


def _bring_in(place: StepPosition, frame: Frame) -> None:
    bring(place.scope.variables, frame.get("variables", {}))
    bring(place.scope.steps, frame.get("steps", {}))


def _after(place: StepPosition, results: list[object]) -> StepPosition:
    if not results:
        return place
    givers = place.frame.get("givers")
    return evolve(place, previous=Done(results[-1], given=None if givers is None else givers[-1]))
