"""The interpreter: walks a compiled flow, runs what can be run, and stops where answers are awaited.

It is durable by remembering. Each finished step leaves its result in its frame; walking the flow again finds it there
and runs nothing twice. A step that awaits an answer registers its wait and ends its branch; its siblings go on as far
as they can. When all branches have ended, the frames are the state that a suspended run keeps.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Final

from attrs import define, evolve, field

from flowpersist.dynamicflow import operators
from flowpersist.dynamicflow.context import Context, StepPosition
from flowpersist.dynamicflow.outcomes import PENDING, RAISED, Done, Failed, StepOutcome
from flowpersist.dynamicflow.plain import WALK_ERRORS, walk_problem
from flowpersist.dynamicflow.scope import Scope
from flowpersist.dynamicflow.state import Frame, error_of, failure_of, sub_frame
from flowpersist.errors import FlowError

if TYPE_CHECKING:
    from flowpersist.dynamicflow.ir import Block, Node

__all__ = ["Engine", "RetryPause", "backoff"]

#: From the number of attempts that have failed to the seconds before the next.
RetryPause = Callable[[int], float]
_KEPT_ON_RETRY: Final = frozenset({"failures", "error"})


def backoff(failures: int) -> float:
    """Seconds before the next attempt: 0.1, 0.2, 0.4 and so on, at most 5."""
    return min(0.1 * 2.0 ** (failures - 1), 5.0)


@define
class Engine(Context):
    """One leg's walks over a flow; ``outputs`` has, after a walk, the results of all steps that are done."""

    backoff: RetryPause = backoff
    outputs: dict[str, object] = field(factory=dict, repr=False)

    async def run(self, frame: Frame) -> StepOutcome:
        """Walk the whole flow as far as it goes. ``outputs`` then has the results of all steps that are done."""
        task = asyncio.current_task()
        self.home = (task, 0 if task is None else task.cancelling())
        try:
            await self.walked(self.input, flatten=False)
        except WALK_ERRORS as error:
            return Failed(FlowError(f"the run's input {walk_problem(error)}", self.flow.name, reference="$input"))
        while True:
            self.put_off = self.freed = False
            scope = Scope()
            outcome = await self.block(self.flow.steps, StepPosition("", "", frame, scope, Done(self.input)))
            self.outputs = scope.steps
            self.forget_waits(lambda path: path not in self.waiting)
            # A question that found no room may have it now, and perhaps there is no other whose answer would ask it.
            if outcome is not PENDING or not (self.put_off and self.freed):
                return outcome

    async def block(self, block: Block, place: StepPosition) -> StepOutcome:
        """Run steps one after another; the last one's result, or what the block was given where it is empty."""
        previous = place.previous
        for index, name in enumerate(block, start=1):
            known = "result" in sub_frame(place.frame, name)
            outcome = await self.step(self.flow.nodes[name], place, previous)
            if not isinstance(outcome, Done):
                return outcome
            previous = outcome
            if not place.path and not known:
                self.emit("flow-progress", {"step": index, "total": len(block), "node": name})
        return previous

    async def iteration(
        self,
        block: Block,
        place: StepPosition,
        label: str,
        variables: Mapping[str, object],
        previous: Done,
        *,
        leaks: bool = False,
    ) -> StepOutcome:
        """See ``Context``."""
        frame = sub_frame(place.frame, label)
        if "result" in frame:
            return Done(frame["result"], frame.get("tool"))
        scope = Scope(place.scope, dict(variables))
        within = StepPosition(place.path + label, place.trail + label, frame, scope, previous)
        outcome = await self.block(block, within)
        if isinstance(outcome, Done):
            kept = {name: value for name, value in scope.variables.items() if leaks and name not in variables}
            _settle(frame, outcome, scope.steps, kept)
        return outcome

    async def step(self, node: Node, around: StepPosition, previous: Done) -> StepOutcome:
        """Run one step unless it is done, and bind its names in the scope around it."""
        frame = sub_frame(around.frame, node.id)
        if "result" not in frame:
            path, trail = _below(around.path, node.id), _below(around.trail, node.id)
            outcome = await self._begin(node, StepPosition(path, trail, frame, around.scope, previous))
            if not isinstance(outcome, Done):
                return outcome
        return _recall(node, frame, around.scope)

    async def _begin(self, node: Node, place: StepPosition) -> StepOutcome:
        await self.pace()
        if not place.frame:
            self.emit("node-start", {"node": node.id, "path": place.path})
        outcome = await self._attempts(node, place)
        if isinstance(outcome, Failed) and node.on_error:
            outcome = await self._handle(node, place, outcome.error)
        if isinstance(outcome, Done):
            self.emit("node-complete", {"node": node.id, "path": place.path, "result": outcome.value})
        elif isinstance(outcome, Failed):
            self.emit("node-error", {"node": node.id, "path": place.path, "error": outcome.error.message})
        return outcome

    async def _attempts(self, node: Node, place: StepPosition) -> StepOutcome:
        """Attempt until it is done, waits, or the attempts are used up: that is kept, so that none is made again."""
        if "error" in place.frame:
            return Failed(error_of(place.frame["error"]))
        while True:
            failures = place.frame.get("failures", 0)
            outcome = await self._attempt(node, place, failures + 1)
            if not isinstance(outcome, Failed):
                return outcome
            _forget(place.frame)
            self.give_up(place.path)
            place.frame["failures"] = failures + 1
            if failures >= node.retries:
                place.frame["error"] = failure_of(outcome.error)
                return outcome
            try:
                pause = max(0.0, float(self.backoff(failures + 1)))
            except RAISED as error:  # the runner's owner gave it, and it may fail
                return self.failed(node, f"the runner's backoff failed ({type(error).__name__})", cause=error)
            await asyncio.sleep(pause)

    async def _attempt(self, node: Node, place: StepPosition, attempt: int) -> StepOutcome:
        scope = Scope(place.scope)
        trail = place.trail if attempt == 1 else f"{place.trail}#{attempt}"
        inner = StepPosition(place.path, trail, place.frame, scope, place.previous)
        try:
            async with asyncio.timeout(node.timeout):
                outcome = await operators.operate(self, node, inner, attempt)
                if isinstance(outcome, Done):
                    outcome = await self.bounded(node, outcome.value, "its result") or outcome
        except TimeoutError:
            return self.failed(node, f"attempt {attempt} took longer than {node.timeout} s")
        if isinstance(outcome, Done):
            _settle(place.frame, outcome, scope.steps, scope.variables)
        return outcome

    async def _handle(self, node: Node, place: StepPosition, error: FlowError) -> StepOutcome:
        """Run the ``onError`` steps of a failed step. They see the error as ``$error``."""
        scope = Scope(place.scope, {"error": failure_of(error)})
        outcome = await self.block(node.on_error, evolve(place, scope=scope))
        if isinstance(outcome, Done):
            del scope.variables["error"]
            _settle(place.frame, outcome, scope.steps, scope.variables)
        return outcome


def _below(around: str, name: str) -> str:
    return f"{around}.{name}" if around else name


def _settle(frame: Frame, done: Done, steps: Mapping[str, object], variables: Mapping[str, object]) -> None:
    """Make a frame that of a done step: what was within it is needed no more."""
    frame.clear()
    frame["result"] = done.value
    frame.update(_given({"tool": done.tool, "steps": dict(steps), "variables": dict(variables)}.items()))


def _given(fields: Iterable[tuple[str, object]]) -> dict[str, object]:
    return {name: value for name, value in fields if value}


def _recall(node: Node, frame: Frame, scope: Scope) -> Done:
    """Bind what a done step leaves behind."""
    scope.steps.update(frame.get("steps", {}))
    scope.variables.update(frame.get("variables", {}))
    scope.steps[node.id] = frame["result"]
    # A variable of the step's own name is the step: `$name.output` goes on to mean its result.
    if node.output is not None and node.output != node.id:
        scope.variables[node.output] = frame["result"]
    return Done(frame["result"], frame.get("tool"))


def _forget(frame: Frame) -> None:
    for name in [name for name in frame if name not in _KEPT_ON_RETRY]:
        del frame[name]
