"""The operations that run their steps several times or at once: map, parallel, reduce and loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING

from attrs import define, evolve, field

from flowpersist.dynamicflow.naming import INDEX
from flowpersist.dynamicflow.outcomes import PENDING, Done, Failed, Pending, StepOutcome
from flowpersist.dynamicflow.plain import SLICE
from flowpersist.dynamicflow.scope import Scope
from flowpersist.dynamicflow.values import collection, holds, resolve

if TYPE_CHECKING:
    from flowpersist.dynamicflow.context import Context, StepPosition
    from flowpersist.dynamicflow.ir import Loop, Map, Node, Parallel, Reduce
    from flowpersist.dynamicflow.state import Frame

__all__ = ["run_loop", "run_map", "run_parallel", "run_reduce"]


async def run_map(context: Context, node: Node, operation: Map, place: StepPosition) -> StepOutcome:
    """Run one iteration for each item; gives a list in the order of the items."""
    items = collection(context, node, operation.over, place)
    if isinstance(items, Failed):
        return items

    async def iterate(index: int) -> StepOutcome:
        item = items[index]
        return await context.iteration(
            operation.body, place, f"[{index}]", {operation.name: item, INDEX: index}, Done(item)
        )

    stopped = await _FanOut(len(items), iterate, operation.concurrency).all()
    if stopped is not None:
        return stopped
    return Done(await _gathered(context, place, _frames(place.frame, len(items))))


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
    place.scope.steps.update(within)
    return results


async def run_parallel(context: Context, operation: Parallel, place: StepPosition) -> StepOutcome:
    """Run all branches at once; gives a list in the order of the document."""
    count = len(operation.branches)

    async def run(index: int) -> StepOutcome:
        return await context.iteration(operation.branches[index], place, f"[{index}]", {}, place.previous)

    stopped = await _FanOut(count, run, count).all()
    if stopped is not None:
        return stopped
    frames = _frames(place.frame, count)
    for frame in frames:
        place.scope.steps.update(frame.get("steps", {}))
    return Done([frame["result"] for frame in frames])


def _frames(frame: Frame, count: int) -> list[Frame]:
    within = frame.get("sub", {})
    return [within[f"[{index}]"] for index in range(count)]


class _Stopped(Exception):
    """A signal between the workers of one fan-out; never reported as an error."""

    def __init__(self, failed: Failed) -> None:
        super().__init__(failed)
        self.failed = failed


@define
class _FanOut:
    """Several iterations or branches, with a bound on how many run at once. One that waits makes room for the next,
    unless they run one after another. The first failure ends the others.
    """

    count: int
    run: Callable[[int], Awaitable[StepOutcome]]
    concurrency: int
    _pending: bool = field(default=False, init=False)

    async def all(self) -> Failed | Pending | None:
        """Run all. None if all have finished."""
        indexes = iter(range(self.count))
        failed: list[Failed] = []
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(self.concurrency, self.count)):
                    group.create_task(self._work(indexes))
        except* _Stopped as stopped:
            failed.extend(error.failed for error in stopped.exceptions if isinstance(error, _Stopped))
        if failed:
            return failed[0]
        return PENDING if self._pending else None

    async def _work(self, indexes: Iterator[int]) -> None:
        for index in indexes:
            outcome = await self.run(index)
            if isinstance(outcome, Failed):
                raise _Stopped(outcome)
            if isinstance(outcome, Pending):
                self._pending = True
                if self.concurrency == 1:
                    return


async def run_reduce(context: Context, node: Node, operation: Reduce, place: StepPosition) -> StepOutcome:
    """Run one iteration after another, each with the accumulator of the previous one."""
    items = collection(context, node, operation.over, place)
    if isinstance(items, Failed):
        return items
    frame = place.frame
    if "next" not in frame:
        initial = resolve(context, node, operation.initial, place)
        if isinstance(initial, Failed):
            return initial
        frame.update(next=0, value=initial.value)
    while frame["next"] < len(items):
        index = frame["next"]
        variables = {operation.name: items[index], operation.accumulator: frame["value"], INDEX: index}
        outcome = await context.iteration(operation.body, place, f"[{index}]", variables, Done(items[index]))
        if not isinstance(outcome, Done):
            return outcome
        # Only the last iteration's results are kept: all accumulators together grow with the square of their number.
        frame["steps"] = frame["sub"].pop(f"[{index}]").get("steps", {})
        frame.update(next=index + 1, value=outcome.value)
    place.scope.steps.update(frame.get("steps", {}))
    return Done(frame["value"])


async def run_loop(context: Context, node: Node, operation: Loop, place: StepPosition) -> StepOutcome:
    """Run one iteration after another. Variables that one sets are visible to the next, and to the steps after the
    loop.
    """
    items = [] if operation.condition is not None else collection(context, node, operation.over, place)
    if isinstance(items, Failed):
        return items
    results: list[object] = place.frame.setdefault("results", [])
    _bring_in(place, place.frame)
    while True:
        goes_on = _goes_on(context, node, operation, _after(place, results), len(items))
        if isinstance(goes_on, Failed):
            return goes_on
        if not goes_on:
            return Done(results)
        variables: dict[str, object] = {INDEX: len(results)}
        if operation.condition is None:
            variables[operation.name] = items[len(results)]
        outcome = await _turn(context, operation, _after(place, results), variables)
        if not isinstance(outcome, Done):
            return outcome


def _goes_on(context: Context, node: Node, operation: Loop, place: StepPosition, count: int) -> bool | Failed:
    """Whether there is one more iteration. One that has begun is not checked again, since its steps may have changed
    the condition.
    """
    turns = len(place.frame["results"])
    if f"[{turns}]" in place.frame.get("sub", {}):
        return True
    if operation.condition is None:
        more: bool | Failed = turns < count
    else:
        more = holds(context, node, operation.condition, evolve(place, scope=Scope(place.scope, {INDEX: turns})))
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
    return outcome


def _bring_in(place: StepPosition, frame: Frame) -> None:
    place.scope.variables.update(frame.get("variables", {}))
    place.scope.steps.update(frame.get("steps", {}))


def _after(place: StepPosition, results: list[object]) -> StepPosition:
    return evolve(place, previous=Done(results[-1])) if results else place
